"""The full MediaPipe as a teacher, through the labels that tools/label_photos.py writes in an environment of its own."""

import hashlib
import zipfile
from pathlib import Path

import numpy as np
import torch

from twohands.errors import UserError
from twohands.joints import MIDDLE_MCP
from twohands.priors.teacher import Lesson, Question, silent_maps
from twohands.schema import PriorMaps

ARRAYS = ("file_name", "photo", "side", "keypoints_px", "keypoints_world_m", "trust")


class LabelledTeacher:
    """Says of a photo what the labels say: the most trusted hand of each side."""

    def __init__(self, labels: Path) -> None:
        """UserError if the file is missing or no file of labels."""
        how = "make it with `python tools/label_photos.py PHOTOS LABELS.npz` in an environment with mediapipe"
        try:
            with np.load(labels) as file:
                arrays = {name: file[name] for name in ARRAYS}
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise UserError(f"{labels} is no file of labels ({error}); {how}") from error
        self.sha256 = hashlib.sha256(labels.read_bytes()).hexdigest()
        self.arrays = arrays
        self.rows: dict[str, list[int]] = {str(name): [] for name in arrays["file_name"]}
        for row, photo in enumerate(arrays["photo"]):
            self.rows[str(arrays["file_name"][photo])].append(row)

    def describe(self) -> dict[str, str]:
        return {"teacher": "mediapipe", "labels": self.sha256}

    def __call__(self, question: Question) -> Lesson:
        """UserError for a photo that was not labelled."""
        if question.name not in self.rows:
            raise UserError(f"{question.name} is not among the labels; label the same folder that is taught")
        a, maps, trust, world = self.arrays, silent_maps(), torch.zeros(2), torch.zeros(2, 21, 3)
        confidence, depth = maps.keypoint_confidence, torch.zeros(2, 21)
        for row in sorted(self.rows[question.name], key=lambda row: a["trust"][row]):
            side = int(a["side"][row])
            maps.keypoints_xy[side] = torch.from_numpy(a["keypoints_px"][row])
            trust[side] = float(a["trust"][row])
            confidence[side] = trust[side]
            relative = torch.from_numpy(a["keypoints_world_m"][row])
            world[side] = relative - relative[:1]
            depth[side] = world[side, :, 2] / world[side, MIDDLE_MCP].norm().clamp_min(1e-3)
        return Lesson(PriorMaps(maps.keypoints_xy, confidence, None, None, depth), trust, world)
