"""Interacting pairs that come with the package."""

import dataclasses

import pytest
import torch

from twohands.collision.volume import hands_shared_volume_cm3
from twohands.evaluation.synthetic import BENCHMARKS
from twohands.hands.bundled import load_bundled_hand, load_hand_asset
from twohands.hands.mirror import left_as_right_rotvec
from twohands.refine.refiner import shared_volumes_cm3
from twohands.synth import interactions
from twohands.synth import pairs as pairs_module
from twohands.synth.interactions import LARGEST_VOLUME_CM3
from twohands.synth.pairs import POOL, fresh_pairs, shipped_pairs
from twohands.synth.scene import BLOCK, CLASPED, build_scene


def test_pairs_are_within_the_limits_of_joints() -> None:
    pose = left_as_right_rotvec(shipped_pairs().pose)[..., 1:, :]
    limits = load_hand_asset().limits
    angles = limits.rotvec_to_angles(torch.nn.functional.pad(pose, (0, 0, 1, 0)))[..., 1:, :]
    low, high = limits.limits_rad[1:, :, 0], limits.limits_rad[1:, :, 1]
    assert float(torch.maximum(low - angles, angles - high).max()) < 2e-3


def test_pairs_touch_and_do_not_pass_through_one_another() -> None:
    hand, pairs = load_bundled_hand(), shipped_pairs()
    some = pairs[torch.arange(0, pairs.shape.shape[0], 160)]  # of the pairs and of their mirror images
    vertices = hand.closed_vertices(hand.pose_hands(some).mesh().vertices_m)
    assert float(hands_shared_volume_cm3(vertices, hand.closed_faces()).max()) <= 0.01
    gap_m = torch.stack([torch.cdist(pair[0], pair[1]).min() for pair in vertices])
    assert float(gap_m.median()) < 0.003


def test_scenes_show_shipped_pairs_and_no_pair_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    def sampler(*_: object) -> None:
        raise AssertionError("the sampler was called")

    monkeypatch.setattr(interactions, "sample_interactions", sampler)
    fresh_pairs.cache_clear()
    knobs = dataclasses.replace(CLASPED, bodies=0.0)
    fingers = build_scene(knobs, 12).parameters.pose[:, 1:]
    assert float((shipped_pairs().pose[:, :, 1:] - fingers).abs().amax((1, 2, 3)).min()) < 1e-6
    with pytest.raises(AssertionError):
        build_scene(dataclasses.replace(knobs, pairs="fresh"), 12)


def test_the_sealed_benchmarks_show_stored_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sampler makes other pairs of the same seed where a processor rounds otherwise."""
    monkeypatch.setattr(pairs_module, "sampled_pairs", lambda block: block)
    fresh_pairs.cache_clear()
    blocks = {benchmark.recipe(index)[1] // BLOCK for benchmark in BENCHMARKS.values() for index in range(benchmark.count)}
    hand = load_bundled_hand()
    for block in blocks:
        stored = fresh_pairs(block)
        assert stored.pose.shape == (POOL, 2, 16, 3)
        assert bool((shared_volumes_cm3(hand, stored[::32]) <= LARGEST_VOLUME_CM3 + 1e-6).all())
    assert fresh_pairs(max(blocks) + 1) == max(blocks) + 1
    fresh_pairs.cache_clear()
