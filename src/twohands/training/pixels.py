"""Pixels of a batch. Crops are read straight from bytes, compiled: PyTorch wants the whole picture as floats first and reads ten times as slowly;
and noise comes from a stock."""

from functools import cache

import numba
import numpy as np
from jaxtyping import Float32, UInt8


def read_crops(
    images: UInt8[np.ndarray, "image height width 3"], places_px: Float32[np.ndarray, "image row column 2"], fine: int = 1
) -> Float32[np.ndarray, "image 3 small_row small_column"]:
    """Bilinear values, 0 to 1, at places in pixels (centres at half-integers); 0 where a picture ends, as in `grid_sample`. With `fine` the mean
    of so many by so many places becomes one value."""
    count, rows, columns = places_px.shape[:3]
    out = np.empty((count, 3, rows // fine, columns // fine), np.float32)
    _read(np.ascontiguousarray(images), np.ascontiguousarray(places_px, np.float32), fine, out)
    return out


@numba.njit(cache=True, fastmath=True)
def _read(images, places, fine, out):
    height, width = images.shape[1], images.shape[2]
    half, one, zero = np.float32(0.5), np.float32(1), np.float32(0)
    part = one / np.float32(255 * fine * fine)
    for n in range(out.shape[0]):
        image = images[n]
        for v in range(out.shape[2]):
            for u in range(out.shape[3]):
                r = g = b = zero
                for i in range(fine):
                    for j in range(fine):
                        x, y = places[n, v * fine + i, u * fine + j, 0] - half, places[n, v * fine + i, u * fine + j, 1] - half
                        if not (x > -one and x < width and y > -one and y < height):  # also what is not finite
                            continue
                        left, top = int(np.floor(x)), int(np.floor(y))
                        s, t = x - np.float32(left), y - np.float32(top)
                        if left >= 0 and top >= 0 and left + 1 < width and top + 1 < height:
                            i0, j0 = np.uint32(top), np.uint32(left)
                            i1, j1 = i0 + np.uint32(1), j0 + np.uint32(1)
                            w11 = s * t
                            w01, w10 = s - w11, t - w11
                            w00 = one - s - w10
                            r += w00 * image[i0, j0, 0] + w01 * image[i0, j1, 0] + w10 * image[i1, j0, 0] + w11 * image[i1, j1, 0]
                            g += w00 * image[i0, j0, 1] + w01 * image[i0, j1, 1] + w10 * image[i1, j0, 1] + w11 * image[i1, j1, 1]
                            b += w00 * image[i0, j0, 2] + w01 * image[i0, j1, 2] + w10 * image[i1, j0, 2] + w11 * image[i1, j1, 2]
                            continue
                        for k in range(4):
                            column, row = left + k % 2, top + k // 2
                            if 0 <= column < width and 0 <= row < height:
                                w = (s if k % 2 else one - s) * (t if k // 2 else one - t)
                                pixel = image[np.uint32(row), np.uint32(column)]
                                r += w * pixel[0]
                                g += w * pixel[1]
                                b += w * pixel[2]
                out[n, 0, v, u], out[n, 1, v, u], out[n, 2, v, u] = r * part, g * part, b * part


STOCK = 1 << 20


def grain(rng: np.random.Generator, count: int) -> Float32[np.ndarray, "count"]:
    """So many normal numbers, cut from a stock that was drawn once: drawing anew costs as much as all else of a batch."""
    stock = _stock()
    out = np.empty(count, np.float32)
    for first in range(0, count, STOCK // 2):
        part = out[first : first + STOCK // 2]
        start = int(rng.integers(0, STOCK - len(part) + 1))
        part[:] = stock[start : start + len(part)]
    return out


@cache
def _stock() -> Float32[np.ndarray, "number"]:
    return np.random.default_rng(1).standard_normal(STOCK, np.float32)
