"""Writes the seals of the synthetic benchmarks: run it when the engine that renders them has changed on purpose, and say so with every number.

    python tools/seal_benchmarks.py DIR [--pairs]

Renders both benchmarks into DIR/two-hand-1000 and DIR/mixed-500 (or takes those that are there) and writes
src/twohands/evaluation/benchmarks.json. With `--pairs` the interacting pairs that their scenes show are sampled anew first, into
src/twohands/synth/assets/sealed_pairs.npz: another processor makes other pairs of the same seeds.
"""

import argparse
import dataclasses
import json
from pathlib import Path

import numpy as np
from tqdm import tqdm

from twohands.evaluation.report import write_whole
from twohands.evaluation.synthetic import BENCHMARKS, SEALS, open_benchmark
from twohands.synth.knobs import BLOCK
from twohands.synth.pairs import SEALED_PAIRS, fresh_pairs, sampled_pairs

PACKAGE = Path(__file__).parents[1] / "src" / "twohands" / "evaluation"
ASSETS = Path(__file__).parents[1] / "src" / "twohands" / "synth" / "assets"


def write_pairs() -> None:
    """The pool of every block of seeds that a benchmark draws from."""
    blocks = sorted({benchmark.recipe(index)[1] // BLOCK for benchmark in BENCHMARKS.values() for index in range(benchmark.count)})
    pools = {block: sampled_pairs(block) for block in blocks}
    path = ASSETS / SEALED_PAIRS
    with path.open("wb") as file:
        np.savez_compressed(file, **{f"{block}.{name}": array for block, pool in pools.items() for name, array in pool.arrays().items()})
    fresh_pairs.cache_clear()
    print(f"{path.name}: blocks {blocks}, {path.stat().st_size / 1e3:.0f} kB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pairs", action="store_true")
    args = parser.parse_args()
    if args.pairs:
        write_pairs()
    folder = args.folder
    seals = {}
    for name, benchmark in BENCHMARKS.items():
        with tqdm(total=benchmark.count, desc=name) as bar:
            source = open_benchmark(name, folder / name.rpartition("/")[2], progress=bar.update)
        seals[name] = dataclasses.asdict(source.seal())
        print(f"{name}: truth {seals[name]['truth_sha256'][:12]}, pictures {seals[name]['pictures_sha256'][:12]}")
    write_whole(PACKAGE / SEALS, json.dumps(seals, indent=1) + "\n")


if __name__ == "__main__":
    main()
