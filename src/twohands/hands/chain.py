"""The 21 keypoints of both hands as chains of joints, with their derivatives: what fitting needs of a hand, without its mesh.

A hand is a wrist and five fingers of three joints and a tip, which is the order of OPENPOSE21; so three small matrix products turn all fingers at
once. Tips ride rigidly on the last joints (pose correctives, which move them by less than a millimetre, are left out).
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from twohands.hands.model import HandModel
from twohands.joints import FINGERS, MANO16

CHAIN16 = (0, *(MANO16.index(f"{finger}{k}") for finger in FINGERS for k in (1, 2, 3)))
"""The joints that turn in the order of the chain: wrist, then finger by finger. Place in MANO16 of each."""
MANO16_FROM_CHAIN = tuple(CHAIN16.index(joint) for joint in range(16))

_CROSS = torch.zeros(3, 9)
"""v @ _CROSS is the matrix, row by row, that takes w to w x v."""
for _axis, _entry, _sign in ((2, 1, 1.0), (1, 2, -1.0), (2, 3, -1.0), (0, 5, 1.0), (1, 6, 1.0), (0, 7, -1.0)):
    _CROSS[_axis, _entry] = _sign
_BEYOND = torch.tensor([[float(point > joint) for point in range(4)] for joint in range(3)])[:, :, None, None]
"""(joint, point, 1, 1): a finger's joint moves the points beyond it."""


@dataclass(frozen=True)
class KeypointChain:
    """Bones of both hands at rest, linear in shape."""

    root: Float[Tensor, "hand 3"]
    root_basis: Float[Tensor, "hand 3 shape"]
    bone: Float[Tensor, "hand finger 4 3"]
    """From each finger's knuckle's, joint's or tip's parent to it."""
    bone_basis: Float[Tensor, "hand finger 4 3 shape"]
    cross: Float[Tensor, "3 9"]
    beyond: Float[Tensor, "3 4 1 1"]

    @staticmethod
    def of(model: HandModel, dtype: torch.dtype) -> "KeypointChain":
        """Of a hand model, for computing in `dtype`."""
        data = model.data
        hand = torch.arange(2, device=data.faces.device)[:, None]
        order = torch.tensor(CHAIN16, device=data.faces.device)

        def fingers(joints: Tensor, tips: Tensor) -> tuple[Tensor, Tensor]:
            joints, tips = joints[:, order].to(dtype), tips.to(dtype)
            points = torch.cat([joints[:, 1:].unflatten(1, (5, 3)), tips[:, :, None]], 2)
            wrist = joints[:, None, None, 0].expand(2, 5, 1, *joints.shape[2:])
            return joints[:, 0], points - torch.cat([wrist, points[:, :, :3]], 2)

        root, bone = fingers(model.joint_template, data.v_template[hand, data.tip_vertices])
        root_basis, bone_basis = fingers(model.joint_shapedirs, data.shapedirs[hand, data.tip_vertices])
        return KeypointChain(root, root_basis, bone, bone_basis, _CROSS.to(root), _BEYOND.to(root))

    def wrist(self, shape: Float[Tensor, "*batch hand shape"], translation: Float[Tensor, "*batch hand 3"]) -> Tensor:
        """Where the wrists are."""
        return self.root + (self.root_basis @ shape[..., None])[..., 0] + translation

    def pose(
        self,
        rotation: Float[Tensor, "batch hand 16 3 3"],
        shape: Float[Tensor, "batch hand shape"],
        translation: Float[Tensor, "batch hand 3"],
    ) -> "PosedChain":
        """The keypoints of hands whose joints, in the chain's order, are turned so against their parents."""
        hand, turns = rotation[:, :, 0], rotation[:, :, 1:].unflatten(2, (5, 3))
        carried = [hand[:, :, None].expand_as(turns[:, :, :, 0])]
        for level in range(3):
            carried.append(carried[-1] @ turns[:, :, :, level])
        frame = torch.stack(carried, 3)
        bone = self.bone + (self.bone_basis @ shape[:, :, None, None, :, None])[..., 0]
        wrist = self.wrist(shape, translation)
        fingers = wrist[:, :, None, None] + (frame @ bone[..., None])[..., 0].cumsum(3)
        return PosedChain(self, frame, wrist, fingers)


@dataclass(frozen=True)
class PosedChain:
    """Posed keypoints."""

    chain: KeypointChain
    frame: Float[Tensor, "batch hand finger 4 3 3"]
    """Rotation of each finger point's parent in the world."""
    wrist: Float[Tensor, "batch hand 3"]
    fingers: Float[Tensor, "batch hand finger 4 3"]

    def points(self) -> Float[Tensor, "batch hand 21 3"]:
        """OPENPOSE21."""
        return torch.cat([self.wrist[:, :, None], self.fingers.flatten(2, 3)], 2)

    def derivative(self) -> Float[Tensor, "batch hand 21 3 column"]:
        """d points by a left increment of each joint's rotation (3 x 16, the chain's order), then by shape, then by translation."""
        c = self.chain
        batch, shape_columns = self.wrist.shape[0], c.root_basis.shape[-1]
        d = torch.zeros(batch, 2, 21, 3, 51 + shape_columns, dtype=self.wrist.dtype, device=self.wrist.device)
        fingers = d[:, :, 1:].unflatten(2, (5, 4))
        # An increment w of a joint's rotation turns all beyond it about the joint: dp = R_parent w x (p - joint).
        arm = self.fingers - self.wrist[:, :, None, None]
        fingers[..., :3] = (arm @ c.cross).unflatten(-1, (3, 3))
        arm = self.fingers[:, :, :, None] - self.fingers[:, :, :, :3, None]
        turned = (arm @ c.cross).unflatten(-1, (3, 3)) @ self.frame[:, :, :, :3, None] * c.beyond
        blocks = fingers[..., 3:48].unflatten(-1, (5, 3, 3)).diagonal(dim1=2, dim2=5)  # batch hand point 3 joint axis finger
        blocks.copy_(turned.permute(0, 1, 4, 5, 3, 6, 2))
        d[:, :, 0, :, 48:-3] = c.root_basis
        fingers[..., 48:-3] = (self.frame @ c.bone_basis).cumsum(3) + c.root_basis[:, None, None]
        d[..., -3:] = torch.eye(3, dtype=d.dtype, device=d.device)
        return d
