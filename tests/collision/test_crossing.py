import numpy as np
import pytest
import torch
import trimesh

from twohands.collision.crossing import crossing_volume_cm3, hands_cross, surfaces_cross


def test_hands_cross_exactly_where_they_share_volume(pairs):
    crossing = hands_cross(pairs.vertices_m, pairs.faces)
    assert torch.equal(crossing, torch.from_numpy(pairs.volume_cm3 > 0))
    assert 10 < int(crossing.sum()) < 90, "both answers occur"


@pytest.mark.parametrize("threads", [1, 2, None])
def test_volumes_measured_where_hands_cross_are_the_volumes_of_all(pairs, threads):
    found = crossing_volume_cm3(pairs.vertices_m, pairs.faces, threads)
    assert torch.equal(found, torch.from_numpy(pairs.volume_cm3))


@pytest.mark.parametrize(
    ("shift_m", "expected"), [((0.03, 0, 0), True), ((0.5, 0, 0), False), ((0.03, 0.03, 0), False), ((0, 0, 0.0401), False)]
)
def test_balls_cross_when_nearer_than_their_diameter(shift_m, expected):
    ball = trimesh.creation.icosphere(4, 0.02)
    vertices, faces = np.array(ball.vertices), np.array(ball.faces)
    assert surfaces_cross(vertices, faces, vertices + np.array(shift_m), faces) is expected


def test_a_ball_within_another_is_left_to_the_volume():
    ball = trimesh.creation.icosphere(3, 0.02)
    vertices, faces = np.array(ball.vertices), np.array(ball.faces)
    assert surfaces_cross(vertices, faces, 0.5 * vertices, faces)


def test_neither_order_nor_place_matters(pairs):
    shifted = pairs.vertices_m[:20].flip(1) + torch.tensor([0.3, -0.2, 0.7])
    assert torch.equal(hands_cross(shifted, pairs.faces.flip(0)), hands_cross(pairs.vertices_m[:20], pairs.faces))
