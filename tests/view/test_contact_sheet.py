"""The sheet shows each picture's hands with their joints and meshes where they are."""

import dataclasses

import numpy as np
import torch

from scenes import two_hands
from twohands.geometry.camera import Camera
from twohands.palette import HAND_RGB
from twohands.schema import Sample
from twohands.view.contact_sheet import CAPTION_PX, COLUMNS, GAP_PX, TILE_PX, Panel, contact_sheet


def panel(hand, valid=(True, True)) -> Panel:
    parameters = two_hands(0.12)
    mesh = hand.pose_hands(parameters).mesh()
    camera = Camera(torch.tensor([150.0, 150.0]), torch.tensor([80.0, 60.0]))
    there = torch.tensor(valid)
    xy = torch.where(there[:, None, None], camera.project(mesh.keypoints_m), 0.0)
    sample = Sample(
        image=torch.full((3, 120, 160), 90, dtype=torch.uint8),
        camera=camera,
        hand_valid=there,
        keypoints_xy=xy,
        keypoint_visible=there[:, None].float().expand(2, 21),
        keypoints_camera_m=mesh.keypoints_m,
        keypoints_3d_valid=there[:, None].expand(2, 21),
        parameters=parameters,
        parameters_valid=there,
        box_xyxy_px=torch.cat([xy.amin(1), xy.amax(1)], -1),
        priors=None,
        source="test",
    )
    return Panel(sample, mesh.vertices_m, there, "a caption that is much too long to be shown above a tile of the sheet")


def amount(tile: np.ndarray, side: int) -> int:
    """Pixels nearer to a hand's colour than to grey."""
    colour = np.array(HAND_RGB[side]) - 90
    return int(((tile.astype(int) - 90) @ colour > 0.5 * colour @ colour).sum())


def tile_of(sheet: np.ndarray, k: int) -> np.ndarray:
    x, y = (k % COLUMNS) * (TILE_PX + GAP_PX), (k // COLUMNS) * (TILE_PX + CAPTION_PX + GAP_PX) + CAPTION_PX
    return sheet[y : y + TILE_PX, x : x + TILE_PX]


def test_hands_that_are_there_are_drawn(hand):
    panels = [panel(hand), panel(hand, (False, True)), panel(hand, (False, False)), panel(hand), panel(hand, (True, False))]
    sheet = contact_sheet(panels, hand)
    assert sheet.shape == (2 * (TILE_PX + CAPTION_PX + GAP_PX) - GAP_PX, COLUMNS * (TILE_PX + GAP_PX) - GAP_PX, 3)
    for k, one in enumerate(panels):
        drawn = [amount(tile_of(sheet, k), side) > 200 for side in (0, 1)]
        assert drawn == one.sample.hand_valid.tolist(), f"panel {k}"


def test_without_a_model_there_are_joints_only(hand):
    whole, joints = (amount(tile_of(contact_sheet([panel(hand)], model), 0), 1) for model in (hand, None))
    assert 100 < joints < whole / 2


def test_joints_that_are_not_known_are_left_out(hand):
    one = panel(hand)
    xy = one.sample.keypoints_xy.clone()
    xy[1, 1:] = torch.nan
    few = dataclasses.replace(one, sample=dataclasses.replace(one.sample, keypoints_xy=xy))
    assert amount(tile_of(contact_sheet([few], None), 0), 1) < amount(tile_of(contact_sheet([one], None), 0), 1) / 4
