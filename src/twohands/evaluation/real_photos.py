"""The real-photo exam: photos with hands annotated in 2D and, where the source has them, in 3D; and how predictions are judged.

`exam.json` lists `images` (scored: source, intrinsics, and per hand side, box, 21 keypoints with visibility, 3D joints in the camera frame
in mm) and `qualitative` (no truth but what the eye sees). A predictions file maps an image's id to its hands: side, score, 21 keypoints in
pixels, 21 joints in mm in the camera frame or null, and the volume in which the hands pass through one another; an id that is absent means
that no hand was found. Keypoints are OPENPOSE21.

The rules. A hand's 2D errors are distances over labelled keypoints in units of the longer side of its tight keypoint box. Predicted hands
are assigned to annotated ones so that the sum of mean 2D errors is least (Hungarian method); an assignment counts as a match below
MATCH_LIMIT. Recall is matched over annotated; side the share of right sides among matched; PCK@t the share of labelled keypoints nearer
than t, those of missed hands being wrong. MPJPE is wrist-relative, without scale; PA-MPJPE follows a similarity without reflection; both
are means of hands' means over matched hands with 3D truth. MRRPE is over photos in which a left and a right hand were both matched with
the right side and have 3D truth. A photo of two hands is solved when exactly one left and one right hand are returned.
"""

import dataclasses
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from twohands.errors import UserError, from_extra
from twohands.evaluation import metrics

with from_extra("evaluate", "the benchmark on photos"):
    from scipy.optimize import linear_sum_assignment

MATCH_LIMIT = 0.5
PCK_LIMITS = (0.05, 0.1, 0.2)
FAR = 5.0
"""Errors beyond this are all alike to the assignment: one absurd prediction must not decide who gets the others."""
TWO_HAND_GROUP = "two_hand"


@dataclass(frozen=True)
class TrueHand:
    """One annotated hand."""

    side: str
    keypoints_xy: Float[np.ndarray, "21 2"]
    labelled: Bool[np.ndarray, "21"]
    box_side_px: float
    """Longer side of the tight box around the labelled keypoints: the unit of 2D errors."""
    interacting: bool
    keypoints_mm: Float[np.ndarray, "21 3"] | None
    """In the camera frame."""
    valid_3d: Bool[np.ndarray, "21"]


@dataclass(frozen=True)
class ExamPhoto:
    """One photo of the exam; `hands` is None for those without truth."""

    id: str
    path: Path
    group: str
    """Source of an annotated photo, kind of one without truth."""
    interacting: bool
    intrinsics: Float[np.ndarray, "3 3"] | None
    hands: tuple[TrueHand, ...] | None


@dataclass(frozen=True)
class PredictedHand:
    """One hand of a predictions file."""

    side: str
    score: float
    keypoints_xy: Float[np.ndarray, "21 2"]
    keypoints_mm: Float[np.ndarray, "21 3"] | None


@dataclass(frozen=True)
class Prediction:
    """What a predictions file says about one photo."""

    hands: tuple[PredictedHand, ...]
    penetration_cm3: float | None


@dataclass(frozen=True)
class Verdict:
    """How one annotated hand was met; errors are None where there is nothing to measure."""

    truth: TrueHand
    found: PredictedHand | None
    errors_2d: Float[np.ndarray, "labelled"] | None
    """In units of the box's longer side."""
    mpjpe_mm: float | None
    pa_mpjpe_mm: float | None


@dataclass(frozen=True)
class GroupScore:
    """Scores of a group of annotated hands. Field order is the order of the table's columns."""

    n: int
    recall: float
    side: float | None
    pck: tuple[float, ...]
    """One for each of PCK_LIMITS."""
    n_3d: int
    mpjpe_mm: float | None
    pa_mpjpe_mm: float | None


@dataclass(frozen=True)
class Report:
    """The whole exam."""

    groups: dict[str, GroupScore]
    n_mrrpe: int
    mrrpe_mm: float | None
    two_hand_photos: int
    two_hand_solved: int
    two_hand_interacting: int
    two_hand_interacting_solved: int
    n_penetration: int
    penetration_mean_cm3: float | None
    penetration_max_cm3: float | None

    def to_json(self) -> dict[str, Any]:
        """Plain values, for a file."""
        return dataclasses.asdict(self)


def read_exam(folder: Path) -> tuple[ExamPhoto, ...]:
    """The photos of `folder`/exam.json, annotated ones first; UserError if it is missing or not an exam."""
    path = folder / "exam.json"
    exam = _read_json(path, "give a folder that holds an exam.json")
    try:
        annotated = [_annotated_photo(folder, entry) for entry in exam["images"]]
        seen = [
            ExamPhoto(entry["id"], folder / entry["file"], entry["group"], bool(entry["interacting"]), None, None)
            for entry in exam.get("qualitative", [])
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path} is not an exam ({type(error).__name__}: {error}); its format is in the docstring of real_photos.py"
        ) from error
    return (*annotated, *seen)


def read_predictions(path: Path) -> dict[str, Prediction]:
    """Photo id -> prediction; UserError if the file is missing or malformed."""
    content = _read_json(path, "give a predictions file")
    try:
        return {photo_id: parse_prediction(entry) for photo_id, entry in content.items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"{path} is not a predictions file ({type(error).__name__}: {error}); its format is in the docstring of real_photos.py"
        ) from error


def parse_prediction(entry: Mapping[str, Any]) -> Prediction:
    """One entry of a predictions file."""
    hands = []
    for hand in entry["hands"]:
        if hand["side"] not in ("left", "right"):
            raise ValueError(f"side {hand['side']!r} is neither left nor right")
        xyz = hand.get("kp3d_mm")
        joints = None if not xyz else np.array(xyz, float).reshape(21, 3)
        hands.append(PredictedHand(hand["side"], float(hand.get("score", 1.0)), np.array(hand["kp2d_px"], float).reshape(21, 2), joints))
    volume = entry.get("penetration_cm3")
    return Prediction(tuple(hands), None if volume is None else float(volume))


def judge(photo: ExamPhoto, prediction: Prediction | None) -> tuple[Verdict, ...]:
    """One verdict for each annotated hand of the photo, in its order; none for a photo without truth."""
    truths = photo.hands or ()
    guesses = prediction.hands if prediction else ()
    verdicts = []
    for truth, found in zip(truths, _matched(truths, guesses), strict=True):
        relative = aligned = None
        if found is not None and found.keypoints_mm is not None and truth.keypoints_mm is not None:
            relative = float(metrics.mpjpe_mm(found.keypoints_mm, truth.keypoints_mm, truth.valid_3d))
            aligned = float(metrics.pa_mpjpe_mm(found.keypoints_mm, truth.keypoints_mm, truth.valid_3d))
        verdicts.append(Verdict(truth, found, None if found is None else errors_2d(truth, found), relative, aligned))
    return tuple(verdicts)


def score(photos: Iterable[ExamPhoto], predictions: Mapping[str, Prediction]) -> Report:
    """Judges every photo. Groups are the sources and, over them, "all real", "real, varied (no hgc)" and "interacting hands"."""
    groups: dict[str, list[Verdict]] = {}
    relative: list[float] = []
    solved: list[tuple[bool, bool]] = []
    for photo in photos:
        prediction = predictions.get(photo.id)
        verdicts = judge(photo, prediction)
        for verdict in verdicts:
            for name in _groups_of(photo, verdict.truth):
                groups.setdefault(name, []).append(verdict)
        if (error := _relative_error_mm(verdicts)) is not None:
            relative.append(error)
        if photo.hands is None and photo.group == TWO_HAND_GROUP:
            sides = sorted(hand.side for hand in prediction.hands) if prediction else []
            solved.append((sides == ["left", "right"], photo.interacting))
    volumes = [p.penetration_cm3 for p in predictions.values() if p.penetration_cm3 is not None]
    return Report(
        groups={name: _summary(verdicts) for name, verdicts in sorted(groups.items())},
        n_mrrpe=len(relative),
        mrrpe_mm=_mean(relative),
        two_hand_photos=len(solved),
        two_hand_solved=sum(right for right, _ in solved),
        two_hand_interacting=sum(close for _, close in solved),
        two_hand_interacting_solved=sum(right and close for right, close in solved),
        n_penetration=len(volumes),
        penetration_mean_cm3=_mean(volumes),
        penetration_max_cm3=max(volumes, default=None),
    )


def errors_2d(truth: TrueHand, guess: PredictedHand) -> Float[np.ndarray, "labelled"]:
    """Distances over the labelled keypoints, in units of the longer side of the truth's tight box."""
    return np.linalg.norm(guess.keypoints_xy - truth.keypoints_xy, axis=-1)[truth.labelled] / truth.box_side_px


def table(reports: Mapping[str, Report]) -> str:
    """Markdown: one row a group and method, then what has no group. Groups with few hands have wide error bars: read n."""
    lines = [
        "| group | method | n | recall | side | PCK " + " / ".join(f"{x:g}" for x in PCK_LIMITS) + " | n 3D | MPJPE mm | PA-MPJPE mm |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name in sorted({name for report in reports.values() for name in report.groups}):
        for method, report in reports.items():
            if (g := report.groups.get(name)) is not None:
                shares = " / ".join(f"{x:.2f}" for x in g.pck)
                lines.append(
                    f"| {name} | {method} | {g.n} | {g.recall:.2f} | {_cell(g.side, 2)} | {shares} "
                    f"| {g.n_3d} | {_cell(g.mpjpe_mm)} | {_cell(g.pa_mpjpe_mm)} |"
                )
    lines += [
        "",
        "| method | MRRPE mm (n) | two-hand photos solved | of these interacting | shared volume cm3 mean / max (n) |",
        "|---|---|---|---|---|",
    ]
    for method, r in reports.items():
        volume = f"{_cell(r.penetration_mean_cm3, 3)} / {_cell(r.penetration_max_cm3, 3)} ({r.n_penetration})"
        lines.append(
            f"| {method} | {_cell(r.mrrpe_mm)} ({r.n_mrrpe}) | {r.two_hand_solved} of {r.two_hand_photos} "
            f"| {r.two_hand_interacting_solved} of {r.two_hand_interacting} | {volume} |"
        )
    return "\n".join(lines)


def _read_json(path: Path, remedy: str) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read {path} ({error.strerror}); {remedy}") from error
    except ValueError as error:
        raise UserError(f"{path} is not JSON ({error}); {remedy}") from error


def _annotated_photo(folder: Path, entry: Mapping[str, Any]) -> ExamPhoto:
    intrinsics = None
    if entry.get("K") is not None:
        fx, fy, cx, cy = entry["K"]
        intrinsics = np.array([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]])
    hands = tuple(_true_hand(hand, entry["id"]) for hand in entry["hands"])
    return ExamPhoto(entry["id"], folder / entry["file"], entry["source"], bool(entry["interacting"]), intrinsics, hands)


def _true_hand(hand: Mapping[str, Any], photo_id: str) -> TrueHand:
    labelled = np.array(hand["vis"]) > 0
    if not labelled.any():
        raise ValueError(f"a hand of {photo_id} has no labelled keypoint")
    xyz, valid = hand.get("kp3d_mm"), hand.get("vis3d")
    return TrueHand(
        side=hand["side"],
        keypoints_xy=np.array(hand["kp2d"], float).reshape(21, 2),
        labelled=labelled,
        box_side_px=float(max(hand["bbox_tight_kp"][2:])),
        interacting=bool(hand["interacting"]),
        keypoints_mm=np.array(xyz, float).reshape(21, 3) if xyz else None,
        valid_3d=np.array(valid) > 0 if valid else np.ones(21, bool),
    )


def _matched(truths: tuple[TrueHand, ...], guesses: tuple[PredictedHand, ...]) -> list[PredictedHand | None]:
    """The predicted hand of each annotated one, None where it was missed."""
    found: list[PredictedHand | None] = [None] * len(truths)
    if truths and guesses:
        cost = np.array([[errors_2d(truth, guess).mean() for guess in guesses] for truth in truths])
        for i, j in zip(*linear_sum_assignment(np.minimum(cost, FAR)), strict=True):
            if cost[i, j] < MATCH_LIMIT:
                found[i] = guesses[j]
    return found


def _groups_of(photo: ExamPhoto, truth: TrueHand) -> list[str]:
    names = [photo.group]
    if photo.group != "rhd":  # the one source that is rendered
        names.append("all real")
        if not photo.group.startswith("hgc"):  # one person in one scene, thirty times: it would drown the others
            names.append("real, varied (no hgc)")
    if truth.interacting:
        names.append("interacting hands")
    return names


def _relative_error_mm(verdicts: tuple[Verdict, ...]) -> float | None:
    """MRRPE of one photo, None unless both of its hands were matched with the right side and have 3D truth."""
    pairs = {
        v.truth.side: (v.found.keypoints_mm[0], v.truth.keypoints_mm[0])
        for v in verdicts
        if v.found is not None and v.found.side == v.truth.side and v.found.keypoints_mm is not None and v.truth.keypoints_mm is not None
    }
    if len(pairs) < 2:
        return None
    predicted, true = (np.stack([pairs["left"][k], pairs["right"][k]]) for k in (0, 1))
    return float(metrics.mrrpe_mm(predicted, true))


def _summary(verdicts: list[Verdict]) -> GroupScore:
    found = [v for v in verdicts if v.found is not None]
    errors = np.concatenate([np.zeros(0), *(v.errors_2d for v in found if v.errors_2d is not None)])
    labelled = sum(int(v.truth.labelled.sum()) for v in verdicts)
    relative = [v.mpjpe_mm for v in found if v.mpjpe_mm is not None]
    aligned = [v.pa_mpjpe_mm for v in found if v.pa_mpjpe_mm is not None]
    return GroupScore(
        n=len(verdicts),
        recall=len(found) / len(verdicts),
        side=_mean([float(v.found.side == v.truth.side) for v in found if v.found is not None]),
        pck=tuple(metrics.pck(errors, limit, labelled) for limit in PCK_LIMITS),
        n_3d=len(aligned),
        # A hand whose wrist is not annotated has no wrist-relative error (NaN), but it has an aligned one.
        mpjpe_mm=_mean([e for e in relative if not np.isnan(e)]),
        pa_mpjpe_mm=_mean(aligned),
    )


def _mean(values: list[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _cell(value: float | None, digits: int = 1) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
