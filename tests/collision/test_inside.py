import igl
import numpy as np
import pytest
import trimesh

from twohands.collision.inside import inside_depth, penetrating_vertices, surface_gap_m
from twohands.geometry.mesh import close_mesh


@pytest.fixture(scope="module")
def ball():
    sphere = trimesh.creation.icosphere(5, 0.02)
    return np.array(sphere.vertices), np.array(sphere.faces)


def test_depth_in_a_ball(ball):
    points = np.random.default_rng(0).uniform(-0.03, 0.03, (500, 3))
    inside, depth_m = inside_depth(points, *ball)
    radius = np.linalg.norm(points, axis=1)
    clear = abs(radius - 0.02) > 2e-5
    np.testing.assert_array_equal(inside[clear], radius[clear] < 0.02)
    np.testing.assert_allclose(depth_m[inside], 0.02 - radius[inside], atol=2e-5)
    assert not depth_m[~inside].any()


def test_where_two_balls_of_one_mesh_overlap_is_inside(ball):
    vertices, faces = ball
    twice, both = np.concatenate([vertices, vertices + np.array([0.01, 0, 0])]), np.concatenate([faces, faces + len(vertices)])
    inside, _ = inside_depth(np.array([[0.005, 0, 0], [0.0201, 0, 0], [0.0, 0.021, 0]]), twice, both)
    assert inside.tolist() == [True, True, False]


def test_hands_agree_with_the_exact_winding_number(pairs):
    hit = np.flatnonzero((pairs.volume_cm3 > 0.5) & (pairs.volume_cm3 < 20))[:4]
    vertices, faces = pairs.vertices_m[hit].double().numpy(), pairs.faces.numpy()
    for pair in vertices:
        exact = [igl.winding_number(pair[b], faces[b], pair[a]) > 0.5 for a, b in ((0, 1), (1, 0))]
        found = penetrating_vertices(pair, faces)
        assert exact[0].any() or exact[1].any()
        assert (found.inside == np.stack(exact)).mean() > 0.999
        assert ((found.depth_m > 0) == found.inside).all()
        assert 0 < found.deepest_m < 0.05


def test_gap_of_two_balls(ball):
    vertices, faces = ball
    both = np.stack([faces, faces])
    for offset, expected in ((0.043, 0.003), (0.039, 0.0), (0.1, 0.01)):
        assert surface_gap_m(np.stack([vertices, vertices + np.array([0, 0, offset])]), both) == pytest.approx(expected, abs=2e-5)


def test_gap_is_zero_where_hands_share_volume_and_nowhere_else(pairs):
    for pair, volume in zip(pairs.vertices_m[:40].numpy(), pairs.volume_cm3, strict=False):
        assert (surface_gap_m(pair, pairs.faces.numpy()) == 0) == (volume > 0)


def test_disjoint_hands_have_no_vertex_inside(pairs):
    pair = pairs.vertices_m[0].numpy().copy()
    pair[1] += 1.0
    found = penetrating_vertices(pair, pairs.faces.numpy())
    assert not found.inside.any()
    assert found.deepest_m == 0


def test_an_open_mesh_is_refused_until_it_is_closed(ball):
    vertices, faces = ball
    with pytest.raises(ValueError, match="close_mesh"):
        inside_depth(np.zeros((1, 3)), vertices, faces[1:])
    assert inside_depth(np.zeros((1, 3)), *close_mesh(vertices, faces[1:]))[0].all()
