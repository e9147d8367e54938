import pytest
import torch
from pairs import condition_of, random_denoiser, random_hands

from twohands.hands.model import HandModel
from twohands.refine.diffusion import STEPS
from twohands.refine.guidance import bind
from twohands.refine.sampler import ddim, seeded_noise, start_noisy, steps_down


@pytest.mark.parametrize("count", [1, 2, 7, 50])
@pytest.mark.parametrize("start", [STEPS, 400])
def test_perfect_denoiser_is_recovered(count: int, start: float) -> None:
    truth = torch.randn(3, 2, 17, 13, generator=torch.Generator().manual_seed(1))
    noise = seeded_noise((2, 17, 13), [1, 2, 3])
    found = ddim(lambda x, step: truth, start_noisy(truth, noise, start), steps_down(count, start))
    torch.testing.assert_close(found, truth, atol=1e-5, rtol=0)


def test_perfect_noise_keeps_its_path() -> None:
    """With the truth known, DDIM's noise is that of the start at every step."""
    truth, noise = torch.randn(2, 2, 17, 13), seeded_noise((2, 17, 13), [4, 5])
    seen: list[tuple[float, torch.Tensor]] = []
    ddim(lambda x, step: truth, start_noisy(truth, noise, 900), steps_down(9, 900), lambda step, x, clean: seen.append((step, x)))
    for step, x in seen:
        torch.testing.assert_close(x, start_noisy(truth, noise, step), atol=1e-4, rtol=0)


def test_a_batch_of_eight_equals_eight_batches_of_one(hand: HandModel) -> None:
    denoiser = random_denoiser(0)
    condition, _ = condition_of(hand, random_hands(8, 0))
    seeds, steps = list(range(8)), steps_down(5)
    together = ddim(bind(denoiser, condition), seeded_noise((2, 17, 13), seeds), steps)
    for i in range(8):
        alone = ddim(bind(denoiser, condition[i : i + 1]), seeded_noise((2, 17, 13), [seeds[i]]), steps)
        torch.testing.assert_close(alone[0], together[i], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("steps", [[500.0], [0.0, 10.0], [500.0, 500.0, 0.0], [500.0, 100.0]])
def test_steps_that_do_not_fall_to_zero_are_refused(steps: list[float]) -> None:
    with pytest.raises(ValueError, match="fall"):
        ddim(lambda x, step: x, torch.zeros(1, 2, 17, 13), steps)
    with pytest.raises(ValueError, match="start in"):
        steps_down(4, 1001)
