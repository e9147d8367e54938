"""The NPZ of a video: every number of everyone in every frame; and one frame or a photo as the other."""

from dataclasses import dataclass, fields
from importlib import metadata
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int

from twohands.errors import UserError
from twohands.export.files import FORMAT_VERSION, beside
from twohands.export.photo import NpzResult, read_arrays, read_npz
from twohands.geometry.camera import Camera
from twohands.hands.model import HandModel
from twohands.hands.parameters import HandParameters
from twohands.schema import HAND_ABSENT, HAND_SEEN, HandMotion, PhotoResult, TwoHands


@dataclass(frozen=True)
class NpzMotion:
    """What the NPZ of a video holds. T frames, n people; axis `hand` is (left, right); an absent hand's numbers are zero. OpenCV camera
    frame, metres, radians, seconds. The meshes follow from the parameters (`pose_hands` of the hand model)."""

    format_version: np.ndarray
    """1."""
    kind: np.ndarray
    """"video"."""
    complete: np.ndarray
    """False in a file that was written while the video was still being read: not refined yet, and later frames are missing."""
    twohands_version: np.ndarray
    hand_model: np.ndarray
    """Name of the hand model: "bundled" or "mano"."""
    image_size_px: Int[np.ndarray, "2"]
    """Width, height."""
    camera_matrix: Float[np.ndarray, "3 3"]
    camera_source: np.ndarray
    prior_source: np.ndarray
    time_s: Float[np.ndarray, "T"]
    """Since the first frame; not always evenly spaced."""
    person: Int[np.ndarray, "n"]
    hand_state: Int[np.ndarray, "T n hand"]
    """0 absent, 1 seen, 2 filled in from the frames around a short gap."""
    score: Float[np.ndarray, "T n hand"]
    pose: Float[np.ndarray, "T n hand 16 3"]
    """Rotation vectors of the MANO16 joints relative to their parents; joint 0 is the hand's orientation in the camera frame."""
    shape: Float[np.ndarray, "T n hand 10"]
    """One shape a person, in all frames (live: from the moment when it was settled)."""
    translation_m: Float[np.ndarray, "T n hand 3"]
    keypoints_m: Float[np.ndarray, "T n hand 21 3"]
    keypoints_xy: Float[np.ndarray, "T n hand 21 2"]
    keypoint_confidence: Float[np.ndarray, "T n hand 21"]
    penetration_cm3: Float[np.ndarray, "T n"]
    penetration_before_cm3: Float[np.ndarray, "T n"]
    refined: np.ndarray
    """(T, n) bool: stage 2 has moved the hands of this frame."""


def write_motion(path: Path, motion: HandMotion, complete: bool = True) -> None:
    """Every number of a motion, compressed, under the names of NpzMotion."""
    present = motion.hand_present
    safe = torch.where(present[..., None, None], motion.keypoints_m, 1.0)
    keypoints_xy = torch.where(present[..., None, None], motion.camera.project(safe), 0.0)
    stored = NpzMotion(
        format_version=np.array(FORMAT_VERSION),
        kind=np.array("video"),
        complete=np.array(complete),
        twohands_version=np.array(metadata.version("twohands")),
        hand_model=np.array(motion.hand_model),
        image_size_px=np.array([motion.width_px, motion.height_px]),
        camera_matrix=motion.camera.matrix().numpy(),
        camera_source=np.array(motion.camera_source),
        prior_source=np.array(motion.prior_source),
        time_s=motion.time_s.numpy(),
        person=np.array(motion.person, np.int64),
        hand_state=motion.hand_state.numpy(),
        score=motion.score.numpy(),
        pose=motion.parameters.pose.numpy(),
        shape=motion.parameters.shape.numpy(),
        translation_m=motion.parameters.translation_m.numpy(),
        keypoints_m=motion.keypoints_m.numpy(),
        keypoints_xy=keypoints_xy.numpy(),
        keypoint_confidence=motion.keypoint_confidence.numpy(),
        penetration_cm3=motion.penetration_cm3.numpy(),
        penetration_before_cm3=motion.penetration_before_cm3.numpy(),
        refined=motion.refined.numpy(),
    )
    with beside(path) as part, part.open("wb") as file:
        np.savez_compressed(file, **{f.name: getattr(stored, f.name) for f in fields(stored)})


def read_motion(path: Path) -> HandMotion:
    """What `write_motion` wrote; or the NPZ of a photo, as a motion of one frame. UserError if it is neither."""
    arrays = read_arrays(path)
    if str(arrays.get("kind", "photo")) != "video":
        return motion_of_photo(read_npz(path))
    if missing := [f.name for f in fields(NpzMotion) if f.name not in arrays]:
        raise UserError(f"{path} lacks {missing[:3]}; make it again with `twohands video`")

    def tensor(name: str) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(arrays[name]))

    return HandMotion(
        time_s=tensor("time_s"),
        hand_state=tensor("hand_state"),
        score=tensor("score"),
        parameters=HandParameters(tensor("pose"), tensor("shape"), tensor("translation_m")),
        keypoints_m=tensor("keypoints_m"),
        keypoint_confidence=tensor("keypoint_confidence"),
        penetration_cm3=tensor("penetration_cm3"),
        penetration_before_cm3=tensor("penetration_before_cm3"),
        refined=tensor("refined"),
        person=tuple(arrays["person"].tolist()),
        camera=Camera.from_matrix(tensor("camera_matrix")),
        camera_source=str(arrays["camera_source"]),
        prior_source=str(arrays["prior_source"]),
        hand_model=str(arrays["hand_model"]),
        width_px=int(arrays["image_size_px"][0]),
        height_px=int(arrays["image_size_px"][1]),
    )


def motion_of_photo(photo: NpzResult) -> HandMotion:
    """A photo as a motion of one frame."""

    def frame(array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(array))[None]

    return HandMotion(
        time_s=torch.zeros(1, dtype=torch.float64),
        hand_state=torch.where(frame(photo.hand_present), HAND_SEEN, HAND_ABSENT).to(torch.uint8),
        score=frame(photo.score),
        parameters=HandParameters(frame(photo.pose), frame(photo.shape), frame(photo.translation_m)),
        keypoints_m=frame(photo.keypoints_m),
        keypoint_confidence=frame(photo.keypoint_confidence),
        penetration_cm3=frame(photo.penetration_cm3),
        penetration_before_cm3=frame(photo.penetration_before_cm3),
        refined=frame(photo.refined),
        person=tuple(photo.person.tolist()),
        camera=Camera.from_matrix(torch.from_numpy(photo.camera_matrix)),
        camera_source=str(photo.camera_source),
        prior_source=str(photo.prior_source),
        hand_model=str(photo.hand_model),
        width_px=int(photo.image_size_px[0]),
        height_px=int(photo.image_size_px[1]),
    )


def photo_of_motion(motion: HandMotion, index: int, image: np.ndarray, model: HandModel) -> PhotoResult:
    """One frame of a motion with its picture, as the result of a photo: to draw it, or to write it."""
    people = []
    for n, number in enumerate(motion.person):
        present = motion.hand_present[index, n]
        if not present.any():
            continue
        parameters = motion.parameters[index, n]
        there = present[:, None, None]
        keypoints = motion.keypoints_m[index, n]
        # An absent hand's keypoints are zero, and zero has no place in the picture.
        xy = torch.where(there, motion.camera.project(torch.where(there, keypoints, 1.0)), 0.0)
        people.append(
            TwoHands(
                hand_present=present,
                score=motion.score[index, n],
                parameters=parameters,
                vertices_m=torch.where(there, model.pose_hands(parameters).mesh().vertices_m, 0.0),
                keypoints_m=keypoints,
                keypoints_xy=xy,
                keypoint_confidence=motion.keypoint_confidence[index, n],
                box_xyxy_px=torch.cat([xy.amin(1), xy.amax(1)], -1),
                camera=motion.camera,
                camera_source=motion.camera_source,
                penetration_cm3=float(motion.penetration_cm3[index, n]),
                penetration_before_cm3=float(motion.penetration_before_cm3[index, n]),
                refined=bool(motion.refined[index, n]),
                person=number,
            )
        )
    return PhotoResult(tuple(people), motion.width_px, motion.height_px, {"total": 0.0}, motion.prior_source, image)
