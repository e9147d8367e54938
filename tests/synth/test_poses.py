import torch

from twohands.hands.bundled import load_hand_asset
from twohands.synth.poses import sample_poses


def test_poses_lie_within_the_joint_limits_and_leave_the_wrist_alone():
    poses = sample_poses(200, 3)
    assert poses.shape == (200, 16, 3)
    assert poses.dtype == torch.float32
    assert bool((poses[:, 0] == 0).all())
    assert float(load_hand_asset().limits.violation_rad(poses)[:, 1:].max()) < 1e-5


def test_a_seed_names_its_poses():
    assert torch.equal(sample_poses(20, 5), sample_poses(20, 5))
    assert not torch.equal(sample_poses(20, 5), sample_poses(20, 6))


def test_end_joints_follow_the_middle_ones():
    limits = load_hand_asset().limits
    angles = limits.rotvec_to_angles(sample_poses(400, 0))[..., 0]
    middle, end = angles[:, 2:13:3].flatten(), angles[:, 3:13:3].flatten()
    assert float(torch.corrcoef(torch.stack([middle, end]))[0, 1]) > 0.8
    # Both stretched and closed fingers are common.
    assert 0.1 < float((middle < 0.3).float().mean()) < 0.7
    assert 0.1 < float((middle > 1.2).float().mean()) < 0.7
