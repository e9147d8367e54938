"""Rigid motions of parameters are those of the vertices."""

import torch

from scenes import two_hands
from twohands.geometry.rotations import random_rotation
from twohands.hands.parameters import HandParameters
from twohands.hands.rigid import move_hands, resized_hands, rigid_between, rotation_between


def test_every_vertex_moves(hand, generator):
    start = two_hands(0.1)
    batch = HandParameters(
        start.pose + 0.3 * torch.randn(3, 2, 16, 3, generator=generator),
        torch.randn(3, 2, 10, generator=generator),
        start.translation_m + torch.randn(3, 2, 3, generator=generator),
    )
    R, t = random_rotation((3,), generator), torch.randn(3, 3, generator=generator)
    moved = move_hands(hand, batch, R, t)
    expected = torch.einsum("bij,bhvj->bhvi", R, hand.pose_hands(batch).mesh().vertices_m) + t[:, None, None]
    torch.testing.assert_close(hand.pose_hands(moved).mesh().vertices_m, expected, atol=5e-6, rtol=0)
    assert torch.equal(moved.shape, batch.shape)


def test_a_motion_is_found_again(generator):
    R, t = random_rotation((), generator), torch.randn(3, generator=generator)
    points = torch.randn(50, 3, generator=generator)
    found_R, found_t, residual = rigid_between(points, points @ R.T + t)
    torch.testing.assert_close(found_R, R, atol=1e-5, rtol=0)
    torch.testing.assert_close(found_t, t, atol=1e-5, rtol=0)
    assert residual < 1e-5
    assert abs(rigid_between(points, points + torch.randn(50, 3, generator=generator))[2] - 3**0.5) < 0.5


def test_smallest_rotation(generator):
    a, b = torch.randn(2, 3, generator=generator)
    R = rotation_between(a, b)
    torch.testing.assert_close(R @ (a / a.norm()), b / b.norm())
    axis = torch.linalg.cross(a, b)
    torch.testing.assert_close(R @ axis, axis)
    torch.testing.assert_close(rotation_between(a, 2 * a), torch.eye(3))


def test_a_larger_hand_farther_away_looks_the_same(hand, generator):
    place = torch.tensor([0.05, -0.02, 0.5]).expand(3, 2, 3)
    near = HandParameters(torch.randn(3, 2, 16, 3, generator=generator) * 0.3, torch.randn(3, 2, 10, generator=generator), place)
    points, larger = (hand.pose_hands(p).keypoints() for p in (near, resized_hands(hand, near, 1.1)))
    assert (larger - 1.1 * points).norm(dim=-1).max() < 0.0025
    assert (larger - 1.1 * points).norm(dim=-1).mean() < 0.0008
