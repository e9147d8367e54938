"""Fitting: the way back from keypoints to parameters."""

import numpy as np
import pytest
import torch

from twohands.geometry.rotations import rotvec_to_matrix
from twohands.hands import fitting
from twohands.hands.bundled import load_bundled_hand, load_hand_asset
from twohands.hands.chain import CHAIN16, matrices_to_rotvecs, rotvecs_to_matrices
from twohands.hands.fitting import FitConfig, KeypointObservation, fit_hands, place_hands, start_from_keypoints
from twohands.hands.limits import JointLimits
from twohands.hands.parameters import HandParameters
from twohands.joints import MIDDLE_MCP

CAMERA_DISTANCE = torch.tensor([0.0, 0.0, 0.6], dtype=torch.float64)


def posed(seed: int, batch: int = 4) -> tuple[HandParameters, torch.Tensor, KeypointObservation]:
    """Random hands inside the joint limits, their keypoints, and a perfect observation of them."""
    generator = torch.Generator().manual_seed(seed)
    limits = load_hand_asset().limits.to(torch.float64)
    low, high = limits.limits_rad.unbind(-1)
    angles = low + (high - low) * (0.2 + 0.5 * torch.rand(batch, 16, 3, generator=generator, dtype=torch.float64))
    right = limits.angles_to_rotvec(angles)
    left = right * torch.tensor([1.0, -1.0, -1.0], dtype=torch.float64)
    pose = torch.stack([left, right], 1)
    pose[:, :, 0] = torch.randn(batch, 2, 3, generator=generator, dtype=torch.float64) * 0.6
    place = torch.randn(batch, 2, 3, generator=generator, dtype=torch.float64) * 0.05 + CAMERA_DISTANCE
    truth = HandParameters(pose, torch.zeros(batch, 2, 10, dtype=torch.float64), place)
    hand = load_bundled_hand().to(torch.float64)
    points = hand.pose_hands(truth).keypoints()
    palm = (points[:, :, MIDDLE_MCP] - points[:, :, 0]).norm(dim=-1)[..., None]
    ones = torch.ones(batch, 2, 21, dtype=torch.float64)
    seen = KeypointObservation(points[..., :2] / points[..., 2:], 2000 * ones, (points[..., 2] - points[:, :, :1, 2]) / palm, 50 * ones)
    return truth, points, seen


def test_placing_recovers_the_translation() -> None:
    truth, _, seen = posed(0)
    hand = load_bundled_hand().to(torch.float64)
    start = HandParameters(truth.pose, truth.shape, torch.zeros_like(truth.translation_m))
    found = place_hands(hand, start, seen.ray_xy, seen.ray_weight)
    torch.testing.assert_close(found.translation_m, truth.translation_m, atol=1e-5, rtol=0)


def test_fit_comes_back_to_the_truth() -> None:
    truth, points, seen = posed(1)
    hand = load_bundled_hand().to(torch.float64)
    generator = torch.Generator().manual_seed(2)
    noise = torch.randn(truth.pose.shape, generator=generator, dtype=torch.float64) * 0.1
    start = HandParameters(truth.pose + noise, truth.shape, truth.translation_m + 0.02)
    found = fit_hands(hand, start, seen, FitConfig(iterations=15), load_hand_asset().limits)
    before = (hand.pose_hands(start).keypoints() - points).norm(dim=-1).mean()
    after = hand.pose_hands(found).keypoints()
    relative = ((after - after[:, :, :1]) - (points - points[:, :, :1])).norm(dim=-1).mean()
    assert relative < 0.003 < before
    assert (after[..., :2] / after[..., 2:] - seen.ray_xy).norm(dim=-1).max() < 0.003


def test_fit_starts_from_rough_keypoints() -> None:
    _, points, seen = posed(3)
    hand = load_bundled_hand().to(torch.float64)
    start = start_from_keypoints(hand, points - points[:, :, :1], seen.ray_xy, seen.ray_weight)
    found = fit_hands(hand, start, seen, FitConfig(orientation_rad=2.0, pose_rad=1.0, iterations=30), load_hand_asset().limits)
    after = hand.pose_hands(found).keypoints()
    assert ((after - after[:, :, :1]) - (points - points[:, :, :1])).norm(dim=-1).mean() < 0.006


def test_no_observation_moves_nothing() -> None:
    truth, _, seen = posed(4)
    hand = load_bundled_hand().to(torch.float64)
    blind = KeypointObservation(seen.ray_xy + 1, seen.ray_weight * 0, seen.depth + 1, seen.depth_weight * 0)
    found = fit_hands(hand, truth, blind, FitConfig(iterations=3))
    torch.testing.assert_close(rotvec_to_matrix(found.pose), rotvec_to_matrix(truth.pose), atol=1e-6, rtol=0)
    torch.testing.assert_close(found.translation_m, truth.translation_m, atol=1e-6, rtol=0)


def test_a_pair_without_meaning_stays_and_leaves_the_others_alone() -> None:
    truth, _, seen = posed(4)
    hand = load_bundled_hand().to(torch.float64)
    start = HandParameters(truth.pose + 0.05, truth.shape, truth.translation_m)
    alone = fit_hands(hand, start[1:], seen[1:])
    pose = start.pose.clone()
    pose[0] = torch.nan
    together = fit_hands(hand, HandParameters(pose, start.shape, start.translation_m), seen)
    assert bool(together.pose[0].isnan().all())
    torch.testing.assert_close(together.pose[1:], alone.pose)


def test_relative_translation_is_kept_against_bad_depths() -> None:
    """Two hands whose sizes say different depths settle so that their wrists keep the asked relative place."""
    truth, points, seen = posed(5)
    hand = load_bundled_hand().to(torch.float64)
    relative = points[:, 0, 0] - points[:, 1, 0]
    shifted = truth.translation_m.clone()
    shifted[:, 0, 2] += 0.1
    start = HandParameters(truth.pose, truth.shape, shifted)
    weak = KeypointObservation(seen.ray_xy, seen.ray_weight * 0.01, seen.depth, seen.depth_weight)
    weight = torch.full((4, 3), 1000.0, dtype=torch.float64)
    found = fit_hands(hand, start, weak, FitConfig(iterations=10), None, relative, weight)
    wrist = hand.pose_hands(found).keypoints()[:, :, 0]
    assert ((wrist[:, 0] - wrist[:, 1]) - relative).norm(dim=-1).max() < 0.003


@pytest.mark.parametrize("limited", [False, True])
def test_a_step_is_that_of_the_whole_system(limited: bool) -> None:
    """Eliminating fingers one by one gives what one dense system of a numerical Jacobian gives, also for fingers that are bent into the walls of their
    joints' ranges; pairs of a batch do not see one another."""
    truth, points, seen = posed(6, batch=2)
    hand = load_bundled_hand().to(torch.float64)
    start = HandParameters(truth.pose + 0.1, truth.shape + 0.3, truth.translation_m + 0.01)
    relative, weight = points[:, 0, 0] - points[:, 1, 0] + 0.01, torch.full((2, 3), 30.0, dtype=torch.float64)
    soft = KeypointObservation(seen.ray_xy, seen.ray_weight * 0.02, seen.depth, seen.depth_weight * 0.02)
    limits = load_hand_asset().limits
    narrow = JointLimits(limits.axes, limits.limits_rad * 0.6)
    problem = fitting._problem(hand, start, soft, FitConfig(limit_rad=0.5), narrow if limited else None, relative, weight, 0.5)
    here = problem.at(problem.R_start, problem.start)
    assert bool(np.count_nonzero(here.over) > 20) == limited
    damping = np.array([0.01, 0.2])
    stepped = here.stepped(damping)
    for k in range(2):

        def moved(increment: np.ndarray, k: int = k) -> np.ndarray:
            turn, place = increment[:96].reshape(2, 16, 3), increment[96:].reshape(2, 13)
            state = problem.at(rotvecs_to_matrices(turn)[None] @ problem.R_start, problem.start + place)
            return np.concatenate([part[k].ravel() for part in (state.observed, state.turned, state.moved, state.over, state.tie)])

        step = 1e-6 * np.eye(122)
        jacobian = np.stack([(moved(row) - moved(-row)) / 2e-6 for row in step], 1)
        normal = jacobian.T @ jacobian
        answer = -np.linalg.solve(normal + damping[k] * np.diag(np.diag(normal)), jacobian.T @ moved(np.zeros(122)))
        turn, place = answer[:96].reshape(2, 16, 3), answer[96:].reshape(2, 13)
        assert np.abs(turn).max() < 0.5 > np.abs(place[:, :10]).max(), "this test compares steps that are not held back"
        np.testing.assert_allclose(stepped.place[k], problem.start[k] + place, atol=1e-6)
        np.testing.assert_allclose(stepped.rotation[k], rotvecs_to_matrices(turn) @ problem.R_start[k], atol=1e-6)


def test_depths_that_are_too_flat_do_not_make_hands_small() -> None:
    """Depths count palms, so that they say nothing of a hand's size, however wrong they are."""
    truth, points, seen = posed(7, batch=16)
    hand = load_bundled_hand().to(torch.float64)
    flat = KeypointObservation(seen.ray_xy, seen.ray_weight / 10, seen.depth * 0.8, seen.depth_weight / 5)
    found = fit_hands(hand, truth, flat, FitConfig(iterations=20, depth_share=0.5))
    after = hand.pose_hands(found).keypoints()
    grown = (after[:, :, MIDDLE_MCP] - after[:, :, 0]).norm(dim=-1) / (points[:, :, MIDDLE_MCP] - points[:, :, 0]).norm(dim=-1)
    assert 0.98 < float(grown.mean()) < 1.02


def test_size_and_proportions_are_held_apart() -> None:
    """Keypoints of a hand of another size and other proportions, fitted at an unknown distance: what is held stays, and what is free follows."""
    truth, _, _ = posed(8)
    hand = load_bundled_hand().to(torch.float64)
    other = torch.zeros_like(truth.shape)
    other[..., 0], other[..., 3] = 1.5, 1.5
    points = hand.pose_hands(HandParameters(truth.pose, other, truth.translation_m)).keypoints()
    ones, none = torch.ones(4, 2, 21, dtype=torch.float64), torch.zeros(4, 2, 21, dtype=torch.float64)
    seen = KeypointObservation(points[..., :2] / points[..., 2:], 2000 * ones, none, none)
    found = fit_hands(
        hand, truth, seen, FitConfig(orientation_rad=1e-3, pose_rad=1e-3, shape=10.0, size=1e-3, depth_share=0.5, iterations=20)
    )
    assert found.shape[..., 0].abs().max() < 0.05
    assert found.shape[..., 3].mean() > 0.75
    found = fit_hands(
        hand, truth, seen, FitConfig(orientation_rad=1e-3, pose_rad=1e-3, shape=1e-3, size=10.0, depth_share=1e-3, iterations=20)
    )
    assert found.shape[..., 3].abs().max() < 0.05
    assert found.shape[..., 0].mean() > 0.75


def test_no_fit_stalls_in_a_wall() -> None:
    """Where fingers press against the ends of their ranges a fit ends where nothing lowers its cost any more: a derivative of the wall that is right at
    rest alone had it refuse step after step."""
    truth, _, seen = posed(9, batch=16)
    hand = load_bundled_hand().to(torch.float64)
    limits = load_hand_asset().limits
    narrow = JointLimits(limits.axes, limits.limits_rad * 0.5)
    start = HandParameters(truth.pose * 0.5, truth.shape, truth.translation_m)
    few, many = (fit_hands(hand, start, seen, FitConfig(iterations=n), narrow) for n in (10, 60))
    problem = fitting._problem(hand, start, seen, FitConfig(), narrow, None, None, 0.0)
    few_cost, many_cost = (
        problem.at(rotvecs_to_matrices(p.pose.numpy()[:, :, CHAIN16]), np.concatenate([p.shape, p.translation_m], -1)).cost
        for p in (few, many)
    )
    assert (few_cost < 1.01 * many_cost).all()


def test_limits_hold_softly() -> None:
    truth, _, seen = posed(8, batch=1)
    hand, limits = load_bundled_hand().to(torch.float64), load_hand_asset().limits.to(torch.float64)
    bent = truth.pose.clone()
    bent[:, 1, 1:] = limits.angles_to_rotvec(limits.limits_rad[..., 1] + 0.5)[1:]
    unseen = KeypointObservation(seen.ray_xy, 0 * seen.ray_weight, seen.depth, 0 * seen.depth_weight)
    found = fit_hands(hand, HandParameters(bent, truth.shape, truth.translation_m), unseen, FitConfig(iterations=20), limits)
    before, after = (limits.violation_rad(pose[0, 1])[1:].max() for pose in (bent, found.pose))
    assert after < 0.3 * before


def test_rotations_are_the_same_in_numpy() -> None:
    generator = torch.Generator().manual_seed(0)
    small = 10.0 ** torch.arange(-160, 1, 8, dtype=torch.float64)[:, None] * torch.tensor([0.6, -0.8, 0.0], dtype=torch.float64)
    half = torch.pi * torch.nn.functional.normalize(torch.randn(20, 3, generator=generator, dtype=torch.float64), dim=-1)
    rotvec = torch.cat([torch.zeros(1, 3, dtype=torch.float64), small, 0.999 * half, half])
    matrix = rotvecs_to_matrices(rotvec.numpy())
    np.testing.assert_allclose(matrix, rotvec_to_matrix(rotvec), atol=1e-14)
    np.testing.assert_allclose(matrices_to_rotvecs(matrix[:-20]), rotvec[:-20], atol=1e-12)
    np.testing.assert_allclose(rotvecs_to_matrices(matrices_to_rotvecs(matrix)), matrix, atol=1e-12)
