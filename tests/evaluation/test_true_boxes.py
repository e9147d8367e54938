"""Boxes of annotated hands, worked by hand."""

import numpy as np
import pytest
import torch

from twohands.evaluation.true_boxes import AnnotatedHand, AnnotatedPicture, overlaps
from twohands.geometry.camera import Camera
from twohands.joints import MIDDLE_MCP


def hand(side: int = 1, known: slice = slice(None)) -> AnnotatedHand:
    xy = np.stack([np.linspace(10, 30, 21), np.linspace(50, 20, 21)], 1)
    labelled = np.zeros(21, bool)
    labelled[known] = True
    return AnnotatedHand(side, xy, labelled, labelled)


def test_boxes_are_tight_around_what_is_labelled() -> None:
    assert hand().box_xyxy_px.tolist() == [10, 20, 30, 50]
    assert hand().side_px == 30
    assert hand(known=slice(0, 11)).box_xyxy_px.tolist() == [10, 35, 20, 50]


def test_directions_run_from_wrist_to_middle_knuckle() -> None:
    direction = hand().direction
    assert direction is not None
    assert np.allclose(direction, np.array([2, -3]) / np.sqrt(13))
    assert hand(known=slice(0, MIDDLE_MCP)).direction is None
    assert hand().length_share == pytest.approx(MIDDLE_MCP / 20 * np.hypot(20, 30) / 30)


def test_a_perfect_detector() -> None:
    picture = AnnotatedPicture(
        np.zeros((64, 64, 3), np.uint8), Camera(torch.ones(2), torch.zeros(2)), (hand(0), hand(1, slice(0, 5))), np.zeros((0, 4)), True
    )
    found = picture.detection()
    assert found.right_probability.tolist() == [0, 1]
    assert found.direction[1].tolist() == [0, -1], "without a direction it points up"
    assert found.person == (0, 0)


def test_overlap_worked_by_hand() -> None:
    iou = overlaps(np.array([[0, 0, 2, 2.0]]), np.array([[1, 0, 3, 2.0], [5, 5, 6, 6]]))
    assert np.allclose(iou, [[2 / 6, 0]])
    assert overlaps(np.zeros((0, 4)), np.zeros((3, 4))).shape == (0, 3)
