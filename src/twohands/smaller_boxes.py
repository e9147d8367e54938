"""Hands that are not seen in the detector's box, and are looked for in smaller ones: of whom, where, and what is believed.

Around what it doubts the detector draws large boxes, and of a small hand in a large crop stage 1 sees little."""

from collections.abc import Collection

import torch

from twohands.detector import overlap
from twohands.people import (
    BADLY_READ,
    READ_BETTER,
    Candidate,
    Sides,
    badly_read,
    boxes_in_one_place,
    hand_pair,
    keypoint_box,
    keypoint_distance,
    known,
    legible,
)
from twohands.schema import Detection

SMALLER = (0.7, 0.5)
"""Sizes of the boxes in which a hand is looked for that its own box does not show, as shares of that,"""
READ_SURELY, OTHER_READING = 0.5, 0.4
"""how well it must then be read, and at most what share of that as a hand of the other side,"""
FITS_BOX = (0.7, 1.25)
"""and how large its keypoints' box must be in that one: only a hand that fills what was asked about is read by itself. Of two hands that clasp one may
be read surely in any box."""
ELSEWHERE = 0.5
"""Sizes of a hand within which one that another detection shows is the same."""
SAME_BOX_IOU = 0.7
"""Boxes that overlap more show the same."""
READ_PLAINLY = 0.75
"""Mean probability of its keypoints to be right from which nothing else is looked for in a hand's place."""


def unseen(detection: Detection, candidates: list[Candidate]) -> dict[int, float]:
    """Detections whose hands a glance has read badly (`badly_read`), one a place, and how legible they were. Not those of people both of whose hands
    it believes, nor second boxes of a hand that is read plainly."""

    def is_settled(c: Candidate) -> bool:
        plain = float(known(c).max()) >= READ_PLAINLY and boxes_in_one_place(hand_pair(c.detection, c.sides))
        return plain or (c.as_asked and None not in c.sides)

    settled = {row for c in candidates if is_settled(c) for row in c.sides}
    found: dict[int, float] = {}
    for row, worth in badly_read(candidates).items():
        box = detection.box_xyxy_px[[row]]
        if row not in settled and not any(float(overlap(box, detection.box_xyxy_px[[other]])) > SAME_BOX_IOU for other in found):
            found[row] = worth
    return found


def with_smaller(detection: Detection, rows: Collection[int]) -> Detection:
    """The detections and behind them, of each of these rows in turn, square boxes in its middle of all sizes in `SMALLER`, of whichever side."""
    index = [row for row in rows for _ in SMALLER]
    low, high = detection.box_xyxy_px[index].split(2, dim=-1)
    half = (high - low).amax(-1, keepdim=True) / 2 * torch.tensor(SMALLER).repeat(len(rows))[:, None]
    square = torch.cat([(low + high) / 2 - half, (low + high) / 2 + half], dim=-1)
    return Detection(
        torch.cat([detection.box_xyxy_px, square]),
        torch.cat([detection.score, detection.score[index]]),
        torch.cat([detection.right_probability, torch.full((len(index),), 0.5)]),
        torch.cat([detection.direction, detection.direction[index]]),
        (*detection.person, *(detection.person[row] for row in index)),
    )


def surest_reading(readings: list[tuple[Candidate, Candidate]], worth: float) -> Candidate | None:
    """Of a hand that was asked for as a left and as a right one in one box after another, the surest reading, if there is one that is sure, of one side
    alone, and fills its box. `worth`: how legible it was before."""
    best, found = max(READ_SURELY, READ_BETTER * worth), None
    for pair in readings:
        clear = [float(legible(c.hands)[side]) for side, c in enumerate(pair)]
        side = int(clear[1] > clear[0])
        alone = clear[1 - side] <= OTHER_READING * clear[side]
        if clear[side] >= best and alone and bool(pair[side].present[side]) and _fills_its_box(pair[side], side):
            best, found = clear[side], pair[side]
    return found


def _fills_its_box(candidate: Candidate, side: int) -> bool:
    asked, read = hand_pair(candidate.detection, candidate.sides).box_xyxy_px[side], keypoint_box(candidate.keypoints_xy[side])
    share = float((read[2:] - read[:2]).max() / (asked[2:] - asked[:2]).max().clamp_min(1.0))
    return FITS_BOX[0] < share < FITS_BOX[1]


def is_shown(alone: Candidate, others: list[Candidate]) -> bool:
    """Whether a lone hand lies where one of others is read well."""
    xy = alone.keypoints_xy[int(alone.present[1])]
    well = [other_xy for c in others for other_xy in c.keypoints_xy[known(c) >= BADLY_READ]]
    return any(keypoint_distance(xy, other_xy) < ELSEWHERE for other_xy in well)


def sides_without(candidate: Candidate, row: int) -> Sides:
    """The hands that are left of a candidate when one of its detections turns out to be somebody else's."""
    left, right = (other if other != row else None for other in candidate.sides_present)
    return left, right
