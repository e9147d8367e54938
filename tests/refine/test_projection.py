import torch
from torch.nn import functional

from twohands.refine.projection import ProjectionConfig, brought_together, drawn_apart, ways_out

CONFIG = ProjectionConfig()
BALL_M = 0.01


def balls(place_m: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Two spheres of 1 cm, the left one at the origin."""
    return torch.stack([torch.zeros_like(place_m), place_m], 1)[:, :, None], torch.full((len(place_m), 2, 1), BALL_M)


def test_the_way_out_is_the_shortest_and_just_long_enough() -> None:
    place = torch.tensor([[0.005, 0.0, 0.0], [0.0, -0.012, 0.009]])
    centres, radius = balls(place)
    way, length = ways_out(centres, radius, None, 0.001, CONFIG)
    moved = centres.clone()
    moved[:, 0, 0] += length[:, None] * way
    gap = (moved[:, 1] - moved[:, 0]).norm(dim=-1)[:, 0] - 2 * BALL_M
    torch.testing.assert_close(gap, torch.full((2,), 0.001), atol=1e-5, rtol=0)
    shortest = 2 * BALL_M + 0.001 - place.norm(dim=-1)
    assert bool((length < 1.2 * shortest).all()), "among 64 directions one is near the best"
    assert bool(((way * functional.normalize(place, dim=-1)).sum(-1) < -0.9).all())


def test_the_line_of_sight_is_preferred() -> None:
    ray = torch.tensor([[0.0, 0.0, 1.0]])
    centres, radius = balls(torch.tensor([[0.004, 0.0, 0.004]]))
    way, _ = ways_out(centres, radius, ray, 0.0, ProjectionConfig(across_cost=50.0))
    torch.testing.assert_close(way.abs(), ray)


def test_touching_again_closes_the_gap_but_not_a_wide_one() -> None:
    centres, radius = balls(torch.tensor([[0.026, 0.0, 0.0], [0.019, 0.0, 0.0], [0.2, 0.0, 0.0]]))
    shift = brought_together(centres, radius, 0.001, 0.03)
    torch.testing.assert_close(shift, torch.tensor([[0.005, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]))


def test_drawing_apart_goes_on_until_nothing_crosses_or_says_where_it_ended() -> None:
    way, length = torch.tensor([[1.0, 0.0, 0.0]]).expand(3, 3), torch.tensor([0.01, 0.01, 0.01])
    needs = torch.tensor([0.0, 0.0125, 1.0])
    shift, free = drawn_apart(lambda moved, rows: moved[:, 0] < needs[rows], way, length, CONFIG)
    far = length + (CONFIG.tries - 1) * CONFIG.widen_m
    torch.testing.assert_close(shift[:, 0], torch.tensor([0.01, 0.013, float(far[2])]))
    assert free.tolist() == [True, True, False]
