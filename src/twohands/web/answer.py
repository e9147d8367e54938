"""What the page gets for a photo: numbers to draw, words to read, and files to keep."""

import base64
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from twohands import export
from twohands.errors import UserError
from twohands.pipeline import Pipeline
from twohands.schema import PhotoResult, TwoHands
from twohands.view.heat import touch_colours, touch_of
from twohands.view.overlay import write_picture
from twohands.view.styles import draw_style

SIDES = ("left", "right")
PHOTO_PX = 1280
"""Longer side of the photo behind the hands."""
FILES = {
    "hands.glb": "model/gltf-binary",
    "hands.obj": "text/plain",
    "hands.npz": "application/octet-stream",
    "hands.json": "application/json",
    "overlay.png": "image/png",
}
"""What can be fetched for a photo with hands, and its type."""


@dataclass(frozen=True)
class Answer:
    """One photo's answer."""

    scene: dict[str, Any]
    """For the page: JSON."""
    result: PhotoResult


def reconstruct_upload(content: bytes, model: Pipeline, refine: bool = True) -> PhotoResult:
    """The hands in an uploaded file. UserError, which names no path, if it is no photo."""
    with tempfile.TemporaryDirectory() as folder:
        # A name of ours: what the browser calls the file never gets near a disk.
        path = Path(folder) / "photo"
        path.write_bytes(content)
        try:
            return model.reconstruct(path, refine=refine)
        except UserError as error:
            raise UserError(str(error).replace(str(path), "this file")) from error


def scene_of(result: PhotoResult, model: Pipeline, with_photo: bool = True) -> dict[str, Any]:
    """Everything the page draws. Arrays are base64 of little-endian float32, uint32 or uint8."""
    camera = result.people[0].camera if result.people else None
    return {
        "width": result.width_px,
        "height": result.height_px,
        "camera": None if camera is None else [*camera.focal_px.tolist(), *camera.principal_px.tolist()],
        "camera_source": None if camera is None else result.people[0].camera_source,
        "prior": result.prior_source,
        "seconds": {stage: round(s, 4) for stage, s in result.seconds.items()},
        "photo": "data:image/jpeg;base64," + _base64(export.photo.jpeg(result.image, PHOTO_PX)) if with_photo else None,
        "faces": [_base64(f.numpy().astype("<u4")) for f in model.hand_model.faces],
        "people": [_person(person, model) for person in result.people],
    }


def _person(person: TwoHands, model: Pipeline) -> dict[str, Any]:
    heat = touch_colours(touch_of(person.vertices_m, person.hand_present, model.hand_model))
    before = None
    if person.parameters_before is not None:
        before = model.hand_model.pose_hands(person.parameters_before).mesh().vertices_m
        heat_before = touch_colours(touch_of(before, person.hand_present, model.hand_model))
    hands = []
    for hand, side in enumerate(SIDES):
        if not person.hand_present[hand]:
            continue
        entry = {
            "side": side,
            "score": round(float(person.score[hand]), 3),
            "vertices": _floats(person.vertices_m[hand]),
            "keypoints": _floats(person.keypoints_m[hand]),
            "heat": _base64(heat[hand]),
        }
        if before is not None:
            entry |= {"vertices_before": _floats(before[hand]), "heat_before": _base64(heat_before[hand])}
        hands.append(entry)
    return {
        "hands": hands,
        "penetration_cm3": round(person.penetration_cm3, 3),
        "penetration_before_cm3": round(person.penetration_before_cm3, 3),
        "refined": person.refined,
    }


def file_of(name: str, result: PhotoResult, model: Pipeline) -> bytes:
    """The content of one of FILES. ValueError for another name, or for a file of hands where there are none."""
    if name not in FILES:
        raise ValueError(f"there is no file {name!r}; there are {', '.join(FILES)}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        match name:
            case "hands.glb":
                export.write_glb(path, result, model.hand_model)
            case "hands.obj":
                export.write_obj(path, result, model.hand_model)
            case "hands.npz":
                export.write_npz(path, result, model.hand_model)
            case "hands.json":
                export.write_predictions(path, {"photo": export.prediction_entry(result, model.hand_model)})
            case _:
                write_picture(path, draw_style(result, model.hand_model))
        return path.read_bytes()


def _floats(values: torch.Tensor) -> str:
    return _base64(values.numpy().astype("<f4"))


def _base64(values: np.ndarray | bytes) -> str:
    return base64.b64encode(values if isinstance(values, bytes) else np.ascontiguousarray(values).tobytes()).decode("ascii")
