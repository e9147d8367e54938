"""The exam's rules, each on a case small enough to work out by hand."""

import copy
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from twohands.errors import UserError
from twohands.evaluation import real_photos

FOLDER = os.environ.get("TWOHANDS_REAL_PHOTOS")


def a_hand(side: str, left_px: float, wrist_mm: tuple[float, float, float], interacting: bool = False) -> dict:
    """A hand whose keypoints climb a diagonal in a box of 100 x 50 px, bent out of the plane in 3D."""
    t = np.linspace(0, 1, 21)
    xy = np.stack([left_px + 100 * t, 50 * t], 1)
    xyz = np.array(wrist_mm) + np.stack([80 * t, 40 * np.sin(3 * t), 30 * t**2], 1)
    return {
        "side": side, "kp2d": xy.tolist(), "vis": [1] * 21, "vis3d": [1] * 21, "kp3d_mm": xyz.tolist(),
        "bbox_tight_kp": [left_px, 0, 100, 50], "interacting": interacting,
    }  # fmt: skip


def photo(photo_id: str, source: str, *hands: dict) -> dict:
    return {
        "id": photo_id,
        "file": f"{photo_id}.jpg",
        "source": source,
        "interacting": False,
        "K": [200, 200, 64, 64],
        "hands": list(hands),
    }


def guess(hand: dict, shift_px: float = 0.0, **changed) -> dict:
    xy = (np.array(hand["kp2d"]) + np.array([shift_px, 0.0])).tolist()
    return {"side": hand["side"], "score": 0.9, "kp2d_px": xy, "kp3d_mm": hand["kp3d_mm"]} | changed


@pytest.fixture
def exam() -> dict:
    left, right = a_hand("left", 0.0, (0, 0, 500), True), a_hand("right", 400.0, (100, 0, 500), True)
    flat = a_hand("right", 0.0, (0, 0, 400))
    flat["kp3d_mm"] = flat["vis3d"] = None
    return {
        "images": [
            photo("pair", "studio", left, right),
            photo("flat", "hgc_one", flat),
            photo("drawn", "rhd", a_hand("left", 0.0, (0, 0, 300))),
        ],
        "qualitative": [
            {"id": "clasp", "file": "clasp.jpg", "group": "two_hand", "interacting": True},
            {"id": "apart", "file": "apart.jpg", "group": "two_hand", "interacting": False},
            {"id": "one", "file": "one.jpg", "group": "wild", "interacting": False},
        ],
    }


def all_right(exam: dict) -> dict:
    return {image["id"]: {"hands": [guess(hand) for hand in image["hands"]]} for image in exam["images"]}


def scored(tmp_path: Path, exam: dict, predictions: dict) -> real_photos.Report:
    (tmp_path / "exam.json").write_text(json.dumps(exam))
    (tmp_path / "predictions.json").write_text(json.dumps(predictions))
    return real_photos.score(real_photos.read_exam(tmp_path), real_photos.read_predictions(tmp_path / "predictions.json"))


def test_the_truth_scores_full(tmp_path, exam):
    report = scored(tmp_path, exam, all_right(exam))
    assert {name: group.n for name, group in report.groups.items()} == {
        "studio": 2, "hgc_one": 1, "rhd": 1, "all real": 3, "real, varied (no hgc)": 2, "interacting hands": 2,
    }  # fmt: skip
    for group in report.groups.values():
        assert (group.recall, group.side, group.pck) == (1.0, 1.0, (1.0, 1.0, 1.0))
    assert report.groups["all real"].mpjpe_mm == pytest.approx(0.0, abs=1e-9)
    assert report.groups["all real"].n_3d == 2
    assert report.groups["hgc_one"].mpjpe_mm is None
    assert (report.n_mrrpe, report.mrrpe_mm) == (1, pytest.approx(0.0))


def test_saying_nothing_scores_nothing(tmp_path, exam):
    report = scored(tmp_path, exam, {})
    assert all(group.recall == 0 and group.pck == (0, 0, 0) and group.side is None for group in report.groups.values())
    assert (report.n_mrrpe, report.mrrpe_mm, report.two_hand_solved, report.penetration_mean_cm3) == (0, None, 0, None)


def test_errors_are_in_units_of_the_longer_side_and_misses_count(tmp_path, exam):
    left, _ = exam["images"][0]["hands"]
    report = scored(tmp_path, exam, {"pair": {"hands": [guess(left, shift_px=15.0)]}})  # .15 of 100 px; the right hand is missed
    assert report.groups["studio"].recall == 0.5
    assert report.groups["studio"].pck == (0.0, 0.0, 0.5)


@pytest.mark.parametrize(("shift_px", "recall"), [(49.0, 1.0), (51.0, 0.0)])
def test_a_match_needs_less_than_half_a_box(tmp_path, exam, shift_px, recall):
    assert scored(tmp_path, exam, {"flat": {"hands": [guess(exam["images"][1]["hands"][0], shift_px)]}}).groups["hgc_one"].recall == recall


def test_labels_of_side_do_not_decide_the_match(tmp_path, exam):
    left, right = exam["images"][0]["hands"]
    swapped = [guess(right, side="left"), guess(left, side="right")]
    report = scored(tmp_path, exam, {"pair": {"hands": swapped}})
    assert (report.groups["studio"].recall, report.groups["studio"].side) == (1.0, 0.0)
    assert report.n_mrrpe == 0  # relative position is judged only where both sides are right


def test_the_nearer_of_two_guesses_is_taken(tmp_path, exam):
    hand = exam["images"][1]["hands"][0]
    report = scored(tmp_path, exam, {"flat": {"hands": [guess(hand, 30.0), guess(hand, 3.0), guess(hand, 20.0)]}})
    assert report.groups["hgc_one"].pck == (1.0, 1.0, 1.0)


def test_unlabelled_keypoints_are_not_judged(tmp_path, exam):
    hand = exam["images"][1]["hands"][0]
    answer = guess(copy.deepcopy(hand))
    answer["kp2d_px"][4] = [9e6, 9e6]
    hand["vis"][4] = 0
    assert scored(tmp_path, exam, {"flat": {"hands": [answer]}}).groups["hgc_one"].pck == (1.0, 1.0, 1.0)


def test_mrrpe_by_hand(tmp_path, exam):
    answers = all_right(exam)
    left = answers["pair"]["hands"][0]
    left["kp3d_mm"] = (np.array(left["kp3d_mm"]) + np.array([3.0, 0.0, 4.0])).tolist()
    report = scored(tmp_path, exam, answers)
    assert report.mrrpe_mm == pytest.approx(5.0)
    assert report.groups["studio"].mpjpe_mm == pytest.approx(0.0, abs=1e-9)


def test_a_two_hand_photo_is_solved_by_one_left_and_one_right(tmp_path, exam):
    left, right = (guess(hand) for hand in exam["images"][0]["hands"])
    answers = {"clasp": {"hands": [left, right]}, "apart": {"hands": [left, right, right]}, "one": {"hands": [left, right]}}
    report = scored(tmp_path, exam, answers)
    assert (report.two_hand_solved, report.two_hand_photos) == (1, 2)
    assert (report.two_hand_interacting_solved, report.two_hand_interacting) == (1, 1)


def test_shared_volume_is_averaged_where_it_is_given(tmp_path, exam):
    volumes = {"clasp": 0.5, "apart": None, "one": 0.1}
    report = scored(tmp_path, exam, {name: {"hands": [], "penetration_cm3": volume} for name, volume in volumes.items()})
    assert (report.n_penetration, report.penetration_mean_cm3, report.penetration_max_cm3) == (2, pytest.approx(0.3), 0.5)


def test_a_report_is_plain_json_and_prints(tmp_path, exam):
    report = scored(tmp_path, exam, all_right(exam))
    assert json.loads(json.dumps(report.to_json()))["groups"]["studio"]["n"] == 2
    assert "| studio | ours | 2 | 1.00 |" in real_photos.table({"ours": report, "none": scored(tmp_path, exam, {})})


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "not JSON"),
        ("[]", "not a predictions file"),
        ('{"a": {"hands": [{"side": "up", "kp2d_px": []}]}}', "'up'"),
        ('{"a": {"hands": [{"side": "left", "kp2d_px": [[1, 2]]}]}}', "shape"),
    ],
)
def test_a_broken_predictions_file_is_named(tmp_path, content, words):
    path = tmp_path / "predictions.json"
    path.write_text(content)
    with pytest.raises(UserError, match=words):
        real_photos.read_predictions(path)


def test_a_folder_without_an_exam_is_named(tmp_path):
    with pytest.raises(UserError, match=r"exam\.json"):
        real_photos.read_exam(tmp_path)
    (tmp_path / "exam.json").write_text('{"images": [{"id": "x"}]}')
    with pytest.raises(UserError, match="not an exam"):
        real_photos.read_exam(tmp_path)


@pytest.mark.skipif(FOLDER is None, reason="TWOHANDS_REAL_PHOTOS does not name a folder with exam.json and mediapipe_predictions.json")
def test_known_scores_of_the_real_exam():
    folder = Path(FOLDER or "")
    report = real_photos.score(real_photos.read_exam(folder), real_photos.read_predictions(folder / "mediapipe_predictions.json"))
    one_scene = report.groups["hgc_realworld"]
    assert (one_scene.n, one_scene.recall, one_scene.side) == (30, 1.0, 1.0)
    assert one_scene.mpjpe_mm == pytest.approx(23.55241708521588, abs=1e-6)
    assert one_scene.pa_mpjpe_mm == pytest.approx(10.44994425098952, abs=1e-6)
    assert report.groups["all real"].pck == pytest.approx((0.6469893742621016, 0.8323494687131051, 0.8925619834710744), abs=1e-6)
    assert (report.two_hand_solved, report.two_hand_photos) == (1, 6)


def test_the_benchmark_scores_a_file_and_draws_sheets(tmp_path, exam):
    for entry in (*exam["images"], *exam["qualitative"]):
        Image.new("RGB", (520, 128), (90, 120, 60)).save(tmp_path / entry["file"])
    answers = all_right(exam)
    answers["pair"]["hands"].pop()
    scored(tmp_path, exam, answers)
    script = Path(__file__).parents[2] / "benchmarks" / "real_photos.py"
    command = [sys.executable, str(script), ".", "--predictions", "predictions.json", "--out", "result", "--sheets"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "| studio | predictions | 2 | 0.50 |" in done.stdout
    assert json.loads((tmp_path / "result" / "report.json").read_text())["scores"]["predictions"]["groups"]["studio"]["recall"] == 0.5
    assert sorted(path.name for path in (tmp_path / "result").glob("*.png")) == ["sheet_two_hand.png", "sheet_varied.png", "sheet_wild.png"]
