"""Clothes, hair and faces of the synthetic people.

A garment is a number per vertex, about metres from its hem and positive inside: its border is then sharp at every pixel however coarse the
mesh is, and the cloth lifts off the skin where it is positive."""

from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numba
import numpy as np
from jaxtyping import Float, Int

from twohands.synth.body import BodyAsset
from twohands.synth.chance import pick, sign
from twohands.synth.material import PLAIN, STRANDS, Material, cloth, cloth_colour
from twohands.synth.skin import Skin, noise

NECK_Y = 0.583
"""Where a round collar sits on the template."""
OUTSIDE = -1.0


@dataclass(frozen=True)
class Outfit:
    """What a person wears."""

    colour: Float[np.ndarray, "vert 3"]
    """Of the bare body."""
    layers: Float[np.ndarray, "vert layer"]
    """The last positive one is seen."""
    materials: tuple[Material, ...]
    """Skin, then one a layer."""
    lift_m: Float[np.ndarray, "vert"]
    """How far the surface stands off the body along its normal."""
    faces: Int[np.ndarray, "face 3"]


@dataclass(frozen=True)
class _Places:
    """What of the template is where."""

    head: np.ndarray
    scalp: np.ndarray
    brow: np.ndarray
    eye: np.ndarray
    iris: np.ndarray
    hair: np.ndarray
    skirt: np.ndarray
    cheek: np.ndarray
    chin: np.ndarray


@cache
def _places(body: BodyAsset) -> _Places:
    v = body.vertices_m
    count = len(v)
    hair, skirt, eye = (np.zeros(count, bool) for _ in range(3))
    hair[np.unique(body.hair_faces)] = True
    skirt[np.unique(body.skirt_faces)] = True
    eye[np.unique(body.eye_faces)] = True
    head = (body.weights * (body.bones == body.bone["head"])).sum(1) > 0.5
    head &= ~hair & ~eye
    eyes = v[eye]
    middle = eyes[eyes[:, 0] > 0].mean(0)
    centre = np.array([0, middle[1] + 0.01, middle[2] - 0.075])
    local = (v - centre) / 0.1
    scalp = np.where(head, 0.8 * local[:, 1] - 0.75 * local[:, 2], OUTSIDE)
    scalp[body.masks["ears"] > 0.3] = OUTSIDE
    x = np.abs(v[:, 0])
    arch = middle[1] + 0.019 - 6.0 * (x - middle[0]) ** 2
    brow = np.where(head & (v[:, 2] > middle[2] - 0.03) & (x > 0.012) & (x < 0.055), 1 - np.abs(v[:, 1] - arch) / 0.0055, 0).clip(0, 1)
    forward = (v - np.where(v[:, :1] > 0, middle, middle * np.array([-1, 1, 1]))) @ np.array([0, 0, 1.0])
    iris = np.where(eye, forward / 0.012, 0)
    cheek = np.exp(-(((x - 0.045) / 0.02) ** 2 + ((v[:, 1] - middle[1] + 0.04) / 0.022) ** 2)) * head
    chin = np.where(head, np.minimum((middle[1] - 0.045 - v[:, 1]) / 0.02, (v[:, 2] - middle[2] + 0.075) / 0.03), OUTSIDE).clip(-1, 1)
    return _Places(head, scalp, brow, eye, iris, hair, skirt, cheek, chin)


BANK = 16


@cache
def _bank(body: BodyAsset, per_m: float) -> np.ndarray:
    """Some fields of noise over the resting body: one for every person drawn anew would cost more than the person."""
    rng = np.random.default_rng(int(per_m))
    return np.stack([noise(body.vertices_m, per_m * rng.uniform(0.7, 1.4), rng) for _ in range(BANK)])


def _noise(body: BodyAsset, per_m: float, rng: np.random.Generator) -> tuple[np.ndarray, float]:
    """A field of the bank, and the sign to give it."""
    return _bank(body, per_m)[int(rng.integers(BANK))], sign(rng)


def dress(rng: np.random.Generator, body: BodyAsset, skin: Skin, bare: float, hairs: float = 0.0) -> Outfit:
    """Draws an outfit. `bare` is the share of people in strapless tops and shorts, `hairs` of those with some on forearms and shins."""
    place = _places(body)
    v = body.vertices_m
    colour = _skin_colour(rng, body, skin)
    # Trousers, or a skirt.
    waist = rng.uniform(0.08, 0.17)
    length = (0.5, 0.9, 1.5, 1.93, 2.2)[pick(rng, (0.12, 0.08, 0.08, 0.4, 0.32))]
    trousers = cloth(rng)
    assert trousers.colour is not None
    if rng.random() < 0.45 or (trousers.pattern == PLAIN and trousers.colour[0] > 1.3 * trousers.colour[2] and trousers.colour[0] > 0.08):
        # Denim, also instead of plain trousers in a colour of skin.
        trousers = Material(np.array([0.02, 0.04, 0.09]) * rng.uniform(0.4, 3.5), None, PLAIN, grain=0.12, grain_per_m=500)
    # Shirts, from undershirts to pullovers.
    sleeve = (-0.12, 0.05, 0.65, 1.1, 1.6, 1.9, 2.3)[pick(rng, (0.05, 0.06, 0.29, 0.08, 0.1, 0.17, 0.25))] + rng.normal(0, 0.05)
    tilt = rng.uniform(0.15, 0.6)
    neck = NECK_Y + rng.normal(0.0, 0.012)
    deep, wedge = (rng.uniform(0.05, 0.16), rng.uniform(1.2, 2.5)) if rng.random() < 0.3 else (0.0, 0.0)
    turtleneck = rng.random() < 0.15
    hem = rng.uniform(-0.06, 0.12)
    top, shorts = (NECK_Y - rng.uniform(0.06, 0.17), rng.uniform(0.2, 0.9)) if rng.random() < bare else (np.inf, np.inf)
    shoes = rng.random() < 0.7
    style = rng.random()
    line = rng.uniform(-0.12, 0.3)
    nothing = _bank(body, 60.0)[0]
    locks, locks_sign = _noise(body, 60.0, rng) if style > 0.07 else (nothing, 0.0)
    beard = rng.uniform(0, 0.03) if style > 0.07 and rng.random() < 0.2 else np.inf
    hair = np.array([0.06, 0.04, 0.03]) * np.exp(rng.normal(0, 0.9))
    if rng.random() < 0.2:
        hair = np.array([0.42, 0.28, 0.13]) * np.exp(rng.normal(0, 0.4))
    elif rng.random() < 0.12:
        hair = np.repeat(rng.uniform(0.2, 0.75), 3)
    elif rng.random() < 0.04:
        hair = rng.random(3) * 0.7
    hair = np.clip(hair, 0.004, 0.9)
    loose = rng.uniform(0.003, 0.011) + 0.016 * (rng.random() < 0.2)
    wrinkles, wrinkles_sign = _noise(body, 14.0, rng)
    cut = _Cut(
        waist, length, neck, tilt, deep, wedge, turtleneck, sleeve, hem, top, shorts, shoes, style > 0.07, line, beard, loose,
        rng.uniform(0.004, 0.02),
    )  # fmt: skip
    tufts, tufts_sign = _noise(body, 60.0, rng)
    layers, lift = np.empty((len(v), 4), np.float32), np.empty(len(v), np.float32)
    _wear(
        cut, v, body.arm, body.leg, place.head, place.scalp, place.chin, body.masks["lips"], place.hair, place.skirt, place.eye,
        locks, locks_sign, wrinkles, wrinkles_sign, tufts, tufts_sign, layers, lift,
    )  # fmt: skip
    faces = [body.faces, body.eye_faces]
    if style > 0.62:
        faces.append(_long_hair(rng, body))
    if rng.random() < 0.13:
        faces.append(body.skirt_faces[v[body.skirt_faces][..., 1].mean(1) > rng.uniform(-0.7, -0.1)])
    hair_cloth = Material(hair, hair * rng.uniform(0.25, 0.6), STRANDS, rng.uniform(200, 500), None, 0.15, 600, 0.06, 14)
    shoe = Material(cloth_colour(rng), None, PLAIN, grain=0.08, specular=0.08, gloss=20)
    skin_material = Material(
        None, None, PLAIN, grain=rng.uniform(0.01, 0.05), grain_per_m=250, specular=skin.specular, gloss=skin.gloss, soft=1.0
    )
    garments: tuple[Material, ...] = (trousers, cloth(rng), shoe, hair_cloth)
    hairy = skin.hairs(hairs)
    if hairy is not None:
        layers = np.concatenate([_limb_hair(body), layers], 1)
        garments = (hairy, *garments)
    return Outfit(colour, layers, (skin_material, *garments), lift, np.concatenate(faces))


@cache
def _limb_hair(body: BodyAsset) -> np.ndarray:
    """Forearms and shins, thinning out towards elbows and knees."""
    ragged = 0.25 * _bank(body, 60.0)[0]
    limb = np.where(body.arm >= 0, body.arm - 1.15, np.where(body.leg >= 0, np.minimum(body.leg - 1.15, 2.02 - body.leg) * 2, OUTSIDE))
    return np.where(limb > OUTSIDE, limb + ragged, OUTSIDE)[:, None].astype(np.float32)


class _Cut(NamedTuple):
    """What was drawn for an outfit, in metres on the template or along arms and legs (see `BodyAsset.arm`)."""

    waist: float
    length: float
    neck: float
    tilt: float
    deep: float
    """0: a round collar."""
    wedge: float
    turtleneck: bool
    sleeve: float
    hem: float
    top: float
    """Upper end of a strapless top; infinite: a shirt."""
    shorts: float
    shoes: bool
    hairy: bool
    line: float
    beard: float
    """Infinite: none."""
    loose: float
    hair_lift: float


@numba.njit(cache=True)
def _wear(
    cut, v, arms, legs, head, scalp, chin, lips, hair, skirt, eye, locks, locks_sign, wrinkles, wrinkles_sign, tufts, tufts_sign, layers,
    lift,
):  # fmt: skip
    """Trousers, shirt, shoes and hair as distances from their hems, and how far they stand off."""
    for i in range(v.shape[0]):
        x, y, z = v[i]
        trunk = arms[i] < 0
        below = cut.waist - y if trunk else OUTSIDE
        if legs[i] >= 0:
            below = min(min((cut.length - legs[i]) * 0.4, cut.waist - y), (cut.shorts - legs[i]) * 0.4)
        collar = cut.neck - y - cut.tilt * (z - 0.02)
        if cut.deep > 0 and z > 0.04:
            collar = min(collar, NECK_Y - cut.deep - y + abs(x) * cut.wedge)
        if cut.turtleneck:
            collar = NECK_Y + 0.05 - y - 0.2 * z
        shirt = min(collar, y - cut.hem) if trunk else min((cut.sleeve - arms[i]) * 0.27, collar + 0.02)
        if head[i]:
            shirt = min(shirt, collar)
        if cut.top < 10:
            shirt = min(cut.top - y - cut.tilt * (z - 0.02), y - cut.hem) if trunk and not head[i] else OUTSIDE
        shoe = -0.73 - y if cut.shoes and legs[i] > 1.5 else OUTSIDE
        grown = OUTSIDE
        if cut.hairy and scalp[i] != OUTSIDE:
            grown = (scalp[i] - cut.line) * 0.1 + 0.004 * locks_sign * locks[i]
        if cut.beard < 10:
            grown = max(grown, OUTSIDE if lips[i] > 0.2 else chin[i] * 0.05 - cut.beard)
        grown = 1.0 if hair[i] else grown
        below = 1.0 if skirt[i] else below
        if eye[i]:
            below = shirt = shoe = grown = OUTSIDE
        layers[i, 0], layers[i, 1], layers[i, 2], layers[i, 3] = below, shirt, shoe, grown
        fold = wrinkles_sign * wrinkles[i]
        off = _step(below) * (0.005 + 0.5 * cut.loose * min(max(1.3 + fold, 0.0), 3.0))
        if shirt > 0:
            off = _step(shirt) * (0.004 + cut.loose * min(max(1.2 + 0.8 * fold, 0.0), 3.0)) + 0.4 * off
        if shoe > 0:
            off = 0.008
        if grown > 0:
            off = _step(grown) * cut.hair_lift * (1 + 0.25 * tufts_sign * tufts[i])
        lift[i] = 0.0 if hair[i] or eye[i] else off


@numba.njit(cache=True, inline="always")
def _step(x):
    """0 outside, 1 from a centimetre within."""
    t = min(max(x / 0.01, 0.0), 1.0)
    return t * t * (3 - 2 * t)


def _long_hair(rng: np.random.Generator, body: BodyAsset) -> np.ndarray:
    """The curtain of hair without what would hang before the face, cut to some length."""
    centre = body.vertices_m[body.hair_faces].mean(1)
    end = rng.uniform(0.3, 0.62)
    before = (centre[:, 2] > 0.07) & (np.abs(centre[:, 0]) < 0.085) & (centre[:, 1] < 0.8)
    lower = (centre[:, 1] < 0.6) & (centre[:, 2] > 0.05) & (rng.random() < 0.6)
    return body.hair_faces[(centre[:, 1] > end) & ~before & ~lower]


def _skin_colour(rng: np.random.Generator, body: BodyAsset, skin: Skin) -> np.ndarray:
    place, masks = _places(body), body.masks
    blush = rng.uniform(0.1, 1) * np.array([0.1, 0.45, 0.45])
    lips = skin.base * np.array([0.85, 0.5, 0.5]) * rng.uniform(0.8, 1.1)
    if rng.random() < 0.15:
        lips = np.array([0.5, 0.03, 0.06]) * rng.uniform(0.5, 1.2)
    shares = (rng.uniform(0.5, 1), rng.uniform(0.05, 0.4), rng.uniform(0.3, 0.95))
    nails = np.clip(skin.base * 0.6 + np.array([0.3, 0.22, 0.2]), 0, 1)
    mottle, sign = _noise(body, 25.0, rng)
    iris = rng.uniform(0.01, 0.06) * (np.array([1.2, 0.8, 0.5]) if rng.random() < 0.75 else np.array([0.7, 1.1, 1.6]))
    colour = np.empty((len(body.vertices_m), 3))
    _paint(
        skin.base, blush, lips, nails, np.clip(iris, 0.004, 0.3), shares, place.cheek, masks["ears"], masks["lips"], masks["lids"],
        place.brow, masks["toenails"], place.eye, place.iris, mottle, sign, colour,
    )  # fmt: skip
    return colour


@numba.njit(cache=True)
def _paint(base, blush, lips, nails, iris, shares, cheek, ear, lip, lid, brow, toenail, eye, look, mottle, sign, out):
    hair, white = (0.02, 0.015, 0.012), (0.62, 0.58, 0.55)
    for i in range(out.shape[0]):
        warm = 0.35 * cheek[i] + 0.12 * ear[i]
        for k in range(3):
            c = base[k] * (1 - warm * blush[k])
            c += (lips[k] - c) * (lip[i] * shares[0])
            c *= 1 - lid[i] * shares[1]
            c += (hair[k] - c) * (brow[i] * shares[2])
            c += (nails[k] - c) * (0.7 * toenail[i])
            c *= 1 + 0.05 * sign * mottle[i]
            if eye[i]:
                c = iris[k] if look[i] > 0.86 else white[k]
            out[i, k] = min(max(c, 0.003), 1.0)
