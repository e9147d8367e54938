"""The regressor's head: 2.5D joints by soft-argmax, hand parameters from features sampled at the joints, relative place of the hands."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from twohands.backbone import conv_norm
from twohands.geometry.rotations import six_d_to_matrix
from twohands.hands.model import HandModel
from twohands.joints import MIDDLE_MCP, OPENPOSE21_PARENTS
from twohands.layers import ContextBlock, Mlp
from twohands.record import Record
from twohands.regress.align import KeypointReading, cell_centres

RELATIVE_UNIT_M = 0.1
"""The relative-translation head works in this unit, which makes its output of order one."""


@dataclass(frozen=True)
class HandPrediction(Record):
    """Raw output of stage 1, in each crop's own (mirrored) frame, where every hand is a right hand."""

    heatmap_log: Float[Tensor, "pair hand 21 cell"]
    """Log-probability of each keypoint over the heatmap's cells."""
    joints_xy: Float[Tensor, "pair hand 21 2"]
    """2D keypoints in crop sides from the crop's centre."""
    joints_z: Float[Tensor, "pair hand 21"]
    """Depth behind the wrist in wrist - middle knuckle lengths: with joints_xy the 2.5D joints."""
    log_scale_xy: Float[Tensor, "pair hand 21"]
    """Log of the Laplace scale of the 2D error, in crop sides."""
    rotation: Float[Tensor, "pair hand 16 3 3"]
    """Rotation of each MANO16 joint in its parent; the first is the hand in the crop's frame."""
    shape: Float[Tensor, "pair hand 10"]
    presence_logit: Float[Tensor, "pair hand"]
    side_logit: Float[Tensor, "pair hand"]
    relative_m: Float[Tensor, "pair 3"]
    """Left wrist minus right wrist in the pair's frame."""
    aligned: Float[Tensor, "pair hand token width"]
    """F_fa, what the fusion alignment encoder said."""
    other: Float[Tensor, "pair hand 6"]
    """The person's other hand as each crop shows it: log odds that it does, centre (x, y) in crop sides from the crop's centre, log of its box's
    longer side in crop sides, direction (x, y) of its fingers, not normalised."""
    reading: KeypointReading | None = None
    """The keypoints that it read, batch axes (pair, hand); None if it is one that reads none."""


class JointMaps(nn.Module):
    """Top-down pyramid from the fused tokens to heatmaps and depth maps of the 21 keypoints.

    Where the alignment encoder reads keypoints itself, heat starts as a blob around each of them and depth at theirs: what is learnt is where
    they are wrong, such as behind the other hand."""

    def __init__(self, width: int, lateral_widths: list[int], pyramid: int, blocks: int, reads: bool) -> None:
        super().__init__()
        self.log_blob = nn.Parameter(torch.tensor([0.06, 0.01]).log()) if reads else None
        """Logs of the blobs' standard deviation in crop sides, and of the floor that they stand on: a reading may be wrong altogether."""
        self.top = nn.Conv2d(width, pyramid, 1)
        self.laterals = nn.ModuleList(nn.Conv2d(lateral, pyramid, 1) for lateral in lateral_widths)
        self.merges = nn.ModuleList(
            nn.Sequential(conv_norm(pyramid, pyramid), nn.ReLU(inplace=True), *(ContextBlock(pyramid) for _ in range(blocks)))
            for _ in lateral_widths
        )
        self.out = nn.Conv2d(pyramid, 3 * 21, 1)

    def forward(self, fused: Tensor, laterals: list[Tensor], reading: KeypointReading | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        x = self.top(fused)
        for lateral, merge, feature in zip(self.laterals, self.merges, laterals, strict=True):
            if x.shape[-1] != feature.shape[-1]:
                x = functional.interpolate(x, size=feature.shape[-2:], mode="nearest")
            x = merge(x + lateral(feature))
        heat, depth, scale = self.out(x).float().flatten(2).split(21, 1)
        centres = cell_centres(x.shape[-1], x.device).reshape(-1, 2)
        if reading is not None and self.log_blob is not None:
            distance = (reading.joints_xy.clamp(-0.5, 0.5)[:, :, None] - centres).square().sum(-1)
            sigma, floor = self.log_blob.exp()
            heat = heat + ((-distance / (2 * sigma**2)).exp() + floor).log()
            depth = depth + reading.joints_m[..., 2:] / _palm(reading)[:, None, None]
        heatmap_log = heat.log_softmax(-1)
        probability = heatmap_log.exp()
        return heatmap_log, probability @ centres, (probability * depth).sum(-1), (probability * scale).sum(-1)


def _palm(reading: KeypointReading) -> Float[Tensor, "crop"]:
    """Wrist - middle knuckle length of a reading, metres."""
    return reading.joints_m[:, MIDDLE_MCP].norm(dim=-1).clamp_min(0.01)


class ParameterHead(nn.Module):
    """Pose, shape, presence and side of one hand from fused tokens, read at the (detached) joints and over the whole crop."""

    READ = 21 * 5
    """Numbers of a KeypointReading that it looks at."""

    def __init__(self, width: int, hidden: int, reads: bool, each: int = 24) -> None:
        super().__init__()
        self.at_joint = nn.Linear(width, each)
        seen = width + 21 * (each + 3) + (self.READ if reads else 0)
        self.body = nn.Sequential(
            nn.Linear(seen, hidden), nn.GELU(approximate="tanh"), nn.Linear(hidden, hidden), nn.GELU(approximate="tanh")
        )
        self.pose = nn.Linear(hidden, 16 * 6)
        self.shape = nn.Linear(hidden, 10)
        self.states = nn.Linear(width, 2)
        nn.init.normal_(self.pose.weight, std=0.01)
        with torch.no_grad():
            self.pose.bias.copy_(torch.tensor([1.0, 0, 0, 0, 1, 0]).repeat(16))

    def forward(
        self, tokens: Tensor, joints: Float[Tensor, "crop 21 3"], reading: KeypointReading | None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        grid = round(int(tokens.shape[1]) ** 0.5)
        maps = self.at_joint(tokens).transpose(1, 2).unflatten(2, (grid, grid))
        # Soft-argmax keeps joints inside the crop, so border padding is never more than half a cell away.
        sampled = functional.grid_sample(maps.float(), 2 * joints[:, :, None, :2], padding_mode="border", align_corners=False)[..., 0]
        mean = tokens.float().mean(1)
        parts = [mean, sampled.flatten(1), joints.flatten(1)]
        if reading is not None:
            parts += [reading.joints_xy.flatten(1), (reading.joints_m / _palm(reading)[:, None, None]).flatten(1)]
        hidden = self.body(torch.cat(parts, -1))
        states = self.states(mean)
        return (
            six_d_to_matrix(self.pose(hidden).float().unflatten(-1, (16, 6))),
            self.shape(hidden).float(),
            states[:, 0].float(),
            states[:, 1].float(),
        )


class RelativeHead(nn.Module):
    """Left wrist minus right wrist: where the 2.5D joints alone put the two hands, how far to believe that, and what is learnt on top
    of it, from both hands' tokens, joints and places in the pair's view."""

    length_sq: Tensor
    palm_m: Tensor
    palm_shape: Tensor

    def __init__(self, width: int, geometry: int, palm: "PalmLengths") -> None:
        super().__init__()
        self.register_buffer("length_sq", palm.length_sq, persistent=False)
        self.register_buffer("palm_m", palm.palm_m, persistent=False)
        self.register_buffer("palm_shape", palm.palm_shape, persistent=False)
        self.each = Mlp(width + 63 + 10 + geometry + 4, width, width)
        self.both = Mlp(2 * width, width, 6)

    def forward(self, mean: Tensor, joints: Tensor, shape: Tensor, geometry: Tensor) -> Float[Tensor, "pair 3"]:
        wrist_m = self.wrists_m(joints, shape, geometry)
        start = (wrist_m[:, 0] - wrist_m[:, 1]).clamp(-MOST_APART_M, MOST_APART_M) / RELATIVE_UNIT_M
        log_depth = wrist_m.norm(dim=-1, keepdim=True).clamp(0.05, 20).log()
        told = [mean, joints.flatten(2), shape, geometry, start[:, None].expand(-1, 2, -1), log_depth]
        each = self.each(torch.cat(told, -1))
        rest, trust = self.both(each.flatten(1)).float().split(3, -1)
        return (start * trust.sigmoid() + rest) * RELATIVE_UNIT_M

    def wrists_m(
        self, joints: Float[Tensor, "pair hand 21 3"], shape: Float[Tensor, "pair hand 10"], geometry: Float[Tensor, "pair hand 8"]
    ) -> Float[Tensor, "pair hand 3"]:
        """Wrists in the pair's frame: at the depth where pairs of points that no pose moves apart are as far apart as in a hand of this shape.

        The root of 2.5D joints (Iqbal et al. 2018), with all rigid pairs in place of one bone. Both hands have one person's shape."""
        f = geometry.float()
        focal = torch.exp(f[..., 2] - f[..., 7]) / 2  # of the crop, in crop sides
        a, b = (list(side) for side in zip(*RIGID_PAIRS, strict=True))
        ray = joints[..., :2].float() / focal[..., None, None]
        z = joints[..., 2:].float()
        slope = torch.cat([ray[..., a, :] - ray[..., b, :], torch.zeros_like(z[..., a, :])], -1)
        point = torch.cat([ray * z, z], -1)
        offset = point[..., a, :] - point[..., b, :]
        quadratic = slope.square().sum((-1, -2)).clamp_min(1e-6)
        linear = (slope * offset).sum((-1, -2))
        constant = offset.square().sum((-1, -2)) - self.length_sq.sum()
        depth = (-linear + (linear.square() - quadratic * constant).clamp_min(1e-6).sqrt()) / quadratic
        palm_m = self.palm_m + (shape.mean(1) * self.palm_shape).sum(-1).clamp(-0.03, 0.03)
        # The crop's axes in the pair's frame: where it looks, and its right, which is level but for the roll.
        forward = torch.cat([f[..., :2] * torch.exp(f[..., 7:]), torch.ones_like(f[..., :1])], -1)
        forward = functional.normalize(forward, dim=-1)
        level = -(f[..., 3] * forward[..., 0] + f[..., 4] * forward[..., 1]) / forward[..., 2]
        right = functional.normalize(torch.stack([f[..., 3], f[..., 4], level], -1), dim=-1)
        down = torch.linalg.cross(forward, right)
        x = ray[..., 0, 0] * (1 - 2 * f[..., 6])
        line = x[..., None] * right + ray[..., 0, 1, None] * down + forward
        return line * (depth * palm_m[:, None])[..., None]


class OtherHandHead(nn.Module):
    """From what one crop alone shows: is the person's other hand in it, and where? A detector often gives clasped hands one place; whoever looks
    closely at one of them sees the other."""

    LOOKS, EACH = 8, 32

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.where = nn.Linear(2 * width, self.LOOKS)
        self.what = nn.Linear(2 * width, self.EACH)
        self.read = Mlp(self.LOOKS * (self.EACH + 2), hidden, 6)

    def forward(self, image: Float[Tensor, "crop token width"], aligned: Float[Tensor, "crop token width"]) -> Float[Tensor, "crop 6"]:
        seen = torch.cat([image, aligned], -1)
        centres = cell_centres(round(int(seen.shape[1]) ** 0.5), seen.device).reshape(-1, 2).to(seen)
        told = torch.cat([self.what(seen), centres.expand(seen.shape[0], -1, -1)], -1)
        looked = self.where(seen).softmax(1).transpose(1, 2) @ told
        return self.read(looked.flatten(1)).float()


_PALM = (0, 5, 9, 13, 17)
RIGID_PAIRS = (
    *((a, b) for i, a in enumerate(_PALM) for b in _PALM[:i]),
    *((child, parent) for child, parent in enumerate(OPENPOSE21_PARENTS) if parent not in (-1, 0)),
)
"""Pairs of keypoints whose distance no pose changes: those of wrist and knuckles, and the fingers' bones."""
MOST_APART_M = 1.5


@dataclass(frozen=True)
class PalmLengths(Record):
    """What the relative head knows of hands."""

    length_sq: Float[Tensor, "rigidpair"]
    """Squared distances of RIGID_PAIRS in the mean hand, in wrist - middle knuckle lengths."""
    palm_m: Float[Tensor, ""]
    """Wrist - middle knuckle length of the mean hand."""
    palm_shape: Float[Tensor, "10"]
    """Its derivative by the shape."""

    @staticmethod
    def of(model: HandModel) -> "PalmLengths":
        """Of a hand model (its right hand; the left one is its mirror image)."""
        with torch.device(model.data.v_template.device):  # where the hand is, also while a network is only sketched (device "meta")
            shapes = torch.cat([torch.zeros(1, 10), torch.eye(10)])
            identity = torch.eye(3).expand(11, 2, 16, 3, 3)
            points = model.with_shape(shapes[:, None].expand(-1, 2, -1)).with_pose(identity).keypoints()[:, 1]
        palm = (points[:, MIDDLE_MCP] - points[:, 0]).norm(dim=-1)
        a, b = (list(side) for side in zip(*RIGID_PAIRS, strict=True))
        length = (points[0, a] - points[0, b]).norm(dim=-1) / palm[0]
        return PalmLengths(length.square(), palm[0], palm[1:] - palm[0])
