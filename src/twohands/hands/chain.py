"""The 21 keypoints of both hands as chains of joints, with their derivatives: what fitting needs of a hand, without its mesh.

A hand is a wrist and five fingers of three joints and a tip, which is the order of OPENPOSE21; so three small matrix products turn all fingers at
once. Tips ride rigidly on the last joints (pose correctives, which move them by less than a millimetre, are left out). NumPy, in double precision:
for so few numbers a call of PyTorch costs several times what it computes.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from twohands.hands.model import HandModel
from twohands.joints import FINGERS, MANO16

Array = np.ndarray

CHAIN16 = [0, *(MANO16.index(f"{finger}{k}") for finger in FINGERS for k in (1, 2, 3))]
"""The joints that turn in the order of the chain: wrist, then finger by finger. Place in MANO16 of each."""
MANO16_FROM_CHAIN = [CHAIN16.index(joint) for joint in range(16)]
OWN, WRIST, SHAPE, PLACE = slice(0, 9), slice(9, 12), slice(12, 22), slice(22, 25)
"""Columns of a finger's derivative: its own joints, the wrist's rotation, shape, translation."""

_EYE = np.eye(3)
_CROSS = np.zeros((3, 9))
"""v @ _CROSS is the matrix, row by row, that takes w to w x v."""
for _axis, _entry, _sign in ((2, 1, 1.0), (1, 2, -1.0), (2, 3, -1.0), (0, 5, 1.0), (1, 6, 1.0), (0, 7, -1.0)):
    _CROSS[_axis, _entry] = _sign
_BEYOND = np.array([[float(point > joint) for joint in range(3)] for point in range(4)])[:, :, None, None]
"""(point, joint, 1, 1): a finger's joint moves the points beyond it."""


@dataclass(frozen=True)
class KeypointChain:
    """Bones of both hands at rest, linear in shape."""

    root: Float[Array, "hand 3"]
    root_basis: Float[Array, "hand 3 10"]
    bone: Float[Array, "hand finger 4 3"]
    """To each finger's knuckle, joint or tip from the one before it."""
    bone_basis: Float[Array, "hand finger 4 3 10"]
    mix: Float[Array, "21 21"] | None = None
    """Keypoints from wrist, joints and tips (`HandModelData.keypoint_mix`)."""

    def wrist(self, shape: Float[Array, "batch hand 10"], translation: Float[Array, "batch hand 3"]) -> Float[Array, "batch hand 3"]:
        """Where the wrists are."""
        return self.root + (self.root_basis @ shape[..., None])[..., 0] + translation

    def pose(
        self,
        rotation: Float[Array, "batch hand 16 3 3"],
        shape: Float[Array, "batch hand 10"],
        translation: Float[Array, "batch hand 3"],
    ) -> "PosedChain":
        """The keypoints of hands whose joints, in the chain's order, are turned so against their parents."""
        turns = rotation[:, :, 1:].reshape(-1, 2, 5, 3, 3, 3)
        frame = np.empty((len(rotation), 2, 5, 4, 3, 3))
        frame[:, :, :, 0] = rotation[:, :, None, 0]
        for level in range(3):
            np.matmul(frame[:, :, :, level], turns[:, :, :, level], out=frame[:, :, :, level + 1])
        bone = self.bone + (self.bone_basis.reshape(2, 60, 10) @ shape[..., None]).reshape(-1, 2, 5, 4, 3)
        wrist = self.wrist(shape, translation)
        return PosedChain(self, frame, wrist, wrist[:, :, None, None] + (frame @ bone[..., None])[..., 0].cumsum(3))


@dataclass(frozen=True)
class PosedChain:
    """Posed keypoints."""

    chain: KeypointChain
    frame: Float[Array, "batch hand finger 4 3 3"]
    """Rotation of each finger point's parent in the world."""
    wrist: Float[Array, "batch hand 3"]
    fingers: Float[Array, "batch hand finger 4 3"]

    def points(self) -> Float[Array, "batch hand 21 3"]:
        """OPENPOSE21, where annotators put them."""
        points = np.concatenate([self.wrist[:, :, None], self.fingers.reshape(-1, 2, 20, 3)], 2)
        return points if self.chain.mix is None else self.chain.mix @ points

    def derivative(self) -> tuple[Float[Array, "batch hand finger 4 3 25"], Float[Array, "batch hand 3 16"]]:
        """d `points` by a left increment of rotations, by shape and by translation: the fingers' by their own joints' rotations, the wrist's
        and the rest, the wrist's by all but the first."""
        batch = len(self.wrist)
        d = np.empty((batch, 2, 5, 4, 3, 25))
        # An increment w of a joint's rotation turns all beyond it about the joint: dp = R_parent w x (p - joint).
        arm = self.fingers[:, :, :, :, None] - self.fingers[:, :, :, None, :3]
        own = ((arm @ _CROSS).reshape(-1, 2, 5, 4, 3, 3, 3) @ self.frame[:, :, :, None, :3]) * _BEYOND
        d[..., OWN] = own.transpose(0, 1, 2, 3, 5, 4, 6).reshape(batch, 2, 5, 4, 3, 9)
        d[..., WRIST] = ((self.fingers - self.wrist[:, :, None, None]) @ _CROSS).reshape(-1, 2, 5, 4, 3, 3)
        d[..., SHAPE] = (self.frame @ self.chain.bone_basis).cumsum(3) + self.chain.root_basis[:, None, None]
        d[..., PLACE] = _EYE
        every = np.zeros((batch, 2, 21, 3, 25))
        every[:, :, 0, :, SHAPE], every[:, :, 0, :, PLACE] = self.chain.root_basis, _EYE
        every[:, :, 1:] = d.reshape(batch, 2, 20, 3, 25)
        if self.chain.mix is not None:
            every = (self.chain.mix @ every.reshape(batch, 2, 21, 75)).reshape(batch, 2, 21, 3, 25)
        return every[:, :, 1:].reshape(batch, 2, 5, 4, 3, 25), every[:, :, 0, :, WRIST.start :]


@lru_cache(maxsize=4)
def chain_of(model: HandModel) -> KeypointChain:
    """The chain of a hand model."""
    data = model.data
    hand = torch.arange(2, device=data.faces.device)[:, None]

    def bones(joints: Tensor, tips: Tensor) -> tuple[Array, Array]:
        joint, tip = as_double(joints)[:, CHAIN16], as_double(tips)
        points = np.concatenate([joint[:, 1:].reshape(2, 5, 3, *joint.shape[2:]), tip[:, :, None]], 2)
        before = np.concatenate([np.broadcast_to(joint[:, None, None, 0], points[:, :, :1].shape), points[:, :, :3]], 2)
        return joint[:, 0], points - before

    root, bone = bones(model.joint_template, data.v_template[hand, data.tip_vertices])
    root_basis, bone_basis = bones(model.joint_shapedirs, data.shapedirs[hand, data.tip_vertices])
    mix = None if data.keypoint_mix is None else as_double(data.keypoint_mix)
    return KeypointChain(root, root_basis, bone, bone_basis, mix)


def as_double(values: Tensor) -> Array:
    return values.detach().cpu().double().numpy()


def rotvecs_to_matrices(rotvec: Float[Array, "*any 3"]) -> Float[Array, "*any 3 3"]:
    """`geometry.rotations.rotvec_to_matrix` in NumPy: R = cos t I + sin(t) / t K + (1 - cos t) / t^2 v v^T."""
    angle = np.maximum(np.sqrt((rotvec * rotvec).sum(-1)), 1e-150)[..., None, None]
    half = np.sin(angle / 2) / angle
    turned = (rotvec @ -_CROSS).reshape(*rotvec.shape, 3)
    return np.cos(angle) * _EYE + np.sin(angle) / angle * turned + 2 * half * half * (rotvec[..., :, None] * rotvec[..., None, :])


def matrices_to_rotvecs(rotation: Float[Array, "*any 3 3"]) -> Float[Array, "*any 3"]:
    """`geometry.rotations.matrix_to_rotvec` in NumPy, through the unit quaternion whose largest entry is found first."""
    products = (rotation.reshape(-1, 9) @ _PRODUCTS + _PRODUCTS_AT_ZERO).reshape(-1, 4, 4)  # 4 q q^T, entries x, y, z, w
    row = products[np.arange(len(products)), products.reshape(-1, 16)[:, ::5].argmax(1)]
    row = row * (np.where(row[:, 3] < 0, -1.0, 1.0) / np.sqrt((row * row).sum(1)))[:, None]
    sine = np.maximum(np.sqrt((row[:, :3] * row[:, :3]).sum(1)), 1e-150)
    return (row[:, :3] * (2 * np.arctan2(sine, row[:, 3]) / sine)[:, None]).reshape(*rotation.shape[:-1])


def rotvec_change(rotvec: Float[Array, "*any 3"]) -> Float[Array, "*any 3 3"]:
    """d rotvec by a left increment w, R -> exp(w) R, for angles t below pi: the inverse of SO(3)'s left Jacobian,
    I - K / 2 + (1 - t / 2 cot(t / 2)) K^2 / t^2, which is the identity at rest only."""
    angle = np.maximum(np.sqrt((rotvec * rotvec).sum(-1)), 1e-4)[..., None, None]
    against = (rotvec @ _CROSS).reshape(*rotvec.shape, 3)  # -K
    return _EYE + 0.5 * against + (1 - angle / 2 / np.tan(angle / 2)) / (angle * angle) * (against @ against)


def _quaternion_products() -> Array:
    """(9, 16): entries of a matrix to 4 q q^T of its quaternion (x, y, z, w), but for the constant."""
    linear = np.zeros((3, 3, 4, 4))
    for a in range(3):
        b, c = (a + 1) % 3, (a + 2) % 3
        for other in range(3):
            linear[other, other, a, a] = 1.0 if other == a else -1.0
        linear[a, b, a, b] = linear[b, a, a, b] = linear[a, b, b, a] = linear[b, a, b, a] = 1.0
        linear[c, b, a, 3] = linear[c, b, 3, a] = 1.0
        linear[b, c, a, 3] = linear[b, c, 3, a] = -1.0
        linear[a, a, 3, 3] = 1.0
    return linear.reshape(9, 16)


_PRODUCTS = _quaternion_products()
_PRODUCTS_AT_ZERO = np.eye(4).reshape(16)
