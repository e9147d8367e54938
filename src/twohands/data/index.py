"""An index of a data set's annotation files: columns of numbers that are mapped into memory, made once, and again whenever a file has changed.

Annotations come as JSON of hundreds of megabytes or as tens of thousands of small files. Reading them takes minutes and gigabytes; opening
their index takes a fraction of a second, since the system loads only those pages that are looked at.

The index lies in `.twohands` within the data set's folder, or, where that is read-only, in the user's cache folder. It is written beside its place
and renamed: a build that was killed leaves nothing that could be taken for an index.
"""

import contextlib
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ijson
import numpy as np
from ijson.common import IncompleteJSONError, JSONError

from twohands.errors import UserError

MANIFEST = "index.json"
Columns = dict[str, np.ndarray]


def open_index(folder: Path, name: str, version: int, sources: list[Path], build: Callable[[], Columns]) -> Columns:
    """The columns `name` of the data set in `folder`: those on disk, or `build()`'s if there are none, or if a source or `version` has changed.

    Arrays are mapped into memory, read-only; strings are bytes of fixed length (`S`), UTF-8. What `build` raises goes through, and nothing is then
    written. UserError if a source is missing or there is no room."""
    # Relative, so that an index survives the move of its data set to another disk.
    expected = {"version": version, "sources": {os.path.relpath(path, folder): _stamp(path) for path in sources}}
    places = [folder / ".twohands" / name, _cache_folder(folder) / name]
    for place in places:
        if _read_manifest(place) == expected:
            return _mapped(place)
    columns = build()
    failure: OSError | None = None
    for place in places:
        try:
            _write(place, expected, columns)
            return _mapped(place)
        except OSError as error:
            failure = error
    raise UserError(
        f"cannot write the index of {folder} into {' nor '.join(str(p.parent) for p in places)} ({failure}); make room in one of them"
    )


def has_index(folder: Path, name: str) -> bool:
    """There is an index of that name, though it may be out of date."""
    return any((place / name / MANIFEST).is_file() for place in (folder / ".twohands", _cache_folder(folder)))


def _stamp(path: Path) -> list[int]:
    """A file or folder counts as changed if its size or time is another."""
    try:
        status = path.stat()
    except OSError as error:
        raise UserError(f"{path} is not there; `twohands data check` says what belongs where and where to get it") from error
    return [status.st_size, status.st_mtime_ns]


def _cache_folder(folder: Path) -> Path:
    """In the user's cache folder, told apart from other data sets by the path."""
    home = os.environ.get("TWOHANDS_HOME")
    if home:
        cache = Path(home).expanduser()
    elif sys.platform == "win32":
        cache = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "twohands"
    elif sys.platform == "darwin":
        cache = Path.home() / "Library" / "Caches" / "twohands"
    else:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "twohands"
    return cache / "datasets" / hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]


def _read_manifest(place: Path) -> Any:
    try:
        return json.loads((place / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _mapped(place: Path) -> Columns:
    return {
        path.stem: np.load(path, mmap_mode="r") if path.stat().st_size > 4096 else np.load(path) for path in sorted(place.glob("*.npy"))
    }


def _write(place: Path, manifest: dict[str, Any], columns: Columns) -> None:
    beside = place.with_name(f"{place.name}.{os.getpid()}.part")
    try:
        beside.mkdir(parents=True)
        for name, values in columns.items():
            np.save(beside / f"{name}.npy", values)
        (beside / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
        if place.exists():
            shutil.rmtree(place)
        os.replace(beside, place)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


class Rows:
    """Columns that grow row by row without a Python object per number: blocks of an array are filled, then joined."""

    def __init__(self, fields: dict[str, tuple[str, tuple[int, ...]]], block: int = 65536) -> None:
        """`fields`: name -> (numpy type, shape of one row)."""
        self.fields, self.block = fields, block
        self._full: list[Columns] = []
        self._open = self._new()
        self._count = 0

    def _new(self) -> Columns:
        return {name: np.zeros((self.block, *shape), kind) for name, (kind, shape) in self.fields.items()}

    def __len__(self) -> int:
        return len(self._full) * self.block + self._count

    def add(self, row: dict[str, Any]) -> None:
        """Appends a row; fields that it lacks are zero. ValueError if a value does not fit its field."""
        for name, value in row.items():
            kind, shape = self.fields[name]
            if kind[0] == "S":
                encoded = str(value).encode()
                if len(encoded) > int(kind[1:]):
                    raise ValueError(f"{name} is longer than {kind[1:]} bytes: {value}")
                self._open[name][self._count] = encoded
            else:
                self._open[name][self._count] = np.asarray(value, dtype=kind).reshape(shape)
        self._count += 1
        if self._count == self.block:
            self._full.append(self._open)
            self._open, self._count = self._new(), 0

    def columns(self) -> Columns:
        """All rows. The blocks are given up one column at a time, so that no column is held twice for long."""
        last = {name: values[: self._count] for name, values in self._open.items()}
        joined = {}
        for name in self.fields:
            joined[name] = np.concatenate([*(block.pop(name) for block in self._full), last.pop(name)])
        self._full, self._open, self._count = [], self._new(), 0
        return joined


def text(value: bytes) -> str:
    """A cell of an `S` column as a string."""
    return bytes(value).decode()


def read_json_items(path: Path, prefix: str) -> Iterator[Any]:
    """The elements of a list within a JSON file, one at a time (`prefix` as ijson's: "annotations.item"). UserError naming the file if it is
    missing, cut short or no JSON."""
    yield from _streamed(path, lambda file: ijson.items(file, prefix, use_float=True))


def read_json_pairs(path: Path) -> Iterator[tuple[str, Any]]:
    """The entries of the object that a JSON file holds, one at a time. UserError as `read_json_items`."""
    yield from _streamed(path, lambda file: ijson.kvitems(file, "", use_float=True))


def _streamed(path: Path, parse: Callable[[Any], Iterator[Any]]) -> Iterator[Any]:
    try:
        with path.open("rb") as file:
            yield from parse(file)
    except FileNotFoundError as error:
        raise UserError(f"{path} is not there; `twohands data check` says where to get it") from error
    except (IncompleteJSONError, JSONError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is cut short or no JSON ({_first_line(error)}); download it again") from error


def read_json(path: Path) -> Any:
    """A small JSON file. UserError naming it if it is missing or broken."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{path} is not there; `twohands data check` says where to get it") from error
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is cut short or no JSON ({_first_line(error)}); download it again") from error


def read_json_arrays(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """A JSON file that holds a list of arrays of one shape, read as a stream. UserError as `read_json_items`, or if an array has another shape."""
    rows = Rows({"value": ("f4", shape)}, block=4096)
    with expected_content(path):
        for value in read_json_items(path, "item"):
            rows.add({"value": value})
    return rows.columns()["value"]


@contextlib.contextmanager
def expected_content(path: Path) -> Iterator[None]:
    """What goes wrong inside, because the file parses but does not hold what its format promises, becomes a UserError that names the file."""
    try:
        yield
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path} does not hold what this data set's files hold ({type(error).__name__}: {_first_line(error)}); download it again"
        ) from error


def rows_of_ids(listed: np.ndarray, wanted: np.ndarray, path: Path) -> np.ndarray:
    """The row of each wanted id among those that are listed, in any order. UserError if the file `path` does not list one."""
    order = np.argsort(listed, kind="stable")
    known = listed[order]
    place = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
    if len(known) == 0 or (known[place] != wanted).any():
        raise UserError(f"{path} has annotations of pictures that it does not list; download it again")
    return order[place]


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
