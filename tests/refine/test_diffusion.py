import torch
from pairs import condition_of, crossing_hands, random_denoiser, random_hands

from twohands.collision.proxies import SphereProxies
from twohands.hands.model import HandModel
from twohands.refine.diffusion import STEPS, LossWeights, add_noise, alpha_bar, diffusion_loss
from twohands.refine.guidance import bind


def test_signal_falls_from_all_to_almost_nothing() -> None:
    share = alpha_bar(torch.arange(0, STEPS + 1))
    assert share[0] == 1
    assert bool((share[1:] <= share[:-1]).all())
    assert 0 < share[-1] < 1e-4


def test_noised_unit_variance_stays_unit_variance() -> None:
    generator = torch.Generator().manual_seed(0)
    clean, noise = (torch.randn(4000, 2, 17, 13, generator=generator)[:, :1, :1, :4] for _ in range(2))
    for step in (1.0, 300.0, 999.0):
        assert abs(float(add_noise(clean, torch.full((4000,), step), noise).std()) - 1) < 0.03


def test_loss_is_zero_for_the_truth_and_its_gradient_reaches_the_network(hand: HandModel) -> None:
    hands = random_hands(4, 0)
    condition, frame = condition_of(hand, hands)
    denoiser = random_denoiser(0).requires_grad_(True)
    clean = condition.state + 0.01
    step, noise = torch.full((4,), 500.0), torch.randn(4, 2, 17, 13)
    truth = denoiser.scale.normalise(clean, condition.state)
    loss, logs = diffusion_loss(lambda x, t: truth, denoiser.scale, hand, clean, condition.state, frame, step, noise)
    # 0.1 mm under the root of each of three distances.
    assert float(logs["state"]) == 0
    assert float(loss) < 0.025
    loss, _ = diffusion_loss(bind(denoiser, condition), denoiser.scale, hand, clean, condition.state, frame, step, noise)
    loss.backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in denoiser.parameters())


def test_where_sampling_begins_nothing_of_the_truth_is_to_be_read(hand: HandModel) -> None:
    """Without noise three thousandths of it would be enough."""
    hands = random_hands(3, 0)
    condition, frame = condition_of(hand, hands)
    denoiser = random_denoiser(0)
    step, noise = torch.tensor([float(STEPS), STEPS, 500.0]), torch.zeros(3, 2, 17, 13)
    noise[1:] = torch.randn(2, 2, 17, 13, generator=torch.Generator().manual_seed(0))
    seen = []

    def looking(noisy: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
        seen.append(noisy)
        return torch.zeros_like(noisy)

    for off in (0.01, 0.02):
        diffusion_loss(looking, denoiser.scale, hand, condition.state + off, condition.state, frame, step, noise)
    assert not seen[0][0].any(), "as the sampler's first input"
    assert torch.equal(seen[0][1], noise[1])
    assert torch.equal(seen[0][:2], seen[1][:2]), "whatever the truth"
    assert not torch.equal(seen[0][2], seen[1][2]), "which later steps do show"


def test_overlapping_hands_cost_more_and_the_slope_parts_them(hand: HandModel) -> None:
    """Even where they are what the loss takes for the truth."""
    condition, frame = condition_of(hand, crossing_hands(2, 0))
    scale, proxies, weights = random_denoiser(0).scale, SphereProxies.of(hand.data), LossWeights()
    step, noise = torch.full((2,), 500.0), torch.randn(2, 2, 17, 13)

    def loss(guess: torch.Tensor, proxies: SphereProxies | None) -> tuple[torch.Tensor, float]:
        total, logs = diffusion_loss(
            lambda x, t: guess, scale, hand, condition.state, condition.state, frame, step, noise, weights, proxies
        )
        return total, float(logs["overlap_mm"])

    truth = scale.normalise(condition.state, condition.state).requires_grad_()
    (plain, none), (whole, overlap_mm) = loss(truth, None), loss(truth, proxies)
    assert none == 0
    assert overlap_mm > 1
    torch.testing.assert_close((whole - plain).item(), 0.1 * weights.overlap * overlap_mm, rtol=1e-4, atol=0)
    (gradient,) = torch.autograd.grad(whole - plain, truth)
    assert loss((truth - 0.1 * gradient / gradient.norm()).detach(), proxies)[1] < overlap_mm
