"""InterHand2.6M: world to camera, millimetres, its joint order, the mean pose, the left hand's shape directions."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from dataset_trees import FOCAL_PX, PRINCIPAL_PX, annotated, write_interhand26m
from reader_checks import broken, check_annotations, check_cut_short, check_parameters, check_picture_missing, check_refusal, check_sample
from twohands.data import interhand26m
from twohands.data.interhand26m import InterHand26M, read_id_list
from twohands.data.loader import open_dataset
from twohands.errors import UserError
from twohands.hands.mano import load_mano
from twohands.joints import INTERHAND21


@pytest.fixture(scope="module")
def tree(mano, tmp_path_factory):
    folder = tmp_path_factory.mktemp("interhand26m")
    return folder, write_interhand26m(folder, mano, "train", 4)


def test_says_what_is_annotated(tree, mano):
    folder, truths = tree
    dataset = open_dataset("interhand26m", folder, "train", mano)
    check_annotations(dataset, truths, [annotated(t) for t in truths], FOCAL_PX, PRINCIPAL_PX)
    check_parameters(dataset, truths)
    for index, truth in enumerate(truths):
        check_sample(dataset, index, truth)
    kinds = [dataset.annotation(i).hand_type for i in range(4)]
    assert kinds == ["interacting", "right", "left", "interacting"]
    assert [dataset.annotation(i).hand_type_valid for i in range(4)] == [True, False, True, True]
    first = dataset.annotation(1)
    assert (first.sequence, first.camera_id, first.frame) == ("Capture1/ROM01_Hands", "400001", 103)


def test_world_to_camera_by_hand(mano, tmp_path):
    """One point, worked out by hand: R turns a quarter about z, the camera stands at (100, 200, -500) mm."""
    write_interhand26m(tmp_path, mano, "val", 1, pictures=False)
    base = tmp_path / "annotations" / "val"
    cameras = json.loads((base / "InterHand2.6M_val_camera.json").read_text())
    cameras["0"]["campos"]["400000"] = [100, 200, -500]
    cameras["0"]["camrot"]["400000"] = [[0, -1, 0], [1, 0, 0], [0, 0, 1]]
    (base / "InterHand2.6M_val_camera.json").write_text(json.dumps(cameras))
    joints = json.loads((base / "InterHand2.6M_val_joint_3d.json").read_text())
    joints["0"]["100"]["world_coord"][20] = [130, 240, 0]  # the right wrist
    joints["0"]["100"]["world_coord"][41] = [110, 190, 0]  # the left one
    (base / "InterHand2.6M_val_joint_3d.json").write_text(json.dumps(joints))
    a = InterHand26M(tmp_path, "val").annotation(0)
    wrist = INTERHAND21.index("wrist")
    assert wrist == 20
    # X - c = (30, 40, 500): x' = -40, y' = 30; and (10, -10, 500): x' = 10, y' = 10.
    assert a.joints_m[:, wrist].tolist() == [pytest.approx([0.010, 0.010, 0.5]), pytest.approx([-0.040, 0.030, 0.5])]
    assert a.joints_xy[1, wrist].tolist() == pytest.approx([190 * -0.08 + 81.5 + 0.5, 188 * 0.06 + 58.5 + 0.5])


def test_mean_pose_and_left_shape_are_interhands(tree, mano):
    """smplx's way: flat_hand_mean=False adds the mean to stored poses, and the left shape directions are repaired."""
    folder, _ = tree
    dataset = open_dataset("interhand26m", folder, "train", mano)
    stored = json.loads((folder / "annotations/train/InterHand2.6M_train_MANO_NeuralAnnot.json").read_text())["0"]["100"]["left"]
    mean = load_mano(mano).data.hands_mean[0].numpy()
    assert np.abs(mean).max() > 0.1, "else this test shows nothing"
    np.testing.assert_allclose(
        dataset.annotation(0).parameters.pose[0, 1:].flatten().numpy(), np.array(stored["pose"][3:]) + mean, atol=1e-6
    )
    assert dataset.mano is not None
    left, right = dataset.mano.data.shapedirs
    torch.testing.assert_close(left * torch.tensor([-1.0, 1, 1])[:, None], right)


def test_without_mano_there_are_joints_but_no_parameters(tree):
    dataset = open_dataset("interhand26m", tree[0], "train")
    a = dataset.annotation(0)
    assert a.fit_available.all()
    assert not a.parameters_valid.any()
    assert not a.parameters.pose.any()
    assert not dataset.vertices(0)[1].any()
    assert dataset[0].keypoints_3d_valid.all()


def test_a_picture_without_a_valid_hand_stays_and_shows_none(mano, tmp_path):
    truths = write_interhand26m(tmp_path, mano, "test", 3, empty=True)
    dataset = open_dataset("interhand26m", tmp_path, "test", mano)
    assert len(dataset) == 4
    a = dataset.annotation(3)
    assert not (a.joints_3d_valid | a.joints_2d_valid | a.joints_in_image).any()
    assert not a.fit_available.any()
    assert not a.joints_m.any()
    sample = dataset[3]
    assert not sample.hand_valid.any()
    assert torch.isfinite(sample.box_xyxy_px).all()
    check_sample(dataset, 2, truths[2])


def test_a_moment_without_joints_or_fit_is_no_error(tree, mano, tmp_path):
    folder = broken(tree[0], tmp_path)
    for kind in ("joint_3d", "MANO_NeuralAnnot"):
        path = folder / f"annotations/train/InterHand2.6M_train_{kind}.json"
        content = json.loads(path.read_text())
        del content["0"]["100"]
        path.write_text(json.dumps(content))
    a = open_dataset("interhand26m", folder, "train", mano).annotation(0)
    assert not a.joints_3d_valid.any()
    assert not a.fit_available.any()
    assert a.joints_in_image.all(), "that is the other file's word"


def test_validity_is_the_files_own(tree, tmp_path):
    """joint_valid of _data.json and that of _joint_3d.json are told apart, and neither is multiplied by the wrist's."""
    folder = broken(tree[0], tmp_path)
    base = folder / "annotations" / "train"
    data = json.loads((base / "InterHand2.6M_train_data.json").read_text())
    data["annotations"][0]["joint_valid"][20] = [0]
    (base / "InterHand2.6M_train_data.json").write_text(json.dumps(data))
    joints = json.loads((base / "InterHand2.6M_train_joint_3d.json").read_text())
    joints["0"]["100"]["joint_valid"][21] = [0]
    (base / "InterHand2.6M_train_joint_3d.json").write_text(json.dumps(joints))
    a = open_dataset("interhand26m", folder, "train").annotation(0)
    assert (~a.joints_in_image).nonzero().tolist() == [[1, 20]]
    assert (~a.joints_3d_valid).nonzero().tolist() == [[0, 0]]
    sample = open_dataset("interhand26m", folder, "train")[0]
    assert sample.keypoints_xy[0, 4].isnan().all(), "a thumb tip that nobody annotated is NaN, not a place"


def test_known_wrong_frames_lose_their_3d(tree, tmp_path, monkeypatch):
    monkeypatch.setattr(interhand26m, "WRONG_3D", {("train", 0, 100)})
    dataset = open_dataset("interhand26m", tree[0], "train")
    assert not dataset.annotation(0).joints_3d_valid.any()
    assert dataset.annotation(3).joints_3d_valid.any()


def test_human_annotated_ids(tmp_path):
    with pytest.raises(UserError, match=r"aid_human_annot_test\.txt is missing; take it from"):
        read_id_list(tmp_path, "test")
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "aid_human_annot_test.txt").write_text("9002\n9000\n")
    assert read_id_list(tmp_path, "test") == ["9002", "9000"]
    (tmp_path / "aid_human_annot_test.txt").write_text("<html>")
    with pytest.raises(UserError, match="no list of annotation ids"):
        read_id_list(tmp_path, "test")


@pytest.mark.parametrize("kind", ["data", "camera", "joint_3d", "MANO_NeuralAnnot"])
def test_broken_files_are_named(tree, tmp_path, kind):
    check_cut_short("interhand26m", tree[0], "train", f"annotations/train/InterHand2.6M_train_{kind}.json", tmp_path)


def test_what_is_missing_is_named(tree, tmp_path):
    check_refusal("interhand26m", tree[0].parent / "nowhere", "train", "there is no folder")
    folder = broken(tree[0], tmp_path)
    path = folder / "annotations/train/InterHand2.6M_train_joint_3d.json"
    path.unlink()
    check_refusal("interhand26m", folder, "train", "InterHand2.6M_train_joint_3d.json is not there")
    check_refusal("interhand26m", folder, "test", "InterHand2.6M_test_data.json is not there")
    with pytest.raises(UserError, match="no split 'evaluation'; choose one of train, val, test"):
        open_dataset("interhand26m", folder, "evaluation")
    with pytest.raises(UserError, match="no data set called 'interhand'"):
        open_dataset("interhand", folder, "train")


def test_missing_picture(tree, tmp_path):
    check_picture_missing("interhand26m", tree[0], "train", tmp_path)


def test_other_content_is_named(tree, tmp_path):
    folder = broken(tree[0], tmp_path)
    base = folder / "annotations" / "train"
    path = base / "InterHand2.6M_train_data.json"
    data = json.loads(path.read_text())
    for change, said in (
        (lambda d: d["annotations"][0].update(joint_valid=[1, 2]), "does not hold what"),
        (lambda d: d["annotations"][0].update(hand_type="both"), "does not hold what"),
        (lambda d: d["annotations"][0].update(image_id=7), "annotations of pictures that it does not list"),
        (lambda d: d["images"][0].update(camera="9"), "names camera 9 of capture"),
        (lambda d: d.update(annotations=[]), "lists no annotations"),
    ):
        changed = json.loads(json.dumps(data))
        change(changed)
        path.write_text(json.dumps(changed))
        check_refusal("interhand26m", folder, "train", said)


def test_index_follows_the_files(tree, mano, tmp_path):
    folder = broken(tree[0], tmp_path)
    assert len(open_dataset("interhand26m", folder, "train")) == 4
    assert Path(folder / ".twohands" / "interhand26m-train" / "index.json").is_file()
    write_interhand26m(folder, mano, "train", 2, pictures=False)
    assert len(open_dataset("interhand26m", folder, "train")) == 2
