"""People: what their hands do, how their arms get them there, and what they wear. In the body's frame (see `body.py`)."""

from dataclasses import dataclass
from functools import cache

import numba
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from twohands.errors import from_extra
from twohands.hands.bundled import load_bundled_hand, load_hand_asset
from twohands.hands.mirror import mirror_rotvec
from twohands.hands.parameters import HandParameters
from twohands.synth.body import OUT, SIDES, Arm, BodyAsset, Figure, Posture, length, reach, reach_costs, stand, unit
from twohands.synth.chance import pick
from twohands.synth.posing import joints_and_tips, joints_at_rest, matrix_of_quaternion, to_matrix, to_rotvec

with from_extra("synth", "the synthetic engine"):
    import scipy.linalg.cython_blas  # noqa: F401 - compiled matrix products call it; where it is absent they end the process

SIZE_OF_TEMPLATE = 0.96
"""A body of this size (see `Figure.size`) fits the bundled hand's template: between what its length and its wrist ask for."""


@dataclass(frozen=True)
class Wish:
    """Where a hand should be and which way it should look, in the body's frame."""

    place: Float[np.ndarray, "3"]
    fingers: Float[np.ndarray, "3"]
    palm: Float[np.ndarray, "3"]
    swivel: float
    holds: bool = False


@dataclass(frozen=True)
class Person:
    """A posed person without clothes."""

    posture: Posture
    arms: tuple[Arm | None, Arm | None]
    parameters: HandParameters
    """Of both hands in the body's frame."""
    shown: tuple[bool, bool]
    """Hands that do something; others hang, or are behind the back or in a pocket."""
    holds: tuple[bool, bool]
    keypoints_m: Float[np.ndarray, "hand 21 3"]


SINGLE = {
    "show": 0.34, "reach": 0.1, "wave": 0.07, "hip": 0.07, "face": 0.13, "hold": 0.12, "chest": 0.05, "cross": 0.05, "table": 0.07,
}  # fmt: skip
"""What one hand does, and how often."""
IDLE = {"hang": 0.5, "behind": 0.35, "lap": 0.15}
HIDDEN = {"behind": 1.0}
EGO = {"front": 0.6, "table": 0.2, "reach": 0.2}


def draw(rng: np.random.Generator, shares: dict[str, float]) -> str:
    """A key, with the odds of its value."""
    return tuple(shares)[pick(rng, tuple(shares.values()))]


def wish_of(rng: np.random.Generator, what: str, p: Posture, side: int) -> Wish:
    """Draws a wish. Lengths are those of a body of 1.70 m, scaled to the figure."""
    s, out = p.figure.size, OUT[side]
    shoulder, head, pelvis, chest = p.at[f"upper arm.{SIDES[side]}"], p.at["head"], p.at["pelvis"], p.at["chest"]
    up, forward, away = np.array([0, 1.0, 0]), np.array([0, 0, 1.0]), np.array([out, 0, 0])
    u = rng.uniform
    swivel = float(np.radians(rng.normal(25, 22)))
    R = p.R["chest"]
    match what:
        case "show":
            place = shoulder + s * (away * u(-0.12, 0.26) + up * u(-0.22, 0.24) + forward * u(0.14, 0.42))
            fingers, palm = up + rng.normal(0, 0.45, 3), forward * (1 if u() < 0.75 else -1) + rng.normal(0, 0.45, 3)
            if u() < 0.15:
                fingers = -away + rng.normal(0, 0.4, 3)
        case "wave":
            place = shoulder + s * (away * u(0.05, 0.4) + up * u(0.15, 0.5) + forward * u(-0.02, 0.3))
            fingers, palm = up + rng.normal(0, 0.35, 3), forward + rng.normal(0, 0.4, 3)
        case "reach" | "front":
            place = shoulder + s * (away * u(-0.2, 0.15) + up * u(-0.3, 0.1) + forward * u(0.3, 0.55))
            fingers, palm = forward * u(0, 1) + up * u(-0.3, 1) - away * u(0, 0.8) + rng.normal(0, 0.3, 3), rng.normal(0, 1, 3)
        case "hip":
            place = pelvis + s * (away * u(0.17, 0.22) + up * u(0.05, 0.16) + forward * u(-0.02, 0.06))
            fingers, palm = forward * u(-0.6, 0.8) - up * u(0.2, 1) - away * 0.5, -away - forward * 0.2
            swivel = float(np.radians(rng.normal(70, 12)))
        case "face":
            spot = [(0.02, 0.01, 0.16), (0.1, 0.06, 0.1), (0.07, 0.14, 0.14), (0.09, 0.2, 0.05), (0.12, 0.08, 0.02), (0.0, 0.05, 0.18)][
                rng.integers(6)
            ]
            target = head + s * (R @ (np.array([spot[0] * out, *spot[1:]]) + rng.normal(0, 0.02, 3)))
            inward = unit(head + s * np.array([0, 0.08, 0.04]) - target)
            fingers, palm = up * u(0.2, 1) - away * u(-0.2, 0.7) + rng.normal(0, 0.25, 3), inward + rng.normal(0, 0.25, 3)
            place = target - unit(fingers) * s * u(0.08, 0.2) - unit(palm) * s * 0.03
            swivel = float(np.radians(rng.normal(20, 20)))
        case "hold":
            place = shoulder + s * (away * u(-0.2, 0.08) + up * u(-0.35, 0.05) + forward * u(0.2, 0.42))
            fingers, palm = -away * u(0, 1) + forward * u(0.2, 1) + up * u(-0.2, 0.8), -away * u(0.2, 1) + rng.normal(0, 0.4, 3)
        case "chest":
            place = chest + s * (-away * u(-0.1, 0.06) + up * u(-0.1, 0.06) + forward * u(0.17, 0.2))
            fingers, palm = -away + up * u(-0.2, 0.7), -forward + rng.normal(0, 0.15, 3)
        case "cross":
            place = chest + s * (-away * u(0.02, 0.14) + up * u(-0.2, -0.02) + forward * u(0.2, 0.26))
            fingers, palm = -away + up * u(-0.3, 0.5) - forward * 0.2, -forward + up * u(-0.6, 0.2)
            swivel = float(np.radians(rng.normal(15, 10)))
        case "table":
            place = pelvis + s * (away * u(-0.05, 0.28) + up * u(0.12, 0.3) + forward * u(0.28, 0.5))
            fingers, palm = forward + -away * u(-0.2, 0.9) + rng.normal(0, 0.2, 3), -up + rng.normal(0, 0.3, 3)
        case "lap":
            place = pelvis + s * (away * u(0.02, 0.15) + up * u(-0.02, 0.06) + forward * u(0.2, 0.32))
            fingers, palm = forward - away * u(0, 1) - up * u(0, 0.6), -up + -away * u(0, 1)
        case "behind":
            place = pelvis + s * (away * u(-0.02, 0.08) + up * u(0.08, 0.2) - forward * u(0.17, 0.24))
            fingers, palm = -away + -up * u(0, 0.6), -forward + rng.normal(0, 0.2, 3)
            swivel = float(np.radians(rng.normal(60, 10)))
        case _:  # hang
            place = shoulder + s * (away * u(0.03, 0.16) - up * u(0.4, 0.47) + forward * u(-0.03, 0.14))
            fingers, palm = -up + rng.normal(0, 0.15, 3), -away + rng.normal(0, 0.4, 3)
    return Wish(place, fingers, palm, swivel, what == "hold")


def posture_of(rng: np.random.Generator, figure: Figure) -> Posture:
    """Standing or sitting, a little bent, the head turned."""
    bend = {bone: rng.normal(0, 0.06, 3) for bone in ("spine", "waist", "chest")}
    bend["neck"], bend["head"] = rng.normal(0, [0.1, 0.2, 0.06]), rng.normal(0, [0.14, 0.28, 0.1])
    sitting = rng.random() < 0.3
    for side, name in enumerate(SIDES):
        apart = -OUT[side] * rng.normal(0.0 if sitting else 0.08, 0.08)  # the template stands with its legs apart
        bend[f"thigh.{name}"] = np.array([-rng.normal(1.45, 0.12) if sitting else rng.normal(0, 0.08), 0, apart])
        bend[f"shin.{name}"] = np.array([rng.normal(1.4, 0.2) if sitting else abs(rng.normal(0, 0.08)), 0, 0])
        bend[f"clavicle.{name}"] = np.array([0, 0, OUT[side] * rng.normal(0.02, 0.05)])
    return stand(figure, bend)


def pose_person(
    rng: np.random.Generator,
    body: BodyAsset,
    size_noise: float,
    fingers: Float[Tensor, "2 16 3"],
    shape: Float[Tensor, "2 10"],
    shares: tuple[dict[str, float], ...],
) -> Person | None:
    """A person whose hands (right hands' finger poses, given for left and right) do what is drawn from `shares` (left, right). None if a
    wish cannot be met or a hand would be inside the body."""
    figure = _figure(rng, body, shape, size_noise)
    posture = posture_of(rng, figure)
    same = rng.random() < 0.45 and shares[0] is shares[1]
    what = draw(rng, shares[0])
    pose = fingers.clone()
    pose[0] = mirror_rotvec(pose[0])
    rims = _rims(shape)
    arms: list[Arm] = []
    translation = torch.zeros(2, 3)
    holds = []
    for side in (0, 1):
        if side == 1 and not same:
            what = draw(rng, shares[1])
        for _ in range(6):
            wish = wish_of(rng, what, posture, side)
            R_wish = _frame(OUT[side], wish.fingers, wish.palm)
            arm = reach(posture, side, wish.place, R_wish, wish.swivel)
            if arm is not None and arm.cost < 3.0:
                break
        else:
            return None
        arms.append(arm)
        holds.append(wish.holds)
        _hang_on(pose, translation, side, arm.R_hand, wish.place, *rims)
    parameters = HandParameters(pose, shape, translation)
    idle = tuple(s is IDLE or s is HIDDEN for s in shares)
    points = joints_and_tips(parameters).numpy().astype(np.float64)
    person = Person(posture, (arms[0], arms[1]), parameters, (not idle[0], not idle[1]), (holds[0], holds[1]), points)
    return None if _inside(person) else person


def _hang_on(pose: Tensor, translation: Tensor, side: int, R: np.ndarray, place: np.ndarray, wrist: Tensor, rim: Tensor) -> None:
    """The hand of a side gets an orientation, and the place where the middle of its rim is there."""
    R32 = R.astype(np.float32)
    pose.numpy()[side, 0] = to_rotvec(torch.from_numpy(R32)).numpy()
    translation.numpy()[side] = place.astype(np.float32) - R32 @ rim[side].numpy() - wrist[side].numpy()


def pose_pair(rng: np.random.Generator, body: BodyAsset, size_noise: float, pair: HandParameters) -> Person | None:
    """A person whose two hands stand to each other as the pair's do: before the chest, the belly or the face."""
    figure = _figure(rng, body, pair.shape, size_noise)
    posture = posture_of(rng, figure)
    s = figure.size
    centre = posture.at["chest"] + s * np.array([rng.normal(0, 0.06), rng.uniform(-0.3, 0.28), rng.uniform(0.2, 0.42)])
    wrist, rim = _rims(pair.shape)
    R_hands = to_matrix(pair.pose[:, 0])
    middle = joints_and_tips(pair).reshape(-1, 3).mean(0).numpy().astype(np.float64)
    places = ((R_hands @ rim[..., None])[..., 0] + wrist + pair.translation_m).numpy().astype(np.float64) - middle
    R_pair = R_hands.numpy().astype(np.float64)
    swivel = float(np.radians(25))
    turns = matrix_of_quaternion(np.random.RandomState(int(rng.integers(2**31))).normal(size=(48, 4)))
    wished = places @ turns.transpose(0, 2, 1) + centre
    fits = np.flatnonzero((wished[:, 0, 0] - wished[:, 1, 0] >= -0.1) & (wished[..., 2].min(1) >= posture.at["chest"][2] + 0.06 * s))
    if not len(fits):
        return None
    costs = [reach_costs(posture, side, wished[fits, side], turns[fits] @ R_pair[side], swivel) for side in (0, 1)]
    total = costs[0][:, 7] + costs[1][:, 7] + rng.uniform(0, 0.6, len(fits))
    total[np.maximum(costs[0][:, 6], costs[1][:, 6]) >= 0.6] = np.inf
    best = int(total.argmin())
    if not np.isfinite(total[best]):
        return None
    turn, p = turns[fits[best]], wished[fits[best]]
    arms = [reach(posture, side, p[side], turn @ R_pair[side], swivel, rigid=True) for side in (0, 1)]
    pose = pair.pose.clone()
    translation = torch.zeros(2, 3)
    for side in (0, 1):
        _hang_on(pose, translation, side, turn @ R_pair[side], p[side], wrist, rim)
    parameters = HandParameters(pose, pair.shape, translation)
    points = joints_and_tips(parameters).numpy().astype(np.float64)
    person = Person(posture, (arms[0], arms[1]), parameters, (True, True), (False, False), points)
    return None if _inside(person) else person


@numba.njit(cache=True)
def _frame(out, fingers, palm):
    """The orientation of a hand whose palm looks that way and whose fingers point as nearly there as they can."""
    down = _unit(palm)
    f = _unit(fingers - down * (_dot(fingers, down) * 0.999))
    x, y = f * out, -_unit(down - f * _dot(f, down))
    frame = np.empty((3, 3))
    frame[:, 0], frame[:, 1] = x, y
    frame[0, 2], frame[1, 2], frame[2, 2] = x[1] * y[2] - x[2] * y[1], x[2] * y[0] - x[0] * y[2], x[0] * y[1] - x[1] * y[0]
    return frame


@numba.njit(cache=True)
def _dot(a, b):
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


@numba.njit(cache=True)
def _unit(a):
    return a / max(np.sqrt(_dot(a, a)), 1e-9)


def _rims(shape: Tensor) -> tuple[Tensor, Tensor]:
    """The wrists at rest (translation zero), and the middle of each rim relative to them, in the hand's frame."""
    rim, directions = _rim()
    wrist = joints_at_rest(shape)[:, 0]
    right = rim + shape @ directions
    return wrist, right * torch.tensor([[-1.0, 1, 1], [1, 1, 1]]) - wrist


@cache
def _rim() -> tuple[Tensor, Tensor]:
    """The middle of the right hand's rim at rest, and what each shape coefficient adds to it."""
    asset = load_hand_asset()
    loop = asset.wrist_loop
    return asset.v_template[loop].mean(0), asset.shapedirs[loop].mean(0).T.contiguous()


@cache
def _template_length() -> float:
    joints = load_bundled_hand().joint_template[1]
    return float((joints[4] - joints[0]).norm())


def _figure(rng: np.random.Generator, body: BodyAsset, shape: Tensor, noise: float) -> Figure:
    """A body whose size goes with its hands'."""
    joints = joints_at_rest(shape).numpy()
    palm = (length(joints[0, 4] - joints[0, 0]) + length(joints[1, 4] - joints[1, 0])) / 2
    size = SIZE_OF_TEMPLATE * (palm / _template_length()) * float(np.exp(rng.normal(0, noise)))
    return Figure.of(body, rng.normal(0, 1, len(body.shapes_m)).clip(-2.2, 2.2), size)


def _inside(person: Person) -> bool:
    """Whether a hand's joints are within the trunk or the head."""
    return meets_body(person.posture, person.keypoints_m.reshape(-1, 3))


def meets_body(posture: Posture, points: Float[np.ndarray, "point 3"]) -> bool:
    """Whether a point is within the trunk or the head: ellipsoids round their bones."""
    at, R = np.array([posture.at[bone] for bone in _BONES]), np.array([posture.R[bone] for bone in _BONES])
    return bool(_within(np.ascontiguousarray(points), at, R, posture.figure.size, _CENTRES, _RADII))


@numba.njit(cache=True)
def _within(points, at, R, size, centres, radii):
    for k in range(at.shape[0]):
        for i in range(points.shape[0]):
            away = points[i] - at[k]
            total = 0.0
            for c in range(3):
                local = (away[0] * R[k, 0, c] + away[1] * R[k, 1, c] + away[2] * R[k, 2, c]) / size - centres[k, c]
                total += (local / radii[k, c]) ** 2
            if total < 1:
                return True
    return False


ELLIPSOIDS = (
    ("head", np.array([0, 0.085, 0.045]), np.array([0.07, 0.115, 0.09])),
    ("chest", np.array([0, 0.04, 0.03]), np.array([0.15, 0.17, 0.09])),
    ("waist", np.array([0, 0.02, 0.03]), np.array([0.13, 0.15, 0.09])),
    ("pelvis", np.array([0, 0.03, 0.05]), np.array([0.15, 0.13, 0.1])),
)
"""Bone, centre in its frame and radii in metres of a body of 1.70 m: what a hand cannot be within."""
_BONES = tuple(bone for bone, _, _ in ELLIPSOIDS)
_CENTRES, _RADII = np.stack([centre for _, centre, _ in ELLIPSOIDS]), np.stack([radii for _, _, radii in ELLIPSOIDS])
