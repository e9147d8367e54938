"""Triangles of two meshes that pass through one another: the compiled part of `crossing`."""

import numba
import numpy as np


@numba.njit(cache=True, nogil=True)
def crossing(a, faces_a, b, faces_b, low, high):
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
        side[n] = _volume(b, i, b, j, b, k, a, face_a[n])
    if (side[0] >= 0 and side[1] >= 0 and side[2] >= 0) or (side[0] <= 0 and side[1] <= 0 and side[2] <= 0):
        return False
    for n in range(3):
        p, q = face_a[n], face_a[(n + 1) % 3]
        if side[n] * side[(n + 1) % 3] >= 0:
            continue
        # On which side of each edge of the triangle the line through p and q passes.
        x, y, z = _volume(a, p, a, q, b, i, b, j), _volume(a, p, a, q, b, j, b, k), _volume(a, p, a, q, b, k, b, i)
        if (x > 0 and y > 0 and z > 0) or (x < 0 and y < 0 and z < 0):
            return True
    return False


@numba.njit(cache=True, nogil=True)
def _volume(a, i, b, j, c, k, d, m):
    """Six times the signed volume of the tetrahedron (a_i, b_j, c_k, d_m)."""
    ux, uy, uz = b[j, 0] - a[i, 0], b[j, 1] - a[i, 1], b[j, 2] - a[i, 2]
    vx, vy, vz = c[k, 0] - a[i, 0], c[k, 1] - a[i, 1], c[k, 2] - a[i, 2]
    wx, wy, wz = d[m, 0] - a[i, 0], d[m, 1] - a[i, 1], d[m, 2] - a[i, 2]
    return (uy * vz - uz * vy) * wx + (uz * vx - ux * vz) * wy + (ux * vy - uy * vx) * wz
