"""Light on a scene: a sky of low frequency, lamps with shadows, and materials with patterns. Linear light; all of it on the CPU."""

import math
from dataclasses import dataclass

import numba
import numpy as np
from jaxtyping import Float32

from twohands.render import smooth_normals, visibility, weights_at
from twohands.synth.body import cross, unit
from twohands.synth.light import Light
from twohands.synth.material import BLOTCHES, CHECKS, DOTS, HAIRS, LAYERS, LINE, PRINT, STRANDS, STRIPES, WIDTH
from twohands.synth.scene import Scene
from twohands.synth.skin import noise_at, noise_volume
from twohands.synth.things import Piece

SHADOW_PX = 128


Joined = tuple[np.ndarray, np.ndarray, np.ndarray]


def joined(pieces: tuple[Piece, ...]) -> Joined:
    """All pieces as one mesh: vertices, faces, and the piece of each face. There must be one piece at least."""
    starts = np.cumsum([0, *[len(p.vertices_m) for p in pieces]])
    faces = np.concatenate([p.faces + np.int32(s) for p, s in zip(pieces, starts[:-1], strict=True)])
    owner = np.repeat(np.arange(len(pieces), dtype=np.int32), [len(p.faces) for p in pieces])
    return np.concatenate([p.vertices_m for p in pieces]), faces, owner


Window = tuple[int, int, int, int]
"""First and last row, first and last column; the last ones are not in it."""


@dataclass(frozen=True)
class Shaded:
    """What a scene looks like without what is behind it."""

    picture: Float32[np.ndarray, "height width 4"]
    """Linear RGB and coverage."""
    window: Window
    """Outside of it there is nothing of the scene: zeros, unless `shade` was given an array to write into."""


AS_OWN = np.float32(-1)
"""Coverage of a sample that was not shaded, because it shows the same surface as the own samples of the pixels that share it."""


def shade(
    scene: Scene,
    size: int,
    oversampling: float,
    light: Light,
    whole: Joined | None = None,
    every: bool = True,
    out: Float32[np.ndarray, "height width 4"] | None = None,
) -> Shaded:
    """The scene at `oversampling` times the size. `whole`: the scene's pieces `joined`, if at hand. Without `every` (and at 1.5 times
    the size) the inner of surfaces is shaded once a pixel of the picture, borders at every sample; see `AS_OWN`. `out` is an array to write into,
    if there is one to be used again; what it holds outside the window stays."""
    big = math.ceil(size * oversampling)
    out = np.zeros((big, big, 4), np.float32) if out is None else out
    if not scene.pieces:
        return Shaded(out, (0, 0, 0, 0))
    pieces = scene.pieces
    vertices, faces, owner = whole or joined(pieces)
    count = len(vertices)
    starts = np.cumsum([0, *[len(p.vertices_m) for p in pieces]])
    colour, rest = np.empty((count, 3), np.float32), np.empty((count, 3), np.float32)
    layers = np.full((count, LAYERS), -1, np.float32)
    own_colour = np.zeros((len(pieces), LAYERS + 1), np.float32)
    table = np.zeros((len(pieces), LAYERS + 1, WIDTH), np.float32)
    for k, p in enumerate(pieces):
        rows = slice(starts[k], starts[k + 1])
        colour[rows] = p.colour
        rest[rows] = p.vertices_m if p.rest_m is None else p.rest_m
        if p.layers is not None:
            layers[rows, : p.layers.shape[1]] = p.layers
        for j, material in enumerate(p.materials):
            material.pack(table[k, j])
            own_colour[k, j] = material.colour is None or j == 0
    closed = np.zeros(len(faces), np.bool_)
    first = 0
    for p in pieces:
        closed[first : first + (len(p.faces) if p.hand >= 0 else 0 if every else p.closed)] = True
        first += len(p.faces)
    focal, principal = scene.camera.focal_px.numpy() * oversampling, scene.camera.principal_px.numpy() * oversampling
    seen = visibility(vertices, faces, focal, principal, big, big, closed)
    normals = smooth_normals(vertices, faces)
    for weld in scene.welds:
        a, b = weld.first_vertices + starts[weld.first], weld.second_vertices + starts[weld.second]
        total = normals[a] + normals[b]
        normals[a] = normals[b] = total / np.maximum(np.sqrt((total * total).sum(1, keepdims=True)), 1e-6)
    spans = np.stack([starts[:-1], starts[1:]], 1)
    hands = spans[[k for k, p in enumerate(pieces) if p.hand >= 0]]
    middle, radius = _sphere(vertices, hands, 1, 0.05) if len(hands) else _sphere(vertices, _all(count), max(1, count // 500), 0.05)
    if radius < 0:
        middle, radius = _sphere(vertices, _all(count), 1, -np.inf)
    near = _shadow(vertices, faces, closed, middle, radius, light.to_light[0])
    largest = max(range(len(pieces)), key=lambda k: len(pieces[k].vertices_m))
    wide = near
    if len(pieces[largest].vertices_m) > 17 * 200:
        middle, radius = _sphere(vertices, spans[largest : largest + 1], 17, -np.inf)
        wide = _shadow(vertices, faces, closed, middle, radius, light.to_light[0])
    surface, outermost = np.empty(len(faces), np.int32), np.zeros(len(faces), np.uint8)
    layered = _surfaces(faces, owner, layers, len(pieces), surface, outermost)
    window = _window(seen.face)
    _shade_pixels(
        window, seen.face, seen.screen, seen.depth_m, faces, owner, surface, outermost, layered, normals, colour, rest, layers, own_colour, table,
        np.float32(focal), np.float32(principal), light.sky, light.to_light, light.power,
        *near, *wide, noise_volume(), every, out,
    )  # fmt: skip
    return Shaded(out, window)


@numba.njit(cache=True)
def _window(face):
    """The part of the samples in which something is seen, in whole blocks of six: cells of two and of three samples start with each."""
    height, width = face.shape
    top, bottom, left, right = height, 0, width, 0
    for v in range(height):
        row = face[v]
        u = 0
        while u < width and row[u] < 0:
            u += 1
        if u == width:
            continue
        top, bottom, left = min(top, v), v + 1, min(left, u)
        u = width
        while row[u - 1] < 0:
            u -= 1
        right = max(right, u)
    if bottom == 0:
        return 0, 0, 0, 0
    return top // 6 * 6, min((bottom + 5) // 6 * 6, height), left // 6 * 6, min((right + 5) // 6 * 6, width)


@numba.njit(cache=True)
def _surfaces(faces, owner, layers, pieces, surface, outermost):
    """A number for what each face shows, negative if it shows the border of a layer, and the layer that is seen on it otherwise; returns how many
    layers each piece can have."""
    width = layers.shape[1]
    worn = np.zeros(layers.shape[0], np.uint8)
    most, last = np.zeros(layers.shape[0], np.uint8), np.zeros(layers.shape[0], np.uint8)
    for i in range(layers.shape[0]):
        for k in range(width):
            if layers[i, k] > 0:
                worn[i] |= 1 << k
                last[i] = k + 1
            if layers[i, k] != -1:
                most[i] = k + 1
    layered = np.zeros(pieces, np.int64)
    for f in range(faces.shape[0]):
        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
        layered[owner[f]] = max(layered[owner[f]], most[a])
        surface[f] = owner[f] * (1 << width) + worn[a] if worn[a] == worn[b] and worn[a] == worn[c] else -1
        outermost[f] = last[a]
    return layered


ShadowMap = tuple[np.ndarray, np.ndarray, np.floating, np.ndarray]
"""Rotation and shift into the light's frame, its focal length, and the depth of what is lit."""


def _shadow(
    vertices: np.ndarray, faces: np.ndarray, closed: np.ndarray, middle: np.ndarray, radius: float, to_light: np.ndarray
) -> ShadowMap:
    """What the light sees of the scene, zoomed to a sphere."""
    radius = max(0.03, radius)
    z = -to_light.astype(np.float64)
    x = unit(cross(z, np.array([0.3, 0.5, 0.8])))
    R = np.array([x, cross(z, x), z])
    far = 12 * max(radius, 0.3)
    shift = np.array([0, 0, far]) - R @ middle
    focal = np.float32(SHADOW_PX / 2 * far / (1.15 * radius))
    R, shift = R.astype(np.float32), shift.astype(np.float32)
    seen = np.empty_like(vertices)
    _turned(vertices, R, shift, seen)
    return R, shift, focal, visibility(seen, faces, np.full(2, focal), _SHADOW_MIDDLE, SHADOW_PX, SHADOW_PX, closed).depth_m


_SHADOW_MIDDLE = np.full(2, SHADOW_PX / 2, np.float32)


def _all(count: int) -> np.ndarray:
    return np.array([[0, count]])


@numba.njit(cache=True)
def _sphere(vertices, rows, step, nearest):
    """The middle of the box round every `step`-th vertex of some ranges that lies deeper than `nearest`, and how far they reach from there;
    negative if there are none."""
    low, high = np.full(3, np.inf, np.float32), np.full(3, -np.inf, np.float32)
    for r in range(rows.shape[0]):
        for i in range(rows[r, 0], rows[r, 1], step):
            if vertices[i, 2] > nearest:
                for c in range(3):
                    low[c], high[c] = min(low[c], vertices[i, c]), max(high[c], vertices[i, c])
    middle, most = (high + low) / np.float32(2), np.float32(-1)
    for r in range(rows.shape[0]):
        for i in range(rows[r, 0], rows[r, 1], step):
            if vertices[i, 2] > nearest:
                x, y, z = vertices[i, 0] - middle[0], vertices[i, 1] - middle[1], vertices[i, 2] - middle[2]
                most = max(most, x * x + y * y + z * z)
    return middle, float(np.sqrt(most)) if most >= 0 else -1.0


@numba.njit(cache=True, fastmath=True)
def _turned(vertices, R, shift, out):
    for i in range(vertices.shape[0]):
        x, y, z = vertices[i, 0], vertices[i, 1], vertices[i, 2]
        for r in range(3):
            out[i, r] = R[r, 0] * x + R[r, 1] * y + R[r, 2] * z + shift[r]


@numba.njit(cache=True, fastmath=True)
def _pattern(kind, x, y, z, per_m, ax, ay, az, volume):
    """How much of the second colour, 0 or 1 for all but blotches."""
    along = (ax * x + ay * y + az * z) * per_m
    if kind == STRIPES:
        return np.float32(1) if along - np.floor(along) < np.float32(0.5) else np.float32(0)
    if kind == CHECKS:
        a, b = np.floor(x * per_m) + np.floor(z * per_m), np.floor(y * per_m)
        return np.float32(1) if int(a + b) % 2 == 0 else np.float32(0)
    if kind == DOTS:
        a, b = x * per_m, y * per_m
        da, db = a - np.floor(a) - np.float32(0.5), b - np.floor(b) - np.float32(0.5)
        return np.float32(1) if da * da + db * db < np.float32(0.09) else np.float32(0)
    if kind == BLOTCHES:
        value = np.float32(0.5) + noise_at(volume, x * per_m, y * per_m, z * per_m)
        return min(max(value, np.float32(0)), np.float32(1))
    if kind == STRANDS:  # hair: noise drawn out along the vertical
        value = np.float32(0.5) + np.float32(0.6) * noise_at(volume, x * per_m, y * per_m * np.float32(0.12), z * per_m)
        return min(max(value, np.float32(0)), np.float32(1))
    if kind == PRINT:  # rows of something like letters, in a field
        row = np.floor(y * per_m)
        inside = y * per_m - row
        word = noise_at(volume, x * per_m * np.float32(1.7), row * np.float32(3.1), np.float32(0.5))
        letter = noise_at(volume, x * per_m * np.float32(4.5), y * per_m * np.float32(4.5), row)
        return np.float32(1) if inside < np.float32(0.62) and word > np.float32(-0.3) and letter > 0 else np.float32(0)
    if kind == LINE:  # thin and a little crooked, one a period
        place = along + np.float32(0.2) * noise_at(volume, x * np.float32(70), y * np.float32(70), z * np.float32(70))
        return np.float32(1) if abs(place - np.floor(place) - np.float32(0.5)) < np.float32(0.06) else np.float32(0)
    if kind == HAIRS:  # strokes: noise drawn out along the axis, where it is high
        back = np.float32(0.92) * along
        value = noise_at(volume, x * per_m - back * ax, y * per_m - back * ay, z * per_m - back * az)
        return min(max((value - np.float32(0.3)) * np.float32(0.8), np.float32(0)), np.float32(0.8))
    return np.float32(0)


HAIR_MEAN, HAIR_M = np.float32(0.17), np.float32(0.0007)
"""What a skin with hairs has of their colour on average, and the size of a pixel from which on that is all one sees of them."""


@numba.njit(cache=True, fastmath=True, inline="always")
def _lit(x, y, z, R, shift, focal, shadow):
    """(share of the lamp that is seen, whether the shadow map reaches here)."""
    half, one = np.float32(0.5), np.float32(1)
    side = shadow.shape[0]
    lx = R[0, 0] * x + R[0, 1] * y + R[0, 2] * z + shift[0]
    ly = R[1, 0] * x + R[1, 1] * y + R[1, 2] * z + shift[1]
    lz = R[2, 0] * x + R[2, 1] * y + R[2, 2] * z + shift[2]
    su, sv = focal * lx / lz + side * half - half, focal * ly / lz + side * half - half
    if su < 1 or sv < 1 or su > side - 3 or sv > side - 3:
        return one, False
    bias = np.float32(0.003) + np.float32(1.5) * lz / focal  # a texel and a half
    iu, iv = int(su), int(sv)
    fu, fv = su - iu, sv - iv
    limit = lz - bias
    lit = np.float32(0)
    for dy in range(4):
        wv = one if 1 <= dy <= 2 else (one - fv if dy == 0 else fv)
        for dx in range(4):
            wu = one if 1 <= dx <= 2 else (one - fu if dx == 0 else fu)
            lit += wu * wv if limit < shadow[np.uint64(iv + dy - 1), np.uint64(iu + dx - 1)] else np.float32(0)
    return lit / np.float32(9), True


AO_M = np.float32(0.014)
"""How far away on the picture a neighbour may hide the sky."""
_TURNS = np.arange(12) * np.pi * (3 - np.sqrt(5))
AO = (np.stack([np.cos(_TURNS), np.sin(_TURNS)], 1) * np.sqrt((np.arange(12) + 0.7) / 12)[:, None]).astype(np.float32)
CHUNK = 64
"""Pixels whose light is added up together: loops over this many are done sixteen at a time by the processor."""


@numba.njit(cache=True, fastmath=True, inline="always")
def _open_sky(u, v, x, y, z, nx, ny, nz, depth, focal, rays_x, rays_y, near):
    """How much of the sky is not hidden by what stands near on the picture: fingers darken one another where they meet. `near` is scratch."""
    one, nothing, reach = np.float32(1), np.float32(0), np.float32(1) / (3 * AO_M)
    last_x, last_y = np.int32(depth.shape[1] - 1), np.int32(depth.shape[0] - 1)
    near_px = min(max(AO_M * focal / z, np.float32(2)), np.float32(24))
    far = z + one
    for k in range(len(AO)):
        au, av = np.int32(u) + np.int32(AO[k, 0] * near_px), np.int32(v) + np.int32(AO[k, 1] * near_px)
        ku, kv = min(max(au, np.int32(0)), last_x), min(max(av, np.int32(0)), last_y)
        az = min(depth[np.uint32(kv), np.uint32(ku)], far)  # infinite where there is nothing
        near[k] = az if au == ku and av == kv else far
        near[16 + k], near[32 + k] = rays_x[np.uint32(ku)], rays_y[np.uint32(kv)]
    hidden = nothing
    for k in range(16):  # without branches: what counts is as good as random. The last four are too far to count.
        dx, dy, dz = near[16 + k] * near[k] - x, near[32 + k] * near[k] - y, near[k] - z
        squared = dx * dx + dy * dy + dz * dz + np.float32(1e-9)
        inverse = one / np.sqrt(squared)
        rise = max((nx * dx + ny * dy + nz * dz) * inverse - np.float32(0.12), nothing)
        hidden += rise * max(one - squared * inverse * reach, nothing)
    return one - min(np.float32(0.85), hidden * np.float32(2.2 / 12))


@numba.njit(cache=True, fastmath=True, inline="always")
def _power(base, exponent):
    """base ** exponent of a base from .6 to 1 and an exponent to 80, to a few millionths; the library's takes four times as long."""
    one = np.float32(1)
    s = (base - one) / (base + one)
    q = s * s
    log = np.float32(2) * s * (one + q * (np.float32(1 / 3) + q * (np.float32(1 / 5) + q * (np.float32(1 / 7) + q * np.float32(1 / 9)))))
    t = exponent * log * np.float32(1 / 64)
    e = one + t * (one + t * (np.float32(1 / 2) + t * (np.float32(1 / 6) + t * (np.float32(1 / 24) + t * np.float32(1 / 120)))))
    for _ in range(6):
        e = e * e
    return e


LANES = 19
"""Numbers a pixel: normal, ray, lamp seen, open sky, colour, specular, gloss, soft, facing; then red, green, blue and spark of what arrives."""


@numba.njit(cache=True, fastmath=True, inline="always")
def _put(lane, place, count, out):
    for i in range(count):
        v, u = place[i, 0], place[i, 1]
        out[v, u, 0], out[v, u, 1] = lane[15 * CHUNK + i], lane[16 * CHUNK + i]
        out[v, u, 2], out[v, u, 3] = lane[17 * CHUNK + i], np.float32(1)


@numba.njit(cache=True, fastmath=True, error_model="numpy")
def _add_light(lane, form, to_light, power):
    """Sky, lamps and their reflections on CHUNK pixels at once."""
    one, nothing = np.float32(1), np.float32(0)
    for i in range(CHUNK):
        nx, ny, nz = lane[i], lane[CHUNK + i], lane[2 * CHUNK + i]
        open_sky, soft = lane[7 * CHUNK + i], lane[13 * CHUNK + i]
        xy, yz, xz, zz, xx_yy = nx * ny, ny * nz, nx * nz, nz * nz, nx * nx - ny * ny
        red = form[0, 0] + form[0, 1] * nx + form[0, 2] * ny + form[0, 3] * nz + form[0, 4] * xy + form[0, 5] * yz
        red += form[0, 6] * xz + form[0, 7] * zz + form[0, 8] * xx_yy
        green = form[1, 0] + form[1, 1] * nx + form[1, 2] * ny + form[1, 3] * nz + form[1, 4] * xy + form[1, 5] * yz
        green += form[1, 6] * xz + form[1, 7] * zz + form[1, 8] * xx_yy
        blue = form[2, 0] + form[2, 1] * nx + form[2, 2] * ny + form[2, 3] * nz + form[2, 4] * xy + form[2, 5] * yz
        blue += form[2, 6] * xz + form[2, 7] * zz + form[2, 8] * xx_yy
        # Light between skin and skin is red.
        lane[15 * CHUNK + i] = max(red, nothing) * (open_sky + soft * np.float32(0.25) * (one - open_sky))
        lane[16 * CHUNK + i] = max(green, nothing) * open_sky
        lane[17 * CHUNK + i] = max(blue, nothing) * open_sky
        lane[18 * CHUNK + i] = nothing
    for k in range(to_light.shape[0]):
        lx, ly, lz = to_light[k, 0], to_light[k, 1], to_light[k, 2]
        power_r, power_g, power_b = power[k, 0], power[k, 1], power[k, 2]
        shadowed = one if k == 0 else nothing
        for i in range(CHUNK):
            nx, ny, nz = lane[i], lane[CHUNK + i], lane[2 * CHUNK + i]
            share = one + shadowed * (lane[6 * CHUNK + i] - one)
            soft, specular = lane[13 * CHUNK + i], lane[11 * CHUNK + i]
            dot = nx * lx + ny * ly + nz * lz
            wrap_r = np.float32(0.08) + np.float32(0.3) * soft
            wrap_g = np.float32(0.08) + np.float32(0.08) * soft
            arrived_g = share * max(dot + wrap_g, nothing) / (one + wrap_g)
            lane[15 * CHUNK + i] += power_r * share * max(dot + wrap_r, nothing) / (one + wrap_r)
            lane[16 * CHUNK + i] += power_g * arrived_g
            lane[17 * CHUNK + i] += power_b * arrived_g
            hx, hy, hz = lx - lane[3 * CHUNK + i], ly - lane[4 * CHUNK + i], lz - lane[5 * CHUNK + i]
            mirror = (nx * hx + ny * hy + nz * hz) / np.sqrt(hx * hx + hy * hy + hz * hz + np.float32(1e-9))
            shines = mirror > np.float32(0.6) and dot > nothing and specular > np.float32(0.004)
            spark = share * power_g * _power(min(max(mirror, np.float32(0.6)), one), lane[12 * CHUNK + i])
            lane[18 * CHUNK + i] += spark if shines else nothing
    for i in range(CHUNK):
        grazing, specular = one + lane[14 * CHUNK + i], lane[11 * CHUNK + i]
        green = lane[16 * CHUNK + i]
        spark = lane[18 * CHUNK + i] * specular + np.float32(0.25) * specular * green * grazing * grazing * grazing
        lane[15 * CHUNK + i] = lane[8 * CHUNK + i] * lane[15 * CHUNK + i] + spark
        lane[16 * CHUNK + i] = lane[9 * CHUNK + i] * green + spark
        lane[17 * CHUNK + i] = lane[10 * CHUNK + i] * lane[17 * CHUNK + i] + spark


@numba.njit(cache=True, fastmath=True)
def _find_uniform(face, depth, surface, first, left, right, focal_x, uniform):
    """Of each three by three samples of the rows from `first` on, between two columns, whether they show one surface, near each other."""
    if first + 3 > face.shape[0]:
        uniform[:] = False
        return
    for cell in range(left // 3, right // 3):
        u = 3 * cell
        before = face[first, u]
        shown = surface[np.uint32(before)] if before >= 0 else -1
        same, low, high = shown >= 0, depth[first, u], depth[first, u]
        for i in range(3):
            if not same:
                break
            for j in range(3):
                t = face[first + i, u + j]
                if t != before:
                    before = t
                    same = same and t >= 0 and surface[np.uint32(max(t, 0))] == shown
                low, high = min(low, depth[first + i, u + j]), max(high, depth[first + i, u + j])
        uniform[cell] = same and high - low < np.float32(0.002) + np.float32(2.5) * low / focal_x
    for cell in range(right // 3, uniform.shape[0]):
        uniform[cell] = False


@numba.njit(cache=True, fastmath=True, error_model="numpy")
def _shade_pixels(
    window, face, screen, depth, faces, owner, surface, outermost, layered, normals, colour, rest, layers, own_colour, table, focal, principal, sky,
    to_light, power, R, shift, shadow_focal, shadow, R2, shift2, shadow_focal2, shadow2, volume, every, out,
):  # fmt: skip
    one, half, nothing = np.float32(1), np.float32(0.5), np.float32(0)
    height, width = face.shape
    rays_x, rays_y = np.empty(width, np.float32), np.empty(height, np.float32)
    for u in range(width):
        rays_x[u] = (u + half - principal[0]) / focal[0]
    for v in range(height):
        rays_y[v] = (v + half - principal[1]) / focal[1]
    focal_x = focal[0]
    # The sky's harmonics as a quadratic form of the normal: constant, linear, and products.
    form = np.empty((3, 9), np.float32)
    for channel in range(3):
        form[channel, 0] = np.float32(0.282095) * sky[0, channel] - np.float32(0.315392) * sky[6, channel]
        form[channel, 1] = np.float32(0.488603) * sky[3, channel]
        form[channel, 2] = np.float32(0.488603) * sky[1, channel]
        form[channel, 3] = np.float32(0.488603) * sky[2, channel]
        form[channel, 4] = np.float32(1.092548) * sky[4, channel]
        form[channel, 5] = np.float32(1.092548) * sky[5, channel]
        form[channel, 6] = np.float32(1.092548) * sky[7, channel]
        form[channel, 7] = np.float32(3 * 0.315392) * sky[6, channel]
        form[channel, 8] = np.float32(0.546274) * sky[8, channel]
    near = np.full(48, np.float32(1e6), np.float32)
    lane = np.zeros(LANES * CHUNK, np.float32)
    place = np.empty((CHUNK, 2), np.uint32)
    filled = 0
    # Shadow and hidden sky are found once for two by two samples (or pixels) of one surface: they are half of the cost.
    stride = 2 if every else 3
    cell_of, shared = np.empty(width, np.uint32), np.empty(width, np.bool_)
    for u in range(width):
        cell_of[u], shared[u] = u // stride, u % 3 == 1
    cell_piece = np.full(width // 2 + 1, -1, np.int32)
    cell_z, cell_lit = np.zeros(width // 2 + 1, np.float32), np.zeros(width // 2 + 1, np.float32)
    cell_sky = np.zeros(width // 2 + 1, np.float32)
    pair_piece, pair_z, pair_sky = (
        np.full(width // 4 + 1, -1, np.int32),
        np.zeros(width // 4 + 1, np.float32),
        np.zeros(width // 4 + 1, np.float32),
    )
    uniform = np.zeros(width // 2 + 1, np.bool_)
    top, bottom, left, right = window
    for v in range(top, bottom):
        if v % stride == 0:
            cell_piece[:] = -1
            pair_piece[:] = -1
            if not every:
                _find_uniform(face, depth, surface, v, left, right, focal_x, uniform)
        middle = v % 3 == 1
        for u in range(left, right):
            if face[v, u] < 0:
                for k in range(4):
                    out[v, u, k] = nothing
                continue
            if (middle or shared[u]) and uniform[cell_of[u]]:
                out[v, u, 3] = AS_OWN
                continue
            t = np.uint64(face[v, u])  # unsigned: a signed index costs a test for counting from the end
            z = depth[v, u]
            if not every and (middle or shared[u]) and surface[t] >= 0:
                first_u, last_u = (u - 1, u + 1) if shared[u] else (u, u)
                first_v, last_v = (v - 1, v + 1) if middle else (v, v)
                same = last_u < width and last_v < height
                limit = np.float32(0.002) + np.float32(2.5) * z / focal_x
                for i in range(first_v, last_v + 1, 2):
                    for j in range(first_u, last_u + 1, 2):
                        other = face[np.uint32(i), np.uint32(j)] if same else -1
                        same = same and other >= 0 and surface[np.uint32(other)] == surface[t]
                        same = same and abs(depth[np.uint32(i), np.uint32(j)] - z) < limit
                if same:
                    out[v, u, 3] = AS_OWN
                    continue
            a, b, c = np.uint64(faces[t, 0]), np.uint64(faces[t, 1]), np.uint64(faces[t, 2])
            w0, w1, w2 = weights_at(screen, a, b, c, u, v, z)
            nx = w0 * normals[a, 0] + w1 * normals[b, 0] + w2 * normals[c, 0]
            ny = w0 * normals[a, 1] + w1 * normals[b, 1] + w2 * normals[c, 1]
            nz = w0 * normals[a, 2] + w1 * normals[b, 2] + w2 * normals[c, 2]
            scale = one / np.sqrt(nx * nx + ny * ny + nz * nz + np.float32(1e-12))
            nx, ny, nz = nx * scale, ny * scale, nz * scale
            x, y = rays_x[u] * z, rays_y[v] * z
            view = one / np.sqrt(x * x + y * y + z * z)
            facing = (nx * x + ny * y + nz * z) * view
            if facing > 0:  # seen from inside (an open sleeve): light the side that is seen
                nx, ny, nz = -nx, -ny, -nz
                facing = -facing
            piece = np.uint64(owner[t])
            layer = np.uint64(outermost[t])
            if surface[t] < 0:
                layer = np.uint64(0)
                for k in range(layered[piece]):
                    if w0 * layers[a, k] + w1 * layers[b, k] + w2 * layers[c, k] > 0:
                        layer = np.uint64(k + 1)
            px = w0 * rest[a, 0] + w1 * rest[b, 0] + w2 * rest[c, 0]
            py = w0 * rest[a, 1] + w1 * rest[b, 1] + w2 * rest[c, 1]
            pz = w0 * rest[a, 2] + w1 * rest[b, 2] + w2 * rest[c, 2]
            mix = nothing
            kind = int(table[piece, layer, 6])
            if kind > 0:
                mix = _pattern(
                    kind,
                    px,
                    py,
                    pz,
                    table[piece, layer, 7],
                    table[piece, layer, 8],
                    table[piece, layer, 9],
                    table[piece, layer, 10],
                    volume,
                )
            if own_colour[piece, layer] > 0 and (mix == 0 or kind == HAIRS):
                cr = w0 * colour[a, 0] + w1 * colour[b, 0] + w2 * colour[c, 0]
                cg = w0 * colour[a, 1] + w1 * colour[b, 1] + w2 * colour[c, 1]
                cb = w0 * colour[a, 2] + w1 * colour[b, 2] + w2 * colour[c, 2]
                if kind == HAIRS:
                    mix = HAIR_MEAN + (mix - HAIR_MEAN) * min(HAIR_M * focal_x / z, one)
                    cr += (table[piece, layer, 3] - cr) * mix
                    cg += (table[piece, layer, 4] - cg) * mix
                    cb += (table[piece, layer, 5] - cb) * mix
            else:
                cr = table[piece, layer, 0] + (table[piece, layer, 3] - table[piece, layer, 0]) * mix
                cg = table[piece, layer, 1] + (table[piece, layer, 4] - table[piece, layer, 1]) * mix
                cb = table[piece, layer, 2] + (table[piece, layer, 5] - table[piece, layer, 2]) * mix
            amplitude, per_m = table[piece, layer, 11], table[piece, layer, 12]
            if amplitude > 0:
                grain = one + amplitude * noise_at(volume, px * per_m, py * per_m, pz * per_m)
                cr, cg, cb = cr * grain, cg * grain, cb * grain
            cell = cell_of[u]
            if cell_piece[cell] == owner[t] and abs(cell_z[cell] - z) < np.float32(0.004):
                lit, open_sky = cell_lit[cell], cell_sky[cell]
            else:
                lit, reached = _lit(x, y, z, R, shift, shadow_focal, shadow)
                if not reached:
                    lit, reached = _lit(x, y, z, R2, shift2, shadow_focal2, shadow2)
                # Seen from near, the hidden sky changes little from a cell to the next.
                pair = np.uint32(cell // 2)
                if (
                    not every
                    and pair_piece[pair] == owner[t]
                    and abs(pair_z[pair] - z) < np.float32(0.004)
                    and z * np.float32(9) < AO_M * focal_x
                ):
                    open_sky = pair_sky[pair]
                else:
                    open_sky = _open_sky(u, v, x, y, z, nx, ny, nz, depth, focal_x, rays_x, rays_y, near)
                    pair_piece[pair], pair_z[pair], pair_sky[pair] = owner[t], z, open_sky
                cell_piece[cell], cell_z[cell], cell_lit[cell], cell_sky[cell] = owner[t], z, lit, open_sky
            lane[filled], lane[CHUNK + filled], lane[2 * CHUNK + filled] = nx, ny, nz
            lane[3 * CHUNK + filled], lane[4 * CHUNK + filled], lane[5 * CHUNK + filled] = x * view, y * view, z * view
            lane[6 * CHUNK + filled], lane[7 * CHUNK + filled] = lit, open_sky
            lane[8 * CHUNK + filled], lane[9 * CHUNK + filled], lane[10 * CHUNK + filled] = cr, cg, cb
            lane[11 * CHUNK + filled], lane[12 * CHUNK + filled] = table[piece, layer, 13], table[piece, layer, 14]
            lane[13 * CHUNK + filled], lane[14 * CHUNK + filled] = table[piece, layer, 15], facing
            place[filled, 0], place[filled, 1] = v, u
            filled += 1
            if filled == CHUNK:
                _add_light(lane, form, to_light, power)
                _put(lane, place, filled, out)
                filled = 0
    _add_light(lane, form, to_light, power)
    _put(lane, place, filled, out)
