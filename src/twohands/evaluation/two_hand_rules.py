"""The rules of InterHand2.6M, Re:InterHand and HIC, each read from the code that made the published tables: which samples count, and the errors.

A rule has two halves. A selection takes the truth and gives the samples that count, with masks as that code makes them, and says what it left
out and why. A measure takes selected truth and predictions and gives the values of each metric as arrays (sample, cell), NaN where nothing is
counted; `averaging` makes numbers of them.
"""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float

from twohands.evaluation import metrics
from twohands.evaluation.judged import Prediction, Truth
from twohands.joints import MIDDLE_MCP

Scale = Literal["none", "bone", "bone, at least 1 cm"]
WRIST = 0
DUMMY_MM = 1.0
"""Coordinates that InterWild's code gives to joints without 3D annotation."""
BOX_GROWTH = 1.2
BLACK = 10.0
"""Crops darker than this on average are black frames (IntagHand)."""
SHORTEST_MM = 10.0


@dataclass(frozen=True)
class Selection:
    """The samples that a protocol counts."""

    truth: Truth
    rows: np.ndarray
    """Which rows of the truth that was given."""
    dropped: dict[str, int]
    """Reason -> how many samples were left out."""


@dataclass(frozen=True)
class Measured:
    """The errors of a batch of samples."""

    values: dict[str, Float[np.ndarray, "n cell"]]
    joint_errors_mm: Float[np.ndarray, "n hand 21"]
    """What the protocol's joint error is made of; NaN where it is not counted. For pictures and tables by joint."""


# Selections


def select_all(truth: Truth) -> Selection:
    """Every sample; joints count where they and their hand's wrist are annotated and in the picture (InterNet)."""
    labelled = truth.labelled & truth.labelled[..., :1]
    return Selection(replace(truth, labelled=labelled), np.arange(len(truth)), {})


def select_interwild(truth: Truth) -> Selection:
    """InterWild's masks: a hand counts with its wrist, joints without 3D get a dummy place, hands with a void box are gone, and samples
    without any joint are dropped (InterHand26M.py)."""
    labelled = truth.labelled & truth.labelled[..., :1]
    valid_3d = truth.valid_3d & truth.valid_3d[..., :1]
    empty = ~labelled.any((1, 2)) | ~valid_3d.any((1, 2))
    joints = np.where(valid_3d[..., None], truth.joints_mm, DUMMY_MM)
    boxed = ~np.isnan(interwild_boxes_px(replace(truth, joints_mm=joints, labelled=labelled))).any(-1)
    void = ~boxed.any(1) & ~empty
    keep = ~empty & ~void
    prepared = replace(
        truth,
        joints_mm=joints,
        labelled=labelled & boxed[..., None],
        valid_3d=valid_3d & boxed[..., None],
        mesh_valid=truth.mesh_valid & boxed,
    )
    dropped = {"no joint with its wrist": int(empty.sum()), "no hand inside the picture": int(void.sum())}
    return Selection(prepared.take(keep), np.flatnonzero(keep), dropped)


def select_pairs(truth: Truth) -> Selection:
    """IntagHand's samples: annotated as interacting beyond doubt, both MANO fits there, and not black. Unknown brightness counts as bright."""
    rules = {
        "not interacting": ~truth.interacting,
        "hand type not valid": ~truth.hand_type_valid,
        "a MANO fit is missing": ~np.all(truth.mesh_valid, axis=1),
        "black picture": truth.brightness < BLACK,
    }
    return _select(truth, rules)


def select_interacting(truth: Truth) -> Selection:
    """Interacting samples with both meshes (OmniHands; plausibility)."""
    return _select(truth, {"not interacting": ~truth.interacting, "a mesh is missing": ~np.all(truth.mesh_valid, axis=1)})


def select_with_mesh(truth: Truth) -> Selection:
    """Samples with at least one true mesh (HIC). An interacting sample that lacks one counts with the other, but for MRRPE."""
    chosen = _select(truth, {"no mesh": ~np.any(truth.mesh_valid, axis=1)})
    halves = int((chosen.truth.interacting & ~np.all(chosen.truth.mesh_valid, axis=1)).sum())
    return replace(chosen, dropped=chosen.dropped | {"interacting with one mesh only (left out of MRRPE)": halves})


def select_both_meshes(truth: Truth) -> Selection:
    """Samples with both true meshes (Re:InterHand)."""
    return _select(truth, {"a mesh is missing": ~np.all(truth.mesh_valid, axis=1)})


def _select(truth: Truth, rules: dict[str, Bool[np.ndarray, "n"]]) -> Selection:
    keep, dropped = np.ones(len(truth), bool), {}
    for reason, out in rules.items():
        dropped[reason] = int((keep & out).sum())
        keep &= ~out
    return Selection(truth.take(keep), np.flatnonzero(keep), dropped)


def interwild_boxes_px(truth: Truth) -> Float[np.ndarray, "n hand 4"]:
    """InterWild's hand boxes: tight around the labelled joints' projections, grown 1.2 times, clipped to the picture; NaN where nothing is
    left. Corners x1 y1 x2 y2 with x2 <= width - 1, as its `sanitize_bbox` leaves them."""
    xy = truth.focal_px[:, None, None] * truth.joints_mm[..., :2] / _not_zero(truth.joints_mm[..., 2:]) + truth.principal_px[:, None, None]
    low = np.where(truth.labelled[..., None], xy, np.inf).min(2)
    high = np.where(truth.labelled[..., None], xy, -np.inf).max(2)
    known = np.any(truth.labelled, axis=2)[..., None]
    low, high = np.where(known, low, 0.0), np.where(known, high, 0.0)
    size = (high - low) * BOX_GROWTH
    low = (low + high) / 2 - size / 2
    limit = truth.image_size_px[:, None] - 1
    corner = np.maximum(low, 0.0)
    # The far corner is counted from the clipped near one, with whole-pixel sides: x1 + max(0, w - 1).
    far = np.minimum(limit, corner + np.maximum(0.0, size - 1))
    sound = ((size > 0).all(-1) & (far > corner).all(-1))[..., None] & known
    return np.where(sound, np.concatenate([corner, far], -1), np.nan)


# Measures


def measure_interwild(truth: Truth, prediction: Prediction, root: int) -> Measured:
    """InterWild's errors (Moon 2023): annotated joints against regressed ones, meshes against the MANO fits, roots moved, no scale.

    With another root than the wrist, hands whose root has no 3D annotation are left out: they would be measured from the dummy place."""
    counted = truth.labelled & truth.valid_3d[..., root : root + 1] if root != WRIST else truth.labelled
    joints = _errors(prediction.joints_mm - _at(prediction.joints_mm, root), truth.joints_mm - _at(truth.joints_mm, root), counted)
    values = _joint_metrics(joints)
    values["PA-MPJPE"] = _pa(prediction.joints_mm, truth.joints_mm, counted)
    both = np.all(truth.labelled[..., WRIST], axis=1)
    true_relative = truth.joints_mm[:, 0, WRIST] - truth.joints_mm[:, 1, WRIST]
    values["MRRPE"] = _relative_error(prediction.relative_mm, true_relative, both)
    values |= _mesh_metrics(truth, prediction, root, truth.mesh_valid & truth.shown)
    pairs = truth.interacting & np.all(truth.mesh_valid, axis=1)
    values["RRVE"] = _rrve(truth, prediction, true_relative, pairs)
    if prediction.box_xyxy_px is not None:
        boxes = interwild_boxes_px(truth)
        values["box IoU"] = np.where(np.isnan(boxes).any(-1), np.nan, 100 * metrics.box_iou(prediction.box_xyxy_px, boxes))
    return Measured(values, joints.length)


def measure_internet(truth: Truth, prediction: Prediction) -> Measured:
    """InterNet's errors (Moon et al. 2020): wrist-relative joints; if the prediction is 2.5D, it is back-projected with the true camera first."""
    predicted, relative = prediction.joints_mm, prediction.relative_mm
    if prediction.uvd is not None:
        predicted, relative = internet_points_mm(truth, prediction), internet_relative_mm(truth, prediction)
    joints = _errors(predicted - _at(predicted, WRIST), truth.joints_mm - _at(truth.joints_mm, WRIST), truth.labelled)
    values = _joint_metrics(joints)
    both = np.all(truth.labelled[..., WRIST], axis=1) & truth.interacting
    values["MRRPE"] = _relative_error(relative, truth.joints_mm[:, 0, WRIST] - truth.joints_mm[:, 1, WRIST], both)
    if prediction.presence is not None:
        right = 100.0 * metrics.handedness_right(prediction.presence, truth.shown)
        unknown = np.isnan(prediction.presence).any(1) | ~truth.hand_type_valid
        values["handedness"] = np.where(unknown, np.nan, right)[:, None]
    return Measured(values, joints.length)


def internet_points_mm(truth: Truth, prediction: Prediction) -> Float[np.ndarray, "n hand 21 3"]:
    """2.5D predictions in space: relative depth plus the wrist's, which is the true one if none is predicted."""
    assert prediction.uvd is not None
    wrist = prediction.wrist_depth_mm if prediction.wrist_depth_mm is not None else truth.joints_mm[..., WRIST, 2]
    depth = prediction.uvd[..., 2] + wrist[..., None]
    return metrics.back_projected_mm(prediction.uvd[..., :2], depth, truth.focal_px[:, None], truth.principal_px[:, None])


def internet_relative_mm(truth: Truth, prediction: Prediction) -> Float[np.ndarray, "n 3"]:
    """Left minus right wrist: the left one's depth is the right one's plus the predicted relative depth (z of `relative_mm`)."""
    assert prediction.uvd is not None
    wrist = prediction.wrist_depth_mm if prediction.wrist_depth_mm is not None else truth.joints_mm[..., WRIST, 2]
    depth = np.stack([wrist[:, 1] + prediction.relative_mm[:, 2], wrist[:, 1]], -1)
    points = metrics.back_projected_mm(prediction.uvd[:, :, WRIST, :2], depth, truth.focal_px, truth.principal_px)
    return points[:, 0] - points[:, 1]


def measure_meshes(
    truth: Truth, prediction: Prediction, root: int, scale: Scale, relative_roots: tuple[int, ...] = (), by_hand: bool = False
) -> Measured:
    """Errors against the true meshes and the joints regressed from them (IntagHand, ACR, DIR, OmniHands; HIC): each hand moved by its root and,
    with `scale`, brought to the true length of the bone from wrist to middle knuckle.

    `relative_roots`: joints between which MRRPE is measured, unscaled, over interacting samples with both meshes. `by_hand`: one value a hand
    (its mean over joints) instead of one a joint."""
    assert truth.mesh_joints_mm is not None
    counted = np.broadcast_to((truth.mesh_valid & truth.shown)[..., None], (*truth.mesh_valid.shape, 21))
    factor = _factor(prediction.joints_mm, truth.mesh_joints_mm, scale)[..., None, None]
    true = truth.mesh_joints_mm
    joints = _errors((prediction.joints_mm - _at(prediction.joints_mm, root)) * factor, true - _at(true, root), counted)
    values = _joint_metrics(joints)
    if by_hand:
        values = {name: value.reshape(-1, 2, 21).mean(-1) for name, value in values.items()}
    values["PA-MPJPE"] = _pa(prediction.joints_mm, true, counted)
    values |= _mesh_metrics(truth, prediction, root, truth.mesh_valid & truth.shown, factor)
    for name in ("MPJPE", "MPVPE"):
        if name in values:
            half = values[name].shape[1] // 2
            values[f"{name} left"], values[f"{name} right"] = values[name][:, :half], values[name][:, half:]
    both = truth.interacting & np.all(truth.mesh_valid, axis=1)
    for joint in relative_roots:
        from_wrist = prediction.joints_mm[:, :, joint] - prediction.joints_mm[:, :, WRIST]
        relative = prediction.relative_mm + from_wrist[:, 0] - from_wrist[:, 1]
        name = "MRRPE" if joint == WRIST else "MRRPE@mcp3"
        values[name] = _relative_error(relative, true[:, 0, joint] - true[:, 1, joint], both)
    return Measured(values, joints.length)


def measure_reinterhand(truth: Truth, prediction: Prediction) -> Measured:
    """InterWild's errors on Re:InterHand: everything from the meshes, but MRRPE and RRVE from the wrists of the annotated keypoints."""
    measured = measure_meshes(truth, prediction, WRIST, "none")
    true_relative = truth.joints_mm[:, 0, WRIST] - truth.joints_mm[:, 1, WRIST]
    annotated = np.all(truth.valid_3d[..., WRIST], axis=1)
    values = dict(measured.values)
    values["MRRPE"] = _relative_error(prediction.relative_mm, true_relative, annotated)
    values["RRVE"] = _rrve(truth, prediction, true_relative, annotated)
    return replace(measured, values=values)


# What measures are made of


@dataclass(frozen=True)
class _Errors:
    """Distances, and their parts along the picture and along the line of sight (1.9 of the protocols' notes): NaN where not counted."""

    length: Float[np.ndarray, "n hand point"]
    xy: Float[np.ndarray, "n hand point"]
    z: Float[np.ndarray, "n hand point"]


def _errors(predicted: np.ndarray, true: np.ndarray, counted: np.ndarray) -> _Errors:
    gap = predicted - true
    parts = (np.linalg.norm(gap, axis=-1), np.linalg.norm(gap[..., :2], axis=-1), np.abs(gap[..., 2]))
    return _Errors(*[np.where(counted, part, np.nan) for part in parts])


def _joint_metrics(joints: _Errors) -> dict[str, np.ndarray]:
    parts = {"MPJPE": joints.length, "MPJPE-XY": joints.xy, "MPJPE-Z": joints.z}
    return {name: part.reshape(len(part), -1) for name, part in parts.items()}


def _mesh_metrics(
    truth: Truth, prediction: Prediction, root: int, counted: Bool[np.ndarray, "n hand"], factor: np.ndarray | float = 1.0
) -> dict[str, np.ndarray]:
    """One value a hand: mean over its vertices. Nothing if either side has no meshes, or they are of different hand models."""
    true, predicted = truth.vertices_mm, prediction.vertices_mm
    if true is None or predicted is None or truth.mesh_joints_mm is None or true.shape != predicted.shape:
        return {}
    moved = (predicted - _at(prediction.joints_mm, root)) * factor
    errors = _errors(moved, true - _at(truth.mesh_joints_mm, root), counted[..., None])
    values = {"MPVPE": errors.length.mean(-1), "MPVPE-XY": errors.xy.mean(-1), "MPVPE-Z": errors.z.mean(-1)}
    return values | {"PA-MPVPE": _pa(predicted, true, np.broadcast_to(counted[..., None], true.shape[:-1]))}


def _pa(predicted: np.ndarray, true: np.ndarray, counted: np.ndarray) -> Float[np.ndarray, "n hand"]:
    """Each hand aligned by itself by a similarity without reflection; hands with fewer than three points have none."""
    sound = (counted.sum(-1) >= 3) & ~np.isnan(predicted).any((-2, -1))
    error = metrics.pa_mpjpe_mm(np.where(sound[..., None, None], predicted, 0.0), np.nan_to_num(true), counted)
    return np.where(sound, error, np.nan)


def _relative_error(predicted: np.ndarray, true: np.ndarray, counted: Bool[np.ndarray, "n"]) -> Float[np.ndarray, "n 1"]:
    return np.where(counted, np.linalg.norm(predicted - true, axis=-1), np.nan)[:, None]


def _rrve(truth: Truth, prediction: Prediction, true_relative: np.ndarray, counted: Bool[np.ndarray, "n"]) -> Float[np.ndarray, "n 1"]:
    true, predicted = truth.vertices_mm, prediction.vertices_mm
    if true is None or predicted is None or truth.mesh_joints_mm is None or true.shape != predicted.shape:
        return np.full((len(truth), 1), np.nan)
    wrists = prediction.joints_mm[..., WRIST, :], truth.mesh_joints_mm[..., WRIST, :]
    error = metrics.rrve_mm(predicted, true, *wrists, prediction.relative_mm, true_relative)
    return np.where(counted, error, np.nan)[:, None]


def _factor(predicted: np.ndarray, true: np.ndarray, scale: Scale) -> Float[np.ndarray, "n hand"]:
    match scale:
        case "none":
            return np.ones(predicted.shape[:2])
        case "bone":
            return metrics.bone_scaled(predicted, true, WRIST, MIDDLE_MCP)
        case "bone, at least 1 cm":
            return metrics.bone_scaled(predicted, true, WRIST, MIDDLE_MCP, SHORTEST_MM)


def _at(points: np.ndarray, joint: int) -> np.ndarray:
    return points[..., joint : joint + 1, :]


def _not_zero(depth: np.ndarray) -> np.ndarray:
    return np.where(depth == 0, 1e-9, depth)
