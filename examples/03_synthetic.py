"""Synthetic photos of two hands: each is a pure function of its seed, and everything about it is known.

python examples/03_synthetic.py [OUT]
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from twohands.joints import OPENPOSE21_BONES
from twohands.palette import HAND_RGB
from twohands.schema import Sample
from twohands.synth.photo import take_photo
from twohands.synth.scene import SceneKnobs


def panels(sample: Sample) -> np.ndarray:
    """Photo, keypoints (hidden ones hollow), parts and depth, in one row."""
    photo = Image.fromarray(sample.image.permute(1, 2, 0).numpy())
    drawn = photo.copy()
    draw = ImageDraw.Draw(drawn)
    for hand in (0, 1):
        if sample.hand_valid[hand]:
            xy = sample.keypoints_xy[hand].numpy()
            for a, b in OPENPOSE21_BONES:
                draw.line([*xy[a], *xy[b]], fill=HAND_RGB[hand])
            for (x, y), seen in zip(xy, sample.keypoint_visible[hand].tolist(), strict=True):
                draw.ellipse([x - 2, y - 2, x + 2, y + 2], fill=(255, 255, 255) if seen else None, outline=HAND_RGB[hand])
    assert sample.priors is not None
    parts = sample.priors.segmentation.numpy()
    colours = np.random.default_rng(0).integers(60, 255, (33, 3)).astype(np.uint8)
    colours[0] = 0
    depth = sample.priors.depth_m.numpy()
    near = np.zeros(depth.shape, np.uint8)
    if (depth > 0).any():
        low, high = depth[depth > 0].min(), depth.max()
        near[depth > 0] = 255 - 195 * (depth[depth > 0] - low) / max(high - low, 1e-6)
    maps = [Image.fromarray(colours[parts]), Image.fromarray(near).convert("RGB")]
    return np.concatenate([np.asarray(x.resize(photo.size, Image.Resampling.NEAREST)) for x in (photo, drawn, *maps)], 1)


def main(out: Path = Path("out/03_synthetic"), count: int = 4) -> None:
    out.mkdir(parents=True, exist_ok=True)
    knobs = SceneKnobs(framing="close", two_hands=1.0)
    samples = [take_photo(knobs, seed) for seed in range(count)]
    Image.fromarray(np.concatenate([panels(sample) for sample in samples])).save(out / "samples.png")
    for seed, sample in enumerate(samples):
        left, right = sample.keypoints_camera_m[:, 0]
        print(f"seed {seed}: wrists {1000 * float((left - right).norm()):.0f} mm apart, focal length {sample.camera.focal_px[0]:.0f} px")
    print(f"look at {out / 'samples.png'}")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:2]))
