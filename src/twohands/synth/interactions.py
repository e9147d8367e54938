"""Two hands of one person that touch, hold or nearly touch each other, without passing through one another.

No captured interactions are at hand that may be shipped, so they are made: a template says how two hands lie to each other (which way each
points and faces, which spots meet, how the fingers begin and how they would like to end), everything is jittered, and gradient descent on
sphere proxies lets the fingers close until they meet the other hand. What still penetrates by the exact test is thrown away.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from twohands.collision.energy import penetration_energy, self_penetration_energy
from twohands.collision.proxies import SphereProxies
from twohands.collision.volume import hands_shared_volume_cm3
from twohands.geometry.rotations import matrix_to_rotvec, random_rotation, rotvec_to_matrix
from twohands.hands.bundled import load_hand_asset
from twohands.hands.mirror import left_as_right_rotvec, mirror_parameters
from twohands.hands.model import HandModel, PosedHands
from twohands.hands.parameters import HandParameters
from twohands.joints import MANO16, OPENPOSE21
from twohands.record import Record
from twohands.record import stack as stack_records
from twohands.synth.poses import sample_poses

HOVER_SHARE = 0.08
"""Share of the pairs made to touch that stop short of it."""
LARGEST_VOLUME_CM3 = 0.001
"""Pairs that share more than this by the exact test are rejected."""

Grip = Literal["flat", "relaxed", "cupped", "fist", "hook", "wrap", "spread", "point", "pinch", "free"]
Spot = Literal[
    "palm", "back", "proximal", "fingers", "mid_fingers", "tips", "index_tip", "pinch_tip", "knuckles", "edge", "thumb", "wrist", "index",
    "thumb_tip", "middle_tip", "ring_tip", "pinky_tip",
]  # fmt: skip
Family = Literal[
    "clasp", "interlaced", "palm to palm", "fist in palm", "fingertips", "hand over back", "counting", "wringing", "hold wrist", "hold thumb",
    "near", "other",
]  # fmt: skip
FAMILIES: tuple[str, ...] = get_args(Family)

# Degrees. Flexion at the knuckle, middle and end joints of the four fingers; outward spread; and of the thumb flexion, spread and twist of
# its root, then two flexions.
_GRIPS: dict[str, tuple[tuple[float, float, float], float, tuple[float, float, float, float, float]]] = {
    "flat": ((4, 6, 3), 1, (0, 2, 0, 8, 6)),
    "relaxed": ((18, 26, 14), 2, (4, 2, 4, 15, 15)),
    "cupped": ((32, 28, 16), 1, (8, -4, 8, 15, 15)),
    "fist": ((80, 95, 58), 0, (16, -6, 14, 38, 45)),
    "hook": ((15, 88, 55), 0, (10, 0, 5, 20, 20)),
    "wrap": ((58, 72, 42), 0, (16, -4, 14, 24, 26)),
    "spread": ((0, 6, 4), 13, (-8, 14, 0, 4, 2)),
    "point": ((78, 92, 58), 0, (15, -2, 10, 35, 40)),
    "pinch": ((40, 38, 18), 2, (6, -8, 14, 16, 22)),
}
_OUTWARD = {"index": 1.0, "middle": 0.1, "ring": -0.7, "pinky": -1.3}


@dataclass(frozen=True)
class Template:
    """One way for two hands to be together. Directions are in the person's frame: x to the person's right, y up, z towards the person."""

    kind: str
    family: Family
    weight: float
    right_points: tuple[float, float, float]
    """Where the right hand's fingers point, and where its palm faces; then the left hand's."""
    right_faces: tuple[float, float, float]
    left_points: tuple[float, float, float]
    left_faces: tuple[float, float, float]
    right_spot: Spot
    """Which spot of the right hand meets which spot of the left."""
    left_spot: Spot
    right_grip: tuple[Grip, Grip]
    """The hand at the start, and what its fingers close towards."""
    left_grip: tuple[Grip, Grip]
    start_gap_m: float = 0.03
    """Distance of the spots at the start, along the way in which the right palm faces (against it if it meets with its back)."""
    turn_deg: float = 12.0
    """Jitter of the relative orientation."""
    shift_m: float = 0.010
    """Jitter of the meeting spots."""
    touch: bool = True
    """Pulled together until they meet."""
    pull_spot: Spot | None = None
    """Spot of both hands that is then pulled together, if it is another than where they start."""
    slide_m: float = 0.0
    """Shift of the left hand towards the right thumb's side: half a finger's pitch lets fingers interlace."""


_UP, _DOWN, _RIGHT, _LEFT, _AWAY, _NEAR = (0, 1, 0), (0, -1, 0), (1, 0, 0), (-1, 0, 0), (0, 0, -1), (0, 0, 1)

TEMPLATES = (
    Template("palm to palm", "palm to palm", 1.0, _UP, _LEFT, _UP, _RIGHT, "palm", "palm", ("flat", "flat"), ("flat", "flat")),
    Template("palms crossed", "clasp", 0.8, _AWAY, _DOWN, (1, 0, -0.3), _UP, "palm", "palm", ("relaxed", "wrap"), ("relaxed", "wrap"),
             turn_deg=20),
    Template("interlaced", "interlaced", 2.0, (-0.75, 0.66, 0), (-0.66, -0.75, 0), (0.75, 0.66, 0), (0.66, -0.75, 0), "mid_fingers", "mid_fingers",
             ("spread", "wrap"), ("spread", "wrap"), 0.0, 6, 0.004, True, "proximal", 0.011),
    Template("interlaced high", "interlaced", 1.0, (-0.4, 0.92, 0), (-0.92, -0.4, 0), (0.4, 0.92, 0), (0.92, -0.4, 0), "mid_fingers", "mid_fingers",
             ("spread", "relaxed"), ("spread", "relaxed"), 0.0, 6, 0.004, True, "proximal", 0.011),
    Template("fist in palm", "fist in palm", 1.2, _LEFT, _DOWN, (0.2, 1, -0.2), _RIGHT, "knuckles", "palm", ("fist", "fist"), ("relaxed", "wrap"),
             turn_deg=18),
    Template("fist on palm", "fist in palm", 0.6, _AWAY, _LEFT, (0.8, 0, -0.6), _UP, "edge", "palm", ("fist", "fist"), ("relaxed", "cupped"),
             turn_deg=18),
    Template("fingertips", "fingertips", 1.0, (-0.45, 0.89, 0), (-0.89, -0.45, 0), (0.45, 0.89, 0), (0.89, -0.45, 0), "tips", "tips",
             ("relaxed", "relaxed"), ("relaxed", "relaxed"), 0.02, 10, 0.006),
    Template("index tips", "fingertips", 0.7, (-0.9, 0.2, -0.4), (0, -0.6, 0.8), (0.9, 0.2, -0.4), (0, -0.6, 0.8), "index_tip", "index_tip",
             ("point", "point"), ("point", "point"), 0.02, 25, 0.004),
    Template("pinches", "fingertips", 0.7, (-0.8, 0.3, -0.5), (-0.2, -0.9, -0.3), (0.8, 0.3, -0.5), (0.2, -0.9, -0.3), "pinch_tip", "pinch_tip",
             ("pinch", "pinch"), ("pinch", "pinch"), 0.02, 25, 0.005),
    Template("pick at finger", "other", 0.8, (-0.9, -0.2, -0.3), (0, -0.9, 0.3), (0.5, 0.6, -0.6), (0.5, -0.3, 0.8), "pinch_tip", "index",
             ("pinch", "pinch"), ("free", "relaxed"), 0.01, 25, 0.008),
    Template("point at palm", "counting", 0.7, (-0.9, -0.3, -0.3), _DOWN, (0.3, 0.9, -0.3), (0.6, 0, 0.8), "index_tip", "palm", ("point", "point"),
             ("flat", "relaxed"), 0.03, 20, 0.02),
    Template("hand over back", "hand over back", 1.4, (-0.7, 0, -0.7), _DOWN, (0.6, 0, -0.8), _DOWN, "palm", "back", ("relaxed", "wrap"),
             ("relaxed", "relaxed"), turn_deg=18, shift_m=0.014),
    Template("hands stacked", "hand over back", 0.8, (-0.2, 0, -1), _DOWN, (0.2, 0, -1), _DOWN, "palm", "back", ("flat", "cupped"),
             ("flat", "relaxed")),
    Template("bowl", "other", 0.7, (-0.8, 0, -0.6), (0, 0.8, -0.2), (0.8, 0, -0.6), (0, 0.8, -0.2), "fingers", "back", ("relaxed", "cupped"),
             ("cupped", "cupped"), turn_deg=15),
    Template("edges together", "other", 0.6, (-0.1, 0.2, -1), (0, 0.9, 0.3), (0.1, 0.2, -1), (0, 0.9, 0.3), "edge", "edge", ("relaxed", "cupped"),
             ("relaxed", "cupped")),
    Template("crossing hands", "hand over back", 0.8, (-0.8, 0.5, -0.2), (-0.2, -0.3, -0.9), (0.8, 0.5, -0.2), (0.2, -0.3, -0.9), "palm", "back",
             ("free", "free"), ("free", "free"), turn_deg=25, shift_m=0.02),
    Template("crossed wrists", "other", 0.5, (-0.7, 0.7, 0), (0, 0, -1), (0.7, 0.7, 0), (0, 0, 1), "wrist", "wrist", ("free", "free"),
             ("free", "free"), turn_deg=20),
    Template("hold fingers", "clasp", 1.2, (-0.3, 0.2, -0.9), (-0.8, -0.5, 0.2), (0.85, 0.4, -0.3), (0, -0.5, -0.9), "palm", "fingers",
             ("relaxed", "fist"), ("flat", "relaxed"), turn_deg=18),
    Template("hold thumb", "hold thumb", 0.8, (-0.6, 0, -0.8), (-0.6, -0.6, 0.4), (0.4, 0.2, -0.9), (0.9, 0, 0.4), "palm", "thumb", ("cupped", "fist"),
             ("spread", "relaxed"), turn_deg=20),
    Template("hold wrist", "hold wrist", 0.9, (-0.5, 0, -0.9), (-0.3, -0.9, 0.2), (0.9, 0.1, -0.4), (0, -1, 0), "palm", "wrist", ("relaxed", "fist"),
             ("free", "free"), turn_deg=18),
    Template("hooked fingers", "interlaced", 0.9, _LEFT, _NEAR, _RIGHT, _AWAY, "mid_fingers", "mid_fingers", ("hook", "hook"), ("hook", "hook"), 0.03,
             10, 0.006),
    Template("knuckles together", "other", 0.5, (-1, 0, -0.2), _DOWN, (1, 0, -0.2), _DOWN, "knuckles", "knuckles", ("fist", "fist"),
             ("fist", "fist"), turn_deg=15),
    Template("counting", "counting", 0.8, (-0.9, 0.1, -0.2), (0, -0.3, -0.9), (0.1, 1, 0), (0.2, 0, 0.9), "index_tip", "tips", ("point", "point"),
             ("free", "spread"), 0.02, 20, 0.01),
    *(
        Template(f"counting at the {finger}", "counting", 0.25, (-0.9, 0.1, -0.2), (0, -0.4, -0.9), (0.1, 1, 0), (0.2, 0, 0.9), touching,  # type: ignore[arg-type]
                 f"{finger}_tip", (grip, grip), ("free", "spread"), 0.02, 22, 0.008)  # type: ignore[arg-type]
        for finger, touching, grip in (
            ("thumb", "index_tip", "point"), ("middle", "index_tip", "point"), ("ring", "pinch_tip", "pinch"), ("pinky", "pinch_tip", "pinch"),
        )
    ),
    Template("clasp", "clasp", 1.2, (-0.1, 0.35, -0.93), (-1, 0, 0), (0.1, 0.95, 0.2), (1, 0, 0), "palm", "palm", ("relaxed", "wrap"),
             ("relaxed", "wrap"), turn_deg=18, shift_m=0.014),
    Template("clasp of fingers", "clasp", 0.6, (-0.8, 0.2, -0.5), (0, -0.8, -0.6), (0.8, 0.2, -0.5), (0, 0.8, 0.6), "fingers", "fingers",
             ("hook", "wrap"), ("hook", "wrap"), 0.025, 14, 0.010),
    Template("wringing over", "wringing", 0.8, (-0.85, 0.1, -0.5), (0, -1, 0), (0.85, 0.1, -0.5), (0.2, -0.4, 0.9), "palm", "knuckles",
             ("cupped", "wrap"), ("wrap", "fist"), turn_deg=25, shift_m=0.015),
    Template("wringing around", "wringing", 0.8, (-0.6, 0.5, -0.6), (-0.5, -0.8, 0), (0.6, -0.3, -0.7), (0.8, 0.5, 0), "palm", "edge",
             ("cupped", "wrap"), ("relaxed", "wrap"), turn_deg=25, shift_m=0.015),
    Template("washing", "wringing", 0.6, _LEFT, _DOWN, (0.8, 0, -0.6), _UP, "fingers", "palm", ("flat", "cupped"), ("flat", "cupped"),
             turn_deg=25, shift_m=0.02),
    Template("hold wrist from below", "hold wrist", 0.4, (-0.4, 0, -0.9), (-0.2, 0.9, 0.2), (0.9, 0.1, -0.4), (0, -1, 0), "palm", "wrist",
             ("relaxed", "fist"), ("free", "free"), turn_deg=22),
    Template("hold one finger", "hold thumb", 0.5, (-0.7, 0, -0.7), (-0.4, -0.8, 0.3), (0.3, 0.6, -0.7), (0.7, -0.3, 0.6), "palm", "index",
             ("cupped", "fist"), ("point", "point"), turn_deg=20),
    Template("side by side", "near", 1.5, (-0.2, 0.5, -0.8), (-0.2, -0.8, -0.5), (0.2, 0.5, -0.8), (0.2, -0.8, -0.5), "thumb", "thumb",
             ("free", "free"), ("free", "free"), 0.05, 30, 0.02, False),
    Template("any", "other", 2.5, _LEFT, _DOWN, _RIGHT, _DOWN, "palm", "palm", ("free", "free"), ("free", "free"), 0.04, 180, 0.04),
    Template("any, apart", "near", 1.0, _LEFT, _DOWN, _RIGHT, _DOWN, "palm", "palm", ("free", "free"), ("free", "free"), 0.07, 180, 0.04, False),
)  # fmt: skip

_SPOT_KEYPOINTS: dict[str, tuple[tuple[str, ...], float]] = {
    "palm": (("wrist", "index1", "middle1", "ring1", "pinky1"), 0.014),
    "back": (("wrist", "index1", "middle1", "ring1", "pinky1"), -0.012),
    "proximal": (("index1", "middle1", "ring1", "index2", "middle2", "ring2"), 0.004),
    "fingers": (("index2", "middle2", "ring2"), 0.006),
    "mid_fingers": (("index2", "middle2", "ring2", "index3", "middle3", "ring3"), 0.0),
    "tips": (("index4", "middle4", "ring4"), 0.0),
    "index_tip": (("index4",), 0.0),
    "pinch_tip": (("index4", "thumb4"), 0.0),
    "knuckles": (("index2", "middle2", "ring2", "pinky2"), 0.0),
    "edge": (("wrist", "pinky1", "pinky1"), 0.0),
    "thumb": (("thumb3", "thumb4"), 0.0),
    "wrist": (("wrist",), 0.0),
    "index": (("index3", "index4"), 0.0),
    "thumb_tip": (("thumb4",), 0.0),
    "middle_tip": (("middle4",), 0.0),
    "ring_tip": (("ring4",), 0.0),
    "pinky_tip": (("pinky4",), 0.0),
}
"""Keypoints whose mean is the spot, and metres from there towards where the palm faces."""


@dataclass(frozen=True)
class Interactions(Record):
    """Pairs of hands and how each came about."""

    parameters: HandParameters
    template: Int[Tensor, "batch"]
    """Index into TEMPLATES."""


@dataclass(frozen=True)
class SettleConfig:
    """The descent that closes the fingers. Energies are in square millimetres of overlap; angles in them in units of ten degrees."""

    meet_steps: int = 66
    part_steps: int = 34
    rate_m: float = 0.0015
    rate_rad: float = 0.03
    touch_weight: float = 0.3
    """Per millimetre between the nearest spheres."""
    spot_weight: float = 0.15
    """Per millimetre between the spots that are to meet."""
    pose_weight: float = 0.2
    hold_weight: float = 0.02
    margin_m: float = 0.0008
    """Kept between the spheres at the end, since they describe the skin to about a millimetre; more for those that still penetrate."""
    second_margin_m: float = 0.002


def sample_interactions(model: HandModel, count: int, seed: int) -> HandParameters:
    """`count` plausible pairs of hands of one person each, batch axis first, within joint limits and sharing at most
    LARGEST_VOLUME_CM3 by the exact test. Around the origin, in any orientation. The same seed gives the same pairs."""
    return sample_labelled_interactions(model, count, seed).parameters


def sample_labelled_interactions(
    model: HandModel, count: int, seed: int, config: SettleConfig = SettleConfig(), batch: int = 256
) -> Interactions:
    """As `sample_interactions`, with the template of each pair. A batch is settled at a time; it decides the speed and (as the seeds of
    later batches follow from how many pairs were rejected) nothing but the number of candidates."""
    if count < 1:
        raise ValueError(f"cannot sample {count} pairs of hands; ask for at least one")
    proxies = SphereProxies.of(model.data)
    found: list[Interactions] = []
    have, attempt = 0, 0
    while have < count:
        size = min(batch, int(1.1 * (count - have)) + 4)
        found.append(_settled(model, proxies, size, np.random.default_rng([seed, attempt]), config))
        have, attempt = have + found[-1].template.shape[0], attempt + 1
    return _concatenate(found)[:count]


def _concatenate(parts: list[Interactions]) -> Interactions:
    return stack_records([part[i] for part in parts for i in range(part.template.shape[0])])


def _grip_angles(grip: Grip) -> Float[np.ndarray, "joint axis"]:
    """Flexion, spread and twist (radians) of the MANO16 joints of a named grip."""
    (knuckle, middle, end), spread, thumb = _GRIPS[grip]
    angles = np.zeros((16, 3))
    for finger, outward in _OUTWARD.items():
        first = MANO16.index(finger + "1")
        angles[first : first + 3, 0] = knuckle, middle, end
        angles[first, 1] = spread * outward
        if grip == "point" and finger == "index":
            angles[first : first + 3] = (8, 6, 0), (8, 0, 0), (5, 0, 0)
        if grip == "pinch" and finger == "index":
            angles[first : first + 3] = (50, 2, 0), (48, 0, 0), (24, 0, 0)
    first = MANO16.index("thumb1")
    angles[first] = thumb[:3]
    angles[first + 1 : first + 3, 0] = thumb[3:]
    return np.radians(angles)


def _jitter(angles: Float[np.ndarray, "joint axis"], rng: np.random.Generator) -> Float[np.ndarray, "joint axis"]:
    """A person's way of making a grip: all fingers a bit more or less bent, then each finger, then each joint."""
    bend = np.zeros((16, 3))
    for first in range(1, 16, 3):
        finger = rng.normal(0, 6) + (0 if first == MANO16.index("thumb1") else rng.normal(0, 3))
        bend[first : first + 3, 0] = finger + rng.normal(0, 3, 3)
        bend[first, 1] = rng.normal(0, 3)
    bend[1:13:3, 0] += rng.normal(0, 6)
    return angles + np.radians(bend)


def _frame(points: tuple[float, float, float], faces: tuple[float, float, float], left: bool) -> Float[np.ndarray, "3 3"]:
    """Wrist rotation of a hand whose fingers point and whose palm faces these ways. At rest a right hand points to -x, faces -y and has its
    thumb at +z; a left hand is its mirror image."""
    point = np.asarray(points, float) / np.linalg.norm(points)
    face = np.asarray(faces, float) - np.dot(faces, point) * point
    face /= np.linalg.norm(face)
    if left:
        return np.stack([point, -face, np.cross(face, point)], 1)
    return np.stack([-point, -face, np.cross(point, face)], 1)


def _spot_weights(names: list[str]) -> tuple[Float[np.ndarray, "hand 21"], Float[np.ndarray, "hand"]]:
    """Weights of the keypoints of a spot of each hand, and its depth."""
    weights, depth = np.zeros((2, 21)), np.zeros(2)
    for hand, name in enumerate(names):
        keypoints, depth[hand] = _SPOT_KEYPOINTS[name]
        for keypoint in keypoints:
            weights[hand, OPENPOSE21.index(keypoint)] += 1 / len(keypoints)
    return weights, depth


@dataclass(frozen=True)
class _Start(Record):
    """Where the descent begins."""

    angles: Float[Tensor, "batch hand 16 axis"]
    target: Float[Tensor, "batch hand 16 axis"]
    R_wrist: Float[Tensor, "batch hand 3 3"]
    spot: Float[Tensor, "batch hand 21"]
    """Weights of the keypoints whose mean is the meeting spot, and metres from there towards where the palm faces."""
    spot_depth_m: Float[Tensor, "batch hand"]
    pull: Float[Tensor, "batch hand 21"]
    """The same for the spot that is pulled together."""
    pull_depth_m: Float[Tensor, "batch hand"]
    approach: Float[Tensor, "batch 3"]
    """Offset of the left spot from the right one at the start, metres."""
    touch: Float[Tensor, "batch"]
    template: Int[Tensor, "batch"]


def _starts(model: HandModel, count: int, rng: np.random.Generator) -> _Start:
    """Templates drawn by weight, with jitter."""
    weights = np.array([t.weight for t in TEMPLATES])
    chosen = rng.choice(len(TEMPLATES), count, p=weights / weights.sum())
    limits = load_hand_asset().limits
    free = limits.rotvec_to_angles(torch.as_tensor(sample_poses(4 * count, int(rng.integers(2**31))))).double().numpy()
    free = free.reshape(count, 2, 2, 16, 3)
    spots = list(_SPOT_KEYPOINTS)
    names_of_rows = ("angles", "target", "R_wrist", "spot", "spot_depth_m", "pull", "pull_depth_m", "approach")
    rows: dict[str, list[np.ndarray]] = {name: [] for name in names_of_rows}
    for index, pick in enumerate(chosen):
        template = TEMPLATES[pick]
        angles, target = np.empty((2, 16, 3)), np.empty((2, 16, 3))
        for hand, grips in enumerate((template.left_grip, template.right_grip)):
            begin, end = (free[index, hand, 0] if g == "free" else _grip_angles(g) for g in grips)
            blend = rng.beta(1, 5)
            jitter = _jitter(np.zeros((16, 3)), rng)
            angles[hand] = begin + jitter if grips[0] != "free" else begin
            target[hand] = (1 - blend) * end + blend * free[index, hand, 1] + jitter if grips[1] != "free" else angles[hand]
        R_left = _frame(template.left_points, template.left_faces, True)
        R_right = _frame(template.right_points, template.right_faces, False)
        if template.turn_deg >= 180:
            R_left = random_rotation((), torch.Generator().manual_seed(int(rng.integers(2**31)))).double().numpy()
        else:
            # Most pairs lie near the template, some far off.
            turn = np.radians(template.turn_deg) * np.exp(rng.normal(-0.3, 0.4))
            R_left = rotvec_to_matrix(torch.from_numpy(rng.normal(0, turn, 3))).numpy() @ R_left
        anywhere = template.kind.startswith("any")
        names = rng.choice(spots, 2).tolist() if anywhere else [template.left_spot, template.right_spot]
        (spot, depth), (pull, pull_depth) = (_spot_weights(n) for n in (names, [template.pull_spot or n for n in names]))
        facing, pointing, thumbward = -R_right[:, 1], -R_right[:, 0], R_right[:, 2]
        way = {"back": -facing, "knuckles": pointing, "tips": pointing, "index_tip": pointing, "pinch_tip": pointing, "edge": -thumbward}
        away = way.get(names[1], facing)
        approach = away * template.start_gap_m * rng.uniform(0.7, 1.3) + rng.normal(0, template.shift_m, 3) * (1 - 0.5 * np.abs(away))
        rows["angles"].append(angles)
        rows["target"].append(target)
        rows["R_wrist"].append(np.stack([R_left, R_right]))
        rows["spot"].append(spot)
        rows["spot_depth_m"].append(depth)
        rows["pull"].append(pull)
        rows["pull_depth_m"].append(pull_depth)
        rows["approach"].append(approach + template.slide_m * thumbward * rng.choice([-1, 1]))
    tensors = {name: torch.from_numpy(np.stack(values)).float() for name, values in rows.items()}
    touch = torch.tensor([float(TEMPLATES[pick].touch and rng.random() >= HOVER_SHARE) for pick in chosen])
    return _Start(**tensors, touch=touch, template=torch.from_numpy(chosen))


class _Descent:
    """A batch of pairs on its way down: finger angles of both hands, place and turn of the left one; the right one stays."""

    def __init__(self, model: HandModel, proxies: SphereProxies, start: _Start, shape: Tensor, config: SettleConfig) -> None:
        self.model, self.proxies, self.start, self.shape, self.config = model, proxies, start, shape, config
        self.limits = load_hand_asset().limits
        self.low, self.high = self.limits.limits_rad[1:, :, 0], self.limits.limits_rad[1:, :, 1]
        self.shaped, self.radius_m = model.with_shape(shape), proxies.radii(shape)
        self.first = start.angles[:, :, 1:].clamp(self.low, self.high)
        self.target = start.target[:, :, 1:].clamp(self.low, self.high)
        count = shape.shape[0]
        turn = torch.full((count, 3), 1e-4)
        spots = self._spots_m(self.posed(self.first, turn, torch.zeros(count, 3)), start.spot, start.spot_depth_m)
        self.variables: tuple[Tensor, ...] = (self.first.clone(), turn, spots[:, 1] - spots[:, 0] + start.approach)

    def fingers(self, angles: Tensor) -> Float[Tensor, "batch hand 16 3"]:
        """Rotation vectors of both hands' fingers, zero for the wrists."""
        return left_as_right_rotvec(self.limits.angles_to_rotvec(functional.pad(angles, (0, 0, 1, 0))))

    def posed(self, angles: Tensor, turn: Tensor, shift_m: Tensor) -> PosedHands:
        """The hands at these variables."""
        wrist = torch.stack([rotvec_to_matrix(turn) @ self.start.R_wrist[:, 0], self.start.R_wrist[:, 1]], 1)
        rotations = torch.cat([wrist[:, :, None], rotvec_to_matrix(self.fingers(angles))[:, :, 1:]], 2)
        return self.shaped.with_pose(rotations, torch.stack([shift_m, torch.zeros_like(shift_m)], 1))

    def _spots_m(self, hands: PosedHands, weights: Tensor, depth_m: Tensor) -> Float[Tensor, "batch hand 3"]:
        palm_faces = -hands.R_world_joint[:, :, 0, :, 1]
        return (weights[..., None] * hands.joints_and_tips()).sum(2) + depth_m[..., None] * palm_faces

    def meet(self) -> None:
        """The hands come together as they are, then the fingers close until they meet the other hand."""
        config = self.config

        def energy(progress: float, hands: PosedHands, angles: Tensor) -> Tensor:
            centres = self.proxies.centres_posed(hands)
            spots = self._spots_m(hands, self.start.pull, self.start.pull_depth_m)
            apart_mm = (spots[:, 1] - spots[:, 0]).norm(dim=-1) * 1e3
            pull = config.touch_weight * _gap_mm(centres, self.radius_m).clamp_min(0) + config.spot_weight * apart_mm
            wanted = torch.lerp(self.first, self.target, min(max(progress * 2.7 - 0.8, 0.0), 1.0))
            return self._overlap(centres, 0.0) + self.start.touch * pull + config.pose_weight * _square_bend(angles - wanted)

        self._descend(energy, config.meet_steps, 1.0)

    def part(self, margin_m: float, steps: int) -> None:
        """Pushes overlapping spheres apart until `margin_m` lies between them, keeps in touch those pairs that are meant to touch, and
        otherwise leaves the hands where they are."""
        held = self.variables[0]

        def energy(progress: float, hands: PosedHands, angles: Tensor) -> Tensor:
            centres = self.proxies.centres_posed(hands)
            pull = self.start.touch * self.config.touch_weight * (_gap_mm(centres, self.radius_m) - 1e3 * margin_m).clamp_min(0)
            return self._overlap(centres, margin_m) + pull + self.config.hold_weight * _square_bend(angles - held)

        self._descend(energy, steps, 0.3)

    def _overlap(self, centres: Tensor, margin_m: float) -> Float[Tensor, "batch"]:
        own = self_penetration_energy(centres, self.radius_m, self.proxies.may_collide).sum(-1)
        return 1e6 * (penetration_energy(centres, self.radius_m, margin_m) + own)

    def _descend(self, energy: Callable[[float, PosedHands, Tensor], Tensor], steps: int, pace: float) -> None:
        """Adam, whose numbers go each their own way: no pair feels another. Angles stay within the limits."""
        config = self.config
        variables = [v.clone().requires_grad_() for v in self.variables]
        rates = [pace * rate for rate in (config.rate_rad, config.rate_rad / 3, config.rate_m)]
        optimizer = torch.optim.Adam([{"params": [v], "lr": rate} for v, rate in zip(variables, rates, strict=True)], betas=(0.8, 0.95))
        for step in range(steps):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * (1 - 0.9 * step / steps)
            optimizer.zero_grad()
            with torch.enable_grad():
                energy(step / steps, self.posed(*variables), variables[0]).sum().backward()
            optimizer.step()
            with torch.no_grad():
                variables[0].clamp_(self.low, self.high)
        self.variables = tuple(v.detach() for v in variables)

    def subset(self, index: Tensor) -> "_Descent":
        """Some of the pairs, where they are now."""
        part = _Descent(self.model, self.proxies, self.start[index], self.shape[index], self.config)
        part.variables = tuple(v[index] for v in self.variables)
        return part

    @torch.no_grad()
    def free(self) -> Bool[Tensor, "batch"]:
        """Whether each pair is free of penetration by the exact test."""
        vertices = self.model.closed_vertices(self.posed(*self.variables).mesh().vertices_m)
        return hands_shared_volume_cm3(vertices, self.model.closed_faces()) <= LARGEST_VOLUME_CM3


def _square_bend(angles: Float[Tensor, "batch hand 15 axis"]) -> Float[Tensor, "batch"]:
    """Squared angles in units of ten degrees, summed over a pair."""
    return (angles / np.radians(10)).square().sum((1, 2, 3))


def _settled(model: HandModel, proxies: SphereProxies, count: int, rng: np.random.Generator, config: SettleConfig) -> Interactions:
    """Draws candidates and lets them settle; those that end free of penetration."""
    shape = torch.from_numpy(rng.normal(0, 1, (count, 1, 10)) + rng.normal(0, 0.05, (count, 2, 10))).float().clamp(-2.5, 2.5)
    descent = _Descent(model, proxies, _starts(model, count, rng), shape, config)
    descent.meet()
    descent.part(config.margin_m, config.part_steps)
    free = descent.free()
    stuck = (~free).nonzero()[:, 0]
    if len(stuck):
        again = descent.subset(stuck)
        again.part(config.second_margin_m, config.part_steps)
        free[stuck] = again.free()
        descent.variables = tuple(v.index_copy(0, stuck, w) for v, w in zip(descent.variables, again.variables, strict=True))
    with torch.no_grad():
        parameters = _placed(descent, rng)
    return Interactions(parameters, descent.start.template)[free]


def _gap_mm(centres: Float[Tensor, "batch hand sphere 3"], radius: Float[Tensor, "batch hand sphere"]) -> Float[Tensor, "batch"]:
    """Distance of the two hands' nearest spheres, negative if they overlap; differentiable through that pair."""
    with torch.no_grad():
        gap = torch.cdist(centres[:, 0], centres[:, 1]) - radius[:, 0, :, None] - radius[:, 1, None, :]
        nearest = gap.flatten(1).argmin(1)
        i, j = nearest // gap.shape[2], nearest % gap.shape[2]
    row = torch.arange(centres.shape[0])
    return 1e3 * ((centres[row, 0, i] - centres[row, 1, j]).norm(dim=-1) - radius[row, 0, i] - radius[row, 1, j])


def _placed(descent: _Descent, rng: np.random.Generator) -> HandParameters:
    """Parameters of settled hands, centred on the origin, turned at random and half of them mirrored."""
    hands, model, shape = descent.posed(*descent.variables), descent.model, descent.shape
    count = shape.shape[0]
    generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
    turn = random_rotation((count,), generator)[:, None]
    wrist = matrix_to_rotvec(turn @ hands.R_world_joint[:, :, 0])
    centre = hands.joints_m.mean((1, 2))[:, None]
    place = (turn @ (hands.joints_m[:, :, 0] - centre)[..., None])[..., 0] - hands.joints_rest_m[:, :, 0]
    fingers = descent.fingers(descent.variables[0])[:, :, 1:]
    if not model.flat_hand_mean:
        fingers = fingers - model.data.hands_mean.unflatten(-1, (15, 3))
    parameters = HandParameters(torch.cat([wrist[:, :, None], fingers], 2), shape, place)
    mirrored = mirror_parameters(parameters)
    flip = torch.rand(count, generator=generator) < 0.5
    return HandParameters(
        torch.where(flip[:, None, None, None], mirrored.pose, parameters.pose),
        torch.where(flip[:, None, None], mirrored.shape, parameters.shape),
        torch.where(flip[:, None, None], mirrored.translation_m, parameters.translation_m),
    )
