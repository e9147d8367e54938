"""The paper's recipe from files to weights, in minutes: trees of its five data sets in their own formats, shards, lessons, both stages.

    PYTHONPATH=tests python tools/rehearse_recipe.py WORK [--steps 300] [--count 120]

`tests/dataset_trees.py` writes the trees: hands of known pose in the layout, units, axes and orders of InterHand2.6M, Re:InterHand,
COCO-WholeBody, FreiHAND and HO-3D, drawn into the pictures, with files of MANO's form for the fits. All that follows are the commands of
docs/TRAINING.md, each printed as it is begun. Each stage is trained three times: by one process; by two (DDP over gloo); by one that is killed
(SIGKILL) in the middle and begun again. At the end: the losses of one and two side by side, and whether the killed run has the same weights, to
the last bit, as the one that was not. What is there already is kept.
"""

import argparse
import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch
from safetensors.torch import load_file

from dataset_trees import WRITERS, write_freihand
from mano_like import write_mano
from twohands.checkpoints import load_weights, read_config
from twohands.collision.proxies import SphereProxies
from twohands.hands.bundled import load_bundled_hand
from twohands.refine.denoiser import Denoiser, DenoiserConfig
from twohands.refine.diffusion import STEPS, diffusion_loss
from twohands.refine.perturb import PerturbConfig
from twohands.synth.bank import read_bank
from twohands.training.recipe import MIXTURE, REFINER
from twohands.training.refiner import PairStream, conditioned

SHOWN = {
    1: ("xy", "joints", "rotation", "relative", "prior"),
    2: ("loss", "state", "joints_mm", "wrists_mm"),
}
"""Losses of each stage's table."""


def write_trees(work: Path, count: int) -> None:
    """`count` pictures a data set."""
    mano = work / "mano"
    if not mano.is_dir():
        write_mano(mano)
    for name in MIXTURE:
        if (work / "trees" / name).is_dir():
            continue
        if name == "freihand":  # each annotation has four pictures
            write_freihand(work / "trees" / name, mano, count=count // 4)
        else:
            WRITERS[name](work / "trees" / name, mano, count=count)  # type: ignore[call-arg]


def begun(arguments: list[str]) -> subprocess.Popen:
    """`twohands ARGUMENTS`, one thread a process."""
    print("$ twohands", *arguments, flush=True)
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    return subprocess.Popen([sys.executable, "-m", "twohands", *arguments], env=environment, stderr=subprocess.DEVNULL)


def done(arguments: list[str]) -> None:
    """The command, to its end; says how long it took."""
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    code = begun(arguments).wait()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(f"  {time.perf_counter() - start:.0f} s, {cpu:.0f} s of processor time", flush=True)
    if code:
        raise SystemExit(f"the command failed with exit code {code}; give it by itself to see why")


def rows_of(run: Path) -> dict[int, dict[str, float]]:
    """The run's log: step -> what was logged at it."""
    path = run / "log.jsonl"
    rows: dict[int, dict[str, float]] = {}
    for line in path.read_text().splitlines() if path.is_file() else []:
        row = json.loads(line)
        rows[row["step"]] = rows.get(row["step"], {}) | row
    return rows


def train_killed(arguments: list[str], run: Path, steps: int) -> None:
    """Begins, kills at half of the steps, goes on."""
    process = begun(arguments)
    while max(rows_of(run), default=0) < steps // 2 and process.poll() is None:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    at = int(torch.load(run / "last.ckpt", map_location="cpu", weights_only=True)["global_step"])
    print(f"  killed; the checkpoint is of step {at}", flush=True)
    done(arguments)


def table(work: Path, stage: int, steps: int) -> str:
    """Losses of one process and of two, as Markdown."""
    one, two = (rows_of(work / f"stage{stage}-{name}") for name in ("one", "two"))
    at = [step for step in (50, 100, 200, 300, steps) if step in one and step in two]
    lines = [f"| step | {' | '.join(f'{name}, one / two' for name in SHOWN[stage])} |", "|---" * (1 + len(SHOWN[stage])) + "|"]
    for step in sorted(set(at)):
        lines.append(f"| {step} | {' | '.join(f'{one[step][name]:.3f} / {two[step][name]:.3f}' for name in SHOWN[stage])} |")
    return "\n".join(lines)


def held_out_loss(weights: Path | None, like: Path, bank: Path) -> dict[str, float]:
    """Stage 2's loss on 2,048 pairs that no step has seen, with noise of every amount: of these weights, or of the network of `like` untrained. What
    one step sees differs so much from the next that a run's own log does not show in 300 steps what it learns."""
    config = read_config(like, DenoiserConfig)
    torch.manual_seed(0)
    denoiser = Denoiser(config)
    load_weights(like, denoiser)
    if weights is None:
        untrained = Denoiser(config)
        untrained.scale.load_state_dict(denoiser.scale.state_dict())
        denoiser = untrained
    elif weights != like:
        load_weights(weights, denoiser)
    model = load_bundled_hand()
    proxies = SphereProxies.of(model.data)
    pairs = PairStream(model, proxies, read_bank(bank), None, 2048, 77, PerturbConfig(), REFINER).make(0)
    with torch.no_grad():
        clean, condition, frame = conditioned(model, proxies, pairs)
        noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
        step = torch.linspace(1, STEPS, len(clean)).round()
        _, logs = diffusion_loss(
            lambda noisy, at: denoiser(noisy, at, condition), denoiser.scale, model, clean, condition.state, frame, step, noise
        )
    return {name: float(value) for name, value in logs.items()}


def same_weights(work: Path, stage: int) -> bool:
    """Whether the run that was killed ended bit for bit where the other did."""
    name = "regressor.safetensors" if stage == 1 else "refiner.safetensors"
    whole, resumed = (load_file(work / f"stage{stage}-{run}" / name) for run in ("one", "killed"))
    return whole.keys() == resumed.keys() and all(torch.equal(whole[key], resumed[key]) for key in whole)


def training(work: Path, stage: int, steps: int) -> list[str]:
    """The arguments that train a stage, but for where to."""
    train = ["train", "paper", "--stage", str(stage), "--data", f"{work}/data", "--rehearsal", "--accelerator", "cpu"]
    train += ["--steps", str(steps), "--validation", "12"]
    return [*train, "--lessons", f"{work}/lessons"] if stage == 1 else train


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--count", type=int, default=120)
    args = parser.parse_args()
    work: Path = args.work
    write_trees(work, args.count)
    for name in MIXTURE:
        data, lessons = work / "data" / name, work / "lessons" / name
        done(["data", "shards", name, f"{work}/trees/{name}", "--mano", f"{work}/mano", "--out", str(data), "--size-px", "128"])
        done(["teach", str(data), "--teacher", "rendered", "--out", str(lessons)])
    begin = {stage: training(work, stage, args.steps) for stage in (1, 2)}
    for stage, train in begin.items():
        done([*train, "--out", f"{work}/stage{stage}-one"])
        done([*train, "--out", f"{work}/stage{stage}-two", "--devices", "2"])
        print(table(work, stage, args.steps), flush=True)
    one, two = (work / f"stage2-{run}" / "refiner.safetensors" for run in ("one", "two"))
    print("stage 2 on pairs that no step has seen:")
    for words, weights in (("untrained", None), ("one process", one), ("two", two)):
        losses = held_out_loss(weights, one, work / "stage2-one" / "bank.npz")
        print(f"  {words}: {', '.join(f'{name} {value:.4f}' for name, value in losses.items())}", flush=True)
    for stage, train in begin.items():
        killed = work / f"stage{stage}-killed"
        if not killed.is_dir():
            train_killed([*train, "--out", str(killed)], killed, args.steps)
        print(f"stage {stage}, killed and gone on: {'the same weights' if same_weights(work, stage) else 'OTHER WEIGHTS'}", flush=True)


if __name__ == "__main__":
    main()
