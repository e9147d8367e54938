"""Hands of HaMeR or WiLoR, pulled apart where they pass through one another: their output in, the same arrays out.

python examples/08_hamer.py HANDS.npz MANO_FOLDER [OUT.npz] [FOCAL_PX]

HANDS.npz holds one photo's hands, saved by the lines of docs/RECIPES.md in either demo: `global_orient` (n, 1, 3, 3), `hand_pose` (n, 15, 3, 3),
`betas` (n, 10), `cam_t` (n, 3), `right` (n), `focal_px` and `img_size` (width, height). FOCAL_PX is the photo's real focal length; without it a
view of 60 degrees is assumed. MANO_FOLDER holds MANO_LEFT.pkl and MANO_RIGHT.pkl; "bundled" takes the free hand for both.
"""

import math
import sys
from pathlib import Path

import numpy as np
import torch

from twohands.geometry.rotations import matrix_to_rotvec, rotvec_to_matrix
from twohands.hands.bundled import load_bundled_hand
from twohands.hands.mano import load_mano
from twohands.hands.mirror import LEFT, RIGHT, left_as_right_rotvec
from twohands.hands.parameters import HandParameters
from twohands.refine.refiner import Refiner, refine_pairs


def pairs_of(right: np.ndarray, cam_t: np.ndarray) -> list[tuple[int, int]]:
    """(left, right) hands that belong together, the nearest first; a hand that is left over has no pair."""
    found: list[tuple[int, int]] = []
    distance = {(a, b): float(np.linalg.norm(cam_t[a] - cam_t[b])) for a in np.flatnonzero(right == 0) for b in np.flatnonzero(right == 1)}
    for a, b in sorted(distance, key=distance.__getitem__):
        if not any(a == c or b == d for c, d in found):
            found.append((int(a), int(b)))
    return found


def main(hands: str | Path, mano: str | Path, out: str | Path = "out/08_hamer.npz", focal_px: float | None = None) -> dict[str, np.ndarray]:
    with np.load(hands) as stored:
        arrays = {name: stored[name] for name in stored.files}
    right = arrays["right"].astype(int)
    focal = float(focal_px or arrays["img_size"].max() / (2 * math.tan(math.radians(60) / 2)))
    # Their focal length is some twenty times the picture's width, so that their hands stand metres away and as many metres apart in depth.
    # At the real focal length a hand of the same size in the picture is nearer by the same factor.
    cam_t = arrays["cam_t"] * [1.0, 1.0, focal / float(arrays["focal_px"])]
    pairs = pairs_of(right, cam_t)
    rows = torch.tensor(pairs, dtype=torch.long).reshape(-1, 2)
    rotation = torch.from_numpy(np.concatenate([arrays["global_orient"], arrays["hand_pose"]], 1)).float()
    # Both networks see a left hand as the mirrored right one and say a right hand's numbers.
    parameters = HandParameters(
        left_as_right_rotvec(matrix_to_rotvec(rotation)[rows]),
        torch.from_numpy(arrays["betas"]).float()[rows],
        torch.from_numpy(cam_t).float()[rows],
    )
    model = load_bundled_hand() if str(mano) == "bundled" else load_mano(mano, flat_hand_mean=True)
    result = refine_pairs(Refiner.load(), model, parameters, None, torch.ones(len(pairs), dtype=torch.bool), camera_frame=True)
    refined = result.parameters
    back = rotvec_to_matrix(left_as_right_rotvec(refined.pose)).numpy()
    vertices = model.pose_hands(refined).mesh().vertices_m.numpy()
    arrays |= {"cam_t": cam_t, "focal_px": np.array(focal), "vertices_m": np.full((len(right), *vertices.shape[2:]), np.nan, np.float32)}
    for hand in (LEFT, RIGHT):
        at = rows[:, hand].numpy()
        arrays["global_orient"][at], arrays["hand_pose"][at] = back[:, hand, :1], back[:, hand, 1:]
        arrays["betas"][at], arrays["cam_t"][at] = refined.shape[:, hand].numpy(), refined.translation_m[:, hand].numpy()
        arrays["vertices_m"][at] = vertices[:, hand]  # in the camera's frame
    for (a, b), before, after in zip(pairs, result.volume_before_cm3.tolist(), result.volume_after_cm3.tolist(), strict=True):
        print(f"hands {a} (left) and {b} (right): {before:.2f} -> {after:.2f} cm3")
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    np.savez(out, **arrays)
    return arrays


if __name__ == "__main__":
    main(*sys.argv[1:4], *map(float, sys.argv[4:5]))
