"""COCO-WholeBody: hands of people in photos, in 2D (Jin et al., ECCV 2020), with NeuralAnnot's pseudo fits where they are at hand."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from twohands.data.dataset import Annotation, Dataset, DatasetInfo, HandType, ManoConvention, file_camera
from twohands.data.index import Columns, Rows, expected_content, open_index, read_json_items, read_json_pairs, rows_of_ids, text
from twohands.errors import UserError
from twohands.geometry.camera import Camera
from twohands.geometry.photo import DEFAULT_FOV_DEG
from twohands.hands.parameters import HandParameters
from twohands.hands.rigid import rotation_between
from twohands.joints import OPENPOSE21

INFO = DatasetInfo(
    name="coco_wholebody",
    title="COCO-WholeBody v1.0, hands",
    splits=("train", "val"),
    licence="annotations CC BY-NC 4.0: not for commercial use; the photos have their own licences",
    where="https://github.com/jin-s13/COCO-WholeBody (annotations), https://cocodataset.org (train2017, val2017); "
    "MSCOCO_train_MANO_NeuralAnnot.json, which is optional, from https://github.com/mks0601/NeuralAnnot_RELEASE",
    layout=(
        "{split}2017/{picture}.jpg",
        "annotations/coco_wholebody_{split}_v1.0.json",
    ),
    joint_names=OPENPOSE21,
    mano=ManoConvention(flat_hand_mean=False, fingertips="interwild"),
)

_VERSION = 1
_SIDES = ("left", "right")


class CocoWholeBody(Dataset):
    """One annotation for each person with a hand that was clear enough to be labelled: crowds and people without body keypoints are left out, as
    InterWild does. There is no 3D and no camera: the camera is the default one, and the fits, each made in a camera of its own, are turned and
    moved so that in this one the wrist lies on the same ray and the hand has about the same size."""

    info = INFO

    def __init__(self, folder: Path, split: str, mano: Path | None = None) -> None:
        """UserError if an annotation file is missing, cut short or of another kind."""
        super().__init__(folder, split, mano)
        annotations = folder / "annotations" / f"coco_wholebody_{split}_v1.0.json"
        fits = folder / "annotations" / f"MSCOCO_{split}_MANO_NeuralAnnot.json"
        sources = [annotations, *([fits] if fits.is_file() else [])]
        self._columns = open_index(folder, f"coco_wholebody-{split}", _VERSION, sources, lambda: _build(*sources))
        pictures = folder / f"{split}2017"
        self._pictures = pictures if pictures.is_dir() else folder / "images" / f"{split}2017"

    def __len__(self) -> int:
        return len(self._columns["id"])

    @property
    def ids(self) -> np.ndarray:
        return np.asarray(self._columns["id"]).astype(str)

    def sequences(self, indices: np.ndarray) -> np.ndarray:
        return np.char.rpartition(np.char.decode(np.asarray(self._columns["file"])[indices]), ".")[:, 0]

    def annotation(self, index: int) -> Annotation:
        c = self._columns
        width, height = int(c["width_px"][index]), int(c["height_px"][index])
        camera = Camera.from_fov(width, height, DEFAULT_FOV_DEG)
        keypoints = torch.from_numpy(np.array(c["keypoints"][index]))
        hand_valid = torch.from_numpy(np.array(c["hand_valid"][index]))
        known = (keypoints[..., 2] > 0) & hand_valid[:, None]
        xy = torch.where(known[..., None], keypoints[..., :2] + 0.5, 0.0)
        there = torch.from_numpy(np.array(c["fit_there"][index]))
        parameters, parameters_valid = self._fits(index, there, camera)
        hand_type: HandType = "interacting" if bool(hand_valid.all()) else ("left" if hand_valid[0] else "right")
        return Annotation(
            id=str(int(c["id"][index])),
            image_path=self._pictures / text(c["file"][index]),
            width_px=width,
            height_px=height,
            sequence=text(c["file"][index]).rpartition(".")[0],
            camera_id="0",
            frame=int(c["image_id"][index]),
            hand_type=hand_type,
            hand_type_valid=True,
            camera=camera,
            distortion=None,
            joint_names=OPENPOSE21,
            joints_m=torch.zeros(2, 21, 3),
            joints_3d_valid=torch.zeros(2, 21, dtype=torch.bool),
            joints_xy=xy,
            joints_2d_valid=known,
            joints_in_image=known,
            fit_available=there,
            parameters=parameters,
            parameters_valid=parameters_valid,
        )

    def _fits(self, index: int, there: Bool[Tensor, "hand"], camera: Camera) -> tuple[HandParameters, Bool[Tensor, "hand"]]:
        """The fits brought from their own cameras into `camera`, hand by hand."""
        parameters, valid = HandParameters.zeros(), torch.zeros(2, dtype=torch.bool)
        if self.mano is None:
            return parameters, valid
        c = self._columns
        for hand in np.flatnonzero(there):
            own = file_camera(c["fit_focal_px"][index, hand], c["fit_principal_px"][index, hand])
            stored = HandParameters.zeros()
            for name, values in (("pose", stored.pose), ("shape", stored.shape), ("translation_m", stored.translation_m)):
                values[hand] = torch.from_numpy(np.array(c[f"fit_{name}"][index, hand])).view_as(values[hand])
            only = torch.arange(2) == int(hand)
            placed, _ = self._parameters(stored, only, torch.eye(3), torch.zeros(3))
            wrist = self.mano.pose_hands(placed).joints_m[hand, 0]
            if not bool(wrist[2] > 0):
                continue
            R, t = _between_cameras(own, camera, wrist)
            moved, _ = self._parameters(stored, only, R, t)
            for name in ("pose", "shape", "translation_m"):
                getattr(parameters, name)[hand] = getattr(moved, name)[hand]
            valid[hand] = True
        return parameters, valid


def _between_cameras(own: Camera, camera: Camera, wrist_m: Float[Tensor, "3"]) -> tuple[Tensor, Tensor]:
    """(R, t) that keeps the wrist's pixel and what the view shows of the hand: turned with the ray, nearer as the focal length is shorter."""
    xy = own.project(wrist_m[None])
    depth_m = wrist_m[2] * camera.focal_px.mean() / own.focal_px.mean()
    place = camera.unproject(xy, depth_m[None])[0]
    R = rotation_between(wrist_m, place)
    return R, place - R @ wrist_m


def _build(annotations: Path, fits: Path | None = None) -> Columns:
    pictures = Rows({"image_id": ("i8", ()), "file": ("S32", ()), "width_px": ("i2", ()), "height_px": ("i2", ())})
    with expected_content(annotations):
        for image in read_json_items(annotations, "images.item"):
            pictures.add({"image_id": image["id"], "file": image["file_name"], "width_px": image["width"], "height_px": image["height"]})
    people = Rows({"id": ("i8", ()), "image_id": ("i8", ()), "keypoints": ("f4", (2, 21, 3)), "hand_valid": ("?", (2,))})
    with expected_content(annotations):
        for person in read_json_items(annotations, "annotations.item"):
            valid = [bool(person[f"{side}hand_valid"]) for side in _SIDES]
            if person["iscrowd"] or person["num_keypoints"] == 0 or not any(valid):
                continue
            keypoints = [np.array(person[f"{side}hand_kpts"], np.float32).reshape(21, 3) for side in _SIDES]
            people.add({"id": person["id"], "image_id": person["image_id"], "keypoints": keypoints, "hand_valid": valid})
    if len(people) == 0:
        raise UserError(f"{annotations} has nobody with a labelled hand; download it again")
    columns, images = people.columns(), pictures.columns()
    picture = rows_of_ids(images["image_id"], columns["image_id"], annotations)
    columns |= {name: images[name][picture] for name in ("file", "width_px", "height_px")}
    return columns | _read_fits(fits, columns["id"])


def _read_fits(path: Path | None, ids: np.ndarray) -> Columns:
    count = len(ids)
    shapes = {"pose": 48, "shape": 10, "translation_m": 3, "focal_px": 2, "principal_px": 2}
    columns = {f"fit_{name}": np.zeros((count, 2, size), np.float32) for name, size in shapes.items()}
    columns["fit_there"] = np.zeros((count, 2), bool)
    if path is None:
        return columns
    row_of = {str(id_): row for row, id_ in enumerate(ids.tolist())}
    hands: dict[str, Any]
    with expected_content(path):
        for name, hands in read_json_pairs(path):
            if (row := row_of.get(name)) is None:
                continue
            for hand, side in enumerate(_SIDES):
                if (fit := hands[side]) is None:
                    continue
                values = (
                    *(fit["mano_param"][key] for key in ("pose", "shape", "trans")),
                    *(fit["cam_param"][key] for key in ("focal", "princpt")),
                )
                for field, numbers in zip(shapes, values, strict=True):
                    columns[f"fit_{field}"][row, hand] = np.asarray(numbers, np.float32).reshape(-1)
                columns["fit_there"][row, hand] = True
    return columns
