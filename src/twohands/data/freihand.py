"""FreiHAND v2: single right hands before a green screen and composed backgrounds (Zimmermann et al., ICCV 2019)."""

from pathlib import Path

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
from twohands.data.index import Columns, open_index, read_json_arrays
from twohands.errors import UserError
from twohands.hands.parameters import HandParameters
from twohands.hands.rigid import rigid_between
from twohands.joints import OPENPOSE21

INFO = DatasetInfo(
    name="freihand",
    title="FreiHAND v2",
    splits=("training", "evaluation"),
    licence="research only, not for commercial use",
    where="https://lmb.informatik.uni-freiburg.de/projects/freihand/ (FreiHAND_pub_v2.zip, FreiHAND_pub_v2_eval.zip)",
    layout=(
        "{split}/rgb/{picture}.jpg",
        "{split}_K.json",
        "{split}_xyz.json",
        "{split}_verts.json",
        "{split}_mano.json",
    ),
    joint_names=OPENPOSE21,
    mano=ManoConvention(flat_hand_mean=False, fingertips="freihand"),
)

SIZE_PX = 224
VARIANTS = 4
"""Training pictures of each annotation: green screen, harmonised, colour sampled, colourised; the k-th has the number id + k * annotations."""
LARGEST_RESIDUAL_M = 0.003
"""If the parameters do not give the mesh that the files have, root mean square, they belong to another release and are not used."""

_VERSION = 1
_FIELDS = {"K": (3, 3), "xyz": (21, 3), "verts": (VERTICES, 3), "mano": (61,)}


class FreiHand(Dataset):
    """Training: all four variants of each picture. The evaluation split has truth only if its published files are there."""

    info = INFO

    def __init__(self, folder: Path, split: str, mano: Path | None = None) -> None:
        """UserError if an annotation file is missing, cut short or of another kind."""
        super().__init__(folder, split, mano)
        files = {field: folder / f"{split}_{field}.json" for field in _FIELDS}
        if split == "evaluation":
            files = {field: path for field, path in files.items() if field == "K" or path.is_file()}
        self._columns = open_index(folder, f"freihand-{split}", _VERSION, list(files.values()), lambda: _build(files))
        self._count = len(self._columns["K"])

    def __len__(self) -> int:
        return self._count * (VARIANTS if self.split == "training" else 1)

    @property
    def ids(self) -> np.ndarray:
        return np.char.zfill(np.arange(len(self)).astype(str), 8)

    def sequences(self, indices: np.ndarray) -> np.ndarray:
        return np.char.zfill((np.asarray(indices) % self._count).astype(str), 8)

    def annotation(self, index: int) -> Annotation:
        if not 0 <= index < len(self):
            raise IndexError(index)
        c, row = self._columns, index % self._count
        camera = file_camera(c["K"][row].diagonal()[:2], c["K"][row][:2, 2])
        joints, valid = torch.zeros(2, 21, 3), torch.zeros(2, 21, dtype=torch.bool)
        if "xyz" in c:
            joints[1], valid[1] = torch.from_numpy(np.array(c["xyz"][row])), True
        xy, known = projected(camera, joints, valid)
        parameters, parameters_valid = self._fit(row)
        return Annotation(
            id=f"{index:08d}",
            image_path=self.folder / self.split / "rgb" / f"{index:08d}.jpg",
            width_px=SIZE_PX,
            height_px=SIZE_PX,
            sequence=f"{row:08d}",
            camera_id="0",
            frame=row,
            hand_type="right",
            hand_type_valid=True,
            camera=camera,
            distortion=None,
            joint_names=OPENPOSE21,
            joints_m=joints,
            joints_3d_valid=valid,
            joints_xy=xy,
            joints_2d_valid=known,
            joints_in_image=known & in_picture(xy, SIZE_PX, SIZE_PX),
            fit_available=torch.tensor([False, "verts" in c]),
            parameters=parameters,
            parameters_valid=parameters_valid,
        )

    def vertices(self, index: int) -> tuple[Float[Tensor, "hand 778 3"], Bool[Tensor, "hand"]]:
        vertices, valid = torch.zeros(2, VERTICES, 3), torch.zeros(2, dtype=torch.bool)
        if "verts" in self._columns:
            vertices[1], valid[1] = torch.from_numpy(np.array(self._columns["verts"][index % self._count])), True
        return vertices, valid

    def _fit(self, row: int) -> tuple[HandParameters, Bool[Tensor, "hand"]]:
        """Pose and shape of `_mano.json`, put where `_verts.json` has the mesh: the stored global rotation leaves the place open."""
        c = self._columns
        if self.mano is None or "mano" not in c or "verts" not in c:
            return HandParameters.zeros(), torch.zeros(2, dtype=torch.bool)
        numbers = torch.from_numpy(np.array(c["mano"][row]))
        stored = HandParameters.zeros()
        stored.pose[1], stored.shape[1] = numbers[:48].view(16, 3), numbers[48:58]
        right = torch.tensor([False, True])
        unmoved, _ = self._parameters(stored, right, torch.eye(3), torch.zeros(3))
        truth = torch.from_numpy(np.array(c["verts"][row]))
        R, t, residual_m = rigid_between(self.mano.pose_hands(unmoved).mesh().vertices_m[1], truth)
        if residual_m > LARGEST_RESIDUAL_M:
            return HandParameters.zeros(), torch.zeros(2, dtype=torch.bool)
        return self._parameters(stored, right, R, t)


def _build(files: dict[str, Path]) -> Columns:
    columns = {field: read_json_arrays(path, _FIELDS[field]) for field, path in files.items()}
    counts = {files[field].name: len(values) for field, values in columns.items()}
    if len(set(counts.values())) != 1 or not next(iter(counts.values())):
        raise UserError(f"the files in {files['K'].parent} are of different lengths ({counts}); download those of one release")
    return columns
