"""Whether two closed meshes pass through one another at all: a yes or no by exact triangle tests, many times faster than their shared volume.

Two surfaces that do not cross share no volume, unless one lies wholly within the other; hands do not, and for other meshes the boxes tell."""

import numba
import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from twohands.collision.volume import for_each_pair


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
    return bool(_crossing(a, np.ascontiguousarray(faces_a, np.int64), b, np.ascontiguousarray(faces_b, np.int64), low, high))


def hands_cross(vertices_m: Float[Tensor, "*batch hand vert 3"], faces: Int[Tensor, "hand face 3"]) -> Bool[Tensor, "*batch"]:
    """Which pairs of hands pass through one another, as a CPU tensor. Meshes must be closed (`HandModel.closed_vertices`)."""
    left, right = faces.cpu().numpy()
    found = for_each_pair(vertices_m, lambda pair: surfaces_cross(pair[0], left, pair[1], right))
    return torch.tensor(found, dtype=torch.bool).reshape(vertices_m.shape[:-3])


@numba.njit(cache=True, nogil=True)
def _crossing(a, faces_a, b, faces_b, low, high):
    """Sweep along the longest side of the common box over the triangles that reach into it."""
    axis = np.argmax(high - low)
    chosen_a, box_a = _within(a, faces_a, low, high)
    chosen_b, box_b = _within(b, faces_b, low, high)
    order_a, order_b = np.argsort(box_a[:, axis]), np.argsort(box_b[:, axis])
    first = 0
    widest = 0.0
    for n in range(len(chosen_b)):
        widest = max(widest, box_b[n, 3 + axis] - box_b[n, axis])
    for m in order_a:
        while first < len(order_b) and box_b[order_b[first], axis] + widest < box_a[m, axis]:
            first += 1
        for k in range(first, len(order_b)):
            n = order_b[k]
            if box_b[n, axis] > box_a[m, 3 + axis]:
                break
            apart = False
            for d in range(3):
                if box_a[m, d] > box_b[n, 3 + d] or box_b[n, d] > box_a[m, 3 + d]:
                    apart = True
                    break
            if not apart and _triangles_cross(a, faces_a[chosen_a[m]], b, faces_b[chosen_b[n]]):
                return True
    return False


@numba.njit(cache=True, nogil=True)
def _within(vertices, faces, low, high):
    """Faces whose box meets the common one, and their boxes (low, high)."""
    chosen = np.empty(len(faces), np.int64)
    box = np.empty((len(faces), 6))
    count = 0
    for f in range(len(faces)):
        i, j, k = faces[f, 0], faces[f, 1], faces[f, 2]
        meets = True
        for d in range(3):
            x, y, z = vertices[i, d], vertices[j, d], vertices[k, d]
            small, large = min(x, y, z), max(x, y, z)
            if small > high[d] or large < low[d]:
                meets = False
                break
            box[count, d], box[count, 3 + d] = small, large
        if meets:
            chosen[count] = f
            count += 1
    return chosen[:count], box[:count]


@numba.njit(cache=True, nogil=True)
def _triangles_cross(a, face_a, b, face_b):
    """An edge of one passes through the inside of the other."""
    return _edges_pierce(a, face_a, b, face_b) or _edges_pierce(b, face_b, a, face_a)


@numba.njit(cache=True, nogil=True)
def _edges_pierce(a, face_a, b, face_b):
    i, j, k = face_b[0], face_b[1], face_b[2]
    side = np.empty(3)
    for n in range(3):
        side[n] = _volume(b, i, j, k, a, face_a[n])
    if (side[0] >= 0 and side[1] >= 0 and side[2] >= 0) or (side[0] <= 0 and side[1] <= 0 and side[2] <= 0):
        return False
    for n in range(3):
        p, q = face_a[n], face_a[(n + 1) % 3]
        if side[n] * side[(n + 1) % 3] >= 0:
            continue
        x, y, z = _turn(a, p, q, b, i, j), _turn(a, p, q, b, j, k), _turn(a, p, q, b, k, i)
        if (x > 0 and y > 0 and z > 0) or (x < 0 and y < 0 and z < 0):
            return True
    return False


@numba.njit(cache=True, nogil=True)
def _volume(b, i, j, k, a, p):
    """Six times the signed volume of the tetrahedron (b_i, b_j, b_k, a_p)."""
    ux, uy, uz = b[j, 0] - b[i, 0], b[j, 1] - b[i, 1], b[j, 2] - b[i, 2]
    vx, vy, vz = b[k, 0] - b[i, 0], b[k, 1] - b[i, 1], b[k, 2] - b[i, 2]
    wx, wy, wz = a[p, 0] - b[i, 0], a[p, 1] - b[i, 1], a[p, 2] - b[i, 2]
    return (uy * vz - uz * vy) * wx + (uz * vx - ux * vz) * wy + (ux * vy - uy * vx) * wz


@numba.njit(cache=True, nogil=True)
def _turn(a, p, q, b, i, j):
    """The same of (a_p, a_q, b_i, b_j): on which side of the edge the line passes."""
    ux, uy, uz = a[q, 0] - a[p, 0], a[q, 1] - a[p, 1], a[q, 2] - a[p, 2]
    vx, vy, vz = b[i, 0] - a[p, 0], b[i, 1] - a[p, 1], b[i, 2] - a[p, 2]
    wx, wy, wz = b[j, 0] - a[p, 0], b[j, 1] - a[p, 1], b[j, 2] - a[p, 2]
    return (uy * vz - uz * vy) * wx + (uz * vx - ux * vz) * wy + (ux * vy - uy * vx) * wz
