"""How much of a hand the other one hides, and how bright a crop is: what some protocols and pictures ask of the truth."""

import numpy as np
from jaxtyping import Float, Int, UInt8

from twohands.render import rasterize

SIDE_PX = 96
"""Enough to tell on which side of a finger's edge a joint lies, 2 mm a pixel."""
CROP_FILL = 0.8
"""Share of IntagHand's crop that the hands fill."""


def hidden_by_other_hand(
    vertices_m: Float[np.ndarray, "hand vert 3"], faces: Int[np.ndarray, "hand face 3"], joints_m: Float[np.ndarray, "hand 21 3"]
) -> Float[np.ndarray, "hand"]:
    """Share of each hand's joints that lie behind the other hand, seen from the origin. NaN if a vertex is not before the camera."""
    if not np.isfinite(vertices_m).all() or vertices_m[..., 2].min() <= 0.01:
        return np.full(2, np.nan)
    rays = vertices_m[..., :2] / vertices_m[..., 2:]
    low, high = rays.min((0, 1)), rays.max((0, 1))
    focal = SIDE_PX / float((high - low).max())
    principal = -low * focal
    share = np.zeros(2)
    for hand in (0, 1):
        other = rasterize(
            vertices_m[1 - hand].astype(np.float32),
            faces[1 - hand].astype(np.int32),
            np.full(2, focal, np.float32),
            principal.astype(np.float32),
            SIDE_PX,
            SIDE_PX,
        )
        cell = np.clip((joints_m[hand, :, :2] / joints_m[hand, :, 2:] * focal + principal).astype(int), 0, SIDE_PX - 1)
        before = (other.face[cell[:, 1], cell[:, 0]] >= 0) & (other.depth_m[cell[:, 1], cell[:, 0]] < joints_m[hand, :, 2])
        share[hand] = before.mean()
    return share


def crop_brightness(image: UInt8[np.ndarray, "height width 3"], points_xy: Float[np.ndarray, "point 2"]) -> float:
    """Mean pixel value of the square crop in which these points fill CROP_FILL of the side; what lies outside the picture is black."""
    low, high = points_xy.min(0), points_xy.max(0)
    side = max(1, round(float((high - low).max()) / CROP_FILL))
    corner = np.round((low + high) / 2 - side / 2).astype(int)
    first, last = np.maximum(corner, 0), np.minimum(corner + side, (image.shape[1], image.shape[0]))
    if (last <= first).any():
        return 0.0
    return float(image[first[1] : last[1], first[0] : last[0]].sum() / (3 * side * side))
