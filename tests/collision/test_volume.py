import math

import numpy as np
import pytest
import torch
import trimesh

from twohands.collision.volume import hands_shared_volume_cm3, shared_volume_cm3, volume_cm3, voxel_volume_cm3
from twohands.errors import UserError
from twohands.hands.bundled import load_bundled_hand

APART_M = np.array([0.03, 0, 0])
LENS_CM3 = math.pi * (4 * 2 + 3) * (2 * 2 - 3) ** 2 / 12


@pytest.fixture(scope="module")
def ball():
    sphere = trimesh.creation.icosphere(5, 0.02)
    return np.array(sphere.vertices), np.array(sphere.faces)


def test_two_balls_share_a_lens(ball):
    vertices, faces = ball
    assert shared_volume_cm3(vertices, faces, vertices + APART_M, faces) == pytest.approx(LENS_CM3, rel=2e-3)


@pytest.mark.parametrize(("pitch_mm", "expected_cm3"), [(2.0, 3.040), (1.0, 2.864), (0.5, 2.875)])
def test_voxels_of_two_balls(ball, pitch_mm, expected_cm3):
    vertices, faces = ball
    found = voxel_volume_cm3(vertices, faces, vertices + APART_M, faces, pitch_mm)
    assert found == pytest.approx(expected_cm3, abs=6e-4)


def test_disjoint_is_zero_and_nested_is_the_smaller(ball):
    vertices, faces = ball
    for measure in (shared_volume_cm3, voxel_volume_cm3):
        assert measure(vertices, faces, vertices + 0.5, faces) == 0
        # Boxes overlap, balls do not.
        assert measure(vertices, faces, vertices + 0.035 / math.sqrt(2), faces) == 0
        assert measure(vertices, faces, 2 * vertices, faces) == pytest.approx(volume_cm3(vertices, faces), rel=5e-3)


def test_a_hand_with_itself_is_its_volume():
    hand = load_bundled_hand()
    vertices, faces = hand.data.v_template[1].numpy(), hand.faces[1].numpy()
    own = volume_cm3(vertices, faces)
    assert 150 < own < 500
    assert shared_volume_cm3(vertices, faces, vertices, faces) == pytest.approx(own, rel=1e-5)
    assert voxel_volume_cm3(vertices, faces, vertices, faces) == pytest.approx(own, rel=2e-3)


def test_far_from_the_origin_nothing_changes(ball):
    vertices, faces = ball
    near = shared_volume_cm3(vertices, faces, vertices + APART_M, faces)
    assert shared_volume_cm3(vertices + 50, faces, vertices + 50 + APART_M, faces) == pytest.approx(near, rel=1e-5)


def test_where_a_mesh_covers_itself_twice_the_boolean_counts_twice_and_voxels_once(ball):
    vertices, faces = ball
    twice, both = np.concatenate([vertices, vertices + APART_M]), np.concatenate([faces, faces + len(vertices)])
    around = 5 * vertices
    single = volume_cm3(vertices, faces)
    assert shared_volume_cm3(twice, both, around, faces) == pytest.approx(2 * single, rel=1e-3)
    assert voxel_volume_cm3(twice, both, around, faces) == pytest.approx(2 * single - LENS_CM3, rel=5e-3)


def test_pairs_of_hands_agree_with_voxels_and_with_their_mirror_image(pairs):
    hit = np.flatnonzero((pairs.volume_cm3 > 0.2) & (pairs.volume_cm3 < 20))[:10]
    vertices, (left, right) = pairs.vertices_m[hit].numpy(), pairs.faces.numpy()
    voxels = [voxel_volume_cm3(pair[0], left, pair[1], right) for pair in vertices]
    np.testing.assert_allclose(voxels, pairs.volume_cm3[hit], rtol=0.02, atol=0.03)
    mirrored = pairs.vertices_m[hit].flip(1) * torch.tensor([-1.0, 1, 1])
    np.testing.assert_allclose(hands_shared_volume_cm3(mirrored, pairs.faces).numpy(), pairs.volume_cm3[hit], rtol=1e-4)


def test_batch_axes(pairs):
    assert hands_shared_volume_cm3(pairs.vertices_m[:4].view(2, 2, 2, -1, 3), pairs.faces).shape == (2, 2)
    assert hands_shared_volume_cm3(pairs.vertices_m[0], pairs.faces).shape == ()


def test_what_bounds_no_volume_is_refused(ball):
    vertices, faces = ball
    with pytest.raises(UserError, match=r"first mesh .* close"):
        shared_volume_cm3(vertices, faces[1:], vertices, faces)
    with pytest.raises(ValueError, match="not closed"):
        voxel_volume_cm3(vertices, faces, vertices, faces[1:])
    with pytest.raises(ValueError, match="not closed"):
        volume_cm3(vertices, faces[1:])
    with pytest.raises(ValueError, match="not closed"):
        shared_volume_cm3(vertices, faces[1:], vertices + 1, faces)
    with pytest.raises(ValueError, match="pitch_mm"):
        voxel_volume_cm3(vertices, faces, vertices, faces, 0)
