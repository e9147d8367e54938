"""Meshes around the hands: sleeves and bare tubes for forearms, things that hands hold or that stand before and behind them."""

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from jaxtyping import Float, Float32, Int32

from twohands.hands.bundled import load_hand_asset
from twohands.hands.parameters import HandParameters
from twohands.synth.body import cross, unit
from twohands.synth.chance import pick
from twohands.synth.material import BLOTCHES, CHECKS, PLAIN, PRINT, STRIPES, Material, cloth, cloth_colour
from twohands.synth.posing import random_turn, to_matrix
from twohands.synth.skin import Skin, noise


@dataclass(frozen=True)
class Piece:
    """A mesh of the scene in the camera frame."""

    vertices_m: Float32[np.ndarray, "vert 3"]
    faces: Int32[np.ndarray, "face 3"]
    colour: Float[np.ndarray, "vert 3"]
    """Used where the material has none of its own."""
    hand: int
    """0 left hand, 1 right hand, -1 anything else."""
    materials: tuple[Material, ...]
    """The surface, then one a layer."""
    rest_m: Float32[np.ndarray, "vert 3"] | None = None
    """Where patterns live; None: where the vertices are."""
    layers: Float32[np.ndarray, "vert layer"] | None = None
    """Of the layers with a positive value the last is seen."""
    closed: int = 0
    """Of how many faces, the first ones, the back is never seen."""

    @property
    def specular(self) -> float:
        """Of the surface."""
        return self.materials[0].specular


def tube(path: np.ndarray, rings: np.ndarray, colour: np.ndarray, material: Material) -> Piece:
    """A tube of rings (k, n, 3), closed at its far end."""
    k, n = rings.shape[:2]
    faces, around = _tube(k, n)
    vertices, rest = np.empty((k * n + 1, 3), np.float32), np.zeros((k * n + 1, 3), np.float32)
    vertices[:-1], vertices[-1] = rings.reshape(-1, 3), path[-1]
    steps = path[1:] - path[:-1]
    along = np.zeros(k)
    np.sqrt((steps * steps).sum(1)).cumsum(out=along[1:])
    rest[:-1, 0], rest[:-1, 1] = around, along.repeat(n)
    rest[-1] = 0, along[-1], 0.03
    return Piece(vertices, faces, colour if colour.ndim == 2 else np.broadcast_to(colour, vertices.shape), -1, (material,), rest)


@cache
def _tube(k: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Faces, and each vertex's place round the tube."""
    a = np.arange(k * n).reshape(k, n)
    b = np.roll(a, -1, 1)
    quads = np.stack([a[:-1], b[:-1], b[1:], a[1:]], -1).reshape(-1, 4)
    cap = np.stack([a[-1], b[-1], np.full(n, k * n)], 1)
    faces = np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]], cap]).astype(np.int32)
    return faces, np.tile(np.linspace(0, 2 * np.pi * 0.03, n, endpoint=False), k)


def forearm(
    rng: np.random.Generator, p: HandParameters, vertices: np.ndarray, h: int, skin: Skin, sleeve: float, watch: float, hair: float = 0.0
) -> list[Piece]:
    """A tube that goes on behind the wrist, bent at it, bare or in a sleeve; sometimes a watch or bangle."""
    loop = vertices[load_hand_asset().wrist_loop.numpy()]
    if h == 0:
        loop = loop[::-1]
    centre = loop.mean(0)
    R = to_matrix(p.pose[h, 0]).numpy()
    back = R @ np.array([1.0 if h == 1 else -1.0, 0, 0])
    bend = R @ np.array([0, rng.normal(0, 0.4), rng.normal(0, 0.22)])
    arm = unit(back + bend)
    length = rng.uniform(0.12, 0.26)
    shares, mix = ARM_SHARES, ARM_MIX
    steps = (1 - mix) * back + mix * arm
    steps = unit(steps)
    path = np.empty((len(shares), 3))
    path[0] = centre
    path[1:] = centre + ((shares[1:] - shares[:-1])[:, None] * length * steps[1:]).cumsum(0)
    offset = loop - centre
    grow = 1 + np.minimum(shares * length / 0.26, 1) * rng.uniform(0.25, 0.6)
    straight = (steps @ offset.T)[..., None] * steps[:, None] * mix[..., None]  # as far as rings lean back along the arm
    rings = path[:, None] + (offset - straight) * grow[:, None, None]
    bare = (skin.base * (1 + 0.04 * noise(rings.reshape(-1, 3), 80, rng))[:, None]).clip(0, 1)
    hairy = skin.hairs(hair)
    if hairy is not None:  # a tube's rest runs round it along x and up the arm along y
        hairy = replace(hairy, axis=np.array([0.5, 0.86, 0.0]))
    pieces = [tube(path, rings, np.concatenate([bare, bare[-1:]]), hairy or skin.material())]

    def at(along: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        low = np.clip(np.searchsorted(shares, along, "right") - 1, 0, len(shares) - 2)
        part = ((along - shares[low]) / (shares[low + 1] - shares[low]))[:, None]
        ring = rings[low] + (rings[low + 1] - rings[low]) * part[..., None]
        return path[low] + (path[low + 1] - path[low]) * part, ring

    if rng.random() < sleeve:
        start = rng.uniform(0.02, 0.6)
        middle, ring = at(start + (1 - start) * np.linspace(0, 1, 6))
        loose = rng.uniform(1.12, 1.5)
        around = middle[:, None] + (ring - middle[:, None]) * loose * (1 + 0.03 * rng.normal(size=(6, 1, 1)))
        material = cloth(rng)
        assert material.colour is not None
        folds = np.clip(material.colour * (1 + 0.12 * noise(around.reshape(-1, 3), 60, rng))[:, None], 0, 1)
        pieces.append(tube(middle, around, np.concatenate([folds, folds[-1:]]), material))
    elif rng.random() < watch:
        first = rng.uniform(0.08, 0.2)
        middle, ring = at(np.array([first, first + 0.02, first + rng.uniform(0.04, 0.14)]))
        band = middle[:, None] + (ring - middle[:, None]) * np.array([1.0, 1.08, 1.08])[:, None, None]
        material = Material(cloth_colour(rng), specular=rng.uniform(0.05, 0.5), gloss=30)
        pieces.append(tube(middle, band, np.ones(3), material))
        if rng.random() < 0.6:  # the watch's face, on the back of the wrist
            out = R @ np.array([0, 1.0, 0])
            place = middle[1] + out * np.abs((ring[1] - middle[1]) @ out).max() * 1.08
            axes = np.stack([steps[1], cross(out, steps[1]), out], 1)
            dial = Material(np.repeat((0.01, 0.02, 0.5, 0.8)[rng.integers(4)], 3), None, PRINT, 300, specular=0.5, gloss=60)
            pieces.append(solid(rng, ("cylinder", "box")[rng.integers(2)], np.array([0.017, 0.016, 0.0045]), axes, place, dial))
    return pieces


ARM_SHARES = np.array([0, 0.06, 0.14, 0.3, 0.55, 0.8, 1.0])
"""Of a forearm's length: where its rings are."""
ARM_MIX = (ARM_SHARES / 0.25).clip(0, 1)[:, None]
"""How far the arm has bent from the hand's direction into its own there."""


@cache
def unit_solid(kind: str) -> tuple[np.ndarray, np.ndarray]:
    """A unit cylinder, ball, box or cup round the origin, its axis along z, faces outward."""
    n, m = (20, 9)
    angle = np.linspace(0, 2 * np.pi, n, endpoint=False)
    if kind == "box":
        # Corners doubled: normals are smoothed over vertices, and a box must stay sharp.
        corner = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]], float)
        parts: list[np.ndarray] = []
        sides: list[np.ndarray] = []
        for k in range(4):
            a, b = corner[k], corner[(k + 1) % 4]
            sides.append(np.array([[0, 1, 2], [0, 2, 3]]) + 4 * len(parts))
            parts.append(np.array([[*a, -1], [*b, -1], [*b, 1], [*a, 1]]))
        for z, order in ((-1, [3, 2, 1, 0]), (1, [0, 1, 2, 3])):
            sides.append(np.array([[0, 1, 2], [0, 2, 3]]) + 4 * len(parts))
            parts.append(np.array([[*corner[i], z] for i in order]))
        return np.concatenate(parts), np.concatenate(sides).astype(np.int32)
    height = np.linspace(-1, 1, m)
    radius = np.ones(m)
    if kind == "ball":
        radius = np.sqrt(np.clip(1 - height**2, 0, 1))
    elif kind == "cup":
        radius = 0.85 + 0.15 * (height + 1) / 2
    if kind != "ball":  # sharp rims
        height, radius = np.r_[height[0], height, height[-1]], np.r_[radius[0] * 0.97, radius, radius[-1] * 0.97]
        m += 2
    rings = np.stack([np.stack([np.cos(angle) * r, np.sin(angle) * r, np.full(n, h)], 1) for r, h in zip(radius, height, strict=True)])
    a = np.arange(m * n).reshape(m, n)
    b = np.roll(a, -1, 1)
    quads = np.stack([a[:-1], b[:-1], b[1:], a[1:]], -1).reshape(-1, 4)
    vertices = np.concatenate([rings.reshape(-1, 3), [[0, 0, -1], [0, 0, 0.0 if kind == "cup" else 1]]])
    bottom = np.stack([b[0], a[0], np.full(n, m * n)], 1)
    top = np.stack([a[-1], b[-1], np.full(n, m * n + 1)], 1)
    return vertices, np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]], bottom, top]).astype(np.int32)


def solid(rng: np.random.Generator, kind: str, scale: np.ndarray, R: np.ndarray, centre: np.ndarray, material: Material) -> Piece:
    """A solid of half sizes `scale`."""
    vertices, faces = unit_solid(kind)
    local = vertices * scale
    colour = np.ones(3) if material.colour is None else material.colour
    spots = np.clip(colour * (1 + rng.uniform(0, 0.2) * noise(vertices, rng.uniform(1, 6), rng))[:, None], 0, 1)
    return Piece((local @ R.T + centre).astype(np.float32), faces, spots, -1, (material,), local.astype(np.float32))


def stuff(rng: np.random.Generator, size_m: float) -> Material:
    """What things are made of: plastic, paper, wood, metal."""
    colour = cloth_colour(rng) if rng.random() < 0.7 else rng.random(3)
    pattern = PLAIN if rng.random() < 0.5 else (STRIPES, CHECKS, BLOTCHES, PRINT)[int(rng.integers(4))]
    per_m, grain = rng.uniform(1, 8) / max(size_m, 0.005), rng.uniform(0, 0.1)
    return Material(colour, cloth_colour(rng), pattern, per_m, None, grain, 200, float(rng.gamma(1, 0.12)), rng.uniform(5, 80))


def turn(rng: np.random.Generator) -> np.ndarray:
    """Any rotation."""
    return random_turn(rng)[0].numpy()


HELD = {
    "cylinder": (0.3, (0.008, 0.034), (0.03, 0.12)),
    "ball": (0.12, (0.015, 0.04), (0.015, 0.04)),
    "box": (0.16, (0.01, 0.03), (0.03, 0.1)),
    "pen": (0.14, (0.004, 0.006), (0.06, 0.08)),
    "phone": (0.18, (0.034, 0.04), (0.07, 0.08)),
    "cup": (0.1, (0.03, 0.042), (0.045, 0.07)),
}
"""Kind: share, radius or half width, half length (metres)."""


def held(rng: np.random.Generator, points: np.ndarray, p: HandParameters, h: int) -> Piece:
    """A thing on the palm's side, as if held."""
    R = to_matrix(p.pose[h, 0]).numpy()
    kind = list(HELD)[pick(rng, tuple(row[0] for row in HELD.values()))]
    radius, half = rng.uniform(*HELD[kind][1]), rng.uniform(*HELD[kind][2])
    thick = rng.uniform(0.0035, 0.006) if kind == "phone" else radius
    half = radius if kind == "ball" else half
    knuckles = (points[5] + points[9] + points[13]) / 3
    palm = R @ np.array([0, -1.0, 0])
    centre = knuckles * 0.85 + points[0] * 0.15 + palm * (thick + 0.009) + rng.normal(0, 0.006, 3)
    across = R @ np.array([0, 0, 1.0]) + rng.normal(0, 0.25, 3)
    if kind == "phone":
        across = R @ np.array([rng.normal(0, 1), 0, rng.normal(0, 1)])
    z = unit(across)
    y = unit(palm - z * (palm @ z))
    frame = np.stack([cross(y, z), y, z], 1)
    shape = {"pen": "cylinder", "phone": "box"}.get(kind, kind)
    material = stuff(rng, half)
    if kind == "phone" and rng.random() < 0.7:
        material = Material(np.repeat((0.01, 0.03, 0.3, 0.7)[rng.integers(4)], 3), None, PLAIN, specular=0.3, gloss=60)
    return solid(rng, shape, np.array([radius, thick, half]), frame, centre, material)


def occluder(rng: np.random.Generator, points: np.ndarray) -> Piece:
    """Something between the camera and the hands."""
    target = points[rng.integers(len(points))]
    centre = target * rng.uniform(0.6, 0.93)
    size = np.ptp(points, axis=0).max() * centre[2] / target[2]
    scale = size * rng.uniform(0.04, 0.3, 3) * np.array([1, 1, rng.uniform(1, 4)])
    kind = ("cylinder", "ball", "box")[rng.integers(3)]
    return solid(rng, kind, scale, turn(rng), centre + rng.normal(0, 0.1, 3) * size, stuff(rng, float(scale.max())))


def clutter(rng: np.random.Generator, half_width: float, depth: float, skin: Skin, count: int, near: float = 1.05) -> list[Piece]:
    """Limbs without hands, boxes, balls and poles behind the hands; `half_width` is the picture's half width over its distance."""
    found: list[Piece] = []
    for _ in range(count):
        z = depth * rng.uniform(near, near + 0.9)
        centre = np.array([*(rng.uniform(-1.1, 1.1, 2) * half_width * z), z])
        kind = pick(rng, (0.3, 0.35, 0.15, 0.2))
        tone = skin.base if rng.random() < 0.7 else Skin.draw(rng, 0).base
        if kind == 0:  # an elbow or a knee may come near: a bare or clothed limb
            radius = rng.uniform(0.02, 0.06)
            material = Material(tone, grain=0.04, specular=0.05, gloss=15, soft=1) if rng.random() < 0.6 else cloth(rng)
            found.append(
                solid(rng, "cylinder", np.array([radius, radius * rng.uniform(0.7, 1), rng.uniform(0.1, 0.3)]), turn(rng), centre, material)
            )
        elif kind == 1:
            scale = rng.uniform(0.02, 0.25, 3)
            found.append(solid(rng, "box", scale, turn(rng) if rng.random() < 0.4 else np.eye(3), centre, stuff(rng, float(scale.max()))))
        elif kind == 2:
            found.append(solid(rng, "ball", rng.uniform(0.03, 0.15) * rng.uniform(0.6, 1, 3), turn(rng), centre, stuff(rng, 0.1)))
        else:
            radius = rng.uniform(0.005, 0.06)
            found.append(solid(rng, "cylinder", np.array([radius, radius, rng.uniform(0.1, 1.2)]), turn(rng), centre, stuff(rng, 0.1)))
    return found
