"""Animated, skinned GLB: a skeleton and a mesh a hand, one clip, the photo's camera. Opens in Blender, three.js and game engines.

Skinning of glTF is the linear blend skinning of the hand model, so the mesh that another program shows is ours to float precision; a model's
pose correctives (MANO has some, the bundled hand none) have no place in a skin and are left out."""

import json
import math
import struct
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from twohands.errors import UserError
from twohands.export.files import SIDES, beside
from twohands.export.skeleton import SkeletonTrack, quaternions, rest_mesh, skeletons
from twohands.hands.model import HandModel
from twohands.joints import MANO16, MANO16_PARENTS
from twohands.palette import HAND_RGB
from twohands.schema import HandMotion

INFLUENCES = 4
"""Joints that may move a vertex; neither hand model needs more."""
_FLOAT, _USHORT, _UBYTE = 5126, 5123, 5121
_ARRAY, _ELEMENTS = 34962, 34963
_GLB_MAGIC, _JSON_CHUNK, _BIN_CHUNK = 0x46546C67, 0x4E4F534A, 0x004E4942


class _Buffer:
    """The binary chunk and what glTF says about it."""

    def __init__(self) -> None:
        self.content = bytearray()
        self.views: list[dict[str, Any]] = []
        self.accessors: list[dict[str, Any]] = []

    def add(self, values: np.ndarray, component: int, kind: str, target: int | None = None, bounds: bool = False) -> int:
        """Index of a new accessor."""
        self.content += bytes(-len(self.content) % 4)
        view: dict[str, Any] = {"buffer": 0, "byteOffset": len(self.content), "byteLength": values.nbytes}
        if target is not None:
            view["target"] = target
        self.content += np.ascontiguousarray(values).tobytes()
        self.views.append(view)
        accessor: dict[str, Any] = {
            "bufferView": len(self.views) - 1, "componentType": component, "count": len(values), "type": kind,
        }  # fmt: skip
        if bounds:
            flat = values.reshape(len(values), -1)
            accessor["min"], accessor["max"] = flat.min(0).tolist(), flat.max(0).tolist()
        self.accessors.append(accessor)
        return len(self.accessors) - 1

    def floats(self, values: np.ndarray, kind: str, target: int | None = None, bounds: bool = False) -> int:
        return self.add(values.astype("<f4"), _FLOAT, kind, target, bounds)


def write_skinned_glb(path: Path, motion: HandMotion, model: HandModel) -> None:
    """All hands of a motion in one scene: metres, x right, y up, z towards the viewer, the camera at the origin. A hand that is absent for a
    while has size zero meanwhile. ValueError without hands."""
    tracks = list(skeletons(motion, model))
    if not tracks:
        raise ValueError("there are no hands in this motion; look at `hand_present` before writing it")
    buffer = _Buffer()
    scene: dict[str, Any] = {
        "asset": {"version": "2.0", "generator": f"twohands {metadata.version('twohands')}"},
        "scene": 0,
        "scenes": [{"name": "hands", "nodes": []}],
        "nodes": [],
        "meshes": [],
        "skins": [],
        "materials": [_material(hand) for hand in (0, 1)],
        "cameras": [_camera(motion)],
    }
    root: list[int] = scene["scenes"][0]["nodes"]
    scene["nodes"].append({"name": "camera", "camera": 0})
    root.append(0)
    animation: dict[str, Any] = {"name": "hands", "channels": [], "samplers": []}
    for track in tracks:
        _add_hand(scene, buffer, animation, track, model)
    if len(motion.time_s) > 1:
        scene["animations"] = [animation]
    scene["buffers"] = [{"byteLength": len(buffer.content)}]
    scene["bufferViews"], scene["accessors"] = buffer.views, buffer.accessors
    with beside(path) as part:
        part.write_bytes(_glb(scene, bytes(buffer.content)))


def _add_hand(scene: dict[str, Any], buffer: _Buffer, animation: dict[str, Any], track: SkeletonTrack, model: HandModel) -> None:
    nodes: list[dict[str, Any]] = scene["nodes"]
    root: list[int] = scene["scenes"][0]["nodes"]
    first = len(nodes)
    turns = [quaternions(track.rotation[:, joint]) for joint in range(16)]
    for joint, name in enumerate(MANO16):
        parent = MANO16_PARENTS[joint]
        place = track.wrist_m[0] if parent < 0 else track.rest_m[joint] - track.rest_m[parent]
        nodes.append({"name": f"{track.name}_{name}", "translation": place.tolist(), "rotation": turns[joint][0].tolist()})
        if parent >= 0:
            nodes[first + parent].setdefault("children", []).append(first + joint)
    if not track.present[0] and len(track.present) > 1:
        nodes[first]["scale"] = [0.0, 0.0, 0.0]
    inverse_bind = np.tile(np.eye(4), (16, 1, 1))
    inverse_bind[:, :3, 3] = -track.rest_m
    bind = buffer.floats(inverse_bind.transpose(0, 2, 1).reshape(16, 16), "MAT4")  # matrices go column by column
    scene["skins"].append({"name": track.name, "inverseBindMatrices": bind, "joints": list(range(first, first + 16)), "skeleton": first})
    scene["meshes"].append({"name": track.name, "primitives": [_primitive(buffer, track, model)]})
    nodes.append({"name": f"{track.name}_mesh", "mesh": len(scene["meshes"]) - 1, "skin": len(scene["skins"]) - 1})
    root += [first, first + 16]
    if len(track.time_s) > 1:
        _animate(buffer, animation, track, turns, first)


def _primitive(buffer: _Buffer, track: SkeletonTrack, model: HandModel) -> dict[str, Any]:
    vertices, normals = rest_mesh(model, track)
    weights = model.data.weights[track.hand].numpy().astype(np.float64)
    joints = np.argsort(-weights, axis=1, kind="stable")[:, :INFLUENCES]
    kept = np.take_along_axis(weights, joints, 1)
    if float((1 - kept.sum(1)).max()) > 1e-3:
        raise UserError(f"the hand model {model.name!r} moves vertices by more than {INFLUENCES} joints; a skin cannot hold that")
    kept = (kept / kept.sum(1, keepdims=True)).astype("<f4")
    joints = np.where(kept > 0, joints, 0).astype(np.uint8)
    faces = model.faces[track.hand].numpy().astype("<u2").reshape(-1, 1)
    return {
        "attributes": {
            "POSITION": buffer.floats(vertices, "VEC3", _ARRAY, bounds=True),
            "NORMAL": buffer.floats(normals / np.linalg.norm(normals, axis=1, keepdims=True), "VEC3", _ARRAY),
            "JOINTS_0": buffer.add(joints, _UBYTE, "VEC4", _ARRAY),
            "WEIGHTS_0": buffer.add(kept, _FLOAT, "VEC4", _ARRAY),
        },
        "indices": buffer.add(faces, _USHORT, "SCALAR", _ELEMENTS),
        "material": track.hand,
    }


def _animate(buffer: _Buffer, animation: dict[str, Any], track: SkeletonTrack, turns: list[np.ndarray], first: int) -> None:
    times = buffer.floats(track.time_s[:, None], "SCALAR", bounds=True)

    def channel(node: int, path: str, output: int, keys: int = times, between: str = "LINEAR") -> None:
        animation["samplers"].append({"input": keys, "output": output, "interpolation": between})
        animation["channels"].append({"sampler": len(animation["samplers"]) - 1, "target": {"node": node, "path": path}})

    channel(first, "translation", buffer.floats(track.wrist_m, "VEC3"))
    for joint in range(16):
        channel(first + joint, "rotation", buffer.floats(turns[joint], "VEC4"))
    if not track.present.all():
        change = np.flatnonzero(np.diff(track.present.astype(np.int8), prepend=2))
        size = np.repeat(track.present[change].astype(float)[:, None], 3, 1)
        keys = buffer.floats(track.time_s[change][:, None], "SCALAR", bounds=True)
        channel(first, "scale", buffer.floats(size, "VEC3"), keys, "STEP")


def _material(hand: int) -> dict[str, Any]:
    # Colours in glTF are linear; the palette is sRGB.
    colour = [c / 255 / 12.92 if c / 255 <= 0.04045 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in HAND_RGB[hand]]
    shading = {"baseColorFactor": [*colour, 1.0], "metallicFactor": 0.0, "roughnessFactor": 0.6}
    return {"name": SIDES[hand], "pbrMetallicRoughness": shading, "doubleSided": True}


def _camera(motion: HandMotion) -> dict[str, Any]:
    """The photo's camera; its principal point, for which glTF has no place, is among the extras."""
    fx, fy = motion.camera.focal_px.tolist()
    tall = motion.height_px / fy
    perspective = {"yfov": 2 * math.atan(tall / 2), "aspectRatio": motion.width_px / fx / tall, "znear": 0.01}
    extras = {"camera_matrix": motion.camera.matrix().tolist(), "image_size_px": [motion.width_px, motion.height_px]}
    return {"name": "photo", "type": "perspective", "perspective": perspective, "extras": extras | {"source": motion.camera_source}}


def _glb(scene: dict[str, Any], content: bytes) -> bytes:
    """The container: a header and two chunks, each padded to four bytes."""
    text = json.dumps(scene, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    content += bytes(-len(content) % 4)
    total = 12 + 8 + len(text) + 8 + len(content)
    head = struct.pack("<3I", _GLB_MAGIC, 2, total)
    return head + struct.pack("<2I", len(text), _JSON_CHUNK) + text + struct.pack("<2I", len(content), _BIN_CHUNK) + content
