"""Hands that give way to each other: where spheres overlap they push, joints turn by the torque and wrists yield by the force.

Steps of Polyak's length go down the overlap, whose least value is known to be zero. Pose correctives of the skin are held at their first value
within a call, so that one step is skinning a hundred spheres and summing torques up the fingers: a tenth of a millisecond in place of a pass of
automatic differentiation. Whether the skins are free is for the exact test to say.
"""

from dataclasses import dataclass

import numba
import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from twohands.collision.proxies import SphereProxies
from twohands.geometry.rotations import matrix_to_rotvec, rotvec_to_matrix
from twohands.hands.model import HandModel
from twohands.hands.parameters import HandParameters


@dataclass(frozen=True)
class GiveWayConfig:
    """How readily what gives way. Chosen on pairs that are not of the benchmark."""

    steps: int = 12
    """At most; they end when no spheres of different hands overlap."""
    length: float = 1.4
    """Of a step, relative to Polyak's."""
    finger_rad: tuple[float, float, float] = (0.025, 0.05, 0.1)
    """How far a finger's joint turns (twist, spread, flexion), against how far a thumb's joint (each axis) and a wrist turn, and against how far
    a wrist goes (m). Fingers give way first: where a hand is, is known better than how its fingers bend."""
    thumb_rad: float = 0.06
    wrist_rad: float = 0.005
    place_m: float = 0.001
    farthest: float = 3.0
    """No joint goes farther in one step than so many times those."""
    depth_ease: float = 0.3
    """How much more readily wrists move along the line of sight."""
    deep_ease: float = 8.0
    """The same, beyond that, for hands that lie in each other by more than fingers explain: there the distance of a hand is wrong, which the
    image does not show."""
    deep_m: tuple[float, float] = (0.008, 0.020)
    """Overlap of two spheres from which that begins, and is full."""
    own: float = 1.0
    """Weight of a hand's overlap with itself, as far as it exceeds that of the hands as they came."""


def give_way(
    model: HandModel,
    proxies: SphereProxies,
    hands: HandParameters,
    confidence: Float[Tensor, "batch hand 17"],
    ray: Float[Tensor, "batch 3"] | None,
    margin_m: float,
    config: GiveWayConfig = GiveWayConfig(),
) -> HandParameters:
    """The hands after their spheres have pushed each other until `margin_m` lies between them or the steps are over. What is sure moves least;
    shapes stay. `ray` is the line of sight, None where there is none. Each pair for itself."""
    posed = model.pose_hands(hands)
    pose = hands.pose if model.flat_hand_mean else hands.pose + _mean_pose(model)
    rest, joints = posed.joints_rest_m, posed.joints_m
    bones = rest - torch.cat([rest[..., :1, :], rest.index_select(-2, torch.tensor(_PARENTS[1:], device=rest.device))], -2)
    yields = (1.05 - confidence).clamp_min(0)
    # At rest fingers lie along x and bend about z, whatever their side.
    reach = torch.tensor([3 * (config.wrist_rad,)] + 12 * [config.finger_rad] + 3 * [3 * (config.thumb_rad,)])
    rotations, wrists = _array(rotvec_to_matrix(pose)), _array(joints[..., 0, :]).copy()
    sight = np.zeros((len(rotations), 3)) if ray is None else _array(ray)
    bones_m, carried_m, radius_m = _array(bones), _array(proxies.carried(posed)), _array(proxies.radii(hands.shape))
    ready, weight, turn, own = _array(yields), _array(proxies.joint_weight), _array(reach), _own_pairs(proxies)
    for k in range(len(rotations)):
        _settle(
            rotations[k], wrists[k], bones_m[k], carried_m[k], radius_m[k], ready[k], sight[k], weight, own, turn, config.place_m,
            config.farthest, config.depth_ease, config.deep_ease, config.deep_m, config.own, margin_m, config.steps, config.length,
        )  # fmt: skip
    turned = matrix_to_rotvec(torch.from_numpy(rotations)).to(hands.pose)
    moved = torch.from_numpy(wrists).to(joints) - joints[..., 0, :]
    return HandParameters(turned if model.flat_hand_mean else turned - _mean_pose(model), hands.shape, hands.translation_m + moved)


_PARENTS = tuple(0 if j % 3 == 1 else j - 1 for j in range(16))
"""MANO16 is a wrist and five chains of three."""


def _mean_pose(model: HandModel) -> Float[Tensor, "hand 16 3"]:
    return torch.nn.functional.pad(model.data.hands_mean.unflatten(-1, (15, 3)), (0, 0, 1, 0))


def _array(values: Tensor) -> np.ndarray:
    return np.ascontiguousarray(values.detach().cpu().double().numpy())


def _own_pairs(proxies: SphereProxies) -> Int[np.ndarray, "hand pair 2"]:
    """Two spheres of one hand that may not overlap, each couple once; padded by a sphere with itself, which never counts."""
    found = [allowed.triu(1).nonzero().cpu().numpy() for allowed in proxies.may_collide]
    most = max(len(pairs) for pairs in found)
    return np.stack([np.pad(pairs, ((0, most - len(pairs)), (0, 0))) for pairs in found])


@numba.njit(cache=True, nogil=True)
def _settle(
    rotations, wrists, bones, carried, radius, yields, sight, weight, own, turn, place_m, farthest, depth_ease, deep_ease, deep_m, own_weight,
    margin_m, steps, length,
):  # fmt: skip
    """Turns and moves the hands of one pair, in place: `rotations` (hand, 16, 3, 3) relative to the parents, `wrists` (hand, 3)."""
    spheres = radius.shape[1]
    R, joints = np.empty((2, 16, 3, 3)), np.empty((2, 16, 3))
    arms, centres, push = np.empty((2, 16, spheres, 3)), np.empty((2, spheres, 3)), np.empty((2, spheres, 3))
    force, torque = np.empty((2, 16, 3)), np.empty((2, 16, 3))
    own_reach = np.empty(own.shape[:2])
    turning, going, by = np.empty((2, 16, 3)), np.empty((2, 3)), np.empty(3)
    deepest, ease = 0.0, 0.0
    for step in range(steps):
        _place(rotations, wrists, bones, carried, weight, R, joints, arms, centres)
        push[:] = 0.0
        if step == 0:
            _own_reaches(centres, radius, own, own_reach)
        value = 0.0
        for i in range(spheres):
            for j in range(spheres):
                x, y, z = centres[0, i, 0] - centres[1, j, 0], centres[0, i, 1] - centres[1, j, 1], centres[0, i, 2] - centres[1, j, 2]
                reach = radius[0, i] + radius[1, j] + margin_m
                square = x * x + y * y + z * z
                if square >= reach * reach:
                    continue
                gap = max(np.sqrt(square), 1e-9)
                overlap = reach - gap
                value += overlap * overlap
                if step == 0:
                    deepest = max(deepest, overlap - margin_m)
                share = 2 * overlap / gap
                push[0, i, 0] += share * x
                push[0, i, 1] += share * y
                push[0, i, 2] += share * z
                push[1, j, 0] -= share * x
                push[1, j, 1] -= share * y
                push[1, j, 2] -= share * z
        if value <= 0.0:
            return
        if step == 0:
            deep = min(max((deepest - deep_m[0]) / (deep_m[1] - deep_m[0]), 0.0), 1.0)
            ease = place_m * place_m * (depth_ease + deep_ease * deep)
        value += _own_pushes(centres, own, own_reach, own_weight, push)
        _sum_up(joints, arms, weight, push, force, torque)
        # Each joint turns about its parent's axes, by its torque times how readily it turns; the slope is the power that takes off the overlap.
        slope, most = 1e-20, 0.0
        for h in range(2):
            for j in range(16):
                for c in range(3):
                    about = torque[h, j, c]
                    if j > 0:
                        p = 0 if j % 3 == 1 else j - 1
                        about = R[h, p, 0, c] * torque[h, j, 0] + R[h, p, 1, c] * torque[h, j, 1] + R[h, p, 2, c] * torque[h, j, 2]
                    turning[h, j, c] = turn[j, c] * turn[j, c] * yields[h, j] * about
                    slope += turning[h, j, c] * about
                    most = max(most, abs(turning[h, j, c]) / turn[j, c])
            along = force[h, 0, 0] * sight[0] + force[h, 0, 1] * sight[1] + force[h, 0, 2] * sight[2]
            for c in range(3):
                going[h, c] = place_m * place_m * yields[h, 16] * force[h, 0, c] + ease * along * sight[c]
                slope += going[h, c] * force[h, 0, c]
                most = max(most, abs(going[h, c]) / place_m)
        far = min(length * value / slope, farthest / max(most, 1e-20))
        for h in range(2):
            for c in range(3):
                wrists[h, c] += far * going[h, c]
            for j in range(16):
                for c in range(3):
                    by[c] = far * turning[h, j, c]
                _turn(rotations[h, j], by)


@numba.njit(cache=True, nogil=True)
def _place(rotations, wrists, bones, carried, weight, R, joints, arms, centres):
    """World frames of the joints, arms of the spheres about each joint that carries them (times the weight), and centres."""
    spheres = centres.shape[1]
    centres[:] = 0.0
    for h in range(2):
        for j in range(16):
            if j == 0:
                R[h, 0] = rotations[h, 0]
                joints[h, 0] = wrists[h]
            else:
                p = 0 if j % 3 == 1 else j - 1
                for r in range(3):
                    total = joints[h, p, r]
                    for c in range(3):
                        total += R[h, p, r, c] * bones[h, j, c]
                        R[h, j, r, c] = 0.0
                        for k in range(3):
                            R[h, j, r, c] += R[h, p, r, k] * rotations[h, j, k, c]
                    joints[h, j, r] = total
            for s in range(spheres):
                w = weight[h, j, s]
                if w == 0.0:
                    continue
                x, y, z = carried[h, j, 0, s], carried[h, j, 1, s], carried[h, j, 2, s]
                for r in range(3):
                    arm = R[h, j, r, 0] * x + R[h, j, r, 1] * y + R[h, j, r, 2] * z
                    arms[h, j, s, r] = arm
                    centres[h, s, r] += arm + w * joints[h, j, r]


@numba.njit(cache=True, nogil=True)
def _own_reaches(centres, radius, own, own_reach):
    """Distance that two spheres of one hand must keep: that at which they touch, or the one that they came with if it is less."""
    for h in range(2):
        for n in range(own.shape[1]):
            i, j = own[h, n, 0], own[h, n, 1]
            square = 0.0
            for c in range(3):
                square += (centres[h, i, c] - centres[h, j, c]) ** 2
            own_reach[h, n] = min(radius[h, i] + radius[h, j], np.sqrt(square))


@numba.njit(cache=True, nogil=True)
def _own_pushes(centres, own, own_reach, own_weight, push):
    """Adds the pushes of each hand's spheres on one another; returns their part of the overlap."""
    value = 0.0
    for h in range(2):
        for n in range(own.shape[1]):
            i, j = own[h, n, 0], own[h, n, 1]
            x, y, z = centres[h, i, 0] - centres[h, j, 0], centres[h, i, 1] - centres[h, j, 1], centres[h, i, 2] - centres[h, j, 2]
            square = x * x + y * y + z * z
            if square >= own_reach[h, n] * own_reach[h, n]:
                continue
            gap = max(np.sqrt(square), 1e-9)
            overlap = own_reach[h, n] - gap
            value += own_weight * overlap * overlap
            share = 2 * own_weight * overlap / gap
            push[h, i, 0] += share * x
            push[h, i, 1] += share * y
            push[h, i, 2] += share * z
            push[h, j, 0] -= share * x
            push[h, j, 1] -= share * y
            push[h, j, 2] -= share * z
    return value


@numba.njit(cache=True, nogil=True)
def _sum_up(joints, arms, weight, push, force, torque):
    """Force on, and torque about, each joint, of everything that it carries: the fingers' sums pass from the tips to the wrist."""
    force[:] = 0.0
    torque[:] = 0.0
    for h in range(2):
        for s in range(push.shape[1]):
            x, y, z = push[h, s, 0], push[h, s, 1], push[h, s, 2]
            if x == 0.0 and y == 0.0 and z == 0.0:
                continue
            for j in range(16):
                w = weight[h, j, s]
                if w == 0.0:
                    continue
                a, b, c = arms[h, j, s, 0], arms[h, j, s, 1], arms[h, j, s, 2]
                force[h, j, 0] += w * x
                force[h, j, 1] += w * y
                force[h, j, 2] += w * z
                torque[h, j, 0] += b * z - c * y
                torque[h, j, 1] += c * x - a * z
                torque[h, j, 2] += a * y - b * x
        for j in range(15, 0, -1):
            p = 0 if j % 3 == 1 else j - 1
            a, b, c = joints[h, j, 0] - joints[h, p, 0], joints[h, j, 1] - joints[h, p, 1], joints[h, j, 2] - joints[h, p, 2]
            x, y, z = force[h, j, 0], force[h, j, 1], force[h, j, 2]
            torque[h, p, 0] += torque[h, j, 0] + b * z - c * y
            torque[h, p, 1] += torque[h, j, 1] + c * x - a * z
            torque[h, p, 2] += torque[h, j, 2] + a * y - b * x
            for r in range(3):
                force[h, p, r] += force[h, j, r]


@numba.njit(cache=True, nogil=True)
def _turn(rotation, by):
    """rotation <- exp(by) rotation (Rodrigues)."""
    angle = np.sqrt(by[0] ** 2 + by[1] ** 2 + by[2] ** 2)
    if angle < 1e-12:
        return
    x, y, z = by[0] / angle, by[1] / angle, by[2] / angle
    s, c = np.sin(angle), 1 - np.cos(angle)
    for k in range(3):
        u, v, w = rotation[0, k], rotation[1, k], rotation[2, k]
        a, b, d = y * w - z * v, z * u - x * w, x * v - y * u
        rotation[0, k] = u + s * a + c * (y * d - z * b)
        rotation[1, k] = v + s * b + c * (z * a - x * d)
        rotation[2, k] = w + s * d + c * (x * b - y * a)
