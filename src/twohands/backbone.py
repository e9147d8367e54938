"""Image backbones of both networks: residual networks with dense convolutions, which is what a CPU's matrix units run fastest."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn


@dataclass(frozen=True)
class BackboneConfig:
    """A ResNet (He et al. 2016) with freely chosen widths; ("bottleneck", (64, 128, 256, 512), (3, 4, 6, 3)) is ResNet-50."""

    kind: Literal["basic", "bottleneck"] = "basic"
    stem: int = 48
    widths: tuple[int, ...] = (48, 96, 160, 224)
    depths: tuple[int, ...] = (2, 2, 2, 2)
    strides: tuple[int, ...] = (2, 2, 2, 1)
    stem_pool: bool = False
    """Max-pool behind the stem, as ResNet-50 has; small crops keep their pixels."""


def conv_norm(width_in: int, width_out: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    """Convolution without bias, then batch norm."""
    return nn.Sequential(nn.Conv2d(width_in, width_out, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(width_out))


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions and a skip."""

    expansion = 1

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(conv_norm(width_in, width, 3, stride), nn.ReLU(inplace=True), conv_norm(width, width))
        self.skip = nn.Identity() if stride == 1 and width_in == width else conv_norm(width_in, width, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.body(x) + self.skip(x))


class Bottleneck(nn.Module):
    """1 x 1, 3 x 3, 1 x 1 with four times the width outside (ResNet-50's block)."""

    expansion = 4

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        wide = width * self.expansion
        self.body = nn.Sequential(
            conv_norm(width_in, width, 1), nn.ReLU(inplace=True), conv_norm(width, width, 3, stride), nn.ReLU(inplace=True), conv_norm(width, wide, 1)
        )  # fmt: skip
        self.skip = nn.Identity() if stride == 1 and width_in == wide else conv_norm(width_in, wide, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.body(x) + self.skip(x))


class Stem(nn.Sequential):
    """The first convolution: half the resolution (a quarter with the pool)."""

    def __init__(self, config: BackboneConfig) -> None:
        layers: list[nn.Module] = [conv_norm(3, config.stem, 7 if config.stem_pool else 5, 2), nn.ReLU(inplace=True)]
        if config.stem_pool:
            layers.append(nn.MaxPool2d(3, 2, 1))
        super().__init__(*layers)


class Stages(nn.Module):
    """The residual stages behind a stem; gives the map of every stage."""

    def __init__(self, config: BackboneConfig, width_in: int, first: int = 0) -> None:
        super().__init__()
        block = BasicBlock if config.kind == "basic" else Bottleneck
        stages = []
        for width, depth, stride in list(zip(config.widths, config.depths, config.strides, strict=True))[first:]:
            blocks = []
            for k in range(depth):
                blocks.append(block(width_in, width, stride if k == 0 else 1))
                width_in = width * block.expansion
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.ModuleList(stages)
        self.width_out = width_in

    def forward(self, x: Float[Tensor, "crop channel height width"]) -> list[Tensor]:
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps


def stage_widths(config: BackboneConfig) -> list[int]:
    """Channels of each stage's map."""
    return [width * (1 if config.kind == "basic" else Bottleneck.expansion) for width in config.widths]
