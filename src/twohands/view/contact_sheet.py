"""Annotated pictures side by side, each cut out around its hands, with meshes and joints drawn over: what is wrong with a data set's reading is
seen at a glance."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from twohands.geometry.camera import Camera
from twohands.hands.model import HandModel
from twohands.hands.parameters import HandParameters
from twohands.joints import OPENPOSE21_BONES
from twohands.palette import HAND_RGB
from twohands.schema import PhotoResult, Sample, TwoHands
from twohands.view.overlay import PAPER_RGB, draw_overlay

TILE_PX = 320
CAPTION_PX = 18
MARGIN = 1.5
"""Side of the square cut out over the longer side of the hands' box."""
MESH_OPACITY = 0.55
COLUMNS = 4
GAP_PX = 4
EDGE_RGB = (25, 25, 25)


@dataclass(frozen=True)
class Panel:
    """One picture of the sheet."""

    sample: Sample
    vertices_m: Float[Tensor, "hand vert 3"]
    """Meshes in the camera frame."""
    mesh_valid: Bool[Tensor, "hand"]
    caption: str


def contact_sheet(panels: list[Panel], model: HandModel | None) -> UInt8[np.ndarray, "height width 3"]:
    """The panels in rows of COLUMNS. Without a hand model, whose faces are needed, no meshes are drawn."""
    rows = max(1, -(-len(panels) // COLUMNS))
    step_x, step_y = TILE_PX + GAP_PX, TILE_PX + CAPTION_PX + GAP_PX
    sheet = Image.new("RGB", (COLUMNS * step_x - GAP_PX, rows * step_y - GAP_PX), PAPER_RGB)
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=12)
    for k, panel in enumerate(panels):
        x, y = (k % COLUMNS) * step_x, (k // COLUMNS) * step_y
        sheet.paste(Image.fromarray(_drawn(panel, model)), (x, y + CAPTION_PX))
        draw.text((x + 4, y + 2), _shortened(panel.caption, font), fill=(40, 40, 40), font=font)
    return np.asarray(sheet)


def _shortened(caption: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """The end of a caption that is too long, which tells pictures apart."""
    short = caption
    while font.getlength(short) > TILE_PX - 8:
        short = "…" + short.lstrip("…")[1:]
    return short


def _drawn(panel: Panel, model: HandModel | None) -> UInt8[np.ndarray, "tile tile 3"]:
    sample = panel.sample
    centre, side = _square(sample)
    scale = TILE_PX / side
    low = centre - side / 2
    photo = Image.fromarray(sample.image.permute(1, 2, 0).numpy())
    matrix = (1 / scale, 0, float(low[0]), 0, 1 / scale, float(low[1]))
    resampling = Image.Resampling.BICUBIC if scale > 1 else Image.Resampling.BILINEAR
    tile = np.asarray(photo.transform((TILE_PX, TILE_PX), Image.Transform.AFFINE, matrix, resampling, fillcolor=(120, 120, 120)))
    camera = Camera(sample.camera.focal_px * scale, (sample.camera.principal_px - low) * scale)
    if model is not None and bool(panel.mesh_valid.any()):
        tile = draw_overlay(_result(tile, camera, panel), model, opacity=MESH_OPACITY)
    return _with_joints(tile, (sample.keypoints_xy - low) * scale, sample)


def _square(sample: Sample) -> tuple[Tensor, float]:
    """Centre and side of what is shown: the hands that are there, else the whole picture."""
    height, width = sample.image.shape[1:]
    if not bool(sample.hand_valid.any()):
        return torch.tensor([width / 2, height / 2]), float(max(width, height))
    boxes = sample.box_xyxy_px[sample.hand_valid]
    low, high = boxes[:, :2].amin(0), boxes[:, 2:].amax(0)
    return (low + high) / 2, max(16.0, MARGIN * float((high - low).max()))


def _result(tile: np.ndarray, camera: Camera, panel: Panel) -> PhotoResult:
    """The meshes as the overlay takes them."""
    nothing = torch.zeros(2, 21)
    hands = TwoHands(
        hand_present=panel.mesh_valid,
        score=panel.mesh_valid.float(),
        parameters=HandParameters.zeros(),
        vertices_m=panel.vertices_m,
        keypoints_m=nothing[..., None].expand(2, 21, 3),
        keypoints_xy=nothing[..., None].expand(2, 21, 2),
        keypoint_confidence=nothing,
        box_xyxy_px=torch.zeros(2, 4),
        camera=camera,
        camera_source="caller",
        penetration_cm3=0.0,
        penetration_before_cm3=0.0,
        refined=False,
        person=0,
    )
    return PhotoResult((hands,), TILE_PX, TILE_PX, {}, "", tile)


def _with_joints(tile: np.ndarray, xy: Float[Tensor, "hand 21 2"], sample: Sample) -> np.ndarray:
    """Bones and joints; hollow where the joint lies outside the picture or is hidden."""
    canvas = Image.fromarray(tile).resize((2 * TILE_PX, 2 * TILE_PX), Image.Resampling.BILINEAR)
    draw = ImageDraw.Draw(canvas)
    for hand in (0, 1):
        if not sample.hand_valid[hand]:
            continue
        places, known = (2 * xy[hand]).tolist(), xy[hand].isfinite().all(-1).tolist()
        # A dark edge, or bones of the mesh's own colour would not show on it.
        for fill, width in ((EDGE_RGB, 7), (HAND_RGB[hand], 3)):
            for a, b in OPENPOSE21_BONES:
                if known[a] and known[b]:
                    draw.line([*places[a], *places[b]], fill=fill, width=width)
        for joint in range(21):
            if known[joint]:
                x, y = places[joint]
                fill = (255, 255, 255) if sample.keypoint_visible[hand, joint] > 0 else None
                draw.ellipse([x - 4, y - 4, x + 4, y + 4], fill=fill, outline=EDGE_RGB, width=2)
    return np.asarray(canvas.resize((TILE_PX, TILE_PX), Image.Resampling.BOX))
