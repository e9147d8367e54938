"""The mean of two weights files of one network.

    python tools/average_weights.py BEFORE.safetensors AFTER.safetensors OUT.safetensors [--share 0.5] [--keep NAME ...]

What was trained further on other data and what it began with are near enough to each other for their mean to be a network too, often one that
keeps more of either. Stage 1 ships as such a mean (src/twohands/weights/regressor.md)."""

import argparse
from pathlib import Path

from safetensors.torch import load_file, save_file

from twohands.checkpoints import read_header


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--share", type=float, default=0.5, help="of the second file")
    parser.add_argument("--keep", nargs="*", default=[], help="beginnings of the names of tensors that stay as the first file has them")
    args = parser.parse_args()
    before, after = load_file(args.before), load_file(args.after)
    # Not the configs: what is fitted to a network, as a detector's confidence, differs between two of one kind.
    if {name: value.shape for name, value in before.items()} != {name: value.shape for name, value in after.items()}:
        parser.error(f"{args.before} and {args.after} are weights of different networks")
    if unknown := [start for start in args.keep if not any(name.startswith(start) for name in before)]:
        parser.error(
            f"no tensor's name begins with {unknown[0]!r}; the first file has {', '.join(sorted({name.split('.')[0] for name in before}))}"
        )
    share = {name: 0.0 if name.startswith(tuple(args.keep)) else args.share for name in before}
    mean = {name: before[name].float().lerp(value.float(), share[name]).to(value.dtype) for name, value in after.items()}
    save_file(mean, args.out, metadata=read_header(args.after))


if __name__ == "__main__":
    main()
