"""Stage 1's losses, one function a term (eq. 3): L1 on parameters, 3D and 2.5D joints and relative translation, and L_prior."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from twohands.hands.mirror import left_as_right_points, left_as_right_rotation
from twohands.hands.model import HandModel
from twohands.joints import MIDDLE_MCP, OPENPOSE21_PARENTS
from twohands.record import Record
from twohands.regress.align import cell_centres
from twohands.regress.head import RELATIVE_UNIT_M, HandPrediction


@dataclass(frozen=True)
class HandTruth(Record):
    """What stage 1 should have said, in each crop's (mirrored) frame. Entries whose mask is False may hold anything, NaN included."""

    joints_xy: Float[Tensor, "pair hand 21 2"]
    """Crop sides from the centre."""
    xy_valid: Bool[Tensor, "pair hand 21"]
    joints_m: Float[Tensor, "pair hand 21 3"]
    """3D keypoints relative to the wrist."""
    joints_valid: Bool[Tensor, "pair hand 21"]
    rotation: Float[Tensor, "pair hand 16 3 3"]
    shape: Float[Tensor, "pair hand 10"]
    parameters_valid: Bool[Tensor, "pair hand"]
    relative_m: Float[Tensor, "pair 3"]
    relative_valid: Bool[Tensor, "pair"]
    presence: Float[Tensor, "pair hand"]
    side_correct: Float[Tensor, "pair hand"]
    state_valid: Bool[Tensor, "pair hand"]
    """There is a crop whose presence and side are known."""
    other: Float[Tensor, "pair hand 5"]
    """Of the person's other hand: centre, log side, direction, as in `HandPrediction.other`."""
    other_seen: Float[Tensor, "pair hand"]
    other_valid: Bool[Tensor, "pair hand"]
    """Whether the other hand is in this crop is known."""
    prior_valid: Bool[Tensor, "pair hand"]
    """F_p of this crop is a target for F_fa."""


@dataclass(frozen=True)
class LossWeights:
    """Weights of the terms. The paper prints none; these balance the terms at the start of training."""

    xy: float = 6.0
    heatmap: float = 0.4
    depth: float = 1.0
    joints: float = 2.0
    bones: float = 0.5
    rotation: float = 1.0
    shape: float = 0.3
    relative: float = 0.5
    state: float = 0.4
    scale: float = 0.05
    prior: float = 0.3
    other: float = 0.3
    decisions: float = 0.5


DECIDED = 6.0
"""Log odds beyond which a decision is as sure as any."""


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of the values whose mask is True; 0 if none is. `where`, not a product: NaN times 0 is NaN."""
    return torch.where(mask, values, 0.0).sum() / mask.sum().clamp_min(1)


def palm_length(joints_m: Float[Tensor, "*batch 21 3"]) -> Float[Tensor, "*batch"]:
    """Wrist to middle knuckle, the unit of relative depth."""
    return (joints_m[..., MIDDLE_MCP, :] - joints_m[..., 0, :]).norm(dim=-1)


def predicted_joints_m(model: HandModel, prediction: HandPrediction) -> Float[Tensor, "pair hand 21 3"]:
    """3D keypoints of the predicted parameters, in each crop's mirrored frame, relative to the wrist."""
    rotation = left_as_right_rotation(prediction.rotation)  # its own inverse: back to what a left hand is
    posed = model.with_shape(prediction.shape).with_pose(rotation)
    points = left_as_right_points(posed.keypoints())
    return points - points[..., :1, :]


def xy_loss(prediction: HandPrediction, truth: HandTruth) -> tuple[Tensor, Tensor, Tensor]:
    """L1 of the 2D joints, cross-entropy of the heatmaps with a small Gaussian, and the likelihood of the predicted error scale."""
    error = (prediction.joints_xy - torch.where(truth.xy_valid[..., None], truth.joints_xy, 0.0)).abs().sum(-1)
    l1 = masked_mean(error, truth.xy_valid)
    cells = prediction.heatmap_log.shape[-1]
    grid = round(cells**0.5)
    centres = cell_centres(grid, error.device).reshape(-1, 2)
    inside = truth.xy_valid & (truth.joints_xy.abs().amax(-1) < 0.5)
    distance = ((truth.joints_xy[..., None, :] - centres) * grid).square().sum(-1)
    target = torch.softmax(-torch.where(inside[..., None], distance, 0.0) / 2.5, -1)
    heat = masked_mean(-(target * prediction.heatmap_log).sum(-1), inside)
    scale = prediction.log_scale_xy.clamp(-7, 1)
    likelihood = masked_mean(error.detach() * torch.exp(-scale) + scale * 2, truth.xy_valid)
    return l1, heat, likelihood


def other_loss(prediction: HandPrediction, truth: HandTruth) -> Tensor:
    """Whether the other hand is seen, and where: L1 of its centre and of its log side, cosine of its direction."""
    said = prediction.other
    seen = functional.binary_cross_entropy_with_logits(said[..., 0], truth.other_seen, reduction="none")
    place = (said[..., 1:4] - truth.other[..., :3]).abs() * said.new_tensor([4.0, 4.0, 1.0])
    direction = 1 - functional.cosine_similarity(said[..., 4:6], truth.other[..., 3:5], dim=-1)
    there = truth.other_valid & (truth.other_seen > 0.5)
    return masked_mean(seen, truth.other_valid) + masked_mean(place.sum(-1) + 0.5 * direction, there)


def decisions_loss(prediction: HandPrediction, said: HandPrediction, crop: Bool[Tensor, "pair hand"]) -> Tensor:
    """How far what a prediction decides is from what another network said of the same crops: log odds of presence, of the side, and of the other
    hand, and where this is. Beyond `DECIDED` all log odds are alike."""
    odds = [
        functional.smooth_l1_loss(now.clamp(-DECIDED, DECIDED), then.clamp(-DECIDED, DECIDED), reduction="none")
        for now, then in (
            (prediction.presence_logit, said.presence_logit),
            (prediction.side_logit, said.side_logit),
            (prediction.other[..., 0], said.other[..., 0]),
        )
    ]
    place = (prediction.other[..., 1:] - said.other[..., 1:]).abs().sum(-1) * said.other[..., 0].sigmoid()
    return masked_mean(torch.stack(odds).sum(0) + place, crop)


def stage1_loss(
    model: HandModel,
    prediction: HandPrediction,
    prior: Tensor | None,
    truth: HandTruth,
    weights: LossWeights,
    said: HandPrediction | None = None,
) -> tuple[Tensor, dict[str, float]]:
    """L_total = L_hand + L_prior (eq. 3) and its terms as numbers. `said`: what another network said of the same crops, whose decisions (presence,
    side, other hand) are learnt in the truth's place."""
    terms: dict[str, Tensor] = {}
    terms["xy"], terms["heatmap"], terms["scale"] = xy_loss(prediction, truth)
    unit = palm_length(torch.where(truth.joints_valid[..., None], truth.joints_m, 1.0)).clamp_min(1e-3)
    target = truth.joints_m / unit[..., None, None]
    terms["depth"] = masked_mean((prediction.joints_z - target[..., 2]).abs(), truth.joints_valid)
    # The true hand in the predicted pose. With the predicted shape these two terms would be least for a hand that shrinks where the pose is in
    # doubt: a hand at half its size errs by half. Shapes were 6 to 10 % too small, and distances with them.
    shape = torch.where(truth.parameters_valid[..., None], truth.shape, prediction.shape.detach())
    joints = predicted_joints_m(model, replace(prediction, shape=shape)) / unit[..., None, None]
    usable = truth.joints_valid & truth.parameters_valid[..., None]
    terms["joints"] = masked_mean((joints - target).abs().sum(-1), usable)
    parents = list(OPENPOSE21_PARENTS[1:])
    bone_error = ((joints[..., 1:, :] - joints[..., parents, :]) - (target[..., 1:, :] - target[..., parents, :])).abs().sum(-1)
    terms["bones"] = masked_mean(bone_error, usable[..., 1:])
    rotation_error = (prediction.rotation - truth.rotation).abs().sum((-1, -2)).mean(-1)
    terms["rotation"] = masked_mean(rotation_error, truth.parameters_valid)
    terms["shape"] = masked_mean((prediction.shape - truth.shape).abs().mean(-1), truth.parameters_valid)
    terms["relative"] = masked_mean((prediction.relative_m - truth.relative_m).abs().sum(-1) / RELATIVE_UNIT_M, truth.relative_valid)
    if said is not None:
        terms["decisions"] = decisions_loss(prediction, said, truth.state_valid)
    else:
        presence = functional.binary_cross_entropy_with_logits(prediction.presence_logit, truth.presence, reduction="none")
        side = functional.binary_cross_entropy_with_logits(prediction.side_logit, truth.side_correct, reduction="none")
        terms["state"] = masked_mean(presence, truth.state_valid) + masked_mean(side, truth.state_valid & (truth.presence > 0.5))
        terms["other"] = other_loss(prediction, truth)
    if prior is not None:
        terms["prior"] = masked_mean((prediction.aligned.float() - prior.detach().float()).square().mean((-1, -2)), truth.prior_valid)
    total = torch.stack([getattr(weights, name) * value for name, value in terms.items()]).sum()
    return total, {name: float(value.detach()) for name, value in terms.items()}
