"""Sapiens (Khirodkar et al. 2024) as a teacher: keypoints, segmentation and depth of the paper's own foundation models, from the user's files.

The files are the released TorchScript exports; their licence (CC BY-NC 4.0) does not let this package carry them. A TorchScript file is a program:
`torch.jit.load` builds it with an unpickler of its own that makes no Python objects, but what the program then does with tensors and
files is the file's affair. Load only files whose origin you know; nothing here loads any other kind of file, and none that was not named.

Exports give outputs, not the features inside, so F_k, F_s, F_d are read from the maps by stage 1's own encoders (eq. 1).
"""

import hashlib
import warnings
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from torch.nn import functional

from twohands.errors import UserError
from twohands.joints import FINGERS, MANO16, OPENPOSE21, OPENPOSE21_BONES
from twohands.priors.teacher import Lesson, Question, silent_maps
from twohands.schema import PriorMaps

HEIGHT_PX, WIDTH_PX = 1024, 768
MEAN, DEVIATION = (123.5, 116.5, 103.5), (58.5, 57.0, 57.5)
"""Of RGB in 0..255, as the releases preprocess."""
KEYPOINTS, CLASSES = 308, 28
RIGHT_HAND, LEFT_HAND = 21, 42
"""First of the 21 keypoints of each hand among the 308: thumb, index, middle, ring, little finger, each from tip to base, then the wrist."""
LEFT_CLASS, RIGHT_CLASS = 5, 14
"""Segmentation classes of the hands."""
SURE = 0.3
"""Heat from which a keypoint counts; a hand is there if half of its keypoints count."""

_ORDER = tuple(20 if name == "wrist" else 4 * FINGERS.index(name[:-1]) + 4 - int(name[-1]) for name in OPENPOSE21)
"""For each OPENPOSE21 keypoint its place among a hand's 21."""
_JOINT_OF_BONE = tuple(MANO16.index(OPENPOSE21[parent]) for parent, _ in OPENPOSE21_BONES)
"""The MANO16 joint that carries each bone: the one at its near end."""


class Network(Protocol):
    """Any module that maps (1, 3, 1024, 768) to its maps."""

    def __call__(self, image: Float[Tensor, "1 3 1024 768"]) -> Tensor: ...


@dataclass(frozen=True)
class Letterbox:
    """A photo scaled and centred in the networks' input."""

    scale: float
    """Input pixels a photo pixel."""
    left_px: int
    top_px: int
    width_px: int
    height_px: int
    """Size of the photo's place in the input."""

    @staticmethod
    def of(image: np.ndarray) -> tuple["Letterbox", Float[Tensor, "1 3 1024 768"]]:
        """The input for an RGB photo; what is beside the photo is the mean colour."""
        height, width = image.shape[:2]
        scale = min(WIDTH_PX / width, HEIGHT_PX / height)
        size = (min(WIDTH_PX, max(1, round(width * scale))), min(HEIGHT_PX, max(1, round(height * scale))))
        box = Letterbox(scale, (WIDTH_PX - size[0]) // 2, (HEIGHT_PX - size[1]) // 2, *size)
        shown = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR), np.float32)
        whole = np.zeros((HEIGHT_PX, WIDTH_PX, 3), np.float32)
        whole[box.inside] = (shown - np.array(MEAN, np.float32)) / np.array(DEVIATION, np.float32)
        return box, torch.from_numpy(whole).permute(2, 0, 1)[None].contiguous()

    @property
    def inside(self) -> tuple[slice, slice]:
        return slice(self.top_px, self.top_px + self.height_px), slice(self.left_px, self.left_px + self.width_px)

    def to_photo(self, xy: Float[Tensor, "*batch 2"], photo_width: int, photo_height: int) -> Float[Tensor, "*batch 2"]:
        """Input pixels to photo pixels; both have pixel centres at half-integers."""
        size = torch.tensor([photo_width / self.width_px, photo_height / self.height_px])
        return (xy - torch.tensor([self.left_px, self.top_px], dtype=xy.dtype)) * size


class SapiensTeacher:
    """Any of the three networks; what is not given is not said. Keypoints are needed for hands to be trusted and split into parts."""

    def __init__(
        self, keypoints: Network | None, segmentation: Network | None, depth: Network | None, files: dict[str, str], device: str = "cpu"
    ) -> None:
        """`files` tells what the networks are (name -> sha256), for the cache."""
        self.keypoints, self.segmentation, self.depth, self.files, self.device = keypoints, segmentation, depth, files, device

    @staticmethod
    def load(
        keypoints: Path | None = None, segmentation: Path | None = None, depth: Path | None = None, device: str = "cpu"
    ) -> "SapiensTeacher":
        """From TorchScript files. UserError if none is given, one is missing, or one is something else."""
        given = {"keypoints": keypoints, "segmentation": segmentation, "depth": depth}
        if not any(given.values()):
            raise UserError(
                "the teacher sapiens needs at least one of its TorchScript files; give --sapiens-keypoints, -segmentation or -depth"
            )
        loaded = {name: None if path is None else _load(path, device) for name, path in given.items()}
        files = {name: sha256_of(path) for name, path in given.items() if path is not None}
        return SapiensTeacher(**loaded, files=files, device=device)

    def describe(self) -> dict[str, str]:
        return {"teacher": "sapiens", **self.files}

    @torch.inference_mode()
    def __call__(self, question: Question) -> Lesson:
        height, width = question.image.shape[:2]
        box, picture = Letterbox.of(question.image)
        picture = picture.to(self.device)
        maps = silent_maps()
        xy, confidence, trust = maps.keypoints_xy, maps.keypoint_confidence, torch.zeros(2)
        if self.keypoints is not None:
            heat = _checked(self.keypoints(picture), KEYPOINTS, "keypoints")
            place, height_of_peak = peaks(heat[0].float().cpu())
            place = box.to_photo(place, width, height)
            for hand, first in ((0, LEFT_HAND), (1, RIGHT_HAND)):
                chosen = [first + k for k in _ORDER]
                xy[hand], confidence[hand] = place[chosen], height_of_peak[chosen].clamp(0, 1)
            sure = (confidence > SURE).float().mean(1)
            trust = torch.where(sure >= 0.5, confidence.mean(1), 0.0)
            confidence = torch.where((trust > 0)[:, None], confidence, 0.0)
        hands = None
        if self.segmentation is not None:
            logits = _checked(self.segmentation(picture), CLASSES, "segmentation")
            full = functional.interpolate(logits.float(), (HEIGHT_PX, WIDTH_PX), mode="bilinear")[0].argmax(0).cpu()[box.inside]
            hands = torch.where(full == LEFT_CLASS, 1, torch.where(full == RIGHT_CLASS, 2, 0))
        depth = None
        if self.depth is not None:
            raw = _checked(self.depth(picture), 1, "depth")
            full = functional.interpolate(raw.float(), (HEIGHT_PX, WIDTH_PX), mode="bilinear")[0, 0].cpu()[box.inside]
            depth = foreground_depth(full, (hands > 0) if hands is not None else _near_keypoints(xy, trust, box, width, height))
        parts = None if hands is None else split_into_parts(hands, box_coordinates(xy, box, width, height), trust > 0)
        return Lesson(PriorMaps(xy, confidence, parts, depth), trust)


def peaks(heat: Float[Tensor, "keypoint height width"]) -> tuple[Float[Tensor, "keypoint 2"], Float[Tensor, "keypoint"]]:
    """Where each heatmap is highest, in input pixels with pixel centres at half-integers, and how high.

    The networks were trained with unbiased coordinates (UDP): cell i of n lies at i (N - 1) / (n - 1) of N input pixels. A parabola through the
    peak and its neighbours gives the fraction of a cell."""
    count, rows, columns = heat.shape
    value, at = heat.flatten(1).max(1)
    row, column = at // columns, at % columns
    log = heat.clamp_min(1e-6).log()
    each = torch.arange(count)
    offsets = []
    for index, size, read in ((column, columns, lambda i: log[each, row, i]), (row, rows, lambda i: log[each, i, column])):
        inner = index.clamp(1, size - 2)
        left, middle, right = read(inner - 1), read(inner), read(inner + 1)
        bend = left - 2 * middle + right
        shift = torch.where(bend < -1e-6, (left - right) / (2 * bend.clamp_max(-1e-6)), 0.0).clamp(-0.5, 0.5)
        offsets.append(torch.where(inner == index, shift, 0.0))
    x = (column + offsets[0]) * (WIDTH_PX - 1) / (columns - 1) + 0.5
    y = (row + offsets[1]) * (HEIGHT_PX - 1) / (rows - 1) + 0.5
    return torch.stack([x, y], -1), value


def foreground_depth(depth: Float[Tensor, "height width"], hands: Tensor) -> Float[Tensor, "height width"]:
    """Relative depth (larger is farther) where hands are, put around 1 m with a mean deviation of 10 cm; 0 elsewhere. Sapiens knows no scale."""
    if not bool(hands.any()):
        return torch.zeros_like(depth)
    values = depth[hands]
    median = values.median()
    spread = (values - median).abs().mean().clamp_min(1e-6)
    return torch.where(hands, (1 + 0.1 * (depth - median) / spread).clamp(0.3, 60.0), 0.0)


def split_into_parts(hands: Tensor, xy: Float[Tensor, "hand 21 2"], known: Tensor) -> Tensor:
    """Hands (1 left, 2 right) into the classes of schema.SEGMENTATION_CLASSES: each pixel belongs to the joint that carries its nearest bone;
    all of a hand whose keypoints are not known belongs to its wrist."""
    classes = torch.zeros(hands.shape, dtype=torch.uint8)
    parent, child = (torch.tensor(ends) for ends in zip(*OPENPOSE21_BONES, strict=True))
    joint_of_bone = torch.tensor(_JOINT_OF_BONE)
    for hand in (0, 1):
        where = (hands == hand + 1).nonzero()
        if not len(where):
            continue
        joint = torch.zeros(len(where), dtype=torch.long)
        if bool(known[hand]):
            pixel = where.flip(1).float() + 0.5
            a, along = xy[hand, parent], xy[hand, child] - xy[hand, parent]
            share = ((pixel[:, None] - a) * along).sum(-1) / along.square().sum(-1).clamp_min(1e-6)
            nearest = a + share.clamp(0, 1)[..., None] * along
            joint = joint_of_bone[(pixel[:, None] - nearest).square().sum(-1).argmin(1)]
        classes[where[:, 0], where[:, 1]] = (1 + 16 * hand + joint).to(torch.uint8)
    return classes


def box_coordinates(xy: Float[Tensor, "hand 21 2"], box: Letterbox, photo_width: int, photo_height: int) -> Tensor:
    """Photo pixels to pixels of the photo's place in the input, in which the maps are."""
    return xy * torch.tensor([box.width_px / photo_width, box.height_px / photo_height])


def _near_keypoints(xy: Tensor, trust: Tensor, box: Letterbox, width: int, height: int) -> Tensor:
    """Where hands are, if no segmentation says so: the keypoints' boxes."""
    mask = torch.zeros(box.height_px, box.width_px, dtype=torch.bool)
    for points in box_coordinates(xy, box, width, height)[trust > 0]:
        (x0, y0), (x1, y1) = points.amin(0).clamp_min(0).int().tolist(), (points.amax(0) + 1).int().tolist()
        mask[y0:y1, x0:x1] = True
    return mask


def _checked(output: object, channels: int, name: str) -> Tensor:
    if not isinstance(output, Tensor) or output.ndim != 4 or output.shape[:2] != (1, channels):
        shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise UserError(f"the {name} file answers {shape}, not (1, {channels}, height, width); it is no Sapiens {name} network")
    return output


def _load(path: Path, device: str) -> Network:
    if not path.is_file():
        raise UserError(f"there is no file {path}; give the TorchScript export of the Sapiens release")
    names = zipfile.ZipFile(path).namelist() if zipfile.is_zipfile(path) else []
    if not any("/code/" in name for name in names):
        raise UserError(f"{path} is no TorchScript file (a checkpoint, perhaps); give the export whose name ends in _torchscript.pt2")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            return torch.jit.load(str(path), map_location=device).eval()
    except RuntimeError as error:
        raise UserError(f"{path} cannot be loaded ({str(error).splitlines()[0]}); fetch it again") from error


def sha256_of(path: Path) -> str:
    """Of a file of any size."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()
