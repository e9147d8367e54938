"""MANO for those who own it: `MANO_RIGHT.pkl` and `MANO_LEFT.pkl` become the same HandModel as the bundled hand.

The files are Python 2 pickles that name chumpy and scipy classes. A pickle can call anything it can name, so the reader here lets it name
only a short list of passive things: array builders of numpy, and stand-ins that do nothing but keep their state. chumpy is not needed.

Romero, Tzionas, Black: Embodied Hands, SIGGRAPH Asia 2017. The licence of the files forbids commercial use; nothing of them ships here.
"""

import pickle
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from twohands.errors import UserError
from twohands.hands.model import HandModel, HandModelData
from twohands.joints import MANO16_PARENTS

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
    with path.open("rb") as file:
        content = _read_pickle(file, path)
    arrays = {}
    for field, shape in _SHAPES.items():
        if field not in content:
            raise UserError(f"{path} has no {field!r}, so it is no MANO hand; use {' or '.join(_FILES)} of mano.is.tue.mpg.de")
        array = _as_array(content[field], f"{field} of {path}")
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


def _read_pickle(file: BinaryIO, path: Path) -> dict[str, Any]:
    try:
        content = _PassiveUnpickler(file, path).load()
    except UserError:
        raise
    # A damaged pickle can fail in any way a byte can be wrong; every failure means the same to its owner.
    except Exception as error:
        raise UserError(f"{path} is not a readable MANO file ({type(error).__name__}: {error}); download it again") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} holds a {type(content).__name__} and not the table of a MANO hand; download it again")
    return content


class _Passive:
    """Stands for an instance of a class that is not to be trusted: takes any state, does nothing with it."""

    kind = ""
    state: Any = None

    def __new__(cls, *_: Any) -> "_Passive":
        return object.__new__(cls)

    def __init__(self, *_: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        self.state = state


def _new_object(kind: type, *_: Any) -> _Passive:
    """What copyreg._reconstructor does, for passive classes only."""
    if not (isinstance(kind, type) and issubclass(kind, _Passive)):
        raise pickle.UnpicklingError(f"refuses to build {kind!r}")
    return kind()


def _latin1_bytes(text: str, encoding: str) -> bytes:
    """How pickles of protocol 2 that Python 3 wrote spell bytes."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"refuses the encoding {encoding!r}")
    return text.encode("latin1")


# The array builders are taken from what numpy itself puts into a pickle: their module has had three names and is private.
_BUILDERS: dict[str, Any] = {
    "numpy.ndarray": np.ndarray,
    "numpy.dtype": np.dtype,
    "_codecs.encode": _latin1_bytes,
}
for _core in ("numpy.core", "numpy._core"):
    _BUILDERS[f"{_core}.multiarray._reconstruct"] = np.empty(0).__reduce__()[0]
    _BUILDERS[f"{_core}.multiarray.scalar"] = np.float64(0).__reduce__()[0]
for _builtins in ("builtins", "__builtin__"):
    _BUILDERS |= {f"{_builtins}.object": object, f"{_builtins}.set": set}
for _copyreg in ("copyreg", "copy_reg"):
    _BUILDERS[f"{_copyreg}._reconstructor"] = _new_object
_BUILDERS["collections.OrderedDict"] = dict


class _PassiveUnpickler(pickle.Unpickler):
    """Reads only what a MANO file holds. Classes of scipy.sparse and chumpy become `_Passive`; anything else not on the list is refused."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        super().__init__(file, encoding="latin1")
        self._path = path

    def find_class(self, module: str, name: str) -> Any:
        """The passive thing that a global of the pickle stands for; UserError naming the global otherwise."""
        if (found := _BUILDERS.get(f"{module}.{name}")) is not None:
            return found
        matrix = f"{module}.".startswith("scipy.sparse.") and name in ("csc_matrix", "csr_matrix")
        if matrix or f"{module}.".startswith("chumpy."):
            return type(name, (_Passive,), {"kind": name if matrix else f"chumpy {name}"})
        raise UserError(
            f"{self._path} names {module}.{name}, which no MANO file does and which could run code; nothing was run. "
            "Delete the file and download it again from mano.is.tue.mpg.de"
        )


def _as_array(value: Any, what: str) -> np.ndarray:
    """The numbers of a field: an array, a sparse matrix, or a chumpy expression (`Ch`: its array; `Select`: entries of another)."""
    if isinstance(value, _Passive):
        try:
            state = value.state
            match value.kind:
                case "csc_matrix" | "csr_matrix":
                    matrix = sparse.csc_matrix if value.kind == "csc_matrix" else sparse.csr_matrix
                    shape = state["_shape"] if "_shape" in state else state["shape"]
                    return matrix((state["data"], state["indices"], state["indptr"]), shape=shape).toarray()
                case "chumpy Select":
                    return _as_array(state["a"], what).ravel()[state["idxs"]].reshape(state["preferred_shape"])
                case _:
                    return _as_array(state["x"], what)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise UserError(f"{what} is a {value.kind} that cannot be read ({error!r}); use the files of mano.is.tue.mpg.de") from error
    array = np.asarray(value)
    if array.dtype.kind not in "fiu" or not np.isfinite(array).all():
        raise UserError(f"{what} does not hold finite numbers (type {array.dtype}); download the file again")
    return array
