"""Seeds to shards on disk."""

import multiprocessing
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from twohands.data.shards import ShardWriter
from twohands.errors import UserError
from twohands.synth.backgrounds import Photos
from twohands.synth.photo import take_photo
from twohands.synth.scene import BLOCK, SceneKnobs

SEED_STRIDE = 1_000_000
"""Scenes of run `seed` have the seeds seed * SEED_STRIDE + index, so runs with different seeds share none."""


@dataclass(frozen=True)
class _Job:
    path: Path
    first: int
    count: int
    knobs: SceneKnobs
    photos: Photos | None


def _render(job: _Job) -> int:
    torch.set_num_threads(1)
    shard = ShardWriter()
    for seed in range(job.first, job.first + job.count):
        shard.add(take_photo(job.knobs, seed, job.photos), seed)
    shard.write(job.path)
    return job.count


def write_shards(
    out: Path,
    seed: int,
    count: int,
    knobs: SceneKnobs | None = None,
    shard_size: int = 500,
    workers: int = 1,
    photos: Photos | None = None,
    progress: Callable[[int], object] | None = None,
) -> list[Path]:
    """Renders `count` annotated scenes into `out`; returns the shards' paths. Shards that are there already are kept, so a run that was cut
    off goes on where it stopped. `progress` is called with the number of finished images of each shard.

    UserError if a count or the number of workers is not positive, or `out` is a file."""
    if count < 1 or workers < 1 or shard_size < 1:
        raise UserError(f"count ({count}), workers ({workers}) and shard size ({shard_size}) must be at least 1")
    if not 0 <= seed < 2**31 // 1000:
        raise UserError(f"seed {seed} is out of range; give one from 0 to {2**31 // 1000 - 1}")
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file; give a folder for the shards")
    out.mkdir(parents=True, exist_ok=True)
    knobs = knobs or SceneKnobs()
    jobs = [
        _Job(out / f"{first // shard_size:05d}.npz", seed * SEED_STRIDE + first, min(shard_size, count - first), knobs, photos)
        for first in range(0, count, shard_size)
    ]
    todo = [job for job in jobs if not job.path.is_file()]
    if workers == 1:
        for job in todo:
            done = _render(job)
            if progress:
                progress(done)
    else:
        with multiprocessing.get_context("spawn").Pool(workers) as pool:
            # Shards of one block stay together if there are enough of them: each process draws a block's poses anew, and fresh pairs take seconds.
            together = max(1, min(BLOCK // shard_size, len(todo) // workers))
            for done in pool.imap_unordered(_render, todo, together):
                if progress:
                    progress(done)
    return [job.path for job in jobs]
