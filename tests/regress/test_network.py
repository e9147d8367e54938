"""Stage 1's wiring: what may and what may not change its output."""

import pytest
import torch

from twohands.regress.align import CROP_PARTS, CropPriors, PriorProjection
from twohands.regress.network import PAPER, PRIOR_GRID_FACTOR, Regressor, RegressorConfig

SMALL = RegressorConfig(
    trunk="residual", crop_px=32, stem=8, widths=(8, 8, 16, 16), depths=(1, 1, 1, 1), align_widths=(8, 8, 8, 8), align_depths=(1, 1, 1, 1),
    prior_width=8, width=24, heads=2, depth=1, pyramid=8, hidden=16,
)  # fmt: skip


@pytest.fixture
def network() -> Regressor:
    torch.manual_seed(0)
    return Regressor(SMALL).eval()


def inputs(pairs: int = 3, size: int = 32) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, CropPriors]:
    generator = torch.Generator().manual_seed(1)
    grid = size // 16 * PRIOR_GRID_FACTOR
    priors = CropPriors(
        torch.rand(2 * pairs, 21, 3, generator=generator) - 0.5, torch.ones(2 * pairs, 21),
        torch.randint(0, CROP_PARTS, (2 * pairs, grid, grid), generator=generator), torch.randn(2 * pairs, grid, grid, generator=generator),
        *[torch.ones(2 * pairs, dtype=torch.bool)] * 3,
    )  # fmt: skip
    return (
        torch.rand(pairs, 2, 3, size, size, generator=generator),
        torch.randn(pairs, 2, 8, generator=generator),
        torch.ones(pairs, 2, dtype=torch.bool),
        priors,
    )


def test_absent_hand_is_looked_at_by_nobody(network: Regressor) -> None:
    crops, geometry, present, _ = inputs()
    present[0, 0] = False
    first, _ = network(crops, geometry, present)
    crops[0, 0] = torch.rand(3, 32, 32)
    geometry[0, 0] = 7.0
    second, _ = network(crops, geometry, present)
    torch.testing.assert_close(first.joints_xy[0, 1], second.joints_xy[0, 1])
    torch.testing.assert_close(first.rotation[0, 1], second.rotation[0, 1])


def test_other_hand_is_looked_at(network: Regressor) -> None:
    crops, geometry, present, _ = inputs()
    first, _ = network(crops, geometry, present)
    crops[0, 0] = 1 - crops[0, 0]
    second, _ = network(crops, geometry, present)
    assert (first.shape[0, 1] - second.shape[0, 1]).abs().max() > 1e-6
    torch.testing.assert_close(first.shape[1:], second.shape[1:])


def test_prior_enters_only_where_it_is_used(network: Regressor) -> None:
    """eq. 2: F_p where asked for, F_fa elsewhere; F_fa itself never depends on the priors."""
    crops, geometry, present, priors = inputs()
    use = torch.tensor([True, False, False])
    alone, _ = network(crops, geometry, present)
    guided, prior = network(crops, geometry, present, priors, use)
    assert prior is not None
    assert prior.shape == alone.aligned.shape
    torch.testing.assert_close(alone.aligned, guided.aligned)
    torch.testing.assert_close(alone.joints_xy[1:], guided.joints_xy[1:])
    assert (alone.joints_xy[0] - guided.joints_xy[0]).abs().max() > 1e-6


def test_missing_teacher_cannot_leak() -> None:
    """A teacher that says nothing is replaced: what its maps hold must not matter, NaN included."""
    torch.manual_seed(0)
    projection = PriorProjection(8, 24).eval()
    _, _, _, priors = inputs()
    nothing = torch.zeros(6, dtype=torch.bool)
    silent = CropPriors(priors.keypoints, priors.keypoint_confidence, priors.parts, priors.depth, priors.has_keypoints, nothing, nothing)
    other = CropPriors(
        priors.keypoints,
        priors.keypoint_confidence,
        priors.parts * 0,
        torch.full_like(priors.depth, torch.nan),
        priors.has_keypoints,
        nothing,
        nothing,
    )
    torch.testing.assert_close(projection(silent), projection(other))
    assert projection(silent).isfinite().all()


def test_rotations_are_rotations_and_depth_starts_at_the_wrist(network: Regressor) -> None:
    crops, geometry, present, _ = inputs()
    prediction, _ = network(crops, geometry, present)
    identity = torch.eye(3).expand_as(prediction.rotation)
    torch.testing.assert_close(prediction.rotation @ prediction.rotation.transpose(-1, -2), identity, atol=1e-5, rtol=0)
    torch.testing.assert_close(prediction.joints_z[..., 0], torch.zeros(3, 2))
    assert prediction.joints_xy.abs().max() <= 0.5


def test_paper_configuration_builds() -> None:
    """Two ResNet-50: about 2 x 23.5 million parameters in the two image encoders."""
    with torch.device("meta"):
        network = Regressor(PAPER)
    backbone = sum(p.numel() for p in (*network.encoders.stem.parameters(), *network.encoders.stages.parameters()))
    assert abs(backbone / 1e6 - 23.5) < 0.1
    assert network.token_grid(PAPER.crop_px) == 8


def test_landmark_encoders_read_keypoints_and_leave_the_frozen_stages_alone() -> None:
    torch.manual_seed(0)
    network = Regressor(RegressorConfig(crop_px=64, width=24, heads=2, depth=1, pyramid=16, hidden=16)).eval()
    crops, geometry, present, _ = inputs(size=64)
    present[0, 1] = False
    prediction, _ = network(crops, geometry, present)
    assert prediction.reading is not None
    assert prediction.reading.joints_xy.shape == (3, 2, 21, 2)
    torch.testing.assert_close(prediction.reading.joints_m[:, :, 0], torch.zeros(3, 2, 3))
    assert (prediction.reading.joints_xy[0, 1] == 0).all(), "an absent hand is not read"
    assert prediction.aligned.shape == (3, 2, (64 // network.encoders.stride) ** 2, 24)
    # What the parameter head takes from the reading must not move the reader.
    network.train()
    network.encoders.early.requires_grad_(False)
    trained, _ = network(crops, geometry, present)
    trained.rotation.sum().backward()
    assert all(p.grad is None for p in network.encoders.align.readout.parameters())
    assert all(p.grad is None for p in network.encoders.early.parameters())
