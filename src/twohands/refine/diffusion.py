"""Noise levels and the training loss of stage 2: 1,000 steps, cosine schedule, x0 prediction (MDM; Nichol and Dhariwal 2021)."""

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from twohands.collision.energy import penetration_energy
from twohands.collision.proxies import SphereProxies
from twohands.hands.model import HandModel
from twohands.refine.state import PairFrame, StateScale, posed, shape_of, used_numbers

STEPS = 1000


class Denoise(Protocol):
    """Clean estimate of a noisy scaled state; the condition is already bound. A network, a guided one, or any function."""

    def __call__(self, noisy: Float[Tensor, "batch hand 17 13"], step: Float[Tensor, "batch"], /) -> Float[Tensor, "batch hand 17 13"]: ...


def alpha_bar(step: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    """Share of signal variance after `step` noising steps: cos²((t + .008) / 1.008 · π/2) with t = step / 1,000, 1 at step 0.

    Kept at 1e-5 or more, so that the noise can always be told from the signal."""
    t = step.double() / STEPS
    share = torch.cos((t + 0.008) / 1.008 * math.pi / 2).square() / math.cos(0.008 / 1.008 * math.pi / 2) ** 2
    return share.clamp(1e-5, 1.0).to(step.dtype if step.is_floating_point() else torch.float32)


def add_noise(
    clean: Float[Tensor, "batch hand 17 13"], step: Float[Tensor, "batch"], noise: Float[Tensor, "batch hand 17 13"]
) -> Float[Tensor, "batch hand 17 13"]:
    """q(X_t | X_0): √ᾱ X_0 + √(1 - ᾱ) noise."""
    share = alpha_bar(step)[:, None, None, None]
    return share.sqrt() * clean + (1 - share).sqrt() * noise


@dataclass(frozen=True)
class LossWeights:
    """Weights of the training loss; distances count per centimetre."""

    state: float = 0.1
    """‖X_0 - D(X_t, t, X_c)‖² in scaled numbers (eq. 4)."""
    joints: float = 1.0
    """Mean distance of each hand's keypoints relative to its wrist."""
    wrists: float = 0.6
    """Distance between the vectors from the right wrist to the left one."""
    seen: float = 0.3
    """Mean distance of the keypoints across the line of sight: what the image shows must stay."""
    overlap: float = 0.08
    """Root of the summed squared overlaps of the hands' sphere proxies, a pull that does not fade before they are apart. So much costs no accuracy;
    at .3 the joints' errors grow (docs/EXPERIMENTS.md)."""


def diffusion_loss(
    denoise: Denoise,
    scale: StateScale,
    model: HandModel,
    clean_state: Float[Tensor, "batch hand 17 13"],
    condition_state: Float[Tensor, "batch hand 17 13"],
    frame: PairFrame,
    step: Float[Tensor, "batch"],
    noise: Float[Tensor, "batch hand 17 13"],
    weights: LossWeights = LossWeights(),
    proxies: SphereProxies | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of eq. 4 and, since the numbers that count are distances, those of the keypoints that the state makes; with `proxies` also by how
    much its hands overlap. Returns the loss and what to log."""
    clean = scale.normalise(clean_state, condition_state)
    # At the noisiest step there is noise alone. The three thousandths of X_0 that are left of it by the bound of alpha_bar are plain to read
    # where there is no noise either, as where sampling begins: within some thousand steps a network learned to, and unlearned to guess.
    noisy = torch.where((step >= STEPS)[:, None, None, None], noise, add_noise(clean, step, noise))
    guess = denoise(noisy, step)
    used = used_numbers().to(clean.device)
    loss_state = (guess - clean).square()[..., used].mean()
    state = scale.restore(guess, condition_state)
    hands = posed(model, state, frame)
    found = hands.joints_and_tips()
    with torch.no_grad():
        true = posed(model, clean_state, frame).joints_and_tips()
        ray = functional.normalize(true, dim=-1)
    error = found - true
    joints_m = _length(error - error[:, :, :1]).mean()
    wrists_m = _length(error[:, 0, 0] - error[:, 1, 0]).mean()
    seen_m = _length(error - (error * ray).sum(-1, keepdim=True) * ray).mean()
    loss = weights.state * loss_state + 100 * (weights.joints * joints_m + weights.wrists * wrists_m + weights.seen * seen_m)
    overlap_m = torch.zeros((), device=loss.device)
    if proxies is not None and weights.overlap:
        energy = penetration_energy(proxies.centres_posed(hands), proxies.radii(shape_of(state).detach()))
        overlap_m = ((energy + 1e-8).sqrt() - 1e-4).mean()
        loss = loss + 100 * weights.overlap * overlap_m
    distances = {"overlap_mm": overlap_m, "joints_mm": joints_m, "wrists_mm": wrists_m, "seen_mm": seen_m}
    logs = {name: 1e3 * value.detach() for name, value in distances.items()}
    return loss, {"state": loss_state.detach(), **logs, "loss": loss.detach()}


def _length(vector: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch"]:
    """Its gradient would blow up at zero: 0.1 mm under the root."""
    return (vector.square().sum(-1) + 1e-8).sqrt()
