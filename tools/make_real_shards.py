"""Turns real photos with teacher keypoints into training shards: the hand model is fitted to every trusted hand, the photo is cut around it.

    python tools/label_photos.py PHOTOS labels.npz          (in an environment with mediapipe)
    python tools/make_real_shards.py PHOTOS labels.npz OUT

The fit gives pose, shape and place; segmentation and depth are rendered from the fitted mesh. How large a hand is no photo tells: all are made
larger by the factor that makes them as large as the model's mean hand in the mean, each with its distance. The shards stay outside the project."""

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from twohands.data.shards import write_shard
from twohands.geometry.camera import Camera
from twohands.hands.bundled import load_bundled_hand, load_hand_asset
from twohands.hands.from_keypoints import hands_from_keypoints
from twohands.hands.model import HandModel
from twohands.hands.parameters import HandParameters
from twohands.hands.rigid import resized_hands
from twohands.joints import OPENPOSE21_PARENTS
from twohands.schema import Sample
from twohands.synth.photo import hand_maps
from twohands.training.photo_shards import cut_square

FOV_DEG = 60.0
SIZE = 256
TRUSTED = 0.66


def fit_labels(labels: dict[str, np.ndarray], rows: np.ndarray, hand: HandModel) -> tuple[HandParameters, Tensor, Tensor]:
    """Parameters (n, 2, ...) of the labelled hands, each in its own side's slot, with the mean 2D error in shares of the hand's size."""
    photo, side = labels["photo"][rows], torch.from_numpy(labels["side"][rows].astype(np.int64))
    cameras = [Camera.from_fov(int(labels["width_px"][p]), int(labels["height_px"][p]), FOV_DEG) for p in photo]
    xy = torch.from_numpy(labels["keypoints_px"][rows])
    rays = torch.stack([c.rays(k)[..., :2] for c, k in zip(cameras, xy, strict=True)])
    found, error = hands_from_keypoints(hand, load_hand_asset().limits, rays, torch.from_numpy(labels["keypoints_world_m"][rows]), side)
    return found, error, side


def bone_length_m(hand: HandModel, parameters: HandParameters) -> Tensor:
    """Of all bones of each hand together."""
    points = hand.pose_hands(parameters).keypoints()
    return (points[..., 1:, :] - points[..., list(OPENPOSE21_PARENTS[1:]), :]).norm(dim=-1).sum(-1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("labels", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--limit", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    with np.load(args.labels) as file:
        labels = {name: file[name] for name in file.files}
    rows = np.flatnonzero(labels["trust"] > TRUSTED)
    rng = np.random.default_rng(0)
    if args.limit:
        rows = np.sort(rng.permutation(rows)[: args.limit])
    hand = load_bundled_hand()
    parts = [fit_labels(labels, rows[i : i + 64], hand) for i in range(0, len(rows), 64)]
    pose, shape, translation = (torch.cat([getattr(p[0], name) for p in parts]) for name in ("pose", "shape", "translation_m"))
    error, side = torch.cat([p[1] for p in parts]), torch.cat([p[2] for p in parts])
    index = torch.arange(len(side))
    found = HandParameters(pose, shape, translation)
    factor = float(bone_length_m(hand, HandParameters.zeros())[1] / bone_length_m(hand, found)[index, side].mean())
    found = resized_hands(hand, found, factor)
    pose, shape, translation = (getattr(found, name)[index, side] for name in ("pose", "shape", "translation_m"))
    print(f"made {factor:.3f} times as large: the mean hand")
    print(f"{len(rows)} hands fitted; 2D error over hand size: median {error.median():.4f}, 95 % {error.quantile(0.95):.4f}")
    good = error < 0.03
    by_photo: dict[int, list[int]] = {}
    for k, row in enumerate(rows):
        if good[k]:
            by_photo.setdefault(int(labels["photo"][row]), []).append(k)
    samples: list[Sample] = []
    # Shuffled in blocks of photos, so that neighbouring frames of one sequence stay on one side of a validation cut.
    order = sorted(by_photo)
    blocks = [order[i : i + 40] for i in range(0, len(order), 40)]
    order = [p for b in rng.permutation(len(blocks)) for p in blocks[b]]
    args.out.mkdir(parents=True, exist_ok=True)
    shard = 0
    for done, p in enumerate(order, 1):
        members = by_photo[p]
        with Image.open(args.photos / str(labels["file_name"][p])) as opened:
            photo = opened.convert("RGB")
        camera = Camera.from_fov(photo.width, photo.height, FOV_DEG)
        groups = [members] if len(members) == 2 else [[m] for m in members]
        boxes = {m: labels["keypoints_px"][rows[m]] for m in members}
        if len(members) == 2:
            both = np.concatenate([boxes[m] for m in members])
            largest = max(np.ptp(boxes[m], axis=0).max() for m in members)
            if np.ptp(both, axis=0).max() > 3.2 * largest:
                groups = [[m] for m in members]
        for group in groups:
            xy = np.concatenate([boxes[m] for m in group])
            low, high = xy.min(0), xy.max(0)
            view, view_camera = cut_square(photo, camera, (low + high) / 2, float((high - low).max() * 1.9), SIZE)
            valid = torch.zeros(2, dtype=torch.bool)
            parameters = HandParameters.zeros()
            keypoints_xy = torch.zeros(2, 21, 2)
            for m in group:
                s = int(side[m])
                valid[s] = True
                parameters.pose[s], parameters.shape[s], parameters.translation_m[s] = pose[m], shape[m], translation[m]
                keypoints_xy[s] = view_camera.project(camera.unproject(torch.from_numpy(boxes[m]), torch.ones(21)))
            parameters.translation_m[~valid] = torch.tensor([0.0, 0.0, 1.0])
            mesh = hand.pose_hands(parameters).mesh()
            priors = hand_maps(hand, mesh, view_camera, SIZE, SIZE, valid)
            samples.append(
                Sample(
                    image=torch.from_numpy(view).permute(2, 0, 1).contiguous(), camera=view_camera, hand_valid=valid, keypoints_xy=keypoints_xy,
                    keypoint_visible=valid[:, None].float().expand(2, 21), keypoints_camera_m=mesh.keypoints_m,
                    keypoints_3d_valid=valid[:, None].expand(2, 21), parameters=parameters, parameters_valid=valid,
                    box_xyxy_px=torch.cat([keypoints_xy.amin(1), keypoints_xy.amax(1)], -1), priors=priors,
                    source="teacher/" + str(labels["file_name"][p]).split("/")[0],
                )
            )  # fmt: skip
        if len(samples) >= 500 or done == len(order):
            write_shard(args.out / f"{shard:05d}.npz", samples)
            shard, samples = shard + 1, []
    print(f"{shard} shards in {args.out}")


if __name__ == "__main__":
    main()
