"""What every data set's reader gives: an annotation (all that the files say of one picture, but for its pixels) and a `Sample` (the picture too).

A reader turns files into `Annotation` records; everything that follows from one, the `Sample` among it, is made here, once for all of them.
"""

import abc
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from numpy.typing import ArrayLike
from torch import Tensor

from twohands.errors import UserError
from twohands.geometry.camera import Camera
from twohands.geometry.fisheye import rectified
from twohands.geometry.photo import read_photo
from twohands.hands.mano import load_mano
from twohands.hands.model import HandModel
from twohands.hands.parameters import HandParameters
from twohands.hands.rigid import move_hands
from twohands.joints import OPENPOSE21, order_index
from twohands.record import Record
from twohands.schema import Sample

HandType = Literal["left", "right", "interacting", "none"]
VERTICES = 778
"""Of a MANO hand."""


@dataclass(frozen=True)
class ManoConvention:
    """How the MANO parameters of a data set's files are meant; it differs from one to the next, and no file says so."""

    flat_hand_mean: bool
    """False: MANO's mean pose is to be added to the finger poses that are stored."""
    fingertips: str
    """Row of `hands.mano.FINGERTIP_TABLES` that the data set's own code uses."""
    fix_left_shapedirs: bool = True
    """The fits were made with the repaired left hand."""


@dataclass(frozen=True)
class DatasetInfo:
    """What a user must know to get a data set and to have it read."""

    name: str
    """As on the command line."""
    title: str
    splits: tuple[str, ...]
    licence: str
    where: str
    """Web address and what to fetch there."""
    layout: tuple[str, ...]
    """Paths below the data set's folder that the reader opens, with {split} where it enters, and {frame} and the like for what varies."""
    joint_names: tuple[str, ...]
    """Joint order of the annotations (joints.py)."""
    mano: ManoConvention | None
    """None where there is no fit and no mesh."""


@dataclass(frozen=True)
class Annotation(Record):
    """All that a data set says of one picture, in the camera frame (OpenCV axes, metres) and in pixels of the project's convention: the centre
    of the first pixel is (0.5, 0.5), which is half a pixel more than in the files. Axis `hand` is (left, right). What a mask excludes is 0."""

    id: str
    """The data set's own name of this annotation, unique in its split."""
    image_path: Path
    width_px: int
    height_px: int
    sequence: str
    """The recording that it comes from: what a bootstrap over sequences draws."""
    camera_id: str
    frame: int
    hand_type: HandType
    hand_type_valid: bool
    """False: the annotators were not sure which hands there are."""
    camera: Camera
    distortion: Float[Tensor, "4"] | None
    """Coefficients of a fisheye lens (`fisheye_project`), None for a pinhole."""
    joint_names: tuple[str, ...]
    """Names of the axis `joint`: the data set's own order."""
    joints_m: Float[Tensor, "hand joint 3"]
    """As annotated, never from the fit."""
    joints_3d_valid: Bool[Tensor, "hand joint"]
    """The 3D position is annotated. Per joint, not multiplied by the wrist's validity."""
    joints_xy: Float[Tensor, "hand joint 2"]
    """In the stored picture, distortion included; may lie outside it."""
    joints_2d_valid: Bool[Tensor, "hand joint"]
    """`joints_xy` is known."""
    joints_in_image: Bool[Tensor, "hand joint"]
    """The data set counts the joint as annotated in this very picture (InterHand2.6M's joint_valid of _data.json; COCO's v > 0); where it says
    nothing, the joint is known and lies inside."""
    fit_available: Bool[Tensor, "hand"]
    """The data set has a MANO fit or a mesh of the hand; its vertices are `Dataset.vertices`."""
    parameters: HandParameters
    """MANO's, relative to the flat hand (whatever the files do), in the camera frame."""
    parameters_valid: Bool[Tensor, "hand"]
    """There is a fit, and the data set was opened with MANO."""


class Dataset(abc.ABC):
    """The annotated pictures of one split. Readers do not change, are cheap to open again, and may be sent to worker processes."""

    info: DatasetInfo
    split: str
    folder: Path
    mano_folder: Path | None
    mano: HandModel | None
    """MANO as this data set means it (fingertips, left shape directions), for poses relative to the flat hand; None if it was not given."""

    def __init__(self, folder: Path, split: str, mano: Path | None = None) -> None:
        """`mano` is the folder with MANO's files."""
        self.folder, self.split, self.mano_folder = folder, split, mano
        self.mano = None
        if mano is not None and (convention := self.info.mano) is not None:
            self.mano = load_mano(
                mano, flat_hand_mean=True, fingertips=convention.fingertips, fix_left_shapedirs=convention.fix_left_shapedirs
            )

    @abc.abstractmethod
    def __len__(self) -> int: ...

    @property
    @abc.abstractmethod
    def ids(self) -> np.ndarray:
        """The ids of all annotations, in order: an array of strings."""

    @abc.abstractmethod
    def annotation(self, index: int) -> Annotation:
        """Everything but the pixels. IndexError beyond the end."""

    def sequences(self, indices: np.ndarray) -> np.ndarray:
        """`Annotation.sequence` of some annotations, as an array of strings; readers of many know it without making the annotations."""
        return np.array([self.annotation(int(index)).sequence for index in indices], dtype=str)

    def vertices(self, index: int) -> tuple[Float[Tensor, "hand 778 3"], Bool[Tensor, "hand"]]:
        """True MANO meshes in the camera frame, metres, and which hands have one. Of fits, only if the data set was opened with MANO."""
        if self.mano is None:
            return torch.zeros(2, VERTICES, 3), torch.zeros(2, dtype=torch.bool)
        annotation = self.annotation(index)
        valid = annotation.parameters_valid
        mesh = self.mano.pose_hands(annotation.parameters).mesh().vertices_m
        return torch.where(valid[:, None, None], mesh, 0.0), valid

    def __getitem__(self, index: int) -> Sample:
        """The picture with its annotation; UserError naming the file if the picture is missing or broken."""
        annotation = self.annotation(index)
        return sample_of(annotation, self._picture(annotation), self.info.name)

    def image(self, index: int) -> UInt8[np.ndarray, "height width 3"]:
        """The picture as stored, RGB."""
        return self._picture(self.annotation(index))

    def __reduce__(self) -> tuple[Any, ...]:
        """Opens the files again where it is sent to: what is mapped into memory is not copied into a message."""
        return type(self), (self.folder, self.split, self.mano_folder)

    def _picture(self, annotation: Annotation) -> UInt8[np.ndarray, "height width 3"]:
        try:
            return read_photo(annotation.image_path).image
        except UserError as error:
            where = f"{self.info.name} {self.split} {annotation.id}"
            raise UserError(f"{error} (the picture of {where}; `twohands data check` says what is missing)") from error

    def _parameters(
        self,
        stored: HandParameters,
        available: Bool[Tensor, "hand"],
        R_camera_fit: Float[Tensor, "3 3"],
        t_camera_fit_m: Float[Tensor, "3"],
    ) -> tuple[HandParameters, Bool[Tensor, "hand"]]:
        """`Annotation.parameters` and `.parameters_valid` of fits as a file has them, where x_camera = R x_fit + t."""
        if self.mano is None or self.info.mano is None or not bool(available.any()):
            return HandParameters.zeros(), torch.zeros(2, dtype=torch.bool)
        pose = stored.pose
        if not self.info.mano.flat_hand_mean:
            pose = torch.cat([pose[:, :1], pose[:, 1:] + self.mano.data.hands_mean.unflatten(-1, (15, 3))], 1)
        moved = move_hands(self.mano, HandParameters(pose, stored.shape, stored.translation_m), R_camera_fit, t_camera_fit_m)
        return moved.map(lambda t: torch.where(available.view(2, *[1] * (t.ndim - 1)), t, 0.0)), available


class Subset(Dataset):
    """Some annotations of a data set, in an order of one's own."""

    def __init__(self, whole: Dataset, indices: np.ndarray) -> None:
        self.whole, self.indices = whole, np.asarray(indices, np.int64)
        self.info, self.split, self.folder = whole.info, whole.split, whole.folder
        self.mano_folder, self.mano = whole.mano_folder, whole.mano

    def __reduce__(self) -> tuple[Any, ...]:
        return Subset, (self.whole, self.indices)

    @staticmethod
    def of_ids(whole: Dataset, ids: list[str]) -> "Subset":
        """The annotations of these ids, in this order; UserError naming the first one that the data set lacks."""
        order = np.argsort(whole.ids)
        known = whole.ids[order]
        wanted = np.array(ids, dtype=known.dtype if len(ids) == 0 else None)
        place = np.minimum(np.searchsorted(known, wanted), max(len(known) - 1, 0))
        if len(wanted) and (len(known) == 0 or (known[place] != wanted).any()):
            first = wanted[0] if len(known) == 0 else wanted[known[place] != wanted][0]
            raise UserError(
                f"{whole.info.name} {whole.split} in {whole.folder} has no annotation {first}; the list belongs to another release"
            )
        return Subset(whole, order[place])

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def ids(self) -> np.ndarray:
        return self.whole.ids[self.indices]

    def annotation(self, index: int) -> Annotation:
        return self.whole.annotation(int(self.indices[index]))

    def sequences(self, indices: np.ndarray) -> np.ndarray:
        return self.whole.sequences(self.indices[indices])

    def vertices(self, index: int) -> tuple[Float[Tensor, "hand 778 3"], Bool[Tensor, "hand"]]:
        return self.whole.vertices(int(self.indices[index]))


def in_picture(xy: Float[Tensor, "*batch 2"], width_px: int, height_px: int) -> Bool[Tensor, "*batch"]:
    """Which positions lie within the picture."""
    return ((xy >= 0) & (xy < torch.tensor([width_px, height_px], dtype=xy.dtype))).all(-1)


def file_camera(focal_px: ArrayLike, principal_px: ArrayLike) -> Camera:
    """The camera of a file that counts pixels from the centre of the first one, as every data set here does; this project counts from its corner."""
    focal, principal = (torch.from_numpy(np.array(values, np.float32)) for values in (focal_px, principal_px))
    return Camera(focal, principal + 0.5)


def projected(camera: Camera, points_m: Float[Tensor, "*batch point 3"], valid: Bool[Tensor, "*batch point"]) -> tuple[Tensor, Tensor]:
    """Pixels of points, and where they are known: the point is, and lies in front of the camera. 0 elsewhere."""
    ahead = valid & (points_m[..., 2] > 0)
    return torch.where(ahead[..., None], camera.project(torch.where(ahead[..., None], points_m, 1.0)), 0.0), ahead


def sample_of(annotation: Annotation, image: np.ndarray, name: str) -> Sample:
    """The annotation as trainers want it. Keypoints are OPENPOSE21; those of a hand that are not annotated in 2D are NaN, so that a mask that was
    forgotten shows. 3D positions count only where the wrist is annotated too. A fisheye picture is rectified: the camera is a pinhole."""
    order = list(order_index(annotation.joint_names, OPENPOSE21))
    known = annotation.joints_2d_valid[:, order]
    valid_3d = annotation.joints_3d_valid[:, order]
    valid_3d = valid_3d & valid_3d[:, :1]
    xy, points = annotation.joints_xy[:, order], annotation.joints_m[:, order]
    seen = annotation.joints_in_image[:, order]
    height, width = image.shape[:2]
    if annotation.distortion is not None:
        image = rectified(image, annotation.camera, annotation.distortion)
        ahead = points[..., 2] > 0
        xy = annotation.camera.project(torch.where(ahead[..., None], points, torch.ones_like(points)))
        known = known & ahead
        seen = known & in_picture(xy, width, height)
    hand_valid = (known & seen).any(1)
    known = known & hand_valid[:, None]
    unknown = torch.where(hand_valid, torch.nan, 0.0)[:, None, None]
    low = torch.where(known[..., None], xy, torch.inf).amin(1)
    high = torch.where(known[..., None], xy, -torch.inf).amax(1)
    return Sample(
        image=torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous(),
        camera=annotation.camera,
        hand_valid=hand_valid,
        keypoints_xy=torch.where(known[..., None], xy, unknown),
        keypoint_visible=(seen & known).float(),
        keypoints_camera_m=torch.where(valid_3d[..., None], points, 0.0),
        keypoints_3d_valid=valid_3d,
        parameters=annotation.parameters,
        parameters_valid=annotation.parameters_valid,
        box_xyxy_px=torch.where(hand_valid[:, None], torch.cat([low, high], -1), 0.0),
        priors=None,
        source=f"{name}/{annotation.sequence}",
    )
