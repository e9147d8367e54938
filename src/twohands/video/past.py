"""Reads hands that came in back in time: the detector looks only now and then, and what it finds has mostly been there for some frames."""

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from twohands.geometry.camera import Camera
from twohands.hands.model import HandModel
from twohands.hands.parameters import HandParameters
from twohands.people import keypoint_distance
from twohands.schema import HandPair, Stage1Hands
from twohands.video.hand import FollowedHand, Reading, distance_and_sureness, pair_at, roomy
from twohands.video.roster import Roster
from twohands.video.sides import Correction

Ask = Callable[[UInt8[Tensor, "3 height width"], list[HandPair]], list[Stage1Hands]]
"""One look of stage 1 at pairs in a picture."""


@dataclass
class _Frame:
    """What is kept of a frame."""

    time_s: float
    pixels: UInt8[Tensor, "3 height width"]
    readings: dict[int, Reading]
    """By person."""


@dataclass
class _Arrival:
    """A hand that came in, as it was read then."""

    hand: FollowedHand
    """By which it is known again, should left and right change places meanwhile, or its person turn out to be another one."""
    time_s: float
    keypoints_xy: Float[Tensor, "21 2"]
    distance_m: float


class Past:
    """The last frames, and which hands are to be looked for in them."""

    def __init__(self, ask: Ask, model: HandModel, camera: Camera, roster: Roster) -> None:
        self.ask, self.model, self.camera, self.roster = ask, model, camera, roster
        self.kept_bytes = roster.config.past_bytes
        """Of pictures, at most. Whoever shows each frame as it comes has no use for the past and sets it to 0."""
        self._frames: deque[_Frame] = deque()
        self._arrivals: list[_Arrival] = []

    def arrived(self, hand: FollowedHand, time_s: float) -> None:
        """Takes note of a hand that came in with this frame, and was read in it."""
        if self.kept_bytes:
            self._arrivals.append(_Arrival(hand, time_s, hand.keypoints_xy.clone(), hand.distance_m))

    def note(self, time_s: float, pixels: UInt8[Tensor, "3 height width"], readings: list[Reading], corrections: list[Correction]) -> None:
        """Keeps a frame, and what it has changed in earlier ones."""
        for then, better in corrections:
            for frame in self._frames:
                if frame.time_s == then:
                    frame.readings[better.person] = better
        self._frames.append(_Frame(time_s, pixels, {r.person: r for r in readings}))
        while self._frames and sum(f.pixels.numel() for f in self._frames) > self.kept_bytes:
            self._frames.popleft()

    def corrections(self) -> list[Correction]:
        """What should have been read of the hands that came in, as soon as it is known which of their person's they are."""
        found: list[Correction] = []
        waiting = []
        for arrival in self._arrivals:
            person = next((p for p in self.roster.people if any(hand is arrival.hand for hand in p.hands)), None)
            if person is None:
                continue
            if not person.sides.known:
                waiting.append(arrival)
                continue
            side = next(k for k in (0, 1) if person.hands[k] is arrival.hand)
            found += self._read_back(person.number, side, arrival)
        self._arrivals = waiting
        return found

    def _read_back(self, number: int, side: int, arrival: _Arrival) -> list[Correction]:
        """The hand in the frames before it came in, from the last to the first in which it is seen."""
        hand = FollowedHand(arrival.keypoints_xy, -arrival.time_s, arrival.distance_m, arrival.hand.sureness, arrival.hand.noise)
        found = []
        for frame in reversed([f for f in self._frames if f.time_s < arrival.time_s]):
            known = frame.readings.get(number)
            if known is not None and bool(known.seen[side]):
                break
            better = self._read(frame, number, side, hand, known)
            if better is None:
                break
            frame.readings[number] = better
            found.append((frame.time_s, better))
        return found

    def _read(self, frame: _Frame, number: int, side: int, hand: FollowedHand, known: Reading | None) -> Reading | None:
        """The person's reading of an earlier frame with this hand in it, whose time runs backwards; None if it is not to be seen there."""
        c, now_s = self.roster.config, -frame.time_s
        there = {(n, s): xy for n, r in frame.readings.items() for s, xy in enumerate(self._places(r)) if bool(r.seen[s])}
        expected = hand.expected_xy(now_s)
        other = there.get((number, 1 - side))
        places, present = [expected, expected], torch.tensor([True, True])
        if other is None:
            present[1 - side] = False
        else:
            places[1 - side] = other
        pair = pair_at(torch.stack(places), present)
        (hands,) = self.ask(frame.pixels, [roomy(pair, torch.full((2,), hand.room))])
        xy = self.camera.project(hands.keypoints_m)[side]
        distance_m, sureness, noise = distance_and_sureness(hands, side)
        if (
            not bool(xy.isfinite().all())
            or float(hands.presence[side]) < c.presence_kept
            or noise > c.found_noise
            or not self.roster.is_in_view(xy)
        ):
            return None
        most = c.unsure_jump if noise > c.unsure_noise else c.largest_jump
        if hand.jump(xy, now_s) > most or hand.leap(xy, distance_m) > math.log(1 + c.largest_jump):
            return None
        if any(keypoint_distance(xy, place) < c.near_hand for place in there.values()):
            return None
        hand.distance_m, hand.sureness, hand.noise = distance_m, sureness, noise
        hand.move(xy, now_s, noise < c.unsure_noise)
        return _with_hand(known, hands, side, number)

    def _places(self, reading: Reading) -> Float[Tensor, "hand 21 2"]:
        """Keypoints of a reading in the picture."""
        return self.camera.project(self.model.pose_hands(reading.parameters[None]).keypoints()[0])


def _with_hand(known: Reading | None, hands: Stage1Hands, side: int, number: int) -> Reading:
    """A reading with a hand in it that was not seen before."""
    only = torch.arange(2) == side
    score = torch.where(only, hands.presence, 0.0)
    if known is None:
        return Reading(hands.parameters, hands.keypoint_confidence, score, only, number)

    def put(old: Tensor, new: Tensor) -> Tensor:
        return torch.where(only.view(2, *[1] * (old.ndim - 1)), new, old)

    a, b = known.parameters, hands.parameters
    parameters = HandParameters(put(a.pose, b.pose), put(a.shape, b.shape), put(a.translation_m, b.translation_m))
    confidence = put(known.keypoint_confidence, hands.keypoint_confidence)
    return replace(known, parameters=parameters, keypoint_confidence=confidence, score=put(known.score, score), seen=known.seen | only)
