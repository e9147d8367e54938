"""InterHand2.6M v1.0 at 5 frames a second, with its NeuralAnnot MANO fits (Moon et al., ECCV 2020; Moon et al., CVPRW 2022)."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from twohands.data.dataset import Annotation, Dataset, DatasetInfo, HandType, ManoConvention, file_camera, projected
from twohands.data.index import Columns, Rows, expected_content, open_index, read_json, read_json_items, read_json_pairs, rows_of_ids, text
from twohands.errors import UserError
from twohands.hands.parameters import HandParameters
from twohands.joints import INTERHAND21

INFO = DatasetInfo(
    name="interhand26m",
    title="InterHand2.6M v1.0, 5 fps, with MANO fits (NeuralAnnot)",
    splits=("train", "val", "test"),
    licence="CC BY-NC 4.0: not for commercial use",
    where="https://mks0601.github.io/InterHand2.6M/ (images and annotations of v1.0, 5 fps; MANO parameters)",
    layout=(
        "images/{split}/Capture{capture}/{sequence}/cam{camera}/image{frame}.jpg",
        "annotations/{split}/InterHand2.6M_{split}_data.json",
        "annotations/{split}/InterHand2.6M_{split}_camera.json",
        "annotations/{split}/InterHand2.6M_{split}_joint_3d.json",
        "annotations/{split}/InterHand2.6M_{split}_MANO_NeuralAnnot.json",
    ),
    joint_names=INTERHAND21,
    mano=ManoConvention(flat_hand_mean=False, fingertips="interwild"),
)

HAND_TYPES: tuple[HandType, ...] = ("none", "right", "left", "interacting")
WRONG_3D = {("val", 0, 29700)}
"""(split, capture, frame) whose triangulated joints are known to be wrong, by 42 mm; their 3D is masked, their pictures stay."""

_VERSION = 1


class InterHand26M(Dataset):
    """One annotation per picture, single hands and pairs, in the order of `_data.json`."""

    info = INFO

    def __init__(self, folder: Path, split: str, mano: Path | None = None) -> None:
        """UserError if an annotation file is missing, cut short or of another kind."""
        super().__init__(folder, split, mano)
        files = _files(folder, split)
        self._columns = open_index(folder, f"interhand26m-{split}", _VERSION, list(files.values()), lambda: _build(files))

    def __len__(self) -> int:
        return len(self._columns["id"])

    @property
    def ids(self) -> np.ndarray:
        return np.asarray(self._columns["id"]).astype(str)

    def sequences(self, indices: np.ndarray) -> np.ndarray:
        c = self._columns
        captures = np.char.add("Capture", np.asarray(c["capture"])[indices].astype(str))
        names = np.char.decode(np.asarray(c["sequences"]))[np.asarray(c["sequence"])[indices]]
        return np.char.add(np.char.add(captures, "/"), names)

    def annotation(self, index: int) -> Annotation:
        c = self._columns
        camera_row, moment = int(c["camera"][index]), int(c["moment"][index])
        R, position_mm = c["camera_R"][camera_row], c["camera_position_mm"][camera_row]
        camera = file_camera(c["camera_focal_px"][camera_row], c["camera_principal_px"][camera_row])
        world_mm, valid = np.zeros((42, 3), np.float32), np.zeros(42, bool)
        capture, frame = int(c["capture"][index]), int(c["frame"][index])
        if moment >= 0 and (self.split, capture, frame) not in WRONG_3D:
            world_mm, valid = c["moment_world_mm"][moment], c["moment_joint_valid"][moment].astype(bool)
        joints_m = np.where(valid[:, None], (world_mm - position_mm) @ R.T / np.float32(1000), np.float32(0))
        # The files have the right hand first.
        joints = torch.from_numpy(joints_m.reshape(2, 21, 3)[::-1].copy())
        valid_3d = torch.from_numpy(valid.reshape(2, 21)[::-1].copy())
        xy, known = projected(camera, joints, valid_3d)
        counted = np.unpackbits(c["joint_valid"][index])[:42].astype(bool).reshape(2, 21)[::-1]
        fits, fit_available = self._fit(moment)
        R_camera_world = torch.from_numpy(np.array(R))
        parameters, parameters_valid = self._parameters(
            fits, fit_available, R_camera_world, -R_camera_world @ torch.from_numpy(np.array(position_mm)) / 1000
        )
        folder = text(c["folders"][c["folder"][index]])
        return Annotation(
            id=str(int(c["id"][index])),
            image_path=self.folder / "images" / self.split / folder / text(c["file"][index]),
            width_px=int(c["width_px"][index]),
            height_px=int(c["height_px"][index]),
            sequence=f"Capture{capture}/{text(c['sequences'][c['sequence'][index]])}",
            camera_id=text(c["camera_name"][camera_row]),
            frame=frame,
            hand_type=HAND_TYPES[c["hand_type"][index]],
            hand_type_valid=bool(c["hand_type_valid"][index]),
            camera=camera,
            distortion=None,
            joint_names=INTERHAND21,
            joints_m=joints,
            joints_3d_valid=valid_3d,
            joints_xy=xy,
            joints_2d_valid=known,
            joints_in_image=torch.from_numpy(counted.copy()),
            fit_available=fit_available,
            parameters=parameters,
            parameters_valid=parameters_valid,
        )

    def _fit(self, moment: int) -> tuple[HandParameters, Tensor]:
        """World frame, as stored, and which hands have one."""
        c = self._columns
        row = int(c["moment_fit"][moment]) if moment >= 0 else -1
        if row < 0:
            return HandParameters.zeros(), torch.zeros(2, dtype=torch.bool)
        pose, shape, translation, there = (
            torch.from_numpy(np.array(c[f"fit_{name}"][row])) for name in ("pose", "shape", "translation_m", "there")
        )
        return HandParameters(pose.view(2, 16, 3), shape, translation), there


def read_id_list(folder: Path, split: str) -> list[str]:
    """The annotation ids of the human-annotated part ("H") of a split, as InterWild publishes them; the files of v1.0 do not tell H from M."""
    name = f"aid_human_annot_{split}.txt"
    for path in (folder / name, folder / "annotations" / name, folder / "annotations" / split / name):
        if path.is_file():
            words = path.read_text(encoding="utf-8").split()
            if not words or not all(word.isdigit() for word in words):
                raise UserError(f"{path} is no list of annotation ids, one a line; download it again")
            return words
    raise UserError(f"{folder / name} is missing; take it from data/InterHand26M of github.com/facebookresearch/InterWild and put it there")


def _files(folder: Path, split: str) -> dict[str, Path]:
    base = folder / "annotations" / split
    return {kind: base / f"InterHand2.6M_{split}_{kind}.json" for kind in ("data", "camera", "joint_3d", "MANO_NeuralAnnot")}


class _Names:
    """Strings as numbers, in order of first use."""

    def __init__(self) -> None:
        self._number: dict[str, int] = {}

    def __call__(self, name: str) -> int:
        return self._number.setdefault(name, len(self._number))

    def column(self) -> np.ndarray:
        return np.array([name.encode() for name in self._number], dtype="S")


def _build(files: dict[str, Path]) -> Columns:
    cameras, camera_row = _cameras(files["camera"])
    moments, moment_row = _moments(files["joint_3d"])
    fits = _fits(files["MANO_NeuralAnnot"], moments, moment_row)
    pictures, names = _pictures(files["data"], camera_row, moment_row)
    annotations = _annotations(files["data"])
    picture = rows_of_ids(pictures["image_id"], annotations["image_id"], files["data"])
    del annotations["image_id"], pictures["image_id"]
    joined = {name: values[picture] for name, values in pictures.items()}
    return annotations | joined | names | cameras | moments | fits


def _cameras(path: Path) -> tuple[Columns, dict[tuple[str, str], int]]:
    rows = Rows({
        "camera_R": ("f4", (3, 3)), "camera_position_mm": ("f4", (3,)), "camera_focal_px": ("f4", (2,)), "camera_principal_px": ("f4", (2,)),
        "camera_name": ("S16", ()),
    }, block=1024)  # fmt: skip
    found: dict[tuple[str, str], int] = {}
    content = read_json(path)
    with expected_content(path):
        for capture, values in content.items():
            for name in values["campos"]:
                found[capture, name] = len(rows)
                rows.add({
                    "camera_R": values["camrot"][name], "camera_position_mm": values["campos"][name],
                    "camera_focal_px": values["focal"][name], "camera_principal_px": values["princpt"][name], "camera_name": name,
                })  # fmt: skip
    return rows.columns(), found


def _moments(path: Path) -> tuple[Columns, dict[tuple[str, str], int]]:
    """Joints of each (capture, frame), in the world."""
    rows = Rows({"moment_world_mm": ("f4", (42, 3)), "moment_joint_valid": ("u1", (42,))}, block=4096)
    found: dict[tuple[str, str], int] = {}
    with expected_content(path):
        for capture, frames in read_json_pairs(path):
            for frame, values in frames.items():
                found[capture, frame] = len(rows)
                rows.add({"moment_world_mm": values["world_coord"], "moment_joint_valid": values["joint_valid"]})
    return rows.columns(), found


def _fits(path: Path, moments: Columns, moment_row: dict[tuple[str, str], int]) -> Columns:
    """MANO fits of each (capture, frame), in the world; adds `moment_fit`, which has -1 for moments without one."""
    rows = Rows({
        "fit_pose": ("f4", (2, 48)), "fit_shape": ("f4", (2, 10)), "fit_translation_m": ("f4", (2, 3)), "fit_there": ("?", (2,)),
    }, block=4096)  # fmt: skip
    of_moment = np.full(len(moments["moment_joint_valid"]), -1, np.int32)
    with expected_content(path):
        for capture, frames in read_json_pairs(path):
            for frame, hands in frames.items():
                both = [hands["left"], hands["right"]]
                if (moment := moment_row.get((capture, frame))) is None or both == [None, None]:
                    continue
                of_moment[moment] = len(rows)
                rows.add({
                    "fit_pose": [h["pose"] if h else [0.0] * 48 for h in both], "fit_shape": [h["shape"] if h else [0.0] * 10 for h in both],
                    "fit_translation_m": [h["trans"] if h else [0.0] * 3 for h in both], "fit_there": [h is not None for h in both],
                })  # fmt: skip
    return rows.columns() | {"moment_fit": of_moment}


def _pictures(path: Path, camera_row: dict[tuple[str, str], int], moment_row: dict[tuple[str, str], int]) -> tuple[Columns, Columns]:
    """Columns over pictures, and the tables of names that they number."""
    rows = Rows({
        "image_id": ("i8", ()), "folder": ("i4", ()), "file": ("S24", ()), "sequence": ("i2", ()), "width_px": ("i2", ()), "height_px": ("i2", ()),
        "capture": ("i2", ()), "frame": ("i4", ()), "camera": ("i4", ()), "moment": ("i4", ()),
    })  # fmt: skip
    folders, sequences = _Names(), _Names()
    image: dict[str, Any]
    with expected_content(path):
        for image in read_json_items(path, "images.item"):
            capture, frame, camera = str(image["capture"]), image["frame_idx"], str(image["camera"])
            if (capture, camera) not in camera_row:
                raise UserError(f"{path} names camera {camera} of capture {capture}, which the camera file lacks; download both again")
            folder, _, file = image["file_name"].rpartition("/")
            rows.add({
                "image_id": image["id"], "folder": folders(folder), "file": file, "sequence": sequences(image["seq_name"]),
                "width_px": image["width"], "height_px": image["height"], "capture": image["capture"], "frame": frame,
                "camera": camera_row[capture, camera], "moment": moment_row.get((capture, str(frame)), -1),
            })  # fmt: skip
    return rows.columns(), {"folders": folders.column(), "sequences": sequences.column()}


def _annotations(path: Path) -> Columns:
    rows = Rows({
        "id": ("i8", ()), "image_id": ("i8", ()), "joint_valid": ("u1", (6,)), "hand_type": ("u1", ()), "hand_type_valid": ("?", ()),
    })  # fmt: skip
    with expected_content(path):
        for annotation in read_json_items(path, "annotations.item"):
            valid = np.array(annotation["joint_valid"], np.uint8).reshape(42)
            rows.add({
                "id": annotation["id"], "image_id": annotation["image_id"], "joint_valid": np.packbits(valid),
                "hand_type": HAND_TYPES.index(annotation["hand_type"]), "hand_type_valid": annotation["hand_type_valid"],
            })  # fmt: skip
    if len(rows) == 0:
        raise UserError(f"{path} lists no annotations; download it again")
    return rows.columns()
