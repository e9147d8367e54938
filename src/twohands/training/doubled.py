"""Photos of one hand, made into others: cut out, the hand is laid beside or over another one, or before another background.

No photo here shows hands that touch, and a keypoint teacher finds none there; but a left hand in the mirror is a right hand of the same person in
the same light. Such a pair has real skin, real borders between the hands, and keypoints that are known for both, hidden ones included. Where the 3D
of both is known, the second one's is moved along: a hand that is laid on the other one is a little nearer, and so a little larger. Hands by
themselves are cut out too, and laid before other backgrounds, or a cut would mean a second hand.
"""

import dataclasses
import itertools
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional

from twohands.collision.proxies import SphereProxies
from twohands.geometry.rotations import matrix_to_rotvec, rotvec_to_matrix
from twohands.hands.bundled import load_bundled_hand
from twohands.hands.mirror import mirror_rotvec
from twohands.hands.parameters import HandParameters
from twohands.joints import FINGERS
from twohands.record import stack
from twohands.refine.perturb import penetrates
from twohands.schema import Sample

ON_TOP = 0.6
"""Hands whose centres are nearer than this share of the mean of their sizes lie on one another."""
NEAREST_M = 0.12
"""No hand is laid nearer to the lens."""
STEP_M = 0.01
"""Steps in which a hand is laid nearer until it is free of the other one."""
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
    """Size of the second hand over the first one's, where their distances are not known."""
    on_top_m: tuple[float, float] = (0.01, 0.07)
    """How much nearer the second hand is where it lies on the first one."""
    beside_m: float = 0.04
    """Standard deviation of the difference of their distances where it lies beside it."""
    give_way_m: float = 0.12
    """So much nearer still it is laid at most, by as little as frees the hands: true hands do not pass through each other, and from pairs that did
    stage 1 learnt to put hands into one another."""
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
    may be the same. None if either does not show exactly one hand, or the second one would lie outside. The second hand has 3D if both had it."""
    c = config or DoublingConfig()
    if int(sample.hand_valid.sum()) != 1 or int(donor.hand_valid.sum()) != 1:
        return None
    hand, given = int(sample.hand_valid[1]), int(donor.hand_valid[1])
    xy, its_xy = sample.keypoints_xy[hand], donor.keypoints_xy[given]
    (centre, size), (its_centre, its_size) = _extent(xy), _extent(its_xy)
    angle = rng.uniform(-np.pi, np.pi) if rng.random() < c.any_turn else np.radians(rng.normal(0, c.turn_deg))
    way, offset = rng.uniform(-np.pi, np.pi), float(rng.uniform(*c.offset))
    depth_m, its_depth_m = _middle_depth_m(sample, hand), _middle_depth_m(donor, given)
    turn = torch.tensor([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]], dtype=torch.float32)
    mirrored = given == hand
    flip = torch.diag(torch.tensor([-1.0 if mirrored else 1.0, 1.0]))

    def laid(scale: float) -> tuple[Tensor, Tensor]:
        """(matrix, place) of a second hand so many times as large."""
        reach = offset * (size + scale * its_size) / 2
        return scale * turn @ flip, centre + reach * torch.tensor([np.cos(way), np.sin(way)], dtype=torch.float32)

    if bool(sample.parameters_valid[hand]) and bool(donor.parameters_valid[given]):
        depth_m -= rng.uniform(*c.on_top_m) if offset < ON_TOP else rng.normal(0, c.beside_m)
        zoom = float(sample.camera.focal_px.mean() / donor.camera.focal_px.mean())
        for nearer_m in np.arange(0, c.give_way_m + STEP_M / 2, STEP_M):
            here_m = max(depth_m - nearer_m, NEAREST_M)
            forward, target = laid(zoom * its_depth_m / here_m)
            both = _with_second_hand(sample, 1 - hand, donor, given, mirrored, turn, its_centre, target, here_m)
            if not _pass_through(both.parameters):
                break
        else:
            return None
        sample = both
        # Towards the border of a picture things look larger than turning the camera would show them: the cut-out takes the size of the 3D hand.
        forward, target = _fitted(its_xy - its_centre, sample.camera.project(sample.keypoints_camera_m)[1 - hand], forward)
    else:
        forward, target = laid(float(np.exp(rng.uniform(*np.log(c.scale)))) * _palm(xy) / _palm(its_xy))
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


@cache
def _proxies() -> SphereProxies:
    return SphereProxies.of(load_bundled_hand().data)


def _pass_through(pair: HandParameters) -> bool:
    """Whether a left and a right hand do, as deeply as pairs do that stage 2 learns to part."""
    return bool(penetrates(load_bundled_hand(), _proxies(), stack([pair]))[0])


def _middle_depth_m(sample: Sample, hand: int) -> float:
    return float(sample.keypoints_camera_m[hand, :, 2].mean())


def _with_second_hand(
    sample: Sample, hand: int, donor: Sample, given: int, mirrored: bool, turn: Float[Tensor, "2 2"], its_centre: Float[Tensor, "2"],
    target: Float[Tensor, "2"], depth_m: float,
) -> Sample:  # fmt: skip
    """The sample with the donor's 3D hand: as it looked from the donor's camera along the line of sight through `its_centre`, it now looks along
    the one through `target`, turned in the image, and mirrored if so told, with its middle at `depth_m`."""
    flip = torch.diag(torch.tensor([-1.0 if mirrored else 1.0, 1.0, 1.0]))
    around = torch.eye(3)
    around[:2, :2] = turn
    ray, its_ray = sample.camera.rays(target[None])[0], donor.camera.rays(its_centre[None])[0]
    moved = _ahead(ray).T @ around @ flip @ _ahead(its_ray)
    its_place = its_ray / its_ray[2] * _middle_depth_m(donor, given)
    its = donor.parameters
    # The model turns a hand about the joint of its wrist, which is not where its keypoint lies.
    its_rest = load_bundled_hand().with_shape(its.shape).joints_rest_m[given, :1]
    its_points = torch.cat([donor.keypoints_camera_m[given], its_rest + its.translation_m[given]])
    *points, wrist = (its_points - its_place) @ moved.T + ray / ray[2] * depth_m
    rest = flip @ its_rest[0]
    pose = mirror_rotvec(its.pose[given]) if mirrored else its.pose[given].clone()
    pose[0] = matrix_to_rotvec(moved @ rotvec_to_matrix(its.pose[given, 0]) @ flip)

    def put(values: Tensor, new: Tensor) -> Tensor:
        values = values.clone()
        values[hand] = new
        return values

    own = sample.parameters
    return dataclasses.replace(
        sample,
        keypoints_camera_m=put(sample.keypoints_camera_m, torch.stack(points)),
        keypoints_3d_valid=put(sample.keypoints_3d_valid, donor.keypoints_3d_valid[given]),
        parameters=HandParameters(put(own.pose, pose), put(own.shape, its.shape[given]), put(own.translation_m, wrist - rest)),
        parameters_valid=put(sample.parameters_valid, torch.tensor(True)),
    )


def _fitted(
    points: Float[Tensor, "n 2"], wanted: Float[Tensor, "n 2"], forward: Float[Tensor, "2 2"]
) -> tuple[Float[Tensor, "2 2"], Float[Tensor, "2"]]:
    """(matrix, offset) that bring points nearest to where they are wanted: `forward`, scaled and turned."""
    moved = points @ forward.T
    a, b = moved - moved.mean(0), wanted - wanted.mean(0)
    along, across = (a * b).sum(), (a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]).sum()
    change = torch.stack([torch.stack([along, -across]), torch.stack([across, along])]) / a.square().sum().clamp_min(1e-6)
    forward = change @ forward
    return forward, wanted.mean(0) - points.mean(0) @ forward.T


def _ahead(ray: Float[Tensor, "3"]) -> Float[Tensor, "3 3"]:
    """The smallest rotation that turns a ray into the camera's axis."""
    unit = functional.normalize(ray, dim=0)
    axis = torch.linalg.cross(unit, torch.tensor([0.0, 0.0, 1.0]))
    sine = axis.norm()
    return rotvec_to_matrix(axis / sine.clamp_min(1e-9) * torch.atan2(sine, unit[2]))


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
