"""Re:InterHand: captured pairs of hands, rendered again under other lights, seen by a rig and by a head (Moon et al., NeurIPS 2023)."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from twohands.data.dataset import Annotation, Dataset, DatasetInfo, ManoConvention, file_camera, in_picture, projected
from twohands.data.index import Columns, Rows, expected_content, open_index, read_json, text
from twohands.errors import UserError
from twohands.geometry.fisheye import fisheye_project
from twohands.hands.parameters import HandParameters
from twohands.joints import REINTERHAND24

INFO = DatasetInfo(
    name="reinterhand",
    title="Re:InterHand",
    splits=("train", "test", "train-ego", "test-ego", "train-segment", "test-segment", "train-ego-segment", "test-ego-segment"),
    licence="CC BY-NC 4.0: not for commercial use",
    where="https://mks0601.github.io/ReInterHand/ (archives of the captures, orig_fits and mano_fits)",
    layout=(
        "{capture}/Mugsy_cameras/envmap_per_frame/images/{camera}/{frame}.png",
        "{capture}/Mugsy_cameras/cam_params.json",
        "{capture}/orig_fits/{side}/Keypoints/keypoint-{frame}.json",
        "{capture}/mano_fits/params/{frame}_{side}.json",
    ),
    joint_names=REINTERHAND24,
    mano=ManoConvention(flat_hand_mean=False, fingertips="interwild"),
)

TEST_CAPTURES = ("20221215--0949--RNS217", "20221216--0953--NKC880", "20230317--1130--QZX685")
"""Parts of the names of the captures that InterWild tests on; the others are for training."""
LEAST_IN_EGO_PICTURE = 0.2
"""Egocentric frames with a smaller share of joints in the picture are skipped, as InterWild does."""

_VERSION = 1
_SIDES = ("left", "right")


class ReInterHand(Dataset):
    """The pictures that are there, since lists of frames are for 30 pictures a second and some renderings have 5. A split is a part ("train", "test")
    of the rig's pictures ("Mugsy") or, with "-ego", of the head's; lights change with every frame or, with "-segment", from segment to segment."""

    info = INFO

    def __init__(self, folder: Path, split: str, mano: Path | None = None) -> None:
        """UserError if no capture of the split is there, or one of its files is missing or broken."""
        super().__init__(folder, split, mano)
        test, ego = split.startswith("test"), "-ego" in split
        light = "envmap_per_segment" if split.endswith("-segment") else "envmap_per_frame"
        rig = "Ego_cameras" if ego else "Mugsy_cameras"
        captures = sorted(
            path for path in folder.iterdir()
            if (path / rig / light / "images").is_dir() and any(name in path.name for name in TEST_CAPTURES) == test
        )  # fmt: skip
        if not captures:
            raise UserError(
                f"no capture of {split} with {rig}/{light}/images is in {folder}; `twohands data check` says what belongs where"
            )
        sources = [path for capture in captures for path in _sources(capture, rig, light)]
        self._light, self._rig = light, rig
        self._columns = open_index(folder, f"reinterhand-{split}", _VERSION, sources, lambda: _build(captures, rig, light))

    def __len__(self) -> int:
        return len(self._columns["frame"])

    @property
    def ids(self) -> np.ndarray:
        c = self._columns
        names = np.char.decode(np.asarray(c["captures"]))[np.asarray(c["capture"])]
        cameras = np.char.decode(np.asarray(c["camera_name"]))[np.asarray(c["camera"])]
        frames = np.char.zfill(np.asarray(c["frame"]).astype(str), 6)
        return np.char.add(np.char.add(np.char.add(names, "/"), np.char.add(cameras, "/")), frames)

    def sequences(self, indices: np.ndarray) -> np.ndarray:
        return np.char.decode(np.asarray(self._columns["captures"]))[np.asarray(self._columns["capture"])[indices]]

    def annotation(self, index: int) -> Annotation:
        c = self._columns
        k, moment, frame = int(c["camera"][index]), int(c["moment"][index]), int(c["frame"][index])
        capture, camera_name = text(c["captures"][c["capture"][index]]), text(c["camera_name"][k])
        R, t_m = np.array(c["camera_R"][k]), c["camera_t_mm"][k] / np.float32(1000)
        camera = file_camera(c["camera_focal_px"][k], c["camera_principal_px"][k])
        there = torch.from_numpy(np.array(c["moment_there"][moment]))
        valid = there[:, None].repeat(1, 24)
        valid[:, REINTERHAND24.index("forearm")] = False
        world_m = c["moment_world_mm"][moment] / np.float32(1000)
        joints = torch.where(valid[..., None], torch.from_numpy((world_m @ R.T + t_m).astype(np.float32)), 0.0)
        xy, known = projected(camera, joints, valid)
        distortion = None
        if self._rig == "Ego_cameras":
            distortion = torch.from_numpy(np.array(c["camera_distortion"][k]))
            xy = torch.where(known[..., None], fisheye_project(camera, distortion, torch.where(known[..., None], joints, 1.0)), 0.0)
        fit_there = torch.from_numpy(np.array(c["fit_there"][moment]))
        pose, shape, translation = (torch.from_numpy(np.array(c[f"fit_{name}"][moment])) for name in ("pose", "shape", "translation_m"))
        stored = HandParameters(pose.view(2, 16, 3), shape, translation)
        parameters, parameters_valid = self._parameters(stored, fit_there, torch.from_numpy(R), torch.from_numpy(t_m))
        width, height = (int(n) for n in c["camera_size_px"][k])
        images = self.folder / capture / self._rig / self._light / "images"
        ego = self._rig == "Ego_cameras"
        return Annotation(
            id=f"{capture}/{camera_name}/{frame:06d}",
            image_path=(images if ego else images / camera_name) / f"{frame:06d}.png",
            width_px=width,
            height_px=height,
            sequence=capture,
            camera_id=camera_name,
            frame=frame,
            hand_type="interacting",
            hand_type_valid=True,
            camera=camera,
            distortion=distortion,
            joint_names=REINTERHAND24,
            joints_m=joints,
            joints_3d_valid=valid,
            joints_xy=xy,
            joints_2d_valid=known,
            joints_in_image=known & in_picture(xy, width, height),
            fit_available=fit_there,
            parameters=parameters,
            parameters_valid=parameters_valid,
        )


def _sources(capture: Path, rig: str, light: str) -> list[Path]:
    """Files and folders whose change calls for a new index."""
    images = capture / rig / light / "images"
    found = [images, *(capture / "orig_fits" / side / "Keypoints" for side in _SIDES), capture / "mano_fits" / "params"]
    if rig == "Ego_cameras":
        return [*found, capture / rig / light / "cam_params", capture / rig / light / "truncation_ratio.json"]
    return [*found, capture / rig / "cam_params.json", *sorted(path for path in images.iterdir() if path.is_dir())]


def _build(captures: list[Path], rig: str, light: str) -> Columns:
    pictures = Rows({"capture": ("i2", ()), "camera": ("i4", ()), "moment": ("i4", ()), "frame": ("i4", ())})
    cameras = Rows({
        "camera_name": ("S16", ()), "camera_R": ("f4", (3, 3)), "camera_t_mm": ("f4", (3,)), "camera_focal_px": ("f4", (2,)),
        "camera_principal_px": ("f4", (2,)), "camera_distortion": ("f4", (4,)), "camera_size_px": ("i4", (2,)),
    }, block=4096)  # fmt: skip
    moments = Rows({
        "moment_world_mm": ("f4", (2, 24, 3)), "moment_there": ("?", (2,)), "fit_pose": ("f4", (2, 48)), "fit_shape": ("f4", (2, 10)),
        "fit_translation_m": ("f4", (2, 3)), "fit_there": ("?", (2,)),
    }, block=4096)  # fmt: skip
    for number, capture in enumerate(captures):
        moment_row: dict[int, int] = {}

        def moment_of(frame: int, capture: Path = capture, moment_row: dict[int, int] = moment_row) -> int:
            if frame not in moment_row:
                moment_row[frame] = len(moments)
                moments.add(_moment(capture, frame))
            return moment_row[frame]

        images = capture / rig / light / "images"
        if rig == "Ego_cameras":
            inside = read_json(capture / rig / light / "truncation_ratio.json")
            size: tuple[int, int] | None = None
            for frame in _frames(images):
                if inside.get(f"{frame:06d}", 1.0) < LEAST_IN_EGO_PICTURE:
                    continue
                path = capture / rig / light / "cam_params" / f"{frame:06d}.json"
                size = size or _picture_size(images / f"{frame:06d}.png")
                pictures.add({"capture": number, "camera": len(cameras), "moment": moment_of(frame), "frame": frame})
                cameras.add(_camera("ego", read_json(path), size, path))
        else:
            path = capture / rig / "cam_params.json"
            parameters = read_json(path)
            for folder in sorted(p for p in images.iterdir() if p.is_dir()):
                frames = _frames(folder)
                if not frames:
                    continue
                if folder.name not in parameters:
                    raise UserError(f"{path} has no camera {folder.name}, of which there are pictures; download it again")
                size = _picture_size(folder / f"{frames[0]:06d}.png")
                for frame in frames:
                    pictures.add({"capture": number, "camera": len(cameras), "moment": moment_of(frame), "frame": frame})
                cameras.add(_camera(folder.name, parameters[folder.name], size, path))
    if len(pictures) == 0:
        raise UserError(f"there are no pictures in {captures[0] / rig / light / 'images'} and its like; unpack the archives of the images")
    names = np.array([capture.name.encode() for capture in captures], dtype="S")
    return pictures.columns() | cameras.columns() | moments.columns() | {"captures": names}


def _frames(folder: Path) -> list[int]:
    with os.scandir(folder) as entries:
        return sorted(int(entry.name[:-4]) for entry in entries if entry.name.endswith(".png") and entry.name[:-4].isdigit())


def _picture_size(path: Path) -> tuple[int, int]:
    """Of one picture of a camera; all of them have it."""
    try:
        with Image.open(path) as image:
            return image.size
    except (OSError, SyntaxError) as error:
        raise UserError(f"{path} is no readable picture ({error}); unpack its archive again") from error


def _camera(name: str, values: Any, size_px: tuple[int, int], path: Path) -> dict[str, Any]:
    with expected_content(path):
        return {
            "camera_name": name, "camera_R": np.array(values["R"], np.float32).reshape(3, 3), "camera_t_mm": np.array(values["t"]).reshape(3),
            "camera_focal_px": values["focal"], "camera_principal_px": values["princpt"], "camera_distortion": values.get("D", [0.0] * 4),
            "camera_size_px": size_px,
        }  # fmt: skip


def _moment(capture: Path, frame: int) -> dict[str, Any]:
    """Joints and fits of both hands, in the world. A hand without a file is not annotated."""
    world, there = np.zeros((2, 24, 3), np.float32), [False, False]
    fits, fit_there = {"pose": np.zeros((2, 48)), "shape": np.zeros((2, 10)), "trans": np.zeros((2, 3))}, [False, False]
    for hand, side in enumerate(_SIDES):
        joints = capture / "orig_fits" / side / "Keypoints" / f"keypoint-{frame:06d}.json"
        fit = capture / "mano_fits" / "params" / f"{frame}_{side}.json"
        if joints.is_file():
            with expected_content(joints):
                world[hand] = np.array(read_json(joints), np.float32).reshape(24, 3)
            there[hand] = True
        if fit.is_file():
            with expected_content(fit):
                values = read_json(fit)
                for name, array in fits.items():
                    array[hand] = np.array(values[name]).reshape(-1)
            fit_there[hand] = True
    return {
        "moment_world_mm": world, "moment_there": there, "fit_pose": fits["pose"], "fit_shape": fits["shape"],
        "fit_translation_m": fits["trans"], "fit_there": fit_there,
    }  # fmt: skip
