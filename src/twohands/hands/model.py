"""A parametric pair of hands: load, give a shape, give a pose, take the mesh. Each stage is a value; nothing is kept between calls.

Linear blend skinning of MANO (Romero et al., SIGGRAPH Asia 2017, equations 1-4), for both hands at once on the axis `hand` (left, right).
All offsets come from one matrix product and the blended transforms from another, laid out so that a vertex axis is always innermost.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from twohands.geometry.mesh import boundary_loop, is_closed
from twohands.geometry.rotations import rotvec_to_matrix
from twohands.hands.parameters import HandParameters
from twohands.joints import MANO16_PARENTS, OPENPOSE21_FROM_MANO16_AND_TIPS
from twohands.record import Record

# On a processor, skin as many hands at a time as keep their blended transforms, 12 numbers a vertex, within its cache (2.5 MB): 1.5 times
# as fast at batch 512.
_CACHED_NUMBERS = 640_000


@dataclass(frozen=True)
class HandModelData(Record):
    """The arrays of a hand model, left and right. Template in metres, shape directions in metres per standard deviation."""

    name: str
    v_template: Float[Tensor, "hand vert 3"]
    shapedirs: Float[Tensor, "hand vert 3 shape"]
    posedirs: Float[Tensor, "hand vert 3 135"] | None
    """Metres per entry of (R - I) of joints 1 to 15, row by row; None for a model without pose correctives."""
    J_regressor: Float[Tensor, "hand 16 vert"]
    weights: Float[Tensor, "hand vert 16"]
    faces: Int[Tensor, "hand face 3"]
    """Counter-clockwise seen from outside."""
    tip_vertices: Int[Tensor, "hand 5"]
    """Which vertex is the tip of the thumb, index, middle, ring, little finger."""
    hands_mean: Float[Tensor, "hand 45"]
    """Mean finger pose (rotation vectors, joints 1 to 15); zeros where the rest pose is the mean."""
    hands_components: Float[Tensor, "hand 45 45"] | None = None
    """Rows are MANO's principal components of finger pose; None for a model without them."""
    keypoint_mix: Float[Tensor, "21 21"] | None = None
    """Keypoints from the joints it turns about and its tips, both in the order of OPENPOSE21; None where they are the same. Rows sum to one, and a
    keypoint owes nothing to another finger beyond its knuckle."""


@dataclass(frozen=True)
class HandMesh(Record):
    """Posed hands."""

    vertices_m: Float[Tensor, "*batch hand vert 3"]
    keypoints_m: Float[Tensor, "*batch hand 21 3"]
    """OPENPOSE21, where annotators put them."""


@dataclass(frozen=True)
class _Skin(Record):
    """What skinning needs to know of a set of vertices, coordinate by coordinate, so that products run along the vertex axis."""

    template: Float[Tensor, "hand 1 coordinate_vert"]
    directions: Float[Tensor, "hand feature coordinate_vert"]
    weights: Float[Tensor, "hand 16 vert"]

    @staticmethod
    def of(data: HandModelData) -> "_Skin":
        """All vertices of a model."""
        directions = data.shapedirs if data.posedirs is None else torch.cat([data.shapedirs, data.posedirs], -1)
        return _Skin(
            data.v_template.transpose(1, 2).reshape(2, 1, -1),
            directions.permute(0, 3, 2, 1).flatten(2).contiguous(),
            data.weights.transpose(1, 2).contiguous(),
        )

    def subset(self, vertices: Int[Tensor, "hand chosen"]) -> "_Skin":
        """The same for a few vertices."""
        count, chosen = self.weights.shape[-1], vertices.shape[-1]
        index = vertices[:, None, :]
        coordinates = torch.cat([index + axis * count for axis in range(3)], -1)
        return _Skin(
            self.template.gather(2, coordinates),
            self.directions.gather(2, coordinates.expand(-1, self.directions.shape[1], -1)),
            self.weights.gather(2, index.expand(-1, 16, chosen)),
        )

    def pose(self, features: Float[Tensor, "sample hand feature"], transforms: Float[Tensor, "sample hand 16 3 4"]) -> Tensor:
        """Skinned vertices (sample, hand, vert, 3) of the blended transforms (MANO, equation 3)."""
        samples = features.shape[0]
        chunk = max(1, _CACHED_NUMBERS // (24 * self.weights.shape[-1])) if features.device.type == "cpu" else samples
        if samples <= chunk:
            return self._pose(features, transforms)
        return torch.cat([self._pose(f, t) for f, t in zip(features.split(chunk), transforms.split(chunk), strict=True)])

    def _pose(self, features: Tensor, transforms: Tensor) -> Tensor:
        samples, vertices = features.shape[0], self.weights.shape[-1]
        rest = torch.baddbmm(self.template, features.transpose(0, 1), self.directions).view(2, samples, 3, vertices)
        columns = transforms.permute(1, 0, 4, 3, 2).reshape(2, samples * 12, 16)
        blended = torch.bmm(columns, self.weights).view(2, samples, 4, 3, vertices)
        posed = blended[:, :, 3]
        for axis in range(3):
            posed = torch.addcmul(posed, blended[:, :, axis], rest[:, :, axis, None])
        return posed.permute(1, 0, 3, 2)


class HandModel:
    """Two parametric hands.

    `flat_hand_mean=False` adds the model's mean finger pose to the poses given to `pose_hands`, as smplx does by default; the poses of most
    data sets are stored relative to it. The bundled hand's mean is zero, so there the choice changes nothing."""

    def __init__(self, data: HandModelData, flat_hand_mean: bool = True) -> None:
        _check(data)
        self.data = data
        self.flat_hand_mean = flat_hand_mean
        self.joint_template: Float[Tensor, "hand 16 3"] = data.J_regressor @ data.v_template
        self.joint_shapedirs: Float[Tensor, "hand 16 3 shape"] = torch.einsum("hjv,hvcs->hjcs", data.J_regressor, data.shapedirs)
        # Kept as tensors: a list as an index would be copied to the device at every call.
        self._parents = torch.tensor(MANO16_PARENTS[1:], device=data.faces.device)
        self._keypoint_order = torch.tensor(OPENPOSE21_FROM_MANO16_AND_TIPS, device=data.faces.device)
        self._joint_directions = self.joint_shapedirs.permute(0, 3, 1, 2).flatten(2).contiguous()
        self._skin = _Skin.of(data)
        self._tip_skin = self._skin.subset(data.tip_vertices)
        self._loops = None if is_closed(data.faces[1]) else torch.stack([boundary_loop(faces) for faces in data.faces])

    @property
    def name(self) -> str:
        """ "bundled" or "mano"."""
        return self.data.name

    @property
    def faces(self) -> Int[Tensor, "hand face 3"]:
        """Triangles of each hand, counter-clockwise seen from outside."""
        return self.data.faces

    def to(self, target: torch.device | torch.dtype | str) -> "HandModel":
        """The same model on another device or in another floating type."""
        return HandModel(self.data.to(target), self.flat_hand_mean)

    def with_shape(self, shape: Float[Tensor, "*batch hand shape"]) -> "ShapedHands":
        """Hands of these shape coefficients at rest (MANO, equation 4)."""
        count = self.data.shapedirs.shape[-1]
        if shape.ndim < 2 or shape.shape[-2:] != (2, count):
            raise ValueError(f"shape must be (*batch, 2 hands, {count}), got {tuple(shape.shape)}; pad an absent hand with zeros")
        batch = shape.shape[:-2]
        offsets = torch.bmm(shape.reshape(-1, 2, count).transpose(0, 1), self._joint_directions).transpose(0, 1)
        return ShapedHands(self, shape, self.joint_template + offsets.reshape(*batch, 2, 16, 3))

    def pose_hands(self, parameters: HandParameters) -> "PosedHands":
        """Hands of these parameters. The only place where `hands_mean` enters, if it does at all."""
        pose = parameters.pose
        if not self.flat_hand_mean:
            wrist = pose[..., :1, :]
            pose = torch.cat([wrist, pose[..., 1:, :] + self.data.hands_mean.unflatten(-1, (15, 3))], -2)
        return self.with_shape(parameters.shape).with_pose(rotvec_to_matrix(pose), parameters.translation_m)

    def pca_to_pose(self, coefficients: Float[Tensor, "*batch hand component"]) -> Float[Tensor, "*batch hand 15 3"]:
        """Finger pose (rotation vectors, without the mean) of the leading principal components. ValueError if the model has none."""
        if self.data.hands_components is None:
            raise ValueError(f"the hand model {self.name!r} has no principal components of pose; give rotation vectors instead")
        rows = self.data.hands_components[:, : coefficients.shape[-1]]
        return (coefficients[..., None, :] @ rows)[..., 0, :].unflatten(-1, (15, 3))

    def closed_faces(self) -> Int[Tensor, "hand closed_face 3"]:
        """Faces of the watertight mesh: the model's and, if its wrist is open, a fan around one more vertex (see `closed_vertices`)."""
        if self._loops is None:
            return self.faces
        centre = torch.full_like(self._loops, self.data.v_template.shape[1])
        # The boundary runs along its faces; the fan must run against it.
        fan = torch.stack([self._loops.roll(-1, 1), self._loops, centre], -1)
        return torch.cat([self.faces, fan], 1)

    def closed_vertices(self, vertices_m: Float[Tensor, "*batch hand vert 3"]) -> Float[Tensor, "*batch hand closed_vert 3"]:
        """Vertices that `closed_faces` indexes: those given and, if the wrist is open, the centre of its rim."""
        if self._loops is None:
            return vertices_m
        rim = torch.stack([vertices_m[..., hand, loop, :] for hand, loop in enumerate(self._loops)], -3)
        return torch.cat([vertices_m, rim.mean(-2, keepdim=True)], -2)


@dataclass(frozen=True)
class ShapedHands:
    """Hands of given shape at rest."""

    model: HandModel
    shape: Float[Tensor, "*batch hand shape"]
    joints_rest_m: Float[Tensor, "*batch hand 16 3"]

    def with_pose(
        self,
        R_parent_joint: Float[Tensor, "*batch hand 16 3 3"],
        translation_m: Float[Tensor, "*batch hand 3"] | None = None,
    ) -> "PosedHands":
        """Poses the hands. Joint 0 turns the whole hand about its wrist; `translation_m` is added last. Batch axes broadcast against those
        of the shape."""
        if R_parent_joint.ndim < 4 or R_parent_joint.shape[-4:] != (2, 16, 3, 3):
            raise ValueError(f"rotations must be (*batch, 2 hands, 16 joints, 3, 3), got {tuple(R_parent_joint.shape)}")
        # NumPy's: PyTorch's function of that name imports a whole algebra system at its first call.
        batch = np.broadcast_shapes(self.joints_rest_m.shape[:-3], R_parent_joint.shape[:-4])
        rest = self.joints_rest_m.expand(*batch, 2, 16, 3)
        rotations = R_parent_joint.expand(*batch, 2, 16, 3, 3)
        T_world_joint = _chain(rest, rest.index_select(-2, self.model._parents), rotations, translation_m)
        features = self.shape.expand(*batch, 2, -1)
        if self.model.data.posedirs is not None:
            eye = torch.eye(3, dtype=rotations.dtype, device=rotations.device)
            features = torch.cat([features, (rotations[..., 1:, :, :] - eye).flatten(-3)], -1)
        return PosedHands(self.model, rest, features, T_world_joint)


@dataclass(frozen=True)
class PosedHands:
    """Posed hands, not yet skinned."""

    model: HandModel
    joints_rest_m: Float[Tensor, "*batch hand 16 3"]
    features: Float[Tensor, "*batch hand feature"]
    """Shape coefficients, then (R - I) of joints 1 to 15 if the model has pose correctives."""
    T_world_joint: Float[Tensor, "*batch hand 16 3 4"]
    """Frame of each MANO16 joint: rotation, then the joint's position."""

    @property
    def joints_m(self) -> Float[Tensor, "*batch hand 16 3"]:
        """MANO16 joints."""
        return self.T_world_joint[..., 3]

    @property
    def R_world_joint(self) -> Float[Tensor, "*batch hand 16 3 3"]:
        """Orientation of each MANO16 joint."""
        return self.T_world_joint[..., :3]

    def keypoints(self) -> Float[Tensor, "*batch hand 21 3"]:
        """OPENPOSE21 where annotators put them, equal to those of the mesh; skins five vertices a hand, not all."""
        return self._annotated(self.joints_and_tips())

    def joints_and_tips(self) -> Float[Tensor, "*batch hand 21 3"]:
        """The joints that the hand turns about and its tips, in the order of OPENPOSE21."""
        return self._with_tips(self._skinned(self.model._tip_skin))

    def mesh(self) -> HandMesh:
        """All vertices, and the keypoints."""
        vertices = self._skinned(self.model._skin)
        tips = torch.stack([vertices[..., hand, index, :] for hand, index in enumerate(self.model.data.tip_vertices)], -3)
        return HandMesh(vertices, self._annotated(self._with_tips(tips)))

    def _skinned(self, skin: _Skin) -> Tensor:
        R, p = self.R_world_joint, self.joints_m
        from_rest = torch.cat([R, (p - (R @ self.joints_rest_m[..., None])[..., 0])[..., None]], -1)
        vertices = skin.pose(self.features.reshape(-1, *self.features.shape[-2:]), from_rest.reshape(-1, 2, 16, 3, 4))
        return vertices.reshape(*self.features.shape[:-1], skin.weights.shape[-1], 3)

    def _annotated(self, points: Float[Tensor, "*batch hand 21 3"]) -> Float[Tensor, "*batch hand 21 3"]:
        mix = self.model.data.keypoint_mix
        return points if mix is None else mix @ points

    def _with_tips(self, tips: Float[Tensor, "*batch hand 5 3"]) -> Float[Tensor, "*batch hand 21 3"]:
        return torch.cat([self.joints_m, tips], -2).index_select(-2, self.model._keypoint_order)


def _chain(
    joints_rest_m: Float[Tensor, "*batch hand 16 3"],
    parents_rest_m: Float[Tensor, "*batch hand 15 3"],
    R_parent_joint: Float[Tensor, "*batch hand 16 3 3"],
    translation_m: Float[Tensor, "*batch hand 3"] | None,
) -> Float[Tensor, "*batch hand 16 3 4"]:
    """World frames of the joints (MANO, equation 2). MANO16 is a wrist and five chains of three: three products do all fifteen joints."""
    bones = joints_rest_m[..., 1:, :] - parents_rest_m
    fingers = torch.cat([R_parent_joint[..., 1:, :, :], bones[..., None]], -1).unflatten(-3, (5, 3))
    wrist_m = joints_rest_m[..., 0, :]
    if translation_m is not None:
        wrist_m = wrist_m + translation_m
    wrist = torch.cat([R_parent_joint[..., 0, :, :], wrist_m[..., None]], -1)[..., None, :, :]
    frame = wrist
    frames = []
    for level in range(3):
        step = frame[..., :3] @ fingers[..., level, :, :]
        frame = torch.cat([step[..., :3], step[..., 3:] + frame[..., 3:]], -1)
        frames.append(frame)
    return torch.cat([wrist, torch.stack(frames, -3).flatten(-4, -3)], -3)


def _check(data: HandModelData) -> None:
    """ValueError naming the first array whose shape does not fit the others."""
    vertices = data.v_template.shape[1]
    expected = {
        "v_template": (2, vertices, 3),
        "shapedirs": (2, vertices, 3, data.shapedirs.shape[-1]),
        "posedirs": (2, vertices, 3, 135),
        "J_regressor": (2, 16, vertices),
        "weights": (2, vertices, 16),
        "faces": (2, data.faces.shape[1], 3),
        "tip_vertices": (2, 5),
        "hands_mean": (2, 45),
        "hands_components": (2, 45, 45),
    }
    for field, shape in expected.items():
        array = getattr(data, field)
        if array is not None and tuple(array.shape) != shape:
            raise ValueError(f"{field} of the hand model {data.name!r} must have shape {shape}, got {tuple(array.shape)}")
