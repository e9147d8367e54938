"""Named experiments: what was run to make the weights that ship, and the paper's own recipe.

Each says its command, its cost and what it scored; docs/EXPERIMENTS.md holds the table."""

from dataclasses import replace
from pathlib import Path
from typing import Literal

from twohands.errors import UserError
from twohands.regress.network import PAPER, RegressorConfig
from twohands.training.fit import FitConfig
from twohands.training.regressor import RegressorTraining

RegressorExperiment = Literal["small", "paper"]


def regressor_experiment(
    name: RegressorExperiment, out: Path, shards: tuple[Path, ...], mixture: tuple[float, ...], steps: int | None, seed: int, devices: int
) -> RegressorTraining:
    """`small` is what ships: 96 px crops, 6.5 M parameters, made for CPUs. `paper` has the paper's two ResNet-50 at 256 px and its optimiser
    settings (AdamW, 1e-4, batch 48). Shards that are missing, or as many weights as shards: UserError."""
    for folder in shards:
        if not folder.is_dir():
            raise UserError(f"{folder} is no folder of shards; make one with `twohands synth --out {folder}`")
    if len(mixture) != len(shards):
        raise UserError(f"{len(shards)} folders of shards need as many mixture weights, got {len(mixture)}")
    match name:
        case "small":
            fit = FitConfig(out, steps or 9000, learning_rate=1e-3, warmup_steps=300, average=0.998, seed=seed, devices=devices)
            return RegressorTraining(fit, shards, mixture, RegressorConfig(), crop_schedule=((0.0, 64), (0.72, 96)), validation=200)
        case "paper":
            fit = FitConfig(out, steps or 200_000, learning_rate=1e-4, average=0.999, seed=seed, devices=devices)
            training = RegressorTraining(fit, shards, mixture, PAPER, batch=48, crop_schedule=((0.0, 256),), validation=200)
            return replace(training, fit=replace(fit, checkpoint_steps=2000))
