import dataclasses
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from twohands.data.shards import JPEG_QUALITY, MAP_STRIDE, ShardSet, ShardWriter, encoded_image, write_shard
from twohands.errors import UserError
from twohands.geometry.camera import Camera
from twohands.hands.parameters import HandParameters
from twohands.schema import PriorMaps, Sample


def sample(seed: int, with_maps: bool = True, size: int = 32) -> Sample:
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=generator)

    # Smooth, so that JPEG keeps it.
    ramp = torch.linspace(0, 200, size)
    image = torch.stack([ramp[None].expand(size, -1), ramp[:, None].expand(-1, size), torch.full((size, size), 40.0 + seed)])
    xy = random(2, 21, 2) * size
    side = size // MAP_STRIDE
    segmentation = (random(side, side) * 33).to(torch.uint8)
    depth = torch.where(segmentation > 0, 0.4 + random(side, side), 0.0)
    confidence = torch.ones(2, 21)
    return Sample(
        image=image.to(torch.uint8),
        camera=Camera(100 + random(2), size * random(2)),
        hand_valid=torch.tensor([True, seed % 2 == 0]),
        keypoints_xy=xy,
        keypoint_visible=(random(2, 21) > 0.5).float(),
        keypoints_camera_m=random(2, 21, 3),
        keypoints_3d_valid=random(2, 21) > 0.1,
        parameters=HandParameters(random(2, 16, 3), random(2, 10), random(2, 3)),
        parameters_valid=torch.tensor([True, True]),
        box_xyxy_px=torch.cat([xy.amin(1), xy.amax(1)], -1),
        priors=PriorMaps(xy, confidence, segmentation, depth) if with_maps else None,
        source=f"test/{seed}",
    )


def test_samples_come_back(tmp_path: Path):
    written = [sample(seed, with_maps=seed != 1) for seed in range(3)]
    write_shard(tmp_path / "a.npz", written[:2], [10, 11])
    write_shard(tmp_path / "b.npz", written[2:], [12])
    shards = ShardSet.read([tmp_path / "a.npz", tmp_path / "b.npz"])
    assert len(shards) == 3
    assert shards.arrays["seed"].tolist() == [10, 11, 12]
    for index, before in enumerate(written):
        after = shards.sample(index)
        assert (after.image.int() - before.image.int()).abs().max() <= 6
        assert after.source == before.source
        assert (after.priors is None) == (before.priors is None)
        kept, expected = after.arrays(), before.arrays()
        for name in expected:
            if name == "image" or name.startswith("priors.keypoint"):
                continue
            if name == "source":
                continue
            tolerance = 5.1e-4 if name == "priors.depth_m" else 0  # whole millimetres, rounded or cut
            np.testing.assert_allclose(kept[name], expected[name], atol=2 * tolerance, rtol=0, err_msg=name)


def test_samples_added_one_by_one_make_the_same_file(tmp_path: Path):
    samples = [sample(seed, with_maps=seed != 1) for seed in range(3)]
    write_shard(tmp_path / "a.npz", samples, [7, 8, 9])
    writer = ShardWriter()
    for k, one in enumerate(samples):
        writer.add(one, 7 + k)
    writer.write(tmp_path / "b.npz")
    with np.load(tmp_path / "a.npz") as a, np.load(tmp_path / "b.npz") as b:
        assert a.files == b.files
        for name in a.files:
            np.testing.assert_array_equal(a[name], b[name], err_msg=name)
    with pytest.raises(ValueError, match="at least"):
        ShardWriter().write(tmp_path / "none.npz")


def test_images_are_encoded_as_the_library_encodes_them():
    image = torch.randint(0, 256, (3, 24, 40), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    for view in (image, image[:, ::2, 3:], image.flip(2), image.permute(1, 2, 0).contiguous().permute(2, 0, 1)):
        buffer = io.BytesIO()
        Image.fromarray(view.permute(1, 2, 0).numpy()).save(buffer, "JPEG", quality=JPEG_QUALITY)
        assert encoded_image(view) == buffer.getvalue()


def test_nothing_in_a_shard_is_pickled(tmp_path: Path):
    write_shard(tmp_path / "a.npz", [sample(0)])
    with np.load(tmp_path / "a.npz", allow_pickle=False) as file:
        assert all(file[name].dtype.kind in "biufU" for name in file.files)


def test_a_shard_appears_whole_or_not_at_all(tmp_path: Path):
    odd = dataclasses.replace(sample(1), image=torch.zeros(3, 16, 16, dtype=torch.uint8))
    with pytest.raises(ValueError, match="one size"):
        write_shard(tmp_path / "a.npz", [sample(0), odd])
    assert list(tmp_path.iterdir()) == []


def test_broken_and_foreign_files_are_named(tmp_path: Path):
    whole = tmp_path / "whole.npz"
    write_shard(whole, [sample(0)])
    cut = tmp_path / "cut.npz"
    cut.write_bytes(whole.read_bytes()[:2000])
    foreign = tmp_path / "foreign.npz"
    np.savez(foreign, x=np.zeros(3))
    for path in (cut, foreign, tmp_path / "missing.npz"):
        with pytest.raises(UserError, match=path.name):
            ShardSet.read([whole, path])
    with pytest.raises(UserError):
        ShardSet.read([])


def test_holding_back_samples_leaves_the_rest(tmp_path: Path):
    write_shard(tmp_path / "a.npz", [sample(seed) for seed in range(4)])
    shards = ShardSet.read([tmp_path / "a.npz"])
    assert len(shards.without_last(1)) == 3
    assert shards.without_last(1).sample(2).source == "test/2"
    with pytest.raises(ValueError, match="hold back"):
        shards.without_last(4)
