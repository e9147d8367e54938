import torch
from pairs import crossing_hands
from torch.nn import functional

from twohands.collision.energy import penetration_energy, self_penetration_energy
from twohands.collision.proxies import SphereProxies
from twohands.geometry.rotations import rotvec_to_matrix
from twohands.hands.model import HandModel
from twohands.hands.parameters import HandParameters
from twohands.refine.give_way import GiveWayConfig, give_way


def overlap(model: HandModel, hands: HandParameters, margin_m: float = 0.0) -> torch.Tensor:
    proxies = SphereProxies.of(model.data)
    return penetration_energy(proxies.centres_posed(model.pose_hands(hands)), proxies.radii(hands.shape), margin_m)


def settled(model: HandModel, hands: HandParameters, config: GiveWayConfig, sure: torch.Tensor | None = None) -> HandParameters:
    sure = torch.full((len(hands.shape), 2, 17), 0.5) if sure is None else sure
    ray = functional.normalize(hands.translation_m.mean(1), dim=-1)
    return give_way(model, SphereProxies.of(model.data), hands, sure, ray, 0.0, config)


def bent_and_crossing(count: int, seed: int) -> HandParameters:
    hands = crossing_hands(count, seed, gap_m=0.025)
    pose = hands.pose.clone()
    pose[:, :, 1:] += 0.3 * torch.randn(pose[:, :, 1:].shape, generator=torch.Generator().manual_seed(seed))
    return HandParameters(pose, hands.shape, hands.translation_m)


def test_spheres_give_way_until_none_overlap(hand: HandModel) -> None:
    hands = bent_and_crossing(6, 0)
    found = settled(hand, hands, GiveWayConfig())
    before, after = overlap(hand, hands), overlap(hand, found)
    assert bool((before > 0).all())
    assert bool((after < 0.01 * before).all())
    assert torch.equal(found.shape, hands.shape), "thinner hands are no remedy"


def test_a_small_step_takes_off_what_its_slope_promises(hand: HandModel) -> None:
    """So torques and forces are the overlap's gradient, in both hands and through all joints."""
    hands = bent_and_crossing(8, 1)
    before = overlap(hand.to(torch.float64), hands.to(torch.float64))
    for share in (0.01, 0.02):
        config = GiveWayConfig(steps=1, own=0.0, farthest=1e9, length=share, finger_rad=(0.1, 0.1, 0.1), wrist_rad=0.1, place_m=0.005)
        after = overlap(hand.to(torch.float64), settled(hand, hands, config).to(torch.float64))
        torch.testing.assert_close((before - after) / before, torch.full((8,), share, dtype=torch.float64), atol=0.15 * share, rtol=0)


def test_the_unsure_hand_gives_way(hand: HandModel) -> None:
    hands, sure = bent_and_crossing(4, 2), torch.ones(4, 2, 17)
    sure[:, 0] = 0.0
    found = settled(hand, hands, GiveWayConfig(steps=1, own=0.0), sure)
    turned = (rotvec_to_matrix(found.pose) - rotvec_to_matrix(hands.pose)).square().sum((0, 2, 3, 4)).sqrt()
    assert float(turned[0]) > 5 * float(turned[1])


def test_what_is_deep_in_each_other_parts_along_the_line_of_sight(hand: HandModel) -> None:
    hands = crossing_hands(3, 3, gap_m=0.0)
    moved = (
        settled(hand, hands, GiveWayConfig(finger_rad=(1e-3, 1e-3, 1e-3), thumb_rad=1e-3, wrist_rad=1e-3)).translation_m
        - hands.translation_m
    )
    ray = functional.normalize(hands.translation_m.mean(1), dim=-1)[:, None]
    along = (moved * ray).sum(-1, keepdim=True)
    assert bool(((moved - along * ray).norm(dim=-1) < 0.3 * along[..., 0].abs()).all())


def test_no_hand_runs_deeper_into_itself(hand: HandModel) -> None:
    proxies = SphereProxies.of(hand.data)
    hands = bent_and_crossing(6, 4)

    def own(parameters: HandParameters) -> torch.Tensor:
        return self_penetration_energy(
            proxies.centres_posed(hand.pose_hands(parameters)), proxies.radii(hands.shape), proxies.may_collide
        ).sum()

    careless = own(settled(hand, hands, GiveWayConfig(own=0.0, finger_rad=(0.3, 0.3, 0.3))))
    careful = own(settled(hand, hands, GiveWayConfig(own=1.0, finger_rad=(0.3, 0.3, 0.3))))
    assert float(careful) <= float(own(hands)) + 1e-6
    assert float(careful) <= float(careless)


def test_each_pair_settles_for_itself(hand: HandModel) -> None:
    hands = bent_and_crossing(5, 5)
    together = settled(hand, hands, GiveWayConfig())
    for i in range(5):
        alone = settled(hand, hands[i : i + 1], GiveWayConfig())
        torch.testing.assert_close(alone.pose[0], together.pose[i], atol=1e-4, rtol=0)
        torch.testing.assert_close(alone.translation_m[0], together.translation_m[i], atol=1e-6, rtol=0)
