"""Which hand is which over time: every hand keeps its person and its side, and the detector is asked only when the answer is not known.

A hand is followed by looking where it was, moved on as it moved: stage 1 needs no detector for that, nor, unless it moved otherwise, a second
look. Person and side of a hand stay what they were while it is followed, however the hands cross, unless the evidence for its side (`sides.py`) turns
against it; what would make a hand jump, or put both hands in one place, is not believed. The detector looks when a hand was lost, may be coming in,
or for some time nobody has looked.
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
from twohands.people import Candidate, boxes_in_one_place, keypoint_distance
from twohands.pipeline import Pipeline, Regressor
from twohands.regress.infer import Stage1
from twohands.schema import Detection, HandPair, Stage1Hands
from twohands.video.hand import FollowedHand, Reading, distance_and_sureness, pair_at, roomy, size_of
from twohands.video.sides import SideConfig, Sides, exchanged, side_log_odds

with from_extra("video", "following hands"):
    from scipy.optimize import linear_sum_assignment

RELATIVE_M = 0.03
"""Error of the relative translation that stage 1 predicts of a followed pair, twice a photo's: each hand of a film has a distance of its own, known
from the frames before, and a hand that hides is not to be drawn to the other one."""


@dataclass(frozen=True)
class TrackConfig:
    """When a hand is believed, followed, given up, and looked for. Sizes are the longer side of a hand's keypoints in the picture."""

    presence_new: float = 0.5
    """Least presence of a hand that comes in,"""
    presence_kept: float = 0.25
    """and of one that is followed: hands blurred by motion or hidden by the other one are still there."""
    largest_jump: float = 0.7
    """Farther from where it was expected, in sizes, a hand is not believed in the first frame (nor its size or distance, beyond a factor of 1 +
    this); nor an unsure reading ever whose size is off by that factor from the last sure one's."""
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
    same_side: float = 3.0
    """A hand that comes in beside a hand of the same side is that person's other hand, unless the log odds for its side exceed this."""
    match_distance: float = 0.8
    """A detection nearer than this to where a hand was expected, in sizes, is that hand."""
    glimpse_noise: float = 1.0
    """How far, in tenths of its size, a detection's middle is off the hand's. It counts where stage 1 is no surer."""
    much_surer: float = 2.0
    """A newcomer of a hand's own side that is so many times as sure of its keypoints takes its place: that hand had gone astray."""
    better_read: float = 1.25
    """One in the same place is that hand, read in another box, and takes its place if stage 1 states so many times smaller an error for it."""
    outgrown: float = 1.35
    """A hand in the open whose detection is so many times as large as its box, or as small, is read there too."""
    look_again: float = 0.1
    """A hand whose box lies farther from the one that was asked about, by a corner and in sizes, is looked at again where it was found: off the
    middle of its crop it is read less well."""
    sides: SideConfig = field(default_factory=SideConfig)


@dataclass
class _Person:
    number: int
    sides: Sides
    hands: list[FollowedHand | None] = field(default_factory=lambda: [None, None])
    seen_s: float = 0.0
    place_xy: Float[Tensor, "2"] = field(default_factory=lambda: torch.zeros(2))
    size_px: float = 1.0

    def rooms(self) -> Float[Tensor, "hand"]:
        """How much larger than its keypoints' box each hand's is; an absent one's is kept."""
        return torch.tensor([1.0 if hand is None else hand.room for hand in self.hands])

    def exchange(self) -> None:
        """Left and right change places. That a hand showed the other one's side then says nothing any more."""
        self.hands.reverse()
        for hand in self.hands:
            if hand is not None:
                hand.own_odds = 0.0


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
                    hand.hidden = badly and self._is_met(hand, time_s)

    def _patience_s(self, hand: FollowedHand, time_s: float) -> float:
        """How long a hand is missed before it is given up."""
        return self.config.hidden_s if self._is_met(hand, time_s) else self.config.coast_s

    def _is_met(self, hand: FollowedHand, time_s: float) -> bool:
        """Whether another hand is near, behind which it may be."""
        here = hand.expected_xy(time_s).mean(0)
        for person in self._people:
            for other in person.hands:
                if other is not None and other is not hand and not other.doubts:
                    distance = float((other.expected_xy(time_s).mean(0) - here).norm())
                    if distance < 0.5 * (hand.size_px + other.size_px):
                        return True
        return False

    def _follow(self, pixels: Tensor, time_s: float, people: list[_Person]) -> list[Reading]:
        """Reads the hands of these people where they are expected."""
        if not people:
            return []
        pairs = [self._pair(p, time_s) for p in people]
        twice = [p for p in people if p.sides.should_exchange(time_s, looked=self._looked_s == time_s)]
        for person in twice:
            person.sides.both_read_s = time_s
        mirrored = [exchanged(pair) for p, pair in zip(people, pairs, strict=True) if p in twice]
        answers = self._ask(pixels, [*pairs, *mirrored])
        others = {p.number: a for p, a in zip(twice, answers[len(pairs) :], strict=True)}
        views = []
        for person, pair, hands in zip(people, pairs, answers, strict=False):
            other = others.get(person.number)
            corrections = None if other is None else person.sides.weigh(pair.present, hands, other)
            if other is not None and corrections is not None:
                person.exchange()
                self.corrections += corrections
                pair, hands, other = exchanged(pair), other, hands
            views.append(self._viewed(person, pair, hands, other, time_s))
        views = self._looked_again(pixels, views, time_s)
        self._drop_other_hands(views)
        self._drop_doubles(views, time_s)
        readings = []
        for view in views:
            reading, sides = self._taken(view, time_s), view.person.sides
            sides.doubted = any(view.believed[k] and float(view.hands.side_correct[k]) < self.config.unsure_side for k in (0, 1))
            left, right = view.person.hands
            if left is not None and right is not None:
                sides.watch(time_s, left, right, reading)
            if reading is not None:
                readings.append(reading)
        return readings

    def _ask(self, pixels: Tensor, pairs: list[HandPair]) -> list[Stage1Hands]:
        """One look of stage 1 at each."""
        return [answer.to("cpu") for answer in self.follower.infer(pixels, self.camera, pairs)]

    def _viewed(self, person: _Person, pair: HandPair, hands: Stage1Hands, other: Stage1Hands | None, time_s: float) -> _View:
        """An answer, and which of its hands are where they can be."""
        c = self.config
        xy = self.camera.project(hands.keypoints_m)
        believed, misfit = [False, False], [0.0, 0.0]
        for side, hand in enumerate(person.hands):
            if hand is None or not pair.present[side] or not bool(xy[side].isfinite().all()):
                continue
            jump = float((xy[side] - hand.expected_xy(time_s)).norm(dim=-1).mean()) / hand.size_px
            grown = max(size_of(xy[side]), 1.0) / hand.size_px
            misfit[side] = jump + abs(math.log(grown)) - math.log(float(hands.presence[side] * hands.side_correct[side]) + 1e-3)
            nearer = max(float(hands.keypoints_m[side, :, 2].mean()), 1e-3) / hand.distance_m
            leap = max(abs(math.log(grown)), abs(math.log(nearer)))
            badly = distance_and_sureness(hands, side)[2] > c.unsure_noise
            unsure = badly and self._is_met(hand, time_s)
            most = c.unsure_jump if unsure else c.largest_jump
            steady = (jump < most and leap < math.log(1 + c.largest_jump)) or (hand.doubts > 1 and not unsure)
            # Unsure readings are small, and each makes the next box smaller: from frame to frame a hand would shrink to nothing.
            drifted = badly and abs(math.log(max(size_of(xy[side]), 1.0) / hand.sure_size_px)) > math.log(1 + c.largest_jump)
            believed[side] = float(hands.presence[side]) >= c.presence_kept and steady and not drifted and self._in_view(xy[side])
        return _View(person, pair, hands, other, xy, believed, misfit)

    def _looked_again(self, pixels: Tensor, views: list[_View], time_s: float) -> list[_View]:
        """The same views, but hands that moved otherwise than they were expected to are looked at where they turned out to be. Not so hands that
        meet: there a hand that seems to be elsewhere may be the other one."""
        asked: dict[int, HandPair] = {}
        for k, view in enumerate(views):
            if view.person.sides.met:
                continue
            own = roomy(pair_at(view.xy, view.pair.present), view.person.rooms())
            reach = (own.box_xyxy_px[:, 2:] - own.box_xyxy_px[:, :2]).amax(-1).clamp_min(1.0)
            off = (own.box_xyxy_px - view.pair.box_xyxy_px).abs().amax(-1) / reach > self.config.look_again
            strayed = off & torch.tensor(view.believed)
            if bool(strayed.any()):
                box = torch.where(strayed[:, None], own.box_xyxy_px, view.pair.box_xyxy_px)
                asked[k] = replace(view.pair, box_xyxy_px=box, direction=torch.where(strayed[:, None], own.direction, view.pair.direction))
        answers = self._ask(pixels, list(asked.values())) if asked else []
        seen = list(views)
        for (k, pair), answer in zip(asked.items(), answers, strict=True):
            closer = self._viewed(views[k].person, pair, answer, views[k].other, time_s)
            if sum(closer.believed) >= sum(views[k].believed):
                seen[k] = closer
        return seen

    def _drop_other_hands(self, views: list[_View]) -> None:
        """Does not believe a hand that came in where the person's other one is and has that one's side: its box shows that one again. A hand that
        was its own once is not given up so: hidden, it is often taken for the one before it, and comes out again."""
        c = self.config.sides
        for view in views:
            near, known = boxes_in_one_place(view.pair), side_log_odds(view.hands).clamp(-c.step, c.step).tolist()
            for side, hand in enumerate(view.person.hands):
                if hand is None:
                    continue
                hand.own_odds = max(hand.own_odds + known[side], -c.bound)
                if not near or hand.own_odds >= c.decided:
                    hand.own_odds = math.inf
                if hand.own_odds < 0 < known[1 - side]:
                    view.believed[side] = False

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
                box = view.pair.box_xyxy_px[side]
                hand.fitted_in(float((box[2:] - box[:2]).max()), size_of(view.xy[side]))
                hand.distance_m, hand.sureness, hand.noise = distance_and_sureness(hands, side)
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
        person.sides.note(time_s, reading, None if view.other is None else _reading(view.other, seen.flip(0), person.number))
        return reading

    def _pair(self, person: _Person, time_s: float) -> HandPair:
        """What stage 1 is asked: boxes about the keypoints, and directions, where they are expected."""
        left, right = person.hands
        known = [hand for hand in (left or right, right or left) if hand is not None]
        xy, present = torch.stack([hand.expected_xy(time_s) for hand in known]), torch.tensor([left is not None, right is not None])
        return roomy(pair_at(xy, present), person.rooms())

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
            person, side = followed[column]
            hand = person.hands[side]
            assert hand is not None
            if not self._is_outgrown(detection.box_xyxy_px[row], hand, time_s):
                matched.add(int(row))
            unsure = hand.doubts > 0 or hand.noise > self.config.unsure_noise
            if unsure and self._is_own(detection.box_xyxy_px[row], hand, time_s):
                self._glimpsed(hand, detection.box_xyxy_px[row], time_s)
        self._refused = [(then, box) for then, box in self._refused if time_s - then < self.config.refused_s]
        rest = [k for k in range(count) if k not in matched and not any(_alike(detection.box_xyxy_px[k], box) for _, box in self._refused)]
        return replace(detection[rest], person=tuple(detection.person[k] for k in rest))

    def _is_outgrown(self, box_xyxy_px: Float[Tensor, "4"], hand: FollowedHand, time_s: float) -> bool:
        """Whether a hand in the open is so much larger for a detector than where stage 1 looks for it, or smaller, that it is worth asking about."""
        size = float((box_xyxy_px[2:] - box_xyxy_px[:2]).max()) / max(hand.room * size_of(hand.expected_xy(time_s)), 1.0)
        outgrown = abs(math.log(size)) > math.log(self.config.outgrown)
        return outgrown and not self._is_met(hand, time_s) and self._is_own(box_xyxy_px, hand, time_s)

    def _glimpsed(self, hand: FollowedHand, box_xyxy_px: Float[Tensor, "4"], time_s: float) -> None:
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

    def _is_own(self, box_xyxy_px: Float[Tensor, "4"], hand: FollowedHand, time_s: float) -> bool:
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
                if not new or not self._in_view(xy):
                    continue
                known = distance_and_sureness(candidate.hands, side)
                owner, place = self._misread(xy, side, known[2], time_s), side
                if owner is None:
                    if self._is_followed(xy):
                        continue
                    owner, place = self._owner(candidate, side, pixels, time_s)
                owner.hands[place] = FollowedHand(xy.clone(), time_s, *known)
                self._remember(owner, time_s)
                joined[owner.number] = owner
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

    def _misread(self, xy: Float[Tensor, "21 2"], side: int, noise: float, time_s: float) -> _Person | None:
        """Whose hand of this side is followed in this place, in the open, and read much worse."""
        for person in self._people:
            hand = person.hands[side]
            if hand is None or hand.doubts or hand.noise <= self.config.better_read * noise or self._is_met(hand, time_s):
                continue
            if boxes_in_one_place(pair_at(torch.stack([hand.expected_xy(time_s), xy]), torch.tensor([True, True]))):
                return person
        return None

    def _owner(self, candidate: Candidate, side: int, pixels: Tensor, time_s: float) -> tuple[_Person, int]:
        """Whose hand this is, and on which side: of the nearest person who shows one hand of about that size (a hand that is not where it was
        expected shows no more than one that is not there); else of the last who was seen without any; else of somebody new."""
        xy = candidate.keypoints_xy[side]
        place, size = xy.mean(0), max(size_of(xy), 1.0)

        def far(person: _Person) -> float:
            return float((person.place_xy - place).norm()) / max(person.size_px, size)

        sureness = distance_and_sureness(candidate.hands, side)[1]

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
        person = _Person(self._next, Sides(self.config.sides))
        self._next += 1
        self._people.append(person)
        return person, side

    def _is_other_hand(self, person: _Person, candidate: Candidate, side: int, pixels: Tensor, time_s: float) -> bool:
        """Both hands look like the same side: one of them does so by mistake, unless both are sure."""
        lost = person.hands[1 - side]
        known = distance_and_sureness(candidate.hands, side)
        person.hands[1 - side] = FollowedHand(candidate.keypoints_xy[side].clone(), time_s, *known)
        (answer,) = self._ask(pixels, [self._pair(person, time_s)])
        person.hands[1 - side] = lost
        sure = torch.logit(candidate.hands.side_correct[side], eps=1e-3) - torch.logit(answer.side_correct[1 - side], eps=1e-3)
        return float(sure) < self.config.same_side or person.sides.odds < self.config.same_side


def _reading(hands: Stage1Hands, seen: Bool[Tensor, "hand"], number: int) -> Reading:
    return Reading(hands.parameters, hands.keypoint_confidence, torch.where(seen, hands.presence, 0.0), seen, number)


def one_look(regressor: Regressor) -> Regressor:
    """The same stage 1, that looks once, and where the hand is expected to the fraction of a pixel: boxes that come from the frame before need no
    second pass, and glide."""
    if not isinstance(regressor, Stage1):
        return regressor
    once = copy.copy(regressor)
    once.placement = replace(regressor.placement, passes=1, on_grid=False, hidden_hands=False, relative_m=RELATIVE_M)
    return once


def _alike(a_xyxy: Float[Tensor, "4"], b_xyxy: Float[Tensor, "4"]) -> bool:
    """Two boxes of one thing: their corners are near."""
    return float((a_xyxy - b_xyxy).abs().max()) < 0.25 * float((a_xyxy[2:] - a_xyxy[:2]).max())
