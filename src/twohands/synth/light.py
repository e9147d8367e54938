"""What lights a scene: rooms and lamps drawn by chance, or what a picture or an environment map says of them. Linear light, camera frame."""

from dataclasses import dataclass
from pathlib import Path

import numba
import numpy as np
from jaxtyping import Float, Float32

from twohands.errors import UserError
from twohands.synth.body import unit
from twohands.synth.chance import sign


@dataclass(frozen=True)
class Light:
    """What lights a scene."""

    sky: Float32[np.ndarray, "9 3"]
    """Spherical harmonics (order 2) of the light that arrives at a surface facing a direction of the camera frame, over pi."""
    to_light: Float32[np.ndarray, "lamp 3"]
    """Unit vectors; the first lamp casts shadows."""
    power: Float32[np.ndarray, "lamp 3"]


def harmonics(n: Float[np.ndarray, "*rows 3"]) -> Float[np.ndarray, "*rows 9"]:
    """The real spherical harmonics up to order 2 of unit vectors."""
    out = np.empty((*n.shape[:-1], 9))
    _harmonics(np.ascontiguousarray(n, np.float64).reshape(-1, 3), out.reshape(-1, 9))
    return out


@numba.njit(cache=True)
def _harmonics(n, out):
    for i in range(n.shape[0]):
        x, y, z = n[i]
        out[i, 0], out[i, 1], out[i, 2], out[i, 3] = 0.282095, 0.488603 * y, 0.488603 * z, 0.488603 * x
        out[i, 4], out[i, 5], out[i, 6] = 1.092548 * x * y, 1.092548 * y * z, 0.315392 * (3 * z * z - 1)
        out[i, 7], out[i, 8] = 1.092548 * x * z, 0.546274 * (x * x - y * y)


COSINE = np.array([1, *(2 / 3,) * 3, *(1 / 4,) * 5])
"""A cosine lobe's weight for each harmonic, over pi: radiance to what a matt white surface sends back."""


def sky_of(directions: Float[np.ndarray, "source 3"], colours: Float[np.ndarray, "source 3"]) -> Float32[np.ndarray, "9 3"]:
    """The sky of broad sources: each gives the light of its colour, if alone, to a surface that faces it."""
    Y = harmonics(directions)
    peak = (Y[:1] * COSINE * Y[:1]).sum()
    return ((Y * COSINE).T @ colours / peak).astype(np.float32)


def plain_light() -> Light:
    """An overcast sky and a lamp over the camera's shoulder, always the same."""
    sky = sky_of(np.array([[0.0, -1, 0], [0, 1, 0]]), np.array([[0.45] * 3, [0.2] * 3]))
    to_light = np.array([[-0.35, -0.6, -0.72]], np.float32)
    return Light(sky, to_light / np.linalg.norm(to_light), np.full((1, 3), 0.55, np.float32))


def draw_light(rng: np.random.Generator) -> Light:
    """Rooms, windows, studios, flashes, dusk, coloured lamps."""
    up = np.array([rng.normal(0, 0.25), -1.0, rng.normal(0, 0.25)])
    up /= np.linalg.norm(up)
    warm = np.exp(rng.normal(0, 0.12) * np.array([1, 0, -1.0]))
    kind = rng.random()
    count = int(rng.integers(1, 4))
    to_light = rng.normal(size=(count, 3)) + np.array([0, -0.6, -0.9])
    power = rng.uniform(0.25, 1.0, (count, 1)) * np.array([1, 0.5, 0.5])[:count, None]
    ambient = rng.uniform(0.15, 0.75)
    if kind < 0.1:  # flash at the camera
        to_light[0], power[0], ambient = np.array([rng.normal(0, 0.1), -0.15, -1.0]), rng.uniform(0.8, 1.3), rng.uniform(0.05, 0.3)
    elif kind < 0.22:  # overcast, or a light tent
        power, ambient = power * rng.uniform(0.05, 0.3), rng.uniform(0.6, 1.0)
    elif kind < 0.32:  # a window at one side, a dark room
        to_light[0] = np.array([sign(rng), rng.normal(-0.2, 0.2), rng.normal(-0.1, 0.4)])
        power[0], ambient = rng.uniform(0.6, 1.2), rng.uniform(0.08, 0.25)
    elif kind < 0.38:  # from behind
        to_light[0] = np.array([rng.normal(0, 0.6), -0.5, 1.0])
        power[0], ambient = rng.uniform(0.7, 1.5), rng.uniform(0.15, 0.5)
    to_light = unit(to_light)
    tint = np.exp(rng.normal(0, 0.08, (count, 3))) * warm
    if rng.random() < 0.08:  # party light
        tint *= np.exp(rng.normal(0, 0.7, (count, 3)))
    broad = int(rng.integers(2, 5))
    sources = np.concatenate([[up, -up], rng.normal(size=(broad, 3)) + 0.4 * up])
    sources = unit(sources)
    ground = rng.uniform(0.1, 0.6) * np.exp(rng.normal(0, 0.12, 3))
    colours = np.concatenate(
        [[np.ones(3) * 0.7, ground * 0.6], rng.uniform(0.0, 0.7, (broad, 1)) * np.exp(rng.normal(0, 0.18, (broad, 3)))]
    )
    sky = sky_of(sources, colours * np.exp(rng.normal(0, 0.06, 3)) * ambient)
    return Light(sky, to_light.astype(np.float32), (tint * power).astype(np.float32))


LIGHTS = "lights.npz"
"""A folder of pictures may hold the light of some of them in a file of this name (`tools/make_backgrounds.py` writes it): `name` (n,),
`sky` (n, 9, 3), `to_light` (n, 3), `power` (n, 3), in the frame of the camera that took the picture and the picture's linear units."""


def read_lights(folder: Path) -> dict[str, Light]:
    """By the pictures' names; none if the folder says nothing. UserError if the file is broken."""
    path = folder / LIGHTS
    if not path.is_file():
        return {}
    try:
        with np.load(path) as stored:
            names, sky, to_light, power = (stored[name] for name in ("name", "sky", "to_light", "power"))
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{path} is no readable file of lights ({error}); make it anew with tools/make_backgrounds.py") from error
    return {
        str(name): Light(sky[k].astype(np.float32), to_light[k : k + 1].astype(np.float32), power[k : k + 1].astype(np.float32))
        for k, name in enumerate(names)
    }


def changed(light: Light, mirrored: bool, order: Float[np.ndarray, "3"], gain: float) -> Light:
    """The light of a picture that was mirrored, whose channel k became channel `order[k]`, and that was made brighter."""
    sky, to_light, power = np.empty_like(light.sky), light.to_light.copy(), np.empty_like(light.power)
    sky[:, order], power[:, order] = gain * light.sky, gain * light.power
    if mirrored:
        sky[[3, 4, 7]] *= -1  # the harmonics that are odd in x
        to_light[:, 0] *= -1
    return Light(sky.astype(np.float32), to_light, power.astype(np.float32))


def light_of_environment(environment: Float32[np.ndarray, "height width 3"], R_camera_map: Float[np.ndarray, "3 3"]) -> Light:
    """The sky and the one lamp that an equirectangular map amounts to. In the map's frame y is up and the middle column is at +x's right
    angle: column u looks along (sin, 0, cos) of its longitude."""
    height, width = environment.shape[:2]
    latitude = (0.5 - (np.arange(height) + 0.5) / height)[:, None] * np.pi
    longitude = ((np.arange(width) + 0.5) / width)[None] * 2 * np.pi
    direction = (
        np.stack(np.broadcast_arrays(np.cos(latitude) * np.sin(longitude), np.sin(latitude), np.cos(latitude) * np.cos(longitude)), -1)
        @ R_camera_map.T
    )
    solid = np.cos(latitude) * (np.pi / height) * (2 * np.pi / width) * np.ones((1, width))
    flux = (environment * solid[..., None]).reshape(-1, 3).astype(np.float64)
    direction = direction.reshape(-1, 3)
    sky = (harmonics(direction) * COSINE).T @ flux
    # What is far brighter than most is a lamp: as much of it as comes from one direction.
    grey = environment.mean(-1).reshape(-1)
    bright = flux * (grey > 6 * np.median(grey))[:, None]
    aim = (direction * bright.mean(1, keepdims=True)).sum(0)
    share = np.linalg.norm(aim) / max(float(bright.mean(1).sum()), 1e-9)
    to_light = aim / np.linalg.norm(aim) if share > 0 else np.array([0, -1.0, 0])
    # A small source's whole light would leave a negative sky behind it.
    power = 0.8 * share * bright.sum(0) / np.pi
    sky -= (harmonics(to_light) * COSINE)[:, None] * np.pi * power
    return Light(sky.astype(np.float32), to_light[None].astype(np.float32), power[None].astype(np.float32))


_SIDES = np.array([[-1, 0, 0.3], [1, 0, 0.3], [0, -1, 0.2], [0, 1, 0.2], [0, 0, 1], [0, 0, -1]], float)
_SIDES /= np.linalg.norm(_SIDES, axis=1, keepdims=True)
ALBEDO = 0.55
"""What a picture's things send back of the light that falls on them, so that their brightness tells the light's."""
BALANCE = 0.5
"""How much of a light's colour cameras take out of it, as they have of the picture."""


def _white(light: np.ndarray) -> np.ndarray:
    grey = (light[..., :1] + light[..., 1:2] + light[..., 2:]) / 3
    return light + BALANCE * (grey - light)


@numba.njit(cache=True)
def mean_light(picture, step):
    """Of every `step`-th pixel of every `step`-th row."""
    total, count = 0.0, 0
    for v in range(0, picture.shape[0], step):
        for u in range(0, picture.shape[1], step):
            for k in range(3):
                total += picture[v, u, k]
            count += 3
    return total / count


def exposed(light: Light, picture: Float32[np.ndarray, "size size 3"]) -> Light:
    """A known light as the camera of the picture would have taken it: its colour partly balanced; and no brighter or darker, on what faces the
    camera, than goes with the picture (whose own highlights are cut)."""
    sky, power = _white(light.sky), _white(light.power)
    facing = (harmonics(np.array([0, 0, -1.0])) @ sky).mean() + np.clip(-light.to_light[:, 2], 0.3, 1) @ power.mean(1)
    level = max(mean_light(picture, 16), 0.004) / ALBEDO
    gain = np.clip(facing, 0.5 * level, 1.5 * level) / max(float(facing), 1e-4)
    return Light((gain * sky).astype(np.float32), light.to_light, (gain * power).astype(np.float32))


@numba.njit(cache=True)
def _look(small, edge, sides, mean, shown):
    """Means of a small picture's left, right, upper and lower margins and of all of it, and each place's grey."""
    height, width = small.shape[:2]
    for v in range(height):
        for u in range(width):
            shown[v * width + u] = (small[v, u, 0] + small[v, u, 1] + small[v, u, 2]) / 3
            for k in range(3):
                value = small[v, u, k]
                mean[k] += value / (height * width)
                sides[0, k] += value / (height * edge) if u < edge else 0.0
                sides[1, k] += value / (height * edge) if u >= width - edge else 0.0
                sides[2, k] += value / (edge * width) if v < edge else 0.0
                sides[3, k] += value / (edge * width) if v >= height - edge else 0.0


def light_of_picture(picture: Float32[np.ndarray, "size size 3"], rng: np.random.Generator) -> Light:
    """A guess from what is behind: its left lights from the left and so on, the side of the camera, which no picture shows, as the mean of
    it; and one lamp, from where the picture is brighter."""
    size = picture.shape[0]
    small = picture[:: max(1, size // 16), :: max(1, size // 16)].astype(np.float64)
    sides, mean, shown = np.zeros((4, 3)), np.zeros(3), np.empty(small.shape[0] * small.shape[1])
    _look(small, max(1, small.shape[0] // 3), sides, mean, shown)
    grey = sides.sum(1) / 3
    level = max(float(mean.sum() / 3), 0.004)
    # Most rooms are lit from above, and before the camera it may be darker or brighter than behind.
    weights = np.array([1, 1, 1.3, 0.6, 1, rng.uniform(0.4, 1.1)])
    sky = sky_of(_SIDES, _white(np.concatenate([sides, [mean, mean]]) * weights[:, None]))
    facing = max(float((harmonics(np.array([0, 0, -1.0])) @ sky).mean()), 1e-4)
    contrast = np.array([grey[1] - grey[0], grey[3] - grey[2]]) / level
    to_light = np.array([contrast[0], contrast[1] - 0.6, -0.6]) + rng.normal(0, 0.3, 3)
    to_light /= np.linalg.norm(to_light)
    lamp = min(0.35 + 0.25 * float(np.linalg.norm(contrast)), 0.7) * rng.uniform(0.5, 1.2)
    total = level / ALBEDO * np.exp(rng.normal(0, 0.25))
    brightest = small.reshape(-1, 3)[shown >= np.sort(shown)[int(np.ceil(0.9 * (len(shown) - 1)))]]
    bright = _white(brightest.sum(0) / len(brightest))
    power = lamp * total * bright / max(float(bright.sum() / 3), 1e-4)
    return Light((sky * (1 - lamp) * total / facing).astype(np.float32), to_light[None].astype(np.float32), power[None].astype(np.float32))
