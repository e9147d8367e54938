"""Files of hands for `twohands refine`: this program's NPZ, and MANO parameters of any estimator as NPZ or JSON. What comes in a format goes out
in it, with the volumes before and after beside. Nothing here unpickles."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from zipfile import BadZipFile

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from twohands.errors import UserError
from twohands.geometry.camera import Camera
from twohands.hands.model import HandModel
from twohands.hands.parameters import HandParameters
from twohands.refine.refiner import RefineResult

SIDES = ("left", "right")
MANO_FIELDS = {"global_orient": 3, "hand_pose": 45, "betas": 10, "transl": 3}
"""Numbers of each hand: rotation vector of the whole hand, of the fifteen joints in MANO's order, shape, translation in metres."""
_OWN_FIELDS = {"pose": (2, 16, 3), "shape": (2, 10), "translation_m": (2, 3)}
LARGEST_SHAPE = 8.0
"""Standard deviations beyond which a hand's mesh is no hand any more."""
LARGEST_ANGLE_RAD = 4 * np.pi
LARGEST_DISTANCE_M = 50.0


@dataclass(frozen=True)
class HandsFile:
    """What a file of hands holds. n pairs."""

    form: Literal["twohands", "mano npz", "mano json"]
    hand_model: str
    """Whose parameters they are: "bundled" or "mano"."""
    parameters: HandParameters
    both: Bool[Tensor, "n"]
    """Both hands are there; where one is missing, its numbers are zero and the pair is handed through."""
    keypoint_confidence: Float[Tensor, "n hand 21"] | None
    content: Any
    """All that the file held, to be written again."""
    one: bool
    """The file holds one pair without an axis for pairs."""


def read_hands(path: Path) -> HandsFile:
    """A file of hands. UserError naming the file, the field and the remedy if it cannot be used."""
    match path.suffix.lower():
        case ".npz":
            return _from_npz(path)
        case ".json":
            return _from_json(path)
        case other:
            raise UserError(f"{path} ends in {other or 'nothing'}; give hands as .npz or .json (docs/REFINE.md has the formats)")


def _from_npz(path: Path) -> HandsFile:
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
    except FileNotFoundError as error:
        raise UserError(f"{path} is not there; give a file of hands") from error
    except (OSError, ValueError, EOFError, BadZipFile) as error:
        raise UserError(f"{path} is no readable NPZ of plain arrays ({error}); write it with numpy.savez") from error
    if "pose" in arrays:
        return _own(path, arrays)
    if missing := [name for name in MANO_FIELDS if name not in arrays]:
        raise UserError(f"{path} has neither `pose` (this program's NPZ) nor {missing} (MANO parameters); docs/REFINE.md has the formats")
    one = arrays["global_orient"].ndim == 2
    hands = {name: _array(path, name, arrays[name], (2, size), one) for name, size in MANO_FIELDS.items()}
    told = _confidence(path, arrays, one)
    model = str(arrays.get("hand_model", "mano"))
    return _mano(
        path, "mano npz", model, hands, np.ones((len(hands["betas"]), 2), bool), None if told is None else told.numpy(), arrays, one
    )


def _own(path: Path, arrays: dict[str, np.ndarray]) -> HandsFile:
    one = arrays["pose"].ndim == 3
    if missing := [name for name in _OWN_FIELDS if name not in arrays]:
        raise UserError(f"{path} lacks {missing}; make it again with `twohands photo`")
    hands = {name: _array(path, name, arrays[name], shape, one) for name, shape in _OWN_FIELDS.items()}
    count = len(hands["pose"])
    present = np.asarray(arrays.get("hand_present", np.ones((count, 2), bool))).reshape(-1, 2).astype(bool)
    if len(present) != count:
        raise UserError(f"hand_present of {path} speaks of {len(present)} pairs and pose of {count}; make the file again")
    parameters = HandParameters(*(torch.from_numpy(hands[name]) for name in _OWN_FIELDS))
    _check_numbers(path, parameters, present)
    both = torch.from_numpy(present.all(1))
    model = str(arrays.get("hand_model", "bundled"))
    return HandsFile("twohands", model, parameters, both, _confidence(path, arrays, one), arrays, one)


def _from_json(path: Path) -> HandsFile:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{path} is not there; give a file of hands") from error
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is no readable JSON ({error}); docs/REFINE.md has the format") from error
    one = isinstance(content, dict) and not isinstance(content.get("pairs"), list)
    pairs = [content] if one else content["pairs"] if isinstance(content, dict) else content
    if not isinstance(pairs, list) or not pairs or not all(isinstance(pair, dict) for pair in pairs):
        raise UserError(f"{path} holds no pairs; give an object with `left` and `right`, or a list of such objects under `pairs`")
    present = np.array([[isinstance(pair.get(side), dict) for side in SIDES] for pair in pairs])
    if not present.any():
        raise UserError(f"{path} names no hand; each pair needs `left` and `right`, each with {', '.join(MANO_FIELDS)}")
    hands = {name: np.zeros((len(pairs), 2, size), np.float32) for name, size in MANO_FIELDS.items()}
    confidence = np.full((len(pairs), 2, 21), 0.5, np.float32)
    told = False
    for i, pair in enumerate(pairs):
        for h, side in enumerate(SIDES):
            if not present[i, h]:
                continue
            for name, size in MANO_FIELDS.items():
                hands[name][i, h] = _numbers(path, f"{side}.{name} of pair {i}", pair[side].get(name), size)
            if "keypoint_confidence" in pair[side]:
                told = True
                confidence[i, h] = _numbers(path, f"{side}.keypoint_confidence of pair {i}", pair[side]["keypoint_confidence"], 21)
    model = str(content.get("hand_model", "mano")) if isinstance(content, dict) else "mano"
    return _mano(path, "mano json", model, hands, present, confidence if told else None, content, one)


def _mano(
    path: Path,
    form: Literal["mano npz", "mano json"],
    hand_model: str,
    hands: dict[str, np.ndarray],
    present: Bool[np.ndarray, "n hand"],
    confidence: np.ndarray | None,
    content: Any,
    one: bool,
) -> HandsFile:
    if hand_model not in ("mano", "bundled"):
        raise UserError(f"hand_model of {path} is {hand_model!r}; it can be mano or bundled")
    pose = np.concatenate([hands["global_orient"], hands["hand_pose"]], -1).reshape(-1, 2, 16, 3)
    parameters = HandParameters(*(torch.from_numpy(np.ascontiguousarray(a)) for a in (pose, hands["betas"], hands["transl"])))
    _check_numbers(path, parameters, present)
    told = None if confidence is None else torch.from_numpy(np.ascontiguousarray(confidence, np.float32))
    return HandsFile(form, hand_model, parameters, torch.from_numpy(present.all(1)), told, content, one)


def _array(path: Path, name: str, array: np.ndarray, shape: tuple[int, ...], one: bool) -> Float[np.ndarray, "n ..."]:
    expected = " x ".join(str(n) for n in shape)
    if array.dtype.kind not in "fiu" or array.shape[0 if one else 1 :] != shape or array.ndim != len(shape) + (not one):
        raise UserError(
            f"{name} of {path} has shape {array.shape} and type {array.dtype}; it must hold numbers of shape {expected} for one pair, or "
            f"n x {expected}, with both hands on the axis of length 2 (left, right)"
        )
    return np.ascontiguousarray(array[None] if one else array, np.float32)


def _numbers(path: Path, what: str, value: Any, count: int) -> Float[np.ndarray, "n"]:
    try:
        array = np.asarray(value, np.float32).ravel()
    except (TypeError, ValueError) as error:
        raise UserError(f"{what} in {path} holds no numbers ({error}); give {count}") from error
    if value is None or array.size != count:
        raise UserError(f"{what} in {path} has {0 if value is None else array.size} numbers; give {count}")
    return array


def _confidence(path: Path, arrays: dict[str, np.ndarray], one: bool) -> Tensor | None:
    if "keypoint_confidence" not in arrays:
        return None
    confidence = torch.from_numpy(_array(path, "keypoint_confidence", arrays["keypoint_confidence"], (2, 21), one))
    if not bool(confidence.isfinite().all()):
        raise UserError(f"keypoint_confidence of {path} holds NaN or infinite numbers; leave it out, or give numbers from 0 to 1")
    return confidence.clamp(0, 1)


def _check_numbers(path: Path, parameters: HandParameters, present: Bool[np.ndarray, "n hand"]) -> None:
    """UserError naming the first hand whose numbers are no hand's."""
    limits = (
        ("pose", parameters.pose, LARGEST_ANGLE_RAD, "rad", "rotation vectors are in radians, not degrees"),
        ("shape", parameters.shape, LARGEST_SHAPE, "standard deviations", "no hand is shaped so; fit it anew or set its shape to 0"),
        ("translation", parameters.translation_m, LARGEST_DISTANCE_M, "m", "translations are in metres, not millimetres"),
    )
    for name, array, largest, unit, remedy in limits:
        for i, h in np.argwhere(present).tolist():
            numbers = array[i, h]
            where = f"{name} of the {SIDES[h]} hand of pair {i} in {path}"
            if not bool(numbers.isfinite().all()):
                raise UserError(f"{where} holds NaN or infinite numbers; leave out the frames where a hand was not found")
            if (size := float(numbers.abs().max())) > largest:
                raise UserError(f"{where} holds {size:.3g}, beyond {largest:.3g} {unit}; {remedy}")


def write_hands(path: Path, file: HandsFile, result: RefineResult, model: HandModel) -> None:
    """`result` (of all pairs of the file) in the form in which they came, written beside and then renamed. UserError if that fails."""
    before, after = result.volume_before_cm3.numpy(), result.volume_after_cm3.numpy()
    refined = result.refined.numpy()
    if file.form == "mano json":
        text = json.dumps(_json_content(file, result), indent=1)
        _replace(path, text.encode())
        return
    arrays = dict(file.content)
    parameters = result.parameters
    if file.form == "twohands":
        mesh = model.pose_hands(parameters).mesh()
        present = torch.from_numpy(np.asarray(arrays.get("hand_present", np.ones((len(before), 2), bool))).reshape(-1, 2).astype(bool))
        changed = {"pose": parameters.pose, "shape": parameters.shape, "translation_m": parameters.translation_m}
        made = {"vertices_m": mesh.vertices_m, "keypoints_m": mesh.keypoints_m}
        if "camera_matrix" in arrays:
            camera = Camera.from_matrix(torch.from_numpy(np.asarray(arrays["camera_matrix"], np.float32)))
            xy = camera.map(lambda t: t.expand(len(before), 2, 2)).project(mesh.keypoints_m)
            made |= {"keypoints_xy": xy, "box_xyxy_px": torch.cat([xy.amin(2), xy.amax(2)], -1)}
        # What an absent hand's numbers were stays.
        for name, array in made.items():
            if name in arrays and arrays[name].shape == tuple(array.shape):
                keep = present.view(len(before), 2, *[1] * (array.ndim - 2))
                changed[name] = torch.where(keep, array, torch.from_numpy(np.asarray(arrays[name], np.float32)))
        arrays |= {name: _like(array.numpy(), file.one) for name, array in changed.items()}
        names = ("penetration_before_cm3", "penetration_cm3", "refined")
    else:
        pose = parameters.pose.flatten(2).numpy()
        fields = {"global_orient": pose[..., :3], "hand_pose": pose[..., 3:], "betas": parameters.shape.numpy()}
        arrays |= {name: _like(array, file.one) for name, array in (fields | {"transl": parameters.translation_m.numpy()}).items()}
        names = ("volume_before_cm3", "volume_after_cm3", "refined")
    arrays |= {name: _like(array, file.one) for name, array in zip(names, (before, after, refined), strict=True)}
    arrays["resolved"] = _like(result.resolved.numpy(), file.one)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as out:
            np.savez_compressed(out, **arrays)
        os.replace(part, path)
    except OSError as error:
        raise UserError(f"cannot write {path} ({error.strerror}); choose another place with --out") from error
    finally:
        part.unlink(missing_ok=True)


def _like(array: np.ndarray, one: bool) -> np.ndarray:
    return array[0] if one else array


def _json_content(file: HandsFile, result: RefineResult) -> Any:
    content = json.loads(json.dumps(file.content))
    pairs = [content] if file.one else content["pairs"] if isinstance(content, dict) else content
    for i, pair in enumerate(pairs):
        parameters = result.parameters[i]
        for h, side in enumerate(SIDES):
            if isinstance(pair.get(side), dict) and bool(result.refined[i]):
                pose = parameters.pose[h].flatten().tolist()
                pair[side] |= {
                    "global_orient": pose[:3], "hand_pose": pose[3:], "betas": parameters.shape[h].tolist(),
                    "transl": parameters.translation_m[h].tolist(),
                }  # fmt: skip
        pair |= {
            "volume_before_cm3": float(result.volume_before_cm3[i]), "volume_after_cm3": float(result.volume_after_cm3[i]),
            "refined": bool(result.refined[i]), "resolved": bool(result.resolved[i]),
        }  # fmt: skip
    return content


def _replace(path: Path, content: bytes) -> None:
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_bytes(content)
        os.replace(part, path)
    except OSError as error:
        raise UserError(f"cannot write {path} ({error.strerror}); choose another place with --out") from error
    finally:
        part.unlink(missing_ok=True)
