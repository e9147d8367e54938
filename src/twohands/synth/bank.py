"""Banks of interacting pairs on disk: many pairs from one seed, made by several processes, with a report of how varied they are."""

import math
import multiprocessing
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from twohands.errors import UserError
from twohands.hands.bundled import load_bundled_hand
from twohands.hands.model import HandModel
from twohands.hands.parameters import HandParameters
from twohands.synth.interactions import FAMILIES, TEMPLATES, Interactions, sample_labelled_interactions

HELD_OUT_SEED = 1_000_000
"""Seeds of benchmark pairs start here; those of banks stay below."""
RESERVED_SEEDS = range(1006, 1010)
"""And these: stage 2's benchmark shows pairs of the sampler's seeds 1006 to 1009."""
PARTS_PER_SEED = 1000
PART = 500
"""Pairs that one process makes at a time; part k of seed s has the sampler's seed s * PARTS_PER_SEED + k."""
_FIELDS = ("pose", "shape", "translation_m", "template")


@dataclass(frozen=True)
class _Part:
    path: Path
    count: int
    seed: int


def build_bank(
    path: Path, count: int, seed: int = 0, workers: int = 1, part: int = PART, progress: Callable[[int], object] | None = None
) -> Path:
    """Writes `count` clean interactions to an NPZ file (pose, shape, translation_m, template) and returns its path. About 45 s a thousand on
    one core. Finished parts lie in a folder beside it until all are there, so that a run that was cut off goes on where it stopped.

    UserError if a number is not positive or the seeds would reach those held out for measuring."""
    if count < 1 or workers < 1:
        raise UserError(f"count ({count}) and workers ({workers}) must be at least 1")
    parts = math.ceil(count / part)
    if seed < 0 or parts > PARTS_PER_SEED or seed * PARTS_PER_SEED + parts >= HELD_OUT_SEED:
        raise UserError(f"{count} pairs from seed {seed} reach the seeds held out for measuring; choose a smaller seed or count")
    if any(seed * PARTS_PER_SEED + k in RESERVED_SEEDS for k in range(parts)):
        raise UserError(f"{count} pairs from seed {seed} reach pairs of the benchmark of stage 2; choose another seed")
    folder = path.with_name(f"{path.name}.parts")
    folder.mkdir(parents=True, exist_ok=True)
    jobs = [
        _Part(folder / f"{seed}-{part}-{k:05d}.npz", min(part, count - done), seed * PARTS_PER_SEED + k)
        for k, done in enumerate(range(0, count, part))
    ]
    todo = [job for job in jobs if not job.path.is_file()]
    if progress:
        progress(count - sum(job.count for job in todo))
    with multiprocessing.get_context("spawn").Pool(min(workers, max(1, len(todo)))) if workers > 1 else _Here() as pool:
        for made in pool.imap_unordered(_make_part, todo):
            if progress:
                progress(made)
    loaded = [_load(job.path) for job in jobs]
    _write(path, {name: np.concatenate([arrays[name] for arrays in loaded]) for name in _FIELDS})
    for job in jobs:
        job.path.unlink()
    folder.rmdir()
    return path


class _Here:
    """A pool of no processes: the work is done here."""

    def __enter__(self) -> "_Here":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def imap_unordered(self, function: Callable[[_Part], int], parts: list[_Part]) -> "map[int]":
        return map(function, parts)


def _make_part(job: _Part) -> int:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        arrays = sample_labelled_interactions(load_bundled_hand(), job.count, job.seed).arrays()
    finally:
        torch.set_num_threads(threads)
    _write(job.path, {name.removeprefix("parameters."): value for name, value in arrays.items()})
    return job.count


def _write(path: Path, arrays: dict[str, np.ndarray]) -> None:
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    with beside.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]
    os.replace(beside, path)


def _load(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as stored:
        return {name: stored[name] for name in stored.files}


def read_bank(path: Path) -> HandParameters:
    """The clean pairs of a bank; UserError if the file is missing or broken."""
    return read_labelled_bank(path, labelled=False).parameters


def read_labelled_bank(path: Path, labelled: bool = True) -> Interactions:
    """The same with the template of each pair; without `labelled`, a bank of other pairs (fits of a data set) need not have templates."""
    if not path.is_file():
        raise UserError(f"no bank of interactions at {path}; build one first (`twohands interactions`)")
    try:
        stored = _load(path)
    except (OSError, ValueError, EOFError, BadZipFile) as error:
        raise UserError(f"{path} is no readable bank of interactions ({error}); build it anew") from error
    if missing := set(_FIELDS[: 4 if labelled else 3]) - set(stored):
        raise UserError(f"{path} lacks {sorted(missing)}; build the bank anew")
    pose, shape, translation_m = (torch.from_numpy(stored[name]).float() for name in _FIELDS[:3])
    count = len(pose)
    for name, array, expected in (("pose", pose, (2, 16, 3)), ("shape", shape, (2, 10)), ("translation_m", translation_m, (2, 3))):
        if tuple(array.shape) != (count, *expected):
            raise UserError(f"{name} of {path} has shape {tuple(array.shape)} instead of {(count, *expected)}; build the bank anew")
        if not bool(array.isfinite().all()):
            raise UserError(f"{name} of {path} holds NaN or infinite numbers; leave those pairs out")
    template = torch.from_numpy(stored["template"]).long() if "template" in stored else torch.full((count,), -1)
    return Interactions(HandParameters(pose, shape, translation_m), template)


@dataclass(frozen=True)
class Variety:
    """How a set of pairs spreads."""

    nearest_mm: Float[np.ndarray, "pair"]
    """Of each pair, the mean distance of all 42 keypoints to those of the pair most like it."""
    apart_mm: float
    """The same between two pairs at random, on average."""
    families: dict[str, int]
    """How many pairs each family has."""

    def lines(self) -> list[str]:
        """The report."""
        low, middle, high = np.percentile(self.nearest_mm, (5, 50, 95))
        return [
            f"{len(self.nearest_mm)} pairs; mean keypoint distance to the most similar other pair, mm: "
            f"5 % {low:.1f}, median {middle:.1f}, 95 % {high:.1f}, least {self.nearest_mm.min():.1f}; two at random {self.apart_mm:.1f}",
            *(f"{name}: {count}" for name, count in self.families.items()),
        ]


def variety(model: HandModel, pairs: Interactions) -> Variety:
    """Nearest-neighbour distances over the 42 keypoints, seen from the right hand: its wrist at the origin, in its orientation."""
    points = points_from_right(model, pairs.parameters).numpy() * 1e3
    count = len(points)
    # Root mean square distances find the neighbour, some rows of the table at a time; the mean distance to it is what is reported.
    flat = torch.from_numpy(points).flatten(1).double()
    rows = torch.arange(count).split(1024)
    neighbour = torch.cat(
        [torch.cdist(flat[part], flat).index_put((torch.arange(len(part)), part), flat.new_tensor(torch.inf)).argmin(1) for part in rows]
    )
    other = np.random.default_rng(0).permutation(count)
    nearest, apart = (np.linalg.norm(points - points[index], axis=-1).mean(-1) for index in (neighbour, other))
    named = [TEMPLATES[t].family if t >= 0 else "other" for t in pairs.template.tolist()]
    return Variety(nearest, float(apart.mean()), {name: named.count(name) for name in FAMILIES})


def points_from_right(model: HandModel, parameters: HandParameters) -> Float[Tensor, "pair 42 3"]:
    """All keypoints in the right wrist's frame: what is left of a pair when its place in the world is taken off. Metres."""
    hands = model.pose_hands(parameters)
    points = hands.joints_and_tips().flatten(1, 2) - hands.joints_m[:, 1, :1]
    return points @ hands.R_world_joint[:, 1, 0]
