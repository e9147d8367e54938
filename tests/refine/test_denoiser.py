import torch
from pairs import condition_of, random_denoiser, random_hands

from twohands.collision.proxies import SphereProxies
from twohands.hands.mirror import mirror_parameters
from twohands.hands.model import HandModel
from twohands.refine.denoiser import Condition, Denoiser, DenoiserConfig
from twohands.refine.state import PairFrame, swap_hands


def test_mirroring_and_swapping_the_hands_commutes_with_the_denoiser(hand: HandModel) -> None:
    hands, denoiser = random_hands(6, 0), random_denoiser(0)
    condition, _ = condition_of(hand, hands)
    mirrored = mirror_parameters(hands)
    exchanged = Condition.of(hand, SphereProxies.of(hand.data), mirrored, PairFrame.of(hand, mirrored), condition.confidence.flip(1))
    noisy, step = torch.randn(6, 2, 17, 13), torch.rand(6) * 1000
    here = denoiser(noisy, step, condition)
    there = denoiser(swap_hands(noisy), step, exchanged)
    torch.testing.assert_close(there, swap_hands(here), atol=2e-4, rtol=1e-3)
    assert not torch.allclose(here, swap_hands(here), atol=1e-2)


def test_untrained_denoiser_takes_pure_noise_for_the_hands_as_they_came(hand: HandModel) -> None:
    condition, _ = condition_of(hand, random_hands(3, 1))
    guess = Denoiser(DenoiserConfig(width=32, depth=1, heads=2))(torch.randn(3, 2, 17, 13), torch.full((3,), 1000.0), condition)
    assert float(guess.detach().abs().max()) < 0.05


def test_no_sample_feels_another(hand: HandModel) -> None:
    denoiser = random_denoiser(1)
    condition, _ = condition_of(hand, random_hands(8, 2))
    noisy, step = torch.randn(8, 2, 17, 13), torch.rand(8) * 1000
    together = denoiser(noisy, step, condition)
    alone = torch.cat([denoiser(noisy[i : i + 1], step[i : i + 1], condition[i : i + 1]) for i in range(8)])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)
