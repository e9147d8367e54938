"""When to believe the light teacher on a photo that nobody annotated: it must say the same however the hand is shown to it, and a hand that could
be real must fit what it says.

MediaPipe's landmark network always answers. A reading of a hand that it understands moves by one or two per cent of the hand's size when the crop
is shifted, scaled, turned or mirrored; one that it does not understand jumps.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float, UInt8

from twohands.geometry.camera import Camera
from twohands.geometry.photo import DEFAULT_FOV_DEG
from twohands.hands.from_keypoints import hands_from_keypoints
from twohands.hands.limits import JointLimits
from twohands.hands.model import HandModel
from twohands.joints import MIDDLE_MCP
from twohands.priors.install import LANDMARK
from twohands.priors.mediapipe import LandmarkReading, LandmarkTeacher
from twohands.priors.teacher import Lesson, Question, silent_maps
from twohands.schema import Detection, PriorMaps, Sample


@dataclass(frozen=True)
class Look:
    """One way of showing a hand."""

    flipped: bool = False
    scale: float = 1.0
    """Of the box."""
    turn_deg: float = 0.0
    """Of the direction."""
    shift: tuple[float, float] = (0.0, 0.0)
    """Of the box, in its sides."""


LOOKS = (Look(), Look(flipped=True), Look(scale=1.25), Look(scale=0.85, turn_deg=12.0), Look(True, 1.1, -12.0, (0.07, -0.05)))


@dataclass(frozen=True)
class TrustConfig:
    """Where belief ends. Distances are means over the 21 keypoints, in longer sides of their box."""

    agreement: float = 0.06
    """Largest distance between two readings that agree."""
    presence: float = 0.6
    """Least mean presence over the looks."""
    least_share: float = 0.75
    """Of the looks, how many must agree."""
    fit: float = 0.03
    """Largest distance of the fitted hand's keypoints from the readings' mean."""
    same_hand: float = 0.25
    """Two hands nearer than this are one; the less trusted is dropped."""
    most_hands: int = 4
    """Detections that are looked at, surest first."""


@dataclass(frozen=True)
class Judged:
    """n hands after all looks."""

    keypoints_xy: Float[np.ndarray, "n 21 2"]
    """Mean of the readings that agree, in pixels of the photo."""
    world_m: Float[np.ndarray, "n 21 3"]
    right_probability: Float[np.ndarray, "n"]
    trust: Float[np.ndarray, "n"]
    spread: Float[np.ndarray, "n"]
    latent: Float[np.ndarray, "n feature"] | None
    """Of the plain look."""


@dataclass
class TrustedLandmarks:
    """The light teacher on whole photos: `find` says where hands are, the landmark network reads them LOOKS times, and what agrees is believed."""

    read: LandmarkTeacher
    find: Callable[[UInt8[np.ndarray, "height width 3"]], Detection]
    hand: HandModel
    limits: JointLimits
    finder: str = "detector"
    """What `find` is, for the cache's description."""
    config: TrustConfig = field(default_factory=TrustConfig)

    def describe(self) -> dict[str, str]:
        return {"teacher": "landmark", "landmark": LANDMARK.sha256, "finder": self.finder, "latents": str(self.read.keeps_latents)}

    def __call__(self, question: Question) -> Lesson:
        boxes, directions, sides = self._where(question)
        if not len(boxes):
            return Lesson(silent_maps(), torch.zeros(2), torch.zeros(2, 21, 3), self._no_latent())
        judged = self.judge(question.image, boxes, directions)
        said = (judged.right_probability > 0.5).astype(int)
        # A truth that is asked about knows its sides: a reading that contradicts it is not believed.
        trust = judged.trust if sides is None else np.where(said == sides, judged.trust, 0.0)
        return self._lesson(judged, said if sides is None else sides, trust)

    def _where(self, question: Question) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        if question.truth is not None:
            return _boxes_of(question.truth)
        found = self.find(question.image)
        best = found.score.argsort(descending=True)[: self.config.most_hands]
        boxes = found.box_xyxy_px[best].numpy()
        usable = ((boxes[:, 2:] - boxes[:, :2]) > 4).all(1)
        return boxes[usable], found.direction[best].numpy()[usable], None

    def judge(self, image: np.ndarray, boxes: Float[np.ndarray, "n 4"], directions: Float[np.ndarray, "n 2"]) -> Judged:
        """Every look at every hand, and what to make of them."""
        mirrored = np.ascontiguousarray(image[:, ::-1])
        readings = [self._look(mirrored if look.flipped else image, boxes, directions, look) for look in LOOKS]
        points = np.stack([r.keypoints_xy_image for r in readings])
        sides_px = np.ptp(points, axis=2).max(-1).clip(1.0)
        apart = np.linalg.norm(points[:, None] - points[None], axis=-1).mean(-1) / np.maximum(sides_px[:, None], sides_px[None])
        near = apart < self.config.agreement
        flips = np.array([look.flipped for look in LOOKS])
        right = np.stack([r.right_probability for r in readings])
        presence = np.stack([r.presence for r in readings]).mean(0)
        n = len(boxes)
        xy, world = np.zeros((n, 21, 2), np.float32), np.zeros((n, 21, 3), np.float32)
        trust, spread, sided = np.zeros(n, np.float32), np.zeros(n, np.float32), np.zeros(n, np.float32)
        for k in range(n):
            centre = max(range(len(LOOKS)), key=lambda i: (near[i, :, k].sum(), -apart[i, :, k].mean()))
            agreeing = near[centre, :, k]
            xy[k] = points[agreeing, k].mean(0)
            world[k] = np.stack([r.keypoints_world_m[k] for r in readings])[agreeing].mean(0)
            sided[k] = right[agreeing, k].mean()
            spread[k] = np.linalg.norm(points[agreeing, k] - xy[k], axis=-1).mean() / max(np.ptp(xy[k], axis=0).max(), 1.0)
            one_side = len(set(right[agreeing, k] > 0.5)) == 1
            # The mirrored looks are the test that a lucky guess does not pass.
            both_ways = flips[agreeing].any() and not flips[agreeing].all()
            if one_side and both_ways and presence[k] > self.config.presence and agreeing.mean() >= self.config.least_share:
                trust[k] = agreeing.mean() * (1 - 0.5 * min(1.0, spread[k] / self.config.agreement))
        trust = np.where(self._fits(image, xy, world, sided, trust), trust, 0.0).astype(np.float32)
        return Judged(xy, world, sided, trust, spread, readings[0].latent)

    def _look(self, image: np.ndarray, boxes: np.ndarray, directions: np.ndarray, look: Look) -> LandmarkReading:
        """The reading of one look, brought back to the photo."""
        width = image.shape[1]
        centre, half = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]) / 2
        centre = centre + np.array(look.shift) * 2 * half.max(1, keepdims=True)
        half = half * look.scale
        turn = math.radians(look.turn_deg)
        rotation = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
        directions = directions @ rotation.T
        if look.flipped:
            centre, directions = centre * [-1, 1] + [width, 0], directions * [-1, 1]
        seen = self.read(image, np.concatenate([centre - half, centre + half], 1), directions)
        if not look.flipped:
            return seen
        mirror_2d, mirror_3d = np.array([-1, 1], np.float32), np.array([-1, 1, 1], np.float32)
        return LandmarkReading(
            seen.keypoints_xy_image * mirror_2d + np.array([width, 0], np.float32),
            seen.depth_px,
            seen.keypoints_world_m * mirror_3d,
            seen.presence,
            1 - seen.right_probability,
            seen.latent,
        )

    def _fits(self, image: np.ndarray, xy: np.ndarray, world: np.ndarray, right: np.ndarray, trust: np.ndarray) -> np.ndarray:
        """Whether a hand within its joint limits comes close to the reading. Only asked of readings that are believed otherwise."""
        fits = np.zeros(len(xy), bool)
        asked = np.flatnonzero(trust > 0)
        if len(asked):
            camera = Camera.from_fov(image.shape[1], image.shape[0], DEFAULT_FOV_DEG)
            rays = camera.rays(torch.from_numpy(xy[asked]))[..., :2]
            side = torch.from_numpy((right[asked] > 0.5).astype(np.int64))
            _, error = hands_from_keypoints(self.hand, self.limits, rays, torch.from_numpy(world[asked]), side)
            fits[asked] = error.numpy() < self.config.fit
        return fits

    def _lesson(self, judged: Judged, side: np.ndarray, trust: np.ndarray) -> Lesson:
        """The most trusted hand of each side; two that lie on one another are one hand."""
        best: dict[int, int] = {}
        for k in np.argsort(-trust):
            xy = judged.keypoints_xy[k]
            size = max(np.ptp(xy, axis=0).max(), 1.0)
            taken = any(np.linalg.norm(judged.keypoints_xy[j] - xy, axis=-1).mean() / size < self.config.same_hand for j in best.values())
            if side[k] not in best and not taken:
                best[int(side[k])] = int(k)
        blank = silent_maps()
        lesson = Lesson(blank, torch.zeros(2), torch.zeros(2, 21, 3), self._no_latent())
        assert blank.keypoint_depth is not None
        assert lesson.keypoints_world_m is not None
        for hand, k in best.items():
            blank.keypoints_xy[hand] = torch.from_numpy(judged.keypoints_xy[k])
            blank.keypoint_confidence[hand] = float(trust[k])
            lesson.trust[hand] = float(trust[k])
            relative = torch.from_numpy(judged.world_m[k])
            lesson.keypoints_world_m[hand] = relative
            blank.keypoint_depth[hand] = relative[:, 2] / relative[MIDDLE_MCP].norm().clamp_min(1e-3)
            if lesson.latent is not None and judged.latent is not None:
                lesson.latent[hand] = torch.from_numpy(judged.latent[k])
        maps = PriorMaps(blank.keypoints_xy, blank.keypoint_confidence, None, None, blank.keypoint_depth)
        return Lesson(maps, lesson.trust, lesson.keypoints_world_m, lesson.latent)

    def _no_latent(self) -> torch.Tensor | None:
        return torch.zeros(2, self.read.latent_width) if self.read.keeps_latents else None


def _boxes_of(truth: Sample) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Boxes, directions and sides of the annotated hands."""
    sides = np.flatnonzero((truth.hand_valid & truth.keypoints_xy.isfinite().all(-1).all(-1)).numpy())
    xy = truth.keypoints_xy.numpy()[sides]
    low, high = xy.min(1), xy.max(1)
    along = xy[:, MIDDLE_MCP] - xy[:, 0]
    direction = np.where(np.linalg.norm(along, axis=1, keepdims=True) > 1e-3, along, np.array([0.0, -1.0], np.float32))
    usable = (high - low > 1).all(1)
    return np.concatenate([low, high], 1)[usable], direction[usable], sides[usable]
