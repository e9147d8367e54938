"""Small networks for questions: the same stage 1, about a minute of one core, one thing changed at a time.

Everything up to the landmark network's last maps stays as it was trained, as do the first stages and the readout of the network that ships;
projections, transformer and heads are trained. What the frozen part says of a crop is therefore computed once (`packed`), for a fixed list of augmented
batches, and the batches are gone through several times. One network is the exception: the one whose trunk knows nothing of hands (`Trunk`).
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from twohands.checkpoints import load_weights, save_weights
from twohands.data.shards import ShardSet
from twohands.hands.bundled import load_bundled_hand
from twohands.priors.tflite import fill_landmark_trunk
from twohands.regress.align import KeypointReading, LandmarkAlignmentEncoder
from twohands.regress.head import JointMaps, ParameterHead
from twohands.regress.losses import LossWeights, stage1_loss
from twohands.regress.network import Encoded, LandmarkEncoders, Regressor, RegressorConfig
from twohands.training.fit import AveragedModule, FitConfig, fit
from twohands.training.pairs import AugmentConfig, PairBatch, PairBatches, make_batch
from twohands.training.regressor import prediction_errors
from twohands.trunks import InvertedResidual, LandmarkLate, freeze

SMALL = RegressorConfig(prior_width=48, width=128, heads=4, depth=1, pyramid=32, hidden=256)
"""0.9 M trained parameters, a tenth of a second a step of 16 pairs on one core."""
PriorKinds = Literal["none", "keypoints", "parts", "depth", "shown"]
"""Which teachers there are, each with those before it, in the order of the paper's Table 3. "shown": all of them, but F_fa need not resemble what
they say (no L_prior)."""
Trunk = Literal["taught", "unread", "untaught"]
"""What of the landmark network is there. taught: its trunk, and its readout of keypoints, presence and side. unread: its trunk alone. untaught:
neither; the same layers, drawn at random, learn with the rest."""


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


class UnreadEncoders(FrozenEncoders):
    """The frozen network without what it reads off its features."""

    reads = False

    def forward(self, crops: Tensor) -> Encoded:
        return dataclasses.replace(super().forward(crops), reading=None)


class UntaughtEncoders(LandmarkEncoders):
    """The landmark network's layers without its trained numbers: both branches and what is before them learn."""

    reads = False

    def forward(self, crops: Float[Tensor, "crop 3 size size"]) -> Encoded:
        at_8, at_16 = self.early(crops)
        aligned = self.align.norm(self.align.project(self.align.late.to_32(at_16).flatten(2).transpose(1, 2)))
        return Encoded(at_8, at_16, self.late(at_16), aligned, None)


ENCODERS: dict[Trunk, type[LandmarkEncoders]] = {"taught": FrozenEncoders, "unread": UnreadEncoders, "untaught": UntaughtEncoders}


class SmallRegressor(Regressor):
    """Stage 1 with one of ENCODERS."""

    encoders: LandmarkEncoders

    def __init__(self, config: RegressorConfig = SMALL, kind: Trunk = "taught") -> None:
        super().__init__(config)
        self.encoders = ENCODERS[kind](config)
        if not self.encoders.reads:
            fine, middle, _ = self.encoders.widths
            self.maps = JointMaps(config.width, [middle, fine], config.pyramid, config.map_blocks, False)
            self.parameters_head = ParameterHead(config.width, config.hidden, False)


def draw_numbers(*modules: nn.Module) -> None:
    """Random numbers for layers that have no normalisation: signals keep their size through them, and blocks with a skip begin as nothing
    but their skip (after Zhang et al., "Fixup initialization", 2019)."""
    for module in (m for part in modules for m in part.modules()):
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for block in (m for part in modules for m in part.modules() if isinstance(m, InvertedResidual)):
        nn.init.zeros_(block.project.weight) if block.skips else nn.init.kaiming_normal_(block.project.weight, nonlinearity="linear")


def begin(trunk: Path, seed: int = 0, kind: Trunk = "taught") -> SmallRegressor:
    """An untrained network, behind the landmark network's file unless it is to be untaught."""
    torch.manual_seed(seed)
    network = SmallRegressor(kind=kind)
    encoders = network.encoders
    if kind == "untaught":
        draw_numbers(encoders.early, encoders.late, encoders.align.late)
        freeze(encoders.align.readout)  # nobody looks at it, nor at the layers that lead there alone
        freeze(encoders.align.late.expand)
        freeze(encoders.align.late.depthwise)
        return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    fill_landmark_trunk(encoders.early, encoders.align.late, encoders.align.readout, trunk)
    encoders.late.load_state_dict(encoders.align.late.to_32.state_dict())
    for frozen in (encoders.early, encoders.late, encoders.align.late, encoders.align.readout):
        freeze(frozen)
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def packed_batch(network: SmallRegressor, batch: PairBatch) -> PairBatch:
    """The batch with what the frozen part says in place of its crops, if there is one; zeros for absent hands."""
    if not isinstance(network.encoders, FrozenEncoders):
        return batch
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
        case "shown":
            truth = dataclasses.replace(batch.truth, prior_valid=torch.zeros_like(batch.truth.prior_valid))
            return dataclasses.replace(batch, truth=truth)


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
    kind: Trunk = "taught"


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
    """Trains (or goes on training) on lists of batches that a network of its kind has packed, and writes small.safetensors into the run folder."""
    mixed = Mixed(lists, run.mixture, run.priors, run.fit.seed)
    module = fit(SmallModule(begin(trunk, run.fit.seed, run.kind), run.fit), lambda part, start: mixed, run)
    save_weights(run.fit.out / "small.safetensors", module.average, SMALL, {"steps": str(run.fit.steps)})
    return load_small(run.fit.out / "small.safetensors", run.kind)


def load_small(path: Path, kind: Trunk = "taught") -> SmallRegressor:
    """A trained network, ready to predict."""
    network = SmallRegressor(kind=kind)
    load_weights(path, network)
    return network.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def errors_on(network: Regressor, batches: Sequence[PairBatch], prior: Literal["encoder", "teacher"] = "encoder") -> dict[str, float]:
    """Means of `prediction_errors` over batches."""
    found: dict[str, list[float]] = {}
    for batch in batches:
        for name, values in prediction_errors(network, batch, prior).items():
            found.setdefault(name, []).extend(values)
    return {name: float(np.mean(values)) for name, values in found.items() if values}
