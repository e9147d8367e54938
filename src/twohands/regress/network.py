"""Stage 1 as one network: backbone, priors, fusion, head, wired as in the paper's figure 2."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from twohands.backbone import BackboneConfig, Stages, Stem, stage_widths
from twohands.hands.bundled import load_bundled_hand
from twohands.layers import Mlp, TransformerBlock
from twohands.record import Record
from twohands.regress.align import CropPriors, FusionAlignmentEncoder, KeypointReading, LandmarkAlignmentEncoder, PriorProjection
from twohands.regress.fusion import PAIR_GEOMETRY, Fusion
from twohands.regress.head import HandPrediction, JointMaps, OtherHandHead, PalmLengths, ParameterHead, RelativeHead
from twohands.trunks import LandmarkEarly, LandmarkLate

PRIOR_GRID_FACTOR = 4
"""Prior maps have this many times more cells a side than the token grid (two strided convolutions)."""


@dataclass(frozen=True)
class RegressorConfig:
    """Sizes of stage 1. The defaults are what a weights file means that says nothing; `SHIPPED` is the network that ships."""

    trunk: Literal["landmark", "residual"] = "landmark"
    """Backbone and alignment encoder: two branches behind the landmark network's first stages, or two residual networks, as in the paper."""
    branch_at: Literal[8, 16] = 16
    """Stride behind which the image branch learns stages of its own. The alignment encoder keeps the landmark network's, which read a hand alone in
    a photo as they were trained to; of two hands that clasp they know little, and behind them nothing learns it."""
    crop_px: int = 224
    prior_width: int = 64
    width: int = 192
    heads: int = 6
    depth: int = 2
    pyramid: int = 64
    map_blocks: int = 0
    """Blocks behind each merge of the pyramid."""
    presence: int = 0
    """Hidden width of what is added to the presence that is read off linearly. To deny what a detector takes for a hand takes more than a line."""
    hidden: int = 512
    backbone_kind: Literal["basic", "bottleneck"] = "basic"
    """From here on: for residual networks only."""
    stem: int = 48
    stem_pool: bool = False
    widths: tuple[int, ...] = (48, 96, 160, 224)
    depths: tuple[int, ...] = (2, 2, 2, 2)
    strides: tuple[int, ...] = (2, 2, 2, 1)
    align_widths: tuple[int, ...] = (48, 80, 128, 160)
    align_depths: tuple[int, ...] = (2, 1, 2, 2)

    def backbone(self) -> BackboneConfig:
        return BackboneConfig(self.backbone_kind, self.stem, self.widths, self.depths, self.strides, self.stem_pool)

    def align(self) -> BackboneConfig:
        return BackboneConfig(self.backbone_kind, self.stem, self.align_widths, self.align_depths, self.strides, self.stem_pool)


SHIPPED = RegressorConfig(branch_at=8, depth=4, map_blocks=2, presence=64)
"""The network that ships."""

PAPER = RegressorConfig(
    trunk="residual", crop_px=256, backbone_kind="bottleneck", stem=64, stem_pool=True, widths=(64, 128, 256, 512), depths=(3, 4, 6, 3),
    strides=(1, 2, 2, 2), align_widths=(64, 128, 256, 512), align_depths=(3, 4, 6, 3), prior_width=256, width=512, heads=8, depth=4,
    pyramid=128, hidden=1024,
)  # fmt: skip
"""The paper's: two ResNet-50, 256 px crops. Widths of projection and transformer are not printed there; these are ours."""


@dataclass(frozen=True)
class Encoded(Record):
    """What backbone and alignment encoder make of crops."""

    fine: Float[Tensor, "crop channel fine fine"]
    middle: Float[Tensor, "crop channel middle middle"]
    coarse: Float[Tensor, "crop channel coarse coarse"]
    """Maps of the image backbone; the coarsest becomes the image tokens F_i."""
    aligned: Float[Tensor, "crop token width"]
    """F_fa."""
    reading: KeypointReading | None


class ResidualEncoders(nn.Module):
    """Image backbone and alignment encoder as two residual networks (the paper's figure 2)."""

    reads = False

    def __init__(self, config: RegressorConfig) -> None:
        super().__init__()
        backbone = config.backbone()
        self.stem = Stem(backbone)
        self.stages = Stages(backbone, config.stem)
        self.align = FusionAlignmentEncoder(config.align(), config.width)
        widths = stage_widths(backbone)
        self.widths = (widths[0], widths[1], widths[-1])
        self.stride = (4 if config.stem_pool else 2) * math.prod(config.strides)

    def forward(self, crops: Float[Tensor, "crop 3 size size"]) -> Encoded:
        images = (crops - 0.45) * 4
        maps = self.stages(self.stem(images))
        return Encoded(maps[0], maps[1], maps[-1], self.align(images), None)


class LandmarkEncoders(nn.Module):
    """Image backbone and alignment encoder as two branches behind the landmark network's first stages, which stay as they were trained: on
    millions of real hands, where ours are rendered. The image's branch begins with the same numbers and learns."""

    reads = True
    stride = 32

    def __init__(self, config: RegressorConfig) -> None:
        super().__init__()
        self.early = LandmarkEarly()
        self.own_16 = LandmarkEarly().to_16 if config.branch_at == 8 else None
        self.late = LandmarkLate().to_32
        self.align = LandmarkAlignmentEncoder(config.width)
        self.widths = (*LandmarkEarly.WIDTHS, LandmarkLate.WIDTH)

    def forward(self, crops: Float[Tensor, "crop 3 size size"]) -> Encoded:
        if self.training:
            # Three times as fast; no gradient passes here.
            with torch.no_grad(), torch.autocast(crops.device.type, torch.bfloat16):
                maps = self.early(crops)
            at_8, at_16 = (m.float() for m in maps)
        else:
            at_8, at_16 = self.early(crops)
        aligned, reading = self.align(at_16)
        if self.own_16 is not None:
            at_16 = self.own_16(at_8)
        return Encoded(at_8, at_16, self.late(at_16), aligned, reading)

    def branch(self, late: bool) -> None:
        """The image's branch takes the frozen stages' numbers; those behind stride 16 too where it has none yet (`late`)."""
        if self.own_16 is not None:
            self.own_16.load_state_dict(self.early.to_16.state_dict())
        if late:
            self.late.load_state_dict(self.align.late.to_32.state_dict())


class Regressor(nn.Module):
    """Stage 1. Crops of absent hands are not looked at: only present ones pass through the encoders."""

    def __init__(self, config: RegressorConfig) -> None:
        super().__init__()
        self.config = config
        self.encoders = LandmarkEncoders(config) if config.trunk == "landmark" else ResidualEncoders(config)
        fine, middle, coarse = self.encoders.widths
        self.image_tokens = nn.Linear(coarse, config.width)
        self.image_norm = nn.LayerNorm(config.width)
        self.prior = PriorProjection(config.prior_width, config.width)
        self.fusion = Fusion(config.width, config.heads, config.depth)
        self.maps = JointMaps(config.width, [middle, fine], config.pyramid, config.map_blocks, self.encoders.reads)
        self.parameters_head = ParameterHead(config.width, config.hidden, self.encoders.reads)
        self.presence = Mlp(config.width, config.presence, 1) if config.presence else None
        self.other = OtherHandHead(config.width, config.hidden // 2)
        self.relative = RelativeHead(config.width, PAIR_GEOMETRY, PalmLengths.of(load_bundled_hand()))

    def grow(self, smaller: RegressorConfig) -> tuple[str, ...]:
        """Makes the blocks that a smaller network lacks pass on what they get, and returns the names of the parts that it lacks: its weights in
        the rest, this network says what that one said (its image branch, if it has to grow, must `branch` after loading)."""
        own = self.config
        lacking = [f"fusion.blocks.{k}" for k in range(smaller.depth, own.depth)]
        for block in list(self.fusion.blocks)[smaller.depth :]:
            assert isinstance(block, TransformerBlock)
            block.begin_as_identity()
        for k in range(len(self.maps.merges)):
            # Behind a merge's convolution and its activation; they begin as the identity anyhow.
            lacking += [f"maps.merges.{k}.{2 + block}" for block in range(smaller.map_blocks, own.map_blocks)]
        if self.presence is not None and not smaller.presence:
            lacking.append("presence")
            self.presence.begin_silent()
        if own.branch_at < smaller.branch_at:
            lacking.append("encoders.own_16")
        return tuple(lacking)

    def token_grid(self, crop_px: int) -> int:
        """Tokens a side for a crop size."""
        return crop_px // self.encoders.stride

    def forward(
        self,
        crops: Float[Tensor, "pair hand 3 size size"],
        geometry: Float[Tensor, "pair hand 8"],
        present: Bool[Tensor, "pair hand"],
        priors: CropPriors | None = None,
        use_prior: Bool[Tensor, "pair"] | None = None,
    ) -> tuple[HandPrediction, Float[Tensor, "pair hand token width"] | None]:
        """Crops are RGB in 0..1. `priors` are those of all crops (pair-major); where `use_prior` is True F_p enters the transformer, elsewhere
        F_fa does. Returns the prediction and F_p (None without priors), for L_prior."""
        pairs = crops.shape[0]
        flat_present = present.flatten()
        index = flat_present.nonzero()[:, 0]
        encoded = self.encoders(crops.flatten(0, 1)[index].contiguous(memory_format=torch.channels_last))
        tokens = self.image_norm(self.image_tokens(encoded.coarse.flatten(2).transpose(1, 2)))
        count = tokens.shape[1]

        def scatter(x: Tensor) -> Tensor:
            return (
                torch.zeros(2 * pairs, *x.shape[1:], dtype=x.dtype, device=x.device).index_copy(0, index, x).reshape(pairs, 2, *x.shape[1:])
            )

        aligned_all = scatter(encoded.aligned)
        prior_all = None
        chosen = aligned_all
        if priors is not None:
            prior_all = scatter(self.prior(priors[index]).to(aligned_all.dtype))
            if use_prior is not None:
                chosen = torch.where(use_prior[:, None, None, None], prior_all, aligned_all)
        fused = self.fusion(scatter(tokens), chosen, geometry, present)
        fused_flat = fused.flatten(0, 1)[index]
        grid = round(int(count) ** 0.5)
        read = None if encoded.reading is None else encoded.reading.map(lambda t: t.detach())
        top = fused_flat.transpose(1, 2).unflatten(2, (grid, grid))
        heatmap_log, xy, z, log_scale = self.maps(top, [encoded.middle, encoded.fine], read)
        z = z - z[:, :1]
        joints = torch.cat([xy, z[..., None]], -1).detach()
        rotation, shape, presence, side = self.parameters_head(fused_flat, joints, read)
        if self.presence is not None:
            presence = presence + self.presence(fused_flat.mean(1))[:, 0].float()
        joints_all, shape_all = scatter(joints), scatter(shape)
        relative = self.relative(fused.float().mean(2), joints_all, shape_all.detach(), geometry)
        identity = torch.eye(3, device=crops.device).expand(pairs, 2, 16, 3, 3)
        rotation_all = torch.where(present[..., None, None, None], scatter(rotation), identity)
        reading_all = None if encoded.reading is None else encoded.reading.map(scatter)
        return (
            HandPrediction(
                scatter(heatmap_log), scatter(xy), scatter(z), scatter(log_scale), rotation_all, shape_all, scatter(presence), scatter(side),
                relative, aligned_all, scatter(self.other(tokens, encoded.aligned)), reading_all,
            ),
            prior_all,
        )  # fmt: skip
