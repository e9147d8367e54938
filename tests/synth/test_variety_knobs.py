"""Knobs that switch a family of variety off change that family and nothing else."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from twohands.errors import UserError
from twohands.schema import Sample
from twohands.synth.knobs import SHARES, with_shares
from twohands.synth.photo import take_photo
from twohands.synth.poses import sample_poses
from twohands.synth.scene import SceneKnobs
from twohands.synth.skin import masks

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


def test_quick_pictures_are_nearly_the_thorough_ones() -> None:
    plain = replace(KNOBS, faults="none", size_px=128)
    for quick, thorough in zip(photos(plain), photos(replace(plain, finish="thorough")), strict=True):
        gap = (quick.image.int() - thorough.image.int()).abs()
        assert int((gap > 0).sum()) > 0
        assert float(gap.float().mean()) < 1.0
        assert float((gap > 24).float().mean()) < 0.01
        assert torch.equal(quick.keypoint_visible, thorough.keypoint_visible)


def test_hairs_darken_the_back_of_a_hand_and_nothing_else_changes() -> None:
    plain = replace(KNOBS, faults="none", held=0.0, occluder=0.0, glove=0.0, forearm=0.0, size_px=96)
    changed = 0
    for hairy, bald in zip(photos(replace(plain, hair=1.0)), photos(replace(plain, hair=0.0)), strict=True):
        assert torch.equal(hairy.keypoints_camera_m, bald.keypoints_camera_m)
        assert torch.equal(hairy.keypoints_xy, bald.keypoints_xy)
        changed += int((hairy.image != bald.image).sum())
    assert changed > 50
    hair = masks().hair
    assert hair[masks().palm > 0.6].max() < 0
    assert (hair > 0.3).sum() > 100


def test_shares_are_set_by_name() -> None:
    knobs = with_shares(SceneKnobs(framing="ego"), (("held", 0.8), ("glove", 1.0)))
    assert knobs == SceneKnobs(framing="ego", held=0.8, glove=1.0)
    assert {"held", "lit_from_behind", "no_hand"} < set(SHARES)
    assert not {"shape_sigma", "size_noise", "size_px", "fov_deg"} & set(SHARES)
    with pytest.raises(UserError, match="no share 'gloves'"):
        with_shares(SceneKnobs(), (("gloves", 0.1),))
    for value in (-0.1, 1.5, float("nan")):
        with pytest.raises(UserError, match="out of range"):
            with_shares(SceneKnobs(), (("glove", value),))
