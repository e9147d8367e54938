import pytest
import torch

from twohands.geometry.camera import Camera
from twohands.geometry.rotations import random_rotation, rotvec_to_matrix
from twohands.hands import mirror
from twohands.hands.bundled import load_bundled_hand
from twohands.hands.parameters import HandParameters


def parameters(*batch: int) -> HandParameters:
    generator = torch.Generator().manual_seed(0)
    pose, shape, translation = (torch.randn(*batch, *size, generator=generator) for size in ((2, 16, 3), (2, 10), (2, 3)))
    return HandParameters(0.7 * pose, shape, translation)


@pytest.mark.parametrize("batch", [(), (3,), (2, 2)])
def test_twice_is_identity(batch):
    given = parameters(*batch)
    twice = mirror.mirror_parameters(mirror.mirror_parameters(given))
    for field, values in given.arrays().items():
        assert (twice.arrays()[field] == values).all()
    rotations = rotvec_to_matrix(given.pose)
    for function, values in (
        (mirror.mirror_points, given.pose),
        (mirror.mirror_rotvec, given.pose),
        (mirror.mirror_rotation, rotations),
        (mirror.left_as_right_points, given.pose),
        (mirror.left_as_right_rotvec, given.pose),
        (mirror.left_as_right_rotation, rotations),
        (lambda x: mirror.swap_hands(x, -3), given.pose),
        (lambda x: mirror.mirror_xy_image(x, 8.0), torch.tensor([[0.5, 3.0], [6.25, 1.0]])),
    ):
        assert torch.equal(function(function(values)), values)


def test_mirrored_parameters_pose_the_mirrored_mesh():
    model = load_bundled_hand()
    given = parameters(3)
    mesh, mirrored = model.pose_hands(given).mesh(), model.pose_hands(mirror.mirror_parameters(given)).mesh()
    for field in ("vertices_m", "keypoints_m"):
        expected = mirror.mirror_points(mirror.swap_hands(getattr(mesh, field), -3))
        torch.testing.assert_close(getattr(mirrored, field), expected, atol=2e-6, rtol=0)


def test_rotations_as_vectors_and_as_matrices_mirror_alike():
    rotvec = parameters(5).pose
    torch.testing.assert_close(rotvec_to_matrix(mirror.mirror_rotvec(rotvec)), mirror.mirror_rotation(rotvec_to_matrix(rotvec)))
    torch.testing.assert_close(
        rotvec_to_matrix(mirror.left_as_right_rotvec(rotvec)), mirror.left_as_right_rotation(rotvec_to_matrix(rotvec))
    )


def test_a_rotated_point_mirrors_to_the_mirrored_rotation_of_the_mirrored_point():
    rotation = random_rotation((6,), torch.Generator().manual_seed(1))
    points = torch.randn(6, 3, 1, generator=torch.Generator().manual_seed(2))
    mirrored = mirror.mirror_rotation(rotation) @ mirror.mirror_points(points[..., 0])[..., None]
    torch.testing.assert_close(mirrored[..., 0], mirror.mirror_points((rotation @ points)[..., 0]))
    torch.testing.assert_close(torch.linalg.det(mirror.mirror_rotation(rotation)), torch.ones(6))


def test_left_as_right_leaves_the_right_hand():
    values = parameters(2).pose
    for function in (mirror.left_as_right_points, mirror.left_as_right_rotvec):
        assert torch.equal(function(values)[:, mirror.RIGHT], values[:, mirror.RIGHT])
    assert torch.equal(mirror.left_as_right_rotvec(values)[:, mirror.LEFT], mirror.mirror_rotvec(values[:, mirror.LEFT]))


def test_left_hand_as_right_is_the_right_hand():
    """A left hand and the right hand of the mirrored pose have the same mesh, once the left one is mirrored."""
    given = parameters()
    pose = given.pose.clone()
    pose[mirror.LEFT] = mirror.mirror_rotvec(pose[mirror.RIGHT])
    shape = given.shape[[1, 1]]
    vertices = load_bundled_hand().pose_hands(HandParameters(pose, shape, torch.zeros(2, 3))).mesh().vertices_m
    left, right = mirror.left_as_right_points(vertices)
    torch.testing.assert_close(left, right, atol=1e-6, rtol=0)


def test_pixels_of_the_mirrored_photo():
    """Flipping a centred photo shows the mirrored points."""
    camera = Camera.from_fov(640, 480, 60.0)
    points = torch.randn(9, 3, generator=torch.Generator().manual_seed(3)) * 0.1 + torch.tensor([0.0, 0.0, 0.6])
    expected = mirror.mirror_xy_image(camera.project(points), 640)
    torch.testing.assert_close(camera.project(mirror.mirror_points(points)), expected)


def test_swap_needs_the_hand_axis():
    with pytest.raises(ValueError, match="not the axis of two hands"):
        mirror.swap_hands(torch.zeros(2, 16, 3), 1)
