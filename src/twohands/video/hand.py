"""One hand as it is followed in the picture: where it was read, how it moves, and where it is therefore looked for next."""

import math
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from twohands.hands.parameters import HandParameters
from twohands.joints import MIDDLE_MCP
from twohands.record import Record
from twohands.regress.confidence import error_of_confidence
from twohands.schema import HandPair, Stage1Hands
from twohands.video.smooth import Filter, SmoothConfig

READ_SIZE, ASKED_SHARE = -0.096, 0.30
"""A hand that stage 1 is shown in a box of log size z (the true box's is 0) is read with log size READ_SIZE + ASKED_SHARE z: keypoints in doubt
are put where they do no great harm, inside, the more so the less of the hand the crop shows. Measured on 1,094 hands (docs/VIDEO.md)."""
MOST_ROOM = 1.4


@dataclass(frozen=True)
class Reading(Record):
    """Two hands of a person as read from one frame, before any smoothing."""

    parameters: HandParameters
    keypoint_confidence: Float[Tensor, "hand 21"]
    score: Float[Tensor, "hand"]
    seen: Bool[Tensor, "hand"]
    person: int


@dataclass
class FollowedHand:
    """Where a hand was last seen in the picture and how it moves."""

    keypoints_xy: Float[Tensor, "21 2"]
    """As last read."""
    seen_s: float
    distance_m: float
    sureness: float
    """Mean confidence of its keypoints."""
    noise: float
    """And their mean error as stage 1 states it, in tenths of the hand's size."""
    doubts: int = 0
    """Frames in a row in which its reading was not believed."""
    velocity_px_s: Float[Tensor, "2"] = field(default_factory=lambda: torch.zeros(2))
    hidden: bool = False
    """It may be behind another hand."""
    sees_other: bool = False
    """Its crop showed the person's other hand too, when it was last read."""
    room: float = math.exp(-READ_SIZE)
    """How much larger its true box is taken to be than the one of its keypoints as they are read."""
    sure_size_px: float = field(init=False)
    """How large it was in the picture when it was last read surely, or found."""
    own_odds: float = 0.0
    """Log odds that it is a hand of its own, and not the one in the same place read again. Infinite once that has been decided."""

    def __post_init__(self) -> None:
        self.begin(self.keypoints_xy, self.seen_s)

    def begin(self, keypoints_xy: Float[Tensor, "21 2"], time_s: float) -> None:
        """Puts the hand where nobody knows how it moves."""
        self.keypoints_xy, self.velocity_px_s, self.read_s = keypoints_xy, torch.zeros(2), time_s
        self.sure_size_px = self.size_px
        centre, shape = _way_numbers(keypoints_xy)
        most = (0.1 * self.size_px) ** 2
        self.way = Filter(time_s, np.concatenate([centre, shape]), np.full(2, self.noise), (2, 42), SmoothConfig(), most)

    def move(self, keypoints_xy: Float[Tensor, "21 2"], time_s: float, sure: bool) -> None:
        """Takes a reading that is believed, as far as it is sure of itself. A sure one is no slip, however little it was foreseen: hands that clap turn
        back at once."""
        self.way.step(time_s, np.concatenate(_way_numbers(keypoints_xy)), np.full(2, self.noise), np.ones(2) if sure else None)
        if time_s > self.seen_s:
            self.velocity_px_s = 0.5 * (self.velocity_px_s + (keypoints_xy.mean(0) - self.keypoints_xy.mean(0)) / (time_s - self.seen_s))
        self.keypoints_xy, self.seen_s, self.read_s, self.doubts = keypoints_xy.clone(), time_s, time_s, 0
        if sure:
            self.sure_size_px = self.size_px

    def fitted_in(self, asked_px: float, read_px: float) -> None:
        """Takes note of how large it was read in a box of a size. Boxes that were the read keypoints' own would shrink from frame to frame, to nine
        tenths of the hand, and to seven where much of it is in doubt."""
        log_room = (ASKED_SHARE * math.log(max(read_px, 1.0) / max(asked_px, 1.0)) - READ_SIZE) / (1 - ASKED_SHARE)
        self.room = math.sqrt(self.room * min(max(math.exp(log_room), 1.0), MOST_ROOM))

    def guess(self, keypoints_xy: Float[Tensor, "21 2"], time_s: float, noise: float) -> None:
        """Takes a hint of where it is, which is no reading."""
        self.way.step(time_s, np.concatenate(_way_numbers(keypoints_xy)), np.full(2, noise))

    def expected_xy(self, time_s: float) -> Float[Tensor, "21 2"]:
        if not self.hidden:
            # What is seen is where it was read, and farther ahead a speed says less and less: the way adds up to that of 0.15 s.
            ahead_s = 0.15 * (1 - math.exp(-(time_s - self.read_s) / 0.15))
            return self.keypoints_xy + self.velocity_px_s * ahead_s
        numbers = torch.from_numpy(self.way.foreseen(time_s)).float()
        return numbers[2:].view(21, 2) + numbers[:2]

    def jump(self, xy: Float[Tensor, "21 2"], time_s: float) -> float:
        """How far a reading lies from where it was expected, in sizes."""
        return float((xy - self.expected_xy(time_s)).norm(dim=-1).mean()) / self.size_px

    def growth(self, xy: Float[Tensor, "21 2"]) -> float:
        """By what factor a reading is larger or smaller, logarithm."""
        return abs(math.log(max(size_of(xy), 1.0) / self.size_px))

    def leap(self, xy: Float[Tensor, "21 2"], distance_m: float) -> float:
        """By what factor its size or its distance has changed, logarithm of the larger."""
        return max(self.growth(xy), abs(math.log(distance_m / self.distance_m)))

    @property
    def size_px(self) -> float:
        return max(size_of(self.keypoints_xy), 1.0)


def pair_at(xy: Float[Tensor, "hand 21 2"], present: Bool[Tensor, "hand"]) -> HandPair:
    """Boxes and directions of hands whose keypoints are there."""
    along = xy[:, MIDDLE_MCP] - xy[:, 0]
    # A hand that points at the camera has no direction in the picture; its fingers' tips then say more than nothing.
    short = along.norm(dim=-1) < 0.15 * (xy.amax(1) - xy.amin(1)).amax(-1).clamp_min(1.0)
    along = torch.where(short[:, None], xy[:, 1:].mean(1) - xy[:, 0], along)
    return HandPair(torch.cat([xy.amin(1), xy.amax(1)], -1), along / along.norm(dim=-1, keepdim=True).clamp_min(1e-6), present)


def roomy(pair: HandPair, room: Float[Tensor, "hand"]) -> HandPair:
    """The same pair in boxes so many times as large, about the same middle."""
    low, high = pair.box_xyxy_px[:, :2], pair.box_xyxy_px[:, 2:]
    middle, half = (low + high) / 2, (high - low) / 2 * room[:, None]
    return HandPair(torch.cat([middle - half, middle + half], -1), pair.direction, pair.present)


def distance_and_sureness(hands: Stage1Hands, side: int) -> tuple[float, float, float]:
    """How far away a hand is, how sure stage 1 is of its keypoints, and how far it says they are off."""
    sure = hands.keypoint_confidence[side]
    return max(float(hands.keypoints_m[side, :, 2].mean()), 1e-3), float(sure.mean()), float(error_of_confidence(sure).mean())


def _way_numbers(xy: Float[Tensor, "21 2"]) -> tuple[Float[np.ndarray, "2"], Float[np.ndarray, "42"]]:
    """Where a hand is, and how its keypoints lie about that."""
    centre = xy.mean(0)
    return centre.double().numpy(), (xy - centre).double().numpy().reshape(42)


def size_of(xy: Float[Tensor, "21 2"]) -> float:
    return float((xy.amax(0) - xy.amin(0)).max())
