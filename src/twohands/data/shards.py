"""Shards: some hundred annotated images in one NPZ file, arrays over samples, images as JPEG. Nothing in them is pickled."""

import io
import itertools
import os
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from twohands.errors import UserError
from twohands.geometry.camera import Camera
from twohands.hands.parameters import HandParameters
from twohands.schema import EXTRA_HANDS, ExtraHands, PriorMaps, Sample

MAP_STRIDE = 4
"""Segmentation and depth are kept at this fraction of the image's resolution."""
JPEG_QUALITY = 95

FIELDS = {
    "hand_valid": np.bool_, "keypoints_xy": np.float32, "keypoint_visible": np.uint8, "keypoints_camera_m": np.float32,
    "keypoints_3d_valid": np.uint8, "pose": np.float32, "shape": np.float32, "translation_m": np.float32, "parameters_valid": np.uint8,
    "segmentation": np.uint8, "depth_mm": np.uint16, "has_maps": np.uint8, "focal_px": np.float32, "principal_px": np.float32, "seed": np.int64,
}  # fmt: skip
"""Arrays over samples and their types; besides them images_jpeg (all bytes), image_offsets (n + 1), source (n strings)."""

OPTIONAL = {
    "extra_keypoints_xy": (np.float32, (EXTRA_HANDS, 21, 2)), "extra_sides": (np.uint8, (EXTRA_HANDS,)), "extra_valid": (np.bool_, (EXTRA_HANDS,)),
}  # fmt: skip
"""Arrays of other people's hands (`schema.ExtraHands`), types and shapes of a row; zeros are read where older shards have none."""


def _row(sample: Sample, seed: int) -> dict[str, np.ndarray]:
    height, width = sample.image.shape[1:]
    maps = sample.priors
    has_maps = maps is not None and maps.segmentation is not None and maps.depth_m is not None
    if has_maps:
        assert maps is not None
        assert maps.segmentation is not None
        assert maps.depth_m is not None
        segmentation = (
            maps.segmentation.numpy()[::MAP_STRIDE, ::MAP_STRIDE] if maps.segmentation.shape[0] == height else maps.segmentation.numpy()
        )
        depth = maps.depth_m.numpy()[::MAP_STRIDE, ::MAP_STRIDE] if maps.depth_m.shape[0] == height else maps.depth_m.numpy()
    else:
        segmentation = np.zeros((height // MAP_STRIDE, width // MAP_STRIDE), np.uint8)
        depth = np.zeros(segmentation.shape, np.float32)
    values: dict[str, Tensor | np.ndarray | float] = {
        "hand_valid": sample.hand_valid, "keypoints_xy": sample.keypoints_xy, "keypoint_visible": sample.keypoint_visible,
        "keypoints_camera_m": sample.keypoints_camera_m, "keypoints_3d_valid": sample.keypoints_3d_valid, "pose": sample.parameters.pose,
        "shape": sample.parameters.shape, "translation_m": sample.parameters.translation_m, "parameters_valid": sample.parameters_valid,
        "segmentation": segmentation, "depth_mm": (depth * 1000).clip(0, 65535), "has_maps": has_maps, "focal_px": sample.camera.focal_px,
        "principal_px": sample.camera.principal_px, "seed": seed,
    }  # fmt: skip
    row: dict[str, np.ndarray] = {name: _as_array(value).astype(FIELDS[name]) for name, value in values.items()}
    extra = sample.extra
    found = {} if extra is None else {"extra_keypoints_xy": extra.keypoints_xy, "extra_sides": extra.side, "extra_valid": extra.valid}
    for name, (dtype, shape) in OPTIONAL.items():
        row[name] = found[name].numpy().astype(dtype) if found else np.zeros(shape, dtype)
    return row


def _as_array(value: Tensor | np.ndarray | float) -> np.ndarray:
    return value.numpy() if isinstance(value, Tensor) else np.asarray(value)


@dataclass
class ShardWriter:
    """Collects the rows of one shard. An image is encoded when it is added, so that no more than its bytes need be kept."""

    images: list[bytes] = field(default_factory=list, repr=False)
    rows: list[dict[str, np.ndarray]] = field(default_factory=list, repr=False)
    sources: list[str] = field(default_factory=list, repr=False)
    size: tuple[int, ...] | None = None
    """Of the images, (height, width)."""

    def add(self, sample: Sample, seed: int) -> None:
        """Appends a sample. ValueError if its image is of another size than those before."""
        size = tuple(sample.image.shape[1:])
        if self.size not in (None, size):
            raise ValueError(f"a shard holds images of one size, got {self.size} and {size}; pad or resize them first")
        self.size = size
        self.images.append(encoded_image(sample.image))
        self.rows.append(_row(sample, seed))
        self.sources.append(sample.source)

    def write(self, path: Path) -> None:
        """Writes what was added; the file appears whole or not at all. ValueError if nothing was."""
        if not self.rows:
            raise ValueError("a shard holds one sample at least; add some first")
        arrays = {name: np.stack([row[name] for row in self.rows]) for name in (*FIELDS, *OPTIONAL)}
        arrays["images_jpeg"] = np.frombuffer(b"".join(self.images), np.uint8)
        arrays["image_offsets"] = np.concatenate([[0], np.cumsum([len(e) for e in self.images])]).astype(np.int64)
        arrays["source"] = np.array(self.sources)
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(path.name + ".part")
        with beside.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
        os.replace(beside, path)


def encoded_image(image: UInt8[Tensor, "3 height width"]) -> bytes:
    """The JPEG of an image, as shards keep it."""
    # Four bytes a pixel, as the library keeps a picture: it takes them as they are, and three planes it would weave one byte at a time.
    red, green, blue = image.numpy()
    woven = blue.astype("<u4")
    for plane in (green, red):
        woven <<= 8
        woven |= plane
    buffer = io.BytesIO()
    Image.frombuffer("RGB", woven.shape[::-1], woven, "raw", "RGBX", 0, 1).save(buffer, "JPEG", quality=JPEG_QUALITY)
    return buffer.getvalue()


def write_shard(path: Path, samples: list[Sample], seeds: list[int] | None = None) -> None:
    """Writes samples of one image size; the file appears whole or not at all. ValueError if the sizes differ, or there are none."""
    writer = ShardWriter()
    for sample, seed in zip(samples, seeds or range(len(samples)), strict=True):
        writer.add(sample, seed)
    writer.write(path)


@dataclass(frozen=True)
class ShardSet:
    """Samples of many shards as arrays in memory; images stay encoded until they are asked for."""

    arrays: dict[str, np.ndarray]
    images: list[np.ndarray] = field(repr=False)
    source: np.ndarray

    @staticmethod
    def read(paths: list[Path]) -> "ShardSet":
        """Reads shards. UserError naming the file if there is none, or one is broken or lacks an array."""
        if not paths:
            raise UserError("no shards to read; make some with `twohands synth --out DIR`")
        parts: dict[str, list[np.ndarray]] = {name: [] for name in (*FIELDS, *OPTIONAL, "source")}
        images: list[np.ndarray] = []
        for path in paths:
            try:
                with np.load(path) as file:
                    stored = {name: file[name] for name in file.files}
            except (OSError, ValueError, zipfile.BadZipFile, EOFError) as error:
                raise UserError(f"{path} is not a readable shard ({error}); delete it and make it again") from error
            if missing := sorted({*FIELDS, "images_jpeg", "image_offsets", "source"} - set(stored)):
                raise UserError(f"{path} lacks {missing}; it is no shard of this version, make it again")
            for name, (dtype, shape) in OPTIONAL.items():
                stored.setdefault(name, np.zeros((len(stored["seed"]), *shape), dtype))
            for name in parts:
                parts[name].append(stored[name])
            offsets, data = stored["image_offsets"], stored["images_jpeg"]
            images.extend(data[a:b] for a, b in itertools.pairwise(offsets))
        joined = {name: np.concatenate(values) for name, values in parts.items()}
        return ShardSet({name: joined[name] for name in (*FIELDS, *OPTIONAL)}, images, joined["source"])

    def __len__(self) -> int:
        return len(self.images)

    def decode(self, index: int) -> np.ndarray:
        """The image, (height, width, 3) uint8 RGB."""
        return np.asarray(Image.open(io.BytesIO(self.images[index].tobytes())).convert("RGB"))

    def without_last(self, count: int) -> "ShardSet":
        """All but the last samples, which are kept for validation. ValueError if nothing would be left."""
        if count >= len(self):
            raise ValueError(f"cannot hold back {count} of {len(self)} samples; make more shards")
        keep = len(self) - count
        return ShardSet({name: values[:keep] for name, values in self.arrays.items()}, self.images[:keep], self.source[:keep])

    def sample(self, index: int) -> Sample:
        """One sample as a record."""
        row = {name: torch.from_numpy(np.array(values[index])) for name, values in self.arrays.items() if values.dtype != np.uint16}
        visible = row["keypoint_visible"].float()
        xy = row["keypoints_xy"]
        priors = None
        if bool(row["has_maps"]):
            depth = torch.from_numpy(self.arrays["depth_mm"][index].astype(np.float32) / 1000)
            priors = PriorMaps(xy, row["hand_valid"][:, None].float().expand(2, 21), row["segmentation"], depth)
        return Sample(
            image=torch.from_numpy(self.decode(index).copy()).permute(2, 0, 1).contiguous(),
            camera=Camera(row["focal_px"], row["principal_px"]),
            hand_valid=row["hand_valid"].bool(),
            keypoints_xy=xy,
            keypoint_visible=visible,
            keypoints_camera_m=row["keypoints_camera_m"],
            keypoints_3d_valid=row["keypoints_3d_valid"].bool(),
            parameters=HandParameters(row["pose"], row["shape"], row["translation_m"]),
            parameters_valid=row["parameters_valid"].bool(),
            box_xyxy_px=torch.cat([xy.amin(1), xy.amax(1)], -1),
            priors=priors,
            source=str(self.source[index]),
            extra=ExtraHands(row["extra_keypoints_xy"], row["extra_sides"], row["extra_valid"]),
        )
