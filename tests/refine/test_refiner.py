import dataclasses
from pathlib import Path

import pytest
import torch
from pairs import crossing_hands, random_denoiser

from twohands.checkpoints import save_weights
from twohands.errors import UserError
from twohands.hands.model import HandModel
from twohands.hands.parameters import HandParameters
from twohands.record import concatenate
from twohands.refine.evidence import EvidenceConfig, moved_scales
from twohands.refine.refiner import FREE_CM3, RefineConfig, Refiner, shared_volumes_cm3, token_confidence

QUICK = RefineConfig(steps=3)


@pytest.fixture(scope="module")
def refiner() -> Refiner:
    """Not trained: its guesses are bad, so the promises rest on everything around it."""
    return Refiner(random_denoiser(0, 0.1), QUICK)


def test_volume_never_grows_and_is_what_is_said(hand: HandModel, refiner: Refiner) -> None:
    hands = crossing_hands(6, 0)
    result = refiner.refine(hand, hands)
    assert bool((result.volume_before_cm3 > FREE_CM3).all())
    assert bool((result.volume_after_cm3 <= result.volume_before_cm3).all())
    torch.testing.assert_close(result.volume_after_cm3, shared_volumes_cm3(hand, result.parameters))
    for name in ("pose", "shape", "translation_m"):
        assert torch.equal(getattr(result.parameters, name)[~result.refined], getattr(hands, name)[~result.refined])


def test_projection_alone_frees_hands_that_cross_a_little(hand: HandModel) -> None:
    refiner = Refiner(random_denoiser(0), RefineConfig(steps=0))
    result = refiner.refine(hand, crossing_hands(3, 1, gap_m=0.03))
    assert bool(result.refined.all())
    assert bool((result.volume_after_cm3 <= FREE_CM3).all())


def test_free_hands_are_returned_untouched(hand: HandModel, refiner: Refiner) -> None:
    hands = crossing_hands(2, 2, gap_m=0.2)
    result = refiner.refine(hand, hands)
    assert not result.refined.any()
    assert torch.equal(result.parameters.pose, hands.pose)


def test_a_batch_of_eight_equals_eight_batches_of_one(hand: HandModel, refiner: Refiner) -> None:
    hands = crossing_hands(8, 3)
    together = refiner.refine(hand, hands)
    for i in range(8):
        alone = refiner.refine(hand, hands[i])
        assert bool(alone.refined) == bool(together.refined[i])
        torch.testing.assert_close(alone.parameters.pose, together.parameters.pose[i], atol=1e-3, rtol=0)
        torch.testing.assert_close(alone.parameters.translation_m, together.parameters.translation_m[i], atol=1e-4, rtol=0)


@pytest.mark.parametrize(("evidence", "carelessly"), [(EvidenceConfig(), 1.25), (EvidenceConfig(trust=2.0, farthest=2.0), 4.0)])
def test_a_guess_against_a_sure_picture_is_not_believed(hand: HandModel, evidence: EvidenceConfig, carelessly: float) -> None:
    """A wild network moves hands that are surely seen no farther than the picture allows, or the projection without it takes."""
    hands, surely = crossing_hands(4, 4, gap_m=0.03), torch.full((4, 2, 21), 0.999)
    wild, limit = random_denoiser(0, 30.0), evidence.farthest
    careless = EvidenceConfig(hold_both=0.0, hold_deep=0.0, hold_each=0.0, trust=1e3, farthest=1e3)

    def moved(config: RefineConfig) -> torch.Tensor:
        result = Refiner(wild, config).refine(hand, hands, surely)
        assert bool(result.resolved.all())
        return moved_scales(hand, hands, result.parameters, surely, camera_frame=True)

    plain = moved(dataclasses.replace(QUICK, steps=0))
    assert bool((moved(dataclasses.replace(QUICK, evidence=evidence)) <= plain.clamp_min(limit) + 1e-3).all())
    assert float(moved(dataclasses.replace(QUICK, evidence=careless)).max()) > carelessly * limit


def test_a_guess_is_what_the_network_says_of_hands_that_cross(hand: HandModel, refiner: Refiner) -> None:
    near, far = crossing_hands(2, 8), crossing_hands(1, 8, gap_m=0.2)
    hands, sure = concatenate([near, far]), torch.full((3, 2, 21), 0.5)
    guess = refiner.guess(hand, hands, sure)
    sampled = Refiner(refiner.denoiser, dataclasses.replace(QUICK, evidence=EvidenceConfig(0.0, 0.0, 0.0, trust=1e6, farthest=1e6)))
    torch.testing.assert_close(sampled.guess(hand, hands, sure)[:2].pose, sampled.sample(hand, near, sure[:2]).pose, atol=1e-4, rtol=0)
    assert not torch.equal(guess.pose[:2], hands.pose[:2])
    assert torch.equal(guess.pose[2], hands.pose[2]), "hands that are apart stay"
    assert torch.equal(refiner.projector.guess(hand, hands, sure).pose, hands.pose), "without the network there is no guess"
    alone = refiner.guess(hand, hands[1:2], sure[1:2])
    torch.testing.assert_close(alone.pose[0], guess.pose[1], atol=1e-3, rtol=0)


@pytest.mark.parametrize("field", ["pose", "shape", "translation_m"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_refused(hand: HandModel, refiner: Refiner, field: str, value: float) -> None:
    hands = crossing_hands(2, 5)
    broken = getattr(hands, field).clone()
    broken[1, 0, 0] = value
    with pytest.raises(ValueError, match=field):
        refiner.refine(hand, dataclasses.replace(hands, **{field: broken}))


def test_hands_wholly_within_each_other_are_parted_or_said_not_to_be(hand: HandModel, refiner: Refiner) -> None:
    hands = crossing_hands(2, 7, gap_m=0.0)
    same = HandParameters(hands.pose, hands.shape, hands.translation_m.mean(1, keepdim=True).expand(-1, 2, -1).clone())
    result = refiner.refine(hand, same)
    assert bool((result.volume_before_cm3 > 20).all())
    assert torch.equal(result.resolved, result.volume_after_cm3 <= FREE_CM3)
    torch.testing.assert_close(result.volume_after_cm3, shared_volumes_cm3(hand, result.parameters))
    strict = Refiner(random_denoiser(0, 0.1), dataclasses.replace(QUICK, farthest_move_m=0.001)).refine(hand, same)
    assert not bool(strict.resolved.any()), "what may not move is not resolved"
    assert torch.equal(strict.parameters.translation_m, same.translation_m)


def test_one_hand_only_is_refused(hand: HandModel, refiner: Refiner) -> None:
    with pytest.raises(ValueError, match="both hands"):
        refiner.refine(hand, HandParameters(torch.zeros(1, 16, 3), torch.zeros(1, 10), torch.zeros(1, 3)))


def test_a_bone_is_as_sure_as_its_less_sure_end() -> None:
    sure = torch.ones(2, 21)
    sure[1, 7] = 0.2  # index3 of the right hand: end of the second bone, start of the third
    tokens = token_confidence(sure)
    assert bool((tokens[0] == 1).all())
    assert tokens[1, [2, 3]].tolist() == pytest.approx([0.2, 0.2])
    assert bool((tokens[1, 4:16] == 1).all())


def test_saved_weights_refine_as_before(hand: HandModel, tmp_path: Path) -> None:
    denoiser = random_denoiser(1)
    save_weights(tmp_path / "refiner.safetensors", denoiser, denoiser.config, {}, half=False)
    hands = crossing_hands(1, 6)
    here = Refiner(denoiser, QUICK).refine(hand, hands)
    there = Refiner.load(tmp_path / "refiner.safetensors", QUICK).refine(hand, hands)
    assert torch.equal(here.parameters.pose, there.parameters.pose)
    with pytest.raises(UserError):
        Refiner.load(tmp_path / "absent.safetensors")
