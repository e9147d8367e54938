"""Who is there: the hands that are followed, by person and side, and what their places in the picture say about one another.

No network is asked here: `track.Tracker` looks at the picture, and the roster says whose a place is, who may be behind whom, and who is gone."""

import math
from collections.abc import Collection

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from twohands.errors import from_extra
from twohands.geometry.camera import Camera
from twohands.people import boxes_in_one_place, keypoint_distance
from twohands.schema import Detection
from twohands.video.hand import FollowedHand, pair_at, size_of
from twohands.video.person import FollowedPerson
from twohands.video.sides import Sides
from twohands.video.track_config import TrackConfig

with from_extra("video", "following hands"):
    from scipy.optimize import linear_sum_assignment


class Roster:
    """The people whose hands are followed, or expected back, in the frames of one camera."""

    def __init__(self, camera: Camera, config: TrackConfig) -> None:
        self.camera, self.config = camera, config
        self.people: list[FollowedPerson] = []
        self._refused: list[tuple[float, Float[Tensor, 4]]] = []
        """When which boxes turned out to be no new hand."""
        self._next = 0

    @property
    def active(self) -> list[FollowedPerson]:
        """Those who show a hand."""
        return [person for person in self.people if any(person.hands)]

    def newcomer(self) -> FollowedPerson:
        """Somebody nobody has seen yet."""
        person = FollowedPerson(self._next, Sides(self.config.sides))
        self._next += 1
        self.people.append(person)
        return person

    def refuse(self, box_xyxy_px: Float[Tensor, "4"], time_s: float) -> None:
        """Takes note that a box shows no new hand."""
        self._refused.append((time_s, box_xyxy_px))

    def forget(self, time_s: float) -> bool:
        """Gives up who was missed for too long; whether a hand was."""
        given_up = False
        for person in self.people:
            for side, hand in enumerate(person.hands):
                if hand is not None and hand.doubts and time_s - hand.seen_s > self._patience_s(hand, time_s):
                    person.hands[side], given_up = None, True
        self.people = [p for p in self.people if any(p.hands) or time_s - p.seen_s <= self.config.remember_s]
        return given_up

    def note_hidden(self, time_s: float) -> None:
        """Hands that are read badly, or not, while another one is near."""
        for person in self.people:
            for hand in person.hands:
                if hand is not None:
                    hand.hidden = self._is_unsure(hand) and self.is_met(hand, time_s)

    def _is_unsure(self, hand: FollowedHand) -> bool:
        """Whether it was not believed in the last frame, or read badly."""
        return hand.doubts > 0 or hand.noise > self.config.unsure_noise

    def _patience_s(self, hand: FollowedHand, time_s: float) -> float:
        """How long a hand is missed before it is given up."""
        return self.config.hidden_s if self.is_met(hand, time_s) else self.config.coast_s

    def is_met(self, hand: FollowedHand, time_s: float) -> bool:
        """Whether another hand is near, behind which it may be."""
        here = hand.expected_xy(time_s).mean(0)
        for person in self.people:
            for other in person.hands:
                if other is not None and other is not hand and not other.doubts:
                    distance = float((other.expected_xy(time_s).mean(0) - here).norm())
                    if distance < 0.5 * (hand.size_px + other.size_px):
                        return True
        return False

    def _is_elsewhere(self, other: FollowedHand | None, hand: FollowedHand, time_s: float) -> bool:
        """Whether a hand's other one is seen, and so far away that neither can be taken for the other."""
        if other is None or other.doubts:
            return False
        apart = float((other.expected_xy(time_s).mean(0) - hand.expected_xy(time_s).mean(0)).norm())
        return apart > self.config.elsewhere * max(hand.size_px, other.size_px)

    def is_in_view(self, xy: Float[Tensor, "21 2"]) -> bool:
        """At least a quarter of the keypoints lie within the picture (the principal point is taken for its centre)."""
        within = ((xy > 0) & (xy < 2 * self.camera.principal_px)).all(-1)
        return float(within.float().mean()) >= 0.25

    def remember(self, person: FollowedPerson, time_s: float) -> None:
        there = [hand for hand in person.hands if hand is not None]
        person.seen_s = time_s
        person.place_xy = torch.stack([hand.keypoints_xy.mean(0) for hand in there]).mean(0)
        person.size_px = max(hand.size_px for hand in there)

    def strangers(self, detection: Detection, time_s: float, known: Collection[int] = ()) -> Detection:
        """The detections that are none of the hands that are followed, nor `known`. A hand that went astray takes its own detection's place."""
        detection = detection.to("cpu")
        count = len(detection.score)
        followed = [(p, side) for p in self.people for side in (0, 1) if p.hands[side] is not None]
        cost = np.full((count, len(followed)), 1e3)
        for k, (person, side) in enumerate(followed):
            hand = person.hands[side]
            assert hand is not None
            right = detection.right_probability.clamp(0.02, 0.98)
            wrong_side = -(right if side else 1 - right).log()
            distance = _sizes_away(detection, hand, time_s)
            # A box that may be either hand's is that of the one that is seen.
            hidden = 0.2 if self._is_unsure(hand) else 0.0
            # Place decides; between two that are in place, the side does.
            cost[:, k] = torch.where(distance < self.config.match_distance, distance + 0.1 * wrong_side + hidden, 1e3).numpy()
        rows, columns = linear_sum_assignment(cost)
        matched = set(known) | self._second_boxes(detection, time_s)
        for row, column in zip(rows, columns, strict=True):
            if cost[row, column] >= 1e3:
                continue
            person, side = followed[column]
            hand = person.hands[side]
            assert hand is not None
            if not self._is_outgrown(detection.box_xyxy_px[row], hand, time_s):
                matched.add(int(row))
            if self._is_unsure(hand) and self.is_own(detection.box_xyxy_px[row], hand, time_s):
                self.glimpse(hand, detection.box_xyxy_px[row], time_s)
        self._refused = [(then, box) for then, box in self._refused if time_s - then < self.config.refused_s]
        rest = [k for k in range(count) if k not in matched and not any(_alike(detection.box_xyxy_px[k], box) for _, box in self._refused)]
        return detection.rows(rest)

    def _second_boxes(self, detection: Detection, time_s: float) -> set[int]:
        """Detections in the place of a hand that is plainly seen, as the other one of its person is: a hand often has a box of either side."""
        second: set[int] = set()
        for person in self.people:
            hands = [hand for hand in person.hands if hand is not None and not self._is_unsure(hand)]
            if len(hands) < 2:
                continue
            for hand in hands:
                near = _sizes_away(detection, hand, time_s) < self.config.second_box
                second.update(k for k in near.nonzero()[:, 0].tolist() if not self._is_outgrown(detection.box_xyxy_px[k], hand, time_s))
        return second

    def own_detections(self, person: FollowedPerson, detection: Detection, time_s: float) -> list[int]:
        """Those that lie where this person's hands are expected, and nobody else's nearer."""

        def distance(people: list[FollowedPerson]) -> Float[Tensor, "detection"]:
            away = [_sizes_away(detection, hand, time_s) for p in people for hand in p.hands if hand is not None]
            return torch.stack(away).amin(0) if away else torch.full((len(detection.score),), math.inf)

        mine, others = distance([person]), distance([p for p in self.people if p is not person])
        return ((mine < self.config.match_distance) & (mine <= others)).nonzero()[:, 0].tolist()

    def _is_outgrown(self, box_xyxy_px: Float[Tensor, "4"], hand: FollowedHand, time_s: float) -> bool:
        """Whether a hand in the open is so much larger for a detector than where stage 1 looks for it, or smaller, that it is worth asking about."""
        size = float((box_xyxy_px[2:] - box_xyxy_px[:2]).max()) / max(hand.room * size_of(hand.expected_xy(time_s)), 1.0)
        outgrown = abs(math.log(size)) > math.log(self.config.outgrown)
        return outgrown and not self.is_met(hand, time_s) and self.is_own(box_xyxy_px, hand, time_s)

    def glimpse(self, hand: FollowedHand, box_xyxy_px: Float[Tensor, "4"], time_s: float) -> None:
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

    def is_own(self, box_xyxy_px: Float[Tensor, "4"], hand: FollowedHand, time_s: float) -> bool:
        """Whether a box can be none of the other hands'."""
        middle = (box_xyxy_px[:2] + box_xyxy_px[2:]) / 2
        others = [other for person in self.people for other in person.hands if other is not None and other is not hand]
        return all(float((other.expected_xy(time_s).mean(0) - middle).norm()) > 0.5 * other.size_px for other in others)

    def unite(self) -> None:
        """Two people who show one hand each, a left one here and a right one there, were one all along, if the hands are near and alike in
        size. From the next frame on they are. A hand that was not believed for frames does not count: beside a lone hand another one is easily
        made up."""
        for older in self.people:
            for younger in self.people:
                if younger.number <= older.number:
                    continue
                for side in (0, 1):
                    mine, given = older.hands[1 - side], younger.hands[side]
                    alone = self._is_missed(older.hands[side]) and self._is_missed(younger.hands[1 - side])
                    if not alone or mine is None or given is None or mine.doubts or given.doubts:
                        continue
                    distance = float((older.place_xy - younger.place_xy).norm()) / max(mine.size_px, given.size_px)
                    if distance < 12 and 0.4 < mine.size_px / given.size_px < 2.5:
                        older.hands[side], younger.hands = given, [None, None]
                        younger.seen_s = -math.inf  # nobody to wait for

    def _is_missed(self, hand: FollowedHand | None) -> bool:
        return hand is None or hand.doubts > self.config.missed

    def is_followed(self, xy: Float[Tensor, "21 2"]) -> bool:
        """The hand is one that is followed already."""
        for person in self.people:
            for hand in person.hands:
                if hand is not None and not hand.doubts and keypoint_distance(hand.keypoints_xy, xy) < self.config.near_hand:
                    return True
        return False

    def is_within_another(self, xy: Float[Tensor, "21 2"], noise: float, time_s: float) -> bool:
        """Whether a hand that was found lies within one that is plainly seen, much larger and better read, and sees no other one beside it: then it
        is that hand, read a second time. A true one that comes near is seen beside it first."""
        size, middle = size_of(xy), xy.mean(0)
        for person in self.people:
            for hand in person.hands:
                if hand is None or self._is_unsure(hand) or hand.sees_other or hand.noise > noise:
                    continue
                if size > self.config.within * hand.size_px:
                    continue
                if float((hand.expected_xy(time_s).mean(0) - middle).norm()) < 0.5 * hand.size_px:
                    return True
        return False

    def misread_owner(self, xy: Float[Tensor, "21 2"], side: int, noise: float, time_s: float) -> tuple[FollowedPerson, int] | None:
        """Whose hand, and which, is followed in this place, in the open, and read much worse: one of this side; or one of the other side of somebody
        whose other hand is seen elsewhere, since nobody has three and one look at a hand is less sure of its side than all looks before."""
        for place in (side, 1 - side):
            for person in self.people:
                hand, other = person.hands[place], person.hands[1 - place]
                if hand is None or hand.doubts or hand.noise <= self.config.better_read * noise or self.is_met(hand, time_s):
                    continue
                if place != side and not self._is_elsewhere(other, hand, time_s):
                    continue
                if boxes_in_one_place(pair_at(torch.stack([hand.expected_xy(time_s), xy]), torch.tensor([True, True]))):
                    return person, place
        return None


def _sizes_away(detection: Detection, hand: FollowedHand, time_s: float) -> Float[Tensor, "detection"]:
    """How far the middle of each box is from that of a hand where it is expected, in the hand's sizes."""
    xy, box = hand.expected_xy(time_s), detection.box_xyxy_px
    return ((box[:, :2] + box[:, 2:] - xy.amin(0) - xy.amax(0)) / 2).norm(dim=-1) / hand.size_px


def _alike(a_xyxy: Float[Tensor, "4"], b_xyxy: Float[Tensor, "4"]) -> bool:
    """Two boxes of one thing: their corners are near."""
    return float((a_xyxy - b_xyxy).abs().max()) < 0.25 * float((a_xyxy[2:] - a_xyxy[:2]).max())
