"""Spheres that stand in for the two hands where collisions must be differentiated many times: a hundred distances instead of a mesh."""

import hashlib
from dataclasses import dataclass
from importlib import resources
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from twohands.collision.sphere_fit import FitConfig, FittedSpheres, fit_spheres, neighbouring_parts
from twohands.errors import UserError
from twohands.record import Record

BUNDLED_COUNTS = (48, 96, 192)
"""Sets of spheres that ship with the bundled hand."""

_SELF_GAP_M = 0.002


class HandArrays(Protocol):
    """What is read of a hand model (`twohands.hands.model.HandModelData` is one)."""

    @property
    def name(self) -> str: ...
    @property
    def v_template(self) -> Float[Tensor, "hand vert 3"]: ...
    @property
    def shapedirs(self) -> Float[Tensor, "hand vert 3 shape"]: ...
    @property
    def posedirs(self) -> Float[Tensor, "hand vert 3 135"] | None: ...
    @property
    def J_regressor(self) -> Float[Tensor, "hand 16 vert"]: ...
    @property
    def weights(self) -> Float[Tensor, "hand vert 16"]: ...
    @property
    def faces(self) -> Int[Tensor, "hand face 3"]: ...


class PosedSkeleton(Protocol):
    """What is read of posed hands (`twohands.hands.model.PosedHands` is one)."""

    @property
    def features(self) -> Float[Tensor, "*batch hand feature"]: ...
    @property
    def joints_m(self) -> Float[Tensor, "*batch hand 16 3"]: ...
    @property
    def R_world_joint(self) -> Float[Tensor, "*batch hand 16 3 3"]: ...


@dataclass(frozen=True)
class SphereProxies(Record):
    """Spheres of both hands of one model. A centre is a fixed convex combination of skin vertices, so it follows shape and pose.

    Because blend skinning is linear in the vertices, that combination can be carried out once, joint by joint, and the centres be skinned
    without the mesh: `centres_posed` equals `centres` of the mesh to rounding."""

    vertex_index: Int[Tensor, "hand sphere 12"]
    vertex_weight: Float[Tensor, "hand sphere 12"]
    """Non-negative, each row sums to 1."""
    radius_m: Float[Tensor, "hand sphere"]
    """Of the mean shape."""
    radius_shape_m: Float[Tensor, "hand sphere shape"]
    """Metres per standard deviation of shape."""
    part: Int[Tensor, "hand sphere"]
    """The MANO16 joint that moves the sphere most."""
    may_collide: Bool[Tensor, "hand sphere sphere"]
    """Pairs within one hand that can touch: not of one part or of neighbours, and more than 2 mm apart at rest."""
    joint_weight: Float[Tensor, "hand 16 sphere"]
    """Blend weights of the centres."""
    joint_offset_m: Float[Tensor, "hand 1 joint_axis_sphere"]
    """Weight times the centre's place relative to each joint, in the rest frame and mean shape; axes (16, 3, sphere) flattened."""
    joint_offset_directions: Float[Tensor, "hand feature joint_axis_sphere"]
    """Change of the same with each feature of `PosedSkeleton.features`."""

    @staticmethod
    def of(hand: HandArrays, count: int = 96) -> "SphereProxies":
        """Spheres for a hand model. The bundled hand has stored sets of 48, 96 and 192; for any other model they are fitted to its rest mesh,
        which takes seconds. UserError if the stored spheres belong to another version of the bundled hand."""
        if hand.name != "bundled" or count not in BUNDLED_COUNTS:
            return SphereProxies.fit(hand, FitConfig(count=count))
        path = resources.files("twohands.hands") / "assets" / "spheres.npz"
        if not path.is_file():
            raise UserError("the package lacks hands/assets/spheres.npz; reinstall twohands, or build the file with tools/fit_spheres.py")
        with path.open("rb") as file, np.load(file) as stored:
            if str(stored["hand_digest"]) != hand_digest(hand):
                raise UserError("hands/assets/spheres.npz was fitted to another hand than hands/assets/hand.npz; run tools/fit_spheres.py")
            names = ("vertex_index", "vertex_weight", "radius_m", "radius_shape_m")
            right = FittedSpheres(*(stored[f"spheres{count}_{name}"] for name in names))
        return SphereProxies.attach(hand, right, right)

    @staticmethod
    def fit(hand: HandArrays, config: FitConfig | None = None) -> "SphereProxies":
        """Fits spheres to the rest mesh of any model (about 5 s, twice that if the hands are not mirror images)."""
        config = config or FitConfig()
        right = _fit_rest(hand, 1, config)
        mirrored = hand.v_template[1] * hand.v_template.new_tensor([-1, 1, 1])
        alike = torch.allclose(hand.v_template[0], mirrored, atol=1e-4) and torch.allclose(hand.weights[0], hand.weights[1], atol=1e-2)
        return SphereProxies.attach(hand, right if alike else _fit_rest(hand, 0, config), right)

    @staticmethod
    def attach(hand: HandArrays, left: FittedSpheres, right: FittedSpheres) -> "SphereProxies":
        """Precomputes from fitted spheres what skinning them needs."""
        template = hand.v_template
        index, weight, radius, radius_shape = (
            torch.stack([torch.from_numpy(getattr(side, name)) for side in (left, right)]).to(template.device)
            for name in ("vertex_index", "vertex_weight", "radius_m", "radius_shape_m")
        )
        index, weight, radius, radius_shape = index.long(), weight.to(template), radius.to(template), radius_shape.to(template)
        directions = hand.shapedirs if hand.posedirs is None else torch.cat([hand.shapedirs, hand.posedirs], -1)
        joints = hand.J_regressor @ template
        joint_directions = torch.einsum("hjv,hvcf->hjcf", hand.J_regressor, hand.shapedirs)
        blend, offset, offset_directions = [], [], []
        for side in range(2):
            # Weight of vertex k in sphere s, times its blend weight for joint j.
            share = weight[side, :, :, None] * hand.weights[side][index[side]]
            total = share.sum(1)
            change = torch.einsum("skj,skcf->fjcs", share, directions[side][index[side]])
            # Joints move with shape only, never with pose features.
            change[: joint_directions.shape[-1]] -= torch.einsum("sj,jcf->fjcs", total, joint_directions[side])
            place = torch.einsum("skj,skc->jcs", share, template[side][index[side]]) - torch.einsum("sj,jc->jcs", total, joints[side])
            blend.append(total.T)
            offset.append(place.reshape(1, -1))
            offset_directions.append(change.flatten(1))
        joint_weight = torch.stack(blend).contiguous()
        part = joint_weight.argmax(1)
        centre = _combine(template, index, weight)
        gap = torch.cdist(centre, centre) - radius[:, :, None] - radius[:, None]
        near = torch.from_numpy(neighbouring_parts()).to(part.device)[part[:, :, None], part[:, None]]
        return SphereProxies(
            vertex_index=index,
            vertex_weight=weight,
            radius_m=radius,
            radius_shape_m=radius_shape,
            part=part,
            may_collide=(gap > _SELF_GAP_M) & ~near,
            joint_weight=joint_weight,
            joint_offset_m=torch.stack(offset),
            joint_offset_directions=torch.stack(offset_directions),
        )

    def centres(self, vertices_m: Float[Tensor, "*batch hand vert 3"]) -> Float[Tensor, "*batch hand sphere 3"]:
        """Sphere centres of posed meshes."""
        return _combine(vertices_m, self.vertex_index, self.vertex_weight)

    def centres_posed(self, posed: PosedSkeleton) -> Float[Tensor, "*batch hand sphere 3"]:
        """The same centres from the skeleton, without the mesh; for the sampling loop. Differentiable in pose, shape and translation."""
        joints = posed.joints_m
        batch, spheres = joints.shape[:-3], self.radius_m.shape[1]
        offset = self._offsets(posed)
        # Rows of [R_1 .. R_16] times stacked offsets: the sum over joints of R_j (c - J_j) w_j.
        rotations = posed.R_world_joint.reshape(-1, 2, 16, 3, 3).permute(1, 0, 3, 2, 4).reshape(-1, 3, 48)
        turned = torch.bmm(rotations, offset).view(2, -1, 3, spheres)
        places = joints.reshape(-1, 2, 16, 3).permute(1, 0, 3, 2).reshape(2, -1, 16) @ self.joint_weight
        return (turned + places.view(2, -1, 3, spheres)).permute(1, 0, 3, 2).reshape(*batch, 2, spheres, 3)

    def carried(self, posed: PosedSkeleton) -> Float[Tensor, "*batch hand 16 3 sphere"]:
        """Weight of each joint in each sphere times the place of the sphere relative to that joint, in the joint's axes: what a joint that turns
        carries with it."""
        spheres = self.radius_m.shape[1]
        return self._offsets(posed).view(2, -1, 16, 3, spheres).transpose(0, 1).reshape(*posed.joints_m.shape[:-3], 2, 16, 3, spheres)

    def _offsets(self, posed: PosedSkeleton) -> Float[Tensor, "hand_batch 48 sphere"]:
        features = posed.features.reshape(-1, 2, posed.features.shape[-1]).transpose(0, 1)
        return torch.baddbmm(self.joint_offset_m, features, self.joint_offset_directions).view(-1, 48, self.radius_m.shape[1])

    def radii(self, shape: Float[Tensor, "*batch hand shape"]) -> Float[Tensor, "*batch hand sphere"]:
        """Radii of hands of these shapes, metres, at least 1 mm."""
        change = torch.einsum("...hk,hsk->...hs", shape, self.radius_shape_m)
        return (self.radius_m + change).clamp_min(1e-3)


def hand_digest(hand: HandArrays) -> str:
    """Hex digest of the right hand's template and faces: which mesh the vertex numbers of spheres belong to."""
    template = hand.v_template[1].detach().cpu().to(torch.float32).contiguous().numpy()
    faces = hand.faces[1].cpu().to(torch.int32).contiguous().numpy()
    return hashlib.sha256(template.tobytes() + faces.tobytes()).hexdigest()


def _fit_rest(hand: HandArrays, side: int, config: FitConfig) -> FittedSpheres:
    rest, shapedirs, weights = (
        x[side].detach().cpu().to(torch.float32).contiguous().numpy() for x in (hand.v_template, hand.shapedirs, hand.weights)
    )
    return fit_spheres(rest, hand.faces[side].cpu().numpy(), shapedirs, weights, rest[None], np.zeros((1, shapedirs.shape[-1])), config)


def _combine(
    vertices_m: Float[Tensor, "*batch hand vert 3"], index: Int[Tensor, "hand sphere 12"], weight: Float[Tensor, "hand sphere 12"]
) -> Float[Tensor, "*batch hand sphere 3"]:
    ring = torch.stack([vertices_m[..., side, index[side], :] for side in range(2)], -4)
    return (ring * weight[..., None]).sum(-2)
