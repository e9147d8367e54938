import dataclasses
import io

import numpy as np
import pytest
import torch
from PIL import Image

from twohands.geometry.camera import Camera
from twohands.hands.bundled import load_bundled_hand
from twohands.schema import Sample
from twohands.synth.faults import _compressed, _planes
from twohands.synth.photo import MAP_STRIDE, hand_maps, take_photo
from twohands.synth.scene import SceneKnobs

# Interacting pairs take seconds to settle and have tests of their own.
CLOSE = SceneKnobs(interacting=0.0, bodies=0.4)
WIDE = SceneKnobs(framing="wide", interacting=0.0)


@pytest.fixture(scope="module")
def close() -> list[Sample]:
    return [take_photo(CLOSE, seed) for seed in range(12)]


@pytest.fixture(scope="module")
def wide() -> list[Sample]:
    return [take_photo(WIDE, seed) for seed in range(12)]


def test_a_photo_is_a_function_of_its_seed(close: list[Sample]):
    again = take_photo(CLOSE, 3)
    for name, value in close[3].arrays().items():
        np.testing.assert_array_equal(value, again.arrays()[name], err_msg=name)
    assert not torch.equal(close[3].image, close[4].image)


@pytest.mark.parametrize("size", [33, 50, 75])
def test_a_photo_may_have_any_size(size: int):
    sample = take_photo(dataclasses.replace(CLOSE, size_px=size), 1)
    assert sample.image.shape == (3, size, size)
    assert sample.priors is not None
    assert sample.priors.depth_m is not None
    assert sample.priors.depth_m.shape == (size // MAP_STRIDE, size // MAP_STRIDE)
    assert bool((sample.priors.depth_m > 0).any())


def test_what_jpeg_leaves_is_what_the_library_reads():
    image = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=40)
    np.testing.assert_array_equal(_compressed(image, 40), np.asarray(Image.open(buffer)).transpose(2, 0, 1))
    np.testing.assert_array_equal(_planes(image), image.transpose(2, 0, 1))


def test_parameters_keypoints_and_pixels_tell_one_story(close: list[Sample], wide: list[Sample]):
    hand = load_bundled_hand()
    for sample in (*close, *wide):
        present = sample.parameters_valid
        points = hand.pose_hands(sample.parameters).keypoints()
        torch.testing.assert_close(points[present], sample.keypoints_camera_m[present], atol=2e-5, rtol=0)
        xy = sample.camera.project(sample.keypoints_camera_m)
        torch.testing.assert_close(xy[present], sample.keypoints_xy[present], atol=1e-2, rtol=1e-4)
        torch.testing.assert_close(torch.cat([xy.amin(1), xy.amax(1)], -1)[present], sample.box_xyxy_px[present], atol=1e-2, rtol=1e-4)


def test_a_hand_that_is_asked_for_is_there_and_what_is_seen_lies_in_the_picture(close: list[Sample], wide: list[Sample]):
    for sample in (*close, *wide):
        assert bool((sample.parameters_valid | ~sample.hand_valid).all())
        assert bool((sample.keypoints_3d_valid.all(1) == sample.parameters_valid).all())
        seen = sample.keypoint_visible > 0
        xy = sample.keypoints_xy[seen]
        assert bool(((xy >= 0) & (xy < sample.image.shape[-1])).all())
        assert not bool(seen[~sample.parameters_valid].any())


def test_maps_show_the_valid_hands_at_their_depth(close: list[Sample]):
    for sample in close:
        assert sample.priors is not None
        segmentation, depth = sample.priors.segmentation, sample.priors.depth_m
        assert segmentation is not None
        assert depth is not None
        side = sample.image.shape[-1] // MAP_STRIDE
        assert segmentation.shape == depth.shape == (side, side)
        assert bool(((segmentation > 0) == (depth > 0)).all())
        for h in (0, 1):
            own = (segmentation > 16 * h) & (segmentation <= 16 * h + 16)
            if not sample.parameters_valid[h]:
                assert not bool(own.any())
            if sample.hand_valid[h]:
                z = sample.keypoints_camera_m[h, :, 2]
                assert float(depth[own].min()) > float(z.min()) - 0.04
                assert float(depth[own].max()) < float(z.max()) + 0.06


def test_visible_keypoints_lie_on_their_own_hand(close: list[Sample]):
    on = total = 0
    for sample in close:
        assert sample.priors is not None
        assert sample.priors.segmentation is not None
        cell = (sample.keypoints_xy / MAP_STRIDE).long().clamp(0, sample.image.shape[-1] // MAP_STRIDE - 1)
        part = sample.priors.segmentation[cell[..., 1], cell[..., 0]].long()
        own = (part > 0) & ((part - 1) // 16 == torch.arange(2)[:, None])
        seen = sample.keypoint_visible > 0
        on, total = on + int((own & seen).sum()), total + int(seen.sum())
    # Fingertips on an outline may fall on the next map cell.
    assert total > 100
    assert on > 0.85 * total


def test_close_hands_fill_the_picture_and_wide_ones_do_not(close: list[Sample], wide: list[Sample]):
    def extents(samples: list[Sample]) -> np.ndarray:
        boxes = torch.cat([s.box_xyxy_px[s.hand_valid] for s in samples])
        return (boxes[:, 2:] - boxes[:, :2]).amax(1).numpy() / samples[0].image.shape[-1]

    assert np.median(extents(close)) > 0.25
    assert np.median(extents(wide)) < 0.35


def test_a_scene_without_hands_has_none():
    sample = take_photo(dataclasses.replace(WIDE, no_hand=1.0), 0)
    assert not bool(sample.hand_valid.any() | sample.parameters_valid.any())
    assert sample.priors is not None
    assert sample.priors.segmentation is not None
    assert int(sample.priors.segmentation.max()) == 0


def test_hand_maps_of_hands_alone_agree_with_the_photos_where_nothing_is_in_front():
    knobs = dataclasses.replace(CLOSE, two_hands=0.0, held=0.0, occluder=0.0, forearm=0.0, bodies=0.0)
    sample = take_photo(knobs, 2)
    hand = load_bundled_hand()
    mesh = hand.pose_hands(sample.parameters).mesh()
    alone = hand_maps(hand, mesh, sample.camera, 256, 256, sample.parameters_valid)
    assert sample.priors is not None
    assert alone.segmentation is not None
    assert sample.priors.segmentation is not None
    assert float((alone.segmentation == sample.priors.segmentation).float().mean()) > 0.97
    nothing = hand_maps(hand, mesh, Camera.from_fov(256, 256, 60.0), 256, 256, torch.zeros(2, dtype=torch.bool))
    assert int(nothing.segmentation.max()) == 0  # type: ignore[union-attr]
