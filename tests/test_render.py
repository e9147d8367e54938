import numpy as np
import pytest

from twohands.render import NEAR_M, interpolate, rasterize, smooth_normals

SIZE = 48
FOCAL = np.full(2, 60.0, np.float32)
PRINCIPAL = np.array([23.3, 24.6], np.float32)


def sphere(radius: float, centre: tuple[float, float, float], around: int = 96) -> tuple[np.ndarray, np.ndarray]:
    """A closed ball of quads split in two, faces counter-clockwise seen from outside."""
    latitude = np.linspace(-np.pi / 2, np.pi / 2, around // 2)
    longitude = np.linspace(0, 2 * np.pi, around, endpoint=False)
    la, lo = np.meshgrid(latitude, longitude, indexing="ij")
    points = np.stack([np.cos(la) * np.cos(lo), np.cos(la) * np.sin(lo), np.sin(la)], -1).reshape(-1, 3) * radius + centre
    a = np.arange(len(points)).reshape(la.shape)
    b = np.roll(a, -1, 1)
    faces = np.concatenate([np.stack(f, -1).reshape(-1, 3) for f in ((a[:-1], b[:-1], b[1:]), (a[:-1], b[1:], a[1:]))])
    return points.astype(np.float32), faces.astype(np.int32)


def slow_twin(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ray against plane for every pixel and triangle, in double precision: nearest face and depth."""
    v, u = np.mgrid[:SIZE, :SIZE] + 0.5
    rays = np.stack([(u - PRINCIPAL[0]) / FOCAL[0], (v - PRINCIPAL[1]) / FOCAL[1], np.ones_like(u)], -1)
    face, depth = np.full((SIZE, SIZE), -1), np.full((SIZE, SIZE), np.inf)
    for t, (a, b, c) in enumerate(vertices.astype(np.float64)[faces]):
        try:
            weights = rays @ np.linalg.inv(np.stack([a, b, c]))
        except np.linalg.LinAlgError:
            continue
        z = 1 / np.where(weights.sum(-1) > 0, weights.sum(-1), np.nan)
        hit = (weights >= 0).all(-1) & (z < depth)
        face[hit], depth[hit] = t, z[hit]
    return face, depth


def test_random_triangles_agree_with_a_slow_twin():
    rng = np.random.default_rng(0)
    centre = rng.uniform([-0.4, -0.4, 0.6], [0.4, 0.4, 2.0], (60, 1, 3))
    vertices = (centre + rng.normal(0, 0.15, (60, 3, 3))).reshape(-1, 3).astype(np.float32)
    vertices[:, 2] = np.maximum(vertices[:, 2], 0.2)
    faces = np.arange(180, dtype=np.int32).reshape(-1, 3)
    raster = rasterize(vertices, faces, FOCAL, PRINCIPAL, SIZE, SIZE)
    face, depth = slow_twin(vertices, faces)
    # Pixels on an edge may fall on either side in single precision.
    agree = raster.face == face
    assert agree.mean() > 0.995
    both = agree & (face >= 0)
    np.testing.assert_allclose(raster.depth_m[both], depth[both], rtol=1e-4)
    assert np.isinf(raster.depth_m[raster.face < 0]).all()


@pytest.mark.parametrize("width", [1, 5, 16, 23])
def test_a_narrow_picture_is_the_left_part_of_a_wide_one(width: int):
    vertices, faces = sphere(0.25, (-0.2, 0.02, 0.7), 24)
    wide, narrow = (rasterize(vertices, faces, FOCAL, PRINCIPAL, SIZE, w) for w in (SIZE, width))
    assert narrow.face.shape == narrow.depth_m.shape == (SIZE, width)
    same = narrow.face == wide.face[:, :width]
    assert same.mean() > 0.99  # an edge may fall on either side
    assert (narrow.face >= 0).any()
    np.testing.assert_allclose(narrow.depth_m[same], wide.depth_m[:, :width][same], rtol=1e-5)


def test_depth_of_a_slanted_plane_is_exact_and_attributes_are_perspective_correct():
    corners = np.array([[-3, -3], [3, -3], [3, 3], [-3, 3]], float)
    z = 2.0 + 0.3 * corners[:, 0] - 0.2 * corners[:, 1]
    vertices = np.column_stack([corners, z]).astype(np.float32)
    faces = np.array([[0, 1, 2], [0, 2, 3]], np.int32)
    raster = rasterize(vertices, faces, FOCAL, PRINCIPAL, SIZE, SIZE)
    assert (raster.face >= 0).all()
    v, u = np.mgrid[:SIZE, :SIZE] + 0.5
    x, y = (u - PRINCIPAL[0]) / FOCAL[0], (v - PRINCIPAL[1]) / FOCAL[1]
    truth = 2.0 / (1 - 0.3 * x + 0.2 * y)
    np.testing.assert_allclose(raster.depth_m, truth, rtol=2e-5)
    # Positions interpolated over the triangle are those on the pixel's ray.
    np.testing.assert_allclose(interpolate(raster, faces, vertices), np.stack([x * truth, y * truth, truth], -1), atol=2e-4)


def test_the_nearer_surface_wins_whatever_the_order():
    quad = np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]], np.float32)
    vertices = np.concatenate([quad + np.float32([0, 0, 2]), quad * 0.3 + np.float32([0, 0, 1])]).astype(np.float32)
    faces = np.array([[0, 1, 2], [0, 2, 3], [4, 5, 6], [4, 6, 7]], np.int32)
    forward = rasterize(vertices, faces, FOCAL, PRINCIPAL, SIZE, SIZE)
    backward = rasterize(vertices, faces[::-1], FOCAL, PRINCIPAL, SIZE, SIZE)
    np.testing.assert_array_equal(forward.depth_m, backward.depth_m)
    assert forward.depth_m[24, 24] == pytest.approx(1.0)
    assert forward.depth_m[2, 2] == pytest.approx(2.0)


def test_a_spheres_silhouette_has_its_analytic_area():
    radius, distance = 0.1, 0.7
    vertices, faces = sphere(radius, (0.0, 0.0, distance))
    big = 512
    raster = rasterize(vertices, faces, np.full(2, 900, np.float32), np.full(2, big / 2, np.float32), big, big)
    outline = np.pi * 900**2 * radius**2 / (distance**2 - radius**2)
    assert (raster.face >= 0).sum() == pytest.approx(outline, rel=0.005)
    assert raster.depth_m.min() == pytest.approx(distance - radius, rel=1e-3)


def test_smooth_normals_of_a_sphere_point_outward():
    vertices, faces = sphere(0.1, (0.2, -0.1, 1.0), 48)
    outward = (vertices - [0.2, -0.1, 1.0]) / 0.1
    inner = np.abs(outward[:, 2]) < 0.99  # at the poles half of the triangles have no area
    assert (smooth_normals(vertices, faces)[inner] * outward[inner]).sum(1).min() > 0.995


def test_triangles_before_the_near_plane_or_behind_the_camera_are_left_out():
    vertices = np.array([[-1, -1, 1], [1, -1, 1], [0, 1, NEAR_M / 2], [0, 1, -1]], np.float32)
    raster = rasterize(vertices, np.array([[0, 1, 2], [0, 1, 3]], np.int32), FOCAL, PRINCIPAL, SIZE, SIZE)
    assert (raster.face == -1).all()


def test_an_empty_scene_is_empty():
    raster = rasterize(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int32), FOCAL, PRINCIPAL, 8, 16)
    assert raster.face.shape == (8, 16)
    assert (raster.face == -1).all()
