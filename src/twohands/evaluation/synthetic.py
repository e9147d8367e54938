"""The synthetic benchmarks: scenes of two hands made from seeds, with exact truth, so that anyone can compare without any licensed data.

A benchmark is a folder: `images/00000.png` and so on, `truth/part-00000.npz` for every hundred scenes. It is rendered once and kept; a run that was
cut off goes on. What was rendered is checked against the seal in `benchmarks.json`: two checksums, of the truth and of the pictures, and the mean
place of the joints of each part, since another processor may round differently and still show the same scenes.
"""

import hashlib
import json
import os
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike
from PIL import Image

from twohands.errors import UserError
from twohands.evaluation.judged import Truth
from twohands.evaluation.sources import FIRST_PIXEL, M_TO_MM, Source
from twohands.geometry.camera import Camera
from twohands.hands.bundled import load_bundled_hand
from twohands.hands.parameters import HandParameters
from twohands.schema import Sample
from twohands.synth.photo import take_photo
from twohands.synth.scene import BLOCK, SceneKnobs

PART = 100
SEALS = "benchmarks.json"
SAME_SCENES_MM = 0.05
"""Means of a part's joints that agree to this are those of the same scenes."""

# Every knob is written out: the engine's defaults may move, the benchmarks may not.
_CLOSE = SceneKnobs(
    framing="close",
    size_px=256,
    two_hands=0.6,
    interacting=0.55,
    bodies=0.5,
    bodies_wide=0.8,
    no_hand=0.12,
    others=0.25,
    fill_close=(0.4, 0.95),
    fill_wide=(0.06, 0.45),
    view_m=(0.42, 2.3),
    fov_deg=(18.0, 75.0),
    fov_ego_deg=(50.0, 100.0),
    frontal=0.75,
    upright=0.5,
    forearm=0.88,
    sleeve=0.45,
    bare=0.0,
    held=0.2,
    occluder=0.15,
    glove=0.03,
    ring=0.12,
    watch=0.15,
    tattoo=0.05,
    scar=0.0,
    hair=0.0,
    glasses=0.0,
    hat=0.0,
    others_hands=0.0,
    shape_sigma=1.0,
    size_noise=0.04,
    clutter=(0, 4),
    pasted=0.18,
    poses="varied",
    light="varied",
    lit_from_behind=0.0,
    faults="varied",
    background="varied",
    pairs="fresh",
    finish="thorough",
)


def _two_hands(interacting: float) -> SceneKnobs:
    values = {name: getattr(_CLOSE, name) for name in _CLOSE.__dataclass_fields__}
    return SceneKnobs(**(values | {"two_hands": 1.0, "interacting": interacting}))


@dataclass(frozen=True)
class Benchmark:
    """Scenes by seed."""

    name: str
    count: int
    recipe: Callable[[int], tuple[SceneKnobs, int, bool]]
    """Index of a scene -> its knobs, its seed, and whether it belongs to the second group."""


def _two_hand_scene(index: int) -> tuple[SceneKnobs, int, bool]:
    """Even scenes interact, odd ones do not. Four blocks of seeds, since scenes of a block draw from one pool of interacting pairs."""
    interacting = index % 2 == 0
    return (_INTERACTING if interacting else _APART), 1_901_000_000 + BLOCK * (index // 250) + index, interacting


def _mixed_scene(index: int) -> tuple[SceneKnobs, int, bool]:
    """Whatever the engine makes by its usual odds; the group follows from what it made."""
    return _CLOSE, 1_900_000_000 + index, False


_INTERACTING, _APART = _two_hands(1.0), _two_hands(0.0)
BENCHMARKS = {
    benchmark.name: benchmark
    for benchmark in (Benchmark("synthetic/two-hand-1000", 1000, _two_hand_scene), Benchmark("synthetic/mixed-500", 500, _mixed_scene))
}


@dataclass(frozen=True)
class Seal:
    """What a benchmark must be."""

    truth_sha256: str
    pictures_sha256: str
    part_means_mm: list[list[float]]

    def differences(self, known: "Seal | None") -> tuple[str, ...]:
        """What is to be said about a benchmark with this seal, if another one is expected."""
        if known is None:
            return ("this benchmark has no seal in the package, so nobody else's numbers are of the same scenes for certain",)
        if self.truth_sha256 != known.truth_sha256:
            if len(self.part_means_mm) != len(known.part_means_mm):
                return ("these are OTHER SCENES than the benchmark's: their number differs; the numbers compare with nobody's",)
            gap = np.abs(np.array(self.part_means_mm) - np.array(known.part_means_mm)).max(1)
            other = np.flatnonzero(gap > SAME_SCENES_MM)
            if len(other):
                return (f"these are OTHER SCENES than the benchmark's: parts {other.tolist()} differ; the numbers compare with nobody's",)
            return ("the truth equals the benchmark's but for this machine's rounding",)
        if self.pictures_sha256 != known.pictures_sha256:
            return ("the truth is the benchmark's to the last digit; the pictures differ from it by this machine's rounding",)
        return ()


@dataclass(frozen=True)
class SyntheticSource(Source):
    """A rendered benchmark."""

    folder: Path
    arrays: dict[str, np.ndarray]

    @property
    def ids(self) -> np.ndarray:  # type: ignore[override]
        return self.arrays["sample_id"]

    @cached_property
    def _parameters(self) -> HandParameters:
        return HandParameters(*[torch.from_numpy(self.arrays[name]) for name in ("pose", "shape", "translation_m")])

    def truth(self, rows: ArrayLike) -> Truth:
        index = np.atleast_1d(np.asarray(rows))
        some = {name: value[index] for name, value in self.arrays.items()}
        mesh = load_bundled_hand().pose_hands(self._parameters[torch.from_numpy(index)]).mesh()
        valid = some["hand_valid"]
        every = np.repeat(valid[..., None], 21, -1)
        joints = some["joints_m"].astype(np.float64) * M_TO_MM
        size = Image.open(self._picture(int(index[0]))).size
        return Truth(
            sample_id=some["sample_id"],
            sequence=some["sample_id"],  # scenes are independent
            interacting=some["second_group"],
            hand_type_valid=np.ones(len(index), bool),
            shown=valid,
            joints_mm=joints,
            labelled=every,
            valid_3d=every,
            vertices_mm=mesh.vertices_m.double().numpy() * M_TO_MM,
            mesh_valid=valid,
            mesh_joints_mm=joints,
            focal_px=some["focal_px"].astype(np.float64),
            principal_px=some["principal_px"].astype(np.float64) - FIRST_PIXEL,
            image_size_px=np.tile(np.array(size, float), (len(index), 1)),
            hidden_share=some["hidden_share"].astype(np.float64),
            brightness=np.full(len(index), np.nan),
        )

    def sample(self, row: int) -> Sample:
        some = {name: torch.from_numpy(np.array(value[row])) for name, value in self.arrays.items() if value.dtype.kind != "U"}
        valid, xy = some["hand_valid"], some["keypoints_xy"]
        return Sample(
            image=torch.from_numpy(np.array(Image.open(self._picture(row)).convert("RGB"))).permute(2, 0, 1).contiguous(),
            camera=Camera(some["focal_px"], some["principal_px"]),
            hand_valid=valid,
            keypoints_xy=xy,
            keypoint_visible=some["keypoint_visible"].float(),
            keypoints_camera_m=some["joints_m"],
            keypoints_3d_valid=valid[:, None].expand(2, 21),
            parameters=HandParameters(some["pose"], some["shape"], some["translation_m"]),
            parameters_valid=valid,
            box_xyxy_px=torch.cat([xy.amin(1), xy.amax(1)], -1),
            priors=None,
            source="synthetic",
        )

    def seal(self) -> Seal:
        """Checksums of what is in the folder: truth rounded to 10 micrometres, pictures by their pixels."""
        truth, pictures = hashlib.sha256(), hashlib.sha256()
        for name, unit in (("joints_m", 1e-5), ("focal_px", 1e-2), ("hidden_share", 1 / 21), ("hand_valid", 1)):
            truth.update(np.round(self.arrays[name].astype(np.float64) / unit).astype("<i4").tobytes())
        for row in range(len(self)):
            pictures.update(np.asarray(Image.open(self._picture(row)).convert("RGB")).tobytes())
        joints = self.arrays["joints_m"].astype(np.float64)
        means = [joints[first : first + PART].mean((0, 1, 2)) * M_TO_MM for first in range(0, len(joints), PART)]
        return Seal(truth.hexdigest(), pictures.hexdigest(), [[round(float(x), 3) for x in mean] for mean in means])

    def _picture(self, row: int) -> Path:
        return self.folder / "images" / f"{self.ids[row]}.png"


def known_seal(name: str) -> Seal | None:
    """The seal that ships with the package."""
    stored = json.loads((resources.files("twohands.evaluation") / SEALS).read_text(encoding="utf-8"))
    return Seal(**stored[name]) if name in stored else None


def open_benchmark(name: str, folder: Path, count: int | None = None, progress: Callable[[int], object] | None = None) -> SyntheticSource:
    """The benchmark in a folder; scenes that are not there yet are rendered into it. `count`: the first so many scenes only.

    UserError if the folder holds something else."""
    benchmark = BENCHMARKS[name]
    count = benchmark.count if count is None else min(count, benchmark.count)
    try:
        for sub in ("images", "truth"):
            (folder / sub).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make the folder {folder} for the benchmark ({error.strerror}); choose another one") from error
    label = folder / "benchmark.txt"
    if label.is_file() and label.read_text(encoding="utf-8").strip() != name:
        raise UserError(f"{folder} holds the benchmark {label.read_text(encoding='utf-8').strip()}; choose another folder for {name}")
    label.write_text(name + "\n", encoding="utf-8")
    parts = [_part(benchmark, folder, first, min(PART, count - first), progress) for first in range(0, count, PART)]
    return SyntheticSource(folder, {field: np.concatenate([part[field] for part in parts]) for field in parts[0]})


def _part(benchmark: Benchmark, folder: Path, first: int, count: int, progress: Callable[[int], object] | None) -> dict[str, np.ndarray]:
    path = folder / "truth" / f"part-{first // PART:05d}.npz"
    if path.is_file():
        stored = _read_part(path)
        if len(stored["sample_id"]) >= count:
            if progress:
                progress(count)
            return {name: value[:count] for name, value in stored.items()}
    rows = []
    for index in range(first, first + count):
        rows.append(_scene(benchmark, folder, index))
        if progress:
            progress(1)
    arrays = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    beside = path.with_name(path.name + ".part")
    with beside.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]
    os.replace(beside, path)
    return arrays


def _read_part(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} is broken ({error}); delete it, and it is rendered again") from error


def _scene(benchmark: Benchmark, folder: Path, index: int) -> dict[str, np.ndarray]:
    knobs, seed, second_group = benchmark.recipe(index)
    sample = take_photo(knobs, seed)
    name = f"{index:05d}"
    path = folder / "images" / f"{name}.png"
    beside = path.with_suffix(".part")
    Image.fromarray(sample.image.permute(1, 2, 0).numpy()).save(beside, "PNG", compress_level=1)
    os.replace(beside, path)
    both = bool(sample.parameters_valid.all())
    arrays = {
        "sample_id": np.array(name),
        "seed": np.array(seed),
        "second_group": np.array(second_group or (benchmark.name == "synthetic/mixed-500" and both)),
        "hand_valid": sample.hand_valid.numpy(),
        "joints_m": sample.keypoints_camera_m.numpy(),
        "keypoints_xy": sample.keypoints_xy.numpy(),
        "keypoint_visible": sample.keypoint_visible.numpy() > 0.5,
        "hidden_share": (1 - sample.keypoint_visible.mean(1)).numpy(),
        "pose": sample.parameters.pose.numpy(),
        "shape": sample.parameters.shape.numpy(),
        "translation_m": sample.parameters.translation_m.numpy(),
        "focal_px": sample.camera.focal_px.numpy(),
        "principal_px": sample.camera.principal_px.numpy(),
    }
    return arrays
