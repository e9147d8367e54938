"""Where a followed hand is looked for."""

import math

import pytest
import torch

from twohands.video.hand import MOST_ROOM, FollowedHand, pair_at, roomy

HAND = torch.stack([torch.linspace(0, 60, 21), torch.linspace(0, 100, 21)], -1) + 200


def followed() -> FollowedHand:
    return FollowedHand(HAND.clone(), 0.0, 0.5, 0.8, 0.5)


@pytest.mark.parametrize("start", [0.7, 1.0, 1.3])
def test_boxes_about_keypoints_that_are_read_too_far_inside_do_not_shrink_from_frame_to_frame(start):
    true_px, hand, asked_px, naive_px = 100.0, followed(), 100.0 * start, 100.0 * start

    def read(box_px: float) -> float:  # as stage 1 does: the tighter the box, the smaller
        return true_px * math.exp(-0.096) * (box_px / true_px) ** 0.3

    for _ in range(12):
        read_px = read(asked_px)
        hand.fitted_in(asked_px, read_px)
        asked_px, naive_px = read_px * hand.room, read(naive_px)
    assert asked_px == pytest.approx(true_px, rel=0.02)
    assert naive_px < 0.88 * true_px, "which they would"


@pytest.mark.parametrize(("asked_px", "read_px"), [(1.0, 400.0), (400.0, 1.0), (0.0, 0.0)])
def test_a_hand_read_at_an_absurd_size_gets_no_absurd_box(asked_px, read_px):
    hand = followed()
    for _ in range(20):
        hand.fitted_in(asked_px, read_px)
    assert 1 <= hand.room <= MOST_ROOM


def test_room_is_made_about_the_middle():
    pair = pair_at(torch.stack([HAND, HAND + 50]), torch.tensor([True, True]))
    wide = roomy(pair, torch.tensor([1.2, 1.0]))
    assert wide.box_xyxy_px[0].tolist() == pytest.approx([194, 190, 266, 310])
    assert torch.equal(wide.box_xyxy_px[1], pair.box_xyxy_px[1])
