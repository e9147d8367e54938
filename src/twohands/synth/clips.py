"""Films of two hands with exact truth, by seed: crossing, clasping, fast, leaving the picture. For judging video, not for training."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from twohands.collision.volume import hands_shared_volume_cm3
from twohands.errors import from_extra
from twohands.geometry.camera import Camera
from twohands.geometry.rotations import matrix_to_rotvec, random_rotation, rotvec_to_matrix
from twohands.hands.bundled import load_bundled_hand, load_hand_asset
from twohands.hands.mirror import left_as_right_rotvec
from twohands.hands.model import HandModel
from twohands.hands.parameters import HandParameters
from twohands.record import Record
from twohands.synth.backgrounds import DISPLAY_GAMMA, background
from twohands.synth.figures import hand_piece
from twohands.synth.interactions import sample_interactions
from twohands.synth.light import draw_light
from twohands.synth.photo import OVERSAMPLING, lay_over, reduced
from twohands.synth.poses import sample_poses
from twohands.synth.scene import Scene, SceneKnobs
from twohands.synth.shading import shade
from twohands.synth.skin import Skin
from twohands.synth.things import forearm

with from_extra("synth", "the synthetic engine"):
    from scipy.interpolate import CubicSpline

ClipKind = Literal["crossing", "clasping", "fast", "leaving"]
KINDS: tuple[ClipKind, ...] = ("crossing", "clasping", "fast", "leaving")
WRIST_BELOW_M = 0.07
"""Wrists are this far below the middle of the picture, so that upright hands are in it."""


@dataclass(frozen=True)
class ClipKnobs:
    """How a clip is filmed."""

    size_px: int = 320
    frames: int = 60
    frames_per_second: float = 30.0
    shutter: float = 0.5
    """Share of a frame's time during which the shutter is open: 0.5 is a film camera's 180 degrees."""
    blur_step_px: float = 2.0
    """Pictures averaged for motion blur are at most so far apart,"""
    most_exposures: int = 6
    """and no more than these."""
    fov_deg: float = 50.0
    noise: float = 3.0
    """Of the sensor, grey levels."""


@dataclass(frozen=True)
class Clip(Record):
    """A film and what it shows. Truth is that of the middle of each exposure."""

    images: UInt8[Tensor, "frame height width 3"]
    time_s: Float[Tensor, "frame"]
    camera: Camera
    parameters: HandParameters
    keypoints_m: Float[Tensor, "frame hand 21 3"]
    keypoints_xy: Float[Tensor, "frame hand 21 2"]
    hand_valid: Bool[Tensor, "frame hand"]
    """At least eight keypoints are inside the picture."""


def make_clip(kind: ClipKind, seed: int, knobs: ClipKnobs = ClipKnobs()) -> Clip:
    """The clip of a kind and seed."""
    rng = np.random.default_rng([seed, KINDS.index(kind), 77])
    hand = load_bundled_hand()
    camera = Camera.from_fov(knobs.size_px, knobs.size_px, knobs.fov_deg)
    move = _move(kind, rng, hand, knobs)
    time_s = np.arange(knobs.frames) / knobs.frames_per_second
    parameters = move(time_s)
    keypoints = hand.pose_hands(parameters).keypoints()
    xy = camera.project(keypoints)
    inside = ((xy > 0) & (xy < knobs.size_px)).all(-1).sum(-1)
    images = [_expose(move, t, hand, camera, knobs, seed) for t in time_s]
    return Clip(torch.from_numpy(np.stack(images)), torch.from_numpy(time_s), camera, parameters, keypoints, xy, (inside >= 8))


Move = Callable[[np.ndarray], HandParameters]
"""Times to hands."""


def _move(kind: ClipKind, rng: np.random.Generator, hand: HandModel, knobs: ClipKnobs) -> Move:
    length_s = knobs.frames / knobs.frames_per_second
    base_shape = torch.from_numpy(rng.normal(0, 0.8, 10)).float().clamp(-2, 2)
    shape = base_shape + torch.from_numpy(rng.normal(0, 0.05, (2, 10))).float()
    if kind == "clasping":
        return _clasp(rng, hand, shape, length_s)
    facing = bool(rng.random() < 0.5)
    fingers = _finger_moves(rng, length_s, 0.35 if kind == "fast" else 0.8)
    swing = _spline(rng.normal(0, 0.5 if kind == "fast" else 0.3, (_keys(length_s, 0.6), 2, 3)), length_s)
    upright = torch.stack([_upright(facing, left=True), _upright(facing, left=False)])
    # Seen from the front, a person's right hand is on the left of the picture.
    right_x = -1.0 if facing else 1.0
    depth_m = rng.uniform(0.55, 0.7)
    turns = rng.uniform(1.8, 2.4)
    phase = rng.uniform(0, 2 * np.pi, (2, 3))

    def move(t: np.ndarray) -> HandParameters:
        share = t / length_s
        place = np.zeros((len(t), 2, 3))
        place[..., 2] = depth_m
        place[..., 1] = WRIST_BELOW_M
        side = right_x * np.array([-1.0, 1.0])
        if kind == "crossing":
            place[..., 0] = side * 0.12 * np.cos(2 * np.pi * share)[:, None]
            place[..., 2] += np.array([0.055, -0.055])
        elif kind == "leaving":
            out = np.clip(1 - np.abs(share - 0.5) / 0.3, 0, 1)
            place[..., 0] = side * 0.11
            place[:, 1, 0] += right_x * 0.42 * (3 * out**2 - 2 * out**3)
        else:
            place[..., 0] = side * 0.12
            reach = np.array([0.07, 0.05, 0.05])
            place += reach * np.sin(2 * np.pi * turns * t[:, None, None] + phase)
        R = rotvec_to_matrix(torch.from_numpy(swing(t)).float()) @ upright
        return _placed(hand, R, fingers(t), shape, torch.from_numpy(place).float())

    return move


def _clasp(rng: np.random.Generator, hand: HandModel, shape: Tensor, length_s: float) -> Move:
    """Hands come together into a clasp and part again."""
    pairs = sample_interactions(hand, 8, int(rng.integers(2**31)))
    closing = [_approach(hand, pairs[k]) for k in range(8)]
    # As close as can be among those whose hands hardly pass through each other on the way.
    best = min(range(8), key=lambda k: (closing[k][1] > 0.5, closing[k][2]))
    pair, way = pairs[best], closing[best][0]
    turn = random_rotation((), torch.Generator().manual_seed(int(rng.integers(2**31))))
    depth_m = rng.uniform(0.5, 0.6)
    sway = _spline(rng.normal(0, 0.12, (_keys(length_s, 0.7), 3)), length_s)
    rest = hand.with_shape(pair.shape).joints_rest_m[:, 0]
    middle = hand.pose_hands(pair).joints_and_tips().mean((0, 1))

    def move(t: np.ndarray) -> HandParameters:
        share = t / length_s
        # Together from 40 to 60 % of the time.
        apart = np.clip((np.abs(share - 0.5) - 0.1) / 0.4, 0, 1)
        gap = torch.from_numpy(0.13 * (3 * apart**2 - 2 * apart**3)).float()
        R = rotvec_to_matrix(torch.from_numpy(sway(t)).float()) @ turn
        wrist = rest + pair.translation_m - middle + gap[:, None, None] * torch.stack([-way, way]) / 2
        wrist = (R[:, None] @ wrist[..., None])[..., 0] + torch.tensor([0.0, 0.0, depth_m])
        pose = pair.pose.expand(len(t), 2, 16, 3).clone()
        pose[:, :, 0] = matrix_to_rotvec(R[:, None] @ rotvec_to_matrix(pair.pose[:, 0]))
        return HandParameters(pose, pair.shape.expand(len(t), 2, 10), wrist - rest)

    return move


def _approach(hand: HandModel, pair: HandParameters) -> tuple[Float[Tensor, "3"], float, float]:
    """In which direction the right hand comes, what the two share (cm3) on the way there, and how far apart they end (m)."""
    points = hand.pose_hands(pair).mesh().vertices_m.mean(1)
    way = (points[1] - points[0]) / (points[1] - points[0]).norm()
    steps = torch.tensor([0.006, 0.015, 0.03])
    shift = steps[:, None, None] * torch.stack([-way, way]) / 2
    vertices = hand.pose_hands(pair).mesh().vertices_m + shift[:, :, None]
    return way, float(hands_shared_volume_cm3(vertices, hand.faces).sum()), float((points[1] - points[0]).norm())


def _finger_moves(rng: np.random.Generator, length_s: float, every_s: float) -> Callable[[np.ndarray], Tensor]:
    """Rotation vectors (time, hand, 16, 3) of fingers that go smoothly from one pose to the next."""
    limits = load_hand_asset().limits
    count = _keys(length_s, every_s)
    keys = limits.rotvec_to_angles(sample_poses(2 * count, int(rng.integers(2**31)))).numpy().reshape(count, 2, 16, 3)
    angles = _spline(keys, length_s)

    def fingers(t: np.ndarray) -> Tensor:
        rotvec = limits.clamp(limits.angles_to_rotvec(torch.from_numpy(angles(t)).float()))
        return left_as_right_rotvec(rotvec)

    return fingers


def _keys(length_s: float, every_s: float) -> int:
    return max(3, round(length_s / every_s) + 1)


def _spline(keys: np.ndarray, length_s: float) -> Callable[[np.ndarray], np.ndarray]:
    """A curve of continuous acceleration through evenly spaced keys."""
    spline = CubicSpline(np.linspace(0, length_s, len(keys)), keys)
    return lambda t: spline(t)


def _upright(facing: bool, left: bool) -> Float[Tensor, "3 3"]:
    """Fingers up; the palm towards the camera if the person faces it, else the back."""
    fingers, back = torch.tensor([0.0, -1.0, 0.0]), torch.tensor([0.0, 0.0, 1.0 if facing else -1.0])
    x = fingers if left else -fingers
    return torch.stack([x, back, torch.linalg.cross(x, back)], 1)


def _placed(hand: HandModel, R: Tensor, fingers: Tensor, shape: Tensor, wrist_m: Tensor) -> HandParameters:
    pose = fingers.clone()
    pose[:, :, 0] = matrix_to_rotvec(R)
    shape = shape.expand(len(pose), 2, 10)
    return HandParameters(pose, shape, wrist_m - hand.with_shape(shape).joints_rest_m[:, :, 0])


def _expose(move: Move, time_s: float, hand: HandModel, camera: Camera, knobs: ClipKnobs, seed: int) -> UInt8[np.ndarray, "size size 3"]:
    """One picture: what passes while the shutter is open, averaged in linear light."""
    open_s = knobs.shutter / knobs.frames_per_second
    ends = camera.project(hand.pose_hands(move(np.array([time_s - open_s / 2, time_s + open_s / 2]))).joints_and_tips())
    travel_px = float((ends[1] - ends[0]).norm(dim=-1).max())
    count = int(np.clip(np.ceil(travel_px / knobs.blur_step_px), 1, knobs.most_exposures))
    times = time_s + open_s * ((np.arange(count) + 0.5) / count - 0.5)
    hands = move(times)
    # The same seed in every frame: light, skin, sleeves and walls stay what they are.
    behind = background(np.random.default_rng([seed, 3]), knobs.size_px, None)
    total = np.zeros_like(behind)
    for k in range(count):
        picture = behind.copy()
        scene = _scene(hands[k], hand, camera, seed)
        lay_over(reduced(shade(scene, knobs.size_px, OVERSAMPLING, draw_light(np.random.default_rng([seed, 4]))).picture), picture)
        total += picture / count
    rng = np.random.default_rng([seed, 5])
    # Exposed for the room, which stands still: hands that come and go must not change it.
    gain = rng.uniform(0.9, 1.1, 3) * np.clip(0.2 / (float(behind.mean()) + 1e-3), 0.4, 3)
    grey = 255 * np.clip(total * gain, 0, 1) ** (1 / DISPLAY_GAMMA)
    grain = np.random.default_rng([seed, 6, round(time_s * 1e6)]).normal(0, knobs.noise, grey.shape)
    return np.clip(grey + grain, 0, 255).astype(np.uint8)


def _scene(hands: HandParameters, hand: HandModel, camera: Camera, seed: int) -> Scene:
    rng = np.random.default_rng([seed, 7])
    skin = Skin.draw(rng, 0.0)
    mesh = hand.pose_hands(hands).mesh()
    pieces = []
    for side in (0, 1):
        vertices, drawn = mesh.vertices_m[side].numpy(), np.random.default_rng([seed, 8, side])
        pieces.append(hand_piece(SceneKnobs(), drawn, vertices, side, skin, capped=True))
        pieces.extend(forearm(drawn, hands, vertices, side, skin, SceneKnobs().sleeve, SceneKnobs().watch))
    return Scene(tuple(pieces), camera, hands, mesh, (True, True), float(mesh.vertices_m[..., 2].mean()))
