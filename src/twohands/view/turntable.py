"""The hands from all round: four views in one picture, or a turning GIF."""

import os
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from twohands.hands.model import HandModel
from twohands.schema import PhotoResult
from twohands.view.overlay import draw_view
from twohands.view.styles import captioned

VIEWS = (("from the camera", 0.0, 0.0), ("from the right", 90.0, 10.0), ("from above", 0.0, 75.0), ("from behind", 180.0, 10.0))
"""Name, yaw and pitch in degrees by which the hands are turned."""


def four_views(result: PhotoResult, model: HandModel, size_px: int = 360) -> UInt8[np.ndarray, "height width 3"]:
    """The surest person's hands from the camera, the right, above and behind, two by two, each named."""
    views = [captioned(draw_view(result, model, size_px, yaw, pitch), name) for name, yaw, pitch in VIEWS]
    return np.concatenate([np.concatenate(views[:2], 1), np.concatenate(views[2:], 1)])


def write_turntable(
    path: Path, result: PhotoResult, model: HandModel, size_px: int = 320, frames: int = 36, pitch_deg: float = 12.0
) -> None:
    """A GIF of the surest person's hands going once round in three seconds, for ever. Written beside its place and renamed."""
    pictures = [Image.fromarray(draw_view(result, model, size_px, 360.0 * k / frames, pitch_deg)) for k in range(frames)]
    # One palette for all frames: colours that change from frame to frame flicker.
    sample = Image.fromarray(np.concatenate([np.asarray(p) for p in pictures[:: max(1, frames // 4)]], 1))
    palette = sample.quantize(64, method=Image.Quantize.MEDIANCUT)
    indexed = [p.quantize(palette=palette, dither=Image.Dither.NONE) for p in pictures]
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        indexed[0].save(part, format="GIF", save_all=True, append_images=indexed[1:], duration=round(3000 / frames), loop=0, optimize=True)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
