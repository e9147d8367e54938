"""MANO for those who own it: `MANO_RIGHT.pkl` and `MANO_LEFT.pkl` become the same HandModel as the bundled hand.

The files are Python 2 pickles that name chumpy and scipy classes. A pickle can call anything it can name, so the reader here lets it name
only a short list of passive things (passive_pickle.py). chumpy is not needed.

Romero, Tzionas, Black: Embodied Hands, SIGGRAPH Asia 2017. The licence of the files forbids commercial use; nothing of them ships here.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from twohands.errors import UserError
from twohands.hands.model import HandModel, HandModelData
from twohands.joints import MANO16_PARENTS
from twohands.passive_pickle import as_array, read_passive_pickle

FINGERTIP_TABLES = {
    "smplx": ((744, 320, 443, 554, 671), (744, 320, 443, 554, 671)),
    "manopth": ((745, 317, 445, 556, 673), (745, 317, 444, 556, 673)),
    "intaghand": ((745, 317, 444, 556, 673), (745, 317, 444, 556, 673)),
    "interwild": ((745, 317, 445, 556, 673), (745, 317, 445, 556, 673)),
    "freihand": ((744, 320, 443, 555, 672), (744, 320, 443, 555, 672)),
    "intaghand_local": ((744, 320, 444, 555, 672), (744, 320, 444, 555, 672)),
}
"""Which vertices are called fingertips (thumb, index, middle, ring, little finger; left hand, then right) in the code that made a data set.
They differ by up to 5 mm, so a score must name its table. "smplx" is that of HaMeR and WiLoR."""

_REMEDY = "download it again from mano.is.tue.mpg.de"
_FILES = ("MANO_LEFT.pkl", "MANO_RIGHT.pkl")
_SHAPES = {
    "v_template": (778, 3),
    "shapedirs": (778, 3, 10),
    "posedirs": (778, 3, 135),
    "J_regressor": (16, 778),
    "weights": (778, 16),
    "kintree_table": (2, 16),
    "hands_components": (45, 45),
    "hands_mean": (45,),
    "f": (1538, 3),
}


def load_mano(
    folder: str | Path,
    flat_hand_mean: bool = True,
    fingertips: str = "smplx",
    fix_left_shapedirs: bool = True,
) -> HandModel:
    """Both hands of MANO from a folder with `MANO_LEFT.pkl` and `MANO_RIGHT.pkl`, float32 on the CPU.

    `flat_hand_mean=True` takes poses relative to the flat hand, as networks that predict rotation matrices do; False adds MANO's mean pose,
    as the stored poses of InterHand2.6M, Re:InterHand and FreiHAND need (HO-3D's do not). `fingertips` names a row of FINGERTIP_TABLES.
    `fix_left_shapedirs` repairs the x components of the left hand's shape directions, which the published file has with the right hand's
    sign (vchoutas/smplx issue 48); keep it off only for annotations fitted without the repair, such as DexYCB's.

    UserError if a file is missing, is not what MANO's website gives, or names anything that could run code."""
    if fingertips not in FINGERTIP_TABLES:
        raise UserError(f"no fingertip table is called {fingertips!r}; choose one of {', '.join(FINGERTIP_TABLES)}")
    left, right = (_read_hand(Path(folder) / name) for name in _FILES)
    if fix_left_shapedirs and np.abs(left["shapedirs"][:, 0] - right["shapedirs"][:, 0]).sum() < 1:
        left["shapedirs"][:, 0] *= -1

    def both(field: str) -> Tensor:
        return torch.from_numpy(np.stack([left[field], right[field]]))

    return HandModel(
        HandModelData(
            name="mano",
            v_template=both("v_template").float(),
            shapedirs=both("shapedirs").float(),
            posedirs=both("posedirs").float(),
            J_regressor=both("J_regressor").float(),
            weights=both("weights").float(),
            faces=both("f").long(),
            tip_vertices=torch.tensor(FINGERTIP_TABLES[fingertips]),
            hands_mean=both("hands_mean").float(),
            hands_components=both("hands_components").float(),
        ),
        flat_hand_mean,
    )


def _read_hand(path: Path) -> dict[str, np.ndarray]:
    """The arrays of one file, float64 (faces and tree int64), with their shapes checked."""
    if not path.is_file():
        raise UserError(
            f"{path} is missing; register at mano.is.tue.mpg.de (Max Planck Institute), download 'Models & Code', and put its "
            f"{_FILES[0]} and {_FILES[1]} into {path.parent}"
        )
    content = read_passive_pickle(path, "MANO file", _REMEDY)
    if not isinstance(content, dict):
        raise UserError(f"{path} holds a {type(content).__name__} and not the table of a MANO hand; download it again")
    arrays = {}
    for field, shape in _SHAPES.items():
        if field not in content:
            raise UserError(f"{path} has no {field!r}, so it is no MANO hand; use {' or '.join(_FILES)} of mano.is.tue.mpg.de")
        array = as_array(content[field], f"{field} of {path}", "use the files of mano.is.tue.mpg.de")
        if array.shape != shape:
            raise UserError(f"{field} of {path} has shape {array.shape} instead of {shape}; use the hand files of mano.is.tue.mpg.de")
        arrays[field] = array.astype(np.int64 if field in ("f", "kintree_table") else np.float64)
    # The root's parent is -1 stored as an unsigned 32-bit number.
    parents = arrays["kintree_table"][0].astype(np.uint32).astype(np.int32)
    if tuple(parents) != MANO16_PARENTS:
        raise UserError(f"the joints of {path} have parents {parents.tolist()} instead of {list(MANO16_PARENTS)}; use MANO v1.2's files")
    if not 0 <= arrays["f"].min() <= arrays["f"].max() < 778:
        raise UserError(f"the faces of {path} name vertices beyond 0 to 777; download the file again")
    return arrays
