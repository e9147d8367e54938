"""Where the camera stands, and what it does not see."""

import math
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from twohands.geometry.camera import Camera
from twohands.synth.body import cross, length, rotation
from twohands.synth.knobs import SceneKnobs
from twohands.synth.people import Person, meets_body
from twohands.synth.posing import random_turn, to_matrix

Placed = tuple[Camera, np.ndarray, np.ndarray]
"""A camera, and the rotation and shift from the body's frame into the camera's."""


def _facing(rng: np.random.Generator, frontal: bool) -> np.ndarray:
    """Rotation from the body's frame to that of a camera before it."""
    yaw = rng.normal(0, 0.35) if frontal else rng.uniform(-np.pi, np.pi)
    pitch, roll = rng.normal(0.05, 0.2), rng.normal(0, 0.07) if rng.random() < 0.85 else rng.normal(0, 0.6)
    return rotation(np.array([0, 0, roll])) @ rotation(np.array([pitch, 0, 0])) @ np.diag([1.0, -1, -1]) @ rotation(np.array([0, yaw, 0]))


def look_at(knobs: SceneKnobs, rng: np.random.Generator, target: np.ndarray, frontal: bool, view: float) -> Placed:
    """A camera that has a place of the body in its middle, and of whose picture the height is `view` there."""
    R = _facing(rng, frontal)
    fov = float(np.exp(rng.uniform(*np.log(knobs.fov_deg))))
    size = knobs.size_px
    focal = size / 2 / np.tan(np.radians(fov) / 2)
    depth = max(view * focal / size, 0.45)
    offset = np.array([0, 0, depth]) - R @ target
    return Camera(torch.full((2,), focal, dtype=torch.float32), torch.full((2,), size / 2)), R, offset


def person_view(knobs: SceneKnobs, rng: np.random.Generator, person: Person, used: np.ndarray, view: float) -> Placed | None:
    """Looks at a mean of head, chest and hands; the middle of the hands that do something is in the picture."""
    odds = rng.dirichlet([0.6, 0.6, 1.0])
    target = odds[0] * person.posture.at["head"] + odds[1] * person.posture.at["chest"] + odds[2] * used.mean(0)
    target = target + rng.normal(0, 0.06 + 0.03 * view, 3)
    camera, R, offset = look_at(knobs, rng, target, rng.random() < knobs.frontal, view)
    centre = R @ used.mean(0) + offset
    xy = float(camera.focal_px[0]) * centre[:2] / max(centre[2], 0.05) / knobs.size_px
    return (camera, R, offset) if np.abs(xy).max() < 0.48 and centre[2] > 0.2 else None


def close_view(knobs: SceneKnobs, rng: np.random.Generator, person: Person, used: np.ndarray) -> Placed | None:
    """From any side that a person is photographed from; the hands fill the picture."""
    R = _facing(rng, rng.random() < knobs.frontal)
    if rng.random() < 0.25:
        R = rotation(np.array([rng.normal(0, 0.7), 0, 0])) @ R
    points = torch.from_numpy(used @ R.T).float()
    camera, offset = filling_camera(replace(knobs, framing="close"), rng, points, points.reshape(-1, 21, 3), (True, True))
    return camera, R, offset.numpy().astype(np.float64)


def ego_view(knobs: SceneKnobs, rng: np.random.Generator, person: Person, used: np.ndarray) -> Placed | None:
    """From between the eyes, or from a camera on the forehead or chest, down to the hands."""
    s = person.posture.figure.size
    eye = person.posture.at["head"] + s * (
        person.posture.R["chest"] @ np.array([rng.normal(0, 0.02), rng.uniform(0.0, 0.14), rng.uniform(0.1, 0.15)])
    )
    if rng.random() < 0.15:
        eye = person.posture.at["chest"] + s * np.array([0, 0.1, 0.16])
    aim = used.mean(0) + rng.normal(0, 0.08, 3) - eye
    forward = aim / np.linalg.norm(aim)
    right = cross(forward, np.array([0, 1.0, 0]))
    norm = length(right)
    if norm < 0.1:
        return None
    right /= norm
    R = np.stack([right, cross(forward, right), forward])
    R = rotation(rng.normal(0, [0.06, 0.06, 0.12])) @ R
    fov = rng.uniform(*knobs.fov_ego_deg)
    focal = knobs.size_px / 2 / np.tan(np.radians(fov) / 2)
    return Camera(torch.full((2,), focal, dtype=torch.float32), torch.full((2,), knobs.size_px / 2)), R, -R @ eye


def hidden_by_trunk(person: Person, used: np.ndarray, eye: np.ndarray) -> bool:
    """Whether the trunk or the head stands between the camera and the middle of the hands."""
    return meets_body(person.posture, eye + _ON_THE_WAY * (used.mean(0) - eye))


_ON_THE_WAY = np.linspace(0.3, 0.97, 24)[:, None]


NEAR_BONE_M = 0.3
"""Of a body of 1.70 m: nothing of a head, hat and all, or of a foot is further from its joint."""


def unseen(person: Person, bones: tuple[str, ...], camera: Camera, R: np.ndarray, offset: np.ndarray) -> bool:
    """Whether all of these bones lie beyond the picture's borders, by more than what hangs on them."""
    slope = float(camera.principal_px[0] / camera.focal_px[0])
    room = NEAR_BONE_M * person.posture.figure.size * math.sqrt(1 + slope * slope)
    places = [R @ person.posture.at[bone] + offset for bone in bones]
    return all(max(abs(x), abs(y)) - slope * z > room for x, y, z in places)


def free_turn(knobs: SceneKnobs, rng: np.random.Generator, used: Tensor, points: Tensor, present: tuple[bool, bool]) -> Tensor:
    """Rotation of the scene before the camera."""
    R = random_turn(rng)[0]
    if rng.random() < knobs.upright:
        h = 1 if present[1] else 0
        finger = R @ (points[h, 9] - points[h, 0])
        angle = torch.atan2(finger[0], -finger[1]) + float(rng.normal(0, 0.6))
        R = to_matrix(torch.tensor([0.0, 0.0, -float(angle)])) @ R
    return R


def filling_camera(
    knobs: SceneKnobs, rng: np.random.Generator, used: Tensor, points: Tensor, present: tuple[bool, bool]
) -> tuple[Camera, Tensor]:
    """Intrinsics, and the offset that puts the scene's origin before the camera so that the hands fill what they should."""
    fov = float(np.exp(rng.uniform(*np.log(knobs.fov_deg))))
    size = knobs.size_px
    focal = size / 2 / np.tan(np.radians(fov) / 2)
    low, high = used.numpy().min(0), used.numpy().max(0)
    if knobs.framing == "close":
        extent = float((high - low)[:2].max())
        fill = rng.uniform(*knobs.fill_close)
        place = rng.uniform(-0.5, 0.5, 2) * (1.05 - fill) * size + rng.normal(0, 0.03, 2) * size
    else:
        h = 1 if present[1] else 0
        own = points[h].numpy()
        extent = float((own.max(0) - own.min(0))[:2].max())
        fill = float(np.exp(rng.uniform(*np.log(knobs.fill_wide))))
        place = rng.uniform(-0.42, 0.42, 2) * size
    depth = max(extent * focal / (fill * size), 0.16)
    if knobs.framing == "wide":
        both = float((high - low)[:2].max()) * focal / depth
        place = place * max(0.1, 1 - both / size)
    offset = np.array([place[0] / focal * depth, place[1] / focal * depth, depth], np.float32)
    offset[:2] -= ((high + low) / 2)[:2]
    return Camera(torch.full((2,), focal, dtype=torch.float32), torch.full((2,), size / 2)), torch.from_numpy(offset)
