import math

import pytest
import torch

from twohands.geometry.camera import Camera

BATCHES = [(), (3,), (2, 2)]


def cameras(*batch: int) -> Camera:
    draw = torch.rand(*batch, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return Camera(300 + 900 * draw[..., :2], 100 + 500 * draw[..., 2:])


def points_in_front(*batch: int) -> torch.Tensor:
    points = torch.randn(*batch, 7, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 0.2
    return points + torch.tensor([0.0, 0.0, 1.2])


@pytest.mark.parametrize("batch", BATCHES)
def test_project_and_unproject_are_inverse(batch):
    camera, points = cameras(*batch), points_in_front(*batch)
    xy = camera.project(points)
    torch.testing.assert_close(camera.unproject(xy, points[..., 2]), points)
    torch.testing.assert_close(camera.project(camera.unproject(xy, 3 * points[..., 2])), xy)
    torch.testing.assert_close(camera.project(camera.rays(xy)), xy)


@pytest.mark.parametrize("batch", BATCHES)
def test_projects_as_its_matrix_does(batch):
    camera, points = cameras(*batch), points_in_front(*batch)
    homogeneous = points @ camera.matrix().mT
    torch.testing.assert_close(camera.project(points), homogeneous[..., :2] / homogeneous[..., 2:])
    again = Camera.from_matrix(camera.matrix())
    torch.testing.assert_close(again.focal_px, camera.focal_px)
    torch.testing.assert_close(again.principal_px, camera.principal_px)


@pytest.mark.parametrize(("width", "height"), [(640, 480), (480, 640), (512, 512)])
def test_field_of_view_spans_the_longer_side(width, height):
    camera = Camera.from_fov(width, height, 70.0)
    ends = torch.tensor([[0.0, height / 2], [width, height / 2]] if width >= height else [[width / 2, 0.0], [width / 2, height]])
    a, b = torch.nn.functional.normalize(camera.rays(ends), dim=-1)
    assert math.degrees(math.acos(float(a @ b))) == pytest.approx(70.0, abs=1e-3)


def test_axes_point_right_and_down():
    xy = Camera.from_fov(640, 480, 60.0).project(torch.tensor([[0.0, 0.0, 1.0], [0.1, 0.0, 1.0], [0.0, 0.1, 1.0]]))
    torch.testing.assert_close(xy[0], torch.tensor([320.0, 240.0]))
    assert xy[1, 0] > 320
    assert xy[2, 1] > 240


def test_cameras_that_are_not_pinholes_are_refused():
    k = cameras().matrix()
    skewed, flipped = k.clone(), k.clone()
    skewed[0, 1], flipped[1, 1] = 5.0, -700.0
    with pytest.raises(ValueError, match="skew"):
        Camera.from_matrix(skewed)
    with pytest.raises(ValueError, match="positive"):
        Camera.from_matrix(flipped)
    with pytest.raises(ValueError, match="180"):
        Camera.from_fov(640, 480, 180.0)
