"""Which points lie within a closed mesh and how deep, and how near two hands come. Exact, not differentiable; for measuring.

The sign comes from the winding number, not from the pseudonormal of the nearest face: a fist or an
estimated hand passes through itself, and there the nearest face may be an inner wall that looks the wrong way.
"""

from dataclasses import dataclass

import manifold3d
import numpy as np
from jaxtyping import Bool, Float, Int

from twohands.errors import UserError


@dataclass(frozen=True)
class Penetration:
    """Vertices of each hand that lie within the other one."""

    inside: Bool[np.ndarray, "hand vert"]
    depth_m: Float[np.ndarray, "hand vert"]
    """Distance to the other hand's skin; 0 where not inside."""

    @property
    def deepest_m(self) -> float:
        """The deepest vertex of either hand; 0 if none is inside."""
        return float(self.depth_m.max(initial=0.0))


def inside_depth(
    points_m: Float[np.ndarray, "point 3"], vertices_m: Float[np.ndarray, "vert 3"], faces: Int[np.ndarray, "face 3"]
) -> tuple[Bool[np.ndarray, "point"], Float[np.ndarray, "point"]]:
    """Whether each point lies within a closed, outward mesh (winding number of 1 or more), and its distance to the surface if so, else 0.

    Where the mesh overlaps itself, the surface includes the walls inside. ValueError if the mesh is open."""
    # numba takes a third of a second to import, and photos do without.
    from twohands.collision.points import surface_distances, winding_numbers

    require_closed(faces)
    points_m, vertices_m = np.asarray(points_m, np.float64), np.ascontiguousarray(vertices_m, np.float64)
    inside, depth_m = np.zeros(len(points_m), bool), np.zeros(len(points_m))
    candidate = np.flatnonzero(((points_m > vertices_m.min(0)) & (points_m < vertices_m.max(0))).all(1))
    if len(candidate):
        triangles = np.ascontiguousarray(faces, np.int64)
        candidate = candidate[winding_numbers(points_m[candidate], vertices_m, triangles) > 0]
    if len(candidate):
        inside[candidate] = True
        depth_m[candidate] = surface_distances(points_m[candidate], vertices_m, triangles)
    return inside, depth_m


def penetrating_vertices(vertices_m: Float[np.ndarray, "hand vert 3"], faces: Int[np.ndarray, "hand face 3"]) -> Penetration:
    """Which vertices of each hand lie within the other, and how deep. Both meshes closed, else ValueError."""
    left, right = (inside_depth(vertices_m[a], vertices_m[b], faces[b]) for a, b in ((0, 1), (1, 0)))
    return Penetration(np.stack([left[0], right[0]]), np.stack([left[1], right[1]]))


def vertex_gaps_m(vertices_m: Float[np.ndarray, "hand vert 3"], farthest_m: float = 0.01) -> Float[np.ndarray, "hand vert"]:
    """From each vertex of each hand to the nearest vertex of the other, infinite where that is farther than `farthest_m`."""
    from twohands.collision.points import nearest_distances

    vertices_m = np.asarray(vertices_m, np.float64)
    # What is outside the other hand's box, grown by the farthest, is too far off.
    low_m, high_m = vertices_m.min(1) - farthest_m, vertices_m.max(1) + farthest_m
    near = [((vertices_m[h] >= low_m[1 - h]) & (vertices_m[h] <= high_m[1 - h])).all(1) for h in (0, 1)]
    gap_m = np.full(vertices_m.shape[:2], np.inf)
    for h in (0, 1):
        gap_m[h, near[h]] = nearest_distances(vertices_m[h, near[h]], vertices_m[1 - h, near[1 - h]])
    return np.where(gap_m <= farthest_m, gap_m, np.inf)


def surface_gap_m(vertices_m: Float[np.ndarray, "hand vert 3"], faces: Int[np.ndarray, "hand face 3"], farthest_m: float = 0.01) -> float:
    """Smallest distance between the two hands' surfaces (exact: faces, edges and corners), 0 if they penetrate, `farthest_m` if they are
    farther apart than that: the search grows with it."""
    left, right = (manifold_solid(v, f, name) for v, f, name in zip(vertices_m, faces, ("left hand", "right hand"), strict=True))
    return float(left.min_gap(right, farthest_m))


def manifold_solid(vertices_m: Float[np.ndarray, "vert 3"], faces: Int[np.ndarray, "face 3"], name: str) -> manifold3d.Manifold:
    """A solid for exact booleans. UserError naming the mesh if it does not bound one."""
    solid = manifold3d.Manifold(manifold3d.Mesh(np.ascontiguousarray(vertices_m, np.float32), np.ascontiguousarray(faces, np.uint32)))
    if solid.status() != manifold3d.Error.NoError:
        raise UserError(f"the {name} bounds no volume ({solid.status().name}); close it (geometry.mesh.close_mesh) and remove NaN vertices")
    return solid


def require_closed(faces: Int[np.ndarray, "face 3"]) -> None:
    """ValueError unless each directed edge occurs once, and once the other way."""
    faces = np.asarray(faces, np.int64)
    start, end = faces.ravel(), np.roll(faces, -1, 1).ravel()
    size = int(faces.max(initial=0)) + 1
    there, back = np.sort(start * size + end), np.sort(end * size + start)
    if not len(there) or (np.diff(there) == 0).any() or (there != back).any():
        raise ValueError(f"the mesh of {len(faces)} faces is not closed; close MANO's wrist with geometry.mesh.close_mesh first")
