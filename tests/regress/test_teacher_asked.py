"""Of whose hands the light teacher is asked: of those that are alone in their crops."""

import math
from dataclasses import dataclass, field, replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny_stage1 import CAMERA, PAIR, TINY

from twohands.hands.bundled import load_bundled_hand, load_hand_asset
from twohands.record import stack
from twohands.regress.crops import view_pairs
from twohands.regress.infer import PlacementConfig, Stage1
from twohands.regress.network import Regressor
from twohands.schema import HandPair

LYING_TOGETHER = HandPair(PAIR.box_xyxy_px + torch.tensor([[10.0, 0, 10, 0], [-30.0, 0, -30, 0]]), PAIR.direction, PAIR.present)


@dataclass
class Listener:
    """A teacher that sees a flat hand in the middle of every box, and remembers for how many it was asked."""

    asked: list[int] = field(default_factory=list)

    def __call__(self, image: np.ndarray, box_xyxy_px: np.ndarray, direction: np.ndarray) -> SimpleNamespace:
        n = len(box_xyxy_px)
        self.asked.append(n)
        hand = np.random.default_rng(0).uniform(-0.5, 0.5, (21, 2))
        centre, size = (box_xyxy_px[:, :2] + box_xyxy_px[:, 2:]) / 2, (box_xyxy_px[:, 2:] - box_xyxy_px[:, :2])
        world = np.concatenate([hand * 0.1, np.zeros((21, 1))], 1)
        return SimpleNamespace(
            keypoints_xy_image=centre[:, None] + hand * size[:, None], keypoints_world_m=np.tile(world, (n, 1, 1)),
            presence=np.ones(n), right_probability=np.linspace(0, 1, n),
        )  # fmt: skip


def asked(pair: HandPair, passes: int, sees_other: float | None = None) -> list[int]:
    torch.manual_seed(2)
    network = Regressor(TINY).eval()
    if sees_other is not None:
        last = [m for m in network.other.modules() if isinstance(m, torch.nn.Linear)][-1]
        with torch.no_grad():
            last.weight.zero_()
            last.bias.copy_(torch.tensor([sees_other, 0.0, 0.0, 0.0, 0.0, 1.0]))
    teacher = Listener()
    placement = replace(PlacementConfig(), passes=passes)
    hands = Stage1(network, load_bundled_hand(), load_hand_asset().limits, teacher, placement).infer(
        torch.rand(3, 128, 160), CAMERA, [pair]
    )[0]
    assert bool(hands.keypoints_m.isfinite().all())
    return teacher.asked


def test_with_one_look_boxes_tell() -> None:
    assert asked(PAIR, passes=1) == [2]
    assert asked(LYING_TOGETHER, passes=1) == []


@pytest.mark.parametrize("pair", [PAIR, LYING_TOGETHER])
def test_with_two_looks_what_the_first_one_saw_tells(pair: HandPair) -> None:
    assert asked(pair, passes=2, sees_other=-4.0) == [2]
    assert asked(pair, passes=2, sees_other=4.0) == []


def test_an_absent_hand_is_not_asked_about() -> None:
    assert asked(replace(PAIR, present=torch.tensor([True, False])), passes=2, sees_other=-4.0) == [1]


@pytest.mark.parametrize("shown", [False, True])
def test_the_network_sees_its_keypoints_only_if_told_to(shown: bool) -> None:
    network, seen = Regressor(TINY).eval(), []
    network.register_forward_pre_hook(lambda _, given: seen.append(given[3:]))
    teacher, placement = Listener(), replace(PlacementConfig(), passes=1, teacher_shown=shown)
    Stage1(network, load_bundled_hand(), load_hand_asset().limits, teacher, placement).infer(torch.rand(3, 128, 160), CAMERA, [PAIR])
    ((priors, use),) = seen
    assert teacher.asked == [2]
    assert (priors is not None, use is not None) == (shown, shown)


def test_what_it_says_of_depth_is_along_the_line_of_sight() -> None:
    """A hand that is flat before the line of sight to it is not flat before the camera, unless it is in the middle."""
    stage1 = Stage1(Regressor(TINY).eval(), load_bundled_hand(), load_hand_asset().limits, Listener())
    image = torch.zeros(3, 128, 160)
    boxes = torch.tensor([[60.0, 44, 100, 84], [120.0, 44, 160, 84]])
    pair = stack([replace(PAIR, box_xyxy_px=boxes)])
    _, reading = stage1._ask_teacher(image, CAMERA, pair, view_pairs(CAMERA, pair, TINY.crop_px), torch.tensor([True]))
    assert reading is not None
    assert reading.depth[0, 0].abs().max() < 1e-6
    # The right one lies at 60 px of a focal length of 200: the side that is farther from the middle lies nearer to the camera's plane.
    across = reading.ray_xy[0, 1, :, 0] - reading.ray_xy[0, 1, 0, 0]
    depth = reading.depth[0, 1]
    slope = (across * depth).sum() / across.square().sum()
    palm = np.random.default_rng(0).uniform(-0.5, 0.5, (21, 2))
    palm = 0.2 * np.linalg.norm(palm[9] - palm[0])
    expected = -0.1 * math.sin(math.atan(60 / 200)) / (palm / 2)
    assert float(slope * 40 / 200) == pytest.approx(expected, rel=0.05)
