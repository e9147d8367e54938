import torch
from pairs import condition_of, crossing_hands
from torch.nn import functional

from twohands.collision.energy import penetration_energy
from twohands.collision.proxies import SphereProxies
from twohands.hands.model import HandModel
from twohands.refine.projection import ProjectionConfig, brought_together, drawn_apart, give_way, ways_out
from twohands.refine.state import posed, shape_of

CONFIG = ProjectionConfig()
BALL_M = 0.01


def balls(place_m: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Two spheres of 1 cm, the left one at the origin."""
    return torch.stack([torch.zeros_like(place_m), place_m], 1)[:, :, None], torch.full((len(place_m), 2, 1), BALL_M)


def test_spheres_give_way_until_none_overlap(hand: HandModel) -> None:
    proxies = SphereProxies.of(hand.data)
    condition, frame = condition_of(hand, crossing_hands(6, 0, gap_m=0.025))
    state = give_way(hand, proxies, condition.state, frame, condition.confidence, condition.view, 0.0, CONFIG)

    def overlap(s: torch.Tensor) -> torch.Tensor:
        return penetration_energy(proxies.centres_posed(posed(hand, s, frame)), proxies.radii(shape_of(s)))

    before, after = overlap(condition.state), overlap(state)
    assert bool((before > 0).all())
    assert bool((after < 0.05 * before).all())
    assert torch.equal(shape_of(state), shape_of(condition.state)), "thinner hands are no remedy"


def test_the_unsure_hand_gives_way(hand: HandModel) -> None:
    condition, frame = condition_of(hand, crossing_hands(4, 1, gap_m=0.02))
    confidence = torch.ones_like(condition.confidence)
    confidence[:, 0] = 0.0
    state = give_way(hand, SphereProxies.of(hand.data), condition.state, frame, confidence, torch.zeros_like(condition.view), 0.0, CONFIG)
    moved = (state - condition.state).abs().amax((2, 3))
    assert bool((moved[:, 0] > 3 * moved[:, 1]).all())


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
    shift = drawn_apart(lambda moved, rows: moved[:, 0] < needs[rows], way, length, CONFIG)
    far = length + CONFIG.tries * CONFIG.widen_m
    torch.testing.assert_close(shift[:, 0], torch.tensor([0.01, 0.013, float(far[2])]))
