"""Fits hand parameters to keypoints by damped least squares with an analytic Jacobian, many pairs of hands at once.

Unknowns per hand are a small rotation of each of the 16 joints, the shape and the translation (61 numbers); residuals are viewing rays, depths
and priors that keep pose and shape near where they started and inside the joint limits. Only keypoints are posed, never the mesh: one iteration for two
hands costs about half a millisecond on one core.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from twohands.geometry.rotations import matrix_to_rotvec, nearest_rotation, rotvec_to_matrix
from twohands.hands.chain import CHAIN16, MANO16_FROM_CHAIN, KeypointChain, PosedChain
from twohands.hands.limits import JointLimits
from twohands.hands.mirror import mirror_rotvec
from twohands.hands.model import HandModel
from twohands.hands.parameters import HandParameters
from twohands.joints import MIDDLE_MCP
from twohands.record import Record

SHAPE_BOUND = 4.0
"""No fitted shape coefficient exceeds this many standard deviations."""


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
class _Problem:
    """What one fit minimises. Joints are in the chain's order."""

    chain: KeypointChain
    seen: KeypointObservation
    R_start: Float[Tensor, "batch hand 16 3 3"]
    shape_start: Float[Tensor, "batch hand 10"]
    translation_start: Float[Tensor, "batch hand 3"]
    prior: Float[Tensor, "batch hand 61"]
    """Inverse standard deviations of turns, shape and translation from the start."""
    axes: Float[Tensor, "hand 16 3 3"] | None
    """Rows are the joints' axes (flexion, spread, twist) on either hand; None without limits."""
    low: Float[Tensor, "16 3"]
    high: Float[Tensor, "16 3"]
    stiffness: float
    """Inverse softness of the limits, 1/rad."""
    tie: Float[Tensor, "batch tie 122"]
    """Rows that tie the two hands, as a linear map of shapes and translations (columns of a step)."""
    tie_target: Float[Tensor, "batch tie"]

    def at(self, rotation: Tensor, shape: Tensor, translation: Tensor) -> "_State":
        posed = self.chain.pose(rotation, shape, translation)
        p = posed.points()
        z = p[..., 2:].clamp_min(1e-3)
        xy = p[..., :2] / z
        palm = (p[:, :, MIDDLE_MCP] - p[:, :, 0]).norm(dim=-1)[..., None]
        depth = ((p[..., 2] - p[:, :, :1, 2]) / palm - self.seen.depth) * self.seen.depth_weight
        observed = torch.cat([(xy - self.seen.ray_xy) * self.seen.ray_weight[..., None], depth[..., None]], -1)
        turned = rotation @ self.R_start.mT
        if self.axes is None:
            from_start, over = matrix_to_rotvec(turned), None
        else:
            from_start, from_rest = matrix_to_rotvec(torch.stack([turned, rotation]))
            angles = (self.axes @ from_rest[..., None])[..., 0]
            over = (angles - angles.clamp(self.low, self.high)) * self.stiffness
        prior = torch.cat([from_start.flatten(2), shape - self.shape_start, translation - self.translation_start], -1) * self.prior
        tie = (self.tie @ _columns(shape, translation)[..., None])[..., 0] - self.tie_target
        cost = observed.square().sum((1, 2, 3)) + prior.square().sum((1, 2)) + tie.square().sum(-1)
        if over is not None:
            cost = cost + over.square().sum((1, 2, 3))
        return _State(self, rotation, shape, translation, posed, xy, z, palm, observed, prior, over, tie, cost)


@dataclass(frozen=True)
class _State:
    """Hands on the way, and how far they are from everything that they should be."""

    problem: _Problem
    rotation: Float[Tensor, "batch hand 16 3 3"]
    shape: Float[Tensor, "batch hand 10"]
    translation: Float[Tensor, "batch hand 3"]
    posed: PosedChain
    xy: Float[Tensor, "batch hand 21 2"]
    z: Float[Tensor, "batch hand 21 1"]
    palm: Float[Tensor, "batch hand 1"]
    observed: Float[Tensor, "batch hand 21 3"]
    """Residuals of rays and depth."""
    prior: Float[Tensor, "batch hand 61"]
    over: Float[Tensor, "batch hand 16 3"] | None
    """Residuals of the limits."""
    tie: Float[Tensor, "batch tie"]
    cost: Float[Tensor, "batch"]

    def normal_equations(self) -> tuple[Float[Tensor, "batch 122 122"], Float[Tensor, "batch 122"]]:
        """Gauss-Newton's matrix and gradient. A palm's length counts as constant."""
        p = self.problem
        d = self.posed.derivative()
        per_ray = (p.seen.ray_weight[..., None] / self.z)[..., None]
        d_ray = (d[..., :2, :] - d[..., 2:, :] * self.xy[..., None]) * per_ray
        d_depth = (d[..., 2:, :] - d[:, :, :1, 2:]) * (p.seen.depth_weight / self.palm)[..., None, None]
        rows = torch.cat([d_ray, d_depth], -2).flatten(2, 3)
        each = rows.mT @ rows
        gradient = (rows.mT @ self.observed.flatten(2)[..., None])[..., 0] + self.prior * p.prior
        each.diagonal(dim1=-2, dim2=-1).add_(p.prior.square())
        if self.over is not None and p.axes is not None:
            # The angle's change under a left increment is taken as under an increment of the rotation vector: exact at rest, a damped
            # approximation elsewhere, good enough for a soft wall. The wrist has none.
            active = p.axes[:, 1:] * ((self.over[:, :, 1:] != 0) * p.stiffness)[..., None]
            wall = each[..., 3:48, 3:48].unflatten(-1, (15, 3)).unflatten(-3, (15, 3)).diagonal(dim1=2, dim2=4)
            wall.add_((active.mT @ active).permute(0, 1, 3, 4, 2))
            gradient[..., 3:48] += (active.mT @ self.over[:, :, 1:, :, None]).flatten(2)
        normal = p.tie.mT @ p.tie
        normal[:, :61, :61] += each[:, 0]
        normal[:, 61:, 61:] += each[:, 1]
        return normal, gradient.flatten(1) + (p.tie.mT @ self.tie[..., None])[..., 0]

    def moved(self, step: Float[Tensor, "batch hand 61"]) -> "_State":
        turn = step[..., :48].unflatten(-1, (16, 3))
        turn = turn * (0.5 / turn.norm(dim=-1, keepdim=True).clamp_min(0.5))
        # A far start explains bent fingers by giants and dwarfs: keep each step, and the whole, inside what hands look like.
        shape = (self.shape + step[..., 48:58].clamp(-0.5, 0.5)).clamp(-SHAPE_BOUND, SHAPE_BOUND)
        return self.problem.at(rotvec_to_matrix(turn) @ self.rotation, shape, self.translation + step[..., 58:])


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
    """Levenberg-Marquardt from `start` (batch axes: exactly one), both hands of each pair together, in double precision whatever the inputs'.

    `relative_m` is the vector from right wrist to left wrist that the pair should keep, `relative_weight` its inverse standard deviation (1/m);
    `shared_shape` the inverse standard deviation by which the two hands' shapes may differ. A step that does not lower a pair's cost is undone
    and its damping raised, so the result is never worse than the start."""
    config = config or FitConfig()
    if not model.flat_hand_mean:
        raise ValueError("fit_hands works on poses relative to the flat hand; load the model with flat_hand_mean=True")
    dtype, wide = start.shape.dtype, torch.float64
    problem = _problem(model, start.to(wide), seen.to(wide), config, limits, relative_m, relative_weight, shared_shape)
    now = problem.at(problem.R_start, problem.shape_start, problem.translation_start)
    damping = torch.full_like(now.cost, config.damping)
    for _ in range(config.iterations):
        normal, gradient = now.normal_equations()
        diagonal = normal.diagonal(dim1=-2, dim2=-1)
        diagonal.add_(damping[:, None] * diagonal + 1e-9)
        tried = now.moved(-torch.linalg.solve(normal, gradient).unflatten(1, (2, 61)))
        better = tried.cost < now.cost
        damping = torch.where(better, damping * 0.3, damping * 10).clamp(1e-7, 1e6)
        if bool(better.all()):
            now = tried
        elif bool(better.any()):
            pick = better[:, None, None]
            now = problem.at(
                torch.where(pick[..., None, None], tried.rotation, now.rotation),
                torch.where(pick, tried.shape, now.shape),
                torch.where(pick, tried.translation, now.translation),
            )
    rotation = now.rotation[:, :, torch.tensor(MANO16_FROM_CHAIN, device=now.rotation.device)]
    return HandParameters(matrix_to_rotvec(rotation).to(dtype), now.shape.to(dtype), now.translation.to(dtype))


def _problem(
    model: HandModel,
    start: HandParameters,
    seen: KeypointObservation,
    config: FitConfig,
    limits: JointLimits | None,
    relative_m: Tensor | None,
    relative_weight: Tensor | None,
    shared_shape: float,
) -> _Problem:
    """Everything that stays the same from iteration to iteration."""
    like, batch = start.shape, start.shape.shape[0]
    order = torch.tensor(CHAIN16, device=like.device)
    chain = KeypointChain.of(model, like.dtype)
    deviation = like.new_tensor([config.orientation_rad] * 3 + [config.pose_rad] * 45 + [config.shape] * 10 + [config.translation_xy_m] * 3)
    prior = (1 / deviation).expand(batch, 2, 61).clone()
    prior[..., 60] = 1 / (config.depth_share * start.translation_m[..., 2].abs().clamp_min(0.05))
    axes, low, high = None, like.new_zeros(16, 3), like.new_zeros(16, 3)
    if limits is not None:
        right = limits.axes.to(like)[order]
        # A left hand's rotation vector mirrored, along a right hand's axis, is itself along the mirrored axis.
        axes = torch.stack([mirror_rotvec(right), right])
        low, high = limits.limits_rad.to(like)[order].unbind(-1)
    rows, targets = [], []
    if relative_m is not None and relative_weight is not None:
        row = like.new_zeros(2, 3, 61)
        for hand, sign in ((0, 1.0), (1, -1.0)):
            row[hand, :, 48:58] = sign * chain.root_basis[hand]
            row[hand, :, 58:] = sign * torch.eye(3, dtype=like.dtype, device=like.device)
        weight = relative_weight.to(like)
        rows.append(torch.cat(list(row), -1) * weight[..., None])
        targets.append((relative_m.to(like) - chain.root[0] + chain.root[1]) * weight)
    if shared_shape > 0:
        eye = shared_shape * torch.eye(10, dtype=like.dtype, device=like.device)
        row = like.new_zeros(10, 122)
        row[:, 48:58], row[:, 109:119] = eye, -eye
        rows.append(row.expand(batch, -1, -1))
        targets.append(like.new_zeros(batch, 10))
    return _Problem(
        chain, seen, rotvec_to_matrix(start.pose[:, :, order]), start.shape, start.translation_m, prior, axes, low, high, 1 / config.limit_rad,
        torch.cat([like.new_zeros(batch, 0, 122), *rows], 1), torch.cat([like.new_zeros(batch, 0), *targets], 1),
    )  # fmt: skip


def _columns(shape: Float[Tensor, "batch hand 10"], translation: Float[Tensor, "batch hand 3"]) -> Float[Tensor, "batch 122"]:
    """Shapes and translations where a step has theirs, zeros for the turns."""
    turns = shape.new_zeros(*shape.shape[:2], 48)
    return torch.cat([turns, shape, translation], -1).flatten(1)


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
    palm = [0, 1, 5, 9, 13, 17]
    template = _rigid_keypoints(model, rest)[:, :, palm]
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
    points = _rigid_keypoints(model, HandParameters(parameters.pose, parameters.shape, torch.zeros_like(parameters.translation_m)))
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


def _rigid_keypoints(model: HandModel, parameters: HandParameters) -> Float[Tensor, "batch hand 21 3"]:
    """OPENPOSE21, tips riding rigidly on the last joints."""
    rotation = rotvec_to_matrix(parameters.pose[:, :, torch.tensor(CHAIN16, device=parameters.pose.device)])
    return KeypointChain.of(model, parameters.shape.dtype).pose(rotation, parameters.shape, parameters.translation_m).points()
