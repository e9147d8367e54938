"""Which hand is the left one: evidence over time, what was believed at first taken back, and no change of mind without a reason."""

import dataclasses

import numpy as np
import pytest
import torch
from films import Film
from test_track import apart, judged, moving, read

from twohands.hands.parameters import HandParameters
from twohands.schema import Stage1Hands
from twohands.video.belief import drop_other_hands, viewed
from twohands.video.hand import FollowedHand, Reading
from twohands.video.reconstruct import LiveHands, VideoReader, joined_motions
from twohands.video.sides import SideConfig, Sides, evidence

BOTH = torch.tensor([True, True])


def answer(side, presence=(1.0, 1.0)) -> Stage1Hands:
    points = torch.zeros(2, 21, 3)
    return Stage1Hands(HandParameters.zeros(), points, torch.full((2, 21), 0.8), torch.tensor(presence), torch.tensor(side))


def reading(name: float) -> Reading:
    """Told by its score."""
    return Reading(HandParameters.zeros(), torch.zeros(2, 21), torch.full((2,), name), BOTH, 0)


def fed(sides: Sides, frame: int, side=(0.5, 0.5), mirrored=None):
    """A frame that is read as it is, and also with left and right exchanged if its answer is given (by the hands' places in the picture)."""
    twice = None if mirrored is None else answer(mirrored[::-1])
    corrections = None if twice is None else sides.weigh(BOTH, answer(side), twice)
    own, other = reading(0.5), None if twice is None else reading(0.9)
    sides.note(frame / 30, *((own, other) if corrections is None or other is None else (other, own)))
    return corrections


def hand(x: float) -> FollowedHand:
    points = torch.stack(torch.meshgrid(torch.linspace(0, 40, 7), torch.linspace(0, 100, 3), indexing="ij"), -1).reshape(21, 2)
    return FollowedHand(points + torch.tensor([x, 0.0]), 0.0, 0.6, 0.8, 0.3)


def test_a_place_without_a_hand_does_not_outvote_a_hand():
    """A hand that is there denies its side as surely as a ghost claims to have its."""
    own, other = answer((0.99, 0.01), (0.2, 1.0)), answer((0.99, 0.77), (1.0, 0.02))
    assert evidence(BOTH, own, other, 3.0) < -2
    seen = answer((0.99, 0.01)), answer((0.99, 0.01))
    assert evidence(BOTH, *seen, 3.0) == pytest.approx(0, abs=1e-5), "two that are there count alike"


@pytest.mark.parametrize("side", [(0.5, 0.5), (0.95, 0.95), (0.05, 0.9)])
def test_equal_evidence_changes_nothing(side):
    sides = Sides(SideConfig())
    assert all(fed(sides, k, side, mirrored=side) is None for k in range(40))
    assert sides.odds == 0.0


def test_divided_evidence_does_not_exchange_hands_to_and_fro():
    sides = Sides(SideConfig())
    for k in range(4):
        fed(sides, k, (0.9, 0.9), mirrored=(0.5, 0.5))
    changes = [fed(sides, k, *(((0.1, 0.1), (0.9, 0.9)) if k % 2 else ((0.9, 0.9), (0.1, 0.1)))) for k in range(4, 60)]
    assert changes == [None] * 56


def test_first_frames_are_outvoted_by_surer_ones():
    """Frames that were read both ways are exchanged, the ones in between forgotten."""
    sides = Sides(SideConfig())
    for k in range(4):
        assert fed(sides, k, (0.6, 0.6), mirrored=(0.5, 0.5)) is None
    assert fed(sides, 4) is None
    assert fed(sides, 5, (0.6, 0.5), mirrored=(0.6, 0.5)) is None
    assert fed(sides, 6, (0.3, 0.2), mirrored=(0.7, 0.8)) is None, "what is hardly below zero is no reason yet"
    corrections = fed(sides, 7, (0.05, 0.05), mirrored=(0.95, 0.95))
    assert [round(then * 30) for then, _ in corrections] == list(range(7))
    assert [float(r.score[0]) for _, r in corrections] == pytest.approx([0.9] * 4 + [0.0] + [0.9] * 2)
    assert [bool(r.seen.any()) for _, r in corrections] == [True] * 4 + [False] + [True] * 2
    assert sides.odds > 3


def test_what_was_sure_before_the_hands_met_stays():
    sides = Sides(SideConfig())
    for k in range(6):
        fed(sides, k, (0.95, 0.95), mirrored=(0.05, 0.05))
    sides.watch(0.2, hand(0.0), hand(30.0), reading(0.5))
    assert sides.met
    corrections = None
    for k in range(6, 12):
        corrections = fed(sides, k, (0.05, 0.05), mirrored=(0.95, 0.95)) if corrections is None else corrections
    assert [round(then * 30) for then, _ in corrections] == list(range(6, 6 + len(corrections)))


def test_hands_are_asked_about_often_only_while_their_sides_are_not_decided():
    sides = Sides(SideConfig())
    for k in range(4):
        sides.both_read_s = k / 30
        fed(sides, k, (0.6, 0.5), mirrored=(0.5, 0.5))
    assert [sides.should_exchange(0.1 + dt, looked=False) for dt in (0.03, 0.07, 0.1)] == [False, False, True]
    fed(sides, 4, (0.95, 0.95), mirrored=(0.05, 0.05))
    assert not sides.should_exchange(0.2, looked=False)
    assert not sides.should_exchange(0.2, looked=True)
    assert sides.should_exchange(0.9, looked=True)


@pytest.mark.parametrize(("sure", "frames"), [(0.95, 3), (0.6, 4)])
def test_no_more_first_frames_are_read_twice_than_can_count(sure, frames):
    sides, twice = Sides(SideConfig()), 0
    while not sides.known:
        assert sides.should_exchange(twice / 30, looked=False)
        sides.both_read_s = twice / 30
        fed(sides, twice, (sure, sure), mirrored=(1 - sure, 1 - sure))
        twice += 1
    assert twice == frames
    assert not sides.should_exchange(twice / 30, looked=False)


@dataclasses.dataclass
class Doubted(Film):
    """Until frame 12 nobody knows which hand is which, and the wrong guess looks a little better."""

    def infer(self, image, camera, pairs, seen=None, looks=None):
        answers = super().infer(image, camera, pairs)
        if self.now >= 12:
            return answers
        doubts = [torch.where(a.side_correct > 0.9, 0.5, torch.where(a.side_correct > 0.55, 0.53, a.side_correct)) for a in answers]
        return [dataclasses.replace(a, side_correct=d) for a, d in zip(answers, doubts, strict=True)]


def test_a_film_whose_sides_show_late_has_them_from_its_first_frame_on():
    film = Doubted(moving(apart), wrong_side=set(range(12)), noise=0.01)
    reader = read(film)
    assert all(bool(frame[0].seen.all()) for frame in reader.readings[15:])
    motion, swaps, changes = judged(film, reader)
    assert (swaps, changes) == (0, 0)
    assert bool(motion.hand_present[:, 0].all())
    assert (motion.keypoints_m[:, 0] - film.keypoints).norm(dim=-1).mean() < 0.01


def test_live_changes_its_mind_once():
    film = Doubted(moving(apart), wrong_side=set(range(12)), noise=0.01)
    live = LiveHands(VideoReader(film.pipeline(), film.camera, "caller", 160, 120), refine=False)
    parts = [live.push(frame) for frame in film.frames()]
    motion = joined_motions([part for part in [*parts, live.flush()] if part is not None])
    off = (motion.keypoints_m[:, 0] - film.keypoints).norm(dim=-1).mean(-1)
    wrong = (off > 0.1).all(-1).numpy()
    assert wrong[:10].all(), "nobody could know"
    assert not wrong[14:].any()
    assert np.count_nonzero(np.diff(wrong)) == 1


@pytest.mark.parametrize("known", [False, True])
def test_a_hand_that_came_in_where_the_other_one_is_and_has_its_side_is_not_believed(known):
    """Both boxes show the left hand. One that was a hand of its own before they met is only hidden."""
    film = Film(moving(apart))
    tracker = read(film).tracker
    (person,) = tracker.roster.people
    assert all(hand.own_odds == np.inf for hand in person.hands), "hands that are apart are their own"
    if not known:
        person.hands[1].own_odds = 0.0
    pair = person.expected_pair(1.5).map(lambda t: t[[0, 0]])
    denied = dataclasses.replace(answer((0.99, 0.1)), keypoints_m=film.keypoints[44])
    for _ in range(6):
        view = viewed(tracker.roster, person, pair, denied, None, 1.5)
        view.believed = [True, True]
        drop_other_hands(tracker.roster, [view])
        assert view.believed == [True, known]
    seen = dataclasses.replace(denied, side_correct=torch.tensor([0.99, 0.99]))
    for _ in range(6):
        view = viewed(tracker.roster, person, pair, seen, None, 1.5)
        drop_other_hands(tracker.roster, [view])
    assert person.hands[1].own_odds == np.inf
