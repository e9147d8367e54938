"""The predictions format: what is written is read back, and whatever is wrong is said with its place and its remedy."""

import json

import numpy as np
import pytest
from made_up import prediction_of, random_prediction, random_truth

from twohands.errors import UserError
from twohands.evaluation.judged import Truth
from twohands.evaluation.match import batches_of_parts, coverage
from twohands.evaluation.predictions import FORMAT, JOINT_ORDERS, open_predictions, read_pred_json, write_predictions
from twohands.evaluation.sources import Source
from twohands.joints import OPENPOSE21


class InMemory(Source):
    """Truth that is at hand."""

    def __init__(self, rows: Truth) -> None:
        self.rows, self.ids = rows, rows.sample_id

    def truth(self, rows):
        return self.rows.take(rows)

    def sample(self, row):
        raise NotImplementedError("no test asks for a picture")


def arrays(n: int = 3) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "format": np.array(FORMAT),
        "sample_id": np.array([f"s{k}" for k in range(n)]),
        "joints_m": rng.normal(0, 0.1, (n, 2, 21, 3)),
        "frame": np.array("camera"),
    }


def read(path):
    (part,) = open_predictions(path)
    return part.read(None)


def test_what_is_written_is_read_back(tmp_path):
    truth = random_truth(5)
    prediction = random_prediction(truth)
    write_predictions(tmp_path / "p.npz", prediction, "mine")
    (part,) = open_predictions(tmp_path / "p.npz")
    again = part.read(None)
    assert part.predictor == "mine"
    assert again.sample_id.tolist() == prediction.sample_id.tolist()
    for name in ("joints_mm", "vertices_mm", "relative_mm"):
        assert getattr(again, name) == pytest.approx(getattr(prediction, name), abs=1e-3)
    assert again.in_camera.all()
    assert again.presence is None


def test_the_least_that_a_file_needs(tmp_path):
    given = arrays()
    np.savez(tmp_path / "p.npz", **given)
    prediction = read(tmp_path / "p.npz")
    assert prediction.joints_mm == pytest.approx(1000 * given["joints_m"])
    assert prediction.relative_mm == pytest.approx(1000 * (given["joints_m"][:, 0, 0] - given["joints_m"][:, 1, 0]))


@pytest.mark.parametrize("order", list(JOINT_ORDERS))
def test_joints_may_come_in_other_orders(tmp_path, order):
    given = arrays()
    index = [OPENPOSE21.index(name) for name in JOINT_ORDERS[order]]
    np.savez(tmp_path / "p.npz", **(given | {"joints_m": given["joints_m"][:, :, index], "joint_order": np.array(order)}))
    assert read(tmp_path / "p.npz").joints_mm == pytest.approx(1000 * given["joints_m"])


def test_wrist_frames_have_no_relative_place(tmp_path):
    np.savez(tmp_path / "p.npz", **(arrays() | {"frame": np.array("wrist")}))
    prediction = read(tmp_path / "p.npz")
    assert np.isnan(prediction.relative_mm).all()
    assert not prediction.in_camera.any()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": np.array("2")}, "must be 'twohands-predictions-1'"),
        ({"sample_id": None}, "has no sample_id"),
        ({"sample_id": np.zeros((3, 2))}, "must be a list of strings"),
        ({"sample_id": np.array(["a", "a", "b"])}, "'a' 2 times"),
        ({"joints_m": None}, "has no joints_m"),
        ({"joints_m": np.zeros((3, 21, 3))}, "must have (3, 2, 21, 3)"),
        ({"joints_m": np.zeros((2, 2, 21, 3))}, "must have (3, 2, 21, 3)"),
        ({"joints_m": np.full((3, 2, 21, 3), "x")}, "must hold numbers"),
        ({"joints_m": np.full((3, 2, 21, 3), np.inf)}, "infinite in row 0"),
        ({"joints_m": np.full((3, 2, 21, 3), 412.0)}, "is in metres; divide millimetres by 1000"),
        ({"joints_m": np.array([object()], dtype=object)}, "arrays of objects are refused"),
        ({"vertices_m": np.zeros((3, 778, 3))}, "must have (3, 2, V, 3)"),
        ({"frame": np.array("world")}, "one of camera, wrist"),
        ({"joint_order": np.array("COCO")}, "one of OPENPOSE21"),
        ({"jonts_m": np.zeros(3)}, "has 'jonts_m', which no reader knows"),
        ({"mano_pose": np.zeros((3, 2, 16, 3))}, "give the three together"),
    ],
)
def test_what_is_wrong_is_said(tmp_path, change, said):
    given = {name: value for name, value in (arrays() | change).items() if value is not None}
    np.savez(tmp_path / "p.npz", **given)
    with pytest.raises(UserError, match=r"p\.npz") as caught:
        read(tmp_path / "p.npz")
    assert said in str(caught.value)


def test_what_is_no_predictions_file(tmp_path):
    (tmp_path / "text.npz").write_text("hello")
    np.save(tmp_path / "one.npy", np.zeros(3))
    (tmp_path / "empty").mkdir()
    for name, said in (("text.npz", "no readable NPZ"), ("one.npy", "single array"), ("empty", "no \\*.npz"), ("gone.npz", "not there")):
        with pytest.raises(UserError, match=said):
            open_predictions(tmp_path / name)


def test_a_cut_off_file_is_refused(tmp_path):
    np.savez(tmp_path / "whole.npz", **arrays())
    (tmp_path / "half.npz").write_bytes((tmp_path / "whole.npz").read_bytes()[:900])
    with pytest.raises(UserError, match=r"half\.npz"):
        open_predictions(tmp_path / "half.npz")


def test_parts_are_one_set_of_predictions(tmp_path):
    truth = random_truth(10)
    prediction = random_prediction(truth)
    for k, rows in enumerate(([7, 1, 2], [0, 3, 4, 5, 6], [9, 8])):
        write_predictions(tmp_path / f"{k}.npz", prediction.take(rows), "mine")
    source = InMemory(truth)
    parts = open_predictions(tmp_path)
    assert coverage(source, np.concatenate([p.sample_id for p in parts]), allow_missing=False).missing == 0
    seen = []
    for true, predicted in batches_of_parts(source, parts, None):
        assert true.sample_id.tolist() == predicted.sample_id.tolist()
        seen += true.sample_id.tolist()
    assert sorted(seen) == sorted(truth.sample_id.tolist())
    write_predictions(tmp_path / "again.npz", prediction.take([0]), "mine")
    with pytest.raises(UserError, match="'s0' 2 times"):
        open_predictions(tmp_path)


def test_parts_agree_in_what_they_hold(tmp_path):
    truth = random_truth(4)
    write_predictions(tmp_path / "a.npz", random_prediction(truth).take([0, 1]), "mine")
    write_predictions(tmp_path / "b.npz", prediction_of(truth, truth.joints_mm).take([2, 3]), "mine")
    with pytest.raises(UserError, match="give it in all parts or in none"):
        open_predictions(tmp_path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "no readable JSON"),
        ("[1, 2, 3]", "list of two"),
        (json.dumps([[[[0, 0, 0]] * 21], [[[0, 0, 0]] * 778]]), "must have (2, 21, 3)"),
        (json.dumps([[["a"]], []]), "no array of numbers"),
    ],
)
def test_a_broken_pred_json(tmp_path, content, said):
    (tmp_path / "pred.json").write_text(content)
    with pytest.raises(UserError, match=r"pred\.json") as caught:
        read_pred_json(tmp_path / "pred.json", np.array(["a", "b"]), opengl=False)
    assert said in str(caught.value)
