"""What stage 2 does to real photos: the volume that two hands share before and after it, and how far it moves them in the picture.

    python benchmarks/refine_real.py FOLDER [--prior auto|encoder|teacher] [--weights FILE] [--out DIR]

FOLDER holds an exam.json (format: twohands.evaluation.real_photos). Every photo that is not annotated as one of a single hand is reconstructed
once; those with two hands of one person that
penetrate are reported, and drawn to DIR/ID.png, before on the left and after on the right. Lengths in the picture are pixels of a picture in
which the two hands (as they came) span 256 px. Where joints are annotated their mean 2D error before and after is given, and for all pairs how
far keypoints moved, and how far those that stage 1 is sure of. DIR/report.json has the numbers.
"""

import dataclasses
import json
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import tyro
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from tqdm import tqdm

import twohands
from twohands.evaluation import real_photos
from twohands.evaluation.real_photos import ExamPhoto
from twohands.hands.model import HandModel
from twohands.refine.refiner import Refiner
from twohands.schema import PhotoResult, TwoHands

SPAN_PX = 256
SURE = 0.8
"""Confidence from which a keypoint counts as sure."""
SIDES = ("left", "right")


@dataclass(frozen=True)
class Options:
    """Volumes and 2D errors of real photos before and after stage 2."""

    folder: tyro.conf.Positional[Path]
    """Folder with exam.json and its photos."""
    prior: Literal["auto", "encoder", "teacher"] = "auto"
    """Where the 2D prior of stage 1 comes from."""
    weights: Path | None = None
    """Stage 2's weights; those of the package by default."""
    out: Path = Path("out/refine_real")
    """Folder for report.json and the pictures."""


@dataclass(frozen=True)
class Row:
    """One pair of hands that came in penetrating."""

    photo: str
    before_cm3: float
    after_cm3: float
    refined: bool
    moved_px: float
    moved_sure_px: float | None
    """None where stage 1 is sure of no keypoint."""
    error_before_px: float | None
    """Of the annotated joints of both hands; None where none are."""
    error_after_px: float | None


def main(options: Options) -> None:
    """Runs, prints, writes."""
    pipeline = twohands.load(prior=options.prior)
    if options.weights is not None:
        pipeline = dataclasses.replace(pipeline, refiner=Refiner.load(options.weights))
    options.out.mkdir(parents=True, exist_ok=True)
    rows, pairs = [], 0
    photos = [p for p in real_photos.read_exam(options.folder) if p.interacting or p.hands is None or len(p.hands) > 1]
    for photo in tqdm(photos, unit="photo"):
        result = pipeline.reconstruct(photo.path, intrinsics=photo.intrinsics)
        for k, person in enumerate(result.people):
            pairs += bool(person.hand_present.all())
            if person.penetration_before_cm3 <= 0:
                continue
            before = as_it_came(person, pipeline.hand_model)
            rows.append(compared(photo, before, person))
            people = tuple(before if i == k else other for i, other in enumerate(result.people))
            drawn = [twohands.draw_overlay(r, pipeline.hand_model, longer_side_px=800) for r in (with_people(result, people), result)]
            Image.fromarray(np.concatenate(drawn, 1)).save(options.out / f"{photo.id.replace('/', '_')}.png")
    report(rows, pairs, pipeline.prior_source)
    (options.out / "report.json").write_text(json.dumps([dataclasses.asdict(row) for row in rows], indent=1) + "\n")


def with_people(result: PhotoResult, people: tuple[TwoHands, ...]) -> PhotoResult:
    """The same photo with other hands."""
    return dataclasses.replace(result, people=people)


def as_it_came(person: TwoHands, model: HandModel) -> TwoHands:
    """The pair before stage 2."""
    if person.parameters_before is None:
        return person
    mesh = model.pose_hands(person.parameters_before).mesh()
    return dataclasses.replace(
        person, parameters=person.parameters_before, vertices_m=mesh.vertices_m, keypoints_m=mesh.keypoints_m,
        keypoints_xy=person.camera.project(mesh.keypoints_m),
    )  # fmt: skip


def compared(photo: ExamPhoto, before: TwoHands, after: TwoHands) -> Row:
    """What changed in the picture."""
    xy = before.keypoints_xy.flatten(0, 1)
    scale = SPAN_PX / float((xy.amax(0) - xy.amin(0)).max())
    moved = scale * (after.keypoints_xy - before.keypoints_xy).norm(dim=-1)
    sure = after.keypoint_confidence >= SURE
    errors = [scale * annotated_errors_px(photo, hands) for hands in (before, after)]
    known = len(errors[0]) > 0
    return Row(
        photo.id,
        before.penetration_before_cm3,
        after.penetration_cm3,
        after.refined,
        float(moved.mean()),
        float(moved[sure].mean()) if bool(sure.any()) else None,
        float(errors[0].mean()) if known else None,
        float(errors[1].mean()) if known else None,
    )


def annotated_errors_px(photo: ExamPhoto, person: TwoHands) -> Float[Tensor, "labelled"]:
    """2D errors of the annotated joints of both hands, pixels of the photo."""
    found = []
    for true in photo.hands or ():
        labelled = torch.from_numpy(true.labelled)
        error = person.keypoints_xy[SIDES.index(true.side)] - torch.from_numpy(true.keypoints_xy).float()
        found.append(error.norm(dim=-1)[labelled])
    return torch.cat(found) if found else torch.empty(0)


def report(rows: list[Row], pairs: int, prior: str) -> None:
    """A table and what it comes to."""
    print(f"Prior: {prior}. {pairs} pairs of two hands, {len(rows)} of them penetrate. Lengths: pixels, the pair spans {SPAN_PX} px.")
    print(
        "| photo | cm3 before | after | keypoints moved | sure ones | error of annotated joints before | after |\n|---|---|---|---|---|---|---|"
    )
    for row in rows:
        last = (row.moved_sure_px, row.error_before_px, row.error_after_px)
        print(f"| {row.photo} | {row.before_cm3:.2f} | {row.after_cm3:.4f} | {row.moved_px:.1f} | " + " | ".join(map(shown, last)) + " |")
    known = [(r.error_before_px, r.error_after_px) for r in rows if r.error_before_px is not None and r.error_after_px is not None]
    if known:
        print(
            f"Annotated joints of {len(known)} pairs: {statistics.mean(b for b, _ in known):.1f} -> {statistics.mean(a for _, a in known):.1f} px"
        )


def shown(value: float | None) -> str:
    """A number, or a dash where there is none."""
    return "-" if value is None else f"{value:.1f}"


if __name__ == "__main__":
    main(tyro.cli(Options))
