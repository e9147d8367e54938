"""Teachers are run once. What they said is kept in shards of some hundred lessons, one NPZ file each, so that training loads no teacher.

A cache is a folder with manifest.jsonl (the teacher, the source, and which photo is in which shard) and 000000.npz, 000001.npz, ...; a run that is
killed goes on where it stopped (twohands.manifest). The arrays of a shard of n lessons, axis `hand` (left, right):
    name (n,) unicode; error (n,) unicode, empty where all went well; size_px (n, 2) i4, width and height of the photo
    keypoints_xy (n, hand, 21, 2) f4; confidence (n, hand, 21) f4; depth (n, hand, 21) f4, behind the wrist in palm lengths, NaN if not said
    world_m (n, hand, 21, 3) f4, NaN if not said; trust (n, hand) f4; latent (n, hand, features) f2, features 0 if not said
    segmentation, depth_map: all PNG files of the shard one after the other (u1), at most MAP_PX pixels a side, with
    segmentation_offsets, depth_map_offsets (n + 1,) i8: equal neighbours mean that there is none. Depth is in 16-bit millimetres.
"""

import dataclasses
import io
import itertools
import os
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from twohands.data.shards import ShardSet
from twohands.errors import UserError
from twohands.geometry.photo import PHOTO_SUFFIXES, read_photo
from twohands.manifest import Item, Manifest, Shard, ShardReport, beside, work_through
from twohands.priors.teacher import Lesson, Question, Teacher, silent_maps
from twohands.schema import PriorMaps

MAP_PX = 512
"""Longer side of the maps that are kept; a crop's prior grid has some 60 cells a side."""


@dataclass(frozen=True)
class Photos:
    """A folder of photos, searched with what is below it."""

    folder: Path

    def items(self) -> Iterator[Item]:
        for path in sorted(self.folder.rglob("*")):
            if path.suffix.lower() in PHOTO_SUFFIXES and not path.name.startswith("."):
                yield (path.relative_to(self.folder).as_posix(),)

    def question(self, item: Item) -> Question:
        return Question(item[0], read_photo(self.folder / item[0]).image)


class ShardedPhotos:
    """A folder of training shards; a name is "00003.npz:17". The shard read last stays in memory, since neighbours are asked for in turn."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._open: tuple[str, ShardSet] | None = None

    def items(self) -> Iterator[Item]:
        for path in sorted(self.folder.glob("*.npz")):
            with np.load(path) as file:
                yield from ((path.name, k) for k in range(len(file["hand_valid"])))

    def question(self, item: Item) -> Question:
        file, index = item
        if self._open is None or self._open[0] != file:
            self._open = (file, ShardSet.read([self.folder / file]))
        sample = self._open[1].sample(index)
        return Question(name_of(item), sample.image.permute(1, 2, 0).numpy(), sample)


def name_of(item: Item) -> str:
    return ":".join(map(str, item))


def source_at(folder: Path) -> Photos | ShardedPhotos:
    """Photos or shards, whichever the folder holds. UserError if it holds neither."""
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder; give one with photos, or with shards")
    source: Photos | ShardedPhotos = ShardedPhotos(folder) if any(folder.glob("*.npz")) else Photos(folder)
    if next(source.items(), None) is None:
        raise UserError(f"there are neither photos nor shards in {folder}; give a folder that holds some")
    return source


@dataclass(frozen=True)
class TeachShard:
    """Teaches the photos of a shard and writes their lessons."""

    manifest: Manifest
    source: Photos | ShardedPhotos
    teacher: Teacher

    def __call__(self, shard: Shard) -> ShardReport:
        start = time.perf_counter()
        rows = work_through(self.manifest, shard, self._ask, lambda item, why: [Row.failed(name_of(item), why)], write_lessons)
        hands = sum(int((row.trust > 0).sum()) for row in rows)
        failures = sum(bool(row.error) for row in rows)
        return ShardReport(shard.index, len(rows), hands, failures, time.perf_counter() - start, os.getpid())

    def _ask(self, item: Item) -> list["Row"]:
        """A photo that cannot be read is written down as such; a teacher that fails ends the run."""
        try:
            question = self.source.question(item)
        except UserError as error:
            return [Row.failed(name_of(item), str(error))]
        return [Row.of(question, self.teacher(question))]


def begin_cache(teacher: Teacher, folder: Path, out: Path, per_shard: int = 100) -> tuple[Manifest, Photos | ShardedPhotos]:
    """The cache's manifest, with every photo of `folder` in it, on disk. UserError if `out` belongs to another teacher or folder."""
    source = source_at(folder)
    settings = teacher.describe() | {"source": str(folder.resolve())}
    return Manifest.open(out, ".npz", settings).with_items(source.items(), per_shard), source


def run_teacher(teacher: Teacher, folder: Path, out: Path, per_shard: int = 100) -> Iterator[ShardReport]:
    """Teaches every photo (or sample of a shard) in `folder` that the cache `out` lacks, in this process; yields a report a shard."""
    manifest, source = begin_cache(teacher, folder, out, per_shard)
    with manifest.held():
        work = TeachShard(manifest, source, teacher)
        for shard in manifest.pending():
            yield work(shard)


@dataclass(frozen=True)
class Row:
    """One lesson as it is stored."""

    name: str
    error: str
    size_px: tuple[int, int]
    keypoints_xy: np.ndarray
    confidence: np.ndarray
    depth: np.ndarray
    world_m: np.ndarray
    trust: np.ndarray
    latent: np.ndarray
    segmentation: bytes
    depth_map: bytes

    @staticmethod
    def failed(name: str, error: str) -> "Row":
        return Row.made(name, error, (0, 0), Lesson(silent_maps(), torch.zeros(2)))

    @staticmethod
    def of(question: Question, lesson: Lesson) -> "Row":
        height, width = question.image.shape[:2]
        return Row.made(question.name, "", (width, height), lesson)

    @staticmethod
    def made(name: str, error: str, size_px: tuple[int, int], lesson: Lesson) -> "Row":
        maps = lesson.maps
        nothing = torch.full((2, 21), torch.nan)
        world = torch.full((2, 21, 3), torch.nan) if lesson.keypoints_world_m is None else lesson.keypoints_world_m
        return Row(
            name, error, size_px, maps.keypoints_xy.numpy(), maps.keypoint_confidence.numpy(),
            (nothing if maps.keypoint_depth is None else maps.keypoint_depth).numpy(), world.numpy(), lesson.trust.numpy(),
            np.zeros((2, 0), np.float16) if lesson.latent is None else lesson.latent.numpy().astype(np.float16),
            _png(maps.segmentation), _png(None if maps.depth_m is None else (maps.depth_m * 1000).clamp(0, 65535).round().to(torch.int32)),
        )  # fmt: skip


def _png(values: Tensor | None) -> bytes:
    """A map as PNG, shrunk without mixing values."""
    if values is None:
        return b""
    array = values.numpy()
    image = Image.fromarray(array.astype(np.uint8 if array.dtype == np.uint8 else np.uint16))
    if max(image.size) > MAP_PX:
        scale = MAP_PX / max(image.size)
        image = image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))), Image.Resampling.NEAREST)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def write_lessons(path: Path, rows: list[Row]) -> None:
    """One shard of lessons; it appears whole or not at all."""
    names = [f.name for f in dataclasses.fields(Row)]
    columns = {name: [getattr(row, name) for row in rows] for name in names}
    features = max(latent.shape[1] for latent in columns["latent"])
    columns["latent"] = [np.pad(latent, ((0, 0), (0, features - latent.shape[1]))) for latent in columns["latent"]]
    arrays: dict[str, np.ndarray] = {}
    for name, values in columns.items():
        if name in ("segmentation", "depth_map"):
            arrays[name] = np.frombuffer(b"".join(values), np.uint8)
            arrays[f"{name}_offsets"] = np.cumsum([0, *map(len, values)], dtype=np.int64)
        elif name in ("name", "error"):
            arrays[name] = np.array(values, np.str_)
        else:
            arrays[name] = np.stack([np.asarray(v, np.int32) if name == "size_px" else v for v in values])
    with beside(path) as part, part.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Cache:
    """All lessons of a cache."""

    description: dict[str, str]
    arrays: dict[str, np.ndarray]
    segmentation: list[bytes]
    depth_map: list[bytes]
    index: dict[str, int]

    @staticmethod
    def read(folder: Path) -> "Cache":
        """UserError if the folder is no cache, is not finished, or is damaged."""
        manifest = Manifest.read(folder, ".npz")
        if left := manifest.pending():
            raise UserError(f"{len(left)} of {len(manifest.shards)} shards of {folder} are not taught; run `twohands teach` again to go on")
        parts: dict[str, list[np.ndarray]] = {}
        pictures: dict[str, list[bytes]] = {"segmentation": [], "depth_map": []}
        for shard in manifest.shards:
            path = manifest.path(shard)
            try:
                with np.load(path) as file:
                    stored = {name: file[name] for name in file.files}
            except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
                raise UserError(f"{path} cannot be read ({error}); delete it and run `twohands teach` again") from error
            for name, offsets in ((n, stored.pop(f"{n}_offsets")) for n in pictures):
                data = stored.pop(name)
                pictures[name] += [data[a:b].tobytes() for a, b in itertools.pairwise(offsets)]
            for name, values in stored.items():
                parts.setdefault(name, []).append(values)
        width = max((v.shape[2] for v in parts.get("latent", [])), default=0)
        parts["latent"] = [np.pad(v, ((0, 0), (0, 0), (0, width - v.shape[2]))) for v in parts.get("latent", [])]
        arrays = {name: np.concatenate(values) for name, values in parts.items() if values}
        index = {str(name): k for k, name in enumerate(arrays["name"])}
        return Cache(manifest.settings, arrays, pictures["segmentation"], pictures["depth_map"], index)

    def __len__(self) -> int:
        return len(self.index)

    def lesson(self, name: str) -> Lesson:
        """What was said of a photo. UserError if it was not taught, or could not be read."""
        if name not in self.index:
            raise UserError(f"{name} is not in the cache; run `twohands teach` again to add what is new")
        k = self.index[name]
        if self.arrays["error"][k]:
            raise UserError(f"{name} was not taught: {self.arrays['error'][k]}")

        def said(field: str) -> Tensor:
            return torch.from_numpy(self.arrays[field][k])

        depth, world, latent = said("depth"), said("world_m"), said("latent").float()
        maps = PriorMaps(
            said("keypoints_xy"), said("confidence"), self._map(self.segmentation[k], torch.uint8), self._map(self.depth_map[k], torch.float32, 1000),
            None if depth.isnan().all() else depth,
        )  # fmt: skip
        return Lesson(maps, said("trust"), None if world.isnan().all() else world, latent if latent.shape[1] else None)

    @staticmethod
    def _map(content: bytes, dtype: torch.dtype, scale: float = 1) -> Tensor | None:
        if not content:
            return None
        values = np.asarray(Image.open(io.BytesIO(content))).astype(np.int32)
        return torch.from_numpy(values).to(dtype) if scale == 1 else torch.from_numpy(values).to(dtype) / scale


def taught_shards(folder: Path, cache: Path | None = None) -> ShardSet:
    """The shards of a folder, with the maps of a teacher that was run over them if its cache is given. UserError if the cache is of other shards."""
    paths = sorted(folder.glob("*.npz"))
    shards = ShardSet.read(paths)
    return shards if cache is None else taught(shards, shard_names(paths), Cache.read(cache))


def taught(shards: ShardSet, names: list[str], cache: Cache) -> ShardSet:
    """The shards with a teacher's maps in the place of their own: segmentation and depth where it gave them, and its keypoints with their
    confidence as `prior_keypoints_xy` and `prior_confidence`. The annotation itself stays as it is.

    `names` are the samples' names in the cache, see ShardedPhotos. UserError if one is not there."""
    arrays = {name: values.copy() if name in ("segmentation", "depth_mm", "has_maps") else values for name, values in shards.arrays.items()}
    size = arrays["segmentation"].shape[1:]
    arrays["prior_keypoints_xy"] = np.zeros((len(shards), 2, 21, 2), np.float32)
    arrays["prior_confidence"] = np.zeros((len(shards), 2, 21), np.float32)
    for i, name in enumerate(names):
        lesson = cache.lesson(name)
        arrays["prior_keypoints_xy"][i] = lesson.maps.keypoints_xy
        arrays["prior_confidence"][i] = lesson.maps.keypoint_confidence * (lesson.trust > 0)[:, None]
        segmentation, depth = lesson.maps.segmentation, lesson.maps.depth_m
        if segmentation is not None and depth is not None:
            arrays["segmentation"][i] = _resized(segmentation.numpy(), size)
            arrays["depth_mm"][i] = _resized((depth.numpy() * 1000).clip(0, 65535).astype(np.uint16), size)
            arrays["has_maps"][i] = 1
    return ShardSet(arrays, shards.images, shards.source)


def shard_names(paths: list[Path]) -> list[str]:
    """Names of the samples of shards, in the order in which ShardSet.read joins them."""
    found: list[str] = []
    for path in paths:
        with np.load(path) as file:
            found += [name_of((path.name, k)) for k in range(len(file["hand_valid"]))]
    return found


def _resized(values: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    height, width = size
    image = Image.fromarray(values).resize((width, height), Image.Resampling.NEAREST)
    return np.asarray(image).astype(values.dtype)
