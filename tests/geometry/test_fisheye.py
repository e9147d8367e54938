"""The fisheye lens, and pictures freed of it."""

import math

import numpy as np
import torch

from twohands.geometry.camera import Camera
from twohands.geometry.fisheye import fisheye_project, rectified

CAMERA = Camera(torch.tensor([40.0, 40.0]), torch.tensor([48.0, 32.0]))


def test_a_ray_by_hand():
    """45 degrees off the axis, along x."""
    d = torch.tensor([0.1, -0.05, 0.02, 0.01])
    theta = math.pi / 4
    bent = theta * (1 + 0.1 * theta**2 - 0.05 * theta**4 + 0.02 * theta**6 + 0.01 * theta**8)
    xy = fisheye_project(CAMERA, d, torch.tensor([[2.0, 0.0, 2.0], [0.0, 0.0, 1.0]]))
    torch.testing.assert_close(xy, torch.tensor([[48 + 40 * bent, 32.0], [48.0, 32.0]]))


def test_rectified_pictures_are_a_pinholes():
    """A fisheye picture of dots, painted where the lens puts them: after rectification each is where a pinhole sees it."""
    d = torch.tensor([0.05, -0.02, 0.0, 0.0])
    points = torch.tensor([[0.3, 0.2, 1.0], [-0.6, 0.3, 1.0], [0.5, -0.4, 1.0], [0.0, 0.0, 1.0]])
    y, x = np.mgrid[:64, :96] + 0.5
    picture = np.zeros((64, 96, 3))
    for u, v in fisheye_project(CAMERA, d, points).numpy():
        picture += (200 * np.exp(-((x - u) ** 2 + (y - v) ** 2) / 4))[..., None]
    flat = rectified(picture.clip(0, 255).astype(np.uint8), CAMERA, d)
    assert flat.shape == picture.shape
    for u, v in CAMERA.project(points).numpy():
        near = (abs(x - u) < 4) & (abs(y - v) < 4)
        weight = flat[..., 0] * near
        assert abs((weight * x).sum() / weight.sum() - u) < 0.3
        assert abs((weight * y).sum() / weight.sum() - v) < 0.3
