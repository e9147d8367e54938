"""Named experiments: what was run to make the weights that ship, and the paper's own recipe.

Each says its command, its cost and what it scored; docs/EXPERIMENTS.md holds the table."""

from pathlib import Path
from typing import Literal

from twohands.errors import UserError
from twohands.refine.denoiser import DenoiserConfig
from twohands.regress.network import PAPER, RegressorConfig
from twohands.training.detector import DetectorTraining
from twohands.training.fit import FitConfig
from twohands.training.regressor import RegressorTraining

REFINER, REFINER_BATCH = DenoiserConfig(depth=3, expansion=2), 32
"""The denoiser that ships: 0.8 M parameters, a tenth of a second a step on one core."""
RegressorExperiment = Literal["small", "small-sharp", "paper"]


def _check(shards: tuple[Path, ...], mixture: tuple[float, ...]) -> None:
    for folder in shards:
        if not folder.is_dir():
            raise UserError(f"{folder} is no folder of shards; make one with `twohands synth --out {folder}`")
    if len(mixture) != len(shards) or min(mixture, default=0) < 0 or sum(mixture) <= 0:
        raise UserError(f"{len(shards)} folders of shards need as many mixture weights above zero, got {list(mixture)}")


def detector_experiment(
    out: Path, shards: tuple[Path, ...], mixture: tuple[float, ...], steps: int | None, seed: int, devices: int
) -> DetectorTraining:
    """The detector that ships: 1.2 M parameters. Shards that are missing, or as many weights as shards: UserError."""
    _check(shards, mixture)
    fit = FitConfig(
        out, steps or 5000, learning_rate=1.5e-3, warmup_steps=200, checkpoint_steps=100, average=0.997, seed=seed, devices=devices
    )
    return DetectorTraining(fit, shards, mixture, validation=150)


def regressor_experiment(
    name: RegressorExperiment,
    out: Path,
    shards: tuple[Path, ...],
    mixture: tuple[float, ...],
    steps: int | None,
    seed: int,
    devices: int,
    start_from: Path | None = None,
) -> RegressorTraining:
    """What ships is `small`, 6.5 M parameters made for CPUs, learnt on 64 px crops, and then `small-sharp`, which goes on from its weights at
    96 px. `paper` has the paper's two ResNet-50 at 256 px and its optimiser settings (AdamW, 1e-4, batch 48). UserError if shards or the weights
    to start from are missing, or there are not as many mixture weights as shards."""
    _check(shards, mixture)
    if start_from is not None and not start_from.is_file():
        raise UserError(f"no weights to start from at {start_from}; train them first")
    match name:
        case "small":
            fit = FitConfig(out, steps or 4500, warmup_steps=300, checkpoint_steps=100, average=0.998, seed=seed, devices=devices)
            crops = ((0.0, 64),)
            return RegressorTraining(fit, shards, mixture, RegressorConfig(), crop_schedule=crops, validation=200, start_from=start_from)
        case "small-sharp":
            fit = FitConfig(out, steps or 1000, 4e-4, warmup_steps=50, checkpoint_steps=100, average=0.996, seed=seed, devices=devices)
            crops = ((0.0, 96),)
            return RegressorTraining(fit, shards, mixture, RegressorConfig(), crop_schedule=crops, validation=200, start_from=start_from)
        case "paper":
            fit = FitConfig(out, steps or 200_000, learning_rate=1e-4, checkpoint_steps=2000, average=0.999, seed=seed, devices=devices)
            crops = ((0.0, 256),)
            return RegressorTraining(fit, shards, mixture, PAPER, batch=48, crop_schedule=crops, validation=200, start_from=start_from)
