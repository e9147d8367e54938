"""Hands and bodies as pieces of a scene, joined at the wrists."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from twohands.hands.bundled import load_bundled_hand, load_hand_asset
from twohands.synth.body import BodyAsset
from twohands.synth.body import skin as skin_body
from twohands.synth.knobs import SceneKnobs
from twohands.synth.outfits import dress
from twohands.synth.people import Person
from twohands.synth.skin import Skin, hand_at_rest
from twohands.synth.things import Piece


@dataclass(frozen=True)
class Weld:
    """Vertices of two pieces that are one: they share their normals."""

    first: int
    second: int
    first_vertices: np.ndarray
    second_vertices: np.ndarray


@dataclass(frozen=True)
class ExtraHand:
    """A hand of somebody else."""

    side: int
    """0 left, 1 right."""
    keypoints_m: np.ndarray
    """(21, 3) in the camera frame."""
    piece: int
    """Which of the scene's pieces it is."""


def hand_piece(knobs: SceneKnobs, rng: np.random.Generator, vertices: np.ndarray, h: int, skin: Skin, capped: bool) -> Piece:
    """One hand of a person; its wrist is closed only if nothing follows it."""
    layers, materials = skin.hand_surface(rng, knobs.ring, knobs.tattoo, knobs.scar, h, knobs.hair)
    # Where the hand goes on, the wrist's lid would darken the seam.
    return Piece(vertices.astype(np.float32), _hand_faces(h, capped), skin.hand_colour, h, materials, hand_at_rest(), layers)


@lru_cache(maxsize=4)
def _hand_faces(h: int, capped: bool) -> np.ndarray:
    """A hand's faces; unless it is capped, without those that close the wrist (round the middle of the rim)."""
    loop = set(load_hand_asset().wrist_loop.tolist())
    faces = load_bundled_hand().faces[h].tolist()
    counts = np.bincount([v for f in faces if len(loop & set(f)) == 2 for v in f if v not in loop])
    return np.array([f for f in faces if capped or int(counts.argmax()) not in f], np.int32)


def body_piece(
    knobs: SceneKnobs,
    rng: np.random.Generator,
    person: Person,
    skin: Skin,
    loops: tuple[np.ndarray | None, np.ndarray | None],
    R: np.ndarray,
    offset: np.ndarray,
    headless: bool,
) -> Piece:
    """A dressed person without hands, in the camera frame (x -> R x + offset from the body's world); `loops` are the rims of the hands."""
    figure = person.posture.figure
    body = figure.body
    outfit = dress(rng, body, skin, knobs.bare, knobs.hair)
    rest = figure.vertices_m + body.normals * (outfit.lift_m * np.float32(figure.size))[:, None]
    vertices = skin_body(person.posture, person.arms, loops, rest) @ R.T.astype(np.float32) + offset.astype(np.float32)
    faces, closed = outfit.faces, len(body.faces) + len(body.eye_faces)
    if headless:
        above = body.vertices_m[:, 1] > 0.56
        faces = faces[~above[faces].any(1)]
    if headless or loops[0] is None:  # one looks into the neck, or into the arms
        closed = 0
    return Piece(vertices, faces, outfit.colour, -1, outfit.materials, body.vertices_m, outfit.layers, closed)


def meet_colours(asset: BodyAsset, body: Piece, hand: Piece, h: int, loop: np.ndarray) -> None:
    """The forearm's skin takes the colour of the hand's rim near it."""
    near, follows, share = asset.stump[h]
    rim = hand.colour[loop]
    body.colour[near] += share * (rim[follows] - body.colour[near])
