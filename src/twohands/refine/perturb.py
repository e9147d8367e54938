"""Pairs to learn stage 2 from, the second way: clean hands with errors of a plausible kind, and how sure stage 1 would be of each joint.

Monocular errors have a structure: the depth of one hand against the other is worst, hidden joints are worse than seen ones, fingers err
together and mostly in flexion. The amount is log-uniform, from a touch to far beyond a finger's width; some pairs have fingers changed
places. The confidence is what stage 1 says (`keypoint_confidence`): the probability that a keypoint's 2D error stays below a tenth of the
hand's size, computed from the *scale* of the error that was drawn, which stage 1 estimates only roughly. The error itself it never sees.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from twohands.collision.energy import penetration_energy
from twohands.collision.proxies import SphereProxies
from twohands.geometry.rotations import matrix_to_rotvec, random_rotation, rotvec_to_matrix
from twohands.hands.bundled import load_hand_asset
from twohands.hands.mirror import left_as_right_rotvec
from twohands.hands.model import HandModel
from twohands.hands.parameters import HandParameters
from twohands.joints import MANO16, OPENPOSE21, OPENPOSE21_PARENTS
from twohands.record import Record
from twohands.refine.state import rest_wrists_m

_KEYPOINT_OF_MANO16 = tuple(OPENPOSE21.index(name) for name in MANO16)
_CHILD = tuple(OPENPOSE21_PARENTS.index(keypoint) for keypoint in _KEYPOINT_OF_MANO16)


@dataclass(frozen=True)
class PerturbConfig:
    """Standard deviations of the errors at amount 1 of a joint that is seen, in metres and radians, and how stage 1's idea of them strays."""

    smallest: float = 0.3
    largest: float = 2.5
    hidden: float = 2.5
    """Times the error of a joint that is seen, on average."""
    spread: float = 0.3
    """Of the logarithm of a hand's, and again of a joint's, error scale."""
    finger_rad: float = 0.065
    wrist_rad: float = 0.055
    plain_share: float = 0.5
    """Share of pairs whose fingers err about every axis alike, as Gaussian noise on the parameters does; of the others flexion errs most."""
    across_m: float = 0.0025
    """Place of a hand across the viewing direction."""
    depth_m: float = 0.008
    shape: float = 0.4
    swap_share: float = 0.06
    """Share of pairs in which one hand is off by the width of a finger along its row of knuckles."""
    finger_width_m: float = 0.019
    overconfident: float = 0.2
    """Stage 1 takes its errors for smaller than they are, by this logarithm on average."""
    guess_hand: float = 0.35
    guess_joint: float = 0.3
    """Spread of the logarithm of its guess, for a hand and for a keypoint."""
    candidates: int = 2
    """Errors drawn per pair; the first that penetrates is taken."""
    any_share: float = 0.15
    """Share of pairs that may come out free of penetration."""
    deep_enough_m2: float = 4e-6
    """Proxy energy from which a pair counts as penetrating."""


@dataclass(frozen=True)
class Perturbed(Record):
    """A pair for training or measuring: truth and input, both in one camera frame."""

    clean: HandParameters
    parameters: HandParameters
    keypoint_confidence: Float[Tensor, "batch hand 21"]


def perturb(
    model: HandModel, proxies: SphereProxies, clean: HandParameters, generator: torch.Generator, config: PerturbConfig = PerturbConfig()
) -> Perturbed:
    """Puts clean hands (one batch axis, any place) before a camera, turned at random, decides what it sees and adds errors."""
    count = clean.shape.shape[0]
    clean = _before_camera(model, clean, generator)
    span = torch.log(torch.tensor([config.smallest, config.largest]))
    amount = torch.exp(span[0] + (span[1] - span[0]) * torch.rand(count, generator=generator))
    scale = amount[:, None, None] * _unsureness(model, proxies, clean, generator, config)
    tries = [_with_errors(model, clean, scale, amount, generator, config) for _ in range(config.candidates)]
    radius = [proxies.radii(t.shape) for t in tries]
    energies = [penetration_energy(proxies.centres_posed(model.pose_hands(t)), r) for t, r in zip(tries, radius, strict=True)]
    chosen = torch.stack([e > config.deep_enough_m2 for e in energies], 1).float().argmax(1)
    chosen = torch.where(torch.rand(count, generator=generator) < config.any_share, torch.zeros_like(chosen), chosen)
    row = torch.arange(count)
    parameters = HandParameters(
        torch.stack([t.pose for t in tries])[chosen, row],
        torch.stack([t.shape for t in tries])[chosen, row],
        torch.stack([t.translation_m for t in tries])[chosen, row],
    )
    return Perturbed(clean, parameters, _confidence(model, clean, scale, generator, config))


def penetrates(model: HandModel, proxies: SphereProxies, parameters: HandParameters, config: PerturbConfig = PerturbConfig()) -> Tensor:
    """Bool per pair, by the proxies."""
    energy = penetration_energy(proxies.centres_posed(model.pose_hands(parameters)), proxies.radii(parameters.shape))
    return energy > config.deep_enough_m2


def _before_camera(model: HandModel, clean: HandParameters, generator: torch.Generator) -> HandParameters:
    """Any orientation, 0.35 to 0.9 m away, up to 20 degrees off the axis."""
    count = clean.shape.shape[0]
    turn = random_rotation((count,), generator)[:, None]
    rest = rest_wrists_m(model, clean.shape)
    wrists = rest + clean.translation_m
    centre = wrists.mean(1, keepdim=True)
    distance = 0.35 + 0.55 * torch.rand(count, 1, generator=generator)
    aim = torch.cat([0.7 * (torch.rand(count, 2, generator=generator) - 0.5), torch.ones(count, 1)], -1)
    place = (turn @ (wrists - centre)[..., None])[..., 0] + (distance * functional.normalize(aim, dim=-1))[:, None]
    wrist_pose = matrix_to_rotvec(turn @ rotvec_to_matrix(clean.pose[:, :, 0]))
    return HandParameters(torch.cat([wrist_pose[:, :, None], clean.pose[:, :, 1:]], 2), clean.shape, place - rest)


def hidden_keypoints(model: HandModel, proxies: SphereProxies, hands: HandParameters) -> Bool[Tensor, "batch hand 21"]:
    """Keypoints with a sphere of the other hand in front of them."""
    posed = model.pose_hands(hands)
    keypoints, centres, radius = posed.joints_and_tips(), proxies.centres_posed(posed).flip(1), proxies.radii(hands.shape).flip(1)
    ray = functional.normalize(keypoints, dim=-1)
    along = ray @ centres.transpose(-1, -2)
    across = (centres.square().sum(-1)[:, :, None] - along.square()).clamp_min(0).sqrt()
    nearer = along < keypoints.norm(dim=-1, keepdim=True) - radius[:, :, None]
    return (nearer & (across < radius[:, :, None])).any(-1)


def _unsureness(
    model: HandModel, proxies: SphereProxies, clean: HandParameters, generator: torch.Generator, config: PerturbConfig
) -> Float[Tensor, "batch hand 21"]:
    """Error scale of each keypoint, 1 for one that is seen and neither easy nor hard."""
    hidden = hidden_keypoints(model, proxies, clean)
    of_hand = torch.exp(config.spread * torch.randn(*hidden.shape[:2], 1, generator=generator))
    of_joint = torch.exp(config.spread * torch.randn(hidden.shape, generator=generator))
    return of_hand * of_joint * torch.where(hidden, config.hidden, 1.0)


def _confidence(
    model: HandModel, clean: HandParameters, scale: Float[Tensor, "batch hand 21"], generator: torch.Generator, config: PerturbConfig
) -> Float[Tensor, "batch hand 21"]:
    """P(2D error < a tenth of the hand's size), of a Laplace error whose scale stage 1 guesses from that of the errors drawn."""
    keypoints = model.pose_hands(clean).joints_and_tips()
    ray = functional.normalize(keypoints.mean((1, 2), keepdim=True), dim=-1)
    flat = keypoints - (keypoints * ray).sum(-1, keepdim=True) * ray
    size_m = (flat.amax(2) - flat.amin(2)).norm(dim=-1, keepdim=True).clamp_min(0.05) / 1.3
    hand_scale = scale.mean(-1, keepdim=True)
    variance = (config.across_m * hand_scale).square()
    variance = variance + (config.wrist_rad * hand_scale * (keypoints - keypoints[:, :, :1]).norm(dim=-1)).square()
    for joint in _KEYPOINT_OF_MANO16[1:]:
        finger = [k for k in range(joint + 1, 21) if (k - 1) // 4 == (joint - 1) // 4]
        lever_m = (keypoints[:, :, finger] - keypoints[:, :, joint, None]).norm(dim=-1)
        variance[:, :, finger] += (config.finger_rad * scale[:, :, joint, None] * lever_m).square()
    laplace = (variance / 2).sqrt() / size_m
    guess = config.guess_hand * torch.randn(*scale.shape[:2], 1, generator=generator)
    guess = guess + config.guess_joint * torch.randn(scale.shape, generator=generator) - config.overconfident
    return 1 - torch.exp(-0.1 / (laplace * guess.exp()))


def _with_errors(
    model: HandModel, clean: HandParameters, scale: Tensor, amount: Tensor, generator: torch.Generator, config: PerturbConfig
) -> HandParameters:
    count = amount.shape[0]

    def draw(*shape: int) -> Tensor:
        return torch.randn(count, *shape, generator=generator)

    bones = (scale[:, :, _KEYPOINT_OF_MANO16[1:]] + scale[:, :, _CHILD[1:]]) / 2
    of_hand = scale.mean(2, keepdim=True)
    # Monocular: half of a joint's error is that of its finger, and spread and twist err less than flexion. Plain: all for themselves.
    finger = draw(2, 5, 1, 3).expand(-1, -1, -1, 3, -1).flatten(2, 3)
    alone = draw(2, 15, 3)
    structured = (0.7 * finger + 0.7 * alone) * torch.tensor([1.0, 0.35, 0.25])
    plain = torch.rand(count, 1, 1, 1, generator=generator) < config.plain_share
    bend = torch.where(plain, alone, structured) * (config.finger_rad * bones)[..., None]
    limits = load_hand_asset().limits
    fingers = left_as_right_rotvec(limits.angles_to_rotvec(functional.pad(bend, (0, 0, 1, 0))))[:, :, 1:]
    R_wrist = rotvec_to_matrix(clean.pose[:, :, 0])
    wrist = matrix_to_rotvec(rotvec_to_matrix(draw(2, 3) * config.wrist_rad * of_hand) @ R_wrist)
    rest = rest_wrists_m(model, clean.shape)
    ray = functional.normalize(rest + clean.translation_m, dim=-1)
    across = draw(2, 3) * config.across_m * of_hand
    shift = draw(2, 1) * config.depth_m * of_hand * ray + across - (across * ray).sum(-1, keepdim=True) * ray
    # One of the hands is off by a finger, to either side.
    swapped = torch.rand(count, 1, 1, generator=generator) < config.swap_share
    which = functional.one_hot(torch.randint(2, (count,), generator=generator), 2)[..., None]
    side = 2.0 * torch.randint(2, (count, 1, 1), generator=generator) - 1
    shift = shift + swapped * which * side * config.finger_width_m * R_wrist[..., 2]
    shape = clean.shape + config.shape * amount[:, None, None].clamp_max(1) * (draw(1, 10) + 0.2 * draw(2, 10))
    place = rest + clean.translation_m + shift - rest_wrists_m(model, shape)
    return HandParameters(torch.cat([wrist[:, :, None], clean.pose[:, :, 1:] + fingers], 2), shape, place)
