"""The paper's recipe: it survives being killed, and does not care how many processes it has."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from recipe_data import write_recipe_data

from twohands.checkpoints import load_weights
from twohands.data.shards import ShardSet
from twohands.errors import UserError
from twohands.regress.network import PAPER, Regressor
from twohands.training.fit import AveragedModule, FitConfig, Machines, SharedBatches, parts_of
from twohands.training.pairs import AugmentConfig, PairBatches
from twohands.training.recipe import MIXTURE, REHEARSAL, bank_of_fits, shard_folders, stage_1
from twohands.training.regressor import train_regressor


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recipe_data(tmp_path_factory.mktemp("data"), 4)


def weights(path: Path) -> dict[str, torch.Tensor]:
    network = Regressor(REHEARSAL)
    load_weights(path, network)
    return network.state_dict()


RUN = """
import sys
from pathlib import Path
from twohands.training.recipe import Machines, stage_1
from twohands.training.regressor import train_regressor
train_regressor(stage_1(Path({out!r}), Path({data!r}), steps={steps}, machines=Machines({devices}, accelerator="cpu"), rehearsal=True, validation=1))
"""


def begin(out: Path, data: Path, steps: int, devices: int = 1) -> subprocess.Popen:
    script = out.with_suffix(".py")  # a file: Lightning starts the other processes with the same command line
    script.write_text(RUN.format(out=str(out), data=str(data), steps=steps, devices=devices))
    return subprocess.Popen([sys.executable, str(script)], stderr=subprocess.DEVNULL)


def alone(out: Path, data: Path, steps: int) -> Path:
    return train_regressor(stage_1(out, data, steps=steps, machines=Machines(accelerator="cpu"), rehearsal=True, validation=1))


def test_a_killed_run_gone_on_ends_bit_for_bit_where_an_unbroken_one_does(tmp_path: Path, data: Path) -> None:
    process = begin(tmp_path / "killed", data, 8)
    last = tmp_path / "killed" / "last.ckpt"
    deadline = time.monotonic() + 600
    while not last.is_file() and time.monotonic() < deadline:
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert 0 < torch.load(last, weights_only=True)["global_step"] < 8
    whole, resumed = weights(alone(tmp_path / "whole", data, 8)), weights(alone(tmp_path / "killed", data, 8))
    for name, value in whole.items():
        torch.testing.assert_close(resumed[name], value, rtol=0, atol=0, msg=name)


def test_two_processes_learn_what_one_does(tmp_path: Path, data: Path) -> None:
    """Batch norm sees half the batch in each, so they agree as far as two estimates of one gradient can."""
    process = begin(tmp_path / "two", data, 3, devices=2)
    one = weights(alone(tmp_path / "one", data, 3))
    assert process.wait(600) == 0
    two = weights(tmp_path / "two" / "regressor.safetensors")
    torch.manual_seed(0)
    start = Regressor(REHEARSAL).state_dict()
    learnt = [k for k, v in start.items() if v.ndim > 1]
    steps = [torch.cat([(found[k] - start[k]).flatten() for k in learnt]) for found in (one, two)]
    assert steps[0].norm() > 0
    assert float(torch.nn.functional.cosine_similarity(*steps, dim=0)) > 0.8


def test_the_batch_does_not_depend_on_the_number_of_processes(data: Path) -> None:
    sets = [ShardSet.read(sorted(folder.glob("*.npz"))) for folder in shard_folders(data).values()]

    def made(processes: int) -> torch.Tensor:
        crops = []
        for rank in range(processes):
            mine = [PairBatches(sets, list(MIXTURE.values()), 2, 32, 16, 5, part, 3) for part in parts_of(4, rank, processes)]
            crops.append(next(iter(SharedBatches(mine, 3))).crops)
        return torch.cat(crops)

    assert made(1).shape[0] == 8
    assert torch.equal(made(1), made(2))
    assert torch.equal(made(1), made(4))
    with pytest.raises(UserError, match="3 processes cannot share"):
        parts_of(4, 0, 3)


NUMBERED = """
import torch
from torch.utils.data import DataLoader
from twohands.training.fit import SharedBatches

class Numbered:
    def make(self, step):
        return torch.tensor(step)

loader = DataLoader(SharedBatches([Numbered()], 7), batch_size=None, num_workers=2)
assert [int(step) for step, _ in zip(loader, range(6))] == [7, 8, 9, 10, 11, 12]
"""
"""Batches that are their step's number."""


def test_worker_processes_keep_the_order_of_steps() -> None:
    """In an interpreter of its own: workers are forked, which no process survives that has started another library's threads."""
    subprocess.run([sys.executable, "-c", NUMBERED], check=True, timeout=600)


def test_the_rate_falls_to_a_tenth_after_the_fourth_epoch(tmp_path: Path, data: Path) -> None:
    training = stage_1(tmp_path, data)
    assert (training.batch * 4, training.fit.learning_rate, training.fit.steps) == (48, 1e-4, 7 * 28355)
    module = AveragedModule(torch.nn.Linear(2, 2), training.fit)
    assert training.network == PAPER
    schedule = module.configure_optimizers()["lr_scheduler"]["scheduler"]
    scale = schedule.lr_lambdas[0]
    assert [round(scale(step), 9) for step in (499, 4 * 28355 - 1, 4 * 28355, 7 * 28355)] == [1, 1, 0.1, 0.1]
    assert FitConfig(tmp_path, 1).schedule == "cosine"


def test_data_that_are_missing_are_named_with_the_command_that_makes_them(tmp_path: Path, data: Path) -> None:
    (tmp_path / "freihand").mkdir()
    with pytest.raises(UserError, match=r"no shards of .*freihand, ho3d .*twohands data shards ho3d"):
        shard_folders(tmp_path)
    assert list(shard_folders(data, ("ho3d", "freihand"))) == ["interhand26m", "reinterhand", "coco_wholebody"]
    with pytest.raises(UserError, match="no data set of the recipe"):
        shard_folders(data, ("imagenet",))
    with pytest.raises(UserError, match="no lessons"):
        stage_1(tmp_path, data, lessons=tmp_path / "none")


def test_samples_without_3d_teach_no_depth(data: Path) -> None:
    flat = ShardSet.read(sorted((data / "coco_wholebody").glob("*.npz")))
    batch = PairBatches([flat], [1.0], 8, 32, 16, 0, augment=AugmentConfig(light_prior=0.5, full_prior=0.5)).make(0)
    assert not batch.use_prior.any()
    assert not batch.truth.joints_valid.any()
    assert not batch.truth.prior_valid.any()


def test_fits_of_both_hands_make_a_bank_for_stage_2(tmp_path: Path, data: Path) -> None:
    path = tmp_path / "bank.npz"
    count = bank_of_fits(path, data, farthest_m=5.0)
    arrays = [ShardSet.read(sorted((data / name).glob("*.npz"))).arrays for name in ("interhand26m", "reinterhand")]
    assert count == sum(int((a["hand_valid"] & a["parameters_valid"].astype(bool)).all(1).sum()) for a in arrays) > 0
    with np.load(path) as stored:
        assert stored["pose"].shape == (count, 2, 16, 3)
    assert bank_of_fits(path, data) == count, "a bank that is there is kept"
    with pytest.raises(UserError, match="no pairs"):
        bank_of_fits(tmp_path / "other.npz", data, farthest_m=0.0)
    assert np.load(path).files == ["pose", "shape", "translation_m"]
