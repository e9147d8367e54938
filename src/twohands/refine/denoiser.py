"""The denoiser D(X_t, t, X_c): a transformer over the joints of both hands that predicts the clean hands X_0 (paper, eq. 4; MDM style).

Swapping and mirroring the hands commutes with it exactly, by construction: in the state of state.py that is an exchange of the hands, and
nothing here tells left from right, only "of my own hand" from "of the other hand" (a learnt bias of the attention).
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from twohands.collision.energy import penetration_energy
from twohands.collision.proxies import SphereProxies
from twohands.hands.model import HandModel, PosedHands
from twohands.hands.parameters import HandParameters
from twohands.layers import Mlp, sinusoids
from twohands.record import Record
from twohands.refine.diffusion import alpha_bar
from twohands.refine.state import TOKENS, WIDTH, PairFrame, StateScale, pack, place_numbers, used_numbers

CONDITION_FEATURES = WIDTH + 3 + 3 + 3 + 1
"""Per token of the condition: its numbers, the joint's position, the push out of the other hand, the viewing direction, the confidence."""

_PUSH_REACH_M = 0.003


@dataclass(frozen=True)
class DenoiserConfig:
    """Size of the denoiser; the defaults train on one core."""

    width: int = 128
    depth: int = 4
    heads: int = 4
    expansion: int = 4
    position_scale_m: float = 0.05
    """Positions are divided by this before they enter the network."""
    push_scale_m: float = 0.01
    """And pushes by this."""


@dataclass(frozen=True)
class Condition(Record):
    """X_c as the denoiser sees it: the penetrating hands, and how much of them to believe."""

    state: Float[Tensor, "batch hand 17 13"]
    position_m: Float[Tensor, "batch hand 17 3"]
    """MANO16 joints in the pair's frame (left hand mirrored); the placement token has the middle knuckle's."""
    push_m: Float[Tensor, "batch hand 17 3"]
    """Sum of the overlaps of a joint's sphere proxies with the other hand's, each in the direction that ends it; of all joints for the
    placement token. Nearness of up to 3 mm counts as overlap, so that contact is felt before it is penetration."""
    view: Float[Tensor, "batch hand 3"]
    """Unit direction from the camera to the hands in the pair's frame: along it stage 1 errs most. Zero if there is no camera."""
    confidence: Float[Tensor, "batch hand 17"]
    """How sure stage 1 is of each token, 0 to 1."""

    @staticmethod
    def of(
        model: HandModel,
        proxies: SphereProxies,
        parameters: HandParameters,
        frame: PairFrame,
        confidence: Float[Tensor, "batch hand 17"],
        has_camera: bool = True,
    ) -> "Condition":
        """The condition of hands in a camera frame (or, with `has_camera` false, in any frame)."""
        hands = model.pose_hands(parameters)
        joints = frame.points_to_pair(hands.joints_m)
        middle_knuckle = joints[..., 4:5, :]
        push = frame.directions_to_pair(_pushes_m(proxies, hands, parameters.shape))
        view = frame.directions_to_pair(functional.normalize(frame.origin_m, dim=-1)[..., None, None, :].expand(-1, 2, 1, -1))[..., 0, :]
        return Condition(
            state=pack(model, parameters, frame),
            position_m=torch.cat([joints, middle_knuckle], -2),
            push_m=torch.cat([push, push.sum(-2, keepdim=True)], -2),
            view=view if has_camera else torch.zeros_like(view),
            confidence=confidence,
        )


def _pushes_m(proxies: SphereProxies, hands: PosedHands, shape: Tensor) -> Float[Tensor, "batch hand 16 3"]:
    """Overlap times direction, summed over each joint's spheres: half the falling gradient of the penetration energy."""
    with torch.enable_grad():
        centres = proxies.centres_posed(hands).detach().requires_grad_()
        energy = penetration_energy(centres, proxies.radii(shape).detach(), _PUSH_REACH_M).sum()
        (gradient,) = torch.autograd.grad(energy, centres)
    pushes = torch.zeros(*centres.shape[:2], 16, 3, dtype=centres.dtype, device=centres.device)
    return pushes.scatter_add(2, proxies.part[None, :, :, None].expand(centres.shape), -0.5 * gradient)


class PairAttention(nn.Module):
    """Self-attention over the tokens of both hands. By learnt biases its scores know which joints query and key are and whether they are of
    one hand, but not of which: so it commutes with the exchange of the hands."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width {width} cannot be split over {heads} heads; choose a multiple")
        self.heads = heads
        self.query_key_value = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.bias_own = nn.Parameter(torch.zeros(heads, TOKENS, TOKENS))
        self.bias_other = nn.Parameter(torch.zeros(heads, TOKENS, TOKENS))

    def forward(self, tokens: Float[Tensor, "batch 34 width"]) -> Tensor:
        batch, count, width = tokens.shape
        query, key, value = self.query_key_value(tokens).view(batch, count, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        bias = torch.cat([torch.cat([self.bias_own, self.bias_other], -1), torch.cat([self.bias_other, self.bias_own], -1)], -2)
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=bias[None].to(query.dtype))
        return self.out(mixed.transpose(1, 2).reshape(batch, count, width))


class PairBlock(nn.Module):
    """Pre-norm transformer block on both hands; shifts, scales and gates come from the time (adaLN, Peebles and Xie 2023).

    Gates start at one, not at zero as in DiT: four blocks need no warming up, and learn from the first step."""

    def __init__(self, width: int, heads: int, expansion: int) -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(width, elementwise_affine=False)
        self.norm_mlp = nn.LayerNorm(width, elementwise_affine=False)
        self.attention = PairAttention(width, heads)
        self.mlp = Mlp(width, expansion * width, width)
        self.modulate = nn.Linear(width, 6 * width)
        nn.init.normal_(self.modulate.weight, std=0.02)
        nn.init.zeros_(self.modulate.bias)

    def forward(self, tokens: Float[Tensor, "batch 34 width"], time: Float[Tensor, "batch width"]) -> Tensor:
        parts = self.modulate(time).unflatten(-1, (6, 1, -1)).unbind(1)
        scale_a, shift_a, gate_a, scale_m, shift_m, gate_m = parts
        tokens = tokens + (1 + gate_a) * self.attention(self.norm_attention(tokens) * (1 + scale_a) + shift_a)
        return tokens + (1 + gate_m) * self.mlp(self.norm_mlp(tokens) * (1 + scale_m) + shift_m)


class Denoiser(nn.Module):
    """Predicts the clean scaled state from the noisy one. `scale` travels with the weights.

    The network's answer is added to the best linear guess from X_t alone, as in Karras et al. 2022, for clean numbers of variance one:
    D = √ᾱ X_t + √(1 - ᾱ) F(X_t, t, X_c). The output layer starts at zero, so an untrained denoiser takes pure noise for X_c."""

    used: Tensor

    def __init__(self, config: DenoiserConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.scale = StateScale()
        self.register_buffer("used", used_numbers().float(), persistent=False)
        self.embed_noisy = nn.Linear(WIDTH, width)
        self.embed_condition = Mlp(CONDITION_FEATURES, width, width)
        self.token = nn.Parameter(torch.randn(TOKENS, width) * 0.02)
        self.embed_time = Mlp(width, width, width)
        self.blocks = nn.ModuleList(PairBlock(width, config.heads, config.expansion) for _ in range(config.depth))
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, WIDTH)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(
        self, noisy: Float[Tensor, "batch hand 17 13"], step: Float[Tensor, "batch"], condition: Condition
    ) -> Float[Tensor, "batch hand 17 13"]:
        """`noisy` is the scaled X_t, `step` its noising step (0 to 1,000, see diffusion.py); the answer is the scaled X_0."""
        share = alpha_bar(step)[:, None, None, None]
        answer = self._network(noisy, step, condition).to(noisy.dtype)
        return (share.sqrt() * noisy + (1 - share).sqrt() * answer) * self.used

    def _network(self, noisy: Tensor, step: Tensor, condition: Condition) -> Float[Tensor, "batch hand 17 13"]:
        batch, config = noisy.shape[0], self.config
        place = torch.where(place_numbers().to(noisy.device), 1 / config.position_scale_m, 1.0)
        seen = torch.cat(
            [
                condition.state * place,
                condition.position_m / config.position_scale_m,
                condition.push_m / config.push_scale_m,
                condition.view[..., None, :].expand(-1, -1, TOKENS, -1),
                condition.confidence[..., None],
            ],
            -1,
        )
        tokens = (self.embed_noisy(noisy) + self.embed_condition(seen) + self.token).reshape(batch, 2 * TOKENS, -1)
        time = functional.silu(self.embed_time(sinusoids(step, config.width)))
        for block in self.blocks:
            tokens = block(tokens, time)
        return self.out(self.norm(tokens)).view(batch, 2, TOKENS, WIDTH)
