"""NPZ, BVH, tables and SMPL-X poses of a motion say what the motion says."""

import csv
import dataclasses
import json

import numpy as np
import pytest
import trimesh
from motions import waving
from scipy.spatial.transform import Rotation, Slerp

from twohands.cli import main
from twohands.errors import UserError
from twohands.export import read_motion, write_bvh, write_joints_csv, write_motion, write_motion_json, write_smplx_pose
from twohands.export.bvh import zxy_angles_rad
from twohands.export.skeleton import skeletons
from twohands.export.tables import COLUMNS
from twohands.joints import MANO16, OPENPOSE21

IN_GLTF = np.array([1, -1, -1])


@pytest.fixture(scope="module")
def motion(hand):
    return waving(hand)


@pytest.fixture(scope="module")
def npz(motion, tmp_path_factory):
    path = tmp_path_factory.mktemp("npz") / "wave.npz"
    write_motion(path, motion)
    return path


def bvh_joints(text: str) -> tuple[float, list[dict[str, np.ndarray]]]:
    """A plain reader of BVH: frame time, and where each joint is in each frame."""
    tokens = iter(text[: text.index("MOTION")].split())
    parents: list[int] = []
    names: list[str] = []
    offsets: list[np.ndarray] = []
    stack: list[int] = []
    for token in tokens:
        if token in ("ROOT", "JOINT", "End"):
            names.append(next(tokens) if token != "End" else f"{names[stack[-1]]}_tip")
            parents.append(stack[-1] if stack else -1)
        elif token == "{":
            stack.append(len(names) - 1)
        elif token == "}":
            stack.pop()
        elif token == "OFFSET":
            offsets.append(np.array([float(next(tokens)) for _ in range(3)]))
    lines = text[text.index("MOTION") :].strip().split("\n")
    frames = []
    for line in lines[3:]:
        numbers = [float(n) for n in line.split()]
        place, numbers = np.array(numbers[:3]), numbers[3:]
        turn: dict[int, np.ndarray] = {}
        at: dict[int, np.ndarray] = {}
        for k, name in enumerate(names):
            up = parents[k]
            at[k] = place if up < 0 else at[up] + turn[up] @ offsets[k]
            if not name.endswith("_tip"):
                own = Rotation.from_euler("ZXY", numbers[:3], degrees=True).as_matrix()
                numbers = numbers[3:]
                turn[k] = own if up < 0 else turn[up] @ own
        frames.append({name: at[k] for k, name in enumerate(names)})
    return float(lines[2].split()[-1]), frames


def test_npz_gives_the_motion_back(motion, npz):
    again = read_motion(npz)
    for name, array in motion.arrays().items():
        assert np.array_equal(again.arrays()[name], array), name


def test_bvh_places_the_joints(motion, hand, tmp_path):
    paths = write_bvh(tmp_path, "a", motion, hand)
    assert [p.name for p in paths] == ["a.person3_left.bvh", "a.person3_right.bvh"]
    joints = hand.pose_hands(motion.parameters).joints_m.numpy() * IN_GLTF
    for side, path in enumerate(paths):
        step_s, frames = bvh_joints(path.read_text())
        assert step_s == pytest.approx(0.04)
        assert len(frames) == len(motion.time_s)
        for t, frame in enumerate(frames):
            if motion.hand_present[t, 0, side]:
                assert np.abs(np.stack([frame[name] for name in MANO16]) - joints[t, 0, side]).max() < 1e-5
    # Turned right round in twelve frames: no angle may leap back.
    rows = np.array([[float(n) for n in line.split()] for line in paths[1].read_text().split("Frame Time")[1].split("\n")[1:-1]])
    assert np.abs(np.diff(rows[:, 3:], axis=0)).max() < 180


@pytest.mark.parametrize("x_rad", [0.3, np.pi / 2, np.pi / 2 - 1e-9, -np.pi / 2, 1e-5 - np.pi / 2])
def test_angles_about_the_axes_make_the_rotation_at_quarter_turns_too(x_rad):
    angles = np.stack([np.linspace(-3, 3, 30), np.full(30, x_rad), np.linspace(2, -2, 30)], 1)
    rotation = Rotation.from_euler("ZXY", angles).as_matrix()
    found = zxy_angles_rad(rotation)
    assert np.allclose(Rotation.from_euler("ZXY", found).as_matrix(), rotation, atol=1e-12)
    assert abs(x_rad) > 1 or np.allclose(found, angles)


def test_bvh_of_an_uneven_film_is_evenly_sampled(hand, tmp_path):
    uneven = waving(hand, even=False)
    step_s, frames = bvh_joints(write_bvh(tmp_path, "a", uneven, hand)[1].read_text())
    assert step_s == pytest.approx(float(uneven.time_s[-1]) / 11)
    track = list(skeletons(uneven, hand))[1]
    turns = Slerp(track.time_s, Rotation.from_matrix(track.rotation[:, 0]))(np.arange(12) * step_s).as_matrix()
    for frame, turn in zip(frames, turns, strict=True):
        bone = track.rest_m[1] - track.rest_m[0]
        assert np.allclose(frame[MANO16[1]] - frame["wrist"], turn @ bone, atol=1e-6)
    wrist = hand.pose_hands(uneven.parameters).joints_m[:, 0, 1, 0].numpy() * IN_GLTF
    for axis in range(3):
        expected = np.interp(np.arange(12) * step_s, uneven.time_s.numpy(), wrist[:, axis])
        assert np.allclose([frame["wrist"][axis] for frame in frames], expected, atol=1e-6)


def test_csv_has_a_row_a_joint(motion, tmp_path):
    write_joints_csv(tmp_path / "a.csv", motion)
    with (tmp_path / "a.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    assert len(rows) == int(motion.hand_present.sum()) * 21
    filled = [row for row in rows if row["state"] == "filled"]
    assert {(row["frame"], row["side"]) for row in filled} == {("6", "left")}
    row = next(r for r in rows if (r["frame"], r["side"], r["joint"]) == ("9", "right", "index4"))
    point = motion.keypoints_m[9, 0, 1, OPENPOSE21.index("index4")]
    assert np.allclose([float(row[c]) for c in ("x_m", "y_m", "z_m")], point, atol=1e-6)
    assert np.allclose([float(row["x_px"]), float(row["y_px"])], motion.camera.project(point[None])[0], atol=0.006)
    assert float(row["time_s"]) == pytest.approx(9 / 25)


def test_json_has_an_entry_a_frame(motion, tmp_path):
    write_motion_json(tmp_path / "a.json", motion)
    whole = json.loads((tmp_path / "a.json").read_text())
    assert [len(frame["hands"]) for frame in whole["frames"]] == motion.hand_present.sum((1, 2)).tolist()
    assert np.allclose(whole["frames"][5]["hands"][1]["kp3d_mm"], motion.keypoints_m[5, 0, 1] * 1000, atol=0.001)


def test_smplx_poses_are_manos_only(motion, tmp_path):
    with pytest.raises(UserError, match="--mano"):
        write_smplx_pose(tmp_path, "a", motion)
    (path,) = write_smplx_pose(tmp_path, "a", dataclasses.replace(motion, hand_model="mano"))
    with np.load(path) as file:
        assert np.array_equal(file["right_hand_pose"], motion.parameters.pose[:, 0, 1, 1:].reshape(-1, 45))
        assert file["left_present"].tolist() == motion.hand_present[:, 0, 0].tolist()


def test_the_command_writes_every_format(npz, motion, hand, tmp_path, capsys):
    assert main(["export", str(npz), "--to", "glb,bvh,csv,json,npz", "--out", str(tmp_path)]) == 0
    assert main(["export", str(npz), "--to", "obj, ply, mesh-glb", "--out", str(tmp_path), "--frame", "9"]) == 0
    names = ["bvh", "csv", "glb", "json", "mesh.glb", "npz", "obj", "person3_left.bvh", "person3_right.bvh", "ply"]
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"wave.{n}" for n in names if n != "bvh"]
    expected = hand.pose_hands(motion.parameters[9, 0]).mesh().vertices_m.flatten(0, 1).numpy() * IN_GLTF
    for suffix in ("obj", "ply"):
        mesh = trimesh.load(tmp_path / f"wave.{suffix}", process=False, maintain_order=True, force="mesh")
        assert np.allclose(mesh.vertices, expected, atol=1e-6)
        assert np.array_equal(mesh.faces[: len(hand.faces[0])], hand.faces[0])
    capsys.readouterr()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--to", "fbx"], "no format 'fbx'"),
        (["--to", ""], "no format"),
        (["--to", "obj", "--frame", "99"], "no frame 99"),
        (["--to", "smplx"], "--mano"),
    ],
)
def test_what_cannot_be_is_said(npz, tmp_path, capsys, arguments, says):
    assert main(["export", str(npz), *arguments, "--out", str(tmp_path / "out")]) == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_a_photos_result_is_a_motion_of_one_frame(tmp_path, hand):
    from scenes import Truth, blank_image, two_hands
    from twohands.export import write_npz

    result = Truth([two_hands(0.2)]).pipeline().reconstruct(blank_image())
    write_npz(tmp_path / "photo.npz", result, hand)
    motion = read_motion(tmp_path / "photo.npz")
    assert np.allclose(motion.keypoints_m[0, 0], result.people[0].keypoints_m)
    assert main(["export", str(tmp_path / "photo.npz"), "--to", "glb,obj,bvh,csv", "--out", str(tmp_path / "out")]) == 0
