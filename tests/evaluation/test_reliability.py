"""Reliability curves, calibration and precision-recall against cases worked by hand."""

import numpy as np
import pytest

from twohands.evaluation.reliability import fit_scaling, precision_recall, reliability_curve


def test_a_curve_worked_by_hand():
    curve = reliability_curve(np.array([0.1, 0.3, 0.9, 0.7]), np.array([False, True, True, True]), bins=2)
    assert np.allclose(curve.stated, [0.2, 0.8])
    assert np.allclose(curve.observed, [0.5, 1.0])
    assert curve.error == pytest.approx((2 * 0.3 + 2 * 0.2) / 4)


def test_empty_bins_and_the_ends_of_the_scale():
    curve = reliability_curve(np.array([0.0, 1.0]), np.array([False, True]), bins=5)
    assert curve.count.tolist() == [1, 0, 0, 0, 1]
    assert np.isnan(curve.observed[2])
    assert curve.error == 0


def test_true_probabilities_have_no_error_and_need_no_scaling():
    rng = np.random.default_rng(0)
    p = rng.uniform(0, 1, 60_000)
    true = rng.random(60_000) < p
    assert reliability_curve(p, true).error < 0.01
    scaling = fit_scaling(p, true)
    assert scaling.slope == pytest.approx(1, abs=0.05)
    assert scaling.shift == pytest.approx(0, abs=0.05)


def test_scaling_undoes_what_was_done_to_the_log_odds():
    rng = np.random.default_rng(1)
    odds = rng.normal(0, 2, 60_000)
    true = rng.random(60_000) < 1 / (1 + np.exp(-odds))
    stated = 1 / (1 + np.exp(-(3 * odds + 1)))  # three times too sure, and too high
    scaling = fit_scaling(stated, true)
    assert scaling.slope == pytest.approx(1 / 3, abs=0.03)
    assert scaling.shift == pytest.approx(-1 / 3, abs=0.05)
    assert reliability_curve(scaling(stated), true).error < 0.01 < reliability_curve(stated, true).error


def test_one_outcome_alone_calibrates_nothing():
    with pytest.raises(ValueError, match="came true"):
        fit_scaling(np.array([0.2, 0.4]), np.array([True, True]))


def test_precision_and_recall_worked_by_hand():
    curve = precision_recall(np.array([0.9, 0.8, 0.7, 0.6]), np.array([True, False, True, False]), asked_for=4)
    assert np.allclose(curve.precision, [1, 1 / 2, 2 / 3, 1 / 2])
    assert np.allclose(curve.recall, [0.25, 0.25, 0.5, 0.5])
    assert curve.average_precision == pytest.approx(0.25 * 1 + 0.25 * 2 / 3)
    assert curve.at(0.75) == (0.5, 0.25)
    assert curve.at(0.95) == (1.0, 0.0)


def test_equal_scores_enter_together():
    both = precision_recall(np.array([0.5, 0.5]), np.array([True, False]), 1)
    assert both.precision.tolist() == [0.5]
    assert precision_recall(np.zeros(0), np.zeros(0, bool), 3).average_precision == 0


def test_a_hand_found_twice_is_an_error_of_the_caller():
    with pytest.raises(ValueError, match="found once"):
        precision_recall(np.array([0.5, 0.4]), np.array([True, True]), 1)
