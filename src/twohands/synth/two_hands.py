"""Which two hands a scene shows: their fingers, shapes and how they stand to each other."""

from functools import lru_cache

import numba
import numpy as np
import torch
from torch import Tensor

from twohands.hands.mirror import mirror_rotvec
from twohands.hands.parameters import HandParameters
from twohands.synth.knobs import BLOCK, SceneKnobs
from twohands.synth.pairs import fresh_pairs, shipped_pairs
from twohands.synth.poses import sample_poses
from twohands.synth.posing import joints_and_tips, joints_at_rest, random_turn, to_matrix, to_rotvec

POSE_POOL = 1024
"""Finger poses of a block of scenes, drawn at once: one by one they cost more than the picture."""


def who(knobs: SceneKnobs, rng: np.random.Generator) -> tuple[bool, bool]:
    """Which hands of a scene without a body are there."""
    if knobs.framing == "wide" and rng.random() < knobs.no_hand:
        return (False, False)
    if rng.random() < knobs.two_hands:
        return (True, True)
    left = bool(rng.random() < 0.5)
    return (left, not left)


@lru_cache(maxsize=2)
def poses_of_block(block: int, simple: bool = False) -> Tensor:
    """Finger poses of right hands, shared by a block of scenes."""
    return sample_poses(POSE_POOL, 3_000_000 + block, simple)


def drawn_pair(knobs: SceneKnobs, seed: int, rng: np.random.Generator) -> HandParameters:
    """An interacting pair; three in ten drawn apart a little."""
    pool = shipped_pairs() if knobs.pairs == "shipped" else fresh_pairs(seed // BLOCK)
    pair = pool[int(rng.integers(pool.shape.shape[0]))]
    if rng.random() < 0.3:
        gap = torch.from_numpy(rng.normal(0, 0.012, 3)).float()
        pair = HandParameters(pair.pose, pair.shape, pair.translation_m + torch.stack([gap, -gap]))
    return pair


def two_hands(knobs: SceneKnobs, seed: int, rng: np.random.Generator, present: tuple[bool, bool]) -> HandParameters:
    """Both hands in a common frame, around the origin."""
    if all(present) and rng.random() < knobs.interacting:
        return drawn_pair(knobs, seed, rng)
    pose = torch.zeros(2, 16, 3)
    pool = poses_of_block(seed // BLOCK, knobs.poses == "simple")
    fingers = pool[rng.integers(len(pool), size=2)]
    pose[1] = fingers[1]
    pose[0] = mirror_rotvec(fingers[0])
    shape = torch.from_numpy(rng.normal(0, knobs.shape_sigma, 10)).float().clamp(-2.5, 2.5)
    shape = shape + torch.from_numpy(rng.normal(0, 0.1, (2, 10))).float()
    R = random_turn(rng, 2)
    if rng.random() < 0.6:  # both hands do something alike: one is about the mirror image of the other
        mirror = torch.diag(torch.tensor([-1.0, 1, 1]))
        wobble = to_matrix(torch.from_numpy(rng.normal(0, 0.5, 3)).float())
        R = torch.stack([wobble @ mirror @ R[1] @ mirror, R[1]])
    pose[:, 0] = to_rotvec(R)
    parameters = HandParameters(pose, shape, torch.zeros(2, 3))
    points = joints_and_tips(parameters).numpy()
    direction = rng.normal(0, 1, 3) * np.array([1.0, 0.6, 0.6])
    direction = (direction / np.linalg.norm(direction)).astype(np.float32)
    apart = rng.uniform(0.03, 0.28) if knobs.framing == "close" else rng.uniform(0.05, 0.7)
    centre = points.mean(1)
    way = direction * np.float32(_far_enough(points - centre[:, None], direction, apart) / 2)
    return HandParameters(pose, shape, torch.from_numpy(np.stack([way, -way]) - centre))


@numba.njit(cache=True)
def _far_enough(points, direction, apart):
    """The distance between two hands' middles along a direction, `apart` or, if keypoints would come too near each other, more."""
    for _ in range(39):
        least = np.inf
        for i in range(points.shape[1]):
            for j in range(points.shape[1]):
                total = 0.0
                for c in range(3):
                    total += (points[0, i, c] - points[1, j, c] + apart * direction[c]) ** 2
                least = min(least, total)
        if np.sqrt(least) > 0.022:
            break
        apart += 0.012
    return apart


def moved(p: HandParameters, R: Tensor, t: Tensor) -> HandParameters:
    """The same hands after x -> R x + t. Hands turn about their wrist, so the translation has to make up for it."""
    pose, R_here = p.pose.clone(), R.numpy()
    pose.numpy()[:, 0] = to_rotvec(torch.from_numpy(R_here @ to_matrix(p.pose[:, 0]).numpy())).numpy()
    wrist = joints_at_rest(p.shape).numpy()[:, 0]
    place = (wrist + p.translation_m.numpy()) @ R_here.T + t.numpy() - wrist
    return HandParameters(pose, p.shape, torch.from_numpy(place))
