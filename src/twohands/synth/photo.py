"""Scene to photo: the shaded scene before a background, the camera's faults, and exact maps of what is seen."""

import io
import math
from functools import cache, lru_cache

import numba
import numpy as np
import torch
from jaxtyping import Bool, Float32, UInt8
from PIL import Image, ImageFilter
from torch import Tensor

from twohands.geometry.camera import Camera
from twohands.hands.bundled import load_hand_asset
from twohands.hands.model import HandMesh, HandModel
from twohands.hands.parameters import HandParameters
from twohands.render import Visibility, visibility
from twohands.schema import EXTRA_HANDS, ExtraHands, PriorMaps, Sample
from twohands.synth.backgrounds import DISPLAY_GAMMA, Photos, Scenery, paste_shape, scenery, wall_picture
from twohands.synth.light import draw_light, exposed, light_of_picture, mean_light, plain_light
from twohands.synth.resample import filtered, gaussian, shrunk_and_back
from twohands.synth.scene import Scene, SceneKnobs, build_scene
from twohands.synth.shading import AS_OWN, Joined, joined, shade

Pixels = UInt8[np.ndarray, "3 size size"]
OVERSAMPLING = 1.5
"""Shading happens at this resolution and is averaged down: edges are soft, and it costs 2.25 times, not 4."""
MAP_STRIDE = 4
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


def _small_raster(vertices: np.ndarray, faces: np.ndarray, camera: Camera, height: int, width: int, stride: int) -> Visibility:
    focal, principal = camera.focal_px.numpy() / stride, camera.principal_px.numpy() / stride
    return visibility(vertices, faces, focal, principal, height // stride, width // stride)


def _maps(
    raster: Visibility | None, classes: np.ndarray, mesh: HandMesh, camera: Camera, height: int, width: int, present: Tensor, stride: int
) -> PriorMaps:
    """`classes` holds the segmentation class of each face, 0 for what is no hand."""
    segmentation, depth = np.zeros((height // stride, width // stride), np.uint8), np.zeros((height // stride, width // stride), np.float32)
    if raster is not None:
        _look_up(raster.face, raster.depth_m, classes, segmentation, depth)
    xy = torch.where(present[:, None, None], camera.project(mesh.keypoints_m), 0.0)
    confidence = present[:, None].float().expand(2, 21)
    return PriorMaps(xy, confidence, torch.from_numpy(segmentation), torch.from_numpy(depth))


@numba.njit(cache=True)
def _look_up(face, depth_m, classes, segmentation, depth):
    for v in range(face.shape[0]):
        for u in range(face.shape[1]):
            if face[v, u] >= 0 and classes[face[v, u]] > 0:
                segmentation[v, u], depth[v, u] = classes[face[v, u]], depth_m[v, u]


def take_photo(knobs: SceneKnobs, seed: int, photos: Photos | None = None, pair: HandParameters | None = None) -> Sample:
    """The annotated photo of a seed. `photos` are optional folders of pictures for backgrounds (part of the function's arguments:
    other folders, another photo); `pair` are the hands to show, if not those of the seed."""
    scene = build_scene(knobs, seed, pair)
    rng = np.random.default_rng([seed, 2])
    size = knobs.size_px
    light = draw_light(rng)
    whole = joined(scene.pieces) if scene.pieces else None
    moving = rng.random() < MOVING
    angle, length = (rng.uniform(0, 2 * np.pi), rng.uniform(3, 22)) if moving else (0.0, 0.0)
    moving &= knobs.faults == "varied"
    behind = scenery(rng, size, photos) if knobs.background == "varied" else Scenery(wall_picture(rng, size))
    picture = behind.picture
    own = np.random.default_rng([seed, 8])  # without light from behind, a scene is what it was before that existed
    if knobs.light == "plain":
        light = plain_light()
    elif own.random() < knobs.lit_from_behind:
        light = light_of_picture(picture, own) if behind.light is None else exposed(behind.light, picture)
    thorough = knobs.finish == "thorough"
    if scene.pieces and not moving:
        shaded = shade(scene, size, OVERSAMPLING, light, whole, thorough, _canvas(math.ceil(size * OVERSAMPLING)))
        lay_reduced(shaded.picture, shaded.window, picture)
    elif scene.pieces:
        front = shade(scene, size, OVERSAMPLING, light, whole, thorough).picture
        front = reduced(_smeared(front, angle, length)) if thorough else _smeared(reduced(front), angle, length / OVERSAMPLING)
        lay_over(front, picture)
    if rng.random() < knobs.pasted:
        paste_shape(rng, picture, rng.uniform(0.12, 0.45))
    image = _camera_faults(picture, rng, thorough) if knobs.faults == "varied" else _well_taken(picture)
    return _annotate(scene, image, size, whole)


@lru_cache(maxsize=4)
def _canvas(side: int) -> Float32[np.ndarray, "side side 4"]:
    """What scenes are shaded on, one after the other: two megabytes made anew for each would cost as much as their background."""
    return np.empty((side, side, 4), np.float32)


def _annotate(scene: Scene, image: Pixels, size: int, whole: Joined | None) -> Sample:
    raster = None if whole is None else _small_raster(whole[0], whole[1], scene.camera, size, size, MAP_STRIDE)
    cells = size // MAP_STRIDE
    segmentation, depth_m = np.zeros((cells, cells), np.uint8), np.zeros((cells, cells), np.float32)
    if raster is not None:
        _look_up(raster.face, raster.depth_m, _classes(scene), segmentation, depth_m)
    present = np.array(scene.present)
    points = scene.mesh.keypoints_m
    focal, principal = scene.camera.focal_px.numpy(), scene.camera.principal_px.numpy()
    xy, shown_xy, corners = np.empty((2, 21, 2), np.float32), np.zeros((2, 21, 2), np.float32), np.empty((2, 4), np.float32)
    visible, valid, certain = np.zeros((2, 21), np.float32), np.zeros(2, np.bool_), np.zeros((2, 21), np.float32)
    _project(points.numpy(), focal, principal, present, xy, shown_xy, corners, certain)
    if raster is not None:
        _seen(xy, points[..., 2].numpy(), present, segmentation, raster.depth_m, size, visible, valid)
    there = torch.from_numpy(present)
    return Sample(
        image=torch.from_numpy(image),
        camera=scene.camera,
        hand_valid=torch.from_numpy(valid),
        keypoints_xy=torch.from_numpy(xy),
        keypoint_visible=torch.from_numpy(visible),
        keypoints_camera_m=points,
        keypoints_3d_valid=there[:, None].expand(2, 21),
        parameters=scene.parameters,
        parameters_valid=there,
        box_xyxy_px=torch.from_numpy(corners),
        priors=PriorMaps(*(torch.from_numpy(x) for x in (shown_xy, certain, segmentation, depth_m))),
        source="synthetic",
        extra=_extra(scene, raster, whole, size),
    )


@numba.njit(cache=True)
def _project(points, focal, principal, present, xy, shown_xy, corners, certain):
    """Keypoints on the picture, those of present hands alone with their confidence, and the corners of each hand's box."""
    for h in range(2):
        for k in range(21):
            for c in range(2):
                place = focal[c] * points[h, k, c] / points[h, k, 2] + principal[c]
                xy[h, k, c] = place
                corners[h, c] = place if k == 0 else min(corners[h, c], place)
                corners[h, 2 + c] = place if k == 0 else max(corners[h, 2 + c], place)
                if present[h]:
                    shown_xy[h, k, c] = place
            certain[h, k] = 1 if present[h] else 0


@numba.njit(cache=True)
def _seen(xy, depth, present, segmentation, surface, size, visible, valid):
    """Which joints of each hand are seen on the map, and which hands well enough to be asked for."""
    own = np.zeros(2, np.int64)
    for v in range(segmentation.shape[0]):
        for u in range(segmentation.shape[1]):
            if segmentation[v, u] > 0:
                own[(segmentation[v, u] - 1) // 16] += 1
    for h in range(2):
        inside = 0
        for k in range(21):
            x, y = xy[h, k]
            if not (0 < x < size and 0 < y < size):
                continue
            inside += 1
            u, v = int(x / MAP_STRIDE), int(y / MAP_STRIDE)
            shown = segmentation[v, u] > 0 and (segmentation[v, u] - 1) // 16 == h
            if present[h] and shown and depth[h, k] - surface[v, u] < HAND_THICKNESS_M:
                visible[h, k] = 1
        # A hand of which almost nothing is seen cannot be asked for: a few map cells (fewer of a small hand), or hardly any joint inside
        # the picture. A hand well seen must be asked for, or the detector learns to miss it.
        cells = (xy[h, :, 0].max() - xy[h, :, 0].min()) * (xy[h, :, 1].max() - xy[h, :, 1].min()) / MAP_STRIDE**2
        valid[h] = present[h] and own[h] >= min(max(0.1 * cells, 2.0), 6.0) and inside >= 8


def _extra(scene: Scene, raster: Visibility | None, whole: Joined | None, size: int) -> ExtraHands:
    """Other people's hands, those that are well seen by the same measure as the pair's."""
    points, side = np.zeros((EXTRA_HANDS, 21, 2), np.float32), np.zeros(EXTRA_HANDS, np.uint8)
    valid = np.zeros(EXTRA_HANDS, np.bool_)
    for k, hand in enumerate(scene.extra[:EXTRA_HANDS]):
        focal, principal = scene.camera.focal_px.numpy(), scene.camera.principal_px.numpy()
        if hand.keypoints_m[:, 2].min() < 0.05:
            continue
        assert raster is not None
        assert whole is not None
        xy = focal * hand.keypoints_m[:, :2] / hand.keypoints_m[:, 2:] + principal
        own = int((whole[2][raster.face[raster.face >= 0]] == hand.piece).sum())
        cells = float(np.ptp(xy, axis=0).prod()) / MAP_STRIDE**2
        points[k], side[k] = xy, hand.side
        valid[k] = own >= np.clip(0.1 * cells, 2, 6) and ((xy > 0) & (xy < size)).all(-1).sum() >= 8
    return ExtraHands(torch.from_numpy(points), torch.from_numpy(side), torch.from_numpy(valid))


def _classes(scene: Scene) -> np.ndarray:
    """The segmentation class of every face."""
    classes = np.zeros(sum(len(p.faces) for p in scene.pieces), np.uint8)
    start = 0
    for piece in scene.pieces:
        end = start + len(piece.faces)
        if piece.hand >= 0:
            classes[start:end] = (1 + 16 * piece.hand) + _parts()[piece.faces[:, 0]]
        start = end
    return classes


@cache
def _parts() -> UInt8[np.ndarray, "vert"]:
    return load_hand_asset().part.numpy().astype(np.uint8)


@numba.njit(cache=True, fastmath=True, inline="always")
def _mean_of_samples(shaded, v, u):
    """One pixel of the 1.5-fold picture averaged down: colour times coverage, and coverage. A pixel has a sample of its own, which stands for
    those that were not shaded (`AS_OWN`), shares two with a neighbour and one with three."""
    v0, u0, odd_v, odd_u = 3 * (v // 2) + v % 2, 3 * (u // 2) + u % 2, v % 2, u % 2
    near_v, near_u = v0 + odd_v, u0 + odd_u
    far_v, far_u = v0 + 1 - odd_v, u0 + 1 - odd_u
    r, g, b, cover = shaded[near_v, near_u, 0], shaded[near_v, near_u, 1], shaded[near_v, near_u, 2], shaded[near_v, near_u, 3]
    cover_u, cover_v, cover_w = shaded[near_v, far_u, 3], shaded[far_v, near_u, 3], shaded[far_v, far_u, 3]
    if cover_u == AS_OWN and cover_v == AS_OWN and cover_w == AS_OWN:
        return r, g, b, cover
    area, half, quarter = np.float32(1 / 2.25), np.float32(0.5), np.float32(0.25)
    if cover == 0 and cover_u == 0 and cover_v == 0 and cover_w == 0:
        return r, g, b, cover
    total_r, total_g, total_b, total = r, g, b, cover
    if cover_u == AS_OWN:
        total_r, total_g, total_b, total = total_r + half * r, total_g + half * g, total_b + half * b, total + half * cover
    else:
        total_r, total_g = total_r + half * shaded[near_v, far_u, 0], total_g + half * shaded[near_v, far_u, 1]
        total_b, total = total_b + half * shaded[near_v, far_u, 2], total + half * cover_u
    if cover_v == AS_OWN:
        total_r, total_g, total_b, total = total_r + half * r, total_g + half * g, total_b + half * b, total + half * cover
    else:
        total_r, total_g = total_r + half * shaded[far_v, near_u, 0], total_g + half * shaded[far_v, near_u, 1]
        total_b, total = total_b + half * shaded[far_v, near_u, 2], total + half * cover_v
    if cover_w == AS_OWN:
        total_r, total_g, total_b = total_r + quarter * r, total_g + quarter * g, total_b + quarter * b
        total += quarter * cover
    else:
        total_r, total_g = total_r + quarter * shaded[far_v, far_u, 0], total_g + quarter * shaded[far_v, far_u, 1]
        total_b, total = total_b + quarter * shaded[far_v, far_u, 2], total + quarter * cover_w
    return area * total_r, area * total_g, area * total_b, area * total


@numba.njit(cache=True, fastmath=True)
def reduced(shaded):
    """The 1.5-fold picture averaged down."""
    out = np.empty((2 * shaded.shape[0] // 3, 2 * shaded.shape[1] // 3, 4), np.float32)
    for v in range(out.shape[0]):
        for u in range(out.shape[1]):
            out[v, u, 0], out[v, u, 1], out[v, u, 2], out[v, u, 3] = _mean_of_samples(shaded, v, u)
    return out


@numba.njit(cache=True, fastmath=True)
def lay_reduced(shaded, window, picture):
    """`reduced` and `lay_over` in one, of a window of the 1.5-fold picture."""
    top, bottom, left, right = window
    for v in range(2 * top // 3, min((2 * bottom + 2) // 3, picture.shape[0])):
        for u in range(2 * left // 3, min((2 * right + 2) // 3, picture.shape[1])):
            r, g, b, cover = _mean_of_samples(shaded, v, u)
            if cover > 0:
                rest = np.float32(1) - cover
                picture[v, u, 0] = r + rest * picture[v, u, 0]
                picture[v, u, 1] = g + rest * picture[v, u, 1]
                picture[v, u, 2] = b + rest * picture[v, u, 2]


@numba.njit(cache=True, fastmath=True)
def lay_over(front, picture):
    """What `reduced` gave over the background, in place."""
    for v in range(picture.shape[0]):
        for u in range(picture.shape[1]):
            cover = front[v, u, 3]
            if cover > 0:
                for k in range(3):
                    picture[v, u, k] = front[v, u, k] + (np.float32(1) - cover) * picture[v, u, k]


def _camera_faults(picture: Float32[np.ndarray, "size size 3"], rng: np.random.Generator, thorough: bool) -> Pixels:
    """Exposure, white balance, tone curve, saturation, grey and infrared sensors, blur, motion, noise and JPEG."""
    mean = mean_light(picture, 4) + 1e-4
    # Cameras expose for a middle grey and do not always get it; a dark room stays darker than a bright one.
    gain = 0.19 * np.exp(rng.normal(0, 0.45)) / mean**0.85 / 0.19**0.15
    balance = np.exp(rng.normal(0, 0.06 if rng.random() < 0.8 else 0.2, 3))
    kind = rng.random()
    if kind < 0.08:
        weights, saturation = np.array([0.3, 0.59, 0.11]), 0.0
    elif kind < 0.11:  # infrared: skin is pale whatever its tone
        weights, saturation = np.array([0.9, 0.1, 0.0]), 0.0
    else:
        weights, saturation = np.array([0.3, 0.59, 0.11]), rng.uniform(0.5, 1.3) if rng.random() < 0.5 else 1.0
    curve = (_SOFT if rng.random() < 0.5 else _HARD) ** (np.exp(rng.normal(0, 0.1)) / DISPLAY_GAMMA)
    if rng.random() < 0.5:
        curve = curve + rng.uniform(-0.1, 0.35) * curve * (1 - curve) * (2 * curve - 1)
    if rng.random() < 0.2:  # fog, flare, a cheap screen
        curve = rng.uniform(0.02, 0.2) + curve * rng.uniform(0.65, 0.85)
    encoded = np.empty(picture.shape, np.uint8)
    _develop(picture, np.float32(gain * balance), np.float32(np.clip(curve, 0, 1)), np.float32(weights), np.float32(saturation), encoded)
    image = _unsharp(encoded, rng, thorough)
    if rng.random() < 0.5:
        image = _grainy(image, rng, thorough)
    return _compressed(image, int(rng.uniform(25, 95))) if rng.random() < 0.5 else _planes(image)


def _planes(image: UInt8[np.ndarray, "size size 3"]) -> Pixels:
    """The same picture, one colour after the other."""
    out = np.empty((3, *image.shape[:2]), np.uint8)
    _part(np.ascontiguousarray(image).reshape(len(image), -1), out)
    return out


def _compressed(image: UInt8[np.ndarray, "size size 3"], quality: int) -> Pixels:
    """What JPEG leaves of a picture."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality)
    # With a fourth channel, which holds nothing: so the library keeps it, and need not pack it.
    words = np.frombuffer(Image.open(buffer, formats=("JPEG",)).tobytes("raw", "RGBX"), "<u4")
    out = np.empty((3, *image.shape[:2]), np.uint8)
    _part_words(words.reshape(image.shape[:2]), out)
    return out


@numba.njit(cache=True)
def _part(rows, out):
    for v in range(out.shape[1]):
        row, red, green, blue = rows[v], out[0, v], out[1, v], out[2, v]
        for u in range(np.int32(out.shape[2])):
            red[u], green[u], blue[u] = row[np.uint32(3 * u)], row[np.uint32(3 * u + 1)], row[np.uint32(3 * u + 2)]


@numba.njit(cache=True)
def _part_words(words, out):
    """Of pixels of four bytes each."""
    for v in range(out.shape[1]):
        row, red, green, blue = words[v], out[0, v], out[1, v], out[2, v]
        for u in range(out.shape[2]):
            red[u], green[u], blue[u] = np.uint8(row[u]), np.uint8(row[u] >> np.uint32(8)), np.uint8(row[u] >> np.uint32(16))


def _unsharp(image: UInt8[np.ndarray, "size size 3"], rng: np.random.Generator, thorough: bool) -> UInt8[np.ndarray, "size size 3"]:
    """Of half of the pictures: too few pixels, out of focus, or moved."""
    size = image.shape[0]
    kind = rng.random()
    if kind < 0.25:
        small, cubic = int(size * rng.uniform(0.3, 0.9)), rng.random() < 0.5
        if not thorough:
            return filtered(image, shrunk_and_back(size, small, "cubic" if cubic else "linear"))
        back = Image.Resampling.BICUBIC if cubic else Image.Resampling.BILINEAR
        return np.array(Image.fromarray(image).resize((small, small), Image.Resampling.BILINEAR).resize((size, size), back))
    if kind < 0.42:
        sigma = rng.uniform(0.3, 2.2)
        if not thorough:
            return filtered(image, gaussian(size, sigma))
        return np.array(Image.fromarray(image).filter(ImageFilter.GaussianBlur(sigma)))
    return _motion(image, rng) if kind < 0.5 else image


def _grainy(image: UInt8[np.ndarray, "size size 3"], rng: np.random.Generator, thorough: bool) -> UInt8[np.ndarray, "size size 3"]:
    """With noise, of every colour by itself or of all alike."""
    size = image.shape[0]
    strength, coloured = rng.gamma(1.3, 3.0), rng.random() < 0.6
    noisy = np.empty_like(image)
    if thorough or size > GRAIN_PX:
        grain = rng.standard_normal((size, size, 3 if coloured else 1), np.float32)
        _add_grain(image, np.float32(strength), np.ascontiguousarray(np.broadcast_to(grain, image.shape)), 0, 0, False, noisy)
        return noisy
    # A piece of the stock, some way up: no two of 250,000 are alike.
    v, u = rng.integers(0, GRAIN_PX - size + 1, 2)
    upright, as_it_is = rng.random() < 0.5, rng.random() < 0.5
    stock, left = (_grain(coloured)[0], u) if as_it_is else (_grain(coloured)[1], GRAIN_PX - size - u)
    _add_grain(image, np.float32(strength), stock, v, left, not upright, noisy)
    return noisy


GRAIN_PX = 512
"""Side of the stock of noise; wider pictures get noise of their own."""


@cache
def _grain(coloured: bool) -> tuple[Float32[np.ndarray, "side side 3"], Float32[np.ndarray, "side side 3"]]:
    """The stock, and its mirror image."""
    channels = 3 if coloured else 1
    stock = np.random.default_rng(channels).standard_normal((GRAIN_PX, GRAIN_PX, channels), np.float32)
    stock = np.ascontiguousarray(np.broadcast_to(stock, (GRAIN_PX, GRAIN_PX, 3)))
    return stock, np.ascontiguousarray(stock[:, ::-1])


def _well_taken(picture: Float32[np.ndarray, "size size 3"]) -> Pixels:
    """Exposed for a middle grey and encoded, without any fault."""
    gain = np.float32(0.19) / (picture[::4, ::4].mean() + np.float32(1e-4))
    return _planes((np.clip(picture * gain, 0, 1) ** np.float32(1 / DISPLAY_GAMMA) * 255).astype(np.uint8))


CURVE, CURVE_TOP = 1024, 4.0
"""Entries of the tone curve, and the light at its last one."""
_HARD = np.linspace(0, 1, CURVE) ** 2 * CURVE_TOP
_SOFT = (_HARD * (1 + _HARD / 9) / (1 + 0.6 * _HARD)).clip(0, 1)
_HARD = _HARD.clip(0, 1)


@numba.njit(cache=True)
def _add_grain(image, strength, grain, first, left, turned, out):
    """Adds a piece of the grain, from its row `first` and column `left` on, upside down if `turned`."""
    height, width = image.shape[0], 3 * image.shape[1]
    pixels, noisy, stock = image.reshape(height, width), out.reshape(height, width), grain.reshape(grain.shape[0], 3 * grain.shape[1])
    low, high = np.float32(0), np.float32(255)
    for v in range(height):
        row = stock[first + (height - 1 - v if turned else v), 3 * left : 3 * left + width]
        for i in range(width):
            noisy[v, i] = np.uint8(np.int32(min(max(np.float32(pixels[v, i]) + strength * row[i], low), high)))


@numba.njit(cache=True, fastmath=True)
def _develop(picture, gain, curve, weights, saturation, out):
    """Gain, tone curve (its entries lie at the squares of even steps: dark tones need more), saturation; 0 to 255."""
    last = curve.shape[0] - 1
    scale = np.float32(last) / np.sqrt(np.float32(CURVE_TOP))
    ends, zero, one, full = np.float32(last), np.float32(0), np.float32(1), np.float32(255)
    pairs = np.zeros((last + 1, 2), np.float32)  # each entry, and the step to the next
    for j in range(last + 1):
        pairs[j, 0], pairs[j, 1] = curve[j], curve[min(j + 1, last)] - curve[j]
    count = 3 * picture.shape[1]
    gains = np.empty(count, np.float32)
    for i in range(count):
        gains[i] = gain[i % 3]
    light, encoded = picture.reshape(picture.shape[0], count), out.reshape(picture.shape[0], count)
    place, shown = np.empty(count, np.float32), np.empty(count, np.float32)
    entry = np.empty(count, np.int32)
    for v in range(picture.shape[0]):  # one thing at a time along a row, so that the processor does many at once
        for i in range(count):
            place[i] = min(np.sqrt(max(light[v, i] * gains[i], zero)) * scale, ends)
            entry[i] = np.int32(place[i])
        for i in range(count):
            e = np.uint32(entry[i])
            shown[i] = pairs[e, 0] + pairs[e, 1] * (place[i] - np.float32(entry[i]))
        if saturation != one:
            for i in range(0, count, 3):
                grey = weights[0] * shown[i] + weights[1] * shown[i + 1] + weights[2] * shown[i + 2]
                for j in range(i, i + 3):
                    shown[j] = grey + (shown[j] - grey) * saturation
        for i in range(count):
            encoded[v, i] = np.uint8(np.int32(min(max(shown[i], zero), one) * full))


MOVING = 0.07
"""Scenes in which hands (and who they belong to) move during the exposure while the room stands still."""


def _smeared(shaded: Float32[np.ndarray, "height width 4"], angle: float, length: float) -> Float32[np.ndarray, "height width 4"]:
    """The mean over a straight motion of `length` pixels, centred on where the annotation is."""
    out = np.empty_like(shaded)
    _smear(shaded, np.float32(np.cos(angle)), np.float32(np.sin(angle)), np.float32(length), out)
    return out


@numba.njit(cache=True, fastmath=True)
def _smear(shaded, dx, dy, length, out):
    height, width = shaded.shape[:2]
    steps = int(length / 1.5) + 2
    out[:] = 0
    part = np.float32(1) / steps
    for i in range(steps):
        s = (np.float32(i) / (steps - 1) - np.float32(0.5)) * length
        du, dv = int(np.floor(dx * s + np.float32(0.5))), int(np.floor(dy * s + np.float32(0.5)))
        first, last = max(0, -du), min(width, width - du)
        for v in range(height):
            source, target = shaded[min(max(v + dv, 0), height - 1)], out[v]
            for u in range(first):
                for k in range(4):
                    target[u, k] += part * source[0, k]
            for u in range(first, last):
                for k in range(4):
                    target[u, k] += part * source[u + du, k]
            for u in range(last, width):
                for k in range(4):
                    target[u, k] += part * source[width - 1, k]


def _motion(image: UInt8[np.ndarray, "size size 3"], rng: np.random.Generator) -> UInt8[np.ndarray, "size size 3"]:
    """The mean of a few shifted copies."""
    pixels = image.astype(np.float32)
    steps = int(rng.integers(3, 9))
    angle = rng.uniform(0, np.pi)
    total = np.zeros_like(pixels)
    for k in range(steps):
        shift = (k - steps / 2) * rng.uniform(0.8, 1.6)
        total += np.roll(pixels, (round(np.sin(angle) * shift), round(np.cos(angle) * shift)), (0, 1))
    return (total / steps).astype(np.uint8)
