"""Hands from a teacher's keypoints."""

import torch

from twohands.geometry.rotations import geodesic_angle_rad, rotvec_to_matrix, turn_to
from twohands.hands.bundled import load_bundled_hand, load_hand_asset
from twohands.hands.from_keypoints import hands_from_keypoints
from twohands.hands.parameters import HandParameters


def test_hands_far_from_the_middle_are_not_turned() -> None:
    """A teacher speaks of axes along the line of sight; fitted are hands of the camera's."""
    hand, count = load_bundled_hand(), 6
    truth = HandParameters.zeros(count)
    angle = torch.linspace(0, 6, count)
    place = torch.stack([0.35 * angle.cos(), 0.3 * angle.sin(), torch.full((count,), 0.6)], -1)
    pose = truth.pose.clone()
    pose[:, :, 0] = 0.5 * torch.randn(count, 1, 3, generator=torch.Generator().manual_seed(0))
    truth = HandParameters(pose, truth.shape, place[:, None].expand(-1, 2, -1))
    side = torch.arange(count) % 2
    points = hand.pose_hands(truth).keypoints()[torch.arange(count), side]
    rays = points[..., :2] / points[..., 2:]
    middle = torch.cat([(rays.amax(1) + rays.amin(1)) / 2, torch.ones(count, 1)], -1)
    world = (points - points[:, :1]) @ turn_to(middle)
    found, error = hands_from_keypoints(hand, load_hand_asset().limits, rays, world, side)
    turned = [rotvec_to_matrix(p.pose[torch.arange(count), side, 0]) for p in (truth, found)]
    assert float(error.max()) < 0.02
    assert float(geodesic_angle_rad(*turned).max()) < 0.1
