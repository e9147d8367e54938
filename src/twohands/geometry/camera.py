"""Pinhole cameras in the OpenCV frame: x right, y down, z forward, metres; pixel centres at half-integers.

Frames are named in transforms: T_a_b is the transform with x_a = T_a_b @ x_b, and R_a_b its rotation.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from twohands.record import Record


@dataclass(frozen=True)
class Camera(Record):
    """Intrinsics without distortion."""

    focal_px: Float[Tensor, "*batch 2"]
    """Focal length along x and y."""
    principal_px: Float[Tensor, "*batch 2"]
    """Principal point; the centre of a W x H image is (W / 2, H / 2)."""

    @staticmethod
    def from_matrix(intrinsics: Float[Tensor, "*batch 3 3"]) -> "Camera":
        """From K = [[fx, 0, cx], [0, fy, cy], [0, 0, 1]]; ValueError on skew or a focal length that is not positive."""
        focal_px = torch.stack([intrinsics[..., 0, 0], intrinsics[..., 1, 1]], -1)
        if not bool((focal_px > 0).all()):
            raise ValueError(f"focal lengths must be positive, got {focal_px.flatten().tolist()[:4]}; check the order of K")
        if bool((intrinsics[..., 0, 1].abs() > 1e-3 * focal_px[..., 0]).any()):
            raise ValueError("the camera matrix has skew; rectify the image first")
        return Camera(focal_px, intrinsics[..., :2, 2])

    @staticmethod
    def from_fov(width_px: int, height_px: int, fov_deg: float) -> "Camera":
        """Square pixels, centred, with `fov_deg` across the longer side; ValueError outside (1, 170) degrees."""
        if not 1.0 < fov_deg < 170.0:
            raise ValueError(f"a field of view of {fov_deg} degrees is not a pinhole camera's; give one between 1 and 170")
        focal = max(width_px, height_px) / 2 / math.tan(math.radians(fov_deg) / 2)
        return Camera(torch.tensor([focal, focal]), torch.tensor([width_px / 2, height_px / 2]))

    def matrix(self) -> Float[Tensor, "*batch 3 3"]:
        """The 3 x 3 camera matrix K."""
        k = torch.zeros(*self.focal_px.shape[:-1], 3, 3, dtype=self.focal_px.dtype, device=self.focal_px.device)
        k[..., 0, 0], k[..., 1, 1], k[..., 2, 2] = self.focal_px[..., 0], self.focal_px[..., 1], 1.0
        k[..., :2, 2] = self.principal_px
        return k

    def project(self, points_m: Float[Tensor, "*batch point 3"]) -> Float[Tensor, "*batch point 2"]:
        """Camera-frame points to pixels. Points must lie in front of the camera; those behind give meaningless pixels, not errors."""
        return self.focal_px[..., None, :] * points_m[..., :2] / points_m[..., 2:] + self.principal_px[..., None, :]

    def unproject(
        self, xy_image: Float[Tensor, "*batch point 2"], depth_m: Float[Tensor, "*batch point"]
    ) -> Float[Tensor, "*batch point 3"]:
        """Pixels with their depth (z, not ray length) to camera-frame points."""
        rays = self.rays(xy_image)
        return rays * depth_m[..., None]

    def rays(self, xy_image: Float[Tensor, "*batch point 2"]) -> Float[Tensor, "*batch point 3"]:
        """Viewing rays of pixels, scaled so that z = 1."""
        xy = (xy_image - self.principal_px[..., None, :]) / self.focal_px[..., None, :]
        return torch.cat([xy, torch.ones_like(xy[..., :1])], -1)
