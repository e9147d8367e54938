"""The compiled hands and rotations are those of `hands.model` and `geometry.rotations`."""

import numpy as np
import torch

from twohands.geometry.rotations import matrix_to_rotvec, rotvec_to_matrix
from twohands.hands.bundled import load_bundled_hand
from twohands.hands.parameters import HandParameters
from twohands.synth.posing import annotated_points, joints_and_tips, joints_at_rest, mesh, random_turn, to_matrix, to_rotvec


def test_hands_are_posed_as_the_model_poses_them():
    hand, draw = load_bundled_hand(), torch.Generator().manual_seed(3)
    for scale in (1e-4, 0.8, 2.0):
        p = HandParameters(
            scale * torch.randn(2, 16, 3, generator=draw), torch.randn(2, 10, generator=draw), torch.randn(2, 3, generator=draw)
        )
        truth = hand.pose_hands(p).mesh()
        found = mesh(p)
        torch.testing.assert_close(found.vertices_m, truth.vertices_m, atol=2e-6, rtol=0)
        torch.testing.assert_close(found.keypoints_m, hand.pose_hands(p).joints_and_tips(), atol=2e-6, rtol=0)
        marks = torch.from_numpy(annotated_points(found.keypoints_m.numpy()))
        torch.testing.assert_close(marks, truth.keypoints_m, atol=2e-6, rtol=0)
        assert torch.equal(joints_and_tips(p), found.keypoints_m)
        torch.testing.assert_close(joints_at_rest(p.shape), hand.with_shape(p.shape).joints_rest_m, atol=1e-7, rtol=0)


def test_rotations_are_those_of_the_vocabulary_at_every_angle():
    draw = torch.Generator().manual_seed(4)
    axis = torch.nn.functional.normalize(torch.randn(60, 3, generator=draw), dim=-1)
    rotvec = axis * torch.cat([torch.linspace(0, 0.02, 20), torch.linspace(0.02, 3.14, 40)])[:, None]
    R = rotvec_to_matrix(rotvec)
    torch.testing.assert_close(to_matrix(rotvec), R, atol=1e-6, rtol=0)
    torch.testing.assert_close(to_matrix(to_rotvec(R)), R, atol=2e-6, rtol=0)
    torch.testing.assert_close(to_rotvec(R)[:50], matrix_to_rotvec(R)[:50], atol=2e-5, rtol=0)


def test_random_turns_are_rotations_of_their_generator():
    first, again = (random_turn(np.random.default_rng(5), 4) for _ in range(2))
    assert torch.equal(first, again)
    torch.testing.assert_close(first @ first.mT, torch.eye(3).expand(4, 3, 3), atol=1e-6, rtol=0)
    torch.testing.assert_close(torch.linalg.det(first), torch.ones(4), atol=1e-6, rtol=0)
