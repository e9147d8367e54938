"""Writes the seals of the synthetic benchmarks: run it when the engine that renders them has changed on purpose, and say so with every number.

    python tools/seal_benchmarks.py DIR

Renders both benchmarks into DIR/two-hand-1000 and DIR/mixed-500 (or takes those that are there) and writes src/twohands/evaluation/benchmarks.json.
"""

import argparse
import dataclasses
import json
from pathlib import Path

from tqdm import tqdm

from twohands.evaluation.report import write_whole
from twohands.evaluation.synthetic import BENCHMARKS, SEALS, open_benchmark

PACKAGE = Path(__file__).parents[1] / "src" / "twohands" / "evaluation"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    seals = {}
    for name, benchmark in BENCHMARKS.items():
        with tqdm(total=benchmark.count, desc=name) as bar:
            source = open_benchmark(name, folder / name.rpartition("/")[2], progress=bar.update)
        seals[name] = dataclasses.asdict(source.seal())
        print(f"{name}: truth {seals[name]['truth_sha256'][:12]}, pictures {seals[name]['pictures_sha256'][:12]}")
    write_whole(PACKAGE / SEALS, json.dumps(seals, indent=1) + "\n")


if __name__ == "__main__":
    main()
