"""Takes the bias off the shapes that a stage 1 predicts: by its mean error over pictures held back from training, equally of each folder.

    python tools/center_shapes.py WEIGHTS OUT --shards DIR ... [--held-out 90]

For weights that were trained when posed joints were compared in the predicted shape and photos' hands were fitted too small (docs/METHOD.md, "How large
a hand is"): only the last bias of the shape changes."""

import argparse
from pathlib import Path

import numpy as np
import torch

from twohands.checkpoints import load_weights, read_config, read_header, save_weights
from twohands.data.shards import ShardSet
from twohands.regress.network import Regressor, RegressorConfig
from twohands.training.pairs import make_batch

AT_ONCE = 30


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--shards", type=Path, nargs="+", required=True)
    parser.add_argument("--held-out", type=int, default=90)
    args = parser.parse_args()
    torch.set_num_threads(1)
    network = Regressor(read_config(args.weights, RegressorConfig))
    load_weights(args.weights, network)
    network.eval()
    errors = []
    for folder in args.shards:
        shards = ShardSet.read(sorted(folder.glob("*.npz"))[-1:])
        found = []
        for first in range(max(0, len(shards) - args.held_out), len(shards), AT_ONCE):
            rows = [(shards, k) for k in range(first, min(first + AT_ONCE, len(shards)))]
            batch = make_batch(rows, network.config.crop_px, network.encoders.stride, np.random.default_rng(0), None)
            prediction, _ = network(batch.crops, batch.view.geometry, batch.present)
            found.append((prediction.shape - batch.truth.shape)[batch.truth.parameters_valid])
        errors.append(torch.cat(found).mean(0))
        print(folder.name, "mean error of the shape", np.round(errors[-1].numpy(), 2).tolist())
    network.parameters_head.shape.bias -= torch.stack(errors).mean(0)
    save_weights(args.out, network, network.config, {"steps": read_header(args.weights).get("steps", "")})


if __name__ == "__main__":
    main()
