"""A corpus of small photos through `twohands batch`'s engines, with a worker killed on the way, counted afterwards.

    python benchmarks/batch.py OUT [--count 10000] [--engine ray|local] [--workers 2] [--kill-run]
    python benchmarks/batch.py OUT --photos FOLDER --count 200 [--engine ...]

Without `--photos` the corpus is generated (64 px pictures, each of its own colour), and a stand-in takes the place of the networks: it reads the
photo, reports one hand whose score is the picture's brightness, and nothing else; so what is measured is the engine and the files. With
`--photos` the first `--count` photos of the folder go through the real pipeline. A worker is killed (SIGKILL) when a third of the shards is
done; with `--kill-run` the whole run is killed at two thirds, and begun again. At the end every photo must be in the table exactly once."""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.dataset as ds
import torch
from PIL import Image

from twohands.batch.corpus import Predict, Reconstruction, reconstruct_corpus
from twohands.batch.sources import Picture
from twohands.batch.table import SCHEMA
from twohands.geometry.camera import Camera
from twohands.hands.parameters import HandParameters
from twohands.manifest import Manifest, ShardReport
from twohands.schema import PhotoResult, TwoHands


def colour(index: int) -> tuple[int, int, int]:
    return 40 + index % 211, 40 + index // 211 % 211, 128


def generate(folder: Path, count: int) -> None:
    """Photos 00000.jpg, 00001.jpg, ... of 64 px, a hundred a folder; those that are there are kept."""
    for k in range(count):
        path = folder / f"{k // 100:03d}" / f"{k:05d}.jpg"
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (64, 64), colour(k)).save(path, quality=90)


def look(picture: Picture) -> PhotoResult:
    """What stands for the networks."""
    image = np.asarray(Image.open(picture.path).convert("RGB"))
    hands = TwoHands(
        hand_present=torch.tensor([False, True]), score=torch.tensor([0.0, float(image.mean()) / 255]), parameters=HandParameters.zeros(),
        vertices_m=torch.zeros(2, 1, 3), keypoints_m=torch.zeros(2, 21, 3), keypoints_xy=torch.zeros(2, 21, 2),
        keypoint_confidence=torch.ones(2, 21), box_xyxy_px=torch.zeros(2, 4), camera=Camera.from_fov(image.shape[1], image.shape[0], 60.0),
        camera_source="default", penetration_cm3=0.0, penetration_before_cm3=0.0, refined=False, person=0,
    )  # fmt: skip
    return PhotoResult((hands,), image.shape[1], image.shape[0], {"total": 0.0}, "encoder", image)


def load_stand_in() -> Predict:
    torch.set_num_threads(1)
    return look


def run(args: argparse.Namespace, kill_worker: bool, kill_self_at: float) -> None:
    """One run; prints how fast it was."""
    load = load_stand_in if args.photos is None else Reconstruction(prior=args.prior).load
    start = time.perf_counter()
    first = done = total = pictures = hands = 0
    began = start
    news = reconstruct_corpus([args.out / "in"], args.out / "out", load, {}, args.engine, args.workers, args.per_shard)
    for report in news:
        if isinstance(report, Manifest):
            total, done = len(report.shards), len(report.shards) - len(report.pending())
            print(f"{total} shards, {done} of them done", flush=True)
            continue
        assert isinstance(report, ShardReport)
        if not pictures:
            began, first = time.perf_counter(), report.pictures
        done, pictures, hands = done + 1, pictures + report.pictures, hands + report.hands
        if kill_worker and done >= total / 3:
            print(f"killing worker {report.process} after {done} shards", flush=True)
            os.kill(report.process, signal.SIGKILL)
            kill_worker = False
        if done >= kill_self_at * total:
            print(f"killing the run after {done} shards", flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
    seconds, steady = time.perf_counter() - start, time.perf_counter() - began
    print(f"{args.engine}, {args.workers} workers: {pictures} photos, {hands} hands in {seconds:.1f} s; ", end="")
    print(f"{(pictures - first) / max(steady, 1e-9):.1f} photos/s after the first shard (start: {began - start:.1f} s)", flush=True)


def check(args: argparse.Namespace, names: list[str]) -> None:
    table = ds.dataset(sorted(map(str, (args.out / "out").glob("*.parquet"))), schema=SCHEMA).to_table()
    rows = table.to_pylist()
    seen = [row["file"] for row in rows]
    assert sorted(set(seen)) == sorted(names), f"{len(set(names) - set(seen))} photos are lost"
    failed = sum(row["error"] is not None for row in rows)
    if args.photos is None:
        assert len(seen) == len(names), f"{len(seen) - len(names)} photos are there twice"
        expected = {name: np.mean(colour(int(Path(name).stem))) / 255 for name in names}
        assert all(abs(row["score"] - expected[row["file"]]) < 0.02 for row in rows), "a photo has another's result"
    else:
        keys = [(row["file"], row["person"], row["side"]) for row in rows]
        assert len(keys) == len(set(keys)), "a hand is there twice"
    size = sum(p.stat().st_size for p in (args.out / "out").glob("*.parquet"))
    print(f"{len(names)} photos, each in the table once; {len(rows)} rows, {failed} failures, {size / 1e6:.1f} MB of Parquet")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--engine", choices=("ray", "local"), default="ray")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--per-shard", type=int, default=100)
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--prior", choices=("encoder", "teacher"), default="encoder")
    parser.add_argument("--kill-run", action="store_true", help="kill the whole run too, and go on")
    parser.add_argument("--stage", choices=("all", "killed"), default="all", help=argparse.SUPPRESS)
    args = parser.parse_args()
    folder = args.out / "in"
    if args.stage == "killed":
        run(args, True, 2 / 3)
        return
    if args.photos is None:
        generate(folder, args.count)
    else:
        folder.mkdir(parents=True, exist_ok=True)
        chosen = sorted(p for p in args.photos.rglob("*") if p.suffix.lower() in (".jpg", ".jpeg", ".png"))
        for path in chosen[:: max(1, len(chosen) // args.count)][: args.count]:
            shutil.copy(path, folder / "_".join(path.relative_to(args.photos).parts))
    names = [p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()]
    if args.kill_run:
        subprocess.run([sys.executable, __file__, *sys.argv[1:], "--stage", "killed"], check=False)
    run(args, not args.kill_run, 2.0)
    check(args, names)


if __name__ == "__main__":
    main()
