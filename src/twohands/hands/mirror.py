"""Left and right. The only place that knows how a hand, its numbers and its pictures change when mirrored in the plane x = 0."""

import torch
from jaxtyping import Float
from torch import Tensor

from twohands.hands.parameters import HandParameters

LEFT, RIGHT = 0, 1


def mirror_points(points: Float[Tensor, "*any 3"]) -> Float[Tensor, "*any 3"]:
    """Points or directions: x changes sign."""
    return torch.cat([-points[..., :1], points[..., 1:]], -1)


def mirror_rotvec(rotvec: Float[Tensor, "*any 3"]) -> Float[Tensor, "*any 3"]:
    """Rotation vectors: y and z change sign, since a rotation's axis is a pseudovector."""
    return torch.cat([rotvec[..., :1], -rotvec[..., 1:]], -1)


def mirror_rotation(rotation: Float[Tensor, "*any 3 3"]) -> Float[Tensor, "*any 3 3"]:
    """Rotation matrices: M R M with M = diag(-1, 1, 1)."""
    return mirror_points(mirror_points(rotation.mT).mT)


def mirror_xy_image(xy_image: Float[Tensor, "*any 2"], width_px: float) -> Float[Tensor, "*any 2"]:
    """Pixel positions after flipping an image of this width; pixel centres lie at half-integers, so x becomes width - x."""
    return torch.stack([width_px - xy_image[..., 0], xy_image[..., 1]], -1)


def swap_hands(values: Tensor, axis: int) -> Tensor:
    """Left for right along the axis `hand`. ValueError if that axis has not length 2."""
    if values.shape[axis] != 2:
        raise ValueError(f"axis {axis} of {tuple(values.shape)} is not the axis of two hands; give the one of length 2")
    return values.flip(axis)


def mirror_parameters(parameters: HandParameters) -> HandParameters:
    """The parameters of what a mirrored photo shows: hands change places and each is mirrored."""
    return HandParameters(
        mirror_rotvec(swap_hands(parameters.pose, -3)),
        swap_hands(parameters.shape, -2),
        mirror_points(swap_hands(parameters.translation_m, -2)),
    )


def left_as_right_points(points: Float[Tensor, "*batch hand point 3"]) -> Float[Tensor, "*batch hand point 3"]:
    """Mirrors the left hand's points only, so that both hands look like right ones; its own inverse."""
    return torch.stack([mirror_points(points[..., LEFT, :, :]), points[..., RIGHT, :, :]], -3)


def left_as_right_rotvec(rotvec: Float[Tensor, "*batch hand joint 3"]) -> Float[Tensor, "*batch hand joint 3"]:
    """Mirrors the left hand's rotation vectors only; its own inverse."""
    return torch.stack([mirror_rotvec(rotvec[..., LEFT, :, :]), rotvec[..., RIGHT, :, :]], -3)


def left_as_right_rotation(rotation: Float[Tensor, "*batch hand joint 3 3"]) -> Float[Tensor, "*batch hand joint 3 3"]:
    """Mirrors the left hand's rotation matrices only; its own inverse."""
    return torch.stack([mirror_rotation(rotation[..., LEFT, :, :, :]), rotation[..., RIGHT, :, :, :]], -4)
