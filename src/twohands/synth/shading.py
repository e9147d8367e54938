"""Light on a scene: a sky of low frequency, lamps with shadows, and materials with patterns. Linear light; all of it on the CPU."""

from dataclasses import dataclass

import numba
import numpy as np
from jaxtyping import Float, Float32

from twohands.render import rasterize, smooth_normals
from twohands.synth.material import BLOTCHES, CHECKS, DOTS, LAYERS, PRINT, STRANDS, STRIPES, WIDTH
from twohands.synth.scene import Scene
from twohands.synth.skin import noise_at, noise_volume
from twohands.synth.things import Piece

SHADOW_PX = 128


@dataclass(frozen=True)
class Light:
    """What lights a scene."""

    sky: Float32[np.ndarray, "9 3"]
    """Spherical harmonics (order 2) of the light that arrives at a surface facing a direction of the camera frame, over pi."""
    to_light: Float32[np.ndarray, "lamp 3"]
    """Unit vectors; the first lamp casts shadows."""
    power: Float32[np.ndarray, "lamp 3"]


def harmonics(n: Float[np.ndarray, "*rows 3"]) -> Float[np.ndarray, "*rows 9"]:
    """The real spherical harmonics up to order 2 of unit vectors."""
    x, y, z = n[..., 0], n[..., 1], n[..., 2]
    return np.stack(
        [
            np.full_like(x, 0.282095), 0.488603 * y, 0.488603 * z, 0.488603 * x, 1.092548 * x * y, 1.092548 * y * z,
            0.315392 * (3 * z * z - 1), 1.092548 * x * z, 0.546274 * (x * x - y * y),
        ],
        -1,
    )  # fmt: skip


COSINE = np.array([1, *(2 / 3,) * 3, *(1 / 4,) * 5])
"""A cosine lobe's weight for each harmonic, over pi: radiance to what a matt white surface sends back."""


def sky_of(directions: Float[np.ndarray, "source 3"], colours: Float[np.ndarray, "source 3"]) -> Float32[np.ndarray, "9 3"]:
    """The sky of broad sources: each gives the light of its colour, if alone, to a surface that faces it."""
    Y = harmonics(directions)
    peak = (Y[:1] * COSINE * Y[:1]).sum()
    return ((Y * COSINE).T @ colours / peak).astype(np.float32)


def plain_light() -> Light:
    """An overcast sky and a lamp over the camera's shoulder, always the same."""
    sky = sky_of(np.array([[0.0, -1, 0], [0, 1, 0]]), np.array([[0.45] * 3, [0.2] * 3]))
    to_light = np.array([[-0.35, -0.6, -0.72]], np.float32)
    return Light(sky, to_light / np.linalg.norm(to_light), np.full((1, 3), 0.55, np.float32))


def draw_light(rng: np.random.Generator, scene: Scene) -> Light:
    """Rooms, windows, studios, flashes, dusk, coloured lamps."""
    up = np.array([rng.normal(0, 0.25), -1.0, rng.normal(0, 0.25)])
    up /= np.linalg.norm(up)
    warm = np.exp(rng.normal(0, 0.12) * np.array([1, 0, -1.0]))
    kind = rng.random()
    count = int(rng.integers(1, 4))
    to_light = rng.normal(size=(count, 3)) + np.array([0, -0.6, -0.9])
    power = rng.uniform(0.25, 1.0, (count, 1)) * np.array([1, 0.5, 0.5])[:count, None]
    ambient = rng.uniform(0.15, 0.75)
    if kind < 0.1:  # flash at the camera
        to_light[0], power[0], ambient = np.array([rng.normal(0, 0.1), -0.15, -1.0]), rng.uniform(0.8, 1.3), rng.uniform(0.05, 0.3)
    elif kind < 0.22:  # overcast, or a light tent
        power, ambient = power * rng.uniform(0.05, 0.3), rng.uniform(0.6, 1.0)
    elif kind < 0.32:  # a window at one side, a dark room
        to_light[0] = np.array([rng.choice([-1.0, 1.0]), rng.normal(-0.2, 0.2), rng.normal(-0.1, 0.4)])
        power[0], ambient = rng.uniform(0.6, 1.2), rng.uniform(0.08, 0.25)
    elif kind < 0.38:  # from behind
        to_light[0] = np.array([rng.normal(0, 0.6), -0.5, 1.0])
        power[0], ambient = rng.uniform(0.7, 1.5), rng.uniform(0.15, 0.5)
    to_light /= np.linalg.norm(to_light, axis=1, keepdims=True)
    tint = np.exp(rng.normal(0, 0.08, (count, 3))) * warm
    if rng.random() < 0.08:  # party light
        tint *= np.exp(rng.normal(0, 0.7, (count, 3)))
    broad = int(rng.integers(2, 5))
    sources = np.concatenate([[up, -up], rng.normal(size=(broad, 3)) + 0.4 * up])
    sources /= np.linalg.norm(sources, axis=1, keepdims=True)
    ground = rng.uniform(0.1, 0.6) * np.exp(rng.normal(0, 0.12, 3))
    colours = np.concatenate(
        [[np.ones(3) * 0.7, ground * 0.6], rng.uniform(0.0, 0.7, (broad, 1)) * np.exp(rng.normal(0, 0.18, (broad, 3)))]
    )
    sky = sky_of(sources, colours * np.exp(rng.normal(0, 0.06, 3)) * ambient)
    return Light(sky, to_light.astype(np.float32), (tint * power).astype(np.float32))


def joined(pieces: tuple[Piece, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All pieces as one mesh: vertices, faces, and the piece of each face. There must be one piece at least."""
    starts = np.cumsum([0, *[len(p.vertices_m) for p in pieces]])
    faces = np.concatenate([p.faces + np.int32(s) for p, s in zip(pieces, starts[:-1], strict=True)])
    owner = np.repeat(np.arange(len(pieces), dtype=np.int32), [len(p.faces) for p in pieces])
    return np.concatenate([p.vertices_m for p in pieces]), faces, owner


def shade(scene: Scene, size: int, oversampling: float, light: Light) -> Float32[np.ndarray, "height width 4"]:
    """Linear RGB and coverage at `oversampling` times the size."""
    big = round(size * oversampling)
    out = np.zeros((big, big, 4), np.float32)
    if not scene.pieces:
        return out
    pieces = scene.pieces
    vertices, faces, owner = joined(pieces)
    count = len(vertices)
    colour = np.concatenate([p.colour for p in pieces]).astype(np.float32)
    rest = np.concatenate([p.vertices_m if p.rest_m is None else p.rest_m for p in pieces]).astype(np.float32)
    layers = np.full((count, LAYERS), -1, np.float32)
    own_colour = np.zeros((len(pieces), LAYERS + 1), np.float32)
    table = np.zeros((len(pieces), LAYERS + 1, WIDTH), np.float32)
    start = 0
    for k, p in enumerate(pieces):
        if p.layers is not None:
            layers[start : start + len(p.vertices_m), : p.layers.shape[1]] = p.layers
        for j, material in enumerate(p.materials):
            table[k, j] = material.packed()
            own_colour[k, j] = material.colour is None or j == 0
        start += len(p.vertices_m)
    focal, principal = scene.camera.focal_px.numpy() * oversampling, scene.camera.principal_px.numpy() * oversampling
    raster = rasterize(vertices, faces, focal, principal, big, big)
    normals = smooth_normals(vertices, faces)
    starts = np.cumsum([0, *[len(p.vertices_m) for p in pieces]])
    for weld in scene.welds:
        a, b = weld.first_vertices + starts[weld.first], weld.second_vertices + starts[weld.second]
        total = normals[a] + normals[b]
        normals[a] = normals[b] = total / np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-6)
    hands = [p.vertices_m for p in pieces if p.hand >= 0]
    focus = np.concatenate(hands) if hands else vertices[:: max(1, count // 500)]
    focus = focus[focus[:, 2] > 0.05]
    near = _shadow(vertices, faces, focus if len(focus) else vertices, light.to_light[0])
    body = max(pieces, key=lambda p: len(p.vertices_m)).vertices_m[::17]
    wide = _shadow(vertices, faces, body, light.to_light[0]) if len(body) > 200 else near
    _shade_pixels(
        raster.face, raster.barycentric, raster.depth_m, faces, owner, normals, colour, rest, layers, own_colour, table,
        np.float32(focal), np.float32(principal), light.sky, light.to_light, light.power,
        *near, *wide, noise_volume(), out,
    )  # fmt: skip
    return out


ShadowMap = tuple[np.ndarray, np.ndarray, np.floating, np.ndarray]
"""Rotation and shift into the light's frame, its focal length, and the depth of what is lit."""


def _shadow(vertices: np.ndarray, faces: np.ndarray, focus: np.ndarray, to_light: np.ndarray) -> ShadowMap:
    """What the light sees of the scene, zoomed to `focus`."""
    centre = (focus.max(0) + focus.min(0)) / 2
    radius = max(0.03, float(np.linalg.norm(focus - centre, axis=1).max()))
    z = -to_light.astype(np.float64)
    x = np.cross(z, [0.3, 0.5, 0.8])
    x /= np.linalg.norm(x)
    R = np.stack([x, np.cross(z, x), z])
    far = 12 * max(radius, 0.3)
    shift = np.array([0, 0, far]) - R @ centre
    focal = np.float32(SHADOW_PX / 2 * far / (1.15 * radius))
    middle = np.full(2, SHADOW_PX / 2, np.float32)
    seen = (vertices @ R.T.astype(np.float32) + shift.astype(np.float32)).astype(np.float32)
    return (
        R.astype(np.float32),
        shift.astype(np.float32),
        focal,
        rasterize(seen, faces, np.full(2, focal), middle, SHADOW_PX, SHADOW_PX).depth_m,
    )


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
    return np.float32(0)


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
    bu, bv = np.floor(su), np.floor(sv)
    fu, fv = su - bu, sv - bv
    iu, iv = int(bu), int(bv)
    lit = np.float32(0)
    for dy in range(-1, 3):
        wv = one if 0 <= dy <= 1 else (one - fv if dy == -1 else fv)
        for dx in range(-1, 3):
            wu = one if 0 <= dx <= 1 else (one - fu if dx == -1 else fu)
            if lz < shadow[iv + dy, iu + dx] + bias:
                lit += wu * wv
    return lit / np.float32(9), True


AO_M = np.float32(0.014)
"""How far away on the picture a neighbour may hide the sky."""
_TURNS = np.arange(12) * np.pi * (3 - np.sqrt(5))
AO = (np.stack([np.cos(_TURNS), np.sin(_TURNS)], 1) * np.sqrt((np.arange(12) + 0.7) / 12)[:, None]).astype(np.float32)


@numba.njit(cache=True, fastmath=True)
def _open_sky(u, v, x, y, z, nx, ny, nz, face, depth, focal, principal):
    """How much of the sky is not hidden by what stands near on the picture: fingers darken one another where they meet."""
    one, half = np.float32(1), np.float32(0.5)
    height, width = face.shape
    hidden = np.float32(0)
    near_px = min(max(AO_M * focal[0] / z, np.float32(2)), np.float32(24))
    for k in range(len(AO)):
        au, av = u + int(AO[k, 0] * near_px), v + int(AO[k, 1] * near_px)
        if au < 0 or av < 0 or au >= width or av >= height or face[av, au] < 0:
            continue
        az = depth[av, au]
        dx, dy, dz = (au + half - principal[0]) / focal[0] * az - x, (av + half - principal[1]) / focal[1] * az - y, az - z
        length = np.sqrt(dx * dx + dy * dy + dz * dz + np.float32(1e-9))
        rise = (nx * dx + ny * dy + nz * dz) / length - np.float32(0.12)
        if rise > 0 and length < 3 * AO_M:
            hidden += rise * (one - length / (3 * AO_M))
    return one - min(np.float32(0.85), hidden * np.float32(2.2 / 12))


@numba.njit(cache=True, fastmath=True, error_model="numpy")
def _shade_pixels(
    face, barycentric, depth, faces, owner, normals, colour, rest, layers, own_colour, table, focal, principal, sky, to_light, power,
    R, shift, shadow_focal, shadow, R2, shift2, shadow_focal2, shadow2, volume, out,
):  # fmt: skip
    one, half = np.float32(1), np.float32(0.5)
    height, width = face.shape
    # Shadow and hidden sky are found once for two by two pixels of one surface: they are half of the cost.
    cell_piece = np.full(width // 2 + 1, -1, np.int32)
    cell_z, cell_lit = np.zeros(width // 2 + 1, np.float32), np.zeros(width // 2 + 1, np.float32)
    cell_sky = np.zeros(width // 2 + 1, np.float32)
    for v in range(height):
        if v % 2 == 0:
            cell_piece[:] = -1
        for u in range(width):
            t = face[v, u]
            if t < 0:
                continue
            a, b, c = faces[t, 0], faces[t, 1], faces[t, 2]
            w0, w1, w2 = barycentric[v, u, 0], barycentric[v, u, 1], barycentric[v, u, 2]
            nx = w0 * normals[a, 0] + w1 * normals[b, 0] + w2 * normals[c, 0]
            ny = w0 * normals[a, 1] + w1 * normals[b, 1] + w2 * normals[c, 1]
            nz = w0 * normals[a, 2] + w1 * normals[b, 2] + w2 * normals[c, 2]
            scale = one / np.sqrt(nx * nx + ny * ny + nz * nz + np.float32(1e-12))
            nx, ny, nz = nx * scale, ny * scale, nz * scale
            z = depth[v, u]
            x, y = (u + half - principal[0]) / focal[0] * z, (v + half - principal[1]) / focal[1] * z
            view = one / np.sqrt(x * x + y * y + z * z)
            facing = (nx * x + ny * y + nz * z) * view
            if facing > 0:  # seen from inside (an open sleeve): light the side that is seen
                nx, ny, nz = -nx, -ny, -nz
                facing = -facing
            piece, layer = owner[t], 0
            for k in range(layers.shape[1]):
                if w0 * layers[a, k] + w1 * layers[b, k] + w2 * layers[c, k] > 0:
                    layer = k + 1
            m = table[piece, layer]
            px = w0 * rest[a, 0] + w1 * rest[b, 0] + w2 * rest[c, 0]
            py = w0 * rest[a, 1] + w1 * rest[b, 1] + w2 * rest[c, 1]
            pz = w0 * rest[a, 2] + w1 * rest[b, 2] + w2 * rest[c, 2]
            mix = np.float32(0)
            kind = int(m[6])
            if kind > 0:
                mix = _pattern(kind, px, py, pz, m[7], m[8], m[9], m[10], volume)
            cr, cg, cb = m[0] + (m[3] - m[0]) * mix, m[1] + (m[4] - m[1]) * mix, m[2] + (m[5] - m[2]) * mix
            if own_colour[piece, layer] > 0 and mix == 0:
                cr = w0 * colour[a, 0] + w1 * colour[b, 0] + w2 * colour[c, 0]
                cg = w0 * colour[a, 1] + w1 * colour[b, 1] + w2 * colour[c, 1]
                cb = w0 * colour[a, 2] + w1 * colour[b, 2] + w2 * colour[c, 2]
            if m[11] > 0:
                grain = one + m[11] * noise_at(volume, px * m[12], py * m[12], pz * m[12])
                cr, cg, cb = cr * grain, cg * grain, cb * grain
            cell = u // 2
            if cell_piece[cell] == piece and abs(cell_z[cell] - z) < np.float32(0.004):
                lit, open_sky = cell_lit[cell], cell_sky[cell]
            else:
                lit, reached = _lit(x, y, z, R, shift, shadow_focal, shadow)
                if not reached:
                    lit, reached = _lit(x, y, z, R2, shift2, shadow_focal2, shadow2)
                open_sky = _open_sky(u, v, x, y, z, nx, ny, nz, face, depth, focal, principal)
                cell_piece[cell], cell_z[cell], cell_lit[cell], cell_sky[cell] = piece, z, lit, open_sky
            y1, y2, y3 = np.float32(0.488603) * ny, np.float32(0.488603) * nz, np.float32(0.488603) * nx
            y4, y5, y7 = np.float32(1.092548) * nx * ny, np.float32(1.092548) * ny * nz, np.float32(1.092548) * nx * nz
            y6, y8 = np.float32(0.315392) * (3 * nz * nz - one), np.float32(0.546274) * (nx * nx - ny * ny)
            red = green = blue = np.float32(0.282095)
            red, green, blue = red * sky[0, 0], green * sky[0, 1], blue * sky[0, 2]
            red += (
                y1 * sky[1, 0]
                + y2 * sky[2, 0]
                + y3 * sky[3, 0]
                + y4 * sky[4, 0]
                + y5 * sky[5, 0]
                + y6 * sky[6, 0]
                + y7 * sky[7, 0]
                + y8 * sky[8, 0]
            )
            green += (
                y1 * sky[1, 1]
                + y2 * sky[2, 1]
                + y3 * sky[3, 1]
                + y4 * sky[4, 1]
                + y5 * sky[5, 1]
                + y6 * sky[6, 1]
                + y7 * sky[7, 1]
                + y8 * sky[8, 1]
            )
            blue += (
                y1 * sky[1, 2]
                + y2 * sky[2, 2]
                + y3 * sky[3, 2]
                + y4 * sky[4, 2]
                + y5 * sky[5, 2]
                + y6 * sky[6, 2]
                + y7 * sky[7, 2]
                + y8 * sky[8, 2]
            )
            red, green, blue = max(red, np.float32(0)), max(green, np.float32(0)), max(blue, np.float32(0))
            # Light between skin and skin is red.
            red *= open_sky + m[15] * np.float32(0.25) * (one - open_sky)
            green, blue = green * open_sky, blue * open_sky
            wrap_r = np.float32(0.08) + np.float32(0.3) * m[15]
            wrap_g = np.float32(0.08) + np.float32(0.08) * m[15]
            spark = np.float32(0)
            for k in range(to_light.shape[0]):
                dot = nx * to_light[k, 0] + ny * to_light[k, 1] + nz * to_light[k, 2]
                share = lit if k == 0 else one
                if dot > -wrap_r:
                    red += power[k, 0] * share * (dot + wrap_r) / (one + wrap_r)
                if dot > -wrap_g:
                    green += power[k, 1] * share * (dot + wrap_g) / (one + wrap_g)
                    blue += power[k, 2] * share * (dot + wrap_g) / (one + wrap_g)
                hx, hy, hz = to_light[k, 0] - x * view, to_light[k, 1] - y * view, to_light[k, 2] - z * view
                mirror = (nx * hx + ny * hy + nz * hz) / np.sqrt(hx * hx + hy * hy + hz * hz + np.float32(1e-9))
                if mirror > np.float32(0.6) and dot > 0 and m[13] > np.float32(0.004):
                    spark += share * power[k, 1] * mirror ** m[14]
            grazing = one + facing
            spark = spark * m[13] + np.float32(0.25) * m[13] * green * grazing * grazing * grazing
            out[v, u, 0] = cr * red + spark
            out[v, u, 1] = cg * green + spark
            out[v, u, 2] = cb * blue + spark
            out[v, u, 3] = one
