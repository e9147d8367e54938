"""A scene as a GLB file, to look at from all sides. Colours are those of the vertices; patterns and lights stay behind."""

import os
from pathlib import Path

import numpy as np
import trimesh

from twohands.synth.scene import Scene
from twohands.synth.things import Piece

GLTF_FROM_CAMERA = np.diag([1.0, -1.0, -1.0])
"""glTF is y up and looks along -z."""


def write_glb(scene: Scene, path: Path) -> None:
    """Writes the scene's pieces as meshes with vertex colours; the file appears whole or not at all."""
    exported = trimesh.Scene()
    for k, piece in enumerate(scene.pieces):
        mesh = trimesh.Trimesh(piece.vertices_m @ GLTF_FROM_CAMERA.T, piece.faces, vertex_colors=_encoded(piece), process=False)
        kind = ("left hand", "right hand", "thing")[piece.hand]
        exported.add_geometry(mesh, node_name=f"{k:02d} {kind}", geom_name=f"{k:02d} {kind}")
    beside = path.with_name(path.name + ".part")
    beside.write_bytes(exported.export(file_type="glb"))
    os.replace(beside, path)


def _encoded(piece: Piece) -> np.ndarray:
    """Display colours (vert, 4) uint8 of what each vertex shows."""
    colour = piece.colour.astype(np.float64).copy()
    if piece.layers is not None:
        for layer, material in zip(piece.layers.T, piece.materials[1:], strict=False):
            if material.colour is not None:
                colour[layer > 0] = material.colour
    rgb = np.clip(colour, 0, 1) ** (1 / 2.2)
    return np.round(np.concatenate([rgb, np.ones((len(rgb), 1))], 1) * 255).astype(np.uint8)
