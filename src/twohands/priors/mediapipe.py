"""The light teacher: MediaPipe's hand landmark network alone, on our own crops, run by ai-edge-litert.

MediaPipe's palm detector seldom finds both of two clasped hands; its landmark network reads them well once it is shown each one,
turned upright. So the boxes and directions come from our detector. Zhang et al., "MediaPipe Hands: On-device Real-time Hand
Tracking", 2020; the file is the full model of the 0.10.21 wheel, which priors.install fetches.
"""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from jaxtyping import Float32, UInt8
from numpy.typing import ArrayLike
from PIL import Image

from twohands.errors import UserError, from_extra
from twohands.priors.install import LANDMARK_FILE, teachers_folder

CROP_PX = 224
CROP_EXPANSION = 1.8
"""Side of the crop over the longer side of the tight box around the 21 keypoints."""
REFINED_EXPANSION = 1.6
"""The same for a crop placed by landmarks, over their tight box in the turned axes, where an open hand is longer."""
SURE_PRESENCE = 0.5
"""Presence from which a hand's own landmarks are trusted to place its next crop."""
LARGEST_TURN_RAD = 0.35
LARGEST_RESCALING = 1.4
"""A crop whose own landmarks ask for less turning and rescaling is kept: reading such a hand again changes its points at random."""
LATENT, LATENT_WIDTH = "model_1/model/global_average_pooling2d/Mean", 1152
"""The tensor from which landmarks, presence and side are all read by one linear layer each: the network's own summary of a hand."""
LATENT_MAP, LATENT_MAP_SHAPE = "model_1/model/add_8/add", (7, 7, 192)
"""The trunk's last residual sum, before it is widened and averaged: what the network sees where, in cells of 32 pixels."""
KNUCKLES = (5, 9, 13, 17)
"""The finger knuckles in OPENPOSE21; their mean is steadier than the middle one alone."""


class Interpreter(Protocol):
    """The part of ai_edge_litert's Interpreter that is used."""

    def allocate_tensors(self) -> None: ...
    def get_input_details(self) -> list[dict[str, Any]]: ...
    def get_output_details(self) -> list[dict[str, Any]]: ...
    def get_tensor_details(self) -> list[dict[str, Any]]: ...
    def set_tensor(self, tensor_index: int, value: np.ndarray) -> None: ...
    def invoke(self) -> None: ...
    def get_tensor(self, tensor_index: int) -> np.ndarray: ...


@dataclass(frozen=True)
class LandmarkReading:
    """What the network reads in n boxes; keypoints in OPENPOSE21 order."""

    keypoints_xy_image: Float32[np.ndarray, "n 21 2"]
    """Pixels of the image, pixel centres at half-integers."""
    depth_px: Float32[np.ndarray, "n 21"]
    """Depth relative to the wrist in the scale of the image's pixels (weak perspective), growing away from the camera."""
    keypoints_world_m: Float32[np.ndarray, "n 21 3"]
    """Metres relative to the wrist, OpenCV axes as seen along the line of sight to the hand; the size is the network's guess."""
    presence: Float32[np.ndarray, "n"]
    """Probability that the crop holds a hand."""
    right_probability: Float32[np.ndarray, "n"]
    """Probability that it is the person's right hand, in a photo that is not mirrored."""
    latent: Float32[np.ndarray, "n 1152"] | None = None
    """The network's own features (LATENT) of the last crop of each hand, if the teacher keeps them."""


class LandmarkTeacher:
    """Reads the keypoints of hands whose boxes and in-plane directions are known. Not to be shared between threads."""

    latent_width = LATENT_WIDTH

    def __init__(self, interpreter: Interpreter, keeps_latents: bool = False):
        """`keeps_latents`: the interpreter preserves intermediate tensors, and readings carry the network's features."""
        interpreter.allocate_tensors()
        (entry,) = interpreter.get_input_details()
        outputs = interpreter.get_output_details()
        shapes = [tuple(entry["shape"]), *(tuple(o["shape"]) for o in outputs)]
        if shapes != [(1, CROP_PX, CROP_PX, 3), (1, 63), (1, 1), (1, 1), (1, 63)]:
            raise UserError(f"a network with input and outputs {shapes} is not {LANDMARK_FILE}; run `twohands teachers install`")
        self._interpreter = interpreter
        self._input: int = entry["index"]
        self._outputs: list[int] = [o["index"] for o in outputs]
        self.keeps_latents = keeps_latents
        self._latents: list[int] = []
        if keeps_latents:
            found = {t["name"]: t for t in interpreter.get_tensor_details()}
            for name, shape in ((LATENT, (LATENT_WIDTH,)), (LATENT_MAP, LATENT_MAP_SHAPE)):
                if name not in found or tuple(found[name]["shape"]) != (1, *shape):
                    raise UserError(f"the network has no tensor {name} of shape {shape}; run `twohands teachers install`")
                self._latents.append(found[name]["index"])

    @staticmethod
    def load(folder: Path | None = None, threads: int = 1, keeps_latents: bool = False) -> "LandmarkTeacher":
        """The teacher from `folder` (default: teachers_folder()). UserError names the command that mends a missing file or package."""
        path = (teachers_folder() if folder is None else folder) / LANDMARK_FILE
        if not path.is_file():
            raise UserError(f"the light teacher's file is not at {path}; run `twohands teachers install`")
        with from_extra("teachers", "the light teacher"):
            from ai_edge_litert.interpreter import Interpreter as LiteRT
        with warnings.catch_warnings():
            # It costs memory (some MB) and a tenth of the speed, as the interpreter warns; both are known.
            warnings.simplefilter("ignore", UserWarning)
            interpreter = LiteRT(str(path), num_threads=threads, experimental_preserve_all_tensors=keeps_latents)
        return LandmarkTeacher(interpreter, keeps_latents)

    def __call__(
        self,
        image: UInt8[np.ndarray, "height width 3"],
        box_xyxy_px: ArrayLike,
        direction: ArrayLike,
        refine_passes: int = 1,
    ) -> LandmarkReading:
        """Reads the hand in each tight box (n, 4) of an RGB image; `direction` (n, 2), of any length, points from the wrist to the
        middle knuckle in image axes.

        Each further pass crops again around the landmarks of the pass before, turned by them, where that pass was sure to see a hand
        and its crop was far off: it mends directions that are 40 degrees wrong and leaves good ones alone. ValueError for another
        image type, for boxes without area and for directions without length."""
        boxes = np.asarray(box_xyxy_px, dtype=np.float64).reshape(-1, 4)
        directions = np.asarray(direction, dtype=np.float64).reshape(-1, 2)
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise ValueError(f"the image must be uint8 (height, width, 3), got {image.dtype} {image.shape}; convert it to RGB bytes")
        if len(boxes) != len(directions):
            raise ValueError(f"{len(boxes)} boxes but {len(directions)} directions; give one direction a box")
        sides = boxes[:, 2:] - boxes[:, :2]
        if not (np.isfinite(boxes).all() and (sides > 0).all()):
            raise ValueError(f"boxes must be x0 y0 x1 y1 in pixels with x1 > x0 and y1 > y0, got {boxes.tolist()}; drop those without area")
        lengths = np.linalg.norm(directions, axis=1, keepdims=True)
        if not (np.isfinite(lengths).all() and (lengths > 0).all()):
            raise ValueError(f"directions must have a length, got {directions.tolist()}; use (0, -1) where the hand's is not known")
        photo = Image.fromarray(image)
        rows = []
        for centre, side_px, up in zip((boxes[:, :2] + boxes[:, 2:]) / 2, CROP_EXPANSION * sides.max(1), directions / lengths, strict=True):
            view = _Turned(centre, side_px, up)
            row = self._read(photo, view)
            for _ in range(refine_passes):
                better = _Turned.around(row[0])
                if row[3] < SURE_PRESENCE or view.is_like(better):
                    break
                view, row = better, self._read(photo, better)
            rows.append(row)
        shapes: list[tuple[int, ...]] = [(21, 2), (21,), (21, 3), (), ()] + ([(LATENT_WIDTH,)] if self.keeps_latents else [])
        columns = [np.array([r[k] for r in rows], dtype=np.float32).reshape(len(rows), *shape) for k, shape in enumerate(shapes)]
        return LandmarkReading(*columns)

    def latents(self, crops: Float32[np.ndarray, "n 224 224 3"]) -> tuple[Float32[np.ndarray, "n 1152"], Float32[np.ndarray, "n 7 7 192"]]:
        """The features of crops that are made already (RGB in 0..1, fingers up): LATENT and LATENT_MAP of each. ValueError if this teacher does
        not keep them."""
        if not self.keeps_latents:
            raise ValueError("this teacher keeps no latents; load it with keeps_latents=True")
        pooled, maps = np.zeros((len(crops), LATENT_WIDTH), np.float32), np.zeros((len(crops), *LATENT_MAP_SHAPE), np.float32)
        for k, crop in enumerate(crops):
            self._interpreter.set_tensor(self._input, np.ascontiguousarray(crop[None], np.float32))
            self._interpreter.invoke()
            pooled[k], maps[k] = (self._interpreter.get_tensor(index)[0] for index in self._latents)
        return pooled, maps

    def _read(self, photo: Image.Image, view: "_Turned") -> tuple[Any, ...]:
        """One run of the network: the fields of LandmarkReading for one hand."""
        self._interpreter.set_tensor(self._input, view.resampled(photo)[None])
        self._interpreter.invoke()
        points, presence, handedness, world = (self._interpreter.get_tensor(index) for index in self._outputs)
        xyz_crop, xyz_world = points.reshape(21, 3).astype(np.float64), world.reshape(21, 3).astype(np.float64)
        xyz_world = xyz_world - xyz_world[0]
        # The network's metres are in the axes of the crop it saw; the turn about the line of sight is ours to undo.
        xyz_world[:, :2] = xyz_world[:, :2] @ view.R_image_crop.T
        return (
            view.crop_to_image(xyz_crop[:, :2]),
            (xyz_crop[:, 2] - xyz_crop[0, 2]) * view.px_per_crop_px,
            xyz_world,
            float(presence.item()),
            float(handedness.item()),
            *([self._interpreter.get_tensor(self._latents[0])[0].copy()] if self.keeps_latents else []),
        )


@dataclass(frozen=True)
class _Turned:
    """A square cut-out of the image, turned so that `up` points up in it."""

    centre_px: np.ndarray
    side_px: float
    up: np.ndarray

    @staticmethod
    def around(xy_image: np.ndarray) -> "_Turned":
        """The cut-out for known landmarks (21, 2): turned by wrist to knuckles, around their tight box in the turned axes."""
        up = xy_image[list(KNUCKLES)].mean(0) - xy_image[0]
        turned = _Turned(np.zeros(2), 1.0, up / max(float(np.linalg.norm(up)), 1e-9))
        in_crop_axes = xy_image @ turned.R_image_crop
        low, high = in_crop_axes.min(0), in_crop_axes.max(0)
        return _Turned(turned.R_image_crop @ ((low + high) / 2), REFINED_EXPANSION * float(max((high - low).max(), 1.0)), turned.up)

    def is_like(self, other: "_Turned") -> bool:
        """Whether the other cut-out is turned and scaled so little from this one that it is not worth another reading."""
        turned = float(np.dot(self.up, other.up)) < np.cos(LARGEST_TURN_RAD)
        return not turned and 1 / LARGEST_RESCALING < other.side_px / self.side_px < LARGEST_RESCALING

    @property
    def R_image_crop(self) -> np.ndarray:
        """Turns crop axes (x right, y down) into image axes: the crop's up, (0, -1), becomes `up`."""
        return np.stack([np.array([-self.up[1], self.up[0]]), -self.up], axis=1)

    @property
    def px_per_crop_px(self) -> float:
        return self.side_px / CROP_PX

    def crop_to_image(self, xy_crop: np.ndarray) -> np.ndarray:
        """Points (k, 2) in crop pixels to image pixels; both have pixel centres at half-integers."""
        return self.centre_px + (xy_crop - CROP_PX / 2) * self.px_per_crop_px @ self.R_image_crop.T

    def resampled(self, photo: Image.Image) -> Float32[np.ndarray, "224 224 3"]:
        """The cut-out in 0..1, bilinear, black outside the photo; large ones are first averaged down so that no pixel is skipped."""
        coarse = max(1, int(self.px_per_crop_px))
        centre, step = self.centre_px, self.px_per_crop_px
        if coarse > 1:
            reach = self.side_px / np.sqrt(2) + 2 * coarse
            low = np.clip(np.floor(centre - reach), 0, photo.size).astype(int)
            high = np.clip(np.ceil(centre + reach), 0, photo.size).astype(int)
            if (high - low).min() < 1:
                return np.zeros((CROP_PX, CROP_PX, 3), np.float32)
            photo = photo.reduce(coarse, box=(int(low[0]), int(low[1]), int(high[0]), int(high[1])))
            centre, step = (centre - low) / coarse, step / coarse
        matrix = step * self.R_image_crop
        corner = centre - matrix @ np.full(2, CROP_PX / 2)
        coefficients = (matrix[0, 0], matrix[0, 1], corner[0], matrix[1, 0], matrix[1, 1], corner[1])
        crop = photo.transform((CROP_PX, CROP_PX), Image.Transform.AFFINE, coefficients, Image.Resampling.BILINEAR)
        return np.asarray(crop, dtype=np.float32) / 255.0
