"""Points against a closed mesh, one after the other: the compiled part of `inside` and of the fit of spheres."""

import numba
import numpy as np

from twohands.collision.voxels import side_of_edge


@numba.njit(cache=True, nogil=True)
def winding_numbers(points, vertices, faces):
    """How often a closed mesh goes around each point: of the faces above it, those that look up less those that look down."""
    order = np.argsort(points[:, 0])
    # Rays stand a hair (nanometres) off the points, so that no vertex of a mirrored or repeated mesh is right above one.
    along = points[order, 0] + 0.618e-9
    count = np.zeros(len(points), np.int64)
    for f in range(len(faces)):
        i, j, k = faces[f, 0], faces[f, 1], faces[f, 2]
        low_x, high_x = min(vertices[i, 0], vertices[j, 0], vertices[k, 0]), max(vertices[i, 0], vertices[j, 0], vertices[k, 0])
        low_y, high_y = min(vertices[i, 1], vertices[j, 1], vertices[k, 1]), max(vertices[i, 1], vertices[j, 1], vertices[k, 1])
        high_z = max(vertices[i, 2], vertices[j, 2], vertices[k, 2])
        for m in range(np.searchsorted(along, low_x), len(along)):
            x, y, z = along[m], points[order[m], 1] + 0.382e-9, points[order[m], 2]
            if x > high_x:
                break
            if y < low_y or y > high_y or z > high_z:
                continue
            c, a, b = side_of_edge(vertices, i, j, x, y), side_of_edge(vertices, j, k, x, y), side_of_edge(vertices, k, i, x, y)
            if (a > 0) != (b > 0) or (b > 0) != (c > 0):
                continue
            if (a * vertices[i, 2] + b * vertices[j, 2] + c * vertices[k, 2]) / (a + b + c) > z:
                count[order[m]] += 1 if a > 0 else -1
    return count


@numba.njit(cache=True, nogil=True)
def surface_distances(points, vertices, faces):
    """From each point to the nearest place on the mesh: face, edge or corner."""
    centre, radius = np.empty((len(faces), 3)), np.empty(len(faces))
    for f in range(len(faces)):
        for d in range(3):
            centre[f, d] = (vertices[faces[f, 0], d] + vertices[faces[f, 1], d] + vertices[faces[f, 2], d]) / 3
        radius[f] = 0.0
        for v in faces[f]:
            x, y, z = vertices[v, 0] - centre[f, 0], vertices[v, 1] - centre[f, 1], vertices[v, 2] - centre[f, 2]
            radius[f] = max(radius[f], np.sqrt(_squared(x, y, z)))
    found = np.empty(len(points))
    apart = np.empty(len(faces))
    for n in range(len(points)):
        x, y, z = points[n, 0], points[n, 1], points[n, 2]
        for f in range(len(faces)):
            apart[f] = _squared(x - centre[f, 0], y - centre[f, 1], z - centre[f, 2])
        # A face's centre is on it; only faces that may come nearer than the nearest centre are looked at.
        best = np.sqrt(apart.min())
        for f in range(len(faces)):
            if apart[f] < (best + radius[f]) ** 2:
                best = min(best, np.sqrt(_to_face(x, y, z, vertices, faces[f, 0], faces[f, 1], faces[f, 2])))
        found[n] = best
    return found


@numba.njit(cache=True, nogil=True)
def nearest_distances(points, others):
    """From each point to the nearest of the others; infinite if there are none."""
    found = np.full(len(points), np.inf)
    for n in range(len(points)):
        x, y, z = points[n, 0], points[n, 1], points[n, 2]
        for m in range(len(others)):
            found[n] = min(found[n], _squared(x - others[m, 0], y - others[m, 1], z - others[m, 2]))
    return np.sqrt(found)


@numba.njit(cache=True, nogil=True)
def _to_face(x, y, z, vertices, i, j, k):
    """Squared distance to a triangle, which may have no area."""
    ux, uy, uz = vertices[j, 0] - vertices[i, 0], vertices[j, 1] - vertices[i, 1], vertices[j, 2] - vertices[i, 2]
    vx, vy, vz = vertices[k, 0] - vertices[i, 0], vertices[k, 1] - vertices[i, 1], vertices[k, 2] - vertices[i, 2]
    px, py, pz = x - vertices[i, 0], y - vertices[i, 1], z - vertices[i, 2]
    nx, ny, nz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
    area = _squared(nx, ny, nz)
    if area > 0:
        # Barycentric coordinates of the foot of the perpendicular, times the area.
        b = (py * vz - pz * vy) * nx + (pz * vx - px * vz) * ny + (px * vy - py * vx) * nz
        c = (uy * pz - uz * py) * nx + (uz * px - ux * pz) * ny + (ux * py - uy * px) * nz
        if b >= 0 and c >= 0 and b + c <= area:
            return (px * nx + py * ny + pz * nz) ** 2 / area
    return min(_to_edge(x, y, z, vertices, i, j), _to_edge(x, y, z, vertices, j, k), _to_edge(x, y, z, vertices, k, i))


@numba.njit(cache=True, nogil=True)
def _to_edge(x, y, z, vertices, i, j):
    ux, uy, uz = vertices[j, 0] - vertices[i, 0], vertices[j, 1] - vertices[i, 1], vertices[j, 2] - vertices[i, 2]
    px, py, pz = x - vertices[i, 0], y - vertices[i, 1], z - vertices[i, 2]
    length = _squared(ux, uy, uz)
    along = min(max((px * ux + py * uy + pz * uz) / length, 0.0), 1.0) if length > 0 else 0.0
    return _squared(px - along * ux, py - along * uy, pz - along * uz)


@numba.njit(cache=True, nogil=True)
def _squared(x, y, z):
    return x * x + y * y + z * z
