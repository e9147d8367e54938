"""A hand over time as a skeleton of sixteen joints in glTF's axes: what animated GLB and BVH have in common."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float

from twohands.errors import UserError
from twohands.export.files import GLTF_FROM_CAMERA, SIDES
from twohands.geometry.mesh import vertex_normals
from twohands.geometry.rotations import matrix_to_quaternion, rotvec_to_matrix
from twohands.hands.model import HandModel
from twohands.schema import HandMotion


@dataclass(frozen=True)
class SkeletonTrack:
    """One hand of one person. Rest frames have the axes of the hand's wrist frame; only the wrist itself is placed in the scene."""

    name: str
    """person0_left, ..."""
    hand: int
    time_s: Float[np.ndarray, " frame"]
    present: Bool[np.ndarray, " frame"]
    shape: Float[np.ndarray, "10"]
    rest_m: Float[np.ndarray, "16 3"]
    """MANO16 joints of this shape at rest."""
    tips_m: Float[np.ndarray, "5 3"]
    """Fingertips at rest: thumb, index, middle, ring, little finger."""
    rotation: Float[np.ndarray, "frame 16 3 3"]
    """Of each joint relative to its parent; the wrist's in the scene (x right, y up, z towards the viewer)."""
    wrist_m: Float[np.ndarray, "frame 3"]
    """In the scene. Where the hand is absent, rotations and place are those of the nearest frame in which it is not."""


def skeletons(motion: HandMotion, model: HandModel) -> Iterator[SkeletonTrack]:
    """Every hand that appears at all. UserError if `model` is not the motion's."""
    if model.name != motion.hand_model:
        raise UserError(f"this result's hands are of the model {motion.hand_model!r}, not {model.name!r}; name its folder with --mano")
    turn = np.diag(GLTF_FROM_CAMERA)
    tips = model.data.tip_vertices
    for n, number in enumerate(motion.person):
        for hand, side in enumerate(SIDES):
            present = motion.hand_present[:, n, hand].numpy()
            if not present.any():
                continue
            known = np.flatnonzero(present)
            nearest = known[np.abs(np.arange(len(present))[:, None] - known).argmin(1)]
            shape = motion.parameters.shape[known, n, hand].median(0).values
            both = shape.expand(2, 10)
            rest = model.with_shape(both).joints_rest_m[hand].double().numpy()
            template = model.data.v_template[hand] + model.data.shapedirs[hand] @ shape
            rotation = rotvec_to_matrix(motion.parameters.pose[nearest, n, hand].double()).numpy()
            rotation = np.concatenate([turn @ rotation[:, :1], rotation[:, 1:]], 1)
            own_rest = model.with_shape(motion.parameters.shape[nearest, n]).joints_rest_m[:, hand, 0].double().numpy()
            wrist = own_rest + motion.parameters.translation_m[nearest, n, hand].double().numpy()
            yield SkeletonTrack(
                name=f"person{number}_{side}",
                hand=hand,
                time_s=motion.time_s.double().numpy(),
                present=present,
                shape=shape.numpy(),
                rest_m=rest,
                tips_m=template[tips[hand]].double().numpy(),
                rotation=rotation,
                wrist_m=wrist * np.array(GLTF_FROM_CAMERA),
            )


def quaternions(rotation: Float[np.ndarray, "frame 3 3"]) -> Float[np.ndarray, "frame 4"]:
    """x, y, z, w; neighbours in time on the same side of the sphere, so that what lies between is the short way."""
    q = matrix_to_quaternion(torch.from_numpy(rotation)).numpy()
    sign = np.sign((q[1:] * q[:-1]).sum(1))
    return q * np.concatenate([[1.0], np.cumprod(np.where(sign == 0, 1.0, sign))])[:, None]


def rest_mesh(model: HandModel, track: SkeletonTrack) -> tuple[Float[np.ndarray, "vert 3"], Float[np.ndarray, "vert 3"]]:
    """Vertices and normals of the hand at rest, in its own frame."""
    shape = torch.from_numpy(track.shape)
    vertices = model.data.v_template[track.hand] + model.data.shapedirs[track.hand] @ shape
    return vertices.numpy(), vertex_normals(vertices, model.faces[track.hand]).numpy()
