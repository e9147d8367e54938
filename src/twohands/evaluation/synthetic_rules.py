"""The rules of the synthetic benchmarks: wrist-relative errors of both hands, by how near the hands are and by how much of a hand is hidden."""

from dataclasses import replace

import numpy as np

from twohands.collision.volume import shared_volume_cm3
from twohands.evaluation.judged import JudgesHand, Prediction, Truth
from twohands.evaluation.two_hand_rules import WRIST, Measured, Selection, measure_meshes

HIDDEN_TIERS: dict[str, tuple[float, float]] = {"hidden < 40 %": (0.0, 0.4), "hidden 40-60 %": (0.4, 0.6), "hidden >= 60 %": (0.6, 1.01)}
"""Share of a hand's 21 joints that are out of sight: behind anything, its own fingers and palm included, or outside the picture."""
PCK_LIMIT = 0.1
"""Of the longer side of the hand's keypoint box in the picture."""


def select_shown(truth: Truth) -> Selection:
    """Scenes in which at least one hand can be asked for."""
    keep = truth.mesh_valid.any(1)
    return Selection(truth.take(keep), np.flatnonzero(keep), {"no hand to be seen": int((~keep).sum())})


def measure_synthetic(truth: Truth, prediction: Prediction, hand: JudgesHand | None) -> Measured:
    """Errors as in InterWild's protocol for meshes, those of hands hidden to some degree apart, and the exact volume that predicted pairs share."""
    measured = measure_meshes(truth, prediction, WRIST, "none")
    values = dict(measured.values)
    # Two hands in one picture have a relative place, whether they interact or not.
    both = truth.mesh_valid.all(1)
    assert truth.mesh_joints_mm is not None
    relative = truth.mesh_joints_mm[:, 0, WRIST] - truth.mesh_joints_mm[:, 1, WRIST]
    values["MRRPE"] = np.where(both, np.linalg.norm(prediction.relative_mm - relative, axis=-1), np.nan)[:, None]
    values["PCK@.1"] = np.where(truth.mesh_valid, _pck(truth, prediction), np.nan)
    for tier, (low, high) in HIDDEN_TIERS.items():
        inside = (truth.hidden_share >= low) & (truth.hidden_share < high)
        for name in ("MPJPE", "PA-MPJPE"):
            values[f"{name}, {tier}"] = np.where(np.repeat(inside, values[name].shape[1] // 2, axis=1), values[name], np.nan)
    if hand is not None and prediction.vertices_mm is not None and prediction.vertices_mm.shape[2] == hand.model.data.v_template.shape[1]:
        faces = hand.closed_faces
        pairs = hand.closed(prediction.vertices_mm * 1e-3)
        volumes = [shared_volume_cm3(p[0], faces[0], p[1], faces[1]) if np.isfinite(p).all() else np.nan for p in pairs]
        values["shared volume"] = np.array(volumes, float)[:, None]
    return replace(measured, values=values)


def _pck(truth: Truth, prediction: Prediction) -> np.ndarray:
    """Share of each hand's joints whose projection is near the true one; NaN for a hand that was not found."""
    true, predicted = (_projected(truth, points) for points in (truth.joints_mm, prediction.joints_mm))
    side = (true.max(2) - true.min(2)).max(-1, keepdims=True)
    near = np.linalg.norm(predicted - true, axis=-1) < PCK_LIMIT * side
    return np.where(np.isnan(predicted).any((-2, -1)), np.nan, near.mean(-1))


def _projected(truth: Truth, points_mm: np.ndarray) -> np.ndarray:
    return truth.focal_px[:, None, None] * points_mm[..., :2] / points_mm[..., 2:] + truth.principal_px[:, None, None]
