"""A film of two hands that move, and networks that read it truly but for noise, told each frame by a number painted into it."""

from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from twohands.geometry.camera import Camera
from twohands.hands.bundled import load_bundled_hand
from twohands.hands.model import HandModel
from twohands.hands.parameters import HandParameters
from twohands.joints import MIDDLE_MCP
from twohands.pipeline import Pipeline
from twohands.record import stack
from twohands.schema import Detection, HandPair, Stage1Hands
from twohands.video.media import Frame

WIDTH, HEIGHT = 160, 120
FPS = 30.0


def painted(number: int) -> np.ndarray:
    """A picture that says which one it is."""
    image = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
    image[:40, :40] = number
    return image


def number_of(image: np.ndarray) -> int:
    return round(float(image[8:32, 8:32].mean()))


@dataclass
class Film:
    """The truth of every frame, and stages that know it. A hand is told by the box that is asked about: the nearest true hand answers,
    whichever side was asked for, as networks do."""

    motion: list[HandParameters]
    """Both hands of one person, frame by frame."""
    hidden: set[tuple[int, int]] = field(default_factory=set)
    """(frame, hand) that cannot be seen."""
    noise: float = 0.0
    """Of pose (rad) and, a tenth of it, of place (m)."""
    wrong_side: set[int] = field(default_factory=set)
    """Frames in which the detector takes each hand for the other side."""
    broken: set[int] = field(default_factory=set)
    guessed_m: float = 0.0
    """How far stage 2 guesses hands that were read to be lower."""
    camera: Camera = field(default_factory=lambda: Camera.from_fov(WIDTH, HEIGHT, 60.0))
    model: HandModel = field(default_factory=load_bundled_hand)
    asked: int = 0
    now: int = 0
    looks: list[tuple[int, HandPair]] = field(default_factory=list)
    """Frames that stage 1 looked at, and where."""

    def __post_init__(self) -> None:
        self.keypoints = self.model.pose_hands(stack(self.motion)).keypoints()
        self.xy = self.camera.project(self.keypoints)

    def frames(self) -> list[Frame]:
        return [Frame(k / FPS, None if k in self.broken else painted(k), "broken" * (k in self.broken)) for k in range(len(self.motion))]

    def visible(self, frame: int) -> list[int]:
        inside = ((self.xy[frame] > 0) & (self.xy[frame] < torch.tensor([WIDTH, HEIGHT]))).all(-1).float().mean(-1) > 0.5
        return [hand for hand in (0, 1) if (frame, hand) not in self.hidden and inside[hand]]

    def __call__(self, image: np.ndarray) -> Detection:
        self.asked += 1
        frame = number_of(image)
        at = self.visible(frame)
        xy = self.xy[frame, at]
        along = xy[:, MIDDLE_MCP] - xy[:, 0]
        turned = frame in self.wrong_side
        right = torch.tensor([0.95 if bool(hand) != turned else 0.05 for hand in at])
        box = torch.cat([xy.amin(1), xy.amax(1)], -1)
        return Detection(box, torch.full((len(at),), 0.9), right, along / along.norm(dim=-1, keepdim=True), (0,) * len(at))

    def infer(self, image: Tensor, camera: Camera, pairs: list[HandPair], seen=None, looks=None) -> list[Stage1Hands]:
        self.now = number_of(image.permute(1, 2, 0).numpy())
        self.looks += [(self.now, pair) for pair in pairs]
        return [self._answer(pair) for pair in pairs]

    def _answer(self, pair: HandPair) -> Stage1Hands:
        generator = torch.Generator().manual_seed(self.now)
        truth, seen = self.motion[self.now], self.visible(self.now)
        boxes = torch.cat([self.xy[self.now].amin(1), self.xy[self.now].amax(1)], -1)
        hands = HandParameters.zeros()
        presence, side_correct = torch.full((2,), 0.02), torch.full((2,), 0.5)
        hands.translation_m[:, 2] = 1.0
        for asked in (0, 1):
            if not seen:
                continue
            true = min(seen, key=lambda hand: float((boxes[hand] - pair.box_xyxy_px[asked]).abs().sum()))
            size = float((boxes[true, 2:] - boxes[true, :2]).max())
            near = float((boxes[true] - pair.box_xyxy_px[asked]).abs().max()) < size
            noise = torch.randn(16, 3, generator=generator) * self.noise
            pose = truth.pose[true] + noise
            if asked != true:
                pose = torch.cat([pose[:, :1], -pose[:, 1:]], 1)
            hands.pose[asked], hands.shape[asked] = pose, truth.shape[true]
            rest = self.model.with_shape(truth.shape).joints_rest_m[:, 0]
            place = rest[true] + truth.translation_m[true] - rest[asked]
            hands.translation_m[asked] = place + torch.randn(3, generator=generator) * self.noise * 0.1
            presence[asked] = 0.98 if near else 0.02
            side_correct[asked] = 0.95 if asked == true else 0.6
        return Stage1Hands(hands, self.model.pose_hands(hands).keypoints(), torch.full((2, 21), 0.8), presence, side_correct)

    @property
    def projector(self) -> "Film":
        return self

    def guess(self, model: HandModel, parameters: HandParameters, keypoint_confidence: Tensor) -> HandParameters:
        return replace(parameters, translation_m=parameters.translation_m + torch.tensor([0.0, self.guessed_m, 0.0]))

    def refine(self, model: HandModel, parameters: HandParameters, keypoint_confidence: Tensor) -> "Parted":
        apart = torch.zeros_like(parameters.translation_m)
        apart[:, 0, 2], apart[:, 1, 2] = 0.02, -0.02
        moved = HandParameters(parameters.pose, parameters.shape, parameters.translation_m + apart)
        return Parted(moved, torch.ones(len(apart), dtype=torch.bool))

    def pipeline(self) -> Pipeline:
        return Pipeline(self, self, self, self.model, self.model)


@dataclass(frozen=True)
class Parted:
    parameters: HandParameters
    refined: Tensor
