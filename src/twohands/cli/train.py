"""`twohands train detector | regressor | refiner`: one command per network; `train false-alarms`: what the second learns from the first's errors."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from twohands.cli.app import train
from twohands.cli.console import progress_bar
from twohands.errors import UserError

if TYPE_CHECKING:
    from twohands.training.fit import FitConfig


def _asked(fit: "FitConfig", workers: int, learning_rate: float | None, slow_share: float | None) -> "FitConfig":
    """An experiment's schedule with what the command line asks for. UserError if a rate is not above zero."""
    for name, value in (("--learning-rate", learning_rate), ("--slow-share", slow_share)):
        if value is not None and not 0 < value < float("inf"):
            raise UserError(f"{name} must be above 0, got {value}")
    return replace(
        fit,
        workers=workers,
        learning_rate=fit.learning_rate if learning_rate is None else learning_rate,
        slow_share=fit.slow_share if slow_share is None else slow_share,
    )


@train.command
def regressor(
    shards: list[Path],
    mixture: list[float],
    out: Path,
    experiment: Literal["small", "paper"] = "small",
    start_from: Path | None = None,
    trunk: Path | None = None,
    steps: int | None = None,
    seed: int = 0,
    devices: int = 1,
    workers: int = 0,
    only: tuple[str, ...] = (),
    decisions_of: Path | None = None,
    learning_rate: float | None = None,
    slow_share: float | None = None,
) -> None:
    """Train stage 1 (align). Run the same command again to go on where it stopped.

    Args:
        shards: Folders of shards (`twohands synth`, tools/make_real_shards.py).
        mixture: One weight per folder: how often its images are drawn.
        out: Run folder: config.json, log.jsonl, last.ckpt and, at the end, regressor.safetensors.
        experiment: small makes the network that ships; paper has the paper's two ResNet-50.
        start_from: Weights to begin with; a run that has a checkpoint goes on from that instead.
        trunk: The landmark network (`twohands teachers install`) with whose numbers a new small network begins.
        steps: Length of the run; the experiment's own by default.
        seed: Fixes data order and initial weights.
        devices: Processes (or GPUs) that train together.
        workers: Processes a device that make batches ahead, so that training does not wait for them; by default it makes its own.
        only: Parts of the network that learn, such as `other` (where a person's other hand is); the rest stays as it is. All by default.
        decisions_of: Weights whose word on presence, side and other hand is learnt in place of the shards' truth, so that the rest can be trained on
            without moving it.
        learning_rate: The highest rate; the experiment's own, for weights that begin at random, by default.
        slow_share: Share of it at which what was trained before on real hands (the trunk) learns; .2 by default.
    """
    from twohands.training.experiments import regressor_experiment
    from twohands.training.regressor import train_regressor

    training = regressor_experiment(
        experiment, out, tuple(shards), tuple(mixture), steps, seed, devices, start_from, trunk, only, decisions_of
    )
    print(train_regressor(replace(training, fit=_asked(training.fit, workers, learning_rate, slow_share))))


@train.command
def detector(
    shards: list[Path],
    mixture: list[float],
    out: Path,
    start_from: Path | None = None,
    trunk: Path | None = None,
    steps: int | None = None,
    seed: int = 0,
    devices: int = 1,
    workers: int = 0,
    learning_rate: float | None = None,
    slow_share: float | None = None,
) -> None:
    """Train the hand detector. Run the same command again to go on where it stopped.

    Args:
        shards: Folders of shards (`twohands synth`, tools/make_detector_shards.py).
        mixture: One weight per folder: how often its images are drawn.
        out: Run folder: config.json, log.jsonl, last.ckpt and, at the end, detector.safetensors.
        start_from: Weights of a detector to begin with; a run that has a checkpoint goes on from that instead.
        trunk: The palm network (`twohands teachers install --trunks`) whose trunk a new detector begins with.
        steps: Length of the run; the experiment's own by default.
        seed: Fixes data order and initial weights.
        devices: Processes (or GPUs) that train together.
        workers: Processes a device that make batches ahead, so that training does not wait for them; by default it makes its own.
        learning_rate: The highest rate; the experiment's own, for weights that begin at random, by default.
        slow_share: Share of it at which what was trained before on real hands (the trunk) learns; .2 by default.
    """
    from twohands.training.detector import train_detector
    from twohands.training.experiments import detector_experiment

    training = detector_experiment(out, tuple(shards), tuple(mixture), steps, seed, devices, start_from, trunk)
    print(train_detector(replace(training, fit=_asked(training.fit, workers, learning_rate, slow_share))))


@train.command
def false_alarms(shards: list[Path], weights: Path | None = None, photos: bool = False) -> None:
    """Find where the detector takes something for a hand, and keep it beside the shards: stage 1, trained on them, learns to deny it. Shards that are
    done are left as they are.

    Args:
        shards: Folders of shards.
        weights: The detector; that of the package by default.
        photos: The shards are photos, whose annotations may miss hands: keep only what the landmark network denies too (`twohands teachers install`).
    """
    from twohands.detector import Detector
    from twohands.priors.mediapipe import LandmarkTeacher
    from twohands.training.false_alarms import find_false_alarms

    detector = Detector.load(weights)
    teacher = LandmarkTeacher.load() if photos else None
    for folder in shards:
        with progress_bar(len(list(folder.glob("*.npz"))), "shards", "shard") as bar:
            total = find_false_alarms(folder, detector, teacher, bar.update)
        print(f"{folder}: {total} false alarms")


@train.command
def refiner(
    out: Path,
    bank: Path | None = None,
    pairs: int = 8500,
    photographed: tuple[Path, ...] = (),
    photos: int = 8000,
    regressors: tuple[Path, ...] = (),
    start_from: Path | None = None,
    minutes: float | None = None,
    steps: int = 20_000,
    seed: int = 2,
    workers: int = 1,
) -> None:
    """Train stage 2 (refine). Run the same command again to go on where it stopped.

    Args:
        out: Run folder: last.ckpt and, at the end, refiner.safetensors.
        bank: NPZ of clean interacting pairs (`twohands interactions`); made in `out` if it is not given and not there yet.
        pairs: How many pairs that bank holds.
        photographed: NPZs of stage 1's outputs; made in `out`, from rendered photos of the bank's pairs, if none is given and they are not there.
        photos: How many outputs of each stage 1; 0 trains on clean pairs with errors alone.
        regressors: Weights of the stage 1 that reads those photos, early ones and good ones; those of the package by default.
        start_from: Weights of stage 2 to begin with; a run that has a checkpoint goes on from that instead.
        minutes: Ends the run after so much processor time, if that comes before `steps`.
        steps: Length of the run.
        seed: Fixes the pairs, the photos, the noise and the initial weights.
        workers: Processes that make pairs and photos; the training itself is one.
    """
    from twohands.synth.bank import build_bank
    from twohands.training.experiments import REFINER, REFINER_BATCH
    from twohands.training.photographed import photograph_bank
    from twohands.training.refiner import train_refiner

    out.mkdir(parents=True, exist_ok=True)
    bank = bank or out / "bank.npz"
    if not bank.is_file():
        with progress_bar(pairs, "pairs", "pair") as bar:
            build_bank(bank, pairs, seed, workers, progress=bar.update)
    if not photographed and photos:
        readers = regressors or (None,)
        photographed = tuple(out / f"photographed_{k}.npz" for k in range(len(readers)))
        for k, (path, weights) in enumerate(zip(photographed, readers, strict=True)):
            if not path.is_file():
                with progress_bar(photos) as bar:
                    photograph_bank(path, bank, photos, seed + k, weights, workers, bar.update)
    resume = (out / "last.ckpt").is_file()
    print(train_refiner(out, bank, minutes, steps, REFINER_BATCH, seed, resume, REFINER, photographed=photographed, start_from=start_from))
