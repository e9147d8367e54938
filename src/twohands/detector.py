"""Finds hands in photos of any size, clasped ones included: box, side, in-plane direction, confidence.

A centre-point detector (Zhou et al., "Objects as Points", 2019) with two classes, the person's left and right hand. Each class has its own box
and direction at every cell, so that two hands on top of one another are still two hands.
"""

import functools
import math
from dataclasses import dataclass, replace
from dataclasses import fields as fields_of
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from twohands.backbone import conv_norm
from twohands.checkpoints import bundled_weights, load_weights, read_config, to_device
from twohands.layers import ContextBlock
from twohands.record import Record
from twohands.schema import Detection
from twohands.trunks import PalmTrunk

STRIDE = 8
"""Pixels a cell."""
FIELDS = 6
"""Per class and cell: centre offset x, y (cells), log width, log height (cells), direction x, y."""
NEAR_SHARE = 0.15
"""Share of a photo's longer side from which a hand is near."""
SEEN_IOU, SAME_IOU = 0.5, 0.3
"""A box that overlaps another one more than this was looked at closely with that one; and what a closer look shows is the hand that was in doubt if the
boxes overlap more than that."""
AGREE_IOU, AGREE_DISTANCE = 0.45, 0.3
"""Two cells speak of one hand if their boxes overlap more than this, or their centres are nearer (smaller boxes' sides)."""


@dataclass(frozen=True)
class DetectorConfig:
    """Sizes, and how raw maps become hands."""

    input_px: int = 192
    """The photo's longer side is brought to this, and, if it has the pixels, to twice as much in each further look."""
    looks: int = 2
    """Most looks at a photo."""
    blocks: int = 0
    """Blocks between the trunk and the head. Without them the detector learnt its training pictures no better than new ones (`SHIPPED`)."""
    hidden: int = 96
    """Channels between those and the maps."""
    least_vote: float = 0.04
    """Cells colder than this have no say."""
    least_peak: float = 0.12
    """Least heat of the cell that a hand grows from."""
    confidence: tuple[float, ...] = (0.08, 2.85, 1.9, 0.41)
    """Weights of `Peaks.evidence` and a constant: together the log odds that a hand is there, of whichever side. Fitted to pictures held back
    from training (`training.detector.calibrated`)."""
    threshold: float = 0.5
    """Least confidence."""
    doubtful: float = 0.3
    """Least confidence of what is looked at more closely. Not below `threshold`: nothing is."""
    closer: float = 2.0
    """A closer look shows a square so many times as large as the box,"""
    confirmed: float = 0.6
    """and the hand must have this confidence there."""
    same_side_iou: float = 0.3
    same_side_distance: float = 0.5
    """Boxes of one side that overlap more, or whose centres are nearer (larger boxes' sides), are one hand."""
    other_side_iou: float = 0.5
    other_side_distance: float = 0.3
    """A left and a right box that overlap more, or are nearer, are one hand, unless both are sure (`both_share`)."""
    both_share: float = 0.7
    """The weaker of two such boxes stays if its votes weigh at least this share of the stronger's."""


SHIPPED = DetectorConfig(blocks=4, looks=3)
"""The network that ships. Defaults are what a weights file means that says nothing."""


class DetectorNetwork(nn.Module):
    """A trunk that has seen many hands, blocks that look around, and one output map at stride 8. Both classes read the same features."""

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        self.config = config
        self.trunk = PalmTrunk()
        self.neck = nn.Sequential(*(ContextBlock(PalmTrunk.WIDTH) for _ in range(config.blocks)))
        self.head = nn.Sequential(
            conv_norm(PalmTrunk.WIDTH, config.hidden), nn.ReLU(inplace=True), nn.Conv2d(config.hidden, 2 * (1 + FIELDS), 1)
        )
        last = self.head[2]
        assert isinstance(last, nn.Conv2d)
        assert last.bias is not None
        nn.init.constant_(last.bias[:2], -4.0)  # almost no cell holds a hand: start there

    def forward(self, image: Float[Tensor, "batch 3 height width"]) -> tuple[Tensor, Tensor]:
        """(heat logits (batch, 2, h, w), fields (batch, 2, 6, h, w)) at stride 8; RGB in 0..1, sides multiples of 32."""
        return self.read(self.trunk.early(image))

    def read(self, at_8: Float[Tensor, "batch 128 height/8 width/8"]) -> tuple[Tensor, Tensor]:
        """The same from the trunk's bare map at stride 8."""
        out = self.head(self.neck(self.trunk.late(at_8))).float()
        return out[:, :2], out[:, 2:].unflatten(1, (2, FIELDS))


class Detector:
    """Photo to hands."""

    def __init__(self, network: DetectorNetwork, device: str = "cpu") -> None:
        self.network, self.config, self.device = network, network.config, device

    @staticmethod
    def load(path: Path | None = None, device: str = "cpu") -> "Detector":
        """From a weights file (the bundled one by default). UserError if it is missing or belongs to another network."""
        path = path or bundled_weights("detector.safetensors")
        network = DetectorNetwork(read_config(path, DetectorConfig))
        load_weights(path, network)
        to_device(network, device)
        return Detector(network.to(memory_format=torch.channels_last), device)  # type: ignore[call-overload]

    @torch.inference_mode()
    def __call__(self, image: UInt8[np.ndarray, "height width 3"]) -> Detection:
        """Every hand of an upright RGB photo, best first. ValueError if it is no uint8 RGB array.

        A photo that has the pixels is looked at again at twice the resolution and, if it has many and no hand is near, once more: large hands
        fill the first look, those of people across the room show in the last only. What may be a hand is then looked at by itself."""
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
            raise ValueError(f"the detector wants uint8 RGB (height, width, 3), got {image.dtype} {image.shape}; convert it first")
        found = explained(self._confirmed(image, self.peaks(image)))
        return Detection(found.box, found.score, found.right, found.direction, pair_people(found.box, found.side))

    @torch.inference_mode()
    def peaks(self, image: UInt8[np.ndarray, "height width 3"]) -> "Peaks":
        """All that all looks see, sure or not, each hand as often as it is seen."""
        found = self._at(image, self.config.input_px)
        longer_px = max(image.shape[:2])
        for look in range(1, self.config.looks):
            look_px = self.config.input_px * 2**look
            # The third look costs three times as much as the two before: where a hand is near, nobody asks for those across the room.
            if longer_px <= 0.75 * look_px or (look > 1 and self._is_near(found, longer_px)):
                break
            found = joined(found, self._at(image, look_px))
        return found

    def _confirmed(self, image: np.ndarray, found: "Peaks") -> "Peaks":
        """The hands that are not doubtful, and of the others those that a closer look shows, where it shows them. They are no more probable by that:
        one network's errors in two looks at one place are alike."""
        c = self.config
        lenient = replace(c, threshold=min(c.doubtful, c.threshold))
        found = suppress(found, lenient)
        kept, looks = [found[found.score >= c.threshold]], list[tuple[Tensor, Peaks]]()
        for i in (found.score < c.threshold).nonzero()[:, 0].tolist():
            box = found.box[i : i + 1]
            seen = next((seen for place, seen in looks if float(overlap(box, place)) > SEEN_IOU), None)
            if seen is None:
                seen = suppress(self._around(image, found.box[i]), replace(c, threshold=c.confirmed))
                looks.append((box, seen))
            same = (seen.side == found.side[i]) & (overlap(box, seen.box)[0] > SAME_IOU)
            best = same.nonzero()[:1, 0].tolist()
            kept.append(replace(seen[best], score=found.score[[i] * len(best)]))
        return suppress(functools.reduce(joined, kept), lenient)

    def _around(self, image: np.ndarray, box: Float[Tensor, "4"]) -> "Peaks":
        """A look at the surroundings of a box, in pixels of the photo; what is beyond its border is black."""
        side = max(round(self.config.closer * float((box[2:] - box[:2]).max())), STRIDE)
        left, top = (round(float(middle) - side / 2) for middle in (box[:2] + box[2:]) / 2)
        square = np.asarray(Image.fromarray(image).crop((left, top, left + side, top + side)))
        seen = self._at(square, self.config.input_px)
        return replace(seen, box=seen.box + torch.tensor([left, top, left, top]))

    def _is_near(self, found: "Peaks", longer_px: int) -> bool:
        sure = found.box[found.score >= self.config.threshold]
        return bool(((sure[:, 2:] - sure[:, :2]).amax(-1) > NEAR_SHARE * longer_px).any())

    def _at(self, image: np.ndarray, input_px: int) -> "Peaks":
        """Hands seen with the photo's longer side at `input_px`, in pixels of the photo."""
        height, width = image.shape[:2]
        scale = input_px / max(height, width)
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        # Pillow's filter widens as the photo shrinks, so that nothing aliases; whole pixels are averaged first, which a large photo needs.
        small = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0))
        pixels = torch.from_numpy(small.copy()).permute(2, 0, 1)[None].to(self.device).float() / 255
        pixels = functional.pad(pixels, (0, -size[0] % 32, 0, -size[1] % 32))
        heat, fields = self.network(pixels)
        peaks = decode(heat[0].cpu(), fields[0].cpu(), self.config)
        return replace(peaks, box=peaks.box * torch.tensor([width / size[0], height / size[1]]).repeat(2))


@dataclass(frozen=True)
class Peaks(Record):
    """Hands that the maps speak of, of both sides, strongest first within a side."""

    side: Int[Tensor, "found"]
    """Whose class it is: 0 left, 1 right."""
    box: Float[Tensor, "found 4"]
    score: Float[Tensor, "found"]
    evidence: Float[Tensor, "found 3"]
    """Log heat of all cells that voted for it, log heat of the hottest, log size of the box in cells."""
    right: Float[Tensor, "found"]
    """Share of the right class in the heat of the place."""
    direction: Float[Tensor, "found 2"]


def decode(heat: Float[Tensor, "2 h w"], fields: Float[Tensor, "2 6 h w"], config: DetectorConfig) -> Peaks:
    """Hands from the maps, boxes in input pixels, unsuppressed. Every warm cell votes for a box; the hottest gathers the votes of its side
    that agree with it, and the hand is their mean. Where the network cannot tell the centre to the cell, its heat is spread out: one cell's
    alone would be low, and its box rough."""
    probability = heat.sigmoid()
    side, rows, columns = (probability >= config.least_vote).nonzero(as_tuple=True)
    value, both = fields[side, :, rows, columns], probability[:, rows, columns]
    vote = probability[side, rows, columns]
    centre = (torch.stack([columns, rows], 1).float() + 0.5 + value[:, :2].clamp(-2, 2)) * STRIDE
    size = value[:, 2:4].clamp(-3, 5).exp() * STRIDE
    box = torch.cat([centre - size / 2, centre + size / 2], 1)
    near = (centre[:, None] - centre).norm(dim=-1) < AGREE_DISTANCE * torch.minimum(size[:, None], size).amax(-1)
    agree = (side[:, None] == side) & (near | (overlap(box, box) > AGREE_IOU))
    free = torch.ones(len(vote), dtype=torch.bool)
    seeds, groups = [], []
    for i in vote.argsort(descending=True).tolist():
        if vote[i] < config.least_peak:
            break
        if free[i]:
            seeds.append(i)
            groups.append(agree[i] & free)
            free &= ~groups[-1]
    share = torch.stack(groups).float() * vote if groups else vote.new_zeros(0, len(vote))
    mass = share.sum(1)
    mean = share / mass[:, None]
    fused = mean @ box
    side_cells = (fused[:, 2:] - fused[:, :2]).amax(-1) / STRIDE
    evidence = torch.stack([mass.log(), vote[seeds].log(), side_cells.log()], 1)
    return Peaks(
        side=side[seeds],
        box=fused,
        score=(evidence @ torch.tensor(config.confidence[:3]) + config.confidence[3]).sigmoid(),
        evidence=evidence,
        right=(mean @ both[1]) / (mean @ both.sum(0)),
        direction=functional.normalize(mean @ functional.normalize(value[:, 4:6], dim=-1), dim=-1),
    )


def joined(a: Peaks, b: Peaks) -> Peaks:
    """What two looks at a photo, or one and those before, found together."""
    return Peaks(*(torch.cat([getattr(a, field.name), getattr(b, field.name)]) for field in fields_of(Peaks)))


def explained(peaks: Peaks) -> Peaks:
    """Sides of hands that lie on one another. There both classes are hot, which would read as doubt; but heat of the other class is
    explained by the other hand, as far as that one is sure, and no longer speaks against this one's side."""
    if len(peaks.side) == 0:
        return peaks
    over = (overlap(peaks.box, peaks.box) > 0.2) & (peaks.side[:, None] != peaks.side)
    unexplained = (1 - over * peaks.score).amin(1)
    own = torch.where(peaks.side == 1, peaks.right, 1 - peaks.right)
    own = own / (own + (1 - own) * unexplained).clamp_min(1e-6)
    return replace(peaks, right=torch.where(peaks.side == 1, own, 1 - own))


def overlap(a: Float[Tensor, "n 4"], b: Float[Tensor, "m 4"]) -> Float[Tensor, "n m"]:
    """Intersection over union of boxes."""
    low = torch.maximum(a[:, None, :2], b[None, :, :2])
    high = torch.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = (high - low).clamp_min(0).prod(-1)
    area_a, area_b = (a[:, 2:] - a[:, :2]).prod(-1), (b[:, 2:] - b[:, :2]).prod(-1)
    return shared / (area_a[:, None] + area_b[None] - shared).clamp_min(1e-9)


def suppress(peaks: Peaks, config: DetectorConfig) -> Peaks:
    """The hands that stay, best first: one box per hand and side; a left and a right in one place only if both are sure."""
    iou = overlap(peaks.box, peaks.box)
    centre = (peaks.box[:, :2] + peaks.box[:, 2:]) / 2
    size = (peaks.box[:, 2:] - peaks.box[:, :2]).amax(-1)
    distance = (centre[:, None] - centre).norm(dim=-1) / torch.maximum(size[:, None], size)
    same = (iou > config.same_side_iou) | (distance < config.same_side_distance)
    other = (iou > config.other_side_iou) | (distance < config.other_side_distance)
    mass = peaks.evidence[:, 0].exp()
    kept: list[int] = []
    for i in peaks.score.argsort(descending=True).tolist():
        if peaks.score[i] < config.threshold:
            break
        for j in kept:
            if peaks.side[i] == peaks.side[j] and same[i, j]:
                break
            if peaks.side[i] != peaks.side[j] and other[i, j] and mass[i] < config.both_share * mass[j]:
                break
        else:
            kept.append(i)
    return peaks[kept]


def pair_people(boxes: Float[Tensor, "n 4"], classes: Tensor) -> tuple[int, ...]:
    """A person number for every hand: a left and a right hand of like size, nearest first, belong together. Hands more than twelve box sides
    apart, or of which one is 2.5 times as large, are two people's."""
    count = len(classes)
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    side = (boxes[:, 2:] - boxes[:, :2]).amax(-1)
    candidates = []
    for i in range(count):
        for j in range(count):
            if classes[i] == 0 and classes[j] == 1:
                ratio = float(side[i] / side[j])
                distance = float((centre[i] - centre[j]).norm() / ((side[i] + side[j]) / 2))
                if distance < 12 and 0.4 < ratio < 2.5:
                    candidates.append((distance + 2 * abs(math.log(ratio)), i, j))
    person = [-1] * count
    number = 0
    for _, i, j in sorted(candidates):
        if person[i] < 0 and person[j] < 0:
            person[i] = person[j] = number
            number += 1
    for i in range(count):
        if person[i] < 0:
            person[i] = number
            number += 1
    return tuple(person)
