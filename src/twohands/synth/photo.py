"""Scene to photo: the shaded scene before a background, through a camera, and exact maps of what is seen."""

import math
from dataclasses import dataclass
from functools import cache, lru_cache

import numba
import numpy as np
import torch
from jaxtyping import Bool, Float32, UInt8
from torch import Tensor

from twohands.geometry.camera import Camera
from twohands.hands.bundled import load_hand_asset
from twohands.hands.model import HandMesh, HandModel
from twohands.hands.parameters import HandParameters
from twohands.render import Visibility, visibility
from twohands.schema import EXTRA_HANDS, ExtraHands, PriorMaps, Sample
from twohands.synth.backgrounds import Photos, Scenery, paste_shape, scenery, wall_picture
from twohands.synth.faults import Pixels, taken, well_taken
from twohands.synth.light import draw_light, exposed, light_of_picture, plain_light
from twohands.synth.posing import annotated_points
from twohands.synth.scene import Scene, SceneKnobs, build_scene
from twohands.synth.shading import AS_OWN, Joined, joined, shade

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
    return annotated(photographed(knobs, seed, photos, pair))


@dataclass(frozen=True)
class Photograph:
    """A scene and what a camera made of it."""

    scene: Scene
    image: Pixels
    whole: Joined | None
    """The scene's pieces `joined`, if there are any."""


def photographed(knobs: SceneKnobs, seed: int, photos: Photos | None = None, pair: HandParameters | None = None) -> Photograph:
    """The photo of a seed; see `take_photo`."""
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
    image = taken(picture, rng, thorough) if knobs.faults == "varied" else well_taken(picture)
    return Photograph(scene, image, whole)


@lru_cache(maxsize=4)
def _canvas(side: int) -> Float32[np.ndarray, "side side 4"]:
    """What scenes are shaded on, one after the other: two megabytes made anew for each would cost as much as their background."""
    return np.empty((side, side, 4), np.float32)


def annotated(photograph: Photograph) -> Sample:
    """With all that is known of it: joints, which of them are seen, parameters, and maps of parts and depth."""
    scene, image, whole = photograph.scene, photograph.image, photograph.whole
    size = image.shape[1]
    raster = None if whole is None else _small_raster(whole[0], whole[1], scene.camera, size, size, MAP_STRIDE)
    cells = size // MAP_STRIDE
    segmentation, depth_m = np.zeros((cells, cells), np.uint8), np.zeros((cells, cells), np.float32)
    if raster is not None:
        _look_up(raster.face, raster.depth_m, _classes(scene), segmentation, depth_m)
    present = np.array(scene.present)
    points = torch.from_numpy(annotated_points(scene.mesh.keypoints_m.numpy()))
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
        marks_m = annotated_points(hand.keypoints_m)
        if marks_m[:, 2].min() < 0.05:
            continue
        assert raster is not None
        assert whole is not None
        xy = focal * marks_m[:, :2] / marks_m[:, 2:] + principal
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
