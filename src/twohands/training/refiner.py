"""Training of stage 2: clean interactions from the sampler, errors of stage 1 on the fly, the diffusion loss, an averaged denoiser."""

import copy
import dataclasses
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from twohands.checkpoints import save_weights
from twohands.collision.proxies import SphereProxies
from twohands.errors import UserError
from twohands.hands.bundled import load_bundled_hand
from twohands.hands.model import HandModel
from twohands.hands.parameters import HandParameters
from twohands.refine.benchmark import score_refiner
from twohands.refine.denoiser import Condition, Denoiser, DenoiserConfig
from twohands.refine.diffusion import STEPS, diffusion_loss
from twohands.refine.perturb import PerturbConfig, Perturbed, penetrates, perturb
from twohands.refine.refiner import Refiner, token_confidence
from twohands.refine.state import PairFrame, pack
from twohands.synth.interactions import sample_interactions, sample_labelled_interactions

HELD_OUT_SEED = 1_000_000
"""Seeds of benchmark pairs start here; those of training banks stay below."""


@dataclass(frozen=True)
class RefinerTraining:
    """How the denoiser is trained."""

    rate: float = 1e-3
    """Peak learning rate of AdamW; rises over the first steps, then falls by a cosine."""
    weight_decay: float = 0.01
    warmup_steps: int = 200
    average_decay: float = 0.999
    """Of the exponential moving average that is saved."""
    keypoint_weight: float = 1.0
    clip: float = 1.0
    bf16: bool = True
    """The network's products in bfloat16: half the time on processors that have it in hardware."""


def build_bank(path: Path, model: HandModel, count: int, seed: int = 0, part: int = 500) -> None:
    """Writes `count` clean interactions to an NPZ file (pose, shape, translation_m, template). Minutes: about 40 s a thousand on one core.

    UserError if the seeds would reach those held out for measuring."""
    if seed * 1000 + math.ceil(count / part) >= HELD_OUT_SEED:
        raise UserError(f"seed {seed} reaches the seeds held out for measuring; choose a smaller one")
    parts = [
        sample_labelled_interactions(model, min(part, count - done), seed * 1000 + index).arrays()
        for index, done in enumerate(range(0, count, part))
    ]
    arrays = {name.removeprefix("parameters."): np.concatenate([p[name] for p in parts]) for name in parts[0]}
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]


def read_bank(path: Path) -> HandParameters:
    """The clean pairs of a bank; UserError if the file is missing or broken."""
    if not path.is_file():
        raise UserError(f"no bank of interactions at {path}; build one first")
    with np.load(path) as stored:
        if missing := {"pose", "shape", "translation_m"} - set(stored.files):
            raise UserError(f"{path} lacks {sorted(missing)}; build the bank anew")
        return HandParameters(*(torch.from_numpy(stored[name]).float() for name in ("pose", "shape", "translation_m")))


def conditioned(
    model: HandModel, proxies: SphereProxies, pairs: Perturbed, camera_known: bool = True
) -> tuple[Tensor, Condition, PairFrame]:
    """Clean state, condition and frame of pairs."""
    frame = PairFrame.of(model, pairs.parameters)
    condition = Condition.of(model, proxies, pairs.parameters, frame, token_confidence(pairs.keypoint_confidence), camera_known)
    return pack(model, pairs.clean, frame), condition, frame


class PairStream(IterableDataset):
    """Endless batches of perturbed pairs of a bank."""

    def __init__(
        self, model: HandModel, proxies: SphereProxies, bank: HandParameters, batch: int, seed: int, config: PerturbConfig
    ) -> None:
        self.model, self.proxies, self.bank, self.batch, self.config = model, proxies, bank, batch, config
        self.generator = torch.Generator().manual_seed(seed)

    def __iter__(self) -> Iterator[Perturbed]:
        while True:
            with torch.no_grad():
                rows = torch.randint(self.bank.shape.shape[0], (self.batch,), generator=self.generator)
                yield perturb(self.model, self.proxies, self.bank[rows], self.generator, self.config)


class RefinerModule(L.LightningModule):
    """The denoiser, its moving average, and the loss."""

    def __init__(
        self, model: HandModel, proxies: SphereProxies, config: DenoiserConfig, training: RefinerTraining, steps: int, minutes: float | None
    ) -> None:
        super().__init__()
        self.proxies = proxies
        self.model, self.training_config, self.steps, self.minutes = model, training, steps, minutes
        self.denoiser = Denoiser(config)
        self.average = copy.deepcopy(self.denoiser).requires_grad_(False)
        self.spent_s = 0.0
        self._since = time.process_time()

    def progress(self) -> float:
        """Share of the training that is over: by steps, or by time if that is ahead."""
        by_steps = self.global_step / self.steps
        return min(1.0, by_steps if self.minutes is None else max(by_steps, self.elapsed_s() / (60 * self.minutes)))

    def elapsed_s(self) -> float:
        """Seconds of processor time, those of earlier runs included: the clock on the wall says little where cores are shared."""
        return self.spent_s + time.process_time() - self._since

    def on_train_start(self) -> None:
        self._since = time.process_time()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["spent_s"] = self.elapsed_s()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.spent_s = checkpoint["spent_s"]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        config = self.training_config
        return torch.optim.AdamW(self.denoiser.parameters(), config.rate, weight_decay=config.weight_decay, betas=(0.9, 0.99))

    def training_step(self, pairs: Perturbed, index: int) -> Tensor:
        count = pairs.keypoint_confidence.shape[0]
        # Every fifth batch learns to do without a camera and without any idea of what is sure.
        blind = index % 5 == 4
        if blind:
            pairs = dataclasses.replace(pairs, keypoint_confidence=torch.full_like(pairs.keypoint_confidence, 0.5))
        with torch.no_grad():
            clean, condition, frame = conditioned(self.model, self.proxies, pairs, camera_known=not blind)
        # Sampling in few steps lives off the noisy end: there it is trained most.
        step = (STEPS * torch.rand(count).sqrt()).ceil()
        config = self.training_config

        def denoise(noisy: Tensor, at: Tensor) -> Tensor:
            with torch.autocast(noisy.device.type, torch.bfloat16, enabled=config.bf16):
                return self.denoiser(noisy, at, condition).float()

        scale, noise = self.denoiser.scale, torch.randn_like(clean)
        loss, logs = diffusion_loss(denoise, scale, self.model, clean, condition.state, frame, step, noise, config.keypoint_weight)
        self.log_dict({f"train/{name}": value for name, value in logs.items()}, batch_size=count)
        return loss

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        config = self.training_config
        warm = min(1.0, (self.global_step + 1) / config.warmup_steps)
        for group in optimizer.param_groups:
            group["lr"] = config.rate * warm * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * self.progress())))

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        # Early averages forget fast, so that they do not remember the beginning.
        decay = min(self.training_config.average_decay, (1 + self.global_step) / (10 + self.global_step))
        with torch.no_grad():
            for mean, now in zip(self.average.parameters(), self.denoiser.parameters(), strict=True):
                mean.lerp_(now, 1 - decay)
        if self.progress() >= 1:
            self.trainer.should_stop = True


class _Report(Callback):
    """A line every `every` steps, through Lightning's own logger."""

    def __init__(self, every: int) -> None:
        self.every = every
        self.sums: dict[str, float] = {}

    def on_train_batch_end(self, trainer: L.Trainer, module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        for name, value in trainer.callback_metrics.items():
            self.sums[name] = self.sums.get(name, 0.0) + float(value)
        if trainer.global_step % self.every == 0:
            assert isinstance(module, RefinerModule)
            means = ", ".join(f"{name.removeprefix('train/')} {total / self.every:.4f}" for name, total in self.sums.items())
            L.pytorch.utilities.rank_zero.rank_zero_info(f"step {trainer.global_step} {module.elapsed_s():.0f} s: {means}")
            self.sums = {}


def train_refiner(
    out: Path,
    bank: Path,
    minutes: float | None = None,
    steps: int = 20_000,
    batch: int = 64,
    seed: int = 0,
    resume: bool = False,
    config: DenoiserConfig | None = None,
    training: RefinerTraining = RefinerTraining(),
    perturb_config: PerturbConfig | None = None,
) -> Path:
    """Trains the denoiser on a bank of clean pairs and writes `out/refiner.safetensors`; returns its path.

    Ends after `steps` or `minutes` of processor time, whichever comes first; the learning rate falls accordingly. `out/last.ckpt` is
    written every three minutes and at the end, and `resume` goes on from it. One thread."""
    config, perturb_config = config or DenoiserConfig(), perturb_config or PerturbConfig()
    torch.set_num_threads(1)
    L.seed_everything(seed, verbose=False)
    out.mkdir(parents=True, exist_ok=True)
    model = load_bundled_hand()
    proxies = SphereProxies.of(model.data)
    clean = read_bank(bank)
    module = RefinerModule(model, proxies, config, training, steps, minutes)
    last = out / "last.ckpt"
    if resume and not last.is_file():
        raise UserError(f"nothing to resume at {last}; start without resuming")
    with torch.no_grad():
        generator = torch.Generator().manual_seed(seed)
        rows = torch.randint(clean.shape.shape[0], (2048,), generator=generator)
        state, condition, _ = conditioned(model, proxies, perturb(model, proxies, clean[rows], generator, perturb_config))
        for denoiser in (module.denoiser, module.average):
            denoiser.scale.fit(state - condition.state)
    # A resumed run draws other pairs than the first did, not the same again.
    stream_seed = seed + 1 + (int(last.stat().st_mtime) if resume else 0)
    stream = PairStream(model, proxies, clean, batch, stream_seed, perturb_config)
    saver = ModelCheckpoint(
        out, filename="last", save_top_k=1, save_last=False, train_time_interval=timedelta(minutes=3), enable_version_counter=False
    )
    trainer = L.Trainer(
        max_steps=steps,
        accelerator="cpu",
        devices=1,
        logger=False,
        callbacks=[saver, _Report(200)],
        gradient_clip_val=training.clip,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1,
    )
    loader = DataLoader(stream, batch_size=None)
    trainer.fit(module, loader, ckpt_path=last if resume else None, weights_only=True)
    trainer.save_checkpoint(last)
    facts = {
        "steps": str(module.global_step),
        "batch": str(batch),
        "seconds": f"{module.elapsed_s():.0f}",
        "pairs": str(clean.shape.shape[0]),
    }
    weights = out / "refiner.safetensors"
    save_weights(weights, module.average, config, facts)
    return weights


def held_out_pairs(model: HandModel, count: int, seed: int, config: PerturbConfig | None = None) -> Perturbed:
    """Penetrating pairs (by the proxies) whose seeds no training bank reaches."""
    config = config or PerturbConfig()
    generator = torch.Generator().manual_seed(HELD_OUT_SEED + seed)
    proxies = SphereProxies.of(model.data)
    with torch.no_grad():
        pairs = perturb(model, proxies, sample_interactions(model, int(1.5 * count) + 8, HELD_OUT_SEED + seed), generator, config)
        deep = penetrates(model, proxies, pairs.parameters, config).nonzero()[:count, 0]
    if len(deep) < count:
        raise UserError(f"only {len(deep)} of the pairs drawn penetrate, {count} were asked for; use errors that are larger")
    return pairs[deep]


def evaluate_refiner(refiner: Refiner, model: HandModel, count: int = 500, seed: int = 9) -> dict[str, float]:
    """Numbers of `score_refiner` on held-out synthetic pairs that penetrate."""
    return score_refiner(refiner, model, held_out_pairs(model, count, seed))
