"""Samplers: functions of (denoise, x_T, steps), where `denoise(x_t, step)` gives X_0."""

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from twohands.refine.diffusion import STEPS, Denoise, add_noise, alpha_bar


def steps_down(count: int, start: float = STEPS) -> list[float]:
    """Noising steps from `start` to 0, `count` intervals of equal length: DDIM's usual choice."""
    if count < 1 or not 0 < start <= STEPS:
        raise ValueError(f"cannot go from step {start} to 0 in {count} steps; use at least 1 step and a start in (0, {STEPS}]")
    return torch.linspace(start, 0, count + 1).tolist()


def seeded_noise(shape: Sequence[int], seeds: Sequence[int]) -> Float[Tensor, "batch hand 17 13"]:
    """Gaussian noise with a seed for each sample, so that a batch of 8 equals 8 batches of 1 (edm2, StackedRandomGenerator).

    Drawn on the CPU, as devices draw different numbers from one seed."""
    return torch.stack([torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds])


def start_noisy(
    clean: Float[Tensor, "batch hand 17 13"], noise: Float[Tensor, "batch hand 17 13"], start: float
) -> Float[Tensor, "batch hand 17 13"]:
    """X at noising step `start` of a guess of the clean hands (SDEdit, Meng et al. 2022)."""
    return add_noise(clean, torch.full((clean.shape[0],), float(start), device=clean.device), noise)


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
