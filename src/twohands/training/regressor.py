"""Trains stage 1."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from twohands.checkpoints import load_weights, read_config, save_weights
from twohands.errors import UserError
from twohands.geometry.rotations import nearest_rotation
from twohands.hands.bundled import load_bundled_hand
from twohands.priors.cache import taught_shards
from twohands.priors.tflite import fill_landmark_trunk
from twohands.regress.head import HandPrediction
from twohands.regress.losses import LossWeights, palm_length, predicted_joints_m, stage1_loss
from twohands.regress.network import LandmarkEncoders, Regressor, RegressorConfig
from twohands.training.false_alarms import with_false_alarms
from twohands.training.fit import AveragedModule, FitConfig, fit
from twohands.training.pairs import AugmentConfig, PairBatch, PairBatches, make_batch
from twohands.trunks import freeze


@dataclass(frozen=True)
class RegressorTraining:
    """One run of stage 1."""

    fit: FitConfig
    shards: tuple[Path, ...]
    """Folders of shards, mixed by `mixture`."""
    mixture: tuple[float, ...]
    network: RegressorConfig = field(default_factory=RegressorConfig)
    batch: int = 32
    weights: LossWeights = field(default_factory=LossWeights)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    validation: int = 256
    """Images kept from the end of each folder, never trained on."""
    start_from: Path | None = None
    """Weights to begin with (fine-tuning); the run's own checkpoint goes first."""
    trunk: Path | None = None
    """Where the landmark network's trained numbers are (`priors.install.LANDMARK`), if it does not begin with a regressor's weights."""
    only: tuple[str, ...] = ()
    """Parts of the network that learn (names of `Regressor`'s modules); the rest stays as it is. None named: all."""
    decisions_of: Path | None = None
    """Weights whose decisions (presence, side, other hand) the run keeps: it learns what they say of its crops in the truth's place. What rendered
    pictures teach of presence is the wrong thing on photos."""
    lessons: tuple[Path | None, ...] = ()
    """For each folder of shards a teacher's cache (priors/cache.py) whose maps take the place of the shards' own, or None. None at all: ()."""


class RegressorModule(AveragedModule):
    """Stage 1 with its losses."""

    def __init__(self, training: RegressorTraining) -> None:
        network = Regressor(training.network)
        parts = dict(network.named_children())
        if unknown := set(training.only) - set(parts):
            raise UserError(f"stage 1 has no part {sorted(unknown)[0]!r}; choose from {', '.join(parts)}")
        if training.start_from:
            smaller = read_config(training.start_from, RegressorConfig)
            load_weights(training.start_from, network, new=(*training.only, *network.grow(smaller)))
            if isinstance(network.encoders, LandmarkEncoders) and training.network.branch_at < smaller.branch_at:
                network.encoders.branch(late=False)
        elif training.trunk and isinstance(network.encoders, LandmarkEncoders):
            encoders = network.encoders
            fill_landmark_trunk(encoders.early, encoders.align.late, encoders.align.readout, training.trunk)
            encoders.branch(late=True)
        if isinstance(network.encoders, LandmarkEncoders):
            # The encoder's own stages stay as its teacher left them; what F_fa learns is where they point.
            for frozen in (network.encoders.early, network.encoders.align.late, network.encoders.align.readout):
                freeze(frozen)
        if training.only:
            for name, part in parts.items():
                if name not in training.only:
                    freeze(part)
        super().__init__(network.to(memory_format=torch.channels_last), training.fit)  # type: ignore[call-overload]
        self.training_config = training
        self.hand = load_bundled_hand()
        # In a tuple, so that it is no part of this module: nothing of it learns, and checkpoints need not hold it.
        self.judges: tuple[Regressor, ...] = (_judge(training.decisions_of, training.network.crop_px),) if training.decisions_of else ()
        self.train()  # Lightning keeps the modes that it finds

    def train(self, mode: bool = True) -> "RegressorModule":
        """Parts that do not learn keep their running statistics. Landmark encoders have none, and are faster as in training."""
        super().train(mode)
        if self.training_config.only:
            for name, part in self.network.named_children():
                if name not in self.training_config.only and not isinstance(part, LandmarkEncoders):
                    part.eval()
        return self

    def slow_parameters(self) -> list[nn.Parameter]:
        encoders = self.network.encoders
        if not isinstance(encoders, LandmarkEncoders):
            return []
        return [p for part in (encoders.own_16, encoders.late) if part is not None for p in part.parameters()]

    def loss(self, batch: PairBatch) -> tuple[Tensor, dict[str, float]]:
        if self.hand.data.v_template.device != self.device:
            self.hand = self.hand.to(self.device)
        prediction, prior = self.network(batch.crops, batch.view.geometry, batch.present, batch.priors, batch.use_prior)
        said = self._judged(batch) if self.judges else None
        with torch.autocast(self.device.type, enabled=False):
            return stage1_loss(self.hand, prediction, prior, batch.truth, self.training_config.weights, said)

    @torch.no_grad()
    def _judged(self, batch: PairBatch) -> HandPrediction:
        """What the judge says of a batch; by what its alignment encoder reads, as on photos."""
        judge = self.judges[0].to(self.device)
        said, _ = judge(batch.crops, batch.view.geometry, batch.present, batch.priors, torch.zeros_like(batch.use_prior))
        return said.to(torch.float32)


def _judge(path: Path, crop_px: int) -> Regressor:
    """The network of a weights file, which learns nothing. UserError if it knows crops of another size."""
    config = read_config(path, RegressorConfig)
    if config.crop_px != crop_px:
        raise UserError(f"{path} decides on crops of {config.crop_px} px, and this run has {crop_px} px; name weights of that size")
    network = Regressor(config)
    load_weights(path, network)
    return network.to(memory_format=torch.channels_last).requires_grad_(False).eval()  # type: ignore[call-overload]


def prediction_errors(network: nn.Module, batch: PairBatch, prior: str) -> dict[str, list[float]]:
    """Errors of one batch: MPJPE and its aligned kin in mm, PCK in shares of the hand's size, the relative translation in mm.

    `prior` is "encoder" (F_fa), "teacher" (F_p of all the batch's priors) or "none" (zeros in their place)."""
    hand = load_bundled_hand()
    pairs = batch.present.shape[0]
    use = torch.full((pairs,), prior == "teacher")
    with torch.inference_mode():
        prediction, _ = network(batch.crops, batch.view.geometry, batch.present, batch.priors, use)
        joints = predicted_joints_m(hand, prediction.to(torch.float32))
    truth = batch.truth
    mask = truth.joints_valid.all(-1) & truth.parameters_valid
    errors = (joints - truth.joints_m).norm(dim=-1).mean(-1)[mask] * 1000
    xy = (prediction.joints_xy - truth.joints_xy).norm(dim=-1)
    span = truth.joints_xy.amax(2) - truth.joints_xy.amin(2)
    share = (xy / span.amax(-1, keepdim=True))[truth.xy_valid]
    relative = (prediction.relative_m - truth.relative_m).norm(dim=-1)[truth.relative_valid] * 1000
    lifted = torch.cat(
        [prediction.joints_xy * _unit(prediction, truth), prediction.joints_z[..., None] * palm_length(truth.joints_m)[..., None, None]], -1
    )
    return {
        "mpjpe_mm": errors.tolist(),
        "pa_mm": _aligned(joints[mask], truth.joints_m[mask]),
        "pa_2.5d_mm": _aligned(lifted[mask], truth.joints_m[mask]),
        "pck_0.1": (share < 0.1).float().tolist(),
        "mrrpe_mm": relative.tolist(),
        "side": ((prediction.side_logit > 0) == (truth.side_correct > 0.5))[truth.state_valid].float().tolist(),
    }


def _unit(prediction: object, truth: object) -> Tensor:
    """Metres per crop side that bring the true 2D joints to the size of the true 3D ones."""
    joints, xy = truth.joints_m, truth.joints_xy  # type: ignore[attr-defined]
    a = joints[..., :2] - joints[..., :2].mean(2, keepdim=True)
    b = xy - xy.mean(2, keepdim=True)
    return ((a * b).sum((-1, -2)) / b.square().sum((-1, -2)).clamp_min(1e-6))[..., None, None]


def _aligned(p: Tensor, q: Tensor) -> list[float]:
    """Mean error in mm after a similarity, per hand."""
    p, q = p - p.mean(1, keepdim=True), q - q.mean(1, keepdim=True)
    if not len(p):
        return []
    rotation = nearest_rotation(q.transpose(1, 2) @ p)
    turned = p @ rotation.transpose(1, 2)
    scale = (turned * q).sum((1, 2)) / turned.square().sum((1, 2))
    return ((scale[:, None, None] * turned - q).norm(dim=-1).mean(1) * 1000).tolist()


def train_regressor(training: RegressorTraining) -> Path:
    """Trains (or goes on training) and writes regressor.safetensors into the run folder; returns its path."""
    torch.manual_seed(training.fit.seed)
    lessons = training.lessons or (None,) * len(training.shards)
    sets = [with_false_alarms(taught_shards(folder, cache), folder) for folder, cache in zip(training.shards, lessons, strict=True)]
    module = RegressorModule(training)
    network = Regressor(training.network)
    size = training.network.crop_px
    stride = size // network.token_grid(size)
    held_out = [(s, len(s) - 1 - k) for s in sets for k in range(training.validation)]
    kept = [s.without_last(training.validation) for s in sets]

    def batches(rank: int, start: int) -> PairBatches:
        return PairBatches(kept, list(training.mixture), training.batch, size, stride, training.fit.seed, rank, start, training.augment)

    def validate(network: nn.Module, _: int) -> dict[str, float]:
        found: dict[str, list[float]] = {}
        for k in range(len(sets)):
            chosen = held_out[k * training.validation : (k + 1) * training.validation]
            for first in range(0, len(chosen), 64):
                batch = make_batch(chosen[first : first + 64], size, stride, np.random.default_rng(0), None)
                for name, values in prediction_errors(network, batch, "encoder").items():
                    found.setdefault(f"{training.shards[k].name} {name}", []).extend(values)
        return {name: round(float(np.mean(values)), 3) for name, values in found.items() if values}

    fit(module, batches, training, validate)
    path = training.fit.out / "regressor.safetensors"
    save_weights(path, module.average, training.network, {"steps": str(training.fit.steps)})
    return path
