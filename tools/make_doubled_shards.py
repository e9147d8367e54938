"""Training shards of two real hands that touch or overlap, from shards of photos with one hand.

    python tools/make_doubled_shards.py SHARDS OUT --count 6000 --seed 1

SHARDS come from make_real_shards.py or make_detector_shards.py. The last photos (--hold-back) are left alone: trainings validate on them."""

import argparse
from pathlib import Path

import numpy as np
from tqdm import tqdm

from twohands.data.shards import ShardSet, write_shard
from twohands.schema import Sample
from twohands.training.doubled import doubled

NEAR = 30
"""Photos so many places apart are mostly of one person in one room."""
OWN = 0.4
"""Share of photos whose second hand is their own first one in the mirror."""
A_SHARD = 500


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shards", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--count", type=int, default=6000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--hold-back", type=int, default=256)
    args = parser.parse_args()
    photos = ShardSet.read(sorted(args.shards.glob("*.npz"))).without_last(args.hold_back)
    alone = np.flatnonzero(photos.arrays["hand_valid"].astype(bool).sum(1) == 1)
    rng = np.random.default_rng(args.seed)
    samples: list[Sample] = []
    written = 0
    with tqdm(total=args.count, unit="photo") as bar:
        while written < args.count:
            place = int(rng.integers(len(alone)))
            other = place if rng.random() < OWN else int(np.clip(place + rng.integers(-NEAR, NEAR + 1), 0, len(alone) - 1))
            made = doubled(photos.sample(int(alone[place])), photos.sample(int(alone[other])), rng)
            if made is None:
                continue
            samples.append(made)
            bar.update()
            if len(samples) == min(A_SHARD, args.count - written):
                write_shard(args.out / f"{written // A_SHARD:05d}.npz", samples)
                written += len(samples)
                samples = []


if __name__ == "__main__":
    main()
