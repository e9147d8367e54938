"""Averages, intervals, reports and their pictures."""

import json
from dataclasses import replace

import numpy as np
import pytest
from made_up import perfect, random_prediction, random_truth
from PIL import Image

from twohands.evaluation import pictures
from twohands.evaluation.averaging import Totals, bootstrap_weights, interval
from twohands.evaluation.judge import Tally, judge
from twohands.evaluation.occlusion import crop_brightness, hidden_by_other_hand
from twohands.evaluation.protocols import PROTOCOLS
from twohands.evaluation.report import as_latex, as_text, write_json
from twohands.evaluation.synthetic import Seal


def report_of(name: str = "ih26m/interwild", n: int = 24):
    truth = replace(random_truth(n), hidden_share=np.random.default_rng(3).random((n, 2)))
    return judge(PROTOCOLS[name], [(truth, random_prediction(truth))], "noise of 8 mm")


def test_batches_do_not_matter():
    truth = random_truth(24)
    prediction = random_prediction(truth)
    whole = judge(PROTOCOLS["ih26m/interwild"], [(truth, prediction)], "x")
    rows = [range(0, 5), range(5, 6), range(6, 24)]
    parts = judge(PROTOCOLS["ih26m/interwild"], [(truth.take(list(r)), prediction.take(list(r))) for r in rows], "x")
    for a, b in zip(whole.numbers, parts.numbers, strict=True):
        assert a.value == pytest.approx(b.value)
        assert (a.low, a.high) == pytest.approx((b.low, b.high))


def test_rows_must_be_of_the_same_samples():
    truth = random_truth(4)
    with pytest.raises(ValueError, match="different samples"):
        Tally(PROTOCOLS["ih26m/interwild"]).add(truth, perfect(truth).take([1, 0, 2, 3]), None)


def test_the_bootstrap_draws_sequences_and_not_samples():
    """Ten sequences whose samples all have one value each: however many samples they hold, the spread is that of ten numbers."""
    rng = np.random.default_rng(0)
    by_sequence = rng.normal(10, 2, 10)
    values = np.repeat(by_sequence, 500)[:, None]
    totals = Totals.of(values, np.zeros(5000, bool), np.repeat(np.arange(10), 500), 10)
    low, high = interval(totals, "entries", "all", bootstrap_weights(10, 2000))
    half = 1.96 * by_sequence.std() / np.sqrt(10)
    assert low == pytest.approx(by_sequence.mean() - half, abs=0.3)
    assert high == pytest.approx(by_sequence.mean() + half, abs=0.3)
    assert low < totals.whole().average("entries", "all") < high


def test_the_bootstrap_follows_the_rule_of_averaging():
    """A draw is the protocol's average of the drawn sequences: checked against drawing the samples themselves."""
    rng = np.random.default_rng(0)
    values, interacting, sequence = rng.gamma(2, 5, (40, 4)), rng.random(40) < 0.4, rng.integers(0, 6, 40)
    values[rng.random((40, 4)) < 0.2] = np.nan
    weights = bootstrap_weights(6, 5, seed=3)
    drawn = Totals.of(values, interacting, sequence, 6).drawn(weights)
    for rule in ("cells", "pooled cells", "entries", "hands"):
        for k, times in enumerate(weights):
            rows = np.concatenate([np.tile(np.flatnonzero(sequence == s), int(t)) for s, t in enumerate(times)])
            one = Totals.of(values[rows], interacting[rows], np.zeros(len(rows), int), 1).whole()
            assert drawn.average(rule, "all")[k] == pytest.approx(one.average(rule, "all"))


def test_one_sequence_has_no_interval():
    truth = replace(random_truth(6), sequence=np.array(["only"] * 6))
    report = judge(PROTOCOLS["ih26m/interwild"], [(truth, random_prediction(truth))], "x")
    assert np.isnan(report.numbers[0].low)
    assert "-" in as_text(report)


def test_nothing_to_judge_is_no_crash():
    report = judge(PROTOCOLS["ih26m/interwild"], [], "nobody")
    assert (report.samples, report.numbers) == (0, ())
    assert "0 samples" in as_text(report)


def test_every_number_says_what_it_means(tmp_path):
    report = report_of()
    text = as_text(report)
    assert "ih26m/interwild" in text
    assert "(SH + IH) / 2" in text
    assert "InterWild" in text
    write_json(tmp_path / "r.json", report)
    stored = json.loads((tmp_path / "r.json").read_text())
    assert len(stored["numbers"]) == len(report.numbers)
    for number in stored["numbers"]:
        for field in ("protocol", "metric", "unit", "subset", "joints", "root", "scale", "averaging", "source"):
            assert isinstance(number[field], str), field
        assert number["low"] <= number["value"] <= number["high"]
    assert len(stored["curves"]["error_by_joint_mm"][0]) == 21


def test_latex_escapes_what_latex_would_read():
    text = as_latex(report_of())
    body = text.replace("\\%", "").replace("\\_", "").replace("\\&", "")
    assert "%" not in body
    assert "#" not in body
    assert text.count("\\\\") == 1 + len(report_of().numbers)
    assert text.count("{") == text.count("}")


def test_curves_are_of_the_protocols_own_error():
    report = report_of()
    curves = report.curves
    assert np.nanmean(curves.error_by_joint_mm) == pytest.approx(report.value("MPJPE-all"), rel=0.1)
    assert curves.error_by_joint_mm[:, 0] == pytest.approx([0.0, 0.0])  # the wrist is the root
    share = curves.pck["all"]
    assert (np.diff(share) >= 0).all()
    assert curves.hands_by_hidden.sum() == 24 * 2 - 16  # the hands that are shown


def test_pictures(tmp_path):
    drawn = pictures.draw(report_of(), tmp_path)
    assert [path.name for path in drawn] == ["error_by_joint.png", "error_by_occlusion.png", "pck.png"]
    assert all(min(Image.open(path).size) > 300 for path in drawn)


def test_a_hand_behind_another_is_hidden(hand):
    from twohands.hands.parameters import HandParameters

    mesh = hand.pose_hands(HandParameters.zeros()).mesh()
    vertices, joints = mesh.vertices_m.numpy().copy(), mesh.keypoints_m.numpy().copy()
    for points in (vertices, joints):
        points -= joints[:, 9:10].copy() if points is vertices else 0
    joints -= joints[:, 9:10].copy()
    # The left hand right behind the right one, which is turned into the same outline.
    vertices[0], joints[0] = vertices[1] + [0, 0, 0.6], joints[1] + [0, 0, 0.6]
    vertices[1] += [0, 0, 0.5]
    joints[1] += [0, 0, 0.5]
    faces = np.stack([hand.faces[1].numpy()] * 2)
    share = hidden_by_other_hand(vertices, faces, joints)
    assert share[0] > 0.8
    assert share[1] == 0.0
    vertices[0] += [1.0, 0, 0]
    joints[0] += [1.0, 0, 0]
    assert hidden_by_other_hand(vertices, faces, joints).tolist() == [0.0, 0.0]
    assert np.isnan(hidden_by_other_hand(vertices - [0, 0, 0.55], faces, joints)).all()


def test_brightness_is_of_the_crop_and_black_beyond_the_border():
    image = np.zeros((100, 100, 3), np.uint8)
    image[:, :50] = 200
    assert crop_brightness(image, np.array([[10.0, 10], [30, 30]])) == pytest.approx(200.0)
    assert crop_brightness(image, np.array([[60.0, 10], [90, 30]])) == 0.0
    assert crop_brightness(image, np.array([[-8.0, 50], [8, 50]])) == pytest.approx(100.0)  # half of it lies outside
    assert crop_brightness(image, np.array([[-80.0, 50], [-60, 60]])) == 0.0


@pytest.mark.parametrize(
    ("truth", "picture", "shift_mm", "said"),
    [("t", "p", 0.0, None), ("t", "q", 0.0, "pictures differ"), ("u", "p", 0.01, "rounding"), ("u", "p", 5.0, "OTHER SCENES")],
)
def test_a_seal_tells_rounding_from_other_scenes(truth, picture, shift_mm, said):
    known = Seal("t", "p", [[1.0, 2.0, 500.0], [0.0, 0.0, 600.0]])
    remarks = Seal(truth, picture, [[1.0, 2.0, 500.0], [0.0, shift_mm, 600.0]]).differences(known)
    assert (said is None and remarks == ()) or (said is not None and said in remarks[0])
    assert "no seal" in known.differences(None)[0]
