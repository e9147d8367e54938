from pathlib import Path

import numpy as np
import pytest
import torch

from twohands.collision.proxies import SphereProxies
from twohands.errors import UserError
from twohands.hands.bundled import load_bundled_hand
from twohands.refine.benchmark import keypoint_errors_mm
from twohands.refine.denoiser import DenoiserConfig
from twohands.refine.perturb import PerturbConfig, penetrates, perturb
from twohands.refine.refiner import RefineConfig, Refiner
from twohands.training.refiner import build_bank, evaluate_refiner, held_out_pairs, read_bank, train_refiner


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bank") / "bank.npz"
    build_bank(path, load_bundled_hand(), 40, part=20)
    return path


def test_errors_are_those_of_a_camera_and_mostly_penetrate(bank: Path) -> None:
    hand, clean = load_bundled_hand(), read_bank(bank)
    assert len(np.unique(clean.pose.numpy(), axis=0)) == 40
    proxies = SphereProxies.of(hand.data)
    pairs = perturb(hand, proxies, clean, torch.Generator().manual_seed(0))
    within, _ = keypoint_errors_mm(hand, pairs.clean, clean)
    assert float(within.mean()) > 10  # turned at random before the camera
    apart = [(j[:, 0] - j[:, 1]).norm(dim=-1) for j in (hand.pose_hands(p).joints_m[:, :, 0] for p in (clean, pairs.clean))]
    torch.testing.assert_close(apart[0], apart[1], atol=1e-5, rtol=0)
    assert float(hand.pose_hands(pairs.clean).joints_m[..., 2].min()) > 0.05
    assert 0 <= float(pairs.keypoint_confidence.min()) <= float(pairs.keypoint_confidence.max()) <= 1
    assert not penetrates(hand, proxies, pairs.clean).any()
    assert float(penetrates(hand, proxies, pairs.parameters).float().mean()) > 0.5


def test_the_unsure_err_more(bank: Path) -> None:
    hand = load_bundled_hand()
    clean = read_bank(bank)[torch.arange(40).repeat(10)]
    pairs = perturb(hand, SphereProxies.of(hand.data), clean, torch.Generator().manual_seed(1), PerturbConfig(candidates=1))
    bend = (pairs.parameters.pose - pairs.clean.pose)[:, :, 1:4].norm(dim=-1)
    unsure = pairs.keypoint_confidence[:, :, 5:8] < 0.4
    assert float(bend[unsure].mean()) > 1.5 * float(bend[~unsure].mean())


def test_training_goes_on_where_it_stopped_and_writes_weights_that_load(bank: Path, tmp_path: Path) -> None:
    small = DenoiserConfig(width=16, depth=1, heads=2)
    with pytest.raises(UserError, match="resume"):
        train_refiner(tmp_path, bank, steps=2, batch=4, resume=True, config=small)
    weights = train_refiner(tmp_path, bank, steps=2, batch=4, config=small)
    refiner = Refiner.load(weights, RefineConfig(steps=1))
    first = [p.clone() for p in refiner.denoiser.parameters()]
    assert not bool((refiner.denoiser.scale.deviation[:16, :6] == 1).any())
    train_refiner(tmp_path, bank, steps=4, batch=4, resume=True, config=small)
    again = Refiner.load(weights, RefineConfig(steps=1))
    assert any(not torch.equal(a, b) for a, b in zip(first, again.denoiser.parameters(), strict=True))
    numbers = evaluate_refiner(again, load_bundled_hand(), count=4)
    assert numbers["pairs"] == 4
    assert numbers["pen_cm3_mean"] < numbers["pen_cm3_mean_before"]


def test_held_out_pairs_penetrate_and_are_the_same_each_time() -> None:
    hand = load_bundled_hand()
    pairs, again = (held_out_pairs(hand, 5, 9) for _ in range(2))
    assert bool(penetrates(hand, SphereProxies.of(hand.data), pairs.parameters).all())
    assert torch.equal(pairs.parameters.pose, again.parameters.pose)


def test_bank_that_is_missing_or_broken_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no bank"):
        read_bank(tmp_path / "bank.npz")
    np.savez(tmp_path / "bank.npz", pose=np.zeros((1, 2, 16, 3)))
    with pytest.raises(UserError, match="lacks"):
        read_bank(tmp_path / "bank.npz")
