"""Pairs of hands and networks that the tests of stage 2 share: simple, and quick to make."""

import torch

from twohands.collision.proxies import SphereProxies
from twohands.hands.model import HandModel
from twohands.hands.parameters import HandParameters
from twohands.refine.denoiser import Condition, Denoiser, DenoiserConfig
from twohands.refine.state import PairFrame


def random_hands(count: int, seed: int, apart_m: float = 0.05) -> HandParameters:
    """Bent hands at any orientation, half a metre before the camera, wrists about `apart_m` apart."""
    generator = torch.Generator().manual_seed(seed)
    pose = 0.2 * torch.randn(count, 2, 16, 3, generator=generator)
    pose[:, :, 0] = torch.randn(count, 2, 3, generator=generator)
    place = apart_m * torch.randn(count, 2, 3, generator=generator) + torch.tensor([0.0, 0.0, 0.5])
    return HandParameters(pose, torch.randn(count, 2, 10, generator=generator), place)


def crossing_hands(count: int, seed: int, gap_m: float = 0.015) -> HandParameters:
    """Flat hands palm to palm whose distance is less than they are thick: they penetrate."""
    generator = torch.Generator().manual_seed(seed)
    right = torch.cat([torch.tensor([[torch.pi / 2, 0.0, 0.0]]), torch.zeros(15, 3)])
    pose = torch.stack([right * torch.tensor([-1.0, 1.0, 1.0]), right]).expand(count, -1, -1, -1).clone()
    pose = pose + 0.05 * torch.randn(pose.shape, generator=generator)
    # A right hand's fingers point to -x, a left one's to +x: wrists a hand's length apart lay the palms on each other.
    place = torch.tensor([[-0.07, 0.0, 0.5 - gap_m / 2], [0.07, 0.0, 0.5 + gap_m / 2]]).expand(count, -1, -1)
    return HandParameters(pose, torch.zeros(count, 2, 10), place.clone())


def random_denoiser(seed: int, boldness: float = 1.0) -> Denoiser:
    """A small denoiser with nothing at zero; `boldness` scales its guesses."""
    torch.manual_seed(seed)
    denoiser = Denoiser(DenoiserConfig(width=32, depth=2, heads=2))
    for parameter in denoiser.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    torch.nn.init.normal_(denoiser.out.weight, std=0.1 * boldness)
    denoiser.scale.deviation.uniform_(0.02, 0.1)
    denoiser.scale.deviation[16, :3] = 0.005
    return denoiser.eval().requires_grad_(False)


def condition_of(model: HandModel, parameters: HandParameters, seed: int = 0) -> tuple[Condition, PairFrame]:
    """Condition with random confidence, and frame."""
    frame = PairFrame.of(model, parameters)
    confidence = torch.rand(parameters.shape.shape[0], 2, 17, generator=torch.Generator().manual_seed(seed))
    return Condition.of(model, SphereProxies.of(model.data), parameters, frame, confidence), frame
