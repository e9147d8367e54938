"""Crops as cameras: a virtual pinhole that looks straight at a hand, turned so that the fingers point up, mirrored if the hand is a left one.

Because the crop is a rotated camera (a homography of the image, not a cut-out), what a network sees in it does not depend on where in the
photo the hand was, and a prediction in the crop's frame becomes one in the camera's frame by a rotation alone.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor
from torch.nn import functional

from twohands.geometry.camera import Camera
from twohands.record import Record

NOWHERE_PX = 1e6
"""Farther out than any image reaches."""
WIDEST = 6.0
"""Tangent of half the widest view a crop of a box has, 80 degrees: a box may be asked for that reaches behind the camera."""


@dataclass(frozen=True)
class Crop(Record):
    """A square virtual view. Points go camera -> crop by R_crop_camera, then x is negated if `mirrored`."""

    R_crop_camera: Float[Tensor, "*batch 3 3"]
    focal_px: Float[Tensor, "*batch"]
    """Focal length of the crop in crop pixels; its principal point is its centre."""
    mirrored: Bool[Tensor, "*batch"]
    size_px: int

    @staticmethod
    def around(
        camera: Camera,
        box_xyxy_px: Float[Tensor, "*batch 4"],
        direction: Float[Tensor, "*batch 2"],
        expansion: float | Float[Tensor, "*batch"],
        size_px: int,
        mirrored: Bool[Tensor, "*batch"],
    ) -> "Crop":
        """The crop whose centre looks at the box's centre, whose up is `direction` (wrist to middle knuckle, image axes) and whose side is
        `expansion` times the longer side of the box.

        `camera` is one camera for the batch, or one each. ValueError if a box has no area."""
        low, high = box_xyxy_px[..., :2], box_xyxy_px[..., 2:]
        if not bool((high > low).all()):
            raise ValueError(f"boxes must be x0 y0 x1 y1 with x1 > x0 and y1 > y0, got {box_xyxy_px.reshape(-1, 4)[:2].tolist()}")
        centre = (low + high) / 2
        half_side = (high - low).max(-1).values / 2
        unit = functional.normalize(direction, dim=-1)
        probes = torch.stack([centre, centre + unit, centre + half_side[..., None] * unit], -2)
        rays = camera.rays(probes)
        forward = functional.normalize(rays[..., 0, :], dim=-1)
        up = rays[..., 1, :] - rays[..., 0, :]
        up = functional.normalize(up - (up * forward).sum(-1, keepdim=True) * forward, dim=-1)
        right = torch.linalg.cross(-up, forward)
        R_crop_camera = torch.stack([right, -up, forward], -2)
        edge = (R_crop_camera @ rays[..., 2, :, None])[..., 0]
        across, ahead = edge[..., :2].norm(dim=-1), edge[..., 2]
        tangent = torch.where(across < WIDEST * ahead, across / ahead, WIDEST) * expansion
        return Crop(R_crop_camera, size_px / 2 / tangent, mirrored.expand(tangent.shape), size_px)

    @property
    def _flip(self) -> Float[Tensor, "*batch 3"]:
        """Multiplier of crop-frame coordinates: (-1, 1, 1) where mirrored."""
        ones = torch.ones(*self.mirrored.shape, 3, dtype=self.focal_px.dtype, device=self.focal_px.device)
        ones[..., 0] = torch.where(self.mirrored, -1.0, 1.0).to(ones)
        return ones

    def to_crop_frame(self, points_camera_m: Float[Tensor, "*batch point 3"]) -> Float[Tensor, "*batch point 3"]:
        """Camera-frame points (or directions) in the crop's frame, mirror included."""
        return points_camera_m @ self.R_crop_camera.transpose(-1, -2) * self._flip[..., None, :]

    def to_camera_frame(self, points_crop_m: Float[Tensor, "*batch point 3"]) -> Float[Tensor, "*batch point 3"]:
        """Inverse of `to_crop_frame`."""
        return (points_crop_m * self._flip[..., None, :]) @ self.R_crop_camera

    def project_crop(self, points_crop_m: Float[Tensor, "*batch point 3"]) -> Float[Tensor, "*batch point 2"]:
        """Crop-frame points to crop pixels."""
        return self.focal_px[..., None, None] * points_crop_m[..., :2] / points_crop_m[..., 2:] + self.size_px / 2

    def project(self, points_camera_m: Float[Tensor, "*batch point 3"]) -> Float[Tensor, "*batch point 2"]:
        """Camera-frame points to crop pixels."""
        return self.project_crop(self.to_crop_frame(points_camera_m))

    def rays(self, xy_crop: Float[Tensor, "*batch point 2"]) -> Float[Tensor, "*batch point 3"]:
        """Camera-frame rays (not normalised) through crop pixels."""
        xy = (xy_crop - self.size_px / 2) / self.focal_px[..., None, None]
        return self.to_camera_frame(torch.cat([xy, torch.ones_like(xy[..., :1])], -1))

    def image_to_crop(self, camera: Camera, xy_image: Float[Tensor, "*batch point 2"]) -> Float[Tensor, "*batch point 2"]:
        """Image pixels to crop pixels, through the homography between the two cameras."""
        return self.project(camera.rays(xy_image))

    def crop_to_image(self, camera: Camera, xy_crop: Float[Tensor, "*batch point 2"]) -> Float[Tensor, "*batch point 2"]:
        """Crop pixels to image pixels."""
        return camera.project(self.rays(xy_crop))

    def homography(self, camera: Camera) -> Float[Tensor, "*batch 3 3"]:
        """H with (x, y, 1)_image ~ H (x, y, 1)_crop: what `crop_to_image` does, as a matrix. `camera` has the crop's batch axes or none."""
        to_ray = torch.zeros(*self.focal_px.shape, 3, 3, dtype=self.focal_px.dtype, device=self.focal_px.device)
        to_ray[..., 0, 0] = to_ray[..., 1, 1] = 1 / self.focal_px
        to_ray[..., :2, 2] = -self.size_px / 2 / self.focal_px[..., None]
        to_ray[..., 2, 2] = 1.0
        return camera.matrix() @ self.R_crop_camera.transpose(-1, -2) @ (self._flip[..., None] * to_ray)

    def pixel_grid(self, camera: Camera, samples: int) -> Float[Tensor, "*batch 2 samples samples"]:
        """Image positions of a regular grid of `samples` x `samples` points over the crop (x, then y); far outside any image (NOWHERE_PX) where the
        crop looks beyond what a camera can see."""
        axis = (torch.arange(samples, dtype=self.focal_px.dtype, device=self.focal_px.device) + 0.5) * (self.size_px / samples)
        return _seen(self.homography(camera) @ _homogeneous_grid(axis)).unflatten(-1, (samples, samples))

    def resample(
        self, image: Float[Tensor, "channel height width"] | UInt8[Tensor, "channel height width"], camera: Camera
    ) -> Float[Tensor, "*batch channel size size"]:
        """What the crop sees of one image, black outside it; of bytes, values in 0..1. Minified crops read from a box-reduced image, so that they
        do not alias."""
        axis = torch.arange(self.size_px, dtype=self.focal_px.dtype, device=self.focal_px.device) + 0.5
        corners, grid = _homogeneous_grid(axis[[0, -1]]), _homogeneous_grid(axis)
        views = [_sample(image, H_image_crop, corners, grid) for H_image_crop in self.homography(camera).reshape(-1, 3, 3)]
        return torch.stack(views).reshape(*self.focal_px.shape, image.shape[0], self.size_px, self.size_px)


def _homogeneous_grid(axis: Float[Tensor, "samples"]) -> Float[Tensor, "3 samples*samples"]:
    """(x, y, 1) of all points of a square grid, row by row."""
    x, y = torch.meshgrid(axis, axis, indexing="xy")
    return torch.stack([x, y, torch.ones_like(x)]).flatten(1)


def _seen(points: Float[Tensor, "*batch 3 point"]) -> Float[Tensor, "*batch 2 point"]:
    """Homogeneous points as (x, y), NOWHERE_PX off where they lie behind."""
    z = points[..., 2:, :]
    xy = (points[..., :2, :] / z.clamp_min(1e-6)).clamp(-NOWHERE_PX, NOWHERE_PX)
    return torch.where(z > 1e-6, xy, -NOWHERE_PX)


def _sample(
    image: Tensor, H_image_crop: Float[Tensor, "3 3"], corners: Float[Tensor, "3 4"], grid: Float[Tensor, "3 size*size"]
) -> Float[Tensor, "channel size size"]:
    """Bilinear reading of `image` at a crop's points, after reducing it by a whole factor. Only the part of the image that is read from is touched:
    of a large photo, the rest is most of the time."""
    height, width = image.shape[1:]
    size_px = math.isqrt(grid.shape[1])
    projected = H_image_crop @ corners
    ahead, xy = bool((projected[2] > 1e-6).all()), _seen(projected)
    step_px = float((xy[:, -1] - xy[:, 0]).norm()) / (size_px - 1) / 2**0.5
    shrink = min(max(1, int(step_px)), height, width)
    left, top, right, bottom = 0, 0, width, height
    if ahead:
        # A crop shows what lies between its corners; one that looks behind the camera may show anything. Whole cells of the reduced image, so that
        # its grid stays where it would be, and one more on each side for the interpolation.
        left, top = (max(0, int(v) // shrink - 1) * shrink for v in xy.amin(1).tolist())
        right, bottom = (max(0, int(v) // shrink + 2) * shrink for v in xy.amax(1).tolist())
    if left >= width or top >= height or right <= 0 or bottom <= 0:
        return torch.zeros(image.shape[0], size_px, size_px, dtype=grid.dtype, device=image.device)
    image = image[:, top:bottom, left:right]
    image = image if image.is_floating_point() else image.to(grid.dtype).div_(255)
    if shrink > 1:
        pad = (-image.shape[2] % shrink, -image.shape[1] % shrink)
        if any(pad):
            image = functional.pad(image, (0, pad[0], 0, pad[1]), mode="replicate")
        image = functional.avg_pool2d(image[None], shrink)[0]
    # What grid_sample calls a place, -1 to 1 over the part, straight from the crop: one product for all of its points.
    scale = [2 / (shrink * size) for size in (image.shape[2], image.shape[1])]
    to_part = torch.tensor([[scale[0], 0, -left * scale[0] - 1], [0, scale[1], -top * scale[1] - 1], [0, 0, 1]], dtype=torch.float64)
    placed = (to_part.to(H_image_crop.device) @ H_image_crop.double()).to(grid.dtype) @ grid
    places = placed[:2] / placed[2:] if ahead else _seen(placed)
    return functional.grid_sample(
        image[None], places.unflatten(1, (size_px, size_px)).movedim(0, -1)[None], padding_mode="zeros", align_corners=False
    )[0]
