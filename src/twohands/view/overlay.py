"""Hands drawn over the photo: left blue, right orange, the nearer one in front, and views from elsewhere beside it."""

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from PIL import Image, ImageDraw

from twohands.geometry.camera import Camera
from twohands.geometry.mesh import vertex_normals
from twohands.geometry.rotations import axis_rotation
from twohands.hands.model import HandModel
from twohands.joints import OPENPOSE21_BONES
from twohands.palette import HAND_RGB
from twohands.render import interpolate, rasterize
from twohands.schema import PhotoResult, TwoHands

LARGEST_OVERLAY_PX = 1920
"""Longer side; larger photos are shrunk, for a PNG of a 12-megapixel photo has 20 MB."""
SUPERSAMPLING = 2
LIGHT = (-0.45, -0.7, -0.55)
"""Direction to the light in the camera frame: from above, left, and behind the camera."""
PAPER_RGB = (245, 245, 242)

_VIEW_FOV_DEG = 30.0


@dataclass(frozen=True)
class Scene:
    """All hands of a photo as one mesh in the camera frame, so that one depth buffer decides what is in front."""

    vertices_m: Float[torch.Tensor, "vert 3"]
    normals: Float[torch.Tensor, "vert 3"]
    faces: Int[torch.Tensor, "face 3"]
    face_rgb: UInt8[np.ndarray, "face 3"]

    @staticmethod
    def of(people: tuple[TwoHands, ...], model: HandModel) -> "Scene | None":
        """None if there are no hands."""
        meshes = [
            (person.vertices_m[hand], model.faces[hand], np.array(HAND_RGB[hand], np.uint8))
            for person in people
            for hand in (0, 1)
            if person.hand_present[hand]
        ]
        return Scene.of_meshes(meshes) if meshes else None

    @staticmethod
    def of_meshes(meshes: list[tuple[torch.Tensor, torch.Tensor, np.ndarray]]) -> "Scene":
        """Of (vertices, faces, a colour, or one a vertex); at least one."""
        vertices, normals, faces, colours = [], [], [], []
        offset = 0
        for v, f, colour in meshes:
            v = v.float()
            vertices.append(v)
            normals.append(vertex_normals(v, f))
            faces.append(f + offset)
            # A face has the middle of its corners' colours.
            colours.append(np.broadcast_to(colour, (len(v), 3))[f.numpy()].mean(1).round().astype(np.uint8))
            offset += len(v)
        return Scene(torch.cat(vertices), torch.cat(normals), torch.cat(faces), np.concatenate(colours))

    def turned(self, yaw_rad: float, pitch_rad: float) -> "tuple[Scene, Camera]":
        """The hands turned about their middle (yaw, then pitch), and a camera of one pixel that sees all of them."""
        R_view_camera = axis_rotation(0, torch.tensor(pitch_rad)) @ axis_rotation(1, torch.tensor(yaw_rad))
        middle = (self.vertices_m.amin(0) + self.vertices_m.amax(0)) / 2
        centred = (self.vertices_m - middle) @ R_view_camera.T
        camera = Camera.from_fov(1, 1, _VIEW_FOV_DEG)
        radius = float(centred.norm(dim=-1).max())
        distance = 1.05 * radius / math.sin(math.radians(_VIEW_FOV_DEG) / 2)
        placed = centred + torch.tensor([0.0, 0.0, distance])
        return Scene(placed, self.normals @ R_view_camera.T, self.faces, self.face_rgb), camera


def draw_overlay(
    result: PhotoResult,
    model: HandModel,
    opacity: float = 0.85,
    skeleton: bool = False,
    longer_side_px: int | None = None,
) -> UInt8[np.ndarray, "height width 3"]:
    """The photo with the hands over it: meshes of some opacity (0: none), skeletons if asked for. `model` is the pipeline's `hand_model`.

    The picture has the photo's size, but at most LARGEST_OVERLAY_PX on its longer side; or `longer_side_px`, which may enlarge it."""
    picture, scale = drawn_size(result, longer_side_px)
    scene = Scene.of(result.people, model)
    if scene is not None and opacity > 0:
        picture = painted(picture, scene, scaled_camera(result.people[0].camera, scale), opacity)
    return _with_skeletons(picture, result, scale) if skeleton else picture.copy()


def drawn_size(result: PhotoResult, longer_side_px: int | None = None) -> tuple[UInt8[np.ndarray, "height width 3"], float]:
    """The photo at the size it is drawn at, and that size over its own."""
    longer = longer_side_px or min(LARGEST_OVERLAY_PX, max(result.width_px, result.height_px))
    scale = longer / max(result.width_px, result.height_px)
    photo = Image.fromarray(result.image)
    if scale != 1:
        size = (max(1, round(result.width_px * scale)), max(1, round(result.height_px * scale)))
        photo = photo.resize(size, Image.Resampling.LANCZOS)
    return np.asarray(photo).copy(), scale


def draw_view(
    result: PhotoResult, model: HandModel, size_px: int = 480, yaw_deg: float = 60.0, pitch_deg: float = 20.0
) -> UInt8[np.ndarray, "size size 3"]:
    """The hands of the surest person alone, seen from elsewhere: what is wrong in depth shows there."""
    scene = Scene.of(result.people[:1], model)
    if scene is None:
        return np.full((size_px, size_px, 3), PAPER_RGB, np.uint8)
    return draw_turned(scene, size_px, yaw_deg, pitch_deg)


def draw_turned(scene: Scene, size_px: int, yaw_deg: float, pitch_deg: float) -> UInt8[np.ndarray, "size size 3"]:
    """A scene alone, turned about its middle."""
    paper = np.full((size_px, size_px, 3), PAPER_RGB, np.uint8)
    turned, camera = scene.turned(math.radians(yaw_deg), math.radians(pitch_deg))
    return painted(paper, turned, scaled_camera(camera, size_px), 1.0)


def side_by_side(result: PhotoResult, model: HandModel, height_px: int = 480) -> UInt8[np.ndarray, "height width 3"]:
    """In one row: the photo, the meshes over it, the skeletons over it, and the hands of the surest person seen from the side."""
    longer = round(max(result.width_px, result.height_px) * height_px / result.height_px)
    # Photos are brought to size before anything is drawn, so that the drawing is sharp on small ones too.
    panels = [draw_overlay(result, model, opacity, skeleton, longer) for opacity, skeleton in ((0.0, False), (0.85, False), (0.0, True))]
    gap = np.full((panels[0].shape[0], 4, 3), 255, np.uint8)
    row = [p for panel in panels for p in (panel, gap)]
    return np.concatenate([*row, draw_view(result, model, panels[0].shape[0])], 1)


def write_picture(path: Path, picture: UInt8[np.ndarray, "height width 3"]) -> None:
    """A PNG, written beside its place and renamed."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        Image.fromarray(picture).save(part, format="PNG", compress_level=4)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def scaled_camera(camera: Camera, factor: float) -> Camera:
    """The camera of the same picture at another size."""
    return camera.map(lambda t: t * factor)


def painted(
    picture: UInt8[np.ndarray, "height width 3"], scene: Scene, camera: Camera, opacity: float, paint: "Paint | None" = None
) -> UInt8[np.ndarray, "height width 3"]:
    """The scene over a picture, shaded or as `paint` draws it. Drawn at SUPERSAMPLING times the size and averaged down, which smooths the edges;
    only the part of the picture where the hands are is drawn."""
    height, width = picture.shape[:2]
    xy = camera.project(scene.vertices_m)
    low = xy.amin(0).floor().long().clamp(min=0)
    high = torch.minimum(xy.amax(0).ceil().long() + 1, torch.tensor([width, height]))
    if not bool((high > low).all()):
        return picture
    window = scaled_camera(Camera(camera.focal_px, camera.principal_px - low), SUPERSAMPLING)
    columns, rows = (high - low).tolist()
    rgba = (paint or shaded)(scene, window, columns * SUPERSAMPLING, rows * SUPERSAMPLING)
    rgba = rgba.reshape(rows, SUPERSAMPLING, columns, SUPERSAMPLING, 4).mean((1, 3))
    x, y = low.tolist()
    under = picture[y : y + rows, x : x + columns]
    painted = picture.copy()
    # Colours are premultiplied by coverage, as averaging across an edge needs.
    painted[y : y + rows, x : x + columns] = np.rint(rgba[..., :3] * opacity + under * (1 - rgba[..., 3:] * opacity)).clip(0, 255)
    return painted


Paint: TypeAlias = Callable[[Scene, Camera, int, int], np.ndarray]
"""(scene, camera, width, height) to colour 0..255, premultiplied, and coverage 0..1, (height, width, 4)."""


def shaded(scene: Scene, camera: Camera, width: int, height: int) -> Float[np.ndarray, "height width 4"]:
    """Shaded colour 0..255, premultiplied, and coverage 0 or 1."""
    faces = scene.faces.numpy().astype(np.int32)
    raster = rasterize(scene.vertices_m.numpy(), faces, camera.focal_px.numpy(), camera.principal_px.numpy(), height, width)
    seen = raster.face >= 0
    normal = interpolate(raster, faces, scene.normals.numpy())[seen]
    normal /= np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), 1e-9)
    light = np.array(LIGHT) / np.linalg.norm(LIGHT)
    # Wrapped diffuse light has no hard terminator, and so leaves form to see in the shade; the highlight is Blinn and Phong's.
    diffuse = ((normal @ light + 0.4) / 1.4).clip(0, 1)
    half = light + np.array([0.0, 0.0, -1.0])
    highlight = (normal @ (half / np.linalg.norm(half))).clip(0, 1) ** 30
    colour = scene.face_rgb[raster.face[seen]] * (0.3 + 0.8 * diffuse[:, None]) + 60 * highlight[:, None]
    rgba = np.zeros((height, width, 4), np.float32)
    rgba[seen] = np.concatenate([colour.clip(0, 255), np.ones((len(colour), 1))], 1)
    return rgba


def _with_skeletons(picture: np.ndarray, result: PhotoResult, scale: float) -> np.ndarray:
    """Bones and keypoint dots; farther hands first, so that the nearer one stays whole."""
    size = (picture.shape[1] * SUPERSAMPLING, picture.shape[0] * SUPERSAMPLING)
    canvas = Image.fromarray(picture).resize(size, Image.Resampling.BILINEAR)
    draw = ImageDraw.Draw(canvas)
    hands = [(person, hand) for person in result.people for hand in (0, 1) if person.hand_present[hand]]
    for person, hand in sorted(hands, key=lambda h: -float(h[0].keypoints_m[h[1], :, 2].mean())):
        xy = person.keypoints_xy[hand].numpy() * scale * SUPERSAMPLING
        thick = max(2, round(float(np.ptp(xy, axis=0).max()) / 60))
        for a, b in OPENPOSE21_BONES:
            draw.line([*xy[a], *xy[b]], fill=HAND_RGB[hand], width=thick)
        for x, y in xy:
            draw.ellipse(
                [x - thick, y - thick, x + thick, y + thick], fill=(255, 255, 255), outline=HAND_RGB[hand], width=max(1, thick // 2)
            )
    return np.asarray(canvas.resize((picture.shape[1], picture.shape[0]), Image.Resampling.BOX))
