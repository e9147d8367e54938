"""The hand model fitted to a keypoint teacher's reading: parameters to train on, and a test whether any hand could look so."""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from twohands.geometry.rotations import turn_to
from twohands.hands.fitting import FitConfig, KeypointObservation, fit_hands, start_from_keypoints
from twohands.hands.limits import JointLimits
from twohands.hands.model import HandModel
from twohands.hands.parameters import HandParameters
from twohands.joints import MIDDLE_MCP

RAY_ERROR, DEPTH_ERROR = 0.015, 0.12
"""Standard deviations of a teacher's rays (in hand sizes) and depths (in wrist - middle knuckle lengths)."""
HALF_CLOSED_RAD = 0.45


def hands_from_keypoints(
    model: HandModel,
    limits: JointLimits,
    ray_xy: Float[Tensor, "n 21 2"],
    world_m: Float[Tensor, "n 21 3"],
    side: Int[Tensor, "n"],
) -> tuple[HandParameters, Float[Tensor, "n"]]:
    """Parameters (n, 2, ...), each hand in its own side's slot, and the mean distance of their keypoints from the rays over the hand's size.

    `ray_xy` are the keypoints' x / z and y / z in the camera frame, `world_m` the teacher's 3D reading as seen along the line of sight to the hand
    (its size is not believed), `side` 0 for left and 1 for right. Slots of the other side hold a hand at rest."""
    count = len(side)
    index = torch.arange(count)
    middle = functional.pad((ray_xy.amax(1) + ray_xy.amin(1)) / 2, (0, 1), value=1.0)
    world_m = world_m @ turn_to(middle).transpose(-1, -2)
    palm = (world_m[:, MIDDLE_MCP] - world_m[:, 0]).norm(dim=-1)
    depth = (world_m[:, :, 2] - world_m[:, :1, 2]) / palm[:, None]
    size = (ray_xy.amax(1) - ray_xy.amin(1)).amax(-1)

    def slot(values: Tensor) -> Tensor:
        full = torch.zeros(count, 2, *values.shape[1:], dtype=torch.float32)
        full[index, side] = values
        return full

    weight = slot((1 / (RAY_ERROR * size))[:, None].expand(-1, 21))
    seen = KeypointObservation(slot(ray_xy), weight, slot(depth), slot(torch.full((count, 21), 1 / DEPTH_ERROR)))
    start = start_from_keypoints(model, slot(world_m - world_m[:, :1]), seen.ray_xy, seen.ray_weight)
    bent = start.pose.clone()
    flexion = limits.axes[:, 0]
    mirrored = torch.stack([flexion * torch.tensor([1.0, -1.0, -1.0]), flexion])
    bent[:, :, 1:13] = HALF_CLOSED_RAD * mirrored[:, 1:13]
    config = FitConfig(orientation_rad=2.0, pose_rad=0.7, shape=1.0, translation_xy_m=5.0, depth_share=0.5, iterations=20)
    best: tuple[HandParameters, Tensor, Tensor] | None = None
    # Two starts, straight and half closed fingers: a fist is not reached from a flat hand.
    for pose in (start.pose, bent):
        found = fit_hands(model, HandParameters(pose, start.shape, start.translation_m), seen, config, limits)
        points = model.pose_hands(found).keypoints()[index, side]
        error = (points[..., :2] / points[..., 2:] - ray_xy).norm(dim=-1).mean(-1) / size
        own_palm = (points[:, MIDDLE_MCP] - points[:, 0]).norm(dim=-1)[:, None]
        depth_error = ((points[..., 2] - points[:, :1, 2]) / own_palm - depth).abs().mean(-1)
        score = error + 0.05 * depth_error
        if best is None:
            best = (found, error, score)
            continue
        better = score < best[2]
        pick = better[:, None, None]
        best = (
            HandParameters(
                torch.where(pick[..., None], found.pose, best[0].pose),
                torch.where(pick, found.shape, best[0].shape),
                torch.where(pick, found.translation_m, best[0].translation_m),
            ),
            torch.where(better, error, best[1]),
            torch.where(better, score, best[2]),
        )
    assert best is not None
    return best[0], best[1]
