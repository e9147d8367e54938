"""Which hand is which over time: every hand keeps its person and its side, and the detector is asked only when the answer is not known.

A hand is followed by looking where it was, moved on as it moved: stage 1 needs no detector for that, nor, unless it moved otherwise, a second
look. Person and side of a hand stay what they were while it is followed, however the hands cross, unless the evidence for its side (`sides.py`) turns
against it; what would make a hand jump, or put both hands in one place, is not believed. The detector looks when a hand was lost, may be coming in,
or for some time nobody has looked.
"""

import copy
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Bool, UInt8
from torch import Tensor

from twohands.detector import Detector as MapDetector
from twohands.finding import Finder, Regressor
from twohands.geometry.camera import Camera
from twohands.pipeline import Detector, Pipeline
from twohands.regress.infer import Stage1
from twohands.schema import Detection, HandPair, Stage1Hands
from twohands.video.arrivals import Arrivals
from twohands.video.belief import View, drop_doubles, drop_other_hands, viewed
from twohands.video.hand import Reading, distance_and_sureness, pair_at, roomy, size_of
from twohands.video.past import Past
from twohands.video.person import FollowedPerson
from twohands.video.roster import Roster
from twohands.video.sides import exchanged
from twohands.video.track_config import TrackConfig

RELATIVE_M = 0.03
"""Error of the relative translation that stage 1 predicts of a followed pair, twice a photo's: each hand of a film has a distance of its own, known
from the frames before, and a hand that hides is not to be drawn to the other one."""
SHAPE = 0.5
"""Of the shape but its size: a third of a photo's. A film's frames, which see a hand from one side, err alike in its proportions, and their median with
them: with a photo's 1.5 crossing and leaving hands of rendered clips err by 2.5 and 3 % more."""
NEAR_LOOKS = 2
"""Looks of the detector that show near hands."""


class Tracker:
    """Follows the hands of everyone through the frames of one camera."""

    def __init__(self, pipeline: Pipeline, camera: Camera, config: TrackConfig | None = None) -> None:
        self.pipeline, self.camera, self.config = pipeline, camera, config or TrackConfig()
        self.follower = one_look(pipeline.regressor)
        self.detector = fewer_looks(pipeline.detector)
        self.near_detector = fewer_looks(pipeline.detector, NEAR_LOOKS)
        # Whoever comes in is read once more in the same frame, where these hands were found.
        welcomer = Finder(self.follower, pipeline.network_hand, searching=False)
        self.detections = 0
        """How often the detector was asked."""
        self.corrections: list[tuple[float, Reading]] = []
        """What should have been read at an earlier time; whoever keeps the readings takes these and empties the list."""
        self.roster = Roster(camera, self.config)
        self.arrivals = Arrivals(self.roster, welcomer, self._ask)
        self.past = Past(self._ask, pipeline.network_hand, camera, self.roster)
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
            anew, found = self.arrivals.read_anew(image, detection, time_s)
            strangers = self.roster.strangers(detection, time_s, anew)
        pixels = torch.from_numpy(image).permute(2, 0, 1)
        readings = self._follow(pixels, time_s, self.roster.active)
        if strangers is not None:
            joined = self.arrivals.welcome(image, pixels, strangers, time_s) if len(strangers.score) else []
            self._in_vain = 0 if joined or found else self._in_vain + 1
            readings = [r for r in readings if r.person not in {p.number for p in joined}] + self._follow(pixels, time_s, joined)
        self.roster.unite()
        self._look_back(pixels, readings, time_s)
        return readings

    def _look_back(self, pixels: Tensor, readings: list[Reading], time_s: float) -> None:
        """Reads the frames before this one for hands that came in."""
        self.past.note(time_s, pixels, readings, self.corrections)
        for hand in self.arrivals.came:
            if not hand.doubts:
                self.past.arrived(hand, time_s)
        self.arrivals.came = []
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
        pairs = [p.expected_pair(time_s) for p in people]
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
            views.append(viewed(self.roster, person, pair, hands, other, time_s))
        views = self._looked_again(pixels, views, time_s)
        drop_other_hands(self.roster, views)
        drop_doubles(self.roster, views, time_s)
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

    def _looked_again(self, pixels: Tensor, views: list[View], time_s: float) -> list[View]:
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
            closer = viewed(self.roster, views[k].person, pair, answer, views[k].other, time_s)
            if sum(closer.believed) >= sum(views[k].believed):
                seen[k] = closer
        return seen

    def _taken(self, view: View, time_s: float) -> Reading | None:
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
