"""Ways to draw a result over its photo: mesh, wires, skeleton, depth, touch, or side by side. In each, what is nearer hides what is behind it,
across both hands and all people."""

from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFont

from twohands.geometry.camera import Camera
from twohands.hands.model import HandModel
from twohands.joints import OPENPOSE21_BONES
from twohands.palette import HAND_RGB
from twohands.render import Raster, rasterize
from twohands.schema import PhotoResult, TwoHands
from twohands.view.heat import touch_colours, touch_of
from twohands.view.overlay import SUPERSAMPLING, Scene, drawn_size, painted, scaled_camera, side_by_side

Style: TypeAlias = Literal["mesh", "wire", "skeleton", "depth", "touch", "side-by-side"]
STYLES: tuple[Style, ...] = ("mesh", "wire", "skeleton", "depth", "touch", "side-by-side")
WIRE_PX = 0.9
"""Thickness of a wire in pixels of the picture."""
NEAR_RGB, FAR_RGB = (253, 231, 37), (68, 1, 84)
"""Ends of the depth scale, bright yellow to dark violet: it runs in lightness, so that it can be read without any sense of colour."""
MIDDLE_RGB = (33, 145, 140)


def draw_style(
    result: PhotoResult, model: HandModel, style: Style = "mesh", longer_side_px: int | None = None
) -> UInt8[np.ndarray, "h w 3"]:
    """The photo with the hands over it in one of STYLES. Size as of `draw_overlay`."""
    picture, scale = drawn_size(result, longer_side_px)
    scene = Scene.of(result.people, model)
    if style == "side-by-side":
        return side_by_side(result, model, min(result.height_px, 720))
    if scene is None:
        return picture
    camera = scaled_camera(result.people[0].camera, scale)
    match style:
        case "mesh":
            return painted(picture, scene, camera, 0.85)
        case "wire":
            return painted(picture, scene, camera, 1.0, wires)
        case "depth":
            return painted(picture, scene, camera, 0.9, depths)
        case "touch":
            return painted(picture, touch_scene(result.people, model), camera, 1.0)
        case "skeleton":
            return draw_skeletons(picture, result, scale)
        case other:
            raise ValueError(f"there is no style {other!r}; choose one of {', '.join(STYLES)}")


def touch_scene(people: tuple[TwoHands, ...], model: HandModel) -> Scene:
    """All hands in the colours of `view.heat`: where the two of a person touch, and where they pass through one another."""
    meshes = []
    for person in people:
        colours = touch_colours(touch_of(person.vertices_m, person.hand_present, model))
        meshes += [(person.vertices_m[h], model.faces[h], colours[h]) for h in (0, 1) if person.hand_present[h]]
    return Scene.of_meshes(meshes)


def wires(scene: Scene, camera: Camera, width: int, height: int) -> Float[np.ndarray, "height width 4"]:
    """The visible edges of the triangles, premultiplied colour and coverage; the skin between them is tinted, since it hides what is behind."""
    raster = _raster(scene, camera, width, height)
    seen = raster.face >= 0
    near = _edge_distance_px(raster) < WIRE_PX * SUPERSAMPLING / 2
    strength = np.where(near, 1.0, 0.22)[..., None] * seen[..., None]
    colour = np.zeros((height, width, 3), np.float32)
    colour[seen] = scene.face_rgb[raster.face[seen]]
    # Lines darker than the tint, so that they stand out on bright and on dark skin.
    colour[near & seen] *= 0.8
    return np.concatenate([colour * strength, strength], -1).astype(np.float32)


def depths(scene: Scene, camera: Camera, width: int, height: int) -> Float[np.ndarray, "height width 4"]:
    """Depth from bright (near) to dark (far), over the range of the hands."""
    raster = _raster(scene, camera, width, height)
    seen = raster.face >= 0
    z = scene.vertices_m[:, 2]
    near, far = float(z.min()), float(z.max())
    share = ((raster.depth_m[seen] - near) / max(far - near, 1e-6))[:, None]
    ends = np.array([NEAR_RGB, MIDDLE_RGB, FAR_RGB], np.float32)
    first = np.where(share < 0.5, ends[0] + (ends[1] - ends[0]) * 2 * share, ends[1] + (ends[2] - ends[1]) * (2 * share - 1))
    rgba = np.zeros((height, width, 4), np.float32)
    rgba[seen] = np.concatenate([first, np.ones_like(share)], 1)
    return rgba


def draw_skeletons(picture: UInt8[np.ndarray, "h w 3"], result: PhotoResult, scale: float) -> UInt8[np.ndarray, "h w 3"]:
    """Bones and keypoints of all hands, the farthest bone first and each with a dark rim, so that crossings show which is in front. Keypoints that
    stage 1 is unsure of are small."""
    size = (picture.shape[1] * SUPERSAMPLING, picture.shape[0] * SUPERSAMPLING)
    canvas = Image.fromarray(picture).resize(size, Image.Resampling.BILINEAR)
    draw = ImageDraw.Draw(canvas)
    strokes: list[tuple[float, int, np.ndarray, float, float]] = []  # depth, hand, ends, thickness, size of a dot
    for person in result.people:
        for hand in (0, 1):
            if not person.hand_present[hand]:
                continue
            xy = person.keypoints_xy[hand].numpy() * scale * SUPERSAMPLING
            z, sure = person.keypoints_m[hand, :, 2].numpy(), person.keypoint_confidence[hand].numpy()
            thick = max(2.0, float(np.ptp(xy, axis=0).max()) / 55)
            strokes += [(float(z[a] + z[b]) / 2, hand, xy[[a, b]], thick, 1.0) for a, b in OPENPOSE21_BONES]
            # Dots a hair nearer than the bones that end in them.
            strokes += [(float(z[k]) - 2e-3, hand, xy[[k]], thick, 0.55 + 0.45 * float(sure[k])) for k in range(21)]
    for _, hand, ends, thick, dot in sorted(strokes, key=lambda s: -s[0]):
        rim = max(1, int(thick / 3 + 0.5))
        if len(ends) == 2:
            line = [tuple(p) for p in ends.tolist()]
            draw.line(line, fill=(20, 20, 20), width=int(thick + 0.5) + 2 * rim)
            draw.line(line, fill=HAND_RGB[hand], width=int(thick + 0.5))
        else:
            (x, y), r = ends[0].tolist(), float(thick) * 1.15 * dot
            draw.ellipse([x - r - rim, y - r - rim, x + r + rim, y + r + rim], fill=(20, 20, 20))
            draw.ellipse([x - r, y - r, x + r, y + r], fill=(255, 255, 255), outline=HAND_RGB[hand], width=max(1, int(r / 2)))
    return np.asarray(canvas.resize((picture.shape[1], picture.shape[0]), Image.Resampling.BOX))


def captioned(picture: UInt8[np.ndarray, "h w 3"], text: str, size_px: int = 14) -> UInt8[np.ndarray, "h w 3"]:
    """A picture with a line of text under it, cut where it does not fit."""
    height = size_px + 8
    strip = Image.new("RGB", (picture.shape[1], height), (255, 255, 255))
    font = ImageFont.load_default(size_px)
    while text and font.getlength(text) > picture.shape[1] - 8:
        text = text[:-2].rstrip("…") + "…" if len(text) > 2 else ""
    ImageDraw.Draw(strip).text((4, 3), text, fill=(30, 30, 30), font=font)
    return np.concatenate([picture, np.asarray(strip)])


def _raster(scene: Scene, camera: Camera, width: int, height: int) -> Raster:
    faces = scene.faces.numpy().astype(np.int32)
    return rasterize(scene.vertices_m.numpy(), faces, camera.focal_px.numpy(), camera.principal_px.numpy(), height, width)


def _edge_distance_px(raster: Raster) -> Float[np.ndarray, "height width"]:
    """Distance of a pixel to the nearest edge of its triangle, about: barycentric coordinates over how fast they change on the screen."""
    slopes = []
    for axis in (0, 1):
        step = np.abs(np.diff(raster.barycentric, axis=axis))
        step[np.diff(raster.face, axis=axis) != 0] = np.inf
        ends = [(0, 0), (0, 0), (0, 0)]
        before, after = ([*ends[:axis], pad, *ends[axis + 1 :]] for pad in ((1, 0), (0, 1)))
        slopes.append(np.minimum(np.pad(step, before, constant_values=np.inf), np.pad(step, after, constant_values=np.inf)))
    change = np.hypot(*slopes)
    # A pixel alone in its triangle knows no slope: such triangles are smaller than a wire is thick.
    return np.where(np.isfinite(change), raster.barycentric / np.maximum(change, 1e-6), 0).min(-1)


def read_thumbnail(path: Path, longer_side_px: int) -> UInt8[np.ndarray, "h w 3"]:
    """A picture file at most so large. OSError if it cannot be read."""
    with Image.open(path) as picture:
        small = picture.convert("RGB")
        small.thumbnail((longer_side_px, longer_side_px), Image.Resampling.LANCZOS)
        return np.asarray(small)
