"""Training shards of two real hands that touch or overlap, from shards of photos with one hand.

    python tools/make_doubled_shards.py SHARDS OUT --count 4000 --seed 1
    python tools/make_doubled_shards.py SHARDS OUT --count 3000 --seed 3 --alone [--backgrounds FOLDER] [--borders FOLDER]

The second one leaves each hand alone and lays it before another background (`twohands synth` has the same two folders).

SHARDS come from make_real_shards.py or make_detector_shards.py. The last photos (--hold-back) are left alone: trainings validate on them."""

import argparse
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from twohands.data.shards import ShardSet, write_shard
from twohands.schema import Sample
from twohands.synth.backgrounds import DISPLAY_GAMMA, Photos, background
from twohands.training.doubled import doubled, transplanted

NEAR = 30
"""Photos so many places apart are mostly of one person in one room."""
OWN = 0.4
"""Share of photos whose second hand is their own first one in the mirror."""
A_SHARD = 500


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shards", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--count", type=int, default=4000)
    parser.add_argument("--alone", action="store_true")
    parser.add_argument("--backgrounds", type=Path)
    parser.add_argument("--borders", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--hold-back", type=int, default=256)
    args = parser.parse_args()
    photos = ShardSet.read(sorted(args.shards.glob("*.npz"))).without_last(args.hold_back)
    alone = np.flatnonzero(photos.arrays["hand_valid"].astype(bool).sum(1) == 1)
    rng = np.random.default_rng(args.seed)
    folders = Photos(whole=args.backgrounds, borders=args.borders)

    def behind(size: int, rng: np.random.Generator) -> torch.Tensor:
        linear = background(rng, size, folders)
        return torch.from_numpy((np.clip(linear, 0, 1) ** (1 / DISPLAY_GAMMA) * 255).astype(np.uint8)).permute(2, 0, 1)

    samples: list[Sample] = []
    written = 0
    with tqdm(total=args.count, unit="photo") as bar:
        while written < args.count:
            place = int(rng.integers(len(alone)))
            sample = photos.sample(int(alone[place]))
            other = place if rng.random() < OWN else int(np.clip(place + rng.integers(-NEAR, NEAR + 1), 0, len(alone) - 1))
            if args.alone:
                made = transplanted(sample, behind(sample.image.shape[1], rng), rng)
            else:
                made = doubled(sample, photos.sample(int(alone[other])), rng)
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
