"""From a photo to two hands: what the result holds, and how it leaves the program.

python examples/01_photo.py [PHOTO] [OUT]
"""

import sys
from importlib import resources
from pathlib import Path

import twohands


def main(photo: str | Path | None = None, out: Path = Path("out/01_photo")) -> None:
    photo = photo or Path(str(resources.files("twohands") / "example" / "two_hands.jpg"))
    out.mkdir(parents=True, exist_ok=True)

    model = twohands.load()
    result = model.reconstruct(photo)
    for person in result.people:
        for hand, side in enumerate(("left", "right")):
            if person.hand_present[hand]:
                x, y, z = person.keypoints_m[hand, 0].tolist()
                print(f"person {person.person}, {side} hand, confidence {person.score[hand]:.2f}: wrist at {x:.3f} {y:.3f} {z:.3f} m")
        print(f"  the meshes share {person.penetration_cm3:.2f} cm3; before refinement {person.penetration_before_cm3:.2f}")
        print(f"  focal length {person.camera.focal_px[0]:.0f} px, from: {person.camera_source}")

    twohands.write_picture(out / "views.png", twohands.side_by_side(result, model.hand_model))
    if result.people:
        twohands.write_glb(out / "hands.glb", result, model.hand_model)
        twohands.write_npz(out / "hands.npz", result, model.hand_model)


if __name__ == "__main__":
    main(*sys.argv[1:2], *map(Path, sys.argv[2:3]))
