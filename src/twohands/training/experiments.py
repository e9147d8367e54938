"""Named experiments: what was run to make the weights that ship, and the paper's own recipe.

Each says its command, its cost and what it scored; docs/EXPERIMENTS.md holds the table."""

from pathlib import Path
from typing import Literal

from twohands.detector import SHIPPED as DETECTOR
from twohands.errors import UserError
from twohands.refine.denoiser import DenoiserConfig
from twohands.regress.network import PAPER, SHIPPED
from twohands.training.detector import DetectorTraining
from twohands.training.fit import FitConfig, Machines, quick_precision
from twohands.training.recipe import BATCH, PARTS, stage_1_fit
from twohands.training.regressor import RegressorTraining

REFINER, REFINER_BATCH = DenoiserConfig(depth=3, expansion=2), 32
"""The denoiser that ships: 0.8 M parameters, a tenth of a second a step on one core."""
RegressorExperiment = Literal["small", "paper"]


def _check(shards: tuple[Path, ...], mixture: tuple[float, ...]) -> None:
    for folder in shards:
        if not folder.is_dir():
            raise UserError(f"{folder} is no folder of shards; make one with `twohands synth --out {folder}`")
    if len(mixture) != len(shards) or min(mixture, default=0) < 0 or sum(mixture) <= 0:
        raise UserError(f"{len(shards)} folders of shards need as many mixture weights above zero, got {list(mixture)}")


def _check_start(path: Path | None) -> None:
    if path is not None and not path.is_file():
        raise UserError(f"no weights at {path}; train them, or `twohands teachers install --trunks`")


def detector_experiment(
    out: Path,
    shards: tuple[Path, ...],
    mixture: tuple[float, ...],
    steps: int | None,
    seed: int,
    devices: int,
    start_from: Path | None = None,
    trunk: Path | None = None,
) -> DetectorTraining:
    """The detector that ships: 1.5 M parameters. UserError if shards or the weights to start from are missing, or if there are not as many
    mixture weights as shards."""
    _check(shards, mixture)
    _check_start(start_from)
    _check_start(trunk)
    fit = FitConfig(
        out, steps or 6000, learning_rate=8e-4, warmup_steps=200, checkpoint_steps=100, average=0.997, precision=quick_precision(), seed=seed,
        devices=devices,
    )  # fmt: skip
    return DetectorTraining(fit, shards, mixture, DETECTOR, validation=150, start_from=start_from, trunk=trunk)


def regressor_experiment(
    name: RegressorExperiment,
    out: Path,
    shards: tuple[Path, ...],
    mixture: tuple[float, ...],
    steps: int | None,
    seed: int,
    devices: int,
    start_from: Path | None = None,
    trunk: Path | None = None,
    only: tuple[str, ...] = (),
    decisions_of: Path | None = None,
) -> RegressorTraining:
    """What ships is `small`, which begins with the landmark network's numbers (`trunk`) and trains what is behind its frozen first stages. `paper`
    has the paper's two ResNet-50 at 256 px and its optimiser settings on any shards; training/recipe.py puts them to the paper's own data.
    UserError if shards or the weights to start from are missing, or there are not as many mixture weights as shards."""
    _check(shards, mixture)
    _check_start(start_from)
    _check_start(trunk)
    _check_start(decisions_of)
    match name:
        case "small":
            fit = FitConfig(
                out,
                steps or 6000,
                5e-4,
                warmup_steps=200,
                checkpoint_steps=100,
                average=0.998,
                precision=quick_precision(),
                seed=seed,
                devices=devices,
            )
            return RegressorTraining(
                fit, shards, mixture, SHIPPED, batch=16, validation=100, start_from=start_from, trunk=trunk, only=only,
                decisions_of=decisions_of,
            )  # fmt: skip
        case "paper":
            fit = stage_1_fit(out, steps, seed, Machines(devices))
            return RegressorTraining(
                fit, shards, mixture, PAPER, BATCH // PARTS, validation=200, start_from=start_from, only=only, decisions_of=decisions_of
            )
