"""Which hand is which over time: every hand keeps its person and its side, and the detector is asked only when the answer is not known.

A hand is followed by looking where it was, moved on as it moved: stage 1 needs no detector for that, nor a second look. Person and side of a
hand stay what they were while it is followed, however the hands cross; what would make a hand jump, or put both hands in one place, is not
believed. The detector looks when a hand was lost, may be coming in, or for some time nobody has looked.
"""

import copy
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from twohands.geometry.camera import Camera
from twohands.hands.parameters import HandParameters
from twohands.joints import MIDDLE_MCP
from twohands.pipeline import Candidate, Pipeline, Regressor
from twohands.record import Record
from twohands.regress.infer import Stage1
from twohands.schema import Detection, HandPair


@dataclass(frozen=True)
class TrackConfig:
    """When a hand is believed, followed, given up, and looked for. Sizes are the longer side of a hand's keypoints in the picture."""

    presence_new: float = 0.5
    """Least presence of a hand that comes in,"""
    presence_kept: float = 0.25
    """and of one that is followed: hands blurred by motion or hidden by the other one are still there."""
    largest_jump: float = 0.7
    """Farther from where it was expected, in sizes, a hand is not believed in the first frame (nor its size, beyond a factor of 1 + this)."""
    same_hand: float = 0.06
    """Both hands' keypoints nearer than this in sizes, on average, are one hand, read twice,"""
    near_hand: float = 0.2
    """and nearer than this too, if stage 1 doubts a side."""
    coast_s: float = 0.12
    """A hand that is not believed is still looked for where it should be, so long."""
    remember_s: float = 10.0
    """So long a person without hands is expected back."""
    look_every_s: float = 0.7
    """The detector looks at least so often,"""
    look_for_missing_s: float = 0.1
    """and so often while a person shows one hand or none."""
    unsure_presence: float = 0.6
    unsure_side: float = 0.3
    """Below these the detector looks in the next frame (but not more often than every `look_for_missing_s`)."""
    side_bound: float = 8.0
    """Log odds of a side that gather over time; nothing makes a side surer than this,"""
    side_step: float = 1.5
    """and no frame adds more."""
    side_flip: float = -4.0
    """Below this, left and right of a person change places: the first frames were wrong."""
    match_distance: float = 0.8
    """A detection nearer than this to where a hand was expected, in sizes, is that hand."""
    memory: float = 0.5
    """How much of the last speed is kept when the next is known."""


@dataclass(frozen=True)
class Reading(Record):
    """Two hands of a person as read from one frame, before any smoothing."""

    parameters: HandParameters
    keypoint_confidence: Float[Tensor, "hand 21"]
    score: Float[Tensor, "hand"]
    seen: Bool[Tensor, "hand"]
    person: int


@dataclass
class _Hand:
    """Where a hand was last seen in the picture and how it moves."""

    keypoints_xy: Float[Tensor, "21 2"]
    velocity_px_s: Float[Tensor, "2"]
    seen_s: float
    side_odds: float
    doubts: int = 0
    """Frames in a row in which its reading was not believed."""

    def expected_xy(self, time_s: float) -> Float[Tensor, "21 2"]:
        return self.keypoints_xy + self.velocity_px_s * min(time_s - self.seen_s, 0.1)

    @property
    def size_px(self) -> float:
        return max(_size(self.keypoints_xy), 1.0)


@dataclass
class _Person:
    number: int
    hands: list[_Hand | None] = field(default_factory=lambda: [None, None])
    seen_s: float = 0.0
    place_xy: Float[Tensor, "2"] = field(default_factory=lambda: torch.zeros(2))
    size_px: float = 1.0


class Tracker:
    """Follows the hands of everyone through the frames of one camera."""

    def __init__(self, pipeline: Pipeline, camera: Camera, config: TrackConfig = TrackConfig()) -> None:
        self.pipeline, self.camera, self.config = pipeline, camera, config
        self.follower = one_look(pipeline.regressor)
        self.detections = 0
        """How often the detector was asked."""
        self._people: list[_Person] = []
        self._looked_s = -1e9
        self._unsure = True
        self._next = 0

    @torch.inference_mode()
    def step(self, image: UInt8[np.ndarray, "height width 3"], time_s: float) -> list[Reading]:
        """The hands of the next frame, by person. Times ascend."""
        self._forget(time_s)
        strangers: Detection | None = None
        if self._should_look(time_s):
            self._looked_s, self.detections = time_s, self.detections + 1
            strangers = self._strangers(self.pipeline.detector(image), time_s)
        pixels = torch.from_numpy(image).permute(2, 0, 1).float() / 255
        readings = self._follow(pixels, time_s)
        if strangers is not None and len(strangers.score):
            readings = self._welcome(image, strangers, readings, time_s)
        return readings

    def skip(self) -> None:
        """A frame was lost: the next one is worth a look of the detector."""
        self._unsure = True

    def _should_look(self, time_s: float) -> bool:
        since = time_s - self._looked_s
        active = [p for p in self._people if any(p.hands)]
        missing = not active or any(None in p.hands for p in active)
        # Rounding of time stamps must not make it every frame but one.
        return since >= self.config.look_every_s - 1e-3 or ((missing or self._unsure) and since >= self.config.look_for_missing_s - 1e-3)

    def _forget(self, time_s: float) -> None:
        for person in self._people:
            for side, hand in enumerate(person.hands):
                if hand is not None and time_s - hand.seen_s > self.config.coast_s and hand.doubts:
                    person.hands[side] = None
        self._people = [p for p in self._people if any(p.hands) or time_s - p.seen_s <= self.config.remember_s]

    def _follow(self, pixels: Tensor, time_s: float) -> list[Reading]:
        """Reads every hand that is followed where it is expected."""
        people = [p for p in self._people if any(p.hands)]
        self._unsure = False
        if not people:
            return []
        pairs = [self._pair(p, time_s) for p in people]
        readings = []
        for person, pair, answer in zip(people, pairs, self.follower.infer(pixels, self.camera, pairs), strict=True):
            hands = answer.to("cpu")
            xy = self.camera.project(self.pipeline.network_hand.pose_hands(hands.parameters).keypoints())
            believed = self._believed(person, pair.present, xy, hands.presence, hands.side_correct, time_s)
            flip = 0.0
            for side in (0, 1):
                hand = person.hands[side]
                if hand is None:
                    continue
                if believed[side]:
                    odds = float(torch.logit(hands.side_correct[side], eps=1e-3).clamp(-self.config.side_step, self.config.side_step))
                    hand.side_odds = min(hand.side_odds + odds, self.config.side_bound)
                    self._move(hand, xy[side], time_s)
                    sure = float(hands.presence[side]) > self.config.unsure_presence
                    self._unsure |= not (sure and float(hands.side_correct[side]) > self.config.unsure_side)
                else:
                    hand.doubts += 1
                    self._unsure = True
                flip += hand.side_odds
            seen = torch.tensor(believed)
            if seen.any():
                self._remember(person, time_s)
                score = torch.where(seen, hands.presence, 0.0)
                readings.append(Reading(hands.parameters, hands.keypoint_confidence, score, seen, person.number))
            if flip < self.config.side_flip:
                person.hands.reverse()
                for turned in person.hands:
                    if turned is not None:
                        turned.side_odds = 0.0
        return readings

    def _pair(self, person: _Person, time_s: float) -> HandPair:
        """What stage 1 is asked: the keypoints' boxes and directions where they are expected."""
        boxes, directions = torch.zeros(2, 4), torch.tensor([[0.0, -1.0]]).repeat(2, 1)
        for side, hand in enumerate(person.hands):
            known = hand or person.hands[1 - side]
            assert known is not None
            xy = known.expected_xy(time_s)
            boxes[side] = torch.cat([xy.amin(0), xy.amax(0)])
            along = xy[MIDDLE_MCP] - xy[0]
            # A hand that points at the camera has no direction in the picture; its fingers' tips then say more than nothing.
            if float(along.norm()) < 0.15 * known.size_px:
                along = xy[1:].mean(0) - xy[0]
            directions[side] = along / along.norm().clamp_min(1e-6)
        return HandPair(boxes, directions, torch.tensor([hand is not None for hand in person.hands]))

    def _believed(
        self, person: _Person, present: Tensor, xy: Float[Tensor, "hand 21 2"], presence: Tensor, side_correct: Tensor, time_s: float
    ) -> list[bool]:
        """Which hands of a followed person are where they were read."""
        c = self.config
        believed = [False, False]
        jump = [0.0, 0.0]
        for side, hand in enumerate(person.hands):
            if hand is None or not present[side]:
                continue
            size = _size(xy[side])
            jump[side] = float((xy[side] - hand.expected_xy(time_s)).norm(dim=-1).mean()) / hand.size_px
            like = 1 / (1 + c.largest_jump) < size / hand.size_px < 1 + c.largest_jump
            steady = (jump[side] < c.largest_jump and like) or hand.doubts > 1
            inside = self._in_view(xy[side])
            believed[side] = bool(xy[side].isfinite().all()) and float(presence[side]) >= c.presence_kept and steady and inside
        if all(believed):
            apart = float((xy[0] - xy[1]).norm(dim=-1).mean()) / max(_size(xy[0]), _size(xy[1]), 1.0)
            doubted = float(side_correct.min()) < 0.5
            if apart < c.same_hand or (apart < c.near_hand and doubted):
                # One hand, read twice. It is the one that moved least from where it was expected.
                believed[int(jump[1] < jump[0])] = False
                self._unsure = True
        return believed

    def _in_view(self, xy: Float[Tensor, "21 2"]) -> bool:
        """At least a quarter of the keypoints lie within the picture (the principal point is taken for its centre)."""
        within = ((xy > 0) & (xy < 2 * self.camera.principal_px)).all(-1)
        return float(within.float().mean()) >= 0.25

    def _move(self, hand: _Hand, xy: Float[Tensor, "21 2"], time_s: float) -> None:
        step_s = time_s - hand.seen_s
        if step_s > 0:
            speed = (xy.mean(0) - hand.keypoints_xy.mean(0)) / step_s
            hand.velocity_px_s = self.config.memory * hand.velocity_px_s + (1 - self.config.memory) * speed
        hand.keypoints_xy, hand.seen_s, hand.doubts = xy.clone(), time_s, 0

    def _remember(self, person: _Person, time_s: float) -> None:
        there = [hand for hand in person.hands if hand is not None]
        person.seen_s = time_s
        person.place_xy = torch.stack([hand.keypoints_xy.mean(0) for hand in there]).mean(0)
        person.size_px = max(hand.size_px for hand in there)

    def _strangers(self, detection: Detection, time_s: float) -> Detection:
        """The detections that are none of the hands that are followed. A hand that went astray takes its own detection's place."""
        detection = detection.to("cpu")
        count = len(detection.score)
        followed = [(p, side) for p in self._people for side in (0, 1) if p.hands[side] is not None]
        if not count or not followed:
            return detection
        cost = np.full((count, len(followed)), 1e3)
        centre = (detection.box_xyxy_px[:, :2] + detection.box_xyxy_px[:, 2:]) / 2
        size = (detection.box_xyxy_px[:, 2:] - detection.box_xyxy_px[:, :2]).amax(-1)
        for k, (person, side) in enumerate(followed):
            hand = person.hands[side]
            assert hand is not None
            xy = hand.expected_xy(time_s)
            middle = (xy.amin(0) + xy.amax(0)) / 2
            right = detection.right_probability.clamp(0.02, 0.98)
            wrong_side = -(right if side else 1 - right).log()
            distance = (centre - middle).norm(dim=-1) / hand.size_px
            # Place decides; between two that are in place, the side does.
            cost[:, k] = torch.where(distance < self.config.match_distance, distance + 0.1 * wrong_side, 1e3).numpy()
        rows, columns = linear_sum_assignment(cost)
        matched = set()
        for row, column in zip(rows, columns, strict=True):
            if cost[row, column] >= 1e3:
                continue
            matched.add(int(row))
            person, side = followed[column]
            hand = person.hands[side]
            assert hand is not None
            if hand.doubts:
                shift = centre[row] - (hand.keypoints_xy.amin(0) + hand.keypoints_xy.amax(0)) / 2
                scale = float(size[row]) / hand.size_px
                middle = hand.keypoints_xy.mean(0)
                hand.keypoints_xy = (hand.keypoints_xy - middle) * scale + middle + shift
                hand.velocity_px_s = torch.zeros(2)
                hand.doubts = max(hand.doubts, 2)
        rest = [k for k in range(count) if k not in matched]
        return replace(detection[rest], person=tuple(detection.person[k] for k in rest))

    def _welcome(self, image: np.ndarray, strangers: Detection, readings: list[Reading], time_s: float) -> list[Reading]:
        """Reads hands that nobody follows yet and gives them to the person whom they belong to."""
        by_person = {reading.person: reading for reading in readings}
        for candidate in self.pipeline.candidates(image, self.camera, strangers):
            for side in (0, 1):
                new = bool(candidate.present[side]) and float(candidate.hands.presence[side]) >= self.config.presence_new
                if not new or self._is_followed(candidate.keypoints_xy[side]) or not self._in_view(candidate.keypoints_xy[side]):
                    continue
                person = self._owner(candidate, side, time_s)
                odds = float(torch.logit(candidate.hands.side_correct[side], eps=1e-3).clamp(-2, 2))
                xy = candidate.keypoints_xy[side].clone()
                person.hands[side] = _Hand(xy, torch.zeros(2), time_s, odds)
                self._remember(person, time_s)
                by_person[person.number] = _with_hand(by_person.get(person.number), candidate, side, person.number)
        return list(by_person.values())

    def _is_followed(self, xy: Float[Tensor, "21 2"]) -> bool:
        """The hand is one that is followed already."""
        for person in self._people:
            for hand in person.hands:
                if hand is not None and not hand.doubts:
                    apart = float((hand.keypoints_xy - xy).norm(dim=-1).mean()) / max(hand.size_px, _size(xy))
                    if apart < self.config.near_hand:
                        return True
        return False

    def _owner(self, candidate: Candidate, side: int, time_s: float) -> _Person:
        """Who lacks this hand: the other hand of the candidate decides, else the nearest who shows one hand of about that size, else the last
        who was seen without any; else somebody new."""
        xy = candidate.keypoints_xy[side]
        place, size = xy.mean(0), max(_size(xy), 1.0)
        lacking = [p for p in self._people if p.hands[side] is None]

        def far(person: _Person) -> float:
            return float((person.place_xy - place).norm()) / max(person.size_px, size)

        just_in = [p for p in lacking if p.hands[1 - side] is not None and p.hands[1 - side].seen_s == time_s]  # type: ignore[union-attr]
        partners = [p for p in just_in if _same_place(p.hands[1 - side], candidate.keypoints_xy[1 - side])]
        showing = [p for p in lacking if any(p.hands) and far(p) < 12 and 0.4 < size / p.size_px < 2.5]
        gone = [p for p in lacking if not any(p.hands)]
        if partners:
            return partners[0]
        if showing:
            return min(showing, key=far)
        if gone:
            return max(gone, key=lambda p: (p.seen_s, -far(p)))
        person = _Person(self._next)
        self._next += 1
        self._people.append(person)
        return person


def one_look(regressor: Regressor) -> Regressor:
    """The same stage 1, that looks once: boxes that come from the frame before need no second pass."""
    if not isinstance(regressor, Stage1):
        return regressor
    once = copy.copy(regressor)
    once.placement = replace(regressor.placement, passes=1)
    return once


def _with_hand(reading: Reading | None, candidate: Candidate, side: int, number: int) -> Reading:
    """The reading of a person with one hand more."""
    if reading is None:
        seen = torch.zeros(2, dtype=torch.bool)
        seen[side] = True
        score = torch.where(seen, candidate.hands.presence, 0.0)
        return Reading(candidate.hands.parameters, candidate.hands.keypoint_confidence, score, seen, number)
    chosen = torch.arange(2) == side
    p, q = reading.parameters, candidate.hands.parameters
    parameters = HandParameters(
        torch.where(chosen[:, None, None], q.pose, p.pose),
        torch.where(chosen[:, None], q.shape, p.shape),
        torch.where(chosen[:, None], q.translation_m, p.translation_m),
    )
    confidence = torch.where(chosen[:, None], candidate.hands.keypoint_confidence, reading.keypoint_confidence)
    score = torch.where(chosen, candidate.hands.presence, reading.score)
    return Reading(parameters, confidence, score, reading.seen | chosen, number)


def _same_place(hand: _Hand | None, xy: Float[Tensor, "21 2"]) -> bool:
    return hand is not None and float((hand.keypoints_xy - xy).norm(dim=-1).mean()) < 1e-3 * hand.size_px


def _size(xy: Float[Tensor, "21 2"]) -> float:
    return float((xy.amax(0) - xy.amin(0)).max())
