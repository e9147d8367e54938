"""Pickles of licensed files (MANO, HO-3D), read without running anything that they name.

A pickle can call anything it can name, so the reader here lets it name only a short list of passive things: array builders of numpy, and
stand-ins for classes of scipy.sparse and chumpy that do nothing but keep their state.
"""

import pickle
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from twohands.errors import UserError


def read_passive_pickle(path: Path, what: str, remedy: str) -> Any:
    """What a pickle of numpy arrays and plain values holds. `what` names the kind of file in messages.

    UserError if it is damaged or names anything but passive things; nothing was run then."""
    try:
        with path.open("rb") as file:
            return _PassiveUnpickler(file, path, what, remedy).load()
    except UserError:
        raise
    # A damaged pickle can fail in any way a byte can be wrong; every failure means the same to its owner.
    except Exception as error:
        raise UserError(f"{path} is not a readable {what} ({type(error).__name__}: {error}); {remedy}") from error


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


def _no_bytes() -> bytes:
    """How pickles of protocol 2 that Python 3 wrote spell the data of an empty array; given a size, `bytes` would ask for memory."""
    return b""


def _array_of_bytes(data: bytes, dtype: np.dtype, shape: tuple[int, ...], order: str, axes: tuple[int, ...] | None = None) -> np.ndarray:
    """How numpy spells arrays in pickles of protocol 5."""
    if order == "K":  # axes in the order in which they lie in memory
        assert axes is not None
        return np.frombuffer(data, dtype).reshape([shape[a] for a in axes]).transpose(np.argsort(axes))
    if order not in ("C", "F"):
        raise pickle.UnpicklingError(f"refuses the memory order {order!r}")
    return np.frombuffer(data, dtype).reshape(shape, order="C" if order == "C" else "F")


# The array builders are taken from what numpy itself puts into a pickle: their module has had three names and is private.
_BUILDERS: dict[str, Any] = {
    "numpy.ndarray": np.ndarray,
    "numpy.dtype": np.dtype,
    "_codecs.encode": _latin1_bytes,
}
for _core in ("numpy.core", "numpy._core"):
    _BUILDERS[f"{_core}.multiarray._reconstruct"] = np.empty(0).__reduce__()[0]
    _BUILDERS[f"{_core}.numeric._frombuffer"] = _array_of_bytes
    _BUILDERS[f"{_core}.multiarray.scalar"] = np.float64(0).__reduce__()[0]
for _builtins in ("builtins", "__builtin__"):
    _BUILDERS |= {f"{_builtins}.object": object, f"{_builtins}.set": set, f"{_builtins}.bytes": _no_bytes}
for _copyreg in ("copyreg", "copy_reg"):
    _BUILDERS[f"{_copyreg}._reconstructor"] = _new_object
_BUILDERS["collections.OrderedDict"] = dict


class _PassiveUnpickler(pickle.Unpickler):
    """Classes of scipy.sparse and chumpy become `_Passive`; anything else not on the list is refused."""

    def __init__(self, file: BinaryIO, path: Path, what: str, remedy: str) -> None:
        super().__init__(file, encoding="latin1")  # Python 2 wrote these files
        self._path, self._what, self._remedy = path, what, remedy

    def find_class(self, module: str, name: str) -> Any:
        """The passive thing that a global of the pickle stands for; UserError naming the global otherwise."""
        if (found := _BUILDERS.get(f"{module}.{name}")) is not None:
            return found
        matrix = f"{module}.".startswith("scipy.sparse.") and name in ("csc_matrix", "csr_matrix")
        if matrix or f"{module}.".startswith("chumpy."):
            return type(name, (_Passive,), {"kind": name if matrix else f"chumpy {name}"})
        raise UserError(
            f"{self._path} names {module}.{name}, which no {self._what} does and which could run code; nothing was run. "
            f"Delete the file and {self._remedy}"
        )


def as_array(value: Any, what: str, remedy: str) -> np.ndarray:
    """The numbers of a field: an array, a sparse matrix, or a chumpy expression (`Ch`: its array; `Select`: entries of another)."""
    if isinstance(value, _Passive):
        try:
            state = value.state
            match value.kind:
                case "csc_matrix" | "csr_matrix":
                    shape = state["_shape"] if "_shape" in state else state["shape"]
                    return _dense(state["data"], state["indices"], state["indptr"], shape, value.kind == "csc_matrix")
                case "chumpy Select":
                    return as_array(state["a"], what, remedy).ravel()[state["idxs"]].reshape(state["preferred_shape"])
                case _:
                    return as_array(state["x"], what, remedy)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise UserError(f"{what} is a {value.kind} that cannot be read ({error!r}); {remedy}") from error
    array = np.asarray(value)
    if array.dtype.kind not in "fiu" or not np.isfinite(array).all():
        raise UserError(f"{what} does not hold finite numbers (type {array.dtype}); {remedy}")
    return array


def _dense(data: np.ndarray, indices: np.ndarray, indptr: np.ndarray, shape: tuple[int, int], columns: bool) -> np.ndarray:
    """A compressed sparse matrix written out; entries that are given twice add up. ValueError or IndexError if its arrays do not fit together."""
    line = np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))
    if not len(data) == len(indices) == len(line) or len(indptr) - 1 != shape[1 if columns else 0] or indices.min(initial=0) < 0:
        raise ValueError(f"{len(data)} entries at {len(indices)} places in {len(indptr) - 1} lines do not make a matrix of {tuple(shape)}")
    matrix = np.zeros(shape, data.dtype)
    np.add.at(matrix, (indices, line) if columns else (line, indices), data)
    return matrix
