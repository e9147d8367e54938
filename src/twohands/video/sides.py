"""Which of a person's hands is the left one: evidence of frames that are read twice, as they are and with left and right exchanged.

Which reading is surer of its sides tells more than how sure one is. Hands that are apart cannot change places; where they met they may have,
and then what was known before counts little."""

import math
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Bool
from torch import Tensor

from twohands.schema import HandPair, Stage1Hands
from twohands.video.hand import FollowedHand, Reading

Correction = tuple[float, Reading]
"""What should have been read, and when."""


@dataclass(frozen=True)
class SideConfig:
    """When a person is read twice, and when left and right change places. Distances in sizes of the hand."""

    vet_frames: int = 4
    """So many first frames are read twice, and as many after the person's hands have met; later this is done when the detector looks, but not more
    often than every `look_every_s`,"""
    look_every_s: float = 0.7
    look_doubted_s: float = 0.3
    """and where stage 1 doubts a side not more often than this."""
    doubted: float = 0.3
    """Below this, stage 1 doubts a side."""
    meet_distance: float = 0.7
    part_distance: float = 0.9
    """Hands nearer than the first of these have met, and farther apart than the second they have parted."""
    met_odds: float = 1.0
    """Log odds for its sides that a person keeps when its hands part: either hand may have been taken for the other."""
    step: float = 3.0
    """A hand's log odds for its side that one frame can add,"""
    bound: float = 8.0
    """and those that a person's hands can gather."""
    flip: float = -4.0
    """Below this, left and right of a person change places; among the first frames already below zero, and then these are read anew."""


def exchanged(pair: HandPair) -> HandPair:
    """The same boxes, asked for the other side each."""
    return pair.map(lambda t: t.flip(0))


def evidence(asked: Bool[Tensor, "hand"], hands: Stage1Hands, other: Stage1Hands, step: float) -> float:
    """Log odds for the sides as they are that an answer and the one with left and right exchanged give together."""
    total = 0.0
    for own, mirrored, bound in (
        (hands.side_correct[asked], other.side_correct.flip(0)[asked], step),
        (hands.presence[asked], other.presence.flip(0)[asked], 1.0),
    ):
        odds = torch.logit(own, eps=1e-3) - torch.logit(mirrored, eps=1e-3)
        total += float(odds.clamp(-bound, bound).sum())
    return total


@dataclass
class Sides:
    """What is believed of one person's sides."""

    config: SideConfig
    odds: float = 0.0
    """For the sides as they are."""
    vetted: list[tuple[float, Reading, Reading]] = field(default_factory=list)
    """Time and both readings of the first frames."""
    both_read_s: float = -math.inf
    """When the sides were last exchanged to see."""
    doubted: bool = False
    """Stage 1 doubted a side when it last looked."""
    met: bool = False
    """The hands came together and have not parted yet."""
    entangled: list[tuple[float, Reading, float]] = field(default_factory=list)
    """Times and readings of the last meeting, and how far apart the hands were (0 where one was not believed). Should they turn out to be
    exchanged when they have parted, nobody knows which was which from their nearest on."""

    def should_exchange(self, time_s: float, looked: bool) -> bool:
        """Whether the person is to be read with left and right exchanged, too. `looked`: the detector looks at this frame."""
        c, since = self.config, time_s - self.both_read_s + 1e-3
        return len(self.vetted) < c.vet_frames or (looked and since >= c.look_every_s) or (self.doubted and since >= c.look_doubted_s)

    def weigh(self, asked: Bool[Tensor, "hand"], hands: Stage1Hands, other: Stage1Hands) -> list[Correction] | None:
        """Takes both answers about a frame. None: the sides are right. Else they are exchanged from now on, and this should have been read before."""
        c = self.config
        self.odds = min(max(self.odds + evidence(asked, hands, other, c.step), -c.bound), c.bound)
        young = len(self.vetted) < c.vet_frames
        if self.odds >= (0.0 if young else c.flip):
            return None
        self.odds = -self.odds
        if not young:
            return []
        self.vetted = [(then, alternative, reading) for then, reading, alternative in self.vetted]
        corrections = [(then, reading) for then, reading, _ in self.vetted]
        apart, nothing = [distance for _, _, distance in self.entangled], torch.zeros(2)
        near = [k for k, distance in enumerate(apart) if distance < min(apart) + 0.1]
        unclear = self.entangled[near[0] :] if near else []
        corrections += [(then, replace(reading, seen=nothing.bool(), score=nothing)) for then, reading, _ in unclear]
        self.entangled = []
        return corrections

    def note(self, time_s: float, reading: Reading, mirrored: Reading | None) -> None:
        """Keeps what was read of a frame, and what with left and right exchanged."""
        if mirrored is not None and len(self.vetted) < self.config.vet_frames:
            self.vetted.append((time_s, reading, mirrored))

    def watch(self, time_s: float, left: FollowedHand, right: FollowedHand, reading: Reading | None) -> None:
        """Notes hands that meet and part."""
        c = self.config
        distance = float((left.keypoints_xy.mean(0) - right.keypoints_xy.mean(0)).norm()) / max(left.size_px, right.size_px)
        missed = bool(left.doubts or right.doubts)
        if distance < c.meet_distance and not self.met:
            self.met, self.entangled = True, []
        if self.met and reading is not None:
            self.entangled.append((time_s, reading, 0.0 if missed else distance))
        if self.met and distance > c.part_distance and not missed:
            self.met, self.vetted, self.odds = False, [], c.met_odds
