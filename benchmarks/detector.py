"""Precision against recall of the detector, and the error of its directions: on rendered scenes of people and clutter, and on annotated photos.

    python benchmarks/detector.py OUT --exam FOLDER [--count N] [--backgrounds FOLDER] [--borders FOLDER] [--picture FILE]

Scenes are wide ones (people, other people, limbs, boxes, an eighth of the people without hands in sight), with seeds of no training, kept in
OUT/scenes. A detection finds a hand if their boxes overlap (IoU .5; the tables also have .3), the surest first, each hand once. The detector often
gives one hand two boxes, one of either side, and leaves it to stage 1 which is right: such a second box is a "double" and no false alarm, and
"side" is that of the surer one. On hands that are hardly to be seen nothing is judged, nor are unmatched boxes on photos that show more hands than
are annotated. Directions are judged of found hands that do not point at the camera (wrist and middle knuckle at least a fifth of the box apart).
"""

import dataclasses
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from tqdm import tqdm

from annotated_scenes import SceneOptions
from twohands.detector import Detector
from twohands.errors import UserError
from twohands.evaluation.reliability import PrecisionRecall, precision_recall
from twohands.evaluation.true_boxes import AnnotatedPicture, exam_pictures, overlaps
from twohands.schema import Detection

SEED = 802
LOWEST = 0.02
"""Down to this confidence boxes are asked for; the product stops at the detector's own threshold."""
FOUND_IOU = (0.5, 0.3)
SIZES_PX = ((0, 20), (20, 40), (40, 80), (80, 10_000))
"""Longer side of a hand's box, in pixels of a picture whose longer side is 256."""
POINTS_AT_CAMERA = 0.2


@dataclass(frozen=True)
class Options(SceneOptions):
    """Detects, judges, prints, draws."""

    count: int = 500
    """Rendered scenes."""


@dataclass(frozen=True)
class Found:
    """Detections of a set of pictures, one row each, and the hands that were to be found."""

    score: np.ndarray
    hit: np.ndarray
    """It found a hand."""
    double: np.ndarray
    """It lies on a hand that was found, and says that it has the other side: not in precision and recall."""
    right_side: np.ndarray
    size_px: np.ndarray
    """Of the hand that was found, scaled to a picture of 256; NaN where none was."""
    direction_error_deg: np.ndarray
    """NaN where there is none to judge."""
    asked_px: np.ndarray
    """Sizes of all hands."""

    def curve(self) -> PrecisionRecall:
        single = ~self.double
        return precision_recall(self.score[single], self.hit[single], len(self.asked_px))


def main(options: Options) -> None:
    """Both sets of pictures."""
    detector = Detector.load()
    threshold = detector.config.threshold
    detector.config = dataclasses.replace(detector.config, threshold=LOWEST)
    sets = {"rendered, wide": options.scenes("wide", SEED, options.count, everyone=True)}
    if options.exam is not None:
        sets["photos"] = list(exam_pictures(options.exam))
    detections = {name: [detector(picture.image) for picture in tqdm(pictures, mininterval=5)] for name, pictures in sets.items()}
    found = {iou: {name: judge(detections[name], pictures, iou) for name, pictures in sets.items()} for iou in FOUND_IOU}
    print(report(found, threshold))
    print(draw(found[FOUND_IOU[0]], threshold, options.picture or options.out / "detector.png"))


def judge(detections: list[Detection], pictures: list[AnnotatedPicture], least_iou: float) -> Found:
    """Every box of every picture."""
    rows: list[tuple[float, bool, bool, bool, float, float]] = []
    asked: list[float] = []
    for detection, picture in zip(detections, pictures, strict=True):
        unit = max(picture.image.shape[:2]) / 256
        asked += [hand.side_px / unit for hand in picture.hands]
        boxes = np.array([hand.box_xyxy_px for hand in picture.hands]).reshape(-1, 4)
        lies = overlaps(detection.box_xyxy_px.numpy(), boxes)
        unsure = overlaps(detection.box_xyxy_px.numpy(), picture.doubtful)
        finder = np.full(len(boxes), -1)
        """Side that the box says which found each hand."""
        for k in detection.score.argsort(descending=True).tolist():
            says = int(detection.right_probability[k] > 0.5)
            overlap = np.where(finder < 0, lies[k], 0.0)
            best = int(overlap.argmax()) if len(boxes) else -1
            if best >= 0 and overlap[best] >= least_iou:
                finder[best] = says
                hand, angle = picture.hands[best], np.nan
                if hand.direction is not None and hand.length_share >= POINTS_AT_CAMERA:
                    angle = float(np.degrees(np.arccos(np.clip(detection.direction[k].numpy() @ hand.direction, -1, 1))))
                rows.append((float(detection.score[k]), True, False, says == hand.side, hand.side_px / unit, angle))
            elif ((lies[k] >= least_iou) & (finder == 1 - says)).any():
                rows.append((float(detection.score[k]), False, True, False, np.nan, np.nan))
            elif picture.complete and not (unsure[k] > 0.05).any():
                rows.append((float(detection.score[k]), False, False, False, np.nan, np.nan))
    table = np.array(rows, float).reshape(-1, 6)
    return Found(
        table[:, 0], table[:, 1] > 0.5, table[:, 2] > 0.5, table[:, 3] > 0.5, table[:, 4], table[:, 5], np.array(asked)
    )  # fmt: skip


def report(found: dict[float, dict[str, Found]], threshold: float) -> str:
    """Markdown: what the product finds at its threshold, by size, and the directions' errors."""
    lines = [
        f"| pictures | IoU | hands | average precision | precision at {threshold:g} | recall | doubles a hand | right side "
        "| direction: median | 90 % | beyond 45 deg |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for iou, sets in found.items():
        for name, f in sets.items():
            precision, recall = f.curve().at(threshold)
            sure = f.score >= threshold
            kept = sure & f.hit
            lines.append(
                f"| {name} | {iou:g} | {len(f.asked_px)} | {f.curve().average_precision:.3f} | {precision:.3f} | {recall:.3f} "
                f"| {(sure & f.double).sum() / max(kept.sum(), 1):.2f} | {f.right_side[kept].mean():.3f} | {directions(f.direction_error_deg[kept])} |"
            )
            for low, high in SIZES_PX:
                asked = (f.asked_px >= low) & (f.asked_px < high)
                here = kept & (f.size_px >= low) & (f.size_px < high)
                if asked.sum() >= 5 and here.any():
                    span = f"{low} to {high} px" if high < 1000 else f"{low} px and more"
                    lines.append(
                        f"| {name}, {span} | {iou:g} | {asked.sum()} | | | {here.sum() / asked.sum():.3f} | | {f.right_side[here].mean():.3f} "
                        f"| {directions(f.direction_error_deg[here])} |"
                    )
    return "\n".join(lines)


def directions(errors_deg: np.ndarray) -> str:
    """Three cells."""
    known = errors_deg[np.isfinite(errors_deg)]
    if not len(known):
        return "- | - | -"
    return f"{np.median(known):.1f} | {np.percentile(known, 90):.1f} | {(known > 45).mean():.3f}"


def draw(sets: dict[str, Found], threshold: float, path: Path) -> Path:
    """Precision over recall, and the share of directions within an error."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 2.9), layout="constrained")
    left, right = figure.subplots(1, 2)
    for (name, found), colour in zip(sets.items(), ((0.6, 0.25, 0.55), (0.2, 0.4, 0.8)), strict=False):
        curve = found.curve()
        left.plot(curve.recall, curve.precision, color=colour, linewidth=1.4, label=f"{name}: {curve.average_precision:.3f}")
        precision, recall = curve.at(threshold)
        left.scatter([recall], [precision], 22, color=colour, zorder=3)
        errors = np.sort(found.direction_error_deg[(found.score >= threshold) & np.isfinite(found.direction_error_deg)])
        right.plot(errors, (np.arange(len(errors)) + 1) / max(len(errors), 1), color=colour, linewidth=1.4, label=name)
    left.set(xlim=(0, 1.01), ylim=(0, 1.02), xlabel="recall", ylabel="precision")
    right.set(xlim=(0, 90), ylim=(0, 1.02), xlabel="error of the direction at most, degrees", ylabel="share of hands")
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="0.92")
        axes.legend(frameon=False, fontsize=7, loc="lower left" if axes is left else "lower right")
    left.legend(
        frameon=False, fontsize=7, loc="lower left", title=f"average precision; dot: the threshold, {threshold:g}", title_fontsize=7
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    return path


if __name__ == "__main__":
    try:
        main(tyro.cli(Options, description=__doc__))
    except UserError as error:
        sys.exit(f"error: {error}")
