"""Whether two closed meshes pass through one another at all: a yes or no by exact triangle tests, many times faster than their shared volume.

Two surfaces that do not cross share no volume, unless one lies wholly within the other; hands do not, and for other meshes the boxes tell."""

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from twohands.collision.volume import for_each_pair, hands_shared_volume_cm3


def surfaces_cross(
    vertices_a_m: Float[np.ndarray, "vert_a 3"],
    faces_a: Int[np.ndarray, "face_a 3"],
    vertices_b_m: Float[np.ndarray, "vert_b 3"],
    faces_b: Int[np.ndarray, "face_b 3"],
) -> bool:
    """True if a triangle of one mesh passes through a triangle of the other, or one mesh's box lies within the other's (where only the volume
    can tell). Touching in a point or along a plane is not crossing."""
    a, b = np.ascontiguousarray(vertices_a_m, np.float64), np.ascontiguousarray(vertices_b_m, np.float64)
    low, high = np.maximum(a.min(0), b.min(0)), np.minimum(a.max(0), b.max(0))
    if not (low < high).all():
        return False
    if any((low == mesh.min(0)).all() and (high == mesh.max(0)).all() for mesh in (a, b)):
        return True
    # Numba is imported by who needs it: most photos have no hands so near.
    from twohands.collision.triangles import crossing

    return bool(crossing(a, np.ascontiguousarray(faces_a, np.int64), b, np.ascontiguousarray(faces_b, np.int64), low, high))


def hands_cross(
    vertices_m: Float[Tensor, "*batch hand vert 3"], faces: Int[Tensor, "hand face 3"], threads: int | None = None
) -> Bool[Tensor, "*batch"]:
    """Which pairs of hands pass through one another, as a CPU tensor. Meshes must be closed (`HandModel.closed_vertices`). `threads` as for
    `volume.for_each_pair`."""
    left, right = faces.cpu().numpy()
    found = for_each_pair(vertices_m, lambda pair: surfaces_cross(pair[0], left, pair[1], right), threads)
    return torch.tensor(found, dtype=torch.bool).reshape(vertices_m.shape[:-3])


def crossing_volume_cm3(
    vertices_m: Float[Tensor, "pair hand vert 3"], faces: Int[Tensor, "hand face 3"], threads: int | None = None
) -> Float[Tensor, "pair"]:
    """Exact shared volume of pairs of hands (a CPU tensor), measured only where they cross: what `volume.hands_shared_volume_cm3` gives, in an
    eighth of its time where hands are near and apart."""
    rows = hands_cross(vertices_m, faces, threads).nonzero()[:, 0]
    volume_cm3 = torch.zeros(len(vertices_m), dtype=torch.float64)
    if len(rows):
        volume_cm3[rows] = hands_shared_volume_cm3(vertices_m[rows.to(vertices_m.device)], faces, threads)
    return volume_cm3
