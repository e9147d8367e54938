"""The programs people use agree: Khronos's validator and Blender. Each test is skipped where its program is not installed."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from motions import first_frame, waving

from twohands.export import write_bvh, write_glb, write_skinned_glb
from twohands.export.motion import photo_of_motion
from twohands.joints import MANO16

FPS = 25
VALIDATE = """
const validator = require('gltf-validator'), fs = require('fs');
validator.validateBytes(new Uint8Array(fs.readFileSync(process.argv[1]))).then(r => console.log(JSON.stringify(r.issues)));
"""


@pytest.fixture(scope="module")
def motion(hand):
    return waving(hand, people=2)


@pytest.fixture(scope="module")
def validator() -> str:
    """Node, if it finds Khronos's validator (`npm install gltf-validator`, and NODE_PATH where it is not beside this file)."""
    node = shutil.which("node")
    if node is None or subprocess.run([node, "-e", "require('gltf-validator')"], capture_output=True, check=False).returncode:
        pytest.skip("needs node and its package gltf-validator")
    return node


@pytest.fixture(scope="module")
def blender() -> str:
    found = shutil.which("blender")
    asked = ["--background", "--factory-startup", "--python-exit-code", "1", "--python-expr", "import numpy"]
    if found is None or subprocess.run([found, *asked], capture_output=True, check=False).returncode:
        pytest.skip("needs Blender, and NumPy in its Python, as its own importer does (Debian: blender, python3-numpy)")
    return found


@pytest.mark.parametrize("kind", ["video", "photo", "meshes"])
def test_khronos_validator_finds_nothing(validator, motion, hand, tmp_path, kind):
    path = tmp_path / "a.glb"
    match kind:
        case "video":
            write_skinned_glb(path, motion, hand)
        case "photo":
            write_skinned_glb(path, first_frame(motion, 6), hand)
        case _:
            write_glb(path, photo_of_motion(motion, 6, np.zeros((1, 1, 3), np.uint8), hand), hand)
    done = subprocess.run([validator, "-e", VALIDATE, str(path)], capture_output=True, text=True, check=True)
    issues = json.loads(done.stdout)
    assert (issues["numErrors"], issues["numWarnings"]) == (0, 0), issues["messages"][:5]


def in_blender(blender: str, path: Path, out: Path, frames: int) -> list[dict]:
    script = Path(__file__).parent / "blender_joints.py"
    options = ["--background", "--factory-startup", "--python-exit-code", "1", "--python", str(script)]
    done = subprocess.run(
        [blender, *options, "--", str(path), str(out), str(frames), str(FPS)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return json.loads(out.read_text())["frames"]


def camera_frame(points: list) -> np.ndarray:
    """Blender's axes (z up) to the photo's (z forward): its importers take y up to z up, and we y down to y up before."""
    x, y, z = np.moveaxis(np.asarray(points), -1, 0)
    return np.stack([x, -z, y], -1)


def test_blender_reads_the_same_joints_and_meshes(blender, motion, hand, tmp_path):
    write_skinned_glb(tmp_path / "a.glb", motion, hand)
    frames = in_blender(blender, tmp_path / "a.glb", tmp_path / "a.json", len(motion.time_s))
    posed = hand.pose_hands(motion.parameters)
    joints, vertices = posed.joints_m.numpy(), posed.mesh().vertices_m.numpy()
    for t, n, side in motion.hand_present.nonzero().tolist():
        name = f"person{motion.person[n]}_{('left', 'right')[side]}"
        bones = camera_frame([frames[t]["bones"][f"{name}_{joint}"] for joint in MANO16])
        assert np.abs(bones - joints[t, n, side]).max() < 1e-4
        assert np.abs(camera_frame(frames[t]["meshes"][f"{name}_mesh"]) - vertices[t, n, side]).max() < 1e-4


def test_blender_reads_the_same_joints_from_bvh(blender, motion, hand, tmp_path):
    joints = hand.pose_hands(motion.parameters).joints_m.numpy()
    path = write_bvh(tmp_path, "a", motion, hand)[0]
    frames = in_blender(blender, path, tmp_path / "a.json", len(motion.time_s))
    for t in motion.hand_present[:, 0, 0].nonzero()[:, 0].tolist():
        bones = camera_frame([frames[t]["bones"][joint] for joint in MANO16])
        assert np.abs(bones - joints[t, 0, 0]).max() < 1e-4
