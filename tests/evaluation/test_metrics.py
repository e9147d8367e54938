import numpy as np
import pytest

from twohands.evaluation import metrics


def random_hands(*batch: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(*batch, 21, 3)) * 30.0


def rotation(seed: int) -> np.ndarray:
    q, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    return q * np.sign(np.linalg.det(q))


def test_mpjpe_ignores_where_the_hand_is_and_nothing_else():
    true = random_hands(4)
    assert metrics.mpjpe_mm(true + 100.0, true) == pytest.approx(np.zeros(4))
    assert (metrics.mpjpe_mm(true * 1.1, true) > 1).all()


def test_mpjpe_by_hand():
    true = np.zeros((21, 3))
    predicted = np.zeros((21, 3))
    predicted[1] = [3.0, 4.0, 0.0]
    assert metrics.mpjpe_mm(predicted, true) == pytest.approx(5.0 / 21)  # the root counts as a joint


def test_masked_joints_may_hold_nan():
    true, valid = random_hands(3), np.ones((3, 21), bool)
    true[:, 7], valid[:, 7] = np.nan, False
    predicted = np.nan_to_num(true) + 1.0
    assert metrics.mpjpe_mm(predicted, true, valid) == pytest.approx(np.zeros(3))
    assert metrics.pa_mpjpe_mm(predicted, true, valid) == pytest.approx(np.zeros(3))


def test_a_hand_whose_root_is_not_valid_has_no_mpjpe():
    valid = np.ones((2, 21), bool)
    valid[0, 0] = False
    error = metrics.mpjpe_mm(random_hands(2, seed=1), random_hands(2), valid)
    assert np.isnan(error[0])
    assert np.isfinite(error[1])


def test_mean_over_nothing_is_nan_without_a_warning():
    assert np.isnan(metrics.mean_over_valid(np.ones(5), np.zeros(5, bool)))


def test_mpvpe_moves_each_mesh_by_its_own_root():
    vertices = np.random.default_rng(0).normal(size=(2, 50, 3))
    shift = np.array([[5.0, 0.0, 0.0], [0.0, 7.0, 0.0]])
    assert metrics.mpvpe_mm(vertices + shift[:, None], vertices, shift, np.zeros((2, 3))) == pytest.approx(np.zeros(2))
    assert metrics.mpvpe_mm(vertices + shift[:, None], vertices, 0 * shift, np.zeros((2, 3))) == pytest.approx([5.0, 7.0])


def test_mrrpe_is_left_minus_right_and_blind_to_a_common_shift():
    true = np.array([[10.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    assert metrics.mrrpe_mm(true + 50.0, true) == pytest.approx(0.0)
    assert metrics.mrrpe_mm(true[::-1], true) == pytest.approx(20.0)


def test_alignment_undoes_every_similarity():
    true = random_hands(3)
    moved = np.stack([s * hand @ rotation(k).T + 9.0 for k, (s, hand) in enumerate(zip([0.5, 1.0, 3.0], true, strict=True))])
    assert metrics.pa_mpjpe_mm(moved, true) == pytest.approx(np.zeros(3), abs=1e-9)


def test_a_mirrored_hand_aligns_only_by_freihands_rule():
    true = random_hands()
    mirrored = true * [-1.0, 1.0, 1.0]
    assert metrics.freihand_pa_mpjpe_mm(mirrored, true) < 1e-6
    assert metrics.pa_mpjpe_mm(mirrored, true) > 1.0


def test_the_two_aligners_agree_on_a_good_hand():
    true = random_hands(5)
    predicted = true + np.random.default_rng(1).normal(size=true.shape)
    assert metrics.pa_mpjpe_mm(predicted, true) == pytest.approx(metrics.freihand_pa_mpjpe_mm(predicted, true), abs=1e-6)


def test_alignment_never_loses_to_moving_the_mean():
    true, predicted = random_hands(20), random_hands(20, seed=1)
    aligned = metrics.similarity_aligned(predicted, true)
    plain = predicted - predicted.mean(1, keepdims=True) + true.mean(1, keepdims=True)
    assert (((aligned - true) ** 2).sum((1, 2)) <= ((plain - true) ** 2).sum((1, 2)) + 1e-9).all()


@pytest.mark.parametrize("aligner", [metrics.similarity_aligned, metrics.freihand_aligned])
def test_points_that_coincide_align_to_the_mean(aligner):
    true = random_hands()
    assert aligner(np.zeros((21, 3)), true) == pytest.approx(np.tile(true.mean(0), (21, 1)))


def test_pck_is_strict_and_counts_misses():
    errors = np.array([0.0, 0.1, 0.2])
    assert metrics.pck(errors, 0.1) == pytest.approx(1 / 3)
    assert metrics.pck(errors, 0.15, count=8) == pytest.approx(2 / 8)


@pytest.mark.parametrize(("error_mm", "area"), [(0.0, 1.0), (5.0, 0.904040), (10.0, 0.803030), (60.0, 0.0)])
def test_auc_of_a_constant_error(error_mm, area):
    assert metrics.auc(np.full(10, error_mm), np.linspace(0, 50, 100)) == pytest.approx(area, abs=5e-7)
