"""Packs pairs of a bank into the file that the synthetic engine ships with.

    twohands interactions BANK --count 2048 --seed 4
    python tools/build_pairs.py BANK [--count 2048]

Writes src/twohands/synth/assets/pairs.npz. Numbers are kept in sixteen bits: angles to 1e-4 rad, places to 6 micrometres.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

from twohands.synth.bank import read_bank

OUT = Path(__file__).parents[1] / "src/twohands/synth/assets/pairs.npz"


@dataclass(frozen=True)
class Options:
    """Packs pairs of a bank into the file that the synthetic engine ships with."""

    bank: tyro.conf.Positional[Path]
    count: int = 2048


def main(options: Options) -> None:
    """Writes the file."""
    pairs = read_bank(options.bank)[: options.count]
    packed: dict[str, np.ndarray] = {}
    for name, value in (("pose", pairs.pose), ("shape", pairs.shape), ("translation_m", pairs.translation_m)):
        scale = float(value.abs().max()) / np.iinfo(np.int16).max
        packed[name] = (value.numpy() / scale).round().astype(np.int16)
        packed[f"{name}_scale"] = np.asarray(scale, np.float32)
    np.savez_compressed(OUT, **packed)  # type: ignore[arg-type]


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
