"""Skin (and gloves) as a colour per vertex, painted at rest so that it moves with the hand."""

from dataclasses import dataclass
from functools import cache

import numba
import numpy as np
import torch
from jaxtyping import Float

from twohands.hands.bundled import load_bundled_hand, load_hand_asset
from twohands.joints import FINGERS, OPENPOSE21

TONES = np.array(
    [
        [0.97, 0.82, 0.72],
        [0.93, 0.74, 0.61],
        [0.84, 0.63, 0.48],
        [0.70, 0.49, 0.35],
        [0.54, 0.36, 0.25],
        [0.38, 0.25, 0.18],
        [0.25, 0.16, 0.12],
    ]
)
"""From very light to very dark, linear light."""


@dataclass(frozen=True)
class Masks:
    """Where on the resting right hand something is, 0 to 1 per vertex."""

    palm: Float[np.ndarray, "vert"]
    knuckle: Float[np.ndarray, "vert"]
    tip: Float[np.ndarray, "vert"]
    nail: Float[np.ndarray, "vert"]
    crease: Float[np.ndarray, "vert"]
    rest_m: Float[np.ndarray, "vert 3"]


def _smooth(x: np.ndarray) -> np.ndarray:
    x = np.clip(x, 0, 1)
    return x * x * (3 - 2 * x)


@cache
def masks() -> Masks:
    """Painted once from the bundled hand's rest pose: back of the hand +y, fingers -x."""
    asset, hand = load_hand_asset(), load_bundled_hand()
    v = asset.v_template.numpy().astype(np.float64)
    joints = hand.joint_template[1].numpy()
    points = hand.with_shape(torch.zeros(2, 10)).with_pose(torch.eye(3).expand(2, 16, 3, 3), torch.zeros(2, 3)).keypoints()[1].numpy()
    from twohands.render import smooth_normals

    up = smooth_normals(v.astype(np.float32), asset.faces.numpy().astype(np.int32))[:, 1]
    palm = _smooth((0.25 - up) / 0.6)
    bends = joints[1:]
    near = np.linalg.norm(v[:, None] - bends[None], axis=2).min(1)
    knuckle = _smooth(1 - near / 0.016) * _smooth((up - 0.1) / 0.5)
    crease = _smooth(1 - np.abs(v[:, None, 0] - bends[None, :, 0]).min(1) / 0.003) * palm * (near < 0.014)
    tips = points[[OPENPOSE21.index(f + "4") for f in FINGERS]]
    last = points[[OPENPOSE21.index(f + "3") for f in FINGERS]]
    to_tip = np.linalg.norm(v[:, None] - tips[None], axis=2)
    tip = _smooth(1 - to_tip.min(1) / 0.016)
    centre = tips * 0.72 + last * 0.28 + np.array([0, 0.004, 0])
    nail = _smooth((1 - np.linalg.norm(v[:, None] - centre[None], axis=2).min(1) / 0.0085) * 3) * _smooth((up - 0.35) / 0.2)
    return Masks(palm, knuckle, tip, nail, crease, v)


@cache
def _noise_volume() -> np.ndarray:
    rng = np.random.default_rng(5)
    field = np.fft.fftn(rng.normal(size=(24, 24, 24)))
    frequency = np.fft.fftfreq(24)
    square = frequency[:, None, None] ** 2 + frequency[None, :, None] ** 2 + frequency[None, None] ** 2
    smooth = np.real(np.fft.ifftn(field * np.exp(-square * 10)))
    return (smooth / smooth.std()).astype(np.float32)


@numba.njit(cache=True, fastmath=True)
def _look_up(points, scale, offset, volume, out):
    n = volume.shape[0]
    for i in range(points.shape[0]):
        total = 0.0
        for octave in range(2):
            factor = scale * (4.3 if octave else 1.0)
            x, y, z = points[i, 0] * factor + offset[0], points[i, 1] * factor + offset[1], points[i, 2] * factor + offset[2]
            ix, iy, iz = int(np.floor(x)), int(np.floor(y)), int(np.floor(z))
            gx, gy, gz = x - ix, y - iy, z - iz
            value = 0.0
            for dx in range(2):
                for dy in range(2):
                    for dz in range(2):
                        weight = (gx if dx else 1 - gx) * (gy if dy else 1 - gy) * (gz if dz else 1 - gz)
                        value += weight * volume[(ix + dx) % n, (iy + dy) % n, (iz + dz) % n]
            total += value * (0.6 if octave else 1.0)
        out[i] = total


def noise(points_m: Float[np.ndarray, "point 3"], per_m: float, rng: np.random.Generator) -> Float[np.ndarray, "point"]:
    """Smooth noise of unit variance at 3D points, `per_m` cells a metre, two octaves."""
    out = np.empty(len(points_m), np.float32)
    _look_up(np.ascontiguousarray(points_m, np.float32), float(per_m), rng.uniform(0, 24, 3), _noise_volume(), out)
    return out


@dataclass(frozen=True)
class Skin:
    """One person's skin: the same on both hands and the arms."""

    base: Float[np.ndarray, "3"]
    darkness: float
    seed: int
    specular: float
    gloss: float
    glove: Float[np.ndarray, "3"] | None

    @staticmethod
    def draw(rng: np.random.Generator, glove_share: float) -> "Skin":
        """Uniform over the tones, with a shift of hue and lightness."""
        darkness = rng.random()
        place = darkness * (len(TONES) - 1)
        low = min(int(place), len(TONES) - 2)
        base = TONES[low] + (TONES[low + 1] - TONES[low]) * (place - low)
        base = np.clip(base * np.exp(rng.normal(0, 0.05, 3)) * np.exp(rng.normal(0, 0.08)), 0.02, 1)
        glove = None
        if rng.random() < glove_share:
            glove = rng.random(3) * rng.uniform(0.2, 1) if rng.random() < 0.6 else np.repeat(rng.uniform(0.03, 0.9), 3)
        return Skin(base, darkness, int(rng.integers(2**31)), float(rng.gamma(1.2, 0.06)), float(rng.uniform(6, 40)), glove)

    def hand_colour(self) -> Float[np.ndarray, "vert 3"]:
        """Colour of every vertex of a hand."""
        rng = np.random.default_rng(self.seed)
        m = masks()
        if self.glove is not None:
            return self.glove[None] * (1 + 0.06 * noise(m.rest_m, rng.uniform(60, 300), rng))[:, None]
        colour = np.repeat(self.base[None], len(m.palm), 0)
        lighter = np.clip(self.base * (1.06 + 0.9 * self.darkness) + np.array([0.05, 0.02, 0.01]), 0, 1)
        colour += (lighter - colour) * (m.palm * rng.uniform(0.5, 1))[:, None]
        red = self.base * np.array([1.05, 0.78, 0.74])
        colour += (red - colour) * (np.maximum(m.knuckle, 0.8 * m.tip) * rng.uniform(0.1, 0.75))[:, None]
        nail = np.clip(self.base * 0.6 + np.array([0.38, 0.27, 0.25]), 0, 1)
        if rng.random() < 0.12:
            nail = rng.random(3)
        colour += (nail - colour) * (m.nail * rng.uniform(0.3, 1))[:, None]
        colour *= (1 - 0.25 * rng.random() * m.crease)[:, None]
        colour *= (1 + rng.uniform(0.01, 0.06) * noise(m.rest_m, rng.uniform(60, 300), rng))[:, None]
        blush = rng.uniform(0, 0.05) * noise(m.rest_m, rng.uniform(20, 60), rng)
        return np.clip(colour * (1 + blush[:, None] * np.array([1.0, -1.0, -1.0])), 0, 1)
