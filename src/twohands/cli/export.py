"""`twohands export`: results in the formats of other programs."""

from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from twohands.cli.app import app
from twohands.cli.console import make_folder, say
from twohands.errors import UserError

if TYPE_CHECKING:
    from twohands.hands.model import HandModel
    from twohands.schema import HandMotion

FORMATS = ("glb", "mesh-glb", "obj", "ply", "bvh", "npz", "json", "csv", "smplx")
_MESHES = ("mesh-glb", "obj", "ply")


@app.command
def export(
    result: tyro.conf.Positional[Path],
    to: str,
    out: Path,
    frame: int | None = None,
    mano: Path | None = None,
) -> int:
    """Write a result (the .npz of a photo or a video) for other programs.

    glb: a scene with a skeleton and a skinned mesh a hand, animated if it is a video, and the camera. mesh-glb, obj, ply: plain meshes, a file a
    frame. bvh: a skeleton file a hand. csv: joints, a row each. json: everything but meshes, frame by frame. npz: the numbers again, as those
    of a video. smplx: finger poses for SMPL-X bodies, if the hands are MANO's. Metres; meshes and skeletons have x right, y up, z towards
    the viewer; csv, json and npz are in the camera frame (x right, y down, z forward).

    Args:
        result: NAME.npz.
        to: Formats, separated by commas: glb, mesh-glb, obj, ply, bvh, npz, json, csv, smplx.
        out: Folder for the files.
        frame: One frame only (from 0).
        mano: Folder with MANO_LEFT.pkl and MANO_RIGHT.pkl, for meshes and skeletons of hands that are MANO's.
    """
    formats = [part.strip() for part in to.split(",") if part.strip()]
    if unknown := [name for name in formats if name not in FORMATS]:
        raise UserError(f"there is no format {unknown[0]!r}; choose from {', '.join(FORMATS)}")
    if not formats:
        raise UserError(f"no format was given; choose from {', '.join(FORMATS)}")

    from twohands.export import read_motion
    from twohands.hands.bundled import load_bundled_hand
    from twohands.hands.mano import load_mano

    motion = read_motion(result)
    if frame is not None:
        motion = _one_frame(motion, frame)
    if not bool(motion.hand_present.any()):
        raise UserError(f"there are no hands in {result}" + (f" at frame {frame}" if frame is not None else "") + "; choose another one")
    model = load_bundled_hand() if mano is None else load_mano(mano)
    if model.name != motion.hand_model and any(name in (*_MESHES, "glb", "bvh") for name in formats):
        cure = "name MANO's folder with --mano" if motion.hand_model == "mano" else "leave --mano out"
        raise UserError(f"the hands of {result} are of the model {motion.hand_model!r}, not {model.name!r}; {cure}")
    make_folder(out)
    try:
        for name in dict.fromkeys(formats):
            for path in _write(name, out, result.stem, motion, model):
                say(str(path))
    except OSError as error:
        raise UserError(f"cannot write into {out} ({error.strerror}); make room or choose another folder") from error
    return 0


def _one_frame(motion: "HandMotion", frame: int) -> "HandMotion":
    from dataclasses import replace

    count = len(motion.time_s)
    if not 0 <= frame < count:
        raise UserError(f"there is no frame {frame}; this result has {count}, from 0 to {count - 1}")
    camera = motion.camera
    return replace(motion[frame : frame + 1], camera=camera)


def _write(name: str, out: Path, stem: str, motion: "HandMotion", model: "HandModel") -> list[Path]:
    """One format; the files it wrote."""
    from twohands import export as to

    path = out / f"{stem}.{name}"
    match name:
        case "glb":
            to.write_skinned_glb(path, motion, model)
        case "bvh":
            return to.write_bvh(out, stem, motion, model)
        case "csv":
            to.write_joints_csv(path, motion)
        case "json":
            to.write_motion_json(path, motion)
        case "npz":
            to.write_motion(path, motion)
        case "smplx":
            return to.write_smplx_pose(out, stem, motion)
        case _:
            return _write_meshes(name, out, stem, motion, model)
    return [path]


def _write_meshes(name: str, out: Path, stem: str, motion: "HandMotion", model: "HandModel") -> list[Path]:
    """A file for every frame with hands."""
    import numpy as np

    from twohands import export as to
    from twohands.export.motion import photo_of_motion

    writers = {"mesh-glb": (to.write_glb, "mesh.glb"), "obj": (to.write_obj, "obj"), "ply": (to.write_ply, "ply")}
    write, suffix = writers[name]
    blank = np.zeros((1, 1, 3), np.uint8)
    paths = []
    for t in range(len(motion.time_s)):
        photo = photo_of_motion(motion, t, blank, model)
        if photo.people:
            paths.append(out / (f"{stem}.{suffix}" if len(motion.time_s) == 1 else f"{stem}.{t:06d}.{suffix}"))
            write(paths[-1], photo, model)
    return paths
