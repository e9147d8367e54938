"""The fit at test time: without it the parameters are the head's own, with it the joints come nearer to those that the network sees."""

from dataclasses import replace

import pytest
import torch
from tiny_stage1 import CAMERA, PAIR, TINY

from twohands.geometry.rotations import rotvec_to_matrix
from twohands.hands.bundled import load_bundled_hand, load_hand_asset
from twohands.regress.crops import view_pairs
from twohands.regress.infer import PlacementConfig, Stage1
from twohands.regress.network import Regressor
from twohands.schema import Stage1Hands


@pytest.fixture(scope="module")
def network() -> Regressor:
    torch.manual_seed(2)
    untrained = Regressor(TINY).eval()
    with torch.no_grad():
        untrained.maps.out.weight.mul_(30)  # or it would see all joints in one place
    return untrained


@pytest.fixture(scope="module")
def image() -> torch.Tensor:
    return torch.rand(3, 128, 160, generator=torch.Generator().manual_seed(3))


def looked_at(network: Regressor, image: torch.Tensor, iterations: int) -> Stage1Hands:
    # A network that knows nothing is sure of nothing: let it be believed all the same.
    placement = replace(PlacementConfig(), iterations=iterations, passes=1, orientation_rad=3.0, pose_rad=3.0, relative_m=3.0, depth=20.0)
    return Stage1(network, load_bundled_hand(), load_hand_asset().limits, placement=placement).infer(image, CAMERA, [PAIR])[0]


@torch.no_grad()
def seen(network: Regressor, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What the head says of the right hand's fingers, and where the network sees the joints of both hands in the photo."""
    pair = PAIR.map(lambda t: t[None])
    view = view_pairs(CAMERA, pair, TINY.crop_px)
    prediction, _ = network(view.crop.resample(image, CAMERA), view.geometry, pair.present)
    rays = view.crop.rays((prediction.joints_xy + 0.5) * view.crop.size_px)
    return prediction.rotation[0, 1, 1:], (rays[..., :2] / rays[..., 2:])[0]


def distance(hands: Stage1Hands, rays: torch.Tensor) -> float:
    """Of the joint in the middle: an untrained network puts some near the plane of the camera, and their projections far away."""
    points = hands.keypoints_m
    return float((points[..., :2] / points[..., 2:] - rays).norm(dim=-1).median())


def test_without_the_fit_the_fingers_are_what_the_head_said(network: Regressor, image: torch.Tensor) -> None:
    fingers, _ = seen(network, image)
    torch.testing.assert_close(rotvec_to_matrix(looked_at(network, image, 0).parameters.pose[1, 1:]), fingers, atol=1e-4, rtol=0)


def test_the_fit_brings_joints_nearer_to_what_is_seen(network: Regressor, image: torch.Tensor) -> None:
    _, rays = seen(network, image)
    assert distance(looked_at(network, image, 5), rays) < distance(looked_at(network, image, 0), rays)
