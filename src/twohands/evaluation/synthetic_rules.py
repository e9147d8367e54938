"""The rules of the synthetic benchmarks: wrist-relative errors of both hands, by how near the hands are and by how much of a hand is hidden."""

from dataclasses import replace

import numpy as np

from twohands.collision.volume import shared_volume_cm3
from twohands.evaluation.judged import JudgesHand, Prediction, Truth
from twohands.evaluation.two_hand_rules import WRIST, Measured, Selection, measure_meshes

HIDDEN_TIERS: dict[str, tuple[float, float]] = {"hidden < 25 %": (0.0, 0.25), "hidden 25-50 %": (0.25, 0.5), "hidden >= 50 %": (0.5, 1.01)}
"""Share of a hand's 21 joints that are out of sight: behind anything, or outside the picture."""


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
