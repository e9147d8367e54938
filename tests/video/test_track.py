"""Who is who: through crossings, occlusion, absence, wrong first guesses and broken frames; and how seldom the detector is needed."""

import dataclasses

import numpy as np
import pytest
import torch
from films import FPS, Film, number_of

from scenes import two_hands
from twohands.detector import Detector as MapDetector
from twohands.evaluation.motion import swapped_frames, switches
from twohands.hands.parameters import HandParameters
from twohands.regress.confidence import error_of_confidence
from twohands.schema import Detection
from twohands.video.belief import View, drop_doubles
from twohands.video.hand import MOST_ROOM, FollowedHand, size_of
from twohands.video.reconstruct import LiveHands, VideoReader, joined_motions
from twohands.video.track import Tracker, fewer_looks
from twohands.video.track_config import TrackConfig


def moving(place) -> list[HandParameters]:
    """The two upright hands with their wrists where `place(t)` says: (hand, xyz) in metres, t from 0 to 1."""
    rest = two_hands(0.2, depth_m=0.6)
    found = []
    for k in range(45):
        xyz = torch.tensor(place(k / 44), dtype=torch.float32)
        found.append(dataclasses.replace(rest, translation_m=xyz))
    return found


def apart(t):
    return [[-0.13, 0.06, 0.6], [0.13, 0.06, 0.6]]


def crossing(t):
    x = 0.13 * np.cos(2 * np.pi * t)
    return [[-x, 0.06, 0.65], [x, 0.06, 0.55]]


def leaving(t):
    away = np.clip(1 - abs(t - 0.5) / 0.3, 0, 1)
    return [[-0.1, 0.06, 0.6], [0.1 + 0.6 * away, 0.06, 0.6]]


def read(film: Film) -> VideoReader:
    reader = VideoReader(film.pipeline(), film.camera, "caller", 160, 120)
    for frame in film.frames():
        reader.read(frame)
    return reader


def judged(film: Film, reader: VideoReader):
    """Motion, frames with exchanged hands, and changes of the person."""
    motion = reader.motion(refine=False)
    present = motion.hand_present.numpy()
    xy = film.camera.project(torch.where(motion.hand_present[..., None, None], motion.keypoints_m, 1.0)).numpy()
    labels = [next((motion.person[n] for n in range(len(motion.person)) if row[n].any()), None) for row in present]
    swaps = swapped_frames(xy.max(1, where=present[..., None, None], initial=-1e6), film.xy.numpy(), present.any(1))
    return motion, int(swaps.sum()), switches(labels)


@pytest.mark.parametrize("place", [apart, crossing, leaving])
def test_hands_stay_who_they_are(place):
    film = Film(moving(place), noise=0.03)
    motion, swaps, changes = judged(film, read(film))
    assert (swaps, changes) == (0, 0)
    assert motion.person == (0,)
    visible = sum(len(film.visible(k)) for k in range(45))
    assert int(motion.hand_present.sum()) >= 0.9 * visible
    assert film.asked < 20, "the detector looked in fewer than half of the frames"


def test_a_followed_pair_needs_hardly_any_detector():
    film = Film(moving(apart))
    read(film)
    assert film.asked <= 1 + 45 / FPS / 0.7


def test_a_hand_hidden_behind_the_other_is_found_again():
    hidden = {(k, 0) for k in range(8, 15)} | {(k, 0) for k in range(31, 37)}
    film = Film(moving(crossing), hidden=hidden, noise=0.02)
    motion, swaps, changes = judged(film, read(film))
    assert (swaps, changes) == (0, 0)
    assert bool(motion.hand_present[20:28, 0].all())
    assert bool(motion.hand_present[42:, 0].all())


def test_a_hidden_hand_is_waited_for_where_its_way_leads():
    """While it is behind the other one, its readings are of that one, and unsure of themselves: they must not take its place along, nor its turn."""

    @dataclasses.dataclass
    class Misled(Film):
        def infer(self, image, camera, pairs, seen=None, looks=None):
            answers = super().infer(image, camera, pairs)
            if not 9 <= self.now < 14:
                return answers
            other = self.keypoints[self.now, 1] + torch.tensor([0.0, 0.03, 0.0])
            unsure = torch.tensor([0.3, 0.8])[:, None].expand(2, 21)
            misled = [torch.stack([other * torch.tensor([1.0, -1.0, 1.0]), a.keypoints_m[1]]) for a in answers]
            return [dataclasses.replace(a, keypoints_m=k, keypoint_confidence=unsure) for a, k in zip(answers, misled, strict=True)]

    film = Misled(moving(crossing), noise=0.01)
    read(film)
    for frame in range(10, 16):
        pair = next(pair for now, pair in film.looks if now == frame)
        hand = film.xy[frame, 0]
        middle = (pair.box_xyxy_px[0, :2] + pair.box_xyxy_px[0, 2:]) / 2
        off = float((middle - (hand.amin(0) + hand.amax(0)) / 2).norm()) / float((hand.amax(0) - hand.amin(0)).max())
        along = torch.nn.functional.normalize(hand[9] - hand[0], dim=0)
        assert off < 0.3
        assert float((pair.direction[0] * along).sum()) > 0.9


def test_a_detection_that_may_be_the_other_hands_tells_nothing_of_a_hidden_one():
    film = Film(moving(apart))
    tracker = read(film).tracker
    (person,) = tracker.roster.people
    left = person.hands[0]
    here = left.expected_xy(1.5)
    box = torch.cat([here.amin(0), here.amax(0)])
    assert tracker.roster.is_own(box, left, 1.5)
    assert not tracker.roster.is_own(box, person.hands[1], 1.5)
    left.doubts = 1
    tracker.roster.glimpse(left, box + torch.tensor([0.0, 40.0, 0.0, 40.0]), 1.5)
    assert torch.allclose(left.expected_xy(1.5), here + torch.tensor([0.0, 40.0]), atol=0.1), "what is elsewhere begins anew there"


def test_hands_exchanged_while_they_meet_are_told_apart_when_they_part():
    """They come near one another and change places in one frame: the nearest hand is followed, the wrong one. Afterwards no frame shows the left
    hand as the right one; those of which nobody knows show none."""

    def changing_places(t):
        x = (0.13 - 0.1 * np.sin(np.pi * t)) * (1 if t < 0.5 else -1)
        return [[-x, 0.06, 0.6], [x, 0.06, 0.6]]

    film = Film(moving(changing_places), noise=0.02)
    motion, swaps, changes = judged(film, read(film))
    assert (swaps, changes) == (0, 0)
    assert motion.person == (0,)
    assert bool(motion.hand_present[:15, 0].all())
    assert bool(motion.hand_present[40:, 0].all())
    both = motion.hand_present[:, 0].all(-1)
    assert (motion.keypoints_m[both, 0] - film.keypoints[both]).norm(dim=-1).mean() < 0.02


def test_a_wrong_first_guess_is_corrected_from_the_first_frame_on():
    film = Film(moving(apart), wrong_side={0})
    motion, swaps, _ = judged(film, read(film))
    assert swaps == 0
    assert (motion.keypoints_m[0, 0] - film.keypoints[0]).norm(dim=-1).max() < 0.01


def test_live_takes_a_wrong_first_guess_back_too():
    film = Film(moving(apart)[:12], wrong_side={0})
    live = LiveHands(VideoReader(film.pipeline(), film.camera, "caller", 160, 120), refine=False)
    parts = [live.push(frame) for frame in film.frames()]
    motion = joined_motions([part for part in [*parts, live.flush()] if part is not None])
    assert bool(motion.hand_present[:, 0].all())
    assert (motion.keypoints_m[:, 0] - film.keypoints).norm(dim=-1).max() < 0.01


def test_a_hand_that_moves_unexpectedly_is_looked_at_where_it_is():
    def starting(t):  # with a quarter of its size a frame
        away = 0.04 * max(0.0, 44 * t - 20) if t < 24 / 44 else 0.16
        return [[-0.13, 0.06, 0.6], [0.1 + away, 0.06, 0.6]]

    film = Film(moving(starting))
    read(film)
    looks = [[pair for frame, pair in film.looks if frame == k] for k in range(45)]
    assert [len(looks[k]) for k in (10, 12, 14, 18, 19)] == [1] * 5, "a still pair is looked at once"
    first, second = looks[21]
    hand = film.xy[21, 1]
    middle = (hand.amin(0) + hand.amax(0)) / 2
    off = [float((pair.box_xyxy_px[1].view(2, 2).mean(0) - middle).abs().max()) for pair in (first, second)]
    assert off[0] > 3
    assert off[1] < 0.5, "the second look is where it turned out to be"
    low, high = second.box_xyxy_px[1].view(2, 2)
    assert bool((low <= hand.amin(0)).all() and (high >= hand.amax(0)).all()), "all of it"
    assert float((high - low).max()) <= MOST_ROOM * size_of(hand) + 1e-3
    assert torch.equal(first.box_xyxy_px[0], second.box_xyxy_px[0]), "the other hand stays where it was expected"


def test_a_hand_that_leaps_away_along_its_ray_is_not_believed():
    """In the picture it stays where it was, and as large."""

    @dataclasses.dataclass
    class Leaping(Film):
        def infer(self, image, camera, pairs, seen=None, looks=None):
            answers = super().infer(image, camera, pairs)
            if self.now != 20:
                return answers
            farther = torch.tensor([1.0, 3.0])[:, None, None]
            return [dataclasses.replace(answer, keypoints_m=answer.keypoints_m * farther) for answer in answers]

    reader = read(Leaping(moving(apart)))
    (reading,) = reader.readings[20]
    assert reading.seen.tolist() == [True, False]
    assert reader.readings[21][0].seen.all()


@pytest.mark.parametrize(("sure", "place"), [(0.3, (0, 0)), (0.6, (1, 0))])
def test_a_hand_gone_astray_gives_way_to_a_much_surer_one(sure, place):
    film = Film(moving(apart))
    tracker = read(film).tracker
    (person,) = tracker.roster.people
    person.hands[0].sureness = sure
    detection = film(film.frames()[-1].image)
    (candidate,) = tracker.arrivals.welcomer.candidates(film.frames()[-1].image, film.camera, detection)
    assert float(candidate.hands.keypoint_confidence.mean()) == pytest.approx(0.8)
    elsewhere = dataclasses.replace(candidate, keypoints_xy=candidate.keypoints_xy + torch.tensor([20.0, 0.0]))
    owner, side = tracker.arrivals.owner(elsewhere, 0, torch.from_numpy(film.frames()[-1].image).permute(2, 0, 1), 1.5)
    assert (owner.number, side) == place


@dataclasses.dataclass
class Shrinking(Film):
    """From frame 10 on the left hand is read at six tenths of its size, and unsurely, wherever it is looked for in a box that is too small for it."""

    sure_of_it: float = 0.67

    def infer(self, image, camera, pairs, seen=None, looks=None):
        answers = super().infer(image, camera, pairs)
        true = size_of(self.xy[self.now, 0])
        return [
            self._shrunk(a) if self.now == 10 or _longer_side(pair.box_xyxy_px[0]) < 0.9 * true else a
            for a, pair in zip(answers, pairs, strict=True)
        ]

    def _shrunk(self, answer):
        farther = torch.tensor([1 / 0.6, 1.0])
        middle = answer.keypoints_m.mean(1, keepdim=True)
        keypoints = middle * farther[:, None, None] + answer.keypoints_m - middle
        confidence = answer.keypoint_confidence.clone()
        confidence[0] = self.sure_of_it
        return dataclasses.replace(answer, keypoints_m=keypoints, keypoint_confidence=confidence)


@dataclasses.dataclass
class Dwindling(Film):
    """From frame 10 on nobody sees the left hand any more, and stage 1 reads a smaller one into every box that it is shown, unsurely."""

    def __call__(self, image):
        seen = super().__call__(image)
        return seen if number_of(image) < 10 else seen[[1]]

    def infer(self, image, camera, pairs, seen=None, looks=None):
        answers = super().infer(image, camera, pairs)
        if self.now < 10:
            return answers
        return [self._smaller(answer, _longer_side(pair.box_xyxy_px[0])) for answer, pair in zip(answers, pairs, strict=True)]

    def _smaller(self, answer, asked_px):
        farther = torch.tensor([size_of(self.xy[self.now, 0]) / (0.8 * asked_px), 1.0])
        middle = answer.keypoints_m.mean(1, keepdim=True)
        keypoints = middle * farther[:, None, None] + answer.keypoints_m - middle
        confidence = torch.where(torch.tensor([[True], [False]]), 0.5, answer.keypoint_confidence)
        return dataclasses.replace(answer, keypoints_m=keypoints, keypoint_confidence=confidence)


def test_a_hand_that_is_read_smaller_and_smaller_is_given_up():
    film = Dwindling(moving(apart))
    tracker = Tracker(film.pipeline(), film.camera)
    sizes = []
    for frame in film.frames():
        tracker.step(frame.image, frame.time_s)
        (person,) = tracker.roster.people
        sizes.append(None if person.hands[0] is None else person.hands[0].size_px / size_of(film.xy[0, 0]))
    assert sizes[9] == pytest.approx(1, abs=0.02)
    assert sizes[-1] is None
    assert min(size for size in sizes if size is not None) > 1 / (1 + tracker.config.largest_jump) - 0.01


def _longer_side(box):
    return float((box[2:] - box[:2]).max())


@pytest.mark.parametrize(
    ("config", "found"), [(TrackConfig(), True), (TrackConfig(outgrown=9.0), False), (TrackConfig(better_read=9.0), False)]
)
def test_a_hand_read_too_small_in_its_own_small_box_is_read_where_the_detector_sees_it(config, found):
    film = Shrinking(moving(apart))
    tracker = Tracker(film.pipeline(), film.camera, config)
    for frame in film.frames():
        readings = tracker.step(frame.image, frame.time_s)
    (reading,) = readings
    assert error_of_confidence(torch.tensor(film.sure_of_it)) < config.unsure_noise, "not so unsure that the detector's word counts anyway"
    depth = [float(film.keypoints[-1, side, :, 2].mean()) for side in (0, 1)]
    read_m = [hand.distance_m for hand in tracker.roster.people[0].hands]
    assert len(tracker.roster.people) == 1
    assert read_m[1] == pytest.approx(depth[1], rel=0.05)
    assert (read_m[0] == pytest.approx(depth[0], rel=0.05)) == found
    assert bool(reading.seen.all())


@pytest.mark.parametrize(("sizes", "taken"), [(0.4, ()), (1.2, (0,)), (2.0, (0, 1))])
def test_hands_that_meet_do_not_take_each_others_place(sizes, taken):
    """A better reading takes a hand's place in the open; where another hand is near it may be that one's. One of the other side takes it too while the
    person's other hand is seen elsewhere: nobody has three."""
    film = Film(moving(apart))
    tracker = read(film).tracker
    (person,) = tracker.roster.people
    hand, other = person.hands
    hand.noise = 0.9
    other.begin(hand.keypoints_xy + torch.tensor([sizes * hand.size_px, 0.0]), other.seen_s)
    for side in (0, 1):
        owner = tracker.roster.misread_owner(hand.keypoints_xy * 1.02, side, 0.5, hand.seen_s)
        assert owner == ((person, 0) if side in taken else None)
        assert tracker.roster.misread_owner(hand.keypoints_xy * 1.02, side, 0.8, hand.seen_s) is None, "not much better"
    other.doubts = 1
    assert tracker.roster.misread_owner(hand.keypoints_xy * 1.02, 1, 0.5, hand.seen_s) is None, "may be the other one"


def test_a_hand_that_leapt_too_far_to_be_followed_is_still_its_persons():
    film = Film(moving(apart), hidden={(k, 1) for k in range(45)})
    tracker, image = read(film).tracker, film.frames()[-1].image
    (person,) = tracker.roster.people
    (candidate,) = tracker.arrivals.welcomer.candidates(image, film.camera, film(image))
    pixels = torch.from_numpy(image).permute(2, 0, 1)
    person.hands[0].doubts = 1
    for sizes, number in ((1.5, 0), (4.0, 1)):
        away = torch.tensor([sizes * person.hands[0].size_px, 0.0])
        leapt = dataclasses.replace(candidate, keypoints_xy=candidate.keypoints_xy + away)
        assert tracker.arrivals.owner(leapt, 0, pixels, 1.5)[0].number == number


def test_a_broken_frame_is_reported_and_filled():
    film = Film(moving(apart), broken={20, 21})
    reader = read(film)
    motion, swaps, changes = judged(film, reader)
    assert [trouble.split(":")[0] for trouble in reader.troubles] == ["frame 20 (0.67 s)", "frame 21 (0.70 s)"]
    assert motion.hand_state[18:24, 0, 0].tolist() == [1, 1, 2, 2, 1, 1]
    assert (motion.keypoints_m[20:22, 0] - film.keypoints[20:22]).norm(dim=-1).max() < 0.005
    assert (swaps, changes) == (0, 0)


def test_nobody_is_nobody():
    film = Film(moving(apart), hidden={(k, hand) for k in range(45) for hand in (0, 1)})
    motion, _, _ = judged_empty(film)
    assert motion.person == ()
    assert motion.hand_state.shape == (45, 0, 2)


def judged_empty(film: Film):
    reader = read(film)
    return reader.motion(), 0, 0


def beside(t):
    return [[-0.03, 0.06, 0.6], [0.03, 0.06, 0.6]]


@pytest.mark.parametrize(
    ("hand", "other", "better", "found"),
    [
        ("astray", "followed", 1.1, True),
        ("astray", "followed", 9.0, False),
        ("astray", "elsewhere", 1.1, False),
        ("astray", "hidden too", 1.1, True),
        ("lost", "followed", 1.1, True),
        ("never there", "followed", 1.1, False),
        ("seen by the other", "followed", 1.1, True),
        ("seen by the other, but gone elsewhere", "followed", 1.1, False),
    ],
)
def test_a_hand_hidden_beside_another_one_is_put_where_a_photos_look_reads_it_better(hand, other, better, found):
    film = Film(moving(beside))
    tracker = Tracker(film.pipeline(), film.camera, TrackConfig(better_found=better))
    for frame in film.frames():
        tracker.step(frame.image, frame.time_s)
    (person,) = tracker.roster.people
    image, away = film.frames()[-1].image, torch.tensor([0.0, 25.0])
    if other != "followed":
        person.hands[1].begin(film.xy[-1, 1] - away, 1.5)
        person.hands[1].hidden = other == "hidden too"
    if hand == "astray":
        person.hands[0] = FollowedHand(film.xy[-1, 0] + away, 1.5, 0.6, 0.5, 2.0, hidden=True)
    else:
        person.hands[0] = None
        person.sides.met = hand == "lost"
    person.hands[1].sees_other = hand.startswith("seen by the other")
    person.apart = hand.endswith("elsewhere")
    assert tracker.arrivals.read_anew(image, film(image), 1.5)[1] == found
    assert len(tracker.arrivals.came) == (found and hand != "astray"), "who was hidden and not lost did not come in"
    there = person.hands[0] is not None and bool(torch.allclose(person.hands[0].keypoints_xy, film.xy[-1, 0], atol=0.5))
    assert there == found


@pytest.mark.parametrize(
    ("share", "off", "noise", "sees_other", "within"),
    [
        (0.6, 0.2, 0.5, False, True),
        (0.9, 0.2, 0.5, False, False),
        (0.6, 0.7, 0.5, False, False),
        (0.6, 0.2, 0.2, False, False),
        (0.6, 0.2, 0.5, True, False),
    ],
)
def test_a_smaller_hand_within_one_that_is_plainly_seen_is_that_one(share, off, noise, sees_other, within):
    film = Film(moving(apart))
    tracker = read(film).tracker
    (person,) = tracker.roster.people
    hand = person.hands[0]
    hand.noise, hand.sees_other = 0.3, sees_other
    middle = hand.keypoints_xy.mean(0)
    xy = (hand.keypoints_xy - middle) * share + middle + torch.tensor([0.0, off * hand.size_px])
    assert tracker.roster.is_within_another(xy, noise, hand.seen_s) == within
    hand.doubts = 1
    assert not tracker.roster.is_within_another(xy, noise, hand.seen_s)


def test_hands_that_were_seen_with_room_between_them_are_known_to_be_apart():
    for place, known in ((apart, True), (beside, False)):
        (person,) = read(Film(moving(place))).tracker.roster.people
        assert person.apart == known


@pytest.mark.parametrize(
    ("expected", "found", "sure", "kept"),
    [
        (0.2, 0.18, True, True),
        (0.2, 0.18, False, True),
        (0.4, 0.22, True, True),
        (0.4, 0.22, False, False),
        (0.6, 0.22, True, False),
        (0.1, 0.05, True, False),
    ],
)
def test_two_hands_read_near_each_other_are_one_read_twice_only_if_they_were_farther_apart(expected, found, sure, kept):
    """Distances in sizes of the hand. That a side is doubted says little: of a hand that is hardly seen beside its other one it always is."""
    film = Film(moving(apart))
    tracker = read(film).tracker
    (person,) = tracker.roster.people
    place, size_px = person.hands[0].keypoints_xy.clone(), person.hands[0].size_px
    person.hands[1].begin(place + torch.tensor([expected * size_px, 0.0]), 1.5)
    xy = torch.stack([place, place + torch.tensor([found * size_px, 0.0])])
    (hands,) = film.infer(torch.from_numpy(film.frames()[-1].image).permute(2, 0, 1), film.camera, [person.expected_pair(1.5)])
    hands = dataclasses.replace(hands, side_correct=torch.tensor([0.9, 0.9 if sure else 0.3]))
    view = View(person, person.expected_pair(1.5), hands, None, xy, [True, True], [0.0, 1.0])
    drop_doubles(tracker.roster, [view], 1.5)
    assert view.believed == [True, kept]


def test_two_people_whose_missing_hands_are_each_others_are_one():
    """Beside a hand alone stage 1 makes up the other one; that it is not believed for some frames gives it away."""
    film = Film(moving(apart))
    for doubts, people in ((3, 1), (1, 2)):
        roster = read(film).tracker.roster
        (person,) = roster.people
        younger = roster.newcomer()
        made_up = [FollowedHand(xy, 1.5, 0.6, 0.5, 1.5, doubts=doubts) for xy in film.xy[-1].flip(0)]
        younger.hands = [made_up[0], person.hands[1]]
        person.hands = [person.hands[0], made_up[1]]
        for each in roster.people:
            roster.remember(each, 1.5)
        roster.unite()
        assert len(roster.active) == people
        assert any(hand is made_up[1] for hand in person.hands) == (people == 2)


@dataclasses.dataclass
class Haunted(Film):
    """From frame 10 on the detector sees a third hand, of which stage 1 makes one that it is not sure of."""

    apart_px: float = 0.0
    confidence: float = 0.45

    def __call__(self, image):
        seen = super().__call__(image)
        if number_of(image) < 10:
            return seen
        third = dataclasses.replace(seen[[1]], box_xyxy_px=seen.box_xyxy_px[1:] + self.apart_px, person=(1,))
        return Detection(
            *(torch.cat([getattr(d, f) for d in (seen, third)]) for f in ("box_xyxy_px", "score", "right_probability", "direction")),
            (0, 0, 1),
        )

    def infer(self, image, camera, pairs, seen=None, looks=None):
        answers = super().infer(image, camera, pairs)
        return [
            self._third(a, pair) if self.now >= 10 and int(pair.present.sum()) == 1 else a for a, pair in zip(answers, pairs, strict=True)
        ]

    def _third(self, answer, pair):
        side = int(pair.present[1])
        moved = self.keypoints[self.now, 1].clone()
        moved[:, :2] += self.apart_px * moved[:, 2:].mean() / self.camera.focal_px.mean()
        keypoints, confidence, presence = answer.keypoints_m.clone(), answer.keypoint_confidence.clone(), answer.presence.clone()
        keypoints[side], confidence[side], presence[side] = moved, self.confidence, 0.98
        return dataclasses.replace(answer, keypoints_m=keypoints, keypoint_confidence=confidence, presence=presence)


@pytest.mark.parametrize(("confidence", "people"), [(0.45, 1), (0.8, 2)])
def test_nobody_comes_in_by_a_hand_read_badly_beside_others(confidence, people):
    film = Haunted(moving(beside), apart_px=-20.0, confidence=confidence)
    tracker = Tracker(film.pipeline(), film.camera)
    for frame in film.frames()[:13]:
        tracker.step(frame.image, frame.time_s)
    tracker._unsure = True
    frame = film.frames()[12]
    tracker.step(frame.image, frame.time_s + 1.0)
    assert len(tracker.roster.people) == people


@pytest.mark.parametrize(("doubts", "strangers"), [(0, 0), (1, 1)])
def test_a_second_box_of_a_hand_plainly_seen_is_not_asked_about(doubts, strangers):
    film = Film(moving(apart))
    tracker = read(film).tracker
    (person,) = tracker.roster.people
    person.hands[1].doubts = doubts
    image = film.frames()[-1].image
    seen = film(image)
    again = dataclasses.replace(seen[[0, 1, 0]], person=(0, 0, 1))
    assert len(tracker.roster.strangers(again, 1.5).score) == strangers
    assert len(tracker.roster.strangers(again, 1.5, {0, 2}).score) == 0


@pytest.mark.parametrize(("distance_m", "far"), [(0.6, [0.0, 2.1]), (6.0, [0.0, 0.7, 1.4, 2.1])])
def test_hands_across_the_room_are_looked_for_seldom_where_near_ones_are_followed(distance_m, far):
    film = Film(moving(lambda t: [[-0.13, 0.06, distance_m], [0.13, 0.06, distance_m]]))
    tracker = read(film).tracker
    tracker._looked_far_s = -1e9
    asked = []
    tracker.near_detector = lambda image: asked.append("near") or film(image)
    tracker.detector = lambda image: asked.append("far") or film(image)
    times = [0.0, 0.7, 1.4, 2.1]
    for time_s in times:
        tracker._detected(film.frames()[0].image, time_s)
    assert [t for t, which in zip(times, asked, strict=True) if which == "far"] == far


@pytest.mark.parametrize(("at_most", "looks"), [(None, 3), (2, 2), (5, 3)])
def test_a_films_detector_is_the_same_network_with_fewer_looks(at_most, looks):
    detector = MapDetector.load()
    fewer = fewer_looks(detector, at_most)
    assert (fewer.config.looks, detector.config.looks) == (looks, 3)
    assert fewer.config.doubtful == fewer.config.threshold > detector.config.doubtful, "nor does it look at anything more closely"
    assert fewer.network is detector.network
    film = Film(moving(apart))
    assert fewer_looks(film, at_most) is film
