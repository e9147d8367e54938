"""Shards larger than memory: rows are read from the files when they are asked for.

Shards are uncompressed, so each row of each array lies at a place in the file that can be computed. A streamed set looks like ShardSet to all who
ask it for rows; nothing but the places is kept, some 100 bytes a sample.
"""

import itertools
import zipfile
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np

from twohands.data.shards import FIELDS, OPTIONAL, ShardSet
from twohands.errors import UserError

MOST_OPEN = 128
"""Files that are held open at a time; systems allow a process some 1,000."""


@dataclass(frozen=True)
class _Place:
    """Where an array lies in a shard."""

    offset: int
    dtype: np.dtype
    shape: tuple[int, ...]


class ShardFiles:
    """Opens shards when they are needed and closes those not needed for longest. Each process opens its own."""

    def __init__(self, paths: list[Path]) -> None:
        """UserError naming the file if one is no readable shard."""
        self.paths = paths
        self.places = [_places(path) for path in paths]
        counts = [place["hand_valid"].shape[0] for place in self.places]
        self.starts = [0, *itertools.accumulate(counts)]
        self._open: OrderedDict[int, Any] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_open": OrderedDict()}

    def row(self, name: str, index: int) -> np.ndarray:
        """One row of an array over samples."""
        shard = bisect_right(self.starts, index) - 1
        place = self.places[shard].get(name)
        if place is None:
            dtype, shape = OPTIONAL[name]
            return np.zeros(shape, dtype)
        return self._read(shard, place, index - self.starts[shard], 1)[0]

    def image(self, index: int) -> np.ndarray:
        """The encoded image of a sample."""
        shard = bisect_right(self.starts, index) - 1
        first, last = self._read(shard, self.places[shard]["image_offsets"], index - self.starts[shard], 2).tolist()
        return self._read(shard, self.places[shard]["images_jpeg"], first, last - first)

    def _read(self, shard: int, place: _Place, first: int, count: int) -> np.ndarray:
        row_shape = place.shape[1:]
        row_bytes = place.dtype.itemsize * int(np.prod(row_shape, dtype=np.int64))
        file = self._open.pop(shard, None) or self.paths[shard].open("rb")
        self._open[shard] = file
        if len(self._open) > MOST_OPEN:
            self._open.popitem(last=False)[1].close()
        file.seek(place.offset + first * row_bytes)
        content = file.read(count * row_bytes)
        if len(content) < count * row_bytes:
            raise UserError(f"{self.paths[shard]} is cut short; delete it and make it again")
        return np.frombuffer(content, place.dtype).reshape(count, *row_shape)


def _places(path: Path) -> dict[str, _Place]:
    """The arrays of a shard: the zip's directory says where each member begins, the member's own header where its numbers do."""
    found: dict[str, _Place] = {}
    try:
        with zipfile.ZipFile(path) as archive, path.open("rb") as file:
            for member in archive.infolist():
                if member.compress_type != zipfile.ZIP_STORED:
                    raise UserError(f"{path} is compressed and cannot be streamed; make it again with this version")
                file.seek(member.header_offset + 26)
                name_length, extra_length = np.frombuffer(file.read(4), "<u2").tolist()
                file.seek(member.header_offset + 30 + name_length + extra_length)
                version = np.lib.format.read_magic(file)
                read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                shape, fortran, dtype = read(file)
                if fortran and len(shape) > 1:
                    raise UserError(f"{path} holds {member.filename} column by column; make it again with this version")
                found[member.filename.removesuffix(".npy")] = _Place(file.tell(), dtype, shape)
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} is not a readable shard ({error}); delete it and make it again") from error
    if missing := sorted({*FIELDS, "images_jpeg", "image_offsets", "source"} - set(found)):
        raise UserError(f"{path} lacks {missing}; it is no shard of this version, make it again")
    return found


class Column(Sequence):
    """An array over samples, or the encoded images (`name` None), of a streamed set; slices are columns again."""

    def __init__(self, files: ShardFiles, name: str | None, rows: range) -> None:
        self.files, self.name, self.rows = files, name, rows
        self.dtype = _dtype(files, name)

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> np.ndarray: ...
    @overload
    def __getitem__(self, index: slice) -> "Column": ...
    def __getitem__(self, index: int | slice) -> "np.ndarray | Column":
        if isinstance(index, slice):
            return Column(self.files, self.name, self.rows[index])
        row = self.rows[index]
        return self.files.image(row) if self.name is None else self.files.row(self.name, row)


def _dtype(files: ShardFiles, name: str | None) -> np.dtype:
    if name is None:
        return np.dtype(np.uint8)
    place = files.places[0].get(name)
    return np.dtype(OPTIONAL[name][0]) if place is None else place.dtype


def stream_shards(paths: list[Path]) -> ShardSet:
    """Shards whose rows stay on disk. UserError naming the file if there is none, or one is broken or lacks an array."""
    if not paths:
        raise UserError("no shards to read; make some with `twohands synth --out DIR`")
    files = ShardFiles(paths)
    rows = range(files.starts[-1])
    columns: dict[str, Any] = {name: Column(files, name, rows) for name in (*FIELDS, *OPTIONAL)}
    return ShardSet(columns, Column(files, None, rows), Column(files, "source", rows))  # type: ignore[arg-type]


IN_MEMORY_BYTES = 2 << 30
"""Sets up to this size are read whole, which is faster."""


def open_shards(paths: list[Path]) -> ShardSet:
    """A set of shards, in memory if it is small, else streamed."""
    small = sum(path.stat().st_size for path in paths) <= IN_MEMORY_BYTES
    return ShardSet.read(paths) if small else stream_shards(paths)
