import numpy as np
import torch
from torch.nn import functional

from twohands.training.pixels import grain, read_crops


def test_crops_are_those_of_grid_sample() -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2, 20, 31, 3), np.uint8)
    places = rng.uniform(-4, 36, (2, 12, 10, 2)).astype(np.float32)
    grid = torch.from_numpy(places) * torch.tensor([2 / 31, 2 / 20]) - 1
    read = functional.grid_sample(torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255, grid, align_corners=False)
    np.testing.assert_allclose(read_crops(images, places), read.numpy(), atol=2e-5)
    np.testing.assert_allclose(read_crops(images, places, fine=2), functional.avg_pool2d(read, 2).numpy(), atol=2e-5)


def test_places_that_are_nowhere_are_black() -> None:
    images = np.full((1, 8, 8, 3), 255, np.uint8)
    places = np.array([[[[np.nan, 3], [np.inf, 1], [-9, 4], [4, 4]]]], np.float32)
    np.testing.assert_allclose(read_crops(images, places)[0, 0, 0], [0, 0, 0, 1], atol=1e-6)


def test_grain_is_normal_and_follows_its_generator() -> None:
    some = grain(np.random.default_rng(3), 700_000)
    np.testing.assert_array_equal(some, grain(np.random.default_rng(3), 700_000))
    assert not np.array_equal(some, grain(np.random.default_rng(4), 700_000))
    assert abs(float(some.mean())) < 0.01
    assert abs(float(some.std()) - 1) < 0.01
