"""What every training run shares: schedule, averaged weights, run folder, resuming."""

import copy
import dataclasses
import itertools
import json
import math
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from twohands.errors import UserError, from_extra
from twohands.manifest import beside
from twohands.record import Record, concatenate

with from_extra("train", "training"):
    import lightning
    from lightning.pytorch.callbacks import ModelCheckpoint
    from lightning.pytorch.plugins.io import TorchCheckpointIO


class Batches(Protocol):
    """Makes the batch of any step."""

    def make(self, step: int) -> Record: ...


@dataclasses.dataclass(frozen=True)
class Machines:
    """What a run has. With torchrun or Slurm each process is told the same numbers."""

    devices: int = 1
    """Processes (GPUs) a node."""
    nodes: int = 1
    workers: int = 0
    """Processes a device that make batches ahead."""
    accelerator: str = "auto"


ONE_PROCESS = Machines()


def quick_precision() -> str:
    """ "bf16-mixed" where the machine has bfloat16 in hardware (.78 of a step's time on one core of an EPYC, losses within half a per cent),
    "32-true" where it would be emulated."""
    if torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "32-true"
    can = torch.cpu.get_capabilities()
    return "bf16-mixed" if can.get("avx512_bf16") or can.get("amx_bf16") else "32-true"


@dataclasses.dataclass(frozen=True)
class FitConfig:
    """How long, how fast, where to."""

    out: Path
    """Run folder: config.json, last.ckpt, log."""
    steps: int
    learning_rate: float = 1e-3
    warmup_steps: int = 500
    final_share: float = 0.01
    """Learning rate at the end over its peak (cosine in between)."""
    slow_share: float = 0.2
    """Learning rate of parameters that begin with trained numbers over that of new ones."""
    weight_decay: float = 0.02
    clip_norm: float = 5.0
    average: float = 0.999
    """Decay of the exponential moving average of the weights, which is what gets saved."""
    checkpoint_steps: int = 500
    threads: int = 1
    """One thread a rank: two-threaded operations stall when another process has the second core."""
    precision: str = "bf16-mixed"
    accelerator: str = "auto"
    devices: int = 1
    nodes: int = 1
    seed: int = 0
    schedule: Literal["cosine", "drops"] = "cosine"
    drops: tuple[float, ...] = ()
    """With the schedule "drops": the shares of the run after which the rate falls to a tenth."""
    parts: int | None = None
    """The global batch is made in so many parts, each a function of (seed, part, step) and shared out among the processes, so that it does not
    depend on how many there are. None: a part a process, so that the global batch grows with them."""
    workers: int = 0
    """Processes a rank that make batches ahead; 0 makes them in the training process."""


@torch.no_grad()
def move_average(average: nn.Module, network: nn.Module, decay: float, step: int) -> None:
    """Moves the averaged weights towards those after `step` steps. Early averages forget fast, so that they do not remember the beginning."""
    decay = min(decay, (1 + step) / (10 + step))
    source, target = network.state_dict(), average.state_dict()
    names = [name for name, value in source.items() if value.is_floating_point()]
    torch._foreach_lerp_([target[n] for n in names], [source[n] for n in names], 1 - decay)


class AveragedModule(lightning.LightningModule):
    """A network, its moving average, AdamW without decay on norms and biases, the rate's schedule. Subclasses give `loss`."""

    def __init__(self, network: nn.Module, config: FitConfig) -> None:
        super().__init__()
        self.network = network
        self.average = copy.deepcopy(network).requires_grad_(False)
        self.fit_config = config
        self.running: dict[str, float] = {}

    def loss(self, batch: Any) -> tuple[Tensor, dict[str, float]]:
        """Loss of a batch and numbers to log."""
        raise NotImplementedError("a training module must say what its loss is")

    def slow_parameters(self) -> list[nn.Parameter]:
        """Parameters that were trained before, on more than this run has: they move at `slow_share` of the rate."""
        return []

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """What a step draws depends on seed, process and step alone: a run that resumes draws what it would have drawn."""
        torch.manual_seed(seed_of(self.fit_config.seed, self.global_rank, self.global_step))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["running"] = self.running

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.running = dict(checkpoint.get("running", {}))

    def training_step(self, batch: Any, _: int) -> Tensor:
        loss, terms = self.loss(batch)
        if not bool(loss.isfinite()):
            raise FloatingPointError(
                f"the loss became {float(loss)} at step {self.global_step}: {terms}; resume with a lower learning rate"
            )
        for name, value in terms.items():
            self.running[name] = 0.98 * self.running.get(name, value) + 0.02 * value
        return loss

    def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
        """Steps, then moves the average: here and not at the batch's end, where a checkpoint may already have been written without it."""
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        move_average(self.average, self.network, self.fit_config.average, self.global_step)

    def configure_optimizers(self) -> Any:
        c = self.fit_config
        slow = {id(p) for p in self.slow_parameters()}
        groups = []
        for share, chosen in ((1.0, lambda p: id(p) not in slow), (c.slow_share, lambda p: id(p) in slow)):
            for decay, ndims in ((c.weight_decay, (2, 3, 4, 5)), (0.0, (0, 1))):
                parameters = [p for p in self.network.parameters() if p.requires_grad and chosen(p) and p.ndim in ndims]
                if parameters:
                    groups.append({"params": parameters, "weight_decay": decay, "lr": share * c.learning_rate})
        optimizer = torch.optim.AdamW(groups, c.learning_rate, betas=(0.9, 0.98))

        def scale(step: int) -> float:
            if step < c.warmup_steps:
                return (step + 1) / c.warmup_steps
            if c.schedule == "drops":
                return 0.1 ** sum(step >= round(share * c.steps) for share in c.drops)
            progress = min(1.0, (step - c.warmup_steps) / max(1, c.steps - c.warmup_steps))
            return c.final_share + (1 - c.final_share) * 0.5 * (1 + math.cos(math.pi * progress))

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, scale)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        return batch.to(device)


class SharedBatches(IterableDataset):
    """The batches of one process: its parts of the global batch, joined. Worker processes of a loader take turns with the steps."""

    def __init__(self, parts: Sequence[Batches], start_step: int) -> None:
        self.parts, self.start_step = parts, start_step

    def __iter__(self) -> Iterator[Any]:
        info = get_worker_info()
        first, stride = (0, 1) if info is None else (info.id, info.num_workers)
        for step in itertools.count(self.start_step + first, stride):
            made = [part.make(step) for part in self.parts]
            yield made[0] if len(made) == 1 else concatenate(made)


class WholeCheckpoints(TorchCheckpointIO):
    """Writes checkpoints beside and renames them: a run may be killed while it writes, and must find the one before."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        with beside(Path(path)) as part:
            torch.save(checkpoint, part)


class Report(lightning.Callback):
    """Writes a line of running means over all processes to the run's log, and calls `validate` now and then.

    `waited` is the share of the time that the training spent waiting for data."""

    def __init__(self, path: Path, every: int, validate: Callable[[nn.Module, int], dict[str, float]] | None, validate_every: int) -> None:
        self.path, self.every, self.validate, self.validate_every = path, every, validate, validate_every
        self.waited_s = self.worked_s = 0.0
        self.since = time.perf_counter()

    def on_train_batch_start(self, *_: Any) -> None:
        now = time.perf_counter()
        self.waited_s, self.since = self.waited_s + now - self.since, now

    def on_train_batch_end(self, trainer: lightning.Trainer, module: lightning.LightningModule, *_: Any) -> None:
        step = trainer.global_step
        assert isinstance(module, AveragedModule)
        now = time.perf_counter()
        self.worked_s, self.since = self.worked_s + now - self.since, now
        if step % self.every == 0:
            means = self._over_processes(module)
            if trainer.is_global_zero:
                rate = trainer.optimizers[0].param_groups[0]["lr"]
                waited = self.waited_s / max(self.waited_s + self.worked_s, 1e-9)
                self._write(
                    {"step": step, "rate": round(rate, 7), **{k: round(v, 4) for k, v in means.items()}, "waited": round(waited, 3)}
                )
            self.waited_s = self.worked_s = 0.0
        if trainer.is_global_zero and self.validate and step % self.validate_every == 0:
            module.average.eval()
            self._write({"step": step, "validation": self.validate(module.average, step)})
        self.since = time.perf_counter()

    @staticmethod
    def _over_processes(module: AveragedModule) -> dict[str, float]:
        """Running means, averaged over the processes, each of which saw its own part of the batches."""
        values = torch.tensor(list(module.running.values()), dtype=torch.float32, device=module.device)
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(values)
            values = values / torch.distributed.get_world_size()
        return dict(zip(module.running, values.tolist(), strict=True))

    def _write(self, row: dict[str, Any]) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")


def seed_of(*numbers: int) -> int:
    """One seed for a generator from several numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))


def write_config(out: Path, experiment: dict[str, Any]) -> None:
    """Keeps beside the weights what they came from: the commit and the whole configuration."""
    with beside(out / "config.json") as part:
        part.write_text(json.dumps({"commit": _commit(), "experiment": experiment}, indent=1, default=str))


def _commit() -> str:
    """The source's commit and whether it was changed, "unknown" outside a checkout."""
    folder = Path(__file__).parent
    try:
        commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, check=True).stdout.strip()
        changed = subprocess.run(["git", "status", "--porcelain"], cwd=folder, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return commit + (" with changes" if changed else "")


def fit(
    module: AveragedModule,
    batches: Callable[[int, int], Batches],
    experiment: Any,
    validate: Callable[[nn.Module, int], dict[str, float]] | None = None,
    validate_every: int = 2000,
) -> AveragedModule:
    """Trains to the step budget, resuming from the run folder's last checkpoint if there is one.

    `batches(part, start_step)` makes the data of a part of the global batch (of a process, if `parts` is None).
    `experiment` is the frozen config that is kept beside the weights."""
    config = module.fit_config
    torch.set_num_threads(config.threads)
    config.out.mkdir(parents=True, exist_ok=True)
    last = config.out / "last.ckpt"
    start = int(torch.load(last, map_location="cpu", weights_only=True)["global_step"]) if last.is_file() else 0
    trainer = lightning.Trainer(
        max_steps=config.steps,
        accelerator=config.accelerator,
        devices=config.devices,
        num_nodes=config.nodes,
        strategy="ddp" if config.devices * config.nodes > 1 else "auto",
        precision=config.precision,  # type: ignore[arg-type]
        gradient_clip_val=config.clip_norm,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        plugins=[WholeCheckpoints()],
        callbacks=[
            ModelCheckpoint(
                config.out, filename="last", every_n_train_steps=config.checkpoint_steps, save_top_k=1, enable_version_counter=False
            ),
            Report(config.out / "log.jsonl", 50, validate, validate_every),
        ],
    )
    if trainer.is_global_zero:
        write_config(config.out, dataclasses.asdict(experiment))
    mine = parts_of(config.parts, trainer.global_rank, trainer.world_size)
    loader = DataLoader(SharedBatches([batches(part, start) for part in mine], start), batch_size=None, num_workers=config.workers)
    if start < config.steps:
        trainer.fit(module, loader, ckpt_path=str(last) if last.is_file() else None, weights_only=True)
        trainer.save_checkpoint(last, weights_only=False)  # False: the optimiser too
    # Every process goes on with what was saved: averages of batch statistics differ between them.
    module.load_state_dict(torch.load(last, map_location="cpu", weights_only=True)["state_dict"])
    return module


def parts_of(parts: int | None, rank: int, processes: int) -> range:
    """The parts of the global batch that a process makes. UserError if they cannot be shared out evenly."""
    parts = processes if parts is None else parts
    if parts % processes:
        raise UserError(
            f"the batch is made in {parts} parts, which {processes} processes cannot share evenly; use a number that divides {parts}"
        )
    each = parts // processes
    return range(rank * each, (rank + 1) * each)
