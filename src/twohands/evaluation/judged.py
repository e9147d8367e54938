"""What a protocol compares: rows of truth and rows of predictions, one row a sample, millimetres in the camera frame (OpenCV axes).

Axis `hand` is (left, right), joints are OPENPOSE21. NaN stands for what is not known or not predicted; masks say what counts.
"""

import dataclasses
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import ArrayLike

from twohands.hands.model import HandModel
from twohands.joints import OPENPOSE21_FROM_MANO16_AND_TIPS

Self = TypeVar("Self", bound="Rows")


@dataclass(frozen=True)
class Rows:
    """Base of records whose arrays all have one row a sample; a field that is None is None for all of them."""

    def take(self: Self, rows: ArrayLike) -> Self:
        """Some rows: indices or a mask."""
        index = np.asarray(rows)
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return dataclasses.replace(self, **{name: value[index] for name, value in values.items() if value is not None})

    @classmethod
    def join(cls: type[Self], parts: list[Self]) -> Self:
        """The rows of all parts. ValueError if there is none, or some lack a field that others have."""
        if not parts:
            raise ValueError(f"there are no parts of {cls.__name__} to join; give at least one")
        joined = {}
        for f in dataclasses.fields(cls):
            values = [getattr(part, f.name) for part in parts]
            if len({value is None for value in values}) > 1:
                raise ValueError(f"some parts have {f.name} and some do not; give it for all samples or for none")
            joined[f.name] = None if values[0] is None else np.concatenate(values)
        return cls(**joined)


@dataclass(frozen=True)
class Truth(Rows):
    """What is known of n samples."""

    sample_id: np.ndarray
    """Strings."""
    sequence: np.ndarray
    """Strings: the recording that a sample comes from, which is what the bootstrap draws."""
    interacting: Bool[np.ndarray, "n"]
    """Which of the two groups of samples that tables tell apart: IH, not SH."""
    hand_type_valid: Bool[np.ndarray, "n"]
    shown: Bool[np.ndarray, "n hand"]
    """The hands that the annotation names."""
    joints_mm: Float[np.ndarray, "n hand 21 3"]
    """As annotated; anything where `valid_3d` is False."""
    labelled: Bool[np.ndarray, "n hand 21"]
    """Annotated and inside this picture (InterHand2.6M: `joint_valid` of data.json)."""
    valid_3d: Bool[np.ndarray, "n hand 21"]
    """The 3D position is annotated (InterHand2.6M: `joint_valid` of joint_3d.json)."""
    vertices_mm: Float[np.ndarray, "n hand vert 3"] | None
    """True meshes; None if there are none, or the licensed hand model that makes them was not given."""
    mesh_valid: Bool[np.ndarray, "n hand"]
    mesh_joints_mm: Float[np.ndarray, "n hand 21 3"] | None
    """Regressed from `vertices_mm`, with the protocol's fingertips."""
    focal_px: Float[np.ndarray, "n 2"]
    principal_px: Float[np.ndarray, "n 2"]
    """In the data set's own pixel convention: the first pixel's centre is (0, 0)."""
    image_size_px: Float[np.ndarray, "n 2"]
    hidden_share: Float[np.ndarray, "n hand"]
    """Share of the hand's joints that cannot be seen; NaN where nobody knows."""
    brightness: Float[np.ndarray, "n"]
    """Mean pixel value, 0 to 255, of the crop around both hands; NaN where it was not looked at."""

    def __len__(self) -> int:
        return len(self.sample_id)


@dataclass(frozen=True)
class Prediction(Rows):
    """What an estimator says of the same n samples."""

    sample_id: np.ndarray
    joints_mm: Float[np.ndarray, "n hand 21 3"]
    """Each hand in the axes of the camera. NaN: no such hand was found."""
    in_camera: Bool[np.ndarray, "n"]
    """`joints_mm` and `vertices_mm` say where the hands are; False: each hand is relative to its own wrist."""
    vertices_mm: Float[np.ndarray, "n hand vert 3"] | None
    relative_mm: Float[np.ndarray, "n 3"]
    """From the right wrist to the left one; NaN if it is not predicted."""
    presence: Float[np.ndarray, "n hand"] | None
    """Probability that the picture shows this hand."""
    box_xyxy_px: Float[np.ndarray, "n hand 4"] | None
    """The hand as the detector saw it, in the data set's pixel convention."""
    uvd: Float[np.ndarray, "n hand 21 3"] | None
    """2.5D: pixel x and y, and depth behind the hand's wrist in mm; what InterNet's protocol starts from."""
    wrist_depth_mm: Float[np.ndarray, "n hand"] | None
    """Absolute depth of the wrists that goes with `uvd`; None: the true one is taken, as InterNet's code can."""

    def __len__(self) -> int:
        return len(self.sample_id)


@dataclass(frozen=True)
class JudgesHand:
    """What the judge must know of a hand model: how joints follow from vertices, and how its meshes are closed."""

    model: HandModel

    def joints(self, vertices: Float[np.ndarray, "*batch hand vert 3"]) -> Float[np.ndarray, "*batch hand 21 3"]:
        """OPENPOSE21 by the model's joint regressor, applied to the posed mesh, and five vertices for the fingertips: as the published protocols
        do it. (Joints of the kinematic chain differ from these by up to a millimetre.)"""
        regressor = self.model.data.J_regressor.double().numpy()
        joints = np.einsum("hjv,...hvc->...hjc", regressor, vertices, optimize=True)
        tips = np.stack([vertices[..., hand, index, :] for hand, index in enumerate(self.model.data.tip_vertices.numpy())], -3)
        return np.concatenate([joints, tips], -2)[..., list(OPENPOSE21_FROM_MANO16_AND_TIPS), :]

    def closed(self, vertices: Float[np.ndarray, "*batch hand vert 3"]) -> Float[np.ndarray, "*batch hand closed_vert 3"]:
        """Vertices of the watertight meshes that `closed_faces` joins."""
        return self.model.closed_vertices(torch.from_numpy(vertices)).numpy()

    @property
    def closed_faces(self) -> Int[np.ndarray, "hand closed_face 3"]:
        return self.model.closed_faces().numpy()
