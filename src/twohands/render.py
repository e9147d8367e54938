"""A software rasteriser: triangles and a camera to face ids, barycentric coordinates and depth. No GPU, no display, no system library.

Two hands at 256 x 256 pixels take about half a millisecond on one core.
"""

from dataclasses import dataclass
from functools import lru_cache

import numba
import numpy as np
from jaxtyping import Bool, Float32, Int32

NEAR_M = 0.01
"""Triangles with a corner nearer to the camera than this are left out: clipping them is not worth its code for hands."""


@dataclass(frozen=True)
class Raster:
    """What every pixel sees."""

    face: Int32[np.ndarray, "height width"]
    """Index of the nearest triangle, -1 where there is none."""
    barycentric: Float32[np.ndarray, "height width 3"]
    """Perspective-correct weights of that triangle's corners."""
    depth_m: Float32[np.ndarray, "height width"]
    """Depth along z; infinite where there is nothing."""


def rasterize(
    vertices_m: Float32[np.ndarray, "vert 3"],
    faces: Int32[np.ndarray, "face 3"],
    focal_px: Float32[np.ndarray, "2"],
    principal_px: Float32[np.ndarray, "2"],
    height: int,
    width: int,
) -> Raster:
    """Nearest triangle at each pixel's centre, both sides of a triangle seen; vertices in the camera frame (OpenCV axes)."""
    faces = np.ascontiguousarray(faces, np.int32)
    seen = visibility(vertices_m, faces, focal_px, principal_px, height, width)
    barycentric = np.zeros((height, width, 3), np.float32)
    _all_weights(seen.face, seen.depth_m, faces, seen.screen, barycentric)
    return Raster(seen.face, barycentric, seen.depth_m)


@dataclass(frozen=True)
class Visibility:
    """A raster without weights: whoever looks at few pixels finds those by `weights_at`."""

    face: Int32[np.ndarray, "height width"]
    depth_m: Float32[np.ndarray, "height width"]
    screen: Float32[np.ndarray, "vert 3"]
    """Of each vertex its place, counted from the first pixel's centre, and 1 / depth; negative if it is too near."""


def visibility(
    vertices_m: Float32[np.ndarray, "vert 3"],
    faces: Int32[np.ndarray, "face 3"],
    focal_px: Float32[np.ndarray, "2"],
    principal_px: Float32[np.ndarray, "2"],
    height: int,
    width: int,
    closed: Bool[np.ndarray, "face"] | None = None,
) -> Visibility:
    """`closed`: faces of closed surfaces, whose back is never seen, so that it need not be drawn."""
    wide = max(width, LANES)
    face, depth_m = np.empty((height, wide), np.int32), np.empty((height, wide), np.float32)
    screen = np.empty((len(vertices_m), 3), np.float32)
    _draw(vertices_m, faces, focal_px, principal_px, _none(len(faces)) if closed is None else closed, face, depth_m, screen)
    if wide > width:
        face, depth_m = np.ascontiguousarray(face[:, :width]), np.ascontiguousarray(depth_m[:, :width])
    return Visibility(face, depth_m, screen)


@lru_cache(maxsize=64)
def _none(count: int) -> np.ndarray:
    return np.zeros(count, np.bool_)


def _draw(
    vertices_m: np.ndarray, faces: np.ndarray, focal_px: np.ndarray, principal_px: np.ndarray, closed: np.ndarray, face: np.ndarray,
    depth_m: np.ndarray, screen: np.ndarray,
) -> None:  # fmt: skip
    """Into the last three, whatever the types of the others."""
    floats = (np.asarray(focal_px, np.float32), np.asarray(principal_px, np.float32))
    _rasterize(
        np.ascontiguousarray(vertices_m, np.float32), np.ascontiguousarray(faces, np.int32), closed, *floats, face, depth_m, screen
    )  # fmt: skip


LANES = 16
"""Pixels of a row that are drawn together."""


@numba.njit(cache=True, fastmath=True, error_model="numpy")
def _rasterize(vertices, faces, closed, focal, principal, face, depth, screen):
    one = np.float32(1)
    half = np.float32(0.5)
    height, width = depth.shape
    cell = np.empty((vertices.shape[0], 2), np.int32)  # the first pixel's centre right of and below a vertex, or one beyond the picture
    far_x, far_y = np.float32(width), np.float32(height)
    for i in range(vertices.shape[0]):
        near = vertices[i, 2] < NEAR_M
        inverse = one / (one if near else vertices[i, 2])
        x = focal[0] * vertices[i, 0] * inverse + principal[0] - half
        y = focal[1] * vertices[i, 1] * inverse + principal[1] - half
        screen[i, 0], screen[i, 1], screen[i, 2] = x, y, -one if near else inverse
        cell[i, 0] = np.int32(np.ceil(min(max(x, np.float32(-1)), far_x)))
        cell[i, 1] = np.int32(np.ceil(min(max(y, np.float32(-1)), far_y)))
    last = np.int32(width - LANES)
    face[:] = -1
    depth[:] = np.float32(0)  # holds 1 / z until the end: it is linear over the screen
    for t in range(faces.shape[0]):
        # Unsigned: a signed index costs a test for counting from the end.
        a, b, c = np.uint32(faces[t, 0]), np.uint32(faces[t, 1]), np.uint32(faces[t, 2])
        # Most triangles of a far body hold no pixel's centre: find that out before anything else.
        top, bottom = min(cell[a, 1], cell[b, 1], cell[c, 1]), max(cell[a, 1], cell[b, 1], cell[c, 1])
        if top == bottom:
            continue
        left, right = min(cell[a, 0], cell[b, 0], cell[c, 0]), max(cell[a, 0], cell[b, 0], cell[c, 0])
        if left == right:
            continue
        top, left = max(top, np.int32(0)), max(left, np.int32(0))
        x0, y0, x1, y1, x2, y2 = screen[a, 0], screen[a, 1], screen[b, 0], screen[b, 1], screen[c, 0], screen[c, 1]
        z0, z1, z2 = screen[a, 2], screen[b, 2], screen[c, 2]
        area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
        if area == 0 or (closed[t] and area > 0) or z0 < 0 or z1 < 0 or z2 < 0:
            continue
        scale = one / area
        # Edge functions relative to the third corner: screen coordinates of a thousand pixels would cancel otherwise.
        w0_x, w0_y = (y1 - y2) * scale, (x2 - x1) * scale
        w1_x, w1_y = (y2 - y0) * scale, (x0 - x2) * scale
        for v in range(top, bottom):
            w0 = np.float32(w0_x * (left - x2) + w0_y * (v - y2))
            w1 = np.float32(w1_x * (left - x2) + w1_y * (v - y2))
            start = left
            while start < right:
                # A fixed number of pixels, so that the processor does them at once; those beside the triangle fail its edges' test.
                begin = np.uint32(min(start, last))
                row = depth[np.uint32(v), begin : begin + LANES]
                ids = face[np.uint32(v), begin : begin + LANES]
                shift = np.float32(np.int32(begin) - left)
                for k in range(LANES):  # without branches
                    step = shift + np.float32(k)
                    first, second = w0 + step * w0_x, w1 + step * w1_x
                    third = one - first - second
                    inverse = first * z0 + second * z1 + third * z2
                    nearest = (min(first, second, third) >= 0) & (inverse > row[k])
                    row[k] = inverse if nearest else row[k]
                    ids[k] = t if nearest else ids[k]
                start += np.int32(LANES)
    for v in range(height):
        for u in range(width):
            depth[v, u] = one / depth[v, u] if depth[v, u] > 0 else np.float32(np.inf)


@numba.njit(cache=True, fastmath=True, error_model="numpy", inline="always")
def weights_at(screen, a, b, c, u, v, depth):
    """Perspective-correct weights of a triangle's corners at a pixel's centre where it lies this deep."""
    x2, y2 = screen[c, 0], screen[c, 1]
    ax, ay, bx, by = screen[a, 0] - x2, screen[a, 1] - y2, screen[b, 0] - x2, screen[b, 1] - y2
    px, py = np.float32(u) - x2, np.float32(v) - y2
    scale = depth / (ax * by - ay * bx)
    w0 = (px * by - py * bx) * scale * screen[a, 2]
    w1 = (ax * py - ay * px) * scale * screen[b, 2]
    return w0, w1, np.float32(1) - w0 - w1


@numba.njit(cache=True, fastmath=True, error_model="numpy")
def _all_weights(face, depth, faces, screen, barycentric):
    for v in range(face.shape[0]):
        for u in range(face.shape[1]):
            t = face[v, u]
            if t >= 0:
                w = weights_at(screen, faces[t, 0], faces[t, 1], faces[t, 2], u, v, depth[v, u])
                barycentric[v, u, 0], barycentric[v, u, 1], barycentric[v, u, 2] = w


def interpolate(raster: Raster, faces: Int32[np.ndarray, "face 3"], attributes: Float32[np.ndarray, "vert channel"]) -> np.ndarray:
    """Vertex attributes at every pixel, (height, width, channel) float32; 0 where there is nothing."""
    out = np.zeros((*raster.face.shape, attributes.shape[1]), np.float32)
    _interpolate(raster.face, raster.barycentric, np.ascontiguousarray(faces, np.int32), np.ascontiguousarray(attributes, np.float32), out)
    return out


@numba.njit(cache=True, fastmath=True)
def _interpolate(face, barycentric, faces, attributes, out):
    for v in range(face.shape[0]):
        for u in range(face.shape[1]):
            t = face[v, u]
            if t < 0:
                continue
            for k in range(attributes.shape[1]):
                value = np.float32(0)
                for corner in range(3):
                    value += barycentric[v, u, corner] * attributes[faces[t, corner], k]
                out[v, u, k] = value


def smooth_normals(vertices_m: Float32[np.ndarray, "vert 3"], faces: Int32[np.ndarray, "face 3"]) -> Float32[np.ndarray, "vert 3"]:
    """Unit vertex normals, each face weighted by its area; faces counter-clockwise seen from outside."""
    return _smooth_normals(np.ascontiguousarray(vertices_m, np.float32), np.ascontiguousarray(faces, np.int32))


@numba.njit(cache=True, fastmath=True)
def _smooth_normals(vertices, faces):
    normals = np.zeros(vertices.shape, np.float32)
    for t in range(faces.shape[0]):
        a, b, c = faces[t, 0], faces[t, 1], faces[t, 2]
        ux, uy, uz = vertices[b, 0] - vertices[a, 0], vertices[b, 1] - vertices[a, 1], vertices[b, 2] - vertices[a, 2]
        vx, vy, vz = vertices[c, 0] - vertices[a, 0], vertices[c, 1] - vertices[a, 1], vertices[c, 2] - vertices[a, 2]
        nx, ny, nz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
        for corner in (a, b, c):
            normals[corner, 0] += nx
            normals[corner, 1] += ny
            normals[corner, 2] += nz
    for i in range(vertices.shape[0]):
        length = np.sqrt(normals[i, 0] ** 2 + normals[i, 1] ** 2 + normals[i, 2] ** 2 + np.float32(1e-24))
        for k in range(3):
            normals[i, k] /= length
    return normals
