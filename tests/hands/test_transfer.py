"""Hands keep their place and pose when another model takes them over."""

from dataclasses import replace

import pytest
import torch

from scenes import two_hands
from twohands.hands.model import HandModel
from twohands.hands.transfer import keypoint_distance_m, transfer_hands
from twohands.record import stack


@pytest.fixture(scope="module")
def longer_fingered(hand) -> HandModel:
    """A model of other proportions and other shape directions: 4 % longer along the fingers."""
    stretch = torch.tensor([1.04, 1.0, 1.0])
    return HandModel(replace(hand.data, name="other", v_template=hand.data.v_template * stretch, shapedirs=hand.data.shapedirs.flip(-1)))


@pytest.fixture
def posed(generator):
    hands = two_hands(0.1)
    hands.pose[:, 1:] += 0.25 * torch.randn(2, 15, 3, generator=generator)
    hands.shape[:] = torch.randn(2, 10, generator=generator)
    return hands


def test_keypoints_stay_where_they_were(hand, longer_fingered, posed):
    taken = transfer_hands(posed, hand, longer_fingered)
    assert (keypoint_distance_m(posed, hand, taken, longer_fingered) < 0.003).all()


def test_absent_hands_become_zeros_and_do_not_disturb(hand, longer_fingered, posed):
    both = transfer_hands(posed, hand, longer_fingered)
    one = transfer_hands(posed, hand, longer_fingered, torch.tensor([True, False]))
    assert torch.allclose(one.pose[0], both.pose[0], atol=1e-3)
    assert not one.pose[1].any()
    assert not one.translation_m[1].any()


def test_a_batch_is_one_pair_after_another(hand, longer_fingered, posed):
    other = two_hands(0.05, depth_m=0.4)
    present = torch.tensor([[True, True], [False, True]])
    batch = transfer_hands(stack([posed, other]), hand, longer_fingered, present)
    for k, single in enumerate((posed, other)):
        alone = transfer_hands(single, hand, longer_fingered, present[k])
        torch.testing.assert_close(batch[k].pose, alone.pose, atol=1e-3, rtol=0)
        torch.testing.assert_close(batch[k].translation_m, alone.translation_m, atol=1e-4, rtol=0)
