"""Stage 1 on a photo: views, network, and the metric placement of both hands in one camera frame."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from twohands.checkpoints import bundled_weights, load_weights, read_config, to_device
from twohands.geometry.camera import Camera
from twohands.geometry.crop import Crop
from twohands.geometry.rotations import matrix_to_rotvec, turn_to
from twohands.hands.fitting import FitConfig, KeypointObservation, fit_hands, place_hands
from twohands.hands.limits import JointLimits
from twohands.hands.mirror import left_as_right_rotation
from twohands.hands.model import HandModel
from twohands.hands.parameters import HandParameters
from twohands.joints import MIDDLE_MCP
from twohands.record import Record, stack
from twohands.regress.align import CropPriors, KeypointReading
from twohands.regress.crops import EXPANSION, PairView, followed_pair, on_grid, view_pairs
from twohands.regress.head import HandPrediction
from twohands.regress.losses import predicted_joints_m
from twohands.regress.network import PRIOR_GRID_FACTOR, Regressor, RegressorConfig
from twohands.schema import HandPair, OtherHand, Stage1Hands


class TeacherReading(Protocol):
    """What a keypoint teacher says of n hands."""

    @property
    def keypoints_xy_image(self) -> np.ndarray: ...
    @property
    def keypoints_world_m(self) -> np.ndarray: ...
    @property
    def presence(self) -> np.ndarray: ...
    @property
    def right_probability(self) -> np.ndarray: ...


class KeypointTeacher(Protocol):
    """The light teacher: (image uint8 (h, w, 3), boxes (n, 4), directions (n, 2)) to keypoints."""

    def __call__(self, image: np.ndarray, box_xyxy_px: np.ndarray, direction: np.ndarray) -> TeacherReading: ...


@dataclass(frozen=True)
class PlacementConfig:
    """How far the final fit may leave what the parameter head said, and how much each observation counts. Standard deviations."""

    orientation_rad: float = 0.1
    pose_rad: float = 0.2
    shape: float = 1.5
    """Of the shape but its size. Keypoints show how long fingers are against the palm; the head says little more than the mean."""
    size: float = 0.5
    """Of the first shape coefficient, which is mostly the hand's size. No photo tells it, and depths that are read too flat would make hands small."""
    iterations: int = 4
    """Steps of damped least squares that pull the hand's joints to the network's own 2.5D joints by their confidence. 0: pose and shape stay what the
    parameter head said, and only the hand's place follows the joints (`twohands photo --no-align`)."""
    floor_xy: float = 0.008
    """Least error of the network's 2D keypoints, crop sides."""
    depth: float = 0.2
    """Error of the network's keypoint depths, wrist - middle knuckle lengths."""
    relative_m: float = 0.015
    """Error of the predicted relative translation."""
    same_person_shape: float = 0.3
    nearest_m: float = 0.08
    """No hand is nearer to the lens."""
    out_of_reach_m: float = 0.2
    """Farther than this from the predicted relative translation, a fitted one is not believed."""
    teacher_xy: float = 0.012
    teacher_depth: float = 0.12
    teacher_apart: float = 4.0
    """Where network and teacher are farther apart than so many of the network's own errors, they speak of two hands: the teacher is not believed."""
    teacher_share: float = 2.0
    """What is added to it, in errors of the network's own keypoint, in crops that show the other hand too: where the one cannot see, the other could
    not either, and has perhaps read the wrong hand."""
    teacher_share_alone: float = 0.0
    """The same in crops of a hand by itself, of which the teacher has seen millions."""
    doubt: float = 0.03
    """Crop sides of error from which on a keypoint counts for less than its error says: such keypoints are guesses, mostly of what is hidden, and
    wrong together. Twice the error is taken here, more beyond. What the parameter head says of the pose is the better guess."""
    depth_share: float = 4.0
    """What is added to both depths' errors for the 2D error, in wrist - middle knuckle lengths a crop side,"""
    depth_share_beside: float = 10.0
    """and the same in crops that show the other hand too."""
    side_denied: float = -1.4
    """Log odds of the right side below which a hand, wherever its box, is no partner to whom the other one is fitted. A doubt is not enough here:
    a true pair that is not fitted together loses its relative place."""
    teacher_shown: bool = False
    """Whether the network sees the teacher's keypoints too, as F_k, and not only the fit. Trained with keypoints that are the truth, or near it, it
    believes them too much: of 164 rendered hands by themselves MPJPE is 29.1 mm without and 32.1 mm with them (docs/EXPERIMENTS.md)."""
    teacher_presence: float = 0.5
    """Below this presence score the teacher's reading is left out."""
    passes: int = 2
    """Looks at the hands: from the second on, crops follow the keypoints of the one before, so that a box or direction that is off costs little."""
    settled_share: float = 0.07
    """Sides of a box by which the keypoints' may differ without another look; training's boxes are off by as much. On held-out photos a third of the
    looks at hands by themselves is saved, and PCK@.1 stays within .001 (.004 for two hands that touch)."""
    settled_turn_deg: float = 10.0
    """The same of its direction."""
    box_share: float = 0.5
    """How far a later pass moves its box from the detector's towards the keypoints' own."""
    hidden_hands: bool = True
    """Where the network sees two hands of a pair in one place, let it overrule the teacher, who reads the nearer one twice. A film knows where each
    hand was, and there this does harm: hands that clasp in its clips err twice as much with it."""
    on_grid: bool = True
    """Look at crops on a grid (`crops.on_grid`), so that a photo's hands are the same on every engine. Hands that are followed through a film are
    not: from frame to frame a crop would jump where the hand glides."""


@dataclass(frozen=True)
class PlacedReading(Record):
    """What the light teacher, or in its place the alignment encoder, reads in the pairs, in the camera frame."""

    ray_xy: Float[Tensor, "pair hand 21 2"]
    depth: Float[Tensor, "pair hand 21"]
    """Behind the wrist, in wrist - middle knuckle lengths."""
    presence: Float[Tensor, "pair hand"]
    side_correct: Float[Tensor, "pair hand"]
    """Probability that the hand in the crop has the side that was asked for."""


CLASPED_STEEPNESS, CLASPED_REACH = 4.0, 0.3
"""How sharply a crop counts as one of both hands around the probability of one half; crop sides within which their centres then lie."""
READ_TWICE = 0.15
"""Sizes of a hand within which two readings of a pair's hands are readings of one hand."""
TWO_PLACES = 0.25
"""Sizes of a hand between the network's own keypoints of a pair's hands from which it sees two."""
BOTH_SIDES = 1.0
"""Log odds of the network's own from which each hand of a pair has its side: of one hand with two boxes it denies the wrong one (-.6 and less in 95 %
of held-out photos), of two that clasp it denies neither (2.2 and more in 95 % of rendered ones)."""
SIDE_BOUND, PRESENCE_BOUND = 4.0, 3.0
"""Log odds beyond which the network alone is never believed: it has not seen two boxes on one real hand, nor most things that are no hand."""
LEAST_FOLLOWED = 0.3
"""Presence above which a second look follows a hand's keypoints."""
SIDE_PRIOR, PRESENCE_PRIOR = 3.0, 1.0
"""Log odds of a right side and of a hand among the crops that training shows; they are taken off, since detections are wrong more often."""


class Stage1:
    """Crops in, two hands in the camera frame out. Satisfies the pipeline's `Regressor` protocol."""

    def __init__(
        self, network: Regressor, hand: HandModel, limits: JointLimits, teacher: KeypointTeacher | None = None,
        placement: PlacementConfig | None = None, device: str = "cpu",
    ) -> None:  # fmt: skip
        self.network, self.hand, self.limits, self.teacher = network, hand, limits, teacher
        self.placement, self.device = placement or PlacementConfig(), device

    @staticmethod
    def load(
        hand: HandModel, limits: JointLimits, path: Path | None = None, teacher: KeypointTeacher | None = None, device: str = "cpu",
        placement: PlacementConfig | None = None,
    ) -> "Stage1":  # fmt: skip
        """From a weights file (the bundled one by default). UserError if it is missing or belongs to another network."""
        path = path or bundled_weights("regressor.safetensors")
        network = Regressor(read_config(path, RegressorConfig))
        load_weights(path, network)
        to_device(network, device)
        return Stage1(network.to(memory_format=torch.channels_last), hand, limits, teacher, placement, device)  # type: ignore[call-overload]

    @torch.inference_mode()
    def infer(
        self, image: UInt8[Tensor, "3 height width"] | Float[Tensor, "3 height width"], camera: Camera, pairs: list[HandPair],
        seen: list[Stage1Hands] | None = None, looks: int | None = None,
    ) -> list[Stage1Hands]:  # fmt: skip
        """The hands of each pair in the camera frame, from an RGB image (bytes, or floats in 0..1). An absent hand's entries are finite and mean
        nothing. `seen`: what a first look at these pairs has said; the others follow it. `looks`: how many at most, by default as the
        placement's config says."""
        if not pairs:
            return []
        pair = stack(pairs)
        last = self.placement.passes - 1
        if seen is None:
            looked = self._look(image, camera, pair, _apart(pair) if last == 0 else None)
            seen = [looked[k] for k in range(len(pairs))]
        hands = list(seen)
        for look in range(1, self.placement.passes if looks is None else looks):
            before = stack(hands)
            xy = camera.map(lambda t: t.expand(1, 1, *t.shape)).project(before.keypoints_m)
            followed = followed_pair(pair, xy, before.presence > LEAST_FOLLOWED, self.placement.box_share)
            # Where the look before was at the right place another one would show the same; but the teacher's word is still to be heard.
            asked = ~_sees_other(before, pair) if self.teacher is not None and look == last else torch.zeros(len(pairs), dtype=torch.bool)
            again = [k for k in range(len(pairs)) if bool(asked[k]) or not _settled(followed[k], pair[k], self.placement)]
            if again:
                looked = self._look(image, camera, followed[again], asked[again])
                for place, k in enumerate(again):
                    hands[k] = looked[place]
            pair = followed
        return hands

    def _look(self, image: Tensor, camera: Camera, pair: HandPair, asked: Bool[Tensor, "pair"] | None) -> Stage1Hands:
        """One pass over the pairs. `asked`: of whose hands the teacher is to say something, if there is one; the encoder reads the others."""
        pair = on_grid(pair) if self.placement.on_grid else pair
        view = view_pairs(camera, pair, self.network.config.crop_px)
        crops = view.crop.resample(image.cpu(), camera)
        priors, said = self._ask_teacher(image, camera, pair, view, asked)
        shown = use = None
        if self.placement.teacher_shown and priors is not None and asked is not None:
            shown, use = priors.to(self.device), asked.to(self.device)
        prediction, _ = self.network(crops.to(self.device), view.geometry.to(self.device), pair.present.to(self.device), shown, use)
        prediction = prediction.to("cpu").to(torch.float32)
        reading = None if prediction.reading is None else _own_reading(view, prediction.reading)
        if said is not None and asked is not None:
            reading = said if reading is None else _both_heard(reading, said, asked, self.placement.teacher_presence)
        return self._place(camera, pair, view, prediction, reading)

    def _ask_teacher(
        self, image: Tensor, camera: Camera, pair: HandPair, view: PairView, asked: Bool[Tensor, "pair"] | None
    ) -> tuple[CropPriors | None, PlacedReading | None]:
        """F_k's input from the light teacher, and its reading in the camera frame, for the pairs of whom it is asked; None if it is of nobody."""
        if self.teacher is None or asked is None or not bool(asked.any()):
            return None, None
        count = pair.present.shape[0]
        index = (pair.present & asked[:, None]).flatten().nonzero()[:, 0]
        whole = image if image.dtype == torch.uint8 else (image * 255).round().clamp(0, 255).to(torch.uint8)
        pixels = np.ascontiguousarray(whole.permute(1, 2, 0).cpu().numpy())
        box = pair.box_xyxy_px.flatten(0, 1)[index].numpy()
        said = self.teacher(pixels, box, pair.direction.flatten(0, 1)[index].numpy())

        def scatter(values: np.ndarray) -> Tensor:
            full = torch.zeros(2 * count, *values.shape[1:])
            full[index] = torch.from_numpy(np.ascontiguousarray(values)).float()
            return full.unflatten(0, (count, 2))

        xy, world, presence = scatter(said.keypoints_xy_image), scatter(said.keypoints_world_m), scatter(said.presence)
        trust = ((presence > self.placement.teacher_presence) & pair.present).float()
        # Its depths are those along the line of sight to the hand, not along the camera's axis.
        R_camera_sight = turn_to(view.crop.to_camera_frame(torch.tensor([[0.0, 0.0, 1.0]]))[..., 0, :])
        relative = (world - world[:, :, :1]) @ R_camera_sight.transpose(-1, -2)
        palm = relative[:, :, MIDDLE_MCP].norm(dim=-1).clamp_min(1e-3)[..., None]
        in_crop = view.crop.to_crop_frame(relative)
        per_hand = camera.map(lambda t: t.expand(1, 1, *t.shape))
        xy_crop = view.crop.image_to_crop(per_hand, xy) / view.crop.size_px - 0.5
        keypoints = torch.cat([xy_crop, (in_crop[..., 2] / palm)[..., None]], -1)
        grid = self.network.token_grid(view.crop.size_px) * PRIOR_GRID_FACTOR
        nothing = torch.zeros(2 * count, dtype=torch.bool)
        priors = CropPriors(
            keypoints.flatten(0, 1), trust[..., None].expand(-1, -1, 21).flatten(0, 1), torch.zeros(2 * count, grid, grid, dtype=torch.long),
            torch.full((2 * count, grid, grid), torch.nan), trust.flatten() > 0, nothing, nothing,
        )  # fmt: skip
        right = scatter(said.right_probability)
        side_correct = torch.stack([1 - right[:, 0], right[:, 1]], 1)
        return priors, PlacedReading(camera.rays(xy)[..., :2], relative[..., 2] / palm, presence, side_correct)

    def _place(
        self, camera: Camera, pair: HandPair, view: PairView, prediction: HandPrediction, reading: PlacedReading | None
    ) -> Stage1Hands:
        """Parameters in the camera frame that agree with the 2.5D joints, the shape and the relative translation (all at once, least squares)."""
        c = self.placement
        seen = _Seen.of(predicted_joints_m(self.hand, prediction), pair, view, prediction, c)
        side_logit = (prediction.side_logit - SIDE_PRIOR).clamp(-SIDE_BOUND, SIDE_BOUND)
        presence_logit = (prediction.presence_logit - PRESENCE_PRIOR).clamp(-PRESENCE_BOUND, PRESENCE_BOUND)
        observed = seen.keypoints
        if reading is not None:
            heard = _Heard.of(reading, seen, pair, prediction, c)
            observed = heard.keypoints
            # The teacher has seen millions of hands, and things that are none. Where it reads another hand than the network does, as it will in a
            # crop of clasped hands, what it says is about that one; and of which of a pair it tells the side there, nobody knows.
            presence_logit = presence_logit + heard.own * torch.logit(reading.presence, eps=1e-3)
            side_logit = torch.where(heard.two, prediction.side_logit - BOTH_SIDES, side_logit).clamp(-SIDE_BOUND, SIDE_BOUND)
            side_logit = side_logit + heard.agreement * (1 - seen.clasped * heard.two) * torch.logit(reading.side_correct, eps=1e-3)
        # A hand must not be pulled about by its own second box. One that is hardly seen has its place from the other alone; where it is none at
        # all, the caller drops it and asks about the other by itself.
        both = (pair.present & (side_logit > c.side_denied)).all(1)
        relative = (prediction.relative_m[:, None] @ view.common.R_crop_camera)[:, 0]
        fitted, keypoints = self._fitted(view, prediction, observed, relative, both)
        confidence = 1 - torch.exp(-0.1 / EXPANSION / seen.laplace)
        moved_m = _back_in_reach(keypoints[:, :, 0], observed.ray_xy[:, :, 0], relative, confidence.mean(-1), both, c)
        fitted = HandParameters(fitted.pose, fitted.shape, fitted.translation_m + moved_m)
        shown = pair.present.float()
        return Stage1Hands(
            fitted, keypoints + moved_m[:, :, None], confidence * shown[..., None], presence_logit.sigmoid() * shown, side_logit.sigmoid() * shown,
            _other_hand(camera, view.crop, prediction.other, shown),
        )  # fmt: skip

    def _fitted(
        self, view: PairView, prediction: HandPrediction, observed: KeypointObservation, relative_m: Float[Tensor, "pair 3"],
        both: Bool[Tensor, "pair"],
    ) -> tuple[HandParameters, Float[Tensor, "pair hand 21 3"]]:  # fmt: skip
        """(parameters, keypoints) in the camera frame: what the parameter head said, pulled to the keypoints; of two hands one person's."""
        c = self.placement
        shape = torch.where(both[:, None, None], prediction.shape.mean(1, keepdim=True), prediction.shape)
        rotation = left_as_right_rotation(prediction.rotation)
        R_camera_crop = view.crop.R_crop_camera.transpose(-1, -2)
        rotation = torch.cat([R_camera_crop[:, :, None] @ rotation[:, :, :1], rotation[:, :, 1:]], 2)
        start = HandParameters(matrix_to_rotvec(rotation), shape, torch.zeros(*shape.shape[:2], 3))
        start = place_hands(self.hand, start, observed.ray_xy, observed.ray_weight)
        config = FitConfig(c.orientation_rad, c.pose_rad, c.shape, 1.0, 0.3, iterations=c.iterations, size=c.size)
        apart = (both.float() / c.relative_m)[:, None].expand(-1, 3)
        fitted = fit_hands(self.hand, start, observed, config, self.limits, relative_m, apart, c.same_person_shape)
        return fitted, self.hand.pose_hands(fitted).keypoints()


@dataclass(frozen=True)
class _Seen:
    """What the network sees, in the camera frame."""

    keypoints: KeypointObservation
    laplace: Float[Tensor, "pair hand 21"]
    """Scale of the 2D error, crop sides,"""
    error: Float[Tensor, "pair hand 21"]
    """and what the fit takes it to be."""
    depth_share: Float[Tensor, "pair hand 1"]
    """What the depth's error owes to it."""
    to_ray: Float[Tensor, "pair hand 1"]
    """From crop sides to the rays' unit."""
    shared: Float[Tensor, "pair hand"]
    """That a crop shows the other hand too,"""
    clasped: Float[Tensor, "pair hand"]
    """and that this lies on or behind the one in its middle."""

    @staticmethod
    def of(
        joints_crop_m: Float[Tensor, "pair hand 21 3"], pair: HandPair, view: PairView, prediction: HandPrediction, config: PlacementConfig
    ) -> "_Seen":
        crop, size = view.crop, view.crop.size_px
        palm = joints_crop_m[:, :, MIDDLE_MCP].norm(dim=-1).clamp_min(1e-3)[..., None, None]
        # 2.5D joints as points in palm units; their depth along the crop's axis becomes depth along the camera's.
        points = torch.cat([joints_crop_m[..., :2] / palm, prediction.joints_z[..., None]], -1)
        depth = crop.to_camera_frame(points - points[:, :, :1])[..., 2]
        rays = crop.rays((prediction.joints_xy + 0.5) * size)
        laplace = prediction.log_scale_xy.clamp(-7, 1).exp()
        to_ray = (size / crop.focal_px)[..., None]
        shown = pair.present.float()[..., None]
        shared = (CLASPED_STEEPNESS * prediction.other[..., 0]).sigmoid()
        clasped = shared * ((CLASPED_REACH - prediction.other[..., 1:3].norm(dim=-1)) / 0.03).sigmoid()
        error = laplace * (1 + laplace / config.doubt)
        depth_share = config.depth_share + (config.depth_share_beside - config.depth_share) * shared[..., None]
        weight = shown / ((error + config.floor_xy) * to_ray)
        depth_weight = shown / (config.depth + depth_share * error)
        observed = KeypointObservation(rays[..., :2] / rays[..., 2:], weight, depth, depth_weight)
        return _Seen(observed, laplace, error, depth_share, to_ray, shared, clasped)


@dataclass(frozen=True)
class _Heard:
    """What a reading adds to what is seen."""

    keypoints: KeypointObservation
    """Both together."""
    agreement: Float[Tensor, "pair hand"]
    """How far reading and network speak of one hand, 0 to 1,"""
    own: Float[Tensor, "pair hand"]
    """and that hand is not the person's other one, which was read twice."""
    two: Bool[Tensor, "pair 1"]
    """Where the network itself sees two hands, each on its side."""

    @staticmethod
    def of(reading: PlacedReading, seen: _Seen, pair: HandPair, prediction: HandPrediction, config: PlacementConfig) -> "_Heard":
        c, now = config, seen.keypoints
        apart = (reading.ray_xy - now.ray_xy).norm(dim=-1) / ((seen.laplace + c.floor_xy) * seen.to_ray)
        agreement = 1 / (1 + (apart.median(-1).values / c.teacher_apart).pow(4))
        sides = prediction.side_logit.amin(1) > BOTH_SIDES
        two = (pair.present.all(1) & sides & (_distance(now.ray_xy) > TWO_PLACES))[:, None] & c.hidden_hands
        own = agreement * ~(two & _read_twice(reading))
        trust = ((reading.presence > c.teacher_presence) & pair.present).float() * own.sqrt()
        # What the network cannot see the reading has not seen either.
        share = c.teacher_share_alone + (c.teacher_share - c.teacher_share_alone) * seen.shared[..., None]
        weight = trust[..., None] / ((c.teacher_xy + share * seen.error) * seen.to_ray)
        ray_xy, weight = _fuse(now.ray_xy, now.ray_weight[..., None], reading.ray_xy, weight[..., None])
        depth_weight = trust[..., None] / (c.teacher_depth + seen.depth_share * seen.error)
        depth, depth_weight = _fuse(now.depth, now.depth_weight, reading.depth, depth_weight)
        return _Heard(KeypointObservation(ray_xy, weight[..., 0], depth, depth_weight), agreement, own, two)


def _other_hand(camera: Camera, crop: Crop, said: Float[Tensor, "pair hand 6"], present: Float[Tensor, "pair hand"]) -> OtherHand:
    """Where each hand's crop shows the other one, from crop into image pixels."""
    size = crop.size_px
    centre = said[..., 1:3].clamp(-1, 1)
    side = said[..., 3].clamp(-3, 1).exp()
    tip = centre + 0.5 * side[..., None] * torch.nn.functional.normalize(said[..., 4:6], dim=-1)
    per_hand = camera.map(lambda t: t.expand(1, 1, *t.shape))
    xy = crop.crop_to_image(per_hand, (torch.stack([centre, tip], 2) + 0.5) * size)
    reach = xy[:, :, 1] - xy[:, :, 0]
    length = reach.norm(dim=-1).clamp_min(1e-3)
    return OtherHand(said[..., 0].sigmoid() * present, xy[:, :, 0], 2 * length, reach / length[..., None])


def _sees_other(hands: Stage1Hands, pair: HandPair) -> Bool[Tensor, "pair"]:
    """Whose crops show the person's other hand too. There the light teacher, who knows of one hand a crop, reads either of the two, or both into
    one: of two hands that clasp it tells the side no better than chance."""
    return (
        torch.zeros(len(pair.present), dtype=torch.bool) if hands.other is None else ((hands.other.probability > 0.5) & pair.present).any(1)
    )


def _apart(pair: HandPair) -> Bool[Tensor, "pair"]:
    """Whose boxes do not touch, as far as boxes tell."""
    low = torch.maximum(pair.box_xyxy_px[:, 0, :2], pair.box_xyxy_px[:, 1, :2])
    high = torch.minimum(pair.box_xyxy_px[:, 0, 2:], pair.box_xyxy_px[:, 1, 2:])
    return ~(pair.present.all(1) & (high > low).all(1))


def _read_twice(reading: PlacedReading) -> Bool[Tensor, "pair hand"]:
    """Where the teacher, asked for one hand, has read the person's other one, which lies before it: both readings are of one place, and its side is
    that of the other."""
    one_place = _distance(reading.ray_xy) < READ_TWICE
    return one_place[:, None] & (reading.side_correct < reading.side_correct.flip(1))


def _distance(ray_xy: Float[Tensor, "pair hand 21 2"]) -> Float[Tensor, "pair"]:
    """Median distance of a pair's keypoints over the larger hand's size."""
    size = (ray_xy.amax(2) - ray_xy.amin(2)).amax((1, 2)).clamp_min(1e-6)
    return (ray_xy[:, 0] - ray_xy[:, 1]).norm(dim=-1).median(-1).values / size


def _settled(a: HandPair, b: HandPair, config: PlacementConfig) -> bool:
    """Whether the crops of both would show so much the same that a second look is not worth its time."""
    side = (b.box_xyxy_px[:, 2:] - b.box_xyxy_px[:, :2]).amax(-1)
    moved = (a.box_xyxy_px - b.box_xyxy_px).abs().amax(-1) / side.clamp_min(1e-6)
    turned = (a.direction * b.direction).sum(-1).clamp(-1, 1).acos()
    near = (moved <= config.settled_share) & (turned <= math.radians(config.settled_turn_deg))
    return bool((near | ~b.present).all())


def _back_in_reach(
    wrist_m: Float[Tensor, "pair hand 3"],
    ray_xy: Float[Tensor, "pair hand 2"],
    relative_m: Float[Tensor, "pair 3"],
    sureness: Float[Tensor, "pair hand"],
    both: Bool[Tensor, "pair"],
    config: PlacementConfig,
) -> Float[Tensor, "pair hand 3"]:
    """How far to move hands whose place cannot be: where a pair's wrists are much farther apart than was predicted, or one is at the lens, the
    hand that is less sure was fitted to something else. It stays on its line of sight, at the depth that the surer hand and the predicted
    relative translation give."""
    depth = wrist_m[..., 2]
    at_lens = depth < config.nearest_m
    far_apart = (wrist_m[:, 0] - wrist_m[:, 1] - relative_m).norm(dim=-1) > config.out_of_reach_m
    wrong = both & (far_apart | at_lens.any(1))
    if not bool(wrong.any()):
        return torch.zeros_like(wrist_m)
    weak = torch.where(at_lens, -1.0, sureness).argmin(1)
    sign = torch.where(weak == 0, 1.0, -1.0)
    index = torch.arange(len(weak))
    target = (depth[index, 1 - weak] + sign * relative_m[:, 2]).clamp_min(config.nearest_m)
    line = torch.cat([ray_xy[index, weak], torch.ones_like(target)[:, None]], -1)
    moved = torch.zeros_like(wrist_m)
    moved[index, weak] = torch.where(wrong[:, None], line * target[:, None] - wrist_m[index, weak], 0.0)
    return moved


def _own_reading(view: PairView, reading: KeypointReading) -> PlacedReading:
    """The alignment encoder's keypoints, from the crops into the camera frame."""
    rays = view.crop.rays((reading.joints_xy + 0.5) * view.crop.size_px)
    palm = reading.joints_m[:, :, MIDDLE_MCP].norm(dim=-1).clamp_min(1e-3)[..., None]
    depth = view.crop.to_camera_frame(reading.joints_m)[..., 2] / palm
    return PlacedReading(rays[..., :2] / rays[..., 2:], depth, reading.presence_logit.sigmoid(), reading.side_logit.sigmoid())


def _both_heard(encoder: PlacedReading, teacher: PlacedReading, asked: Bool[Tensor, "pair"], least: float) -> PlacedReading:
    """What encoder and teacher read: their mean where the teacher was asked and found a hand, for the two have looked at different crops of it;
    of presence and side the teacher's word, where it was asked."""
    found = asked[:, None] & (teacher.presence > least)
    return PlacedReading(
        torch.where(found[..., None, None], (encoder.ray_xy + teacher.ray_xy) / 2, encoder.ray_xy),
        torch.where(found[..., None], (encoder.depth + teacher.depth) / 2, encoder.depth),
        torch.where(asked[:, None], teacher.presence, encoder.presence),
        torch.where(asked[:, None], teacher.side_correct, encoder.side_correct),
    )


def _fuse(a: Tensor, weight_a: Tensor, b: Tensor, weight_b: Tensor) -> tuple[Tensor, Tensor]:
    """Two measurements of one thing by their precisions (weights are inverse standard deviations)."""
    precision = weight_a.square() + weight_b.square()
    mean = (a * weight_a.square() + b * weight_b.square()) / precision.clamp_min(1e-12)
    return mean, precision.sqrt()
