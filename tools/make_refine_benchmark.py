"""Makes stage 2's benchmark: outputs of an early stage 1 that penetrate, on rendered photos of pairs that train nothing, or clean pairs with errors.

    python tools/make_refine_benchmark.py [REGRESSOR]
    python tools/make_refine_benchmark.py --errors

The first writes src/twohands/refine/benchmark_stage1.npz, in about six minutes of one core. REGRESSOR are stage 1's weights, those of the package by
default. What ships was made with the first weights of stage 1 that this project had; others give another benchmark. The second writes
benchmark_errors.npz beside it, in two minutes; another processor gives another benchmark.
"""

import sys
from pathlib import Path

import numpy as np
import torch

from twohands.hands.bundled import load_bundled_hand
from twohands.record import stack
from twohands.refine.refiner import FREE_CM3, shared_volumes_cm3
from twohands.synth.bank import PART, RESERVED_SEEDS
from twohands.synth.interactions import sample_interactions
from twohands.training.photographed import concatenate, photographed
from twohands.training.refine_benchmark import SEED, STAGE1_PAIRS, held_out_pairs, write_stage1_pairs

FIRST_PHOTO = 1_003_000
FOLDER = Path(__file__).parent.parent / "src" / "twohands" / "refine"


def main(weights: Path | None) -> None:
    """Photographs the reserved pairs, from other sides again if need be, until enough of stage 1's answers penetrate."""
    torch.set_num_threads(1)
    model = load_bundled_hand()
    clean = [
        pair for seed in RESERVED_SEEDS for parts in [sample_interactions(model, PART, seed)] for pair in (parts[i] for i in range(PART))
    ]
    kept, have, done = [], 0, 0
    while have < STAGE1_PAIRS:
        pairs = stack([photographed(clean[k % len(clean)], FIRST_PHOTO + k, weights) for k in range(done, done + 100)])
        kept.append(pairs[(shared_volumes_cm3(model, pairs.parameters) > FREE_CM3).nonzero()[:, 0]])
        have, done = have + kept[-1].keypoint_confidence.shape[0], done + 100
        print(f"{have} of {done} penetrate", flush=True)
    # In no order, so that the first few are like all.
    chosen = concatenate(kept)[torch.randperm(STAGE1_PAIRS, generator=torch.Generator().manual_seed(0))]
    path = FOLDER / "benchmark_stage1.npz"
    write_stage1_pairs(path, chosen)
    print(f"{path}: {path.stat().st_size / 1e3:.0f} kB")


def errors() -> None:
    """Clean pairs of seeds that no bank reaches, with errors that penetrate."""
    torch.set_num_threads(1)
    path = FOLDER / "benchmark_errors.npz"
    np.savez_compressed(path, **held_out_pairs(load_bundled_hand(), STAGE1_PAIRS, SEED).arrays())  # type: ignore[arg-type]
    print(f"{path}: {path.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    if sys.argv[1:] == ["--errors"]:
        errors()
    else:
        main(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
