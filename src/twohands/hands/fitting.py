"""Fits hand parameters to keypoints by damped least squares with an analytic Jacobian, many pairs of hands at once.

Unknowns per hand are a small rotation of each of the 16 joints, the shape and the translation (61 numbers); residuals are viewing rays, depths
and priors that keep pose and shape near where they started and inside the joint limits. Only keypoints are posed, never the mesh: one iteration for two
hands costs less than half a millisecond on one core.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from twohands.geometry.rotations import matrix_to_rotvec, nearest_rotation
from twohands.hands.chain import (
    CHAIN16,
    MANO16_FROM_CHAIN,
    PLACE,
    SHAPE,
    WRIST,
    Array,
    KeypointChain,
    PosedChain,
    as_double,
    chain_of,
    matrices_to_rotvecs,
    rotvec_change,
    rotvecs_to_matrices,
)
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
    size: float | None = None
    """Of the first shape coefficient, which is mostly the hand's size; by default as `shape`."""


@dataclass(frozen=True)
class _Problem:
    """What one fit minimises. Joints are in the chain's order; `place` is shape and translation."""

    chain: KeypointChain
    ray_xy: Float[Array, "batch hand 21 2"]
    ray_weight: Float[Array, "batch hand 21 1"]
    depth: Float[Array, "batch hand 21"]
    depth_weight: Float[Array, "batch hand 21"]
    R_start: Float[Array, "batch hand 16 3 3"]
    turn_weight: Float[Array, "16 1"]
    """Inverse standard deviation of a joint's turn from the start,"""
    start: Float[Array, "batch hand 13"]
    start_weight: Float[Array, "batch hand 13"]
    """and of shape and translation from theirs."""
    axes: Float[Array, "hand 16 3 3"] | None
    """Rows are the joints' axes (flexion, spread, twist) on either hand; None without limits."""
    low: Float[Array, "16 3"]
    high: Float[Array, "16 3"]
    stiffness: float
    """Inverse softness of the limits, 1/rad."""
    tie: Float[Array, "batch tie 26"]
    """Rows that tie the two hands: linear in both places."""
    tie_target: Float[Array, "batch tie"]
    tied: Float[Array, "batch 2 16 2 16"]
    """What these rows add to Gauss-Newton's matrix of what is shared."""

    def at(self, rotation: Float[Array, "batch hand 16 3 3"], place: Float[Array, "batch hand 13"]) -> "_State":
        """Hands of these rotations and this shape and translation."""
        posed = self.chain.pose(rotation, place[..., :10], place[..., 10:])
        p = posed.points()
        z = np.maximum(p[..., 2:], 1e-3)
        xy = p[..., :2] / z
        palm = np.sqrt(np.square(p[:, :, MIDDLE_MCP] - p[:, :, 0]).sum(-1))[..., None]
        observed = np.empty_like(p)
        observed[..., :2] = (xy - self.ray_xy) * self.ray_weight
        observed[..., 2] = ((p[..., 2] - p[:, :, :1, 2]) / palm - self.depth) * self.depth_weight
        turned, from_rest, over = rotation @ self.R_start.swapaxes(-1, -2), None, np.zeros((len(place), 0))
        if self.axes is None:
            from_start = matrices_to_rotvecs(turned)
        else:
            from_start, from_rest = matrices_to_rotvecs(np.stack([turned, rotation]))
            angles = (self.axes @ from_rest[..., None])[..., 0]
            over = (angles - np.clip(angles, self.low, self.high)) * self.stiffness
        from_start *= self.turn_weight
        moved = (place - self.start) * self.start_weight
        tie = (self.tie @ place.reshape(-1, 26, 1))[..., 0] - self.tie_target
        parts = (observed, from_start, moved, over.reshape(len(over), -1), tie)
        cost = sum(np.square(part).reshape(len(part), -1).sum(1) for part in parts)
        return _State(self, rotation, place, posed, xy, z, palm, observed, from_start, moved, from_rest, over, tie, np.asarray(cost))


@dataclass(frozen=True)
class _State:
    """Hands on the way, and how far they are from everything that they should be."""

    problem: _Problem
    rotation: Float[Array, "batch hand 16 3 3"]
    place: Float[Array, "batch hand 13"]
    posed: PosedChain
    xy: Float[Array, "batch hand 21 2"]
    z: Float[Array, "batch hand 21 1"]
    palm: Float[Array, "batch hand 1"]
    observed: Float[Array, "batch hand 21 3"]
    """Residuals of rays and depth,"""
    turned: Float[Array, "batch hand 16 3"]
    """of turns from the start,"""
    moved: Float[Array, "batch hand 13"]
    """of shape and translation from theirs,"""
    from_rest: Float[Array, "batch hand 16 3"] | None
    """(rotation vectors of the joints, if there are limits)"""
    over: Float[Array, "batch hand 16 3"]
    """of the limits,"""
    tie: Float[Array, "batch tie"]
    """and of what ties the hands."""
    cost: Float[Array, "batch"]

    def stepped(self, damping: Float[Array, "batch"]) -> "_State":
        """After a step of Levenberg and Marquardt.

        A finger's points move with its own three joints (9 columns) and with what all fingers of a hand share (wrist, shape, translation: 16).
        So each finger is eliminated by itself, and one system of 32 x 32 remains."""
        own, border, shared = self._fingers()
        batch = len(self.cost)
        blocks = self.problem.tied.copy()
        for hand in (0, 1):
            blocks[:, hand, :, hand] += shared[:, hand, :, :16]
        right = shared[..., 16].copy()
        right[..., 3:] += (self.tie[:, None] @ self.problem.tie).reshape(batch, 2, 13)
        pair = blocks.reshape(batch, 32, 32)
        for matrix, factor in ((own, damping[:, None, None, None]), (pair, damping[:, None])):
            diagonal = np.einsum("...ii->...i", matrix)
            diagonal += factor * diagonal + 1e-9
        # A pair without meaning goes nowhere, and must not end the fit of the others.
        lost = ~np.isfinite(self.cost)
        if lost.any():
            own[lost], border[lost], pair[lost] = np.eye(9), 0.0, np.eye(32)
        reduced = np.linalg.solve(own, border)
        less = (border[..., :16].swapaxes(-1, -2) @ reduced).sum(2)
        for hand in (0, 1):
            blocks[:, hand, :, hand] -= less[:, hand, :, :16]
        common = -np.linalg.solve(pair, (right - less[..., 16]).reshape(batch, 32, 1)).reshape(batch, 2, 16)
        fingers = -reduced[..., 16] - (reduced[..., :16] @ common[:, :, None, :, None])[..., 0]
        turn = np.concatenate([common[..., None, :3], fingers.reshape(batch, 2, 15, 3)], 2)
        turn *= 0.5 / np.maximum(np.sqrt(np.square(turn).sum(-1, keepdims=True)), 0.5)
        # A far start explains bent fingers by giants and dwarfs: keep each step, and the whole, inside what hands look like.
        place = self.place + common[..., 3:]
        shape = self.place[..., :10] + common[..., 3:13].clip(-0.5, 0.5)
        place[..., :10] = shape.clip(-SHAPE_BOUND, SHAPE_BOUND)
        return self.problem.at(rotvecs_to_matrices(turn) @ self.rotation, place)

    def _fingers(self) -> tuple[Float[Array, "batch hand 5 9 9"], Float[Array, "batch hand 5 9 17"], Float[Array, "batch hand 16 17"]]:
        """Gauss-Newton's matrix in blocks, the gradient as the last column of the last two: each finger's own joints, these against what is
        shared, and what is shared."""
        p, batch = self.problem, len(self.cost)
        per_ray, per_depth = (p.ray_weight / self.z)[..., None], p.depth_weight / self.palm
        rows = np.empty((batch, 2, 5, 4, 3, 26))
        rows[..., :25], root = self.posed.derivative()
        # Depths count palms, and the palm grows with the hand: else depths that are too flat would be explained by a small one.
        point = np.concatenate([self.xy * self.z, self.z], -1)
        palm = (point[:, :, MIDDLE_MCP] - point[:, :, 0]) / self.palm
        middle = rows[:, :, (MIDDLE_MCP - 1) // 4, (MIDDLE_MCP - 1) % 4, :, SHAPE]
        grown = (palm[:, :, None] @ (middle - root[..., 3:13]))[:, :, 0] / self.palm
        deep = (point[:, :, 1:, 2] - point[:, :, :1, 2]).reshape(batch, 2, 5, 4, 1)
        rows[..., :2, :25] -= rows[..., 2:, :25] * self.xy[:, :, 1:].reshape(batch, 2, 5, 4, 2, 1)
        rows[..., :2, :25] *= per_ray[:, :, 1:].reshape(batch, 2, 5, 4, 1, 1)
        rows[..., 2, WRIST.start : PLACE.stop] -= root[:, :, None, None, 2]
        rows[..., 2, SHAPE] -= deep * grown[:, :, None, None]
        rows[..., 2, :25] *= per_depth[:, :, 1:].reshape(batch, 2, 5, 4, 1)
        rows[..., 25] = self.observed[:, :, 1:].reshape(batch, 2, 5, 4, 3)
        finger = rows.reshape(batch, 2, 5, 12, 26)
        square = finger[..., :25].swapaxes(-1, -2) @ finger
        own, border, shared = square[..., :9, :9].copy(), square[..., :9, 9:].copy(), square[..., 9:, 9:].sum(2)
        np.einsum("...ii->...i", own)[...] += np.square(p.turn_weight[1:]).reshape(5, 3).repeat(3, 1)
        border[..., 16] += (self.turned * p.turn_weight)[:, :, 1:].reshape(batch, 2, 5, 9)
        if p.axes is not None and self.from_rest is not None and self.over[:, :, 1:].any():
            # The wrist has no wall.
            active = p.axes[:, 1:] * ((self.over[:, :, 1:] != 0) * p.stiffness)[..., None]
            active = active @ rotvec_change(self.from_rest[:, :, 1:])
            wall = (active.swapaxes(-1, -2) @ active).reshape(batch, 2, 5, 3, 3, 3)
            for joint in range(3):
                own[..., 3 * joint : 3 * joint + 3, 3 * joint : 3 * joint + 3] += wall[..., joint, :, :]
            border[..., 16] += (active.swapaxes(-1, -2) @ self.over[:, :, 1:, :, None]).reshape(batch, 2, 5, 9)
        # The wrist's own rays and the priors know only what is shared.
        wrist = np.empty((batch, 2, 2, 17))
        wrist[..., :16] = (root[:, :, :2] - root[:, :, 2:] * self.xy[:, :, 0, :, None]) * per_ray[:, :, 0]
        wrist[..., 16] = self.observed[:, :, 0, :2]
        shared += wrist[..., :16].swapaxes(-1, -2) @ wrist
        diagonal = np.einsum("...ii->...i", shared[..., :16])
        diagonal[..., :3] += p.turn_weight[0] ** 2
        diagonal[..., 3:] += p.start_weight**2
        shared[..., :3, 16] += self.turned[:, :, 0] * p.turn_weight[0]
        shared[..., 3:, 16] += self.moved * p.start_weight
        return own, border, shared


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

    `relative_m` is the vector from the right wrist's keypoint to the left one's that the pair should keep, `relative_weight` its inverse standard
    deviation (1/m); `shared_shape` the inverse standard deviation by which the two hands' shapes may differ. A step that does not lower a pair's
    cost is undone and its damping raised, so the result is never worse than the start."""
    config = config or FitConfig()
    if not model.flat_hand_mean:
        raise ValueError("fit_hands works on poses relative to the flat hand; load the model with flat_hand_mean=True")
    problem = _problem(model, start, seen, config, limits, relative_m, relative_weight, shared_shape)
    with np.errstate(all="ignore"):  # a start without meaning lowers no cost, and stays
        now = problem.at(problem.R_start, problem.start)
        damping = np.full(len(now.cost), config.damping)
        for _ in range(config.iterations):
            tried = now.stepped(damping)
            better = tried.cost < now.cost
            damping = np.where(better, damping * 0.3, damping * 10).clip(1e-7, 1e6)
            if better.all():
                now = tried
            elif better.any():
                pick = better[:, None, None]
                now = problem.at(np.where(pick[..., None, None], tried.rotation, now.rotation), np.where(pick, tried.place, now.place))
        pose = matrices_to_rotvecs(now.rotation[:, :, MANO16_FROM_CHAIN])
    fitted = (pose, now.place[..., :10], now.place[..., 10:])
    return HandParameters(*(torch.from_numpy(np.ascontiguousarray(part)).to(start.shape) for part in fitted))


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
    chain, batch = chain_of(model), start.shape.shape[0]
    R_start = rotvecs_to_matrices(as_double(start.pose)[:, :, CHAIN16])
    place = np.concatenate([as_double(start.shape), as_double(start.translation_m)], -1)
    weight = np.empty((batch, 2, 13))
    weight[..., :10], weight[..., 10:12] = 1 / config.shape, 1 / config.translation_xy_m
    weight[..., 0] = 1 / (config.shape if config.size is None else config.size)
    weight[..., 12] = 1 / (config.depth_share * np.maximum(np.abs(place[..., 12]), 0.05))
    ray_weight, depth_weight = (np.broadcast_to(as_double(w), (batch, 2, 21)) for w in (seen.ray_weight, seen.depth_weight))
    turn_weight = np.full((16, 1), 1 / config.pose_rad)
    turn_weight[0] = 1 / config.orientation_rad
    axes, low, high = (None, np.zeros(()), np.zeros(())) if limits is None else _walls(limits)
    tie, target = [np.zeros((batch, 0, 2, 13))], [np.zeros((batch, 0))]
    if relative_m is not None and relative_weight is not None:
        row, inverse = np.zeros((3, 2, 13)), as_double(relative_weight)
        for hand, sign in ((0, 1.0), (1, -1.0)):
            row[:, hand, :10], row[:, hand, 10:] = sign * chain.root_basis[hand], sign * np.eye(3)
        tie.append(row * inverse[:, :, None, None])
        # Between the wrists' keypoints; the joints' ties are linear, so how far the one is from the other stays what it is at the start.
        posed = chain.pose(R_start, place[..., :10], place[..., 10:])
        lean = posed.points()[:, :, 0] - posed.wrist
        target.append((as_double(relative_m) - chain.root[0] + chain.root[1] - lean[:, 0] + lean[:, 1]) * inverse)
    if shared_shape > 0:
        row = np.zeros((10, 2, 13))
        row[:, 0, :10], row[:, 1, :10] = shared_shape * np.eye(10), -shared_shape * np.eye(10)
        tie.append(np.broadcast_to(row, (batch, 10, 2, 13)))
        target.append(np.zeros((batch, 10)))
    ties = np.concatenate(tie, 1)
    tied = np.zeros((batch, 2, 16, 2, 16))
    tied[:, :, 3:, :, 3:] = np.einsum("btha,btgc->bhagc", ties, ties)
    return _Problem(
        chain, as_double(seen.ray_xy), ray_weight[..., None], as_double(seen.depth), depth_weight,
        R_start, turn_weight, place, weight, axes, low, high, 1 / config.limit_rad,
        ties.reshape(batch, -1, 26), np.concatenate(target, 1), tied,
    )  # fmt: skip


@lru_cache(maxsize=4)
def _walls(limits: JointLimits) -> tuple[Float[Array, "hand 16 3 3"], Float[Array, "16 3"], Float[Array, "16 3"]]:
    """Either hand's axes, and the smallest and largest angle about each, joints in the chain's order."""
    right = limits.axes[CHAIN16]
    low, high = np.moveaxis(as_double(limits.limits_rad)[CHAIN16], -1, 0)
    # A left hand's rotation vector mirrored, along a right hand's axis, is itself along the mirrored axis.
    return as_double(torch.stack([mirror_rotvec(right), right])), low, high


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
    template = torch.from_numpy(_rigid_keypoints(model, rest.pose, rest.shape)).to(rest.pose)[:, :, palm]
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
    with np.errstate(all="ignore"):  # a hand without meaning goes nowhere, and need not say so
        points, ray = _rigid_keypoints(model, parameters.pose, parameters.shape), as_double(ray_xy)
        weight = as_double(ray_weight)[..., None]
        # Each keypoint has the rows (1, 0, -x) and (0, 1, -y).
        rows = np.zeros((*ray.shape, 3))
        rows[..., 0, 0] = rows[..., 1, 1] = 1.0
        rows[..., 2] = -ray
        A = (rows * weight[..., None]).reshape(*ray.shape[:2], 42, 3)
        b = ((ray * points[..., 2:] - points[..., :2]) * weight).reshape(*ray.shape[:2], 42, 1)
        scale = np.maximum(np.square(A).sum((-1, -2), keepdims=True), 1e-12)
        # Weak pull to a metre away: it decides only where there are no observations.
        weak = 1e-8 + 1e-4 * (scale < 1e-10)
        far = np.array([[0.0], [0.0], [1.0]])
        square, right = A.swapaxes(-1, -2) @ A / scale, A.swapaxes(-1, -2) @ b / scale
        translation = np.linalg.solve(square + weak * np.eye(3), right + weak * far)[..., 0]
        middle = points[:, :, MIDDLE_MCP, 2]
        translation[..., 2] = np.maximum(translation[..., 2] + middle, 0.05) - middle
    return HandParameters(parameters.pose, parameters.shape, torch.from_numpy(translation).to(parameters.translation_m))


def _rigid_keypoints(
    model: HandModel, pose: Float[Tensor, "batch hand 16 3"], shape: Float[Tensor, "batch hand 10"]
) -> Float[Array, "batch hand 21 3"]:
    """OPENPOSE21 of hands that are not placed yet, tips riding rigidly on the last joints."""
    rotation, place = rotvecs_to_matrices(as_double(pose)[:, :, CHAIN16]), np.zeros((*shape.shape[:2], 3))
    return chain_of(model).pose(rotation, as_double(shape), place).points()
