"""Pictures of any data set become photos around hands, with parameters of the bundled hand."""

import dataclasses
import json
import pickle
from multiprocessing.pool import ThreadPool

import numpy as np
import pytest
import torch

from dataset_trees import WRITERS, write_interhand26m
from mano_like import write_mano
from twohands.data.loader import DATASETS, open_dataset
from twohands.data.shards import ShardSet
from twohands.errors import UserError
from twohands.training.pairs import make_batch
from twohands.training.photo_shards import ShardRequest, hand_photos, picture_order, write_photo_shards


@pytest.fixture(scope="module")
def mano(tmp_path_factory):
    return write_mano(tmp_path_factory.mktemp("mano"))


@pytest.fixture(scope="module")
def interhand(mano, tmp_path_factory):
    folder = tmp_path_factory.mktemp("interhand26m")
    return folder, write_interhand26m(folder, mano, "train", 4)


def request(name, folder, mano, limit=None, seed=0, size_px=64):
    return ShardRequest(name, folder, DATASETS[name].splits[0], mano, limit, size_px, seed)


@pytest.mark.parametrize("name", sorted(WRITERS))
def test_every_data_set_becomes_shards_that_a_trainer_takes(name, mano, hand, tmp_path):
    folder = tmp_path / "tree"
    folder.mkdir()
    truths = WRITERS[name](folder, mano)
    report = write_photo_shards(request(name, folder, mano), tmp_path / "shards")
    pictures = len(open_dataset(name, folder, DATASETS[name].splits[0]))
    assert (report.shards, report.samples, report.left_out, report.missing) == (1, pictures, 0, ())
    # HIC has meshes and no parameters.
    assert report.with_parameters == (0 if name == "hic" else pictures)
    shards = ShardSet.read(sorted((tmp_path / "shards").glob("*.npz")))
    for index in range(len(shards)):
        sample = shards.sample(index)
        there = sample.hand_valid
        assert torch.equal(there, truths[int(shards.arrays["seed"][index]) % len(truths)].present)
        assert sample.keypoints_xy.isfinite().all()
        projected = sample.camera.project(sample.keypoints_camera_m[there])
        assert (projected - sample.keypoints_xy[there]).norm(dim=-1).mean() < (4.0 if name == "coco_wholebody" else 0.01)
        if name != "hic":
            assert torch.equal(sample.parameters_valid, there)
            posed = hand.pose_hands(sample.parameters).keypoints()[there]
            assert (posed - sample.keypoints_camera_m[there]).norm(dim=-1).mean() < 0.006
            assert sample.priors is not None
            drawn = set(((sample.priors.segmentation[sample.priors.segmentation > 0].int() - 1) // 16).tolist())
            assert drawn == set(there.nonzero().flatten().tolist())
    batch = make_batch([(shards, i) for i in range(len(shards))], 64, 16, np.random.default_rng(0), None)
    assert torch.equal(batch.present, torch.from_numpy(shards.arrays["hand_valid"]))
    assert batch.truth.joints_xy[batch.present].isfinite().all()


def test_the_picture_moves_with_its_camera(interhand, mano):
    """The middle knuckle's surroundings are the same in photo and picture."""
    dataset = open_dataset("interhand26m", interhand[0], "train", mano)
    sample = dataset[0]
    (photo,) = hand_photos(sample, 96)
    for side in (0, 1):
        x, y = (sample.keypoints_xy[side, 9].floor().long()).tolist()
        u, v = (photo.keypoints_xy[side, 9].floor().long()).tolist()
        assert (sample.image[:, y, x].float() - photo.image[:, v, u].float()).abs().max() < 40
    torch.testing.assert_close(photo.camera.project(photo.keypoints_camera_m), photo.keypoints_xy, atol=1e-3, rtol=0)


def test_hands_far_apart_are_cut_out_one_by_one(interhand):
    sample = open_dataset("interhand26m", interhand[0], "train")[0]
    shift = torch.tensor([[[-400.0, 0.0]], [[400.0, 0.0]]])
    xy = sample.keypoints_xy + shift
    wide = dataclasses.replace(sample, keypoints_xy=xy, box_xyxy_px=torch.cat([xy.amin(1), xy.amax(1)], -1))
    left, right = hand_photos(wide, 64)
    assert (left.hand_valid.tolist(), right.hand_valid.tolist()) == ([True, False], [False, True])
    assert not left.keypoints_xy[1].any()
    assert len(hand_photos(sample, 64)) == 1


def test_pictures_that_would_mislead_are_left_out(interhand):
    sample = open_dataset("interhand26m", interhand[0], "train")[0]
    xy = sample.keypoints_xy.clone()
    xy[0, 3] = torch.nan
    assert hand_photos(dataclasses.replace(sample, keypoints_xy=xy), 64) == [], "a hand that is known in part"
    assert hand_photos(dataclasses.replace(sample, image=sample.image // 16), 64) == [], "a black picture"
    assert hand_photos(dataclasses.replace(sample, hand_valid=torch.tensor([False, False])), 64) == [], "no hand"
    visible = sample.keypoint_visible.clone()
    visible[0, :11] = 0
    (photo,) = hand_photos(dataclasses.replace(sample, keypoint_visible=visible), 64)
    assert photo.hand_valid.tolist() == [False, True], "a hand that is mostly outside"
    # A single joint without 3D takes the hand's 3D out, not its 2D.
    valid = sample.keypoints_3d_valid.clone()
    valid[0, 3] = False
    (photo,) = hand_photos(dataclasses.replace(sample, keypoints_3d_valid=valid), 64)
    assert photo.keypoints_3d_valid.all(1).tolist() == [False, True]
    assert photo.hand_valid.all()


def test_without_mano_there_are_joints_and_no_parameters(interhand, tmp_path):
    report = write_photo_shards(request("interhand26m", interhand[0], None), tmp_path)
    assert (report.samples, report.with_parameters) == (4, 0)
    sample = ShardSet.read([tmp_path / "00000.npz"]).sample(0)
    assert sample.keypoints_3d_valid[sample.hand_valid].all()
    assert not sample.parameters_valid.any()
    assert sample.priors is None


def test_the_last_pictures_are_of_other_sequences(mano, tmp_path):
    write_interhand26m(tmp_path, mano, "train", 12, pictures=False)
    dataset = open_dataset("interhand26m", tmp_path, "train")
    order = picture_order(dataset, None, 3)
    assert sorted(order.tolist()) == [*range(12)]
    sequences = [dataset.annotation(int(i)).sequence for i in order]
    assert len({*sequences[:6]}) == len({*sequences[6:]}) == 1
    assert picture_order(dataset, 5, 3).tolist() != picture_order(dataset, 5, 4).tolist()
    assert len(picture_order(dataset, 5, 3)) == 5


def test_the_same_request_goes_on_and_another_is_refused(interhand, tmp_path):
    wanted = request("interhand26m", interhand[0], None)
    write_photo_shards(wanted, tmp_path)
    path = tmp_path / "00000.npz"
    before = path.stat().st_mtime_ns
    assert write_photo_shards(wanted, tmp_path).shards == 1
    assert path.stat().st_mtime_ns == before, "kept"
    assert json.loads((tmp_path / "shards.json").read_text())["name"] == "interhand26m"
    with pytest.raises(UserError, match="made with another size_px"):
        write_photo_shards(dataclasses.replace(wanted, size_px=32), tmp_path)
    (tmp_path / "shards.json").unlink()
    with pytest.raises(UserError, match="shards of something else"):
        write_photo_shards(wanted, tmp_path)


def test_missing_pictures_are_counted_and_named(mano, tmp_path):
    write_interhand26m(tmp_path, mano, "train", 3)
    dataset = open_dataset("interhand26m", tmp_path, "train")
    paths = [dataset.annotation(i).image_path for i in range(3)]
    paths[1].unlink()
    report = write_photo_shards(request("interhand26m", tmp_path, None), tmp_path / "a")
    assert report.samples == 2
    assert len(report.missing) == 1
    assert str(paths[1]) in report.missing[0]
    for path in (paths[0], paths[2]):
        path.unlink()
    with pytest.raises(UserError, match=r"no picture of interhand26m train .* can be used"):
        write_photo_shards(request("interhand26m", tmp_path, None), tmp_path / "b")


@pytest.mark.parametrize(
    ("change", "said"), [({"size_px": 30}, "multiple of 4"), ({"limit": 0}, "at least 1"), ({"split": "x"}, "no split")]
)
def test_requests_that_make_no_sense(interhand, tmp_path, change, said):
    with pytest.raises(UserError, match=said):
        write_photo_shards(dataclasses.replace(request("interhand26m", interhand[0], None), **change), tmp_path / "out")
    assert not (tmp_path / "out").exists()


class ThreadedContext:
    """Workers of the same interface that need no new interpreter each (five seconds of imports); what they are sent is pickled as for real ones."""

    def __init__(self, kind: str) -> None:
        assert kind == "spawn"

    class Pool(ThreadPool):
        def imap(self, func, iterable, chunksize=1):
            assert func.__qualname__ == func.__name__, "a worker finds it by its name"
            return super().imap(func, [pickle.loads(pickle.dumps(job)) for job in iterable], chunksize)  # noqa: S301  made here


def test_two_workers_make_what_one_makes(interhand, mano, tmp_path, monkeypatch):
    monkeypatch.setattr("twohands.training.photo_shards.SHARD_SIZE", 2)
    monkeypatch.setattr("multiprocessing.get_context", ThreadedContext)
    one, two = tmp_path / "one", tmp_path / "two"
    for out, workers in ((one, 1), (two, 2)):
        assert write_photo_shards(request("interhand26m", interhand[0], mano), out, workers).shards == 2
    for name in ("00000.npz", "00001.npz"):
        a, b = ShardSet.read([one / name]), ShardSet.read([two / name])
        for field, values in a.arrays.items():
            np.testing.assert_allclose(values.astype(float), b.arrays[field].astype(float), atol=1e-5, err_msg=field)
