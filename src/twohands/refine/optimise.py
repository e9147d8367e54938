"""The usual remedy, to compare with: gradient descent on the collision energy, with a prior that holds pose and place."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from twohands.collision.proxies import SphereProxies
from twohands.hands.model import HandModel
from twohands.hands.parameters import HandParameters
from twohands.refine.guidance import sphere_energy
from twohands.refine.state import JOINT_TOKENS, TOKENS, WIDTH, PairFrame, pack, posed, shape_of, unpack


@dataclass(frozen=True)
class OptimiseConfig:
    """The prior is a Gaussian around the hands as they came."""

    steps: int = 60
    rate: float = 0.02
    """Of Adam, in standard deviations of the prior; falls to a twentieth, so that it comes to rest."""
    rotation: float = 0.1
    """Standard deviation of the numbers of a joint's rotation."""
    place_m: float = 0.01
    collision: float = 30.0
    """Weight of the squared overlap of the sphere proxies (cm²) against half the squared deviations of the prior."""
    margin_m: float = 0.0008


def optimised(
    model: HandModel, proxies: SphereProxies, parameters: HandParameters, config: OptimiseConfig = OptimiseConfig()
) -> HandParameters:
    """Hands (one batch axis) after the descent; every pair for itself."""
    frame = PairFrame.of(model, parameters)
    start = pack(model, parameters, frame)
    deviation = _deviation(config).to(start)
    energy = sphere_energy(proxies, config.margin_m)
    change = torch.zeros_like(start).requires_grad_()
    optimizer = torch.optim.Adam([change], config.rate)
    for step in range(config.steps):
        for group in optimizer.param_groups:
            group["lr"] = config.rate * (1 - 0.95 * step / config.steps)
        optimizer.zero_grad()
        with torch.enable_grad():
            state = start + change * deviation
            overlap = energy(posed(model, state, frame), shape_of(state).detach())
            (config.collision * overlap.sum() + 0.5 * change.square().sum()).backward()
        optimizer.step()
    with torch.no_grad():
        return unpack(model, start + change * deviation, frame)


def _deviation(config: OptimiseConfig) -> Float[Tensor, "17 13"]:
    deviation = torch.zeros(TOKENS, WIDTH)
    deviation[:JOINT_TOKENS, :6], deviation[JOINT_TOKENS, :3] = config.rotation, config.place_m
    return deviation
