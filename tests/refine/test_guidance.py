import torch
from pairs import condition_of, crossing_hands, random_denoiser

from twohands.collision.proxies import SphereProxies
from twohands.hands.model import HandModel
from twohands.refine.guidance import bind, energy_and_gradient, guided, paper_energy, sphere_energy
from twohands.refine.state import shape_numbers


def test_guidance_of_strength_zero_changes_no_bit(hand: HandModel) -> None:
    condition, frame = condition_of(hand, crossing_hands(3, 0))
    denoiser = random_denoiser(0)
    plain = bind(denoiser, condition)
    energy = sphere_energy(SphereProxies.of(hand.data))
    noisy, step = torch.randn(3, 2, 17, 13), torch.full((3,), 300.0)
    assert torch.equal(guided(plain, hand, denoiser.scale, condition, frame, energy, 0.0)(noisy, step), plain(noisy, step))


def test_guidance_lowers_the_energy_of_each_pair(hand: HandModel) -> None:
    condition, frame = condition_of(hand, crossing_hands(4, 1))
    denoiser = random_denoiser(0)
    energy = sphere_energy(SphereProxies.of(hand.data))
    as_they_came = torch.zeros_like(condition.state)

    def descend(noisy: torch.Tensor, step: torch.Tensor) -> torch.Tensor:
        return guided(lambda x, t: as_they_came, hand, denoiser.scale, condition, frame, energy, 0.02, steps=5)(noisy, step)

    before, gradient = energy_and_gradient(as_they_came, hand, denoiser.scale, condition, frame, energy)
    after, _ = energy_and_gradient(descend(as_they_came, torch.zeros(4)), hand, denoiser.scale, condition, frame, energy)
    assert bool((before > 0).all())
    assert bool((after < before).all())
    assert not gradient[..., shape_numbers()].any()


def test_energies_of_hands_that_are_far_apart_are_zero(hand: HandModel) -> None:
    condition, frame = condition_of(hand, crossing_hands(2, 2, gap_m=0.3))
    scale = random_denoiser(0).scale
    still = torch.zeros_like(condition.state)
    for energy in (sphere_energy(SphereProxies.of(hand.data), self_weight=0.0), paper_energy()):
        value, gradient = energy_and_gradient(still, hand, scale, condition, frame, energy)
        assert not value.any()
        assert not gradient.any()
