"""Hand poses for SMPL-X bodies, of hands that are MANO's: the numbers that SMPL-X calls left_hand_pose and right_hand_pose."""

from pathlib import Path

import numpy as np

from twohands.errors import UserError
from twohands.export.files import SIDES, beside
from twohands.schema import HandMotion


def write_smplx_pose(folder: Path, stem: str, motion: HandMotion) -> list[Path]:
    """A file for every person, STEM.person0.smplx.npz. For each side: `*_hand_pose` (frame, 45), rotation vectors of the 15 finger joints
    relative to the flat hand (SMPL-X with flat_hand_mean=True and use_pca=False); `*_wrist_rotation` (frame, 3) in the camera frame, which a
    body's forearm has to be brought to; `*_betas` of MANO, which are not those of a body; `*_present`. UserError if the hands are not
    MANO's: the bundled hand's angles mean the same, but its rest pose is some degrees off."""
    if motion.hand_model != "mano":
        raise UserError(f"SMPL-X shares MANO's hands, and these are of the model {motion.hand_model!r}; reconstruct with --mano FOLDER")
    paths = []
    for n, number in enumerate(motion.person):
        arrays: dict[str, np.ndarray] = {"time_s": motion.time_s.numpy()}
        for hand, side in enumerate(SIDES):
            pose = motion.parameters.pose[:, n, hand]
            arrays[f"{side}_hand_pose"] = pose[:, 1:].reshape(len(pose), 45).numpy()
            arrays[f"{side}_wrist_rotation"] = pose[:, 0].numpy()
            arrays[f"{side}_betas"] = motion.parameters.shape[:, n, hand].numpy()
            arrays[f"{side}_present"] = motion.hand_present[:, n, hand].numpy()
        path = folder / f"{stem}.person{number}.smplx.npz"
        with beside(path) as part, part.open("wb") as file:
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
        paths.append(path)
    return paths
