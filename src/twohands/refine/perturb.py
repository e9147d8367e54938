"""Hands as an early stage 1 would have them: clean hands with errors of a plausible kind, and what it knows of its errors.

Monocular errors have a structure: the depth of one hand against the other is worst, hidden joints are worse than seen ones, fingers err
together and mostly in flexion. The amount is log-uniform, from a touch to fingers that change places.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from twohands.collision.energy import penetration_energy
from twohands.collision.proxies import SphereProxies
from twohands.geometry.rotations import matrix_to_rotvec, random_rotation, rotvec_to_matrix
from twohands.hands.bundled import load_hand_asset
from twohands.hands.mirror import left_as_right_rotvec
from twohands.hands.model import HandModel
from twohands.hands.parameters import HandParameters
from twohands.joints import MANO16, OPENPOSE21
from twohands.record import Record
from twohands.refine.state import rest_wrists_m

_KEYPOINT_OF_MANO16 = tuple(OPENPOSE21.index(name) for name in MANO16)


@dataclass(frozen=True)
class PerturbConfig:
    """Errors at amount 1 for a joint that is seen (confidence 1) and what a hidden one (confidence 0) adds. Metres and radians."""

    smallest: float = 0.3
    largest: float = 2.5
    finger_rad: tuple[float, float] = (0.04, 0.20)
    wrist_rad: tuple[float, float] = (0.04, 0.12)
    across_m: tuple[float, float] = (0.0015, 0.005)
    """Place of a hand across the viewing direction."""
    depth_m: tuple[float, float] = (0.005, 0.010)
    shape: float = 0.4
    candidates: int = 4
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
    confidence = _confidence(model, proxies, clean, generator)
    span = torch.log(torch.tensor([config.smallest, config.largest]))
    amount = torch.exp(span[0] + (span[1] - span[0]) * torch.rand(count, generator=generator))
    tries = [_with_errors(model, clean, confidence, amount, generator, config) for _ in range(config.candidates)]
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
    return Perturbed(clean, parameters, confidence)


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


def _confidence(
    model: HandModel, proxies: SphereProxies, clean: HandParameters, generator: torch.Generator
) -> Float[Tensor, "batch hand 21"]:
    """High where a keypoint is seen, low where a sphere of the other hand lies in front of it; blurred, as detectors are not sure either."""
    hands = model.pose_hands(clean)
    keypoints, centres, radius = hands.keypoints(), proxies.centres_posed(hands).flip(1), proxies.radii(clean.shape).flip(1)
    ray = functional.normalize(keypoints, dim=-1)
    along = ray @ centres.transpose(-1, -2)
    across = (centres.square().sum(-1)[:, :, None] - along.square()).clamp_min(0).sqrt()
    nearer = along < keypoints.norm(dim=-1, keepdim=True) - radius[:, :, None]
    hidden = (nearer & (across < radius[:, :, None])).any(-1)
    seen = 1 - 0.35 * torch.rand(hidden.shape, generator=generator)
    unseen = 0.05 + 0.45 * torch.rand(hidden.shape, generator=generator)
    of_hand = 1 - 0.5 * torch.rand(hidden.shape[0], 2, 1, generator=generator).square()
    return torch.where(hidden, unseen, seen) * of_hand


def _with_errors(
    model: HandModel, clean: HandParameters, confidence: Tensor, amount: Tensor, generator: torch.Generator, config: PerturbConfig
) -> HandParameters:
    count = amount.shape[0]

    def draw(*shape: int) -> Tensor:
        return torch.randn(count, *shape, generator=generator)

    def size(seen_hidden: tuple[float, float], sure: Tensor) -> Tensor:
        return seen_hidden[0] + seen_hidden[1] * (1 - sure)

    amount = amount[:, None, None]
    joint_sure, hand_sure = confidence[:, :, _KEYPOINT_OF_MANO16[1:]], confidence.mean(2)
    # Half of a joint's error is that of its finger; spread and twist err less than flexion.
    finger = draw(2, 5, 1, 3).expand(-1, -1, -1, 3, -1).flatten(2, 3)
    bend = (
        (0.7 * finger + 0.7 * draw(2, 15, 3)) * torch.tensor([1.0, 0.35, 0.25]) * (size(config.finger_rad, joint_sure) * amount)[..., None]
    )
    limits = load_hand_asset().limits
    fingers = left_as_right_rotvec(limits.angles_to_rotvec(functional.pad(bend, (0, 0, 1, 0))))[:, :, 1:]
    tilt = rotvec_to_matrix(draw(2, 3) * (size(config.wrist_rad, hand_sure) * amount[..., 0])[..., None])
    wrist = matrix_to_rotvec(tilt @ rotvec_to_matrix(clean.pose[:, :, 0]))
    rest = rest_wrists_m(model, clean.shape)
    ray = functional.normalize(rest + clean.translation_m, dim=-1)
    depth = draw(2, 1) * (size(config.depth_m, hand_sure) * amount[..., 0])[..., None]
    across = draw(2, 3) * (size(config.across_m, hand_sure) * amount[..., 0])[..., None]
    shift = depth * ray + across - (across * ray).sum(-1, keepdim=True) * ray
    shape = clean.shape + config.shape * amount.clamp_max(1) * (draw(1, 10) + 0.2 * draw(2, 10))
    place = rest + clean.translation_m + shift - rest_wrists_m(model, shape)
    return HandParameters(torch.cat([wrist[:, :, None], clean.pose[:, :, 1:] + fingers], 2), shape, place)
