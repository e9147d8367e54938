"""What each family of variety in the training data is worth: one small network a row, equal budgets, judged on real photos and on rendered ones.

    python benchmarks/varieties.py OUT --exam FOLDER --trunk hand_landmark_full.tflite --photos SHARDS --first-engine SHARDS
        [--backgrounds FOLDER] [--borders FOLDER] [--rows NAME ...] [--steps N] [--images N]

Every row renders its pictures into OUT/data (rows with the same knobs share them), trains into OUT/runs/NAME and writes OUT/NAME.json; what is there
already is kept, so that the same command goes on where it was cut off. The rows "no priors", "+ keypoints" and "+ segmentation" are those of the
paper's Table 3; "everything" is its "+ depth". At the end the table is printed.
"""

import dataclasses
import json
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro

from twohands.data.shards import ShardSet
from twohands.detector import Detector
from twohands.errors import UserError
from twohands.evaluation import real_photos
from twohands.evaluation.true_boxes import exam_detection
from twohands.export import prediction_entry
from twohands.geometry.photo import choose_camera, read_photo
from twohands.hands.bundled import load_bundled_hand, load_hand_asset
from twohands.manifest import beside
from twohands.pipeline import Pipeline
from twohands.regress.infer import Stage1
from twohands.regress.network import Regressor
from twohands.synth.backgrounds import Photos
from twohands.synth.generate import write_shards
from twohands.synth.scene import SceneKnobs
from twohands.training.ablation import SMALL, PriorKinds, SmallRun, errors_on, load_small, token_stride, train_small
from twohands.training.fit import FitConfig
from twohands.training.pairs import PairBatch, make_batch

SHARD = 400
TRAIN_SEED, TEST_SEED = 301, 399
"""Seeds of no other data set."""
TEST_SCENES = 300
REAL_SHARE = 0.35
WIDER_GROUPS = ("hgc_realworld", "real, varied (no hgc)", "all real", "interacting hands")


@dataclass(frozen=True)
class Row:
    """One network."""

    name: str
    knobs: Mapping[str, Any] = field(default_factory=dict)
    """What differs from the engine's defaults."""
    first_engine: bool = False
    photos: bool = True
    """Hands of real photos with their teacher's keypoints are mixed in."""
    trunk: bool = True
    seed: int = 0
    priors: PriorKinds = "depth"
    steps: float = 1.0
    """Of the budget."""
    images: float | None = 1.0
    """Of the number of pictures; None: as many as there are."""


ROWS = {
    row.name: row
    for row in (
        Row("everything"),
        Row("everything, again", seed=1),
        Row("first engine", first_engine=True),
        Row("- real photos", photos=False),
        Row("no priors", priors="none"),
        Row("- second hand", {"two_hands": 0.0}),
        Row("- bodies", {"bodies": 0.0}),
        Row("- trained trunk", trunk=False),
        Row("- camera", {"faults": "none", "fov_deg": (40.0, 40.0), "fov_ego_deg": (70.0, 70.0), "fill_close": (0.7, 0.7)}),
        Row("- poses", {"poses": "simple", "interacting": 0.0}),
        Row("+ keypoints", priors="keypoints"),
        Row("- backgrounds", {"background": "plain"}),
        Row("- light", {"light": "plain"}),
        Row("- objects", {"held": 0.0, "occluder": 0.0, "pasted": 0.0, "glove": 0.0, "ring": 0.0, "watch": 0.0}),
        Row("+ segmentation", priors="parts"),
        Row("everything, twice as long", steps=2.0),
        Row("first engine, 16,000 pictures", first_engine=True, images=None),
    )
}


@dataclass(frozen=True)
class Options:
    """Trains and judges the rows that are not there yet, then prints the table."""

    out: tyro.conf.Positional[Path]
    exam: Path
    """Folder of real photos with an exam.json."""
    trunk: Path
    """The landmark network's file."""
    photos: Path
    """Shards of hands from real photos."""
    first_engine: Path
    """Shards of the engine's first version."""
    backgrounds: Path | None = None
    borders: Path | None = None
    rows: tuple[str, ...] = tuple(ROWS)
    steps: int = 200
    images: int = 400


def main(options: Options) -> None:
    """Runs the rows in order."""
    if unknown := [name for name in options.rows if name not in ROWS]:
        raise UserError(f"there is no row {unknown[0]!r}; the rows are {', '.join(ROWS)}")
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    for name in options.rows:
        path = options.out / f"{file_name(name)}.json"
        if not path.is_file():
            result = run_row(options, ROWS[name])
            with beside(path) as part:
                part.write_text(json.dumps(result, indent=1))
        print(name, json.dumps(json.loads(path.read_text())["summary"]), flush=True)
    print(table(options.out))


def file_name(row: str) -> str:
    """A row's name as a file's."""
    return row.replace(",", "").replace(" ", "_").replace("-", "without").replace("+", "with")


def run_row(options: Options, row: Row) -> dict[str, Any]:
    """Data, training, scores."""
    started = time.process_time()
    shards = [training_shards(options, row)]
    rendered = time.process_time()
    mixture = [1.0]
    if row.photos:
        shards.append(options.photos)
        mixture = [1 - REAL_SHARE, REAL_SHARE]
    steps = round(options.steps * row.steps)
    fit = FitConfig(
        options.out / "runs" / file_name(row.name), steps, 1e-3, warmup_steps=60, checkpoint_steps=50, average=0.985, precision="32-true",
        seed=row.seed, accelerator="cpu",
    )  # fmt: skip
    images = None if row.images is None else round(options.images * row.images)
    run = SmallRun(fit, tuple(shards), tuple(mixture), images, row.priors, options.trunk if row.trunk else None)
    weights = fit.out / "small.safetensors"
    network = load_small(weights, SMALL, not row.trunk) if weights.is_file() else train_small(run)
    trained = time.process_time()
    scores = score(options, network)
    return {
        "row": dataclasses.asdict(row), "steps": steps, "images": images,
        "seconds": {"render": rendered - started, "train": trained - rendered, "score": time.process_time() - trained},
        **scores,
    }  # fmt: skip


def training_shards(options: Options, row: Row) -> Path:
    """The folder of a row's pictures; rendered if need be."""
    if row.first_engine:
        return options.first_engine
    knobs = SceneKnobs(**row.knobs)
    changed = [f"{key}-{value}".replace(" ", "") for key, value in row.knobs.items()]
    folder = options.out / "data" / ("_".join(["close", *changed]))
    write_shards(folder, TRAIN_SEED, options.images, knobs, SHARD, photos=Photos(options.backgrounds, options.borders))
    return folder


def test_batches(options: Options) -> list[PairBatch]:
    """Scenes of the engine as it is, with seeds of their own, true boxes and clean pixels."""
    folder = options.out / "data" / "test"
    write_shards(folder, TEST_SEED, TEST_SCENES, SceneKnobs(), 100, photos=Photos(options.backgrounds, options.borders))
    shards = ShardSet.read(sorted(folder.glob("*.npz")))
    stride = token_stride(SMALL)
    indices = [(shards, k) for k in range(len(shards))]
    return [
        make_batch(indices[first : first + 30], SMALL.crop_px, stride, np.random.default_rng(0), None)
        for first in range(0, len(indices), 30)
    ]


def score(options: Options, network: Regressor) -> dict[str, Any]:
    """On rendered scenes with true boxes; on real photos with true boxes, and with the detector that ships."""
    synthetic = errors_on(network, test_batches(options))
    hand = load_bundled_hand()
    pipeline = Pipeline(Detector.load(), Stage1(network, hand, load_hand_asset().limits), None, hand, hand)
    exam = real_photos.read_exam(options.exam)
    asked = [p for p in exam if p.hands is not None or p.group == real_photos.TWO_HAND_GROUP]
    by_boxes = {}
    for boxes in ("truth", "detector"):
        entries = {}
        for photo in asked:
            if boxes == "truth" and photo.hands is None:
                continue
            read = read_photo(photo.path)
            height, width = read.image.shape[:2]
            camera, source = choose_camera(width, height, None, None, photo.intrinsics, read.focal_px_exif)
            detection = exam_detection(photo) if boxes == "truth" else pipeline.detector(read.image)
            entries[photo.id] = prediction_entry(pipeline.from_detection(read.image, camera, detection, source, refine=False), hand)
        predictions = {key: real_photos.parse_prediction(entry) for key, entry in entries.items()}
        by_boxes[boxes] = real_photos.score(asked, predictions).to_json()
    summary = {
        "hgc PA": by_boxes["truth"]["groups"]["hgc_realworld"]["pa_mpjpe_mm"],
        "varied PCK": by_boxes["truth"]["groups"]["real, varied (no hgc)"]["pck"][1],
        "MPJPE": synthetic["mpjpe_mm"],
        "MRRPE": synthetic["mrrpe_mm"],
    }
    return {"summary": summary, "synthetic": synthetic, "real": by_boxes}


def table(out: Path) -> str:
    """Markdown of all rows that are there."""
    lines = [
        "| row | hgc PA mm / PCK@.1 | varied PCK@.1 / recall | with detector: hgc PA / PCK@.1 | varied PCK@.1 / recall | two-hand photos | "
        "rendered MPJPE / PA / MRRPE mm | PCK@.1 |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name in ROWS:
        path = out / f"{file_name(name)}.json"
        if not path.is_file():
            continue
        r = json.loads(path.read_text())
        cells = []
        for boxes in ("truth", "detector"):
            hgc, varied = (r["real"][boxes]["groups"][group] for group in ("hgc_realworld", "real, varied (no hgc)"))
            pa = "-" if hgc["pa_mpjpe_mm"] is None else f"{hgc['pa_mpjpe_mm']:.1f}"
            cells += [f"{pa} / {hgc['pck'][1]:.2f}", f"{varied['pck'][1]:.2f} / {varied['recall']:.2f}"]
        s = r["synthetic"]
        solved = f"{r['real']['detector']['two_hand_solved']} of {r['real']['detector']['two_hand_photos']}"
        lines.append(
            f"| {name} | {' | '.join(cells)} | {solved} | {s['mpjpe_mm']:.1f} / {s['pa_mm']:.1f} / {s['mrrpe_mm']:.0f} | {s['pck_0.1']:.3f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    try:
        main(tyro.cli(Options, description=__doc__))
    except UserError as error:
        sys.exit(f"error: {error}")
