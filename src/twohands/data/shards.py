"""Shards: some hundred annotated images in one NPZ file, arrays over samples, images as JPEG. Nothing in them is pickled."""

import io
import itertools
import os
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image

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
    values = {
        "hand_valid": sample.hand_valid, "keypoints_xy": sample.keypoints_xy, "keypoint_visible": sample.keypoint_visible,
        "keypoints_camera_m": sample.keypoints_camera_m, "keypoints_3d_valid": sample.keypoints_3d_valid, "pose": sample.parameters.pose,
        "shape": sample.parameters.shape, "translation_m": sample.parameters.translation_m, "parameters_valid": sample.parameters_valid,
        "segmentation": segmentation, "depth_mm": np.clip(depth * 1000, 0, 65535), "has_maps": has_maps, "focal_px": sample.camera.focal_px,
        "principal_px": sample.camera.principal_px, "seed": seed,
    }  # fmt: skip
    row: dict[str, np.ndarray] = {name: np.asarray(value).astype(FIELDS[name]) for name, value in values.items()}
    extra = sample.extra
    found = {} if extra is None else {"extra_keypoints_xy": extra.keypoints_xy, "extra_sides": extra.side, "extra_valid": extra.valid}
    for name, (dtype, shape) in OPTIONAL.items():
        row[name] = np.asarray(found[name]).astype(dtype) if found else np.zeros(shape, dtype)
    return row


def write_shard(path: Path, samples: list[Sample], seeds: list[int] | None = None) -> None:
    """Writes samples of one image size; the file appears whole or not at all. ValueError if the sizes differ."""
    sizes = {tuple(s.image.shape[1:]) for s in samples}
    if len(sizes) != 1:
        raise ValueError(f"a shard holds images of one size, got {sorted(sizes)}; pad or resize them first")
    encoded = []
    for sample in samples:
        buffer = io.BytesIO()
        Image.fromarray(sample.image.permute(1, 2, 0).numpy()).save(buffer, "JPEG", quality=JPEG_QUALITY)
        encoded.append(np.frombuffer(buffer.getvalue(), np.uint8))
    rows = [_row(s, seed) for s, seed in zip(samples, seeds or range(len(samples)), strict=True)]
    arrays = {name: np.stack([row[name] for row in rows]) for name in (*FIELDS, *OPTIONAL)}
    arrays["images_jpeg"] = np.concatenate(encoded)
    arrays["image_offsets"] = np.concatenate([[0], np.cumsum([len(e) for e in encoded])]).astype(np.int64)
    arrays["source"] = np.array([s.source for s in samples])
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".part")
    with beside.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]
    os.replace(beside, path)


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
