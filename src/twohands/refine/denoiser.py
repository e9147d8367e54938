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
from twohands.hands.mirror import left_as_right_points
from twohands.hands.model import HandModel
from twohands.hands.parameters import HandParameters
from twohands.joints import MANO16, OPENPOSE21, OPENPOSE21_PARENTS
from twohands.layers import Mlp, sinusoids
from twohands.record import Record
from twohands.refine.diffusion import alpha_bar
from twohands.refine.evidence import log_error_scale
from twohands.refine.state import TOKENS, WIDTH, PairFrame, StateScale, pack, place_numbers, used_numbers

CONDITION_FEATURES = WIDTH + 3 + 3 + 3 + 4 + 3 + 2
"""Per token of the condition: its numbers, the joint's position and bone, the push out of the other hand, the gap to it (direction, width),
the viewing direction, the confidence (as it is, and as the logarithm of the error scale that it stands for)."""

_PUSH_REACH_M = 0.003
_GAP_REACH_M = 0.05
"""The other hand is out of a joint's sight from here on."""
_KEYPOINT = tuple(OPENPOSE21.index(name) for name in MANO16)
_CHILD = tuple(OPENPOSE21_PARENTS.index(keypoint) for keypoint in _KEYPOINT)


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
    """And pushes and gaps by this."""
    distance_bins: int = 12
    """Radial functions of the distance between two joints that the attention sees, over 0 to 18 cm."""


@dataclass(frozen=True)
class Condition(Record):
    """X_c as the denoiser sees it: the penetrating hands, and how much of them to believe."""

    state: Float[Tensor, "batch hand 17 13"]
    position_m: Float[Tensor, "batch hand 17 3"]
    """MANO16 joints in the pair's frame (left hand mirrored); the placement token has the middle knuckle's."""
    bone_m: Float[Tensor, "batch hand 17 3"]
    """From the joint to the next one of its finger, or its tip; zero for the placement token."""
    push_m: Float[Tensor, "batch hand 17 3"]
    """Sum of the overlaps of a joint's sphere proxies with the other hand's, each in the direction that ends it; of all joints for the
    placement token. Nearness of up to 3 mm counts as overlap, so that contact is felt before it is penetration."""
    gap_m: Float[Tensor, "batch hand 17 4"]
    """From a joint's sphere that is nearest to the other hand to the sphere of that hand: the unit direction, zero beyond 5 cm, and the width,
    negative where they overlap. Of the nearest joint for the placement token."""
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
        keypoints = frame.points_to_pair(hands.joints_and_tips())
        bones = keypoints[..., _CHILD, :] - joints
        centres, radius = proxies.centres_posed(hands).detach(), proxies.radii(parameters.shape).detach()
        push = frame.directions_to_pair(_pushes_m(proxies, centres, radius))
        way, width = _gaps_m(proxies, centres, radius)
        view = frame.directions_to_pair(functional.normalize(frame.origin_m, dim=-1)[..., None, None, :].expand(-1, 2, 1, -1))[..., 0, :]
        return Condition(
            state=pack(model, parameters, frame),
            position_m=torch.cat([joints, middle_knuckle], -2),
            bone_m=functional.pad(bones, (0, 0, 0, 1)),
            push_m=torch.cat([push, push.sum(-2, keepdim=True)], -2),
            gap_m=torch.cat([frame.directions_to_pair(way), width[..., None]], -1),
            view=view if has_camera else torch.zeros_like(view),
            confidence=confidence,
        )


def _pushes_m(
    proxies: SphereProxies, centres: Float[Tensor, "batch hand sphere 3"], radius: Float[Tensor, "batch hand sphere"]
) -> Float[Tensor, "batch hand 16 3"]:
    """Overlap times direction, summed over each joint's spheres: half the falling gradient of the penetration energy."""
    with torch.enable_grad():
        variable = centres.requires_grad_()
        energy = penetration_energy(variable, radius, _PUSH_REACH_M).sum()
        (gradient,) = torch.autograd.grad(energy, variable)
    pushes = torch.zeros(*centres.shape[:2], 16, 3, dtype=centres.dtype, device=centres.device)
    return pushes.scatter_add(2, proxies.part[None, :, :, None].expand(centres.shape), -0.5 * gradient)


@torch.no_grad()
def _gaps_m(
    proxies: SphereProxies, centres: Float[Tensor, "batch hand sphere 3"], radius: Float[Tensor, "batch hand sphere"]
) -> tuple[Float[Tensor, "batch hand 17 3"], Float[Tensor, "batch hand 17"]]:
    """Of every token, the way to the other hand's nearest sphere and the width between; joints without spheres take the hand's."""
    between = torch.cdist(centres[:, 0], centres[:, 1]) - radius[:, 0, :, None] - radius[:, 1, None, :]
    width, other = (torch.stack(pair, 1) for pair in zip(between.min(2), between.transpose(1, 2).min(2), strict=True))
    target = centres.flip(1).gather(2, other[..., None].expand(-1, -1, -1, 3))
    token = functional.one_hot(proxies.part, TOKENS).bool().transpose(1, 2)  # (hand, token, sphere)
    token = token | ~token.any(-1, keepdim=True)
    nearest_width, nearest = torch.where(token, width[:, :, None], torch.inf).min(-1)
    index = nearest[..., None].expand(-1, -1, -1, 3)
    way = functional.normalize(target.gather(2, index) - centres.gather(2, index), dim=-1)
    return torch.where(nearest_width[..., None] < _GAP_REACH_M, way, 0.0), nearest_width.clamp_max(_GAP_REACH_M)


class PairAttention(nn.Module):
    """Self-attention over the tokens of both hands. By learnt biases its scores know which joints query and key are, how far apart, and
    whether they are of one hand, but not of which: so it commutes with the exchange of the hands."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width {width} cannot be split over {heads} heads; choose a multiple")
        self.heads = heads
        self.query_key_value = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.bias_own = nn.Parameter(torch.zeros(heads, TOKENS, TOKENS))
        self.bias_other = nn.Parameter(torch.zeros(heads, TOKENS, TOKENS))

    def forward(self, tokens: Float[Tensor, "batch 34 width"], near: Float[Tensor, "batch head 34 34"]) -> Tensor:
        batch, count, width = tokens.shape
        query, key, value = self.query_key_value(tokens).view(batch, count, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        bias = torch.cat([torch.cat([self.bias_own, self.bias_other], -1), torch.cat([self.bias_other, self.bias_own], -1)], -2)
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=(bias + near).to(query.dtype))
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

    def forward(
        self, tokens: Float[Tensor, "batch 34 width"], time: Float[Tensor, "batch width"], near: Float[Tensor, "batch head 34 34"]
    ) -> Tensor:
        parts = self.modulate(time).unflatten(-1, (6, 1, -1)).unbind(1)
        scale_a, shift_a, gate_a, scale_m, shift_m, gate_m = parts
        tokens = tokens + (1 + gate_a) * self.attention(self.norm_attention(tokens) * (1 + scale_a) + shift_a, near)
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
        self.near = nn.Linear(2 * config.distance_bins, config.depth * config.heads, bias=False)
        """How much each head of each block attends to what is near."""
        nn.init.zeros_(self.near.weight)
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
                condition.bone_m / config.position_scale_m,
                condition.push_m / config.push_scale_m,
                condition.gap_m / condition.gap_m.new_tensor([1, 1, 1, config.push_scale_m]),
                condition.view[..., None, :].expand(-1, -1, TOKENS, -1),
                condition.confidence[..., None],
                log_error_scale(condition.confidence)[..., None],
            ],
            -1,
        )
        tokens = (self.embed_noisy(noisy) + self.embed_condition(seen) + self.token).reshape(batch, 2 * TOKENS, -1)
        time = functional.silu(self.embed_time(sinusoids(step, config.width)))
        near = self.near(_distances(condition.position_m, config.distance_bins)).unflatten(-1, (config.depth, config.heads))
        for block, bias in zip(self.blocks, near.permute(3, 0, 4, 1, 2), strict=True):
            tokens = block(tokens, time, bias)
        return self.out(self.norm(tokens)).view(batch, 2, TOKENS, WIDTH)


def _distances(position_m: Float[Tensor, "batch hand 17 3"], bins: int) -> Float[Tensor, "batch 34 34 bin"]:
    """Bumps over the distance between every two tokens, first those within a hand and then those between hands. The left hand's positions
    are mirrored in the pair's frame, so one of the two is mirrored back."""
    batch = position_m.shape[0]
    place = left_as_right_points(position_m).flatten(1, 2)
    between_m = torch.cdist(place, place, compute_mode="donot_use_mm_for_euclid_dist")
    centre = torch.linspace(0, 1, bins, device=place.device)
    bumps = torch.exp(-((between_m[..., None] / 0.18 - centre) * (bins - 1) / 1.5).square())
    hand = torch.arange(2 * TOKENS, device=place.device) // TOKENS
    same = (hand[:, None] == hand).view(1, 2 * TOKENS, 2 * TOKENS, 1)
    return torch.cat([bumps * same, bumps * ~same], -1).view(batch, 2 * TOKENS, 2 * TOKENS, 2 * bins)
