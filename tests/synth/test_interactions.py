import numpy as np
import pytest
import torch

from twohands.collision.inside import surface_gap_m
from twohands.hands.bundled import load_bundled_hand, load_hand_asset
from twohands.hands.mirror import left_as_right_rotvec
from twohands.refine.refiner import shared_volumes_cm3
from twohands.synth.bank import variety
from twohands.synth.interactions import (
    FAMILIES,
    LARGEST_VOLUME_CM3,
    TEMPLATES,
    Interactions,
    sample_interactions,
    sample_labelled_interactions,
)
from twohands.synth.sheet import contact_sheet


@pytest.fixture(scope="module")
def pairs() -> Interactions:
    return sample_labelled_interactions(load_bundled_hand(), 48, seed=3)


def test_hands_do_not_pass_through_each_other(pairs: Interactions) -> None:
    assert float(shared_volumes_cm3(load_bundled_hand(), pairs.parameters).max()) <= LARGEST_VOLUME_CM3


def test_joints_stay_within_their_limits(pairs: Interactions) -> None:
    limits = load_hand_asset().limits
    assert float(limits.violation_rad(left_as_right_rotvec(pairs.parameters.pose))[:, :, 1:].max()) < 1e-4


def test_both_hands_are_of_one_person_and_near_each_other(pairs: Interactions) -> None:
    parameters = pairs.parameters
    assert float((parameters.shape[:, 0] - parameters.shape[:, 1]).abs().max()) < 0.5
    joints = load_bundled_hand().pose_hands(parameters).joints_m
    torch.testing.assert_close(joints.mean((1, 2)), torch.zeros(48, 3), atol=1e-4, rtol=0)
    assert float(torch.cdist(joints[:, 0], joints[:, 1]).amin((1, 2)).max()) < 0.25


def test_hands_that_should_touch_do_so_skin_to_skin(pairs: Interactions) -> None:
    model = load_bundled_hand()
    vertices, faces = model.pose_hands(pairs.parameters).mesh().vertices_m.numpy(), model.faces.numpy()
    gaps_m = [surface_gap_m(v, faces) for v, t in zip(vertices, pairs.template.tolist(), strict=True) if TEMPLATES[t].touch]
    assert float(np.median(gaps_m)) < 0.003


def test_same_seed_same_pairs_other_seed_other_pairs() -> None:
    model = load_bundled_hand()
    first, again, other = (sample_interactions(model, 3, seed) for seed in (5, 5, 6))
    assert torch.equal(first.pose, again.pose)
    assert not torch.allclose(first.pose, other.pose)


def test_every_family_has_templates_and_pairs_differ(pairs: Interactions) -> None:
    assert {template.family for template in TEMPLATES} == set(FAMILIES)
    report = variety(load_bundled_hand(), pairs)
    assert sum(report.families.values()) == 48
    assert float(report.nearest_mm.min()) > 3
    assert report.apart_mm > 1.3 * float(np.median(report.nearest_mm))
    assert len(report.lines()) == 1 + len(FAMILIES)


def test_a_contact_sheet_shows_both_hands(pairs: Interactions) -> None:
    sheet = contact_sheet(load_bundled_hand(), pairs.parameters[:3], columns=2, size_px=64)
    assert sheet.shape == (128, 128, 3)
    blue, orange = sheet[..., 2] > 2 * sheet[..., 0] + 20, sheet[..., 0] > 2 * sheet[..., 2] + 20
    for cell in (np.s_[:64, :64], np.s_[:64, 64:], np.s_[64:, :64]):
        assert blue[cell].sum() > 100
        assert orange[cell].sum() > 100
    assert not sheet[64:, 64:].any()


def test_no_pairs_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        sample_interactions(load_bundled_hand(), 0, 0)
