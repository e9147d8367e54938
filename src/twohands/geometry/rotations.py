"""One vocabulary of rotations: matrices between packages, rotation vectors in files, 6D inside networks.

The formulas are written out here, and tested against roma: importing roma imports PyTorch's compiler, which takes as long as PyTorch itself, and
each of its calls costs several times the work of the few hundred rotations that a photo needs.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

_SMALL = 1e-4
"""Squared angle below which series stand in for quotients by the angle; what they leave out is below 1e-13 there."""


def rotvec_to_matrix(rotvec: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3 3"]:
    """Rotation vector (radians) to matrix, by Rodrigues' formula: R = I + sin(t) / t K + (1 - cos t) / t^2 K^2. Smooth at zero."""
    squared = rotvec.square().sum(-1)
    small = squared < _SMALL
    # Both branches must have finite gradients, since `where` multiplies the one not taken by zero.
    angle = torch.where(small, torch.ones_like(squared), squared).sqrt()
    a = torch.where(small, 1 - squared / 6 * (1 - squared / 20 * (1 - squared / 42)), angle.sin() / angle)
    half = torch.where(small, 1 - squared / 24 * (1 - squared / 80 * (1 - squared / 168)), 2 * (angle / 2).sin() / angle)
    b = half.square() / 2
    x, y, z = rotvec.unbind(-1)
    ax, ay, az = (a[..., None] * rotvec).unbind(-1)
    bxy, bxz, byz = b * x * y, b * x * z, b * y * z
    bxx, byy, bzz = b * x * x, b * y * y, b * z * z
    rows = [1 - byy - bzz, bxy - az, bxz + ay, bxy + az, 1 - bxx - bzz, byz - ax, bxz - ay, byz + ax, 1 - bxx - byy]
    return torch.stack(rows, -1).unflatten(-1, (3, 3))


def matrix_to_rotvec(rotation: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 3"]:
    """Matrix to the rotation vector of length <= pi: exact to rounding at every angle."""
    quaternion = matrix_to_quaternion(rotation)
    vector, w = quaternion[..., :3], quaternion[..., 3]
    squared = vector.square().sum(-1)  # of the sine of half the angle
    small = squared < _SMALL
    sine = torch.where(small, torch.ones_like(squared), squared).sqrt()
    scale = torch.where(small, 2 + squared / 3 * (1 + squared * 0.45), 2 * torch.atan2(sine, w) / sine)
    return scale[..., None] * vector


def matrix_to_quaternion(rotation: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 4"]:
    """Matrix to the unit quaternion (x, y, z, w) with w >= 0, for files that hold quaternions. Its largest entry is found first (Shepperd's
    method, as Markley wrote it in 2008)."""
    xx, xy, xz, yx, yy, yz, zx, zy, zz = rotation.flatten(-2).unbind(-1)
    rows = [
        1 + xx - yy - zz, xy + yx, xz + zx, zy - yz,
        xy + yx, 1 + yy - zz - xx, yz + zy, xz - zx,
        xz + zx, yz + zy, 1 + zz - xx - yy, yx - xy,
        zy - yz, xz - zx, yx - xy, 1 + xx + yy + zz,
    ]  # fmt: skip
    products = torch.stack(rows, -1).unflatten(-1, (4, 4))  # 4 q q^T
    largest = products.diagonal(dim1=-2, dim2=-1).argmax(-1)
    row = products.gather(-2, largest[..., None, None].expand(*largest.shape, 1, 4))[..., 0, :]
    quaternion = functional.normalize(row, dim=-1)
    return torch.where(quaternion[..., 3:] < 0, -quaternion, quaternion)


def six_d_to_matrix(six_d: Float[Tensor, "*batch 6"]) -> Float[Tensor, "*batch 3 3"]:
    """Gram-Schmidt on two columns (Zhou et al., CVPR 2019). The six numbers are column 0, then column 1."""
    x = six_d[..., :3] / six_d[..., :3].norm(dim=-1, keepdim=True)
    y = six_d[..., 3:] - (x * six_d[..., 3:]).sum(-1, keepdim=True) * x
    y = y / y.norm(dim=-1, keepdim=True)
    return torch.stack([x, y, torch.linalg.cross(x, y)], -1)


def nearest_rotation(matrix: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 3 3"]:
    """The rotation nearest to any matrix (orthogonal Procrustes, determinant +1), by singular values; for use without gradient."""
    u, _, vt = torch.linalg.svd(matrix)
    sign = torch.linalg.det(u @ vt)
    last = torch.stack([torch.ones_like(sign), torch.ones_like(sign), sign], -1)
    return u @ (last[..., None] * vt)


def matrix_to_six_d(rotation: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 6"]:
    """The first two columns, one after the other."""
    return rotation[..., :2].transpose(-1, -2).flatten(-2)


def geodesic_angle_rad(a: Float[Tensor, "*batch 3 3"], b: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch"]:
    """Angle of the rotation that takes `a` to `b`, in [0, pi]."""
    # By the chord, not by the arc cosine of the trace, which loses half the digits of small angles.
    chord = (a - b).flatten(-2).norm(dim=-1)
    return 2 * torch.asin((chord / 8**0.5).clamp(max=1.0))


def random_rotation(shape: tuple[int, ...], generator: torch.Generator | None = None) -> Float[Tensor, "*shape 3 3"]:
    """Uniform over SO(3): normalised Gaussian quaternions."""
    quaternion = torch.randn(*shape, 4, generator=generator)
    x, y, z, w = functional.normalize(quaternion, dim=-1).unbind(-1)
    rows = [
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
    ]  # fmt: skip
    return torch.stack(rows, -1).unflatten(-1, (3, 3))


def axis_rotation(axis: int, angle_rad: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch 3 3"]:
    """Rotation about a coordinate axis (0 x, 1 y, 2 z)."""
    rotvec = torch.zeros(*angle_rad.shape, 3, dtype=angle_rad.dtype, device=angle_rad.device)
    rotvec[..., axis] = angle_rad
    return rotvec_to_matrix(rotvec)


def turn_to(ray: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3 3"]:
    """The least rotation that turns the z axis to a ray of any length: from the axes of a camera that looks along it to those of one that looks ahead.
    Rays must not point straight back."""
    x, y, z = functional.normalize(ray, dim=-1).unbind(-1)
    share = 1 / (1 + z)
    rows = [1 - x * x * share, -x * y * share, x, -x * y * share, 1 - y * y * share, y, -x, -y, z]
    return torch.stack(rows, -1).unflatten(-1, (3, 3))
