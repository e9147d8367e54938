"""Where a network that learnt from annotated photos puts the keypoints of the bundled hand.

    python tools/measure_keypoints.py SHARDS... [--hands 400]

SHARDS are folders of `twohands synth`. The frozen landmark network behind stage 1 reads hands that are by themselves in true boxes; how far its
readings lie from the joints and tips that the hand model has, is averaged over views and poses to one 3D offset a keypoint (robust least squares of the
2D offsets, in a frame of the palm, for a palm of the mean hand's length). `hands.bundled.ANNOTATED` was chosen from these numbers.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

import twohands
from twohands.data.shards import ShardSet
from twohands.hands.bundled import load_bundled_hand
from twohands.hands.model import HandModel
from twohands.hands.parameters import HandParameters
from twohands.joints import MIDDLE_MCP, OPENPOSE21
from twohands.regress.crops import view_pairs
from twohands.regress.infer import Stage1
from twohands.schema import HandPair, Sample

LEAST_PX = 60
"""Size of a hand in the picture, and"""
APART = 1.5
"""distance of two hands in sizes, from which they are read."""
MOST_OFF = 0.08
"""Median distance of a reading in sizes beyond which it says nothing about the rest,"""
DOUBT = 0.03
"""and distance from which on a keypoint's counts less."""
INDEX_MCP, LITTLE_MCP = OPENPOSE21.index("index1"), OPENPOSE21.index("pinky1")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shards", type=Path, nargs="+")
    parser.add_argument("--hands", type=int, default=400, help="read of each folder")
    options = parser.parse_args()
    stage1, model = twohands.load(prior="encoder").regressor, load_bundled_hand()
    assert isinstance(stage1, Stage1)
    rows: list[tuple[np.ndarray, np.ndarray]] = []
    for folder in options.shards:
        shards, wanted = ShardSet.read(sorted(folder.glob("*.npz"))), len(rows) + options.hands
        for k in range(len(shards)):
            sample = shards.sample(k)
            for hand in alone(sample):
                if len(rows) < wanted and (row := read(stage1, model, sample, hand)) is not None:
                    rows.append(row)
    print(f"{len(rows)} hands; offset in mm across the palm (to the thumb), along it (to the fingers), out of its back")
    A, b = (np.stack(part) for part in zip(*rows, strict=True))
    for k, name in enumerate(OPENPOSE21):
        print(f"{name:8s}", " ".join(f"{1e3 * x:6.1f}" for x in robust(A[:, k], b[:, k])))


def alone(sample: Sample) -> list[int]:
    """Hands that are large enough and not near another one."""
    xy, size = sample.keypoints_xy, extent(sample.keypoints_xy)
    valid = sample.hand_valid.tolist()
    if all(valid) and float((xy[0].mean(0) - xy[1].mean(0)).norm()) < APART * float(size.max()):
        return []
    return [hand for hand in (0, 1) if valid[hand] and float(size[hand]) >= LEAST_PX]


def extent(xy: Float[torch.Tensor, "hand 21 2"]) -> Float[torch.Tensor, "hand"]:
    return (xy.amax(1) - xy.amin(1)).amax(-1)


@torch.inference_mode()
def read(stage1: Stage1, model: HandModel, sample: Sample, hand: int) -> tuple[np.ndarray, np.ndarray] | None:
    """(21, 2, 3) and (21, 2): what an offset in the palm's frame does to the picture, in sizes of the hand, and how far each reading is off. None
    where the hand is read badly."""
    xy, present = sample.keypoints_xy, torch.arange(2) == hand
    box = torch.cat([xy.amin(1), xy.amax(1)], -1)[hand].expand(2, 4)
    along = torch.nn.functional.normalize(xy[:, MIDDLE_MCP] - xy[:, 0], dim=-1)
    view = view_pairs(sample.camera, HandPair(box, along, present)[None], stage1.network.config.crop_px)
    prediction, _ = stage1.network(view.crop.resample(sample.image, sample.camera), view.geometry, present[None])
    assert prediction.reading is not None
    rays = view.crop.rays((prediction.reading.joints_xy.float() + 0.5) * view.crop.size_px)[0, hand].numpy()
    parameters = sample.parameters
    point = model.pose_hands(HandParameters(parameters.pose, parameters.shape, parameters.translation_m)).joints_and_tips()[hand].numpy()
    true = point[:, :2] / point[:, 2:]
    size = float(np.ptp(true, axis=0).max())
    off = (rays[:, :2] / rays[:, 2:] - true) / size
    if np.median(np.linalg.norm(off, axis=-1)) > MOST_OFF:
        return None
    up = point[MIDDLE_MCP] - point[0]
    length, mirror = np.linalg.norm(up), 1.0 if hand else -1.0
    up = up / length
    back = np.cross(point[LITTLE_MCP] - point[INDEX_MCP], up) * mirror
    back /= np.linalg.norm(back)
    frame = np.stack([np.cross(back, up) * mirror, up, back], 1) * length / palm_m(model)
    project = np.zeros((21, 2, 3))
    project[:, 0, 0] = project[:, 1, 1] = 1
    project[:, :, 2] = -true
    return project / point[:, 2, None, None] @ frame / size, off


def palm_m(model: HandModel) -> float:
    return float((model.joint_template[1, 4] - model.joint_template[1, 0]).norm())


def robust(A: Float[np.ndarray, "n 2 3"], b: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, "3"]:
    """Least squares in which far ones count less (absolute beyond DOUBT)."""
    offset = np.zeros(3)
    for _ in range(20):
        left = np.linalg.norm((A @ offset) - b, axis=-1)
        weight = 1 / np.maximum(left, DOUBT)
        square = np.einsum("n,nij,nik->jk", weight, A, A)
        # Views from the front say little of what is out of the palm.
        square += 0.02 * np.trace(square) / 3 * np.eye(3)
        offset = np.linalg.solve(square, np.einsum("n,nij,ni->j", weight, A, b))
    return offset


if __name__ == "__main__":
    main()
