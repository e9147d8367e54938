"""How long a data set of a million annotations takes to index and to open again, what a sample costs, and how much memory it needs.

    python benchmarks/dataset_index.py [--count 1361062] [--folder DIR] [--mano DIR]

Generates the annotation files of InterHand2.6M's train split in their own format (no pictures): as many annotations, moments and cameras as the real
one has, random numbers in them. Each step then runs in a process of its own, whose peak memory is told. An existing tree in `--folder` is used
again; without the option it goes into a temporary folder and is removed."""

import argparse
import json
import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

CAPTURES, CAMERAS, SEQUENCES = 27, 80, 40
MOMENTS = 18_718
"""(capture, frame) pairs, each seen by many cameras."""
SPLIT = "train"


def generate(folder: Path, count: int) -> None:
    """Files as large as the real ones."""
    rng = np.random.default_rng(0)
    base = folder / "annotations" / SPLIT
    base.mkdir(parents=True, exist_ok=True)
    moments = max(CAPTURES, round(MOMENTS * min(1.0, count / 1_361_062)))
    per_capture = -(-moments // CAPTURES)
    cameras = {
        str(c): {
            "campos": {f"4{k:05d}": rng.normal(0, 800, 3).tolist() for k in range(CAMERAS)},
            "camrot": {f"4{k:05d}": np.linalg.qr(rng.normal(size=(3, 3)))[0].tolist() for k in range(CAMERAS)},
            "focal": {f"4{k:05d}": [1270.0, 1269.5] for k in range(CAMERAS)},
            "princpt": {f"4{k:05d}": [170.1, 250.4] for k in range(CAMERAS)},
        }
        for c in range(CAPTURES)
    }
    (base / f"InterHand2.6M_{SPLIT}_camera.json").write_text(json.dumps(cameras))
    valid = json.dumps([[1]] * 42)
    with (
        (base / f"InterHand2.6M_{SPLIT}_joint_3d.json").open("w") as joints,
        (base / f"InterHand2.6M_{SPLIT}_MANO_NeuralAnnot.json").open("w") as fits,
    ):
        joints.write("{")
        fits.write("{")
        for c in range(CAPTURES):
            comma = ", " if c else ""
            joints.write(f'{comma}"{c}": {{')
            fits.write(f'{comma}"{c}": {{')
            for m in range(per_capture):
                comma = ", " if m else ""
                world = json.dumps(rng.normal(0, 100, (42, 3)).tolist())
                joints.write(
                    f'{comma}"{3 * m}": {{"world_coord": {world}, "joint_valid": {valid}, "hand_type": "interacting", "hand_type_valid": true}}'
                )
                hands = {s: {"pose": rng.normal(0, 0.3, 48).tolist(), "shape": rng.normal(size=10).tolist(), "trans": [0.1, 0.2, 0.3]}
                         for s in ("right", "left")}  # fmt: skip
                fits.write(f'{comma}"{3 * m}": {json.dumps(hands)}')
            joints.write("}")
            fits.write("}")
        joints.write("}")
        fits.write("}")
    with (base / f"InterHand2.6M_{SPLIT}_data.json").open("w") as data:
        data.write('{"images": [')
        for i in range(count):
            c, k = i % CAPTURES, (i // CAPTURES) % CAMERAS
            m = (i // (CAPTURES * CAMERAS)) % per_capture
            sequence = f"{m % SEQUENCES:04d}_neutral_relaxed"
            data.write(
                f'{", " if i else ""}{{"id": {i}, "file_name": "Capture{c}/{sequence}/cam4{k:05d}/image{3 * m:05d}.jpg", "width": 512, "height": 334, '
                f'"capture": {c}, "subject": {c}, "seq_name": "{sequence}", "camera": "4{k:05d}", "frame_idx": {3 * m}}}'
            )
        data.write('], "annotations": [')
        kinds = ("right", "left", "interacting")
        for i in range(count):
            data.write(
                f'{", " if i else ""}{{"id": {i}, "image_id": {i}, "bbox": [50.12345, 60.98765, 120.3456, 110.6543], "joint_valid": {valid}, '
                f'"hand_type": "{kinds[i % 3]}", "hand_type_valid": 1}}'
            )
        data.write("]}")


def open_once(folder: Path, mano: Path | None) -> dict[str, float]:
    """Opens the data set: makes the index if there is none."""
    from twohands.data.loader import open_dataset

    before = time.perf_counter()
    dataset = open_dataset("interhand26m", folder, SPLIT, mano)
    return {"seconds": time.perf_counter() - before, "annotations": len(dataset)}


def read_samples(folder: Path, mano: Path | None) -> dict[str, float]:
    """Annotations in random order, as a shuffled loader asks for them, and all ids. The first one, which also imports and compiles what is needed
    but once, is told apart. Processor times do not count what the machine did meanwhile for others; wall times do."""
    from twohands.data.loader import open_dataset

    dataset = open_dataset("interhand26m", folder, SPLIT, mano)
    chosen = np.random.default_rng(1).integers(0, len(dataset), 2001).tolist()
    wall_ms, cpu_ms, switches = np.zeros(len(chosen)), np.zeros(len(chosen)), np.zeros(len(chosen))
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_majflt
    for k, index in enumerate(chosen):
        start, cpu, before = time.perf_counter(), time.thread_time(), resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw
        dataset.annotation(index)
        wall_ms[k], cpu_ms[k] = 1e3 * (time.perf_counter() - start), 1e3 * (time.thread_time() - cpu)
        switches[k] = resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw - before
    found = {"first_ms": wall_ms[0], "first_cpu_ms": cpu_ms[0]}
    wall_ms, cpu_ms, alone = wall_ms[1:], cpu_ms[1:], switches[1:] == 0
    for name, times in (("wall", wall_ms), ("cpu", cpu_ms), ("undisturbed", wall_ms[alone])):
        found |= {f"{name}_mean_ms": times.mean(), f"{name}_99_percent_ms": np.quantile(times, 0.99), f"{name}_slowest_ms": times.max()}
    found |= {"disturbed": int((~alone).sum()), "read_from_disk": resource.getrusage(resource.RUSAGE_SELF).ru_majflt - faults}
    before_ids = time.perf_counter()
    count = len(dataset.ids)
    return found | {"seconds_for_all_ids": time.perf_counter() - before_ids, "ids": count}


def imports_only(folder: Path, mano: Path | None) -> dict[str, float]:
    """What a process needs before it opens anything."""
    from twohands.data.loader import DATASETS

    return {"data_sets": len(DATASETS)}


def _measured(step: Callable[[Path, Path | None], dict[str, float]], folder: Path, mano: Path | None) -> dict[str, float]:
    import torch

    torch.set_num_threads(1)
    before = time.process_time()
    found = step(folder, mano)
    found["cpu_seconds"] = time.process_time() - before  # what a busy machine does not change much
    unit = 1024**3 if sys.platform == "darwin" else 1024**2
    return found | {"peak_memory_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1_361_062)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--mano", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = args.folder or Path(scratch)
        if not (folder / "annotations").is_dir():
            before = time.perf_counter()
            generate(folder, args.count)
            print(f"generated in {time.perf_counter() - before:.0f} s")
        sizes = {p.name: p.stat().st_size / 1e6 for p in sorted((folder / "annotations" / SPLIT).iterdir())}
        print("files (MB):", ", ".join(f"{name} {size:.0f}" for name, size in sizes.items()))
        for name, step in (("imports", imports_only), ("index", open_once), ("reopen", open_once), ("samples", read_samples)):
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                found = pool.apply(_measured, (step, folder, args.mano))
            print(f"{name:8}", ", ".join(f"{key} {value:.4g}" for key, value in found.items()), flush=True)


if __name__ == "__main__":
    main()
