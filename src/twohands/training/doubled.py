"""Photos of one hand, made into others: cut out, the hand is laid beside or over another one, or before another background.

No photo here shows hands that touch, and a keypoint teacher finds none there; but a left hand in the mirror is a right hand of the same person in
the same light. Such a pair has real skin, real borders between the hands, and keypoints that are known for both, hidden ones included. Its 3D place
is not known: only the hand that was there keeps what it had. Hands by themselves are cut out too, and laid before other backgrounds, or a cut would
mean a second hand.
"""

import dataclasses
import itertools
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional

from twohands.joints import FINGERS
from twohands.schema import Sample

PALM = (1, 5, 9, 13, 17)
"""Keypoints that, with the wrist, are the corners of the palm."""
FINGER_CHAINS = tuple(tuple(range(4 * f + 1, 4 * f + 5)) for f in range(len(FINGERS)))
"""Each finger's keypoints (OPENPOSE21), the thumb's first."""


@dataclass(frozen=True)
class DoublingConfig:
    """How the second hand lies to the first."""

    offset: tuple[float, float] = (0.0, 1.1)
    """Distance of the hands' centres over the first one's size: from one on the other to side by side."""
    scale: tuple[float, float] = (0.85, 1.2)
    turn_deg: float = 60.0
    """Standard deviation of the second hand's turn in the image."""
    any_turn: float = 0.35
    """Share that is turned by anything."""
    recoloured: float = 0.15
    """Share of pairs with hands, not arms, in another colour: gloves, odd light."""
    arm: tuple[float, float] = (0.3, 1.2)
    """Length of the forearm that comes along, in palms."""
    arm_alone: tuple[float, float] = (0.6, 3.0)
    """The same of a hand that is laid before another background."""
    light: float = 0.08
    """Standard deviation of the log of the second hand's brightness against the first."""


def hand_cutout(
    image: Float[Tensor, "3 height width"], keypoints_xy: Float[Tensor, "21 2"], arm: float = 0.7
) -> tuple[Float[Tensor, "height width"], Float[Tensor, "height width"]]:
    """(hand with a piece of forearm, hand alone), opacity 0 to 1, from keypoints and colour.

    Flesh of usual thickness around the bones says where hand may be; of what lies there, pixels that look more like the surroundings than like
    the hand's middle are left out. `keypoints_xy` in pixels, OPENPOSE21; `arm` in palms."""
    height, width = image.shape[1:]
    grid = torch.stack(torch.meshgrid(torch.arange(width) + 0.5, torch.arange(height) + 0.5, indexing="xy"), -1)
    xy = keypoints_xy
    palm = _palm(xy)
    inside = torch.full((height, width), -10.0)  # distance into the flesh, in palms
    for chain in FINGER_CHAINS:
        for a, b in itertools.pairwise(chain):
            inside = torch.maximum(inside, (0.125 if chain[0] == 1 else 0.11) - _to_segment(grid, xy[a], xy[b]) / palm)
    for k in PALM:
        inside = torch.maximum(inside, 0.17 - _to_segment(grid, xy[0], xy[k]) / palm)
    for a, b in itertools.pairwise(PALM[1:]):
        inside = torch.maximum(inside, 0.12 - _to_segment(grid, xy[a], xy[b]) / palm)
    back = xy[0] - xy[list(PALM[1:])].mean(0)
    end = xy[0] + functional.normalize(back, dim=0) * palm * arm
    forearm = 0.27 - _to_segment(grid, xy[0], end) / palm
    opacity = []
    core = inside > 0.06
    around = (torch.maximum(inside, forearm) < -0.12) & (inside > -0.6)
    ratio = torch.zeros(height, width)
    if core.sum() > 30 and around.sum() > 30:
        ratio = (_log_likelihood(image, image[:, core]) - _log_likelihood(image, image[:, around])).clamp(-6, 6)
    for depth in (torch.maximum(inside, forearm), inside):
        logit = depth / 0.03 + 0.6 * ratio
        logit = torch.where(depth > 0.05, logit.clamp_min(1.0), logit)
        logit = torch.where(depth < -0.06, torch.tensor(-9.0), logit)
        sharp = torch.where(logit < -4, 0.0, torch.where(logit > 4, 1.0, logit.sigmoid()))
        opacity.append(functional.avg_pool2d(functional.pad(sharp[None, None], (1, 1, 1, 1), mode="replicate"), 3, 1)[0, 0])
    return opacity[0], opacity[1]


def _to_segment(grid: Tensor, a: Tensor, b: Tensor) -> Tensor:
    along = b - a
    t = ((grid - a) @ along / along.square().sum().clamp_min(1e-6)).clamp(0, 1)
    return (grid - a - t[..., None] * along).norm(dim=-1)


def _log_likelihood(image: Tensor, pixels: Tensor) -> Tensor:
    """Of every pixel's colour under one Gaussian."""
    mean = pixels.mean(1)
    covariance = torch.cov(pixels) + 4e-4 * torch.eye(3)
    away = image - mean[:, None, None]
    return -0.5 * torch.einsum("chw,cd,dhw->hw", away, torch.linalg.inv(covariance), away) - 0.5 * torch.logdet(covariance)


def doubled(sample: Sample, donor: Sample, rng: np.random.Generator, config: DoublingConfig | None = None) -> Sample | None:
    """`sample` with `donor`'s hand as the person's other hand, mirrored where that makes it one, and brought to the first one's size and colour. Both
    may be the same. None if either does not show exactly one hand, or the second one would lie outside. The second hand has no 3D."""
    c = config or DoublingConfig()
    if int(sample.hand_valid.sum()) != 1 or int(donor.hand_valid.sum()) != 1:
        return None
    hand, given = int(sample.hand_valid[1]), int(donor.hand_valid[1])
    xy, its_xy = sample.keypoints_xy[hand], donor.keypoints_xy[given]
    (centre, size), (its_centre, its_size) = _extent(xy), _extent(its_xy)
    angle = rng.uniform(-np.pi, np.pi) if rng.random() < c.any_turn else np.radians(rng.normal(0, c.turn_deg))
    scale = float(np.exp(rng.uniform(*np.log(c.scale)))) * _palm(xy) / _palm(its_xy)
    way = rng.uniform(-np.pi, np.pi)
    reach = float(rng.uniform(*c.offset)) * (size + scale * its_size) / 2
    target = centre + reach * torch.tensor([np.cos(way), np.sin(way)], dtype=torch.float32)
    turn = torch.tensor([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]], dtype=torch.float32)
    forward = scale * turn @ torch.diag(torch.tensor([-1.0 if given == hand else 1.0, 1.0]))
    moved = (its_xy - its_centre) @ forward.T + target
    height, width = sample.image.shape[1:]
    frame = torch.tensor([width, height])
    inside = (moved > 0).all(1) & (moved < frame).all(1)
    if inside.float().mean() < 0.75:
        return None

    image, its_image = sample.image.float() / 255, donor.image.float() / 255
    its_whole, its_hand = hand_cutout(its_image, its_xy, float(rng.uniform(*c.arm)))
    _, first_hand = hand_cutout(image, xy)
    gain = (_mean_colour(image, first_hand) / _mean_colour(its_image, its_hand)).clamp(0.4, 2.5)
    its_image = its_image * gain[:, None, None] * float(np.exp(rng.normal(0, c.light)))
    if rng.random() < c.recoloured:
        colour = torch.from_numpy(rng.uniform(0.03, 0.95, (3, 1, 1)).astype(np.float32))
        strength, contrast = float(rng.uniform(0.6, 1.0)), float(rng.uniform(0.5, 1.2))
        image = _recoloured(image, first_hand * strength, colour, contrast)
        its_image = _recoloured(its_image, its_hand * strength, colour, contrast)
    its_frame = torch.tensor([its_image.shape[2], its_image.shape[1]])
    grid = torch.stack(torch.meshgrid(torch.arange(width) + 0.5, torch.arange(height) + 0.5, indexing="xy"), -1)
    source = ((grid - target) @ torch.linalg.inv(forward).T + its_centre) / its_frame * 2 - 1
    read = functional.grid_sample(torch.cat([its_image, its_whole[None]])[None], source[None], align_corners=False)[0]
    opacity = read[3]
    # Little light comes between hands: the one behind is darker along the border of the one in front.
    shade = functional.avg_pool2d(opacity[None, None], 9, 1, 4)[0, 0] * float(rng.uniform(0, 0.4))
    mixed = opacity * read[:3] + (1 - opacity) * image * (1 - shade)

    keypoints, visible = sample.keypoints_xy.clone(), sample.keypoint_visible.clone()
    keypoints[1 - hand] = moved
    covered = functional.grid_sample(opacity[None, None], (xy / frame * 2 - 1)[None, None], align_corners=False)[0, 0, 0]
    visible[hand] = torch.where(covered > 0.5, 0.0, visible[hand])
    visible[1 - hand] = donor.keypoint_visible[given] * inside
    return dataclasses.replace(
        sample,
        image=(mixed.clamp(0, 1) * 255).round().to(torch.uint8),
        hand_valid=torch.ones(2, dtype=torch.bool),
        keypoints_xy=keypoints,
        keypoint_visible=visible,
        box_xyxy_px=torch.cat([keypoints.amin(1), keypoints.amax(1)], -1),
        priors=None,
        source=sample.source + "/doubled",
    )


def transplanted(
    sample: Sample, background: UInt8[Tensor, "3 height width"], rng: np.random.Generator, config: DoublingConfig | None = None
) -> Sample | None:
    """The sample's only hand before another background of the same size, at its place and with all that is known of it.
    None if it does not show exactly one hand."""
    c = config or DoublingConfig()
    if int(sample.hand_valid.sum()) != 1:
        return None
    hand = int(sample.hand_valid[1])
    image, behind = sample.image.float() / 255, background.float() / 255
    whole, alone = hand_cutout(image, sample.keypoints_xy[hand], float(rng.uniform(*c.arm_alone)))
    if rng.random() < c.recoloured:
        colour = torch.from_numpy(rng.uniform(0.03, 0.95, (3, 1, 1)).astype(np.float32))
        image = _recoloured(image, alone * float(rng.uniform(0.6, 1.0)), colour, float(rng.uniform(0.5, 1.2)))
    image = image * float(np.exp(rng.normal(0, 2 * c.light)))
    mixed = whole * image + (1 - whole) * behind
    return dataclasses.replace(sample, image=(mixed.clamp(0, 1) * 255).round().to(torch.uint8), source=sample.source + "/transplanted")


def _extent(xy: Tensor) -> tuple[Tensor, float]:
    """Centre and longer side of the keypoints' box."""
    low, high = xy.amin(0), xy.amax(0)
    return (low + high) / 2, float((high - low).max())


def _palm(xy: Tensor) -> float:
    """Length of the palm in pixels. One that points at the camera is short in the image; then fingers tell."""
    palm = torch.stack([(xy[k] - xy[0]).norm() for k in PALM[1:]]).max()
    fingers = torch.stack([(xy[c[i]] - xy[c[i - 1]]).norm() for c in FINGER_CHAINS for i in (2, 3)])
    return max(float(palm), 2.1 * float(fingers.max()), 1.0)


def _mean_colour(image: Tensor, opacity: Tensor) -> Tensor:
    return ((image * opacity).sum((1, 2)) / opacity.sum().clamp_min(1e-6)).clamp_min(0.02)


def _recoloured(image: Tensor, opacity: Tensor, colour: Tensor, contrast: float) -> Tensor:
    """The hand in another colour, its light and dark kept."""
    grey = image.mean(0, keepdim=True)
    middle = float((grey[0] * opacity).sum() / opacity.sum().clamp_min(1e-6))
    new = colour * (grey / max(middle, 0.05)).pow(contrast)
    return (1 - opacity) * image + opacity * new.clamp(0, 1)
