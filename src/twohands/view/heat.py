"""Where two hands touch and where they pass through one another, vertex by vertex, as colours."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from scipy.spatial import cKDTree

from twohands.collision.inside import penetrating_vertices
from twohands.hands.model import HandModel
from twohands.palette import HAND_RGB

CONTACT_MM = 5.0
"""Skin nearer to the other hand than this begins to glow."""
DEEP_MM = 5.0
"""Penetration of this depth and more has the darkest colour."""
FREE_MIX = 0.35
"""Of the hand's own colour where nothing is near, in light grey."""
CONTACT_RGB, SHALLOW_RGB, DEEP_RGB = (255, 245, 170), (214, 60, 120), (70, 0, 60)
"""Touch is pale yellow; penetration runs from red violet to almost black. The scale falls in lightness, so that it needs no sense of colour."""


@dataclass(frozen=True)
class Touch:
    """Distances between two hands' skins."""

    depth_mm: Float[np.ndarray, "hand vert"]
    """How deep a vertex lies within the other hand, 0 outside."""
    gap_mm: Float[np.ndarray, "hand vert"]
    """From a vertex to the nearest one of the other hand; infinite where there is no other hand."""


def touch_of(vertices_m: Float[torch.Tensor, "hand vert 3"], present: torch.Tensor, model: HandModel) -> Touch:
    """Depths and gaps of the two hands of one person."""
    count = vertices_m.shape[1]
    if not bool(present.all()):
        return Touch(np.zeros((2, count)), np.full((2, count), np.inf))
    points = vertices_m.double().numpy()
    closed = model.closed_vertices(vertices_m.double()).numpy()
    depth_m = penetrating_vertices(closed, model.closed_faces().numpy()).depth_m[:, :count]
    gap_m = np.stack([cKDTree(points[1 - h]).query(points[h], distance_upper_bound=2e-3 * CONTACT_MM)[0] for h in (0, 1)])
    return Touch(1e3 * depth_m, 1e3 * gap_m)


def touch_colours(touch: Touch) -> UInt8[np.ndarray, "hand vert 3"]:
    """A colour a vertex: the hand's own, paled; pale yellow where it touches; violet to black where it is inside the other."""
    own = np.array(HAND_RGB, np.float64)[:, None] * FREE_MIX + 215 * (1 - FREE_MIX)
    near = np.clip(1 - touch.gap_mm / CONTACT_MM, 0, 1)[..., None]
    colour = own + near * (np.array(CONTACT_RGB) - own)
    share = np.clip(touch.depth_mm / DEEP_MM, 0, 1)[..., None]
    inside = np.array(SHALLOW_RGB) + share * (np.array(DEEP_RGB) - np.array(SHALLOW_RGB))
    # A tenth of a millimetre is rounding of the meshes.
    return np.rint(np.where(touch.depth_mm[..., None] > 0.1, inside, colour)).astype(np.uint8)
