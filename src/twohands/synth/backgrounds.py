"""What is behind the people: gradients, noise, walls, shelves, checks, text, and pieces of photos where folders of them are given."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numba
import numpy as np
from jaxtyping import Float32
from PIL import Image

from twohands.errors import UserError
from twohands.synth.chance import pick
from twohands.synth.light import Light, changed, read_lights
from twohands.synth.resample import add_enlarged, enlarge_linear

Picture = Float32[np.ndarray, "size size 3"]
DISPLAY_GAMMA = 2.2
"""From encoded colour to linear light."""
LINEAR = ((np.arange(256) / 255) ** DISPLAY_GAMMA).astype(np.float32)


@dataclass(frozen=True)
class Photos:
    """Folders of photos to put behind the scenes."""

    whole: Path | None = None
    """Pictures without hands: any piece of them may be used."""
    borders: Path | None = None
    """Pictures that may show hands: only small pieces from their borders are used."""
    share: float = 0.6
    """Scenes before a photo, if there is any."""


@lru_cache(maxsize=4)
def _photos(folder: Path, side: int, most: int = 500) -> list[tuple[np.ndarray, Light | None]]:
    """Small copies of some photos of a folder, kept in memory, and the light of those of which the folder tells it."""
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in {".jpg", ".jpeg", ".png"})
    if not files:
        raise UserError(f"{folder} holds no .jpg or .png; give a folder of photos for backgrounds, or none")
    chosen = np.random.default_rng(0).permutation(len(files))[:most]
    lights = read_lights(folder)
    small: list[tuple[np.ndarray, Light | None]] = []
    for k in sorted(chosen):
        with Image.open(files[k]) as image:
            image.thumbnail((side, side))
            small.append((np.asarray(image.convert("RGB")), lights.get(files[k].name)))
    return small


def _colour(rng: np.random.Generator) -> np.ndarray:
    """A colour, mostly a dull one."""
    c = rng.random(3)
    grey = (c[0] + c[1] + c[2]) / 3
    return (grey + (c - grey) * rng.uniform(0.05, 1)) * rng.uniform(0.1, 1.0)


def noise_picture(rng: np.random.Generator, size: int) -> Picture:
    """Octaves of noise around a colour."""
    picture = np.zeros((size, size, 3), np.float32)
    amplitude = 1.0
    for cells in (2, 4, 8, 16, 32, 64)[: rng.integers(2, 7)]:
        grey = rng.random() < 0.5
        grid = (rng.random((cells, cells, 1 if grey else 3)) - 0.5).astype(np.float32)
        add_enlarged(grid, np.float32(amplitude), picture)
        amplitude *= rng.uniform(0.4, 0.9)
    _around(picture, np.float32(_colour(rng)), np.float32(rng.uniform(0.2, 1.0)))
    return picture


@numba.njit(cache=True, fastmath=True)
def _around(picture, colour, amplitude):
    for v in range(picture.shape[0]):
        for u in range(picture.shape[1]):
            for k in range(3):
                picture[v, u, k] = min(max(colour[k] + picture[v, u, k] * amplitude, np.float32(0)), np.float32(1))


def gradient_picture(rng: np.random.Generator, size: int) -> Picture:
    """One colour running into another, often nearly the same: walls, tables, studio backdrops, darkness."""
    axis = np.linspace(0, 1, 33, dtype=np.float32)
    angle = rng.uniform(0, 2 * np.pi)
    ramp = (np.cos(angle) * axis[None] + np.sin(angle) * axis[:, None])[..., None]
    first = _colour(rng) if rng.random() < 0.8 else np.repeat(rng.uniform(0, 0.08), 3)
    second = first + rng.normal(0, 0.08, 3) if rng.random() < 0.5 else _colour(rng)
    picture = np.zeros((size, size, 3), np.float32)
    add_enlarged(np.clip(first + (second - first) * ramp, 0, 1).astype(np.float32), np.float32(1), picture)
    return picture


def stripes_picture(rng: np.random.Generator, size: int) -> Picture:
    """Stripes or checks: shirts, shelves, blinds."""
    angle, period = rng.uniform(0, np.pi), rng.uniform(6, 60)
    level = rng.uniform(-0.7, 0.7)
    checked = rng.random() < 0.5
    other = period * rng.uniform(0.5, 2) if checked else 0.0
    first, second = _colour(rng), _colour(rng)
    palette = np.clip(first + (second - first) * np.array([[0.0], [0.5], [1.0]]), 0, 1).astype(np.float32)
    picture = np.empty((size, size, 3), np.float32)
    _stripes(np.float32(np.cos(angle)), np.float32(np.sin(angle)), period, np.arcsin(level) / (2 * np.pi), other, palette, picture)
    return picture


@numba.njit(cache=True, fastmath=True)
def _stripes(cosine, sine, period, start, other, palette, picture):
    """Light where the sine of the way along is above a level, that is from `start` to 0.5 - `start` of a period; `other` is the period
    across, 0 for none."""
    half, inverse, across = np.float32(0.5), np.float32(1 / period), np.float32(1 / other if other > 0 else 0)
    low, high = np.float32(start), np.float32(0.5 - start)
    for v in range(picture.shape[0]):
        for u in range(picture.shape[1]):
            t = (cosine * u + sine * v) * inverse
            t -= np.floor(t)
            one = (low < t and t < high) or (t - np.float32(1) > low)
            index = 2 if one else 0
            if other > 0:
                t = (cosine * v - sine * u) * across
                t -= np.floor(t)
                index = (index + (2 if np.float32(0) < t and t < half else 0)) // 2
            for k in range(3):
                picture[v, u, k] = palette[index, k]


def bricks_picture(rng: np.random.Generator, size: int) -> Picture:
    """A wall of bricks or tiles, each a little different: rows of small oblongs look like rows of fingers to a network that knows no walls."""
    tall = rng.uniform(5, 30)
    wide = tall * rng.uniform(1, 4)
    joint = rng.uniform(0.04, 0.16)
    angle = rng.normal(0, 0.08) if rng.random() < 0.8 else rng.uniform(0, np.pi)
    palette = np.concatenate(
        [[_colour(rng)], np.clip(_brick_colour(rng) * (1 + rng.uniform(0.1, 0.6) * (rng.random((63, 1)) - 0.5)), 0, 1)]
    )
    picture = np.empty((size, size, 3), np.float32)
    turned = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    _bricks(*turned, np.float32(tall), np.float32(wide), np.float32(joint), rng.random() < 0.7, palette.astype(np.float32), picture)
    return picture


def _brick_colour(rng: np.random.Generator) -> np.ndarray:
    return np.clip(np.array([0.62, 0.35, 0.26]) * rng.uniform(0.6, 1.4, 3), 0, 1) if rng.random() < 0.5 else _colour(rng)


@numba.njit(cache=True, fastmath=True)
def _bricks(cosine, sine, tall, wide, joint, shifted, palette, picture):
    """The palette's first colour for mortar, one of the 63 others for each brick."""
    for v in range(picture.shape[0]):
        for u in range(picture.shape[1]):
            y = (cosine * v - sine * u + np.float32(1000)) / tall
            row = int(y)
            x = (cosine * u + sine * v + np.float32(1000)) / wide
            if shifted and row % 2 == 1:
                x += np.float32(0.5)
            column = int(x)
            mortar = y - row < joint or x - column < joint * tall / wide
            index = 0 if mortar else 1 + (row * 7919 + column * 104729) % 63
            for k in range(3):
                picture[v, u, k] = palette[index, k]


def shelf_picture(rng: np.random.Generator, size: int) -> Picture:
    """Upright oblongs in rows: books, bottles, fences, curtains, keyboards."""
    picture = np.empty((size, size, 3), np.float32)
    picture[:] = _colour(rng).clip(0, 1)
    _shelves(rng, _colour(rng), picture)
    return picture


@numba.njit(cache=True)
def _shelves(rng, base, picture):
    size = picture.shape[0]
    y = 0.0
    c = np.empty(3)
    while y < size:
        tall = rng.uniform(0.06, 0.35) * size
        x = -rng.uniform(0.0, 20.0)
        spread = rng.uniform(0.0, 1.0)
        while x < size:
            wide = rng.uniform(0.01, 0.07) * size
            top = int(y + tall * rng.uniform(0.0, 0.35))
            for k in range(3):  # as `_colour`
                c[k] = rng.random()
            grey, vivid = (c[0] + c[1] + c[2]) / 3, rng.uniform(0.05, 1.0)
            bright = rng.uniform(0.1, 1.0)
            for k in range(3):
                c[k] = base[k] * (1 - spread) + (grey + (c[k] - grey) * vivid) * bright * spread
            left, right = max(int(x), 0), int(x + wide)
            ground = right < 0  # one that ends left of the picture gives the row its ground
            for u in range(left, size + right if ground else min(right, size)):
                across = 2.0 * (u - left) / (right - left - 1) - 1 if right - left > 1 else -1.0
                shade = 1 - 0.35 * across * across
                for v in range(top, min(int(y + tall * 0.95), size)):
                    for k in range(3):
                        picture[v, u, k] = min(max(c[k] * shade, 0.0), 1.0)
            gap = 1.0 if rng.random() < 0.1 else 0.0
            x += wide + gap * rng.uniform(0.0, 0.1) * size
        y += tall


def text_picture(rng: np.random.Generator, size: int) -> Picture:
    """Lines of something like writing on paper or a screen."""
    high = int(rng.integers(4, 16))
    rows, columns = size // high + 1, size // max(2, high // 3) + 1
    ink = (rng.random((rows, columns)) < 0.7) & (np.repeat(rng.random((rows, columns // 5 + 1)), 5, 1)[:, :columns] < 0.75)
    mask = np.repeat(np.repeat(ink, high, 0), max(2, high // 3), 1)[:size, :size]
    mask &= (np.arange(size) % high < high * 0.55)[:, None]
    first, second = np.repeat(rng.uniform(0.6, 1), 3), _colour(rng)
    if rng.random() < 0.4:
        first, second = second, first
    picture = np.empty((size, size, 3), np.float32)
    _choose(mask, np.float32(first.clip(0, 1)), np.float32(second.clip(0, 1)), picture)
    return picture


@numba.njit(cache=True)
def _choose(mask, first, second, picture):
    for v in range(picture.shape[0]):
        for u in range(picture.shape[1]):
            for k in range(3):
                picture[v, u, k] = second[k] if mask[v, u] else first[k]


@dataclass(frozen=True)
class Scenery:
    """What is behind a scene."""

    picture: Picture
    """Linear light."""
    light: Light | None = None
    """What lit it, if that is known."""


def photo_picture(rng: np.random.Generator, size: int, photos: Photos) -> Scenery:
    """A piece of a photo. Of photos that may show hands, a piece of the border of at most 35 % of its side."""
    whole = photos.borders is None or (photos.whole is not None and rng.random() < 0.75)
    folder = photos.whole if whole else photos.borders
    assert folder is not None
    pictures = _photos(folder, 448 if whole else 256)
    photo, light = pictures[rng.integers(len(pictures))]
    height, width = photo.shape[:2]
    side = int(min(height, width) * (rng.uniform(0.4, 1.0) if whole else rng.uniform(0.2, 0.35)))
    x, y = rng.integers(0, width - side + 1), rng.integers(0, height - side + 1)
    if not whole:
        edge = rng.integers(3)
        x, y = (0, y) if edge == 0 else (width - side, y) if edge == 1 else (x, 0)
    piece = np.ascontiguousarray(photo[y : y + side, x : x + side])
    if rng.random() < 0.25:  # behind the focus
        coarse = int(size * rng.uniform(0.08, 0.4))
        piece = np.array(Image.fromarray(piece).resize((coarse, coarse), Image.Resampling.BILINEAR))
    mirrored = rng.random() < 0.5
    order = rng.permutation(3) if rng.random() < 0.1 else np.arange(3)
    gain = np.exp(rng.normal(0, 0.35))
    out = np.empty((size, size, 3), np.float32)
    enlarge_linear(piece, LINEAR * np.float32(gain), mirrored, order, out)
    return Scenery(out, None if light is None else changed(light, bool(mirrored), order, float(gain)))


@numba.njit(cache=True)
def _decode(encoded, table, out):
    zero, one = np.float32(0), np.float32(1)
    for v in range(encoded.shape[0]):
        for u in range(encoded.shape[1]):
            for k in range(3):
                out[v, u, k] = table[np.uint8(min(max(encoded[v, u, k], zero), one) * np.float32(255))]


def paste_shape(rng: np.random.Generator, picture: Picture, share: float) -> None:
    """A rectangle or ellipse of some filling, of about `share` of the side, somewhere on the picture."""
    size = picture.shape[0]
    (x, y), angle = rng.random(2), rng.uniform(0, np.pi)
    w, h = share * rng.uniform(0.15, 1, 2) / 2
    reach = np.hypot(w, h)
    left, right = int(max(0, (x - reach) * size)), int(min(size, (x + reach) * size + 1))
    top, bottom = int(max(0, (y - reach) * size)), int(min(size, (y + reach) * size + 1))
    oblong = rng.random() < 0.6
    if rng.random() < 0.55:
        filling = _colour(rng).astype(np.float32).reshape(1, 1, 3)
    else:
        maker = (noise_picture, stripes_picture, gradient_picture, bricks_picture, text_picture)[int(rng.integers(5))]
        filling = maker(rng, max(8, bottom - top, right - left))
    _paste(picture, left, right, top, bottom, x, y, np.float32(np.cos(angle)), np.float32(np.sin(angle)), w, h, oblong, filling)


@numba.njit(cache=True)
def _paste(picture, left, right, top, bottom, x, y, cosine, sine, w, h, oblong, filling):
    size, plain = np.float32(picture.shape[0]), filling.shape[0] == 1
    for v in range(top, bottom):
        yy = np.float32(v) / size - y
        for u in range(left, right):
            xx = np.float32(u) / size - x
            a, b = xx * cosine + yy * sine, yy * cosine - xx * sine
            if (abs(a) < w and abs(b) < h) if oblong else (a / w) ** 2 + (b / h) ** 2 < 1:
                for k in range(3):
                    picture[v, u, k] = filling[0, 0, k] if plain else filling[v - top, u - left, k]


def wall_picture(rng: np.random.Generator, size: int) -> Picture:
    """A wall of one colour, linear light."""
    return np.broadcast_to((_colour(rng) ** DISPLAY_GAMMA).astype(np.float32), (size, size, 3)).copy()


def background(rng: np.random.Generator, size: int, photos: Photos | None) -> Picture:
    """A picture in linear light."""
    return scenery(rng, size, photos).picture


def scenery(rng: np.random.Generator, size: int, photos: Photos | None) -> Scenery:
    """A picture, with its light if it is a photo whose folder tells it."""
    light = None
    if photos is not None and (photos.whole is not None or photos.borders is not None) and rng.random() < photos.share:
        found = photo_picture(rng, size, photos)
        if rng.random() < 0.85:
            return found
        light = found.light
        encoded = np.clip(found.picture, 0, 1) ** np.float32(1 / DISPLAY_GAMMA)
    else:
        makers = (gradient_picture, noise_picture, stripes_picture, bricks_picture, shelf_picture, text_picture)
        encoded = makers[pick(rng, (0.34, 0.24, 0.12, 0.12, 0.12, 0.06))](rng, size)
    if rng.random() < 0.5:
        for _ in range(rng.integers(1, 7)):
            paste_shape(rng, encoded, rng.uniform(0.1, 0.7))
    out = np.empty((size, size, 3), np.float32)
    _decode(np.ascontiguousarray(encoded, np.float32), LINEAR, out)
    return Scenery(out, light)
