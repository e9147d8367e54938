"""FreiHAND's and HO-3D's own format of predictions, pred.json: a list of joints and a list of vertices, one entry a sample in the set's order."""

import json
from pathlib import Path

import numpy as np

from twohands.errors import UserError
from twohands.evaluation.judged import Prediction
from twohands.evaluation.predictions import JOINT_ORDERS, M_TO_MM
from twohands.joints import OPENPOSE21

RIGHT = 1
OPENGL_TO_OPENCV = np.array([1.0, -1.0, -1.0])


def read_pred_json(path: Path, ids: np.ndarray, opengl: bool) -> Prediction:
    """Right hands in metres in the camera frame. `opengl`: HO-3D's axes and joint order. UserError unless it fits the samples one to one."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UserError(f"{path} is no readable JSON file ({error}); write [joints, vertices] as the challenge asks") from error
    if not isinstance(content, list) or len(content) != 2:
        raise UserError(f"{path} must hold a list of two, [joints, vertices], as FreiHAND's and HO-3D's challenges ask")
    parts = []
    for name, value, points in (("joints", content[0], 21), ("vertices", content[1], 778)):
        try:
            array = np.array(value, np.float64)
        except (TypeError, ValueError) as error:
            raise UserError(
                f"the {name} of {path} are no array of numbers ({error}); each entry must be a list of {points} points"
            ) from error
        if array.shape != (len(ids), points, 3):
            raise UserError(
                f"the {name} of {path} have shape {array.shape} and must have ({len(ids)}, {points}, 3): every sample, in the set's order"
            )
        parts.append(array)
    joints, vertices = parts
    if opengl:
        order = JOINT_ORDERS["HO3D21"]
        joints = joints[:, [order.index(name) for name in OPENPOSE21]] * OPENGL_TO_OPENCV
        vertices = vertices * OPENGL_TO_OPENCV
    return Prediction(
        sample_id=ids.astype(str),
        joints_mm=_right(joints) * M_TO_MM,
        in_camera=np.ones(len(ids), bool),
        vertices_mm=_right(vertices) * M_TO_MM,
        relative_mm=np.full((len(ids), 3), np.nan),
        presence=None,
        box_xyxy_px=None,
        uvd=None,
        wrist_depth_mm=None,
    )


def _right(points: np.ndarray) -> np.ndarray:
    """With an empty left hand beside."""
    return np.stack([np.full_like(points, np.nan), points], 1)
