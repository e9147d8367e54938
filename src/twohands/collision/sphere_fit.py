"""Fitting sphere proxies to a closed hand: a greedy cover by inscribed spheres, tied to the skin, then tuned over poses by gradient descent."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.lib.stride_tricks import sliding_window_view
from torch import Tensor

from twohands.collision.inside import inside_depth
from twohands.geometry.mesh import close_mesh, face_normals
from twohands.joints import MANO16_PARENTS


@dataclass(frozen=True)
class FitConfig:
    """How hard to try. The defaults fit 96 spheres to one rest mesh in seconds; more steps pay only with posed meshes to fit them to."""

    count: int = 96
    neighbours: int = 12
    """Skin vertices that carry one sphere."""
    pitch_m: float = 0.002
    """Lattice of candidate centres."""
    steps: int = 150
    """Gradient steps after the greedy cover."""
    meshes_per_step: int = 4
    protrusion_weight: float = 1.0
    """Cost of a sphere that sticks out of the skin, relative to skin left bare. At 1 the two balance; more makes fewer false contacts."""
    inset_m: float = 0.003
    """Points this far under the skin must be covered too, so that the spheres leave no cavity behind the skin."""
    seed: int = 0


@dataclass(frozen=True)
class FittedSpheres:
    """Spheres of one hand: centres are fixed convex combinations of skin vertices."""

    vertex_index: Int[np.ndarray, "sphere 12"]
    vertex_weight: Float[np.ndarray, "sphere 12"]
    radius_m: Float[np.ndarray, "sphere"]
    radius_shape_m: Float[np.ndarray, "sphere 10"]
    """Change of the radius with one standard deviation of each shape coefficient."""


def fit_spheres(
    rest_m: Float[np.ndarray, "vert 3"],
    faces: Int[np.ndarray, "face 3"],
    shapedirs_m: Float[np.ndarray, "vert 3 10"],
    blend_weights: Float[np.ndarray, "vert 16"],
    posed_m: Float[np.ndarray, "mesh vert 3"],
    posed_shape: Float[np.ndarray, "mesh 10"],
    config: FitConfig,
) -> FittedSpheres:
    """Fits spheres to a hand. `faces` look outward and leave at most the wrist open; the lid put on it need not be covered, since an arm
    goes on there. `posed_m` are meshes of the same hand (any poses and the shapes `posed_shape`) over which the fit is to be good; the rest
    mesh alone will do, but then nothing speaks for bent joints."""
    closed_m, closed_faces = close_mesh(rest_m, faces)
    centre, radius = _cover(closed_m, closed_faces, np.arange(len(closed_faces)) < len(faces), config)
    index, weight = _attach(centre, rest_m, config.neighbours)
    radius_shape = np.stack(
        [
            (_depth(_combine(up, index, weight), up, faces) - _depth(_combine(down, index, weight), down, faces)) / 2
            for up, down in ((rest_m + s, rest_m - s) for s in np.moveaxis(shapedirs_m, -1, 0))
        ],
        -1,
    )
    weight, radius = _tune(rest_m, faces, blend_weights, posed_m, posed_shape @ radius_shape.T, index, weight, radius, config)
    return FittedSpheres(index.astype(np.int32), weight.astype(np.float32), radius.astype(np.float32), radius_shape.astype(np.float32))


def neighbouring_parts() -> np.ndarray:
    """(16, 16) bool: the same part, parent and child."""
    near = np.eye(16, dtype=bool)
    for child, parent in enumerate(MANO16_PARENTS):
        if parent >= 0:
            near[child, parent] = near[parent, child] = True
    return near


def _combine(vertices: np.ndarray, index: np.ndarray, weight: np.ndarray) -> np.ndarray:
    return np.einsum("skc,sk->sc", vertices[index], weight)


def _depth(points: np.ndarray, vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Depth under the skin, 0 outside."""
    return inside_depth(points, *close_mesh(vertices, faces))[1]


def _cover(vertices: np.ndarray, faces: np.ndarray, wanted: np.ndarray, config: FitConfig) -> tuple[np.ndarray, np.ndarray]:
    """Centres and radii of `count` inscribed spheres that come within the smallest possible tolerance of nearly all the `wanted` faces."""
    axes = [np.arange(low, high, config.pitch_m) for low, high in zip(vertices.min(0), vertices.max(0), strict=True)]
    lattice = np.stack(np.meshgrid(*axes, indexing="ij"), -1)
    depth = _depth(lattice.reshape(-1, 3), vertices, faces).reshape(lattice.shape[:3])
    # Shallow candidates make specks; near-maxima of the depth among lattice neighbours lie on the medial axis.
    inner = depth > 0.002
    near = sliding_window_view(np.pad(depth, 1, mode="edge"), (3, 3, 3))[inner].reshape(-1, 27)
    medial = depth[inner] >= np.quantile(near, 0.75, axis=1)
    candidate, candidate_depth = lattice[inner][medial], depth[inner][medial]
    corners = vertices[faces]
    target = corners.mean(1)
    area = wanted * np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    gap = (np.linalg.norm(target[None] - candidate[:, None], axis=-1) - candidate_depth[:, None]).astype(np.float32)
    low, high = 0.0, 0.02
    chosen: list[int] = []
    for _ in range(9):
        tolerance = (low + high) / 2
        found = _greedy(gap < tolerance, area, config.count)
        if found is None:
            low = tolerance
        else:
            high, chosen = tolerance, found
    return candidate[chosen], candidate_depth[chosen] + high / 2


def _greedy(covers: np.ndarray, area: np.ndarray, count: int) -> list[int] | None:
    """Set cover, largest gain first; None if `count` sets leave more than 1 % bare."""
    bare, chosen = area.astype(np.float32), []
    for _ in range(count):
        best = int(np.argmax(covers @ bare))
        chosen.append(best)
        bare = np.where(covers[best], 0, bare)
    return chosen if bare.sum() < 0.01 * area.sum() else None


def _attach(centre: np.ndarray, vertices: np.ndarray, neighbours: int) -> tuple[np.ndarray, np.ndarray]:
    """Convex weights over `neighbours` skin vertices whose combination is the centre: non-negative least squares on the nearest 60, where a
    ridge that grows with distance prefers a ring around the centre to a few far vertices, then again on the heaviest."""
    apart = np.linalg.norm(centre[:, None] - vertices, axis=-1)
    near = apart.argsort(1, kind="stable")[:, :60]
    distance = np.take_along_axis(apart, near, 1)
    index = np.empty((len(centre), neighbours), np.int64)
    weight = np.empty((len(centre), neighbours))
    for s, c in enumerate(centre):
        first = _convex_weights(vertices[near[s]] - c, distance[s])
        # Ties (zero weights) go to the nearer vertex; a zero weight may still grow when the fit is tuned.
        keep = np.lexsort((distance[s], -first))[:neighbours]
        index[s], weight[s] = near[s][keep], _convex_weights(vertices[near[s][keep]] - c, distance[s][keep])
    return index, weight


def _convex_weights(offset: np.ndarray, distance: np.ndarray) -> np.ndarray:
    scale = distance.mean()
    ridge = 0.05 * np.diag(distance / scale)
    system = np.concatenate([offset.T / scale * 10, np.full((1, len(offset)), 100.0), ridge])
    weight = non_negative_solution(system, np.concatenate([np.zeros(3), [100.0], np.zeros(len(offset))]))
    return weight / weight.sum()


def non_negative_solution(system: Float[np.ndarray, "row column"], target: Float[np.ndarray, "row"]) -> Float[np.ndarray, "column"]:
    """The x >= 0 that brings `system @ x` nearest to `target`, for systems of full column rank (Lawson and Hanson 1974, chapter 23): the column
    that helps most is let in, and where the solution over those within has negative entries, the first to become so is put out."""
    square, right = system.T @ system, system.T @ target
    solution, free = np.zeros(len(right)), np.zeros(len(right), bool)
    rounding = 1e-12 * np.abs(right).max()
    for _ in range(3 * len(solution)):
        slope = np.where(free, -np.inf, right - square @ solution)
        if slope.max() <= rounding:
            break
        free[slope.argmax()] = True
        while True:
            wished = np.zeros_like(solution)
            wished[free] = np.linalg.solve(square[np.ix_(free, free)], right[free])
            wrong = free & (wished <= 0)
            if not wrong.any():
                break
            step = solution[wrong] / (solution[wrong] - wished[wrong])
            solution += step.min() * (wished - solution)
            free[np.flatnonzero(wrong)[step.argmin()]] = False
            free &= solution > 0
            solution[~free] = 0.0
        solution = wished
    return solution


def _tune(
    rest: np.ndarray,
    faces: np.ndarray,
    blend_weights: np.ndarray,
    posed: np.ndarray,
    radius_change: np.ndarray,
    index: np.ndarray,
    weight: np.ndarray,
    radius: np.ndarray,
    config: FitConfig,
) -> tuple[np.ndarray, np.ndarray]:
    """Moves the weights and radii so that the skin of the posed meshes lies on the union of the spheres.

    Skin is compared only with spheres of its own and neighbouring parts: where a fingertip dips into the palm, the palm is not to blame."""
    closed_faces = close_mesh(rest, faces)[1]
    lid, rim = closed_faces[len(faces) :], np.unique(closed_faces[len(faces) :, :2])
    corner_part = np.append(blend_weights.argmax(1), 0)
    sphere_part = np.einsum("skj,sk->sj", blend_weights[index], weight).argmax(1)
    stranger = torch.from_numpy(~neighbouring_parts()[np.ix_(corner_part[closed_faces[:, 0]], sphere_part)]).float()
    logit = torch.from_numpy(np.log(weight + 1e-3)).float().requires_grad_()
    log_radius = torch.from_numpy(np.log(radius)).float().requires_grad_()
    gather, face = torch.from_numpy(index), torch.from_numpy(closed_faces).long()
    meshes, change = torch.from_numpy(posed).float(), torch.from_numpy(radius_change).float()
    closed = torch.cat([meshes, meshes[:, rim].mean(1, keepdim=True)], 1) if len(lid) else meshes
    is_skin = torch.arange(len(face)) < len(faces)
    interior = _interior_points(rest, faces)
    optimizer = torch.optim.Adam([{"params": [logit], "lr": 0.03}, {"params": [log_radius], "lr": 0.01}])
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(config.steps, 1))
    generator = torch.Generator().manual_seed(config.seed)
    rest_mesh = torch.from_numpy(rest).float()
    for _ in range(config.steps):
        pick = torch.randperm(len(meshes), generator=generator)[: config.meshes_per_step]
        skin, unit = closed[pick], logit.softmax(-1)
        centre = (skin[:, gather] * unit[..., None]).sum(-2)
        size = (log_radius.exp() + change[pick]).clamp_min(1e-3)
        point = skin[:, face].mean(-2)
        at_skin = _union_distance(point, centre, size, stranger)
        under_skin = _union_distance(point - config.inset_m * face_normals(skin, face), centre, size, stranger)[:, is_skin]
        inside = _union_distance(interior[None], (rest_mesh[gather] * unit[..., None]).sum(-2)[None], log_radius.exp()[None], None)
        error_mm = 1e3 * torch.where(is_skin, at_skin, at_skin.clamp_max(0))
        loss = (
            torch.nn.functional.huber_loss(error_mm * torch.where(error_mm < 0, config.protrusion_weight, 1.0), torch.zeros_like(error_mm))
            + (1e3 * under_skin).clamp_min(0).mean()
            + (1e3 * inside).clamp_min(0).mean()
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return logit.softmax(-1).detach().numpy(), log_radius.exp().detach().numpy()


def _interior_points(vertices: np.ndarray, faces: np.ndarray) -> Float[Tensor, "point 3"]:
    """A 4 mm lattice of points at least 2 mm under the skin."""
    axes = [np.arange(low, high, 0.004) for low, high in zip(vertices.min(0), vertices.max(0), strict=True)]
    lattice = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
    return torch.from_numpy(lattice[_depth(lattice, vertices, faces) > 0.002]).float()


def _union_distance(points: Tensor, centre: Tensor, radius: Tensor, stranger: Tensor | None) -> Tensor:
    """Signed distance from points to the union of the spheres (negative within)."""
    gap = torch.cdist(points, centre, compute_mode="donot_use_mm_for_euclid_dist") - radius[:, None]
    return (gap if stranger is None else gap + stranger).min(-1).values
