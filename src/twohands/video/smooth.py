"""Filtering of hands over time: a fast move is followed, a still hand is still.

Every number is estimated by a local polynomial over time, and how far "local" reaches is chosen anew in every frame from the data: the widest
window whose estimate differs from those of all narrower ones by no more than noise would explain (the rule of intersecting confidence
intervals; Goldenshluger and Nemirovski 1997, Katkovnik 1999). So nothing has to be tuned to a speed or a frame rate, and uneven time stamps
and gaps need no special care. Offline the window reaches both ways; live it ends one frame after the frame that it is for.
"""

import itertools
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float

from twohands.geometry.rotations import matrix_to_rotvec, nearest_rotation, rotvec_to_matrix

Series = Float[np.ndarray, "frame number"]


@dataclass(frozen=True)
class SmoothConfig:
    """Windows, and when a wider one is taken."""

    windows_s: tuple[float, ...] = (0.08, 0.12, 0.17, 0.25, 0.36, 0.5)
    """Half widths, from which each frame chooses; without any, the reading stays as it is."""
    tolerance: float = 1.0
    """How much of a difference is put down to noise, in standard deviations; `tolerance_few` is added for few numbers, whose noise
    averages less."""
    tolerance_few: float = 1.5
    outlier: float = 3.5
    """Deviation from the median of the neighbours, in standard deviations, from which a reading loses weight."""
    longest_gap_s: float = 0.4
    """Shorter gaps are filled."""
    future: int | None = None
    """How many later frames an estimate may use; None: all."""


@dataclass(frozen=True)
class HandSeries:
    """One hand over time: orientation and fingers as matrices, and where its wrist is."""

    time_s: Float[np.ndarray, " frame"]
    rotation: Float[np.ndarray, "frame 16 3 3"]
    wrist_m: Float[np.ndarray, "frame 3"]
    weight: Float[np.ndarray, " frame"]
    """How much each reading counts; 0 where there is none."""


def smooth_hand(series: HandSeries, config: SmoothConfig) -> HandSeries:
    """The hand smoothed, short gaps filled, long ones left as they were (weight 0). What comes back has weight 1 where the hand was read or
    filled."""
    filled = fill_gaps(series, config.longest_gap_s)
    rotation, wrist, weight = filled.rotation.copy(), filled.wrist_m.copy(), np.zeros_like(filled.weight)
    for first, last in stretches(filled.weight > 0):
        part = slice(first, last)
        time_s, trust = filled.time_s[part], filled.weight[part]
        flat = filled.rotation[part].reshape(last - first, 16, 9)
        groups = [flat[:, 0], *(flat[:, 1 + 3 * finger : 4 + 3 * finger].reshape(last - first, 27) for finger in range(5))]
        turned, *fingers = (smooth_numbers(time_s, group, trust, config) for group in groups)
        turns = np.concatenate([turned[:, None], *(f.reshape(-1, 3, 9) for f in fingers)], 1).reshape(-1, 16, 3, 3)
        rotation[part] = nearest_rotation(torch.from_numpy(turns)).numpy()
        # Along a ray and across it a picture tells with very different certainty.
        z = filled.wrist_m[part, 2:].clip(1e-3)
        ray = smooth_numbers(time_s, filled.wrist_m[part, :2] / z, trust, config)
        z = np.exp(smooth_numbers(time_s, np.log(z), trust, config))
        wrist[part] = np.concatenate([ray * z, z], 1)
        weight[part] = 1.0
    return HandSeries(series.time_s, rotation, wrist, weight)


def fill_gaps(series: HandSeries, longest_s: float) -> HandSeries:
    """Readings put into gaps between readings that are at most `longest_s` apart, on the straight way between them (rotations about one
    axis). They have a twentieth of their neighbours' weight."""
    there = np.flatnonzero(series.weight > 0)
    rotation, wrist, weight = series.rotation.copy(), series.wrist_m.copy(), series.weight.copy()
    for before, after in itertools.pairwise(there):
        if after - before < 2 or series.time_s[after] - series.time_s[before] > longest_s:
            continue
        share = (series.time_s[before + 1 : after] - series.time_s[before]) / (series.time_s[after] - series.time_s[before])
        a, b = (torch.from_numpy(series.rotation[k]) for k in (before, after))
        way = matrix_to_rotvec(a.mT @ b)
        rotation[before + 1 : after] = (a @ rotvec_to_matrix(torch.from_numpy(share)[:, None, None] * way)).numpy()
        wrist[before + 1 : after] = series.wrist_m[before] + share[:, None] * (series.wrist_m[after] - series.wrist_m[before])
        weight[before + 1 : after] = 0.05 * min(series.weight[before], series.weight[after])
    return HandSeries(series.time_s, rotation, wrist, weight)


def smooth_numbers(
    time_s: Float[np.ndarray, " frame"], values: Series, weight: Float[np.ndarray, " frame"], config: SmoothConfig
) -> Series:
    """Numbers of one kind and unit, smoothed together: one window a frame for all of them."""
    if len(time_s) < 3:
        return values.copy()
    sigma = _noise(values)
    expected, spike = _spikes(values, sigma, config.outlier)
    trust = weight / weight.max() * spike
    # A reading that its neighbours contradict is no candidate itself.
    chosen = np.where(spike[:, None] > 0.5, values, expected)
    estimates, spreads = [chosen], [np.ones(len(time_s))]
    for window_s in config.windows_s:
        kernel, offsets = local_kernel(time_s, trust, window_s, config.future)
        estimates.append(np.einsum("fk,fkn->fn", kernel, values[offsets]))
        spreads.append(np.sqrt((kernel**2).sum(1)))
    level = _widest(np.stack(estimates), np.stack(spreads), sigma, config)
    # The window itself must not jump from frame to frame: between two windows lies a mixture of both.
    level = _averaged(level, trust, config.future)
    low = np.floor(level).astype(int)
    high = np.minimum(low + 1, len(estimates) - 1)
    share = (level - low)[:, None]
    every, frame = np.stack(estimates), np.arange(len(time_s))
    return (1 - share) * every[low, frame] + share * every[high, frame]


def local_kernel(
    time_s: Float[np.ndarray, " frame"], weight: Float[np.ndarray, " frame"], window_s: float, future: int | None
) -> tuple[Float[np.ndarray, "frame near"], np.ndarray]:
    """Weights of the neighbours' values in every frame's estimate, and which frames they are: a parabola fitted by tricube-weighted least
    squares, at its middle (Cleveland 1979). Weights sum to 1."""
    count = len(time_s)
    step_s = float(np.median(np.diff(time_s)))
    reach = max(1, int(np.ceil(window_s / step_s)))
    # A window that may not look ahead reaches back the farther.
    ahead = reach if future is None else min(reach, future)
    near = np.arange(-(2 * reach - ahead), ahead + 1)
    offsets = np.arange(count)[:, None] + near
    inside = (offsets >= 0) & (offsets < count)
    offsets = offsets.clip(0, count - 1)
    u = (time_s[offsets] - time_s[:, None]) / (window_s * (2 - ahead / reach))
    tricube = np.clip(1 - np.abs(u) ** 3, 0, None) ** 3
    w = np.where(inside, tricube * weight[offsets], 0.0) + np.where(offsets == np.arange(count)[:, None], 1e-9 * inside, 0.0)
    powers = np.stack([np.ones_like(u), u, u**2], -1)
    moments = np.einsum("fk,fki,fkj->fij", w, powers, powers)
    # With too few neighbours a slope or a bend would be read into noise: both are held back a little.
    held = np.array([0.0, 1e-4, 2e-4]) if future is None else np.array([0.0, 0.01, 0.2])
    moments += np.einsum("f,ij->fij", w.sum(1), np.diag(held))
    row = np.linalg.solve(moments, np.broadcast_to(np.eye(3)[:, :1], (count, 3, 1)))[..., 0]
    kernel = w * np.einsum("fki,fi->fk", powers, row)
    return kernel / kernel.sum(1, keepdims=True), offsets


def stretches(there: Bool[np.ndarray, " frame"]) -> list[tuple[int, int]]:
    """First and one past the last frame of every unbroken run."""
    edge = np.flatnonzero(np.diff(np.concatenate([[False], there, [False]]).astype(np.int8)))
    return list(zip(edge[::2].tolist(), edge[1::2].tolist(), strict=True))


def _noise(values: Series) -> float:
    """Standard deviation of the noise of one frame, by the median of fourth differences, which moves hardly enter."""
    order = 4 if len(values) > 8 else 2
    rough = np.abs(np.diff(values, order, axis=0)).mean(1)
    # The mean magnitude of a normal number is 0.8 of its deviation; the difference of that order has 70 (6) times the variance.
    return float(np.median(rough)) / 0.798 / np.sqrt({4: 70, 2: 6}[order]) + 1e-9


def _spikes(values: Series, sigma: float, outlier: float) -> tuple[Series, Float[np.ndarray, " frame"]]:
    """Median of each frame and its two neighbours on either side, and how far a reading is believed: a slip is far from that median and from
    the curve through its neighbours too. A turning point of a fast move is far from the median alone, a slip's neighbour from the curve."""
    padded = np.pad(values, ((2, 2), (0, 0)), mode="edge")
    around = np.stack([padded[k : k + len(values)] for k in range(5)])
    median = np.median(around, 0)
    curve = (4 * (around[1] + around[3]) - around[0] - around[4]) / 6
    off = [np.sqrt(((values - other) ** 2).mean(1)) for other in (median, curve)]
    return median, 1 / (1 + (np.minimum(*off) / (outlier * sigma)) ** 4)


def _widest(
    estimates: Float[np.ndarray, "level frame number"], spreads: Float[np.ndarray, "level frame"], sigma: float, config: SmoothConfig
) -> Float[np.ndarray, " frame"]:
    """The last level before which none contradicts an earlier one."""
    levels, count, numbers = estimates.shape
    limit = config.tolerance + config.tolerance_few / np.sqrt(numbers)
    open_still, level = np.ones(count, bool), np.zeros(count)
    for k in range(1, levels):
        for j in range(k):
            apart = np.sqrt(((estimates[k] - estimates[j]) ** 2).mean(1))
            noise = sigma * np.sqrt(np.abs(spreads[j] ** 2 - spreads[k] ** 2)) + 1e-12
            open_still &= apart <= limit * noise
        level[open_still] = k
    return level


def _averaged(level: Float[np.ndarray, " frame"], trust: Float[np.ndarray, " frame"], future: int | None) -> Float[np.ndarray, " frame"]:
    """Binomial average over five frames, or over those that are known already."""
    mask = np.array([1.0, 4.0, 6.0, 4.0, 1.0])
    if future is not None:
        mask[3 + future :] = 0
    weight = trust + 1e-3
    top = np.convolve(np.pad(level * weight, 2), mask[::-1], mode="valid")
    return top / np.convolve(np.pad(weight, 2), mask[::-1], mode="valid")
