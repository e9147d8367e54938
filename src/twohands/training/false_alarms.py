"""Where the detector sees hands that are none: kept beside shards, so that stage 1 learns to deny them.

Stage 1 is what stands between a detector's false alarm and a hand in the result. Of places drawn at random it learns little, since nearly all are
easy; those that a detector took for a hand are forearms, elbows, sleeves, faces and folds, as in use (bootstrapping of hard examples: Sung and
Poggio, "Example-based learning for view-based human face detection", 1998; Felzenszwalb et al., "Object detection with discriminatively trained
part-based models", 2010)."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float

from twohands.data.shards import ShardSet
from twohands.detector import Detector, Peaks, suppress
from twohands.errors import UserError
from twohands.manifest import beside
from twohands.priors.mediapipe import LandmarkTeacher
from twohands.training.detector import true_boxes

FOLDER = "false_alarms"
"""Below the folder of shards; one file a shard, of the same name."""
KEPT = 4
"""Most false alarms of an image that are kept, surest first."""
LEAST_SCORE = 0.15
"""A detector that learns on will be sure of what it doubts today."""
LEAST_PX = 10.0
"""Smaller boxes than this show nothing."""
FREE_OF_HANDS = 0.15
"""Share of the smaller box that a false alarm and a hand's box may have in common."""
DENIED = 0.1
"""Where annotations may miss a hand (photos), the landmark network must find one less likely than this."""


@dataclass(frozen=True)
class FalseAlarms:
    """Of the images of a shard, `valid` first."""

    box_xyxy_px: Float[np.ndarray, "image kept 4"]
    direction: Float[np.ndarray, "image kept 2"]
    valid: Bool[np.ndarray, "image kept"]

    @staticmethod
    def none(images: int) -> "FalseAlarms":
        return FalseAlarms(
            np.zeros((images, KEPT, 4), np.float32), np.zeros((images, KEPT, 2), np.float32), np.zeros((images, KEPT), np.bool_)
        )

    def arrays(self) -> dict[str, np.ndarray]:
        """As shards hold them."""
        return {"false_box": self.box_xyxy_px, "false_direction": self.direction, "false_valid": self.valid}

    def write(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with beside(path) as part, part.open("wb") as file:
            np.savez(file, **self.arrays())  # type: ignore[arg-type]


def with_false_alarms(shards: ShardSet, folder: Path) -> ShardSet:
    """The shards of a folder with what is kept beside them, or as they are if nothing is. UserError if it is of other shards."""
    kept = folder / FOLDER
    if not kept.is_dir():
        return shards
    parts: dict[str, list[np.ndarray]] = {name: [] for name in FalseAlarms.none(0).arrays()}
    for path in sorted(folder.glob("*.npz")):
        if not (kept / path.name).is_file():
            raise UserError(f"{kept} has no {path.name}; run `twohands train false-alarms {folder}` to the end, or delete {kept}")
        with np.load(kept / path.name) as file:
            for name, values in parts.items():
                values.append(file[name])
    arrays = {name: np.concatenate(values) for name, values in parts.items()}
    if len(arrays["false_valid"]) != len(shards):
        raise UserError(f"{kept} is of {len(arrays['false_valid'])} images, but {folder} holds {len(shards)}; delete it and make it again")
    return replace(shards, arrays={**shards.arrays, **arrays})


def find_false_alarms(folder: Path, detector: Detector, teacher: LandmarkTeacher | None, progress: Callable[[int], object]) -> int:
    """Finds and keeps the false alarms of every shard of a folder that has none beside it yet; returns how many there are in these. With a teacher,
    only those that it denies too. UserError if the folder holds no shards."""
    paths = sorted(folder.glob("*.npz"))
    if not paths:
        raise UserError(f"{folder} holds no shards; make some with `twohands synth --out {folder}`")
    doubtful = replace(detector.config, threshold=LEAST_SCORE)
    total = 0
    for path in paths:
        target = folder / FOLDER / path.name
        progress(1)
        if target.is_file():
            continue
        shards = ShardSet.read([path])
        alarms = FalseAlarms.none(len(shards))
        for index in range(len(shards)):
            image = shards.decode(index)
            found = of_nothing(suppress(detector.peaks(image), doubtful), true_boxes(shards, index))
            if teacher is not None and len(found.box):
                presence = teacher(image, found.box.numpy(), found.direction.numpy(), refine_passes=0).presence
                found = found[torch.from_numpy(presence < DENIED)]
            found = found[:KEPT]
            count = len(found.box)
            alarms.box_xyxy_px[index, :count] = found.box.numpy()
            alarms.direction[index, :count] = found.direction.numpy()
            alarms.valid[index, :count] = True
        alarms.write(target)
        total += int(alarms.valid.sum())
    return total


def of_nothing(peaks: Peaks, hands: Float[torch.Tensor, "hand 4"]) -> Peaks:
    """The peaks, best first, that lie on no hand: they share little with any hand's box, and neither's centre is in the other."""
    box = peaks.box
    low = torch.maximum(box[:, None, :2], hands[None, :, :2])
    high = torch.minimum(box[:, None, 2:], hands[None, :, 2:])
    shared = (high - low).clamp_min(0).prod(-1)
    area, hand_area = (box[:, 2:] - box[:, :2]).prod(-1), (hands[:, 2:] - hands[:, :2]).prod(-1)
    smaller = torch.minimum(area[:, None], hand_area[None]).clamp_min(1e-6)
    centre, hand_centre = (box[:, :2] + box[:, 2:]) / 2, (hands[:, :2] + hands[:, 2:]) / 2
    covers = ((hand_centre >= box[:, None, :2]) & (hand_centre <= box[:, None, 2:])).all(-1)
    covered = ((centre[:, None] >= hands[:, :2]) & (centre[:, None] <= hands[:, 2:])).all(-1)
    touched = ((shared / smaller > FREE_OF_HANDS) | covers | covered).any(1)
    return peaks[~touched & ((box[:, 2:] - box[:, :2]).amax(-1) >= LEAST_PX)]
