"""Shards of the recipe's five data sets, rendered, each with what the real one has: one or two hands, with or without 3D."""

from dataclasses import replace
from pathlib import Path

import torch

from twohands.data.shards import write_shard
from twohands.schema import Sample
from twohands.synth.photo import take_photo
from twohands.synth.scene import SceneKnobs
from twohands.training.recipe import MIXTURE


def flat(sample: Sample) -> Sample:
    """As COCO-WholeBody is: 2D keypoints alone."""
    nothing = torch.zeros(2, 21, dtype=torch.bool)
    return replace(sample, keypoints_3d_valid=nothing, parameters_valid=torch.zeros(2, dtype=torch.bool), priors=None)


def write_recipe_data(data: Path, count: int, interacting: float = 0.0) -> Path:
    """A folder of shards a data set, `count` samples each. `interacting` is the share of pairs from the (slow) interaction sampler."""
    knobs = SceneKnobs(interacting=interacting)
    for k, name in enumerate(MIXTURE):
        samples = [take_photo(knobs, 1000 * k + seed) for seed in range(count)]
        write_shard(data / name / "00000.npz", [flat(s) for s in samples] if name == "coco_wholebody" else samples)
    return data
