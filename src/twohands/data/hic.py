"""HIC, hands in action: pairs of hands before one RGB-D camera (Tzionas et al., IJCV 2016), with MANO meshes as InterWild lists them."""

from pathlib import Path

import numpy as np
import torch
import trimesh
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
from twohands.data.index import expected_content, read_json
from twohands.errors import UserError
from twohands.hands.mano import FINGERTIP_TABLES
from twohands.hands.parameters import HandParameters
from twohands.joints import FINGERS, OPENPOSE21, OPENPOSE21_FROM_MANO16_AND_TIPS

INFO = DatasetInfo(
    name="hic",
    title="HIC (hands in action), hand - hand sequences",
    splits=("test",),
    licence="research only, not for commercial use",
    where="https://files.is.tue.mpg.de/dtzionas/Hand-Object-Capture/ (archives of the sequences and "
    "IJCV16___Results_MANO___parms_for___joints21.zip); HIC.json from the README of github.com/facebookresearch/InterWild",
    layout=("{picture}", "HIC.json", "{mesh}.ply"),
    joint_names=OPENPOSE21,
    mano=ManoConvention(flat_hand_mean=False, fingertips="interwild"),
)

FOCAL_PX = (525.0, 525.0)
PRINCIPAL_PX = (319.5, 239.5)
"""Counted from the centre of the first pixel, as the data set's own code does."""


class Hic(Dataset):
    """All annotations of HIC.json. The truth are meshes: joints are regressed from them if MANO is given, else only fingertips, which are vertices, are
    known. There are no MANO parameters."""

    info = INFO

    def __init__(self, folder: Path, split: str, mano: Path | None = None) -> None:
        """UserError if HIC.json is missing, cut short or of another kind."""
        super().__init__(folder, split, mano)
        path = folder / "HIC.json"
        content = read_json(path)
        with expected_content(path):
            pictures = {image["id"]: image for image in content["images"]}
            self._rows = [(annotation, pictures[annotation["image_id"]]) for annotation in content["annotations"]]
            for annotation, image in self._rows:
                if annotation["hand_type"] not in ("left", "right", "interacting"):
                    raise ValueError(f"hand_type {annotation['hand_type']!r}")
                if not {"id", "left_mano_path", "right_mano_path"} <= set(annotation) or not {"file_name", "width", "height"} <= set(image):
                    raise ValueError(f"annotation {annotation.get('id')} lacks a field")
        if not self._rows:
            raise UserError(f"{path} lists no annotations; download it again")

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def ids(self) -> np.ndarray:
        return np.array([str(annotation["id"]) for annotation, _ in self._rows])

    def annotation(self, index: int) -> Annotation:
        stored, image = self._rows[index]
        vertices, there = self.vertices(index)
        camera = file_camera(FOCAL_PX, PRINCIPAL_PX)
        joints, valid = self._joints(vertices, there)
        xy, known = projected(camera, joints, valid)
        width, height = int(image["width"]), int(image["height"])
        folder, _, picture = str(image["file_name"]).rpartition("/")
        digits = "".join(filter(str.isdigit, picture))
        return Annotation(
            id=str(stored["id"]),
            image_path=self.folder / str(image["file_name"]),
            width_px=width,
            height_px=height,
            sequence=folder.split("/")[0],
            camera_id="0",
            frame=int(digits) if digits else index,
            hand_type=stored["hand_type"],
            hand_type_valid=True,
            camera=camera,
            distortion=None,
            joint_names=OPENPOSE21,
            joints_m=joints,
            joints_3d_valid=valid,
            joints_xy=xy,
            joints_2d_valid=known,
            joints_in_image=known & in_picture(xy, width, height),
            fit_available=there,
            parameters=HandParameters.zeros(),
            parameters_valid=torch.zeros(2, dtype=torch.bool),
        )

    def vertices(self, index: int) -> tuple[Float[Tensor, "hand 778 3"], Bool[Tensor, "hand"]]:
        stored, _ = self._rows[index]
        vertices, there = torch.zeros(2, VERTICES, 3), torch.zeros(2, dtype=torch.bool)
        for hand, side in enumerate(("left", "right")):
            if stored[f"{side}_mano_path"] is not None:
                vertices[hand] = torch.from_numpy(_read_mesh(self.folder / str(stored[f"{side}_mano_path"])))
                there[hand] = True
        return vertices, there

    def _joints(self, vertices: Float[Tensor, "hand 778 3"], there: Bool[Tensor, "hand"]) -> tuple[Tensor, Tensor]:
        """OPENPOSE21 and which of them are known."""
        assert INFO.mano is not None
        tips = torch.stack([vertices[h, list(FINGERTIP_TABLES[INFO.mano.fingertips][h])] for h in (0, 1)])
        if self.mano is None:
            joints, valid = torch.zeros(2, 21, 3), torch.zeros(2, 21, dtype=torch.bool)
            index = [OPENPOSE21.index(f"{finger}4") for finger in FINGERS]
            joints[:, index] = tips
            valid[:, index] = there[:, None]
            return joints, valid
        regressed = torch.einsum("hjv,hvc->hjc", self.mano.data.J_regressor, vertices)
        joints = torch.cat([regressed, tips], 1)[:, list(OPENPOSE21_FROM_MANO16_AND_TIPS)]
        return joints, there[:, None].expand(2, 21).clone()


def _read_mesh(path: Path) -> np.ndarray:
    """The vertices of a PLY file in its own order, metres in the camera frame."""
    if not path.is_file():
        raise UserError(f"{path} is missing; unpack IJCV16___Results_MANO___parms_for___joints21.zip beside HIC.json")
    try:
        vertices = np.asarray(trimesh.load_mesh(path, process=False).vertices, np.float32)
    # trimesh raises whatever a broken header leads it to.
    except Exception as error:
        raise UserError(f"{path} is no readable mesh ({type(error).__name__}: {error}); download it again") from error
    if vertices.shape != (VERTICES, 3) or not np.isfinite(vertices).all():
        raise UserError(f"{path} has {len(vertices)} vertices and not the {VERTICES} of a MANO hand; download it again")
    return vertices
