"""Hands that come in, read in the frames before the detector looked."""

import dataclasses

import pytest
import torch
from films import Film, number_of
from test_track import apart, moving, read

from twohands.video.reconstruct import LiveHands, VideoReader
from twohands.video.track_config import TrackConfig


@dataclasses.dataclass
class Late(Film):
    """The detector sees hands from some frame on; stage 1 sees them wherever they are."""

    from_frame: tuple[int, int] = (0, 0)
    """Of the left and the right one."""

    def __call__(self, image):
        hidden = {(k, hand) for hand in (0, 1) for k in range(self.from_frame[hand])}
        return dataclasses.replace(self, hidden=self.hidden | hidden).plain(image)

    def plain(self, image):
        return super().__call__(image)


def seen(reader: VideoReader) -> list[list[bool]]:
    """By hand, then frame, whoever's they are."""
    hands = [[any(bool(r.seen[hand]) for r in frame) for frame in reader.readings] for hand in (0, 1)]
    assert all(len(frame) <= 1 for frame in reader.readings), "one person"
    return hands


@pytest.mark.parametrize("late", [(0, 20), (20, 0), (20, 20)])
def test_a_hand_that_was_found_late_is_read_in_the_frames_before(late):
    film = Late(moving(apart), from_frame=late)
    assert all(seen(read(film))[0])
    assert all(seen(read(film))[1])
    motion = read(film).motion(refine=False)
    error_m = (motion.keypoints_m[:, 0] - film.keypoints).norm(dim=-1).mean((1, 2))
    assert float(error_m.max()) < 0.005


def test_it_is_followed_back_no_farther_than_it_is_seen():
    """A hand that was not there until frame 12, and was not found until frame 20."""
    film = Late(moving(apart), hidden={(k, 1) for k in range(12)}, from_frame=(0, 20))
    left, right = seen(read(film))
    assert all(left)
    assert right == [k >= 12 for k in range(45)]


def test_only_so_many_frames_are_kept():
    film = Late(moving(apart), from_frame=(0, 20))
    reader = VideoReader(film.pipeline(), film.camera, "caller", 160, 120, TrackConfig(past_bytes=15 * 160 * 120 * 3))
    for frame in film.frames():
        reader.read(frame)
    # Found with frame 22 at the latest, and followed back once the first frames have told the sides.
    assert 8 <= seen(reader)[1].index(True) <= 14
    assert len(reader.tracker.past._frames) == 15


def test_what_has_been_shown_live_is_not_read_again():
    film = Late(moving(apart), from_frame=(0, 20))
    hands = LiveHands(VideoReader(film.pipeline(), film.camera, "caller", 160, 120), refine=False)
    looked = []
    for frame in film.frames():
        before = len(film.looks)
        hands.push(frame)
        looked += [number_of(frame.image) - now for now, _ in film.looks[before:]]
    assert not any(looked)
    film.looks.clear()
    read(film)
    assert len({now for now, _ in film.looks}) == 45


class CameOut(Late):
    """Until frame 25 the right hand is behind the left one, which is read in its place."""

    as_its_own: bool = False
    """With the right side."""

    def infer(self, image, camera, pairs, seen=None, looks=None):
        answers = super().infer(image, camera, pairs)
        return [
            self._doubled(answer) if self.now < 25 and bool(pair.present[1]) else answer
            for answer, pair in zip(answers, pairs, strict=True)
        ]

    def _doubled(self, answer):
        keypoints, side_correct = answer.keypoints_m.clone(), answer.side_correct.clone()
        keypoints[1], side_correct[1] = self.keypoints[self.now, 0], 0.9 if self.as_its_own else 0.2
        return dataclasses.replace(answer, keypoints_m=keypoints, side_correct=side_correct)


@pytest.mark.parametrize("as_its_own", [True, False])
def test_a_hand_is_not_followed_back_to_where_another_one_is(as_its_own):
    def coming(t):
        return [[-0.05, 0.06, 0.6], [0.1 * max(2 * t - 1, -0.45), 0.06, 0.63]]

    film = CameOut(moving(coming), hidden={(k, 1) for k in range(25)}, from_frame=(0, 34))
    film.as_its_own = as_its_own
    right = seen(read(film))[1]
    assert not any(right[:25])
    assert all(right[25:])


def test_places_of_a_reading_are_its_keypoints_in_the_picture():
    film = Film(moving(apart))
    reader = read(film)
    places = reader.tracker.past._places(reader.readings[-1][0])
    torch.testing.assert_close(places, film.xy[-1], atol=0.1, rtol=0)
