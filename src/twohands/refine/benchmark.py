"""Stage 2 and its rivals on pairs whose truth is known: the methods, and everything that is measured of their answers.

PenVol is the exact shared volume of the closed meshes in cm³ (and, by the voxel protocol, at 1 mm); PenDist the distance to the other hand's
skin of the deepest vertex inside it; ProxRatio the share of pairs whose surfaces come within 5 mm. MPJPE and MPVPE are relative to each
hand's own wrist, over 21 keypoints and all vertices, both hands; MRRPE is the error of the vector between the wrists. "Contact kept" is the
share of the pairs whose true surfaces come within 5 mm that still do.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from twohands.collision.inside import penetrating_vertices, surface_gap_m, vertex_gaps_m
from twohands.collision.volume import voxel_volume_cm3
from twohands.hands.model import HandModel
from twohands.hands.parameters import HandParameters
from twohands.record import Record
from twohands.refine.optimise import optimised
from twohands.refine.perturb import Perturbed
from twohands.refine.refiner import Refiner, shared_volumes_cm3

Method = Literal["input", "optimisation", "diffusion", "paper_guidance", "ours"]
METHODS: tuple[Method, ...] = get_args(Method)
TOUCH_CM3 = 0.01
"""The share of pairs that share at most this much is reported."""
CONTACT_M = 0.005
LONGEST_EDGE_M = 0.03
"""No two points of a hand's surface are farther from a vertex than this."""
RIGHT_MM = 5.0
"""A keypoint that came in with a smaller error, relative to its wrist, was right."""
PAPER_STEPS, PAPER_STRENGTH = 4, 0.002

Answer = Callable[[HandModel, Perturbed], HandParameters]


def answer_of(method: Method, refiner: Refiner) -> Answer:
    """A method as a function of pairs. All that sample do so from the same denoiser."""
    match method:
        case "input":
            return lambda model, pairs: pairs.parameters
        case "optimisation":
            return lambda model, pairs: optimised(model, refiner.prepared(model)[1], pairs.parameters)
        case "diffusion":
            plain = Refiner(refiner.denoiser, replace(refiner.config, guidance=0.0))
            return lambda model, pairs: plain.sample(model, pairs.parameters, pairs.keypoint_confidence)
        case "paper_guidance":
            config = replace(refiner.config, guidance=PAPER_STRENGTH, energy="paper", steps=PAPER_STEPS)
            paper = Refiner(refiner.denoiser, config)
            return lambda model, pairs: paper.sample(model, pairs.parameters, pairs.keypoint_confidence)
        case "ours":
            return lambda model, pairs: refiner.refine(model, pairs.parameters, pairs.keypoint_confidence).parameters


def keypoint_errors_mm(
    model: HandModel, parameters: HandParameters, truth: HandParameters
) -> tuple[Float[Tensor, "batch"], Float[Tensor, "batch"]]:
    """MPJPE (21 keypoints, each hand relative to its own wrist, mean of both hands) and MRRPE (error of the vector between the wrists)."""
    found, true = model.pose_hands(parameters).joints_and_tips(), model.pose_hands(truth).joints_and_tips()
    between = (found[:, 0, 0] - found[:, 1, 0]) - (true[:, 0, 0] - true[:, 1, 0])
    return _relative_errors_mm(found, true).mean((1, 2)), 1e3 * between.norm(dim=-1)


def _relative_errors_mm(
    found: Float[Tensor, "batch hand point 3"], true: Float[Tensor, "batch hand point 3"]
) -> Float[Tensor, "batch hand point"]:
    return 1e3 * ((found - found[:, :, :1]) - (true - true[:, :, :1])).norm(dim=-1)


@dataclass(frozen=True)
class Measured(Record):
    """What was measured of each pair."""

    volume_cm3: Float[Tensor, "batch"]
    voxel_cm3: Float[Tensor, "batch"]
    pen_dist_mm: Float[Tensor, "batch"]
    near: Bool[Tensor, "batch"]
    """The surfaces come within 5 mm."""
    mpjpe_mm: Float[Tensor, "batch"]
    mpvpe_mm: Float[Tensor, "batch"]
    mrrpe_mm: Float[Tensor, "batch"]
    right_moved_mm: Float[Tensor, "batch"]
    """How far the keypoints that were right have moved against their wrist; NaN where none was."""


def near_each_other(model: HandModel, parameters: HandParameters) -> Bool[Tensor, "batch"]:
    """Whether the two surfaces come within CONTACT_M."""
    faces = model.closed_faces().numpy()
    vertices = model.closed_vertices(model.pose_hands(parameters).mesh().vertices_m).double().numpy()
    return torch.tensor([_near(pair, faces) for pair in vertices], dtype=torch.bool)


def _near(vertices: Float[np.ndarray, "hand vert 3"], faces: Int[np.ndarray, "hand face 3"]) -> bool:
    """The nearest two vertices decide, unless only the faces between them can."""
    between_m = vertex_gaps_m(vertices, CONTACT_M + LONGEST_EDGE_M)[0].min()
    if between_m <= CONTACT_M or not np.isfinite(between_m):
        return bool(between_m <= CONTACT_M)
    return surface_gap_m(vertices, faces, 2 * CONTACT_M) <= CONTACT_M


def measure(model: HandModel, pairs: Perturbed, found: HandParameters) -> Measured:
    """Everything about one batch of answers."""
    hands, true, given = (model.pose_hands(p) for p in (found, pairs.clean, pairs.parameters))
    mesh, true_mesh = hands.mesh(), true.mesh()
    points, true_points, given_points = (posed.joints_and_tips() for posed in (hands, true, given))
    mpjpe, mrrpe = keypoint_errors_mm(model, found, pairs.clean)
    # Vertices are measured against their own wrist, which is the first keypoint.
    with_wrist = [torch.cat([p[:, :, :1], m.vertices_m], 2) for p, m in ((points, mesh), (true_points, true_mesh))]
    mpvpe = _relative_errors_mm(*with_wrist)[:, :, 1:].mean((1, 2))
    right = _relative_errors_mm(given_points, true_points)[:, :, 1:] < RIGHT_MM
    moved = torch.where(right, _relative_errors_mm(points, given_points)[:, :, 1:], torch.nan).flatten(1).nanmean(1)
    volume = shared_volumes_cm3(model, found)
    closed, faces = model.closed_vertices(mesh.vertices_m).double().numpy(), model.closed_faces().numpy()
    voxel, depth = torch.zeros(len(volume)), torch.zeros(len(volume))
    for i in (volume > 0).nonzero()[:, 0].tolist():
        voxel[i] = voxel_volume_cm3(closed[i, 0], faces[0], closed[i, 1], faces[1])
        depth[i] = 1e3 * penetrating_vertices(closed[i], faces).deepest_m
    near = volume > 0
    apart = (~near).nonzero()[:, 0]
    near[apart] = near_each_other(model, found[apart]) if len(apart) else near[apart]
    return Measured(volume, voxel, depth, near, mpjpe, mpvpe, mrrpe, moved)


def summary(measured: Measured, near_in_truth: Bool[Tensor, "batch"]) -> dict[str, float]:
    """Means over pairs, under the names of the report."""
    near = measured.near
    return {
        "pen_cm3_mean": float(measured.volume_cm3.mean()),
        "pen_cm3_share_below_0_01": float((measured.volume_cm3 <= TOUCH_CM3).float().mean()),
        "pen_cm3_voxel_mean": float(measured.voxel_cm3.mean()),
        "pen_dist_mm": float(measured.pen_dist_mm.mean()),
        "prox_ratio": float(near.float().mean()),
        "mpjpe_mm": float(measured.mpjpe_mm.mean()),
        "mpvpe_mm": float(measured.mpvpe_mm.mean()),
        "mrrpe_mm": float(measured.mrrpe_mm.mean()),
        "right_joints_moved_mm": float(measured.right_moved_mm.nanmean()),
        "contact_kept": float(near[near_in_truth].float().mean()),
    }


@dataclass(frozen=True)
class Speed:
    """Wall time of a method."""

    ms_per_pair: float
    """One pair at a time, median."""
    pairs_per_s: float
    """In batches."""


def run(answer: Answer, model: HandModel, pairs: Perturbed, batch: int = 64, singles: int = 50) -> tuple[HandParameters, Speed]:
    """Answers to all pairs, in batches, and how fast; one pair at a time for the first `singles`, spread over all."""
    count = pairs.keypoint_confidence.shape[0]
    answer(model, pairs[:1])  # what is compiled or cached at first use is not the method's time
    each = []
    for i in np.linspace(0, count - 1, min(singles, count)).astype(int).tolist():
        start = time.perf_counter()
        answer(model, pairs[i : i + 1])
        each.append(time.perf_counter() - start)
    start = time.perf_counter()
    parts = [answer(model, pairs[i : i + batch]) for i in range(0, count, batch)]
    seconds = time.perf_counter() - start
    found = HandParameters(*(torch.cat([getattr(p, f.name) for p in parts]) for f in fields(HandParameters)))
    return found, Speed(1e3 * float(np.median(each)), count / max(seconds, 1e-9))


def score_method(
    answer: Answer, model: HandModel, pairs: Perturbed, near_in_truth: Bool[Tensor, "batch"], batch: int = 64, singles: int = 50
) -> tuple[dict[str, float], Measured]:
    """Runs and measures one method."""
    found, speed = run(answer, model, pairs, batch, singles)
    count = pairs.keypoint_confidence.shape[0]
    parts = [measure(model, pairs[i : i + batch], found[i : i + batch]) for i in range(0, count, batch)]
    measured = Measured(*(torch.cat([getattr(p, f.name) for p in parts]) for f in fields(Measured)))
    return summary(measured, near_in_truth) | {"ms_per_pair": speed.ms_per_pair, "pairs_per_s": speed.pairs_per_s}, measured
