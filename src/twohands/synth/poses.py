"""Finger poses of one hand: gestures, grasps, letters and rest, with the fingers' natural coupling, inside the joint limits."""

from dataclasses import dataclass
from functools import cache, cached_property
from importlib import resources

import numba
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from twohands.errors import UserError
from twohands.hands.bundled import load_bundled_hand, load_hand_asset
from twohands.hands.parameters import HandParameters
from twohands.joints import OPENPOSE21_BONES
from twohands.synth.chance import pick

LONG_FINGERS = {"index": 1, "middle": 4, "pinky": 7, "ring": 10}
"""First MANO16 joint of each; the columns below are in this order."""
FIRST = np.array(list(LONG_FINGERS.values()))
_NEIGHBOURS = (np.array([1, 0, 3, 1]), np.array([1, 3, 3, 1]))
"""Of each long finger, that which it follows: the middle one has two."""
_FAN = np.array([1.0, 0.1, -1.3, -0.6])
BONE_CLEARANCE_M = 0.0095
"""Bones of different fingers nearer than this pass through each other's flesh."""


@dataclass(frozen=True)
class Curl:
    """A gesture as degrees of flexion at MCP and PIP of index, middle, pinky, ring, and the thumb's (CMC flexion, spread, twist, MCP, IP)."""

    mcp: tuple[float, float, float, float]
    pip: tuple[float, float, float, float]
    thumb: tuple[float, float, float, float, float]
    fan: float = 0.0
    """Degrees by which the fingers spread from the middle one."""


OPEN, SHUT = 3.0, 95.0
THUMB_OUT, THUMB_IN, THUMB_ACROSS, THUMB_UP = (-12, 10, 0, 5, 5), (14, 13, 13, 18, 20), (22, 5, 18, 35, 40), (-15, -10, -5, 0, -5)
GESTURES = {
    "flat": Curl((0, 0, 0, 0), (OPEN,) * 4, (-5, 5, 0, 5, 5)),
    "spread": Curl((0, 0, 0, 0), (OPEN,) * 4, THUMB_OUT, 12),
    "relaxed": Curl((20, 25, 35, 30), (25, 30, 40, 35), (2, 10, 5, 12, 15)),
    "fist": Curl((75, 80, 82, 80), (SHUT,) * 4, THUMB_ACROSS),
    "loose fist": Curl((55, 60, 62, 60), (75, 80, 80, 80), (15, 8, 12, 25, 30)),
    "point": Curl((5, 75, 80, 78), (5, SHUT, SHUT, SHUT), THUMB_ACROSS),
    "victory": Curl((3, 3, 80, 78), (5, 5, SHUT, SHUT), THUMB_ACROSS, 10),
    "three": Curl((3, 3, 75, 3), (5, 5, 90, 5), THUMB_ACROSS, 8),
    "four": Curl((3, 3, 3, 3), (5, 5, 5, 5), THUMB_ACROSS, 8),
    "thumb up": Curl((72, 78, 80, 78), (SHUT,) * 4, THUMB_UP),
    "gun": Curl((3, 75, 80, 78), (5, SHUT, SHUT, SHUT), THUMB_UP),
    "call": Curl((70, 76, 3, 74), (90, 92, 5, 90), THUMB_OUT),
    "horns": Curl((3, 75, 3, 75), (5, SHUT, 5, 92), THUMB_ACROSS, 6),
    "love": Curl((3, 75, 3, 75), (5, SHUT, 5, 92), THUMB_OUT, 8),
    "ring shape": Curl((55, 12, 3, 8), (50, 15, 8, 12), THUMB_IN, 6),
    "pinch": Curl((52, 40, 25, 32), (50, 45, 30, 38), THUMB_IN),
    "o": Curl((50, 52, 52, 52), (52, 55, 52, 55), (16, 14, 14, 20, 25)),
    "c": Curl((28, 30, 30, 30), (42, 44, 42, 44), (5, 25, 5, 10, 20)),
    "claw": Curl((-5, -5, -5, -5), (70, 72, 70, 72), (0, 18, 5, 20, 40), 10),
    "cylinder": Curl((42, 46, 50, 48), (58, 60, 60, 60), (8, 26, 8, 15, 25)),
    "ball": Curl((28, 28, 30, 28), (40, 42, 42, 42), (2, 28, 5, 10, 20), 14),
    "pen": Curl((48, 52, 62, 58), (40, 55, 72, 68), (12, 16, 14, 22, 25)),
    "key": Curl((50, 62, 70, 66), (72, 80, 84, 82), (8, -4, 8, 10, 15)),
    "hook": Curl((8, 8, 8, 8), (85, 88, 86, 88), (5, 5, 5, 20, 25)),
    "table": Curl((60, 60, 60, 60), (8, 8, 8, 8), (8, 12, 5, 10, 8)),
    "crossed": Curl((12, 2, 80, 78), (8, 4, SHUT, SHUT), THUMB_ACROSS, -6),
    "index bent": Curl((15, 75, 80, 78), (70, SHUT, SHUT, SHUT), THUMB_ACROSS),
    "fist, thumb beside": Curl((76, 80, 82, 80), (SHUT,) * 4, (-4, -6, 0, 8, 5)),
    "fist, thumb within": Curl((62, 66, 70, 68), (85, 88, 90, 88), (26, 8, 16, 30, 35)),
    "flat, thumb across": Curl((0, 0, 0, 0), (OPEN,) * 4, (28, 8, 18, 35, 45)),
    "tips on thumb": Curl((42, 44, 44, 44), (82, 84, 84, 84), (22, 8, 16, 30, 35)),
    "index up, others on thumb": Curl((3, 52, 52, 52), (4, 52, 50, 54), (16, 14, 14, 20, 25)),
    "two together": Curl((3, 3, 80, 78), (5, 5, SHUT, SHUT), THUMB_ACROSS, -2),
    "two and thumb": Curl((3, 3, 80, 78), (5, 5, SHUT, SHUT), THUMB_OUT, 9),
    "little finger on thumb": Curl((5, 5, 58, 8), (8, 8, 55, 10), (26, 10, 16, 22, 30), 6),
    "ring finger on thumb": Curl((5, 6, 10, 55), (8, 8, 12, 52), (22, 12, 16, 20, 28), 6),
    "middle finger on thumb": Curl((5, 55, 8, 10), (8, 52, 10, 12), (18, 13, 15, 20, 26), 6),
    "little finger up": Curl((72, 78, 3, 76), (SHUT, SHUT, 5, 92), THUMB_ACROSS),
    "middle finger up": Curl((72, 4, 78, 76), (SHUT, 5, SHUT, SHUT), THUMB_ACROSS),
    "tripod": Curl((50, 48, 50, 55), (45, 48, 62, 58), (14, 15, 15, 20, 20)),
    "trigger": Curl((20, 60, 66, 63), (45, 72, 75, 74), (8, 14, 8, 12, 15)),
    "scissors": Curl((18, 45, 60, 55), (30, 50, 62, 60), (10, 18, 10, 18, 25), 8),
    "plate": Curl((18, 18, 20, 18), (12, 12, 14, 12), (16, 22, 12, 12, 10), 3),
    "typing": Curl((28, 30, 26, 30), (38, 42, 36, 40), (4, 10, 4, 8, 12), 5),
    "piano": Curl((15, 18, 12, 16), (32, 36, 30, 34), (2, 16, 0, 6, 10), 12),
    "chord": Curl((35, 48, 30, 42), (70, 65, 55, 68), (10, 10, 12, 10, 12), 9),
    "mouse": Curl((22, 24, 30, 28), (22, 24, 34, 30), (2, 22, 2, 8, 12), 7),
    "key turned": Curl((62, 68, 72, 70), (70, 82, 86, 84), (4, 4, 6, 14, 20)),
    "lid": Curl((30, 30, 32, 30), (28, 28, 30, 28), (4, 30, 8, 10, 12), 16),
    "chopsticks": Curl((40, 45, 60, 56), (38, 45, 66, 60), (14, 10, 14, 14, 16)),
    "phone": Curl((40, 42, 44, 43), (45, 46, 48, 47), (0, 28, 4, 10, 14)),
}


_NAMES = tuple(GESTURES)
REAL_SHARE = 0.25
"""Poses drawn from the mixture fitted to hands on real photos; see tools/fit_pose_distribution.py."""


@dataclass(frozen=True)
class _Mixture:
    """Gaussians over the principal components of the angles of joints 1 to 15, in radians."""

    mean: Float[np.ndarray, "45"]
    basis: Float[np.ndarray, "component 45"]
    centres: Float[np.ndarray, "cluster component"]
    spread: Float[np.ndarray, "cluster component"]
    weight: Float[np.ndarray, "cluster"]
    rest: Float[np.ndarray, "45"]

    @cached_property
    def odds(self) -> tuple[float, ...]:
        """Of each cluster: its share, flattened, since rare poses teach most."""
        return tuple(np.sqrt(self.weight).tolist())

    def draw(self, rng: np.random.Generator) -> Float[np.ndarray, "16 3"]:
        """Angles of one hand."""
        k = pick(rng, self.odds)
        scores = self.centres[k] + self.spread[k] * rng.normal(0, 1, len(self.basis))
        flat = self.mean + scores @ self.basis + self.rest * rng.normal(0, 1, 45)
        angles = np.zeros((16, 3))
        angles[1:] = flat.reshape(15, 3)
        return angles


@cache
def _mixture() -> _Mixture:
    """Reads the packaged file once. UserError if the installation lacks it."""
    path = resources.files("twohands.synth") / "assets" / "poses.npz"
    if not path.is_file():
        raise UserError(
            "the package lacks synth/assets/poses.npz; reinstall twohands, or build the file with tools/fit_pose_distribution.py"
        )
    with path.open("rb") as file, np.load(file) as stored:
        names = ("mean_rad", "basis", "centres_rad", "spread_rad", "weight", "rest_rad")
        return _Mixture(*(stored[name].astype(np.float64) for name in names))


SIMPLE = ("flat", "spread", "relaxed", "fist")
"""What the simplest engine would show."""


def sample_poses(count: int, seed: int, simple: bool = False) -> Float[Tensor, "count 16 3"]:
    """Rotation vectors of a right hand's joints; the wrist's is zero. The same (count, seed, simple) gives the same poses.

    A quarter is drawn from a mixture fitted to real photos; of the rest six in ten are gestures with variation, the others correlated random
    flexion, fingers on or off, or uniform over the limits. Hands whose fingers would run through each other are drawn again. `simple` poses are the
    gestures of SIMPLE with variation and no others."""
    rng = np.random.default_rng([seed, 16])
    kept: list[np.ndarray] = []
    limits = load_hand_asset().limits
    while sum(len(k) for k in kept) < count:
        angles = np.stack([_angles(rng, SIMPLE) if simple else _any(rng) for _ in range(2 * count)])
        rotvec = limits.clamp(limits.angles_to_rotvec(torch.from_numpy(angles).float()))
        kept.append(rotvec[~_collides(rotvec)].numpy())
    return torch.from_numpy(np.concatenate(kept)[:count])


def _any(rng: np.random.Generator) -> Float[np.ndarray, "16 3"]:
    return _mixture().draw(rng) if rng.random() < REAL_SHARE else _angles(rng)


def _angles(rng: np.random.Generator, names: tuple[str, ...] = ()) -> Float[np.ndarray, "16 3"]:
    """Flexion, spread, twist of every joint in radians; of these gestures alone, if some are named."""
    kind = rng.random()
    thumb = np.array(THUMB_IN, float)
    fan = rng.normal(2, 5)
    if kind < 0.58 or names:
        among = names or _NAMES
        gesture = GESTURES[among[rng.integers(len(among))]]
        strength = rng.uniform(0.85, 1.1)
        mcp = np.array(gesture.mcp) * strength + rng.normal(0, 8, 4)
        pip = np.array(gesture.pip) * strength + rng.normal(0, 9, 4)
        thumb = np.array(gesture.thumb, float) + rng.normal(0, 6, 5)
        fan = gesture.fan + rng.normal(0, 3.5)
    elif kind < 0.78:
        base = rng.uniform(-5, 85)
        mcp = base + rng.normal(0, 16, 4)
        pip = rng.normal(1.0, 0.3) * mcp + rng.normal(8, 14, 4)
        thumb = rng.normal([5, 10, 5, 15, 18], [14, 12, 12, 16, 24])
    elif kind < 0.92:
        up = rng.random(4) < rng.uniform(0.2, 0.9)
        mcp = np.where(up, rng.normal(4, 8, 4), rng.normal(70, 12, 4))
        pip = np.where(up, rng.normal(7, 8, 4), rng.normal(90, 12, 4))
        poses = (THUMB_OUT, THUMB_IN, THUMB_ACROSS, THUMB_UP)
        thumb = np.array(poses[rng.integers(4)], float) + rng.normal(0, 7, 5)
    else:
        mcp, pip = rng.uniform(-15, 88, 4), rng.uniform(-4, 108, 4)
        thumb = rng.uniform([-18, -18, -15, -8, -15], [33, 28, 30, 55, 80])
    # Neighbours follow each other: one tendon sheath, one skin.
    mcp = 0.85 * mcp + 0.15 * mcp[_NEIGHBOURS[rng.integers(2)]]
    dip = (pip * rng.uniform(0.45, 0.8) + rng.normal(0, 7, 4)).clip(-5, 78)
    angles = np.zeros((16, 3))
    angles[FIRST, 0], angles[FIRST + 1, 0], angles[FIRST + 2, 0] = mcp, pip, dip
    # Bent knuckles lock the spread (the collateral ligaments tighten).
    lock = (1 - mcp / 95).clip(0.1, 1)
    angles[FIRST, 1] = (fan * _FAN + rng.normal(0, 2.5, 4)) * lock
    angles[FIRST, 2] = rng.normal(0, 2, 4)
    angles[13] = thumb[:3]
    angles[14, 0], angles[15, 0] = thumb[3:]
    angles[14, 1] = rng.normal(0, 3)
    return np.radians(angles)


def _collides(rotvec: Float[Tensor, "count 16 3"]) -> Tensor:
    """True where bones of different fingers come too near."""
    count = len(rotvec)
    pose = torch.zeros(count, 2, 16, 3)
    pose[:, 1] = rotvec
    hand = load_bundled_hand()
    points = hand.pose_hands(HandParameters(pose, torch.zeros(count, 2, 10), torch.zeros(count, 2, 3))).joints_and_tips()[:, 1]
    return torch.from_numpy(_bones_near(points.numpy().astype(np.float64), np.array(OPENPOSE21_BONES), BONE_CLEARANCE_M))


@numba.njit(cache=True)
def _bones_near(points, bones, clearance):
    hit = np.zeros(points.shape[0], np.bool_)
    for n in range(points.shape[0]):
        for first in range(len(bones)):
            for second in range(first + 1, len(bones)):
                a, b = bones[first]
                c, d = bones[second]
                if first // 4 == second // 4 or a == 0 or c == 0:
                    continue
                for i in range(5):
                    for j in range(5):
                        s, t = (i + 0.5) / 5, (j + 0.5) / 5
                        distance = 0.0
                        for k in range(3):
                            gap = points[n, a, k] * (1 - s) + points[n, b, k] * s - points[n, c, k] * (1 - t) - points[n, d, k] * t
                            distance += gap * gap
                        if distance < clearance * clearance:
                            hit[n] = True
    return hit
