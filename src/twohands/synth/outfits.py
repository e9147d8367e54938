"""Clothes, hair and faces of the synthetic people.

A garment is a number per vertex, about metres from its hem and positive inside: its border is then sharp at every pixel however coarse the
mesh is, and the cloth lifts off the skin where it is positive."""

from dataclasses import dataclass
from functools import cache

import numpy as np
from jaxtyping import Float, Int

from twohands.synth.body import BodyAsset
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


def _noise(body: BodyAsset, per_m: float, rng: np.random.Generator) -> np.ndarray:
    return _bank(body, per_m)[int(rng.integers(BANK))] * rng.choice([-1.0, 1.0])


def dress(rng: np.random.Generator, body: BodyAsset, skin: Skin, bare: float) -> Outfit:
    """Draws an outfit. `bare` is the share of people in strapless tops and shorts."""
    place = _places(body)
    v = body.vertices_m
    colour = _skin_colour(rng, body, skin)
    arms, legs = body.arm, body.leg
    trunk = arms < 0
    layers = np.full((len(v), 4), OUTSIDE, np.float32)
    # Trousers, or a skirt.
    waist = rng.uniform(0.08, 0.17)
    length = float(rng.choice([0.5, 0.9, 1.5, 1.93, 2.2], p=[0.12, 0.08, 0.08, 0.4, 0.32]))
    layers[:, 0] = np.where(legs >= 0, np.minimum((length - legs) * 0.4, waist - v[:, 1]), np.where(trunk, waist - v[:, 1], OUTSIDE))
    trousers = cloth(rng)
    assert trousers.colour is not None
    if rng.random() < 0.45 or (trousers.pattern == PLAIN and trousers.colour[0] > 1.3 * trousers.colour[2] and trousers.colour[0] > 0.08):
        # Denim, also instead of plain trousers in a colour of skin.
        trousers = Material(np.array([0.02, 0.04, 0.09]) * rng.uniform(0.4, 3.5), None, PLAIN, grain=0.12, grain_per_m=500)
    # Shirts, from undershirts to pullovers.
    sleeve = float(rng.choice([-0.12, 0.05, 0.65, 1.1, 1.6, 1.9, 2.3], p=[0.05, 0.06, 0.29, 0.08, 0.1, 0.17, 0.25])) + rng.normal(0, 0.05)
    tilt = rng.uniform(0.15, 0.6)
    collar = NECK_Y + rng.normal(0.0, 0.012) - v[:, 1] - tilt * (v[:, 2] - 0.02)
    if rng.random() < 0.3:
        deep = rng.uniform(0.05, 0.16)
        collar = np.where(v[:, 2] > 0.04, np.minimum(collar, NECK_Y - deep - v[:, 1] + np.abs(v[:, 0]) * rng.uniform(1.2, 2.5)), collar)
    if rng.random() < 0.15:
        collar = NECK_Y + 0.05 - v[:, 1] - 0.2 * v[:, 2]  # a turtleneck
    hem = rng.uniform(-0.06, 0.12)
    shirt = np.where(trunk, np.minimum(collar, v[:, 1] - hem), np.minimum((sleeve - arms) * 0.27, collar + 0.02))
    layers[:, 1] = np.where(place.head, np.minimum(shirt, collar), shirt)
    if rng.random() < bare:
        top = NECK_Y - rng.uniform(0.06, 0.17) - v[:, 1] - tilt * (v[:, 2] - 0.02)
        layers[:, 1] = np.where(trunk & ~place.head, np.minimum(top, v[:, 1] - hem), OUTSIDE)
        shorts = rng.uniform(0.2, 0.9)
        layers[:, 0] = np.where(legs >= 0, np.minimum((shorts - legs) * 0.4, layers[:, 0]), layers[:, 0])
    # Shoes.
    if rng.random() < 0.7:
        layers[:, 2] = np.where(legs > 1.5, -0.73 - v[:, 1], OUTSIDE)
    # Hair.
    style = rng.random()
    line = rng.uniform(-0.12, 0.3)
    if style > 0.07:
        layers[:, 3] = (place.scalp - line) * 0.1 + 0.004 * _noise(body, 60.0, rng)
        layers[place.scalp == OUTSIDE, 3] = OUTSIDE
    if style > 0.07 and rng.random() < 0.2:  # a beard
        layers[:, 3] = np.maximum(layers[:, 3], np.where(body.masks["lips"] > 0.2, OUTSIDE, place.chin * 0.05 - rng.uniform(0, 0.03)))
    layers[place.hair, 3] = 1
    layers[place.skirt, 0] = 1
    layers[place.eye] = OUTSIDE
    hair = np.array([0.06, 0.04, 0.03]) * np.exp(rng.normal(0, 0.9))
    if rng.random() < 0.2:
        hair = np.array([0.42, 0.28, 0.13]) * np.exp(rng.normal(0, 0.4))
    elif rng.random() < 0.12:
        hair = np.repeat(rng.uniform(0.2, 0.75), 3)
    elif rng.random() < 0.04:
        hair = rng.random(3) * 0.7
    hair = np.clip(hair, 0.004, 0.9)
    loose = rng.uniform(0.003, 0.011) + 0.016 * (rng.random() < 0.2)
    wrinkles = _noise(body, 14.0, rng)
    lift = _step(layers[:, 0]) * (0.005 + 0.5 * loose * (1.3 + wrinkles).clip(0, 3))
    lift = np.where(layers[:, 1] > 0, _step(layers[:, 1]) * (0.004 + loose * (1.2 + 0.8 * wrinkles).clip(0, 3)) + 0.4 * lift, lift)
    lift = np.where(layers[:, 2] > 0, 0.008, lift)
    lift = np.where(layers[:, 3] > 0, _step(layers[:, 3]) * rng.uniform(0.004, 0.02) * (1 + 0.25 * _noise(body, 60.0, rng)), lift)
    lift[place.hair | place.eye] = 0
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
    return Outfit(colour, layers, (skin_material, trousers, cloth(rng), shoe, hair_cloth), lift.astype(np.float32), np.concatenate(faces))


def _step(x: np.ndarray) -> np.ndarray:
    """0 outside, 1 from a centimetre within."""
    t = np.clip(x / 0.01, 0, 1)
    return t * t * (3 - 2 * t)


def _long_hair(rng: np.random.Generator, body: BodyAsset) -> np.ndarray:
    """The curtain of hair without what would hang before the face, cut to some length."""
    centre = body.vertices_m[body.hair_faces].mean(1)
    end = rng.uniform(0.3, 0.62)
    before = (centre[:, 2] > 0.07) & (np.abs(centre[:, 0]) < 0.085) & (centre[:, 1] < 0.8)
    lower = (centre[:, 1] < 0.6) & (centre[:, 2] > 0.05) & (rng.random() < 0.6)
    return body.hair_faces[(centre[:, 1] > end) & ~before & ~lower]


def _skin_colour(rng: np.random.Generator, body: BodyAsset, skin: Skin) -> np.ndarray:
    place = _places(body)
    v = body.vertices_m
    colour = np.repeat(skin.base[None], len(v), 0)
    blush = 0.35 * place.cheek + 0.12 * body.masks["ears"]
    colour *= 1 - blush[:, None] * rng.uniform(0.1, 1) * np.array([0.1, 0.45, 0.45])
    lips = skin.base * np.array([0.85, 0.5, 0.5]) * rng.uniform(0.8, 1.1)
    if rng.random() < 0.15:
        lips = np.array([0.5, 0.03, 0.06]) * rng.uniform(0.5, 1.2)
    colour += (lips - colour) * (body.masks["lips"] * rng.uniform(0.5, 1))[:, None]
    colour *= (1 - body.masks["lids"] * rng.uniform(0.05, 0.4))[:, None]
    colour += (np.array([0.02, 0.015, 0.012]) - colour) * (place.brow * rng.uniform(0.3, 0.95))[:, None]
    colour += (np.clip(skin.base * 0.6 + np.array([0.3, 0.22, 0.2]), 0, 1) - colour) * (0.7 * body.masks["toenails"])[:, None]
    colour *= (1 + 0.05 * _noise(body, 25.0, rng))[:, None]
    iris = rng.uniform(0.01, 0.06) * (np.array([1.2, 0.8, 0.5]) if rng.random() < 0.75 else np.array([0.7, 1.1, 1.6]))
    colour[place.eye] = np.array([0.62, 0.58, 0.55])
    colour[place.eye & (place.iris > 0.86)] = np.clip(iris, 0.004, 0.3)
    return np.clip(colour, 0.003, 1)
