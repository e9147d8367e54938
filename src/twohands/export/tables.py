"""Motions as tables: CSV of joints, one row a joint, and JSON, one entry a frame."""

import csv
import json
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from twohands.export.files import SIDES, beside, rounded
from twohands.joints import OPENPOSE21
from twohands.schema import HandMotion

STATES = ("absent", "seen", "filled")
COLUMNS = ("frame", "time_s", "person", "side", "joint", "x_m", "y_m", "z_m", "x_px", "y_px", "confidence", "state")


def write_joints_csv(path: Path, motion: HandMotion) -> None:
    """The 21 keypoints of every hand in every frame, in the camera frame and in the picture; absent hands have no rows."""
    xy = _keypoints_xy(motion)
    with beside(path) as part, part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for t, n, hand in motion.hand_present.nonzero().tolist():
            state = STATES[int(motion.hand_state[t, n, hand])]
            for k, joint in enumerate(OPENPOSE21):
                x, y, z = motion.keypoints_m[t, n, hand, k].tolist()
                u, v = xy[t, n, hand, k].tolist()
                sure = float(motion.keypoint_confidence[t, n, hand, k])
                place = (f"{x:.6f}", f"{y:.6f}", f"{z:.6f}", f"{u:.2f}", f"{v:.2f}", f"{sure:.3f}")
                writer.writerow((t, f"{float(motion.time_s[t]):.6f}", motion.person[n], SIDES[hand], joint, *place, state))


def write_motion_json(path: Path, motion: HandMotion) -> None:
    """The same hands as predictions.json has, frame by frame: pixels, millimetres in the camera frame, radians, seconds."""
    xy = _keypoints_xy(motion)
    frames = []
    for t in range(len(motion.time_s)):
        hands = [_entry(motion, xy, t, n, hand) for n, hand in motion.hand_present[t].nonzero().tolist()]
        pairs = [
            {
                "person": motion.person[n],
                "penetration_cm3": round(float(motion.penetration_cm3[t, n]), 4),
                "penetration_before_cm3": round(float(motion.penetration_before_cm3[t, n]), 4),
                "refined": bool(motion.refined[t, n]),
            }
            for n in range(len(motion.person))
            if bool(motion.hand_present[t, n].all())
        ]
        frames.append({"time_s": round(float(motion.time_s[t]), 6), "hands": hands, "pairs": pairs})
    whole = {
        "width_px": motion.width_px,
        "height_px": motion.height_px,
        "camera": {"K": rounded(motion.camera.matrix().numpy(), 3), "source": motion.camera_source},
        "hand_model": motion.hand_model,
        "prior_source": motion.prior_source,
        "twohands_version": metadata.version("twohands"),
        "frames": frames,
    }
    with beside(path) as part:
        part.write_text(json.dumps(whole, allow_nan=False) + "\n", encoding="utf-8")


def _entry(motion: HandMotion, xy: torch.Tensor, t: int, n: int, hand: int) -> dict[str, Any]:
    parameters = motion.parameters
    return {
        "side": SIDES[hand],
        "person": motion.person[n],
        "state": STATES[int(motion.hand_state[t, n, hand])],
        "score": round(float(motion.score[t, n, hand]), 4),
        "kp2d_px": rounded(xy[t, n, hand].numpy(), 2),
        "kp3d_mm": rounded(motion.keypoints_m[t, n, hand].numpy() * 1000, 3),
        "keypoint_confidence": rounded(motion.keypoint_confidence[t, n, hand].numpy(), 3),
        "pose_rad": rounded(parameters.pose[t, n, hand].numpy(), 5),
        "shape": rounded(parameters.shape[t, n, hand].numpy(), 4),
        "translation_mm": rounded(parameters.translation_m[t, n, hand].numpy() * 1000, 3),
    }


def _keypoints_xy(motion: HandMotion) -> torch.Tensor:
    """(frame, person, hand, 21, 2); meaningless where a hand is absent."""
    there = motion.hand_present[..., None, None]
    return motion.camera.project(torch.where(there, motion.keypoints_m, 1.0))
