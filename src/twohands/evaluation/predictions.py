"""Predictions of any estimator in NPZ files: what is in them, reading with every check, writing.

One file, or a folder of parts `*.npz` that together hold each sample once (a part is all that is ever in memory). Arrays, n samples; axis `hand`
is (left, right); metres and pixels; NaN where nothing is predicted. docs/EVALUATION.md describes them for users.

| array | shape | |
|---|---|---|
| `format` | | "twohands-predictions-1" |
| `sample_id` | n | strings, as the data set has them |
| `predictor` | | optional: name of the method |
| `frame` | | "camera": joints and meshes are where the hands are; "wrist": relative to each hand's wrist, in the camera's axes |
| `joints_m` | n, 2, 21, 3 | |
| `joint_order` | | "OPENPOSE21" (default), "INTERHAND21", "HO3D21" |
| `vertices_m` | n, 2, V, 3 | optional |
| `mano_pose`, `mano_shape`, `mano_translation_m` | n, 2, 16, 3; n, 2, 10; n, 2, 3 | optional, instead of vertices; pose relative to the flat hand |
| `relative_translation_m` | n, 3 | left wrist minus right wrist; without it the difference of the wrists in frame "camera" |
| `hand_probability` | n, 2 | optional |
| `box_xyxy_px` | n, 2, 4 | optional; the centre of the picture's first pixel is (0, 0) |
| `joints_uvd` | n, 2, 21, 3 | optional, 2.5D: x and y in pixels, depth behind the wrist in metres |
| `wrist_depth_m` | n, 2 | optional, with `joints_uvd` |

And FreiHAND's and HO-3D's own format, pred.json: a list of joints and a list of vertices, one entry a sample in the set's order.
"""

import json
import os
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from twohands.errors import UserError
from twohands.evaluation.judged import JudgesHand, Prediction
from twohands.hands.parameters import HandParameters
from twohands.joints import FINGERS, MANO16, OPENPOSE21

FORMAT = "twohands-predictions-1"
M_TO_MM = 1000.0
OPENGL_TO_OPENCV = np.array([1.0, -1.0, -1.0])
JOINT_ORDERS: dict[str, tuple[str, ...]] = {
    "OPENPOSE21": OPENPOSE21,
    "INTERHAND21": (*(f"{finger}{k}" for finger in FINGERS for k in (4, 3, 2, 1)), "wrist"),
    "HO3D21": (*MANO16, *(f"{finger}4" for finger in FINGERS)),
}
_SHAPES: dict[str, tuple[int | None, ...]] = {
    "joints_m": (2, 21, 3), "vertices_m": (2, None, 3), "mano_pose": (2, 16, 3), "mano_shape": (2, 10), "mano_translation_m": (2, 3),
    "relative_translation_m": (3,), "hand_probability": (2,), "box_xyxy_px": (2, 4), "joints_uvd": (2, 21, 3), "wrist_depth_m": (2,),
}  # fmt: skip
_WORDS = ("format", "sample_id", "predictor", "frame", "joint_order")
_MANO = ("mano_pose", "mano_shape", "mano_translation_m")


@dataclass(frozen=True)
class Part:
    """One predictions file, opened: its ids are known, its arrays are read when asked for."""

    path: Path
    sample_id: np.ndarray
    arrays: frozenset[str]
    predictor: str

    def read(self, hand: JudgesHand | None) -> Prediction:
        """All rows. With `hand` (MANO) meshes are made from MANO parameters, and joints are regressed from meshes of its topology."""
        with _opened(self.path) as file:
            frame = _word(file, "frame", "camera", ("camera", "wrist"), self.path)
            order = JOINT_ORDERS[_word(file, "joint_order", "OPENPOSE21", tuple(JOINT_ORDERS), self.path)]
            stored = {name: _numbers(file, name, len(self.sample_id), self.path) for name in self.arrays & set(_SHAPES)}
        index = [order.index(name) for name in OPENPOSE21]
        vertices = stored.get("vertices_m")
        if vertices is None and hand is not None and hand.model.name == "mano" and all(name in stored for name in _MANO):
            vertices = _mano_vertices_m(hand, *(stored[name] for name in _MANO))
        joints = stored["joints_m"][:, :, index] if "joints_m" in stored else None
        if vertices is not None and hand is not None and vertices.shape[2] == hand.model.data.v_template.shape[1]:
            joints = hand.joints(vertices)
        uvd = stored["joints_uvd"][:, :, index] if "joints_uvd" in stored else None
        if joints is None and uvd is not None:
            joints = np.full((len(self.sample_id), 2, 21, 3), np.nan)
        if joints is None:
            raise UserError(
                f"{self.path} has no joints_m, and no mesh that joints could be taken from (MANO meshes need --mano); add joints_m"
            )
        if "relative_translation_m" in stored:
            relative = stored["relative_translation_m"]
        else:
            apart = joints[:, 0, 0] - joints[:, 1, 0]
            relative = apart if frame == "camera" else np.full_like(apart, np.nan)
        return Prediction(
            sample_id=self.sample_id,
            joints_mm=joints * M_TO_MM,
            in_camera=np.full(len(self.sample_id), frame == "camera"),
            vertices_mm=None if vertices is None else vertices * M_TO_MM,
            relative_mm=relative * M_TO_MM,
            presence=stored.get("hand_probability"),
            box_xyxy_px=stored.get("box_xyxy_px"),
            uvd=None if uvd is None else uvd * np.array([1.0, 1.0, M_TO_MM]),
            wrist_depth_mm=stored["wrist_depth_m"] * M_TO_MM if "wrist_depth_m" in stored else None,
        )


def open_predictions(path: Path) -> tuple[Part, ...]:
    """The parts of a predictions file or folder, with their ids checked. UserError naming what is wrong and where."""
    files = sorted(path.glob("*.npz")) if path.is_dir() else [path]
    if not files:
        raise UserError(f"there are no *.npz in {path}; give a predictions file, or a folder of parts")
    parts = [_open_part(file) for file in files]
    for name in ("vertices_m", "joints_uvd", "hand_probability", "box_xyxy_px", "wrist_depth_m", "mano_pose"):
        having = [part for part in parts if name in part.arrays]
        if having and len(having) < len(parts):
            lacking = next(part for part in parts if name not in part.arrays)
            raise UserError(f"{having[0].path} has {name} and {lacking.path} has not; give it in all parts or in none")
    ids = np.concatenate([part.sample_id for part in parts])
    unique, counts = np.unique(ids, return_counts=True)
    if (counts > 1).any():
        raise UserError(f"{path} has sample {str(unique[counts > 1][0])!r} {counts.max()} times; each sample may be there once")
    return tuple(parts)


def write_predictions(path: Path, prediction: Prediction, predictor: str) -> None:
    """Writes one file in the same format; it appears whole or not at all."""
    arrays: dict[str, np.ndarray] = {
        "format": np.array(FORMAT),
        "predictor": np.array(predictor),
        "sample_id": prediction.sample_id.astype(str),
        "frame": np.array("camera" if bool(prediction.in_camera.all()) else "wrist"),
        "joint_order": np.array("OPENPOSE21"),
        "joints_m": (prediction.joints_mm / M_TO_MM).astype(np.float32),
        "relative_translation_m": (prediction.relative_mm / M_TO_MM).astype(np.float32),
    }
    if prediction.vertices_mm is not None:
        arrays["vertices_m"] = (prediction.vertices_mm / M_TO_MM).astype(np.float32)
    if prediction.presence is not None:
        arrays["hand_probability"] = prediction.presence.astype(np.float32)
    if prediction.box_xyxy_px is not None:
        arrays["box_xyxy_px"] = prediction.box_xyxy_px.astype(np.float32)
    beside = path.with_name(path.name + ".part")
    with beside.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]
    os.replace(beside, path)


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
        joints_mm=_right_hands(joints) * M_TO_MM,
        in_camera=np.ones(len(ids), bool),
        vertices_mm=_right_hands(vertices) * M_TO_MM,
        relative_mm=np.full((len(ids), 3), np.nan),
        presence=None,
        box_xyxy_px=None,
        uvd=None,
        wrist_depth_mm=None,
    )


def _open_part(path: Path) -> Part:
    with _opened(path) as file:
        if "format" not in file.files or str(file["format"]) != FORMAT:
            raise UserError(f"{path} is no predictions file: its `format` must be {FORMAT!r} (docs/EVALUATION.md)")
        if "sample_id" not in file.files:
            raise UserError(f"{path} has no sample_id; add the data set's own names of the samples, one a row")
        ids = file["sample_id"]
        if ids.ndim != 1 or ids.dtype.kind not in "USiu":
            raise UserError(f"sample_id of {path} must be a list of strings, got {ids.dtype} of shape {ids.shape}")
        ids = np.char.decode(ids) if ids.dtype.kind == "S" else ids.astype(str)
        if unknown := sorted(set(file.files) - set(_SHAPES) - set(_WORDS)):
            raise UserError(f"{path} has {unknown[0]!r}, which no reader knows; the arrays are {', '.join([*_WORDS, *_SHAPES])}")
        if 0 < len(set(file.files) & set(_MANO)) < len(_MANO):
            raise UserError(f"{path} has some of {', '.join(_MANO)} but not all; give the three together")
        predictor = str(file["predictor"]) if "predictor" in file.files else path.stem
        return Part(path, ids, frozenset(file.files), predictor)


def _opened(path: Path) -> np.lib.npyio.NpzFile:
    if not path.is_file():
        raise UserError(f"{path} is not there; give a predictions file or a folder of them")
    try:
        file = np.load(path)
    except (OSError, ValueError, zipfile.BadZipFile, EOFError) as error:
        raise UserError(f"{path} is no readable NPZ file ({error}); write it with numpy.savez") from error
    if not isinstance(file, np.lib.npyio.NpzFile):
        raise UserError(f"{path} is a single array and no NPZ file; write it with numpy.savez")
    return file


def _numbers(file: np.lib.npyio.NpzFile, name: str, rows: int, path: Path) -> np.ndarray:
    """A checked array, float64: shape, kind, and no infinities (NaN means: not predicted)."""
    try:
        array = file[name]
    except (ValueError, OSError, zipfile.BadZipFile) as error:
        raise UserError(f"{name} of {path} cannot be read ({error}); arrays of objects are refused, write plain numbers") from error
    wanted = (rows, *_SHAPES[name])
    fits = array.ndim == len(wanted) and all(w is None or w == have for w, have in zip(wanted, array.shape, strict=True))
    if not fits:
        shape = ", ".join("V" if side is None else str(side) for side in wanted)
        raise UserError(f"{name} of {path} has shape {array.shape} and must have ({shape}): one row a sample, hands (left, right)")
    if array.dtype.kind not in "fiu":
        raise UserError(f"{name} of {path} holds {array.dtype} and must hold numbers")
    array = array.astype(np.float64)
    if np.isinf(array).any():
        row = int(np.argwhere(np.isinf(array))[0][0])
        raise UserError(f"{name} of {path} is infinite in row {row}; put NaN where nothing is predicted")
    if name.endswith("_m") and np.nanmax(np.abs(array), initial=0.0) > 100:
        raise UserError(f"{name} of {path} reaches {np.nanmax(np.abs(array)):.0f}, and is in metres; divide millimetres by 1000")
    return array


def _word(file: np.lib.npyio.NpzFile, name: str, default: str, choices: tuple[str, ...], path: Path) -> str:
    value = str(file[name]) if name in file.files else default
    if value not in choices:
        raise UserError(f"{name} of {path} is {value!r}; it must be one of {', '.join(choices)}")
    return value


def _mano_vertices_m(hand: JudgesHand, pose: np.ndarray, shape: np.ndarray, translation_m: np.ndarray) -> np.ndarray:
    """MANO meshes; NaN for hands with any NaN."""
    known = np.isfinite(pose).all((-2, -1)) & np.isfinite(shape).all(-1) & np.isfinite(translation_m).all(-1)
    tensors = [torch.from_numpy(np.nan_to_num(array)).float() for array in (pose, shape, translation_m)]
    vertices = hand.model.pose_hands(HandParameters(*tensors)).mesh().vertices_m.double().numpy()
    return np.where(known[..., None, None], vertices, np.nan)


def _right_hands(points: np.ndarray) -> np.ndarray:
    """With an empty left hand beside."""
    return np.stack([np.full_like(points, np.nan), points], 1)
