"""Boxes on a grid: rounding in whatever found them does not reach the network."""

import torch

from twohands.regress.crops import DIRECTIONS, PLACES_A_SIDE, followed_pair, on_grid
from twohands.schema import HandPair


def pairs(generator: torch.Generator, count: int) -> HandPair:
    centre = 2000 * torch.rand(count, 2, 2, generator=generator)
    half = 15 * 2 ** (4 * torch.rand(count, 2, 1, generator=generator)) * (0.6 + 0.4 * torch.rand(count, 2, 2, generator=generator))
    direction = torch.nn.functional.normalize(torch.randn(count, 2, 2, generator=generator), dim=-1)
    return HandPair(torch.cat([centre - half, centre + half], -1), direction, torch.ones(count, 2, dtype=torch.bool))


def test_a_box_hardly_moves(generator):
    given = pairs(generator, 500)
    pair = on_grid(given)
    side = (given.box_xyxy_px[..., 2:] - given.box_xyxy_px[..., :2]).amax(-1, keepdim=True)
    assert ((pair.box_xyxy_px - given.box_xyxy_px).abs() / side).max() <= 0.5 / PLACES_A_SIDE + 1e-4
    turn = (pair.direction * given.direction).sum(-1).clamp(max=1).acos()
    assert turn.max() <= torch.pi / DIRECTIONS + 1e-3
    torch.testing.assert_close(pair.direction.norm(dim=-1), torch.ones(500, 2))


def test_rounding_does_not_move_it_at_all(generator):
    given = pairs(generator, 500)
    noise = torch.randn(500, 2, 4, generator=generator)
    other = HandPair(given.box_xyxy_px + 2e-4 * noise, given.direction + 1e-6 * noise[..., :2], given.present)
    a, b = on_grid(given), on_grid(other)
    same = (a.box_xyxy_px == b.box_xyxy_px).all(-1) & (a.direction == b.direction).all(-1)
    assert same.float().mean() > 0.995


def test_a_thin_box_keeps_an_area_and_one_without_stays_so():
    box = torch.tensor([[[10.0, 20.0, 10.1, 220.0], [7.0, 7.0, 7.0, 7.0]]])
    pair = on_grid(HandPair(box, torch.tensor([[[0.0, -1.0], [0.0, -1.0]]]), torch.ones(1, 2, dtype=torch.bool)))
    low, high = pair.box_xyxy_px[0, :, :2], pair.box_xyxy_px[0, :, 2:]
    assert (high[0] > low[0]).all()
    assert (high[1] == low[1]).all()


def test_a_second_look_follows_keypoints_that_are_believed_and_near():
    box = torch.tensor([10.0, 10.0, 50.0, 50.0]).expand(4, 2, 4)
    pair = HandPair(box, torch.tensor([0.0, -1.0]).expand(4, 2, 2), torch.ones(4, 2, dtype=torch.bool))
    found = torch.tensor([14.0, 14.0]) + 40 * torch.linspace(0, 1, 21)[:, None].expand(21, 2)  # a box of 40 px, 4 px farther on
    keypoints = found.expand(4, 2, 21, 2).clone()
    keypoints[1] += 60  # astray
    keypoints[2] = 30 + 0.2 * (keypoints[2] - 30)  # far too small
    believed = torch.tensor([[True, True]] * 3 + [[True, False]])
    moved = followed_pair(pair, keypoints, believed, 0.5)
    torch.testing.assert_close(moved.box_xyxy_px[0], box[0] + 2)
    assert torch.equal(moved.box_xyxy_px[1:3], box[1:3])
    torch.testing.assert_close(moved.box_xyxy_px[3], torch.stack([box[3, 0] + 2, box[3, 1]]))
    torch.testing.assert_close(moved.direction[0], torch.full((2, 2), 0.5**0.5))
    assert torch.equal(moved.direction[1:3], pair.direction[1:3])
