"""The three records that cross package borders: an annotated image, a teacher's priors, a reconstruction."""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from twohands.geometry.camera import Camera
from twohands.hands.parameters import HandParameters
from twohands.record import Record

SEGMENTATION_CLASSES = 33
"""0 background, 1-16 the sixteen MANO parts of the left hand, 17-32 those of the right."""


@dataclass(frozen=True)
class PriorMaps(Record):
    """What 2D foundation models say about an image: keypoints, segmentation, depth (paper, section 3.1). The maps have one size, that of the
    crop or image that they describe; keypoints are in its pixels."""

    keypoints_xy: Float[Tensor, "*batch hand 21 2"]
    """2D keypoints, pixels of the map's frame."""
    keypoint_confidence: Float[Tensor, "*batch hand 21"]
    """0 where the teacher says nothing."""
    segmentation: UInt8[Tensor, "*batch height width"] | None
    """Class per pixel (SEGMENTATION_CLASSES), None if the teacher has no segmentation."""
    depth_m: Float[Tensor, "*batch height width"] | None
    """Depth along z where a hand is seen, 0 elsewhere; a relative-depth teacher gives it up to scale and offset."""
    keypoint_depth: Float[Tensor, "*batch hand 21"] | None = None
    """Depth of the keypoints behind their wrist in units of the wrist - middle knuckle length; None if the teacher has none."""


EXTRA_HANDS = 4
"""Hands of other people that a sample can hold."""


@dataclass(frozen=True)
class ExtraHands(Record):
    """Hands of other people than the one whose two hands a sample is about, for those who look for every hand in a picture."""

    keypoints_xy: Float[Tensor, "extra 21 2"]
    """2D keypoints in image pixels (OPENPOSE21)."""
    side: UInt8[Tensor, "extra"]
    """0 left, 1 right."""
    valid: Bool[Tensor, "extra"]
    """The slot holds a hand that is in the picture."""


@dataclass(frozen=True)
class Sample(Record):
    """One annotated image of one person's two hands. Axis `hand` is (left, right); what is not annotated is masked, never guessed."""

    image: UInt8[Tensor, "3 height width"]
    camera: Camera
    hand_valid: Bool[Tensor, "hand"]
    """The hand is in the picture and annotated."""
    keypoints_xy: Float[Tensor, "hand 21 2"]
    """2D keypoints in image pixels (OPENPOSE21)."""
    keypoint_visible: Float[Tensor, "hand 21"]
    """1 seen, 0 hidden or outside; NaN-free."""
    keypoints_camera_m: Float[Tensor, "hand 21 3"]
    keypoints_3d_valid: Bool[Tensor, "hand 21"]
    parameters: HandParameters
    parameters_valid: Bool[Tensor, "hand"]
    box_xyxy_px: Float[Tensor, "hand 4"]
    """Tight box of the hand's keypoints, clipped to nothing: it may leave the image."""
    priors: PriorMaps | None
    source: str
    """Name of the data set (and sequence) that the sample came from."""
    extra: ExtraHands | None = None
    """Other people's hands; None: nobody looked for any."""


@dataclass(frozen=True)
class Detection(Record):
    """Hands found in one photo."""

    box_xyxy_px: Float[Tensor, "found 4"]
    score: Float[Tensor, "found"]
    """Confidence that a hand is there, 0 to 1."""
    right_probability: Float[Tensor, "found"]
    """Probability that it is a right hand."""
    direction: Float[Tensor, "found 2"]
    """Unit vector in image axes from the wrist to the middle knuckle."""
    person: tuple[int, ...]
    """Same number: the two hands of one person (a guess by distance and size)."""

    def rows(self, index: list[int]) -> "Detection":
        """These of the hands."""
        return replace(self[index], person=tuple(self.person[k] for k in index))


@dataclass(frozen=True)
class HandPair(Record):
    """What stage 1 is asked about one person: where the two hands are."""

    box_xyxy_px: Float[Tensor, "*batch hand 4"]
    direction: Float[Tensor, "*batch hand 2"]
    """Unit vectors in image axes from the wrist to the middle knuckle."""
    present: Bool[Tensor, "*batch hand"]
    """False: no box for this hand; its other entries are ignored but must be finite."""


@dataclass(frozen=True)
class OtherHand(Record):
    """Where stage 1, looking at one hand, sees the same person's other one, in image pixels."""

    probability: Float[Tensor, "*batch hand"]
    """That the other hand is in the crop of this one."""
    centre_xy_px: Float[Tensor, "*batch hand 2"]
    side_px: Float[Tensor, "*batch hand"]
    """Longer side of its keypoints' box."""
    direction: Float[Tensor, "*batch hand 2"]
    """Unit vector, wrist to middle knuckle."""


@dataclass(frozen=True)
class Stage1Hands(Record):
    """What stage 1 answers, in the camera frame."""

    parameters: HandParameters
    keypoints_m: Float[Tensor, "*batch hand 21 3"]
    keypoint_confidence: Float[Tensor, "*batch hand 21"]
    """Probability that the keypoint errs by less than a tenth of the hand's size in x, and so in y; `regress.confidence` has that of its distance."""
    presence: Float[Tensor, "*batch hand"]
    """Probability that the crop shows a hand."""
    side_correct: Float[Tensor, "*batch hand"]
    """Probability that the hand in the crop has the side that it was asked for."""
    other: OtherHand | None = None


@dataclass(frozen=True)
class TwoHands(Record):
    """A reconstruction: the hands of one person in ONE metric camera frame (OpenCV axes, metres)."""

    hand_present: Bool[Tensor, "hand"]
    score: Float[Tensor, "hand"]
    """Confidence of each hand, 0 to 1; 0 where absent."""
    parameters: HandParameters
    vertices_m: Float[Tensor, "hand vert 3"]
    keypoints_m: Float[Tensor, "hand 21 3"]
    keypoints_xy: Float[Tensor, "hand 21 2"]
    """Projection of `keypoints_m` into the photo, pixels."""
    keypoint_confidence: Float[Tensor, "hand 21"]
    box_xyxy_px: Float[Tensor, "hand 4"]
    camera: Camera
    camera_source: str
    """"caller", "exif" or "default": where the focal length came from."""
    penetration_cm3: float
    """Exact volume that the two closed meshes share, after refinement; 0 with one hand."""
    penetration_before_cm3: float
    refined: bool
    """Stage 2 ran and its result was taken."""
    person: int
    parameters_before: HandParameters | None = None
    """As they were before stage 2; None where it changed nothing."""


@dataclass(frozen=True)
class PhotoResult:
    """Everything that was found in one photo."""

    people: tuple[TwoHands, ...]
    width_px: int
    height_px: int
    seconds: dict[str, float]
    """Wall time by stage."""
    prior_source: str
    """"encoder" or "teacher": where the 2D prior came from."""
    image: np.ndarray
    """The photo as read: (height, width, 3) uint8 RGB, upright."""


HAND_ABSENT, HAND_SEEN, HAND_FILLED = 0, 1, 2
"""States of a hand in a frame: not there, read from the picture, put there from the frames around a short gap."""


@dataclass(frozen=True)
class HandMotion(Record):
    """The hands of everyone in a video, over time, in one metric camera frame (OpenCV axes, metres). Every person has a row in every frame;
    `hand_state` says where there is a hand, and the numbers of an absent one are zero. A photo is a motion of one frame."""

    time_s: Float[Tensor, "frame"]
    """Since the first frame; ascending, not always evenly spaced."""
    hand_state: UInt8[Tensor, "frame person hand"]
    """HAND_ABSENT, HAND_SEEN or HAND_FILLED."""
    score: Float[Tensor, "frame person hand"]
    """Confidence of each hand, 0 to 1."""
    parameters: HandParameters
    keypoints_m: Float[Tensor, "frame person hand 21 3"]
    keypoint_confidence: Float[Tensor, "frame person hand 21"]
    penetration_cm3: Float[Tensor, "frame person"]
    """Exact volume that the two closed meshes share, after refinement; 0 with one hand."""
    penetration_before_cm3: Float[Tensor, "frame person"]
    refined: Bool[Tensor, "frame person"]
    """Stage 2 has moved the hands of this frame."""
    person: tuple[int, ...]
    camera: Camera
    camera_source: str
    """"caller", "exif" or "default"."""
    prior_source: str
    """"encoder" or "teacher"."""
    hand_model: str
    """"bundled" or "mano"."""
    width_px: int
    height_px: int

    @property
    def hand_present(self) -> Bool[Tensor, "frame person hand"]:
        """Seen or filled."""
        return self.hand_state != HAND_ABSENT
