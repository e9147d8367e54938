from pathlib import Path

import pytest

from twohands.data.shards import ShardSet
from twohands.errors import UserError
from twohands.synth.generate import SEED_STRIDE, write_shards
from twohands.synth.scene import SceneKnobs

KNOBS = SceneKnobs(interacting=0.0, size_px=64)


def test_shards_hold_their_seeds_and_a_second_run_keeps_what_is_there(tmp_path: Path):
    done: list[int] = []
    paths = write_shards(tmp_path, seed=3, count=5, knobs=KNOBS, shard_size=2, progress=done.append)
    assert done == [2, 2, 1]
    shards = ShardSet.read(paths)
    assert shards.arrays["seed"].tolist() == [3 * SEED_STRIDE + i for i in range(5)]
    assert shards.decode(4).shape == (64, 64, 3)
    kept = [path.stat().st_mtime_ns for path in paths]
    paths[1].unlink()
    done.clear()
    assert write_shards(tmp_path, seed=3, count=5, knobs=KNOBS, shard_size=2, progress=done.append) == paths
    assert done == [2]
    assert [path.stat().st_mtime_ns for path in (paths[0], paths[2])] == [kept[0], kept[2]]


@pytest.mark.parametrize(("seed", "count", "workers"), [(0, 0, 1), (0, 1, 0), (-1, 1, 1)])
def test_what_cannot_be_rendered_is_refused(tmp_path: Path, seed: int, count: int, workers: int):
    with pytest.raises(UserError):
        write_shards(tmp_path, seed=seed, count=count, knobs=KNOBS, workers=workers)


def test_a_file_is_no_folder(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file"):
        write_shards(tmp_path / "file", seed=0, count=1)
