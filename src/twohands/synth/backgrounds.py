"""What is behind the hands: gradients, noise, clutter, stripes, and pieces of photos where a folder of them is given."""

from functools import lru_cache
from pathlib import Path

import numpy as np
from jaxtyping import Float32
from PIL import Image

Picture = Float32[np.ndarray, "size size 3"]


@lru_cache(maxsize=4)
def _photos(folder: Path, most: int = 600) -> list[np.ndarray]:
    """Small copies of some photos of a folder, kept in memory."""
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in {".jpg", ".jpeg", ".png"})
    chosen = np.random.default_rng(0).permutation(len(files))[:most]
    small = []
    for k in sorted(chosen):
        with Image.open(files[k]) as image:
            image.thumbnail((256, 256))
            small.append(np.asarray(image.convert("RGB")))
    return small


def _resize(values: np.ndarray, size: int) -> np.ndarray:
    return np.stack(
        [np.asarray(Image.fromarray(values[..., c]).resize((size, size), Image.Resampling.BILINEAR)) for c in range(values.shape[2])], 2
    )


def _colour(rng: np.random.Generator) -> np.ndarray:
    """A colour, mostly a dull one."""
    c = rng.random(3)
    return (c.mean() + (c - c.mean()) * rng.uniform(0.05, 1)) * rng.uniform(0.1, 1.0)


def noise_picture(rng: np.random.Generator, size: int) -> Picture:
    """Octaves of noise around a colour."""
    picture = np.zeros((size, size, 3), np.float32)
    amplitude = 1.0
    for cells in (2, 4, 8, 16, 32, 64)[: rng.integers(2, 7)]:
        grey = rng.random() < 0.5
        grid = (rng.random((cells, cells, 1 if grey else 3)) - 0.5).astype(np.float32)
        picture += amplitude * _resize(np.repeat(grid, 3, 2) if grey else grid, size)
        amplitude *= rng.uniform(0.4, 0.9)
    return np.clip(_colour(rng) + picture * rng.uniform(0.2, 1.0), 0, 1).astype(np.float32)


def gradient_picture(rng: np.random.Generator, size: int) -> Picture:
    """One colour running into another, often nearly the same: walls, tables, studio backdrops, darkness."""
    axis = np.linspace(0, 1, size, dtype=np.float32)
    angle = rng.uniform(0, 2 * np.pi)
    ramp = (np.cos(angle) * axis[None] + np.sin(angle) * axis[:, None])[..., None]
    first = _colour(rng) if rng.random() < 0.8 else np.repeat(rng.uniform(0, 0.08), 3)
    second = first + rng.normal(0, 0.08, 3) if rng.random() < 0.5 else _colour(rng)
    return np.clip(first + (second - first) * ramp, 0, 1).astype(np.float32)


def stripes_picture(rng: np.random.Generator, size: int) -> Picture:
    """Stripes or checks: shirts, shelves, blinds."""
    axis = np.arange(size, dtype=np.float32)
    angle, period = rng.uniform(0, np.pi), rng.uniform(6, 60)
    along = np.cos(angle) * axis[None] + np.sin(angle) * axis[:, None]
    across = -np.sin(angle) * axis[None] + np.cos(angle) * axis[:, None]
    pattern = (np.sin(along * 2 * np.pi / period) > rng.uniform(-0.7, 0.7)).astype(np.float32)
    if rng.random() < 0.5:
        pattern = (pattern + (np.sin(across * 2 * np.pi / (period * rng.uniform(0.5, 2))) > 0)) / 2
    first, second = _colour(rng), _colour(rng)
    return np.clip(first + (second - first) * pattern[..., None], 0, 1).astype(np.float32)


def photo_picture(rng: np.random.Generator, size: int, folder: Path) -> Picture:
    """A piece from the border of a photo, at most 35 % of its side, so that it rarely shows a hand."""
    photo = _photos(folder)[rng.integers(len(_photos(folder)))]
    height, width = photo.shape[:2]
    side = int(min(height, width) * rng.uniform(0.2, 0.35))
    x, y = rng.integers(0, width - side), rng.integers(0, height - side)
    edge = rng.integers(3)
    x, y = (0, y) if edge == 0 else (width - side, y) if edge == 1 else (x, 0)
    piece = (
        np.asarray(Image.fromarray(photo[y : y + side, x : x + side]).resize((size, size), Image.Resampling.BICUBIC)).astype(np.float32)
        / 255
    )
    if rng.random() < 0.5:
        piece = piece[:, ::-1]
    if rng.random() < 0.3:
        piece = piece[..., rng.permutation(3)]
    return np.clip(piece * rng.uniform(0.4, 1.3), 0, 1).astype(np.float32)


def paste_shape(rng: np.random.Generator, picture: Picture, share: float) -> Picture:
    """A rectangle or ellipse of some filling, of about `share` of the side, somewhere."""
    size = picture.shape[0]
    yy, xx = np.mgrid[:size, :size].astype(np.float32) / size
    (x, y), angle = rng.random(2), rng.uniform(0, np.pi)
    a = (xx - x) * np.cos(angle) + (yy - y) * np.sin(angle)
    b = -(xx - x) * np.sin(angle) + (yy - y) * np.cos(angle)
    w, h = share * rng.uniform(0.15, 1, 2) / 2
    inside = (np.abs(a) < w) & (np.abs(b) < h) if rng.random() < 0.6 else (a / w) ** 2 + (b / h) ** 2 < 1
    kind = rng.random()
    picture = picture.copy()
    if kind < 0.55:
        picture[inside] = _colour(rng)
    else:
        filling = noise_picture if kind < 0.8 else stripes_picture if kind < 0.9 else gradient_picture
        picture[inside] = filling(rng, size)[inside]
    return picture


def background(rng: np.random.Generator, size: int, photos: Path | None) -> Picture:
    """A picture in linear light, 0 to 1."""
    kind = rng.random()
    if photos is not None and kind < 0.35:
        picture = photo_picture(rng, size, photos)
    elif kind < 0.6:
        picture = gradient_picture(rng, size)
    elif kind < 0.85:
        picture = noise_picture(rng, size)
    else:
        picture = stripes_picture(rng, size)
    if rng.random() < 0.5:
        for _ in range(rng.integers(1, 7)):
            picture = paste_shape(rng, picture, rng.uniform(0.1, 0.7))
    return np.ascontiguousarray(picture)
