"""Laws of the light teacher: what is seen in the turned crop comes back at its place in the image."""

from pathlib import Path

import numpy as np
import pytest

from twohands.errors import UserError
from twohands.priors.mediapipe import CROP_EXPANSION, CROP_PX, LandmarkTeacher

SHAPES = [(1, 63), (1, 1), (1, 1), (1, 63)]


class FakeInterpreter:
    """Stands for the network: `read` maps the crop (224, 224, 3) to landmarks in crop pixels (21, 3)."""

    def __init__(self, read, presence=0.9, world=None, shapes=SHAPES):
        self.read, self.presence, self.shapes = read, presence, shapes
        self.world = np.zeros((21, 3), np.float32) if world is None else world
        self.crops = []

    def allocate_tensors(self):
        pass

    def get_input_details(self):
        return [{"index": 7, "shape": np.array([1, CROP_PX, CROP_PX, 3])}]

    def get_output_details(self):
        return [{"index": k, "shape": np.array(shape)} for k, shape in enumerate(self.shapes)]

    def set_tensor(self, tensor_index, value):
        assert tensor_index == 7
        assert value.shape == (1, CROP_PX, CROP_PX, 3)
        assert value.dtype == np.float32
        self.crops.append(value[0])

    def invoke(self):
        pass

    def get_tensor(self, tensor_index):
        values = (self.read(self.crops[-1]), self.presence, 0.8, self.world)
        return np.asarray(values[tensor_index], np.float32).reshape(self.shapes[tensor_index])


def blob(height, width, xy, radius_px):
    """A soft spot of light, centred at xy with pixel centres at half-integers."""
    y, x = np.mgrid[:height, :width] + 0.5
    return np.round(255 * np.exp(-((x - xy[0]) ** 2 + (y - xy[1]) ** 2) / (2 * radius_px**2))).astype(np.uint8)


def centroid(channel):
    y, x = np.mgrid[: channel.shape[0], : channel.shape[1]] + 0.5
    return np.array([(channel * x).sum(), (channel * y).sum()]) / channel.sum()


def landmarks_of_spots(crop):
    """Wrist at the red spot, everything else at the green one."""
    points = np.zeros((21, 3))
    points[:, :2] = centroid(crop[..., 1])
    points[0, :2] = centroid(crop[..., 0])
    return points


@pytest.mark.parametrize("box_side_px", [40, 150, 700])
@pytest.mark.parametrize("seed", range(3))
def test_a_spot_found_in_the_crop_comes_back_at_its_place_in_the_image(box_side_px, seed):
    rng = np.random.default_rng(seed)
    size = int(2.5 * box_side_px)
    centre = size / 2 + rng.uniform(-0.1, 0.1, 2) * size
    angle = rng.uniform(-np.pi, np.pi)
    wrist, knuckle = centre + rng.uniform(-0.3, 0.3, (2, 2)) * box_side_px
    spots = [blob(size, size, xy, 0.05 * box_side_px) for xy in (wrist, knuckle)]
    teacher = LandmarkTeacher(FakeInterpreter(landmarks_of_spots))
    box = np.concatenate([centre - box_side_px / 2, centre + box_side_px / 2])
    reading = teacher(np.stack([*spots, spots[0]], -1), box[None], [[np.sin(angle), -np.cos(angle)]], refine_passes=0)
    tolerance_px = 0.1 + box_side_px / 500
    np.testing.assert_allclose(reading.keypoints_xy_image[0, 0], wrist, atol=tolerance_px)
    np.testing.assert_allclose(reading.keypoints_xy_image[0, 9], knuckle, atol=tolerance_px)


def test_up_in_the_crop_is_the_given_direction_in_image_and_world():
    rng = np.random.default_rng(0)
    offsets = rng.normal(size=(21, 3)).astype(np.float32) * [20, 20, 5]
    offsets[0], offsets[1], offsets[2] = (0, 0, 0), (0, -30, 4), (30, 0, 0)
    fake = FakeInterpreter(lambda _: offsets + np.array([CROP_PX / 2, CROP_PX / 2, 3]), world=offsets / 1000 + 0.01)
    for angle in rng.uniform(-np.pi, np.pi, 5):
        up = np.array([np.sin(angle), -np.cos(angle)])
        right = np.array([-up[1], up[0]])
        reading = LandmarkTeacher(fake)(np.zeros((50, 60, 3), np.uint8), [[10, 5, 30, 45]], [3 * up], refine_passes=0)
        px = CROP_EXPANSION * 40 / CROP_PX
        in_image = reading.keypoints_xy_image[0] - reading.keypoints_xy_image[0, 0]
        np.testing.assert_allclose(reading.keypoints_xy_image[0, 0], [20, 25], atol=1e-4)
        np.testing.assert_allclose(in_image[1:3], [30 * px * up, 30 * px * right], atol=1e-4)
        np.testing.assert_allclose(reading.depth_px[0], offsets[:, 2] * px, atol=1e-4)
        np.testing.assert_allclose(reading.keypoints_world_m[0, :, :2] * 1000, in_image / px, atol=1e-3)
        np.testing.assert_allclose(reading.keypoints_world_m[0, :, 2] * 1000, offsets[:, 2], atol=1e-3)


def test_a_second_pass_turns_the_crop_by_the_hands_own_landmarks():
    wrist, knuckle = np.array([60.0, 100.0]), np.array([140.0, 110.0])
    spots = [blob(200, 200, xy, 8) for xy in (wrist, knuckle)]
    image, box = np.stack([*spots, spots[0]], -1), [[60, 65, 140, 145]]
    for presence, passes, runs in ((0.9, 1, 2), (0.9, 0, 1), (0.1, 1, 1)):
        fake = FakeInterpreter(landmarks_of_spots, presence)
        reading = LandmarkTeacher(fake)(image, box, [[0, -1]], refine_passes=passes)
        assert len(fake.crops) == runs
        np.testing.assert_allclose(reading.keypoints_xy_image[0, [0, 9]], [wrist, knuckle], atol=0.5)
    fake = FakeInterpreter(landmarks_of_spots)
    LandmarkTeacher(fake)(image, box, [[0, -1]])
    across, along = centroid(fake.crops[1][..., 1]) - centroid(fake.crops[1][..., 0])
    assert abs(across) < 0.5
    assert along < -50


def test_a_well_placed_crop_is_read_once():
    spots = [blob(200, 200, xy, 8) for xy in ((100, 150), (100, 60))]
    fake = FakeInterpreter(landmarks_of_spots)
    LandmarkTeacher(fake)(np.stack([*spots, spots[0]], -1), [[55, 60, 145, 150]], [[0, -1]], refine_passes=5)
    assert len(fake.crops) == 1


def test_every_box_has_its_row_and_none_gives_none():
    fake = FakeInterpreter(lambda _: np.full((21, 3), CROP_PX / 2))
    teacher, image = LandmarkTeacher(fake), np.zeros((90, 90, 3), np.uint8)
    boxes = np.array([[0, 0, 10, 10], [70, 20, 80, 60], [500, 500, 900, 900]])
    reading = teacher(image, boxes, np.tile([0, -1], (3, 1)), refine_passes=0)
    np.testing.assert_allclose(reading.keypoints_xy_image[:, 4], (boxes[:, :2] + boxes[:, 2:]) / 2, rtol=1e-6)
    assert reading.presence.shape == reading.right_probability.shape == (3,)
    assert not fake.crops[2].any()
    assert teacher(image, np.zeros((0, 4)), np.zeros((0, 2))).keypoints_world_m.shape == (0, 21, 3)


@pytest.mark.parametrize(
    ("image", "boxes", "directions", "message"),
    [
        (np.zeros((9, 9, 3)), [[0, 0, 5, 5]], [[0, -1]], "uint8"),
        (np.zeros((9, 9, 3), np.uint8), [[5, 0, 5, 5]], [[0, -1]], "x1 > x0"),
        (np.zeros((9, 9, 3), np.uint8), [[0, 0, 5, np.nan]], [[0, -1]], "x1 > x0"),
        (np.zeros((9, 9, 3), np.uint8), [[0, 0, 5, 5]], [[0, 0]], "length"),
        (np.zeros((9, 9, 3), np.uint8), [[0, 0, 5, 5]], np.zeros((0, 2)), "one direction a box"),
    ],
)
def test_what_cannot_be_read_is_refused_with_the_remedy(image, boxes, directions, message):
    with pytest.raises(ValueError, match=message):
        LandmarkTeacher(FakeInterpreter(lambda _: np.zeros((21, 3))))(image, boxes, directions)


def test_a_missing_file_or_a_foreign_network_names_the_command(tmp_path: Path):
    with pytest.raises(UserError, match="twohands teachers install"):
        LandmarkTeacher.load(tmp_path)
    with pytest.raises(UserError, match="twohands teachers install"):
        LandmarkTeacher(FakeInterpreter(None, shapes=[(1, 195), (1, 1), (1, 1), (1, 117)]))
