"""Training of stage 2: outputs of an early stage 1 and clean pairs with errors, half and half; the diffusion loss; an averaged denoiser."""

import copy
import dataclasses
import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.data import DataLoader

from twohands.checkpoints import load_weights, save_weights
from twohands.collision.proxies import SphereProxies
from twohands.errors import UserError, from_extra
from twohands.geometry.rotations import matrix_to_rotvec, rotvec_to_matrix
from twohands.hands.bundled import load_bundled_hand
from twohands.hands.model import HandModel
from twohands.hands.parameters import HandParameters
from twohands.record import concatenate
from twohands.refine.denoiser import Condition, Denoiser, DenoiserConfig
from twohands.refine.diffusion import STEPS, LossWeights, diffusion_loss
from twohands.refine.perturb import PerturbConfig, Perturbed, penetrates, perturb
from twohands.refine.refiner import token_confidence
from twohands.refine.state import PairFrame, pack, rest_wrists_m
from twohands.synth.bank import read_bank
from twohands.training.fit import Machines, SharedBatches, WholeCheckpoints, move_average, parts_of, seed_of, write_config
from twohands.training.photographed import read_pairs

with from_extra("train", "training"):
    import lightning as L
    from lightning.pytorch.callbacks import Callback, ModelCheckpoint

ONE_CPU = Machines(accelerator="cpu")


@dataclass(frozen=True)
class RefinerTraining:
    """How the denoiser is trained."""

    rate: float = 1e-3
    """Peak learning rate of AdamW; rises over the first steps, then falls by a cosine."""
    weight_decay: float = 0.01
    warmup_steps: int = 200
    average_decay: float = 0.999
    """Of the exponential moving average that is saved."""
    loss: LossWeights = field(default_factory=LossWeights)
    clip: float = 1.0
    photographed_share: float = 0.5
    """Share of a batch that are outputs of stage 1; the others are clean pairs with errors. All others if there are no photographed pairs."""
    deep_weight: float = 4.0
    """How much more often those outputs are drawn that penetrate."""
    stretched_share: float = 0.5
    """Share of the outputs whose errors are scaled, each hand's by a number of its own."""
    stretch: tuple[float, float] = (0.4, 1.2)
    first_share: float = 0.85
    """Share of a batch at the noisiest step, without noise: where sampling begins, and with one step ends."""
    blind_every: int = 8
    """Every so many batches learn to do without a camera and without any idea of what is sure."""
    bf16: bool = True
    """The network's products in bfloat16: half the time on processors that have it in hardware."""
    checkpoint_steps: int = 500
    """Steps between checkpoints: what is done anew after a kill."""
    parts: int | None = None
    """The batch is made in so many parts, which the processes share out (`FitConfig.parts`). None: each process makes a batch."""


def conditioned(
    model: HandModel, proxies: SphereProxies, pairs: Perturbed, camera_known: bool = True
) -> tuple[Tensor, Condition, PairFrame]:
    """Clean state, condition and frame of pairs."""
    frame = PairFrame.of(model, pairs.parameters)
    condition = Condition.of(model, proxies, pairs.parameters, frame, token_confidence(pairs.keypoint_confidence), camera_known)
    return pack(model, pairs.clean, frame), condition, frame


class PairStream:
    """Makes the batch of any step, a pure function of (seed, part, step): clean pairs of a bank with errors, and outputs of stage 1."""

    def __init__(
        self,
        model: HandModel,
        proxies: SphereProxies,
        bank: HandParameters,
        photographed: Perturbed | None,
        batch: int,
        seed: int,
        config: PerturbConfig,
        training: RefinerTraining,
        part: int = 0,
    ) -> None:
        self.model, self.proxies, self.bank, self.photographed = model, proxies, bank, photographed
        self.batch, self.seed, self.config, self.training, self.part = batch, seed, config, training, part
        if photographed is not None:
            deep = torch.cat([penetrates(model, proxies, photographed.parameters[i : i + 256], config) for i in _starts(photographed)])
            self.draw_weight = 1 + (training.deep_weight - 1) * deep.float()

    @torch.no_grad()
    def make(self, step: int) -> Perturbed:
        """The batch of a step."""
        generator = torch.Generator().manual_seed(seed_of(self.seed, self.part, step))
        outputs = 0 if self.photographed is None else round(self.batch * self.training.photographed_share)
        parts = []
        if outputs < self.batch:
            rows = torch.randint(self.bank.shape.shape[0], (self.batch - outputs,), generator=generator)
            parts.append(perturb(self.model, self.proxies, self.bank[rows], generator, self.config))
        if self.photographed is not None and outputs:
            rows = torch.multinomial(self.draw_weight, outputs, replacement=True, generator=generator)
            low, high = self.training.stretch
            stretch = low + (high - low) * torch.rand(outputs, 2, generator=generator)
            whole = torch.rand(outputs, 1, generator=generator) >= self.training.stretched_share
            parts.append(stretched(self.model, self.photographed[rows], torch.where(whole, 1.0, stretch)))
        return concatenate(parts)


def _starts(pairs: Perturbed) -> range:
    return range(0, pairs.keypoint_confidence.shape[0], 256)


def stretched(model: HandModel, pairs: Perturbed, factor: Float[Tensor, "batch hand"]) -> Perturbed:
    """The same pairs with errors of each hand so many times as large, and the confidence of a stage 1 that knows it: a Laplace scale so many times as
    large. Rotations go along the shortest way."""
    clean, found = pairs.clean, pairs.parameters
    part = factor[..., None]
    R_clean = rotvec_to_matrix(clean.pose)
    way = matrix_to_rotvec(R_clean.transpose(-1, -2) @ rotvec_to_matrix(found.pose))
    pose = matrix_to_rotvec(R_clean @ rotvec_to_matrix(part[..., None] * way))
    shape = clean.shape + part * (found.shape - clean.shape)
    wrist_clean, wrist_found = (rest_wrists_m(model, p.shape) + p.translation_m for p in (clean, found))
    place = wrist_clean + part * (wrist_found - wrist_clean) - rest_wrists_m(model, shape)
    confidence = 1 - (1 - pairs.keypoint_confidence.clamp_max(0.9999)) ** (1 / part)
    whole = (factor == 1)[..., None]
    same = HandParameters(
        torch.where(whole[..., None], found.pose, pose),
        torch.where(whole, found.shape, shape),
        torch.where(whole, found.translation_m, place),
    )
    return Perturbed(clean, same, torch.where(whole, pairs.keypoint_confidence, confidence))


class RefinerModule(L.LightningModule):
    """The denoiser, its moving average, and the loss."""

    def __init__(
        self,
        model: HandModel,
        proxies: SphereProxies,
        config: DenoiserConfig,
        training: RefinerTraining,
        steps: int,
        minutes: float | None,
        seed: int,
    ) -> None:
        super().__init__()
        self.seed = seed
        self.parts = range(1)
        """The parts of the batch that this process sees."""
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
        if self.model.data.v_template.device != self.device:
            self.model, self.proxies = self.model.to(self.device), self.proxies.to(self.device)

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        return batch.to(device)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["spent_s"] = self.elapsed_s()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.spent_s = checkpoint["spent_s"]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        config = self.training_config
        return torch.optim.AdamW(self.denoiser.parameters(), config.rate, weight_decay=config.weight_decay, betas=(0.9, 0.99))

    def training_step(self, pairs: Perturbed, index: int) -> Tensor:
        count = pairs.keypoint_confidence.shape[0]
        config = self.training_config
        blind = self.global_step % config.blind_every == config.blind_every - 1
        if blind:
            pairs = dataclasses.replace(pairs, keypoint_confidence=torch.full_like(pairs.keypoint_confidence, 0.5))
        with torch.no_grad():
            clean, condition, frame = conditioned(self.model, self.proxies, pairs, camera_known=not blind)
        step, noise = self._noise(clean)

        def denoise(noisy: Tensor, at: Tensor) -> Tensor:
            with torch.autocast(noisy.device.type, torch.bfloat16, enabled=config.bf16):
                return self.denoiser(noisy, at, condition).float()

        scale = self.denoiser.scale
        loss, logs = diffusion_loss(denoise, scale, self.model, clean, condition.state, frame, step, noise, config.loss, self.proxies)
        self.log_dict({f"train/{name}": value for name, value in logs.items()}, batch_size=count, sync_dist=True)
        return loss

    def _noise(self, clean: Tensor) -> tuple[Tensor, Tensor]:
        """How much noise each pair gets, and which: functions of (seed, part, step) as the pairs are, however many processes there are and after
        however many kills."""
        count, steps, noises = clean.shape[0] // len(self.parts), [], []
        for part in self.parts:
            generator = torch.Generator().manual_seed(seed_of(self.seed, part, self.global_step))
            # Sampling in few steps lives off the noisy end: there it is trained most.
            step = (STEPS * torch.rand(count, generator=generator).sqrt()).ceil()
            first = torch.rand(count, generator=generator) < self.training_config.first_share
            noise = torch.randn(count, *clean.shape[1:], generator=generator)
            steps.append(torch.where(first, float(STEPS), step))
            noises.append(noise.masked_fill(first[:, None, None, None], 0.0))
        return torch.cat(steps).to(clean.device), torch.cat(noises).to(clean.device)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        config = self.training_config
        warm = min(1.0, (self.global_step + 1) / config.warmup_steps)
        for group in optimizer.param_groups:
            group["lr"] = config.rate * warm * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * self.progress())))

    def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
        """Steps, then moves the average: here and not at the batch's end, where a checkpoint may already have been written without it."""
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        move_average(self.average, self.denoiser, self.training_config.average_decay, self.global_step)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        if self.progress() >= 1:
            self.trainer.should_stop = True


class _Report(Callback):
    """A line of means every `every` steps, to the run's log and through Lightning's own logger."""

    def __init__(self, path: Path, every: int) -> None:
        self.path, self.every = path, every
        self.sums: dict[str, float] = {}
        self.count = 0

    def on_train_batch_end(self, trainer: L.Trainer, module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.count += 1
        for name, value in trainer.callback_metrics.items():
            self.sums[name] = self.sums.get(name, 0.0) + float(value)
        if trainer.global_step % self.every == 0:
            assert isinstance(module, RefinerModule)
            means = {name.removeprefix("train/"): round(total / self.count, 4) for name, total in self.sums.items()}
            if trainer.is_global_zero:
                with self.path.open("a") as file:
                    file.write(json.dumps({"step": trainer.global_step, "seconds": round(module.elapsed_s()), **means}) + "\n")
            said = ", ".join(f"{name} {value:.4f}" for name, value in means.items())
            L.pytorch.utilities.rank_zero.rank_zero_info(f"step {trainer.global_step} {module.elapsed_s():.0f} s: {said}")
            self.sums, self.count = {}, 0


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
    photographed: Sequence[Path] = (),
    start_from: Path | None = None,
    machines: Machines = ONE_CPU,
) -> Path:
    """Trains the denoiser on a bank of clean pairs and on stage 1's outputs (NPZs of `photograph_bank`); writes `out/refiner.safetensors` and
    returns its path. `start_from` are weights of the same configuration to begin with; their scale of the state stays.

    Ends after `steps` or `minutes` of processor time, whichever comes first; the learning rate falls accordingly. `resume` goes on from
    `out/last.ckpt`: without `minutes` to the weights, bit for bit, of a run that was not stopped. One thread a process."""
    config, perturb_config = config or DenoiserConfig(), perturb_config or PerturbConfig()
    torch.set_num_threads(1)
    L.seed_everything(seed, verbose=False)
    out.mkdir(parents=True, exist_ok=True)
    model = load_bundled_hand()
    proxies = SphereProxies.of(model.data)
    clean = read_bank(bank)
    module = RefinerModule(model, proxies, config, training, steps, minutes, seed)
    last = out / "last.ckpt"
    if resume and not last.is_file():
        raise UserError(f"nothing to resume at {last}; start without resuming")
    with torch.no_grad():
        outputs = concatenate([read_pairs(path) for path in photographed]) if photographed else None
        some = PairStream(model, proxies, clean, outputs, 2048, seed, perturb_config, training).make(0)
        state, condition, _ = conditioned(model, proxies, some)
        for denoiser in (module.denoiser, module.average):
            if start_from is None:
                denoiser.scale.fit(state - condition.state)
            else:
                load_weights(start_from, denoiser)
    start = int(torch.load(last, map_location="cpu", weights_only=True)["global_step"]) if resume else 0
    saver = ModelCheckpoint(
        out, filename="last", every_n_train_steps=training.checkpoint_steps, save_top_k=1, save_last=False, enable_version_counter=False
    )
    trainer = L.Trainer(
        max_steps=steps,
        accelerator=machines.accelerator,
        devices=machines.devices,
        num_nodes=machines.nodes,
        strategy="ddp" if machines.devices * machines.nodes > 1 else "auto",
        use_distributed_sampler=False,
        logger=False,
        plugins=[WholeCheckpoints()],
        callbacks=[saver, _Report(out / "log.jsonl", 50)],
        gradient_clip_val=training.clip,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1,
    )
    if trainer.is_global_zero:
        inputs = {"bank": bank, "photographed": list(photographed), "start_from": start_from}
        numbers = {"steps": steps, "minutes": minutes, "batch": batch, "seed": seed}
        records: dict[str, Any] = {"network": config, "training": training, "perturb": perturb_config, "machines": machines}
        write_config(out, inputs | numbers | {name: dataclasses.asdict(record) for name, record in records.items()})
    mine = module.parts = parts_of(training.parts, trainer.global_rank, trainer.world_size)
    each = batch // (training.parts or 1)
    streams = [PairStream(model, proxies, clean, outputs, each, seed + 1, perturb_config, training, part) for part in mine]
    loader = DataLoader(SharedBatches(streams, start), batch_size=None, num_workers=machines.workers)
    if start < steps:
        trainer.fit(module, loader, ckpt_path=last if resume else None, weights_only=True)
        trainer.save_checkpoint(last)
    else:
        module.load_state_dict(torch.load(last, map_location="cpu", weights_only=True)["state_dict"])
    facts = {
        "steps": str(module.global_step),
        "batch": str(batch),
        "seconds": f"{module.elapsed_s():.0f}",
        "pairs": str(clean.shape.shape[0]),
        "photographed": str(0 if outputs is None else outputs.keypoint_confidence.shape[0]),
    }
    weights = out / "refiner.safetensors"
    save_weights(weights, module.average, config, facts)
    return weights
