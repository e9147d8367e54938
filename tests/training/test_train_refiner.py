import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from twohands.checkpoints import save_weights
from twohands.collision.proxies import SphereProxies
from twohands.errors import UserError
from twohands.hands.bundled import load_bundled_hand
from twohands.refine.benchmark import keypoint_errors_mm
from twohands.refine.denoiser import DenoiserConfig
from twohands.refine.perturb import PerturbConfig, Perturbed, hidden_keypoints, penetrates, perturb
from twohands.refine.refiner import FREE_CM3, RefineConfig, Refiner, shared_volumes_cm3
from twohands.regress.network import Regressor, RegressorConfig
from twohands.synth.bank import build_bank, read_bank
from twohands.training import refine_benchmark
from twohands.training.fit import WholeCheckpoints
from twohands.training.photographed import photograph_bank, read_pairs
from twohands.training.refine_benchmark import benchmark_pairs, error_pairs, held_out_pairs, stage1_pairs
from twohands.training.refiner import PairStream, RefinerTraining, stretched, train_refiner

TINY = RegressorConfig(
    crop_px=32, stem=8, widths=(8, 8, 8, 8), depths=(1, 1, 1, 1), align_widths=(8, 8, 8, 8), align_depths=(1, 1, 1, 1), prior_width=8,
    width=16, heads=2, depth=1, pyramid=8, hidden=16,
)  # fmt: skip


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_bank(tmp_path_factory.mktemp("bank") / "bank.npz", 40, part=20)


@pytest.fixture(scope="module")
def photographed(bank: Path) -> Path:
    """What a stage 1 that knows nothing says of four photos."""
    torch.manual_seed(0)
    weights = bank.with_name("regressor.safetensors")
    save_weights(weights, Regressor(TINY), TINY, {})
    return photograph_bank(bank.with_name("photographed.npz"), bank, 4, weights=weights)


def test_a_bank_is_made_in_parts_and_is_the_same_again(bank: Path, tmp_path: Path) -> None:
    made = read_bank(bank)
    assert len(np.unique(made.pose.numpy(), axis=0)) == 40
    again = read_bank(build_bank(tmp_path / "other.npz", 20, part=20))
    assert torch.equal(made.pose[:20], again.pose)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["other.npz"]
    with pytest.raises(UserError, match="held out"):
        build_bank(tmp_path / "c.npz", 10, seed=1000)


def test_errors_are_those_of_a_camera_and_mostly_penetrate(bank: Path) -> None:
    hand, clean = load_bundled_hand(), read_bank(bank)
    proxies = SphereProxies.of(hand.data)
    pairs = perturb(hand, proxies, clean, torch.Generator().manual_seed(0))
    within, _ = keypoint_errors_mm(hand, pairs.clean, clean)
    assert float(within.mean()) > 10  # turned at random before the camera
    apart = [(j[:, 0] - j[:, 1]).norm(dim=-1) for j in (hand.pose_hands(p).joints_m[:, :, 0] for p in (clean, pairs.clean))]
    torch.testing.assert_close(apart[0], apart[1], atol=1e-5, rtol=0)
    assert float(hand.pose_hands(pairs.clean).joints_m[..., 2].min()) > 0.05
    assert 0 <= float(pairs.keypoint_confidence.min()) <= float(pairs.keypoint_confidence.max()) <= 1
    assert not penetrates(hand, proxies, pairs.clean).any()
    assert float(penetrates(hand, proxies, pairs.parameters).float().mean()) > 0.4


def test_confidence_is_about_the_scale_of_errors_and_roughly_calibrated(bank: Path) -> None:
    hand = load_bundled_hand()
    proxies = SphereProxies.of(hand.data)
    clean = read_bank(bank)[torch.arange(40).repeat(10)]
    pairs = perturb(hand, proxies, clean, torch.Generator().manual_seed(1), PerturbConfig(candidates=1))
    found, true = (hand.pose_hands(p).keypoints() for p in (pairs.parameters, pairs.clean))
    xy_found, xy_true = found[..., :2] / found[..., 2:], true[..., :2] / true[..., 2:]
    size = (xy_true.amax(2) - xy_true.amin(2)).amax(-1)[..., None]
    below = ((xy_found - xy_true).norm(dim=-1) < 0.1 * size).float()
    sure = pairs.keypoint_confidence
    shares = [float(below[(sure >= low) & (sure < high)].mean()) for low, high in ((0, 0.5), (0.5, 0.8), (0.8, 0.95), (0.95, 1.01))]
    assert shares == sorted(shares)
    assert shares[0] < 0.45
    assert shares[-1] > 0.85
    hidden = hidden_keypoints(hand, proxies, pairs.clean)
    assert float(sure[hidden].mean()) < float(sure[~hidden].mean()) - 0.03


def test_photographed_pairs_have_their_truth_before_the_camera(photographed: Path, bank: Path) -> None:
    pairs, clean, hand = read_pairs(photographed), read_bank(bank)[:4], load_bundled_hand()
    apart = [(j[:, 0] - j[:, 1]).norm(dim=-1) for j in (hand.pose_hands(p).joints_m[:, :, 0] for p in (clean, pairs.clean))]
    torch.testing.assert_close(apart[0], apart[1], atol=1e-4, rtol=0)
    assert float(hand.pose_hands(pairs.clean).joints_m[..., 2].min()) > 0.05
    assert bool(pairs.parameters.pose.isfinite().all())


def test_stretched_errors_run_from_the_truth_to_what_was_found(photographed: Path) -> None:
    hand, pairs = load_bundled_hand(), read_pairs(photographed)
    whole, none = (stretched(hand, pairs, torch.full((4, 2), f)) for f in (1.0, 1e-4))
    assert torch.equal(whole.parameters.pose, pairs.parameters.pose)
    for (a, b), atol in (((none.parameters, pairs.clean), 1e-3),):
        torch.testing.assert_close(hand.pose_hands(a).keypoints(), hand.pose_hands(b).keypoints(), atol=atol, rtol=0)
    half = stretched(hand, pairs, torch.tensor([0.5, 1.0]).expand(4, 2))
    assert bool((half.keypoint_confidence >= pairs.keypoint_confidence - 1e-6).all())
    assert torch.equal(half.parameters.pose[:, 1], pairs.parameters.pose[:, 1])
    assert not torch.equal(half.parameters.pose[:, 0], pairs.parameters.pose[:, 0])


def test_training_goes_on_where_it_stopped_and_writes_weights_that_load(bank: Path, photographed: Path, tmp_path: Path) -> None:
    small = DenoiserConfig(width=16, depth=1, heads=2)
    with pytest.raises(UserError, match="resume"):
        train_refiner(tmp_path, bank, steps=2, batch=4, resume=True, config=small)
    weights = train_refiner(tmp_path, bank, steps=2, batch=4, config=small, photographed=[photographed])
    refiner = Refiner.load(weights, RefineConfig(steps=1))
    first = [p.clone() for p in refiner.denoiser.parameters()]
    assert not bool((refiner.denoiser.scale.deviation[:16, :6] == 1).any())
    train_refiner(tmp_path, bank, steps=4, batch=4, resume=True, config=small, photographed=[photographed])
    again = Refiner.load(weights, RefineConfig(steps=1))
    assert any(not torch.equal(a, b) for a, b in zip(first, again.denoiser.parameters(), strict=True))
    onwards = train_refiner(tmp_path / "next", bank, steps=1, batch=4, config=small, start_from=weights)
    assert torch.equal(Refiner.load(onwards).denoiser.scale.deviation, again.denoiser.scale.deviation)


class Died(Exception):
    pass


def test_a_run_that_dies_ends_bit_for_bit_where_an_unbroken_one_does(bank: Path, photographed: Path, tmp_path: Path, monkeypatch) -> None:
    """The batch in two parts, as two processes would share them out; death comes after the second of three checkpoints was written."""
    small, training = DenoiserConfig(width=16, depth=1, heads=2), RefinerTraining(checkpoint_steps=2, parts=2)

    def train(out: Path, resume: bool = False) -> dict[str, torch.Tensor]:
        return load_file(train_refiner(out, bank, None, 6, 4, 0, resume, small, training, photographed=[photographed]))

    def save_and_die(self: WholeCheckpoints, checkpoint: dict, path: Path, storage_options: None = None) -> None:
        save(self, checkpoint, path, storage_options)
        if checkpoint["global_step"] == 4:
            raise Died

    whole, save = train(tmp_path / "whole"), WholeCheckpoints.save_checkpoint
    with monkeypatch.context() as patch:
        patch.setattr(WholeCheckpoints, "save_checkpoint", save_and_die)
        with pytest.raises(Died):
            train(tmp_path / "dead")
    assert not (tmp_path / "dead" / "refiner.safetensors").exists()
    resumed = train(tmp_path / "dead", resume=True)
    for name, value in whole.items():
        torch.testing.assert_close(resumed[name], value, rtol=0, atol=0, msg=name)


def test_batches_hold_both_kinds(bank: Path, photographed: Path) -> None:
    hand = load_bundled_hand()
    outputs = read_pairs(photographed)
    training = dataclasses.replace(RefinerTraining(), photographed_share=0.25, stretched_share=0.0)
    batch = PairStream(hand, SphereProxies.of(hand.data), read_bank(bank), outputs, 8, 0, PerturbConfig(), training).make(0)
    known = [any(torch.equal(pose, other) for other in outputs.parameters.pose) for pose in batch.parameters.pose]
    assert known == [False] * 6 + [True] * 2


def test_held_out_pairs_penetrate_and_are_the_same_each_time() -> None:
    hand = load_bundled_hand()
    pairs, again = (held_out_pairs(hand, 5, 9) for _ in range(2))
    assert bool((shared_volumes_cm3(hand, pairs.parameters) > FREE_CM3).all())
    assert torch.equal(pairs.parameters.pose, again.parameters.pose)


@pytest.mark.parametrize("stored", [stage1_pairs, error_pairs])
def test_stored_halves_of_the_benchmark_penetrate_and_their_truth_does_not(stored: Callable[[], Perturbed]) -> None:
    hand, pairs = load_bundled_hand(), stored()
    assert pairs.keypoint_confidence.shape == (1000, 2, 21)
    some = pairs[::100]
    assert bool((shared_volumes_cm3(hand, some.parameters) > 0.5 * FREE_CM3).all())
    assert bool((shared_volumes_cm3(hand, some.clean) <= 2 * FREE_CM3).all())
    with pytest.raises(UserError, match="2000"):
        benchmark_pairs(hand, 5000)


def test_the_benchmark_is_what_is_stored_whatever_the_processor_makes_of_a_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refine_benchmark, "sample_interactions", None)
    hand = load_bundled_hand()
    pairs = benchmark_pairs(hand, 7)
    assert torch.equal(pairs.parameters.pose[:3], stage1_pairs().parameters.pose[:3])
    assert torch.equal(pairs.parameters.pose[3:], error_pairs().parameters.pose[:4])
    with pytest.raises(TypeError):
        benchmark_pairs(hand, 7, seed=10)


def test_files_that_are_missing_or_broken_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no bank"):
        read_bank(tmp_path / "bank.npz")
    np.savez(tmp_path / "bank.npz", pose=np.zeros((1, 2, 16, 3)))
    with pytest.raises(UserError, match="lacks"):
        read_bank(tmp_path / "bank.npz")
    with pytest.raises(UserError, match="no pairs"):
        read_pairs(tmp_path / "pairs.npz")
    (tmp_path / "pairs.npz").write_bytes(b"no zip")
    with pytest.raises(UserError, match="no readable pairs"):
        read_pairs(tmp_path / "pairs.npz")
