"""The 2D priors of stage 1: teachers' maps to F_p (eq. 1), and the fusion alignment encoder that learns to do without them."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from twohands.backbone import BackboneConfig, Stages, Stem, conv_norm
from twohands.record import Record
from twohands.trunks import LandmarkLate, LandmarkReadout

CROP_PARTS = 18
"""Segmentation classes inside a crop: 0 background, 1-16 the parts of the hand that the crop belongs to, 17 the other hand."""


@dataclass(frozen=True)
class CropPriors(Record):
    """What the teachers say inside each crop, on a grid whose cells are a fourth of the crop's side in tokens (`prior_grid` cells a side)."""

    keypoints: Float[Tensor, "crop 21 3"]
    """x, y in crop sides from the crop's centre (-.5 to .5 inside), and depth behind the wrist in wrist - middle knuckle lengths."""
    keypoint_confidence: Float[Tensor, "crop 21"]
    parts: Int[Tensor, "crop grid grid"]
    """Class of each cell, see CROP_PARTS."""
    depth: Float[Tensor, "crop grid grid"]
    """Depth relative to the foreground's median in units of its mean deviation; NaN where no hand is seen."""
    has_keypoints: Bool[Tensor, "crop"]
    has_parts: Bool[Tensor, "crop"]
    has_depth: Bool[Tensor, "crop"]


def cell_centres(grid: int, device: torch.device | None = None) -> Float[Tensor, "grid grid 2"]:
    """x, y of the cells' centres in crop sides from the centre."""
    axis = (torch.arange(grid, device=device, dtype=torch.float32) + 0.5) / grid - 0.5
    return torch.stack(torch.meshgrid(axis, axis, indexing="xy"), -1)


class MapEncoder(nn.Sequential):
    """One teacher's maps to features on the token grid."""

    def __init__(self, channels: int, width: int) -> None:
        hidden = width // 2
        super().__init__(
            conv_norm(channels, hidden, 3, 2), nn.ReLU(inplace=True), conv_norm(hidden, width, 3, 2), nn.ReLU(inplace=True), nn.Conv2d(width, width, 1)
        )  # fmt: skip


class PriorProjection(nn.Module):
    """F_p = Proj(F_k, F_s, F_d), eq. 1: three encoders and a learned projection, normalised per token.

    A teacher that says nothing is replaced by a learned "absent" feature, so that keypoints alone (the light teacher) are a prior too."""

    def __init__(self, width_each: int, width: int) -> None:
        super().__init__()
        self.keypoints = MapEncoder(42, width_each)
        self.parts = MapEncoder(CROP_PARTS, width_each)
        self.depth = MapEncoder(2, width_each)
        self.absent = nn.Parameter(torch.zeros(3, width_each))
        self.project = nn.Linear(3 * width_each, width)
        self.norm = nn.LayerNorm(width, elementwise_affine=False)

    def forward(self, priors: CropPriors) -> Float[Tensor, "crop token width"]:
        grid = priors.parts.shape[-1]
        offset = cell_centres(grid, priors.parts.device)[None, None] - priors.keypoints[:, :, None, None, :2]
        blobs = torch.exp(-offset.square().sum(-1) * (grid / 1.2) ** 2) * priors.keypoint_confidence[..., None, None]
        keypoint_maps = torch.cat([blobs, blobs * priors.keypoints[:, :, 2, None, None]], 1)
        part_maps = functional.one_hot(priors.parts.long(), CROP_PARTS).permute(0, 3, 1, 2).to(blobs)
        seen = ~priors.depth.isnan()
        depth_maps = torch.stack([torch.where(seen, priors.depth, 0.0), seen.to(blobs)], 1)
        features = []
        for index, (encoder, maps, has) in enumerate(
            (
                (self.keypoints, keypoint_maps, priors.has_keypoints),
                (self.parts, part_maps, priors.has_parts),
                (self.depth, depth_maps, priors.has_depth),
            )
        ):
            feature = encoder(maps).flatten(2).transpose(1, 2)
            features.append(torch.where(has[:, None, None], feature, self.absent[index].to(feature)))
        return self.norm(self.project(torch.cat(features, -1)))


@dataclass(frozen=True)
class KeypointReading(Record):
    """Keypoints that an alignment encoder reads off its own features, in the crop's (mirrored) frame."""

    joints_xy: Float[Tensor, "*crop 21 2"]
    """Crop sides from the crop's centre."""
    joints_m: Float[Tensor, "*crop 21 3"]
    """Relative to the wrist, axes of the crop; the size is a guess."""
    presence_logit: Float[Tensor, "*crop"]
    side_logit: Float[Tensor, "*crop"]
    """That the hand is the right hand that every crop should show."""


class FusionAlignmentEncoder(nn.Module):
    """FAE: sees the image only and learns F_fa close to F_p, so that no teacher runs at test time (paper, section 3.1). The paper's is a
    residual network of its own."""

    def __init__(self, config: BackboneConfig, width: int) -> None:
        super().__init__()
        self.stem = Stem(config)
        self.stages = Stages(config, config.stem)
        self.project = nn.Linear(self.stages.width_out, width)
        self.norm = nn.LayerNorm(width, elementwise_affine=False)

    def forward(self, image: Float[Tensor, "crop 3 height width"]) -> Float[Tensor, "crop token width"]:
        last = self.stages(self.stem(image))[-1]
        return self.norm(self.project(last.flatten(2).transpose(1, 2)))


class LandmarkAlignmentEncoder(nn.Module):
    """FAE that begins where the light teacher stands: with the landmark network's own last stages. It learns F_fa close to F_p like the other,
    and its features can be read as keypoints besides. It shares the frozen first stages with the image backbone."""

    CROP_PX = 224
    """Crops of this size were the landmark network's; its keypoints come in their pixels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.late = LandmarkLate()
        self.readout = LandmarkReadout()
        self.project = nn.Linear(LandmarkLate.WIDTH, width)
        self.norm = nn.LayerNorm(width, elementwise_affine=False)

    def forward(self, at_16: Float[Tensor, "crop 112 side side"]) -> tuple[Float[Tensor, "crop token width"], KeypointReading]:
        at_32, features = self.late(at_16)
        presence, side, points, world = self.readout(features)
        reading = KeypointReading(points[..., :2] / self.CROP_PX - 0.5, world - world[:, :1], presence, side)
        return self.norm(self.project(at_32.flatten(2).transpose(1, 2))), reading
