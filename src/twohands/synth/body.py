"""A body that ends where the bundled hands begin (CC0; see `assets/README.md`): its shape, its bones, its skinning.

The body's frame: metres, x to its left, y up, it faces +z. Sides are ordered (left, right), as everywhere.
"""

import math
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import resources

import numba
import numpy as np
from jaxtyping import Float, Float32, Int, UInt8

from twohands.errors import UserError
from twohands.render import smooth_normals
from twohands.synth.posing import rotvec_rows

SIDES = ("L", "R")
OUT = np.array([1.0, -1.0])
"""The x direction away from the body's middle, by side."""


@dataclass(frozen=True, eq=False)
class BodyAsset:
    """What `assets/body.npz` holds, unpacked. Compared by identity, so that what is derived from it can be cached."""

    vertices_m: Float[np.ndarray, "vert 3"]
    shapes_m: Float[np.ndarray, "shape vert 3"]
    joints_m: Float[np.ndarray, "joint 3"]
    joint_shapes_m: Float[np.ndarray, "shape joint 3"]
    joint: dict[str, int]
    """Row of a joint by name."""
    bone: dict[str, int]
    bones: UInt8[np.ndarray, "vert 4"]
    weights: Float[np.ndarray, "vert 4"]
    faces: Int[np.ndarray, "face 3"]
    hair_faces: Int[np.ndarray, "hair_face 3"]
    skirt_faces: Int[np.ndarray, "skirt_face 3"]
    eye_faces: Int[np.ndarray, "eye_face 3"]
    masks: dict[str, Float[np.ndarray, "vert"]]
    """lips, lids, ears, toenails, mouth: 0 to 1."""
    arm: Float[np.ndarray, "vert"]
    """0 at the shoulder, 1 at the elbow, 2 at the end; -1 off the arms."""
    leg: Float[np.ndarray, "vert"]
    """0 at the hip, 1 at the knee, 2 at the ankle and beyond; -1 off the legs."""
    loops: Int[np.ndarray, "side 20"]
    """The rims that match the hands' `wrist_loop`."""
    normals: Float[np.ndarray, "vert 3"]
    """Of the template."""
    stump: tuple[tuple[Int[np.ndarray, "near"], Int[np.ndarray, "near"], Float[np.ndarray, "near 1"]], ...]
    """By side: vertices near the rim, which rim vertex each follows, and how much of its displacement."""


STUMP_M = 0.11
"""A hand's rim drags the skin of the forearm along over this length."""


@cache
def load_body(coarse: bool = False, coarse_feet: bool = False) -> BodyAsset:
    """Reads the packaged file once. With `coarse` the head and the feet, which hold six in ten vertices, are thinned out: enough from two
    metres away; with `coarse_feet` the feet alone. UserError if the installation lacks the file."""
    path = resources.files("twohands.synth") / "assets" / "body.npz"
    if not path.is_file():
        raise UserError("the package lacks synth/assets/body.npz; reinstall twohands, or build the file with tools/build_body.py")
    with path.open("rb") as file, np.load(file) as stored:
        a = {name: stored[name] for name in stored.files}
    vertices = a["vertices"].astype(np.float32) * a["vertices_scale"]
    shells = {name: a[name].astype(np.int32) for name in ("faces", "hair_faces", "skirt_faces", "l_eye_faces", "r_eye_faces")}
    bone = {str(n): k for k, n in enumerate(a["bone_names"])}
    kept = np.arange(len(vertices))
    if coarse or coarse_feet:
        skin_only = np.zeros(len(vertices), bool)
        skin_only[shells["faces"]] = True
        head = skin_only & (a["bones"][:, 0] == bone["head"])
        feet = {FOOT_CELL_M: skin_only & (a["leg"] > 1.7)}
        kept = _cluster(vertices, {HEAD_CELL_M: head} | feet if coarse else feet)
    representative, rows = np.unique(kept, return_inverse=True)
    rows = rows.astype(np.int32)
    for name, faces in shells.items():
        f = rows[faces]
        shells[name] = f[(f[:, 0] != f[:, 1]) & (f[:, 1] != f[:, 2]) & (f[:, 2] != f[:, 0])]
    vertices = vertices[representative]
    loops = rows[a["loops"].astype(np.int64)]
    stump = []
    for loop in loops:
        distance = np.linalg.norm(vertices[:, None] - vertices[None, loop], axis=2)
        nearest, gap = distance.argmin(1), distance.min(1)
        near = np.flatnonzero(gap < STUMP_M)
        share = 1 - gap[near] / STUMP_M
        stump.append((near, nearest[near], (share * share * (3 - 2 * share)).astype(np.float32)[:, None]))
    return BodyAsset(
        vertices,
        np.ascontiguousarray((a["shapes"].astype(np.float32) * a["shapes_scale"])[:, representative]),
        a["joints"].astype(np.float64),
        a["joint_shapes"].astype(np.float64),
        {str(n): k for k, n in enumerate(a["joint_names"])},
        bone,
        a["bones"][representative],
        a["weights"][representative].astype(np.float32) / 255,
        shells["faces"],
        shells["hair_faces"],
        shells["skirt_faces"],
        np.concatenate([shells["l_eye_faces"], shells["r_eye_faces"]]),
        {str(n): m[representative].astype(np.float32) / 255 for n, m in zip(a["mask_names"], a["masks"], strict=True)},
        a["arm"][representative].astype(np.float32),
        a["leg"][representative].astype(np.float32),
        loops,
        smooth_normals(vertices, np.concatenate([shells["faces"], shells["hair_faces"], shells["skirt_faces"]])),
        tuple(stump),
    )


HEAD_CELL_M, FOOT_CELL_M = 0.012, 0.02
"""Vertices of a coarse head or foot that share a cell of this size become one."""


def _cluster(vertices: np.ndarray, parts: dict[float, np.ndarray]) -> np.ndarray:
    """For each vertex the one that stands for it: one a cell in the parts, itself elsewhere."""
    kept = np.arange(len(vertices))
    for cell, part in parts.items():
        index = np.flatnonzero(part)
        _, first, group = np.unique(np.floor(vertices[index] / cell).astype(int), axis=0, return_index=True, return_inverse=True)
        kept[index] = index[first][group.reshape(-1)]
    return kept


@dataclass(frozen=True)
class Figure:
    """A body of some build and size at rest."""

    body: BodyAsset
    shape: Float32[np.ndarray, "shape"]
    joints_m: Float[np.ndarray, "joint 3"]
    size: float
    """1 is a body of 1.70 m."""
    arm_m: tuple[tuple[float, float], ...]
    """Lengths of upper arm and forearm, by side."""
    rims_m: tuple[Float[np.ndarray, "3"], ...]
    """The middle of the rim that a hand is joined to, by side."""

    @staticmethod
    def of(body: BodyAsset, shape: Float[np.ndarray, "shape"], size: float) -> "Figure":
        """The asset's template bent by shape coefficients (standard deviations), then scaled."""
        joints = (body.joints_m + (shape @ body.joint_shapes_m.reshape(len(shape), -1)).reshape(-1, 3)) * size
        loops, loop_shapes = _loops(body)
        shape = np.asarray(shape, np.float32)
        loops = loops.copy()
        _add_shapes(loops, loop_shapes, shape)
        loops *= np.float32(size)
        rims = loops.reshape(2, -1, 3).mean(1)
        arms = []
        for side, name in enumerate(SIDES):
            shoulder, elbow = joints[body.joint[f"upper arm.{name}"]], joints[body.joint[f"elbow.{name}"]]
            arms.append((length(elbow - shoulder), length(rims[side] - elbow)))
        return Figure(body, shape, joints, size, tuple(arms), tuple(rims.astype(np.float64)))

    @cached_property
    def vertices_m(self) -> Float[np.ndarray, "vert 3"]:
        """All of them, found when they are asked for: many a person is given up before."""
        vertices = self.body.vertices_m.copy()
        _add_shapes(vertices, self.body.shapes_m, self.shape)
        vertices *= np.float32(self.size)
        return vertices

    def joint(self, name: str) -> Float[np.ndarray, "3"]:
        """A joint at rest."""
        return self.joints_m[self.body.joint[name]]

    def hand_frame(self, side: int) -> Float[np.ndarray, "3 3"]:
        """Orientation of the body's own (missing) hand at rest, as the hand model counts it."""
        wrist, middle, index, pinky = (self.joint(f"{name}.{SIDES[side]}") for name in ("wrist", "middle", "index", "pinky"))
        return hand_frame(side, middle - wrist, index - pinky)


@cache
def _loops(body: BodyAsset) -> tuple[np.ndarray, np.ndarray]:
    """The template's rims and what the shapes add to them."""
    rows = body.loops.reshape(-1)
    return body.vertices_m[rows], np.ascontiguousarray(body.shapes_m[:, rows])


@numba.njit(cache=True, fastmath=True)
def _add_shapes(vertices, shapes, coefficients):
    for k in range(shapes.shape[0]):
        c = coefficients[k]
        for i in range(vertices.shape[0]):
            for j in range(3):
                vertices[i, j] += c * shapes[k, i, j]


def cross(a: np.ndarray, b: np.ndarray) -> Float[np.ndarray, "3"]:
    """The cross product of two vectors; numpy's takes twenty times as long."""
    return np.array([a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]])


def length(a: np.ndarray) -> float:
    """Of a vector; numpy's takes three times as long."""
    return math.sqrt(a @ a)


def unit(x: Float[np.ndarray, "*rows 3"]) -> Float[np.ndarray, "*rows 3"]:
    """Scaled to length one."""
    return x / np.maximum(np.sqrt((x * x).sum(-1, keepdims=True)), 1e-9)


def hand_frame(side: int, fingers: np.ndarray, thumb: np.ndarray) -> Float[np.ndarray, "3 3"]:
    """The orientation of a hand whose fingers and thumb side point there (the thumb only as far as it is across the fingers)."""
    x = unit(fingers) * OUT[side]
    z = unit(thumb - x * (x @ thumb))
    return np.stack([x, cross(z, x), z], 1)


def rotation(rotvec: np.ndarray) -> Float[np.ndarray, "3 3"]:
    """Matrix of a rotation vector."""
    return _rodrigues(np.asarray(rotvec, np.float64))


@numba.njit(cache=True)
def _rodrigues(v):
    angle = np.sqrt(v[0] * v[0] + v[1] * v[1] + v[2] * v[2])
    if angle < 1e-9:
        return np.eye(3)
    x, y, z = v[0] / angle, v[1] / angle, v[2] / angle
    c, s = np.cos(angle), np.sin(angle)
    t = 1 - c
    return np.array(
        [
            [c + x * x * t, x * y * t - z * s, x * z * t + y * s],
            [y * x * t + z * s, c + y * y * t, y * z * t - x * s],
            [z * x * t - y * s, z * y * t + x * s, c + z * z * t],
        ]
    )


@dataclass
class Posture:
    """A figure's bones in the body's world: rotations from rest, and where the joints are. Arms are added by `reach`."""

    figure: Figure
    R: dict[str, Float[np.ndarray, "3 3"]]
    at: dict[str, Float[np.ndarray, "3"]]

    def thinned(self, head: bool) -> "Posture":
        """The same with the feet, and perhaps the head, thinned out."""
        f, body = self.figure, load_body(coarse=True) if head else load_body(coarse_feet=True)
        return Posture(Figure(body, f.shape, f.joints_m, f.size, f.arm_m, f.rims_m), self.R, self.at)


_SIDE_CHAINS = (("pelvis", "thigh"), ("thigh", "shin"), ("shin", "foot"), ("chest", "clavicle"), ("clavicle", "upper arm"))
CHAINS = (
    ("pelvis", "spine"), ("spine", "waist"), ("waist", "chest"), ("chest", "neck"), ("neck", "head"),
    *((parent if parent in ("pelvis", "chest") else f"{parent}.{side}", f"{child}.{side}") for side in SIDES for parent, child in _SIDE_CHAINS),
)  # fmt: skip
"""Bones that follow others, each after its parent."""
BONES = ("pelvis", *(child for _, child in CHAINS))
_FOLLOWS = np.array([BONES.index(parent) for parent, _ in CHAINS])


def stand(figure: Figure, bend: dict[str, np.ndarray]) -> Posture:
    """Trunk, head and legs: `bend` holds rotation vectors relative to the parent bone (none: as at rest)."""
    turns, R, at = np.zeros((len(BONES), 3)), np.empty((len(BONES), 3, 3)), np.empty((len(BONES), 3))
    for k, bone in enumerate(BONES):
        if bone in bend:
            turns[k] = bend[bone]
    _stand(figure.joints_m[_joint_rows(figure.body)], turns, _FOLLOWS, R, at)
    return Posture(figure, dict(zip(BONES, R, strict=True)), dict(zip(BONES, at, strict=True)))


@cache
def _joint_rows(body: BodyAsset) -> np.ndarray:
    return np.array([body.joint[bone] for bone in BONES])


@numba.njit(cache=True)
def _stand(rest, turns, follows, R, at):
    R[0], at[0] = _rodrigues(turns[0]), rest[0]
    for k in range(1, rest.shape[0]):
        parent, own = follows[k - 1], _rodrigues(turns[k])
        for r in range(3):
            at[k, r] = at[parent, r]
            for c in range(3):
                at[k, r] += R[parent, r, c] * (rest[k, c] - rest[parent, c])
                R[k, r, c] = R[parent, r, 0] * own[0, c] + R[parent, r, 1] * own[1, c] + R[parent, r, 2] * own[2, c]


@dataclass(frozen=True)
class Arm:
    """One way to bring a hand to a place."""

    elbow: Float[np.ndarray, "3"]
    R_upper: Float[np.ndarray, "3 3"]
    R_lower: Float[np.ndarray, "3 3"]
    """Without pronation."""
    pronation: float
    R_hand: Float[np.ndarray, "3 3"]
    """The hand's orientation, within what a wrist can do unless the wish was to be met exactly."""
    excess_rad: float
    """By how much the wish was beyond the wrist."""
    cost: float


PRONATION = np.radians([-85.0, 85.0])
FLEXION = np.radians([-65.0, 70.0])
RADIAL = np.radians([-32.0, 20.0])
SWIVELS = np.radians(np.arange(-60.0, 151.0, 15.0))
"""How far the elbow is lifted outwards from hanging."""


def reach(posture: Posture, side: int, place: np.ndarray, R_wish: np.ndarray, swivel: float, rigid: bool = False) -> Arm | None:
    """The arm that brings the rim of a hand to `place` with an orientation near the wish (exactly that one if `rigid`), its elbow lifted
    by about `swivel`. None if it is out of reach."""
    found = reach_cost(posture, side, place, R_wish, swivel)
    elbow, pronation, flex, radial, excess, cost = found[:3], found[3], found[4], found[5], found[6], found[7]
    if not np.isfinite(cost):
        return None
    figure, name = posture.figure, SIDES[side]
    R_upper, R_lower, R_hand = np.empty((3, 3)), np.empty((3, 3)), np.empty((3, 3))
    _arm(
        posture.at[f"upper arm.{name}"], elbow, np.asarray(place, np.float64), figure.joint(f"upper arm.{name}"),
        figure.joint(f"elbow.{name}"), figure.rims_m[side], OUT[side], pronation, flex, radial, R_upper, R_lower, R_hand,
    )  # fmt: skip
    return Arm(elbow, R_upper, R_lower, pronation, R_wish if rigid else R_hand, excess, cost)


def reach_cost(posture: Posture, side: int, place: np.ndarray, R_wish: np.ndarray, swivel: float) -> Float[np.ndarray, "8"]:
    """(elbow xyz, pronation, flexion, radial deviation, excess, cost) of the best arm for a wish; an infinite cost if out of reach."""
    figure, name = posture.figure, SIDES[side]
    at, front = posture.at[f"upper arm.{name}"], posture.at["chest"][2] + 0.12
    rows = np.ascontiguousarray(R_wish.T, float)
    return _reach(at, *figure.arm_m[side], OUT[side], np.asarray(place, float), rows, swivel, front)


def reach_costs(
    posture: Posture, side: int, places: Float[np.ndarray, "wish 3"], R_wishes: Float[np.ndarray, "wish 3 3"], swivel: float
) -> Float[np.ndarray, "wish 8"]:
    """`reach_cost` of many wishes."""
    name = SIDES[side]
    at, front = posture.at[f"upper arm.{name}"], posture.at["chest"][2] + 0.12
    out = np.empty((len(places), 8))
    rows = np.ascontiguousarray(R_wishes.transpose(0, 2, 1), float)
    _reach_all(at, *posture.figure.arm_m[side], OUT[side], np.ascontiguousarray(places, float), rows, swivel, front, out)
    return out


@numba.njit(cache=True)
def _cross(a, b):
    return np.array([a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]])


@numba.njit(cache=True)
def _unit(a):
    return a / max(np.sqrt(a[0] * a[0] + a[1] * a[1] + a[2] * a[2]), 1e-9)


@numba.njit(cache=True)
def _frame(along, across):
    out = np.empty((3, 3))
    out[:, 0], out[:, 1], out[:, 2] = along, across, _cross(along, across)
    return out


@numba.njit(cache=True)
def _product(a, b):
    out = np.empty((3, 3))
    for r in range(3):
        for c in range(3):
            out[r, c] = a[r, 0] * b[0, c] + a[r, 1] * b[1, c] + a[r, 2] * b[2, c]
    return out


@numba.njit(cache=True)
def _arm(at, elbow, place, shoulder, elbow_rest, rim_rest, out, pronation, flex, radial, R_upper, R_lower, R_hand):
    """Rotations of upper arm, forearm and hand of an arm that goes from `at` over its elbow to a place."""
    u, f = _unit(elbow - at), _unit(place - elbow)
    hinge = _unit(_cross(u, f))
    r, g = _unit(elbow_rest - shoulder), _unit(rim_rest - elbow_rest)
    rest_hinge = _unit(_cross(r, g))
    R_upper[:] = _product(_frame(u, hinge), _frame(r, rest_hinge).T)
    R_lower[:] = _product(_frame(f, hinge), _frame(g, rest_hinge).T)
    x, z = f * out, _cross(hinge, f)
    y = _cross(z, x)
    base = np.empty((3, 3))
    base[:, 0], base[:, 1], base[:, 2] = x, y, z
    turned = _product(_rodrigues(np.array([pronation, 0.0, 0.0])), _rodrigues(np.array([0.0, 0.0, -flex * out])))
    R_hand[:] = _product(base, _product(turned, _rodrigues(np.array([0.0, -radial * out, 0.0]))))


@numba.njit(cache=True)
def _reach(shoulder, upper, lower, out, place, wish, swivel, front):
    """See `reach_cost`: the best of SWIVELS. `wish` holds
    the wished axes as rows."""
    best = np.full(8, np.inf)
    span = place - shoulder
    distance = np.sqrt(span @ span)
    if distance < abs(upper - lower) + 0.03 or distance > 0.985 * (upper + lower):
        return best
    axis = span / distance
    down = np.array([0.25 * out, -1.0, -0.4])
    down = _unit(down - axis * (axis @ down))
    outward = _cross(axis, down)
    if outward[0] * out < 0:
        outward = -outward
    along = (upper**2 - lower**2 + distance**2) / (2 * distance)
    radius = np.sqrt(max(upper**2 - along**2, 1e-8))
    for k in range(len(SWIVELS)):
        turn = SWIVELS[k]
        elbow = shoulder + axis * along + radius * (np.cos(turn) * down + np.sin(turn) * outward)
        u, f = _unit(elbow - shoulder), _unit(place - elbow)
        hinge = _unit(_cross(u, f))
        # The thumb lies in the plane of the arm, on the elbow's inner side, between palm up and palm down.
        x, z = f * out, _cross(hinge, f)
        y = _cross(z, x)
        m00, m01, m02 = x @ wish[0], x @ wish[1], x @ wish[2]
        a, b, c = np.arctan2(z @ wish[1], y @ wish[1]), np.arcsin(min(max(m01, -1.0), 1.0)), np.arctan2(m02, m00)
        flex, radial = b * out, -c * out
        a2, flex2 = min(max(a, PRONATION[0]), PRONATION[1]), min(max(flex, FLEXION[0]), FLEXION[1])
        radial2 = min(max(radial, RADIAL[0]), RADIAL[1])
        excess = abs(a - a2) + abs(flex - flex2) + abs(radial - radial2)
        inside = 1.5 if out * elbow[0] < out * shoulder[0] * 0.75 and elbow[2] < front else 0.0
        cost = 2.0 * excess + 0.25 * (abs(flex2) + abs(radial2)) + 0.5 * abs(turn - swivel) + inside
        if cost < best[7]:
            best[:3] = elbow
            best[3], best[4], best[5], best[6], best[7] = a2, flex2, radial2, excess, cost
    return best


@numba.njit(cache=True)
def _reach_all(shoulder, upper, lower, out, places, wishes, swivel, front, costs):
    for k in range(places.shape[0]):
        costs[k] = _reach(shoulder, upper, lower, out, places[k], wishes[k], swivel, front)


def skin(
    posture: Posture, arms: tuple[Arm | None, Arm | None], loops: tuple[np.ndarray | None, np.ndarray | None], rest_m: np.ndarray
) -> np.ndarray:
    """All vertices in the body's world. `loops` are the rims of the hands in that world; an arm's end follows its rim exactly. `rest_m` are
    the figure's vertices, or what they become when cloth lies on them."""
    figure = posture.figure
    body = figure.body
    T = np.zeros((len(body.bone), 3, 4), np.float32)

    def place(bone: str, R: np.ndarray, start: np.ndarray, target: np.ndarray) -> None:
        T[body.bone[bone], :, :3] = R
        T[body.bone[bone], :, 3] = target - R @ start

    for bone in ("pelvis", "spine", "waist", "chest", "neck", "head"):
        place(bone, posture.R[bone], figure.joint(bone), posture.at[bone])
    for side, name in enumerate(SIDES):
        for bone in ("thigh", "shin", "foot", "clavicle"):
            key = f"{bone}.{name}"
            place(key, posture.R[key], figure.joint(key), posture.at[key])
        shoulder, elbow, rim = figure.joint(f"upper arm.{name}"), figure.joint(f"elbow.{name}"), figure.rims_m[side]
        key = f"upper arm.{name}"
        arm = arms[side]
        if arm is None:
            R = posture.R[f"clavicle.{name}"]
            at = posture.at[key]
            for bone in ("upper arm", "elbow end", "forearm", "wrist end", "hand"):
                place(f"{bone}.{name}", R, shoulder, at)
            continue
        at = posture.at[key]
        swing = _swing(shoulder - elbow, arm.R_upper)
        place(key, rotation(0.5 * _rotvec(arm.R_upper @ swing.T)) @ swing, shoulder, at)
        place(f"elbow end.{name}", arm.R_upper, shoulder, at)
        D = arm.R_hand @ figure.hand_frame(side).T
        axis = unit(rim - elbow)
        twist = _twist(arm.R_lower.T @ D, axis)
        place(f"forearm.{name}", arm.R_lower @ rotation(axis * twist * 0.25), elbow, arm.elbow)
        place(f"wrist end.{name}", arm.R_lower @ rotation(axis * twist * 0.75), elbow, arm.elbow)
        loop = loops[side]
        centre = arm.elbow + arm.R_lower @ (rim - elbow) if loop is None else loop.mean(0)
        place(f"hand.{name}", D, rim, centre)
    out = np.empty_like(rest_m)
    _blend(rest_m, body.bones, body.weights, T, out)
    for side in (0, 1):
        loop = loops[side]
        if loop is None:
            continue
        near, follows, share = body.stump[side]
        rim = body.loops[side]
        bare = np.empty((len(rim), 3), np.float32)
        _blend(figure.vertices_m[rim], body.bones[rim], body.weights[rim], T, bare)
        out[near] += share * (loop - bare).astype(np.float32)[follows]
    return out


def _swing(direction: np.ndarray, R: np.ndarray) -> np.ndarray:
    """The part of R that moves a direction, without the turn about it."""
    a, b = unit(direction), R @ unit(direction)
    axis = cross(a, b)
    sine = np.linalg.norm(axis)
    if sine < 1e-6:
        return np.eye(3)
    return rotation(axis / sine * np.arctan2(sine, a @ b))


def _rotvec(R: np.ndarray) -> Float[np.ndarray, "3"]:
    out = np.empty((1, 3))
    rotvec_rows(np.ascontiguousarray(R[None]), out)
    return out[0]


def _twist(R: np.ndarray, axis: np.ndarray) -> float:
    """The angle of R's turn about an axis (swing-twist)."""
    rotvec = _rotvec(R)
    half = np.sqrt(rotvec @ rotvec) / 2
    angle = 2 * np.arctan2(np.sinc(half / np.pi) / 2 * (rotvec @ axis), np.cos(half))
    return float((angle + np.pi) % (2 * np.pi) - np.pi)


@numba.njit(cache=True, fastmath=True)
def _blend(vertices, bones, weights, transforms, out):
    for i in range(vertices.shape[0]):
        x, y, z = vertices[i, 0], vertices[i, 1], vertices[i, 2]
        for r in range(3):
            total = np.float32(0)
            for k in range(4):
                w = weights[i, k]
                if w > 0:
                    T = transforms[bones[i, k]]
                    total += w * (T[r, 0] * x + T[r, 1] * y + T[r, 2] * z + T[r, 3])
            out[i, r] = total
