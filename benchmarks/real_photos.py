"""Runs the product on a folder of real photos with truth, scores it, and draws what it saw.

    python benchmarks/real_photos.py FOLDER [--predictions FILE] [--prior auto|encoder|teacher] [--no-align] [--out DIR] [--sheets]

FOLDER holds an exam.json (format and rules: twohands.evaluation.real_photos). If it also holds mediapipe_predictions.json, that is scored
beside. Writes DIR/predictions.json and DIR/report.json, and with --sheets one contact sheet a group: thin white is the truth, blue a left
hand, orange a right one; cells in which something is wrong come first and have a red frame.
"""

import json
import math
import statistics
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro
from PIL import Image, ImageDraw, ImageFont
from tqdm import tqdm

import twohands
from twohands.errors import UserError
from twohands.evaluation import real_photos
from twohands.evaluation.real_photos import ExamPhoto, Prediction, Verdict
from twohands.joints import OPENPOSE21_BONES
from twohands.palette import LEFT_RGB, RIGHT_RGB

PEER = "mediapipe_predictions.json"
CELL_PX = 300
COLUMNS = 5
COLOUR = {"left": LEFT_RGB, "right": RIGHT_RGB}
TRUTH = (255, 255, 255)
GOOD, BAD = (60, 160, 80), (220, 40, 40)
POOR_2D = 0.2
"""Mean 2D error, in box sides, from which a matched hand counts as wrong on the sheet."""
OWN_SHEET = 6
"""Sources with fewer photos share a sheet."""


@dataclass(frozen=True)
class Options:
    """Scores this program, or a predictions file, on a folder of real photos."""

    folder: tyro.conf.Positional[Path]
    """Folder with exam.json and its photos."""
    predictions: Path | None = None
    """Score this file instead of running anything."""
    prior: Literal["auto", "encoder", "teacher"] = "auto"
    """Where the 2D prior of stage 1 comes from."""
    refine: bool = True
    """Run stage 2."""
    align: bool = True
    """Pull the hands to the 2D joints that stage 1 sees."""
    device: str = "cpu"
    engine: Literal["torch", "auto", "openvino"] = "torch"
    """What runs the networks. PyTorch gives the same score however often it is run; the product's choice, auto, changes over to OpenVINO in
    between, sooner where it was converted before, and one photo's hidden hand hangs on last bits."""
    out: Path = Path("out/real_photos")
    """Folder for the results."""
    sheets: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Draw contact sheets."""


@dataclass(frozen=True)
class Cell:
    """One photo of a contact sheet."""

    picture: Image.Image
    wrong: bool


def main(options: Options) -> None:
    """Runs, scores, writes, prints."""
    photos = real_photos.read_exam(options.folder)
    options.out.mkdir(parents=True, exist_ok=True)
    overlays: dict[str, Image.Image] = {}
    report: dict[str, Any] = {}
    if options.predictions is None:
        name, predictions_file = "twohands", options.out / "predictions.json"
        done = run(options, photos)
        overlays = done.overlays
        twohands.write_predictions(predictions_file, done.entries)
        report |= {"prior": done.prior_source, "seconds": by_stage(done.seconds)}
    else:
        name, predictions_file = options.predictions.stem, options.predictions
    predictions = real_photos.read_predictions(predictions_file)
    scores = {name: real_photos.score(photos, predictions)}
    peer = options.folder / PEER
    if peer.is_file() and peer.resolve() != predictions_file.resolve():
        scores["mediapipe"] = real_photos.score(photos, real_photos.read_predictions(peer))
    print(real_photos.table(scores))
    if "seconds" in report:
        import torch

        threads = torch.get_num_threads()
        print(f"\nPrior: {report['prior']}. Seconds a photo, median of {len(photos)} ({options.device}, {threads} threads):")
        print("\n".join(f"  {stage:10s} {value:.3f}" for stage, value in report["seconds"].items()))
    report["scores"] = {method: score.to_json() for method, score in scores.items()}
    (options.out / "report.json").write_text(json.dumps(report, indent=1))
    if options.sheets:
        for path in draw_sheets(photos, predictions, overlays, options.out):
            print(path)


@dataclass(frozen=True)
class Run:
    """What the product said of all photos."""

    entries: dict[str, dict[str, Any]]
    """Photo id -> entry of a predictions file."""
    seconds: list[dict[str, float]]
    """Of each photo, by stage."""
    overlays: dict[str, Image.Image]
    """Photo id -> photo with meshes; empty unless sheets are wanted."""
    prior_source: str


def run(options: Options, photos: tuple[ExamPhoto, ...]) -> Run:
    """Reconstructs every photo, each with its intrinsics where the exam knows them."""
    from twohands.export import prediction_entry

    pipeline = twohands.load(options.device, prior=options.prior, engine=options.engine, align=options.align)
    entries: dict[str, dict[str, Any]] = {}
    seconds: list[dict[str, float]] = []
    overlays: dict[str, Image.Image] = {}
    for photo in tqdm(photos, unit="photo"):
        result = pipeline.reconstruct(photo.path, intrinsics=photo.intrinsics, refine=options.refine)
        entries[photo.id] = prediction_entry(result, pipeline.hand_model)
        seconds.append(result.seconds)
        if options.sheets:
            overlays[photo.id] = Image.fromarray(twohands.draw_overlay(result, pipeline.hand_model, longer_side_px=1024))
    return Run(entries, seconds, overlays, pipeline.prior_source)


def by_stage(seconds: list[dict[str, float]]) -> dict[str, float]:
    """Median over photos of each stage's time; a stage that did not run took none."""
    stages = list(dict.fromkeys(stage for row in seconds for stage in row))
    return {stage: statistics.median(row.get(stage, 0.0) for row in seconds) for stage in stages}


def draw_sheets(
    photos: tuple[ExamPhoto, ...], predictions: Mapping[str, Prediction], overlays: Mapping[str, Image.Image], out: Path
) -> list[Path]:
    """One PNG a group, photos with something wrong first."""
    sizes = Counter(photo.group for photo in photos)
    groups: dict[str, list[Cell]] = {}
    for photo in photos:
        name = photo.group if photo.hands is None or sizes[photo.group] >= OWN_SHEET else "varied"
        groups.setdefault(name, []).append(draw_cell(photo, predictions.get(photo.id), overlays.get(photo.id)))
    written = []
    for name, cells in sorted(groups.items()):
        cells.sort(key=lambda cell: not cell.wrong)
        width, height = (max(cell.picture.size[axis] for cell in cells) + 4 for axis in (0, 1))
        columns = min(len(cells), max(2, COLUMNS * CELL_PX // width))
        sheet = Image.new("RGB", (columns * width, math.ceil(len(cells) / columns) * height), (24, 24, 24))
        for k, cell in enumerate(cells):
            sheet.paste(cell.picture, (k % columns * width + 2, k // columns * height + 2))
        written.append(out / f"sheet_{name}.png")
        sheet.save(written[-1])
    return written


def draw_cell(photo: ExamPhoto, prediction: Prediction | None, overlay: Image.Image | None) -> Cell:
    """The photo around its hands with skeletons of truth and prediction, the meshes beside if there are any, and the errors below."""
    with Image.open(photo.path) as opened:
        image = opened.convert("RGB")
    hands = prediction.hands if prediction else ()
    known = [hand.keypoints_xy[hand.labelled] for hand in photo.hands or ()]
    window = view_of([*known, *(hand.keypoints_xy for hand in hands)], image.size)
    scale = CELL_PX / max(window[2] - window[0], window[3] - window[1])
    size = (max(1, round((window[2] - window[0]) * scale)), max(1, round((window[3] - window[1]) * scale)))
    panel = image.resize(size, Image.Resampling.BICUBIC, box=window)
    draw = ImageDraw.Draw(panel)
    for hand in hands:
        skeleton(draw, (hand.keypoints_xy - window[:2]) * scale, np.ones(21, bool), COLOUR[hand.side], 3)
    for true in photo.hands or ():
        skeleton(draw, (true.keypoints_xy - window[:2]) * scale, true.labelled, TRUTH, 1)

    panels = [panel]
    if overlay is not None and hands:
        grown = overlay.width / image.width, overlay.height / image.height
        box = (window[0] * grown[0], window[1] * grown[1], window[2] * grown[0], window[3] * grown[1])
        panels.append(overlay.resize(size, Image.Resampling.BICUBIC, box=box))
    lines, wrong = words(photo, prediction)
    return Cell(framed(panels, lines, BAD if wrong else GOOD), wrong)


def view_of(points: list[np.ndarray], size: tuple[int, int]) -> tuple[float, float, float, float]:
    """The part of the photo to show: half as much again as the hands take, or all of it if there are none."""
    if not points:
        return 0.0, 0.0, float(size[0]), float(size[1])
    everything = np.clip(np.concatenate(points), 0, size)
    centre = (everything.min(0) + everything.max(0)) / 2
    half = max(0.75 * float(np.ptp(everything, axis=0).max()), 0.05 * max(size))
    low, high = np.clip(centre - half, 0, size), np.clip(centre + half, 0, size)
    return float(low[0]), float(low[1]), float(high[0]), float(high[1])


def skeleton(draw: ImageDraw.ImageDraw, xy: np.ndarray, known: np.ndarray, colour: tuple[int, int, int], width: int) -> None:
    """Bones between known keypoints, and a dot on each."""
    for a, b in OPENPOSE21_BONES:
        if known[a] and known[b]:
            draw.line([tuple(xy[a]), tuple(xy[b])], fill=colour, width=width)
    for x, y in xy[known]:
        draw.ellipse((x - width, y - width, x + width, y + width), fill=colour)


def words(photo: ExamPhoto, prediction: Prediction | None) -> tuple[list[str], bool]:
    """What to write below the photo, and whether something is wrong."""
    hands = prediction.hands if prediction else ()
    lines, wrong = [photo.id], False
    verdicts = real_photos.judge(photo, prediction)
    for verdict in verdicts:
        text, bad = verdict_words(verdict)
        lines.append(text)
        wrong |= bad
    if photo.hands is None:
        lines.append("no hand found" if not hands else "  ".join(f"{hand.side} {hand.score:.2f}" for hand in hands))
        solved = sorted(hand.side for hand in hands) == ["left", "right"]
        wrong = not (solved if photo.group == real_photos.TWO_HAND_GROUP else hands)
    elif (extra := len(hands) - sum(verdict.found is not None for verdict in verdicts)) > 0:
        lines.append(f"{extra} more than annotated")
    if prediction and prediction.penetration_cm3:
        lines.append(f"shared volume {prediction.penetration_cm3:.3f} cm3")
    return lines, wrong


def verdict_words(verdict: Verdict) -> tuple[str, bool]:
    """One line on an annotated hand, and whether it was got wrong."""
    side = verdict.truth.side
    if verdict.found is None or verdict.errors_2d is None:
        return f"{side}: MISSED", True
    error = float(verdict.errors_2d.mean())
    text = f"{side}: 2D {error:.3f}"
    if verdict.pa_mpjpe_mm is not None and verdict.mpjpe_mm is not None:
        text += f"  PA {verdict.pa_mpjpe_mm:.1f}  MPJPE {verdict.mpjpe_mm:.0f} mm"
    if verdict.found.side != side:
        return f"{text}  SIDE WRONG", True
    return text, error > POOR_2D


def framed(panels: list[Image.Image], lines: list[str], colour: tuple[int, int, int]) -> Image.Image:
    """Panels in a row over lines of text, in a frame."""
    font = ImageFont.load_default(size=14)
    width, height = sum(panel.width for panel in panels), max(panel.height for panel in panels)
    cell = Image.new("RGB", (max(width, CELL_PX) + 8, height + 18 * len(lines) + 12), colour)
    cell.paste((24, 24, 24), (4, 4, cell.width - 4, cell.height - 4))
    left = 4
    for panel in panels:
        cell.paste(panel, (left, 4))
        left += panel.width
    draw = ImageDraw.Draw(cell)
    for k, line in enumerate(lines):
        draw.text((8, height + 6 + 18 * k), line, fill=(235, 235, 235), font=font)
    return cell


if __name__ == "__main__":
    try:
        main(tyro.cli(Options, description=__doc__))
    except UserError as error:
        sys.exit(f"error: {error}")
