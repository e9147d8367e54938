"""Whole photos with teacher keypoints as training shards for the detector.

    python tools/make_detector_shards.py PHOTOS labels.npz OUT

Only photos whose every detected hand is trusted are taken. Each is fitted into a square of 256 px, black around it."""

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from twohands.data.shards import write_shard
from twohands.geometry.camera import Camera
from twohands.hands.parameters import HandParameters
from twohands.schema import Sample

SIZE = 256
TRUSTED = 0.6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("labels", type=Path)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    with np.load(args.labels) as file:
        labels = {name: file[name] for name in file.files}
    by_photo: dict[int, list[int]] = {}
    for row, photo in enumerate(labels["photo"]):
        by_photo.setdefault(int(photo), []).append(row)
    rng = np.random.default_rng(0)
    blocks = [sorted(by_photo)[i : i + 40] for i in range(0, len(by_photo), 40)]
    samples: list[Sample] = []
    for photo in (p for b in rng.permutation(len(blocks)) for p in blocks[b]):
        rows = by_photo[photo]
        sides = [int(labels["side"][row]) for row in rows]
        if any(labels["trust"][row] < TRUSTED for row in rows) or len(set(sides)) < len(sides):
            continue
        with Image.open(args.photos / str(labels["file_name"][photo])) as opened:
            image = opened.convert("RGB")
        scale = SIZE / max(image.size)
        small = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS)
        canvas = Image.new("RGB", (SIZE, SIZE))
        left, top = (SIZE - small.width) // 2, (SIZE - small.height) // 2
        canvas.paste(small, (left, top))
        xy, valid = torch.zeros(2, 21, 2), torch.zeros(2, dtype=torch.bool)
        for row, side in zip(rows, sides, strict=True):
            xy[side] = torch.from_numpy(labels["keypoints_px"][row]) * scale + torch.tensor([left, top])
            valid[side] = True
        samples.append(
            Sample(
                image=torch.from_numpy(np.asarray(canvas).copy()).permute(2, 0, 1),
                camera=Camera.from_fov(SIZE, SIZE, 60.0),
                hand_valid=valid,
                keypoints_xy=xy,
                keypoint_visible=valid[:, None].float().expand(2, 21),
                keypoints_camera_m=torch.zeros(2, 21, 3),
                keypoints_3d_valid=torch.zeros(2, 21, dtype=torch.bool),
                parameters=HandParameters.zeros(),
                parameters_valid=torch.zeros(2, dtype=torch.bool),
                box_xyxy_px=torch.cat([xy.amin(1), xy.amax(1)], -1),
                priors=None,
                source="teacher/" + str(labels["file_name"][photo]).split("/")[0],
            )
        )
    for first in range(0, len(samples), 500):
        write_shard(args.out / f"{first // 500:05d}.npz", samples[first : first + 500])
    print(f"{len(samples)} photos in {args.out}")


if __name__ == "__main__":
    main()
