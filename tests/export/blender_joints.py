"""Run by Blender, not by pytest: imports a GLB or BVH and writes down where every bone begins (and, of a GLB, every vertex) in every frame.

blender --background --python-exit-code 1 --python blender_joints.py -- FILE OUT.json FRAMES FPS"""

import builtins
import json
import sys

import bpy
import numpy

# Debian 12's Blender 3.4 is older than its own numpy 1.24, which has dropped this name, and than its Python 3.11 (see below).
if "bool" not in vars(numpy):
    numpy.bool = bool
plain_open = open


def open_anew(path, mode="r", *more, **named):
    """`open` that ignores the mode U, with which that Blender opens BVH files."""
    return plain_open(path, mode.replace("U", ""), *more, **named)


def main() -> None:
    builtins.open = open_anew
    path, out, frames, fps = sys.argv[sys.argv.index("--") + 1 :]
    bpy.ops.wm.read_factory_settings(use_empty=True)
    scene = bpy.context.scene
    scene.render.fps, scene.render.fps_base = round(float(fps)), 1.0
    if path.endswith(".bvh"):
        bpy.ops.import_anim.bvh(filepath=path, use_fps_scale=False, update_scene_fps=False)
    else:
        bpy.ops.import_scene.gltf(filepath=path)
    # Blender counts from 1 in a BVH and from 0 in a GLB.
    first = 1 if path.endswith(".bvh") else 0
    found = []
    for frame in range(int(frames)):
        scene.frame_set(frame + first)
        graph = bpy.context.evaluated_depsgraph_get()
        bones, meshes = {}, {}
        for thing in scene.objects:
            now = thing.evaluated_get(graph)
            if thing.type == "ARMATURE":
                for bone in now.pose.bones:
                    bones[bone.name] = list(now.matrix_world @ bone.head)
            elif thing.type == "MESH":
                mesh = now.to_mesh()
                meshes[thing.name] = [list(now.matrix_world @ v.co) for v in mesh.vertices]
                now.to_mesh_clear()
        found.append({"bones": bones, "meshes": meshes})
    cameras = [[c.data.angle_x, c.data.angle_y, list(c.matrix_world.translation)] for c in scene.objects if c.type == "CAMERA"]
    with open(out, "w") as file:
        json.dump({"frames": found, "cameras": cameras}, file)


main()
