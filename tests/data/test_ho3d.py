"""HO-3D: OpenGL axes, MANO's joint order, flat poses, pickles that must run nothing."""

import os
import pickle

import numpy as np
import pytest
import torch

from dataset_trees import HO3D_FOCAL, HO3D_PRINCIPAL, write_ho3d, write_ho3d_truth
from reader_checks import broken, check_annotations, check_cut_short, check_parameters, check_picture_missing, check_refusal, check_sample
from twohands.data.loader import open_dataset
from twohands.joints import HO3D21, order_index
from twohands.passive_pickle import read_passive_pickle


def read_meta(path):
    return read_passive_pickle(path, "meta file", "make it again")


@pytest.fixture(scope="module")
def tree(mano, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ho3d")
    return folder, write_ho3d(folder, mano, "train", 2)


def test_says_what_is_annotated_and_skips_what_is_not(tree, mano):
    folder, truths = tree
    dataset = open_dataset("ho3d", folder, "train", mano)
    check_annotations(dataset, truths, [t.keypoints_m for t in truths], HO3D_FOCAL, HO3D_PRINCIPAL)
    check_parameters(dataset, truths)
    check_sample(dataset, 1, truths[1])
    assert (dataset.annotation(1).sequence, dataset.annotation(1).frame) == ("ABF11", 7)


def test_axes_by_hand(tree, tmp_path):
    """A point a metre before the camera, up and to the right: OpenGL has it at (1, 2, -10) dm, OpenCV at (1, -2, 10)."""
    folder = broken(tree[0], tmp_path)
    path = folder / "train" / "ABF10" / "meta" / "0000.pkl"
    meta = read_meta(path)
    meta["handJoints3D"][13] = [0.1, 0.2, -1.0]
    path.write_bytes(pickle.dumps(meta))
    a = open_dataset("ho3d", folder, "train").annotation(0)
    assert a.joints_m[1, HO3D21.index("thumb1")].tolist() == pytest.approx([0.1, -0.2, 1.0])


def test_joint_order_is_the_published_one():
    assert order_index(HO3D21) == (0, 13, 14, 15, 16, 1, 2, 3, 17, 4, 5, 6, 18, 10, 11, 12, 19, 7, 8, 9, 20)


def test_poses_are_flat(tree, mano):
    folder, _ = tree
    meta = read_meta(folder / "train" / "ABF10" / "meta" / "0000.pkl")
    a = open_dataset("ho3d", folder, "train", mano).annotation(0)
    np.testing.assert_allclose(a.parameters.pose[1, 1:].flatten().numpy(), meta["handPose"][3:], atol=1e-6)


@pytest.mark.parametrize("protocol", [2, 4])
def test_version_3_has_jpegs(mano, tmp_path, protocol):
    truths = write_ho3d(tmp_path, mano, "train", 1, "jpg", protocol=protocol)
    dataset = open_dataset("ho3d", tmp_path, "train", mano)
    assert dataset.annotation(0).image_path.suffix == ".jpg"
    check_sample(dataset, 0, truths[0])


def test_evaluation_knows_the_wrist_and_with_the_published_truth_all(mano, tmp_path):
    truths = write_ho3d(tmp_path, mano, "evaluation", 2)
    dataset = open_dataset("ho3d", tmp_path, "evaluation", mano)
    a = dataset.annotation(0)
    assert a.joints_3d_valid.nonzero().tolist() == [[1, 0]]
    torch.testing.assert_close(a.joints_m[1, 0], truths[0].keypoints_m[1, 0])
    assert not a.fit_available.any()
    sample = dataset[0]
    assert sample.hand_valid.tolist() == [False, True]
    assert sample.keypoints_xy[1, 1:].isnan().all()
    write_ho3d_truth(tmp_path, truths)
    check_annotations(
        open_dataset("ho3d", tmp_path, "evaluation", mano), truths, [t.keypoints_m for t in truths], HO3D_FOCAL, HO3D_PRINCIPAL
    )
    check_cut_short("ho3d", tmp_path, "evaluation", "evaluation_verts.json", tmp_path)


class Malicious:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


def test_code_in_a_pickle_is_refused_and_not_run(tree, tmp_path):
    folder = broken(tree[0], tmp_path)
    path = folder / "train" / "ABF10" / "meta" / "0000.pkl"
    meta = read_meta(path)
    path.write_bytes(pickle.dumps(meta | {"objName": Malicious(tmp_path / "it_ran")}))
    check_refusal("ho3d", folder, "train", r"0000\.pkl names .*system.*nothing was run")
    assert not (tmp_path / "it_ran").exists()


def test_broken_trees_are_named(tree, tmp_path):
    folder = broken(tree[0], tmp_path)
    path = folder / "train" / "ABF11" / "meta" / "0007.pkl"
    whole = path.read_bytes()
    path.write_bytes(whole[:100])
    check_refusal("ho3d", folder, "train", r"0007\.pkl is not a readable meta file")
    path.write_bytes(pickle.dumps([1]))
    check_refusal("ho3d", folder, "train", r"0007\.pkl does not hold what")
    path.unlink()
    check_refusal("ho3d", folder, "train", r"0007\.pkl is missing")
    (folder / "train.txt").unlink()
    check_refusal("ho3d", folder, "train", r"train\.txt is not there")
    check_refusal("ho3d", folder, "evaluation", r"evaluation\.txt is not there")


def test_a_list_without_an_annotated_hand_is_named(tree, tmp_path):
    folder = broken(tree[0], tmp_path)
    (folder / "train.txt").write_text("ABF10/0014\n")
    check_refusal("ho3d", folder, "train", "no frame of .* has an annotation")


def test_missing_picture(tree, tmp_path):
    check_picture_missing("ho3d", tree[0], "train", tmp_path)
