"""`twohands train detector | regressor | refiner`: one command per network."""

from pathlib import Path
from typing import Literal

from twohands.cli.app import train


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
    """
    from twohands.training.experiments import regressor_experiment
    from twohands.training.regressor import train_regressor

    print(train_regressor(regressor_experiment(experiment, out, tuple(shards), tuple(mixture), steps, seed, devices, start_from, trunk)))


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
    """
    from twohands.training.detector import train_detector
    from twohands.training.experiments import detector_experiment

    print(train_detector(detector_experiment(out, tuple(shards), tuple(mixture), steps, seed, devices, start_from, trunk)))


@train.command
def refiner(
    out: Path, bank: Path | None = None, pairs: int = 8000, minutes: float | None = None, steps: int = 10_000, seed: int = 0
) -> None:
    """Train stage 2 (refine). Run the same command again to go on where it stopped.

    Args:
        out: Run folder: last.ckpt and, at the end, refiner.safetensors.
        bank: NPZ of clean interacting pairs; made in `out` if it is not given and not there yet.
        pairs: How many pairs that bank holds.
        minutes: Ends the run after so much processor time, if that comes before `steps`.
        steps: Length of the run.
        seed: Fixes the pairs, the noise and the initial weights.
    """
    from twohands.hands.bundled import load_bundled_hand
    from twohands.training.experiments import REFINER, REFINER_BATCH
    from twohands.training.refiner import build_bank, train_refiner

    bank = bank or out / "bank.npz"
    if not bank.is_file():
        build_bank(bank, load_bundled_hand(), pairs, seed)
    print(train_refiner(out, bank, minutes, steps, REFINER_BATCH, seed, (out / "last.ckpt").is_file(), REFINER))
