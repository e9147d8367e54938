"""From one hand model to another: the parameters of MANO, say, that put its keypoints where those of the bundled hand are.

The models share joints, rest frame and the meaning of a pose, but neither bone lengths nor shape components, so poses are copied and then
fitted, and shapes are fitted from nothing."""

from dataclasses import replace

import torch
from jaxtyping import Bool
from torch import Tensor

from twohands.hands.fitting import FitConfig, KeypointObservation, fit_hands
from twohands.hands.model import HandModel
from twohands.hands.parameters import HandParameters
from twohands.joints import MIDDLE_MCP
from twohands.record import stack

KEYPOINT_SIGMA_M = 0.001
"""How closely the keypoints are to be met, against one standard deviation of shape."""


def transfer_hands(
    parameters: HandParameters, source: HandModel, target: HandModel, present: Bool[Tensor, "*batch hand"] | None = None
) -> HandParameters:
    """Parameters of `target` whose keypoints meet those of `source` with `parameters` (one batch axis or none; in front of the camera). Absent
    hands come back as zeros."""
    if parameters.shape.ndim == 2:
        return transfer_hands(stack([parameters]), source, target, None if present is None else present[None])[0]
    present = torch.ones(parameters.shape.shape[:2], dtype=torch.bool) if present is None else present
    keypoints = source.pose_hands(parameters).keypoints()
    # An absent hand is fitted like the others, without any observation; it only must not divide by zero.
    keypoints = torch.where(present[..., None, None], keypoints, keypoints.new_tensor([0.0, 0.0, 1.0]))
    start = HandParameters(parameters.pose, torch.zeros_like(parameters.shape), torch.zeros_like(parameters.translation_m))
    start = replace(start, translation_m=keypoints[:, :, 0] - target.pose_hands(start).keypoints()[:, :, 0])
    palm = (keypoints[:, :, MIDDLE_MCP] - keypoints[:, :, 0]).norm(dim=-1).clamp_min(0.01)
    z = keypoints[..., 2]
    seen = KeypointObservation(
        ray_xy=keypoints[..., :2] / z[..., None],
        ray_weight=torch.where(present[..., None], z / KEYPOINT_SIGMA_M, 0.0),
        depth=(z - z[..., :1]) / palm[..., None],
        depth_weight=torch.where(present, palm / KEYPOINT_SIGMA_M, 0.0)[..., None].expand_as(z),
    )
    # Rays and relative depths leave size and distance open together: the wrist's distance is held where it was, so that the size follows.
    config = FitConfig(orientation_rad=0.5, pose_rad=0.3, shape=1.0, depth_share=1e-3, iterations=15)
    fitted = fit_hands(target, start, seen, config)
    return fitted.map(lambda t: torch.where(present.view(*present.shape, *[1] * (t.ndim - 2)), t, torch.zeros_like(t)))


def keypoint_distance_m(a: HandParameters, a_model: HandModel, b: HandParameters, b_model: HandModel) -> Tensor:
    """Mean distance of corresponding keypoints, per hand: how well a transfer went."""
    return (a_model.pose_hands(a).keypoints() - b_model.pose_hands(b).keypoints()).norm(dim=-1).mean(-1)
