"""Batches for stage 1: shards of annotated images in, crops with augmented boxes, priors and truth out.

A batch is a pure function of (seed, rank, step), so a run that resumes at a step sees what it would have seen."""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional
from torch.utils.data import IterableDataset

from twohands.data.shards import ShardSet
from twohands.geometry.camera import Camera
from twohands.geometry.crop import Crop
from twohands.geometry.rotations import rotvec_to_matrix
from twohands.hands.mirror import left_as_right_rotation
from twohands.record import Record
from twohands.regress.align import CropPriors
from twohands.regress.crops import EXPANSION, PairView, view_pairs
from twohands.regress.losses import HandTruth
from twohands.schema import HandPair
from twohands.training.false_alarms import FalseAlarms
from twohands.training.pixels import grain, read_crops

OTHER_INSIDE, OTHER_OUTSIDE = 0.55, 0.8
"""Crop sides from a crop's centre within which the other hand's centre counts as seen, and beyond which as not seen."""
ALARMS_SHARE = 0.5
"""Of what is drawn of a set whose false alarms are known, at least so much has one."""


@dataclass(frozen=True)
class AugmentConfig:
    """How far training crops stray from perfect boxes and clean pixels; each range covers what the detector and real photos do."""

    shift: float = 0.07
    """Standard deviation of the box's centre, in sides."""
    zoom: tuple[float, float] = (0.8, 1.25)
    """Crop side over its nominal side."""
    turn_deg: float = 14.0
    """Standard deviation of the direction's error."""
    wild_turn: float = 0.12
    """Share of crops turned by anything."""
    union: float = 0.3
    """Share of two-hand scenes with overlapping boxes where both crops are about their union: all that a detector may say of clasped hands."""
    same_box: float = 0.12
    """Share of them where both crops are about the box of one of the two: it may also take the nearer hand for both."""
    overlap: float = 0.1
    """Intersection over union from which boxes overlap."""
    wrong_side: float = 0.06
    """Share of one-hand scenes whose hand sits in the other hand's slot."""
    double: float = 0.12
    """Share of one-hand scenes whose hand sits in both slots: a detector often gives one hand a box of either side."""
    empty: float = 0.08
    """Share of one-hand scenes whose other slot shows some other place of the image."""
    false_alarm: float = 0.8
    """Share of scenes with a known false alarm of the detector (training/false_alarms.py) where it takes a slot, that of an absent hand if there is
    one."""
    colour: float = 0.5
    """Strength of the colour changes."""
    worn: float = 0.25
    """Share of scenes seen badly: few pixels, little light, moved in the exposure; each of the three in half of them."""
    few_pixels: tuple[float, float] = (0.1, 0.4)
    """Sides to which such crops are shrunk: hands of 20 px and more."""
    little_light: tuple[float, float] = (0.15, 0.6)
    """What is left of the light; sensors' noise then shows."""
    smear: tuple[float, float] = (0.03, 0.15)
    """How far they moved meanwhile, in crop sides."""
    cover: float = 0.15
    """Share of crops with a patch pasted over."""
    mirror: float = 0.5
    """Share of scenes mirrored, hands swapped."""
    light_prior: float = 0.2
    """Share of pairs that get keypoints alone as their prior (the light teacher), with noise."""
    misread: float = 0.3
    """Share of hands with keypoints as their prior, and the other hand in their crop, whose keypoints are the other's: so the teacher errs."""
    full_prior: float = 0.15
    """Share of pairs that get all priors in place of F_fa."""


@dataclass(frozen=True)
class PairBatch(Record):
    """What one training step eats."""

    crops: Tensor
    view: PairView
    present: Tensor
    priors: CropPriors
    use_prior: Tensor
    truth: HandTruth


class PairBatches(IterableDataset):
    """Endless batches from several shard sets, mixed by weight."""

    def __init__(
        self, sets: list[ShardSet], weights: list[float], batch: int, crop_px: int, token_stride: int,
        seed: int, rank: int = 0, start_step: int = 0, augment: AugmentConfig | None = None,
    ) -> None:  # fmt: skip
        self.sets, self.weights, self.batch, self.crop_px = sets, np.array(weights) / np.sum(weights), batch, crop_px
        self.token_stride, self.seed, self.rank, self.start_step = token_stride, seed, rank, start_step
        self.augment = augment or AugmentConfig()
        self.alarms = [np.flatnonzero(s.arrays["false_valid"].any(1)) if "false_valid" in s.arrays else np.zeros(0, int) for s in sets]

    def __iter__(self) -> Iterator[PairBatch]:
        step = self.start_step
        while True:
            yield self.make(step)
            step += 1

    def make(self, step: int) -> PairBatch:
        """The batch of a step."""
        rng = np.random.default_rng([self.seed, self.rank, step])
        counts = rng.multinomial(self.batch, self.weights)
        chosen = [(s, i) for s, n, alarms in zip(self.sets, counts, self.alarms, strict=True) for i in _drawn(len(s), n, alarms, rng)]
        return make_batch(chosen, self.crop_px, self.token_stride, rng, self.augment)


def _drawn(images: int, count: int, alarms: np.ndarray, rng: np.random.Generator) -> list[int]:
    """Images of one set, `ALARMS_SHARE` of them from those with false alarms, if there are any."""
    chosen = rng.integers(0, images, count)
    if len(alarms):
        chosen = np.where(rng.random(count) < ALARMS_SHARE, alarms[rng.integers(0, len(alarms), count)], chosen)
    return chosen.tolist()


def make_batch(
    chosen: list[tuple[ShardSet, int]], crop_px: int, token_stride: int, rng: np.random.Generator, augment: AugmentConfig | None
) -> PairBatch:
    """Crops, priors and truth of the chosen images; without `augment`, perfect boxes and clean pixels (validation)."""
    scene = _gather(chosen)
    count = len(chosen)
    a = augment
    present, box, direction, wrong, presence = _boxes(scene, rng, a)
    expansion = torch.full((count, 2), EXPANSION)
    if a:
        expansion = expansion * torch.from_numpy(rng.uniform(*a.zoom, (count, 2))).float()
    view = view_pairs(scene["camera"], HandPair(box, direction, present), crop_px, expansion)
    crops, parts, depth = _resample(scene, view, crop_px, 4 * (crop_px // token_stride))
    truth = _truth(scene, view, present, wrong, presence)
    if a:
        crops = _change_pixels(crops, rng, a)
    priors, use_prior, prior_valid = _priors(scene, view, parts, depth, truth, wrong, rng, a)
    truth = dataclasses.replace(truth, prior_valid=prior_valid & present)
    batch = PairBatch(crops, view, present, priors, use_prior, truth)
    return _mirror_some(batch, torch.from_numpy(rng.random(count) < a.mirror)) if a else batch


def _gather(chosen: list[tuple[ShardSet, int]]) -> dict:
    """Stacks the arrays of the chosen images into tensors."""
    names = (
        "hand_valid", "keypoints_xy", "keypoint_visible", "keypoints_camera_m", "keypoints_3d_valid", "pose", "shape", "translation_m",
        "parameters_valid", "segmentation", "depth_mm", "has_maps", "focal_px", "principal_px",
    )  # fmt: skip
    scene: dict = {name: torch.from_numpy(np.stack([s.arrays[name][i] for s, i in chosen])) for name in names}
    taught = [s.arrays.get("prior_keypoints_xy") is not None for s, _ in chosen]
    # A teacher's keypoints, where shards carry them; elsewhere the annotation is the prior, with noise.
    for name, shape in (("prior_keypoints_xy", (2, 21, 2)), ("prior_confidence", (2, 21))):
        rows = [s.arrays[name][i] if has else np.zeros(shape, np.float32) for (s, i), has in zip(chosen, taught, strict=True)]
        scene[name] = torch.from_numpy(np.stack(rows))
    scene["taught"] = torch.tensor(taught)
    for name, row in FalseAlarms.none(1).arrays().items():
        scene[name] = torch.from_numpy(np.stack([s.arrays[name][i] if name in s.arrays else row[0] for s, i in chosen]))
    scene["image"] = torch.from_numpy(np.stack([s.decode(i) for s, i in chosen]))
    scene["camera"] = Camera(scene["focal_px"], scene["principal_px"])
    return scene


def _boxes(scene: dict, rng: np.random.Generator, a: AugmentConfig | None) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """(present, box, direction, hand sits in the wrong slot, presence target) after jitter."""
    xy = scene["keypoints_xy"]
    count = xy.shape[0]
    present = scene["hand_valid"].bool().clone()
    low, high = xy.amin(2), xy.amax(2)
    direction = functional.normalize(xy[:, :, 9] - xy[:, :, 0], dim=-1)
    side = (high - low).amax(-1, keepdim=True).clamp_min(2.0)
    centre = (low + high) / 2
    wrong = torch.zeros(count, 2, dtype=torch.bool)
    presence = present.float()
    if a:
        centre, side, direction = _clasped_boxes(low, high, direction, present.all(1), rng, a)
        centre = centre + side * torch.from_numpy(rng.normal(0, a.shift, (count, 2, 2))).float()
        wild = (rng.random((count, 2)) < a.wild_turn) * rng.uniform(-np.pi, np.pi, (count, 2))
        angle = torch.from_numpy(rng.normal(0, np.radians(a.turn_deg), (count, 2)) + wild).float()
        cos, sin = angle.cos(), angle.sin()
        direction = torch.stack([cos * direction[..., 0] - sin * direction[..., 1], sin * direction[..., 0] + cos * direction[..., 1]], -1)
        single = present.sum(1) == 1
        swap = single & torch.from_numpy(rng.random(count) < a.wrong_side)
        wrong = swap[:, None] & ~present  # the slot that the hand moves into
        centre, side = torch.where(swap[:, None, None], centre.flip(1), centre), torch.where(swap[:, None, None], side.flip(1), side)
        direction = torch.where(swap[:, None, None], direction.flip(1), direction)
        present = torch.where(swap[:, None], present.flip(1), present)
        presence = present.float()
        twice = (single & ~swap & torch.from_numpy(rng.random(count) < a.double))[:, None] & ~present
        near = side.flip(1) * torch.from_numpy(rng.normal(0, a.shift, (count, 2, 2))).float()
        centre = torch.where(twice[..., None], centre.flip(1) + near, centre)
        side = torch.where(twice[..., None], side.flip(1), side)
        direction = torch.where(twice[..., None], direction.flip(1), direction)
        wrong, presence = wrong | twice, torch.where(twice, 1.0, presence)
        fake = (single & ~swap & ~twice.any(1) & torch.from_numpy(rng.random(count) < a.empty))[:, None] & ~present
        away = torch.from_numpy(rng.uniform(1.3, 2.2, (count, 1, 1)) * np.where(rng.random((count, 1, 1)) < 0.5, -1, 1)).float()
        shift = torch.from_numpy(rng.normal(0, 1, (count, 1, 2))).float()
        other = centre.flip(1) + side.flip(1) * away * functional.normalize(shift, dim=-1)
        centre = torch.where(fake[..., None], other, centre)
        side = torch.where(fake[..., None], side.flip(1) * 0.9, side)
        present = present | fake | twice
        alarm, alarm_centre, alarm_side, alarm_direction = _false_alarms(scene, present, rng, a)
        centre = torch.where(alarm[..., None], alarm_centre, centre)
        side, direction = torch.where(alarm[..., None], alarm_side, side), torch.where(alarm[..., None], alarm_direction, direction)
        present, wrong, presence = present | alarm, wrong | alarm, torch.where(alarm, 0.0, presence)
    box = torch.cat([centre - side / 2, centre + side / 2], -1)
    # A hand that is absent may have keypoints anywhere, behind the camera too; its box only has to be finite and have an area.
    usable = box.isfinite().all(-1, keepdim=True) & present.any(1)[:, None, None]
    box = torch.where(usable, box, torch.tensor([0.0, 0.0, 10.0, 10.0]))
    direction = torch.where(
        direction.isfinite().all(-1, keepdim=True) & (direction.norm(dim=-1, keepdim=True) > 0.5), direction, torch.tensor([0.0, -1.0])
    )
    return present, box, direction, wrong, presence


def _false_alarms(
    scene: dict, present: Tensor, rng: np.random.Generator, a: AugmentConfig
) -> tuple[Bool[Tensor, "pair hand"], Float[Tensor, "pair hand 2"], Float[Tensor, "pair hand 1"], Float[Tensor, "pair hand 2"]]:
    """(slots that show one, its centre, side, direction)."""
    known = scene["false_valid"].bool()
    count = len(known)
    shown = known.any(1) & torch.from_numpy(rng.random(count) < a.false_alarm)
    draw = torch.from_numpy(rng.random(known.shape))
    chosen = torch.where(known, draw, -1.0).argmax(1)
    rows = torch.arange(count)
    box, direction = scene["false_box"][rows, chosen], scene["false_direction"][rows, chosen]
    # Of the slot of a hand that is there only where both are.
    free = torch.where(present, 1.0, 0.0) + torch.from_numpy(rng.random((count, 2))) * 0.5
    slot = functional.one_hot(free.argmin(1), 2).bool() & shown[:, None]
    side = (box[:, 2:] - box[:, :2]).amax(-1, keepdim=True).clamp_min(2.0)
    centre = (box[:, :2] + box[:, 2:]) / 2 + side * torch.from_numpy(rng.normal(0, a.shift, (count, 2))).float()
    return slot, centre[:, None].expand(-1, 2, -1), side[:, None].expand(-1, 2, -1), direction[:, None].expand(-1, 2, -1)


def _clasped_boxes(
    low: Tensor, high: Tensor, direction: Tensor, both: Tensor, rng: np.random.Generator, a: AugmentConfig
) -> tuple[Tensor, Tensor, Tensor]:
    """(centre, side, direction) of the hands' boxes, where those that overlap are sometimes no longer told apart."""
    count = len(low)
    extent = (torch.minimum(high[:, 0], high[:, 1]) - torch.maximum(low[:, 0], low[:, 1])).clamp_min(0)
    shared = extent.prod(-1)
    overlap = shared / ((high - low).prod(-1).sum(-1) - shared).clamp_min(1)
    draw = torch.from_numpy(rng.random(count))
    near = both & (overlap > a.overlap)
    union = (near & (draw < a.union))[:, None, None]
    low = torch.where(union, low.amin(1, keepdim=True), low)
    high = torch.where(union, high.amax(1, keepdim=True), high)
    centre = (low + high) / 2
    side = (high - low).amax(-1, keepdim=True).clamp_min(2.0)
    side = torch.where(union, side * torch.from_numpy(rng.uniform(0.7, 1.0, (count, 2, 1))).float(), side)
    # Which hand's box, or of clasped hands only direction, both get.
    taken = torch.from_numpy(rng.integers(0, 2, count))
    rows = torch.arange(count)
    same = (near & (draw >= a.union) & (draw < a.union + a.same_box))[:, None, None]
    centre = torch.where(same, centre[rows, taken, None], centre)
    side = torch.where(same, side[rows, taken, None], side)
    one_way = same | (union & torch.from_numpy(rng.random((count, 1, 1)) < 0.3))
    direction = torch.where(one_way, direction[rows, taken, None], direction)
    return centre, side, direction


def _resample(scene: dict, view: PairView, crop_px: int, grid_px: int) -> tuple[Tensor, Tensor, Tensor]:
    """(crops 0..1, segmentation class, depth in m or 0) on the crops; both hands of a scene in one read of its image."""

    camera = scene["camera"].map(lambda t: t[:, None].expand(-1, 2, -1))
    height, width = scene["image"].shape[1:3]
    scale = torch.tensor([2 / width, 2 / height])

    def positions(size: int) -> Tensor:
        return view.crop.pixel_grid(camera, size).movedim(2, -1).flatten(1, 2)

    # Twice as fine where crops are coarser than the image, or fine patterns would alias.
    fine = 2 if crop_px < max(height, width) / 2 else 1
    read = torch.from_numpy(read_crops(scene["image"].numpy(), positions(fine * crop_px).numpy(), fine))
    crops = read.unflatten(2, (2, crop_px)).transpose(1, 2).contiguous()
    maps = torch.stack([scene["segmentation"].float(), scene["depth_mm"].to(torch.float32) / 1000], 1)
    read = functional.grid_sample(maps, positions(grid_px) * scale - 1, mode="nearest", align_corners=False).unflatten(2, (2, grid_px))
    return crops, read[:, 0].round().long(), read[:, 1]


def _truth(scene: dict, view: PairView, present: Tensor, wrong: Tensor, presence: Tensor) -> HandTruth:
    """The annotation in each crop's frame."""
    size = view.crop.size_px
    camera = scene["camera"].map(lambda t: t[:, None])
    annotated = present & scene["hand_valid"].bool() & ~wrong
    joints_xy = view.crop.image_to_crop(camera, scene["keypoints_xy"]) / size - 0.5
    points = view.crop.to_crop_frame(scene["keypoints_camera_m"])
    R_camera = rotvec_to_matrix(scene["pose"])
    R_crop = view.crop.R_crop_camera[:, :, None] @ R_camera[:, :, :1]
    rotation = left_as_right_rotation(torch.cat([R_crop, R_camera[:, :, 1:]], 2))
    wrist = scene["keypoints_camera_m"][:, :, 0]
    relative = (view.common.R_crop_camera @ (wrist[:, 0] - wrist[:, 1])[..., None])[..., 0]
    valid_3d = scene["keypoints_3d_valid"].bool() & annotated[..., None]
    both = annotated.all(1) & scene["keypoints_3d_valid"].bool()[:, :, 0].all(1)
    other, other_seen, other_valid = _other_hand(scene, view, annotated)
    return HandTruth(
        joints_xy=joints_xy,
        xy_valid=annotated[..., None] & (joints_xy.abs().amax(-1) < 0.75) & joints_xy.isfinite().all(-1),
        joints_m=points - points[:, :, :1],
        joints_valid=valid_3d,
        rotation=rotation,
        shape=scene["shape"],
        parameters_valid=annotated & scene["parameters_valid"].bool(),
        relative_m=relative,
        relative_valid=both,
        presence=torch.where(present, presence, 0.0),
        side_correct=(~wrong).float(),
        state_valid=present,
        other=other,
        other_seen=other_seen,
        other_valid=other_valid,
        prior_valid=annotated,
    )


def _other_hand(scene: dict, view: PairView, annotated: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(place, seen, valid) of the other hand in each crop; one that is neither well inside nor outside is not asked for."""
    camera = scene["camera"].map(lambda t: t[:, None])
    xy = view.crop.image_to_crop(camera, scene["keypoints_xy"].flip(1)) / view.crop.size_px - 0.5
    low, high = xy.amin(2), xy.amax(2)
    centre, side = (low + high) / 2, (high - low).amax(-1)
    finite = xy.isfinite().all(-1).all(-1) & (side > 0.05) & (side < 3)
    there = scene["hand_valid"].bool().all(1, keepdim=True) & finite
    away = centre.abs().amax(-1)
    place = torch.cat([centre, side.clamp(0.05, 3).log()[..., None], functional.normalize(xy[:, :, 9] - xy[:, :, 0], dim=-1)], -1)
    seen = there & (away < OTHER_INSIDE)
    return torch.where(there[..., None], place, 0.0), seen.float(), annotated & ~(there & (away >= OTHER_INSIDE) & (away < OTHER_OUTSIDE))


def _priors(
    scene: dict,
    view: PairView,
    parts: Tensor,
    depth: Tensor,
    truth: HandTruth,
    wrong: Tensor,
    rng: np.random.Generator,
    a: AugmentConfig | None,
) -> tuple[CropPriors, Tensor, Tensor]:
    """Teachers' maps in the crops, whether F_p enters the transformer, and where F_p is a target."""
    count = parts.shape[0]
    left, right = parts[:, 0], parts[:, 1]
    own_left = torch.where(left > 16, 17, left)
    own_right = torch.where(right > 16, right - 16, torch.where(right > 0, 17, 0))
    classes = torch.stack([own_left, own_right], 1)
    seen = (parts > 0) & (depth > 0)
    values = torch.where(seen, depth, torch.nan).flatten(1)
    median = values.nanmedian(1, keepdim=True).values
    spread = (values - median).abs().nanmean(1, keepdim=True).clamp_min(0.005)
    relative = ((values - median) / spread).unflatten(1, depth.shape[1:]).clamp(-6, 6)
    unit = (truth.joints_m[:, :, 9]).norm(dim=-1).clamp_min(1e-3)
    known = truth.joints_valid.all(-1)
    z = torch.where(known[..., None], truth.joints_m[..., 2] / unit[..., None], 0.0)
    said, sure = _taught_keypoints(scene, view)
    by_teacher = scene["taught"][:, None, None] & truth.xy_valid
    keypoints = torch.cat([torch.where(by_teacher[..., None], said, truth.joints_xy), z[..., None]], -1)
    confidence = torch.where(by_teacher, sure, truth.xy_valid.float())
    light = torch.zeros(count, dtype=torch.bool)
    full = torch.zeros(count, dtype=torch.bool)
    annotated = truth.prior_valid
    read = annotated
    if a:
        draw = torch.from_numpy(rng.random(count))
        light, full = draw < a.light_prior, (draw >= a.light_prior) & (draw < a.light_prior + a.full_prior)
        # The teacher reads whatever hand it finds in a crop: in a second box of a hand that hand, and of two hands sometimes the other one.
        other, in_crop = _others_keypoints(scene, view, keypoints[..., 2], truth)
        misread = wrong | (annotated.all(1)[:, None] & torch.from_numpy(rng.random((count, 2)) < a.misread))
        misread &= in_crop & light[:, None]
        keypoints = torch.where(misread[..., None, None], other, keypoints)
        confidence = torch.where(misread[..., None], (other[..., :2].abs().amax(-1) < 0.75).float(), confidence)
        read = annotated | misread
        level = rng.uniform(0.005, 0.03, (count, 1, 1, 1)) * np.where(rng.random((count, 2, 21, 1)) < 0.06, 4, 1)
        noise = rng.normal(0, 1, (count, 2, 21, 3)) * level * np.array([1, 1, 8])
        common = rng.normal(0, 1, (count, 2, 1, 3)) * np.array([0.008, 0.008, 0.05])
        tilt = rng.normal(0, 0.15, (count, 2, 1, 2))
        noisy = keypoints + torch.from_numpy(noise + common).float()
        # The light teacher's depths lean: add a random slope of depth over the crop.
        lean = ((keypoints[..., :2] - keypoints[:, :, :1, :2]) * torch.from_numpy(tilt).float() * 2).sum(-1)
        noisy = torch.cat([noisy[..., :2], (noisy[..., 2] + lean)[..., None]], -1)
        keypoints = torch.where(light[:, None, None, None], noisy, keypoints)
        dropped = torch.from_numpy(rng.random((count, 2, 21)) < 0.03)
        confidence = torch.where(light[:, None, None] & dropped, 0.0, confidence)
    keypoints = torch.where((confidence > 0)[..., None] & keypoints.isfinite(), keypoints, 0.0)
    maps = scene["has_maps"].bool()[:, None] & ~light[:, None] & annotated
    flat = CropPriors(
        keypoints.flatten(0, 1), confidence.flatten(0, 1), classes.flatten(0, 1), relative.flatten(0, 1),
        read.flatten(), maps.flatten(), maps.flatten(),
    )  # fmt: skip
    # Without 3D the keypoints' depths are not known, and F_p would say that the hand is flat.
    deep = (known | ~annotated).all(1)
    return flat, (light | full) & deep, annotated & maps


def _others_keypoints(scene: dict, view: PairView, z: Tensor, truth: HandTruth) -> tuple[Tensor, Tensor]:
    """(keypoints, whether most of them are in the crop) of the hand in the other slot, in each crop's terms. `z` (pairs, 2, 21)."""
    camera = scene["camera"].map(lambda t: t[:, None])
    xy = view.crop.image_to_crop(camera, scene["keypoints_xy"].flip(1)) / view.crop.size_px - 0.5
    known = scene["hand_valid"].bool().flip(1) & truth.joints_valid.all(-1).flip(1)
    inside = (xy.isfinite() & (xy.abs() < 0.5)).all(-1).float().mean(-1) > 0.7
    return torch.cat([xy, z.flip(1)[..., None]], -1), known & inside


def _taught_keypoints(scene: dict, view: PairView) -> tuple[Tensor, Tensor]:
    """A teacher's keypoints in crop sides from the crop's centre, and its confidence, 0 far outside."""
    camera = scene["camera"].map(lambda t: t[:, None])
    xy = view.crop.image_to_crop(camera, scene["prior_keypoints_xy"]) / view.crop.size_px - 0.5
    near = xy.isfinite().all(-1) & (xy.abs().amax(-1) < 0.75)
    return torch.where(near[..., None], xy, 0.0), torch.where(near, scene["prior_confidence"], 0.0)


def _change_pixels(crops: Tensor, rng: np.random.Generator, a: AugmentConfig) -> Tensor:
    """Colour, contrast, blur, noise and pasted patches, each crop by itself but both hands of a scene in one light."""
    pairs, _, _, size, _ = crops.shape
    gain = np.exp(rng.normal(0, 0.15 * a.colour, (pairs, 1, 3, 1, 1)) + rng.normal(0, 0.3 * a.colour, (pairs, 1, 1, 1, 1)))
    offset = rng.normal(0, 0.08 * a.colour, (pairs, 1, 1, 1, 1))
    crops = crops * torch.from_numpy(gain).float() + torch.from_numpy(offset).float()
    grey = torch.from_numpy(rng.random(pairs) < 0.12)
    crops = torch.where(grey[:, None, None, None, None], crops.mean(2, keepdim=True), crops)
    crops = _worn(crops, rng, a)
    flat = crops.flatten(0, 1)
    soft = np.flatnonzero(rng.random(len(flat)) < 0.25)
    if len(soft):
        small = int(size * rng.uniform(0.35, 0.8))
        blurred = functional.interpolate(flat[soft], size=(small, small), mode="bilinear", antialias=True)
        flat[soft] = functional.interpolate(blurred, size=(size, size), mode="bilinear")
    noise = torch.from_numpy(np.abs(rng.normal(0, 0.03, (len(flat), 1, 1, 1))) * (rng.random((len(flat), 1, 1, 1)) < 0.5)).float()
    flat = torch.addcmul(flat, noise, torch.from_numpy(grain(rng, flat.numel())).view_as(flat))
    for i in np.flatnonzero(rng.random(len(flat)) < a.cover):
        height, width = (rng.uniform(0.12, 0.4, 2) * size).astype(int)
        y, x = rng.integers(0, size - height), rng.integers(0, size - width)
        if rng.random() < 0.5:
            flat[i, :, y : y + height, x : x + width] = torch.from_numpy(rng.random((3, 1, 1), dtype=np.float32))
        else:
            donor = int(rng.integers(len(flat)))
            flat[i, :, y : y + height, x : x + width] = flat[donor, :, y : y + height, x : x + width].clone()
    return flat.clamp(0, 1).unflatten(0, (pairs, 2))


def _worn(crops: Tensor, rng: np.random.Generator, a: AugmentConfig) -> Tensor:
    """Some scenes as a bad camera sees them from afar, in the dark, or in haste."""
    size = crops.shape[-1]
    crops = crops.clone()
    for pair in np.flatnonzero(rng.random(len(crops)) < a.worn):
        coarse, dark, moved = rng.random(3) < 0.5
        hands = crops[pair]
        if moved:
            hands = _smeared(hands, rng.uniform(*a.smear) * size, rng.uniform(0, np.pi))
        if dark:
            left = float(np.exp(rng.uniform(*np.log(a.little_light))))
            noise = torch.from_numpy(grain(rng, hands.numel())).view_as(hands) * float(rng.uniform(0.01, 0.04))
            hands = hands.clamp(0, 1).pow(float(rng.uniform(1, 1.5))) * left + noise
            # Half of the cameras make it bright again, and the noise with it.
            hands = hands * float(rng.uniform(0.3, 0.8)) / left if rng.random() < 0.5 else hands
        if coarse:
            few = max(8, int(size * np.exp(rng.uniform(*np.log(a.few_pixels)))))
            small = functional.interpolate(hands, size=(few, few), mode="bilinear", antialias=True)
            hands = functional.interpolate(small, size=(size, size), mode="bicubic" if rng.random() < 0.5 else "bilinear")
        crops[pair] = hands
    return crops


def _smeared(images: Tensor, length_px: float, angle_rad: float) -> Tensor:
    """Images (n, 3, size, size) averaged along a line."""
    steps = int(np.clip(round(length_px), 2, 10))
    along = torch.linspace(-0.5, 0.5, steps) * length_px * 2 / images.shape[-1]
    grid = functional.affine_grid(torch.eye(2, 3)[None], [1, 1, *images.shape[-2:]], align_corners=False)
    total = torch.zeros_like(images)
    for t in along.tolist():
        shifted = grid + torch.tensor([t * np.cos(angle_rad), t * np.sin(angle_rad)], dtype=torch.float32)
        total += functional.grid_sample(images, shifted.expand(len(images), -1, -1, -1), padding_mode="border", align_corners=False)
    return total / steps


def _mirror_some(batch: PairBatch, which: Tensor) -> PairBatch:
    """Mirrors the chosen scenes: the hands change places, crops stay as they are (a mirrored left crop IS a right hand's crop)."""

    def swap(t: Tensor) -> Tensor:
        return torch.where(which.view(-1, *[1] * (t.ndim - 1)), t.flip(1), t)

    pairs = which.shape[0]
    geometry = batch.view.geometry
    mirrored = geometry.flip(1) * torch.tensor([-1.0, 1, 1, 1, -1, 1, 1, 1])
    mirrored[..., 6] = geometry[..., 6]
    geometry = torch.where(which[:, None, None], mirrored, geometry)
    sign = torch.tensor([1.0, -1.0, -1.0])
    truth = batch.truth
    relative = torch.where(which[:, None], truth.relative_m * sign, truth.relative_m)
    kept = {"relative_m": relative, "relative_valid": truth.relative_valid}
    swapped = {name: swap(value) for name, value in truth.__dict__.items() if name not in kept}
    priors = batch.priors.map(lambda t: swap(t.unflatten(0, (pairs, 2))).flatten(0, 1))
    view = PairView(batch.view.crop, batch.view.common, geometry)
    return PairBatch(swap(batch.crops), view, swap(batch.present), priors, batch.use_prior, HandTruth(**swapped, **kept))


def crop_truth_in_pixels(crop: Crop, truth: HandTruth) -> Tensor:
    """2D truth in crop pixels, for drawing."""
    return (truth.joints_xy + 0.5) * crop.size_px
