"""Every kind of file that people call a photo is read as the same picture, or refused by name."""

import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from twohands.errors import UserError
from twohands.geometry.photo import BEHIND_ALPHA, as_photo, choose_camera, read_photo

WIDTH, HEIGHT = 48, 32


@pytest.fixture(scope="module")
def picture() -> Image.Image:
    """Smooth, with no symmetry, so that a wrong turn shows."""
    x, y = np.meshgrid(np.linspace(0, 1, WIDTH), np.linspace(0, 1, HEIGHT))
    return Image.fromarray((np.stack([x, y, (1 - x) * y], -1) * 255).astype(np.uint8))


def error_of(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        read_photo(path)
    return str(caught.value)


def exif_of(**tags: float) -> Image.Exif:
    numbers = {"film_mm": 0xA405, "lens_mm": 0x920A, "per_unit": 0xA20E, "unit": 0xA210, "width": 0xA002, "height": 0xA003}
    exif = Image.Exif()
    for name, value in tags.items():
        exif.get_ifd(0x8769)[numbers[name]] = value
    return exif


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "tif", "webp"])
def test_any_orientation_is_upright(tmp_path, picture, orientation, suffix):
    # Stored = the transpose whose inverse the tag asks for.
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}
    stored = picture if orientation == 1 else picture.transpose(Image.Transpose(undo[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / f"p.{suffix}", exif=exif, lossless=True)
    assert np.array_equal(read_photo(tmp_path / f"p.{suffix}").image, np.asarray(picture))


@pytest.mark.parametrize("mode", ["L", "1", "P", "RGBA", "LA", "CMYK", "YCbCr"])
def test_modes_give_rgb(tmp_path, picture, mode):
    path = tmp_path / ("p.tif" if mode in ("CMYK", "YCbCr") else "p.png")
    picture.convert(mode).save(path)
    image = read_photo(path).image
    expected = np.asarray(picture.convert(mode).convert("RGB"))
    assert image.shape == (HEIGHT, WIDTH, 3)
    assert image.dtype == np.uint8
    assert np.abs(image.astype(int) - expected).max() <= 2


def test_cmyk_jpeg_has_its_own_colours_not_their_negative(tmp_path, picture):
    picture.convert("CMYK").save(tmp_path / "p.jpg", quality=95)
    assert np.abs(read_photo(tmp_path / "p.jpg").image.astype(int) - np.asarray(picture)).mean() < 6


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bits_are_scaled_not_cut(tmp_path, picture, suffix):
    grey = np.asarray(picture.convert("L"))
    Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / f"p.{suffix}")
    assert np.array_equal(read_photo(tmp_path / f"p.{suffix}").image, np.repeat(grey[..., None], 3, 2))


def test_float_and_32_bit_pictures(tmp_path, picture):
    grey = np.asarray(picture.convert("L"))
    Image.fromarray((grey / 255).astype(np.float32)).save(tmp_path / "f.tif")
    Image.fromarray(grey.astype(np.int32) * 257).save(tmp_path / "i.tif")
    for name in ("f.tif", "i.tif"):
        assert np.abs(read_photo(tmp_path / name).image[..., 0].astype(int) - grey).max() <= 1
    Image.fromarray(grey.astype(np.float32) - 300).save(tmp_path / "negative.tif")
    assert "no photo" in error_of(tmp_path / "negative.tif")


def test_transparency_shows_grey(tmp_path, picture):
    clear = picture.convert("RGBA")
    clear.putalpha(0)
    clear.save(tmp_path / "p.png")
    assert (read_photo(tmp_path / "p.png").image == BEHIND_ALPHA).all()


def test_an_animation_gives_its_first_frame(tmp_path, picture):
    frames = [picture, Image.new("RGB", picture.size)]
    frames[0].save(tmp_path / "p.webp", save_all=True, append_images=frames[1:], lossless=True)
    assert np.array_equal(read_photo(tmp_path / "p.webp").image, np.asarray(picture))


def test_what_is_no_photo_is_refused_by_name(tmp_path, picture):
    picture.resize((300, 200)).save(tmp_path / "whole.jpg")
    whole = (tmp_path / "whole.jpg").read_bytes()
    picture.resize((300, 200)).save(tmp_path / "whole.png")
    files = {
        "empty.jpg": (b"", "empty"),
        "text.jpg": (b"this is not an image, but a sentence", "not an image"),
        "cut.jpg": (whole[: len(whole) // 2], "cut short"),
        "cut.png": ((tmp_path / "whole.png").read_bytes()[:-400], "cut short"),
        "phone.heic": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC"),
        "header.png": (b"\x89PNG\r\n\x1a\n" + b"\0" * 40, "header.png"),
    }
    for name, (content, word) in files.items():
        (tmp_path / name).write_bytes(content)
        message = error_of(tmp_path / name)
        assert name in message
        assert word in message
        assert "\n" not in message
    assert "not there" in error_of(tmp_path / "nowhere.jpg")
    assert "folder" in error_of(tmp_path)


@pytest.mark.parametrize("size", [(8000, 8000), (14000, 14000)])
def test_bombs_are_refused_before_they_are_decoded(tmp_path, size):
    Image.new("1", size).save(tmp_path / "bomb.png")
    assert "megapixels" in error_of(tmp_path / "bomb.png")


def test_tiny_pictures_are_refused(tmp_path):
    Image.new("RGB", (3, 900)).save(tmp_path / "line.png")
    assert "3 x 900" in error_of(tmp_path / "line.png")
    with pytest.raises(ValueError, match="too small"):
        as_photo(np.zeros((2, 2, 3), np.uint8))


def test_arrays(picture):
    grey = np.asarray(picture.convert("L"))
    assert np.array_equal(as_photo(grey).image[..., 1], grey)
    for wrong in (np.zeros((32, 32, 4), np.uint8), np.zeros((32, 32, 3), np.float32)):
        with pytest.raises(ValueError, match="uint8"):
            as_photo(wrong)


def test_exif_focal_length(tmp_path, picture):
    def focal(size=(400, 300), **tags) -> float | None:
        picture.resize(size).save(tmp_path / "p.jpg", exif=exif_of(**tags))
        return read_photo(tmp_path / "p.jpg").focal_px_exif

    # 26 mm equivalent on a 4:3 picture with a diagonal of 500 px.
    assert focal(film_mm=26) == pytest.approx(26 / math.hypot(36, 24) * 500)
    # A 50 mm lens on 36 mm of 3600 px, shrunk to 400.
    lens = {"lens_mm": 50.0, "per_unit": 3600 / 3.6, "unit": 3, "width": 3600, "height": 2700}
    assert focal(**lens) == pytest.approx(50 / 36 * 400, rel=1e-4)
    assert focal(size=(300, 300), **lens) is None, "cropped after the shot"
    assert focal(film_mm=0) is None
    assert focal(lens_mm=50.0) is None
    assert focal() is None


def test_camera_choice():
    camera, source = choose_camera(640, 480, focal_px=500.0, focal_px_exif=900.0)
    assert source == "caller"
    assert camera.matrix().tolist() == [[500, 0, 320], [0, 500, 240], [0, 0, 1]]
    assert choose_camera(640, 480, focal_px_exif=900.0)[1] == "exif"
    default, source = choose_camera(480, 640)
    assert source == "default"
    assert float(default.focal_px[0]) == pytest.approx(320 / math.tan(math.radians(30)))
    matrix = [[700.0, 0, 300], [0, 710, 200], [0, 0, 1]]
    assert np.allclose(choose_camera(640, 480, intrinsics=matrix)[0].matrix(), matrix)


@pytest.mark.parametrize(
    "wrong",
    [
        {"focal_px": 500.0, "fov_deg": 60.0},
        {"focal_px": 0.0},
        {"focal_px": -3.0},
        {"focal_px": float("nan")},
        {"focal_px": 4.2},
        {"fov_deg": 180.0},
        {"intrinsics": np.eye(4)},
        {"intrinsics": [[0.0, 0, 3], [0, 1, 3], [0, 0, 1]]},
    ],
)
def test_impossible_cameras_are_refused(wrong):
    with pytest.raises(UserError):
        choose_camera(640, 480, **wrong)
