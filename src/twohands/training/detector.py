"""Trains the detector on shards: synthetic scenes, and photos whose hands a teacher has labelled."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import IterableDataset

from twohands.checkpoints import load_weights, save_weights
from twohands.data.shards import ShardSet
from twohands.detector import FIELDS, STRIDE, DetectorConfig, DetectorNetwork, Peaks, decode, overlap, suppress
from twohands.priors.tflite import fill_palm_trunk
from twohands.record import Record
from twohands.training.fit import AveragedModule, FitConfig, fit
from twohands.trunks import freeze

LEAST_PX = 6.0
"""Hands smaller than this in the training picture are not asked for."""


@dataclass(frozen=True)
class DetectorTraining:
    """One run of the detector."""

    fit: FitConfig
    shards: tuple[Path, ...]
    mixture: tuple[float, ...]
    network: DetectorConfig = field(default_factory=DetectorConfig)
    batch: int = 16
    sizes: tuple[int, ...] = (192, 224)
    """Side of the square training pictures, drawn per step."""
    scale: tuple[float, float] = (0.3, 1.3)
    """Size of a photo in the picture; below 1 the rest is filled."""
    mosaic: float = 0.3
    """Share of pictures put together from four."""
    dark: float = 0.15
    """Share of photos with much less light, or, one in four of them, less contrast."""
    validation: int = 200
    start_from: Path | None = None
    """Weights of a detector to begin with."""
    trunk: Path | None = None
    """Where the trunk's trained numbers are (`priors.install.PALM`), if it does not begin with a detector's weights."""


@dataclass(frozen=True)
class DetectorBatch(Record):
    """Pictures and their hands, one slot per side."""

    image: Float[Tensor, "batch 3 size size"]
    box: Float[Tensor, "batch slot 4"]
    direction: Float[Tensor, "batch slot 2"]
    side: Tensor
    """(batch, slot) 0 left, 1 right."""
    valid: Tensor
    """(batch, slot)"""


class DetectorBatches(IterableDataset):
    """Endless batches, a pure function of (seed, rank, step)."""

    def __init__(self, sets: list[ShardSet], training: DetectorTraining, rank: int = 0, start_step: int = 0, augment: bool = True) -> None:
        self.sets, self.training, self.rank, self.start_step, self.augment = sets, training, rank, start_step, augment

    def __iter__(self) -> Iterator[DetectorBatch]:
        step = self.start_step
        while True:
            yield self.make(step)
            step += 1

    def make(self, step: int) -> DetectorBatch:
        t = self.training
        rng = np.random.default_rng([t.fit.seed, self.rank, step])
        size = int(rng.choice(t.sizes))
        weights = np.array(t.mixture) / np.sum(t.mixture)
        pictures = []
        for _ in range(t.batch):
            count = 4 if rng.random() < t.mosaic else 1
            parts = []
            for _ in range(count):
                chosen = self.sets[rng.choice(len(self.sets), p=weights)]
                parts.append((chosen, int(rng.integers(len(chosen)))))
            pictures.append(_picture(parts, size, t, rng))
        return _stack(pictures, rng)


def _picture(parts: list[tuple[ShardSet, int]], size: int, t: DetectorTraining, rng: np.random.Generator) -> tuple[Tensor, list[tuple]]:
    """One training picture from one image, or a mosaic of four, with its hands as (side, keypoints)."""
    canvas = torch.from_numpy(_filling(size, rng))
    hands: list[tuple[int, np.ndarray]] = []
    cell = size if len(parts) == 1 else size // 2
    for k, (shards, index) in enumerate(parts):
        x0, y0 = (k % 2) * cell, (k // 2) * cell
        image = torch.from_numpy(shards.decode(index).copy()).permute(2, 0, 1)[None].float() / 255
        low, high = t.scale if len(parts) == 1 else (0.7, 1.4)
        scale = float(np.exp(rng.uniform(np.log(low), np.log(high))))
        angle = rng.normal(0, 0.25) + (rng.random() < 0.25) * rng.uniform(-np.pi, np.pi)
        mirror = rng.random() < 0.5
        reach = max(0.0, 1 - scale) + 0.1
        shift = rng.uniform(-reach, reach, 2)
        # Output pixel -> source position in -1..1: inverse of rotate, scale, shift.
        R = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]) / scale
        if mirror:
            R = np.diag([-1.0, 1.0]) @ R
        theta = torch.from_numpy(np.concatenate([R, -(R @ shift)[:, None]], 1)).float()[None]
        fine = 2 if scale * cell < 0.7 * image.shape[-1] else 1  # a photo made much smaller would alias
        grid = functional.affine_grid(theta, [1, 3, fine * cell, fine * cell], align_corners=False)
        read = functional.avg_pool2d(functional.grid_sample(image, grid, align_corners=False), fine)[0]
        inside = functional.avg_pool2d((grid.abs().amax(-1) < 1).float()[:, None], fine)[0]
        gain = np.exp(rng.normal(0, 0.25) + rng.normal(0, 0.08, 3)).astype(np.float32)
        read = (read * torch.from_numpy(gain)[:, None, None] + float(rng.normal(0, 0.05))).clamp(0, 1)
        if rng.random() < t.dark:
            veil = float(rng.uniform(0.2, 0.8)) if rng.random() < 0.25 else 0.0
            read = veil + (read - veil) * float(np.exp(-rng.uniform(0.4, 1.8)))
        if rng.random() < 0.12:
            read = read.mean(0, keepdim=True).expand(3, -1, -1)
        target = canvas[:, y0 : y0 + cell, x0 : x0 + cell]
        canvas[:, y0 : y0 + cell, x0 : x0 + cell] = inside * read + (1 - inside) * target
        width = image.shape[-1]
        inverse = np.linalg.inv(R)
        for side, keypoints_xy in _hands(shards, index):
            normal = keypoints_xy / width * 2 - 1
            xy = ((normal - theta[0, :, 2].numpy()) @ inverse.T + 1) / 2 * cell
            if (xy > -0.15 * cell).all(1).mean() > 0.7 and (xy < 1.15 * cell).all(1).mean() > 0.7:
                hands.append((side ^ int(mirror), xy + np.array([x0, y0])))
    return canvas, hands


def _hands(shards: ShardSet, index: int) -> list[tuple[int, np.ndarray]]:
    """(side, keypoints in pixels (21, 2)) of every annotated hand of a sample, bystanders' too."""
    arrays = shards.arrays
    own = [(int(h), arrays["keypoints_xy"][index][h]) for h in np.flatnonzero(arrays["hand_valid"][index])]
    extra = np.flatnonzero(arrays["extra_valid"][index])
    return own + [(int(arrays["extra_sides"][index][k]), arrays["extra_keypoints_xy"][index][k]) for k in extra]


def _filling(size: int, rng: np.random.Generator) -> np.ndarray:
    """What is where no image is: black as the letterbox, a colour, or coarse noise."""
    kind = rng.random()
    if kind < 0.4:
        return np.zeros((3, size, size), np.float32)
    colour = rng.random((3, 1, 1), np.float32)
    if kind < 0.8:
        return np.tile(colour, (1, size, size))
    noise = torch.from_numpy(rng.random((1, 3, 6, 6), np.float32))
    return functional.interpolate(noise, size=(size, size), mode="bilinear")[0].numpy()


def _stack(pictures: list[tuple[Tensor, list[tuple]]], rng: np.random.Generator) -> DetectorBatch:
    slots = max(1, max(len(hands) for _, hands in pictures))
    count = len(pictures)
    box, direction = torch.zeros(count, slots, 4), torch.zeros(count, slots, 2)
    side, valid = torch.zeros(count, slots, dtype=torch.long), torch.zeros(count, slots, dtype=torch.bool)
    images = torch.stack([image for image, _ in pictures])
    size = images.shape[-1]
    for i, (_, hands) in enumerate(pictures):
        for k, (s, xy) in enumerate(hands):
            low, high = xy.min(0), xy.max(0)
            centre = (low + high) / 2
            if (high - low).max() < LEAST_PX or (centre < 0).any() or (centre >= size).any():
                continue
            box[i, k] = torch.from_numpy(np.concatenate([low, high])).float()
            along = xy[9] - xy[0]
            direction[i, k] = torch.from_numpy(along / max(np.linalg.norm(along), 1e-6)).float()
            side[i, k], valid[i, k] = s, True
    soft = rng.random()
    if soft < 0.25:
        small = int(size * rng.uniform(0.4, 0.8))
        blurred = functional.interpolate(images, size=(small, small), mode="bilinear", antialias=True)
        images = functional.interpolate(blurred, size=(size, size), mode="bilinear")
    if rng.random() < 0.4:
        images = images + float(rng.uniform(0.005, 0.05)) * torch.from_numpy(rng.standard_normal(images.shape, dtype=np.float32))
    return DetectorBatch(images.clamp(0, 1), box, direction, side, valid)


def detector_loss(heat: Tensor, fields: Tensor, batch: DetectorBatch) -> tuple[Tensor, dict[str, float]]:
    """Penalty-reduced focal loss on the heat; L1 on offset and log size, cosine distance of the direction, wherever the heat's target is
    above one half."""
    count, _, height, width = heat.shape
    target = torch.zeros_like(heat)
    wanted = torch.zeros_like(fields)
    weight = torch.zeros_like(heat)
    ys = (torch.arange(height, device=heat.device) + 0.5)[:, None]
    xs = (torch.arange(width, device=heat.device) + 0.5)[None]
    for i in range(count):
        order = (batch.box[i, :, 2:] - batch.box[i, :, :2]).prod(-1).argsort(descending=True)
        for k in order.tolist():  # large hands first, so that small ones in front of them own their cells
            if not batch.valid[i, k]:
                continue
            s = int(batch.side[i, k])
            centre = (batch.box[i, k, :2] + batch.box[i, k, 2:]) / 2 / STRIDE
            size = ((batch.box[i, k, 2:] - batch.box[i, k, :2]) / STRIDE).clamp_min(0.1)
            sigma = float(size.max().clamp(3, 16)) * 0.14
            cell = centre.floor() + 0.5
            blob = torch.exp(-((xs - cell[0]) ** 2 + (ys - cell[1]) ** 2) / (2 * sigma**2))
            target[i, s] = torch.maximum(target[i, s], blob)
            own = blob > 0.5
            values = torch.stack([
                centre[0] - xs.expand_as(own), centre[1] - ys.expand_as(own), *(size.log()[c].expand(own.shape) for c in (0, 1)),
                *(batch.direction[i, k, c].expand(own.shape) for c in (0, 1)),
            ])  # fmt: skip
            wanted[i, s] = torch.where(own, values, wanted[i, s])
            weight[i, s] = torch.where(own, 1.0, weight[i, s])
    positive = target > 0.999
    probability = heat.sigmoid().clamp(1e-4, 1 - 1e-4)
    focal = torch.where(
        positive, -((1 - probability) ** 2) * probability.log(), -((1 - target) ** 4) * probability**2 * (1 - probability).log()
    ).sum() / positive.sum().clamp_min(1)
    total = weight.sum().clamp_min(1)
    assert fields.shape[2] == FIELDS
    offset = ((fields[:, :, :2] - wanted[:, :, :2]).abs().sum(2) * weight).sum() / total
    size_loss = ((fields[:, :, 2:4] - wanted[:, :, 2:4]).abs().sum(2) * weight).sum() / total
    along = 1 - functional.cosine_similarity(fields[:, :, 4:6], wanted[:, :, 4:6], dim=2, eps=1e-4)
    direction = (along * weight).sum() / total
    loss = focal + 0.3 * offset + size_loss + direction
    terms = {"heat": focal, "offset": offset, "size": size_loss, "direction": direction}
    return loss, {name: float(value.detach()) for name, value in terms.items()}


class DetectorModule(AveragedModule):
    """The detector with its loss."""

    def __init__(self, training: DetectorTraining) -> None:
        network = DetectorNetwork(training.network)
        if training.start_from is not None:
            load_weights(training.start_from, network, new=("neck",))  # blocks do nothing until trained
        elif training.trunk is not None:
            fill_palm_trunk(network.trunk, training.trunk)
        for frozen in (network.trunk.stem, network.trunk.stem_activation, network.trunk.at_2, network.trunk.at_4):
            freeze(frozen)
        super().__init__(network.to(memory_format=torch.channels_last), training.fit)  # type: ignore[call-overload]

    def slow_parameters(self) -> list[nn.Parameter]:
        return list(self.network.trunk.parameters())  # type: ignore[union-attr]

    def loss(self, batch: DetectorBatch) -> tuple[Tensor, dict[str, float]]:
        image = batch.image.contiguous(memory_format=torch.channels_last)
        # The frozen half runs in half precision, three times as fast.
        with torch.no_grad(), torch.autocast(self.device.type, torch.bfloat16):
            edges = self.network.trunk.edges(image)  # type: ignore[union-attr, operator]
        heat, fields = self.network.read(self.network.trunk.at_8(edges.float()))  # type: ignore[operator, union-attr]
        with torch.autocast(self.device.type, enabled=False):
            return detector_loss(heat.float(), fields.float(), batch)


def detection_scores(network: nn.Module, shards: ShardSet, indices: list[int], config: DetectorConfig) -> dict[str, float]:
    """Recall at IoU .5 of either class, share of found hands with the right side, median direction error in degrees, false hands an image."""
    found, sided, false, total, angles = 0, 0, 0, 0, []
    for index in indices:
        peaks = suppress(_peaks(network, shards, index, config), config)
        classes, boxes, direction = peaks.side, peaks.box, peaks.direction
        used: set[int] = set()
        for h, keypoints_xy in _hands(shards, index):
            xy = torch.from_numpy(keypoints_xy)
            truth = torch.cat([xy.amin(0), xy.amax(0)])[None]
            total += 1
            if len(boxes) == 0:
                continue
            iou = overlap(truth, boxes)[0]
            iou = torch.where(classes == h, iou + 0.2, iou)  # of two boxes on clasped hands, the right side's
            j = int(iou.argmax())
            if iou[j] > 0.5:
                found += 1
                used |= set((iou > 0.3).nonzero()[:, 0].tolist())
                sided += int(classes[j] == h)
                along = functional.normalize(xy[9] - xy[0], dim=0)
                angles.append(float(torch.rad2deg(torch.acos((along * direction[j]).sum().clamp(-1, 1)))))
        false += len(boxes) - len(used)
    return {
        "recall": found / max(total, 1),
        "side": sided / max(found, 1),
        "direction_deg": float(np.median(angles)) if angles else float("nan"),
        "false_per_image": false / max(len(indices), 1),
    }


@torch.no_grad()
def measured(network: DetectorNetwork, batches: DetectorBatches, count: int) -> None:
    """Sets the statistics of the head's batch norm to those of so many training batches, and leaves the network in evaluation mode."""
    network.eval()
    norms = [m for m in network.head.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean over all batches
        norm.train()
    for step in range(count):
        network(batches.make(step).image.contiguous(memory_format=torch.channels_last))
    network.eval()


def calibrated(network: nn.Module, held_out: list[tuple[ShardSet, int]], config: DetectorConfig) -> DetectorConfig:
    """The config with `confidence` fitted to pictures held back: logistic regression of "the box overlaps a true hand by more than .3" on the
    evidence. Unchanged where the pictures show only hits or only misses."""
    evidence, hit = [], []
    for shards, index in held_out:
        peaks = _peaks(network, shards, index, config)
        truth = true_boxes(shards, index)
        evidence.append(peaks.evidence)
        hit.append(overlap(peaks.box, truth).amax(1) > 0.3 if len(truth) else torch.zeros(len(peaks.box), dtype=torch.bool))
    if len({bool(h) for h in torch.cat([torch.zeros(0, dtype=torch.bool), *hit]).tolist()}) < 2:
        return config
    x, y = torch.cat(evidence).double(), torch.cat(hit)
    features = torch.cat([x, torch.ones(len(x), 1, dtype=x.dtype)], 1)
    weights = torch.zeros(4, dtype=x.dtype)
    ridge = torch.diag(torch.tensor([1e-2, 1e-2, 1e-2, 1e-6], dtype=x.dtype)) * len(x)
    for _ in range(30):  # Newton's method; the ridge keeps it from running away where the pictures are few
        p = (features @ weights).sigmoid()
        hessian = features.T @ (features * (p * (1 - p))[:, None]) + ridge
        weights = weights + torch.linalg.solve(hessian, features.T @ (y.to(p) - p) - ridge @ weights)
    return replace(config, confidence=tuple(round(w, 4) for w in weights.tolist()))


def _peaks(network: nn.Module, shards: ShardSet, index: int, config: DetectorConfig) -> Peaks:
    image = torch.from_numpy(shards.decode(index).copy()).permute(2, 0, 1)[None].float() / 255
    with torch.inference_mode():
        heat, fields = network(image)
    return decode(heat[0].float(), fields[0].float(), config)


def true_boxes(shards: ShardSet, index: int) -> Float[Tensor, "hand 4"]:
    """Tight boxes of every annotated hand of an image, bystanders' too."""
    every = [torch.from_numpy(xy) for _, xy in _hands(shards, index)]
    xy = torch.stack(every) if every else torch.zeros(0, 21, 2)
    return torch.cat([xy.amin(1), xy.amax(1)], -1)


def train_detector(training: DetectorTraining) -> Path:
    """Trains (or goes on training) and writes detector.safetensors into the run folder; returns its path."""
    torch.manual_seed(training.fit.seed)
    sets = [ShardSet.read(sorted(folder.glob("*.npz"))) for folder in training.shards]
    kept = [s.without_last(training.validation) for s in sets]

    def validate(network: nn.Module, _: int) -> dict[str, float]:
        rows: dict[str, float] = {}
        for folder, s in zip(training.shards, sets, strict=True):
            held = list(range(len(s) - training.validation, len(s)))
            rows |= {f"{folder.name} {k}": round(v, 3) for k, v in detection_scores(network, s, held, training.network).items()}
        return rows

    module = fit(DetectorModule(training), lambda rank, start: DetectorBatches(kept, training, rank, start), training, validate, 500)
    path = training.fit.out / "detector.safetensors"
    module.average.eval()
    last = [(s, i) for s in sets for i in range(len(s) - training.validation, len(s))]
    save_weights(path, module.average, calibrated(module.average, last, training.network), {"steps": str(training.fit.steps)})
    return path
