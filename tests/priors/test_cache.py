"""A teacher is asked once about each photo, and what it said comes back as it was."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from twohands.data.shards import ShardSet, write_shard
from twohands.errors import UserError
from twohands.priors.cache import Cache, ShardedPhotos, run_teacher, source_at, taught_shards
from twohands.priors.sheet import TILE_PX, draw_sheet
from twohands.priors.teacher import Lesson, Question
from twohands.schema import PriorMaps
from twohands.synth.photo import take_photo
from twohands.synth.scene import SceneKnobs


class Echo:
    """Says the photo's brightness in every field, and remembers what it was asked."""

    def __init__(self, name: str = "echo"):
        self.name, self.asked = name, []

    def describe(self) -> dict[str, str]:
        return {"teacher": self.name}

    def __call__(self, question: Question) -> Lesson:
        self.asked.append(question.name)
        value = float(question.image.mean())
        height, width = question.image.shape[:2]
        maps = PriorMaps(
            torch.full((2, 21, 2), value), torch.full((2, 21), 0.5), torch.full((height, width), int(value) % 33, dtype=torch.uint8),
            torch.full((height, width), value / 100), torch.full((2, 21), -value),
        )  # fmt: skip
        return Lesson(maps, torch.tensor([0.0, 0.75]), torch.full((2, 21, 3), value), torch.full((2, 3), value))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    (folder / "below").mkdir(parents=True)
    for k in range(7):
        Image.new("L", (40, 20), 30 + k).save(folder / ("below" if k > 4 else ".") / f"{k}.png")
    (folder / "broken.jpg").write_bytes(b"nothing")
    return folder


def test_a_run_that_stops_goes_on_and_asks_nothing_twice(tmp_path, photos):
    out, teacher = tmp_path / "out", Echo()
    run = run_teacher(teacher, photos, out, per_shard=2)
    next(run)
    next(run)
    run.close()
    with pytest.raises(UserError, match="2 of 4 shards"):
        Cache.read(out)
    reports = list(run_teacher(teacher, photos, out, per_shard=2))
    assert sum(r.pictures for r in reports) == 4
    assert sorted(teacher.asked) == ["0.png", "1.png", "2.png", "3.png", "4.png", "below/5.png", "below/6.png"]
    cache = Cache.read(out)
    assert len(cache) == 8
    lesson = cache.lesson("below/5.png")
    said = Echo()(Question("", np.full((20, 40, 3), 35, np.uint8)))
    for name, value in said.arrays().items():
        np.testing.assert_allclose(lesson.arrays()[name], value, rtol=1e-3, err_msg=name)
    with pytest.raises(UserError, match=r"broken.jpg was not taught"):
        cache.lesson("broken.jpg")
    with pytest.raises(UserError, match="not in the cache"):
        cache.lesson("new.png")
    with pytest.raises(UserError, match="begun with other settings"):
        list(run_teacher(Echo("other"), photos, out))
    sheet = draw_sheet(cache, source_at(photos), count=3, columns=2)
    assert sheet.size == (2 * TILE_PX, 2 * TILE_PX)
    assert np.asarray(sheet).any()


def test_lessons_take_the_place_of_the_shards_own_maps(tmp_path):
    knobs = SceneKnobs(interacting=0.0)
    samples = [take_photo(knobs, seed) for seed in range(3)]
    write_shard(tmp_path / "in" / "0.npz", [samples[0], replace(samples[1], priors=None)])
    write_shard(tmp_path / "in" / "1.npz", [samples[2]])
    assert isinstance(source_at(tmp_path / "in"), ShardedPhotos)
    list(run_teacher(Echo(), tmp_path / "in", tmp_path / "cache"))
    taught = taught_shards(tmp_path / "in", tmp_path / "cache")
    plain = ShardSet.read(sorted((tmp_path / "in").glob("*.npz")))
    for k in range(3):
        value = float(plain.decode(k).mean())
        assert (taught.arrays["segmentation"][k] == int(value) % 33).all()
        assert abs(taught.arrays["depth_mm"][k].astype(float) - value * 10).max() <= 1
        np.testing.assert_allclose(taught.arrays["prior_keypoints_xy"][k], value, rtol=1e-6)
        assert taught.arrays["has_maps"][k] == 1
        np.testing.assert_array_equal(taught.arrays["prior_confidence"][k], np.array([[0.0], [0.5]]) * np.ones(21))
    assert len(taught.without_last(1).arrays["segmentation"]) == 2
    np.testing.assert_array_equal(taught.arrays["keypoints_xy"], plain.arrays["keypoints_xy"])
    assert plain.arrays["has_maps"].tolist() == [1, 0, 1]


def test_a_folder_without_photos_is_refused(tmp_path):
    with pytest.raises(UserError, match="neither photos nor shards"):
        source_at(tmp_path)
    with pytest.raises(UserError, match="no folder"):
        source_at(tmp_path / "none")
