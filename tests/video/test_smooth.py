"""The filter: what is still becomes stiller, what moves fast is followed, gaps are filled, and live it does not look ahead."""

import numpy as np
import pytest
import torch

from twohands.geometry.rotations import geodesic_angle_rad, rotvec_to_matrix
from twohands.video.smooth import HandSeries, SmoothConfig, fill_gaps, local_kernel, smooth_hand, smooth_numbers, stretches

FPS = 30.0


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def times(count: int) -> np.ndarray:
    return np.arange(count) / FPS


def test_a_parabola_goes_through_unchanged():
    t = np.sort(np.random.default_rng(1).uniform(0, 2, 60))
    values = np.stack([3 * t**2 - t, 1 - t], 1)
    kernel, offsets = local_kernel(t, np.ones(60), 0.5, None)
    smooth = np.einsum("fk,fkn->fn", kernel, values[offsets])
    assert np.abs(smooth - values)[5:-5].max() < 0.02
    assert np.allclose(kernel.sum(1), 1)


def test_stillness_loses_its_trembling(rng):
    values = rng.normal(0, 1, (90, 9))
    smooth = smooth_numbers(times(90), values, np.ones(90), SmoothConfig())
    assert smooth.std() < 0.45
    assert np.abs(np.diff(smooth, 2, axis=0)).mean() < 0.1 * np.abs(np.diff(values, 2, axis=0)).mean()


def test_a_fast_move_is_followed(rng):
    t = times(120)
    move = 20 * np.sin(2 * np.pi * 3 * t)[:, None] * np.ones(9)
    move[t < 1] = 0
    noisy = move + rng.normal(0, 1, move.shape)
    smooth = smooth_numbers(t, noisy, np.ones(120), SmoothConfig())
    fast = (t > 1.2) & (t < 3.8)
    assert np.sqrt(((smooth - move)[fast] ** 2).mean()) < 1.15, "no worse than the reading"
    assert np.abs(smooth[fast]).max() > 18, "peaks stay"
    assert np.sqrt(((smooth - move)[t < 0.9] ** 2).mean()) < 0.5, "and before it, it is still"


def test_one_slip_is_not_followed():
    values = np.zeros((40, 9)) + np.random.default_rng(2).normal(0, 0.1, (40, 9))
    values[20] += 10
    smooth = smooth_numbers(times(40), values, np.ones(40), SmoothConfig())
    assert np.abs(smooth[18:23]).max() < 0.5


def test_live_sees_one_frame_ahead(rng):
    config = SmoothConfig(future=1)
    values = rng.normal(0, 1, (60, 9))
    changed = values.copy()
    changed[41:] += 100
    a, b = (smooth_numbers(times(60), v, np.ones(60), config) for v in (values, changed))
    # The noise is estimated from all frames, so only what differs by more than that counts.
    kernel, offsets = local_kernel(times(60), np.ones(60), 0.2, 1)
    assert (offsets - np.arange(60)[:, None]).max() == 1
    assert np.abs(kernel[:, -1]).max() > 0
    assert np.abs(a - b)[:37].max() < 1.0
    assert np.abs(np.diff(a, axis=0)).mean() < 0.75 * np.abs(np.diff(values, axis=0)).mean()


def wave(count: int) -> HandSeries:
    t = times(count)
    angle = torch.from_numpy(np.stack([0.3 * np.sin(2 * t), 3 * t, 0 * t], 1))
    rotation = rotvec_to_matrix(angle)[:, None].expand(-1, 16, -1, -1).contiguous().numpy()
    return HandSeries(t, rotation, np.stack([0.1 * t, 0 * t, 0.6 + 0.05 * t], 1), np.ones(count))


def test_short_gaps_are_filled_and_long_ones_are_not():
    whole = wave(60)
    holes = whole.weight.copy()
    holes[10:15] = 0
    holes[30:50] = 0
    spoilt = whole.rotation.copy()
    spoilt[holes == 0] = np.eye(3)
    filled = fill_gaps(HandSeries(whole.time_s, spoilt, whole.wrist_m * (holes > 0)[:, None], holes), 0.4)
    assert (filled.weight[10:15] > 0).all()
    assert (filled.weight[30:50] == 0).all()
    error = geodesic_angle_rad(torch.from_numpy(filled.rotation[10:15]), torch.from_numpy(whole.rotation[10:15]))
    assert float(error.max()) < 0.02
    assert np.abs(filled.wrist_m[10:15] - whole.wrist_m[10:15]).max() < 1e-6
    assert stretches(filled.weight > 0) == [(0, 30), (50, 60)]


def test_a_hand_that_turns_right_round_stays_a_rotation(rng):
    whole = wave(60)
    turn = rotvec_to_matrix(torch.from_numpy(rng.normal(0, 0.05, (60, 16, 3)))).numpy()
    noisy = HandSeries(whole.time_s, whole.rotation @ turn, whole.wrist_m + rng.normal(0, 0.002, (60, 3)), whole.weight)
    calm = smooth_hand(noisy, SmoothConfig())
    R = torch.from_numpy(calm.rotation)
    assert torch.allclose(R @ R.mT, torch.eye(3, dtype=R.dtype).expand_as(R), atol=1e-6)
    before = geodesic_angle_rad(torch.from_numpy(noisy.rotation), torch.from_numpy(whole.rotation)).mean()
    after = geodesic_angle_rad(R, torch.from_numpy(whole.rotation)).mean()
    assert after < 0.6 * before
    assert np.abs(calm.wrist_m - whole.wrist_m).mean() < 0.7 * np.abs(noisy.wrist_m - whole.wrist_m).mean()


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_very_short_videos_pass(count):
    calm = smooth_hand(wave(count), SmoothConfig())
    assert np.isfinite(calm.rotation).all()
    assert np.allclose(calm.wrist_m, wave(count).wrist_m, atol=0.01)
