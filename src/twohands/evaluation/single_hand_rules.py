"""The rules of FreiHAND and HO-3D (their eval.py): one right hand, similarity alignment that accepts reflections, areas under curves, F-scores."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from twohands.evaluation import metrics
from twohands.evaluation.judged import Prediction, Truth
from twohands.evaluation.two_hand_rules import Measured, Selection

RIGHT = 1
AUC_LIMITS_MM = np.linspace(0.0, 50.0, 100)
F_LIMITS_MM = (5.0, 15.0)


@dataclass(frozen=True)
class _Pair:
    """Points of the right hand, as predicted and as true, in the camera frame."""

    predicted: Float[np.ndarray, "n point 3"]
    true: Float[np.ndarray, "n point 3"]

    def errors(self, moved: Float[np.ndarray, "n point 3"]) -> Float[np.ndarray, "n point"]:
        return np.linalg.norm(moved - self.true, axis=-1)


def select_right_hands(truth: Truth) -> Selection:
    """Samples whose right hand has all its joints in 3D: the organisers' truth was published after the challenges, and is needed."""
    keep = truth.valid_3d[:, RIGHT].all(-1)
    return Selection(truth.take(keep), np.flatnonzero(keep), {"no true joints (evaluation_xyz.json is not there)": int((~keep).sum())})


def measure_right_hands(truth: Truth, prediction: Prediction, scale_and_translation: bool) -> Measured:
    """FreiHAND's numbers (Zimmermann et al. 2019); with `scale_and_translation` HO-3D's third set too (Hampali et al. 2020).

    The numbers without alignment are distances in the camera frame, hence NaN for predictions relative to a wrist."""
    joints = _Pair(prediction.joints_mm[:, RIGHT], truth.joints_mm[:, RIGHT])
    here = prediction.in_camera[:, None]
    aligned = joints.errors(_aligned(joints))
    values = _joint_values("", np.where(here, joints.errors(joints.predicted), np.nan)) | _joint_values("PA-", aligned)
    if scale_and_translation:
        values |= _joint_values("ST-", joints.errors(metrics.scale_translation_aligned(joints.predicted, joints.true)))
    if truth.vertices_mm is not None and prediction.vertices_mm is not None and truth.vertices_mm.shape == prediction.vertices_mm.shape:
        mesh = _Pair(prediction.vertices_mm[:, RIGHT], truth.vertices_mm[:, RIGHT])
        for prefix, moved in (("", np.where(here[..., None], mesh.predicted, np.nan)), ("PA-", _aligned(mesh))):
            errors = mesh.errors(moved)
            values[prefix + "MPVPE"] = errors.mean(1, keepdims=True)
            values[prefix + "AUC vertices"] = metrics.area_of_each(errors, AUC_LIMITS_MM).mean(1, keepdims=True)
            for limit in F_LIMITS_MM:
                values[f"{prefix}F@{limit:g}"] = _f_scores(moved, mesh.true, limit)
    by_joint = np.full((len(truth), 2, 21), np.nan)
    by_joint[:, RIGHT] = aligned
    return Measured(values, by_joint)


def _joint_values(prefix: str, errors: Float[np.ndarray, "n 21"]) -> dict[str, np.ndarray]:
    return {prefix + "MPJPE": errors, prefix + "AUC joints": metrics.area_of_each(errors, AUC_LIMITS_MM)}


def _aligned(pair: _Pair) -> Float[np.ndarray, "n point 3"]:
    """FreiHAND's alignment; in metres, since the small number that its code adds to each norm is in metres."""
    found = ~np.isnan(pair.predicted).any((-2, -1))
    moved = 1000 * metrics.freihand_aligned(np.nan_to_num(pair.predicted) / 1000, pair.true / 1000)
    return np.where(found[:, None, None], moved, np.nan)


def _f_scores(predicted: np.ndarray, true: np.ndarray, limit: float) -> Float[np.ndarray, "n 1"]:
    scores = [np.nan if np.isnan(p).any() else metrics.f_score(p, t, limit) for p, t in zip(predicted, true, strict=True)]
    return np.array(scores, float).reshape(-1, 1)
