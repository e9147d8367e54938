"""Moves posed hands as rigid bodies by their parameters alone: from world to camera, say.

MANO turns a hand about its own wrist and adds the translation after that, so neither the rotation vector nor the translation of a moved hand
is that of the motion: the wrist's rest place, which depends on the shape, enters."""

from jaxtyping import Float
from torch import Tensor

import torch

from twohands.geometry.rotations import matrix_to_rotvec, rotvec_to_matrix
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
