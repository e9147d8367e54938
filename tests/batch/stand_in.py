"""A pipeline that costs nothing: each picture shows one hand, whose score is the picture's mean brightness. For corpora of tests."""

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from twohands.batch.sources import Picture
from twohands.errors import UserError
from twohands.geometry.camera import Camera
from twohands.hands.parameters import HandParameters
from twohands.schema import PhotoResult, TwoHands


@dataclass(frozen=True)
class StandIn:
    """Picklable, as every maker of a predict function must be."""

    seconds: float = 0.0
    """How long a picture takes."""

    def load(self):
        return self.predict

    def predict(self, picture: Picture) -> PhotoResult:
        time.sleep(self.seconds)
        fatal = picture.path.with_suffix(".fatal")
        if fatal.exists():  # the first time only
            fatal.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        if picture.image is None:
            if picture.path.stat().st_size == 0:
                raise UserError(f"{picture.path} is an empty file; copy the photo again")
            image = np.asarray(Image.open(picture.path).convert("RGB"))
        else:
            image = picture.image
        return result(image)


def result(image: np.ndarray) -> PhotoResult:
    """One right hand; none in a black picture."""
    height, width = image.shape[:2]
    score = float(image.mean()) / 255
    hands = TwoHands(
        hand_present=torch.tensor([False, True]),
        score=torch.tensor([0.0, score]),
        parameters=HandParameters.zeros(),
        vertices_m=torch.zeros(2, 1, 3),
        keypoints_m=torch.arange(126.0).reshape(2, 21, 3),
        keypoints_xy=torch.arange(84.0).reshape(2, 21, 2),
        keypoint_confidence=torch.ones(2, 21),
        box_xyxy_px=torch.ones(2, 4),
        camera=Camera.from_fov(width, height, 60.0),
        camera_source="default",
        penetration_cm3=0.0,
        penetration_before_cm3=0.0,
        refined=False,
        person=0,
    )
    return PhotoResult((hands,) if score > 0.02 else (), width, height, {"total": 0.0}, "encoder", image)


def grey_photos(folder: Path, count: int, side_px: int = 16) -> Path:
    """`count` photos, each of its own brightness."""
    folder.mkdir(parents=True, exist_ok=True)
    for k in range(count):
        Image.new("L", (side_px, side_px), 20 + k % 230).save(folder / f"{k:05d}.png")
    return folder
