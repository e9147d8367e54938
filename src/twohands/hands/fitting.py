"""Fits hand parameters to keypoints by damped least squares with an analytic Jacobian, many pairs of hands at once.

Unknowns per hand are a small rotation of each of the 16 joints, the shape and the translation (61 numbers); residuals are viewing rays, depths
and priors that keep pose and shape near where they started and inside the joint limits. Only keypoints are posed, never the mesh: one iteration
for two hands costs about 2 ms on one core.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from twohands.geometry.rotations import matrix_to_rotvec, nearest_rotation, rotvec_to_matrix
from twohands.hands.limits import JointLimits
from twohands.hands.mirror import mirror_rotvec
from twohands.hands.model import HandModel
from twohands.hands.parameters import HandParameters
from twohands.joints import MANO16_PARENTS, MIDDLE_MCP, OPENPOSE21_FROM_MANO16_AND_TIPS
from twohands.record import Record

SHAPE_BOUND = 4.0
"""No fitted shape coefficient exceeds this many standard deviations."""
TIP_JOINTS = (15, 3, 6, 12, 9)
"""MANO16 joint that carries each fingertip (thumb, index, middle, ring, pinky)."""


def _ancestry() -> Tensor:
    """(21, 16): keypoint k moves with joint j. A keypoint moves with a joint's rotation if the joint is a strict ancestor, or carries the tip."""
    chains = []
    for k in OPENPOSE21_FROM_MANO16_AND_TIPS:
        j = TIP_JOINTS[k - 16] if k >= 16 else MANO16_PARENTS[k]
        chain = []
        while j >= 0:
            chain.append(j)
            j = MANO16_PARENTS[j]
        chains.append([1.0 if joint in chain else 0.0 for joint in range(16)])
    return torch.tensor(chains)


@dataclass(frozen=True)
class KeypointObservation(Record):
    """What the keypoints should look like; a weight of 0 leaves a term out."""

    ray_xy: Float[Tensor, "batch hand 21 2"]
    """x / z and y / z of each keypoint in the camera frame (pixels freed of the intrinsics)."""
    ray_weight: Float[Tensor, "batch hand 21"]
    """Inverse standard deviation of the rays."""
    depth: Float[Tensor, "batch hand 21"]
    """Depth behind the wrist in wrist - middle knuckle lengths."""
    depth_weight: Float[Tensor, "batch hand 21"]
    """Inverse standard deviation of the depths, in the same unit."""


@dataclass(frozen=True)
class FitConfig:
    """How strongly the start holds. Standard deviations."""

    orientation_rad: float = 0.5
    pose_rad: float = 0.35
    shape: float = 1.0
    translation_xy_m: float = 1.0
    depth_share: float = 0.2
    """Of the distance to the camera."""
    limit_rad: float = 0.05
    """Softness of the joint limits."""
    iterations: int = 8
    damping: float = 1e-3


@dataclass(frozen=True)
class _Chain:
    """Keypoints and what their derivatives need."""

    points: Tensor
    joints: Tensor
    R_parent: Tensor
    d_shape: Tensor


def _pose_chain(model: HandModel, rotation: Tensor, shape: Tensor, translation: Tensor) -> _Chain:
    """Forward kinematics of the 21 keypoints with their derivative by shape. Tips ride rigidly on their last joint."""
    data = model.data
    hand = torch.arange(2, device=shape.device)[:, None]
    rest_basis = torch.cat([model.joint_shapedirs, data.shapedirs[hand, data.tip_vertices]], 1)
    template = torch.cat([model.joint_template, data.v_template[hand, data.tip_vertices]], 1)
    rest = template + torch.einsum("hjck,bhk->bhjc", rest_basis, shape)
    parents = (*MANO16_PARENTS, *TIP_JOINTS)
    batch = shape.shape[0]
    identity = torch.eye(3, dtype=rotation.dtype, device=rotation.device).expand(batch, 2, 3, 3)
    world: list[Tensor] = []
    points: list[Tensor] = []
    d_shape: list[Tensor] = []
    R_parent: list[Tensor] = []
    for j, parent in enumerate(parents):
        R_up = identity if parent < 0 else world[parent]
        offset = rest[:, :, j] if parent < 0 else rest[:, :, j] - rest[:, :, parent]
        offset_basis = rest_basis[:, j] if parent < 0 else rest_basis[:, j] - rest_basis[:, parent]
        moved = (R_up @ offset[..., None])[..., 0]
        points.append(moved + (translation if parent < 0 else points[parent]))
        d = R_up @ offset_basis
        d_shape.append(d if parent < 0 else d + d_shape[parent])
        if j < 16:
            R_parent.append(R_up)
            world.append(R_up @ rotation[:, :, j])
    order = torch.tensor(OPENPOSE21_FROM_MANO16_AND_TIPS, device=shape.device)
    stacked = torch.stack(points, 2)
    return _Chain(stacked[:, :, order], stacked[:, :, :16], torch.stack(R_parent, 2), torch.stack(d_shape, 2)[:, :, order])


def fit_hands(
    model: HandModel,
    start: HandParameters,
    seen: KeypointObservation,
    config: FitConfig | None = None,
    limits: JointLimits | None = None,
    relative_m: Float[Tensor, "batch 3"] | None = None,
    relative_weight: Float[Tensor, "batch 3"] | None = None,
    shared_shape: float = 0.0,
) -> HandParameters:
    """Levenberg-Marquardt from `start` (batch axes: exactly one), both hands of each pair together.

    `relative_m` is the vector from right wrist to left wrist that the pair should keep, `relative_weight` its inverse standard deviation (1/m);
    `shared_shape` the inverse standard deviation by which the two hands' shapes may differ. A step that does not lower a pair's cost is undone
    and its damping raised, so the result is never worse than the start."""
    config = config or FitConfig()
    if not model.flat_hand_mean:
        raise ValueError("fit_hands works on poses relative to the flat hand; load the model with flat_hand_mean=True")
    batch = start.shape.shape[0]
    dtype, device = start.shape.dtype, start.shape.device
    ancestry = _ancestry().to(device, dtype)
    limits = None if limits is None else limits.to(dtype).to(device)
    prior_scale = torch.ones(61, dtype=dtype, device=device)
    prior_scale[0:3] = config.orientation_rad
    prior_scale[3:48] = config.pose_rad
    prior_scale[48:58] = config.shape
    prior_scale[58:61] = config.translation_xy_m
    weight_prior = (1 / prior_scale).expand(batch, 2, 61).clone()
    weight_prior[..., 60] = 1 / (config.depth_share * start.translation_m[..., 2].abs().clamp_min(0.05))
    R_start = rotvec_to_matrix(start.pose)

    def residuals(rotation: Tensor, shape: Tensor, translation: Tensor, jacobian: bool) -> tuple[Tensor, Tensor | None]:
        """Residuals (batch, hand, n) and d residual / d increment (batch, hand, n, 61)."""
        chain = _pose_chain(model, rotation, shape, translation)
        p = chain.points
        z = p[..., 2].clamp_min(1e-3)
        ray = (p[..., :2] / z[..., None] - seen.ray_xy) * seen.ray_weight[..., None]
        palm = (p[:, :, MIDDLE_MCP] - p[:, :, 0]).norm(dim=-1).detach()
        depth = ((p[..., 2] - p[:, :, :1, 2]) / palm[..., None] - seen.depth) * seen.depth_weight
        turned = matrix_to_rotvec(rotation @ R_start.transpose(-1, -2)).flatten(2)
        prior = torch.cat([turned, shape - start.shape, translation - start.translation_m], -1) * weight_prior
        parts = [ray.flatten(2), depth, prior]
        over = None
        if limits is not None:
            rotvec = matrix_to_rotvec(rotation)
            right = torch.stack([mirror_rotvec(rotvec[:, 0]), rotvec[:, 1]], 1)
            angles = limits.rotvec_to_angles(right)
            low, high = limits.limits_rad.to(angles).unbind(-1)
            over = torch.relu(angles - high) - torch.relu(low - angles)
            parts.append((over / config.limit_rad).flatten(2))
        r = torch.cat(parts, -1)
        if not jacobian:
            return r, None
        # A left increment w of joint j's rotation turns all below it about the joint: dp = R_parent w x (p - joint).
        arm = (p[:, :, :, None] - chain.joints[:, :, None]) * ancestry[..., None]
        cross = torch.zeros(*arm.shape, 3, dtype=dtype, device=device)
        cross[..., 0, 1], cross[..., 0, 2] = arm[..., 2], -arm[..., 1]
        cross[..., 1, 0], cross[..., 1, 2] = -arm[..., 2], arm[..., 0]
        cross[..., 2, 0], cross[..., 2, 1] = arm[..., 1], -arm[..., 0]
        d_pose = (cross @ chain.R_parent[:, :, None]).transpose(-3, -2).flatten(-2)
        eye = torch.eye(3, dtype=dtype, device=device).expand(batch, 2, 21, 3, 3)
        d_points = torch.cat([d_pose, chain.d_shape, eye], -1)
        d_ray = (d_points[..., :2, :] - d_points[..., 2:, :] * (p[..., :2] / z[..., None])[..., None]) / z[..., None, None]
        d_ray = (d_ray * seen.ray_weight[..., None, None]).flatten(2, 3)
        d_depth = (d_points[..., 2, :] - d_points[:, :, :1, 2]) / palm[..., None, None] * seen.depth_weight[..., None]
        d_prior = torch.diag_embed(weight_prior)
        rows = [d_ray, d_depth, d_prior]
        if over is not None and limits is not None:
            # The angle's change under a left increment is taken as under an increment of the rotation vector: exact at rest, a damped
            # approximation elsewhere, good enough for a soft wall.
            axes = limits.axes.to(dtype)
            mirrored = torch.stack([axes * torch.tensor([1.0, -1.0, -1.0], dtype=dtype, device=device), axes])
            wall = torch.zeros(batch, 2, 48, 61, dtype=dtype, device=device)
            active = (over != 0).to(dtype) / config.limit_rad
            for j in range(1, 16):
                wall[:, :, 3 * j : 3 * j + 3, 3 * j : 3 * j + 3] = mirrored[:, j] * active[:, :, j, :, None]
            rows.append(wall)
        return r, torch.cat(rows, -2)

    def coupling(shape: Tensor, points_wrist: Tensor) -> Tensor:
        """Residuals that tie the two hands: relative wrist place and shared shape."""
        parts = []
        if relative_m is not None and relative_weight is not None:
            parts.append((points_wrist[:, 0] - points_wrist[:, 1] - relative_m) * relative_weight)
        if shared_shape > 0:
            parts.append((shape[:, 0] - shape[:, 1]) * shared_shape)
        return torch.cat(parts, -1) if parts else torch.zeros(batch, 0, dtype=dtype, device=device)

    rotation, shape, translation = R_start, start.shape, start.translation_m
    damping = torch.full((batch,), config.damping, dtype=dtype, device=device)

    def wrists(shape: Tensor, translation: Tensor) -> Tensor:
        return model.joint_template[:, 0] + torch.einsum("hck,bhk->bhc", model.joint_shapedirs[:, 0], shape) + translation

    def cost(rotation: Tensor, shape: Tensor, translation: Tensor) -> Tensor:
        r, _ = residuals(rotation, shape, translation, False)
        return r.square().sum((1, 2)) + coupling(shape, wrists(shape, translation)).square().sum(-1)

    current = cost(rotation, shape, translation)
    for _ in range(config.iterations):
        r, jacobian = residuals(rotation, shape, translation, True)
        assert jacobian is not None
        normal_each = jacobian.transpose(-1, -2) @ jacobian
        gradient = (jacobian.transpose(-1, -2) @ r[..., None])[..., 0].flatten(1)
        normal = torch.zeros(batch, 122, 122, dtype=dtype, device=device)
        normal[:, :61, :61], normal[:, 61:, 61:] = normal_each[:, 0], normal_each[:, 1]
        tie = coupling(shape, wrists(shape, translation))
        if tie.shape[1]:
            d_tie = _coupling_jacobian(model, relative_weight, shared_shape, batch, dtype, device)
            normal = normal + d_tie.transpose(-1, -2) @ d_tie
            gradient = gradient + (d_tie.transpose(-1, -2) @ tie[..., None])[..., 0]
        diagonal = normal.diagonal(dim1=-2, dim2=-1)
        damped = normal + torch.diag_embed(damping[:, None] * diagonal + 1e-9)
        step = -torch.linalg.solve(damped, gradient).unflatten(1, (2, 61))
        turn = step[..., :48].unflatten(-1, (16, 3))
        length = turn.norm(dim=-1, keepdim=True)
        turn = turn * (0.5 / length.clamp_min(0.5))
        next_rotation = rotvec_to_matrix(turn) @ rotation
        # A far start explains bent fingers by giants and dwarfs: keep each step, and the whole, inside what hands look like.
        next_shape = (shape + step[..., 48:58].clamp(-0.5, 0.5)).clamp(-SHAPE_BOUND, SHAPE_BOUND)
        next_translation = translation + step[..., 58:]
        tried = cost(next_rotation, next_shape, next_translation)
        better = tried < current
        pick = better[:, None, None]
        rotation = torch.where(pick[..., None, None], next_rotation, rotation)
        shape, translation = torch.where(pick, next_shape, shape), torch.where(pick, next_translation, translation)
        current = torch.where(better, tried, current)
        damping = torch.where(better, damping * 0.3, damping * 10).clamp(1e-7, 1e6)
    return HandParameters(matrix_to_rotvec(rotation), shape, translation)


def _coupling_jacobian(
    model: HandModel, relative_weight: Tensor | None, shared_shape: float, batch: int, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """d coupling / d increments, (batch, n, 122); constant over iterations."""
    rows = []
    if relative_weight is not None:
        d = torch.zeros(batch, 3, 122, dtype=dtype, device=device)
        eye = torch.eye(3, dtype=dtype, device=device)
        for hand, sign in ((0, 1.0), (1, -1.0)):
            start = 61 * hand
            d[:, :, start + 58 : start + 61] = sign * eye
            d[:, :, start + 48 : start + 58] = sign * model.joint_shapedirs[hand, 0].to(dtype)
        rows.append(d * relative_weight[..., None])
    if shared_shape > 0:
        d = torch.zeros(batch, 10, 122, dtype=dtype, device=device)
        eye = torch.eye(10, dtype=dtype, device=device) * shared_shape
        d[:, :, 48:58], d[:, :, 109:119] = eye, -eye
        rows.append(d)
    return torch.cat(rows, 1)


def start_from_keypoints(
    model: HandModel,
    keypoints_m: Float[Tensor, "batch hand 21 3"],
    ray_xy: Float[Tensor, "batch hand 21 2"],
    ray_weight: Float[Tensor, "batch hand 21"],
) -> HandParameters:
    """A start for `fit_hands` from rough wrist-relative 3D keypoints: hand orientation by Procrustes on wrist and knuckles, fingers at rest,
    place by `place_hands`."""
    batch = keypoints_m.shape[0]
    rest = HandParameters.zeros(batch).to(keypoints_m.device).to(keypoints_m.dtype)
    identity = torch.eye(3, dtype=keypoints_m.dtype, device=keypoints_m.device).expand(batch, 2, 16, 3, 3)
    palm = [0, 1, 5, 9, 13, 17]
    template = _pose_chain(model, identity, rest.shape, rest.translation_m).points[:, :, palm]
    target = keypoints_m[:, :, palm]
    covariance = (target - target.mean(2, keepdim=True)).transpose(-1, -2) @ (template - template.mean(2, keepdim=True))
    orientation = nearest_rotation(covariance)
    pose = rest.pose.clone()
    pose[:, :, 0] = matrix_to_rotvec(orientation)
    unplaced = HandParameters(pose, rest.shape, rest.translation_m)
    # The fingers are not posed yet: only the palm may say where the hand is.
    rigid = torch.zeros_like(ray_weight)
    rigid[..., palm] = ray_weight[..., palm]
    return place_hands(model, unplaced, ray_xy, rigid)


def place_hands(
    model: HandModel,
    parameters: HandParameters,
    ray_xy: Float[Tensor, "batch hand 21 2"],
    ray_weight: Float[Tensor, "batch hand 21"],
) -> HandParameters:
    """Translation of each hand, given pose and shape, that best puts its keypoints on their rays: linear least squares of
    X_xy + t_xy = ray (X_z + t_z). ValueError-free: a hand without weights is put one metre away."""
    rotation = rotvec_to_matrix(parameters.pose)
    points = _pose_chain(model, rotation, parameters.shape, torch.zeros_like(parameters.translation_m)).points
    w = ray_weight[..., None]
    d = torch.zeros(*ray_xy.shape, 3, dtype=points.dtype, device=points.device)
    d[..., 0, 0], d[..., 1, 1] = 1.0, 1.0
    d[..., 2] = -ray_xy
    right = ray_xy * points[..., 2:] - points[..., :2]
    A = (d * w[..., None]).flatten(2, 3)
    b = (right * w).flatten(2)
    # Weak pull to a metre away: it decides only where there are no observations.
    weak = 1e-4 * torch.eye(3, dtype=points.dtype, device=points.device)
    far = torch.tensor([0.0, 0.0, 1.0], dtype=points.dtype, device=points.device)
    scale = A.square().sum((-1, -2), keepdim=True).clamp_min(1e-12)
    normal = A.transpose(-1, -2) @ A / scale + 1e-8 * torch.eye(3, dtype=points.dtype, device=points.device) + weak * (scale < 1e-10)
    rhs = (A.transpose(-1, -2) @ b[..., None])[..., 0] / scale[..., 0] + 1e-8 * far + 1e-4 * far * (scale[..., 0] < 1e-10)
    translation = torch.linalg.solve(normal, rhs)
    depth = (translation[..., 2:] + points[:, :, 9, 2:]).clamp_min(0.05) - points[:, :, 9, 2:]
    return HandParameters(parameters.pose, parameters.shape, torch.cat([translation[..., :2], depth], -1))
