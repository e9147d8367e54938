"""A few rendered scenes, made once for the tests of this folder."""

from pathlib import Path

import pytest

from twohands.data.shards import ShardSet, write_shard
from twohands.synth.photo import take_photo
from twohands.synth.scene import SceneKnobs


@pytest.fixture(scope="session")
def shard_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """16 close scenes without the (slower) interaction sampler."""
    folder = tmp_path_factory.mktemp("shards")
    knobs = SceneKnobs(interacting=0.0)
    write_shard(folder / "00000.npz", [take_photo(knobs, seed) for seed in range(16)])
    return folder


@pytest.fixture(scope="session")
def shards(shard_folder: Path) -> ShardSet:
    return ShardSet.read(sorted(shard_folder.glob("*.npz")))
