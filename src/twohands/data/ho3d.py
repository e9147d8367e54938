"""HO-3D v2 and v3: right hands with objects (Hampali et al., CVPR 2020; arXiv 2107.00887)."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from twohands.data.dataset import (
    VERTICES,
    Annotation,
    Dataset,
    DatasetInfo,
    ManoConvention,
    file_camera,
    in_picture,
    projected,
)
from twohands.data.index import Columns, Rows, expected_content, open_index, read_json_arrays, text
from twohands.errors import UserError
from twohands.hands.parameters import HandParameters
from twohands.joints import HO3D21
from twohands.passive_pickle import as_array, read_passive_pickle

INFO = DatasetInfo(
    name="ho3d",
    title="HO-3D v2 or v3",
    splits=("train", "evaluation"),
    licence="academic research only, not for commercial use",
    where="https://www.tugraz.at/index.php?id=40231 (HO-3D_v2 or HO-3D_v3; the truth of the evaluation split is linked in the README of "
    "github.com/shreyashampali/ho3d)",
    layout=(
        "{split}/{sequence}/rgb/{picture}",
        "{split}.txt",
        "{split}/{sequence}/meta/{picture}.pkl",
    ),
    joint_names=HO3D21,
    mano=ManoConvention(flat_hand_mean=True, fingertips="freihand"),
)

SIZE_PX = (640, 480)
OPENCV_OF_OPENGL = np.array([1, -1, -1], np.float32)
"""The files' camera looks along -z with y up: half a turn about x."""

_VERSION = 1
_REMEDY = "download HO-3D's archive again"


class Ho3d(Dataset):
    """The frames of `train.txt` or `evaluation.txt`, but for those whose annotation is empty. Of the evaluation split the files of the archive
    have only the wrist; the joints and meshes count if `evaluation_xyz.json` and `evaluation_verts.json` are there too."""

    info = INFO

    def __init__(self, folder: Path, split: str, mano: Path | None = None) -> None:
        """UserError if a list or an annotation is missing or broken, or names code."""
        super().__init__(folder, split, mano)
        truth = {}
        if split == "evaluation":
            named = {"xyz": folder / "evaluation_xyz.json", "verts": folder / "evaluation_verts.json"}
            truth = {name: path for name, path in named.items() if path.is_file()}
        listed = folder / f"{split}.txt"
        self._columns = open_index(
            folder, f"ho3d-{split}", _VERSION, [listed, folder / split, *truth.values()], lambda: _build(folder / split, listed, truth)
        )

    def __len__(self) -> int:
        return len(self._columns["name"])

    @property
    def ids(self) -> np.ndarray:
        return np.char.decode(np.asarray(self._columns["name"]))

    def sequences(self, indices: np.ndarray) -> np.ndarray:
        return np.char.rpartition(self.ids[indices], "/")[:, 0]

    def annotation(self, index: int) -> Annotation:
        c = self._columns
        name = text(c["name"][index])
        sequence, _, picture = name.rpartition("/")
        camera = file_camera(c["camera_matrix"][index].diagonal()[:2], c["camera_matrix"][index][:2, 2])
        joints, valid = torch.zeros(2, 21, 3), torch.zeros(2, 21, dtype=torch.bool)
        joints[1] = torch.from_numpy(c["joints_m"][index] * OPENCV_OF_OPENGL)
        valid[1] = torch.from_numpy(np.array(c["joints_valid"][index]))
        xy, known = projected(camera, joints, valid)
        fitted = bool(c["fit_there"][index])
        right = torch.tensor([False, fitted])
        stored = HandParameters.zeros()
        stored.pose[1] = torch.from_numpy(np.array(c["pose"][index])).view(16, 3)
        stored.shape[1] = torch.from_numpy(np.array(c["shape"][index]))
        stored.translation_m[1] = torch.from_numpy(np.array(c["translation_m"][index]))
        parameters, parameters_valid = self._parameters(stored, right, torch.diag(torch.from_numpy(OPENCV_OF_OPENGL)), torch.zeros(3))
        return Annotation(
            id=name,
            image_path=self.folder / self.split / sequence / "rgb" / f"{picture}.{text(c['suffix'][0])}",
            width_px=SIZE_PX[0],
            height_px=SIZE_PX[1],
            sequence=sequence,
            camera_id=sequence,
            frame=int(picture) if picture.isdigit() else index,
            hand_type="right",
            hand_type_valid=True,
            camera=camera,
            distortion=None,
            joint_names=HO3D21,
            joints_m=joints,
            joints_3d_valid=valid,
            joints_xy=xy,
            joints_2d_valid=known,
            joints_in_image=known & in_picture(xy, *SIZE_PX),
            fit_available=torch.tensor([False, fitted or "verts" in c]),
            parameters=parameters,
            parameters_valid=parameters_valid,
        )

    def vertices(self, index: int) -> tuple[Float[Tensor, "hand 778 3"], Bool[Tensor, "hand"]]:
        if "verts" not in self._columns:
            return super().vertices(index)
        vertices = torch.zeros(2, VERTICES, 3)
        vertices[1] = torch.from_numpy(self._columns["verts"][index] * OPENCV_OF_OPENGL)
        return vertices, torch.tensor([False, True])


def _build(folder: Path, listed: Path, truth: dict[str, Path]) -> Columns:
    names = listed.read_text(encoding="utf-8").split()
    if not names:
        raise UserError(f"{listed} is empty; {_REMEDY}")
    rows = Rows({
        "name": ("S32", ()), "camera_matrix": ("f4", (3, 3)), "joints_m": ("f4", (21, 3)), "joints_valid": ("?", (21,)), "fit_there": ("?", ()),
        "pose": ("f4", (48,)), "shape": ("f4", (10,)), "translation_m": ("f4", (3,)),
    }, block=8192)  # fmt: skip
    kept = []
    for k, name in enumerate(names):
        sequence, _, picture = name.rpartition("/")
        row = _row(folder / sequence / "meta" / f"{picture}.pkl")
        if row is not None:
            rows.add({"name": name} | row)
            kept.append(k)
    columns = rows.columns()
    if not kept:
        raise UserError(f"no frame of {listed} has an annotation; {_REMEDY}")
    first, _, picture = text(columns["name"][0]).rpartition("/")
    suffix = "jpg" if (folder / first / "rgb" / f"{picture}.jpg").is_file() else "png"
    columns["suffix"] = np.array([suffix.encode()])
    shapes = {"xyz": (21, 3), "verts": (VERTICES, 3)}
    for field, path in truth.items():
        values = read_json_arrays(path, shapes[field])
        if len(values) != len(names):
            raise UserError(f"{path} has {len(values)} entries for the {len(names)} frames of {listed}; take both from one release")
        if field == "verts":
            columns["verts"] = values[kept]
        else:
            columns |= {"joints_m": values[kept], "joints_valid": np.ones((len(kept), 21), bool)}
    return columns


def _row(path: Path) -> dict[str, Any] | None:
    """What one meta file says, None if it says nothing of the hand."""
    if not path.is_file():
        raise UserError(f"{path} is missing; {_REMEDY}")
    meta = read_passive_pickle(path, "meta file of HO-3D", _REMEDY)
    with expected_content(path):
        if meta["handJoints3D"] is None or meta["camMat"] is None:
            return None

        def numbers(key: str) -> np.ndarray:
            return as_array(meta[key], f"{key} of {path}", _REMEDY)

        joints = numbers("handJoints3D").reshape(-1, 3)
        row: dict[str, Any] = {
            "camera_matrix": numbers("camMat"),
            "joints_m": np.zeros((21, 3)),
            "joints_valid": np.arange(21) < len(joints),
        }
        row["joints_m"][: len(joints)] = joints
        if meta.get("handPose") is not None and meta.get("handTrans") is not None and meta.get("handBeta") is not None:
            row |= {"fit_there": True, "pose": numbers("handPose"), "shape": numbers("handBeta"), "translation_m": numbers("handTrans")}
        elif len(joints) > 1:
            return None
    return row
