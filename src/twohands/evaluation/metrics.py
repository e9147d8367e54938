"""Metrics as pure functions of numpy arrays; positions in millimetres in one camera frame, the unit of a result in the function's name.

Joints are OPENPOSE21 unless a protocol says otherwise. `valid` masks what is not annotated; what is masked may hold NaN and never reaches a
result. A mean over nothing is NaN: whether such a sample is dropped is for the protocol to say, and so is every average over samples.
"""

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import ArrayLike

Points = Float[np.ndarray, "*batch point 3"]


def mean_over_valid(
    values: Float[np.ndarray, "*batch n"], valid: Bool[np.ndarray, "*batch n"] | None = None
) -> Float[np.ndarray, "*batch"]:
    """Mean over the last axis of the entries that `valid` keeps; NaN where it keeps none."""
    if valid is None:
        valid = np.ones(values.shape, bool)
    count = valid.sum(-1)
    # `where`, not a product with the mask: NaN times zero is NaN.
    return np.where(count > 0, np.where(valid, values, 0.0).sum(-1) / np.maximum(count, 1), np.nan)


def mpjpe_mm(
    predicted_mm: Points, true_mm: Points, valid: Bool[np.ndarray, "*batch point"] | None = None, root: int = 0
) -> Float[np.ndarray, "*batch"]:
    """Mean distance of joints after each hand's own root joint was moved to the origin; no scale, no rotation.

    The root counts as a joint (with error 0), as in InterHand2.6M's and InterWild's code. NaN for a hand whose true root is not valid:
    every one of its errors would be measured from a place that nobody annotated."""
    error = np.linalg.norm((predicted_mm - predicted_mm[..., root : root + 1, :]) - (true_mm - true_mm[..., root : root + 1, :]), axis=-1)
    if valid is None:
        return error.mean(-1)
    return np.where(valid[..., root], mean_over_valid(error, valid), np.nan)


def mpvpe_mm(
    predicted_vertices_mm: Points,
    true_vertices_mm: Points,
    predicted_root_mm: Float[np.ndarray, "*batch 3"],
    true_root_mm: Float[np.ndarray, "*batch 3"],
) -> Float[np.ndarray, "*batch"]:
    """Mean distance of corresponding vertices after each mesh was moved by its own root joint (the wrist in InterWild's protocol)."""
    predicted, true = predicted_vertices_mm - predicted_root_mm[..., None, :], true_vertices_mm - true_root_mm[..., None, :]
    return np.linalg.norm(predicted - true, axis=-1).mean(-1)


def mrrpe_mm(
    predicted_wrists_mm: Float[np.ndarray, "*batch hand 3"], true_wrists_mm: Float[np.ndarray, "*batch hand 3"]
) -> Float[np.ndarray, "*batch"]:
    """Error of the vector from the right wrist to the left one; axis `hand` is (left, right), axes are the camera's (Moon et al. 2020)."""
    predicted = predicted_wrists_mm[..., 0, :] - predicted_wrists_mm[..., 1, :]
    return np.linalg.norm(predicted - (true_wrists_mm[..., 0, :] - true_wrists_mm[..., 1, :]), axis=-1)


def similarity_aligned(points: Points, target: Points, valid: Bool[np.ndarray, "*batch point"] | None = None) -> Points:
    """`points` after the similarity (scale, rotation with det +1, translation) that brings them nearest to `target` (Umeyama 1991).

    Only valid points decide the similarity; all of them are moved by it. Points that all coincide land on the mean of the target."""
    keep = np.ones(points.shape[:-1], bool) if valid is None else valid
    mean_points, p = _centred(points, keep)
    mean_target, t = _centred(target, keep)
    u, s, vt = np.linalg.svd(np.swapaxes(p, -1, -2) @ t)
    sign = np.sign(np.linalg.det(u @ vt))
    s[..., -1] *= sign
    u[..., -1] *= sign[..., None]
    spread = (p**2).sum((-1, -2))
    scale = np.where(spread > 0, s.sum(-1) / np.where(spread > 0, spread, 1.0), 0.0)
    return scale[..., None, None] * ((points - mean_points) @ (u @ vt)) + mean_target


def pa_mpjpe_mm(
    predicted_mm: Points, true_mm: Points, valid: Bool[np.ndarray, "*batch point"] | None = None
) -> Float[np.ndarray, "*batch"]:
    """Mean distance after `similarity_aligned`, each hand aligned by itself; also PA-MPVPE when given vertices. Reflections stay errors."""
    return mean_over_valid(np.linalg.norm(similarity_aligned(predicted_mm, true_mm, valid) - true_mm, axis=-1), valid)


def freihand_aligned(points: Points, target: Points) -> Points:
    """FreiHAND's aligner (Zimmermann et al. 2019, eval.py): both sets are brought to unit norm and rotated by orthogonal Procrustes.

    It accepts reflections: a mirrored hand aligns to error zero. Use it to compare with published FreiHAND and HO-3D numbers only."""
    t, p = target - target.mean(-2, keepdims=True), points - points.mean(-2, keepdims=True)
    norm_t = np.linalg.norm(t, axis=(-2, -1), keepdims=True) + 1e-8
    norm_p = np.linalg.norm(p, axis=(-2, -1), keepdims=True) + 1e-8
    u, s, vt = np.linalg.svd(np.swapaxes(p / norm_p, -1, -2) @ (t / norm_t))
    return (p / norm_p) @ (u @ vt) * s.sum(-1)[..., None, None] * norm_t + target.mean(-2, keepdims=True)


def freihand_pa_mpjpe_mm(predicted_mm: Points, true_mm: Points) -> Float[np.ndarray, "*batch"]:
    """Mean distance after `freihand_aligned` (reflections allowed)."""
    return np.linalg.norm(freihand_aligned(predicted_mm, true_mm) - true_mm, axis=-1).mean(-1)


def pck(errors: Float[np.ndarray, " n"], limit: float, count: int | None = None) -> float:
    """Share of `count` keypoints (default: all of `errors`) whose error is below `limit`.

    A `count` larger than the number of errors makes the keypoints of missed hands count as wrong."""
    total = errors.size if count is None else count
    return float((errors < limit).sum() / total) if total else float("nan")


def auc(errors: Float[np.ndarray, " n"], limits: ArrayLike) -> float:
    """Area under PCK over ascending `limits`, in [0, 1], by trapezoids; an error equal to a limit counts as right (FreiHAND's eval.py)."""
    grid = np.asarray(limits, float)
    curve = (errors[:, None] <= grid).mean(0)
    width = np.diff(grid)
    return float((width * (curve[1:] + curve[:-1]) / 2).sum() / width.sum())


def _centred(points: Points, keep: Bool[np.ndarray, "*batch point"]) -> tuple[Float[np.ndarray, "*batch 1 3"], Points]:
    """The mean of the kept points, and all points relative to it with the others at zero (so that sums of products leave them out)."""
    kept = np.where(keep[..., None], points, 0.0)
    mean = (kept.sum(-2) / np.maximum(keep.sum(-1), 1)[..., None])[..., None, :]
    return mean, np.where(keep[..., None], points - mean, 0.0)
