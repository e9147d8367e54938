"""Named experiments: what was run to make the weights that ship, and the paper's own recipe.

Each says its command, its cost and what it scored; docs/EXPERIMENTS.md holds the table."""

from dataclasses import replace
from pathlib import Path
from typing import Literal

from twohands.errors import UserError
from twohands.regress.network import PAPER, RegressorConfig
from twohands.training.detector import DetectorTraining
from twohands.training.fit import FitConfig
from twohands.training.regressor import RegressorTraining

RegressorExperiment = Literal["small", "paper"]


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
    name: RegressorExperiment, out: Path, shards: tuple[Path, ...], mixture: tuple[float, ...], steps: int | None, seed: int, devices: int
) -> RegressorTraining:
    """`small` is what ships: 96 px crops, 6.5 M parameters, made for CPUs. `paper` has the paper's two ResNet-50 at 256 px and its optimiser
    settings (AdamW, 1e-4, batch 48). Shards that are missing, or as many weights as shards: UserError."""
    _check(shards, mixture)
    match name:
        case "small":
            fit = FitConfig(out, steps or 5400, warmup_steps=300, checkpoint_steps=100, average=0.998, seed=seed, devices=devices)
            return RegressorTraining(fit, shards, mixture, RegressorConfig(), crop_schedule=((0.0, 64), (0.8333, 96)), validation=200)
        case "paper":
            fit = FitConfig(out, steps or 200_000, learning_rate=1e-4, average=0.999, seed=seed, devices=devices)
            training = RegressorTraining(fit, shards, mixture, PAPER, batch=48, crop_schedule=((0.0, 256),), validation=200)
            return replace(training, fit=replace(fit, checkpoint_steps=2000))
