"""What each family of variety in the training data is worth: one small network a row, equal budgets, judged on real photos and on rendered ones.

    python benchmarks/varieties.py OUT --exam FOLDER --trunk hand_landmark_full.tflite --photos SHARDS --first-engine SHARDS
        [--backgrounds FOLDER] [--borders FOLDER] [--rows NAME ...] [--steps N] [--pictures N]

Every row renders its pictures into OUT/data (rows with the same knobs share them), trains into OUT/runs/NAME and writes OUT/NAME.json; what is there
already is kept, so that the same command goes on where it was cut off. The rows "no priors", "+ keypoints" and "+ segmentation" are those of the
paper's Table 3; "everything" is its "+ depth". At the end the table is printed. Another seed for all rows: `--seed N` and another OUT, whose `data`
may be a link to the first one's.
"""

import dataclasses
import json
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

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
from twohands.training.ablation import (
    PriorKinds,
    SmallRegressor,
    SmallRun,
    Trunk,
    begin,
    errors_on,
    plain_batches,
    train_small,
    training_batches,
)  # fmt: skip
from twohands.training.fit import FitConfig
from twohands.training.pairs import PairBatch

SHARD = 80
FIRST_ENGINE_SHARD = 500
BATCH = 16
CROPS_A_PICTURE = 1.6
"""Augmented views of each picture, on average."""
TRAIN_SEED, TEST_SEED = 301, 399
"""Seeds of no other data set."""
TEST_SCENES = 200
REAL_SHARE = 0.35


@dataclass(frozen=True)
class Row:
    """One network."""

    name: str
    knobs: Mapping[str, Any] = field(default_factory=dict)
    """What differs from the engine's defaults."""
    first_engine: bool = False
    photos: bool = True
    """Hands of real photos with their teacher's keypoints are mixed in."""
    seed: int = 0
    priors: PriorKinds = "depth"
    trunk: Trunk = "taught"
    steps: float = 1.0
    """Of the budget."""
    pictures: float = 1.0
    """Of the number of pictures."""


ROWS = {
    row.name: row
    for row in (
        Row("everything"),
        Row("everything, again", seed=1),
        Row("- real photos", photos=False),
        Row("no priors", priors="none"),
        Row("- alignment", priors="shown"),
        Row("- readout", trunk="unread"),
        Row("- latents", trunk="untaught"),
        Row("- latents, equal time", trunk="untaught", steps=0.08),
        Row("+ keypoints", priors="keypoints"),
        Row("+ segmentation", priors="parts"),
        Row("first engine", first_engine=True),
        Row("- second hand", {"two_hands": 0.0}),
        Row("- bodies", {"bodies": 0.0}),
        Row("- camera", {"faults": "none", "fov_deg": (40.0, 40.0), "fov_ego_deg": (70.0, 70.0), "fill_close": (0.7, 0.7)}),
        Row("- poses", {"poses": "simple", "interacting": 0.0}),
        Row("- backgrounds", {"background": "plain"}),
        Row("- light", {"light": "plain"}),
        Row("- light from behind", {"lit_from_behind": 0.0}),
        Row("- hair", {"hair": 0.0}),
        Row("- objects", {"held": 0.0, "occluder": 0.0, "pasted": 0.0, "glove": 0.0, "ring": 0.0, "watch": 0.0}),
        Row("everything, twice as long", steps=2.0),
        Row("everything, half the pictures", pictures=0.5),
        Row("first engine, four times the pictures", first_engine=True, pictures=4.0),
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
    steps: int = 300
    """Of 16 pairs."""
    pictures: int = 320
    """A row's rendered pictures, each seen in one or two augmented crops several times."""
    real: int = 400
    """Photographs of hands, shared by all rows."""
    seed: int = 0
    """Added to every row's: weights and order, not pictures."""


def main(options: Options) -> None:
    """Runs the rows in order."""
    if unknown := [name for name in options.rows if name not in ROWS]:
        raise UserError(f"there is no row {unknown[0]!r}; the rows are {', '.join(ROWS)}")
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    benches = {kind: Bench(options, begin(options.trunk, kind=kind).eval()) for kind in {ROWS[name].trunk for name in options.rows}}
    for name in options.rows:
        path = options.out / f"{file_name(name)}.json"
        if not path.is_file():
            result = run_row(benches[ROWS[name].trunk], ROWS[name])
            with beside(path) as part:
                part.write_text(json.dumps(result, indent=1))
            print(name, json.dumps(result["seconds"]), json.dumps(result["synthetic"]), flush=True)
    print(table(options.out))


def file_name(row: str) -> str:
    """A row's name as a file's."""
    return row.replace(",", "").replace(" ", "_").replace("-", "without").replace("+", "with")


@dataclass
class Bench:
    """What rows of one trunk share: the frozen network, if there is one, the packed batches of the last folder, of the photos and of the test."""

    options: Options
    frozen: SmallRegressor
    last: tuple[str, list[PairBatch]] = ("", [])

    @cached_property
    def photos(self) -> list[PairBatch]:
        shards = ShardSet.read(sorted(self.options.photos.glob("*.npz"))[:2])
        return training_batches(self.frozen, shards, self.options.real // BATCH, 7)

    @cached_property
    def test(self) -> list[PairBatch]:
        """Scenes of the engine as it is, with seeds of their own, true boxes and clean pixels."""
        o = self.options
        folder = o.out / "data" / "test"
        write_shards(folder, TEST_SEED, TEST_SCENES, SceneKnobs(pairs="fresh"), 50, photos=Photos(o.backgrounds, o.borders))
        return plain_batches(self.frozen, ShardSet.read(sorted(folder.glob("*.npz"))))

    def rendered(self, row: Row) -> list[PairBatch]:
        """A row's pictures, rendered if need be."""
        o, count = self.options, round(self.options.pictures * row.pictures)
        changed = [f"{key}-{value}".replace(" ", "") for key, value in row.knobs.items()]
        folder = o.first_engine if row.first_engine else o.out / "data" / "_".join(["close", *changed])
        if self.last[0] != f"{folder} {count}":
            if not row.first_engine:
                write_shards(folder, TRAIN_SEED, o.pictures, SceneKnobs(**row.knobs), SHARD, photos=Photos(o.backgrounds, o.borders))
            paths = sorted(folder.glob("*.npz"))
            shards = ShardSet.read(paths[: 1 + count // FIRST_ENGINE_SHARD] if row.first_engine else paths)
            kept = shards if count >= len(shards) else shards.without_last(len(shards) - count)
            self.last = (f"{folder} {count}", training_batches(self.frozen, kept, round(CROPS_A_PICTURE * count / BATCH), 0))
        return self.last[1]


def run_row(bench: Bench, row: Row) -> dict[str, Any]:
    """Data, training, scores."""
    options = bench.options
    started = time.process_time()
    lists, mixture = [bench.rendered(row)], [1.0]
    if row.photos:
        lists.append(bench.photos)
        mixture = [1 - REAL_SHARE, REAL_SHARE]
    prepared = time.process_time()
    steps = round(options.steps * row.steps)
    fit = FitConfig(
        options.out / "runs" / file_name(row.name), steps, 1e-3, warmup_steps=min(40, steps // 5), checkpoint_steps=50, average=0.985,
        precision="32-true", seed=options.seed + row.seed, accelerator="cpu",
    )  # fmt: skip
    network = train_small(
        options.trunk, SmallRun(fit, row.priors, tuple(mixture), tuple(len(batches) for batches in lists), row.trunk), lists
    )
    trained = time.process_time()
    scores = score(options, network) | {"synthetic": errors_on(network, bench.test)}
    seconds = {"data": prepared - started, "train": trained - prepared, "score": time.process_time() - trained}
    return {"row": dataclasses.asdict(row), "steps": fit.steps, "seconds": seconds, **scores}


def score(options: Options, network: Regressor) -> dict[str, Any]:
    """On real photos, with true boxes and with the detector that ships."""
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
    return {"real": by_boxes}


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
