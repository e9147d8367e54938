"""What every teacher offers: a photo in, what it says of the two hands of one person out.

Teachers are run once and their lessons kept (priors/cache.py); training reads the cache and loads none of them.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from twohands.record import Record
from twohands.schema import PriorMaps, Sample


@dataclass(frozen=True)
class Question:
    """A photo that a teacher is asked about."""

    name: str
    """By which its lesson is found again: its path below the folder of photos, or "shard.npz:12"."""
    image: UInt8[np.ndarray, "height width 3"]
    truth: Sample | None = None
    """The annotation, where there is one. A keypoint teacher takes no more from it than where the hands are."""


@dataclass(frozen=True)
class Lesson(Record):
    """What a teacher says of one photo. Axis `hand` is (left, right), the person's own sides."""

    maps: PriorMaps
    """Keypoints in pixels of the photo; segmentation and depth, if the teacher has them, over the whole photo at any resolution."""
    trust: Float[Tensor, "hand"]
    """0: nothing is said of this hand, or what is said is not to be believed; up to 1."""
    keypoints_world_m: Float[Tensor, "hand 21 3"] | None = None
    """Relative to the wrist, OpenCV axes as seen along the line of sight; None if the teacher is flat. Its size is a guess."""
    latent: Float[Tensor, "hand feature"] | None = None
    """The teacher's own features of each hand, None if it does not give them."""


class Teacher(Protocol):
    """Any teacher."""

    def describe(self) -> dict[str, str]:
        """Its name, and what else decides its answers (sha256 of its files): a cache belongs to exactly one."""
        ...

    def __call__(self, question: Question) -> Lesson: ...


def silent_maps() -> PriorMaps:
    """The maps of a teacher that sees no hand."""
    return PriorMaps(torch.zeros(2, 21, 2), torch.zeros(2, 21), None, None, torch.zeros(2, 21))
