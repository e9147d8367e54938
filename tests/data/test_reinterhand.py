"""Re:InterHand: x_camera = R x + t in millimetres, 24 joints, the head's fisheye."""

import json
import math

import pytest
import torch

from dataset_trees import DISTORTION, FOCAL_PX, PRINCIPAL_PX, TEST_CAPTURE, TRAIN_CAPTURE, annotated, write_json, write_reinterhand
from reader_checks import broken, check_annotations, check_cut_short, check_parameters, check_picture_missing, check_refusal, check_sample
from twohands.data.loader import open_dataset
from twohands.joints import REINTERHAND24, order_index


@pytest.fixture(scope="module")
def tree(mano, tmp_path_factory):
    folder = tmp_path_factory.mktemp("reinterhand")
    write_reinterhand(folder, mano, 1, pictures=False, capture=TEST_CAPTURE)
    return folder, write_reinterhand(folder, mano, 2)


def test_says_what_is_annotated(tree, mano):
    folder, truths = tree
    dataset = open_dataset("reinterhand", folder, "train", mano)
    check_annotations(dataset, truths, [annotated(t) for t in truths], FOCAL_PX, PRINCIPAL_PX)
    check_parameters(dataset, truths)
    check_sample(dataset, 1, truths[1])
    a = dataset.annotation(0)
    assert (a.hand_type, a.sequence, a.camera_id, a.frame) == ("interacting", TRAIN_CAPTURE, "400200", 12)
    assert not a.joints_3d_valid[:, REINTERHAND24.index("forearm")].any()
    assert a.joints_3d_valid[:, :-1].all()


def test_captures_are_split_as_interwild_does(tree):
    assert [open_dataset("reinterhand", tree[0], "test").annotation(i).sequence for i in range(1)] == [TEST_CAPTURE]


def test_world_to_camera_by_hand(tree, tmp_path):
    """Not R (x - c): the translation is added after the turn, in millimetres."""
    folder = broken(tree[0], tmp_path) / TRAIN_CAPTURE
    path = folder / "Mugsy_cameras" / "cam_params.json"
    cameras = json.loads(path.read_text())
    cameras["400200"] |= {"R": [[0, -1, 0], [1, 0, 0], [0, 0, 1]], "t": [10, 20, 600]}
    path.write_text(json.dumps(cameras))
    keypoints = folder / "orig_fits" / "right" / "Keypoints" / "keypoint-000012.json"
    values = json.loads(keypoints.read_text())
    values[0] = [30, 40, -100]
    keypoints.write_text(json.dumps(values))
    a = open_dataset("reinterhand", folder.parent, "train").annotation(0)
    assert a.joints_m[1, 0].tolist() == pytest.approx([-0.030, 0.050, 0.5])


def test_the_heads_fisheye(tree, mano):
    folder, truths = tree
    dataset = open_dataset("reinterhand", folder, "train-ego", mano)
    assert len(dataset) == 2
    a = dataset.annotation(0)
    assert a.image_path.parts[-4:] == ("Ego_cameras", "envmap_per_frame", "images", "000012.png")
    point = annotated(truths[0])[1, 5]
    radius = math.hypot(float(point[0] / point[2]), float(point[1] / point[2]))
    theta = math.atan(radius)
    bent = theta * (1 + sum(d * theta ** (2 * k + 2) for k, d in enumerate(DISTORTION)))
    expected = [f * float(point[i] / point[2]) * bent / radius + c + 0.5 for i, f, c in zip((0, 1), FOCAL_PX, PRINCIPAL_PX, strict=True)]
    knuckle = order_index(REINTERHAND24, ("index1",))[0]
    assert a.joints_xy[1, knuckle].tolist() == pytest.approx(expected, abs=1e-3)
    # The Sample is a pinhole's.
    sample = dataset[0]
    torch.testing.assert_close(sample.keypoints_xy, sample.camera.project(sample.keypoints_camera_m), atol=1e-3, rtol=0)


def test_frames_that_see_too_little_of_the_hands_are_skipped(tree, tmp_path):
    folder = broken(tree[0], tmp_path)
    write_json(folder / TRAIN_CAPTURE / "Ego_cameras/envmap_per_frame/truncation_ratio.json", {"000012": 0.19, "000018": 0.2})
    assert [open_dataset("reinterhand", folder, "train-ego").annotation(i).frame for i in range(1)] == [18]


def test_a_hand_without_files_is_not_annotated(tree, mano, tmp_path):
    folder = broken(tree[0], tmp_path)
    for side in ("left", "right"):
        (folder / TRAIN_CAPTURE / "orig_fits" / side / "Keypoints" / "keypoint-000012.json").unlink()
        (folder / TRAIN_CAPTURE / "mano_fits" / "params" / f"12_{side}.json").unlink()
    dataset = open_dataset("reinterhand", folder, "train", mano)
    a = dataset.annotation(0)
    assert not (a.joints_3d_valid | a.joints_2d_valid).any()
    assert not a.fit_available.any()
    assert not dataset[0].hand_valid.any()


@pytest.mark.parametrize(
    "file", ["Mugsy_cameras/cam_params.json", "orig_fits/left/Keypoints/keypoint-000018.json", "mano_fits/params/12_right.json"]
)
def test_broken_files_are_named(tree, tmp_path, file):
    check_cut_short("reinterhand", tree[0], "train", f"{TRAIN_CAPTURE}/{file}", tmp_path)


def test_what_is_missing_is_named(tree, tmp_path):
    folder = broken(tree[0], tmp_path)
    check_refusal("reinterhand", folder, "train-segment", "no capture of train-segment with Mugsy_cameras/envmap_per_segment/images")
    (folder / TRAIN_CAPTURE / "Mugsy_cameras" / "cam_params.json").unlink()
    check_refusal("reinterhand", folder, "train", "cam_params.json is not there")
    (folder / TEST_CAPTURE / "Mugsy_cameras/envmap_per_frame/images/400200/000012.png").write_bytes(b"no picture")
    check_refusal("reinterhand", folder, "test", "000012.png is no readable picture")


def test_missing_picture(tree, tmp_path):
    check_picture_missing("reinterhand", tree[0], "train", tmp_path)
