"""Glasses, hats, scars and other people's hands: they are there, where they should be, and change nothing else."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from twohands.data.shards import OPTIONAL, ShardSet, write_shard
from twohands.data.streamed import stream_shards
from twohands.schema import Sample
from twohands.synth.photo import take_photo
from twohands.synth.posing import annotated_points
from twohands.synth.scene import SceneKnobs, build_scene

BARE = SceneKnobs(
    framing="person", size_px=128, interacting=0.0, no_hand=0.0, occluder=0.0, pasted=0.0, clutter=(0, 0), others=0.0, held=0.0,
    glasses=0.0, hat=0.0, scar=0.0, others_hands=0.0,
)  # fmt: skip
CROWD = replace(BARE, others=1.0, others_hands=1.0, view_m=(1.6, 2.3))


@pytest.mark.parametrize("what", ["glasses", "hat"])
def test_head_wear_sits_on_the_head_and_moves_nothing(what: str):
    seeds = (1, 4, 6)
    for seed in seeds:
        plain, worn = build_scene(BARE, seed), build_scene(replace(BARE, **{what: 1.0}), seed)
        added = worn.pieces[len(plain.pieces) :]
        assert added
        assert torch.equal(worn.mesh.vertices_m, plain.mesh.vertices_m)
        for old, new in zip(plain.pieces, worn.pieces, strict=False):
            np.testing.assert_array_equal(old.vertices_m, new.vertices_m)
        body = plain.pieces[0]
        assert body.rest_m is not None
        head = body.vertices_m[body.rest_m[:, 1] > 0.62]
        for piece in added:
            gap = np.linalg.norm(piece.vertices_m[:, None] - head[None], axis=2).min(1)
            assert gap.max() < 0.16  # the widest brims
            assert gap.mean() < 0.09


def test_a_scar_is_on_the_skin_and_nowhere_else():
    knobs = replace(BARE, framing="close", bodies=0.0, faults="none")
    changed = [
        (a.image != b.image).any(0).float().mean()
        for a, b in ((take_photo(knobs, seed), take_photo(replace(knobs, scar=1.0), seed)) for seed in range(4))
    ]
    assert max(changed) > 0  # some lie on the side that is not seen
    assert max(changed) < 0.15


@pytest.fixture(scope="module")
def crowd() -> list[Sample]:
    return [take_photo(CROWD, seed) for seed in range(10)]


def test_other_peoples_hands_are_annotated_where_they_are_seen(crowd: list[Sample]):
    found = 0
    for seed, sample in enumerate(crowd):
        scene = build_scene(CROWD, seed)
        assert sample.extra is not None
        for k in torch.where(sample.extra.valid)[0].tolist():
            hand = scene.extra[k]
            found += 1
            assert int(sample.extra.side[k]) == hand.side
            xy = scene.camera.project(torch.from_numpy(annotated_points(hand.keypoints_m)))
            torch.testing.assert_close(sample.extra.keypoints_xy[k], xy, atol=1e-2, rtol=1e-4)
            assert int(((xy > 0) & (xy < 128)).all(-1).sum()) >= 8
            vertices = scene.pieces[hand.piece].vertices_m
            assert np.linalg.norm(vertices[:, None] - hand.keypoints_m[None], axis=2).min(0).max() < 0.03
    assert found >= 4


def test_other_peoples_hands_are_no_hands_of_the_pair(crowd: list[Sample]):
    """The maps know the pair alone."""
    for sample in crowd:
        assert sample.priors is not None
        assert sample.priors.segmentation is not None
        depth = sample.priors.depth_m
        assert depth is not None
        for h in (0, 1):
            own = (sample.priors.segmentation > 16 * h) & (sample.priors.segmentation <= 16 * h + 16)
            if bool(own.any()):
                z = sample.keypoints_camera_m[h, :, 2]
                assert float(depth[own].min()) > float(z.min()) - 0.05
                assert float(depth[own].max()) < float(z.max()) + 0.05


def test_shards_keep_extra_hands_and_older_ones_have_none(tmp_path: Path, crowd: list[Sample]):
    path = tmp_path / "new.npz"
    write_shard(path, crowd)
    with np.load(path) as file:
        older = {name: file[name] for name in file.files if name not in OPTIONAL}
    np.savez(tmp_path / "old.npz", **older)
    for shards in (ShardSet.read([path, tmp_path / "old.npz"]), stream_shards([path, tmp_path / "old.npz"])):
        for k, sample in enumerate(crowd):
            extra, none = shards.sample(k).extra, shards.sample(k + len(crowd)).extra
            assert extra is not None
            assert none is not None
            assert sample.extra is not None
            assert torch.equal(extra.valid, sample.extra.valid)
            assert torch.equal(extra.keypoints_xy, sample.extra.keypoints_xy)
            assert not bool(none.valid.any())
