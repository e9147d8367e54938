"""Reconstruction over a corpus: `twohands batch`."""

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from twohands.batch import table
from twohands.batch.engines import Engine, Worker, run
from twohands.batch.sources import Picture, Unit, list_units
from twohands.errors import UserError
from twohands.manifest import Manifest, Shard, ShardReport, work_through
from twohands.schema import PhotoResult

Predict = Callable[[Picture], PhotoResult]


@dataclass(frozen=True)
class Reconstruction:
    """How every picture of a corpus is done; the same for all shards of a folder."""

    focal_px: float | None = None
    fov_deg: float | None = None
    refine: bool = True
    mano: str | None = None
    prior: Literal["auto", "encoder", "teacher"] = "auto"
    device: str = "cpu"

    def load(self) -> Predict:
        """The pipeline, one thread a worker: two on one core hinder one another."""
        import torch

        from twohands import pipeline

        torch.set_num_threads(1)
        model = pipeline.load(device=self.device, prior=self.prior, mano=self.mano)

        def predict(picture: Picture) -> PhotoResult:
            photo = picture.path if picture.image is None else picture.image
            return model.reconstruct(photo, focal_px=self.focal_px, fov_deg=self.fov_deg, refine=self.refine)

        return predict


@dataclass(frozen=True)
class ShardOfPictures:
    """Does one shard after the other with one loaded `predict`."""

    manifest: Manifest
    predict: Predict
    every: int

    def __call__(self, shard: Shard) -> ShardReport:
        start = time.perf_counter()
        rows = work_through(
            self.manifest,
            shard,
            lambda item: self._rows(Unit(*item)),
            lambda item, why: [table.row_of_failure(Unit(*item), None, why)],
            table.write_rows,
        )
        pictures = len({(row["file"], row["frame"], row["source"]) for row in rows})
        hands = sum(row["side"] is not None for row in rows)
        failures = sum(row["error"] is not None for row in rows)
        return ShardReport(shard.index, pictures, hands, failures, time.perf_counter() - start, os.getpid())

    def _rows(self, unit: Unit) -> list[table.Row]:
        """A corpus always holds broken files: what goes wrong with one is written into its row, and the others go on."""
        if unit.trouble:
            return [table.row_of_failure(unit, None, unit.trouble)]
        rows: list[table.Row] = []
        picture: Picture | None = None
        try:
            for picture in unit.pictures(self.every):
                rows += table.rows_of(unit, picture, self.predict(picture))
        except Exception as error:
            said = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
            rows.append(table.row_of_failure(unit, picture, said))
        return rows


def _make_worker(manifest: Manifest, load: Callable[[], Predict], every: int) -> Worker:
    return ShardOfPictures(manifest, load(), every)


def reconstruct_corpus(
    sources: list[Path],
    out: Path,
    load: Callable[[], Predict],
    settings: dict[str, Any],
    engine: Engine = "local",
    workers: int = 1,
    per_shard: int = 50,
    every: int = 1,
    retry_failed: bool = False,
    address: str | None = None,
) -> Iterator[Manifest | ShardReport]:
    """Every photo and every `every`-th frame of every video below `sources`, into Parquet files in `out` (columns: batch/table.py).

    Yields the manifest once it is on disk, then a report a shard. Whatever is killed: the same call goes on. `load` makes what does one picture,
    in each worker's process; `settings` says what `load` stands for, and a folder begun with others is refused. `retry_failed` does the shards
    with failures anew. UserError for what the user can mend."""
    manifest = Manifest.open(out, ".parquet", settings | {"every": every})
    with manifest.held():
        known = {(str(item[0]), str(item[1])) for shard in manifest.shards for item in shard.items}
        manifest = manifest.with_items((unit.item() for unit in list_units(sources, known)), per_shard)
        if retry_failed:
            _forget_failed(manifest)
        yield manifest
        yield from run(engine, partial(_make_worker, manifest, load, every), manifest.pending(), workers, address)


def _forget_failed(manifest: Manifest) -> None:
    import pyarrow.parquet as pq

    for shard in manifest.shards:
        path = manifest.path(shard)
        if path.is_file() and pq.read_table(path, columns=["error"])["error"].drop_null():
            path.unlink()
