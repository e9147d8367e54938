"""Moves posed hands as rigid bodies by their parameters alone: from world to camera, say.

MANO turns a hand about its own wrist and adds the translation after that, so neither the rotation vector nor the translation of a moved hand
is that of the motion: the wrist's rest place, which depends on the shape, enters."""

import torch
from jaxtyping import Float
from torch import Tensor

from twohands.geometry.rotations import matrix_to_rotvec, nearest_rotation, rotvec_to_matrix
from twohands.hands.model import HandModel
from twohands.hands.parameters import HandParameters


def move_hands(
    model: HandModel, parameters: HandParameters, R_b_a: Float[Tensor, "*batch 3 3"], t_b_a_m: Float[Tensor, "*batch 3"]
) -> HandParameters:
    """Parameters in frame b of hands given in frame a, where x_b = R_b_a x_a + t_b_a: every vertex moves so."""
    rest = model.with_shape(parameters.shape).joints_rest_m[..., 0, :]
    root = R_b_a[..., None, :, :] @ rotvec_to_matrix(parameters.pose[..., 0, :])
    pose = torch.cat([matrix_to_rotvec(root)[..., None, :], parameters.pose[..., 1:, :]], -2)
    wrist = (R_b_a[..., None, :, :] @ (rest + parameters.translation_m)[..., None])[..., 0] + t_b_a_m[..., None, :]
    return HandParameters(pose, parameters.shape, wrist - rest)


def rigid_between(
    source_m: Float[Tensor, "point 3"], target_m: Float[Tensor, "point 3"]
) -> tuple[Float[Tensor, "3 3"], Float[Tensor, "3"], float]:
    """The motion (R, t) that brings points nearest to others in the least squares, and what remains between them, root mean square (Kabsch 1976)."""
    from_mean, to_mean = source_m.mean(0), target_m.mean(0)
    R = nearest_rotation((target_m - to_mean).T @ (source_m - from_mean))
    t = to_mean - R @ from_mean
    residual_m = float((source_m @ R.T + t - target_m).square().sum(-1).mean().sqrt())
    return R, t, residual_m


def rotation_between(a: Float[Tensor, "3"], b: Float[Tensor, "3"]) -> Float[Tensor, "3 3"]:
    """The smallest rotation that turns the direction of `a` into that of `b`; they must not be opposite."""
    a, b = a / a.norm(), b / b.norm()
    axis = torch.linalg.cross(a, b)
    cross = torch.zeros(3, 3, dtype=a.dtype)
    cross[0, 1], cross[0, 2], cross[1, 2] = -axis[2], axis[1], -axis[0]
    cross = cross - cross.T
    return torch.eye(3, dtype=a.dtype) + cross + cross @ cross / (1 + a @ b)


def resized_hands(model: HandModel, parameters: HandParameters, factor: float) -> HandParameters:
    """The hands `factor` times as large and as far from the origin: to a camera there they look the same. A shape space knows other sizes nearly, not
    exactly (at a tenth more, joints are within .8 mm in the mean over random shapes)."""
    rest = model.with_shape(parameters.shape).joints_rest_m[..., 0, :]
    tips = model.data.tip_vertices
    template = torch.cat([model.joint_template[1], model.data.v_template[1, tips[1]]])
    basis = torch.cat([model.joint_shapedirs[1], model.data.shapedirs[1, tips[1]]])
    bones, per_shape = template[1:] - template[:1], basis[1:] - basis[:1]
    larger = torch.linalg.lstsq(per_shape.flatten(0, 1).double(), (factor - 1) * bones.flatten().double()[:, None]).solution[:, 0]
    shape = factor * parameters.shape + larger.to(parameters.shape)
    moved = factor * (rest + parameters.translation_m) - model.with_shape(shape).joints_rest_m[..., 0, :]
    return HandParameters(parameters.pose, shape, moved)
