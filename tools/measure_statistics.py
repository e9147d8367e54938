"""Measures a detector's statistics anew: those of the batch norm before its maps, and how its evidence becomes confidence.

    python tools/measure_statistics.py WEIGHTS OUT --shards DIR ... --mixture SHARE ... [--batches 80] [--held-out 60]

The mean of two detectors (tools/average_weights.py) has other activations than either; its weights are a detector once these numbers are its own.
Pictures are drawn as in training; confidence is fitted to the last of each folder, which training holds back."""

import argparse
from pathlib import Path

import torch

from twohands.checkpoints import load_weights, read_config, read_header, save_weights
from twohands.data.shards import ShardSet
from twohands.detector import DetectorConfig, DetectorNetwork
from twohands.training.detector import DetectorBatches, calibrated, measured
from twohands.training.experiments import detector_experiment


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--shards", type=Path, nargs="+", required=True)
    parser.add_argument("--mixture", type=float, nargs="+", required=True)
    parser.add_argument("--batches", type=int, default=80)
    parser.add_argument("--held-out", type=int, default=60)
    args = parser.parse_args()
    config = read_config(args.weights, DetectorConfig)
    network = DetectorNetwork(config)
    load_weights(args.weights, network)
    training = detector_experiment(args.out.parent, tuple(args.shards), tuple(args.mixture), None, 0, 1)
    sets = [ShardSet.read(sorted(folder.glob("*.npz"))) for folder in args.shards]
    torch.set_num_threads(1)
    kept = [shards.without_last(args.held_out) for shards in sets]
    measured(network, DetectorBatches(kept, training, 0, 0), args.batches)
    last = [(shards, i) for shards in sets for i in range(len(shards) - args.held_out, len(shards))]
    save_weights(args.out, network, calibrated(network, last, config), {"steps": read_header(args.weights).get("steps", "")})


if __name__ == "__main__":
    main()
