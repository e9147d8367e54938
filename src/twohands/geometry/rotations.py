"""One vocabulary of rotations: matrices between packages, rotation vectors in files, 6D inside networks.

roma does the work; this file fixes the conventions (what 6D means, which axes are batch axes).
"""

import roma
import torch
from jaxtyping import Float
from torch import Tensor


def rotvec_to_matrix(rotvec: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3 3"]:
    """Rotation vector (radians) to matrix."""
    return roma.rotvec_to_rotmat(rotvec)


def matrix_to_rotvec(rotation: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 3"]:
    """Matrix to the rotation vector of length <= pi."""
    return roma.rotmat_to_rotvec(rotation)


def six_d_to_matrix(six_d: Float[Tensor, "*batch 6"]) -> Float[Tensor, "*batch 3 3"]:
    """Gram-Schmidt on two columns (Zhou et al., CVPR 2019). The six numbers are column 0, then column 1."""
    return roma.special_gramschmidt(six_d.unflatten(-1, (2, 3)).transpose(-1, -2))


def matrix_to_six_d(rotation: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 6"]:
    """The first two columns, one after the other."""
    return rotation[..., :2].transpose(-1, -2).flatten(-2)


def geodesic_angle_rad(a: Float[Tensor, "*batch 3 3"], b: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch"]:
    """Angle of the rotation that takes `a` to `b`, in [0, pi]."""
    return roma.rotmat_geodesic_distance(a, b)


def random_rotation(shape: tuple[int, ...], generator: torch.Generator | None = None) -> Float[Tensor, "*shape 3 3"]:
    """Uniform over SO(3): normalised Gaussian quaternions."""
    quaternion = torch.randn(*shape, 4, generator=generator)
    return roma.unitquat_to_rotmat(quaternion / quaternion.norm(dim=-1, keepdim=True))


def axis_rotation(axis: int, angle_rad: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch 3 3"]:
    """Rotation about a coordinate axis (0 x, 1 y, 2 z)."""
    rotvec = torch.zeros(*angle_rad.shape, 3, dtype=angle_rad.dtype, device=angle_rad.device)
    rotvec[..., axis] = angle_rad
    return rotvec_to_matrix(rotvec)
