"""Building blocks that networks share: attention, MLP, convolutional context, time embedding."""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional


class Mlp(nn.Sequential):
    """Linear, GELU, linear."""

    def __init__(self, width_in: int, width_hidden: int, width_out: int) -> None:
        super().__init__(nn.Linear(width_in, width_hidden), nn.GELU(approximate="tanh"), nn.Linear(width_hidden, width_out))

    def begin_silent(self) -> None:
        """Makes it say zero, so that it can be added to what is trained already."""
        last = self[2]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)


class Attention(nn.Module):
    """Multi-head self-attention over tokens; padded tokens are never looked at."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width {width} cannot be split over {heads} heads; choose a multiple")
        self.heads = heads
        self.query_key_value = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, tokens: Float[Tensor, "batch token width"], valid: Bool[Tensor, "batch token"] | None = None) -> Tensor:
        """Every row of `valid` must hold at least one True, else its softmax has nothing to average."""
        batch, count, width = tokens.shape
        query, key, value = self.query_key_value(tokens).view(batch, count, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        mask = None if valid is None else valid[:, None, None, :]
        if tokens.is_cuda:
            mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        else:
            # Written out: on a CPU the fused kernel's backward pass takes three to five times as long at these token counts.
            score = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5
            mixed = (score if mask is None else score.masked_fill(~mask, -1e4)).softmax(-1) @ value
        return self.out(mixed.transpose(1, 2).reshape(batch, count, width))


class TransformerBlock(nn.Module):
    """Pre-norm block; with `modulated`, shifts, scales and gates come from outside (adaLN, Peebles and Xie 2023)."""

    def __init__(self, width: int, heads: int, expansion: int = 4, modulated: bool = False) -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(width, elementwise_affine=not modulated)
        self.norm_mlp = nn.LayerNorm(width, elementwise_affine=not modulated)
        self.attention = Attention(width, heads)
        self.mlp = Mlp(width, expansion * width, width)

    def begin_as_identity(self) -> None:
        """Makes it pass tokens on as they are, so that it can be put into a transformer that is trained already."""
        nn.init.zeros_(self.attention.out.weight)
        nn.init.zeros_(self.attention.out.bias)
        self.mlp.begin_silent()

    def forward(
        self,
        tokens: Float[Tensor, "batch token width"],
        valid: Bool[Tensor, "batch token"] | None = None,
        modulation: Float[Tensor, "batch 6 width"] | None = None,
    ) -> Tensor:
        if modulation is None:
            tokens = tokens + self.attention(self.norm_attention(tokens), valid)
            return tokens + self.mlp(self.norm_mlp(tokens))
        scale_a, shift_a, gate_a, scale_m, shift_m, gate_m = (part[:, None] for part in modulation.unbind(1))
        tokens = tokens + gate_a * self.attention(self.norm_attention(tokens) * (1 + scale_a) + shift_a, valid)
        return tokens + gate_m * self.mlp(self.norm_mlp(tokens) * (1 + scale_m) + shift_m)


class MixedConv2d(nn.Conv2d):
    """A convolution for mixed precision: one that has a kernel for each channel stays in single precision where a CPU's products run in bfloat16,
    whose kernel for its gradients takes twice as long."""

    def forward(self, x: Tensor) -> Tensor:
        if self.groups == 1 or x.is_cuda or not torch.is_autocast_enabled("cpu"):
            return super().forward(x)
        with torch.autocast("cpu", enabled=False):
            return super().forward(x.float())


class ContextBlock(nn.Module):
    """5 x 5 depthwise, 1 x 1 to twice the channels and back, and a skip. It begins as the identity, so that blocks can be put into a network
    that is trained already."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.depthwise = nn.Sequential(MixedConv2d(width, width, 5, padding=2, groups=width, bias=False), nn.BatchNorm2d(width))
        self.expand = nn.Conv2d(width, 2 * width, 1)
        self.project = nn.Conv2d(2 * width, width, 1)
        nn.init.zeros_(self.project.weight)
        assert self.project.bias is not None
        nn.init.zeros_(self.project.bias)

    def forward(self, x: Float[Tensor, "batch width h w"]) -> Float[Tensor, "batch width h w"]:
        return x + self.project(functional.relu(self.expand(self.depthwise(x))))


def sinusoids(steps: Float[Tensor, "*batch"], width: int, longest: float = 10_000.0) -> Float[Tensor, "*batch width"]:
    """Sine and cosine features of a number (Vaswani et al. 2017); `width` must be even."""
    half = width // 2
    frequency = torch.exp(-math.log(longest) * torch.arange(half, device=steps.device, dtype=torch.float32) / half)
    angle = steps[..., None].float() * frequency
    return torch.cat([angle.sin(), angle.cos()], -1)
