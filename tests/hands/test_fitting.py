"""Fitting: the way back from keypoints to parameters."""

import torch

from twohands.geometry.rotations import rotvec_to_matrix
from twohands.hands.bundled import load_bundled_hand, load_hand_asset
from twohands.hands.fitting import FitConfig, KeypointObservation, fit_hands, place_hands, start_from_keypoints
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
    wrist = hand.pose_hands(found).joints_m[:, :, 0]
    assert ((wrist[:, 0] - wrist[:, 1]) - relative).norm(dim=-1).max() < 0.003
