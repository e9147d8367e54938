"""Pairs to learn stage 2 from, the first way: what an early stage 1 says of rendered photos of interacting hands, with the truth beside it."""

import math
import multiprocessing
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from torch.nn import functional

from twohands.errors import UserError
from twohands.hands.bundled import load_bundled_hand, load_hand_asset
from twohands.hands.parameters import HandParameters
from twohands.joints import MIDDLE_MCP
from twohands.record import concatenate, stack
from twohands.refine.perturb import Perturbed
from twohands.regress.infer import PlacementConfig, Stage1
from twohands.schema import HandPair, Sample
from twohands.synth.bank import read_bank
from twohands.synth.photo import take_photo
from twohands.synth.scene import SceneKnobs

SEED_STRIDE = 1_000_000
"""Photos of run `seed` have the seeds seed * SEED_STRIDE + index."""
PART = 250
_KNOBS = SceneKnobs(size_px=192)
BOX_SHIFT, BOX_ZOOM, TURN_RAD = 0.05, 0.1, 0.15
"""How far boxes (in sides) and directions of the detector are off; standard deviations."""


@cache
def _early_stage_1(weights: Path | None) -> Stage1:
    """Stage 1 after one look, without any teacher."""
    stage_1 = Stage1.load(load_bundled_hand(), load_hand_asset().limits, weights)
    return Stage1(stage_1.network, stage_1.hand, stage_1.limits, placement=replace(PlacementConfig(), passes=1))


def photographed(pair: HandParameters, seed: int, weights: Path | None = None) -> Perturbed:
    """Stage 1's answer to a rendered photo of this pair (no batch axis), and the truth in the photo's camera frame."""
    sample = take_photo(_KNOBS, seed, pair=pair)
    answer = _early_stage_1(weights).infer(sample.image.float() / 255, sample.camera, [_found(sample, seed)])[0]
    return Perturbed(sample.parameters, answer.parameters, answer.keypoint_confidence)


def _found(sample: Sample, seed: int) -> HandPair:
    """Both hands as a good detector would find them."""
    rng = np.random.default_rng([seed, 3])
    low, high = sample.box_xyxy_px[:, :2], sample.box_xyxy_px[:, 2:]
    side = (high - low).amax(-1, keepdim=True)
    centre = (low + high) / 2 + side * torch.from_numpy(rng.normal(0, BOX_SHIFT, (2, 2))).float()
    half = side / 2 * torch.from_numpy(np.exp(rng.normal(0, BOX_ZOOM, (2, 1)))).float()
    along = sample.keypoints_xy[:, MIDDLE_MCP] - sample.keypoints_xy[:, 0]
    angle = torch.atan2(along[:, 1], along[:, 0]) + torch.from_numpy(rng.normal(0, TURN_RAD, 2)).float()
    direction = functional.normalize(torch.stack([angle.cos(), angle.sin()], -1), dim=-1)
    return HandPair(torch.cat([centre - half, centre + half], -1), direction, torch.tensor([True, True]))


@dataclass(frozen=True)
class _Part:
    path: Path
    bank: Path
    first: int
    count: int
    seed: int
    weights: Path | None


def photograph_bank(
    path: Path,
    bank: Path,
    count: int,
    seed: int = 0,
    weights: Path | None = None,
    workers: int = 1,
    progress: Callable[[int], object] | None = None,
) -> Path:
    """Photographs the first `count` pairs of a bank (from the beginning again if it is smaller), asks stage 1 about each, and writes an NPZ
    that `read_pairs` reads; returns its path. About 90 ms a photo on one core. Goes on where an earlier run stopped."""
    if count < 1 or workers < 1:
        raise UserError(f"count ({count}) and workers ({workers}) must be at least 1")
    folder = path.with_name(f"{path.name}.parts")
    folder.mkdir(parents=True, exist_ok=True)
    jobs = [
        _Part(folder / f"{seed}-{first:07d}.npz", bank, first, min(PART, count - first), seed, weights) for first in range(0, count, PART)
    ]
    todo = [job for job in jobs if not job.path.is_file()]
    if progress:
        progress(count - sum(job.count for job in todo))
    if workers == 1:
        for job in todo:
            made = _photograph(job)
            if progress:
                progress(made)
    else:
        with multiprocessing.get_context("spawn").Pool(min(workers, max(1, len(todo)))) as pool:
            for made in pool.imap_unordered(_photograph, todo):
                if progress:
                    progress(made)
    write_pairs(path, concatenate([read_pairs(job.path) for job in jobs]))
    for job in jobs:
        job.path.unlink()
    folder.rmdir()
    return path


def _photograph(job: _Part) -> int:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        clean = read_bank(job.bank)
        rows = [(job.first + k) % clean.shape.shape[0] for k in range(job.count)]
        seeds = [job.seed * SEED_STRIDE + job.first + k for k in range(job.count)]
        write_pairs(job.path, stack([photographed(clean[row], seed, job.weights) for row, seed in zip(rows, seeds, strict=True)]))
    finally:
        torch.set_num_threads(threads)
    return job.count


def write_pairs(path: Path, pairs: Perturbed) -> None:
    """NPZ with the arrays clean.pose, ..., parameters.pose, ..., keypoint_confidence."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    with beside.open("wb") as file:
        np.savez(file, **pairs.arrays())  # type: ignore[arg-type]
    os.replace(beside, path)


def read_pairs(path: Path) -> Perturbed:
    """What `write_pairs` wrote; UserError if it is missing or broken."""
    if not path.is_file():
        raise UserError(f"no pairs at {path}; make them first")
    try:
        with np.load(path) as stored:
            arrays = {name: torch.from_numpy(stored[name]).float() for name in stored.files}
    except (OSError, ValueError, EOFError, BadZipFile) as error:
        raise UserError(f"{path} holds no readable pairs ({error}); make them anew") from error
    fields = ("pose", "shape", "translation_m")
    names = [f"{what}.{field}" for what in ("clean", "parameters") for field in fields] + ["keypoint_confidence"]
    if missing := [name for name in names if name not in arrays]:
        raise UserError(f"{path} lacks {missing[:3]}; make the pairs anew")
    if not all(math.isfinite(float(arrays[name].sum())) for name in names):
        raise UserError(f"{path} holds NaN or infinite numbers; make the pairs anew")
    clean, parameters = (HandParameters(*(arrays[f"{what}.{field}"] for field in fields)) for what in ("clean", "parameters"))
    return Perturbed(clean, parameters, arrays["keypoint_confidence"])
