"""Which hand is which over time: every hand keeps its person and its side, and the detector is asked only when the answer is not known.

A hand is followed by looking where it was, moved on as it moved: stage 1 needs no detector for that, nor, unless it moved otherwise, a second
look. Person and side of a hand stay what they were while it is followed, however the hands cross; what would make a hand jump, or put both hands
in one place, is not believed. The detector looks when a hand was lost, may be coming in, or for some time nobody has looked.
"""

import copy
import math
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from twohands.errors import from_extra
from twohands.geometry.camera import Camera
from twohands.hands.parameters import HandParameters
from twohands.joints import MIDDLE_MCP
from twohands.people import Candidate, keypoint_distance
from twohands.pipeline import Pipeline, Regressor
from twohands.record import Record
from twohands.regress.confidence import error_of_confidence
from twohands.regress.infer import Stage1
from twohands.schema import Detection, HandPair, Stage1Hands
from twohands.video.smooth import Filter, SmoothConfig

with from_extra("video", "following hands"):
    from scipy.optimize import linear_sum_assignment


@dataclass(frozen=True)
class TrackConfig:
    """When a hand is believed, followed, given up, and looked for. Sizes are the longer side of a hand's keypoints in the picture."""

    presence_new: float = 0.5
    """Least presence of a hand that comes in,"""
    presence_kept: float = 0.25
    """and of one that is followed: hands blurred by motion or hidden by the other one are still there."""
    largest_jump: float = 0.7
    """Farther from where it was expected, in sizes, a hand is not believed in the first frame (nor its size or distance, beyond a factor of 1 +
    this)."""
    unsure_jump: float = 0.35
    """Farther, a reading is not believed that is unsure of itself: a hidden hand is easily read from the one in front of it."""
    same_hand: float = 0.08
    """Two hands whose keypoints are nearer than this in sizes, on average, are one hand, read twice,"""
    near_hand: float = 0.25
    """and nearer than this too, if stage 1 doubts a side, or if they were expected twice as far apart: a hand that hides behind another one is
    easily read as that one."""
    coast_s: float = 0.15
    """A hand that is not believed is still looked for where it should be, so long;"""
    hidden_s: float = 0.4
    """and so long if that is behind another hand."""
    remember_s: float = 10.0
    """So long a person without hands is expected back."""
    look_every_s: float = 0.7
    """The detector looks at least so often,"""
    look_for_missing_s: float = 0.1
    """and so often while a person shows one hand or none;"""
    look_in_vain_s: float = 0.3
    """but where it found nobody new several times, the pause grows to this."""
    refused_s: float = 0.35
    """So long a detection in which stage 1 saw no hand, or none that nobody follows, is not asked about again."""
    unsure_presence: float = 0.6
    unsure_side: float = 0.3
    unsure_noise: float = 1.0
    """Below the first two of these, or above the last (the keypoints' error as stage 1 states it, in tenths of the hand's size), the detector
    looks in the next frame (but not more often than every `look_for_missing_s`)."""
    vet_frames: int = 4
    """So many frames of a person are read twice, as they are and with left and right exchanged: which reading is surer of its sides tells
    more than how sure one is. This is done again after the person's hands have met, later when the detector looks (but not more often than every
    `look_every_s`), and where stage 1 doubts a side (not more often than every `look_in_vain_s`)."""
    meet_distance: float = 0.7
    part_distance: float = 0.9
    """Hands nearer than the first of these, in sizes, have met, and farther apart than the second they have parted."""
    met_odds: float = 1.0
    """Log odds for its sides that a person keeps when its hands part: either hand may have been taken for the other."""
    side_step: float = 3.0
    """A hand's log odds for its side that one frame can add,"""
    side_bound: float = 8.0
    """and those that a person's hands can gather."""
    side_flip: float = -4.0
    """Below this, left and right of a person change places; among the first frames already below zero, and then these are read anew."""
    same_side: float = 3.0
    """A hand that comes in beside a hand of the same side is that person's other hand, unless the log odds for its side exceed this."""
    match_distance: float = 0.8
    """A detection nearer than this to where a hand was expected, in sizes, is that hand."""
    glimpse_noise: float = 1.0
    """How far, in tenths of its size, a detection's middle is off the hand's. It counts where stage 1 is no surer."""
    much_surer: float = 2.0
    """A newcomer of a hand's own side that is so many times as sure of its keypoints takes its place: that hand had gone astray."""
    look_again: float = 0.1
    """A hand whose box lies farther from the one that was asked about, by a corner and in sizes, is looked at again where it was found: off the
    middle of its crop it is read less well."""


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

    def __post_init__(self) -> None:
        self.begin(self.keypoints_xy, self.seen_s)

    def begin(self, keypoints_xy: Float[Tensor, "21 2"], time_s: float) -> None:
        """Puts the hand where nobody knows how it moves."""
        self.keypoints_xy, self.velocity_px_s, self.read_s = keypoints_xy, torch.zeros(2), time_s
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

    @property
    def size_px(self) -> float:
        return max(_size(self.keypoints_xy), 1.0)


@dataclass
class _Person:
    number: int
    side_odds: float = 0.0
    """For the sides as they are."""
    vetted: list[tuple[float, Reading, Reading]] = field(default_factory=list)
    """Time and both readings of the first frames."""
    both_read_s: float = -math.inf
    """When the sides were last exchanged to see."""
    side_doubted: bool = False
    """Stage 1 doubted a side when it last looked."""
    met: bool = False
    """The hands came together and have not parted yet."""
    entangled: list[tuple[float, Reading, float]] = field(default_factory=list)
    """Times and readings of the last meeting, and how far apart the hands were (0 where one was not believed). Should they turn out to be
    exchanged when they have parted, nobody knows which was which from their nearest on."""
    hands: list[_Hand | None] = field(default_factory=lambda: [None, None])
    seen_s: float = 0.0
    place_xy: Float[Tensor, "2"] = field(default_factory=lambda: torch.zeros(2))
    size_px: float = 1.0


@dataclass
class _View:
    """An answer of stage 1 about a person on its way to a reading."""

    person: _Person
    pair: HandPair
    """Where it was asked to look."""
    hands: Stage1Hands
    other: Stage1Hands | None
    """The answer with left and right exchanged, if that was asked for."""
    xy: Float[Tensor, "hand 21 2"]
    believed: list[bool]
    misfit: list[float]
    """How badly each hand fits to what was expected of it."""


class Tracker:
    """Follows the hands of everyone through the frames of one camera."""

    def __init__(self, pipeline: Pipeline, camera: Camera, config: TrackConfig = TrackConfig()) -> None:
        self.pipeline, self.camera, self.config = pipeline, camera, config
        self.follower = one_look(pipeline.regressor)
        # Whoever comes in is read once more in the same frame, where these hands were found.
        self.welcomer = replace(pipeline, regressor=self.follower)
        self.detections = 0
        """How often the detector was asked."""
        self.corrections: list[tuple[float, Reading]] = []
        """What should have been read at an earlier time; whoever keeps the readings takes these and empties the list."""
        self._people: list[_Person] = []
        self._looked_s = -1e9
        self._in_vain = 0
        """Looks of the detector in a row that brought nobody."""
        self._refused: list[tuple[float, Float[Tensor, 4]]] = []
        """When which boxes turned out to be no new hand."""
        self._unsure = True
        self._next = 0

    @torch.inference_mode()
    def step(self, image: UInt8[np.ndarray, "height width 3"], time_s: float) -> list[Reading]:
        """The hands of the next frame, by person. Times ascend."""
        self._forget(time_s)
        self._note_hidden(time_s)
        look, self._unsure = self._should_look(time_s), False
        strangers: Detection | None = None
        if look:
            self._looked_s, self.detections = time_s, self.detections + 1
            strangers = self._strangers(self.pipeline.detector(image), time_s)
        pixels = torch.from_numpy(image).permute(2, 0, 1)
        readings = self._follow(pixels, time_s, [p for p in self._people if any(p.hands)])
        if strangers is not None:
            joined = self._welcome(image, pixels, strangers, time_s) if len(strangers.score) else []
            self._in_vain = 0 if joined else self._in_vain + 1
            readings = [r for r in readings if r.person not in {p.number for p in joined}] + self._follow(pixels, time_s, joined)
        self._unite()
        return readings

    def skip(self) -> None:
        """A frame was lost: the next one is worth a look of the detector."""
        self._unsure = True

    def _should_look(self, time_s: float) -> bool:
        since = time_s - self._looked_s
        active = [p for p in self._people if any(p.hands)]
        missing = not active or any(None in p.hands for p in active)
        c = self.config
        lost = any(hand is not None and hand.doubts for p in active for hand in p.hands)
        pause_s = c.look_for_missing_s if lost else min(c.look_for_missing_s * 2 ** min(self._in_vain, 8), c.look_in_vain_s)
        # Rounding of time stamps must not make it every frame but one.
        return since >= c.look_every_s - 1e-3 or ((missing or self._unsure) and since >= pause_s - 1e-3)

    def _forget(self, time_s: float) -> None:
        for person in self._people:
            for side, hand in enumerate(person.hands):
                if hand is not None and hand.doubts and time_s - hand.seen_s > self._patience_s(hand, time_s):
                    person.hands[side], self._in_vain = None, 0
        self._people = [p for p in self._people if any(p.hands) or time_s - p.seen_s <= self.config.remember_s]

    def _note_hidden(self, time_s: float) -> None:
        """Hands that are read badly, or not, while another one is near."""
        for person in self._people:
            for hand in person.hands:
                if hand is not None:
                    badly = hand.doubts > 0 or hand.noise > self.config.unsure_noise
                    hand.hidden = badly and self._patience_s(hand, time_s) == self.config.hidden_s

    def _patience_s(self, hand: _Hand, time_s: float) -> float:
        """How long a hand is missed before it is given up."""
        here = hand.expected_xy(time_s).mean(0)
        for person in self._people:
            for other in person.hands:
                if other is not None and other is not hand and not other.doubts:
                    distance = float((other.expected_xy(time_s).mean(0) - here).norm())
                    if distance < 0.5 * (hand.size_px + other.size_px):
                        return self.config.hidden_s
        return self.config.coast_s

    def _follow(self, pixels: Tensor, time_s: float, people: list[_Person]) -> list[Reading]:
        """Reads the hands of these people where they are expected."""
        if not people:
            return []
        pairs = [self._pair(p, time_s) for p in people]
        twice = [p for p in people if self._should_exchange(p, time_s)]
        for person in twice:
            person.both_read_s = time_s
        exchanged = [_exchanged(pair) for p, pair in zip(people, pairs, strict=True) if p in twice]
        answers = [a.to("cpu") for a in self.follower.infer(pixels, self.camera, [*pairs, *exchanged])]
        others = {p.number: a for p, a in zip(twice, answers[len(pairs) :], strict=True)}
        views = []
        for person, pair, hands in zip(people, pairs, answers, strict=False):
            other = others.get(person.number)
            if other is not None and self._rather(person, pair, hands, other):
                pair, hands, other = _exchanged(pair), other, hands
            views.append(self._viewed(person, pair, hands, other, time_s))
        views = self._looked_again(pixels, views, time_s)
        self._drop_doubles(views, time_s)
        readings = []
        for view in views:
            reading = self._taken(view, time_s)
            self._watch(view, reading, time_s)
            if reading is not None:
                readings.append(reading)
        return readings

    def _should_exchange(self, person: _Person, time_s: float) -> bool:
        """Whether this person is to be read with left and right exchanged, too."""
        c, since = self.config, time_s - person.both_read_s + 1e-3
        looked = self._looked_s == time_s and since >= c.look_every_s
        return len(person.vetted) < c.vet_frames or looked or (person.side_doubted and since >= c.look_in_vain_s)

    def _watch(self, view: _View, reading: Reading | None, time_s: float) -> None:
        """Notes hands that meet and part."""
        c, person = self.config, view.person
        person.side_doubted = any(view.believed[side] and float(view.hands.side_correct[side]) < c.unsure_side for side in (0, 1))
        left, right = person.hands
        if left is None or right is None:
            return
        distance = float((left.keypoints_xy.mean(0) - right.keypoints_xy.mean(0)).norm()) / max(left.size_px, right.size_px)
        doubted = bool(left.doubts or right.doubts)
        if distance < c.meet_distance and not person.met:
            person.met, person.entangled = True, []
        if person.met and reading is not None:
            person.entangled.append((time_s, reading, 0.0 if doubted else distance))
        if person.met and distance > c.part_distance and not doubted:
            person.met, person.vetted, person.side_odds = False, [], c.met_odds

    def _rather(self, person: _Person, pair: HandPair, hands: Stage1Hands, other: Stage1Hands) -> bool:
        """Whether the person's hands have the other side each; they change places then, in the first frames that were read too."""
        c = self.config
        asked = pair.present
        for own, exchanged, bound in (
            (hands.side_correct[asked], other.side_correct.flip(0)[asked], c.side_step),
            (hands.presence[asked], other.presence.flip(0)[asked], 1.0),
        ):
            odds = torch.logit(own, eps=1e-3) - torch.logit(exchanged, eps=1e-3)
            person.side_odds += float(odds.clamp(-bound, bound).sum())
        person.side_odds = min(max(person.side_odds, -c.side_bound), c.side_bound)
        young = len(person.vetted) < c.vet_frames
        if person.side_odds >= (0.0 if young else c.side_flip):
            return False
        person.hands.reverse()
        person.side_odds = -person.side_odds
        if young:
            person.vetted = [(then, alternative, reading) for then, reading, alternative in person.vetted]
            self.corrections += [(then, reading) for then, reading, _ in person.vetted]
            apart, nothing = [distance for _, _, distance in person.entangled], torch.zeros(2)
            near = [k for k, distance in enumerate(apart) if distance < min(apart) + 0.1]
            unclear = person.entangled[near[0] :] if near else []
            self.corrections += [(then, replace(reading, seen=nothing.bool(), score=nothing)) for then, reading, _ in unclear]
            person.entangled = []
        return True

    def _viewed(self, person: _Person, pair: HandPair, hands: Stage1Hands, other: Stage1Hands | None, time_s: float) -> _View:
        """An answer, and which of its hands are where they can be."""
        c = self.config
        xy = self.camera.project(hands.keypoints_m)
        believed, misfit = [False, False], [0.0, 0.0]
        for side, hand in enumerate(person.hands):
            if hand is None or not pair.present[side] or not bool(xy[side].isfinite().all()):
                continue
            jump = float((xy[side] - hand.expected_xy(time_s)).norm(dim=-1).mean()) / hand.size_px
            grown = max(_size(xy[side]), 1.0) / hand.size_px
            misfit[side] = jump + abs(math.log(grown)) - math.log(float(hands.presence[side] * hands.side_correct[side]) + 1e-3)
            nearer = max(float(hands.keypoints_m[side, :, 2].mean()), 1e-3) / hand.distance_m
            leap = max(abs(math.log(grown)), abs(math.log(nearer)))
            unsure = _distance_and_sureness(hands, side)[2] > c.unsure_noise and self._patience_s(hand, time_s) == c.hidden_s
            most = c.unsure_jump if unsure else c.largest_jump
            steady = (jump < most and leap < math.log(1 + c.largest_jump)) or (hand.doubts > 1 and not unsure)
            believed[side] = float(hands.presence[side]) >= c.presence_kept and steady and self._in_view(xy[side])
        return _View(person, pair, hands, other, xy, believed, misfit)

    def _looked_again(self, pixels: Tensor, views: list[_View], time_s: float) -> list[_View]:
        """The same views, but hands that moved otherwise than they were expected to are looked at where they turned out to be. Not so hands that
        meet: there a hand that seems to be elsewhere may be the other one."""
        asked: dict[int, HandPair] = {}
        for k, view in enumerate(views):
            if view.person.met:
                continue
            own = _pair_at(view.xy, view.pair.present)
            reach = (own.box_xyxy_px[:, 2:] - own.box_xyxy_px[:, :2]).amax(-1).clamp_min(1.0)
            off = (own.box_xyxy_px - view.pair.box_xyxy_px).abs().amax(-1) / reach > self.config.look_again
            strayed = off & torch.tensor(view.believed)
            if bool(strayed.any()):
                box = torch.where(strayed[:, None], own.box_xyxy_px, view.pair.box_xyxy_px)
                asked[k] = replace(view.pair, box_xyxy_px=box, direction=torch.where(strayed[:, None], own.direction, view.pair.direction))
        answers = self.follower.infer(pixels, self.camera, list(asked.values())) if asked else []
        seen = list(views)
        for (k, pair), answer in zip(asked.items(), answers, strict=True):
            closer = self._viewed(views[k].person, pair, answer.to("cpu"), views[k].other, time_s)
            if sum(closer.believed) >= sum(views[k].believed):
                seen[k] = closer
        return seen

    def _drop_doubles(self, views: list[_View], time_s: float) -> None:
        """Where two hands were read from one, does not believe the one that fits worse to what was expected."""
        c = self.config
        every = [(view, side) for view in views for side in (0, 1)]
        for k, (a, i) in enumerate(every):
            for b, j in every[k + 1 :]:
                hand, twin = a.person.hands[i], b.person.hands[j]
                if not (a.believed[i] and b.believed[j]) or hand is None or twin is None:
                    continue
                apart = keypoint_distance(a.xy[i], b.xy[j])
                doubted = min(float(a.hands.side_correct[i]), float(b.hands.side_correct[j])) < 0.5
                collapsed = apart < 0.5 * keypoint_distance(hand.expected_xy(time_s), twin.expected_xy(time_s))
                if apart < c.same_hand or (apart < c.near_hand and (doubted or collapsed)):
                    worse, side = (a, i) if a.misfit[i] > b.misfit[j] else (b, j)
                    worse.believed[side] = False

    def _taken(self, view: _View, time_s: float) -> Reading | None:
        """What is believed of a view; the person's hands move there."""
        person, hands = view.person, view.hands
        for side, hand in enumerate(person.hands):
            if hand is None:
                continue
            if view.believed[side]:
                hand.distance_m, hand.sureness, hand.noise = _distance_and_sureness(hands, side)
                hand.move(view.xy[side], time_s, hand.noise < self.config.unsure_noise)
                sure = float(hands.presence[side]) > self.config.unsure_presence and hand.noise < self.config.unsure_noise
                self._unsure |= not (sure and float(hands.side_correct[side]) > self.config.unsure_side)
            else:
                hand.doubts += 1
                self._unsure = True
        seen = torch.tensor(view.believed)
        if not bool(seen.any()):
            return None
        self._remember(person, time_s)
        reading = _reading(hands, seen, person.number)
        if view.other is not None and len(person.vetted) < self.config.vet_frames:
            person.vetted.append((time_s, reading, _reading(view.other, seen.flip(0), person.number)))
        return reading

    def _pair(self, person: _Person, time_s: float) -> HandPair:
        """What stage 1 is asked: the keypoints' boxes and directions where they are expected."""
        left, right = person.hands
        known = [hand for hand in (left or right, right or left) if hand is not None]
        return _pair_at(torch.stack([hand.expected_xy(time_s) for hand in known]), torch.tensor([left is not None, right is not None]))

    def _in_view(self, xy: Float[Tensor, "21 2"]) -> bool:
        """At least a quarter of the keypoints lie within the picture (the principal point is taken for its centre)."""
        within = ((xy > 0) & (xy < 2 * self.camera.principal_px)).all(-1)
        return float(within.float().mean()) >= 0.25

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
        cost = np.full((count, len(followed)), 1e3)
        centre = (detection.box_xyxy_px[:, :2] + detection.box_xyxy_px[:, 2:]) / 2
        for k, (person, side) in enumerate(followed):
            hand = person.hands[side]
            assert hand is not None
            xy = hand.expected_xy(time_s)
            middle = (xy.amin(0) + xy.amax(0)) / 2
            right = detection.right_probability.clamp(0.02, 0.98)
            wrong_side = -(right if side else 1 - right).log()
            distance = (centre - middle).norm(dim=-1) / hand.size_px
            # A box that may be either hand's is that of the one that is seen.
            hidden = 0.2 if hand.doubts or hand.noise > self.config.unsure_noise else 0.0
            # Place decides; between two that are in place, the side does.
            cost[:, k] = torch.where(distance < self.config.match_distance, distance + 0.1 * wrong_side + hidden, 1e3).numpy()
        rows, columns = linear_sum_assignment(cost)
        matched = set()
        for row, column in zip(rows, columns, strict=True):
            if cost[row, column] >= 1e3:
                continue
            matched.add(int(row))
            person, side = followed[column]
            hand = person.hands[side]
            assert hand is not None
            unsure = hand.doubts > 0 or hand.noise > self.config.unsure_noise
            if unsure and self._is_own(detection.box_xyxy_px[row], hand, time_s):
                self._glimpsed(hand, detection.box_xyxy_px[row], time_s)
        self._refused = [(then, box) for then, box in self._refused if time_s - then < self.config.refused_s]
        rest = [k for k in range(count) if k not in matched and not any(_alike(detection.box_xyxy_px[k], box) for _, box in self._refused)]
        return replace(detection[rest], person=tuple(detection.person[k] for k in rest))

    def _glimpsed(self, hand: _Hand, box_xyxy_px: Float[Tensor, "4"], time_s: float) -> None:
        """Takes a detector's word for it where a hand is that is not read well; how it is turned that does not tell."""
        xy = hand.expected_xy(time_s)
        low, high = xy.amin(0), xy.amax(0)
        grown = (box_xyxy_px[2:] - box_xyxy_px[:2]).amax() / (high - low).amax().clamp_min(1.0)
        moved = (xy - (low + high) / 2) * grown + (box_xyxy_px[:2] + box_xyxy_px[2:]) / 2
        if hand.doubts and (not hand.hidden or keypoint_distance(xy, moved) > self.config.unsure_jump):
            hand.begin(moved, time_s)
        else:
            hand.guess(moved, time_s, self.config.glimpse_noise)
        if hand.doubts:
            hand.doubts = max(hand.doubts, 2)

    def _is_own(self, box_xyxy_px: Float[Tensor, "4"], hand: _Hand, time_s: float) -> bool:
        """Whether a box can be none of the other hands'."""
        middle = (box_xyxy_px[:2] + box_xyxy_px[2:]) / 2
        others = [other for person in self._people for other in person.hands if other is not None and other is not hand]
        return all(float((other.expected_xy(time_s).mean(0) - middle).norm()) > 0.5 * other.size_px for other in others)

    def _welcome(self, image: np.ndarray, pixels: Tensor, strangers: Detection, time_s: float) -> list[_Person]:
        """Gives hands that nobody follows yet to the person whom they belong to; returns those people."""
        joined: dict[int, _Person] = {}
        for candidate in self.welcomer.candidates(image, self.camera, strangers):
            for side in (0, 1):
                xy = candidate.keypoints_xy[side]
                new = bool(candidate.present[side]) and float(candidate.hands.presence[side]) >= self.config.presence_new
                if not new or self._is_followed(xy) or not self._in_view(xy):
                    continue
                person, place = self._owner(candidate, side, pixels, time_s)
                person.hands[place] = _Hand(xy.clone(), time_s, *_distance_and_sureness(candidate.hands, side))
                self._remember(person, time_s)
                joined[person.number] = person
        for box in strangers.box_xyxy_px:
            middle, reach = (box[:2] + box[2:]) / 2, self.config.match_distance * float((box[2:] - box[:2]).max())
            hands = [hand for person in joined.values() for hand in person.hands if hand is not None]
            if not any(float((hand.keypoints_xy.mean(0) - middle).norm()) < reach for hand in hands):
                self._refused.append((time_s, box))
        return list(joined.values())

    def _unite(self) -> None:
        """Two people who show one hand each, a left one here and a right one there, were one all along, if the hands are near and alike in
        size. From the next frame on they are."""
        for older in self._people:
            for younger in self._people:
                if younger.number <= older.number:
                    continue
                for side in (0, 1):
                    mine, given = older.hands[1 - side], younger.hands[side]
                    alone = older.hands[side] is None and younger.hands[1 - side] is None
                    if not alone or mine is None or given is None or mine.doubts or given.doubts:
                        continue
                    distance = float((older.place_xy - younger.place_xy).norm()) / max(mine.size_px, given.size_px)
                    if distance < 12 and 0.4 < mine.size_px / given.size_px < 2.5:
                        older.hands[side], younger.hands[side] = given, None
                        younger.seen_s = -math.inf  # nobody to wait for

    def _is_followed(self, xy: Float[Tensor, "21 2"]) -> bool:
        """The hand is one that is followed already."""
        for person in self._people:
            for hand in person.hands:
                if hand is not None and not hand.doubts and keypoint_distance(hand.keypoints_xy, xy) < self.config.near_hand:
                    return True
        return False

    def _owner(self, candidate: Candidate, side: int, pixels: Tensor, time_s: float) -> tuple[_Person, int]:
        """Whose hand this is, and on which side: of the nearest person who shows one hand of about that size (a hand that is not where it was
        expected shows no more than one that is not there); else of the last who was seen without any; else of somebody new."""
        xy = candidate.keypoints_xy[side]
        place, size = xy.mean(0), max(_size(xy), 1.0)

        def far(person: _Person) -> float:
            return float((person.place_xy - place).norm()) / max(person.size_px, size)

        sureness = _distance_and_sureness(candidate.hands, side)[1]

        def shown(person: _Person, place: int) -> bool:
            hand = person.hands[place]
            astray = hand is not None and place == side and self.config.much_surer * hand.sureness < sureness
            return hand is not None and not hand.doubts and not astray

        one_handed = [p for p in self._people if shown(p, 0) != shown(p, 1) and far(p) < 12 and 0.4 < size / p.size_px < 2.5]
        for person in sorted(one_handed, key=far):
            if not shown(person, side) or self._is_other_hand(person, candidate, side, pixels, time_s):
                return person, 1 - side if shown(person, side) else side
        # Who leaps farther than anybody can follow is still nobody new, as long as it is near.
        gone = [p for p in self._people if not any(p.hands) or (not shown(p, 0) and not shown(p, 1) and far(p) < 3)]
        if gone:
            return max(gone, key=lambda p: (p.seen_s, -far(p))), side
        person = _Person(self._next)
        self._next += 1
        self._people.append(person)
        return person, side

    def _is_other_hand(self, person: _Person, candidate: Candidate, side: int, pixels: Tensor, time_s: float) -> bool:
        """Both hands look like the same side: one of them does so by mistake, unless both are sure."""
        lost = person.hands[1 - side]
        known = _distance_and_sureness(candidate.hands, side)
        person.hands[1 - side] = _Hand(candidate.keypoints_xy[side].clone(), time_s, *known)
        (answer,) = self.follower.infer(pixels, self.camera, [self._pair(person, time_s)])
        person.hands[1 - side] = lost
        sure = torch.logit(candidate.hands.side_correct[side], eps=1e-3) - torch.logit(answer.side_correct[1 - side].cpu(), eps=1e-3)
        return float(sure) < self.config.same_side or person.side_odds < self.config.same_side


def _pair_at(xy: Float[Tensor, "hand 21 2"], present: Bool[Tensor, "hand"]) -> HandPair:
    """Boxes and directions of hands whose keypoints are there."""
    along = xy[:, MIDDLE_MCP] - xy[:, 0]
    # A hand that points at the camera has no direction in the picture; its fingers' tips then say more than nothing.
    short = along.norm(dim=-1) < 0.15 * (xy.amax(1) - xy.amin(1)).amax(-1).clamp_min(1.0)
    along = torch.where(short[:, None], xy[:, 1:].mean(1) - xy[:, 0], along)
    return HandPair(torch.cat([xy.amin(1), xy.amax(1)], -1), along / along.norm(dim=-1, keepdim=True).clamp_min(1e-6), present)


def _distance_and_sureness(hands: Stage1Hands, side: int) -> tuple[float, float, float]:
    """How far away a hand is, how sure stage 1 is of its keypoints, and how far it says they are off."""
    sure = hands.keypoint_confidence[side]
    return max(float(hands.keypoints_m[side, :, 2].mean()), 1e-3), float(sure.mean()), float(error_of_confidence(sure).mean())


def _way_numbers(xy: Float[Tensor, "21 2"]) -> tuple[Float[np.ndarray, "2"], Float[np.ndarray, "42"]]:
    """Where a hand is, and how its keypoints lie about that."""
    centre = xy.mean(0)
    return centre.double().numpy(), (xy - centre).double().numpy().reshape(42)


def _exchanged(pair: HandPair) -> HandPair:
    """The same boxes, asked for the other side each."""
    return pair.map(lambda t: t.flip(0))


def _reading(hands: Stage1Hands, seen: Bool[Tensor, "hand"], number: int) -> Reading:
    return Reading(hands.parameters, hands.keypoint_confidence, torch.where(seen, hands.presence, 0.0), seen, number)


def one_look(regressor: Regressor) -> Regressor:
    """The same stage 1, that looks once, and where the hand is expected to the fraction of a pixel: boxes that come from the frame before need no
    second pass, and glide."""
    if not isinstance(regressor, Stage1):
        return regressor
    once = copy.copy(regressor)
    once.placement = replace(regressor.placement, passes=1, on_grid=False, hidden_hands=False)
    return once


def _alike(a_xyxy: Float[Tensor, "4"], b_xyxy: Float[Tensor, "4"]) -> bool:
    """Two boxes of one thing: their corners are near."""
    return float((a_xyxy - b_xyxy).abs().max()) < 0.25 * float((a_xyxy[2:] - a_xyxy[:2]).max())


def _size(xy: Float[Tensor, "21 2"]) -> float:
    return float((xy.amax(0) - xy.amin(0)).max())
