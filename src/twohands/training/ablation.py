"""Small networks for questions: the same stage 1, about a minute of one core, one thing changed at a time.

Everything up to the landmark network's last maps stays as it was trained, as do the first stages and the readout of the network that ships;
projections, transformer and heads are trained. What the frozen part says of a crop is therefore computed once (`packed`), for a fixed list of augmented
batches, and the batches are gone through several times.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from twohands.checkpoints import load_weights, save_weights
from twohands.data.shards import ShardSet
from twohands.hands.bundled import load_bundled_hand
from twohands.priors.tflite import fill_landmark_trunk
from twohands.regress.align import KeypointReading, LandmarkAlignmentEncoder
from twohands.regress.losses import LossWeights, stage1_loss
from twohands.regress.network import Encoded, LandmarkEncoders, Regressor, RegressorConfig
from twohands.training.fit import AveragedModule, FitConfig, fit
from twohands.training.pairs import AugmentConfig, PairBatch, PairBatches, make_batch
from twohands.training.regressor import prediction_errors
from twohands.trunks import LandmarkLate, freeze

SMALL = RegressorConfig(prior_width=48, width=128, heads=4, depth=1, pyramid=32, hidden=256)
"""0.9 M trained parameters, a tenth of a second a step of 16 pairs on one core."""
PriorKinds = Literal["none", "keypoints", "parts", "depth"]
"""Which teachers there are, each with those before it, in the order of the paper's Table 3."""


class FrozenEncoders(LandmarkEncoders):
    """The landmark network as it was trained, for both branches; what it says of crops can be kept and given in their place."""

    def __init__(self, config: RegressorConfig) -> None:
        super().__init__(config)
        self.config = config

    @torch.no_grad()
    def packed(self, crops: Float[Tensor, "crop 3 size size"]) -> Float[Tensor, "crop feature 1 1"]:
        """Maps at strides 8, 16 and 32 and the features of the readout, in one row of halves a crop."""
        with torch.autocast(crops.device.type, torch.bfloat16):
            at_8, at_16 = self.early(crops)
        at_32, features = self.align.late(at_16.float())
        return torch.cat([x.flatten(1).half() for x in (at_8, at_16, at_32, features)], 1)[..., None, None]

    def forward(self, crops: Tensor) -> Encoded:
        """Of crops, or of what `packed` gave for them."""
        packed = crops if crops.shape[-1] == 1 else self.packed(crops)
        side, (fine, middle, coarse) = self.config.crop_px, self.widths
        shapes = [(fine, side // 8), (middle, side // 16), (coarse, side // 32)]
        sizes = [width * cells**2 for width, cells in shapes] + [LandmarkLate.FEATURES]
        *maps, features = packed[..., 0, 0].float().split(sizes, 1)
        at_8, at_16, at_32 = (m.unflatten(1, (width, cells, cells)) for m, (width, cells) in zip(maps, shapes, strict=True))
        presence, right, points, world = self.align.readout(features)
        reading = KeypointReading(points[..., :2] / LandmarkAlignmentEncoder.CROP_PX - 0.5, world - world[:, :1], presence, right)
        aligned = self.align.norm(self.align.project(at_32.flatten(2).transpose(1, 2)))
        return Encoded(at_8, at_16, at_32, aligned, reading)


class SmallRegressor(Regressor):
    """Stage 1 with `FrozenEncoders`."""

    encoders: FrozenEncoders

    def __init__(self, config: RegressorConfig = SMALL) -> None:
        super().__init__(config)
        self.encoders = FrozenEncoders(config)


def begin(trunk: Path, seed: int = 0) -> SmallRegressor:
    """An untrained network behind the landmark network's file."""
    torch.manual_seed(seed)
    network = SmallRegressor()
    encoders = network.encoders
    fill_landmark_trunk(encoders.early, encoders.align.late, encoders.align.readout, trunk)
    encoders.late.load_state_dict(encoders.align.late.to_32.state_dict())
    for frozen in (encoders.early, encoders.late, encoders.align.late, encoders.align.readout):
        freeze(frozen)
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def packed_batch(network: SmallRegressor, batch: PairBatch) -> PairBatch:
    """The batch with what the frozen part says in place of its crops; zeros for absent hands."""
    flat, present = batch.crops.flatten(0, 1), batch.present.flatten()
    said = network.encoders.packed(flat[present].contiguous(memory_format=torch.channels_last))
    everyone = torch.zeros(len(flat), *said.shape[1:], dtype=said.dtype)
    everyone[present] = said
    return dataclasses.replace(batch, crops=everyone.unflatten(0, batch.crops.shape[:2]))


def training_batches(network: SmallRegressor, shards: ShardSet, count: int, seed: int, batch: int = 16) -> list[PairBatch]:
    """So many augmented batches, packed."""
    pairs = PairBatches([shards], [1.0], batch, SMALL.crop_px, LandmarkEncoders.stride, seed, augment=AugmentConfig())
    return [packed_batch(network, pairs.make(step)) for step in range(count)]


def plain_batches(network: SmallRegressor, shards: ShardSet, at_once: int = 30) -> list[PairBatch]:
    """All samples with true boxes and clean pixels, packed."""
    made = []
    for first in range(0, len(shards), at_once):
        chosen = [(shards, k) for k in range(first, min(first + at_once, len(shards)))]
        batch = make_batch(chosen, SMALL.crop_px, LandmarkEncoders.stride, np.random.default_rng(0), None)
        made.append(packed_batch(network, batch))
    return made


def with_priors(batch: PairBatch, kinds: PriorKinds) -> PairBatch:
    """The batch as if only these teachers existed. "none": F_p is neither shown nor a target, and what the alignment encoder says is free."""
    no = torch.zeros_like(batch.priors.has_parts)
    match kinds:
        case "depth":
            return batch
        case "parts":
            return dataclasses.replace(batch, priors=dataclasses.replace(batch.priors, has_depth=no))
        case "keypoints":
            return dataclasses.replace(batch, priors=dataclasses.replace(batch.priors, has_parts=no, has_depth=no))
        case "none":
            truth = dataclasses.replace(batch.truth, prior_valid=torch.zeros_like(batch.truth.prior_valid))
            return dataclasses.replace(batch, use_prior=torch.zeros_like(batch.use_prior), truth=truth)


@dataclass(frozen=True)
class Mixed:
    """Makes the batches of a run: each step one of a list, lists drawn by weight."""

    lists: Sequence[list[PairBatch]]
    weights: tuple[float, ...]
    kinds: PriorKinds
    seed: int

    def make(self, step: int) -> PairBatch:
        rng = np.random.default_rng([self.seed, step])
        chosen = self.lists[int(rng.choice(len(self.lists), p=np.array(self.weights) / sum(self.weights)))]
        return with_priors(chosen[int(rng.integers(len(chosen)))], self.kinds)


@dataclass(frozen=True)
class SmallRun:
    """One run, for its folder's records."""

    fit: FitConfig
    priors: PriorKinds
    mixture: tuple[float, ...]
    batches: tuple[int, ...]


class SmallModule(AveragedModule):
    """The network with stage 1's losses."""

    def __init__(self, network: SmallRegressor, config: FitConfig) -> None:
        super().__init__(network, config)
        self.hand = load_bundled_hand()

    def loss(self, batch: PairBatch) -> tuple[Tensor, dict[str, float]]:
        prediction, prior = self.network(batch.crops, batch.view.geometry, batch.present, batch.priors, batch.use_prior)
        with torch.autocast(self.device.type, enabled=False):
            return stage1_loss(self.hand, prediction, prior, batch.truth, LossWeights())


def train_small(trunk: Path, run: SmallRun, lists: Sequence[list[PairBatch]]) -> SmallRegressor:
    """Trains (or goes on training) on lists of packed batches and writes small.safetensors into the run folder."""
    mixed = Mixed(lists, run.mixture, run.priors, run.fit.seed)
    module = fit(SmallModule(begin(trunk, run.fit.seed), run.fit), lambda part, start: mixed, run)
    save_weights(run.fit.out / "small.safetensors", module.average, SMALL, {"steps": str(run.fit.steps)})
    return load_small(run.fit.out / "small.safetensors")


def load_small(path: Path) -> SmallRegressor:
    """A trained network, ready to predict."""
    network = SmallRegressor()
    load_weights(path, network)
    return network.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def errors_on(network: Regressor, batches: Sequence[PairBatch], prior: Literal["encoder", "teacher"] = "encoder") -> dict[str, float]:
    """Means of `prediction_errors` over batches."""
    found: dict[str, list[float]] = {}
    for batch in batches:
        for name, values in prediction_errors(network, batch, prior).items():
            found.setdefault(name, []).extend(values)
    return {name: float(np.mean(values)) for name, values in found.items() if values}
