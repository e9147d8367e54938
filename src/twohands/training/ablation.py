"""Small networks for questions: the same stage 1, a few minutes of one core, one thing changed at a time.

The network is stage 1 at 128 px behind the landmark network's first stages. That network's own readout is left out (it only reads crops of its
own 224 px, and would hide what the rest has learnt); its features stay, unless a run begins from nothing.
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from twohands.checkpoints import load_weights, save_weights
from twohands.data.shards import ShardSet
from twohands.errors import UserError
from twohands.hands.bundled import load_bundled_hand
from twohands.priors.tflite import fill_landmark_trunk
from twohands.regress.head import JointMaps, ParameterHead
from twohands.regress.losses import LossWeights, stage1_loss
from twohands.regress.network import Encoded, LandmarkEncoders, Regressor, RegressorConfig
from twohands.training.fit import AveragedModule, FitConfig, fit
from twohands.training.pairs import AugmentConfig, PairBatch, PairBatches
from twohands.training.regressor import prediction_errors
from twohands.trunks import freeze

SMALL = RegressorConfig(crop_px=128, prior_width=48, width=128, heads=4, depth=1, pyramid=48, hidden=256)
"""2.4 M trained parameters, a quarter of a second a step of 16 pairs on one core."""
PriorKinds = Literal["none", "keypoints", "parts", "depth"]
"""Which teachers there are, each with those before it, in the order of the paper's Table 3."""


@dataclass(frozen=True)
class SmallRun:
    """One run."""

    fit: FitConfig
    shards: tuple[Path, ...]
    mixture: tuple[float, ...]
    images: int | None = None
    """Of the first folder of shards at most so many are used: engines compare at equal numbers of pictures."""
    priors: PriorKinds = "depth"
    trunk: Path | None = None
    """The landmark network's trained numbers; None: the whole network begins from nothing, its first stages are trained too."""
    network: RegressorConfig = SMALL
    batch: int = 16


class PlainLandmarkEncoders(LandmarkEncoders):
    """The landmark network's features without its readout; from nothing, all of it learns."""

    reads = False

    def __init__(self, config: RegressorConfig, from_nothing: bool) -> None:
        super().__init__(config)
        self.from_nothing = from_nothing

    def forward(self, crops: Float[Tensor, "crop 3 size size"]) -> Encoded:
        if self.from_nothing:
            at_8, at_16 = self.early(crops)
            aligned, _ = self.align(at_16)
            return Encoded(at_8, at_16, self.late(at_16), aligned, None)
        return dataclasses.replace(super().forward(crops), reading=None)


class SmallRegressor(Regressor):
    """Stage 1 with `PlainLandmarkEncoders`."""

    def __init__(self, config: RegressorConfig, from_nothing: bool = False) -> None:
        super().__init__(config)
        self.encoders = PlainLandmarkEncoders(config, from_nothing)
        fine, middle, _ = self.encoders.widths
        self.maps = JointMaps(config.width, [middle, fine], config.pyramid, False)
        self.parameters_head = ParameterHead(config.width, config.hidden, False)


def with_priors(batch: PairBatch, kinds: PriorKinds) -> PairBatch:
    """The batch as if only these teachers existed. "none": F_p is neither shown nor a target, so that the alignment encoder is a second backbone."""
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
class _Batches:
    """Makes a run's batches."""

    pairs: PairBatches
    kinds: PriorKinds

    def make(self, step: int) -> PairBatch:
        return with_priors(self.pairs.make(step), self.kinds)


class SmallModule(AveragedModule):
    """The network with stage 1's losses. Both branches behind the first stages learn, so that F_fa can become what F_p is."""

    def __init__(self, run: SmallRun) -> None:
        torch.manual_seed(run.fit.seed)
        network = SmallRegressor(run.network, run.trunk is None)
        encoders = network.encoders
        assert isinstance(encoders, PlainLandmarkEncoders)
        if run.trunk is not None:
            fill_landmark_trunk(encoders.early, encoders.align.late, encoders.align.readout, run.trunk)
            encoders.late.load_state_dict(encoders.align.late.to_32.state_dict())
            freeze(encoders.early)
        freeze(encoders.align.readout)
        super().__init__(network.to(memory_format=torch.channels_last), run.fit)  # type: ignore[call-overload]
        self.from_nothing, self.hand = run.trunk is None, load_bundled_hand()

    def slow_parameters(self) -> list[nn.Parameter]:
        encoders = self.network.encoders
        return [] if self.from_nothing else [*encoders.late.parameters(), *encoders.align.late.parameters()]

    def loss(self, batch: PairBatch) -> tuple[Tensor, dict[str, float]]:
        prediction, prior = self.network(batch.crops, batch.view.geometry, batch.present, batch.priors, batch.use_prior)
        with torch.autocast(self.device.type, enabled=False):
            return stage1_loss(self.hand, prediction, prior, batch.truth, LossWeights())


def first_images(shards: ShardSet, count: int | None) -> ShardSet:
    """The first so many samples."""
    return shards if count is None or count >= len(shards) else shards.without_last(len(shards) - count)


def token_stride(config: RegressorConfig) -> int:
    """Pixels a token."""
    return PlainLandmarkEncoders.stride if config.trunk == "landmark" else config.crop_px // Regressor(config).token_grid(config.crop_px)


def train_small(run: SmallRun) -> SmallRegressor:
    """Trains (or goes on training) and writes small.safetensors into the run folder. UserError if a folder has no shards."""
    if run.network.trunk != "landmark":
        raise UserError(f"these runs begin with the landmark trunk, not {run.network.trunk!r}")
    sets = []
    for folder in run.shards:
        paths = sorted(folder.glob("*.npz"))
        if run.images is not None and not sets:
            paths = paths[: max(1, run.images // 100)]  # no more shards than could be needed
        sets.append(ShardSet.read(paths))
    sets[0] = first_images(sets[0], run.images)
    augment = AugmentConfig()

    def batches(part: int, start: int) -> _Batches:
        stride = token_stride(run.network)
        pairs = PairBatches(sets, list(run.mixture), run.batch, run.network.crop_px, stride, run.fit.seed, part, start, augment)
        return _Batches(pairs, run.priors)

    module = fit(SmallModule(run), batches, run)
    save_weights(run.fit.out / "small.safetensors", module.average, run.network, {"steps": str(run.fit.steps)})
    return load_small(run.fit.out / "small.safetensors", run.network, run.trunk is None)


def load_small(path: Path, config: RegressorConfig = SMALL, from_nothing: bool = False) -> SmallRegressor:
    """A trained network, ready to predict."""
    network = SmallRegressor(config, from_nothing)
    load_weights(path, network)
    return network.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def errors_on(network: Regressor, batches: list[PairBatch], prior: Literal["encoder", "teacher"] = "encoder") -> dict[str, float]:
    """Means of `prediction_errors` over batches."""
    found: dict[str, list[float]] = {}
    for batch in batches:
        for name, values in prediction_errors(network, batch, prior).items():
            found.setdefault(name, []).extend(values)
    return {name: float(np.mean(values)) for name, values in found.items() if values}
