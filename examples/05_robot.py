"""Joint angles for retargeting to a robot hand: flexion, spread and twist of every finger joint and the wrist's pose, evenly in time.

python examples/05_robot.py RESULT.npz [left|right] [OUT.npz]
"""

import sys
from pathlib import Path

import numpy as np
import torch

from twohands.export import read_motion
from twohands.hands.bundled import load_hand_asset
from twohands.hands.mirror import mirror_rotvec
from twohands.joints import MANO16


def main(result: str | Path, side: str = "right", out: str | Path = "out/05_robot.npz") -> dict[str, np.ndarray]:
    motion = read_motion(Path(result))
    hand = ("left", "right").index(side)
    frames = motion.hand_present[:, 0, hand].nonzero()[:, 0]
    pose = motion.parameters.pose[frames, 0, hand]
    # Limits and axes are a right hand's; a left hand is its mirror image.
    angles = load_hand_asset().limits.rotvec_to_angles(mirror_rotvec(pose) if side == "left" else pose)
    time_s = motion.time_s[frames].numpy()
    even_s = np.linspace(time_s[0], time_s[-1], len(time_s))

    def even(values: torch.Tensor) -> np.ndarray:
        flat = values.reshape(len(time_s), -1).numpy()
        return np.stack([np.interp(even_s, time_s, column) for column in flat.T], 1).reshape(values.shape)

    arrays = {
        "time_s": even_s,
        "joint": np.array(MANO16[1:]),
        "angles_rad": even(angles[:, 1:]),  # (frame, joint, flexion / spread / twist)
        "wrist_m": even(motion.keypoints_m[frames, 0, hand, 0]),
        "wrist_rotation": pose[:, 0].numpy(),  # rotation vectors in the camera frame, at the frames' own times
        "fingertips_m": even(motion.keypoints_m[frames, 0, hand][:, [4, 8, 12, 16, 20]]),
    }
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    np.savez(out, **arrays)
    return arrays


if __name__ == "__main__":
    main(*sys.argv[1:])
