"""The bundled hands posed one pair at a time, compiled: a scene asks some ten times, and PyTorch's small tensors cost more than the arithmetic.

The same formulas as `hands.model` and `geometry.rotations`, to rounding (a test compares them); the results are tensors, since they enter samples."""

from dataclasses import dataclass
from functools import cache

import numba
import numpy as np
import torch
from jaxtyping import Float, Float32, Int32
from torch import Tensor

from twohands.hands.bundled import load_bundled_hand
from twohands.hands.model import HandMesh
from twohands.hands.parameters import HandParameters
from twohands.joints import MANO16_PARENTS, OPENPOSE21_FROM_MANO16_AND_TIPS


@dataclass(frozen=True)
class _Arrays:
    """The model's arrays as skinning reads them."""

    template: Float32[np.ndarray, "hand vert 3"]
    directions: Float32[np.ndarray, "hand shape vert 3"]
    bones: Int32[np.ndarray, "hand vert influence"]
    weights: Float32[np.ndarray, "hand vert influence"]
    joints: Float32[np.ndarray, "hand 16 3"]
    joint_directions: Float32[np.ndarray, "hand 16 3 shape"]
    tips: Int32[np.ndarray, "hand 5"]


@cache
def _arrays() -> _Arrays:
    hand = load_bundled_hand()
    weights = hand.data.weights.numpy()
    most = int((weights > 0).sum(-1).max())
    bones = np.argsort(-weights, -1, kind="stable")[..., :most]
    return _Arrays(
        hand.data.v_template.numpy(),
        np.ascontiguousarray(hand.data.shapedirs.numpy().transpose(0, 3, 1, 2)),
        bones.astype(np.int32),
        np.ascontiguousarray(np.take_along_axis(weights, bones, -1)),
        hand.joint_template.numpy(),
        np.ascontiguousarray(hand.joint_shapedirs.numpy()),
        hand.data.tip_vertices.numpy().astype(np.int32),
    )


_PARENTS = np.array(MANO16_PARENTS, np.int64)
_ORDER = np.array(OPENPOSE21_FROM_MANO16_AND_TIPS, np.int64)


def to_matrix(rotvec: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3 3"]:
    """`rotvec_to_matrix`."""
    rows = np.ascontiguousarray(rotvec.numpy()).reshape(-1, 3)
    out = np.empty((len(rows), 3, 3), np.float32)
    _to_matrix(rows, out)
    return torch.from_numpy(out.reshape(*rotvec.shape, 3))


def to_rotvec(rotation: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 3"]:
    """`matrix_to_rotvec`."""
    rows = np.ascontiguousarray(rotation.numpy()).reshape(-1, 3, 3)
    out = np.empty((len(rows), 3), np.float32)
    rotvec_rows(rows, out)
    return torch.from_numpy(out.reshape(rotation.shape[:-1]))


def matrix_of_quaternion(quaternion: Float[np.ndarray, "rows 4"]) -> Float[np.ndarray, "rows 3 3"]:
    """Rotations of quaternions (x, y, z, w) of any length."""
    out = np.empty((len(quaternion), 3, 3), quaternion.dtype)
    _quaternion_to_matrix(quaternion, out)
    return out


def random_turn(rng: np.random.Generator, count: int = 1) -> Float[Tensor, "count 3 3"]:
    """`random_rotation`."""
    q = torch.randn(count, 4, generator=torch.Generator().manual_seed(int(rng.integers(2**31)))).numpy()
    return torch.from_numpy(matrix_of_quaternion(q))


def joints_at_rest(shape: Float[Tensor, "hand shape"]) -> Float[Tensor, "hand 16 3"]:
    """`HandModel.with_shape(shape).joints_rest_m`."""
    a = _arrays()
    out = np.empty((2, 16, 3), np.float32)
    _rest(np.ascontiguousarray(shape.numpy()), a.joints, a.joint_directions, out)
    return torch.from_numpy(out)


def joints_and_tips(p: HandParameters) -> Float[Tensor, "hand 21 3"]:
    """`HandModel.pose_hands(p).joints_and_tips()` of one pair: what moves, and meets other things, is the hand and not its annotation."""
    return _posed(p, False).keypoints_m


def mesh(p: HandParameters) -> HandMesh:
    """`HandModel.pose_hands(p).mesh()` of one pair, but with joints and tips for keypoints."""
    return _posed(p, True)


def annotated_points(points: Float[np.ndarray, "*hand 21 3"]) -> Float[np.ndarray, "*hand 21 3"]:
    """Joints and tips to the keypoints of the same hands, `HandModel.pose_hands(p).keypoints()`."""
    return _mix() @ points


@cache
def _mix() -> Float[np.ndarray, "21 21"]:
    mix = load_bundled_hand().data.keypoint_mix
    assert mix is not None
    return mix.numpy()


def _posed(p: HandParameters, whole: bool) -> HandMesh:
    a = _arrays()
    vertices, points = np.empty((2, a.template.shape[1] if whole else 0, 3), np.float32), np.empty((2, 21, 3), np.float32)
    pose, shape, translation = (np.ascontiguousarray(x.numpy()) for x in (p.pose, p.shape, p.translation_m))
    _pose(
        pose, shape, translation, a.template, a.directions, a.bones, a.weights, a.joints, a.joint_directions, a.tips, vertices, points
    )  # fmt: skip
    return HandMesh(torch.from_numpy(vertices), torch.from_numpy(points))


@numba.njit(cache=True)
def _to_matrix(rotvec, out):
    for i in range(rotvec.shape[0]):
        x, y, z = np.float64(rotvec[i, 0]), np.float64(rotvec[i, 1]), np.float64(rotvec[i, 2])
        squared = x * x + y * y + z * z
        if squared < 1e-4:
            a = 1 - squared / 6 * (1 - squared / 20 * (1 - squared / 42))
            half = 1 - squared / 24 * (1 - squared / 80 * (1 - squared / 168))
        else:
            angle = np.sqrt(squared)
            a, half = np.sin(angle) / angle, 2 * np.sin(angle / 2) / angle
        b = half * half / 2
        out[i, 0, 0], out[i, 0, 1], out[i, 0, 2] = 1 - b * (y * y + z * z), b * x * y - a * z, b * x * z + a * y
        out[i, 1, 0], out[i, 1, 1], out[i, 1, 2] = b * x * y + a * z, 1 - b * (x * x + z * z), b * y * z - a * x
        out[i, 2, 0], out[i, 2, 1], out[i, 2, 2] = b * x * z - a * y, b * y * z + a * x, 1 - b * (x * x + y * y)


@numba.njit(cache=True)
def _quaternion_to_matrix(quaternion, out):
    for i in range(quaternion.shape[0]):
        x, y, z, w = np.float64(quaternion[i, 0]), np.float64(quaternion[i, 1]), np.float64(quaternion[i, 2]), np.float64(quaternion[i, 3])
        s = 2 / (x * x + y * y + z * z + w * w)
        out[i, 0, 0], out[i, 0, 1], out[i, 0, 2] = 1 - s * (y * y + z * z), s * (x * y - w * z), s * (x * z + w * y)
        out[i, 1, 0], out[i, 1, 1], out[i, 1, 2] = s * (x * y + w * z), 1 - s * (x * x + z * z), s * (y * z - w * x)
        out[i, 2, 0], out[i, 2, 1], out[i, 2, 2] = s * (x * z - w * y), s * (y * z + w * x), 1 - s * (x * x + y * y)


@numba.njit(cache=True)
def rotvec_rows(rotation, out):
    """Rotation vectors of matrices, in whatever precision `out` has."""
    q = np.empty(4)
    for i in range(rotation.shape[0]):
        m = rotation[i]
        xx, xy, xz = np.float64(m[0, 0]), np.float64(m[0, 1]), np.float64(m[0, 2])
        yx, yy, yz = np.float64(m[1, 0]), np.float64(m[1, 1]), np.float64(m[1, 2])
        zx, zy, zz = np.float64(m[2, 0]), np.float64(m[2, 1]), np.float64(m[2, 2])
        d = (1 + xx - yy - zz, 1 + yy - zz - xx, 1 + zz - xx - yy, 1 + xx + yy + zz)
        if d[0] >= d[1] and d[0] >= d[2] and d[0] >= d[3]:
            q[0], q[1], q[2], q[3] = d[0], xy + yx, xz + zx, zy - yz
        elif d[1] >= d[2] and d[1] >= d[3]:
            q[0], q[1], q[2], q[3] = xy + yx, d[1], yz + zy, xz - zx
        elif d[2] >= d[3]:
            q[0], q[1], q[2], q[3] = xz + zx, yz + zy, d[2], yx - xy
        else:
            q[0], q[1], q[2], q[3] = zy - yz, xz - zx, yx - xy, d[3]
        norm = np.sqrt(q[0] ** 2 + q[1] ** 2 + q[2] ** 2 + q[3] ** 2)
        if q[3] < 0:
            norm = -norm
        x, y, z, w = q[0] / norm, q[1] / norm, q[2] / norm, q[3] / norm
        squared = x * x + y * y + z * z
        if squared < 1e-4:
            scale = 2 + squared / 3 * (1 + squared * 0.45)
        else:
            sine = np.sqrt(squared)
            scale = 2 * np.arctan2(sine, w) / sine
        out[i, 0], out[i, 1], out[i, 2] = scale * x, scale * y, scale * z


@numba.njit(cache=True)
def _rest(shape, joints, directions, out):
    for h in range(2):
        for j in range(16):
            for c in range(3):
                total = np.float64(joints[h, j, c])
                for k in range(shape.shape[1]):
                    total += directions[h, j, c, k] * shape[h, k]
                out[h, j, c] = total


@numba.njit(cache=True, fastmath=True)
def _skin_rows(template, directions, shape, bones, weights, T, first, last, out):
    """Vertices first to last of one hand into `out`, whose row 0 is vertex `first`."""
    for i in range(first, last):
        row = i - first
        x, y, z = template[i, 0], template[i, 1], template[i, 2]
        for k in range(shape.shape[0]):
            x += shape[k] * directions[k, i, 0]
            y += shape[k] * directions[k, i, 1]
            z += shape[k] * directions[k, i, 2]
        a, b, c = np.float32(0), np.float32(0), np.float32(0)
        for k in range(bones.shape[1]):
            w = weights[i, k]
            if w > 0:
                t = T[np.uint32(bones[i, k])]
                a += w * (t[0, 0] * x + t[0, 1] * y + t[0, 2] * z + t[0, 3])
                b += w * (t[1, 0] * x + t[1, 1] * y + t[1, 2] * z + t[1, 3])
                c += w * (t[2, 0] * x + t[2, 1] * y + t[2, 2] * z + t[2, 3])
        out[row, 0], out[row, 1], out[row, 2] = a, b, c


@numba.njit(cache=True)
def _pose(pose, shape, translation, template, directions, bones, weights, joints, joint_directions, tips, vertices, points):
    rest = np.empty((2, 16, 3), np.float32)
    _rest(shape, joints, joint_directions, rest)
    R = np.empty((16, 3, 3), np.float32)
    T = np.empty((16, 3, 4), np.float32)
    world, place = np.empty((16, 3, 3)), np.empty((16, 3))
    all_points = np.empty((21, 3), np.float32)
    tip = np.empty((1, 3), np.float32)
    for h in range(2):
        _to_matrix(pose[h], R)
        for j in range(16):
            parent = _PARENTS[j]
            for r in range(3):
                if j == 0:
                    place[0, r] = rest[h, 0, r] + translation[h, r]
                    for c in range(3):
                        world[0, r, c] = R[0, r, c]
                    continue
                place[j, r] = place[parent, r]
                for c in range(3):
                    place[j, r] += world[parent, r, c] * (rest[h, j, c] - rest[h, parent, c])
                    world[j, r, c] = 0.0
                    for k in range(3):
                        world[j, r, c] += world[parent, r, k] * R[j, k, c]
            for r in range(3):
                moved = place[j, r]
                for c in range(3):
                    T[j, r, c] = world[j, r, c]
                    moved -= world[j, r, c] * rest[h, j, c]
                T[j, r, 3] = moved
                all_points[j, r] = place[j, r]
        if vertices.shape[1] > 0:
            _skin_rows(template[h], directions[h], shape[h], bones[h], weights[h], T, 0, vertices.shape[1], vertices[h])
        for k in range(5):
            i = tips[h, k]
            _skin_rows(template[h], directions[h], shape[h], bones[h], weights[h], T, i, i + 1, tip)
            all_points[16 + k] = tip[0]
        for k in range(21):
            points[h, k] = all_points[_ORDER[k]]
