"""Where two hands touch and where they pass through one another, vertex by vertex, as colours."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8

from twohands.collision.inside import penetrating_vertices, vertex_gaps_m
from twohands.hands.model import HandModel
from twohands.palette import HAND_RGB

CONTACT_MM = 5.0
"""Skin nearer to the other hand than this begins to glow."""
DEEP_MM = 5.0
"""Penetration of this depth and more has the darkest colour."""
FREE_MIX = 0.35
"""Of the hand's own colour where nothing is near, in light grey."""
TOUCHING, STEPS = 0.4, 256
"""Where on the scale the skins meet, and how many colours it has."""
CONTACT_RGB, SHALLOW_RGB, DEEP_RGB = (255, 245, 170), (214, 60, 120), (70, 0, 60)
"""Touch is pale yellow; penetration runs from red violet to almost black. The scale falls in lightness, so that it needs no sense of colour."""


@dataclass(frozen=True)
class Touch:
    """Distances between two hands' skins."""

    depth_mm: Float[np.ndarray, "hand vert"]
    """How deep a vertex lies within the other hand, 0 outside."""
    gap_mm: Float[np.ndarray, "hand vert"]
    """From a vertex to the nearest one of the other hand; infinite where that is farther than CONTACT_MM or there is none."""


def touch_of(vertices_m: Float[torch.Tensor, "hand vert 3"], present: torch.Tensor, model: HandModel) -> Touch:
    """Depths and gaps of the two hands of one person."""
    count = vertices_m.shape[1]
    if not bool(present.all()):
        return Touch(np.zeros((2, count)), np.full((2, count), np.inf))
    closed = model.closed_vertices(vertices_m.double()).numpy()
    depth_m = penetrating_vertices(closed, model.closed_faces().numpy()).depth_m[:, :count]
    return Touch(1e3 * depth_m, 1e3 * vertex_gaps_m(vertices_m.numpy(), 1e-3 * CONTACT_MM))


def touch_share(touch: Touch) -> Float[np.ndarray, "hand vert"]:
    """Where a vertex lies on the scale of `scale_colours`: 0 free, up to just below TOUCHING the nearer it is, from there on the deeper."""
    near = (TOUCHING - 1 / STEPS) * np.clip(1 - touch.gap_mm / CONTACT_MM, 0, 1)
    inside = TOUCHING + (1 - TOUCHING) * np.clip(touch.depth_mm / DEEP_MM, 0, 1)
    # A tenth of a millimetre is rounding of the meshes.
    return np.where(touch.depth_mm > 0.1, inside, near)


def scale_colours(hand: int) -> UInt8[np.ndarray, "step 3"]:
    """The scale for one hand, in STEPS colours: its own, paled, to pale yellow; then violet to black."""
    share = np.linspace(0, 1, STEPS)[:, None]
    own = np.array(HAND_RGB[hand]) * FREE_MIX + 215 * (1 - FREE_MIX)
    near = own + share / TOUCHING * (np.array(CONTACT_RGB) - own)
    inside = np.array(SHALLOW_RGB) + (share - TOUCHING) / (1 - TOUCHING) * (np.array(DEEP_RGB) - np.array(SHALLOW_RGB))
    return np.rint(np.where(share < TOUCHING, near, inside)).clip(0, 255).astype(np.uint8)


def touch_colours(touch: Touch) -> UInt8[np.ndarray, "hand vert 3"]:
    """A colour a vertex: the hand's own, paled; pale yellow where it touches; violet to black where it is inside the other."""
    step = np.rint(touch_share(touch) * (STEPS - 1)).astype(int)
    return np.stack([scale_colours(hand)[step[hand]] for hand in (0, 1)])
