"""Skin (and gloves) as a colour per vertex, painted at rest so that it moves with the hand."""

import math
from dataclasses import dataclass
from functools import cache, cached_property

import numba
import numpy as np
import torch
from jaxtyping import Float, Float32

from twohands.hands.bundled import load_bundled_hand, load_hand_asset
from twohands.joints import FINGERS, OPENPOSE21
from twohands.synth.chance import pick
from twohands.synth.material import BLOTCHES, HAIRS, LINE, PLAIN, STRIPES, Material, cloth_colour

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
"""From very light to very dark, as a display shows them (encoded, not linear)."""
DISPLAY_GAMMA = 2.2


@dataclass(frozen=True)
class Masks:
    """Where on the resting right hand something is, 0 to 1 per vertex."""

    palm: Float[np.ndarray, "vert"]
    knuckle: Float[np.ndarray, "vert"]
    tip: Float[np.ndarray, "vert"]
    nail: Float[np.ndarray, "vert"]
    crease: Float[np.ndarray, "vert"]
    along: Float[np.ndarray, "finger vert"]
    """Metres along the first phalanx of thumb, index, middle, ring, little finger (thumb: the second), -1 off it."""
    reach: Float[np.ndarray, "vert"]
    """Metres from the wrist towards the fingertips."""
    rest_m: Float[np.ndarray, "vert 3"]
    hair: Float[np.ndarray, "vert"]
    """Where hairs grow: the back of the hand, most on the little finger's side, and the backs of the first phalanges."""


def _smooth(x: np.ndarray) -> np.ndarray:
    x = np.clip(x, 0, 1)
    return x * x * (3 - 2 * x)


@cache
def masks() -> Masks:
    """Painted once from the bundled hand's rest pose: back of the hand +y, fingers -x."""
    asset, hand = load_hand_asset(), load_bundled_hand()
    v = asset.v_template.numpy().astype(np.float64)
    joints = hand.joint_template[1].numpy()
    points = hand.with_shape(torch.zeros(2, 10)).with_pose(torch.eye(3).expand(2, 16, 3, 3), torch.zeros(2, 3)).joints_and_tips()[1].numpy()
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
    part = asset.part.numpy()
    along = np.full((len(FINGERS), len(v)), -1.0)
    for k, finger in enumerate(FINGERS):
        start, end = (points[OPENPOSE21.index(f"{finger}{i}")] for i in ((2, 3) if finger == "thumb" else (1, 2)))
        own = np.abs(part - {"thumb": 14, "index": 1, "middle": 4, "ring": 10, "pinky": 7}[finger]) <= 1
        own &= np.linalg.norm(v - (start + end) / 2, axis=1) < 0.03
        along[k, own] = (v[own] - start) @ ((end - start) / np.linalg.norm(end - start))
    phalanx = _smooth(1.6 * (1 - np.abs(along[1:] - 0.017) / 0.013)).max(0)
    dorsum = _smooth((0.09 - -v[:, 0]) / 0.02) * (0.55 + 0.45 * _smooth((0.012 - v[:, 2]) / 0.03))
    hair = (1 - palm) * np.maximum(dorsum, 0.9 * phalanx) + 0.1 * noise(v, 150, np.random.default_rng(9))
    return Masks(palm, knuckle, tip, nail, crease, along, -v[:, 0], v, np.where(palm > 0.6, -1, hair))


@cache
def _rest() -> tuple[np.ndarray, np.ndarray]:
    """The resting hand's vertices, and the same with a third of their length along the fingers."""
    rest = masks().rest_m
    return rest.astype(np.float32), (rest * np.array([0.3, 1, 1])).astype(np.float32)


def hand_at_rest() -> Float32[np.ndarray, "vert 3"]:
    """The vertices of a resting right hand."""
    return _rest()[0]


NOISE_CELLS = 32
"""A power of two: cells are found by masking bits."""


@cache
def noise_volume() -> np.ndarray:
    """Smooth noise of unit variance that repeats every NOISE_CELLS."""
    rng = np.random.default_rng(5)
    field = np.fft.fftn(rng.normal(size=(NOISE_CELLS,) * 3))
    frequency = np.fft.fftfreq(NOISE_CELLS)
    square = frequency[:, None, None] ** 2 + frequency[None, :, None] ** 2 + frequency[None, None] ** 2
    smooth = np.real(np.fft.ifftn(field * np.exp(-square * 10)))
    return (smooth / smooth.std()).astype(np.float32)


@numba.njit(cache=True, fastmath=True, inline="always")
def noise_at(volume, x, y, z):
    """Trilinear look-up in the noise volume."""
    mask = np.uint32(volume.shape[0] - 1)
    fx, fy, fz = np.floor(x), np.floor(y), np.floor(z)
    ix, iy, iz = np.uint32(np.int32(fx)) & mask, np.uint32(np.int32(fy)) & mask, np.uint32(np.int32(fz)) & mask
    gx, gy, gz = x - fx, y - fy, z - fz
    jx, jy, jz = (ix + np.uint32(1)) & mask, (iy + np.uint32(1)) & mask, (iz + np.uint32(1)) & mask
    a = volume[ix, iy, iz] + (volume[jx, iy, iz] - volume[ix, iy, iz]) * gx
    b = volume[ix, jy, iz] + (volume[jx, jy, iz] - volume[ix, jy, iz]) * gx
    c = volume[ix, iy, jz] + (volume[jx, iy, jz] - volume[ix, iy, jz]) * gx
    d = volume[ix, jy, jz] + (volume[jx, jy, jz] - volume[ix, jy, jz]) * gx
    e, f = a + (b - a) * gy, c + (d - c) * gy
    return e + (f - e) * gz


@numba.njit(cache=True, fastmath=True)
def _look_up(points, scale, offset, volume, out):
    for i in range(points.shape[0]):
        x, y, z = points[i, 0] * scale + offset[0], points[i, 1] * scale + offset[1], points[i, 2] * scale + offset[2]
        fine = np.float32(4.3)
        out[i] = noise_at(volume, x, y, z) + np.float32(0.6) * noise_at(volume, x * fine, y * fine, z * fine)


def noise(points_m: Float[np.ndarray, "point 3"], per_m: float, rng: np.random.Generator) -> Float[np.ndarray, "point"]:
    """Smooth noise of unit variance at 3D points, `per_m` cells a metre, two octaves."""
    out = np.empty(len(points_m), np.float32)
    offset = rng.uniform(0, NOISE_CELLS, 3).astype(np.float32)
    _look_up(np.ascontiguousarray(points_m, np.float32), np.float32(per_m), offset, noise_volume(), out)
    return out


@dataclass(frozen=True)
class Skin:
    """One person's skin: the same on both hands and the arms."""

    tone: Float[np.ndarray, "3"]
    """Encoded."""
    base: Float[np.ndarray, "3"]
    """The same in linear light."""
    darkness: float
    seed: int
    specular: float
    gloss: float
    glove: Material | None
    glove_end: float
    """Metres from the wrist to where the glove ends: beyond any finger, or at the knuckles for one without fingers."""
    polish: Float[np.ndarray, "3"] | None
    grain: float

    @staticmethod
    def draw(rng: np.random.Generator, glove_share: float) -> "Skin":
        """Uniform over the tones, with a shift of hue and lightness."""
        darkness = rng.random()
        place = darkness * (len(TONES) - 1)
        low = min(int(place), len(TONES) - 2)
        base = TONES[low] + (TONES[low + 1] - TONES[low]) * (place - low)
        tone = (base * np.exp(rng.normal(0, 0.05, 3)) * np.exp(rng.normal(0, 0.08))).clip(0.02, 0.96)
        base = tone**DISPLAY_GAMMA
        glove, end = None, 1.0
        if rng.random() < glove_share:
            colour = rng.random(3) * rng.uniform(0.2, 1) if rng.random() < 0.6 else np.repeat(rng.uniform(0.03, 0.9), 3)
            if rng.random() < 0.25:
                colour = np.clip(base * rng.uniform(0.6, 1.3), 0, 1)  # the hardest: gloves like skin
            pattern = (PLAIN, STRIPES, BLOTCHES)[pick(rng, (0.7, 0.15, 0.15))]
            glove = Material(
                colour, cloth_colour(rng), pattern, rng.uniform(40, 150), grain=0.08, specular=float(rng.gamma(1, 0.08)), gloss=12
            )
            end = 0.11 if rng.random() < 0.2 else 1.0
        polish = rng.random(3) ** 1.5 if rng.random() < 0.12 else None
        shine, gloss = float(rng.gamma(1.2, 0.06)), float(rng.uniform(6, 40))
        return Skin(tone, base, darkness, int(rng.integers(2**31)), shine, gloss, glove, end, polish, rng.uniform(0.01, 0.06))

    def material(self) -> Material:
        """Bare skin."""
        return Material(None, grain=self.grain, grain_per_m=260, specular=self.specular, gloss=self.gloss, soft=1.0)

    def hairs(self, share: float) -> Material | None:
        """Skin with hairs, if the person is one of the share who have some to be seen."""
        odds, material = self._drawn_hair if share > 0 else (1.0, None)
        return material if odds < share else None

    @cached_property
    def _drawn_hair(self) -> tuple[float, Material]:
        rng = np.random.default_rng([self.seed, 2])  # its own, so that all else stays what it is without hairs
        odds = rng.random()
        hair = np.array([0.03, 0.02, 0.014]) * np.exp(rng.normal(0, 0.7))
        if self.darkness < 0.4 and rng.random() < 0.35:
            hair = np.array([0.3, 0.19, 0.09]) * np.exp(rng.normal(0, 0.4))
        hair = self.base + (hair - self.base) * rng.uniform(0.25, 0.85)
        axis = np.array([1.0, rng.normal(0, 0.15), rng.uniform(0.1, 0.9)])
        per_m = rng.uniform(2300, 4000)
        axis /= math.sqrt(axis @ axis)
        strokes = Material(None, hair.clip(0.003, 1), HAIRS, per_m, axis, self.grain, 260, self.specular, self.gloss, soft=1.0)
        return odds, strokes

    def hand_surface(
        self, rng: np.random.Generator, ring: float, tattoo: float, scar: float = 0.0, side: int = 0, hair: float = 0.0
    ) -> tuple[np.ndarray | None, tuple[Material, ...]]:
        """What one hand wears: layers (see `Piece`) and materials. Gloves are the person's; rings, tattoos and scars the hand's."""
        m = masks()
        layers: list[np.ndarray] = []
        materials = [self.material()]
        if scar > 0:
            drawn = np.random.default_rng([self.seed, 1, side])  # its own, so that all else stays what it is without scars
            if drawn.random() < scar:
                layer, material = self._scar(drawn)
                layers.append(layer)
                materials.append(material)
        if rng.random() < tattoo:
            spots = noise(m.rest_m, rng.uniform(40, 160), rng) - rng.uniform(0.4, 1.3)
            layers.append(np.where(m.palm < 0.4, spots, -1))
            materials.append(
                Material(self.base * rng.uniform(0.15, 0.5) * np.array([0.8, 0.95, 1.05]), grain=0.1, specular=self.specular, soft=0.5)
            )
        if self.polish is not None:
            layers.append(m.nail - 0.45)
            materials.append(Material(self.polish, specular=0.35, gloss=50))
        room = 4 - (self.glove is not None)
        while rng.random() < ring and len(layers) < room:
            finger = pick(rng, (0.07, 0.2, 0.23, 0.38, 0.12))
            place, half = rng.uniform(0.008, 0.02), rng.uniform(0.0015, 0.004)
            layers.append(np.where(m.along[finger] > -1, half - np.abs(m.along[finger] - place), -1))
            metal = np.array([0.75, 0.55, 0.22]) if rng.random() < 0.5 else np.repeat(rng.uniform(0.3, 0.75), 3)
            materials.append(Material(metal * rng.uniform(0.5, 1.1), specular=0.8, gloss=30))
        if self.glove is not None:
            layers.append(self.glove_end - m.reach)
            materials.append(self.glove)
        hairy = self.hairs(hair)
        if hairy is not None:
            layers.insert(0, m.hair - np.random.default_rng([self.seed, 3]).uniform(0.15, 0.6))
            materials.insert(1, hairy)
        return (np.stack(layers, 1).astype(np.float32) if layers else None), tuple(materials)

    def _scar(self, rng: np.random.Generator) -> tuple[np.ndarray, Material]:
        """An old cut, a line some millimetres wide that vertices are too far apart for (so it is a pattern), or a burn with a ragged edge."""
        m = masks()
        colour = np.array([1.1, 0.5, 0.45]) if rng.random() < 0.5 else np.array([1.7, 1.65, 1.65])  # fresh and red, or old and pale
        scarred = np.clip(self.base * colour * rng.uniform(0.9, 1.15), 0, 1)
        away = np.linalg.norm(m.rest_m - m.rest_m[rng.integers(len(m.rest_m))], axis=1)
        if rng.random() < 0.25:
            burn = Material(scarred, self.base * colour**0.4, BLOTCHES, 150, grain=0.1, specular=self.specular + 0.06, gloss=25, soft=0.7)
            return rng.uniform(0.006, 0.016) - away + 0.005 * noise(m.rest_m, 130, rng), burn
        axis = rng.normal(size=3) * np.array([1.0, 0.3, 1.0])  # across the surface, more often than into it
        line = Material(
            None, scarred, LINE, rng.uniform(25, 50), axis / np.linalg.norm(axis), self.grain, 260, self.specular, self.gloss, soft=1.0
        )
        return rng.uniform(0.01, 0.025) - away, line

    @cached_property
    def hand_colour(self) -> Float[np.ndarray, "vert 3"]:
        """Colour of every vertex of a hand, linear light; the same on both."""
        rng = np.random.default_rng(self.seed)
        m = masks()
        pale, red, nail, crease = rng.uniform(0.5, 1), rng.uniform(0.1, 0.75), rng.uniform(0.3, 1), 0.25 * rng.random()
        rest, drawn_out = _rest()
        mottle = rng.uniform(0.01, 0.06) * noise(rest, rng.uniform(60, 300), rng)
        # Veins run along the back of the hand: ridges of noise drawn out along the fingers.
        ridge = noise(drawn_out, rng.uniform(50, 90), rng)
        vein = rng.uniform(-0.05, 0.16)
        blush = rng.uniform(0, 0.05) * noise(rest, rng.uniform(20, 60), rng)
        lighter = (self.tone * (1.06 + 0.9 * self.darkness) + _PALE).clip(0, 1)
        nails = (self.tone * 0.6 + _NAIL).clip(0, 1)
        out = np.empty((len(m.palm), 3))
        _paint(
            self.tone, lighter, self.tone * _RED, nails, pale, red, nail, crease, vein, mottle, ridge, blush,
            m.palm, m.knuckle, m.tip, m.nail, m.crease, m.reach, out,
        )  # fmt: skip
        return out


_PALE, _NAIL, _RED = np.array([0.05, 0.02, 0.01]), np.array([0.38, 0.27, 0.25]), np.array([1.05, 0.78, 0.74])


@numba.njit(cache=True)
def _paint(
    tone, lighter, reddened, nails, pale, red, nail, crease, vein, mottle, ridge, blush, palm, knuckle, tip, nail_mask, creases, reach, out
):  # fmt: skip
    tint, wash = (1.0, 0.55, 0.4), (1.0, -1.0, -1.0)
    for i in range(out.shape[0]):
        blood = max(knuckle[i], 0.8 * tip[i]) * red
        shown = min(max(max(0.0, min(1.0, 1 - 3 * abs(ridge[i]))) * (1 - palm[i]) * (1.0 if reach[i] < 0.085 else 0.0) * vein, 0.0), 1.0)
        for k in range(3):
            c = tone[k] + (lighter[k] - tone[k]) * (palm[i] * pale)
            c += (reddened[k] - c) * blood
            c += (nails[k] - c) * (nail_mask[i] * nail)
            c *= (1 - crease * creases[i]) * (1 + mottle[i])
            c *= 1 - shown * tint[k]
            shown_c = min(max(c * (1 + blush[i] * wash[k]), 0.0), 1.0)
            out[i, k] = np.float32(shown_c) ** np.float32(DISPLAY_GAMMA)  # in single precision: twice as fast
