"""Where hands are put: never at the lens, and never out of reach of one another."""

import math
from dataclasses import replace

import torch

from twohands.regress.infer import PlacementConfig, _back_in_reach, _settled
from twohands.schema import HandPair

RELATIVE = torch.tensor([[0.1, 0.0, 0.05]])
BOTH = torch.tensor([True])


def moved(left: list[float], right: list[float], sureness: tuple[float, float] = (0.4, 0.9)) -> tuple[torch.Tensor, torch.Tensor]:
    wrist = torch.tensor([[left, right]])
    ray = wrist[..., :2] / wrist[..., 2:].abs()
    return wrist + _back_in_reach(wrist, ray, RELATIVE, torch.tensor([sureness]), BOTH, PlacementConfig()), ray


def test_hands_near_the_prediction_stay():
    wrist, _ = moved([0.1, 0.0, 0.56], [0.0, 0.0, 0.5])
    torch.testing.assert_close(wrist, torch.tensor([[[0.1, 0.0, 0.56], [0.0, 0.0, 0.5]]]))


def test_the_less_sure_hand_comes_back_along_its_line_of_sight():
    wrist, ray = moved([0.8, 0.1, 4.0], [0.0, 0.0, 0.5])
    torch.testing.assert_close(wrist[0, 1], torch.tensor([0.0, 0.0, 0.5]))
    torch.testing.assert_close(wrist[0, 0, 2], torch.tensor(0.55))
    torch.testing.assert_close(wrist[0, 0, :2] / wrist[0, 0, 2], ray[0, 0])


def test_a_hand_at_the_lens_is_the_wrong_one_however_sure():
    wrist, _ = moved([0.1, 0.0, 0.6], [0.0, 0.0, -0.02], sureness=(0.4, 0.9))
    torch.testing.assert_close(wrist[0, 0], torch.tensor([0.1, 0.0, 0.6]))
    torch.testing.assert_close(wrist[0, 1, 2], torch.tensor(0.55))


def test_a_single_hand_is_left_alone():
    wrist = torch.tensor([[[0.1, 0.0, 9.0], [0.0, 0.0, 0.5]]])
    step = _back_in_reach(wrist, wrist[..., :2], RELATIVE, torch.ones(1, 2), torch.tensor([False]), PlacementConfig())
    assert (step == 0).all()


def test_a_second_look_is_for_boxes_that_were_off() -> None:
    config = PlacementConfig(settled_share=0.1, settled_turn_deg=10)
    box = torch.tensor([[10.0, 10, 110, 110], [200.0, 0, 260, 60]])
    up = torch.tensor([[0.0, -1], [0.0, -1]])
    was = HandPair(box, up, torch.tensor([True, False]))
    assert _settled(replace(was, box_xyxy_px=box + 9), was, config)
    assert not _settled(replace(was, box_xyxy_px=box + 11), was, config)
    angle = math.radians(11)
    turned = torch.tensor([[math.sin(angle), -math.cos(angle)], [0.0, -1]])
    assert not _settled(replace(was, direction=turned), was, config)
    assert _settled(replace(was, direction=turned.flip(0)), was, config), "nobody looks at the absent hand"
