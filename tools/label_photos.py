"""Teacher labels for photos: MediaPipe Hands on every photo below a folder, run several ways, kept where the runs agree.

    python tools/label_photos.py PHOTOS labels.npz [--sheet labels.png]

Needs an environment of its own with mediapipe 0.10.21 (it wants numpy < 2, so not the project's). Each photo is run as it is,
mirrored, and with a wider border (the palm detector sees the whole image at 192 px, so the border sets the scale). A hand is trusted
when a plain and a mirrored run put its 21 points at the same places (mean distance below 6 % of the box side) and all runs that saw a
hand there name the same side.

The runs are appended to `labels.npz.runs.jsonl`, a line a photo, so an interrupted command goes on where it stopped.
The labels, of N photos with M hands:
    file_name (N,) unicode, relative to PHOTOS, "/" between folders; width_px, height_px (N,) i4, as stored (EXIF orientation ignored)
    photo (M,) i4 index into the photos; side (M,) i1, of the person: 0 left, 1 right; score (M,) f4, mean handedness score of the runs used
    keypoints_px (M,21,2) f4, OPENPOSE21, stored image, pixel centres at half-integers, mean of the agreeing runs
    keypoints_world_m (M,21,3) f4, OpenCV axes, origin near the hand's centre as MediaPipe gives it, mean of the agreeing runs
    trust (M,) f4: 0 not trusted; else share of runs that agree, less up to half for their spread; above 2/3 all three agree
    spread (M,) f4: mean distance of the agreeing runs' points from their mean, in box sides; runs_agreeing (M,) i1, of RUNS
"""

import argparse
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import mediapipe as mp
import numpy as np

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
SMALLEST_PX = 256
"""Longer side below which a photo is enlarged first: the landmark crop is 224 px."""
AGREEMENT = 0.06
"""Largest mean distance between two runs that agree, in box sides."""
SAME_HAND = 0.35
"""Mean distance, in box sides, below which two runs speak of the same hand at all."""
BONES = [(0, 1), (1, 2), (2, 3), (3, 4), *((a, b) for m in (5, 9, 13, 17) for a, b in ((0, m), (m, m + 1), (m + 1, m + 2), (m + 2, m + 3)))]
SIDE_BGR = ((255, 160, 0), (0, 80, 255))


@dataclass(frozen=True)
class Run:
    """One way of showing a photo to MediaPipe."""

    flipped: bool
    padding: float
    """Border on each side, of the longer image side; filled with the nearest pixel."""


RUNS = (Run(False, 0.25), Run(True, 0.25), Run(False, 0.6))


@dataclass(frozen=True)
class Detection:
    """A hand of one run, brought back to the stored image."""

    run: int
    side: int
    score: float
    keypoints_px: list
    keypoints_world_m: list


def detect(hands, image, run: int) -> list[Detection]:
    """Hands that MediaPipe finds in a BGR image under RUNS[run], in pixels of `image` and with its sides."""
    how = RUNS[run]
    height, width = image.shape[:2]
    scale = max(1.0, SMALLEST_PX / max(height, width))
    shown = image if scale == 1.0 else cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    scale_xy = np.array([shown.shape[1] / width, shown.shape[0] / height])
    border = int(how.padding * max(shown.shape[:2]))
    shown = cv2.copyMakeBorder(shown, border, border, border, border, cv2.BORDER_REPLICATE)
    if how.flipped:
        shown = shown[:, ::-1]
    result = hands.process(np.ascontiguousarray(shown[..., ::-1]))
    found = []
    for points, world, label in zip(
        result.multi_hand_landmarks or [], result.multi_hand_world_landmarks or [], result.multi_handedness or [], strict=True
    ):
        xy = np.array([[p.x * shown.shape[1], p.y * shown.shape[0]] for p in points.landmark])
        xyz = np.array([[p.x, p.y, p.z] for p in world.landmark])
        # MediaPipe assumes a selfie camera: what it calls Left in a mirrored image is a left hand, in a plain one a right hand.
        side = int(label.classification[0].label == "Left")
        if how.flipped:
            xy[:, 0] = shown.shape[1] - xy[:, 0]
            xyz[:, 0] *= -1
            side = 1 - side
        xy = (xy - border) / scale_xy
        found.append(Detection(run, side, float(label.classification[0].score), xy.round(2).tolist(), xyz.round(5).tolist()))
    return found


def box_side_px(points):
    return max(np.ptp(points[:, 0]), np.ptp(points[:, 1]), 1.0)


def distance(a, b) -> float:
    """Mean distance of two (21,2) point sets, in box sides of the larger one."""
    return float(np.linalg.norm(a - b, axis=1).mean() / max(box_side_px(a), box_side_px(b)))


def same_hand_groups(detections: list[Detection]) -> list[list[Detection]]:
    """Detections of different runs that speak of one hand, nearest pairs first."""
    points = [np.array(d.keypoints_px) for d in detections]
    group = list(range(len(detections)))
    pairs = sorted((distance(points[i], points[j]), i, j) for i in range(len(points)) for j in range(i))
    for far, i, j in pairs:
        members = [k for k in range(len(points)) if group[k] in (group[i], group[j])]
        runs = [detections[k].run for k in members]
        if far < SAME_HAND and group[i] != group[j] and len(set(runs)) == len(runs):
            group = [group[i] if g == group[j] else g for g in group]
    return [[d for d, g in zip(detections, group, strict=True) if g == name] for name in sorted(set(group))]


def judged(group: list[Detection]) -> dict:
    """One hand from the runs that saw it: mean of those that agree with the run that most agree with, and how far to trust it."""
    points = np.array([d.keypoints_px for d in group])
    far = np.array([[distance(a, b) for a in points] for b in points])
    near = far < AGREEMENT
    centre = max(range(len(group)), key=lambda k: (near[k].sum(), -far[k].mean()))
    agreeing = [k for k in range(len(group)) if near[centre, k]]
    mean = points[agreeing].mean(0)
    sides = [d.side for d in group]
    spread = float(np.mean([distance(points[k], mean) for k in agreeing]))
    # A side that changes between runs marks a guess even where the points agree; a mirrored run is the one that shows it.
    both_ways = {RUNS[group[k].run].flipped for k in agreeing} == {False, True}
    trusted = both_ways and len(set(sides)) == 1
    return {
        "side": round(float(np.mean(sides))),
        "score": float(np.mean([group[k].score for k in agreeing])),
        "keypoints_px": mean,
        "keypoints_world_m": np.mean([group[k].keypoints_world_m for k in agreeing], axis=0),
        "trust": len(agreeing) / len(RUNS) * (1.0 - 0.5 * min(1.0, spread / AGREEMENT)) if trusted else 0.0,
        "spread": spread,
        "runs_agreeing": len(agreeing),
    }


def hands_of_photo(detections: list[Detection], one_person: bool) -> list[dict]:
    """Judged hands of a photo; with one person, of two trusted hands of one side only the surer is trusted."""
    hands = [judged(g) for g in same_hand_groups(detections)]
    if one_person:
        for side in (0, 1):
            rivals = sorted((h for h in hands if h["side"] == side and h["trust"] > 0), key=lambda h: -h["trust"])
            for h in rivals[1:]:
                h["trust"] = 0.0
    return hands


def run_photos(photos: Path, journal: Path, limit: int | None) -> None:
    """Append a line to the journal for every photo below the folder that it lacks."""
    done = {json.loads(line)["file"] for line in journal.read_text().splitlines()} if journal.exists() else set()
    names = sorted(p.relative_to(photos).as_posix() for p in photos.rglob("*") if p.suffix.lower() in SUFFIXES)[:limit]
    todo = [n for n in names if n not in done]
    if not names:
        sys.exit(f"no photos ({', '.join(SUFFIXES)}) below {photos}; name the folder that holds them")
    hands = mp.solutions.hands.Hands(static_image_mode=True, max_num_hands=2, model_complexity=1, min_detection_confidence=0.5)
    with journal.open("a") as out:
        for n, name in enumerate(todo):
            image = cv2.imread(str(photos / name), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
            if image is None:
                print(f"{name}: not a readable image, left out", file=sys.stderr)
                continue
            found = [d for run in range(len(RUNS)) for d in detect(hands, image, run)]
            line = {"file": name, "width": image.shape[1], "height": image.shape[0], "detections": [asdict(d) for d in found]}
            out.write(json.dumps(line) + "\n")
            if n % 200 == 0:
                out.flush()
                print(f"{len(done) + n} of {len(names)} photos", file=sys.stderr, flush=True)


def labels(journal: Path, one_person: bool) -> dict[str, np.ndarray]:
    """The arrays of the module's docstring from the runs."""
    rows = sorted((json.loads(line) for line in journal.read_text().splitlines()), key=lambda row: row["file"])
    hands = [(n, h) for n, row in enumerate(rows) for h in hands_of_photo([Detection(**d) for d in row["detections"]], one_person)]

    def column(name, dtype, *shape):
        return np.array([h[name] for _, h in hands], dtype=dtype).reshape(len(hands), *shape)

    return {
        "file_name": np.array([row["file"] for row in rows], dtype=np.str_),
        "width_px": np.array([row["width"] for row in rows], dtype=np.int32),
        "height_px": np.array([row["height"] for row in rows], dtype=np.int32),
        "photo": np.array([n for n, _ in hands], dtype=np.int32),
        "side": column("side", np.int8),
        "score": column("score", np.float32),
        "keypoints_px": column("keypoints_px", np.float32, 21, 2),
        "keypoints_world_m": column("keypoints_world_m", np.float32, 21, 3),
        "trust": column("trust", np.float32),
        "spread": column("spread", np.float32),
        "runs_agreeing": column("runs_agreeing", np.int8),
    }


def counts(found: dict[str, np.ndarray]) -> str:
    folders = np.array([name.rpartition("/")[0] for name in found["file_name"]])
    trusted = found["trust"] > 0
    lines = []
    for folder in [*sorted(set(folders)), None]:
        of_folder = np.ones(len(folders), bool) if folder is None else folders == folder
        has = [np.zeros(len(folders), bool) for _ in range(2)]
        for side in (0, 1):
            has[side][found["photo"][trusted & (found["side"] == side)]] = True
        hands = of_folder[found["photo"]]
        left, right = (int((hands & trusted & (found["side"] == side)).sum()) for side in (0, 1))
        lines.append(
            f"{'all' if folder is None else folder or '.'}: {of_folder.sum()} photos, {(of_folder & (has[0] | has[1])).sum()} with a "
            f"trusted hand, {(of_folder & has[0] & has[1]).sum()} with a left and a right trusted; "
            f"{hands.sum()} hands, {left + right} trusted ({left} left, {right} right)"
        )
    return "\n".join(lines)


def draw_sheet(photos: Path, found: dict[str, np.ndarray], path: Path, size: tuple[int, int], seed: int) -> None:
    """Contact sheet of random photos: left hands blue, right hands red, hands that are not trusted thin and grey."""
    side_px, (columns, rows) = 240, size
    chosen = np.random.default_rng(seed).permutation(np.unique(found["photo"]))[: columns * rows]
    sheet = np.zeros((rows * side_px, columns * side_px, 3), np.uint8)
    for n, photo in enumerate(sorted(chosen)):
        image = cv2.imread(str(photos / found["file_name"][photo]), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
        scale = side_px / max(image.shape[:2])
        how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        tile = cv2.resize(image, None, fx=scale, fy=scale, interpolation=how)[:side_px, :side_px]
        tile = np.ascontiguousarray(np.pad(tile, ((0, side_px - tile.shape[0]), (0, side_px - tile.shape[1]), (0, 0))))
        for k in np.flatnonzero(found["photo"] == photo):
            trusted = found["trust"][k] > 0
            colour = SIDE_BGR[found["side"][k]] if trusted else (128, 128, 128)
            points = [(int(x), int(y)) for x, y in found["keypoints_px"][k] * scale]
            for a, b in BONES:
                cv2.line(tile, points[a], points[b], colour, 2 if trusted else 1, cv2.LINE_AA)
            for tip in (4, 8, 12, 16, 20):
                cv2.circle(tile, points[tip], 3, (255, 255, 255) if tip > 4 else (0, 255, 0), -1)
            text, (x, y) = f"{'LR'[found['side'][k]]} {found['trust'][k]:.2f}", points[0]
            cv2.putText(tile, text, (x - 20, y), 0, 0.45, colour, 1, cv2.LINE_AA)
        y, x = divmod(n, columns)
        sheet[y * side_px : (y + 1) * side_px, x * side_px : (x + 1) * side_px] = tile
    cv2.imwrite(str(path), sheet)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, help="folder, searched with its subfolders")
    parser.add_argument("labels", type=Path, help=".npz to write")
    parser.add_argument("--sheet", type=Path, help="PNG of random labelled photos to judge by eye")
    parser.add_argument("--sheet-size", type=int, nargs=2, default=(10, 6), metavar=("COLUMNS", "ROWS"))
    parser.add_argument("--seed", type=int, default=0, help="of the sheet's choice")
    parser.add_argument("--limit", type=int, help="only the first so many photos")
    parser.add_argument("--several-people", action="store_true", help="let two hands of one photo have the same side")
    args = parser.parse_args()
    journal = args.labels.with_name(args.labels.name + ".runs.jsonl")
    run_photos(args.photos, journal, args.limit)
    found = labels(journal, not args.several_people)
    unfinished = args.labels.with_name(args.labels.name + ".part.npz")
    np.savez_compressed(unfinished, **found)  # type: ignore[arg-type]  # the stub takes every keyword for allow_pickle
    unfinished.replace(args.labels)
    print(counts(found))
    if args.sheet:
        draw_sheet(args.photos, found, args.sheet, tuple(args.sheet_size), args.seed)


if __name__ == "__main__":
    main()
