import math
from dataclasses import replace

import pytest
import torch

from twohands.geometry.camera import Camera
from twohands.geometry.crop import Crop

DOUBLE = torch.float64
CAMERA = Camera.from_fov(640, 480, 65.0).to(DOUBLE)
BATCHES = [(), (6,), (2, 3)]


def crops(*batch: int, size_px: int = 64, expansion: float = 1.3) -> Crop:
    generator = torch.Generator().manual_seed(3)

    def uniform(*last: int) -> torch.Tensor:
        return torch.rand((*batch, *last), generator=generator, dtype=DOUBLE)

    centre = 120 + 240 * uniform(2)
    half = 30 + 60 * uniform(2)
    angle = 2 * math.pi * uniform()
    direction = torch.stack([angle.cos(), angle.sin()], -1)
    return Crop.around(CAMERA, torch.cat([centre - half, centre + half], -1), direction, expansion, size_px, uniform() < 0.5)


def points_near(crop: Crop) -> torch.Tensor:
    """Camera-frame points that the crop sees."""
    batch = crop.focal_px.shape
    draw = torch.rand(*batch, 9, 3, generator=torch.Generator().manual_seed(4), dtype=DOUBLE)
    return crop.rays(draw[..., :2] * crop.size_px) * (0.4 + draw[..., 2:])


@pytest.mark.parametrize("batch", BATCHES)
def test_crop_projects_to_the_crop_what_the_camera_projects_to_the_image(batch):
    crop = crops(*batch)
    points = points_near(crop)
    torch.testing.assert_close(crop.image_to_crop(CAMERA, CAMERA.project(points)), crop.project(points))
    torch.testing.assert_close(crop.crop_to_image(CAMERA, crop.project(points)), CAMERA.project(points))
    torch.testing.assert_close(crop.project_crop(crop.to_crop_frame(points)), crop.project(points))


@pytest.mark.parametrize("batch", BATCHES)
def test_frames_are_inverse_and_rigid(batch):
    crop = crops(*batch)
    points = points_near(crop)
    there = crop.to_crop_frame(points)
    torch.testing.assert_close(crop.to_camera_frame(there), points)
    torch.testing.assert_close(there.norm(dim=-1), points.norm(dim=-1))
    torch.testing.assert_close(torch.linalg.det(crop.R_crop_camera), torch.ones(batch, dtype=DOUBLE))


@pytest.mark.parametrize("batch", BATCHES)
def test_looks_at_the_centre_of_the_box_with_the_direction_up(batch):
    generator = torch.Generator().manual_seed(8)
    angle = 2 * math.pi * torch.rand(batch, generator=generator, dtype=DOUBLE)
    direction = torch.stack([angle.cos(), angle.sin()], -1)
    centre = torch.tensor([200.0, 310.0], dtype=DOUBLE) + 40 * torch.randn(*batch, 2, generator=generator, dtype=DOUBLE)
    half = torch.tensor([50.0, 35.0], dtype=DOUBLE)
    crop = Crop.around(CAMERA, torch.cat([centre - half, centre + half], -1), direction, 1.0, 64, angle > math.pi)
    seen = crop.image_to_crop(CAMERA, torch.stack([centre, centre + 5 * direction, centre + 50 * direction], -2))
    torch.testing.assert_close(seen[..., 0, :], torch.full((*batch, 2), 32.0, dtype=DOUBLE))
    assert bool((seen[..., 1, 1] < 31).all())
    torch.testing.assert_close(seen[..., 1:, 0], torch.full((*batch, 2), 32.0, dtype=DOUBLE))
    # Half the box's longer side away from the centre lies the crop's upper edge, when the expansion is 1.
    torch.testing.assert_close(seen[..., 2, 1], torch.zeros(batch, dtype=DOUBLE), atol=1e-9, rtol=0)


def test_expansion_shows_more():
    narrow, wide = crops(5, expansion=1.0), crops(5, expansion=2.0)
    points = points_near(narrow)
    torch.testing.assert_close(wide.project(points) - 32, (narrow.project(points) - 32) / 2)


def test_mirrored_crop_is_the_flipped_one():
    crop = crops(6)
    other = replace(crop, mirrored=~crop.mirrored)
    points = points_near(crop)
    xy, flipped = crop.project(points), other.project(points)
    torch.testing.assert_close(flipped[..., 0], crop.size_px - xy[..., 0])
    torch.testing.assert_close(flipped[..., 1], xy[..., 1])
    image = torch.rand(3, 480, 640, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
    torch.testing.assert_close(other.resample(image, CAMERA), crop.resample(image, CAMERA).flip(-1))


def test_photo_mirrored_and_hand_swapped_looks_the_same():
    """What the network sees of a left hand is what it would see of a right hand in the mirrored photo (exactly, if not reduced)."""
    box = torch.tensor([100.0, 150.0, 220.0, 250.0], dtype=DOUBLE)
    direction = torch.tensor([0.6, -0.8], dtype=DOUBLE)
    image = torch.rand(3, 480, 640, generator=torch.Generator().manual_seed(1), dtype=DOUBLE)
    left = Crop.around(CAMERA, box, direction, 1.2, 160, torch.tensor(True))
    mirrored_box = torch.tensor([640 - 220.0, 150.0, 640 - 100.0, 250.0], dtype=DOUBLE)
    right = Crop.around(CAMERA, mirrored_box, direction * torch.tensor([-1.0, 1.0]), 1.2, 160, torch.tensor(False))
    torch.testing.assert_close(left.resample(image, CAMERA), right.resample(image.flip(-1), CAMERA))


@pytest.mark.parametrize("size_px", [96, 24], ids=["enlarged", "reduced"])
def test_resampled_gradient_is_the_gradient_at_the_pixels_positions(size_px):
    """An image that holds its own coordinates, seen in the crop, holds the image positions of the crop's pixels."""
    y, x = torch.meshgrid(torch.arange(480, dtype=DOUBLE) + 0.5, torch.arange(640, dtype=DOUBLE) + 0.5, indexing="ij")
    crop = crops(5, size_px=size_px)
    seen = crop.resample(torch.stack([x, y]), CAMERA)
    axis = torch.arange(size_px, dtype=DOUBLE) + 0.5
    grid = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), -1).reshape(-1, 2)
    expected = crop.crop_to_image(CAMERA, grid.expand(5, -1, -1))
    margin = 8
    inside = ((expected > margin) & (expected < torch.tensor([640.0, 480.0]) - margin)).all(-1)
    assert inside.float().mean() > 0.8
    torch.testing.assert_close(seen.flatten(2).mT[inside], expected[inside], atol=1e-6, rtol=0)


def test_outside_the_image_is_black():
    box = torch.tensor([-300.0, 100.0, -100.0, 300.0], dtype=DOUBLE)
    crop = Crop.around(CAMERA, box, torch.tensor([0.0, -1.0], dtype=DOUBLE), 1.0, 32, torch.tensor(False))
    assert crop.resample(torch.ones(3, 480, 640, dtype=DOUBLE), CAMERA).abs().max() == 0


def test_one_camera_each_is_the_same_as_one_for_all():
    box = torch.tensor([[100.0, 120.0, 200.0, 260.0], [300.0, 120.0, 420.0, 260.0]], dtype=DOUBLE)
    direction = torch.tensor([[0.0, -1.0], [1.0, 0.0]], dtype=DOUBLE)
    mirrored = torch.tensor([True, False])
    shared = Crop.around(CAMERA, box, direction, 1.2, 64, mirrored)
    each = Crop.around(CAMERA.map(lambda t: t.expand(2, 2)), box, direction, 1.2, 64, mirrored)
    torch.testing.assert_close(each.R_crop_camera, shared.R_crop_camera)
    torch.testing.assert_close(each.focal_px, shared.focal_px)


def test_box_without_area_is_refused():
    with pytest.raises(ValueError, match="x0 y0 x1 y1"):
        Crop.around(CAMERA, torch.tensor([10.0, 10.0, 10.0, 40.0]), torch.tensor([0.0, -1.0]), 1.0, 64, torch.tensor(False))


@pytest.mark.parametrize("centre", [1e3, 1e5, 1e8])
def test_a_box_beyond_what_a_camera_sees_is_black(centre):
    """A fit that failed may ask for it; half of such a crop looks backwards."""
    box = torch.tensor([centre, 0.0, 3 * centre, centre], dtype=DOUBLE)
    crop = Crop.around(CAMERA, box, torch.tensor([0.0, -1.0], dtype=DOUBLE), 1.7, 32, torch.tensor(False))
    assert bool(crop.pixel_grid(CAMERA, 32).isfinite().all())
    assert float(crop.resample(torch.ones(3, 40, 60, dtype=DOUBLE), CAMERA).abs().max()) == 0


@pytest.mark.parametrize("side_px", [500.0, 4000.0, 40_000.0])
def test_a_crop_of_a_box_far_larger_than_the_image_still_looks_ahead(side_px):
    """A hand that seems to touch the lens has a box that reaches behind the camera, seen from its own middle."""
    centre = torch.tensor([-400.0, 700.0], dtype=DOUBLE)
    for angle in torch.linspace(0, 2 * math.pi, 9, dtype=DOUBLE):
        direction = torch.stack([angle.cos(), angle.sin()])
        crop = Crop.around(CAMERA, torch.cat([centre - side_px / 2, centre + side_px / 2]), direction, 1.3, 64, torch.tensor(False))
        assert 0 < float(crop.focal_px) < float(CAMERA.focal_px[0])
        assert bool(crop.resample(torch.ones(3, 480, 640, dtype=DOUBLE), CAMERA).isfinite().all())
