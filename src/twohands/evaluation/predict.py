"""Running an estimator over a source of samples, into predictions files that the judge reads like anybody else's. Resumable."""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from twohands.errors import UserError
from twohands.evaluation.judged import Prediction
from twohands.evaluation.predictions import write_predictions
from twohands.evaluation.sources import Source
from twohands.schema import Sample

PART = 100
Predict = Callable[[str, Sample], Prediction]
"""An estimator: a sample's id and its picture to one row. It may look at the true boxes of the sample, if its name says that it does."""


def predict_all(source: Source, predict: Predict, predictor: str, folder: Path, progress: Callable[[int], object] | None = None) -> None:
    """Fills `folder` with predictions of every sample, PART samples a file; files that are there are kept, so a run that was cut off goes on.

    UserError if the folder holds the predictions of another estimator or of other samples."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make the folder {folder} ({error.strerror}); choose another one") from error
    run = {"predictor": predictor, "samples": len(source), "ids_sha256": hashlib.sha256("\n".join(source.ids).encode()).hexdigest()}
    label = folder / "run.json"
    if label.is_file():
        stored = json.loads(label.read_text(encoding="utf-8"))
        if stored != run:
            changed = [f"{name} {stored.get(name)!r}, not {run[name]!r}" for name in run if stored.get(name) != run[name]]
            raise UserError(f"{folder} holds another run's predictions ({'; '.join(changed)}); delete it or choose another --out")
    elif any(folder.glob("*.npz")):
        raise UserError(f"{folder} holds predictions of an unknown run; delete it or choose another --out")
    else:
        beside = label.with_suffix(".part")
        beside.write_text(json.dumps(run, indent=1), encoding="utf-8")
        os.replace(beside, label)
    for first in range(0, len(source), PART):
        path = folder / f"part-{first // PART:06d}.npz"
        rows = range(first, min(first + PART, len(source)))
        if path.is_file():
            if progress:
                progress(len(rows))
            continue
        made = []
        for row in rows:
            made.append(predict(str(source.ids[row]), source.sample(row)))
            if progress:
                progress(1)
        write_predictions(path, Prediction.join(made), predictor)


def one_row(
    sample_id: str,
    joints_mm: np.ndarray,
    vertices_mm: np.ndarray | None,
    relative_mm: np.ndarray,
    presence: np.ndarray | None = None,
    box_xyxy_px: np.ndarray | None = None,
) -> Prediction:
    """One sample's prediction in the camera frame."""

    def row(values: np.ndarray | None) -> np.ndarray | None:
        return None if values is None else np.asarray(values, np.float64)[None]

    return Prediction(
        sample_id=np.array([sample_id]),
        joints_mm=np.asarray(joints_mm, np.float64)[None],
        in_camera=np.array([True]),
        vertices_mm=row(vertices_mm),
        relative_mm=np.asarray(relative_mm, np.float64)[None],
        presence=row(presence),
        box_xyxy_px=row(box_xyxy_px),
        uvd=None,
        wrist_depth_mm=None,
    )
