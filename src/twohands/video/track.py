"""Which hand is which over time: every hand keeps its person and its side, and the detector is asked only when the answer is not known.

A hand is followed by looking where it was, moved on as it moved: stage 1 needs no detector for that, nor, unless it moved otherwise, a second
look. Person and side of a hand stay what they were while it is followed, however the hands cross, unless the evidence for its side (`sides.py`) turns
against it; what would make a hand jump, or put both hands in one place, is not believed. The detector looks when a hand was lost, may be coming in,
or for some time nobody has looked.
"""

import copy
import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from twohands.detector import Detector as MapDetector
from twohands.finding import Finder, Regressor
from twohands.geometry.camera import Camera
from twohands.people import Candidate, boxes_in_one_place, keypoint_distance
from twohands.pipeline import Detector, Pipeline
from twohands.regress.infer import Stage1
from twohands.schema import Detection, HandPair, Stage1Hands
from twohands.video.hand import FollowedHand, Reading, distance_and_sureness, pair_at, roomy, size_of
from twohands.video.past import Past
from twohands.video.roster import FollowedPerson, Roster, TrackConfig
from twohands.video.sides import exchanged, side_log_odds

RELATIVE_M = 0.03
"""Error of the relative translation that stage 1 predicts of a followed pair, twice a photo's: each hand of a film has a distance of its own, known
from the frames before, and a hand that hides is not to be drawn to the other one."""
SHAPE = 0.5
"""Of the shape but its size: a third of a photo's. A film's frames, which see a hand from one side, err alike in its proportions, and their median with
them: with a photo's 1.5 crossing and leaving hands of rendered clips err by 2.5 and 3 % more."""
NEAR_LOOKS = 2
"""Looks of the detector that show near hands."""


@dataclass
class _View:
    """An answer of stage 1 about a person on its way to a reading."""

    person: FollowedPerson
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

    def __init__(self, pipeline: Pipeline, camera: Camera, config: TrackConfig | None = None) -> None:
        self.pipeline, self.camera, self.config = pipeline, camera, config or TrackConfig()
        self.follower = one_look(pipeline.regressor)
        self.detector = fewer_looks(pipeline.detector)
        self.near_detector = fewer_looks(pipeline.detector, NEAR_LOOKS)
        # Whoever comes in is read once more in the same frame, where these hands were found.
        self.welcomer = Finder(self.follower, pipeline.network_hand, searching=False)
        self.detections = 0
        """How often the detector was asked."""
        self.corrections: list[tuple[float, Reading]] = []
        """What should have been read at an earlier time; whoever keeps the readings takes these and empties the list."""
        self.roster = Roster(camera, self.config)
        self.past = Past(self._ask, pipeline.network_hand, camera, self.roster)
        self._came: list[FollowedHand] = []
        """Hands that nobody followed before this frame."""
        self._looked_s = self._looked_far_s = -1e9
        self._in_vain = 0
        """Looks of the detector in a row that brought nobody."""
        self._unsure = True

    @torch.inference_mode()
    def step(self, image: UInt8[np.ndarray, "height width 3"], time_s: float) -> list[Reading]:
        """The hands of the next frame, by person. Times ascend."""
        if self.roster.forget(time_s):
            self._in_vain = 0
        self.roster.note_hidden(time_s)
        look, self._unsure = self._should_look(time_s), False
        strangers: Detection | None = None
        if look:
            self._looked_s, self.detections = time_s, self.detections + 1
            detection = self._detected(image, time_s)
            anew, found = self._read_anew(image, detection, time_s)
            strangers = self.roster.strangers(detection, time_s, anew)
        pixels = torch.from_numpy(image).permute(2, 0, 1)
        readings = self._follow(pixels, time_s, self.roster.active)
        if strangers is not None:
            joined = self._welcome(image, pixels, strangers, time_s) if len(strangers.score) else []
            self._in_vain = 0 if joined or found else self._in_vain + 1
            readings = [r for r in readings if r.person not in {p.number for p in joined}] + self._follow(pixels, time_s, joined)
        self.roster.unite()
        self._look_back(pixels, readings, time_s)
        return readings

    def _look_back(self, pixels: Tensor, readings: list[Reading], time_s: float) -> None:
        """Reads the frames before this one for hands that came in."""
        self.past.note(time_s, pixels, readings, self.corrections)
        for hand in self._came:
            if not hand.doubts:
                self.past.arrived(hand, time_s)
        self._came = []
        self.corrections += self.past.corrections()

    def skip(self) -> None:
        """A frame was lost: the next one is worth a look of the detector."""
        self._unsure = True

    def _detected(self, image: UInt8[np.ndarray, "height width 3"], time_s: float) -> Detection:
        """What the detector sees; hands across the room only where it has not looked for these for long, or where somebody's hands are so small."""
        c, small_px = self.config, self.config.near_share * max(image.shape[:2])
        # Of a hidden hand often no more than a part is read.
        near = [person.size_px >= small_px for person in self.roster.active]
        if near and all(near) and time_s - self._looked_far_s < c.look_far_s - 1e-3:
            return self.near_detector(image).to("cpu")
        self._looked_far_s = time_s
        return self.detector(image).to("cpu")

    def _should_look(self, time_s: float) -> bool:
        since = time_s - self._looked_s
        active = self.roster.active
        missing = not active or any(None in p.hands for p in active)
        c = self.config
        lost = any(hand is not None and hand.doubts for p in active for hand in p.hands)
        pause_s = c.look_for_missing_s if lost else min(c.look_for_missing_s * 2 ** min(self._in_vain, 8), c.look_in_vain_s)
        # Rounding of time stamps must not make it every frame but one.
        return since >= c.look_every_s - 1e-3 or ((missing or self._unsure) and since >= pause_s - 1e-3)

    def _follow(self, pixels: Tensor, time_s: float, people: list[FollowedPerson]) -> list[Reading]:
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
                view.person.apart = not sides.met
            if reading is not None:
                readings.append(reading)
        return readings

    def _ask(self, pixels: Tensor, pairs: list[HandPair]) -> list[Stage1Hands]:
        """One look of stage 1 at each."""
        return [answer.to("cpu") for answer in self.follower.infer(pixels, self.camera, pairs)]

    def _viewed(self, person: FollowedPerson, pair: HandPair, hands: Stage1Hands, other: Stage1Hands | None, time_s: float) -> _View:
        """An answer, and which of its hands are where they can be."""
        c = self.config
        xy = self.camera.project(hands.keypoints_m)
        believed, misfit = [False, False], [0.0, 0.0]
        for side, hand in enumerate(person.hands):
            if hand is None or not pair.present[side] or not bool(xy[side].isfinite().all()):
                continue
            jump, (distance_m, _, noise) = hand.jump(xy[side], time_s), distance_and_sureness(hands, side)
            misfit[side] = jump + hand.growth(xy[side]) - math.log(float(hands.presence[side] * hands.side_correct[side]) + 1e-3)
            badly = noise > c.unsure_noise
            unsure = badly and self.roster.is_met(hand, time_s)
            most = c.unsure_jump if unsure else c.largest_jump
            steady = (jump < most and hand.leap(xy[side], distance_m) < math.log(1 + c.largest_jump)) or (hand.doubts > 1 and not unsure)
            # Unsure readings are small, and each makes the next box smaller: from frame to frame a hand would shrink to nothing.
            drifted = badly and abs(math.log(max(size_of(xy[side]), 1.0) / hand.sure_size_px)) > math.log(1 + c.largest_jump)
            believed[side] = float(hands.presence[side]) >= c.presence_kept and steady and not drifted and self.roster.is_in_view(xy[side])
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
                expected = keypoint_distance(hand.expected_xy(time_s), twin.expected_xy(time_s))
                collapsed = apart < max(0.5 * expected, expected - c.nearer if doubted else 0.0)
                collapsed |= a.person is not b.person and i == j
                if apart < c.same_hand or (apart < c.near_hand and collapsed):
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
                hand.sees_other = hands.other is not None and float(hands.other.probability[side]) > 0.5
                hand.move(view.xy[side], time_s, hand.noise < self.config.unsure_noise)
                sure = float(hands.presence[side]) > self.config.unsure_presence and hand.noise < self.config.unsure_noise
                self._unsure |= not (sure and float(hands.side_correct[side]) > self.config.unsure_side)
            else:
                hand.doubts += 1
                self._unsure = True
        seen = torch.tensor(view.believed)
        if not bool(seen.any()):
            return None
        self.roster.remember(person, time_s)
        reading = _reading(hands, seen, person.number)
        person.sides.note(time_s, reading, None if view.other is None else _reading(view.other, seen.flip(0), person.number))
        return reading

    def _pair(self, person: FollowedPerson, time_s: float) -> HandPair:
        """What stage 1 is asked: boxes about the keypoints, and directions, where they are expected."""
        left, right = person.hands
        known = [hand for hand in (left or right, right or left) if hand is not None]
        xy, present = torch.stack([hand.expected_xy(time_s) for hand in known]), torch.tensor([left is not None, right is not None])
        return roomy(pair_at(xy, present), person.rooms())

    def _read_anew(self, image: np.ndarray, detection: Detection, time_s: float) -> tuple[set[int], bool]:
        """Puts hands that are read badly beside another one, or not at all, where they are read better as a photo's are, if the other one is then read
        where it is followed: from frame to frame a hidden hand's place drifts, each reading a little off the one before. Returns the detections
        that were looked at, and whether a hand was put anywhere."""
        asked: set[int] = set()
        found = False
        for person in self.roster.active:
            hidden = [side for side in (0, 1) if person.may_hide(side)]
            own = self.roster.own_detections(person, detection, time_s) if hidden else []
            if not own:
                continue
            asked.update(own)
            for candidate in self.welcomer.candidates(image, self.camera, detection.rows(own)):
                for side in hidden:
                    found |= self._put_where_found(person, side, candidate, time_s)
        return asked, found

    def _put_where_found(self, person: FollowedPerson, side: int, candidate: Candidate, time_s: float) -> bool:
        """Takes a photo's word for a hidden hand if that is read better there. Whether it was."""
        if not self._is_there(candidate, side):
            return False
        c, hand, other = self.config, person.hands[side], person.hands[1 - side]
        found, most = _followed(candidate, side, time_s), c.found_noise
        if hand is not None:
            # How well it was read once says little of a hand that has not been read for frames.
            most = max(hand.noise / c.better_found, c.unsure_noise if hand.doubts > 1 else 0.0)
            found.own_odds = hand.own_odds
        if found.noise > most:
            return False
        xy = candidate.keypoints_xy
        if other is not None and not other.hidden:
            seen_xy = other.expected_xy(time_s)
            same = bool(candidate.present[1 - side]) and keypoint_distance(xy[1 - side], seen_xy) < c.near_hand
            if not same or keypoint_distance(xy[side], seen_xy) < c.same_hand:
                return False
        person.hands[side] = found
        if hand is None:
            self._came.append(found)
        self.roster.remember(person, time_s)
        return True

    def _is_there(self, candidate: Candidate, side: int) -> bool:
        """Whether a hand that was found may be followed."""
        believed = bool(candidate.present[side]) and float(candidate.hands.presence[side]) >= self.config.presence_new
        return believed and self.roster.is_in_view(candidate.keypoints_xy[side])

    def _welcome(self, image: np.ndarray, pixels: Tensor, strangers: Detection, time_s: float) -> list[FollowedPerson]:
        """Gives hands that nobody follows yet to the person whom they belong to; returns those people."""
        joined: dict[int, FollowedPerson] = {}
        for candidate in self.welcomer.candidates(image, self.camera, strangers):
            for side in (0, 1):
                if not self._is_there(candidate, side):
                    continue
                xy, found = candidate.keypoints_xy[side], _followed(candidate, side, time_s)
                owner, place = self.roster.misread_owner(xy, side, found.noise, time_s) or (None, side)
                if owner is None and not self.roster.is_followed(xy) and not self.roster.is_within_another(xy, found.noise, time_s):
                    owner, place = self._owner(candidate, side, pixels, time_s)
                if owner is None:
                    continue
                owner.hands[place] = found
                self._came.append(found)
                self.roster.remember(owner, time_s)
                joined[owner.number] = owner
        for box in strangers.box_xyxy_px:
            middle, reach = (box[:2] + box[2:]) / 2, self.config.match_distance * float((box[2:] - box[:2]).max())
            hands = [hand for person in joined.values() for hand in person.hands if hand is not None]
            if not any(float((hand.keypoints_xy.mean(0) - middle).norm()) < reach for hand in hands):
                self.roster.refuse(box, time_s)
        return list(joined.values())

    def _owner(self, candidate: Candidate, side: int, pixels: Tensor, time_s: float) -> tuple[FollowedPerson | None, int]:
        """Whose hand this is, and on which side: of the nearest person who shows one hand of about that size (a hand that is not where it was
        expected shows no more than one that is not there); else of the last who was seen without any; else of somebody new. Nobody's, if it
        is read badly beside a hand that is followed: beside clasped hands many a third one is seen."""
        xy = candidate.keypoints_xy[side]
        place, size = xy.mean(0), max(size_of(xy), 1.0)

        def far(person: FollowedPerson) -> float:
            return float((person.place_xy - place).norm()) / max(person.size_px, size)

        sureness = distance_and_sureness(candidate.hands, side)[1]

        def shown(person: FollowedPerson, place: int) -> bool:
            hand = person.hands[place]
            astray = hand is not None and place == side and self.config.much_surer * hand.sureness < sureness
            return hand is not None and not hand.doubts and not astray

        one_handed = [p for p in self.roster.people if shown(p, 0) != shown(p, 1) and far(p) < 12 and 0.4 < size / p.size_px < 2.5]
        for person in sorted(one_handed, key=far):
            if not shown(person, side) or self._is_other_hand(person, candidate, side, pixels, time_s):
                return person, 1 - side if shown(person, side) else side
        # Who leaps farther than anybody can follow is still nobody new, as long as it is near.
        gone = [p for p in self.roster.people if not any(p.hands) or (not shown(p, 0) and not shown(p, 1) and far(p) < 3)]
        if gone:
            return max(gone, key=lambda p: (p.seen_s, -far(p))), side
        third = _followed(candidate, side, time_s)
        if third.noise > self.config.unsure_noise and self.roster.is_met(third, time_s):
            return None, side
        return self.roster.newcomer(), side

    def _is_other_hand(self, person: FollowedPerson, candidate: Candidate, side: int, pixels: Tensor, time_s: float) -> bool:
        """Both hands look like the same side: one of them does so by mistake, unless both are sure."""
        lost = person.hands[1 - side]
        person.hands[1 - side] = _followed(candidate, side, time_s)
        (answer,) = self._ask(pixels, [self._pair(person, time_s)])
        person.hands[1 - side] = lost
        sure = torch.logit(candidate.hands.side_correct[side], eps=1e-3) - torch.logit(answer.side_correct[1 - side], eps=1e-3)
        return float(sure) < self.config.same_side or person.sides.odds < self.config.same_side


def _followed(candidate: Candidate, side: int, time_s: float) -> FollowedHand:
    """A hand that was found, as it is followed from now on."""
    return FollowedHand(candidate.keypoints_xy[side].clone(), time_s, *distance_and_sureness(candidate.hands, side))


def _reading(hands: Stage1Hands, seen: Bool[Tensor, "hand"], number: int) -> Reading:
    return Reading(hands.parameters, hands.keypoint_confidence, torch.where(seen, hands.presence, 0.0), seen, number)


def one_look(regressor: Regressor) -> Regressor:
    """The same stage 1, that looks once, and where the hand is expected to the fraction of a pixel: boxes that come from the frame before need no
    second pass, and glide."""
    if not isinstance(regressor, Stage1):
        return regressor
    once = copy.copy(regressor)
    once.placement = replace(regressor.placement, passes=1, on_grid=False, hidden_hands=False, relative_m=RELATIVE_M, shape=SHAPE)
    return once


def fewer_looks(detector: Detector, at_most: int | None = None) -> Detector:
    """The same detector without closer looks at what it doubts, since the next frames show that anew, and with so many others at most: the last of
    these costs three times as much as those before and is for people across the room."""
    if not isinstance(detector, MapDetector):
        return detector
    fewer, config = copy.copy(detector), detector.config
    fewer.config = replace(config, doubtful=config.threshold, looks=min(config.looks, at_most or config.looks))
    return fewer
