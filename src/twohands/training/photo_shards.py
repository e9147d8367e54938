"""Any data set's pictures as training shards: squares around the hands, with the truth in the terms of the bundled hand.

A reader's `Sample` may have gaps and holds MANO's parameters; a shard has none of either. What becomes of a picture:

- the hands are cut out together, or one by one where they are far apart; the camera stays the picture's, shifted and scaled;
- a hand counts if each of its 21 keypoints is known in 2D; a picture with a hand that is known in part is left out, for nothing in a shard could
  tell a network to look away from it;
- 3D joints are the annotated ones where all 21 are, else those of the fit;
- MANO fits become parameters of the bundled hand by `hands/transfer.py`; those that do not meet the fit's keypoints, or not the annotated ones, are
  masked;
- where every hand has parameters, segmentation and depth are drawn from the bundled hand's mesh;
- black pictures, of which InterHand2.6M has some, are left out.
"""

import json
import multiprocessing
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from twohands.data.dataset import Dataset
from twohands.data.loader import open_dataset
from twohands.data.shards import MAP_STRIDE, write_shard
from twohands.errors import UserError
from twohands.geometry.camera import Camera
from twohands.hands.bundled import load_bundled_hand
from twohands.hands.model import HandModel
from twohands.hands.parameters import HandParameters
from twohands.hands.transfer import keypoint_distance_m, transfer_hands
from twohands.record import stack
from twohands.schema import PriorMaps, Sample
from twohands.synth.photo import hand_maps

MARGIN = 1.9
"""Side of the square over the longer side of the hands' box."""
FAR_APART = 3.2
"""Two hands whose common box is this many times the larger hand are cut out one by one."""
BLACK = 10.0
"""Pictures with a smaller mean value show nothing."""
LARGEST_TRANSFER_M = 0.008
"""Mean distance of keypoints beyond which the bundled hand did not take over the fit."""
LARGEST_REPROJECTION = 0.12
"""Mean 2D distance between fit and annotation, in sides of the hand's box, beyond which the fit is not this hand's."""
SHARD_SIZE = 500
MANIFEST = "shards.json"


@dataclass(frozen=True)
class ShardRequest:
    """What to make; the same request makes the same shards."""

    name: str
    folder: Path
    split: str
    mano: Path | None
    limit: int | None
    """At most so many pictures, chosen by the seed; None takes all."""
    size_px: int
    seed: int


@dataclass(frozen=True)
class ShardReport:
    """What came of the pictures that were asked for."""

    shards: int
    samples: int
    with_parameters: int
    """Samples in which each hand has parameters of the bundled hand."""
    left_out: int
    """Pictures without a hand, with a hand that is known in part only, or black."""
    missing: tuple[str, ...]
    """Messages about pictures that could not be read."""


def cut_square(photo: Image.Image, camera: Camera, centre_px: np.ndarray, side_px: float, size_px: int) -> tuple[np.ndarray, Camera]:
    """A square of the photo at `size_px` pixels (black outside the photo), with its camera."""
    scale = side_px / size_px
    left, top = centre_px - side_px / 2
    if scale > 1:
        reduced = photo.reduce(max(1, int(scale)))
        # Reducing rounds sizes up, so the factors are those of the picture that came out.
        x, y = photo.width / reduced.width, photo.height / reduced.height
        matrix = (scale / x, 0, left / x, 0, scale / y, top / y)
        view = reduced.transform((size_px, size_px), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)
    else:
        matrix = (scale, 0, left, 0, scale, top)
        view = photo.transform((size_px, size_px), Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC)
    offset = torch.tensor([left, top], dtype=torch.float32)
    return np.asarray(view), Camera(camera.focal_px / scale, (camera.principal_px - offset) / scale)


def hand_photos(sample: Sample, size_px: int) -> list[Sample]:
    """The squares around a sample's hands, still with the sample's own parameters; none where the picture is left out (see above)."""
    valid = sample.hand_valid
    whole = sample.keypoints_xy.isfinite().all(-1).all(-1)
    if not bool(valid.any()) or not bool(whole[valid].all()) or float(sample.image.float().mean()) < BLACK:
        return []
    hands = valid.nonzero().flatten().tolist()
    groups = [hands]
    if len(hands) == 2:
        both = torch.cat([sample.box_xyxy_px[:, :2].amin(0), sample.box_xyxy_px[:, 2:].amax(0)])
        if _longer_side(both) > FAR_APART * max(_longer_side(box) for box in sample.box_xyxy_px):
            groups = [[0], [1]]
    photo = Image.fromarray(sample.image.permute(1, 2, 0).numpy())
    found = []
    for group in groups:
        box = torch.cat([sample.box_xyxy_px[group, :2].amin(0), sample.box_xyxy_px[group, 2:].amax(0)])
        side_px = max(4.0, MARGIN * _longer_side(box))
        centre = ((box[:2] + box[2:]) / 2).numpy().astype(np.float64)
        pixels, camera = cut_square(photo, sample.camera, centre, side_px, size_px)
        kept = torch.zeros(2, dtype=torch.bool)
        kept[group] = True
        scale = side_px / size_px
        xy = torch.where(kept[:, None, None], (sample.keypoints_xy - torch.from_numpy(centre - side_px / 2).float()) / scale, 0.0)
        inside = ((xy >= 0) & (xy < size_px)).all(-1)
        found.append(
            Sample(
                image=torch.from_numpy(pixels.copy()).permute(2, 0, 1).contiguous(),
                camera=camera,
                hand_valid=kept,
                keypoints_xy=xy,
                keypoint_visible=torch.where(kept[:, None] & inside, sample.keypoint_visible, 0.0),
                keypoints_camera_m=torch.where(kept[:, None, None], sample.keypoints_camera_m, 0.0),
                # A trainer's palm length and wrist must be there, so a hand's 3D counts as a whole.
                keypoints_3d_valid=(kept & sample.keypoints_3d_valid.all(1))[:, None].expand(2, 21).clone(),
                parameters=sample.parameters,
                parameters_valid=sample.parameters_valid & kept,
                box_xyxy_px=torch.cat([xy.amin(1), xy.amax(1)], -1),
                priors=None,
                source=sample.source,
            )
        )
    return found


def _longer_side(box_xyxy_px: Tensor) -> float:
    return float((box_xyxy_px[2:] - box_xyxy_px[:2]).max())


def with_bundled_parameters(samples: list[Sample], mano: HandModel | None, hand: HandModel) -> list[Sample]:
    """The same photos with parameters of the bundled hand in place of MANO's, 3D joints from them where none were annotated, and maps of them."""
    if not samples:
        return []
    fitted, converted = _converted(samples, mano, hand)
    mesh = hand.pose_hands(converted).mesh()
    done = []
    for k, sample in enumerate(samples):
        valid = fitted[k]
        size_px = sample.image.shape[1]
        xy = sample.camera.project(mesh.keypoints_m[k])
        side = (sample.box_xyxy_px[:, 2:] - sample.box_xyxy_px[:, :2]).amax(-1).clamp_min(1.0)
        off = (xy - sample.keypoints_xy).norm(dim=-1).mean(-1) / side
        valid = valid & (off < LARGEST_REPROJECTION)
        annotated = sample.keypoints_3d_valid.all(1)
        points = torch.where((valid & ~annotated)[:, None, None], mesh.keypoints_m[k], sample.keypoints_camera_m)
        parameters = converted[k].map(lambda t, v=valid: torch.where(v.view(2, *[1] * (t.ndim - 1)), t, 0.0))  # type: ignore[misc]
        maps: PriorMaps | None = None
        if bool(valid[sample.hand_valid].all()) and size_px % MAP_STRIDE == 0:
            maps = hand_maps(hand, mesh[k], sample.camera, size_px, size_px, valid)
        done.append(
            Sample(
                image=sample.image,
                camera=sample.camera,
                hand_valid=sample.hand_valid,
                keypoints_xy=sample.keypoints_xy,
                keypoint_visible=sample.keypoint_visible,
                keypoints_camera_m=points,
                keypoints_3d_valid=(annotated | valid)[:, None].expand(2, 21).clone(),
                parameters=parameters,
                parameters_valid=valid,
                box_xyxy_px=sample.box_xyxy_px,
                priors=maps,
                source=sample.source,
            )
        )
    return done


def _converted(samples: list[Sample], mano: HandModel | None, hand: HandModel) -> tuple[Tensor, HandParameters]:
    """(which hands were taken over, parameters of the bundled hand); what was not taken over stands a metre away, so that it may be projected."""
    asked = torch.stack([sample.parameters_valid for sample in samples])
    empty = HandParameters.zeros(len(samples))
    empty.translation_m[..., 2] = 1.0
    if mano is None or not bool(asked.any()):
        return torch.zeros_like(asked), empty
    source = stack([sample.parameters for sample in samples])
    ahead = (mano.pose_hands(source).keypoints()[..., 2] > 0.05).all(-1)
    asked = asked & ahead
    source = HandParameters(source.pose, source.shape, torch.where(asked[..., None], source.translation_m, empty.translation_m))
    taken = transfer_hands(source, mano, hand, asked)
    finite = torch.cat([taken.pose.flatten(2), taken.shape, taken.translation_m], -1).isfinite().all(-1)
    good = asked & finite & (keypoint_distance_m(source, mano, taken, hand) < LARGEST_TRANSFER_M)

    def kept(values: Tensor, otherwise: Tensor) -> Tensor:
        return torch.where(good.view(*good.shape, *[1] * (values.ndim - 2)), values, otherwise)

    return good, HandParameters(
        kept(taken.pose, empty.pose), kept(taken.shape, empty.shape), kept(taken.translation_m, empty.translation_m)
    )


def picture_order(dataset: Dataset, limit: int | None, seed: int) -> np.ndarray:
    """Which pictures, and in which order: a random choice, sequence after sequence, so that a trainer which keeps the last ones for validation
    keeps other sequences than it trains on."""
    rng = np.random.default_rng(seed)
    chosen = rng.permutation(len(dataset))[: limit if limit is not None else len(dataset)]
    sequences = [dataset.annotation(int(i)).sequence for i in chosen]
    names, number = np.unique(sequences, return_inverse=True)
    return chosen[np.argsort(rng.permutation(len(names))[number], kind="stable")]


@dataclass(frozen=True)
class _Job:
    request: ShardRequest
    path: Path
    indices: np.ndarray


def _make(job: _Job) -> ShardReport:
    """One shard; no file where none of its pictures can be used."""
    torch.set_num_threads(1)
    request = job.request
    dataset = open_dataset(request.name, request.folder, request.split, request.mano)
    hand = load_bundled_hand()
    photos: list[Sample] = []
    seeds: list[int] = []
    missing: list[str] = []
    left_out = 0
    for index in job.indices.tolist():
        try:
            sample = dataset[index]
        except UserError as error:
            missing.append(str(error))
            continue
        found = hand_photos(sample, request.size_px)
        left_out += not found
        photos += found
        seeds += [index] * len(found)
    samples = [
        done for first in range(0, len(photos), 64) for done in with_bundled_parameters(photos[first : first + 64], dataset.mano, hand)
    ]
    if samples:
        write_shard(job.path, samples, seeds)
    complete = sum(bool(s.parameters_valid[s.hand_valid].all()) for s in samples)
    return ShardReport(int(bool(samples)), len(samples), complete, left_out, tuple(missing))


def write_photo_shards(request: ShardRequest, out: Path, workers: int = 1, progress: Callable[[int], object] | None = None) -> ShardReport:
    """Writes the shards of a data set into `out`, which holds them alone; those that are there already are kept, so a run that was cut off goes on
    where it stopped. `progress` is called with the number of pictures done.

    UserError if the data set cannot be read, no picture can be used, or `out` holds shards of another request."""
    if request.size_px < 32 or request.size_px % MAP_STRIDE:
        raise UserError(f"a shard's pictures are squares of at least 32 pixels and a multiple of {MAP_STRIDE}, not {request.size_px}")
    if workers < 1 or (request.limit is not None and request.limit < 1):
        raise UserError(f"workers ({workers}) and limit ({request.limit}) must be at least 1")
    dataset = open_dataset(request.name, request.folder, request.split, request.mano)
    order = picture_order(dataset, request.limit, request.seed)
    _claim(out, request, len(dataset))
    jobs = [
        _Job(request, out / f"{first // SHARD_SIZE:05d}.npz", order[first : first + SHARD_SIZE])
        for first in range(0, len(order), SHARD_SIZE)
    ]
    reports = []
    todo = [job for job in jobs if not job.path.is_file()]
    if progress:
        progress(sum(len(job.indices) for job in jobs if job.path.is_file()))
    if workers == 1:
        for job in todo:
            reports.append(_make(job))
            if progress:
                progress(len(job.indices))
    else:
        with multiprocessing.get_context("spawn").Pool(workers) as pool:
            for job, report in zip(todo, pool.imap(_make, todo), strict=True):
                reports.append(report)
                if progress:
                    progress(len(job.indices))
    missing = tuple(message for report in reports for message in report.missing)
    there = sum(job.path.is_file() for job in jobs)
    if there == 0:
        why = missing[0] if missing else "none shows a hand whose keypoints are all known"
        raise UserError(f"no picture of {request.name} {request.split} in {request.folder} can be used: {why}")
    return ShardReport(
        there, sum(r.samples for r in reports), sum(r.with_parameters for r in reports), sum(r.left_out for r in reports), missing
    )


def _claim(out: Path, request: ShardRequest, annotations: int) -> None:
    """Notes in `out` what it holds."""
    wanted = {
        "name": request.name, "split": request.split, "annotations": annotations, "with_mano": request.mano is not None, "limit": request.limit,
        "size_px": request.size_px, "seed": request.seed,
    }  # fmt: skip
    path = out / MANIFEST
    if path.is_file():
        try:
            known = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise UserError(f"{path} is broken; empty {out} and begin anew") from error
        if known != wanted:
            differs = [key for key in wanted if known.get(key) != wanted[key]]
            raise UserError(f"{out} holds shards made with another {', '.join(differs)}; give another folder or empty it")
        return
    if out.is_dir() and any(out.glob("*.npz")):
        raise UserError(f"{out} holds shards of something else; give another folder")
    try:
        out.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(path.name + ".part")
        beside.write_text(json.dumps(wanted, indent=1) + "\n", encoding="utf-8")
        os.replace(beside, path)
    except OSError as error:
        raise UserError(f"cannot write into {out} ({error.strerror}); choose another folder") from error
