"""Interacting pairs that scenes show: those that come with the package, and new ones."""

from functools import cache, lru_cache
from importlib import resources

import numpy as np
import torch

from twohands.errors import UserError
from twohands.hands.bundled import load_bundled_hand
from twohands.hands.mirror import mirror_parameters
from twohands.hands.parameters import HandParameters
from twohands.record import concatenate

SEALED_PAIRS = "sealed_pairs.npz"
"""Of the sealed benchmarks' blocks of scenes, written by tools/seal_benchmarks.py."""
POOL = 128
"""Pairs of a block of scenes: each is shown from many sides with many skins."""
_FIELDS = ("pose", "shape", "translation_m")


def _stored(name: str, tool: str) -> dict[str, np.ndarray]:
    path = resources.files("twohands.synth") / "assets" / name
    if not path.is_file():
        raise UserError(f"the package lacks synth/assets/{name}; reinstall twohands, or build the file with {tool}")
    with path.open("rb") as file, np.load(file) as stored:
        return dict(stored)


@cache
def shipped_pairs() -> HandParameters:
    """Those of `assets/pairs.npz`, then their mirror images. Read once; UserError if the installation lacks the file."""
    stored = _stored("pairs.npz", "tools/build_pairs.py")
    pose, shape, place = (torch.from_numpy(stored[name].astype(np.float32) * stored[f"{name}_scale"]) for name in _FIELDS)
    pairs = HandParameters(pose, shape, place)
    return concatenate([pairs, mirror_parameters(pairs)])


@lru_cache(maxsize=2)
def fresh_pairs(block: int) -> HandParameters:
    """POOL pairs that the sampler makes for this block of scenes, in some five seconds. Those of the sealed benchmarks come with the package: the
    sampler descends and rejects, so another processor's rounding makes other pairs of a seed. UserError if the installation lacks them."""
    stored = _stored(SEALED_PAIRS, "tools/seal_benchmarks.py DIR --pairs")
    if f"{block}.pose" in stored:
        return HandParameters(*(torch.from_numpy(stored[f"{block}.{name}"]) for name in _FIELDS))
    return sampled_pairs(block)


def sampled_pairs(block: int) -> HandParameters:
    """The same, made here and now."""
    from twohands.synth.interactions import sample_interactions

    return sample_interactions(load_bundled_hand(), POOL, 7_000_000 + block)
