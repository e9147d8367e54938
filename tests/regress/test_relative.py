"""Where the relative head starts from: the place of both hands that their 2.5D joints alone give."""

import pytest
import torch

from twohands.geometry.camera import Camera
from twohands.geometry.rotations import matrix_to_rotvec, random_rotation
from twohands.hands.bundled import load_bundled_hand
from twohands.hands.parameters import HandParameters
from twohands.joints import MIDDLE_MCP
from twohands.regress.crops import view_pairs
from twohands.regress.head import PalmLengths, RelativeHead
from twohands.schema import HandPair

HAND = load_bundled_hand()


def seen(seed: int, roll: bool) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """(2.5D joints, shape, geometry, true wrists in the pair's frame, wrists in the camera's) of two hands anywhere before a camera."""
    generator = torch.Generator().manual_seed(seed)
    pose = 0.2 * torch.randn(1, 2, 16, 3, generator=generator)
    pose[:, :, 0] = matrix_to_rotvec(random_rotation((1, 2), generator))
    place = torch.tensor([[[-0.12, 0.05, 0.6], [0.15, -0.08, 0.75]]])
    mesh = HAND.pose_hands(HandParameters(pose, torch.zeros(1, 2, 10), place)).mesh()
    camera = Camera(torch.tensor([500.0, 500.0]), torch.tensor([320.0, 240.0]))
    xy = camera.project(mesh.keypoints_m)
    box = torch.cat([xy.amin(2), xy.amax(2)], -1)
    along = xy[:, :, MIDDLE_MCP] - xy[:, :, 0] if roll else torch.tensor([0.0, -1.0]).expand(1, 2, 2)
    pair = HandPair(box, torch.nn.functional.normalize(along, dim=-1), torch.ones(1, 2, dtype=torch.bool))
    view = view_pairs(camera, pair, 224)
    in_crop = view.crop.to_crop_frame(mesh.keypoints_m)
    palm = (in_crop[:, :, MIDDLE_MCP] - in_crop[:, :, 0]).norm(dim=-1)[..., None]
    z = (in_crop[..., 2] - in_crop[:, :, :1, 2]) / palm
    flat = view.crop.project(mesh.keypoints_m) / view.crop.size_px - 0.5
    wrist = mesh.keypoints_m[:, :, 0]
    return torch.cat([flat, z[..., None]], -1), torch.zeros(1, 2, 10), view.geometry, wrist @ view.common.R_crop_camera[0].T, wrist


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("roll", [True, False])
def test_exact_joints_give_exact_wrists(seed: int, roll: bool) -> None:
    head = RelativeHead(8, 8, PalmLengths.of(HAND))
    joints, shape, geometry, expected, _ = seen(seed, roll)
    torch.testing.assert_close(head.wrists_m(joints, shape, geometry), expected, atol=2e-4, rtol=0)


def test_a_larger_person_is_farther_away() -> None:
    head = RelativeHead(8, 8, PalmLengths.of(HAND))
    joints, _, geometry, _, wrist = seen(0, True)
    large = torch.nn.functional.one_hot(torch.tensor([[0, 0]]), 10).float() * 2
    ratio = head.wrists_m(joints, large, geometry).norm(dim=-1) / wrist.norm(dim=-1)
    palm = [PalmLengths.of(HAND).palm_m, PalmLengths.of(HAND).palm_shape[0]]
    torch.testing.assert_close(ratio, (1 + 2 * palm[1] / palm[0]).expand(1, 2), atol=1e-3, rtol=0)


def test_absent_and_broken_hands_stay_finite() -> None:
    head = RelativeHead(8, 8, PalmLengths.of(HAND))
    joints, shape, geometry, _, _ = seen(1, True)
    joints[:, 0] = 0
    said = head(torch.zeros(1, 2, 8), joints, shape, geometry)
    assert said.isfinite().all()
    assert said.abs().max() < 2
