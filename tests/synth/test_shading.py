import dataclasses
from pathlib import Path

import numpy as np
import pytest
import trimesh
from PIL import Image

from twohands.errors import UserError
from twohands.synth.backgrounds import Photos, background
from twohands.synth.glb import write_glb
from twohands.synth.light import Light, harmonics, plain_light, sky_of
from twohands.synth.material import LAYERS
from twohands.synth.photo import lay_over, lay_reduced, reduced, take_photo
from twohands.synth.scene import Scene, SceneKnobs, build_scene
from twohands.synth.shading import shade
from twohands.synth.skin import Skin

KNOBS = SceneKnobs(framing="close", interacting=0.0, bodies=0.0, held=0.0, occluder=0.0)


LIGHT = plain_light()


@pytest.fixture(scope="module")
def scene() -> Scene:
    return build_scene(dataclasses.replace(KNOBS, size_px=64), 4)


def lit_by(sky: float, lamp: np.ndarray, power: float) -> Light:
    even = np.zeros((9, 3), np.float32)
    even[0] = sky / 0.282095
    return Light(even, np.float32(lamp[None] / np.linalg.norm(lamp)), np.full((1, 3), power, np.float32))


def test_light_adds_up(scene: Scene):
    lamp = np.array([0.3, -0.5, -1.0])
    sky, lamps, both = (shade(scene, 64, 1.5, lit_by(s, lamp, p)).picture for s, p in ((0.4, 0.0), (0.0, 0.7), (0.4, 0.7)))
    seen = both[..., 3] > 0
    assert seen.sum() > 100
    # The sheen at grazing angles is taken from all the light, so that the sum is exact only up to single precision.
    np.testing.assert_allclose(both[..., :3][seen], (sky + lamps)[..., :3][seen], atol=1e-4)


def test_nothing_of_a_scene_lies_outside_its_window(scene: Scene):
    every = shade(scene, 64, 1.5, LIGHT)
    top, bottom, left, right = every.window
    outside = np.ones(every.picture.shape[:2], bool)
    outside[top:bottom, left:right] = False
    assert outside.any()
    assert (every.picture[outside] == 0).all()
    assert (every.picture[~outside][:, 3] > 0).any()


def test_a_window_laid_over_a_background_is_the_whole_laid_over_it(scene: Scene):
    canvas = np.full((96, 96, 4), 7.0, np.float32)  # what an earlier scene left there
    whole, part = shade(scene, 64, 1.5, LIGHT, every=False), shade(scene, 64, 1.5, LIGHT, every=False, out=canvas)
    assert whole.window == part.window
    expected, found = np.full((64, 64, 3), 0.3, np.float32), np.full((64, 64, 3), 0.3, np.float32)
    lay_over(reduced(whole.picture), expected)
    lay_reduced(part.picture, part.window, found)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert (found != np.float32(0.3)).any()


def test_a_sky_of_one_source_is_brightest_towards_it():
    direction = np.array([[0.6, -0.8, 0.0]])
    sky = sky_of(direction, np.ones((1, 3)))
    ball = np.random.default_rng(0).normal(size=(500, 3))
    ball /= np.linalg.norm(ball, axis=1, keepdims=True)
    arrives = harmonics(ball) @ sky[:, 0]
    assert float(harmonics(direction)[0] @ sky[:, 0]) == pytest.approx(1, abs=1e-5)
    assert float(ball[arrives.argmax()] @ direction[0]) > 0.95


def test_a_hand_turned_from_the_lamp_is_darker(scene: Scene):
    front, back = (shade(scene, 64, 1.5, lit_by(0.05, np.array([0, 0, z]), 1.0)).picture for z in (-1.0, 1.0))
    assert front[..., :3].sum() > 3 * back[..., :3].sum()


def test_photos_behind_change_the_picture_and_nothing_else(tmp_path: Path):
    rng = np.random.default_rng(0)
    for k in range(3):
        Image.fromarray(rng.integers(0, 255, (80, 100, 3), np.uint8)).save(tmp_path / f"{k}.png")
    plain = take_photo(KNOBS, 7)
    before = take_photo(KNOBS, 7, Photos(tmp_path, None, share=1.0))
    assert bool((plain.keypoints_xy == before.keypoints_xy).all())
    assert not bool((plain.image == before.image).all())
    assert bool((before.image == take_photo(KNOBS, 7, Photos(tmp_path, None, share=1.0)).image).all())


def test_an_empty_folder_of_photos_is_refused(tmp_path: Path):
    with pytest.raises(UserError, match="holds no"):
        background(np.random.default_rng(0), 32, Photos(tmp_path, None, share=1.0))


def test_all_kinds_of_backgrounds_are_light_of_the_right_size():
    for k in range(40):
        picture = background(np.random.default_rng(k), 48, None)
        assert picture.shape == (48, 48, 3)
        assert picture.dtype == np.float32
        assert float(picture.min()) >= 0
        assert float(picture.max()) <= 1


def test_a_scene_goes_through_a_glb_file(scene: Scene, tmp_path: Path):
    path = tmp_path / "scene.glb"
    write_glb(scene, path)
    read = trimesh.load(path)
    assert len(read.geometry) == len(scene.pieces)
    assert sum(len(mesh.faces) for mesh in read.geometry.values()) == sum(len(p.faces) for p in scene.pieces)
    middle = np.mean([p.vertices_m.mean(0) for p in scene.pieces], axis=0)
    read_middle = np.mean([mesh.vertices.mean(0) for mesh in read.geometry.values()], axis=0)
    np.testing.assert_allclose(read_middle, middle * np.array([1, -1, -1]), atol=2e-3)
    assert [p.name for p in tmp_path.iterdir()] == ["scene.glb"]


@pytest.mark.parametrize("framing", ["close", "wide", "person", "ego"])
def test_the_same_seed_gives_the_same_bytes(framing: str):
    knobs = dataclasses.replace(SceneKnobs(framing=framing, size_px=128), interacting=0.0)  # type: ignore[arg-type]
    for seed in (1, 2):
        first, second = take_photo(knobs, seed), take_photo(knobs, seed)
        for name, value in first.arrays().items():
            np.testing.assert_array_equal(value, second.arrays()[name], err_msg=name)


def test_a_hand_never_wears_more_than_the_shading_has_room_for() -> None:
    for seed in range(40):
        rng = np.random.default_rng(seed)
        layers, materials = Skin.draw(rng, glove_share=1.0).hand_surface(rng, ring=1.0, tattoo=1.0)
        assert layers is not None
        assert layers.shape[1] == len(materials) - 1 <= LAYERS
