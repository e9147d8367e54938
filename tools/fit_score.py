"""Fits what detector and stage 1 together say of a detection: `people.SCORE_WEIGHTS`, for the weights that the package holds.

    python tools/fit_score.py --shards DIR ... [--count 80] [--regressor WEIGHTS] [--detector WEIGHTS]

Of the last pictures of each folder, which training holds back, every detection is asked about. It is right if stage 1, looking there, reads a hand of
the side that was asked for and its keypoints lie within .3 of the hand's size of the true ones. Each half of the pictures is judged by the weights that
were fitted to the other half; printed are those of all, how well they tell right from wrong (area under the curve) beside the detector alone and beside
detector times presence, and by folder what share of right and how many wrong ones a limit keeps."""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

import twohands
from twohands.data.shards import ShardSet
from twohands.detector import Detector
from twohands.hands.bundled import load_bundled_hand, load_hand_asset
from twohands.people import LEAST_SCORE, hand_pair, score_evidence, sides_of_people
from twohands.pipeline import Pipeline
from twohands.regress.infer import Stage1
from twohands.schema import Sample

RIGHT = 0.3
LIMITS = (0.25, 0.3, 0.35, 0.4, 0.5)
PULL = 0.01
"""Ridge on the weights: a folder or two may hold no wrong detection."""


def statements(model: Pipeline, sample: Sample) -> list[tuple[list[float], bool]]:
    """(`people.score_evidence`, right) of a picture's detections."""
    image = sample.image.permute(1, 2, 0).numpy().copy()
    detection = model.detector(image)
    people = sides_of_people(detection)
    truth = [(h, sample.keypoints_xy[h]) for h in (0, 1) if sample.hand_valid[h]]
    if sample.extra is not None:
        extra = sample.extra
        truth += [(int(extra.side[k]), extra.keypoints_xy[k]) for k in range(len(extra.valid)) if extra.valid[k]]
    rows = []
    pairs = [hand_pair(detection, sides) for sides in people]
    for sides, pair, hands in zip(people, pairs, model.regressor.infer(sample.image, sample.camera, pairs), strict=True):
        xy = sample.camera.project(hands.keypoints_m)
        evidence = score_evidence(torch.tensor([0.5 if row is None else float(detection.score[row]) for row in sides]), pair, hands)
        for side, row in enumerate(sides):
            if row is not None:
                right = any(s == side and _error(xy[side], true_xy) < RIGHT for s, true_xy in truth)
                rows.append((evidence[side].tolist(), right))
    return rows


def _error(xy: Tensor, true_xy: Tensor) -> float:
    """Mean distance of the keypoints over the true hand's size."""
    return float((xy - true_xy).norm(dim=-1).mean() / (true_xy.amax(0) - true_xy.amin(0)).max().clamp_min(1.0))


def fitted(x: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Weights of a logistic regression, by Newton's method."""
    w = np.zeros(x.shape[1])
    for _ in range(50):
        p = 1 / (1 + np.exp(-x @ w))
        w += np.linalg.solve(x.T @ (x * (p * (1 - p))[:, None]) + PULL * np.eye(len(w)), x.T @ (right - p) - PULL * w)
    return w


def area_under_curve(said: np.ndarray, right: np.ndarray) -> float:
    """How often a right one is said to be likelier than a wrong one."""
    a, b = said[right], said[~right]
    return float((a[:, None] > b).mean() + 0.5 * (a[:, None] == b).mean()) if len(a) and len(b) else float("nan")


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=Path, nargs="+", required=True)
    parser.add_argument("--count", type=int, default=80)
    parser.add_argument("--regressor", type=Path, help="weights of stage 1; the package's by default")
    parser.add_argument("--detector", type=Path)
    args = parser.parse_args()
    stage_1 = Stage1.load(load_bundled_hand(), load_hand_asset().limits, path=args.regressor)
    model = replace(twohands.load(engine="torch"), regressor=stage_1, detector=Detector.load(args.detector))
    rows = []
    for number, folder in enumerate(args.shards):
        shards = ShardSet.read(sorted(folder.glob("*.npz"))[-1:])
        for index in tqdm(range(max(0, len(shards) - args.count), len(shards)), desc=folder.name, mininterval=5):
            rows += [(number, index, *evidence, right) for evidence, right in statements(model, shards.sample(index))]
    table = np.array(rows, float)
    folder_of, half, x, right = table[:, 0], table[:, 1] % 2 == 0, table[:, 2:-1], table[:, -1] > 0.5
    found, presence = (1 / (1 + np.exp(-x[:, k])) for k in (0, 1))
    said = np.where(half, x @ fitted(x[~half], right[~half]), x @ fitted(x[half], right[half]))
    print("SCORE_WEIGHTS =", tuple(np.round(fitted(x, right), 2).tolist()))
    print(
        f"{len(table)} detections, {right.mean():.2f} of them right; area under the curve: detector alone {area_under_curve(found, right):.3f}, times "
        f"presence {area_under_curve(found * presence, right):.3f}, fitted {area_under_curve(said, right):.3f}"
    )
    probability = 1 / (1 + np.exp(-said))
    for number, folder in enumerate(args.shards):
        own = folder_of == number
        kept = [own & (probability >= limit) for limit in LIMITS]
        of = max(1, (own & right).sum())
        shares = [f"{limit}: {(k & right).sum() / of:.2f}, {(k & ~right).sum()}" for limit, k in zip(LIMITS, kept, strict=True)]
        print(
            f"{folder.name}: {(own & right).sum()} right, {(own & ~right).sum()} wrong; share of right and number of wrong ones kept by limit "
            f"(now {LEAST_SCORE}): {'  '.join(shares)}"
        )


if __name__ == "__main__":
    main()
