"""What is believed of stage 1's answers about hands that are followed: each must be where it can be, and no hand may be read from another one."""

import math
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from twohands.people import boxes_in_one_place, keypoint_distance
from twohands.schema import HandPair, Stage1Hands
from twohands.video.hand import distance_and_sureness, size_of
from twohands.video.person import FollowedPerson
from twohands.video.roster import Roster
from twohands.video.sides import side_log_odds


@dataclass
class View:
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


def viewed(roster: Roster, person: FollowedPerson, pair: HandPair, hands: Stage1Hands, other: Stage1Hands | None, time_s: float) -> View:
    """An answer, and which of its hands are where they can be."""
    c = roster.config
    xy = roster.camera.project(hands.keypoints_m)
    believed, misfit = [False, False], [0.0, 0.0]
    for side, hand in enumerate(person.hands):
        if hand is None or not pair.present[side] or not bool(xy[side].isfinite().all()):
            continue
        jump, (distance_m, _, noise) = hand.jump(xy[side], time_s), distance_and_sureness(hands, side)
        misfit[side] = jump + hand.growth(xy[side]) - math.log(float(hands.presence[side] * hands.side_correct[side]) + 1e-3)
        badly = noise > c.unsure_noise
        unsure = badly and roster.is_met(hand, time_s)
        most = c.unsure_jump if unsure else c.largest_jump
        steady = (jump < most and hand.leap(xy[side], distance_m) < math.log(1 + c.largest_jump)) or (hand.doubts > 1 and not unsure)
        # Unsure readings are small, and each makes the next box smaller: from frame to frame a hand would shrink to nothing.
        drifted = badly and abs(math.log(max(size_of(xy[side]), 1.0) / hand.sure_size_px)) > math.log(1 + c.largest_jump)
        believed[side] = float(hands.presence[side]) >= c.presence_kept and steady and not drifted and roster.is_in_view(xy[side])
    return View(person, pair, hands, other, xy, believed, misfit)


def drop_other_hands(roster: Roster, views: list[View]) -> None:
    """Does not believe a hand that came in where the person's other one is and has that one's side: its box shows that one again. A hand that
    was its own once is not given up so: hidden, it is often taken for the one before it, and comes out again."""
    c = roster.config.sides
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


def drop_doubles(roster: Roster, views: list[View], time_s: float) -> None:
    """Where two hands were read from one, does not believe the one that fits worse to what was expected."""
    c = roster.config
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
