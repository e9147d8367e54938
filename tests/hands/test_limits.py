import pytest
import torch

from twohands.hands.bundled import load_hand_asset
from twohands.hands.limits import JointLimits

LIMITS = load_hand_asset().limits


def normal(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(2))


def inside(*batch: int) -> torch.Tensor:
    low, high = LIMITS.limits_rad.unbind(-1)
    return LIMITS.angles_to_rotvec(low + (high - low) * torch.rand(*batch, 16, 3, generator=torch.Generator().manual_seed(3)))


@pytest.mark.parametrize("batch", [(), (4,), (2, 3)])
def test_angles_and_rotation_vectors_are_inverse(batch):
    angles = normal(*batch, 16, 3)
    torch.testing.assert_close(LIMITS.rotvec_to_angles(LIMITS.angles_to_rotvec(angles)), angles)
    torch.testing.assert_close(LIMITS.angles_to_rotvec(LIMITS.rotvec_to_angles(angles)), angles)


def test_clamp_is_a_projection():
    wild = 3 * normal(5, 16, 3)
    tame = LIMITS.clamp(wild)
    torch.testing.assert_close(LIMITS.clamp(tame), tame)
    assert LIMITS.violation_rad(tame).max() < 1e-5
    torch.testing.assert_close(LIMITS.clamp(inside(5)), inside(5))


def test_violation_is_the_distance_to_the_limits():
    wild = 3 * normal(5, 16, 3)
    moved = LIMITS.rotvec_to_angles(wild) - LIMITS.rotvec_to_angles(LIMITS.clamp(wild))
    torch.testing.assert_close(LIMITS.violation_rad(wild), moved.abs(), atol=1e-5, rtol=1e-5)
    assert LIMITS.violation_rad(inside(5)).max() < 1e-5


def test_rest_pose_is_allowed():
    assert LIMITS.violation_rad(torch.zeros(16, 3)).max() == 0


def test_skewed_axes_and_empty_ranges_are_refused():
    skewed = LIMITS.axes.clone()
    skewed[3, 0] = skewed[3, 1]
    with pytest.raises(ValueError, match="orthonormal"):
        JointLimits.from_axes(skewed, LIMITS.limits_rad)
    with pytest.raises(ValueError, match=r"\(min, max\)"):
        JointLimits.from_axes(LIMITS.axes, LIMITS.limits_rad.flip(-1))
