"""Glasses and hats: a detector that has only met bare faces takes rims and brims for fingers."""

from dataclasses import dataclass
from functools import cache

import numpy as np
from jaxtyping import Float, Int

from twohands.synth.body import BodyAsset, unit
from twohands.synth.chance import pick
from twohands.synth.material import STRIPES, Material, cloth, cloth_colour
from twohands.synth.people import Person
from twohands.synth.things import Piece, tube

AROUND = 28
"""Points of a hat's ring."""


@dataclass(frozen=True)
class _Head:
    """Numbers of vertices."""

    skin: Int[np.ndarray, "own"]
    """The head's own surface."""
    eyes: Int[np.ndarray, "eye"]
    left_eye: Int[np.ndarray, "left"]
    left_ear: Int[np.ndarray, "ear"]


@cache
def _head(body: BodyAsset) -> _Head:
    shells, eye = np.zeros(len(body.vertices_m), bool), np.zeros(len(body.vertices_m), bool)
    shells[np.concatenate([body.hair_faces, body.skirt_faces])] = True
    eye[body.eye_faces] = True
    head = (body.weights * (body.bones == body.bone["head"])).sum(1) > 0.5
    left = body.vertices_m[:, 0] > 0
    return _Head(*(np.flatnonzero(rows) for rows in (head & ~shells & ~eye, eye, eye & left, left & (body.masks["ears"] > 0.4))))


def head_wear(
    rng: np.random.Generator, person: Person, R: Float[np.ndarray, "3 3"], offset: Float[np.ndarray, "3"], glasses: float, hat: float
) -> list[Piece]:
    """What a person wears on the head, in the camera frame (x -> R x + offset from the body's world), by these odds."""
    pieces = []
    if rng.random() < glasses:
        pieces.extend(_glasses(rng, person))
    if rng.random() < hat:
        pieces.extend(_hat(rng, person))
    posture = person.posture
    joint, at, turn = posture.figure.joint("head"), posture.at["head"], posture.R["head"]
    return [
        Piece(
            (((p.vertices_m - joint) @ turn.T + at) @ R.T + offset).astype(np.float32), p.faces, p.colour, -1, p.materials, p.vertices_m
        )
        for p in pieces
    ]  # fmt: skip


def _across(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cross products of rows; numpy's takes three times as long."""
    return a[:, [1, 2, 0]] * b[:, [2, 0, 1]] - a[:, [2, 0, 1]] * b[:, [1, 2, 0]]


_ROUND = np.stack([np.cos(np.arange(6) * np.pi / 3), np.sin(np.arange(6) * np.pi / 3)], 1)


def _wire(path: np.ndarray, radius_m: float, material: Material) -> Piece:
    """A rod of six sides along a path."""
    along = np.empty_like(path)
    along[1:-1], along[0], along[-1] = path[2:] - path[:-2], path[1] - path[0], path[-1] - path[-2]
    along = unit(along)
    first = unit(_across(along, np.array([[0.31, 0.89, 0.33]])))
    rings = path[:, None] + radius_m * (_ROUND[:, :1] * first[:, None] + _ROUND[:, 1:] * _across(along, first)[:, None])
    return tube(path, rings, np.ones(3), material)


def _glasses(rng: np.random.Generator, person: Person) -> list[Piece]:
    """Two rims, a bridge, two temples; a third of them dark."""
    figure = person.posture.figure
    head, s, v = _head(figure.body), figure.size, figure.vertices_m
    left = v[head.left_eye].astype(np.float64)
    middle, front = left.mean(0), left[:, 2].max() + s * rng.uniform(0.009, 0.016)
    wide, tall = s * rng.uniform(0.021, 0.028), s * rng.uniform(0.014, 0.024)
    corner = 2 / rng.uniform(2.0, 5.0)
    dark = rng.random() < 0.33
    frame = Material(cloth_colour(rng) if rng.random() < 0.6 else np.full(3, 0.02), specular=rng.uniform(0.1, 0.7), gloss=40)
    lens = Material(np.array([0.03, 0.025, 0.02]) * rng.uniform(0.2, 2.5), specular=0.5, gloss=70)
    radius = s * (rng.uniform(0.0018, 0.0032) if rng.random() < 0.6 else rng.uniform(0.0007, 0.0012))
    angle = np.linspace(0, 2 * np.pi, 21)
    x = wide * np.sign(np.cos(angle)) * np.abs(np.cos(angle)) ** corner
    y = tall * np.sign(np.sin(angle)) * np.abs(np.sin(angle)) ** corner
    ears = v[head.left_ear].astype(np.float64)
    pieces = []
    for side in (1.0, -1.0):
        centre = np.array([side * max(middle[0], wide + 0.008 * s), middle[1] - 0.002 * s, front])
        back = -0.25 * np.maximum(x, 0) ** 2 / wide  # the outer half follows the face
        rim = centre + np.stack([side * x, y, back], 1)
        pieces.append(_wire(rim, radius, frame))
        if dark:
            disc = np.concatenate([rim[:-1], centre[None]]).astype(np.float32)
            ring = np.arange(len(rim) - 1)
            faces = np.stack([ring, np.roll(ring, -1), np.full(len(ring), len(ring))], 1).astype(np.int32)
            pieces.append(Piece(disc, faces, np.ones((len(disc), 3)), -1, (lens,), disc))
        hinge = centre + np.array([side * wide, 0.4 * tall, -0.25 * wide])
        end = np.array([side * (ears[:, 0].mean() + 0.002 * s), ears[:, 1].max() - 0.012 * s, ears[:, 2].mean()])
        share = np.linspace(0, 1, 6)[:, None]
        bow = np.array([side * 0.006 * s, 0, 0]) * np.sin(np.pi * share)
        pieces.append(_wire(hinge + (end - hinge) * share + bow, radius, frame))
    inner = max(middle[0], wide + 0.008 * s) - wide
    share = np.linspace(-1, 1, 5)
    bridge = np.stack([share * inner, middle[1] + 0.3 * tall * (1 - 0.4 * share**2), np.full(5, front)], 1)
    pieces.append(_wire(bridge, radius, frame))
    return pieces


def _hat(rng: np.random.Generator, person: Person) -> list[Piece]:
    """A cap, a hat with a brim all round, a woollen hat or a helmet."""
    figure = person.posture.figure
    head, s, v = _head(figure.body), figure.size, figure.vertices_m
    kind = ("cap", "brim", "wool", "helmet")[pick(rng, (0.4, 0.22, 0.26, 0.12))]
    base = v[head.eyes, 1].astype(np.float64).mean() + s * (rng.uniform(0.028, 0.045) if kind == "wool" else rng.uniform(0.036, 0.055))
    above = v[head.skin].astype(np.float64)
    above = above[above[:, 1] > base - 0.02 * s]
    air = s * (0.03 if kind == "helmet" else rng.uniform(0.013, 0.021))
    rx = np.abs(above[:, 0]).max() + air
    z0, z1 = above[:, 2].min() - air, above[:, 2].max() + air * 0.7
    tall = above[:, 1].max() - base + s * (rng.uniform(0.02, 0.04) if kind != "brim" else rng.uniform(0.025, 0.06))
    square = rng.uniform(0.3, 0.6) if kind in ("brim", "cap") else rng.uniform(0.5, 0.9)
    angle = np.linspace(0, 2 * np.pi, AROUND, endpoint=False)
    circle = np.stack([np.sin(angle), np.zeros(AROUND), np.cos(angle)], 1)
    radii, centre = np.array([rx, 0, (z1 - z0) / 2]), np.array([0, base, (z0 + z1) / 2])
    steps = np.linspace(0, 1, 9)[:-1] * np.pi / 2
    rings = np.stack([centre + circle * radii * np.cos(a) ** square + np.array([0, tall * np.sin(a), 0]) for a in steps])
    top = np.concatenate([rings.mean(1), centre[None] + np.array([[0, tall, 0]])])[1:]
    stuff = cloth(rng)
    if kind == "helmet":
        stuff = Material(cloth_colour(rng) if rng.random() < 0.5 else rng.random(3), specular=0.4, gloss=50)
    elif kind == "wool":
        stuff = Material(cloth_colour(rng), cloth_colour(rng), STRIPES, rng.uniform(20, 70), grain=0.2, grain_per_m=400, specular=0.0)
    pieces = [tube(top, rings, np.ones(3), stuff)]
    if kind == "wool":  # turned up at its edge
        edge = np.stack([centre + circle * (radii + np.array([out, 0, out]) * s) + np.array([0, up * s, 0]) for out, up in FOLD])
        pieces.append(tube(edge.mean(1), edge, np.ones(3), stuff))
    elif kind in ("cap", "brim"):
        width = s * (rng.uniform(0.055, 0.08) if kind == "cap" else rng.uniform(0.04, 0.11))
        share = np.linspace(0, 1, 4)[:, None, None]
        ahead = np.clip(circle[:, 2] * 1.5 - 0.25, 0, 1)[:, None] if kind == "cap" else np.ones((AROUND, 1))
        out = circle * width * ahead * share + np.array([0, -0.22, 0]) * width * share**2 * ahead
        brim = centre + circle * radii + out
        strip = tube(brim.mean(1), brim, np.ones(3), stuff if rng.random() < 0.6 else cloth(rng))
        open_end = strip.faces[: len(strip.faces) - AROUND]  # without the lid of a tube
        pieces.append(Piece(strip.vertices_m, open_end, strip.colour, -1, strip.materials, strip.rest_m))
    return pieces


FOLD = ((0.004, -0.006), (0.008, 0.0), (0.008, 0.03), (0.002, 0.038))
"""Outward and upward, metres of a body of 1.70 m."""
