"""The last steps of stage 2, from a plausible pair to one that shares no volume: hands that were parted touch again, fingers and wrists give
way where spheres overlap (give_way.py), and what is still caught is drawn apart along the shortest way out. Each pair alone."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from twohands.refine.give_way import GiveWayConfig

_GOLDEN = 2.399963229728653


@dataclass(frozen=True)
class ProjectionConfig:
    """How hands are parted. Chosen on pairs that are not of the benchmark."""

    give_way: GiveWayConfig = field(default_factory=GiveWayConfig)
    margin_m: tuple[float, ...] = (0.0008, 0.0020)
    """Kept between the spheres in each round of giving way, as long as the exact test still finds a crossing."""
    apart_m: tuple[float, ...] = (0.0008, 0.004, 0.012)
    """Kept between the spheres of hands that are drawn apart, in each attempt at another way out."""
    directions: int = 64
    """Ways out that are looked at where hands must be drawn apart."""
    across_cost: float = 3.0
    """What a metre across the line of sight costs beyond a metre along it."""
    widen_m: float = 0.0015
    """What is added where spheres are free and skins still cross."""
    tries: int = 8


def brought_together(
    centres: Float[Tensor, "batch hand sphere 3"],
    radius: Float[Tensor, "batch hand sphere"],
    gap_m: float,
    farthest_m: float,
) -> Float[Tensor, "batch 3"]:
    """Shift of the left hand relative to the right one that closes the gap between their nearest spheres to `gap_m`; zero where they touch
    already or are farther apart than `farthest_m`."""
    between = torch.cdist(centres[:, 0], centres[:, 1]) - radius[:, 0, :, None] - radius[:, 1, None, :]
    width, nearest = between.flatten(1).min(1)
    row = torch.arange(len(width), device=width.device)
    i, j = nearest // between.shape[2], nearest % between.shape[2]
    way = functional.normalize(centres[row, 1, j] - centres[row, 0, i], dim=-1)
    wanted = (width > gap_m) & (width < farthest_m)
    return torch.where(wanted[:, None], (width - gap_m)[:, None] * way, 0.0)


def ways_out(
    centres: Float[Tensor, "batch hand sphere 3"],
    radius: Float[Tensor, "batch hand sphere"],
    ray: Float[Tensor, "batch 3"] | None,
    margin_m: float,
    config: ProjectionConfig,
) -> tuple[Float[Tensor, "batch 3"], Float[Tensor, "batch"]]:
    """The cheapest direction, and how far along it the left hand must go until no spheres overlap: for each two spheres the way to where they
    touch is a root of a quadratic, so nothing is searched but the direction. `ray` is the line of sight, None where there is none."""
    between = centres[:, 0, :, None] - centres[:, 1, None, :]
    reach = radius[:, 0, :, None] + radius[:, 1, None, :] + margin_m
    directions = _sphere(config.directions).to(centres).expand(len(centres), -1, 3)
    if ray is not None:
        directions = torch.cat([directions, torch.stack([ray, -ray], 1)], 1)
    far = (between.square().sum(-1) - reach.square())[:, None]
    costs = []
    for way in directions.split(8, 1):
        along = torch.einsum("bijc,bdc->bdij", between, way)
        discriminant = along.square() - far
        leave = torch.where(discriminant > 0, discriminant.clamp_min(0).sqrt() - along, 0.0)
        costs.append(leave.flatten(2).amax(2).clamp_min(0))
    length = torch.cat(costs, 1)
    cost = length
    if ray is not None:
        cost = length * (1 + config.across_cost * (1 - (directions @ ray[:, :, None])[..., 0].square()).clamp_min(0).sqrt())
    best = cost.argmin(1)
    row = torch.arange(len(best), device=best.device)
    return directions[row, best], length[row, best]


def drawn_apart(
    crosses: Callable[[Tensor, Tensor], Tensor], way: Float[Tensor, "batch 3"], length_m: Float[Tensor, "batch"], config: ProjectionConfig
) -> tuple[Float[Tensor, "batch 3"], Bool[Tensor, "batch"]]:
    """The shift along `way` by at least `length_m` after which `crosses(shift, rows)` finds nothing, or the last one tried; and which are free."""
    shift = length_m[:, None] * way
    caught = torch.arange(len(way), device=way.device)
    for attempt in range(config.tries):
        caught = caught[crosses(shift[caught], caught).to(caught.device)]
        if not len(caught):
            break
        if attempt < config.tries - 1:
            shift[caught] = (length_m[caught] + (attempt + 1) * config.widen_m)[:, None] * way[caught]
    free = torch.ones(len(way), dtype=torch.bool, device=way.device)
    free[caught] = False
    return shift, free


def _sphere(count: int) -> Float[Tensor, "count 3"]:
    """Directions spread evenly (Fibonacci's spiral)."""
    k = torch.arange(count) + 0.5
    z = 1 - 2 * k / count
    r = (1 - z.square()).sqrt()
    return torch.stack([r * torch.cos(_GOLDEN * k), r * torch.sin(_GOLDEN * k), z], -1)
