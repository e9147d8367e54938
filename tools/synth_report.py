"""What the synthetic scenes cover, as tables: joint angles against their limits, fists, hidden joints, touching pairs, sizes in pixels.

    python tools/synth_report.py [--count 300] [--seed 70] [--backgrounds FOLDER] [--borders FOLDER] [--sheets OUT]

Renders `count` scenes of each framing; with `--sheets` also a contact sheet of each, and one of real photos beside it if `--real FOLDER` is given."""

import argparse
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy.spatial import cKDTree

from twohands.hands.bundled import load_bundled_hand, load_hand_asset
from twohands.hands.mirror import mirror_rotvec
from twohands.joints import FINGERS, MANO16
from twohands.schema import Sample
from twohands.synth.backgrounds import Photos
from twohands.synth.generate import SEED_STRIDE
from twohands.synth.photo import take_photo
from twohands.synth.scene import SceneKnobs

FRAMINGS = ("close", "wide", "person", "ego")
TOUCHING_MM = 3.0
NARROW_DEG = 21.0
"""Axes with a smaller range are left out of the table: joints give way a little there, and that is all."""
FIST_DEG = 60.0
"""All four long fingers bent by this at the middle joint."""
SHEET_COLUMNS, SHEET_ROWS, SHEET_TILE = 8, 6, 192


def angles_deg(samples: list[Sample]) -> np.ndarray:
    """(hand, 16, 3) flexion, spread, twist of all hands that are asked for, as right hands."""
    limits = load_hand_asset().limits
    rows = []
    for sample in samples:
        for h in (0, 1):
            if sample.hand_valid[h]:
                pose = sample.parameters.pose[h]
                rows.append(torch.rad2deg(limits.rotvec_to_angles(pose if h == 1 else mirror_rotvec(pose))).numpy())
    return np.stack(rows)


def coverage_table(angles: np.ndarray) -> Iterable[str]:
    """Deciles of each joint's three angles beside the limits, and how much of the range the middle 98 % cover."""
    limits = np.rad2deg(load_hand_asset().limits.limits_rad.numpy())
    yield "| joint | axis | limits | 1 % | 10 % | 50 % | 90 % | 99 % | at a limit | covered |"
    yield "|---|---|---|---|---|---|---|---|---|---|"
    for joint in range(1, 16):
        for axis, name in enumerate(("flexion", "spread", "twist")):
            low, high = limits[joint, axis]
            if high - low < NARROW_DEG:
                continue
            values = angles[:, joint, axis]
            q = np.percentile(values, [1, 10, 50, 90, 99])
            held = np.mean((values < low + 0.5) | (values > high - 0.5))
            cells = " | ".join(f"{x:.0f}" for x in q)
            yield f"| {MANO16[joint]} | {name} | {low:.0f} to {high:.0f} | {cells} | {held:.2f} | {(q[4] - q[0]) / (high - low):.2f} |"


def counts(samples: list[Sample], angles: np.ndarray) -> dict[str, float]:
    """The shares of the report."""
    hand = load_bundled_hand()
    middles = [MANO16.index(f"{finger}2") for finger in FINGERS if finger != "thumb"]
    hidden, inside, touching, pairs, sizes, none, extra = 0, 0, 0, 0, [], 0, 0
    for sample in samples:
        none += not bool(sample.hand_valid.any())
        extra += 0 if sample.extra is None else int(sample.extra.valid.sum())
        size = sample.image.shape[-1]
        for h in (0, 1):
            if sample.hand_valid[h]:
                xy = sample.keypoints_xy[h]
                within = ((xy >= 0) & (xy < size)).all(-1)
                inside += int(within.sum())
                hidden += int((within & (sample.keypoint_visible[h] == 0)).sum())
                sizes.append(float((xy.amax(0) - xy.amin(0)).max()))
        if bool(sample.hand_valid.all()):
            vertices = hand.pose_hands(sample.parameters).mesh().vertices_m.numpy()
            pairs += 1
            touching += bool(cKDTree(vertices[0]).query(vertices[1])[0].min() < TOUCHING_MM / 1000)
    q = np.percentile(sizes, [5, 25, 50, 75, 95])
    return {
        "hands": len(sizes), "other people's hands": extra, "without a hand": none / len(samples),
        "both hands": pairs / len(samples), "pairs that touch": touching / max(pairs, 1),
        "fists": float((angles[:, middles, 0] > FIST_DEG).all(1).mean()), "joints hidden": hidden / max(inside, 1),
        **{f"size {p} %, px": float(x) for p, x in zip((5, 25, 50, 75, 95), q, strict=True)},
    }  # fmt: skip


def sheet(pictures: list[np.ndarray], path: Path) -> None:
    tiles = [np.asarray(Image.fromarray(p).resize((SHEET_TILE, SHEET_TILE))) for p in pictures[: SHEET_COLUMNS * SHEET_ROWS]]
    tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % SHEET_COLUMNS)
    rows = [np.concatenate(tiles[i : i + SHEET_COLUMNS], 1) for i in range(0, len(tiles), SHEET_COLUMNS)]
    Image.fromarray(np.concatenate(rows)).save(path)


def real_pictures(folder: Path) -> list[np.ndarray]:
    """Squares from the middle of some photos."""
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in {".jpg", ".jpeg", ".png"})
    chosen = np.random.default_rng(1).permutation(len(files))[: SHEET_COLUMNS * SHEET_ROWS]
    found = []
    for k in chosen:
        with Image.open(files[k]) as image:
            side = min(image.size)
            left, top = (image.width - side) // 2, (image.height - side) // 2
            found.append(np.asarray(image.convert("RGB").crop((left, top, left + side, top + side))))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--seed", type=int, default=70)
    parser.add_argument("--backgrounds", type=Path)
    parser.add_argument("--borders", type=Path)
    parser.add_argument("--sheets", type=Path)
    parser.add_argument("--real", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows, angles = {}, []
    photos = Photos(args.backgrounds, args.borders)
    for framing in FRAMINGS:
        knobs = SceneKnobs(framing=framing)
        first = args.seed * SEED_STRIDE
        samples = [take_photo(knobs, first + k, photos) for k in range(args.count)]
        angles.append(angles_deg(samples))
        rows[framing] = counts(samples, angles[-1])
        if args.sheets:
            args.sheets.mkdir(parents=True, exist_ok=True)
            sheet([s.image.permute(1, 2, 0).numpy() for s in samples], args.sheets / f"{framing}.png")
    if args.sheets and args.real:
        sheet(real_pictures(args.real), args.sheets / "real.png")
    names = list(rows["close"])
    print("| | " + " | ".join(FRAMINGS) + " |\n|---|" + "---|" * len(FRAMINGS))
    for name in names:
        values = [rows[f][name] for f in FRAMINGS]
        print(
            f"| {name} | "
            + " | ".join(f"{v:.0f}" if name in ("hands", "other people's hands") or "px" in name else f"{v:.2f}" for v in values)
            + " |"
        )
    print()
    for line in coverage_table(np.concatenate(angles)):
        print(line)


if __name__ == "__main__":
    main()
