"""Scene to photo: shading with shadows, the camera's faults, and exact maps of what is seen."""

import io
from pathlib import Path

import numba
import numpy as np
import torch
from jaxtyping import Bool, Float32
from PIL import Image, ImageFilter
from torch import Tensor

from twohands.geometry.camera import Camera
from twohands.hands.bundled import load_hand_asset
from twohands.hands.model import HandMesh, HandModel
from twohands.hands.parameters import HandParameters
from twohands.render import Raster, rasterize, smooth_normals
from twohands.schema import PriorMaps, Sample
from twohands.synth.backgrounds import background, paste_shape
from twohands.synth.scene import Scene, SceneKnobs, build_scene

OVERSAMPLING = 1.5
"""Shading happens at this resolution and is averaged down: edges are soft, and it costs 2.25 times, not 4."""
MAP_STRIDE = 4
SHADOW_PX = 128
HAND_THICKNESS_M = 0.016
"""A joint counts as seen if the first surface at its pixel is its own hand's, at most this far before it."""


def hand_maps(
    hand: HandModel, mesh: HandMesh, camera: Camera, height: int, width: int, present: Bool[Tensor, "hand"], stride: int = MAP_STRIDE
) -> PriorMaps:
    """What the perfect teacher says of two hands alone: segmentation by part and depth at 1 / stride of the image's resolution."""
    part = load_hand_asset().part.numpy()
    vertices = [mesh.vertices_m[h].numpy() for h in (0, 1) if present[h]]
    faces, classes, start = [], [], 0
    for h in (0, 1):
        if present[h]:
            f = hand.faces[h].numpy()
            faces.append(f + start)
            classes.append(1 + 16 * h + part[f[:, 0]])
            start += mesh.vertices_m.shape[1]
    if not vertices:
        return _maps(None, np.zeros(0), mesh, camera, height, width, present, stride)
    raster = _small_raster(np.concatenate(vertices), np.concatenate(faces), camera, height, width, stride)
    return _maps(raster, np.concatenate(classes), mesh, camera, height, width, present, stride)


def _small_raster(vertices: np.ndarray, faces: np.ndarray, camera: Camera, height: int, width: int, stride: int) -> Raster:
    focal, principal = camera.focal_px.numpy() / stride, camera.principal_px.numpy() / stride
    return rasterize(vertices, faces, focal, principal, height // stride, width // stride)


def _maps(
    raster: Raster | None, classes: np.ndarray, mesh: HandMesh, camera: Camera, height: int, width: int, present: Tensor, stride: int
) -> PriorMaps:
    """`classes` holds the segmentation class of each face, 0 for what is no hand."""
    segmentation = np.zeros((height // stride, width // stride), np.uint8)
    depth = np.zeros(segmentation.shape, np.float32)
    if raster is not None:
        seen = raster.face >= 0
        segmentation[seen] = classes[raster.face[seen]]
        depth[segmentation > 0] = raster.depth_m[segmentation > 0]
    xy = torch.where(present[:, None, None], camera.project(mesh.keypoints_m), 0.0)
    confidence = present[:, None].float().expand(2, 21)
    return PriorMaps(xy, confidence, torch.from_numpy(segmentation), torch.from_numpy(depth))


def take_photo(knobs: SceneKnobs, seed: int, photos: Path | None = None, pair: HandParameters | None = None) -> Sample:
    """The annotated photo of a seed. `photos` is an optional folder of pictures for backgrounds (part of the function's arguments: another
    folder, another photo); `pair` are the hands to show, if not those of the seed."""
    scene = build_scene(knobs, seed, pair)
    rng = np.random.default_rng([seed, 2])
    size = knobs.size_px
    shaded = shade(scene, size, rng)
    picture = background(rng, size, photos)
    compose(shaded, picture)
    if rng.random() < 0.18:
        picture = paste_shape(rng, picture, rng.uniform(0.12, 0.45))
    image = _camera_faults(picture, rng)
    return _annotate(scene, image, size, seed)


def _annotate(scene: Scene, image: np.ndarray, size: int, seed: int) -> Sample:
    part = load_hand_asset().part.numpy()
    vertices, faces, classes = _joined(scene, part)
    raster = _small_raster(vertices, faces, scene.camera, size, size, MAP_STRIDE) if len(faces) else None
    present = torch.tensor(scene.present)
    maps = _maps(raster, classes, scene.mesh, scene.camera, size, size, present, MAP_STRIDE)
    xy = scene.camera.project(scene.mesh.keypoints_m)
    visible = _visible(scene, raster, classes, xy.numpy(), size)
    assert maps.segmentation is not None
    own = torch.stack([((maps.segmentation > 16 * h) & (maps.segmentation <= 16 * h + 16)).sum() for h in (0, 1)])
    # A hand of which almost nothing is seen cannot be asked for: a few map cells, or hardly any joint inside the picture.
    inside = ((xy > 0) & (xy < size)).all(-1).sum(1)
    valid = present & (own >= 6) & (inside >= 8)
    return Sample(
        image=torch.from_numpy(image).permute(2, 0, 1).contiguous(),
        camera=scene.camera,
        hand_valid=valid,
        keypoints_xy=xy,
        keypoint_visible=torch.from_numpy(visible),
        keypoints_camera_m=scene.mesh.keypoints_m,
        keypoints_3d_valid=present[:, None].expand(2, 21),
        parameters=scene.parameters,
        parameters_valid=present,
        box_xyxy_px=torch.cat([xy.amin(1), xy.amax(1)], -1),
        priors=maps,
        source="synthetic",
    )


def _joined(scene: Scene, part: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All pieces as one mesh with the segmentation class of every face."""
    if not scene.pieces:
        return np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int32), np.zeros(0, np.uint8)
    starts = np.cumsum([0, *[len(p.vertices_m) for p in scene.pieces]])
    faces = np.concatenate([p.faces + s for p, s in zip(scene.pieces, starts[:-1], strict=True)])
    classes = [1 + 16 * p.hand + part[p.faces[:, 0]] if p.hand >= 0 else np.zeros(len(p.faces)) for p in scene.pieces]
    return np.concatenate([p.vertices_m for p in scene.pieces]), faces, np.concatenate(classes).astype(np.uint8)


def _visible(scene: Scene, raster: Raster | None, classes: np.ndarray, xy: np.ndarray, size: int) -> np.ndarray:
    visible = np.zeros((2, 21), np.float32)
    if raster is None:
        return visible
    depth = scene.mesh.keypoints_m[..., 2].numpy()
    cell = np.floor(xy / MAP_STRIDE).astype(int)
    limit = size // MAP_STRIDE
    for h in (0, 1):
        for k in range(21):
            u, v = cell[h, k]
            if scene.present[h] and 0 <= u < limit and 0 <= v < limit and raster.face[v, u] >= 0:
                seen = int(classes[raster.face[v, u]])
                visible[h, k] = (seen - 1) // 16 == h and seen > 0 and depth[h, k] - raster.depth_m[v, u] < HAND_THICKNESS_M
    return visible


def shade(scene: Scene, size: int, rng: np.random.Generator) -> Float32[np.ndarray, "height width 4"]:
    """Linear RGB and coverage at OVERSAMPLING times the size."""
    big = round(size * OVERSAMPLING)
    out = np.zeros((big, big, 4), np.float32)
    if not scene.pieces:
        return out
    vertices, faces, _ = _joined(scene, load_hand_asset().part.numpy())
    colour = np.concatenate([p.colour for p in scene.pieces]).astype(np.float32)
    shine = np.concatenate([np.tile(np.array([p.specular, p.gloss], np.float32), (len(p.faces), 1)) for p in scene.pieces])
    focal, principal = scene.camera.focal_px.numpy() * OVERSAMPLING, scene.camera.principal_px.numpy() * OVERSAMPLING
    raster = rasterize(vertices, faces, focal, principal, big, big)
    normals = smooth_normals(vertices, faces)
    count = rng.integers(1, 4)
    to_light = rng.normal(size=(count, 3)) + np.array([0, -0.6, -0.9])
    to_light /= np.linalg.norm(to_light, axis=1, keepdims=True)
    tint = np.exp(rng.normal(0, 0.1, (count, 3)) + rng.normal(0, 0.12, 3) * np.array([1, 0, -1]))
    power = rng.uniform(0.25, 1.0, (count, 1)) * np.array([1, 0.5, 0.5])[:count, None]
    ambient = np.exp(rng.normal(0, 0.08, 3)) * rng.uniform(0.15, 0.75)
    up = np.array([rng.normal(0, 0.3), -1.0, rng.normal(0, 0.3)])
    hands = [p.vertices_m for p in scene.pieces if p.hand >= 0]
    focus = np.concatenate(hands) if hands else vertices
    centre, radius = focus.mean(0), max(0.03, float(np.linalg.norm(focus - focus.mean(0), axis=1).max()))
    z = -to_light[0]
    x = np.cross(z, [0.3, 0.5, 0.8])
    x /= np.linalg.norm(x)
    R = np.stack([x, np.cross(z, x), z])
    far = 12 * radius
    shift = np.array([0, 0, far]) - R @ centre
    shadow_focal = np.float32(SHADOW_PX / 2 * far / (1.15 * radius))
    middle = np.full(2, SHADOW_PX / 2, np.float32)
    from_light = rasterize((vertices @ R.T + shift).astype(np.float32), faces, np.full(2, shadow_focal), middle, SHADOW_PX, SHADOW_PX)
    _shade_pixels(
        raster.face, raster.barycentric, raster.depth_m, faces, normals, colour, shine, np.float32(focal), np.float32(principal),
        np.float32(to_light), np.float32(tint * power), np.float32(ambient), np.float32(up / np.linalg.norm(up)),
        np.float32(R), np.float32(shift), shadow_focal, from_light.depth_m, out,
    )  # fmt: skip
    return out


@numba.njit(cache=True, fastmath=True, error_model="numpy")
def _shade_pixels(
    face,
    barycentric,
    depth,
    faces,
    normals,
    colour,
    shine,
    focal,
    principal,
    to_light,
    power,
    ambient,
    up,
    R,
    shift,
    shadow_focal,
    shadow,
    out,
):
    one, half = np.float32(1), np.float32(0.5)
    side = shadow.shape[0]
    for v in range(face.shape[0]):
        for u in range(face.shape[1]):
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
            if nx * x + ny * y + nz * z > 0:  # seen from inside (an open sleeve): light the side that is seen
                nx, ny, nz = -nx, -ny, -nz
            lx = R[0, 0] * x + R[0, 1] * y + R[0, 2] * z + shift[0]
            ly = R[1, 0] * x + R[1, 1] * y + R[1, 2] * z + shift[1]
            lz = R[2, 0] * x + R[2, 1] * y + R[2, 2] * z + shift[2]
            su, sv = shadow_focal * lx / lz + side * half - half, shadow_focal * ly / lz + side * half - half
            lit = np.float32(0)
            for dy in range(2):
                for dx in range(2):
                    iu, iv = int(np.floor(su)) + dx, int(np.floor(sv)) + dy
                    fu, fv = su - np.floor(su), sv - np.floor(sv)
                    weight = (fu if dx else one - fu) * (fv if dy else one - fv)
                    if iu < 0 or iv < 0 or iu >= side or iv >= side or lz < shadow[iv, iu] + np.float32(0.005):
                        lit += weight
            sky = np.float32(0.6) + np.float32(0.4) * (half + half * (nx * up[0] + ny * up[1] + nz * up[2]))
            red, green, blue, spark = ambient[0] * sky, ambient[1] * sky, ambient[2] * sky, np.float32(0)
            for k in range(to_light.shape[0]):
                dot = (nx * to_light[k, 0] + ny * to_light[k, 1] + nz * to_light[k, 2] + np.float32(0.15)) / np.float32(1.15)
                if dot < 0:
                    continue
                share = lit if k == 0 else one
                red += power[k, 0] * dot * share
                green += power[k, 1] * dot * share
                blue += power[k, 2] * dot * share
                hx, hy, hz = to_light[k, 0] - x * view, to_light[k, 1] - y * view, to_light[k, 2] - z * view
                mirror = (nx * hx + ny * hy + nz * hz) / np.sqrt(hx * hx + hy * hy + hz * hz + np.float32(1e-9))
                if mirror > np.float32(0.6):
                    spark += share * power[k, 1] * mirror ** shine[t, 1]
            spark *= shine[t, 0]
            out[v, u, 0] = (w0 * colour[a, 0] + w1 * colour[b, 0] + w2 * colour[c, 0]) * red + spark
            out[v, u, 1] = (w0 * colour[a, 1] + w1 * colour[b, 1] + w2 * colour[c, 1]) * green + spark
            out[v, u, 2] = (w0 * colour[a, 2] + w1 * colour[b, 2] + w2 * colour[c, 2]) * blue + spark
            out[v, u, 3] = one


@numba.njit(cache=True, fastmath=True)
def compose(shaded, picture):
    """Averages the 1.5-fold picture down and lays it over the background, in place."""
    area = np.float32(1 / 2.25)
    for v in range(picture.shape[0]):
        v0 = 3 * (v // 2) + v % 2
        wv = np.float32(0.5) if v % 2 else np.float32(1)
        for u in range(picture.shape[1]):
            u0 = 3 * (u // 2) + u % 2
            wu = np.float32(0.5) if u % 2 else np.float32(1)
            xv, xu = np.float32(1.5) - wv, np.float32(1.5) - wu
            total = wv * (wu * shaded[v0, u0, 3] + xu * shaded[v0, u0 + 1, 3]) + xv * (
                wu * shaded[v0 + 1, u0, 3] + xu * shaded[v0 + 1, u0 + 1, 3]
            )
            cover = area * total
            if cover == 0:
                continue
            for k in range(3):
                value = wv * (wu * shaded[v0, u0, k] + xu * shaded[v0, u0 + 1, k]) + xv * (
                    wu * shaded[v0 + 1, u0, k] + xu * shaded[v0 + 1, u0 + 1, k]
                )
                picture[v, u, k] = area * value + (1 - cover) * picture[v, u, k]


def _camera_faults(picture: Float32[np.ndarray, "size size 3"], rng: np.random.Generator) -> np.ndarray:
    """White balance, exposure, gamma, saturation, grey sensors, blur, motion, noise and JPEG; uint8 out."""
    if rng.random() < 0.8:
        picture = picture * rng.uniform(0.82, 1.18, 3).astype(np.float32)
    if rng.random() < 0.15:  # dim light, strongly tinted (multi-camera rigs, evening rooms)
        picture = picture * np.float32(rng.uniform(0.35, 0.8)) * rng.uniform(0.7, 1.2, 3).astype(np.float32)
    picture = np.clip(picture, 0, 1) ** np.float32(np.exp(rng.normal(-0.35, 0.3)))
    if rng.random() < 0.5:
        mean = picture.mean()
        picture = (picture - mean) * np.float32(rng.uniform(0.6, 1.3)) + mean + np.float32(rng.normal(0, 0.05))
    if rng.random() < 0.35:
        grey = picture.mean(2, keepdims=True)
        picture = grey + (picture - grey) * np.float32(rng.uniform(0.1, 1.5))
    if rng.random() < 0.1:
        picture = np.repeat((picture @ np.array([0.3, 0.59, 0.11], np.float32))[..., None], 3, 2)
    image = Image.fromarray((np.clip(picture, 0, 1) * 255).astype(np.uint8))
    size = image.width
    kind = rng.random()
    if kind < 0.25:
        small = int(size * rng.uniform(0.3, 0.9))
        back = Image.Resampling.BICUBIC if rng.random() < 0.5 else Image.Resampling.BILINEAR
        image = image.resize((small, small), Image.Resampling.BILINEAR).resize((size, size), back)
    elif kind < 0.45:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 2.2)))
    elif kind < 0.53:
        image = _motion(image, rng)
    if rng.random() < 0.6:
        strength = rng.gamma(1.5, 3.5)
        grain = rng.standard_normal((size, size, 3 if rng.random() < 0.6 else 1), np.float32)
        image = Image.fromarray(np.clip(np.asarray(image) + np.float32(strength) * grain, 0, 255).astype(np.uint8))
    if rng.random() < 0.5:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=int(rng.uniform(25, 95)))
        image = Image.open(buffer)
    return np.asarray(image).copy()


def _motion(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """The mean of a few shifted copies."""
    pixels = np.asarray(image).astype(np.float32)
    steps = int(rng.integers(3, 9))
    angle = rng.uniform(0, np.pi)
    total = np.zeros_like(pixels)
    for k in range(steps):
        shift = (k - steps / 2) * rng.uniform(0.8, 1.6)
        total += np.roll(pixels, (round(np.sin(angle) * shift), round(np.cos(angle) * shift)), (0, 1))
    return Image.fromarray((total / steps).astype(np.uint8))
