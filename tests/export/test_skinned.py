"""The animated GLB, taken apart and posed again by the rules of glTF, is the motion that went in."""

import json
import struct

import numpy as np
import pytest
import trimesh
from motions import first_frame, waving
from scipy.spatial.transform import Rotation

from twohands.errors import UserError
from twohands.export import write_skinned_glb
from twohands.hands.model import HandModel

KINDS = {"SCALAR": 1, "VEC3": 3, "VEC4": 4, "MAT4": 16}
TYPES = {5126: "<f4", 5123: "<u2", 5121: "u1"}


class Read:
    """A GLB's JSON and arrays."""

    def __init__(self, content: bytes) -> None:
        magic, version, total, length = struct.unpack("<4I", content[:16])
        assert (magic, version, total) == (0x46546C67, 2, len(content))
        self.json = json.loads(content[20 : 20 + length])
        self.binary = content[28 + length :]

    def array(self, index: int) -> np.ndarray:
        accessor = self.json["accessors"][index]
        view = self.json["bufferViews"][accessor["bufferView"]]
        width = KINDS[accessor["type"]]
        flat = np.frombuffer(self.binary, TYPES[accessor["componentType"]], accessor["count"] * width, view["byteOffset"])
        return flat.reshape(accessor["count"], width)

    def node(self, name: str) -> int:
        return next(k for k, node in enumerate(self.json["nodes"]) if node["name"] == name)

    def placed(self, frame: int) -> dict[int, np.ndarray]:
        """World matrix of every node in a frame of the clip; frame -1: as they stand without it."""
        local = {}
        for k, node in enumerate(self.json["nodes"]):
            local[k] = {"translation": node.get("translation", [0, 0, 0]), "rotation": node.get("rotation", [0, 0, 0, 1])}
            local[k]["scale"] = node.get("scale", [1, 1, 1])
        for animation in self.json.get("animations", []) if frame >= 0 else []:
            for channel in animation["channels"]:
                sampler = animation["samplers"][channel["sampler"]]
                if sampler["interpolation"] == "LINEAR":
                    local[channel["target"]["node"]][channel["target"]["path"]] = self.array(sampler["output"])[frame]
        world: dict[int, np.ndarray] = {}

        def descend(k: int, above: np.ndarray) -> None:
            here = np.eye(4)
            here[:3, :3] = Rotation.from_quat(local[k]["rotation"]).as_matrix()
            here[:3, 3] = local[k]["translation"]
            world[k] = above @ here
            for child in self.json["nodes"][k].get("children", []):
                descend(child, world[k])

        for k in self.json["scenes"][0]["nodes"]:
            descend(k, np.eye(4))
        return world

    def skinned(self, name: str, frame: int) -> np.ndarray:
        """A mesh's vertices in a frame of the clip."""
        node = self.json["nodes"][self.node(f"{name}_mesh")]
        skin, primitive = self.json["skins"][node["skin"]], self.json["meshes"][node["mesh"]]["primitives"][0]
        attributes = {key: self.array(index) for key, index in primitive["attributes"].items()}
        bind = self.array(skin["inverseBindMatrices"]).reshape(-1, 4, 4).transpose(0, 2, 1)
        world = self.placed(frame)
        matrices = np.stack([world[joint] @ bind[k] for k, joint in enumerate(skin["joints"])])
        blended = np.einsum("vk,vkij->vij", attributes["WEIGHTS_0"], matrices[attributes["JOINTS_0"]])
        return np.einsum("vij,vj->vi", blended[:, :3], np.pad(attributes["POSITION"], ((0, 0), (0, 1)), constant_values=1))


@pytest.fixture(scope="module")
def motion(hand):
    return waving(hand, people=2)


@pytest.fixture(scope="module")
def read(motion, hand, tmp_path_factory):
    path = tmp_path_factory.mktemp("glb") / "a.glb"
    write_skinned_glb(path, motion, hand)
    return Read(path.read_bytes())


def test_posed_by_gltfs_rules_it_is_our_mesh(read, motion, hand):
    vertices = hand.pose_hands(motion.parameters).mesh().vertices_m.numpy() * np.array([1, -1, -1])
    for t, n, side in motion.hand_present.nonzero().tolist():
        name = f"person{motion.person[n]}_{('left', 'right')[side]}"
        assert np.abs(read.skinned(name, t) - vertices[t, n, side]).max() < 2e-6


def test_times_are_the_videos(hand, tmp_path):
    uneven = waving(hand, even=False)
    write_skinned_glb(tmp_path / "a.glb", uneven, hand)
    read = Read((tmp_path / "a.glb").read_bytes())
    (clip,) = read.json["animations"]
    times = read.array(clip["samplers"][0]["input"])[:, 0]
    assert np.allclose(times, uneven.time_s, atol=1e-6)
    assert np.ptp(np.diff(times)) > 0.04, "an uneven film stays uneven"


def test_neighbouring_rotations_take_the_short_way(read):
    (clip,) = read.json["animations"]
    for channel in clip["channels"]:
        if channel["target"]["path"] == "rotation":
            q = read.array(clip["samplers"][channel["sampler"]]["output"])
            assert ((q[1:] * q[:-1]).sum(1) >= 0).all()


def test_an_absent_hand_has_no_size(read, motion):
    (clip,) = read.json["animations"]
    sized = [c for c in clip["channels"] if c["target"]["path"] == "scale"]
    assert [c["target"]["node"] for c in sized] == [read.node("person3_left_wrist")], "the others are always there"
    sampler = clip["samplers"][sized[0]["sampler"]]
    assert sampler["interpolation"] == "STEP"
    assert read.array(sampler["output"])[:, 0].tolist() == [0, 1]
    back_s = float(motion.time_s[motion.hand_present[:, 0, 0]][0])
    assert np.allclose(read.array(sampler["input"])[:, 0], [0, back_s])


def test_the_camera_sees_the_picture(read, motion):
    (camera,) = read.json["cameras"]
    view = camera["perspective"]
    point = np.array([0.1, -0.05, 0.7])
    # glTF's projection, onto a picture of the size in the extras, but for the principal point.
    across = point[0] / point[2] / np.tan(view["yfov"] / 2) / view["aspectRatio"] * 320
    down = point[1] / point[2] / np.tan(view["yfov"] / 2) * 240
    x, y = (motion.camera.focal_px.numpy() * point[:2] / point[2]).tolist()
    assert (across, down) == pytest.approx((x, y))
    assert np.allclose(camera["extras"]["camera_matrix"], motion.camera.matrix())


def test_a_photo_stands_still(motion, hand, tmp_path):
    photo = first_frame(motion, 7)
    write_skinned_glb(tmp_path / "a.glb", photo, hand)
    read = Read((tmp_path / "a.glb").read_bytes())
    assert "animations" not in read.json
    expected = hand.pose_hands(photo.parameters).mesh().vertices_m[0, 0, 1].numpy() * np.array([1, -1, -1])
    assert np.abs(read.skinned("person3_right", -1) - expected).max() < 2e-6
    assert len(trimesh.load(tmp_path / "a.glb").geometry) == 4


def test_foreign_models_and_empty_motions_are_refused(motion, hand, tmp_path):
    import dataclasses

    other = HandModel(dataclasses.replace(hand.data, name="other"))
    with pytest.raises(UserError, match="--mano"):
        write_skinned_glb(tmp_path / "a.glb", motion, other)
    nobody = first_frame(motion, 0)
    nobody = dataclasses.replace(nobody, hand_state=nobody.hand_state * 0)
    with pytest.raises(ValueError, match="no hands"):
        write_skinned_glb(tmp_path / "a.glb", nobody, hand)
    assert list(tmp_path.iterdir()) == []
