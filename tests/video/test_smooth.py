"""The filter: what is still becomes stiller, what moves fast is followed, an unsure reading and a slip count for little, gaps are filled, and live
it does not look ahead by more than a frame."""

import dataclasses

import numpy as np
import pytest
import torch

from twohands.geometry.rotations import geodesic_angle_rad, rotvec_to_matrix
from twohands.video.smooth import (
    GROUPS,
    NUMBERS,
    Filter,
    HandSeries,
    LiveHand,
    SmoothConfig,
    fill_gaps,
    group_noise,
    smooth_hand,
    smooth_hands,
    smooth_numbers,
    stretches,
)

FPS = 30.0
CONFIG = SmoothConfig()
ONE = (3,)
"""One group of three numbers."""


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def times(count: int) -> np.ndarray:
    return np.arange(count) / FPS


def offline(time_s, values, noise=None):
    noise = np.ones(len(time_s)) if noise is None else noise
    return smooth_numbers(time_s, values, noise[:, None], ONE, CONFIG)


def live(time_s, values, noise=None):
    """Every frame as it is answered after the next one."""
    noise = np.ones(len(time_s)) if noise is None else noise
    walk = Filter(time_s[0], values[0], noise[:1], ONE, CONFIG)
    answers = []
    for k in range(1, len(time_s)):
        walk.step(time_s[k], values[k], noise[k : k + 1])
        answers.append(walk.at(time_s[k - 1]))
    return np.stack([*answers, walk.at(time_s[-1])])


def trembling(values):
    return np.abs(np.diff(values, 3, axis=0)).mean()


@pytest.mark.parametrize(("way", "left"), [(offline, 0.4), (live, 0.6)])
def test_stillness_loses_its_trembling(rng, way, left):
    values = rng.normal(0, 1, (90, 3))
    calm = way(times(90), values)
    assert calm[10:].std() < left, "variance"
    assert trembling(calm[10:]) < 0.1 * trembling(values)


@pytest.mark.parametrize("size", [1e-4, 1.0, 1e3])
def test_the_scale_of_the_noise_need_not_be_known(rng, size):
    values = rng.normal(0, 1, (60, 3))
    for way in (offline, live):
        assert np.allclose(way(times(60), size * values), size * way(times(60), values), atol=1e-3 * size)


@pytest.mark.parametrize(("way", "most"), [(offline, 0.75), (live, 1.15)])
def test_a_fast_move_is_followed(rng, way, most):
    t = times(120)
    move = 20 * np.sin(2 * np.pi * 2 * t)[:, None] * np.ones(3)
    move[t < 1] = 0
    calm = way(t, move + rng.normal(0, 1, move.shape))
    fast = (t > 1.2) & (t < 3.8)
    assert np.sqrt(((calm - move)[fast] ** 2).mean()) < most, "in noises; no worse than the reading"
    assert np.abs(calm[fast]).max() > 18.5, "peaks stay"
    assert np.sqrt(((calm - move)[(t > 0.3) & (t < 0.9)] ** 2).mean()) < 0.6, "and before it, it is still"


@pytest.mark.parametrize("way", [offline, live])
def test_a_step_is_there_within_five_frames(rng, way):
    values = rng.normal(0, 0.1, (60, 3)) + np.where(times(60) < 1, 0.0, 10.0)[:, None]
    calm = way(times(60), values)
    assert np.abs(calm[:25]).max() < 1
    assert np.abs(calm[35:] - 10).max() < 1


@pytest.mark.parametrize("way", [offline, live])
def test_one_slip_is_not_followed(rng, way):
    values = rng.normal(0, 0.1, (40, 3))
    values[20] += 10
    assert np.abs(way(times(40), values)[15:26]).max() < 1.0


@pytest.mark.parametrize(("way", "most"), [(offline, 0.5), (live, 0.6)])
def test_readings_that_are_unsure_of_themselves_count_for_less(rng, way, most):
    noise = np.ones(90)
    noise[40:48] = 10  # one hand behind the other
    values = noise[:, None] * rng.normal(0, 1, (90, 3))
    told, untold = way(times(90), values, noise), way(times(90), values)
    hidden = slice(38, 52)
    assert trembling(told[hidden]) < most * trembling(untold[hidden])
    assert np.abs(told[hidden]).mean() < np.abs(untold[hidden]).mean()


def test_what_is_foreseen_lies_on_the_way():
    t = times(30)
    way = np.stack([30 * t, 5 - 10 * t, 0 * t], 1)
    walk = Filter(t[0], way[0], np.ones(1), ONE, CONFIG)
    for k in range(1, 30):
        walk.step(t[k], way[k], np.ones(1))
    assert np.array_equal(walk.foreseen(t[29]), walk.at(t[29]))
    assert np.abs(walk.foreseen(t[29] + 0.1) - way[29] - 0.1 * np.array([30, -10, 0])).max() < 0.6


def test_live_sees_one_frame_ahead_and_no_more(rng):
    values = rng.normal(0, 1, (60, 3))
    changed = values.copy()
    changed[41:] += 100
    a, b = live(times(60), values), live(times(60), changed)
    assert np.array_equal(a[:40], b[:40])
    assert np.abs(a - b)[40].max() > 1e-3


def test_uneven_time_stamps_and_lost_frames_need_no_care(rng):
    t = np.sort(rng.uniform(0, 3, 90))
    way_m = np.stack([3 * t, 1 - t, t**2], 1)
    read = way_m + rng.normal(0, 0.05, way_m.shape)
    calm = offline(t, read)
    assert np.sqrt(((calm - way_m)[5:-5] ** 2).mean()) < 0.6 * 0.05
    walk = Filter(t[0], read[0], np.ones(1), ONE, CONFIG)
    for k in range(1, 60):
        walk.step(t[k], *((None, None) if k == 58 else (read[k], np.ones(1))))
    assert np.abs(walk.at(t[58]) - way_m[58]).max() < 0.15, "a frame without a reading lies on the way between its neighbours"
    assert walk.at(t[50]) is None


def test_few_frames_a_second_are_filtered_as_well(rng):
    t = np.arange(40) / 6.0
    move = 20 * np.sin(2 * np.pi * 0.6 * t)[:, None] * np.ones(3)
    read = move + rng.normal(0, 1, move.shape)
    for way in (offline, live):
        assert np.sqrt(((way(t, read) - move)[5:] ** 2).mean()) < 1.15


def test_a_hand_that_leaps_about_is_followed_where_its_place_is_sure(rng):
    """Leaps that no filter foresees look like noise; but a place is not noisier than it says."""
    whole = wave(40)
    leaps = rng.normal(0, 0.05, (40, 2))
    leaping = dataclasses.replace(whole, wrist_m=whole.wrist_m + np.pad(leaps, ((0, 0), (0, 1))), noise=0.3 * whole.noise)
    off_m = np.abs(smooth_hand(leaping).wrist_m - leaping.wrist_m)[:, :2]
    assert off_m.mean() < 0.01
    doubtful = smooth_hand(dataclasses.replace(leaping, noise=10 * leaping.noise))
    assert np.abs(doubtful.wrist_m - leaping.wrist_m)[:, :2].mean() > 2 * off_m.mean()


def test_groups_find_their_own_liveliness(rng):
    t = times(90)
    values = rng.normal(0, 1, (90, 6))
    values[:, 3:] += 30 * np.sin(2 * np.pi * 2 * t)[:, None]
    calm = smooth_numbers(t, values, np.ones((90, 2)), (3, 3), CONFIG)
    assert np.allclose(calm[:, :3], offline(t, values[:, :3]))
    assert np.allclose(calm[:, 3:], offline(t, values[:, 3:]))


def wave(count: int) -> HandSeries:
    t = times(count)
    angle = torch.from_numpy(np.stack([0.3 * np.sin(2 * t), 3 * t, 0 * t], 1))
    rotation = rotvec_to_matrix(angle)[:, None].expand(-1, 16, -1, -1).contiguous().numpy()
    wrist_m = np.stack([0.1 * t, 0 * t, 0.6 + 0.05 * t], 1)
    return HandSeries(t, rotation, wrist_m, np.ones((count, len(GROUPS))), np.ones(count, bool))


def test_short_gaps_are_filled_and_long_ones_are_not():
    whole = wave(60)
    there = whole.there.copy()
    there[10:15] = there[30:50] = False
    spoilt = whole.rotation.copy()
    spoilt[~there] = np.eye(3)
    filled = fill_gaps(HandSeries(whole.time_s, spoilt, whole.wrist_m * there[:, None], whole.noise, there), 0.4)
    assert filled.there[10:15].all()
    assert not filled.there[30:50].any()
    assert (filled.noise[10:15] > 2).all()
    error = geodesic_angle_rad(torch.from_numpy(filled.rotation[10:15]), torch.from_numpy(whole.rotation[10:15]))
    assert float(error.max()) < 0.02
    assert np.abs(filled.wrist_m[10:15] - whole.wrist_m[10:15]).max() < 1e-6
    assert stretches(filled.there) == [(0, 30), (50, 60)]


def test_a_hand_that_turns_right_round_stays_a_rotation(rng):
    whole = wave(60)
    turn = rotvec_to_matrix(torch.from_numpy(rng.normal(0, 0.05, (60, 16, 3)))).numpy()
    noisy = dataclasses.replace(whole, rotation=whole.rotation @ turn, wrist_m=whole.wrist_m + rng.normal(0, 0.002, (60, 3)))
    calm = smooth_hand(noisy)
    R = torch.from_numpy(calm.rotation)
    assert torch.allclose(R @ R.mT, torch.eye(3, dtype=R.dtype).expand_as(R), atol=1e-6)
    before = geodesic_angle_rad(torch.from_numpy(noisy.rotation), torch.from_numpy(whole.rotation)).mean()
    after = geodesic_angle_rad(R, torch.from_numpy(whole.rotation)).mean()
    assert after < 0.5 * before
    assert np.abs(calm.wrist_m - whole.wrist_m).mean() < 0.6 * np.abs(noisy.wrist_m - whole.wrist_m).mean()


def test_hands_that_are_smoothed_together_are_smoothed_as_each_alone(rng):
    steady = wave(60)
    trembling = dataclasses.replace(steady, wrist_m=steady.wrist_m + rng.normal(0, 0.01, (60, 3)), noise=3 * steady.noise)
    late = dataclasses.replace(trembling, there=np.arange(60) >= 20)
    for alone, together in zip([steady, trembling, late], smooth_hands([steady, trembling, late]), strict=True):
        expected = smooth_hand(alone)
        np.testing.assert_allclose(together.wrist_m, expected.wrist_m, atol=1e-9)
        np.testing.assert_allclose(together.rotation, expected.rotation, atol=1e-9)
        assert (together.there == expected.there).all()


def test_a_long_film_is_smoothed_in_pieces(rng):
    whole = wave(90)
    noisy = dataclasses.replace(whole, wrist_m=whole.wrist_m + rng.normal(0, 0.002, (90, 3)))
    at_once, pieces = smooth_hand(noisy), smooth_hand(noisy, SmoothConfig(piece=50, overlap=15))
    assert np.abs(at_once.wrist_m - pieces.wrist_m).max() < 0.001


def test_a_live_hand_comes_one_frame_late_fills_a_frame_and_begins_anew():
    series, hand = wave(30), LiveHand()
    seen = [k not in (5, *range(12, 20)) for k in range(30)]
    known = []
    for k, there in enumerate(seen):
        if there:
            hand.push(series.time_s[k], series.rotation[k], series.wrist_m[k], series.noise[k])
        else:
            hand.miss(series.time_s[k])
        known.append(None if k == 0 else hand.hand(series.time_s[k - 1]))
    there = [k for k, answer in enumerate(known[1:]) if answer is not None]
    assert there == [*range(12), *range(20, 29)], "frame 5 is filled, a long gap is not"
    assert np.abs(known[6][1] - series.wrist_m[5]).max() < 2e-3
    assert np.abs(known[21][1] - series.wrist_m[20]).max() < 2e-3, "nothing of what was before the gap"
    assert hand.hand(series.time_s[29]) is not None


def test_a_finger_is_as_noisy_as_its_keypoints():
    keypoints = np.ones(21)
    keypoints[5:9] = 9.0  # the index finger's
    noise = dict(zip(GROUPS, group_noise(keypoints), strict=True))
    assert noise["index"] == 9
    assert noise["thumb"] == noise["pinky"] == 1
    assert noise["turn"] == noise["ray"] == noise["depth"] == pytest.approx(keypoints.mean())
    assert sum(NUMBERS) == 16 * 9 + 3
    assert len(GROUPS) == len(NUMBERS)


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_very_short_videos_pass(count):
    calm = smooth_hand(wave(count))
    assert np.isfinite(calm.rotation).all()
    assert np.allclose(calm.wrist_m, wave(count).wrist_m, atol=0.01)
