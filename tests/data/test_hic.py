"""HIC: meshes in the camera frame are the truth."""

import json

import pytest
import torch

from dataset_trees import write_hic
from reader_checks import broken, check_annotations, check_cut_short, check_picture_missing, check_refusal, check_sample
from twohands.data.hic import FOCAL_PX, PRINCIPAL_PX
from twohands.data.loader import open_dataset
from twohands.errors import UserError
from twohands.hands.mano import load_mano
from twohands.joints import OPENPOSE21_FROM_MANO16_AND_TIPS

TIPS = [745, 317, 445, 556, 673]


@pytest.fixture(scope="module")
def tree(mano, tmp_path_factory):
    folder = tmp_path_factory.mktemp("hic")
    return folder, write_hic(folder, mano, 3)


def test_says_what_the_meshes_say(tree, mano):
    folder, truths = tree
    dataset = open_dataset("hic", folder, "test", mano)
    regressor = load_mano(mano).data.J_regressor
    joints = []
    for truth in truths:
        both = torch.cat([torch.einsum("hjv,hvc->hjc", regressor, truth.vertices_m), truth.vertices_m[:, TIPS]], 1)
        joints.append(both[:, list(OPENPOSE21_FROM_MANO16_AND_TIPS)])
    check_annotations(dataset, truths, joints, FOCAL_PX, PRINCIPAL_PX)
    assert [dataset.annotation(i).hand_type for i in range(3)] == ["interacting", "right", "left"]
    assert dataset.annotation(1).sequence == "01"
    assert not dataset.annotation(0).parameters_valid.any()
    check_sample(dataset, 0, truths[0])


def test_without_mano_fingertips_are_known(tree):
    folder, truths = tree
    dataset = open_dataset("hic", folder, "test")
    a = dataset.annotation(0)
    assert a.joints_3d_valid[0].nonzero().flatten().tolist() == [4, 8, 12, 16, 20]
    torch.testing.assert_close(a.joints_m[:, 4::4], truths[0].vertices_m[:, TIPS])
    assert dataset.vertices(0)[1].all()
    assert not dataset[0].keypoints_3d_valid.any(), "without a wrist nothing is relative to it"


def test_an_interacting_annotation_may_lack_a_mesh(tree, tmp_path):
    folder = broken(tree[0], tmp_path)
    content = json.loads((folder / "HIC.json").read_text())
    content["annotations"][0] |= {"left_mano_path": None, "right_mano_path": None}
    (folder / "HIC.json").write_text(json.dumps(content))
    dataset = open_dataset("hic", folder, "test")
    assert dataset.annotation(0).hand_type == "interacting"
    assert not dataset.vertices(0)[1].any()
    assert not dataset[0].hand_valid.any()


def test_broken_trees_are_named(tree, tmp_path):
    check_cut_short("hic", tree[0], "test", "HIC.json", tmp_path)
    check_refusal("hic", tmp_path, "test", "HIC.json is not there")
    check_refusal("hic", tmp_path / "nowhere", "test", "there is no folder")


def test_other_content_is_named(tree, tmp_path):
    folder = broken(tree[0], tmp_path)
    (folder / "HIC.json").write_text(json.dumps({"images": [], "annotations": [{"image_id": 3}]}))
    check_refusal("hic", folder, "test", "does not hold what")


def test_broken_meshes_are_named(tree, tmp_path):
    folder = broken(tree[0], tmp_path)
    dataset = open_dataset("hic", folder, "test")
    left, right = (folder / "IJCV16___Results_MANO/01" / name for name in ("L_00000.ply", "R_00001.ply"))
    left.unlink()
    with pytest.raises(UserError, match=r"L_00000\.ply is missing; unpack"):
        dataset.annotation(0)
    right.write_bytes(right.read_bytes()[:300])
    with pytest.raises(UserError, match=r"R_00001\.ply"):
        dataset.vertices(1)


def test_missing_picture(tree, tmp_path):
    check_picture_missing("hic", tree[0], "test", tmp_path)
