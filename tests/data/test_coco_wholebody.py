"""COCO-WholeBody: 2D hands of people in photos."""

import json

import pytest
import torch

from dataset_trees import COCO_SIZE, write_coco_wholebody
from reader_checks import broken, check_cut_short, check_picture_missing, check_refusal, check_sample
from twohands.data.loader import open_dataset


@pytest.fixture(scope="module")
def tree(mano, tmp_path_factory):
    folder = tmp_path_factory.mktemp("coco")
    return folder, write_coco_wholebody(folder, mano, "train", 3)


def test_says_what_is_labelled(tree):
    folder, truths = tree
    dataset = open_dataset("coco_wholebody", folder, "train")
    assert dataset.ids.tolist() == ["33", "34", "35"], "crowds, people without keypoints and without hands are no annotations"
    assert [dataset.annotation(i).hand_type for i in range(3)] == ["interacting", "right", "left"]
    for index, truth in enumerate(truths):
        a = dataset.annotation(index)
        point = truth.keypoints_m
        expected = torch.stack([200 * point[..., 0] / point[..., 2] + 99.5 + 0.5, 200 * point[..., 1] / point[..., 2] + 74.5 + 0.5], -1)
        torch.testing.assert_close(a.joints_xy, torch.where(truth.present[:, None, None], expected, 0.0), atol=2e-3, rtol=0)
        assert torch.equal(a.joints_2d_valid, truth.present[:, None].expand(2, 21))
        assert not a.joints_3d_valid.any()
        assert (a.width_px, a.height_px) == COCO_SIZE
        check_sample(dataset, index, truth)


def test_fits_come_into_the_assumed_camera(tree, mano):
    """The wrist stays on its pixel, the hand keeps its size in the picture, pose and shape are the scene's."""
    folder, truths = tree
    dataset = open_dataset("coco_wholebody", folder, "train", mano)
    assert dataset.mano is not None
    for index, truth in enumerate(truths):
        a = dataset.annotation(index)
        assert torch.equal(a.parameters_valid, truth.present)
        xy = a.camera.project(dataset.mano.pose_hands(a.parameters).keypoints()[truth.present])
        error = (xy - a.joints_xy[truth.present]).norm(dim=-1)
        assert (error[:, 0] < 0.01).all()
        span = (a.joints_xy.amax(1) - a.joints_xy.amin(1)).amax(-1)[truth.present]
        assert (error.mean(-1) < 0.05 * span).all()
        torch.testing.assert_close(a.parameters.pose[truth.present, 1:], truth.parameters.pose[truth.present, 1:], atol=2e-6, rtol=0)
        torch.testing.assert_close(a.parameters.shape[truth.present], truth.parameters.shape[truth.present])


def test_unlabelled_keypoints_and_missing_fits(tree, mano, tmp_path):
    folder = broken(tree[0], tmp_path)
    path = folder / "annotations" / "coco_wholebody_train_v1.0.json"
    content = json.loads(path.read_text())
    content["annotations"][0]["lefthand_kpts"][3:6] = [0, 0, 0]
    path.write_text(json.dumps(content))
    (folder / "annotations" / "MSCOCO_train_MANO_NeuralAnnot.json").unlink()
    dataset = open_dataset("coco_wholebody", folder, "train", mano)
    a = dataset.annotation(0)
    assert (~a.joints_2d_valid).nonzero().tolist() == [[0, 1]]
    assert not a.fit_available.any()
    assert dataset[0].keypoints_xy[0, 1].isnan().all()


def test_pictures_may_lie_in_images(tree, tmp_path):
    folder = broken(tree[0], tmp_path)
    (folder / "images").mkdir()
    (folder / "train2017").rename(folder / "images" / "train2017")
    assert open_dataset("coco_wholebody", folder, "train")[0].hand_valid.all()


@pytest.mark.parametrize("file", ["coco_wholebody_train_v1.0.json", "MSCOCO_train_MANO_NeuralAnnot.json"])
def test_broken_files_are_named(tree, tmp_path, file):
    check_cut_short("coco_wholebody", tree[0], "train", f"annotations/{file}", tmp_path)


def test_what_is_missing_or_empty_is_named(tree, tmp_path):
    check_refusal("coco_wholebody", tmp_path / "nowhere", "train", "there is no folder")
    folder = broken(tree[0], tmp_path)
    check_refusal("coco_wholebody", folder, "val", r"coco_wholebody_val_v1\.0\.json is not there")
    path = folder / "annotations" / "coco_wholebody_train_v1.0.json"
    content = json.loads(path.read_text())
    content["annotations"] = content["annotations"][-1:]
    path.write_text(json.dumps(content))
    check_refusal("coco_wholebody", folder, "train", "nobody with a labelled hand")


def test_missing_picture(tree, tmp_path):
    check_picture_missing("coco_wholebody", tree[0], "train", tmp_path)
