"""Hands that come in, or come back: whose they are, and where a hidden one is that is no longer read well."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from twohands.finding import Finder
from twohands.people import Candidate, keypoint_distance
from twohands.schema import Detection, HandPair, Stage1Hands
from twohands.video.hand import FollowedHand, distance_and_sureness, size_of
from twohands.video.person import FollowedPerson
from twohands.video.roster import Roster


class Arrivals:
    """Reads detections that nobody's hand explains as a photo's, and gives the hands to people."""

    def __init__(self, roster: Roster, welcomer: Finder, ask: Callable[[Tensor, list[HandPair]], list[Stage1Hands]]) -> None:
        self.roster, self.welcomer, self._ask = roster, welcomer, ask
        self.came: list[FollowedHand] = []
        """Hands that nobody followed before this frame; whoever reads them empties the list."""

    def read_anew(self, image: np.ndarray, detection: Detection, time_s: float) -> tuple[set[int], bool]:
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
            for candidate in self.welcomer.candidates(image, self.roster.camera, detection.rows(own)):
                for side in hidden:
                    found |= self._put_where_found(person, side, candidate, time_s)
        return asked, found

    def _put_where_found(self, person: FollowedPerson, side: int, candidate: Candidate, time_s: float) -> bool:
        """Takes a photo's word for a hidden hand if that is read better there. Whether it was."""
        if not self._is_there(candidate, side):
            return False
        c, hand, other = self.roster.config, person.hands[side], person.hands[1 - side]
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
            self.came.append(found)
        self.roster.remember(person, time_s)
        return True

    def _is_there(self, candidate: Candidate, side: int) -> bool:
        """Whether a hand that was found may be followed."""
        believed = bool(candidate.present[side]) and float(candidate.hands.presence[side]) >= self.roster.config.presence_new
        return believed and self.roster.is_in_view(candidate.keypoints_xy[side])

    def welcome(self, image: np.ndarray, pixels: Tensor, strangers: Detection, time_s: float) -> list[FollowedPerson]:
        """Gives hands that nobody follows yet to the person whom they belong to; returns those people."""
        joined: dict[int, FollowedPerson] = {}
        for candidate in self.welcomer.candidates(image, self.roster.camera, strangers):
            for side in (0, 1):
                if not self._is_there(candidate, side):
                    continue
                xy, found = candidate.keypoints_xy[side], _followed(candidate, side, time_s)
                owner, place = self.roster.misread_owner(xy, side, found.noise, time_s) or (None, side)
                if owner is None and not self.roster.is_followed(xy) and not self.roster.is_within_another(xy, found.noise, time_s):
                    owner, place = self.owner(candidate, side, pixels, time_s)
                if owner is None:
                    continue
                owner.hands[place] = found
                self.came.append(found)
                self.roster.remember(owner, time_s)
                joined[owner.number] = owner
        for box in strangers.box_xyxy_px:
            middle, reach = (box[:2] + box[2:]) / 2, self.roster.config.match_distance * float((box[2:] - box[:2]).max())
            hands = [hand for person in joined.values() for hand in person.hands if hand is not None]
            if not any(float((hand.keypoints_xy.mean(0) - middle).norm()) < reach for hand in hands):
                self.roster.refuse(box, time_s)
        return list(joined.values())

    def owner(self, candidate: Candidate, side: int, pixels: Tensor, time_s: float) -> tuple[FollowedPerson | None, int]:
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
            astray = hand is not None and place == side and self.roster.config.much_surer * hand.sureness < sureness
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
        if third.noise > self.roster.config.unsure_noise and self.roster.is_met(third, time_s):
            return None, side
        return self.roster.newcomer(), side

    def _is_other_hand(self, person: FollowedPerson, candidate: Candidate, side: int, pixels: Tensor, time_s: float) -> bool:
        """Both hands look like the same side: one of them does so by mistake, unless both are sure."""
        lost = person.hands[1 - side]
        person.hands[1 - side] = _followed(candidate, side, time_s)
        (answer,) = self._ask(pixels, [person.expected_pair(time_s)])
        person.hands[1 - side] = lost
        sure = torch.logit(candidate.hands.side_correct[side], eps=1e-3) - torch.logit(answer.side_correct[1 - side], eps=1e-3)
        return float(sure) < self.roster.config.same_side or person.sides.odds < self.roster.config.same_side


def _followed(candidate: Candidate, side: int, time_s: float) -> FollowedHand:
    """A hand that was found, as it is followed from now on."""
    return FollowedHand(candidate.keypoints_xy[side].clone(), time_s, *distance_and_sureness(candidate.hands, side))
