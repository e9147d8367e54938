import igl
import numpy as np
import pytest
import trimesh

from twohands.collision.inside import inside_depth, penetrating_vertices, surface_gap_m, vertex_gaps_m
from twohands.collision.points import surface_distances, winding_numbers
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
        np.testing.assert_array_equal(found.inside, np.stack(exact))
        assert ((found.depth_m > 0) == found.inside).all()
        assert 0 < found.deepest_m < 0.05


def test_rays_and_distances_agree_with_libigl(pairs):
    """Points of a lattice whose lines run through vertices of the mesh, and the vertices of the other hand."""
    rng, faces = np.random.default_rng(0), pairs.faces[1].numpy()
    for vertices in pairs.vertices_m[np.flatnonzero(pairs.volume_cm3 > 5)[:2]].double().numpy():
        own = vertices[1]
        mixed = np.stack([rng.choice(own[:, axis], 400) for axis in range(3)], -1)
        points = np.concatenate([mixed, vertices[0, ::4]])
        expected = igl.winding_number(own, faces, points)
        assert len(np.unique(expected.round())) > 1
        np.testing.assert_array_equal(winding_numbers(points, own, faces), expected.round())
        squared = igl.point_mesh_squared_distance(points, own, faces)[0]
        np.testing.assert_allclose(surface_distances(points, own, faces), np.sqrt(squared), atol=1e-12)


def test_distance_to_faces_without_area():
    vertices = np.array([[0.0, 0, 0], [1, 0, 0], [2, 0, 0], [0, 3, 0], [0, 3, 0]])
    points = np.array([[1.5, 0, 2.0], [0, 4, 0], [0, 1, 0]])
    line, point = np.array([[0, 1, 2]]), np.array([[3, 4, 3]])
    np.testing.assert_allclose(surface_distances(points, vertices, line), [2, 4, 1])
    np.testing.assert_allclose(surface_distances(points, vertices, point), [np.sqrt(1.5**2 + 9 + 4), 1, 2])


def test_vertex_gaps_are_those_of_all_pairs_of_vertices(pairs):
    for pair in pairs.vertices_m[:3].double().numpy():
        apart = np.linalg.norm(pair[0, :, None] - pair[1], axis=-1)
        expected = np.stack([apart.min(1), apart.min(0)])
        np.testing.assert_allclose(vertex_gaps_m(pair, 0.02), np.where(expected <= 0.02, expected, np.inf))
    assert np.isinf(vertex_gaps_m(pair + np.array([[[0.0]], [[1.0]]]))).all()


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
