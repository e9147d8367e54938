"""Fisheye lenses (Kannala and Brandt 2006, four coefficients), and pictures freed of them.

A ray at the angle theta off the axis meets the picture at theta (1 + d0 theta^2 + d1 theta^4 + d2 theta^6 + d3 theta^8) focal lengths from
the principal point. Elsewhere in this project cameras are pinholes, so pictures of such a lens are rectified when they are read."""

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional

from twohands.geometry.camera import Camera


def fisheye_project(
    camera: Camera, distortion: Float[Tensor, "4"], points_m: Float[Tensor, "*batch point 3"]
) -> Float[Tensor, "*batch point 2"]:
    """Camera-frame points to pixels of the fisheye picture. Points must lie in front of the camera."""
    ray = points_m[..., :2] / points_m[..., 2:]
    radius = ray.norm(dim=-1, keepdim=True)
    theta = radius.atan()
    square = theta.square()
    d = distortion
    bent = theta * (1 + square * (d[0] + square * (d[1] + square * (d[2] + square * d[3]))))
    # On the axis the ratio tends to 1.
    ray = ray * torch.where(radius > 1e-8, bent / radius.clamp_min(1e-8), 1.0)
    return camera.focal_px[..., None, :] * ray + camera.principal_px[..., None, :]


def rectified(
    image: UInt8[np.ndarray, "height width 3"], camera: Camera, distortion: Float[Tensor, "4"]
) -> UInt8[np.ndarray, "height width 3"]:
    """What a pinhole with the same focal length and principal point would have taken: the middle keeps its size, the rim is cut off."""
    height, width = image.shape[:2]
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    xy = fisheye_project(camera, distortion, camera.rays(torch.stack([x, y], -1).flatten(0, 1)))
    grid = (xy / torch.tensor([width, height]) * 2 - 1).view(1, height, width, 2)
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float()
    read = functional.grid_sample(pixels, grid, align_corners=False)[0]
    return read.round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).numpy()
