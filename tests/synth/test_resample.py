"""The compiled routines agree with the library's general ones."""

import numpy as np
import pytest
from PIL import Image, ImageFilter

from twohands.synth.resample import add_enlarged, enlarge_linear, filtered, gaussian, shrunk_and_back

SIZE = 96


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    rng = np.random.default_rng(0)
    rough = Image.fromarray(rng.integers(0, 255, (24, 24, 3), np.uint8)).resize((SIZE, SIZE), Image.Resampling.BICUBIC)
    return np.asarray(rough) // 2 + rng.integers(0, 60, (SIZE, SIZE, 3), np.uint8)


@pytest.mark.parametrize("small", [31, 60, 86])
def test_a_picture_made_small_and_enlarged_is_what_two_resizes_make_of_it(image: np.ndarray, small: int) -> None:
    for back, resampling in (("linear", Image.Resampling.BILINEAR), ("cubic", Image.Resampling.BICUBIC)):
        twice = Image.fromarray(image).resize((small, small), Image.Resampling.BILINEAR).resize((SIZE, SIZE), resampling)
        gap = np.abs(filtered(image, shrunk_and_back(SIZE, small, back)).astype(int) - np.asarray(twice))  # type: ignore[arg-type]
        assert gap.max() <= 3
        assert gap.mean() < 0.6


def test_a_blur_is_that_of_the_library_away_from_the_borders(image: np.ndarray) -> None:
    for sigma in (0.5, 1.3, 2.2):
        library = np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(sigma))).astype(int)
        gap = np.abs(filtered(image, gaussian(SIZE, sigma)).astype(int) - library)[8:-8, 8:-8]
        assert gap.mean() < 1.0
        assert gap.max() <= 6
    even = np.full_like(image, 77)
    np.testing.assert_array_equal(filtered(even, gaussian(SIZE, 2.0)), even)


def test_a_grid_is_drawn_out_as_bilinear_resizing_does() -> None:
    grid = np.random.default_rng(1).random((7, 5, 3)).astype(np.float32)
    out = np.zeros((SIZE, 64, 3), np.float32)
    add_enlarged(grid, np.float32(2.0), out)
    for k in range(3):
        library = np.asarray(Image.fromarray(grid[..., k]).resize((64, SIZE), Image.Resampling.BILINEAR))
        np.testing.assert_allclose(out[..., k], 2 * library, atol=1e-5)
    flat = np.zeros((8, 8, 3), np.float32)
    add_enlarged(np.full((1, 1, 1), 0.25, np.float32), np.float32(1), flat)
    np.testing.assert_array_equal(flat, np.full((8, 8, 3), 0.25, np.float32))


def test_an_enlarged_photo_is_looked_up_mirrored_and_reordered(image: np.ndarray) -> None:
    table = np.linspace(0, 1, 256).astype(np.float32)
    plain, turned = np.empty((50, 50, 3), np.float32), np.empty((50, 50, 3), np.float32)
    enlarge_linear(image, table, False, np.arange(3), plain)
    enlarge_linear(image, table, True, np.array([2, 0, 1]), turned)
    np.testing.assert_array_equal(turned[..., [2, 0, 1]], plain[:, ::-1])
    assert np.abs(plain.mean() - image.mean() / 255) < 0.01
