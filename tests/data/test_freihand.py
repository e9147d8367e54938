"""FreiHAND: metres in the camera frame, four pictures an annotation, meshes that say where the parameters belong."""

import json

import pytest
import torch

from dataset_trees import FREIHAND_FOCAL, FREIHAND_PRINCIPAL, write_freihand
from reader_checks import broken, check_annotations, check_cut_short, check_parameters, check_picture_missing, check_refusal, check_sample
from twohands.data.dataset import Subset
from twohands.data.loader import open_dataset
from twohands.errors import UserError
from twohands.joints import OPENPOSE21


@pytest.fixture(scope="module")
def tree(mano, tmp_path_factory):
    folder = tmp_path_factory.mktemp("freihand")
    return folder, write_freihand(folder, mano, "training", 2)


def test_says_what_is_annotated(tree, mano):
    folder, truths = tree
    whole = open_dataset("freihand", folder, "training", mano)
    first = Subset(whole, [0, 1])
    check_annotations(first, truths, [t.keypoints_m for t in truths], FREIHAND_FOCAL, FREIHAND_PRINCIPAL)
    # The files' global rotation is of another frame; the meshes tell the right one.
    check_parameters(first, truths, atol=2e-5)
    check_sample(first, 0, truths[0])
    assert first.annotation(0).hand_type == "right"
    assert first.annotation(0).joint_names == OPENPOSE21


def test_four_pictures_share_an_annotation(tree):
    dataset = open_dataset("freihand", tree[0], "training")
    assert len(dataset) == 8
    assert dataset.ids.tolist() == [f"{k:08d}" for k in range(8)]
    a, b = dataset.annotation(1), dataset.annotation(7)
    assert torch.equal(a.joints_m, b.joints_m)
    assert b.image_path.name == "00000007.jpg"
    assert a.sequence == b.sequence != dataset.annotation(0).sequence
    with pytest.raises(IndexError):
        dataset.annotation(8)


def test_parameters_of_another_release_are_not_used(tree, mano, tmp_path):
    folder = broken(tree[0], tmp_path)
    path = folder / "training_mano.json"
    values = json.loads(path.read_text())
    values[0][0][48:58] = [3.0] * 10
    path.write_text(json.dumps(values))
    dataset = open_dataset("freihand", folder, "training", mano)
    assert dataset.annotation(0).parameters_valid.tolist() == [False, False]
    assert dataset.annotation(1).parameters_valid.tolist() == [False, True]
    assert dataset.vertices(0)[1].tolist() == [False, True]


def test_evaluation_without_published_truth(mano, tmp_path):
    write_freihand(tmp_path, mano, "evaluation", 2)
    for key in ("xyz", "verts", "mano"):
        (tmp_path / f"evaluation_{key}.json").unlink()
    dataset = open_dataset("freihand", tmp_path, "evaluation", mano)
    assert len(dataset) == 2
    a = dataset.annotation(0)
    assert not a.joints_3d_valid.any()
    assert not dataset.vertices(0)[1].any()
    assert not dataset[0].hand_valid.any(), "a picture without an annotated hand"


@pytest.mark.parametrize("key", ["K", "xyz", "verts", "mano"])
def test_broken_files_are_named(tree, tmp_path, key):
    check_cut_short("freihand", tree[0], "training", f"training_{key}.json", tmp_path)


def test_what_is_missing_or_does_not_belong_together_is_named(tree, tmp_path):
    folder = broken(tree[0], tmp_path)
    path = folder / "training_xyz.json"
    path.write_text(json.dumps(json.loads(path.read_text())[:1]))
    check_refusal("freihand", folder, "training", "of different lengths")
    path.write_text(json.dumps([[1, 2], [3]]))
    check_refusal("freihand", folder, "training", "training_xyz.json does not hold what")
    path.unlink()
    check_refusal("freihand", folder, "training", "training_xyz.json is not there")
    check_refusal("freihand", folder / "nowhere", "training", "there is no folder")


def test_missing_picture(tree, tmp_path):
    check_picture_missing("freihand", tree[0], "training", tmp_path)


def test_subsets_by_id(tree):
    whole = open_dataset("freihand", tree[0], "training")
    some = Subset.of_ids(whole, ["00000005", "00000002"])
    assert some.ids.tolist() == ["00000005", "00000002"]
    assert some.annotation(0).id == "00000005"
    assert torch.equal(some.vertices(1)[0], whole.vertices(2)[0])
    with pytest.raises(UserError, match="no annotation 00000009"):
        Subset.of_ids(whole, ["00000001", "00000009"])
