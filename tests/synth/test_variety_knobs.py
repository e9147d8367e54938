"""Knobs that switch a family of variety off change that family and nothing else."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from twohands.schema import Sample
from twohands.synth.photo import take_photo
from twohands.synth.poses import sample_poses
from twohands.synth.scene import SceneKnobs

KNOBS = SceneKnobs(size_px=64, interacting=0.0, bodies=0.0)
SEEDS = (2, 5)


def photos(knobs: SceneKnobs) -> list[Sample]:
    return [take_photo(knobs, seed) for seed in SEEDS]


@pytest.fixture(scope="module")
def varied() -> list[Sample]:
    return photos(KNOBS)


@pytest.mark.parametrize("change", [{"light": "plain"}, {"faults": "none"}, {"background": "plain"}])
def test_pixels_change_and_the_truth_does_not(varied: list[Sample], change: dict[str, str]) -> None:
    for plain, before in zip(photos(replace(KNOBS, **change)), varied, strict=True):
        assert not torch.equal(plain.image, before.image)
        assert torch.equal(plain.keypoints_camera_m, before.keypoints_camera_m)
        assert torch.equal(plain.keypoint_visible, before.keypoint_visible)


def test_a_plain_wall_has_one_colour() -> None:
    knobs = replace(KNOBS, background="plain", faults="none", pasted=0.0, occluder=0.0, fill_close=(0.3, 0.3), forearm=0.0)
    image = take_photo(knobs, 2).image.permute(1, 2, 0).reshape(-1, 3).numpy()
    _, counts = np.unique(image, axis=0, return_counts=True)
    assert counts.max() > 0.4 * len(image)


def test_simple_poses_are_open_hands_and_fists() -> None:
    """Flexion of the middle fingers' joints moves together: no finger is out alone."""
    simple = sample_poses(60, 1, simple=True)
    assert torch.equal(simple, sample_poses(60, 1, simple=True))

    def alone(poses: torch.Tensor) -> float:
        bend = poses[:, [1, 4, 7, 10]].norm(dim=-1)  # first joints of the long fingers
        return float((bend.amax(1) - bend.amin(1)).mean())

    assert alone(simple) < 0.7 * alone(sample_poses(60, 1))
