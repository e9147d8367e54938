import torch

from twohands.geometry.rotations import rotvec_to_matrix
from twohands.hands.bundled import bundled_uv, load_bundled_hand, load_hand_asset
from twohands.joints import MANO16, MANO16_PARENTS


def test_left_is_the_right_one_mirrored_to_the_bit():
    data = load_bundled_hand().data
    sign = torch.tensor([-1.0, 1.0, 1.0])
    assert torch.equal(data.v_template[0], data.v_template[1] * sign)
    assert torch.equal(data.shapedirs[0], data.shapedirs[1] * sign[:, None])
    assert torch.equal(data.faces[0], data.faces[1].flip(1))


def test_weights_and_regressor_are_convex():
    """Rows that sum to one: a rigid motion of the joints moves the mesh rigidly, and back."""
    asset = load_hand_asset()
    for rows in (asset.weights, asset.J_regressor):
        torch.testing.assert_close(rows.sum(-1), torch.ones(len(rows)), atol=1e-5, rtol=0)
        assert rows.min() >= -1e-6
    assert torch.equal(asset.part, asset.weights.argmax(1))


def test_rest_frame():
    """Right hand: wrist at the origin, fingers along -x, thumb towards +z."""
    joints = load_bundled_hand().joint_template[1]
    assert joints[0].norm() < 1e-3
    middle, thumb, pinky = (joints[MANO16.index(name)] for name in ("middle1", "thumb1", "pinky1"))
    assert middle[0] < -0.05
    assert middle[0].abs() > 5 * middle[1:].abs().max()
    assert thumb[2] > 0.01 > -0.01 > pinky[2]
    for joint, parent in enumerate(MANO16_PARENTS):
        if MANO16[joint][:-1] not in ("wris", "thumb"):
            assert joints[joint][0] < joints[parent][0]


def test_flexion_is_positive_towards_the_palm():
    """The back of the hand looks along +y, so a positive flexion must move fingertips to -y."""
    model, limits = load_bundled_hand(), load_hand_asset().limits
    angles = torch.zeros(2, 16, 3)
    angles[1, [MANO16.index(f"{finger}1") for finger in ("index", "middle", "ring", "pinky")], 0] = 0.5
    bent = model.with_shape(torch.zeros(2, 10)).with_pose(rotvec_to_matrix(limits.angles_to_rotvec(angles))).keypoints()[1]
    rest = model.with_shape(torch.zeros(2, 10)).with_pose(rotvec_to_matrix(torch.zeros(2, 16, 3))).keypoints()[1]
    assert (bent - rest)[[8, 12, 16, 20], 1].max() < -0.02


def test_seven_keypoints_lie_beside_their_joints_and_tips_and_move_with_them():
    """On the way to another joint, in any pose; the rest are joints."""
    pose = rotvec_to_matrix(torch.randn(3, 2, 16, 3, generator=torch.Generator().manual_seed(1)))
    posed = load_bundled_hand().with_shape(torch.zeros(2, 10)).with_pose(pose)
    moved = posed.keypoints() - posed.joints_and_tips()
    tips, last_joints = [4, 8, 12, 16, 20], [3, 7, 11, 15, 19]
    assert moved.norm(dim=-1).amax((0, 1)).nonzero()[:, 0].tolist() == sorted([0, 1, *tips])
    wrist, knuckle, base, next_one = (posed.joints_m[:, :, MANO16.index(name)] for name in ("wrist", "middle1", "thumb1", "thumb2"))
    torch.testing.assert_close(moved[:, :, 0], 0.066 * (knuckle - wrist), atol=1e-6, rtol=0)
    torch.testing.assert_close(moved[:, :, 1], 0.25 * (next_one - base), atol=1e-6, rtol=0)
    ends = posed.joints_and_tips()
    torch.testing.assert_close(moved[:, :, tips], 0.1 * (ends[:, :, last_joints] - ends[:, :, tips]), atol=1e-6, rtol=0)


def test_texture_coordinates_and_wrist():
    vt, ft = bundled_uv()
    asset = load_hand_asset()
    assert ft.shape == load_bundled_hand().faces.shape
    assert 0 <= ft.min() <= ft.max() < len(vt)
    assert 0 <= vt.min() <= vt.max() <= 1
    # Corners of one vertex may differ across a seam, but seams are few.
    corners = torch.stack([asset.faces.flatten(), asset.ft.flatten()], 1).unique(dim=0)
    assert len(corners) == len(vt) < 1.3 * len(asset.v_template)
    loop = asset.wrist_loop
    assert len(loop.unique()) == len(loop)
    assert asset.v_template[loop, 0].min() > 0


def test_loading_twice_is_free():
    assert load_bundled_hand() is load_bundled_hand()
