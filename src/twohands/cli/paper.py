"""`twohands train paper`: the paper's recipe."""

import sys
from pathlib import Path
from typing import Literal

from twohands.cli.app import train


@train.command
def paper(
    data: Path,
    out: Path,
    stage: Literal[1, 2] = 1,
    lessons: Path | None = None,
    without: tuple[str, ...] = (),
    steps: int | None = None,
    seed: int = 0,
    devices: int = 1,
    nodes: int = 1,
    workers: int = 0,
    accelerator: Literal["auto", "cpu", "gpu"] = "auto",
    rehearsal: bool = False,
    validation: int = 200,
) -> None:
    """Train the paper's networks on its five data sets. Run the same command again to go on where it stopped.

    Args:
        data: Folder with a folder of shards for each data set: interhand26m, reinterhand, coco_wholebody, freihand, ho3d.
        out: Run folder.
        stage: 1 aligns, 2 refines.
        lessons: Folder with a teacher's cache for each data set (`twohands teach`), such as Sapiens'; without it the priors are drawn from the
            annotated hands.
        without: Data sets of the five to leave out.
        steps: Length of the run; seven epochs by default.
        seed: Fixes data order and initial weights.
        devices: Processes (GPUs) on each machine. Batches are made in four parts, so that 1, 2 or 4 processes see the same ones.
        nodes: Machines.
        workers: Processes a device that make batches ahead.
        accelerator: Where to train.
        rehearsal: A tiny network on 64 px crops and otherwise the same, to see in minutes that everything is in place.
        validation: Samples kept from the end of each data set's shards, never trained on.
    """
    from twohands.training import recipe
    from twohands.training.fit import Machines

    machines = Machines(devices, nodes, workers, accelerator)
    if stage == 1:
        from twohands.training.regressor import train_regressor

        print(train_regressor(recipe.stage_1(out, data, lessons, without, steps, seed, machines, rehearsal, validation)))
        return
    from twohands.training.refiner import train_refiner

    bank = out / "bank.npz"
    print(f"{recipe.bank_of_fits(bank, data, without)} pairs of hands in {bank}", file=sys.stderr)
    config, training = recipe.stage_2(steps, rehearsal)
    resume = (out / "last.ckpt").is_file()
    steps = steps or recipe.REFINER_STEPS
    print(train_refiner(out, bank, None, steps, recipe.REFINER_BATCH, seed, resume, config, training, machines=machines))
