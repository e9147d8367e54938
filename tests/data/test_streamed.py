"""A streamed set answers as one in memory does."""

import copy

import numpy as np
import pytest
import torch
from PIL import Image

from twohands.data import streamed
from twohands.data.shards import FIELDS, ShardSet, write_shard
from twohands.data.streamed import open_shards, stream_shards
from twohands.errors import UserError
from twohands.geometry.camera import Camera
from twohands.hands.parameters import HandParameters
from twohands.schema import Sample


def blank(seed: int) -> Sample:
    generator = torch.Generator().manual_seed(seed)
    xy = torch.rand(2, 21, 2, generator=generator) * 32
    return Sample(
        torch.full((3, 32, 32), seed * 7, dtype=torch.uint8), Camera(torch.rand(2, generator=generator), torch.ones(2)), torch.tensor([True, seed > 2]),
        xy, torch.ones(2, 21), torch.rand(2, 21, 3, generator=generator), torch.ones(2, 21, dtype=torch.bool), HandParameters.zeros(),
        torch.tensor([True, True]), torch.cat([xy.amin(1), xy.amax(1)], -1), None, f"source {seed}",
    )  # fmt: skip


@pytest.fixture
def paths(tmp_path):
    for k in range(3):
        write_shard(tmp_path / f"{k}.npz", [blank(3 * k + i) for i in range(2 + k)])
    return sorted(tmp_path.glob("*.npz"))


@pytest.mark.parametrize("most_open", [1, 10])
def test_rows_images_and_samples_are_those_in_memory(paths, monkeypatch, most_open):
    monkeypatch.setattr(streamed, "MOST_OPEN", most_open)
    whole, rows = ShardSet.read(paths), copy.deepcopy(stream_shards(paths))
    assert len(rows) == len(whole) == 9
    for i in (8, 0, 4, 1, 7):
        for name in FIELDS:
            np.testing.assert_array_equal(rows.arrays[name][i], whole.arrays[name][i])
        np.testing.assert_array_equal(rows.decode(i), whole.decode(i))
        one, two = rows.sample(i), whole.sample(i)
        assert one.source == two.source
        assert torch.equal(one.keypoints_xy, two.keypoints_xy)
    less = rows.without_last(2)
    assert len(less) == 7
    np.testing.assert_array_equal(less.arrays["pose"][-1], whole.arrays["pose"][6])
    with pytest.raises(IndexError):
        less.arrays["pose"][7]


def test_small_sets_are_read_whole_and_large_ones_streamed(paths, monkeypatch):
    assert isinstance(open_shards(paths).arrays["pose"], np.ndarray)
    monkeypatch.setattr(streamed, "IN_MEMORY_BYTES", 10)
    assert isinstance(open_shards(paths).arrays["pose"], streamed.Column)


def test_what_is_no_shard_is_named(paths, tmp_path):
    with pytest.raises(UserError, match="no shards"):
        stream_shards([])
    np.savez_compressed(tmp_path / "small.npz", a=np.zeros(3))
    with pytest.raises(UserError, match=r"small.npz is compressed"):
        stream_shards([tmp_path / "small.npz"])
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    with pytest.raises(UserError, match=r"other.npz lacks"):
        stream_shards([tmp_path / "other.npz"])
    Image.new("L", (2, 2)).save(tmp_path / "picture.png")
    with pytest.raises(UserError, match=r"picture.png is not a readable shard"):
        stream_shards([tmp_path / "picture.png"])
    paths[2].write_bytes(paths[2].read_bytes()[:-2000])
    with pytest.raises(UserError, match=r"2.npz is not a readable shard"):
        stream_shards(paths)
