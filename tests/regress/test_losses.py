"""Stage 1's losses: zero at the truth, blind to what is masked."""

import dataclasses

import torch

from twohands.geometry.rotations import random_rotation
from twohands.hands.bundled import load_bundled_hand
from twohands.regress.head import HandPrediction
from twohands.regress.losses import HandTruth, LossWeights, masked_mean, palm_length, predicted_joints_m, stage1_loss


def perfect() -> tuple[HandPrediction, HandTruth]:
    generator = torch.Generator().manual_seed(0)
    rotation = random_rotation((2, 2, 16), generator)
    shape = torch.randn(2, 2, 10, generator=generator)
    xy = torch.rand(2, 2, 21, 2, generator=generator) - 0.5
    yes = torch.ones(2, 2, dtype=torch.bool)
    blank = HandPrediction(
        torch.full((2, 2, 21, 64), -4.0), xy, torch.zeros(2, 2, 21), torch.zeros(2, 2, 21), rotation, shape,
        torch.full((2, 2), 20.0), torch.full((2, 2), 20.0), torch.randn(2, 3, generator=generator), torch.zeros(2, 2, 4, 8),
        torch.tensor([20.0, 0.1, -0.2, -0.5, 0.6, 0.8]).expand(2, 2, 6),
    )  # fmt: skip
    joints = predicted_joints_m(load_bundled_hand(), blank)
    prediction = dataclasses.replace(blank, joints_z=joints[..., 2] / palm_length(joints)[..., None])
    truth = HandTruth(
        xy, yes[..., None].expand(2, 2, 21), joints, yes[..., None].expand(2, 2, 21), rotation, shape, yes, prediction.relative_m,
        torch.ones(2, dtype=torch.bool), torch.ones(2, 2), torch.ones(2, 2), yes, prediction.other[..., 1:], torch.ones(2, 2), yes, yes,
    )  # fmt: skip
    return prediction, truth


def test_truth_costs_nothing() -> None:
    prediction, truth = perfect()
    weights = LossWeights(heatmap=0.0, scale=0.0)
    total, terms = stage1_loss(load_bundled_hand(), prediction, prediction.aligned, truth, weights)
    assert float(total) < 1e-4, terms


def test_every_term_sees_its_error() -> None:
    prediction, truth = perfect()
    hand = load_bundled_hand()
    _, clean = stage1_loss(hand, prediction, prediction.aligned, truth, LossWeights())
    worse = {
        "xy": dataclasses.replace(prediction, joints_xy=prediction.joints_xy + 0.1),
        "depth": dataclasses.replace(prediction, joints_z=prediction.joints_z + 0.1),
        "rotation": dataclasses.replace(prediction, rotation=prediction.rotation.roll(1, 0)),
        "shape": dataclasses.replace(prediction, shape=prediction.shape + 1),
        "relative": dataclasses.replace(prediction, relative_m=prediction.relative_m + 0.1),
        "other": dataclasses.replace(prediction, other=-prediction.other),
        "prior": dataclasses.replace(prediction, aligned=prediction.aligned + 1),
    }
    for name, bad in worse.items():
        _, terms = stage1_loss(hand, bad, prediction.aligned, truth, LossWeights())
        assert terms[name] > clean[name] + 0.05, name


def test_masked_truth_may_be_nan() -> None:
    prediction, truth = perfect()
    prediction = prediction.map(lambda t: t.clone().requires_grad_() if t.is_floating_point() else t)
    hidden = torch.tensor([True, False])
    nan = truth.map(
        lambda t: torch.where(hidden.view(1, 2, *[1] * (t.ndim - 2)), t, torch.nan) if t.is_floating_point() and t.ndim > 2 else t
    )
    masks = {f.name: getattr(truth, f.name) & hidden.view(1, 2, *[1] * (getattr(truth, f.name).ndim - 2))
             for f in dataclasses.fields(truth) if f.name != "relative_valid" and getattr(truth, f.name).dtype == torch.bool}  # fmt: skip
    total, _ = stage1_loss(load_bundled_hand(), prediction, None, dataclasses.replace(nan, **masks), LossWeights())
    total.backward()
    assert total.isfinite()
    assert prediction.joints_xy.grad is not None
    assert prediction.joints_xy.grad.isfinite().all()
    assert prediction.rotation.grad is not None
    assert prediction.rotation.grad.isfinite().all()


def test_masked_mean_of_nothing_is_zero() -> None:
    assert masked_mean(torch.tensor([torch.nan]), torch.tensor([False])) == 0


def test_a_pose_in_doubt_does_not_pay_for_a_smaller_hand() -> None:
    """Joints of a wrong pose err less on a small hand; the shape must not hear of it."""
    prediction, truth = perfect()
    shape = prediction.shape.clone().requires_grad_()
    wrong = dataclasses.replace(prediction, rotation=prediction.rotation.roll(1, 0), shape=shape)
    total, terms = stage1_loss(load_bundled_hand(), wrong, None, truth, LossWeights(shape=0.0))
    assert terms["joints"] > 0.05
    assert terms["bones"] > 0.05
    (gradient,) = torch.autograd.grad(total, shape)
    assert not gradient.any()
