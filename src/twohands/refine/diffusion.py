"""Noise levels and the training loss of stage 2: 1,000 steps, cosine schedule, x0 prediction (MDM; Nichol and Dhariwal 2021)."""

import math
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from twohands.hands.model import HandModel
from twohands.refine.state import PairFrame, StateScale, posed, used_numbers

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


def diffusion_loss(
    denoise: Denoise,
    scale: StateScale,
    model: HandModel,
    clean_state: Float[Tensor, "batch hand 17 13"],
    condition_state: Float[Tensor, "batch hand 17 13"],
    frame: PairFrame,
    step: Float[Tensor, "batch"],
    noise: Float[Tensor, "batch hand 17 13"],
    keypoint_weight: float,
) -> tuple[Tensor, dict[str, Tensor]]:
    """‖X_0 - D(X_t, t, X_c)‖² (eq. 4), in scaled numbers, averaged over those in use; plus, with `keypoint_weight` (per cm), the mean
    distance of the 21 keypoints of both hands in their common frame, which is what the numbers are for. Returns the loss and what to log."""
    clean = scale.normalise(clean_state, condition_state)
    guess = denoise(add_noise(clean, step, noise), step)
    used = used_numbers().to(clean.device)
    loss_state = (guess - clean).square()[..., used].mean()
    loss, logs = loss_state, {"state": loss_state.detach()}
    if keypoint_weight:
        found = posed(model, scale.restore(guess, condition_state), frame).keypoints()
        with torch.no_grad():
            true = posed(model, clean_state, frame).keypoints()
        # The square root's gradient blows up at zero distance: 0.1 mm under the root.
        distance_m = ((found - true).square().sum(-1) + 1e-8).sqrt().mean()
        loss = loss + keypoint_weight * 100 * distance_m
        logs["keypoints_mm"] = distance_m.detach() * 1000
    return loss, logs | {"loss": loss.detach()}
