"""The three-sample examples that docs/EVALUATION.md works by hand, and a larger random set against formulas written out as loops."""

import math

import numpy as np
import pytest
from made_up import masked, prediction_of, random_prediction, random_truth, truth_of

from twohands.evaluation import metrics
from twohands.evaluation.judge import Report, judge
from twohands.evaluation.protocols import PROTOCOLS

LEFT, RIGHT = 0, 1

# docs/EVALUATION.md, "InterHand2.6M by hand": three samples, three labelled joints a hand (wrist, middle MCP, one fingertip).
JOINTS = (0, 9, 12)
# sample, hand -> error vectors (mm) of the middle MCP and of the fingertip after the wrists were put together
WORKED = {
    (0, RIGHT): ((3, 4, 0), (2, 3, 6)),  # 5, 7
    (1, LEFT): ((1, 2, 2), (4, 4, 7)),  # 3, 9
    (2, LEFT): ((6, 8, 0), (0, 5, 12)),  # 10, 13
    (2, RIGHT): ((2, 6, 9), (8, 9, 12)),  # 11, 17
}
WRIST_ERROR = {(0, RIGHT): (5, 5, 5), (1, LEFT): (0, 7, 1), (2, LEFT): (10, 0, 2), (2, RIGHT): (8, -1, 4)}  # 2: (2, 1, -2), MRRPE 3


def worked_report(name: str) -> Report:
    shown = np.array([[0, 1], [1, 0], [1, 1]], bool)
    joints = np.random.default_rng(0).normal(0, 40, (3, 2, 21, 3)) + np.array([0, 0, 600])
    labelled = np.zeros((3, 2, 21), bool)
    labelled[..., list(JOINTS)] = shown[..., None]
    truth = masked(truth_of(joints, shown), labelled=labelled)
    predicted = joints + np.random.default_rng(1).normal(0, 9, joints.shape)  # what is not labelled may be anything
    for (sample, hand), errors in WORKED.items():
        wrist = np.array(WRIST_ERROR[sample, hand])
        for joint, error in zip(JOINTS, ((0, 0, 0), *errors), strict=True):
            predicted[sample, hand, joint] = joints[sample, hand, joint] + wrist + error
    return judge(PROTOCOLS[name], [(truth, prediction_of(truth, predicted))], "worked")


def test_interwild_by_hand():
    report = worked_report("ih26m/interwild")
    sh = ((0 + 5 + 7) + (0 + 3 + 9)) / 6
    ih = ((0 + 10 + 13) + (0 + 11 + 17)) / 6
    assert (sh, ih) == (4.0, 8.5)
    assert report.value("MPJPE-SH") == pytest.approx(4.0, abs=1e-9)
    assert report.value("MPJPE-IH") == pytest.approx(8.5, abs=1e-9)
    assert report.value("MPJPE-all") == pytest.approx(6.25, abs=1e-9)
    assert report.value("MRRPE") == pytest.approx(math.hypot(2, 1, -2), abs=1e-9)


def test_internet_and_mmpose_by_hand():
    by_joint = [0, (5 + 11) / 2, (7 + 17) / 2, 0, (3 + 10) / 2, (9 + 13) / 2]
    assert sum(by_joint) / 6 == 6.25
    assert worked_report("ih26m/internet").value("MPJPE-all") == pytest.approx(6.25, abs=1e-9)
    assert worked_report("ih26m/mmpose").value("MPJPE-all") == pytest.approx((12 + 12 + 23 + 28) / 12, abs=1e-9)


def test_the_other_root_by_hand():
    """With the middle MCP as root every error vector loses the MCP's: |wrist - mcp| and |tip - mcp|."""

    def length(*vector: float) -> float:
        return math.hypot(*vector)

    sh = (5 + 0 + length(2 - 3, 3 - 4, 6 - 0) + 3 + 0 + length(4 - 1, 4 - 2, 7 - 2)) / 6
    ih = (10 + 0 + length(0 - 6, 5 - 8, 12) + 11 + 0 + length(8 - 2, 9 - 6, 12 - 9)) / 6
    report = worked_report("ih26m/interwild-mcp")
    assert report.value("MPJPE-SH") == pytest.approx(sh, abs=1e-9)
    assert report.value("MPJPE-IH") == pytest.approx(ih, abs=1e-9)


# docs/EVALUATION.md, "FreiHAND by hand": joints at the ends of three axes, three times each, and three at the centre; stretched along the axes.
STRETCH = ((2, 1, 1), (-2, 1, 1), (4, 2, 1))
EXPECTED_PA = (2 / 7, 2 / 7, 8 / 21)
"""In units of the axes' length: 6 / 21 times the sum over axes of | |d| k - 1 |, k = sum |d| / sum d^2."""
EXPECTED_PA_WITHOUT_REFLECTION = (2 / 7, 2 / 3, 8 / 21)


def cross() -> np.ndarray:
    ends = np.concatenate([np.eye(3), -np.eye(3)])
    return np.concatenate([ends, ends, ends, np.zeros((3, 3))])


def test_freihand_by_hand():
    truth = truth_of(np.stack([np.stack([10 * cross() + [0, 0, 500]] * 2)] * 3), np.ones((3, 2), bool))
    turn = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])  # any rotation: it is undone
    predicted = np.stack([np.stack([10 * cross() * d @ turn + [7, 8, 900]] * 2) for d in STRETCH])
    for k in range(3):
        d = np.abs(STRETCH[k])
        scale = d.sum() / (d**2).sum()
        assert 6 / 21 * np.abs(d * scale - 1).sum() == pytest.approx(EXPECTED_PA[k], abs=1e-12)
    report = judge(PROTOCOLS["freihand"], [(truth, prediction_of(truth, predicted))], "worked")
    assert report.value("PA-MPJPE") == pytest.approx(10 * sum(EXPECTED_PA) / 3, abs=1e-5)
    strict = metrics.pa_mpjpe_mm(predicted[:, RIGHT], truth.joints_mm[:, RIGHT])
    assert strict == pytest.approx(10 * np.array(EXPECTED_PA_WITHOUT_REFLECTION), abs=1e-9)


def test_f_score_by_hand():
    """Four vertices 4, 5, 6 and 16 mm off, far from one another: of four, one is nearer than 5 mm and three nearer than 15 mm, both ways."""
    vertices = np.array([[0.0, 0, 500], [100, 0, 500], [0, 100, 500], [100, 100, 500]])
    moved = vertices + np.array([[4.0, 0, 0], [0, 5, 0], [0, 0, 6], [16, 0, 0]])
    truth = truth_of(random_truth(1).joints_mm, np.ones((1, 2), bool), np.stack([[vertices, vertices]]))
    report = judge(PROTOCOLS["freihand"], [(truth, prediction_of(truth, truth.joints_mm, np.stack([[moved, moved]])))], "worked")
    assert report.value("F@5") == pytest.approx(0.25, abs=1e-12)
    assert report.value("F@15") == pytest.approx(0.75, abs=1e-12)
    assert report.value("MPVPE") == pytest.approx((4 + 5 + 6 + 16) / 4, abs=1e-9)


# A random but fixed set of predictions: 12 samples, seeds 0 and 1. The numbers are those of the loops below, and of the judge.
RANDOM_INTERHAND = {"MPJPE-all": 16.5063, "MPJPE-SH": 15.5074, "MPJPE-IH": 17.5051, "MRRPE": 14.2795, "MPVPE-all": 17.4739}
RANDOM_FREIHAND = {"PA-MPJPE": 11.7045, "AUC joints": 0.7421, "F@15": 0.7340}


def test_a_random_set_by_interwilds_rule_written_as_loops():
    truth = random_truth(12)
    prediction = random_prediction(truth)
    assert truth.vertices_mm is not None
    assert prediction.vertices_mm is not None
    by_cell: dict[tuple[bool, int, int], list[float]] = {}
    vertices: list[float] = []
    relative: list[float] = []
    for n in range(12):
        both = bool(truth.shown[n].all())
        for hand in (LEFT, RIGHT):
            if not truth.shown[n, hand]:
                continue
            p, t = prediction.joints_mm[n, hand], truth.joints_mm[n, hand]
            for joint in range(21):
                error = math.dist(p[joint] - p[0], t[joint] - t[0])
                by_cell.setdefault((both, hand, joint), []).append(error)
            gaps = [math.dist(v - p[0], w - t[0]) for v, w in zip(prediction.vertices_mm[n, hand], truth.vertices_mm[n, hand], strict=True)]
            vertices.append(sum(gaps) / len(gaps))
        if both:
            p, t = prediction.joints_mm[n, :, 0], truth.joints_mm[n, :, 0]
            relative.append(math.dist(p[LEFT] - p[RIGHT], t[LEFT] - t[RIGHT]))
    cells = {key: sum(errors) / len(errors) for key, errors in by_cell.items()}
    halves = [np.mean([mean for (both, _, _), mean in cells.items() if both is group]) for group in (False, True)]
    by_loops = {
        "MPJPE-SH": halves[0],
        "MPJPE-IH": halves[1],
        "MPJPE-all": np.mean(list(cells.values())),
        "MRRPE": np.mean(relative),
        "MPVPE-all": np.mean(vertices),
    }
    report = judge(PROTOCOLS["ih26m/interwild"], [(truth, prediction)], "random")
    for metric, expected in RANDOM_INTERHAND.items():
        assert report.value(metric) == pytest.approx(by_loops[metric], abs=1e-9), metric
        assert report.value(metric) == pytest.approx(expected, abs=5e-5), metric


def test_a_random_set_by_freihands_rule_written_as_loops():
    truth = random_truth(12)
    truth = truth_of(truth.joints_mm, np.ones((12, 2), bool), truth.vertices_mm)
    prediction = random_prediction(truth)
    assert truth.vertices_mm is not None
    assert prediction.vertices_mm is not None
    aligned = np.zeros((12, 21))
    scores, areas = [], []
    for n in range(12):
        t, p = truth.joints_mm[n, RIGHT] / 1000, prediction.joints_mm[n, RIGHT] / 1000
        a, b = t - t.mean(0), p - p.mean(0)
        size_a, size_b = np.sqrt((a**2).sum()) + 1e-8, np.sqrt((b**2).sum()) + 1e-8
        u, w, vt = np.linalg.svd((b / size_b).T @ (a / size_a))  # R = u vt minimises || b R - a ||
        moved = (b / size_b) @ (u @ vt) * w.sum() * size_a + t.mean(0)
        aligned[n] = 1000 * np.sqrt(((moved - t) ** 2).sum(1))
        v, q = truth.vertices_mm[n, RIGHT], prediction.vertices_mm[n, RIGHT]
        gaps = np.sqrt(((v[:, None] - q[None]) ** 2).sum(-1))
        precision, recall = (gaps.min(1) < 15).mean(), (gaps.min(0) < 15).mean()
        scores.append(2 * precision * recall / (precision + recall))
    limits = np.linspace(0, 50, 100)
    raw = np.sqrt(((prediction.joints_mm[:, RIGHT] - truth.joints_mm[:, RIGHT]) ** 2).sum(-1))
    for joint in range(21):
        share = np.array([(raw[:, joint] <= limit).mean() for limit in limits])
        areas.append(np.trapezoid(share, limits) / 50)
    by_loops = {"PA-MPJPE": aligned.mean(0).mean(), "AUC joints": np.mean(areas), "F@15": np.mean(scores)}
    report = judge(PROTOCOLS["freihand"], [(truth, prediction)], "random")
    for metric, expected in RANDOM_FREIHAND.items():
        assert report.value(metric) == pytest.approx(by_loops[metric], abs=1e-6), metric
        assert report.value(metric) == pytest.approx(expected, abs=5e-5), metric
