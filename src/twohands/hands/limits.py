"""How far a joint can turn: flexion, spread and twist about each joint's own axes.

Everything here is about the right hand; a left hand's pose goes through `mirror.left_as_right_rotvec` first.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from twohands.record import Record


@dataclass(frozen=True)
class JointLimits(Record):
    """Axes and ranges of the sixteen MANO16 joints of a right hand, in its rest frame."""

    axes: Float[Tensor, "joint axis 3"]
    """Unit vectors, three per joint and orthogonal: flexion, spread, twist."""
    limits_rad: Float[Tensor, "joint axis 2"]
    """Smallest and largest angle about each axis."""

    @staticmethod
    def from_axes(axes: Float[Tensor, "joint axis 3"], limits_rad: Float[Tensor, "joint axis 2"]) -> "JointLimits":
        """ValueError unless each joint's axes are orthonormal (1e-3) and its ranges are not empty."""
        gram = axes @ axes.transpose(-1, -2)
        deviation = float((gram - torch.eye(3, dtype=axes.dtype, device=axes.device)).abs().max())
        if deviation > 1e-3:
            raise ValueError(f"the axes of each joint must be orthonormal, but deviate by {deviation:.3g}; orthonormalise them first")
        if not bool((limits_rad[..., 0] <= limits_rad[..., 1]).all()):
            raise ValueError("a joint's smallest angle exceeds its largest; write limits as (min, max)")
        return JointLimits(axes, limits_rad)

    def angles_to_rotvec(self, angles_rad: Float[Tensor, "*batch joint axis"]) -> Float[Tensor, "*batch joint 3"]:
        """The rotation vector whose components along the joint's axes are these angles (flexion, spread, twist)."""
        return (angles_rad[..., None, :] @ self.axes)[..., 0, :]

    def rotvec_to_angles(self, rotvec: Float[Tensor, "*batch joint 3"]) -> Float[Tensor, "*batch joint axis"]:
        """Inverse of `angles_to_rotvec`."""
        return (self.axes @ rotvec[..., None])[..., 0]

    def clamp(self, rotvec: Float[Tensor, "*batch joint 3"]) -> Float[Tensor, "*batch joint 3"]:
        """The nearest pose within the limits."""
        return self.angles_to_rotvec(self.rotvec_to_angles(rotvec).clamp(self.limits_rad[..., 0], self.limits_rad[..., 1]))

    def violation_rad(self, rotvec: Float[Tensor, "*batch joint 3"]) -> Float[Tensor, "*batch joint axis"]:
        """By how much each angle lies outside its range; 0 within. Differentiable almost everywhere."""
        angles = self.rotvec_to_angles(rotvec)
        return (self.limits_rad[..., 0] - angles).clamp_min(0) + (angles - self.limits_rad[..., 1]).clamp_min(0)
