"""Which of a person's hands is the left one: evidence of frames that are read twice, as they are and with left and right exchanged.

Which reading is surer of its sides tells more than how sure one is, and a place that shows no hand tells nothing. Evidence adds up over time, and what
was believed at first may be outvoted: then what was read meanwhile is exchanged too, as far as it was read both ways, and forgotten where it was
not. Hands that are apart cannot change places; where they met they may have, and then what was known before counts little."""

import math
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from twohands.schema import HandPair, Stage1Hands
from twohands.video.hand import FollowedHand, Reading

Correction = tuple[float, Reading]
"""What should have been read, and when."""


@dataclass(frozen=True)
class SideConfig:
    """When a person is read twice, and when left and right change places. Distances in sizes of the hand."""

    vet_frames: int = 4
    """So many first frames are read twice, and as many after the person's hands have met,"""
    vet_least: int = 3
    """or so many, if then all evidence that counts has been gathered;"""
    decided: float = 3.0
    undecided_s: float = 0.1
    """as long as the log odds for the sides are below the first of these, so often;"""
    look_every_s: float = 0.7
    """later when the detector looks, but not more often than this,"""
    look_doubted_s: float = 0.3
    """and where stage 1 doubts a side not more often than this."""
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
    """Below this, left and right of a person change places; among the first frames already below zero. That is far from what is believed then,
    so that divided evidence does not exchange them to and fro."""
    remember_s: float = 60.0
    """What was read longer ago is not taken back."""


def exchanged(pair: HandPair) -> HandPair:
    """The same boxes, asked for the other side each."""
    return pair.map(lambda t: t.flip(0))


def side_log_odds(hands: Stage1Hands) -> Float[Tensor, "hand"]:
    """Log odds for the side of each hand. Where there may be no hand, stage 1's word for its side is as far a guess."""
    return torch.logit(0.5 + hands.presence * (hands.side_correct - 0.5), eps=1e-3)


def evidence(asked: Bool[Tensor, "hand"], hands: Stage1Hands, mirrored: Stage1Hands, step: float) -> float:
    """Log odds for the sides as they are that an answer and the one with left and right exchanged give together. Of one hand plainly seen and one that
    is not there the first decides."""
    side = side_log_odds(hands) - side_log_odds(mirrored).flip(0)
    presence = hands.presence - mirrored.presence.flip(0)
    return float((side.clamp(-step, step) + presence)[asked].sum())


@dataclass
class Moment:
    """What was read of a frame."""

    time_s: float
    taken: Reading | None
    mirrored: Reading | None
    """With left and right exchanged. None, of either: not read so."""

    @property
    def correction(self) -> Correction:
        """What is believed of it, which may be nothing."""
        return self.time_s, self.taken or forgotten(self.mirrored)


def forgotten(reading: Reading | None) -> Reading:
    """A reading of which nothing is believed."""
    assert reading is not None, "a frame was read one way at least"
    nothing = torch.zeros(2)
    return replace(reading, seen=nothing.bool(), score=nothing)


@dataclass
class Sides:
    """What is believed of one person's sides."""

    config: SideConfig
    odds: float = 0.0
    """For the sides as they are."""
    looks: int = 0
    """Frames that were read twice since the person came, or since the hands parted,"""
    trail: list[Moment] = field(default_factory=list)
    """and all that were read since."""
    best: float = -math.inf
    """The highest odds since then."""
    turn: int = 0
    """The trail up to here bore the sides out."""
    both_read_s: float = -math.inf
    """When the sides were last exchanged to see."""
    doubted: bool = False
    """Stage 1 doubted a side when it last looked."""
    met: bool = False
    """The hands came together and have not parted yet."""
    entangled: list[tuple[float, Reading, float]] = field(default_factory=list)
    """Times and readings of the last meeting, and how far apart the hands were (0 where one was not believed). Should they turn out to be
    exchanged when they have parted, nobody knows which was which from their nearest on."""

    @property
    def known(self) -> bool:
        """The first frames were read both ways."""
        c = self.config
        return self.looks >= (c.vet_least if self.odds >= c.bound else c.vet_frames)

    def should_exchange(self, time_s: float, looked: bool) -> bool:
        """Whether the person is to be read with left and right exchanged, too. `looked`: the detector looks at this frame."""
        c, since = self.config, time_s - self.both_read_s + 1e-3
        if not self.known:
            return True
        pauses = [c.undecided_s] * (self.odds < c.decided) + [c.look_doubted_s] * self.doubted + [c.look_every_s] * looked
        return since >= min(pauses, default=math.inf)

    def weigh(self, asked: Bool[Tensor, "hand"], hands: Stage1Hands, mirrored: Stage1Hands) -> list[Correction] | None:
        """Takes both answers about a frame. None: the sides are right. Else they are exchanged from now on, and this should have been read before."""
        c = self.config
        self.odds = min(max(self.odds + evidence(asked, hands, mirrored, c.step), -c.bound), c.bound)
        if self.odds >= self.best:
            self.best, self.turn = self.odds, len(self.trail) + 1
        if self.odds >= (c.flip if self.known else 0.0):
            return None
        # Hands that have not met since were never exchanged: they had these sides all along. So they may have where nothing was decided.
        turned = self.turn if self.met and self.best >= c.decided else 0
        self.odds = self.best = -self.odds
        wrong = self.trail[turned:]
        self.trail[turned:] = [Moment(m.time_s, m.mirrored, m.taken) for m in wrong]
        corrections = [m.correction for m in self.trail[turned:]]
        if not self.met:
            corrections += [(then, forgotten(reading)) for then, reading in self._unclear()]
        return corrections

    def _unclear(self) -> list[tuple[float, Reading]]:
        """Readings of the last meeting from the hands' nearest on."""
        apart = [distance for _, _, distance in self.entangled]
        near = [k for k, distance in enumerate(apart) if distance < min(apart) + 0.1]
        unclear, self.entangled = self.entangled[near[0] :] if near else [], []
        return [(then, reading) for then, reading, _ in unclear]

    def note(self, time_s: float, reading: Reading, mirrored: Reading | None) -> None:
        """Keeps what was read of a frame, and what with left and right exchanged."""
        self.looks += mirrored is not None
        self.trail.append(Moment(time_s, reading, mirrored))
        # Somebody may sit before a camera for hours.
        if time_s - self.trail[0].time_s > self.config.remember_s:
            del self.trail[0]
            self.turn = max(self.turn - 1, 0)

    def watch(self, time_s: float, left: FollowedHand, right: FollowedHand, reading: Reading | None) -> None:
        """Notes hands that meet and part."""
        c = self.config
        distance = float((left.keypoints_xy.mean(0) - right.keypoints_xy.mean(0)).norm()) / max(left.size_px, right.size_px)
        missed = bool(left.doubts or right.doubts)
        if distance < c.meet_distance and not self.met:
            self.met, self.entangled = True, []
        if self.met and reading is not None:
            self.entangled.append((time_s, reading, 0.0 if missed else distance))
            if time_s - self.entangled[0][0] > c.remember_s:
                del self.entangled[0]
        if self.met and distance > c.part_distance and not missed:
            self.met, self.odds = False, c.met_odds
            self.looks, self.trail, self.best, self.turn = 0, [], -math.inf, 0
