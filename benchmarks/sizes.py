"""Stage 1 of several sizes, trained for the same time from the landmark trunk, and what each then scores on pictures held back.

    python benchmarks/sizes.py OUT --trunk hand_landmark_full.tflite --shards close clasped real pairs alone --mixture 0.25 0.2 0.15 0.2 0.2

The time is processor time of one thread, so that other work on the machine does no harm. A size whose result is in OUT is not run again."""

import argparse
import json
import math
import time
from pathlib import Path

import numpy as np
import torch

from twohands.data.shards import ShardSet
from twohands.priors.cache import taught_shards
from twohands.regress.network import Regressor, RegressorConfig
from twohands.training.fit import FitConfig
from twohands.training.pairs import PairBatches, make_batch
from twohands.training.regressor import RegressorModule, RegressorTraining, prediction_errors

SIZES = {
    "48 wide, 1 block": RegressorConfig(width=48, depth=1, hidden=128, pyramid=16),
    "96, 1": RegressorConfig(width=96, depth=1, hidden=256, pyramid=32),
    "192, 2 (widths that ship)": RegressorConfig(),
    "384, 4": RegressorConfig(width=384, depth=4, hidden=1024, pyramid=128),
}
RATE, SLOW_RATE, WARMUP_STEPS, BATCH = 5e-4, 1e-4, 100, 16
HELD_BACK, AT_ONCE = 100, 50


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--trunk", type=Path, required=True)
    parser.add_argument("--shards", type=Path, nargs="+", required=True)
    parser.add_argument("--mixture", type=float, nargs="+", required=True)
    parser.add_argument("--seconds", type=float, default=480)
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    for name, network in SIZES.items():
        path = args.out / f"{network.width}.json"
        if not path.is_file():
            fit = FitConfig(args.out, steps=1, learning_rate=RATE, precision="32-true")
            training = RegressorTraining(fit, tuple(args.shards), tuple(args.mixture), network, BATCH, trunk=args.trunk)
            path.write_text(json.dumps({"name": name} | trained(training, args.seconds)), encoding="utf-8")
        print(path.read_text(encoding="utf-8"))


def trained(training: RegressorTraining, seconds: float) -> dict[str, object]:
    """Trains for that long, the rate by a cosine over the time, and scores with true boxes."""
    torch.manual_seed(0)
    module = RegressorModule(training)
    network = module.network
    learning = [p for p in network.parameters() if p.requires_grad]
    slow = {id(p) for p in module.slow_parameters()}
    groups = [[p for p in learning if (id(p) in slow) == is_slow] for is_slow in (False, True)]
    optimiser = torch.optim.AdamW([{"params": g} for g in groups], weight_decay=training.fit.weight_decay)
    sets = [taught_shards(folder, None) for folder in training.shards]
    crop_px = training.network.crop_px
    kept = [s.without_last(HELD_BACK) for s in sets]
    stride = crop_px // Regressor(training.network).token_grid(crop_px)
    batches = PairBatches(kept, list(training.mixture), training.batch, crop_px, stride, seed=0)
    step, start = 0, time.process_time()
    while (share := (time.process_time() - start) / seconds) < 1:
        rate = min(1, (step + 1) / WARMUP_STEPS) * (0.01 + 0.99 * (1 + math.cos(math.pi * share)) / 2)
        for group, base in zip(optimiser.param_groups, (RATE, SLOW_RATE), strict=True):
            group["lr"] = base * rate
        loss, _ = module.loss(batches.make(step))
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learning, training.fit.clip_norm)
        optimiser.step()
        step += 1
    network.eval()
    scores = {folder.name: held_back(network, s, crop_px, stride) for folder, s in zip(training.shards, sets, strict=True)}
    return {"parameters": sum(p.numel() for p in learning), "steps": step, **scores}


def held_back(network: torch.nn.Module, shards: ShardSet, crop_px: int, stride: int) -> dict[str, float]:
    found: dict[str, list[float]] = {}
    for first in range(0, HELD_BACK, AT_ONCE):
        chosen = [(shards, len(shards) - 1 - k) for k in range(first, first + AT_ONCE)]
        for name, values in prediction_errors(
            network, make_batch(chosen, crop_px, stride, np.random.default_rng(0), None), "encoder"
        ).items():
            found.setdefault(name, []).extend(values)
    return {name: round(float(np.mean(values)), 3) for name, values in found.items() if values}


if __name__ == "__main__":
    main()
