"""Two posed hands in front of a camera, and networks that know the truth about them."""

import math
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from twohands.geometry.camera import Camera
from twohands.geometry.rotations import axis_rotation, matrix_to_rotvec
from twohands.hands.bundled import load_bundled_hand
from twohands.hands.mirror import mirror_rotvec
from twohands.hands.model import HandModel
from twohands.hands.parameters import HandParameters
from twohands.joints import MIDDLE_MCP
from twohands.people import boxes_in_one_place
from twohands.pipeline import Pipeline
from twohands.record import stack
from twohands.schema import Detection, HandPair, OtherHand, Stage1Hands

WIDTH, HEIGHT = 96, 64


def two_hands(gap_m: float, depth_m: float = 0.6, x_m: float = 0.0) -> HandParameters:
    """A left hand on the left and a right hand on the right of x, fingers up, backs towards the camera, wrists `gap_m` apart."""
    half = torch.tensor(math.pi / 2)
    # At rest the right hand's fingers point along -x and its back along +y; up is -y and the camera looks along +z.
    upright = axis_rotation(2, half) @ axis_rotation(0, -half)
    pose = torch.zeros(2, 16, 3)
    pose[1, 0] = matrix_to_rotvec(upright)
    pose[1, 1:13, 2] = 0.1
    pose[0] = mirror_rotvec(pose[1])
    translation = torch.tensor([[x_m - gap_m / 2, 0.08, depth_m], [x_m + gap_m / 2, 0.08, depth_m]])
    return HandParameters(pose, torch.zeros(2, 10), translation)


@dataclass
class Truth:
    """A detector, stage 1 and stage 2 in one, that return a known scene. Hands are told by the centre of their boxes."""

    people: list[HandParameters]
    camera: Camera = field(default_factory=lambda: Camera.from_fov(WIDTH, HEIGHT, 60.0))
    model: HandModel = field(default_factory=load_bundled_hand)
    right_probability: dict[tuple[int, int], float] = field(default_factory=dict)
    """What the detector believes of (person, hand), if not the truth."""
    presence: dict[tuple[int, int], float] = field(default_factory=dict)
    found: list[tuple[int, int]] | None = None
    """(person, hand) of each detection; None: each hand once."""
    sees_other: bool = False
    """Stage 1 says where the other hand of each is."""
    sees_it_again: bool = True
    """And does so when it looks at both."""
    side_correct: dict[tuple[int, int], float] = field(default_factory=dict)
    """How sure stage 1 is that (person, hand), asked as what it is, has that side."""
    guess_off_px: float = 0.0
    """How far beside the other hand it says that this is; a hand in a box that is off it hardly believes in."""
    other_is_itself: bool = False
    """It takes the hand itself for the other one."""
    misled: bool = False
    """Looking at a pair more than once it ends at the right hand with both."""
    makes_up: float | None = None
    """Asked for the other hand in a hand's box it makes one up beside it, whose keypoints it is so sure of."""
    sobers: bool = False
    """What it made up at a glance it denies when it looks well."""
    misdirected: dict[tuple[int, int], int] = field(default_factory=dict)
    """By how many quarters of a turn the detector is wrong about where (person, hand) points. Stage 1 then reads hands that are upright in their crops,
    and hardly others."""
    oversized: dict[tuple[int, int], float] = field(default_factory=dict)
    """How many times too large the detector's box of (person, hand) is."""
    seen_up_to: float = math.inf
    """Stage 1 reads no hand in a box that is so many times as large as the hand."""
    credulous: bool = False
    """Asked for the hands the wrong way round it doubts no side, and hardly knows where keypoints are."""
    denies_both: bool = False
    """Asked for two hands in one place it denies the side of both."""
    refined_gap_m: float = 0.3
    asked: list[HandPair] = field(default_factory=list)
    refinements: int = 0

    def detections(self) -> list[tuple[int, int]]:
        every = [(person, hand) for person in range(len(self.people)) for hand in (0, 1)]
        return every if self.found is None else self.found

    def keypoints_xy(self) -> Tensor:
        """(person, hand, 21, 2)."""
        return self.camera.project(self.model.pose_hands(stack(self.people)).keypoints().flatten(0, 2)).view(-1, 2, 21, 2)

    def __call__(self, image: np.ndarray) -> Detection:
        at = self.detections()
        if not at:
            return Detection(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0), torch.zeros(0, 2), ())
        xy = torch.stack([self.keypoints_xy()[p, h] for p, h in at])
        direction = xy[:, MIDDLE_MCP] - xy[:, 0]
        turns = [axis_rotation(2, torch.tensor(math.pi / 2 * self.misdirected.get(h, 0)))[:2, :2] for h in at]
        direction = (torch.stack(turns) @ direction[..., None])[..., 0]
        low, high = xy.min(1).values, xy.max(1).values
        half = (high - low) / 2 * torch.tensor([self.oversized.get(h, 1.0) for h in at])[:, None]
        return Detection(
            box_xyxy_px=torch.cat([(low + high) / 2 - half, (low + high) / 2 + half], -1),
            score=torch.tensor([0.9 - 0.01 * i for i in range(len(at))]),
            right_probability=torch.tensor([self.right_probability.get(h, 0.98 if h[1] else 0.02) for h in at]),
            direction=direction / direction.norm(dim=-1, keepdim=True),
            person=tuple(p for p, _ in at),
        )

    def infer(self, image: Tensor, camera: Camera, pairs: list[HandPair], seen=None, looks=None) -> list[Stage1Hands]:
        if seen is not None:
            # It looks well at once.
            return [replace(self, makes_up=None)._answer(pair) for pair in pairs] if self.sobers else seen
        self.asked += pairs
        if self.misled and looks is None:
            right = [pair.box_xyxy_px[1:].expand(2, 4) if bool(pair.present.all()) else pair.box_xyxy_px for pair in pairs]
            pairs = [replace(pair, box_xyxy_px=box) for pair, box in zip(pairs, right, strict=True)]
        return [self._answer(pair) for pair in pairs]

    def _answer(self, pair: HandPair) -> Stage1Hands:
        xy = self.keypoints_xy()
        boxes = torch.cat([xy.min(2).values, xy.max(2).values], -1).flatten(0, 1)
        parameters = HandParameters.zeros()
        side_correct, presence = torch.zeros(2), torch.zeros(2)
        confidence = torch.full((2, 21), 0.8)
        seen = torch.zeros(2, 4)
        along = torch.nn.functional.normalize(xy[:, :, MIDDLE_MCP] - xy[:, :, 0], dim=-1)
        for hand in (0, 1):
            nearest = int((boxes - pair.box_xyxy_px[hand]).abs().sum(-1).argmin())
            person, true_hand = divmod(nearest, 2)
            parameters.pose[hand] = self.people[person].pose[hand]
            parameters.shape[hand] = self.people[person].shape[hand]
            parameters.translation_m[hand] = self.people[person].translation_m[true_hand]
            side_correct[hand] = self.side_correct.get((person, hand), 0.95) if hand == true_hand else 0.05
            presence[hand] = self.presence.get((person, true_hand), 0.99)
            if self.makes_up is not None and hand != true_hand:
                parameters.translation_m[hand, 0] += 0.135
                side_correct[hand], confidence[hand] = 0.95, self.makes_up
            if self.credulous and hand != true_hand:
                side_correct[hand], confidence[hand] = 0.95, 0.2
            if self.denies_both and boxes_in_one_place(pair):
                side_correct[hand], confidence[hand] = 0.05, 0.2
            if float((boxes[nearest] - pair.box_xyxy_px[hand]).abs().max()) > 2 and self.guess_off_px:
                presence[hand] = 0.2
            if self.misdirected and float(along[person, true_hand] @ pair.direction[hand]) < 0.7:
                presence[hand], confidence[hand] = 0.2, 0.2
            true_box, asked_box = boxes[nearest], pair.box_xyxy_px[hand]
            if float((asked_box[2:] - asked_box[:2]).max() / (true_box[2:] - true_box[:2]).max()) > self.seen_up_to:
                presence[hand], confidence[hand] = 0.2, 0.2
            seen[hand] = boxes[2 * person + (true_hand if self.other_is_itself else 1 - true_hand)]
        keypoints = self.model.pose_hands(parameters).keypoints()
        low, high = seen.split(2, -1)
        other = OtherHand(
            presence * (self.sees_other and (self.sees_it_again or not bool(pair.present.all()))),
            (low + high) / 2 + self.guess_off_px,
            (high - low).amax(-1),
            torch.tensor([[0.0, -1.0]]).expand(2, 2),
        )
        return Stage1Hands(parameters, keypoints, confidence, presence, side_correct, other)

    @property
    def projector(self) -> "Truth":
        return self

    def guess(self, model: HandModel, parameters: HandParameters, keypoint_confidence: Tensor) -> HandParameters:
        return parameters

    def refine(self, model: HandModel, parameters: HandParameters, keypoint_confidence: Tensor) -> "Moved":
        self.refinements += len(keypoint_confidence)
        moved = parameters.translation_m.clone()
        moved[:, 0, 0] -= self.refined_gap_m / 2
        moved[:, 1, 0] += self.refined_gap_m / 2
        return Moved(replace(parameters, translation_m=moved), torch.ones(len(moved), dtype=torch.bool))

    def pipeline(self) -> Pipeline:
        return Pipeline(self, self, self, self.model, self.model)


@dataclass(frozen=True)
class Moved:
    parameters: HandParameters
    refined: Tensor


def blank_image() -> np.ndarray:
    return np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
