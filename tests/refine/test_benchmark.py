import json
from pathlib import Path

import pytest
import torch
from pairs import crossing_hands, random_denoiser

from twohands.cli import main
from twohands.hands.model import HandModel
from twohands.hands.parameters import HandParameters
from twohands.refine.benchmark import METHODS, answer_of, measure, near_each_other, summary
from twohands.refine.optimise import optimised
from twohands.refine.perturb import Perturbed
from twohands.refine.refiner import RefineConfig, Refiner

ASKED = {
    "pen_cm3_mean", "pen_cm3_share_below_0_01", "mpjpe_mm", "mrrpe_mm", "contact_kept", "ms_per_pair", "pairs_per_s",
}  # fmt: skip


@pytest.fixture(scope="module")
def pairs() -> Perturbed:
    """Palms that penetrate; in truth a centimetre farther apart, touching."""
    return Perturbed(crossing_hands(4, 0, gap_m=0.032), crossing_hands(4, 0, gap_m=0.02), torch.full((4, 2, 21), 0.6))


def test_the_command_writes_every_method_and_metric_that_is_asked_for(tmp_path: Path, capsys) -> None:
    out = tmp_path / "scores.json"
    assert main(["evaluate", "refine", "--pairs", "4", "--threads", "1", "--json", str(out)]) == 0
    scores = json.loads(out.read_text())
    assert list(scores) == list(METHODS) == ["input", "optimisation", "diffusion", "paper_guidance", "ours"]
    for values in scores.values():
        assert set(values) >= ASKED
        assert all(isinstance(values[name], float) for name in ASKED)
    assert scores["ours"]["pen_cm3_mean"] < 0.01 < scores["input"]["pen_cm3_mean"]
    assert "| paper_guidance |" in capsys.readouterr().out


def test_bad_arguments_are_named(tmp_path: Path, capsys) -> None:
    assert main(["evaluate", "refine", "--pairs", "5000"]) == 2
    assert "5000" in capsys.readouterr().err
    assert main(["evaluate", "refine", "--json", str(tmp_path / "no" / "a.json")]) == 2
    assert "no folder" in capsys.readouterr().err


def test_what_comes_in_is_measured_as_it_is(hand: HandModel, pairs: Perturbed) -> None:
    near = near_each_other(hand, pairs.clean)
    numbers = summary(measure(hand, pairs, pairs.parameters), near)
    assert numbers["pen_cm3_mean"] > 1
    assert numbers["pen_cm3_voxel_mean"] == pytest.approx(numbers["pen_cm3_mean"], rel=0.05)
    assert numbers["pen_dist_mm"] > 1
    assert numbers["prox_ratio"] == 1
    assert numbers["mpjpe_mm"] == pytest.approx(0, abs=1e-3)
    assert numbers["mrrpe_mm"] == pytest.approx(12, abs=1e-2)
    assert numbers["right_joints_moved_mm"] == pytest.approx(0, abs=1e-3)
    perfect = summary(measure(hand, pairs, pairs.clean), near)
    assert perfect["mrrpe_mm"] == 0
    assert perfect["mpvpe_mm"] == 0


def test_contact_is_lost_by_hands_that_are_drawn_far_apart(hand: HandModel, pairs: Perturbed) -> None:
    far = HandParameters(pairs.clean.pose, pairs.clean.shape, pairs.clean.translation_m + torch.tensor([[[0.0, 0, -0.05], [0, 0, 0.05]]]))
    near = torch.ones(4, dtype=torch.bool)
    assert summary(measure(hand, pairs, far), near)["contact_kept"] == 0
    assert summary(measure(hand, pairs, pairs.parameters), near)["contact_kept"] == 1


def test_the_usual_remedy_lowers_the_volume(hand: HandModel, pairs: Perturbed) -> None:
    refiner = Refiner(random_denoiser(0), RefineConfig())
    found = optimised(hand, refiner.prepared(hand)[1], pairs.parameters)
    before, after = (measure(hand, pairs, p).volume_cm3 for p in (pairs.parameters, found))
    assert bool((after < 0.3 * before).all())


def test_ours_ends_free_and_touching_even_with_a_denoiser_that_knows_nothing(hand: HandModel, pairs: Perturbed) -> None:
    refiner = Refiner(random_denoiser(0, 0.1), RefineConfig())
    numbers = summary(measure(hand, pairs, answer_of("ours", refiner)(hand, pairs)), near_each_other(hand, pairs.clean))
    assert numbers["pen_cm3_mean"] <= 0.001
    assert numbers["contact_kept"] == 1
