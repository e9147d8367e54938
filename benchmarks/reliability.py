"""Whether the probabilities that the product states are true: of keypoints, of there being a hand, of its side, of a hand that is returned.

    python benchmarks/reliability.py OUT --exam FOLDER [--count N] [--backgrounds FOLDER] [--borders FOLDER] [--picture FILE]

Half of the rendered scenes are close (true boxes, and the product's own), half are wide with people and clutter (its own boxes); the seeds are those of
no training. What was stated and what was true is kept in OUT/*.npz, so that the same command goes on where it was cut off; delete OUT after the
weights changed. Prints the errors before and after a calibration that was fitted to every second statement about rendered scenes, and draws the
curves.

Definitions. A keypoint is right when its projection lies nearer than a tenth of the hand's box to the true one. A crop shows a hand if its box
overlaps one (IoU .3). Its side is judged where no hand of the other side lies there too. A returned hand is right if it has the right side and lies on
the hand (mean keypoint error below half the box), each hand once.
"""

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import tyro
from scipy.optimize import linear_sum_assignment
from tqdm import tqdm

import twohands
from annotated_scenes import SceneOptions
from twohands.errors import UserError
from twohands.evaluation.reliability import ReliabilityCurve, fit_scaling, reliability_curve
from twohands.evaluation.true_boxes import AnnotatedPicture, exam_pictures, overlaps
from twohands.finding import Finder, Regressor
from twohands.geometry.camera import Camera
from twohands.manifest import beside
from twohands.people import Candidate
from twohands.pipeline import Pipeline
from twohands.schema import HandPair, Stage1Hands

CLOSE_SEED, WIDE_SEED = 801, 802
AT_ONCE = 20
"""Pictures whose statements are kept together; a run that was cut off loses no more."""
SAME_HAND_IOU = 0.3
RIGHT_KEYPOINT, ON_THE_HAND, FAR = 0.1, 0.5, 10.0
KINDS = ("keypoint", "presence", "side", "score")
TITLES = {
    "keypoint": "keypoint within a tenth of the hand",
    "presence": "the crop shows a hand (stage 1)",
    "side": "the hand has the side asked for (stage 1)",
    "score": "a returned hand is right (score)",
}
SOURCES = {
    "close, true boxes": (0.15, 0.15, 0.15), "close, own boxes": (0.15, 0.55, 0.35), "wide, own boxes": (0.6, 0.25, 0.55),
    "photos, true boxes": (0.85, 0.45, 0.1), "photos, own boxes": (0.2, 0.4, 0.8),
}  # fmt: skip


@dataclass(frozen=True)
class Options(SceneOptions):
    """Collects statements and outcomes, prints errors, draws curves."""

    count: int = 1000
    """Rendered scenes."""
    prior: Literal["auto", "encoder", "teacher"] = "encoder"


class Statements:
    """Pairs of what was stated and whether it was true, by kind; of keypoints also whether they can be seen."""

    def __init__(self) -> None:
        self.rows: dict[str, list[tuple[float, bool, bool]]] = {kind: [] for kind in KINDS}

    def add(self, kind: str, stated: float, true: bool, visible: bool = True) -> None:
        self.rows[kind].append((stated, true, visible))

    def arrays(self) -> dict[str, np.ndarray]:
        return {kind: np.array(rows, float).reshape(-1, 3) for kind, rows in self.rows.items()}


def main(options: Options) -> None:
    """Collects what is missing, then reports."""
    (options.out / "statements").mkdir(parents=True, exist_ok=True)
    pipeline: Pipeline | None = None
    found: dict[str, dict[str, np.ndarray]] = {}
    for name in SOURCES:
        if options.exam is None and name.startswith("photos"):
            continue
        slug = name.replace(", ", "_").replace(" ", "_")
        pictures = list(exam_pictures(options.exam)) if name.startswith("photos") and options.exam else rendered(options, name)
        parts: list[Path] = []
        for first in tqdm(range(0, len(pictures), AT_ONCE), desc=name):
            parts.append(options.out / "statements" / f"{slug}_{first:04d}.npz")
            if not parts[-1].is_file():
                pipeline = pipeline or twohands.load(prior=options.prior)
                statements = Statements()
                for picture in pictures[first : first + AT_ONCE]:
                    collect(pipeline, picture, "true" in name, statements)
                with beside(parts[-1]) as part, part.open("wb") as file:
                    np.savez(file, **statements.arrays())  # type: ignore[arg-type]
        found[name] = {kind: np.concatenate([_read(path)[kind] for path in parts]) for kind in KINDS}
    print(report(found))
    print(draw(found, options.picture or options.out / "reliability.png"))


def _read(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as stored:
        return {kind: stored[kind] for kind in KINDS}


def rendered(options: Options, name: str) -> list[AnnotatedPicture]:
    """The scenes of a source."""
    framing, seed = ("close", CLOSE_SEED) if name.startswith("close") else ("wide", WIDE_SEED)
    return options.scenes(framing, seed, options.count // 2)


class Listener:
    """Stage 1 that remembers what it was first asked about a picture, and what it answered."""

    def __init__(self, regressor: Regressor) -> None:
        self.regressor = regressor
        self.first: list[tuple[HandPair, Stage1Hands]] = []

    def infer(
        self, image: torch.Tensor, camera: Camera, pairs: list[HandPair], seen: list[Stage1Hands] | None = None, looks: int | None = None
    ) -> list[Stage1Hands]:
        answers = self.regressor.infer(image, camera, pairs, seen, looks)
        self.first = self.first or list(zip(pairs, answers, strict=True))
        return answers


def collect(pipeline: Pipeline, picture: AnnotatedPicture, true_boxes: bool, into: Statements) -> None:
    """What is stated about a picture, and what is so: of every crop that stage 1 was shown first, and of every hand that is returned."""
    detection = picture.detection() if true_boxes else pipeline.detector(picture.image)
    listener = Listener(pipeline.regressor)
    returned = Finder(listener, pipeline.network_hand).candidates(picture.image, picture.camera, detection)
    boxes = np.array([hand.box_xyxy_px for hand in picture.hands]).reshape(-1, 4)
    sides = np.array([hand.side for hand in picture.hands], int)
    for pair, answer in listener.first:
        lies, unsure = (overlaps(pair.box_xyxy_px.numpy(), others) for others in (boxes, picture.doubtful))
        for hand in (0, 1):
            known = lies[hand] >= SAME_HAND_IOU
            if not pair.present[hand] or (not known.any() and (not picture.complete or (unsure[hand] > 0.05).any())):
                continue
            if not true_boxes:
                into.add("presence", float(answer.presence[hand]), bool(known.any()))
            if known.any() and len(set(sides[known])) == 1:
                into.add("side", float(answer.side_correct[hand]), bool(sides[known][0] == hand))
    add_returned(returned, picture, into)


def add_returned(returned: list[Candidate], picture: AnnotatedPicture, into: Statements) -> None:
    """Scores and keypoints of the hands that are returned; each annotated hand is found once."""
    hands = [(candidate, hand) for candidate in returned for hand in (0, 1) if candidate.present[hand]]
    away = np.full((len(hands), len(picture.hands), 21), np.inf)
    for row, (candidate, hand) in enumerate(hands):
        for column, true in enumerate(picture.hands):
            if true.side == hand:
                away[row, column] = np.linalg.norm(candidate.keypoints_xy[hand].numpy() - true.keypoints_xy, axis=1) / true.side_px
    labelled = np.array([true.labelled for true in picture.hands]).reshape(-1, 21)
    near = np.minimum([[errors[known].mean() for errors, known in zip(row, labelled, strict=True)] for row in away], FAR)
    pairs = dict(zip(*linear_sum_assignment(near), strict=True)) if near.size else {}
    for row, (candidate, hand) in enumerate(hands):
        found = pairs.get(row)
        right = found is not None and bool(near[row, found] < ON_THE_HAND)
        box = np.concatenate([candidate.keypoints_xy[hand].amin(0), candidate.keypoints_xy[hand].amax(0)])[None]
        if right or (picture.complete and not (overlaps(box, picture.doubtful) > 0.05).any()):
            into.add("score", float(candidate.score[hand]), right)
        if found is not None and right:
            true = picture.hands[found]
            for k in np.flatnonzero(true.labelled):
                close = bool(away[row, found, k] < RIGHT_KEYPOINT)
                into.add("keypoint", float(candidate.hands.keypoint_confidence[hand, k]), close, bool(true.visible[k]))


def curve_of(rows: np.ndarray) -> ReliabilityCurve:
    return reliability_curve(rows[:, 0], rows[:, 1] > 0.5)


def report(found: dict[str, dict[str, np.ndarray]]) -> str:
    """Markdown: number of statements, mean stated, share true, calibration error as it is, after scaling."""
    lines = ["| probability | source | n | stated | true | error | after scaling |", "|---|---|---|---|---|---|---|"]
    for kind in KINDS:
        fitted = [rows[kind] for name, rows in found.items() if not name.startswith("photos")]
        rows = np.concatenate([r[::2] for r in fitted])
        true = rows[:, 1] > 0.5
        scaling = fit_scaling(rows[:, 0], true) if 0 < true.sum() < len(true) else None
        if scaling:
            lines.append(f"| {kind}: log odds x {scaling.slope:.2f} {scaling.shift:+.2f} | | {len(rows)} | | | | |")
        for name, by_kind in found.items():
            for part, some in parts(kind, name, by_kind[kind]):
                judged = some if name.startswith("photos") else some[1::2]
                if len(judged) < 2:
                    continue
                after = "-" if scaling is None else f"{reliability_curve(scaling(judged[:, 0]), judged[:, 1] > 0.5).error:.3f}"
                lines.append(
                    f"| {kind} | {name}{part} | {len(judged)} | {judged[:, 0].mean():.3f} | {judged[:, 1].mean():.3f} "
                    f"| {curve_of(judged).error:.3f} | {after} |"
                )
    return "\n".join(lines)


def parts(kind: str, name: str, rows: np.ndarray) -> Iterable[tuple[str, np.ndarray]]:
    """All statements and, of rendered keypoints, those that can be seen and those that cannot."""
    yield "", rows
    if kind == "keypoint" and not name.startswith("photos"):
        seen = rows[:, 2] > 0.5
        yield ", seen", rows[seen]
        yield ", hidden", rows[~seen]


def draw(found: dict[str, dict[str, np.ndarray]], path: Path) -> Path:
    """Four panels; the size of a dot grows with the number of statements."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.6, 2.9), layout="constrained")
    for axes, kind in zip(figure.subplots(1, 4, sharey=True), KINDS, strict=True):
        axes.plot([0, 1], [0, 1], color="0.75", linewidth=1, zorder=0)
        for name, colour in SOURCES.items():
            if name not in found or len(found[name][kind]) < 20:
                continue
            curve = curve_of(found[name][kind])
            kept = curve.count >= 5
            axes.plot(curve.stated[kept], curve.observed[kept], color=colour, linewidth=1.2, label=f"{name}: {curve.error:.3f}")
            area = 6 + 60 * np.sqrt(curve.count[kept] / curve.count.sum())
            axes.scatter(curve.stated[kept], curve.observed[kept], area, color=colour, linewidths=0)
        axes.set_title(TITLES[kind], fontsize=7.5, loc="left")
        axes.set_xlabel("stated", fontsize=7.5)
        axes.tick_params(labelsize=7)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=6, loc="best", title="calibration error", title_fontsize=6)
    figure.axes[0].set_ylabel("true", fontsize=7.5)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    return path


if __name__ == "__main__":
    try:
        main(tyro.cli(Options, description=__doc__))
    except UserError as error:
        sys.exit(f"error: {error}")
