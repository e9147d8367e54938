"""From light to pixels: what cameras do well and badly."""

import io
from functools import cache

import numba
import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image, ImageFilter

from twohands.synth.backgrounds import DISPLAY_GAMMA
from twohands.synth.light import mean_light
from twohands.synth.resample import filtered, gaussian, shrunk_and_back

Pixels = UInt8[np.ndarray, "3 size size"]
"""A picture as samples hold it, one colour after the other."""


def taken(picture: Float32[np.ndarray, "size size 3"], rng: np.random.Generator, thorough: bool) -> Pixels:
    """Exposure, white balance, tone curve, saturation, grey and infrared sensors, blur, motion, noise and JPEG."""
    mean = mean_light(picture, 4) + 1e-4
    # Cameras expose for a middle grey and do not always get it; a dark room stays darker than a bright one.
    gain = 0.19 * np.exp(rng.normal(0, 0.45)) / mean**0.85 / 0.19**0.15
    balance = np.exp(rng.normal(0, 0.06 if rng.random() < 0.8 else 0.2, 3))
    kind = rng.random()
    if kind < 0.08:
        weights, saturation = np.array([0.3, 0.59, 0.11]), 0.0
    elif kind < 0.11:  # infrared: skin is pale whatever its tone
        weights, saturation = np.array([0.9, 0.1, 0.0]), 0.0
    else:
        weights, saturation = np.array([0.3, 0.59, 0.11]), rng.uniform(0.5, 1.3) if rng.random() < 0.5 else 1.0
    curve = (_SOFT if rng.random() < 0.5 else _HARD) ** (np.exp(rng.normal(0, 0.1)) / DISPLAY_GAMMA)
    if rng.random() < 0.5:
        curve = curve + rng.uniform(-0.1, 0.35) * curve * (1 - curve) * (2 * curve - 1)
    if rng.random() < 0.2:  # fog, flare, a cheap screen
        curve = rng.uniform(0.02, 0.2) + curve * rng.uniform(0.65, 0.85)
    encoded = np.empty(picture.shape, np.uint8)
    _develop(picture, np.float32(gain * balance), np.float32(np.clip(curve, 0, 1)), np.float32(weights), np.float32(saturation), encoded)
    image = _unsharp(encoded, rng, thorough)
    if rng.random() < 0.5:
        image = _grainy(image, rng, thorough)
    return _compressed(image, int(rng.uniform(25, 95))) if rng.random() < 0.5 else _planes(image)


def _planes(image: UInt8[np.ndarray, "size size 3"]) -> Pixels:
    """The same picture, one colour after the other."""
    out = np.empty((3, *image.shape[:2]), np.uint8)
    _part(np.ascontiguousarray(image).reshape(len(image), -1), out)
    return out


def _compressed(image: UInt8[np.ndarray, "size size 3"], quality: int) -> Pixels:
    """What JPEG leaves of a picture."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality)
    # With a fourth channel, which holds nothing: so the library keeps it, and need not pack it.
    words = np.frombuffer(Image.open(buffer, formats=("JPEG",)).tobytes("raw", "RGBX"), "<u4")
    out = np.empty((3, *image.shape[:2]), np.uint8)
    _part_words(words.reshape(image.shape[:2]), out)
    return out


@numba.njit(cache=True)
def _part(rows, out):
    for v in range(out.shape[1]):
        row, red, green, blue = rows[v], out[0, v], out[1, v], out[2, v]
        for u in range(np.int32(out.shape[2])):
            red[u], green[u], blue[u] = row[np.uint32(3 * u)], row[np.uint32(3 * u + 1)], row[np.uint32(3 * u + 2)]


@numba.njit(cache=True)
def _part_words(words, out):
    """Of pixels of four bytes each."""
    for v in range(out.shape[1]):
        row, red, green, blue = words[v], out[0, v], out[1, v], out[2, v]
        for u in range(out.shape[2]):
            red[u], green[u], blue[u] = np.uint8(row[u]), np.uint8(row[u] >> np.uint32(8)), np.uint8(row[u] >> np.uint32(16))


def _unsharp(image: UInt8[np.ndarray, "size size 3"], rng: np.random.Generator, thorough: bool) -> UInt8[np.ndarray, "size size 3"]:
    """Of half of the pictures: too few pixels, out of focus, or moved."""
    size = image.shape[0]
    kind = rng.random()
    if kind < 0.25:
        small, cubic = int(size * rng.uniform(0.3, 0.9)), rng.random() < 0.5
        if not thorough:
            return filtered(image, shrunk_and_back(size, small, "cubic" if cubic else "linear"))
        back = Image.Resampling.BICUBIC if cubic else Image.Resampling.BILINEAR
        return np.array(Image.fromarray(image).resize((small, small), Image.Resampling.BILINEAR).resize((size, size), back))
    if kind < 0.42:
        sigma = rng.uniform(0.3, 2.2)
        if not thorough:
            return filtered(image, gaussian(size, sigma))
        return np.array(Image.fromarray(image).filter(ImageFilter.GaussianBlur(sigma)))
    return _motion(image, rng) if kind < 0.5 else image


def _grainy(image: UInt8[np.ndarray, "size size 3"], rng: np.random.Generator, thorough: bool) -> UInt8[np.ndarray, "size size 3"]:
    """With noise, of every colour by itself or of all alike."""
    size = image.shape[0]
    strength, coloured = rng.gamma(1.3, 3.0), rng.random() < 0.6
    noisy = np.empty_like(image)
    if thorough or size > GRAIN_PX:
        grain = rng.standard_normal((size, size, 3 if coloured else 1), np.float32)
        _add_grain(image, np.float32(strength), np.ascontiguousarray(np.broadcast_to(grain, image.shape)), 0, 0, False, noisy)
        return noisy
    # A piece of the stock, some way up: no two of 250,000 are alike.
    v, u = rng.integers(0, GRAIN_PX - size + 1, 2)
    upright, as_it_is = rng.random() < 0.5, rng.random() < 0.5
    stock, left = (_grain(coloured)[0], u) if as_it_is else (_grain(coloured)[1], GRAIN_PX - size - u)
    _add_grain(image, np.float32(strength), stock, v, left, not upright, noisy)
    return noisy


GRAIN_PX = 512
"""Side of the stock of noise; wider pictures get noise of their own."""


@cache
def _grain(coloured: bool) -> tuple[Float32[np.ndarray, "side side 3"], Float32[np.ndarray, "side side 3"]]:
    """The stock, and its mirror image."""
    channels = 3 if coloured else 1
    stock = np.random.default_rng(channels).standard_normal((GRAIN_PX, GRAIN_PX, channels), np.float32)
    stock = np.ascontiguousarray(np.broadcast_to(stock, (GRAIN_PX, GRAIN_PX, 3)))
    return stock, np.ascontiguousarray(stock[:, ::-1])


def well_taken(picture: Float32[np.ndarray, "size size 3"]) -> Pixels:
    """Exposed for a middle grey and encoded, without any fault."""
    gain = np.float32(0.19) / (picture[::4, ::4].mean() + np.float32(1e-4))
    return _planes((np.clip(picture * gain, 0, 1) ** np.float32(1 / DISPLAY_GAMMA) * 255).astype(np.uint8))


CURVE, CURVE_TOP = 1024, 4.0
"""Entries of the tone curve, and the light at its last one."""
_HARD = np.linspace(0, 1, CURVE) ** 2 * CURVE_TOP
_SOFT = (_HARD * (1 + _HARD / 9) / (1 + 0.6 * _HARD)).clip(0, 1)
_HARD = _HARD.clip(0, 1)


@numba.njit(cache=True)
def _add_grain(image, strength, grain, first, left, turned, out):
    """Adds a piece of the grain, from its row `first` and column `left` on, upside down if `turned`."""
    height, width = image.shape[0], 3 * image.shape[1]
    pixels, noisy, stock = image.reshape(height, width), out.reshape(height, width), grain.reshape(grain.shape[0], 3 * grain.shape[1])
    low, high = np.float32(0), np.float32(255)
    for v in range(height):
        row = stock[first + (height - 1 - v if turned else v), 3 * left : 3 * left + width]
        for i in range(width):
            noisy[v, i] = np.uint8(np.int32(min(max(np.float32(pixels[v, i]) + strength * row[i], low), high)))


@numba.njit(cache=True, fastmath=True)
def _develop(picture, gain, curve, weights, saturation, out):
    """Gain, tone curve (its entries lie at the squares of even steps: dark tones need more), saturation; 0 to 255."""
    last = curve.shape[0] - 1
    scale = np.float32(last) / np.sqrt(np.float32(CURVE_TOP))
    ends, zero, one, full = np.float32(last), np.float32(0), np.float32(1), np.float32(255)
    pairs = np.zeros((last + 1, 2), np.float32)  # each entry, and the step to the next
    for j in range(last + 1):
        pairs[j, 0], pairs[j, 1] = curve[j], curve[min(j + 1, last)] - curve[j]
    count = 3 * picture.shape[1]
    gains = np.empty(count, np.float32)
    for i in range(count):
        gains[i] = gain[i % 3]
    light, encoded = picture.reshape(picture.shape[0], count), out.reshape(picture.shape[0], count)
    place, shown = np.empty(count, np.float32), np.empty(count, np.float32)
    entry = np.empty(count, np.int32)
    for v in range(picture.shape[0]):  # one thing at a time along a row, so that the processor does many at once
        for i in range(count):
            place[i] = min(np.sqrt(max(light[v, i] * gains[i], zero)) * scale, ends)
            entry[i] = np.int32(place[i])
        for i in range(count):
            e = np.uint32(entry[i])
            shown[i] = pairs[e, 0] + pairs[e, 1] * (place[i] - np.float32(entry[i]))
        if saturation != one:
            for i in range(0, count, 3):
                grey = weights[0] * shown[i] + weights[1] * shown[i + 1] + weights[2] * shown[i + 2]
                for j in range(i, i + 3):
                    shown[j] = grey + (shown[j] - grey) * saturation
        for i in range(count):
            encoded[v, i] = np.uint8(np.int32(min(max(shown[i], zero), one) * full))


def _motion(image: UInt8[np.ndarray, "size size 3"], rng: np.random.Generator) -> UInt8[np.ndarray, "size size 3"]:
    """The mean of a few shifted copies."""
    pixels = image.astype(np.float32)
    steps = int(rng.integers(3, 9))
    angle = rng.uniform(0, np.pi)
    total = np.zeros_like(pixels)
    for k in range(steps):
        shift = (k - steps / 2) * rng.uniform(0.8, 1.6)
        total += np.roll(pixels, (round(np.sin(angle) * shift), round(np.cos(angle) * shift)), (0, 1))
    return (total / steps).astype(np.uint8)
