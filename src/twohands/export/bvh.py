"""BVH, a skeleton a file: what motion-capture tools read. Metres, y up, rotations in degrees about z, x, y in that order."""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from twohands.export.files import beside
from twohands.export.skeleton import SkeletonTrack, skeletons
from twohands.geometry.rotations import matrix_to_rotvec, rotvec_to_matrix
from twohands.hands.model import HandModel
from twohands.joints import FINGERS, MANO16, MANO16_PARENTS
from twohands.schema import HandMotion

EVEN = 0.02
"""Frames whose spacing varies by less than this share of it are taken for evenly spaced."""


def write_bvh(folder: Path, stem: str, motion: HandMotion, model: HandModel) -> list[Path]:
    """A file for every hand, STEM.person0_left.bvh and so on; returns their paths. BVH knows no absence: there the hand keeps still. It knows
    one frame time only: a film of uneven rate is sampled anew at its mean rate."""
    paths = []
    for track in skeletons(motion, model):
        path = folder / f"{stem}.{track.name}.bvh"
        with beside(path) as part:
            part.write_text(bvh_text(track), encoding="ascii")
        paths.append(path)
    return paths


def bvh_text(track: SkeletonTrack) -> str:
    """The file's content."""
    step_s, rotation, wrist = _even(track)
    degrees = np.unwrap(np.rad2deg(zxy_angles_rad(rotation)), axis=0, period=360.0)
    rows = np.concatenate([wrist, *(degrees[:, joint] for joint in _depth_first())], 1)
    lines = ["HIERARCHY", *_joint_lines(track, 0, 0), "MOTION", f"Frames: {len(rows)}", f"Frame Time: {step_s:.8f}"]
    lines += [" ".join(f"{value:.7f}" for value in row) for row in rows]
    return "\n".join(lines) + "\n"


def _even(track: SkeletonTrack) -> tuple[float, Float[np.ndarray, "frame 16 3 3"], Float[np.ndarray, "frame 3"]]:
    """Frame time, rotations and wrist at even times."""
    time_s = track.time_s
    if len(time_s) < 2:
        return 1 / 30, track.rotation, track.wrist_m
    steps = np.diff(time_s)
    step_s = float(steps.mean())
    if np.abs(steps - step_s).max() < EVEN * step_s:
        return step_s, track.rotation, track.wrist_m
    even_s = np.linspace(time_s[0], time_s[-1], len(time_s))
    before = (np.searchsorted(time_s, even_s, side="right") - 1).clip(0, len(steps) - 1)
    share = torch.from_numpy((even_s - time_s[before]) / steps[before])[:, None, None]
    known = torch.from_numpy(track.rotation)
    # The shortest way from the frame before to the one after, at even speed.
    way = matrix_to_rotvec(known[before].mT @ known[before + 1])
    rotation = (known[before] @ rotvec_to_matrix(share * way)).numpy()
    wrist = np.stack([np.interp(even_s, time_s, track.wrist_m[:, axis]) for axis in range(3)], 1)
    return step_s, rotation, wrist


def zxy_angles_rad(rotation: Float[np.ndarray, "*batch 3 3"]) -> Float[np.ndarray, "*batch 3"]:
    """The angles whose turns about z, x and y, in this order from the left, make the rotation."""
    z = np.arctan2(-rotation[..., 0, 1], rotation[..., 1, 1])
    # Without its turn about z. At a quarter turn about x any z is right, and this way the y that goes with it is found.
    cos, sin = np.cos(z)[..., None], np.sin(z)[..., None]
    first, second = cos * rotation[..., 0, :] + sin * rotation[..., 1, :], cos * rotation[..., 1, :] - sin * rotation[..., 0, :]
    return np.stack([z, np.arctan2(rotation[..., 2, 1], second[..., 1]), np.arctan2(first[..., 2], first[..., 0])], -1)


def _children(joint: int) -> list[int]:
    return [child for child, parent in enumerate(MANO16_PARENTS) if parent == joint]


def _depth_first(joint: int = 0) -> list[int]:
    return [joint, *(below for child in _children(joint) for below in _depth_first(child))]


def _joint_lines(track: SkeletonTrack, joint: int, depth: int) -> list[str]:
    """A joint of the hierarchy and all below it."""
    pad, parent = "  " * depth, MANO16_PARENTS[joint]
    # The channels of the root place it in the scene; an offset would be added to them.
    offset = np.zeros(3) if parent < 0 else track.rest_m[joint] - track.rest_m[parent]
    channels = "3 Zrotation Xrotation Yrotation" if parent >= 0 else "6 Xposition Yposition Zposition Zrotation Xrotation Yrotation"
    kind = "ROOT" if parent < 0 else "JOINT"
    lines = [f"{pad}{kind} {MANO16[joint]}", f"{pad}{{", f"{pad}  OFFSET {_numbers(offset)}", f"{pad}  CHANNELS {channels}"]
    for child in _children(joint):
        lines += _joint_lines(track, child, depth + 1)
    if not _children(joint):
        tip = track.tips_m[FINGERS.index(MANO16[joint][:-1])] - track.rest_m[joint]
        lines += [f"{pad}  End Site", f"{pad}  {{", f"{pad}    OFFSET {_numbers(tip)}", f"{pad}  }}"]
    return [*lines, f"{pad}}}"]


def _numbers(values: np.ndarray) -> str:
    return " ".join(f"{value:.8f}" for value in values)
