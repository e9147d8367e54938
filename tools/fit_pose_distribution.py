"""The distribution of finger poses on real photos, `src/twohands/synth/assets/poses.npz`, from the labels of `label_photos.py`.

    python tools/fit_pose_distribution.py labels.npz [--limit 1500]

The bundled hand is fitted to each trusted hand within its joint limits; what is kept are not the hands but a mixture of Gaussians over the principal
components of their joint angles (means, spreads and shares of some tens of clusters), so that no single photo can be read back. The photos
behind the file that ships: two sets of hands under free licences (digits of a sign language, and hands before the camera's eyes)."""

import argparse
from pathlib import Path

import numpy as np
import torch
from scipy.cluster.vq import kmeans2

from make_real_shards import TRUSTED, fit_labels
from twohands.hands.bundled import load_bundled_hand, load_hand_asset
from twohands.hands.mirror import mirror_rotvec

ASSET = Path(__file__).parents[1] / "src/twohands/synth/assets/poses.npz"
COMPONENTS, CLUSTERS = 16, 32
WORST_FIT = 0.03
"""Mean distance of keypoints from the fitted ones, over the hand's size, above which a fit is not believed."""
LEAST = 8
"""Hands that a cluster must hold."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("labels", type=Path)
    parser.add_argument("--limit", type=int, default=1500)
    parser.add_argument("--out", type=Path, default=ASSET)
    args = parser.parse_args()
    torch.set_num_threads(1)
    with np.load(args.labels) as file:
        labels = {name: file[name] for name in file.files}
    rows = np.flatnonzero(labels["trust"] > TRUSTED)
    rows = np.sort(np.random.default_rng(0).permutation(rows)[: args.limit])
    hand, limits = load_bundled_hand(), load_hand_asset().limits
    angles = []
    for start in range(0, len(rows), 64):
        found, error, side = fit_labels(labels, rows[start : start + 64], hand)
        pose = torch.where((side == 1)[:, None, None], found.pose[:, 1], mirror_rotvec(found.pose[:, 0]))
        angles.append(limits.rotvec_to_angles(pose)[error < WORST_FIT][:, 1:].flatten(1).numpy())
    data = np.concatenate(angles).astype(np.float64)
    mean = data.mean(0)
    _, singular, basis = np.linalg.svd(data - mean, full_matrices=False)
    share = (singular[:COMPONENTS] ** 2).sum() / (singular**2).sum()
    scores = (data - mean) @ basis[:COMPONENTS].T
    centres, cluster = kmeans2(scores, CLUSTERS, minit="++", seed=3)
    rest = (data - mean - scores @ basis[:COMPONENTS]).std(0)
    kept = [k for k in range(CLUSTERS) if (cluster == k).sum() >= LEAST]
    spread = np.stack([scores[cluster == k].std(0) for k in kept])
    weight = np.array([(cluster == k).sum() for k in kept], float)
    arrays = {
        "mean_rad": mean, "basis": basis[:COMPONENTS], "centres_rad": centres[kept], "spread_rad": spread, "weight": weight / weight.sum(),
        "rest_rad": rest,
    }  # fmt: skip
    np.savez_compressed(args.out, **{name: a.astype(np.float32) for name, a in arrays.items()})
    print(
        f"{len(data)} of {len(rows)} hands; {COMPONENTS} components hold {share:.3f}; {len(kept)} clusters; {args.out.stat().st_size} bytes"
    )


if __name__ == "__main__":
    main()
