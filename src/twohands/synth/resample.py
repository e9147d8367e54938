"""Pictures enlarged and blurred, compiled: at 256 px a library's general routines take three to ten times as long."""

from functools import lru_cache
from typing import Literal

import numba
import numpy as np
from jaxtyping import Float32, UInt8


@numba.njit(cache=True, fastmath=True)
def _places(size, cells):
    """Of each of `size` places the cell before it and the share of the one after, when `cells` are stretched over all of them."""
    first, share = np.empty(size, np.int64), np.empty(size, np.float32)
    for i in range(size):
        place = (np.float32(i) + np.float32(0.5)) * np.float32(cells) / np.float32(size) - np.float32(0.5)
        place = min(max(place, np.float32(0)), np.float32(cells - 1))
        first[i] = min(int(place), max(cells - 2, 0))
        share[i] = place - np.float32(first[i])
    return first, share


@numba.njit(cache=True, fastmath=True)
def add_enlarged(grid, amplitude, out):
    """Adds a grid of one or three channels, drawn out to the picture's size, times an amplitude."""
    rows, row_share = _places(out.shape[0], grid.shape[0])
    columns, column_share = _places(out.shape[1], grid.shape[1])
    below, right = min(1, grid.shape[0] - 1), min(1, grid.shape[1] - 1)
    line = np.empty((grid.shape[1], 3), np.float32)
    for v in range(out.shape[0]):
        r, s = rows[v], row_share[v]
        for u in range(grid.shape[1]):
            for k in range(3):
                c = k if grid.shape[2] == 3 else 0
                line[u, k] = amplitude * (grid[r, u, c] + s * (grid[r + below, u, c] - grid[r, u, c]))
        for u in range(out.shape[1]):
            j, t = columns[u], column_share[u]
            for k in range(3):
                out[v, u, k] += line[j, k] + t * (line[j + right, k] - line[j, k])


@numba.njit(cache=True, fastmath=True)
def enlarge_linear(piece, table, mirrored, order, out):
    """An encoded picture at `out`'s size in linear light: `table` holds the light of each of 256 values, `order` which channel comes first."""
    rows, row_share = _places(out.shape[0], piece.shape[0])
    columns, column_share = _places(out.shape[1], piece.shape[1])
    below, right, last = min(1, piece.shape[0] - 1), min(1, piece.shape[1] - 1), out.shape[1] - 1
    line = np.empty((piece.shape[1], 3), np.float32)
    for v in range(out.shape[0]):
        r, s = rows[v], row_share[v]
        for u in range(piece.shape[1]):
            for k in range(3):
                value = np.float32(piece[r, u, k])
                line[u, k] = value + s * (np.float32(piece[r + below, u, k]) - value) + np.float32(0.5)
        for u in range(out.shape[1]):
            i = np.uint32(last - u if mirrored else u)
            j, t = np.uint32(columns[i]), column_share[i]
            for k in range(3):
                value = line[j, k] + t * (line[j + np.uint32(right), k] - line[j, k])
                out[v, u, order[k]] = table[np.uint8(value)]


Filter = Float32[np.ndarray, "tap place"]
"""How much each place of a row takes from the places around it; the middle tap is the place itself."""


def filtered(image: UInt8[np.ndarray, "size size 3"], filter_: Filter) -> UInt8[np.ndarray, "size size 3"]:
    """The same filter along rows and columns."""
    out = np.empty_like(image)
    size = image.shape[0]
    _filter(image.reshape(size, 3 * size), filter_, np.repeat(filter_, 3, 1), out.reshape(size, 3 * size))
    return out


@numba.njit(cache=True, fastmath=True)
def _filter(image, weights, wide, out):
    height, width = image.shape
    reach = weights.shape[0] // 2
    half, low, high = np.float32(0.5), np.float32(0), np.float32(255)
    line, total = np.zeros(width + 6 * reach, np.float32), np.empty(width, np.float32)
    inner = line[3 * reach : 3 * reach + width]
    for v in range(height):
        inner[:] = low
        for k in range(max(0, reach - v), min(2 * reach + 1, height + reach - v)):
            w, row = weights[k, v], image[v + k - reach]
            if w != 0:
                for i in range(width):
                    inner[i] += w * np.float32(row[i])
        total[:] = half
        for k in range(2 * reach + 1):
            row, around = wide[k], line[3 * k : 3 * k + width]
            for i in range(width):
                total[i] += row[i] * around[i]
        for i in range(width):
            out[v, i] = np.uint8(np.int32(min(max(total[i], low), high)))


def gaussian(size: int, sigma_px: float) -> Filter:
    """A blur that takes from what is in the picture alone."""
    reach = int(np.ceil(2.5 * sigma_px))
    taps = np.arange(-reach, reach + 1)[:, None]
    place = np.arange(size) + taps
    band = np.where((place >= 0) & (place < size), np.exp(-0.5 * (taps / sigma_px) ** 2), 0)
    return (band / band.sum(0)).astype(np.float32)


@lru_cache(maxsize=512)
def shrunk_and_back(size: int, small: int, back: Literal["linear", "cubic"]) -> Filter:
    """A picture made small and enlarged again."""
    reach = int(np.ceil((3 if back == "cubic" else 2) * size / small)) + 1
    band = np.zeros((2 * reach + 1, size))
    _shrink_and_enlarge(small, back == "cubic", band)
    used = np.flatnonzero((band != 0).any(1))
    room = reach - int(np.abs(used - reach).max())
    band = band[room : len(band) - room]
    return (band / band.sum(0)).astype(np.float32)


@numba.njit(cache=True)
def _shrink_and_enlarge(small, cubic, band):
    """Row by row of `band` what each place takes from those around it, when they are first made `small` places (each takes from all that it
    covers, the nearer the more) and these are then enlarged, without what is next to nothing."""
    taps, size = band.shape
    reach, scale = taps // 2, size / small
    for i in range(size):
        middle = (i + 0.5) / scale - 0.5
        wide = 2 if cubic else 1
        first, last = max(0, int(np.ceil(middle - wide))), min(small - 1, int(np.floor(middle + wide)))
        total = 0.0
        for j in range(first, last + 1):
            total += _kernel(abs(j - middle), cubic)
        for j in range(first, last + 1):
            centre = (j + 0.5) * scale - 0.5
            left, right = max(0, int(np.ceil(centre - scale))), min(size - 1, int(np.floor(centre + scale)))
            covered = 0.0
            for p in range(left, right + 1):
                covered += max(0.0, 1 - abs(p - centre) / scale)
            share = _kernel(abs(j - middle), cubic) / total / covered
            for p in range(left, right + 1):
                band[p - i + reach, i] += share * max(0.0, 1 - abs(p - centre) / scale)
        for k in range(taps):
            if abs(band[k, i]) <= 1e-4:
                band[k, i] = 0.0


@numba.njit(cache=True, inline="always")
def _kernel(x, cubic):
    """Linear, or Keys' cubic with a = -1/2."""
    if not cubic:
        return max(0.0, 1 - x)
    if x < 1:
        return (1.5 * x - 2.5) * x * x + 1
    return ((-0.5 * x + 2.5) * x - 4) * x + 2 if x < 2 else 0.0
