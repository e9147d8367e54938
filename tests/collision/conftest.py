"""Posed pairs of bundled hands, some apart, some touching, some deep in one another."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor

from twohands.collision.volume import hands_shared_volume_cm3
from twohands.geometry.rotations import random_rotation, rotvec_to_matrix
from twohands.hands.bundled import load_bundled_hand, load_hand_asset
from twohands.hands.mirror import mirror_rotation
from twohands.hands.model import PosedHands


@dataclass(frozen=True)
class Pairs:
    posed: PosedHands
    shape: Tensor
    vertices_m: Tensor
    faces: Tensor
    volume_cm3: np.ndarray


@pytest.fixture(scope="session")
def pairs() -> Pairs:
    return random_pairs(100)


@pytest.fixture(scope="session")
def many_pairs() -> Pairs:
    """For shares that a few pairs would not tell."""
    return random_pairs(500)


def random_pairs(count: int) -> Pairs:
    generator = torch.Generator().manual_seed(5)
    limits = load_hand_asset().limits
    low, high = limits.limits_rad.unbind(-1)
    rotation = rotvec_to_matrix(limits.angles_to_rotvec(0.5 * (low + (high - low) * torch.rand(count, 2, 16, 3, generator=generator))))
    rotation[:, 0] = mirror_rotation(rotation[:, 0])
    rotation[:, :, 0] = random_rotation((count, 2), generator)
    shape = torch.randn(count, 2, 10, generator=generator)
    shaped = load_bundled_hand().with_shape(shape)
    away = torch.zeros(count, 2, 3)
    away[:, 1] = 0.07 * torch.randn(count, 3, generator=generator)
    posed = shaped.with_pose(rotation, away - shaped.with_pose(rotation).keypoints().mean(-2))
    vertices, faces = posed.mesh().vertices_m, load_bundled_hand().faces
    return Pairs(posed, shape, vertices, faces, hands_shared_volume_cm3(vertices, faces).numpy())
