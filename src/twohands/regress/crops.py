"""From boxes to what stage 1 sees: one crop per hand, the pair's common view, and where each crop lies in it."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from twohands.geometry.camera import Camera
from twohands.geometry.crop import Crop
from twohands.joints import MIDDLE_MCP
from twohands.record import Record
from twohands.regress.fusion import PAIR_GEOMETRY
from twohands.schema import HandPair

EXPANSION = 1.7
"""Side of a hand's crop over the longer side of its keypoints' box: room for the flesh around the joints and for a box that is off, and what
the landmark network was trained on."""

COMMON_EXPANSION = 1.5
"""The same of the pair's view over the box of both hands."""


PLACES_A_SIDE, DIRECTIONS = 32, 256
"""How fine `on_grid` is: places in a box's side (up to twice as many, as its step is a power of two) and directions in a full turn. The coarser, the
rarer a box lies between two places; stage 1 was trained on boxes that are off by more."""


@dataclass(frozen=True)
class PairView(Record):
    """The views of a batch of pairs. The left hand's crop is mirrored, so that networks see right hands only."""

    crop: Crop
    """Batch axes (pair, hand)."""
    common: Crop
    """Batch axis (pair): looks at both hands without roll; the frame of the relative translation."""
    geometry: Float[Tensor, "pair hand 8"]


def view_pairs(camera: Camera, pair: HandPair, crop_px: int, expansion: float | Float[Tensor, "pair hand"] = EXPANSION) -> PairView:
    """Views of `pair` (one batch axis). `camera` is one for all or one per pair. The box of an absent hand is replaced by the other's."""
    other_box, other_direction = pair.box_xyxy_px.flip(1), pair.direction.flip(1)
    box = torch.where(pair.present[..., None], pair.box_xyxy_px, other_box)
    direction = torch.where(pair.present[..., None], pair.direction, other_direction)
    mirrored = torch.tensor([True, False], device=box.device).expand(box.shape[:2])
    per_hand = camera if camera.focal_px.ndim == 1 else camera.map(lambda t: t[:, None])
    crop = Crop.around(per_hand, box, direction, expansion, crop_px, mirrored)
    union = torch.cat([box[..., :2].amin(1), box[..., 2:].amax(1)], -1)
    upright = torch.tensor([0.0, -1.0], device=box.device, dtype=box.dtype).expand(box.shape[0], 2)
    common = Crop.around(camera, union, upright, COMMON_EXPANSION, crop_px, torch.zeros(box.shape[0], dtype=torch.bool, device=box.device))
    return PairView(crop, common, pair_geometry(crop, common, pair.present))


def on_grid(pair: HandPair) -> HandPair:
    """The same pair, the corners of its boxes and its directions moved to the nearest of a coarse set, by a few of the crop's pixels at most.

    The landmark trunk makes a hundred times as much of a difference of a hundred thousandth in what it sees, and a second look the same of the first
    one's answer. Two engines (or processors) that differ in the seventh digit would end millimetres apart at an unsure hand; so they look at the
    very same crops. Only a corner that lies right between two places, one in some ten thousands, goes one way with the one and the other way with
    the other."""
    low, high = pair.box_xyxy_px[..., :2], pair.box_xyxy_px[..., 2:]
    size = high - low
    side = size.amax(-1, keepdim=True).clamp_min(1e-6)
    # A power of two: of its multiples, sums and halves are exact.
    step = side / side.frexp().mantissa / (2 * PLACES_A_SIDE)
    low, high = ((corner / step).round() * step for corner in (low, high))
    high = torch.where(size > 0, torch.maximum(high, low + step), low)
    turn = 2 * math.pi / DIRECTIONS
    angle = (torch.atan2(pair.direction[..., 1], pair.direction[..., 0]) / turn).round() * turn
    return HandPair(torch.cat([low, high], -1), torch.stack([angle.cos(), angle.sin()], -1), pair.present)


def followed_pair(
    pair: HandPair, keypoints_xy: Float[Tensor, "*batch hand 21 2"], believed: Bool[Tensor, "*batch hand"], share: float
) -> HandPair:
    """The pair with boxes moved by `share` towards those of the keypoints that were found, and directions that these suggest; hands that are not
    believed, or whose keypoints went astray, stay where they were."""
    low, high = keypoints_xy.amin(-2), keypoints_xy.amax(-2)
    own = torch.cat([low, high], -1)
    box = (1 - share) * pair.box_xyxy_px + share * own
    along = keypoints_xy[..., MIDDLE_MCP, :] - keypoints_xy[..., 0, :]
    # Foreshortened hands have no reliable direction in the image, and a fit that failed may lie anywhere: keep what was known.
    length = along.norm(dim=-1) / (high - low).amax(-1).clamp_min(1e-3)
    side = (pair.box_xyxy_px[..., 2:] - pair.box_xyxy_px[..., :2]).amax(-1)
    strayed = (own - pair.box_xyxy_px).unflatten(-1, (2, 2)).mean(-2).norm(dim=-1)  # of the box's middle
    sane = ((high - low).amax(-1) > 0.5 * side) & ((high - low).amax(-1) < 2 * side) & (strayed < side)
    trusted = pair.present & sane & keypoints_xy.isfinite().all(-1).all(-1) & believed
    return HandPair(
        torch.where(trusted[..., None], box, pair.box_xyxy_px),
        torch.where((trusted & (length > 0.2))[..., None], functional.normalize(along, dim=-1), pair.direction),
        pair.present,
    )


def pair_geometry(crop: Crop, common: Crop, present: Tensor) -> Float[Tensor, "pair hand 8"]:
    """Where each crop lies in the pair's view: x, y of its axis in half sides of that view, log zoom against it, cos and sin of the roll,
    whether the other hand is there, whether the crop is mirrored, and the log of the view's half angle's tangent."""
    R_crop_common = crop.R_crop_camera @ common.R_crop_camera[:, None].transpose(-1, -2)
    axis = R_crop_common[..., 2, :]
    tangent = common.size_px / 2 / common.focal_px[:, None]
    xy = axis[..., :2] / axis[..., 2:].clamp_min(0.1) / tangent[..., None]
    zoom = (crop.focal_px / common.focal_px[:, None]).log()
    roll = torch.atan2(R_crop_common[..., 0, 1], R_crop_common[..., 0, 0])
    columns = [
        xy[..., 0],
        xy[..., 1],
        zoom,
        roll.cos(),
        roll.sin(),
        present.flip(1).to(zoom),
        crop.mirrored.to(zoom),
        tangent.log().expand_as(zoom),
    ]
    geometry = torch.stack(columns, -1)
    assert geometry.shape[-1] == PAIR_GEOMETRY
    return geometry
