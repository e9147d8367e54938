"""From a result to Blender: an animated GLB and BVH skeletons, and the command that turns the GLB into a .blend file.

python examples/04_blender.py RESULT.npz [OUT]
"""

import sys
from pathlib import Path

from twohands.export import read_motion, write_bvh, write_skinned_glb
from twohands.hands.bundled import load_bundled_hand


def main(result: Path, out: Path = Path("out/04_blender")) -> list[Path]:
    out.mkdir(parents=True, exist_ok=True)
    motion, hand = read_motion(result), load_bundled_hand()
    glb = out / f"{result.stem}.glb"
    write_skinned_glb(glb, motion, hand)
    paths = [glb, *write_bvh(out, result.stem, motion, hand)]
    expression = (
        f"import bpy; bpy.ops.import_scene.gltf(filepath={str(glb)!r}); bpy.ops.wm.save_as_mainfile(filepath={str(glb)[:-4] + '.blend'!r})"
    )
    print(f'blender --background --python-expr "{expression}"')
    return paths


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:3]))
