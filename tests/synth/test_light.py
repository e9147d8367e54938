"""Light that comes from what is behind a scene."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from twohands.errors import UserError
from twohands.synth.backgrounds import Photos
from twohands.synth.light import LIGHTS, changed, exposed, harmonics, light_of_environment, light_of_picture, read_lights
from twohands.synth.photo import take_photo
from twohands.synth.scene import SceneKnobs

KNOBS = SceneKnobs(size_px=64, interacting=0.0, bodies=0.0, faults="none", pasted=0.0, occluder=0.0)
CAMERA_LOOKS_AT_THE_MIDDLE = np.diag([1.0, -1, 1])
"""A camera that looks along the map's z axis, its y axis down."""


def arrives(sky: np.ndarray, direction: tuple[float, float, float]) -> float:
    return float((harmonics(np.array(direction)) @ sky).mean())


def environment() -> np.ndarray:
    """Bright above, dark below, and a lamp to the right (longitude 90 degrees), a little above the horizon."""
    sky = np.full((32, 64, 3), 0.2, np.float32)
    sky[:16] = [0.5, 0.6, 0.9]
    sky[12:15, 14:18] = 40
    return sky


def test_an_even_map_lights_every_side_by_its_radiance() -> None:
    light = light_of_environment(np.full((32, 64, 3), 0.7, np.float32), CAMERA_LOOKS_AT_THE_MIDDLE)
    for direction in ((1.0, 0, 0), (0, 1.0, 0), (0, 0, -1.0)):
        assert arrives(light.sky, direction) == pytest.approx(0.7, rel=0.01)
    assert float(light.power.sum()) == pytest.approx(0, abs=1e-6)


def test_a_maps_lamp_and_sky_lie_where_they_are_on_it() -> None:
    light = light_of_environment(environment(), CAMERA_LOOKS_AT_THE_MIDDLE)
    assert light.to_light[0] @ np.array([1.0, -0.2, 0]) > 0.9  # right, a little up (y points down)
    assert float(light.power.mean()) > 0.3
    assert arrives(light.sky, (0, -1.0, 0)) > 1.5 * arrives(light.sky, (0, 1.0, 0))
    assert light.sky[0, 2] > light.sky[0, 0]


def test_a_mirrored_reordered_brighter_picture_has_the_light_that_goes_with_it() -> None:
    light = light_of_environment(environment(), CAMERA_LOOKS_AT_THE_MIDDLE)
    order = np.array([1, 2, 0])
    other = changed(light, True, order, 2.0)
    mirrored = light_of_environment(np.ascontiguousarray(environment()[:, ::-1]), CAMERA_LOOKS_AT_THE_MIDDLE)
    np.testing.assert_allclose(other.to_light, mirrored.to_light, atol=1e-5)
    np.testing.assert_allclose(other.sky[:, order], 2 * mirrored.sky, atol=1e-4)
    np.testing.assert_allclose(other.power[:, order], 2 * mirrored.power, atol=1e-5)


def test_a_guess_is_brighter_on_the_side_where_the_picture_is_and_about_as_bright() -> None:
    picture = np.full((64, 64, 3), 0.1, np.float32)
    picture[:, 40:] = [0.8, 0.5, 0.3]
    light = light_of_picture(picture, np.random.default_rng(0))
    assert arrives(light.sky, (1.0, 0, 0)) > 1.2 * arrives(light.sky, (-1.0, 0, 0))
    assert light.to_light[0, 0] > 0
    assert light.sky[0, 0] > light.sky[0, 2]
    bright = exposed(changed(light, False, np.arange(3), 100.0), picture)
    assert arrives(bright.sky, (0, 0, -1.0)) < 2 * picture.mean() / 0.55


def folder_with_light(folder: Path) -> Path:
    Image.fromarray(np.full((70, 90, 3), 120, np.uint8)).save(folder / "room.png")
    light = light_of_environment(environment(), CAMERA_LOOKS_AT_THE_MIDDLE)
    np.savez(folder / LIGHTS, name=np.array(["room.png"]), sky=light.sky[None], to_light=light.to_light, power=light.power)
    return folder


def test_scenes_are_lit_by_what_a_folder_says_of_its_pictures_and_nothing_else_changes(tmp_path: Path) -> None:
    photos = Photos(folder_with_light(tmp_path), None, share=1.0)
    known = read_lights(tmp_path)["room.png"]
    assert known.to_light.shape == (1, 3)
    lit, drawn = (take_photo(replace(KNOBS, lit_from_behind=share), 5, photos) for share in (1.0, 0.0))
    assert not torch.equal(lit.image, drawn.image)
    assert torch.equal(lit.keypoints_camera_m, drawn.keypoints_camera_m)
    assert torch.equal(lit.keypoint_visible, drawn.keypoint_visible)
    assert torch.equal(lit.image, take_photo(replace(KNOBS, lit_from_behind=1.0), 5, photos).image)
    (tmp_path / LIGHTS).unlink()
    assert read_lights(tmp_path) == {}


def test_a_broken_file_of_lights_is_refused(tmp_path: Path) -> None:
    (tmp_path / LIGHTS).write_bytes(b"no lights")
    with pytest.raises(UserError, match="make it anew"):
        read_lights(tmp_path)
