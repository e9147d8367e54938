"""Hands that leave the program. `photo` writes what was found in one photo, `motion` what was found in a video; `skinned`, `bvh`, `tables` and
`smplx` write either for other programs."""

from twohands.export.bvh import write_bvh
from twohands.export.motion import motion_of_photo, read_motion, write_motion
from twohands.export.photo import (
    NpzResult,
    prediction_entry,
    read_npz,
    read_predictions,
    write_glb,
    write_npz,
    write_obj,
    write_ply,
    write_predictions,
)
from twohands.export.skinned import write_skinned_glb
from twohands.export.smplx import write_smplx_pose
from twohands.export.tables import write_joints_csv, write_motion_json

__all__ = [
    "NpzResult",
    "motion_of_photo",
    "prediction_entry",
    "read_motion",
    "read_npz",
    "read_predictions",
    "write_bvh",
    "write_glb",
    "write_joints_csv",
    "write_motion",
    "write_motion_json",
    "write_npz",
    "write_obj",
    "write_ply",
    "write_predictions",
    "write_skinned_glb",
    "write_smplx_pose",
]
