"""Stage 1 as one network: backbone, priors, fusion, head, wired as in the paper's figure 2."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from twohands.backbone import BackboneConfig, Stages, Stem, stage_widths
from twohands.regress.align import CropPriors, FusionAlignmentEncoder, PriorProjection
from twohands.regress.fusion import PAIR_GEOMETRY, Fusion
from twohands.regress.head import HandPrediction, JointMaps, ParameterHead, RelativeHead

PRIOR_GRID_FACTOR = 4
"""Prior maps have this many times more cells a side than the token grid (two strided convolutions)."""


@dataclass(frozen=True)
class RegressorConfig:
    """Sizes of stage 1. The defaults are the small network, made for CPUs."""

    crop_px: int = 96
    backbone_kind: str = "basic"
    stem: int = 48
    stem_pool: bool = False
    widths: tuple[int, ...] = (48, 96, 160, 224)
    depths: tuple[int, ...] = (2, 2, 2, 2)
    strides: tuple[int, ...] = (2, 2, 2, 1)
    align_widths: tuple[int, ...] = (48, 80, 128, 160)
    align_depths: tuple[int, ...] = (2, 1, 2, 2)
    align_shares_start: bool = True
    prior_width: int = 64
    width: int = 192
    heads: int = 6
    depth: int = 2
    pyramid: int = 64
    hidden: int = 512

    def backbone(self) -> BackboneConfig:
        return BackboneConfig(self.backbone_kind, self.stem, self.widths, self.depths, self.strides, self.stem_pool)  # type: ignore[arg-type]

    def align(self) -> BackboneConfig:
        return BackboneConfig(self.backbone_kind, self.stem, self.align_widths, self.align_depths, self.strides, self.stem_pool)  # type: ignore[arg-type]


PAPER = RegressorConfig(
    crop_px=256, backbone_kind="bottleneck", stem=64, stem_pool=True, widths=(64, 128, 256, 512), depths=(3, 4, 6, 3), strides=(1, 2, 2, 2),
    align_widths=(64, 128, 256, 512), align_depths=(3, 4, 6, 3), align_shares_start=False, prior_width=256, width=512, heads=8, depth=4,
    pyramid=128, hidden=1024,
)  # fmt: skip
"""The paper's: two ResNet-50, 256 px crops. Widths of projection and transformer are not printed there; these are ours."""


class Regressor(nn.Module):
    """Stage 1. Crops of absent hands are not looked at: only present ones pass through the backbone."""

    def __init__(self, config: RegressorConfig) -> None:
        super().__init__()
        self.config = config
        backbone = config.backbone()
        self.stem = Stem(backbone)
        self.stages = Stages(backbone, config.stem)
        widths = stage_widths(backbone)
        self.image_tokens = nn.Linear(widths[-1], config.width)
        self.image_norm = nn.LayerNorm(config.width)
        self.prior = PriorProjection(config.prior_width, config.width)
        self.align = FusionAlignmentEncoder(config.align(), config.width, config.align_shares_start)
        if config.align_shares_start and config.align_widths[0] != config.widths[0]:
            raise ValueError(f"a shared start needs equal first widths, got {config.align_widths[0]} and {config.widths[0]}")
        self.fusion = Fusion(config.width, config.heads, config.depth)
        self.maps = JointMaps(config.width, [widths[1], widths[0]], config.pyramid)
        self.parameters_head = ParameterHead(config.width, config.hidden)
        self.relative = RelativeHead(config.width, PAIR_GEOMETRY)

    def token_grid(self, crop_px: int) -> int:
        """Tokens a side for a crop size."""
        stride = 4 if self.config.stem_pool else 2
        for s in self.config.strides:
            stride *= s
        return crop_px // stride

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
        images = (crops.flatten(0, 1)[index] - 0.45) * 4
        maps = self.stages(self.stem(images))
        tokens = self.image_norm(self.image_tokens(maps[-1].flatten(2).transpose(1, 2)))
        aligned = self.align(maps[0] if self.config.align_shares_start else images)
        count = tokens.shape[1]

        def scatter(x: Tensor) -> Tensor:
            return (
                torch.zeros(2 * pairs, *x.shape[1:], dtype=x.dtype, device=x.device).index_copy(0, index, x).reshape(pairs, 2, *x.shape[1:])
            )

        aligned_all = scatter(aligned)
        prior_all = None
        chosen = aligned_all
        if priors is not None:
            prior_all = scatter(self.prior(priors[index]).to(aligned.dtype))
            if use_prior is not None:
                chosen = torch.where(use_prior[:, None, None, None], prior_all, aligned_all)
        fused = self.fusion(scatter(tokens), chosen, geometry, present)
        fused_flat = fused.flatten(0, 1)[index]
        grid = round(int(count) ** 0.5)
        heatmap_log, xy, z, log_scale = self.maps(fused_flat.transpose(1, 2).unflatten(2, (grid, grid)), [maps[1], maps[0]])
        z = z - z[:, :1]
        joints = torch.cat([xy, z[..., None]], -1).detach()
        rotation, shape, presence, side = self.parameters_head(fused_flat, joints)
        joints_all, shape_all = scatter(joints), scatter(shape)
        relative = self.relative(fused.float().mean(2), joints_all, shape_all.detach(), geometry)
        identity = torch.eye(3, device=crops.device).expand(pairs, 2, 16, 3, 3)
        rotation_all = torch.where(present[..., None, None, None], scatter(rotation), identity)
        return (
            HandPrediction(
                scatter(heatmap_log), scatter(xy), scatter(z), scatter(log_scale), rotation_all, shape_all, scatter(presence), scatter(side),
                relative, aligned_all,
            ),
            prior_all,
        )  # fmt: skip
