"""Image trunks that start from a network which has seen millions of real hands, as others start from one that has seen ImageNet.

Two small networks of MediaPipe (Apache-2.0), written here as PyTorch modules: the palm detector's (Zhang et al., "MediaPipe Hands: On-device
Real-time Hand Tracking", 2020; blocks after Bazarevsky et al., "BlazeFace", 2019) and the landmark network's (inverted residuals after Sandler et
al., "MobileNetV2", 2018, in the proportions of Tan and Le, "EfficientNet", 2019). Normalisation layers are folded into the convolutions.
`priors.tflite` fills them from the files that hold the trained numbers; the tests check that they then give what those files give.
"""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from twohands.layers import MixedConv2d


class SameConv(MixedConv2d):
    """A convolution padded as those networks were trained: an even map under stride 2 gets its odd row and column of padding at the end."""

    def __init__(self, width_in: int, width_out: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(width_in, width_out, kernel, stride, kernel // 2 if stride == 1 else 0, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        if self.stride[0] == 1:
            return super().forward(x)
        total = self.kernel_size[0] - self.stride[0]
        first, last = total // 2, total - total // 2
        return super().forward(functional.pad(x, (first, last, first, last)))


class PalmBlock(nn.Module):
    """5 x 5 depthwise, 1 x 1, skip, PReLU; with stride 2 the skip is max-pooled and gets zeros for new channels."""

    def __init__(self, width_in: int, width_out: int, stride: int = 1) -> None:
        super().__init__()
        self.stride, self.extra = stride, width_out - width_in
        self.depthwise = SameConv(width_in, width_in, 5, stride, groups=width_in)
        self.pointwise = nn.Conv2d(width_in, width_out, 1)
        self.activation = nn.PReLU(width_out)

    def forward(self, x: Tensor) -> Tensor:
        skip = x if self.stride == 1 else functional.max_pool2d(x, 2)
        if self.extra:
            skip = functional.pad(skip, (0, 0, 0, 0, 0, self.extra))
        return self.activation(skip + self.pointwise(self.depthwise(x)))


class PalmTrunk(nn.Module):
    """The palm detector without its heads: a map of 128 channels at stride 8, top of a pyramid over strides 8, 16 and 32, of an RGB image in 0..1
    whose sides are multiples of 32."""

    WIDTH = 128

    def __init__(self) -> None:
        super().__init__()
        self.stem = SameConv(3, 32, 5, 2)
        self.stem_activation = nn.PReLU(32)
        self.at_2 = nn.Sequential(*(PalmBlock(32, 32) for _ in range(4)))
        self.at_4 = nn.Sequential(PalmBlock(32, 64, 2), *(PalmBlock(64, 64) for _ in range(4)))
        self.at_8 = nn.Sequential(PalmBlock(64, 128, 2), *(PalmBlock(128, 128) for _ in range(4)))
        self.at_16 = nn.Sequential(PalmBlock(128, 256, 2), *(PalmBlock(256, 256) for _ in range(4)))
        self.at_32 = nn.Sequential(PalmBlock(256, 256, 2), *(PalmBlock(256, 256) for _ in range(4)))
        self.to_16 = nn.Conv2d(256, 256, 1)
        self.to_16_activation = nn.PReLU(256)
        self.merge_16 = nn.Sequential(*(PalmBlock(256, 256) for _ in range(2)))
        self.to_8 = nn.Conv2d(256, 128, 1)
        self.to_8_activation = nn.PReLU(128)
        self.merge_8 = nn.Sequential(*(PalmBlock(128, 128) for _ in range(2)))

    def edges(self, image: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch 64 height/4 width/4"]:
        """Everything up to stride 4: most of the time, and what hands' edges look like to any detector."""
        return self.at_4(self.at_2(self.stem_activation(self.stem(image))))

    def early(self, image: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch 128 height/8 width/8"]:
        """Everything up to stride 8."""
        return self.at_8(self.edges(image))

    def late(self, at_8: Float[Tensor, "batch 128 height/8 width/8"]) -> Float[Tensor, "batch 128 height/8 width/8"]:
        """The pyramid over the bare map at stride 8."""
        at_16 = self.at_16(at_8)
        x = self.merge_16(at_16 + self.to_16_activation(self.to_16(_twice(self.at_32(at_16)))))
        return self.merge_8(at_8 + self.to_8_activation(self.to_8(_twice(x))))

    def forward(self, image: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch 128 height/8 width/8"]:
        return self.late(self.early(image))


def _twice(x: Tensor) -> Tensor:
    return functional.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


class InvertedResidual(nn.Module):
    """1 x 1 to many channels, depthwise, 1 x 1 to few; a skip where nothing changes size."""

    def __init__(self, width_in: int, hidden: int, width_out: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.skips = stride == 1 and width_in == width_out
        self.expand = nn.Conv2d(width_in, hidden, 1)
        self.depthwise = SameConv(hidden, hidden, kernel, stride, groups=hidden)
        self.project = nn.Conv2d(hidden, width_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(functional.relu6(self.depthwise(functional.relu6(self.expand(x)))))
        return x + y if self.skips else y


class LandmarkEarly(nn.Module):
    """The landmark network from the image (RGB in 0..1) to stride 16: maps at 8 (40 channels) and 16 (112)."""

    WIDTHS = (40, 112)

    def __init__(self) -> None:
        super().__init__()
        self.stem = SameConv(3, 24, 3, 2)
        self.stem_depthwise = SameConv(24, 24, 3, groups=24)
        self.stem_project = nn.Conv2d(24, 16, 1)
        self.to_8 = nn.Sequential(
            InvertedResidual(16, 64, 24, 3, 2), InvertedResidual(24, 144, 24, 3, 1), InvertedResidual(24, 144, 40, 5, 2),
            InvertedResidual(40, 240, 40, 5, 1),
        )  # fmt: skip
        self.to_16 = nn.Sequential(
            InvertedResidual(40, 240, 80, 3, 2), InvertedResidual(80, 480, 80, 3, 1), InvertedResidual(80, 480, 80, 3, 1),
            InvertedResidual(80, 480, 112, 5, 1), InvertedResidual(112, 672, 112, 5, 1), InvertedResidual(112, 672, 112, 5, 1),
        )  # fmt: skip

    def forward(self, image: Float[Tensor, "crop 3 size size"]) -> tuple[Tensor, Tensor]:
        x = self.stem_project(functional.relu6(self.stem_depthwise(functional.relu6(self.stem(image)))))
        at_8 = self.to_8(x)
        return at_8, self.to_16(at_8)


class LandmarkLate(nn.Module):
    """The landmark network from stride 16 to 32: a map of 192 channels, and the 1,152 features from which it reads a hand."""

    WIDTH, FEATURES = 192, 1152

    def __init__(self) -> None:
        super().__init__()
        self.to_32 = nn.Sequential(InvertedResidual(112, 672, 192, 5, 2), *(InvertedResidual(192, 1152, 192, 5, 1) for _ in range(3)))
        self.expand = nn.Conv2d(192, 1152, 1)
        self.depthwise = SameConv(1152, 1152, 3, groups=1152)

    def forward(self, at_16: Float[Tensor, "crop 112 side side"]) -> tuple[Tensor, Tensor]:
        at_32 = self.to_32(at_16)
        features = functional.relu6(self.depthwise(functional.relu6(self.expand(at_32))))
        return at_32, features.mean((2, 3))


class LandmarkReadout(nn.Module):
    """What the landmark network says of a hand: presence, side, 21 points in the crop (pixels of 224, depth alike) and 21 in metres."""

    def __init__(self) -> None:
        super().__init__()
        self.side = nn.Linear(LandmarkLate.FEATURES, 1)
        self.presence = nn.Linear(LandmarkLate.FEATURES, 1)
        self.points = nn.Linear(LandmarkLate.FEATURES, 63)
        self.world = nn.Linear(LandmarkLate.FEATURES, 63)

    def forward(self, features: Float[Tensor, "crop 1152"]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return (
            self.presence(features)[:, 0],
            self.side(features)[:, 0],
            self.points(features).unflatten(1, (21, 3)),
            self.world(features).unflatten(1, (21, 3)),
        )


def parameters_in_order(*modules: nn.Module) -> list[nn.Module]:
    """Convolutions, linear layers and PReLUs in the order in which they were defined, which is that of the files."""
    return [m for module in modules for m in module.modules() if isinstance(m, nn.Conv2d | nn.Linear | nn.PReLU)]


def freeze(module: nn.Module) -> nn.Module:
    """No gradient reaches it any more."""
    for p in module.parameters():
        p.requires_grad_(False)
    return module
