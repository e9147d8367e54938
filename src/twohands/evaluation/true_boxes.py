"""Pictures with annotated hands, rendered or real, and the boxes that a perfect detector would give: what measures of one stage begin with."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch.nn import functional

from twohands.evaluation.real_photos import ExamPhoto, read_exam
from twohands.geometry.camera import Camera
from twohands.geometry.photo import choose_camera, read_photo
from twohands.joints import MIDDLE_MCP
from twohands.schema import Detection, Sample

SIDES = ("left", "right")


@dataclass(frozen=True)
class AnnotatedHand:
    """One hand that a picture shows."""

    side: int
    """0 left, 1 right."""
    keypoints_xy: Float[np.ndarray, "21 2"]
    labelled: Bool[np.ndarray, "21"]
    visible: Bool[np.ndarray, "21"]

    @property
    def box_xyxy_px(self) -> Float[np.ndarray, "4"]:
        """Tight around the labelled keypoints."""
        xy = self.keypoints_xy[self.labelled]
        return np.concatenate([xy.min(0), xy.max(0)])

    @property
    def side_px(self) -> float:
        """Longer side of the box."""
        box = self.box_xyxy_px
        return float((box[2:] - box[:2]).max())

    @property
    def direction(self) -> Float[np.ndarray, "2"] | None:
        """Unit vector from wrist to middle knuckle; None where they are not labelled."""
        along = self.keypoints_xy[MIDDLE_MCP] - self.keypoints_xy[0]
        length = float(np.linalg.norm(along))
        return along / length if self.labelled[0] and self.labelled[MIDDLE_MCP] and length > 1e-6 else None

    @property
    def length_share(self) -> float:
        """Distance of wrist and middle knuckle over the box's longer side: small where the hand points at the camera."""
        return float(np.linalg.norm(self.keypoints_xy[MIDDLE_MCP] - self.keypoints_xy[0])) / max(self.side_px, 1e-6)


@dataclass(frozen=True)
class AnnotatedPicture:
    """A picture and what is known of it."""

    image: UInt8[np.ndarray, "height width 3"]
    camera: Camera
    hands: tuple[AnnotatedHand, ...]
    doubtful: Float[np.ndarray, "doubtful 4"]
    """Boxes of hands that are hardly to be seen: to find one is neither right nor wrong."""
    complete: bool
    """Every hand is annotated."""

    @staticmethod
    def of_sample(sample: Sample, everyone: bool = False) -> "AnnotatedPicture":
        """A rendered scene: hands that can be asked for are annotated, what else there is of hands is doubtful; other people's hands are
        annotated if `everyone` is asked for, else doubtful too."""
        xy, visible = sample.keypoints_xy.numpy().astype(np.float64), sample.keypoint_visible.numpy() > 0.5
        hands = [AnnotatedHand(h, xy[h], np.ones(21, bool), visible[h]) for h in (0, 1) if bool(sample.hand_valid[h])]
        height, width = sample.image.shape[1:]
        doubtful = []
        for h in (0, 1):
            box = np.concatenate([xy[h].min(0), xy[h].max(0)])
            inside = np.isfinite(box).all() and (box[:2] < (width, height)).all() and (box[2:] > 0).all()
            if bool(sample.parameters_valid[h]) and not bool(sample.hand_valid[h]) and inside:
                doubtful.append(box)
        if sample.extra is not None:
            for k in np.flatnonzero(sample.extra.valid.numpy()):
                hand = AnnotatedHand(
                    int(sample.extra.side[k]), sample.extra.keypoints_xy[k].numpy().astype(np.float64), *np.ones((2, 21), bool)
                )
                if everyone:
                    hands.append(hand)
                else:
                    doubtful.append(hand.box_xyxy_px)
        image = sample.image.permute(1, 2, 0).contiguous().numpy()
        return AnnotatedPicture(image, sample.camera, tuple(hands), np.array(doubtful).reshape(-1, 4), True)

    def detection(self) -> Detection:
        """What a perfect detector would say: all hands are one person's. A hand without a direction is taken to point up."""
        count = len(self.hands)
        directions = [np.array([0.0, -1.0]) if hand.direction is None else hand.direction for hand in self.hands]
        return Detection(
            torch.from_numpy(np.array([hand.box_xyxy_px for hand in self.hands]).reshape(count, 4)).float(),
            torch.ones(count),
            torch.tensor([float(hand.side) for hand in self.hands]),
            functional.normalize(torch.from_numpy(np.array(directions).reshape(count, 2)).float(), dim=-1),
            (0,) * count,
        )


def exam_detection(photo: ExamPhoto) -> Detection:
    """The annotated hands of an exam photo as a perfect detector's; none for a photo without truth."""
    return AnnotatedPicture(
        np.zeros((1, 1, 3), np.uint8), Camera(torch.ones(2), torch.zeros(2)), _exam_hands(photo), np.zeros((0, 4)), False
    ).detection()


def exam_pictures(folder: Path) -> Iterator[AnnotatedPicture]:
    """The annotated photos of an exam's folder. UserError if it is none."""
    exam = json.loads((folder / "exam.json").read_text(encoding="utf-8")) if (folder / "exam.json").is_file() else {"images": []}
    complete = {entry["id"]: bool(entry.get("all_hands_annotated", False)) for entry in exam["images"]}
    for photo in read_exam(folder):
        if photo.hands is not None:
            read = read_photo(photo.path)
            height, width = read.image.shape[:2]
            camera, _ = choose_camera(width, height, None, None, photo.intrinsics, read.focal_px_exif)
            yield AnnotatedPicture(read.image, camera, _exam_hands(photo), np.zeros((0, 4)), complete[photo.id])


def _exam_hands(photo: ExamPhoto) -> tuple[AnnotatedHand, ...]:
    return tuple(AnnotatedHand(SIDES.index(h.side), h.keypoints_xy, h.labelled, h.labelled) for h in photo.hands or ())


def overlaps(boxes: Float[np.ndarray, "n 4"], others: Float[np.ndarray, "m 4"]) -> Float[np.ndarray, "n m"]:
    """Intersection over union of every box with every other one."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(-1)
    area, area_other = (np.prod(b[:, 2:] - b[:, :2], axis=1) for b in (boxes, others))
    return shared / np.maximum(area[:, None] + area_other[None] - shared, 1e-9)
