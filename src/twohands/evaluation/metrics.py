"""Metrics as pure functions of numpy arrays; positions in millimetres in one camera frame, the unit of a result in the function's name.

Joints are OPENPOSE21 unless a protocol says otherwise. `valid` masks what is not annotated; what is masked may hold NaN and never reaches a
result. A mean over nothing is NaN: whether such a sample is dropped is for the protocol to say, and so is every average over samples.
"""

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import ArrayLike

from twohands.joints import MIDDLE_MCP

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


def bone_scaled(
    predicted: Points, true: Points, root: int = 0, tip: int = MIDDLE_MCP, shortest: float = 0.0
) -> Float[np.ndarray, "*batch"]:
    """The factor that gives the predicted bone root - tip its true length (IntagHand); NaN where the predicted bone has no length.

    Lengths below `shortest` (in the unit of the points) count as `shortest`, as in OmniHands' code."""
    length_true = np.maximum(np.linalg.norm(true[..., tip, :] - true[..., root, :], axis=-1), shortest)
    length = np.maximum(np.linalg.norm(predicted[..., tip, :] - predicted[..., root, :], axis=-1), shortest)
    return np.where(length > 0, length_true / np.where(length > 0, length, 1.0), np.nan)


def scale_translation_aligned(points: Points, target: Points, root: int = 0, tip: int = MIDDLE_MCP) -> Points:
    """HO-3D's second alignment (Hampali et al. 2020, eval.py): the bone root - tip takes its true length, then the root its true place; no
    rotation. Points that all coincide land on the true root."""
    factor = np.nan_to_num(bone_scaled(points, target, root, tip), nan=1.0)[..., None, None]
    return (points - points[..., root : root + 1, :]) * factor + target[..., root : root + 1, :]


def rrve_mm(
    predicted_vertices_mm: Float[np.ndarray, "*batch hand vert 3"],
    true_vertices_mm: Float[np.ndarray, "*batch hand vert 3"],
    predicted_wrists_mm: Float[np.ndarray, "*batch hand 3"],
    true_wrists_mm: Float[np.ndarray, "*batch hand 3"],
    predicted_relative_mm: Float[np.ndarray, "*batch 3"],
    true_relative_mm: Float[np.ndarray, "*batch 3"],
) -> Float[np.ndarray, "*batch"]:
    """Relative-root vertex error (Moon 2023, InterWild): mean distance over the vertices of both hands, the right wrist at the origin and
    the left hand, moved by its own wrist, put where the relative translation (left minus right wrist) says."""
    predicted = predicted_vertices_mm - predicted_wrists_mm[..., None, :]
    true = true_vertices_mm - true_wrists_mm[..., None, :]
    left_gap = (predicted[..., 0, :, :] + predicted_relative_mm[..., None, :]) - (true[..., 0, :, :] + true_relative_mm[..., None, :])
    left = np.linalg.norm(left_gap, axis=-1)
    right = np.linalg.norm(predicted[..., 1, :, :] - true[..., 1, :, :], axis=-1)
    return np.concatenate([left, right], -1).mean(-1)


def f_score(predicted: Float[np.ndarray, "vert_p 3"], true: Float[np.ndarray, "vert_t 3"], limit: float) -> float:
    """F-score of two point sets (Knapitsch et al. 2017 as in FreiHAND's eval.py): harmonic mean of the share of true points with a predicted
    one nearer than `limit`, and of predicted points with a true one nearer. Strict: points exactly `limit` apart do not match."""
    from twohands.collision.points import nearest_distances  # numba takes a third of a second to import, and most protocols do without

    predicted, true = np.asarray(predicted, np.float64), np.asarray(true, np.float64)
    precision = float((nearest_distances(true, predicted) < limit).mean())
    recall = float((nearest_distances(predicted, true) < limit).mean())
    return 2 * precision * recall / (precision + recall) if precision + recall > 0 else 0.0


def box_iou(a_xyxy: Float[np.ndarray, "*batch 4"], b_xyxy: Float[np.ndarray, "*batch 4"]) -> Float[np.ndarray, "*batch"]:
    """Intersection over union of boxes; 0 where they share nothing or have no area."""
    sides = np.minimum(a_xyxy[..., 2:], b_xyxy[..., 2:]) - np.maximum(a_xyxy[..., :2], b_xyxy[..., :2])
    shared = np.maximum(sides, 0.0).prod(-1)
    area = sum(np.maximum(box[..., 2:] - box[..., :2], 0.0).prod(-1) for box in (a_xyxy, b_xyxy))
    return np.where(area - shared > 0, shared / np.where(area - shared > 0, area - shared, 1.0), 0.0)


def handedness_right(presence: Float[np.ndarray, "*batch hand"], shown: Bool[np.ndarray, "*batch hand"]) -> Bool[np.ndarray, "*batch"]:
    """Whether exactly the shown hands are said to be there: a hand is when its probability is above one half (Moon et al. 2020)."""
    return ((presence > 0.5) == shown).all(-1)


def back_projected_mm(
    xy_px: Float[np.ndarray, "*batch point 2"],
    depth_mm: Float[np.ndarray, "*batch point"],
    focal_px: Float[np.ndarray, "*batch 2"],
    principal_px: Float[np.ndarray, "*batch 2"],
) -> Points:
    """Pixels and absolute depth to points in the camera frame."""
    xy = (xy_px - principal_px[..., None, :]) / focal_px[..., None, :] * depth_mm[..., None]
    return np.concatenate([xy, depth_mm[..., None]], -1)


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


def area_of_each(errors: Float[np.ndarray, "*batch"], limits: ArrayLike) -> Float[np.ndarray, "*batch"]:
    """`auc` of each error alone; its mean over errors is their `auc`, since areas add up. NaN stays NaN."""
    grid = np.asarray(limits, float)
    # A step curve that is 1 from its first limit on: all later trapezoids, and half of the one that rises.
    first = np.searchsorted(grid, errors, side="left")
    before = np.concatenate([[grid[0]], grid])[np.minimum(first, len(grid))]
    at = np.concatenate([grid, grid[-1:]])[np.minimum(first, len(grid))]
    area = (grid[-1] - (before + at) / 2) / (grid[-1] - grid[0])
    return np.where(np.isnan(errors), np.nan, np.where(first < len(grid), area, 0.0))


def _centred(points: Points, keep: Bool[np.ndarray, "*batch point"]) -> tuple[Float[np.ndarray, "*batch 1 3"], Points]:
    """The mean of the kept points, and all points relative to it with the others at zero (so that sums of products leave them out)."""
    kept = np.where(keep[..., None], points, 0.0)
    mean = (kept.sum(-2) / np.maximum(keep.sum(-1), 1)[..., None])[..., None, :]
    return mean, np.where(keep[..., None], points - mean, 0.0)
