"""Samplers: functions of (denoise, x_T, steps), where `denoise(x_t, step) -> X_0` may be a network, a guided one, or any function."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from twohands.refine.diffusion import STEPS, alpha_bar


class Denoise(Protocol):
    """Clean estimate of a noisy scaled state; the condition is already bound."""

    def __call__(self, noisy: Float[Tensor, "batch hand 17 13"], step: Float[Tensor, "batch"]) -> Float[Tensor, "batch hand 17 13"]: ...


def steps_down(count: int, start: float = STEPS) -> list[float]:
    """Noising steps from `start` to 0, `count` intervals of equal length: DDIM's usual choice."""
    if count < 1 or not 0 < start <= STEPS:
        raise ValueError(f"cannot go from step {start} to 0 in {count} steps; use at least 1 step and a start in (0, {STEPS}]")
    return torch.linspace(start, 0, count + 1).tolist()


def seeded_noise(shape: Sequence[int], seeds: Sequence[int]) -> Float[Tensor, "batch hand 17 13"]:
    """Gaussian noise with a seed for each sample, so that a batch of 8 equals 8 batches of 1 (edm2, StackedRandomGenerator).

    Drawn on the CPU, as devices draw different numbers from one seed."""
    return torch.stack([torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds])


def ddim(
    denoise: Denoise,
    noisy: Float[Tensor, "batch hand 17 13"],
    steps: Sequence[float],
    callback: Callable[[float, Tensor, Tensor], None] | None = None,
) -> Float[Tensor, "batch hand 17 13"]:
    """Deterministic DDIM (Song et al. 2021, eta = 0) along falling noising `steps`; the last must be 0. `noisy` is X at `steps[0]`.

    `callback(step, x_t, X_0 estimate)` sees every step. Each sample is treated alone: no number of one reaches another."""
    if len(steps) < 2 or steps[-1] != 0 or any(a <= b for a, b in pairwise(steps)):
        raise ValueError(f"noising steps must fall and end at 0, got {list(steps)[:4]}...; take them from steps_down")
    x = noisy
    for now, then in pairwise(steps):
        clean = denoise(x, torch.full((x.shape[0],), float(now), device=x.device))
        if callback is not None:
            callback(now, x, clean)
        share, share_then = (alpha_bar(torch.tensor(float(s), dtype=torch.float64)) for s in (now, then))
        noise = (x - share.sqrt().to(x) * clean) / (1 - share).sqrt().to(x)
        x = share_then.sqrt().to(x) * clean + (1 - share_then).sqrt().to(x) * noise
    return x
