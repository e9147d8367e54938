"""Differentiable collision energies: over sphere proxies for the sampling loop, and the paper's rule over vertices to compare with."""

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def penetration_energy(
    centres_m: Float[Tensor, "*batch hand sphere 3"],
    radius_m: Float[Tensor, "... hand sphere"],
    margin_m: float = 0.0,
) -> Float[Tensor, "*batch"]:
    """How much the spheres of one hand overlap those of the other: sum of max(0, r_i + r_j + margin - |c_i - c_j|)^2, in m^2.

    Zero when no two spheres come nearer than `margin_m`, where every gradient is zero too. Differentiable in centres and radii. Cost grows
    with the pairs that do overlap, since only those are differentiated."""
    _check(centres_m, radius_m)
    radius_m = radius_m.expand(centres_m.shape[:-1])
    (left, right), (left_radius, right_radius) = centres_m.unbind(-3), radius_m.unbind(-2)
    return _overlap_energy(left, right, left_radius, right_radius, margin_m, None)


def self_penetration_energy(
    centres_m: Float[Tensor, "*batch hand sphere 3"],
    radius_m: Float[Tensor, "... hand sphere"],
    may_collide: Bool[Tensor, "hand sphere sphere"],
    margin_m: float = 0.0,
) -> Float[Tensor, "*batch hand"]:
    """The same energy within each hand, over the pairs that `may_collide` (`SphereProxies.may_collide`) leaves: finger against finger, tip
    against palm, but not a phalanx against its neighbour. Its diagonal and one of its triangles are ignored; every pair counts once."""
    _check(centres_m, radius_m)
    radius_m = radius_m.expand(centres_m.shape[:-1])
    return _overlap_energy(centres_m, centres_m, radius_m, radius_m, margin_m, may_collide.triu(1))


def _check(centres_m: Tensor, radius_m: Tensor) -> None:
    if centres_m.ndim < 3 or centres_m.shape[-3] != 2 or centres_m.shape[-1] != 3:
        raise ValueError(f"centres have shape {tuple(centres_m.shape)}; hand over (*batch, 2 hands, spheres, 3)")
    if radius_m.shape[-2:] != centres_m.shape[-3:-1]:
        raise ValueError(f"radii have shape {tuple(radius_m.shape)}; centres {tuple(centres_m.shape)} need (..., 2, {centres_m.shape[-2]})")


def _overlap_energy(
    a: Float[Tensor, "*batch first 3"],
    b: Float[Tensor, "*batch second 3"],
    a_radius: Float[Tensor, "*batch first"],
    b_radius: Float[Tensor, "*batch second"],
    margin_m: float,
    allowed: Bool[Tensor, "... first second"] | None,
) -> Float[Tensor, "*batch"]:
    batch = a.shape[:-2]
    a, b, a_radius, b_radius = (x.reshape(-1, *x.shape[len(batch) :]) for x in (a, b, a_radius, b_radius))
    with torch.no_grad():
        # Few of the pairs touch: find those without a graph, then measure only them. Squared distances by one matrix product lose digits far
        # from the origin, hence the shift to a middle; the slack keeps a pair that rounding would lose, and the clamp below judges it exactly.
        middle = b.mean(1, keepdim=True)
        a_near, b_near = a - middle, b - middle
        ones_a, ones_b = torch.ones_like(a_radius)[..., None], torch.ones_like(b_radius)[..., None]
        left = torch.cat([a_near, a_near.square().sum(-1, keepdim=True), ones_a], -1)
        right = torch.cat([-2 * b_near, ones_b, b_near.square().sum(-1, keepdim=True)], -1)
        reach = a_radius[:, :, None] + (b_radius[:, None, :] + (margin_m + 1e-6))
        near = (left @ right.transpose(-1, -2) < reach.square_()).view(*batch, a.shape[1], b.shape[1])
        if allowed is not None:
            near = near & allowed
        pair = near.view(-1, a.shape[1] * b.shape[1]).nonzero()
        sample, i, j = pair[:, 0], pair[:, 1] // b.shape[1], pair[:, 1] % b.shape[1]
        i, j = sample * a.shape[1] + i, sample * b.shape[1] + j
    gap = torch.linalg.vector_norm(a.flatten(0, 1)[i] - b.flatten(0, 1)[j], dim=-1)
    overlap = (a_radius.flatten()[i] + b_radius.flatten()[j] + margin_m - gap).clamp_min(0)
    return a.new_zeros(a.shape[0]).index_add(0, sample, overlap.square()).view(batch)


def paper_collision_loss(
    vertices_m: Float[Tensor, "*batch hand vert 3"],
    normals: Float[Tensor, "*batch hand vert 3"],
    distance_m: float = 0.01,
    angle_rad: float = math.radians(120),
    rho_m2: float = 2.5e-5,
) -> Float[Tensor, "*batch"]:
    """The collision loss of the paper (eqs. 5, 6): sum over vertex pairs of d^2 / (d^2 + rho), Geman-McClure.

    A pair collides if it is nearer than `distance_m` and the cosine of its outward normals is below cos(`angle_rad`). The paper prints
    d^2 / (d^2 - rho^2), which has a pole; this is the robustifier meant. It names no thresholds: these are ours. Two skins that face
    each other without touching satisfy the rule as well, so it marks the inside poorly; kept for comparison."""
    if vertices_m.shape != normals.shape:
        raise ValueError(f"normals have shape {tuple(normals.shape)}; give one for each vertex, {tuple(vertices_m.shape)}")
    batch = vertices_m.shape[:-3]
    vertices_m, normals = vertices_m.reshape(-1, *vertices_m.shape[-3:]), normals.reshape(-1, *normals.shape[-3:])
    losses = [_paper_loss(v, n, distance_m, angle_rad, rho_m2) for v, n in zip(vertices_m, normals, strict=True)]
    return torch.stack(losses).view(batch) if losses else vertices_m.new_zeros(batch)


def _paper_loss(
    vertices_m: Float[Tensor, "hand vert 3"], normals: Float[Tensor, "hand vert 3"], distance_m: float, angle_rad: float, rho_m2: float
) -> Float[Tensor, ""]:
    i, j = _colliding(vertices_m.detach(), normals.detach(), distance_m, angle_rad)
    squared = (vertices_m[0, i] - vertices_m[1, j]).square().sum(-1)
    return (squared / (squared + rho_m2)).sum()


def _colliding(
    vertices_m: Float[Tensor, "hand vert 3"], normals: Float[Tensor, "hand vert 3"], distance_m: float, angle_rad: float
) -> tuple[Int[Tensor, "pair"], Int[Tensor, "pair"]]:
    opposing = normals[0] @ normals[1].T < math.cos(angle_rad)
    near = torch.cdist(vertices_m[0], vertices_m[1]) < distance_m
    i, j = (near & opposing).nonzero(as_tuple=True)
    return i, j
