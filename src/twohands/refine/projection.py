"""The last steps of stage 2, from a plausible pair to one that shares no volume: fingers and wrists give way where spheres overlap, and what
is still caught is drawn apart along the shortest way out. All of it acts on each pair alone."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from twohands.collision.energy import penetration_energy
from twohands.collision.proxies import SphereProxies
from twohands.hands.model import HandModel
from twohands.refine.state import JOINT_TOKENS, TOKENS, WIDTH, PairFrame, along_view, posed, shape_of

_GOLDEN = 2.399963229728653


@dataclass(frozen=True)
class ProjectionConfig:
    """How far what gives way. Chosen on pairs that are not of the benchmark."""

    steps: int = 10
    """Of each round at most; a round ends when no spheres overlap."""
    length: float = 1.4
    """Of a step, relative to Polyak's."""
    margin_m: tuple[float, ...] = (0.0008, 0.0020)
    """Kept between the spheres in each round, as long as the exact test still finds a crossing."""
    finger: float = 0.12
    """How far the numbers of a finger joint's rotation give way against the others; then those of the wrist's, and the place (m). Fingers
    give way first: where a hand is, is known better than how its fingers bend."""
    wrist: float = 0.03
    place_m: float = 0.004
    depth_ease: float = 0.3
    """How much more readily wrists move along the line of sight."""
    deep_ease: float = 8.0
    """The same, beyond that, for hands that lie in each other by more than fingers explain: there the distance of a hand is wrong, which the
    image does not show."""
    deep_m: tuple[float, float] = (0.008, 0.020)
    """Overlap of two spheres from which that begins, and is full."""
    directions: int = 64
    """Ways out that are looked at where hands must be drawn apart."""
    across_cost: float = 3.0
    """What a metre across the line of sight costs beyond a metre along it."""
    widen_m: float = 0.0015
    """What is added where spheres are free and skins still cross."""
    tries: int = 8


def give_way(
    model: HandModel,
    proxies: SphereProxies,
    state: Float[Tensor, "batch hand 17 13"],
    frame: PairFrame,
    confidence: Float[Tensor, "batch hand 17"],
    view: Float[Tensor, "batch hand 3"],
    margin_m: float,
    config: ProjectionConfig,
) -> Float[Tensor, "batch hand 17 13"]:
    """Steps of Polyak's length down the overlap of the two hands' spheres, whose least value is known to be zero. What is sure moves least;
    shapes stay."""
    reach = _reach(config).to(state)
    weight = reach.square() * (1.05 - confidence)[..., None]
    ease = (config.place_m**2 * (config.depth_ease + config.deep_ease * _depth(model, proxies, state, frame, config)))[:, None, None, None]
    for _ in range(config.steps):
        value, gradient = _overlap(model, proxies, state, frame, margin_m)
        if not bool((value > 0).any()):
            break
        way = weight * gradient + ease * along_view(gradient, view)
        slope = (gradient * way).sum((1, 2, 3)).clamp_min(1e-20)
        length = torch.where(value > 0, config.length * value / slope, torch.zeros_like(value))
        step = length[:, None, None, None] * way
        # No number may leap by more than three times its reach.
        share = (step.abs() / reach.clamp_min(1e-9)).where(reach > 0, torch.zeros_like(step))
        state = state - step / (share.amax((1, 2, 3), keepdim=True) / 3).clamp_min(1.0)
    return state


def _reach(config: ProjectionConfig) -> Float[Tensor, "17 13"]:
    reach = torch.zeros(TOKENS, WIDTH)
    reach[0, :6], reach[1:JOINT_TOKENS, :6], reach[JOINT_TOKENS, :3] = config.wrist, config.finger, config.place_m
    return reach


@torch.no_grad()
def _depth(model: HandModel, proxies: SphereProxies, state: Tensor, frame: PairFrame, config: ProjectionConfig) -> Float[Tensor, "batch"]:
    """0 for hands that touch, 1 for hands that lie deep in each other, by the two most overlapping spheres."""
    centres, radius = proxies.centres_posed(posed(model, state, frame)), proxies.radii(shape_of(state))
    gap = torch.cdist(centres[:, 0], centres[:, 1]) - radius[:, 0, :, None] - radius[:, 1, None, :]
    shallow, deep = config.deep_m
    return ((-gap.flatten(1).amin(1) - shallow) / (deep - shallow)).clamp(0, 1)


def _overlap(
    model: HandModel, proxies: SphereProxies, state: Tensor, frame: PairFrame, margin_m: float
) -> tuple[Float[Tensor, "batch"], Float[Tensor, "batch hand 17 13"]]:
    with torch.enable_grad():
        variable = state.detach().requires_grad_()
        hands = posed(model, variable, frame)
        value = penetration_energy(proxies.centres_posed(hands), proxies.radii(shape_of(state)), margin_m)
        (gradient,) = torch.autograd.grad(value.sum(), variable)
    return value.detach(), gradient


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
) -> Float[Tensor, "batch 3"]:
    """The shift along `way` by at least `length_m` after which `crosses(shift, rows)` finds nothing, or the last one tried."""
    shift = length_m[:, None] * way
    caught = torch.arange(len(way), device=way.device)
    for attempt in range(config.tries):
        caught = caught[crosses(shift[caught], caught).to(caught.device)]
        if not len(caught):
            break
        shift[caught] = (length_m[caught] + (attempt + 1) * config.widen_m)[:, None] * way[caught]
    return shift


def _sphere(count: int) -> Float[Tensor, "count 3"]:
    """Directions spread evenly (Fibonacci's spiral)."""
    k = torch.arange(count) + 0.5
    z = 1 - 2 * k / count
    r = (1 - z.square()).sqrt()
    return torch.stack([r * torch.cos(_GOLDEN * k), r * torch.sin(_GOLDEN * k), z], -1)
