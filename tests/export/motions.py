"""A short motion with everything in it that a writer could get wrong."""

import math
from dataclasses import replace

import torch

from scenes import two_hands
from twohands.geometry.camera import Camera
from twohands.geometry.rotations import matrix_to_rotvec, rotvec_to_matrix
from twohands.hands.model import HandModel
from twohands.hands.parameters import HandParameters
from twohands.schema import HAND_ABSENT, HAND_FILLED, HAND_SEEN, HandMotion


def waving(model: HandModel, frames: int = 12, people: int = 1, even: bool = True) -> HandMotion:
    """Hands that turn right round and bend their fingers; the left one of the first person is absent at first and filled in once."""
    time_s = torch.arange(frames, dtype=torch.float64) / 25
    if not even:
        time_s[frames // 2 :] += 0.05
    rest = [two_hands(0.25, depth_m=0.6 + 0.2 * n) for n in range(people)]
    pose = torch.stack([torch.stack([p.pose for p in rest])] * frames)
    place = torch.stack([torch.stack([p.translation_m for p in rest])] * frames)
    for t in range(frames):
        turn = rotvec_to_matrix(torch.tensor([0.3, 2 * math.pi * t / frames, 0.1]))
        pose[t, ..., 0, :] = matrix_to_rotvec(turn @ rotvec_to_matrix(pose[t, ..., 0, :]))
        pose[t, ..., 1:, :] += 0.4 * torch.sin(torch.arange(45.0).view(15, 3) + t / 3)
        place[t, ..., 0] += 0.01 * t
    shape = torch.linspace(-1, 1, 10).expand(frames, people, 2, 10) * torch.linspace(1, 0.5, people).view(-1, 1, 1)
    parameters = HandParameters(pose, shape, place)
    state = torch.full((frames, people, 2), HAND_SEEN, dtype=torch.uint8)
    state[: frames // 4, 0, 0] = HAND_ABSENT
    state[frames // 2, 0, 0] = HAND_FILLED
    present = state != HAND_ABSENT
    keypoints = model.pose_hands(parameters).keypoints()
    return HandMotion(
        time_s=time_s,
        hand_state=state,
        score=0.9 * present,
        parameters=parameters.map(lambda t: torch.where(present.view(*present.shape, *[1] * (t.ndim - 3)), t, torch.zeros_like(t))),
        keypoints_m=torch.where(present[..., None, None], keypoints, 0.0),
        keypoint_confidence=0.8 * present[..., None].expand(-1, -1, -1, 21),
        penetration_cm3=torch.zeros(frames, people),
        penetration_before_cm3=torch.zeros(frames, people),
        refined=torch.zeros(frames, people, dtype=torch.bool),
        person=tuple(3 + 2 * n for n in range(people)),
        camera=Camera(torch.tensor([500.0, 510.0]), torch.tensor([330.0, 235.0])),
        camera_source="caller",
        prior_source="encoder",
        hand_model=model.name,
        width_px=640,
        height_px=480,
    )


def first_frame(motion: HandMotion, index: int) -> HandMotion:
    """One frame alone."""
    return replace(motion[index : index + 1], camera=motion.camera)
