"""The numbers that make a pair of hands."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from twohands.record import Record


@dataclass(frozen=True)
class HandParameters(Record):
    """Pose, shape and place of two hands (left, right), with MANO's meaning of every number."""

    pose: Float[Tensor, "*batch hand 16 3"]
    """Rotation vectors (radians) of the MANO16 joints relative to their parents; joint 0 is the hand's orientation in its frame."""
    shape: Float[Tensor, "*batch hand 10"]
    """Coefficients of the shape basis, in standard deviations."""
    translation_m: Float[Tensor, "*batch hand 3"]
    """Added to every point after posing; the wrist lies at J0(shape) + translation."""

    @staticmethod
    def zeros(*batch: int) -> "HandParameters":
        """Two mean hands at rest, both at the origin."""
        return HandParameters(torch.zeros(*batch, 2, 16, 3), torch.zeros(*batch, 2, 10), torch.zeros(*batch, 2, 3))
