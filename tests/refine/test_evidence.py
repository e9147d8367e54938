import dataclasses

import pytest
import torch
from pairs import crossing_hands

from twohands.hands.model import HandModel
from twohands.refine.evidence import EvidenceConfig, across, error_scale_m, held, log_error_scale, moved_scales, share_believed


def test_the_error_scale_gives_the_confidence_back() -> None:
    sure = torch.tensor([0.1, 0.5, 0.9, 0.99])
    tenths = log_error_scale(sure).exp()
    torch.testing.assert_close(1 - torch.exp(-1 / tenths), sure)


def test_who_knows_nothing_gives_no_leave_to_go_anywhere(hand: HandModel) -> None:
    keypoints = hand.pose_hands(crossing_hands(1, 0)).keypoints()
    scales = [error_scale_m(keypoints, torch.full((1, 2, 21), sure)).mean().item() for sure in (0.01, 0.5, 0.9, 0.99)]
    assert scales[0] == scales[1] > scales[2] > scales[3]
    assert 0.005 < scales[1] < 0.05, "of a hand of eighteen centimetres"


def test_hands_that_were_moved_together_come_back(hand: HandModel) -> None:
    given, sure = crossing_hands(2, 1), torch.full((2, 2, 21), 0.7)
    aside = dataclasses.replace(given, translation_m=given.translation_m + torch.tensor([0.02, -0.01, 0.0]))
    back = held(hand, given, aside, sure, EvidenceConfig())
    torch.testing.assert_close(back.translation_m[..., :2], given.translation_m[..., :2], atol=2e-3, rtol=0)
    farther = dataclasses.replace(given, translation_m=given.translation_m * 1.2)
    along = torch.nn.functional.normalize(hand.pose_hands(given).keypoints().mean(2), dim=-1)
    kept = held(hand, given, farther, sure, EvidenceConfig(hold_deep=0.0)).translation_m - farther.translation_m
    torch.testing.assert_close((kept * along).sum(-1), torch.zeros(2, 2), atol=2e-3, rtol=0)
    for share in (0.5, 1.0):
        moved = held(hand, given, farther, sure, EvidenceConfig(hold_deep=share)).translation_m - farther.translation_m
        nearer = ((given.translation_m - farther.translation_m) * along).sum(-1)
        # Of hands at different distances what they moved alike comes back.
        torch.testing.assert_close((moved * along).sum(-1).mean(1), share * nearer.mean(1), atol=4e-3, rtol=0)


def test_what_one_hand_moves_towards_the_camera_and_the_other_away_is_kept(hand: HandModel) -> None:
    given, sure = crossing_hands(1, 2), torch.full((1, 2, 21), 0.7)
    along = torch.nn.functional.normalize(hand.pose_hands(given).keypoints().mean(2), dim=-1)
    found = dataclasses.replace(given, translation_m=given.translation_m + along * torch.tensor([0.02, -0.02])[:, None])
    left = held(hand, given, found, sure, EvidenceConfig()).translation_m - given.translation_m
    assert float(((left[:, 0] - left[:, 1]) * along[:, 0]).sum()) == pytest.approx(0.04, abs=3e-3)


def test_what_one_hand_moves_against_the_other_is_kept_in_part(hand: HandModel) -> None:
    given, sure = crossing_hands(1, 2), torch.full((1, 2, 21), 0.7)
    move = torch.tensor([[[0.0, 0.02, 0.0], [0.0, -0.02, 0.0]]])
    found = dataclasses.replace(given, translation_m=given.translation_m + move)
    for share in (0.0, 0.5, 1.0):
        left = held(hand, given, found, sure, EvidenceConfig(hold_each=share)).translation_m - given.translation_m
        assert float((left[0, 0] - left[0, 1])[1]) == pytest.approx(0.04 * (1 - share), abs=2e-3)


def test_moves_count_across_the_line_of_sight_in_error_scales(hand: HandModel) -> None:
    given, sure = crossing_hands(1, 3), torch.full((1, 2, 21), 0.8)
    scale_m = float(error_scale_m(hand.pose_hands(given).keypoints(), sure).mean())
    aside = dataclasses.replace(given, translation_m=given.translation_m + torch.tensor([0.0, scale_m, 0.0]))
    assert float(moved_scales(hand, given, aside, sure, camera_frame=True)) == pytest.approx(1, rel=0.1)
    away = dataclasses.replace(given, translation_m=given.translation_m + torch.tensor([0.0, 0.0, scale_m]))
    assert float(moved_scales(hand, given, away, sure, camera_frame=True)) < 0.3
    assert float(moved_scales(hand, given, away, sure, camera_frame=False)) == pytest.approx(1, rel=0.1)


def test_a_guess_is_believed_the_less_the_farther_it_goes_and_the_shallower_the_hands_lie() -> None:
    config = EvidenceConfig(trust=1.0, deep_m=0.01)
    moved = torch.tensor([0.0, 1.0, 1.5, 2.0, 9.0])
    assert share_believed(moved, torch.full((5,), 0.02), config).tolist() == pytest.approx([1, 1, 0.5, 0, 0])
    assert share_believed(moved, torch.full((5,), 0.005), config).tolist() == pytest.approx([1, 0, 0, 0, 0])
    assert share_believed(torch.tensor([0.1]), torch.tensor([-0.001]), config).tolist() == [0.0]


def test_across_leaves_nothing_along() -> None:
    vectors, ray = torch.randn(5, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([0.0, 0.6, 0.8])
    torch.testing.assert_close((across(vectors, ray) * ray).sum(-1), torch.zeros(5), atol=1e-6, rtol=0)
