"""Collision guidance: takes a denoiser and returns one whose clean estimates have stepped down the collision energy (eqs. 5, 6)."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from twohands.collision.energy import paper_collision_loss, penetration_energy, self_penetration_energy
from twohands.collision.proxies import SphereProxies
from twohands.geometry.mesh import vertex_normals
from twohands.hands.model import HandModel, PosedHands
from twohands.refine.denoiser import Condition, Denoiser
from twohands.refine.diffusion import Denoise
from twohands.refine.state import PairFrame, StateScale, posed, shape_numbers, shape_of

Energy = Callable[[PosedHands, Tensor], Tensor]
"""Posed hands and their shape (batch, 2, 10) to one number per pair."""


def bind(denoiser: Denoiser, condition: Condition) -> Denoise:
    """A denoiser with its condition, as samplers want it."""

    def denoise(noisy: Tensor, step: Tensor) -> Tensor:
        return denoiser(noisy, step, condition)

    return denoise


def sphere_energy(proxies: SphereProxies, margin_m: float = 0.0, self_weight: float = 0.3) -> Energy:
    """Squared overlap of sphere proxies in cm²: of the two hands with each other, and of each with itself."""

    def energy(hands: PosedHands, shape: Tensor) -> Tensor:
        centres, radius = proxies.centres_posed(hands), proxies.radii(shape)
        total = penetration_energy(centres, radius, margin_m)
        if self_weight:
            total = total + self_weight * self_penetration_energy(centres, radius, proxies.may_collide).sum(-1)
        return 1e4 * total

    return energy


def paper_energy() -> Energy:
    """The paper's loss over near vertices with opposing normals, to compare with; a hundred times slower than the spheres."""

    def energy(hands: PosedHands, shape: Tensor) -> Tensor:
        vertices = hands.mesh().vertices_m
        normals = torch.stack([vertex_normals(vertices[:, hand], hands.model.faces[hand]) for hand in range(2)], 1)
        return paper_collision_loss(vertices, normals)

    return energy


def guided(
    denoise: Denoise,
    model: HandModel,
    scale: StateScale,
    condition: Condition,
    frame: PairFrame,
    energy: Energy,
    strength: float,
    steps: int = 1,
) -> Denoise:
    """X̂_0 <- X̂_0 - strength · ∇E(X̂_0) (eq. 6, in scaled numbers), `steps` times at each denoising step. Strength 0 changes no bit.

    The gradient does not pass through the network: it moves the estimate, not what it was made from."""
    if strength == 0:
        return denoise

    def guided_denoise(noisy: Tensor, step: Tensor) -> Tensor:
        clean = denoise(noisy, step).detach()
        for _ in range(steps):
            clean = clean - strength * energy_and_gradient(clean, model, scale, condition, frame, energy)[1]
        return clean

    return guided_denoise


def energy_and_gradient(
    scaled: Float[Tensor, "batch hand 17 13"], model: HandModel, scale: StateScale, condition: Condition, frame: PairFrame, energy: Energy
) -> tuple[Float[Tensor, "batch"], Float[Tensor, "batch hand 17 13"]]:
    """An energy of the hands and its gradient in the scaled numbers; zero for the shape, since thinner hands are no remedy."""
    with torch.enable_grad():
        variable = scaled.detach().requires_grad_()
        state = scale.restore(variable, condition.state)
        value = energy(posed(model, state, frame), shape_of(state).detach())
        (gradient,) = torch.autograd.grad(value.sum(), variable)
    return value.detach(), gradient.masked_fill(shape_numbers().to(gradient.device), 0.0)
