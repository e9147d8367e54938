"""Lining predictions up with truth: part by part, sample by sample, nothing counted twice and nothing lost without a word."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from twohands.errors import UserError
from twohands.evaluation.judged import JudgesHand, Prediction, Truth
from twohands.evaluation.predictions import Part
from twohands.evaluation.sources import Source

BATCH = 256


@dataclass(frozen=True)
class Coverage:
    """Which samples of a source the predictions speak of."""

    missing: int
    """Samples without a prediction."""
    unknown: int
    """Predictions of samples that are not in the source; they are not judged."""


def coverage(source: Source, ids: np.ndarray, allow_missing: bool) -> Coverage:
    """UserError naming the first sample without a prediction, unless that is allowed; and always if not one sample is covered."""
    known = np.isin(source.ids, ids)
    missing = int((~known).sum())
    if not known.any():
        raise UserError(
            f"no prediction is of any of the {len(source)} samples: the first sample is {str(source.ids[0])!r}, the first prediction "
            f"{str(ids[0]) if len(ids) else 'none'!r}; sample_id must be the data set's own name of a sample (docs/EVALUATION.md)"
        )
    if missing and not allow_missing:
        first = str(source.ids[np.flatnonzero(~known)[0]])
        raise UserError(
            f"{missing} of {len(source)} samples have no prediction, the first is {first!r}; a number is of all samples: predict them, or "
            "give --allow-missing and say so with the number"
        )
    return Coverage(missing, int((~np.isin(ids, source.ids)).sum()))


def batches_of_parts(
    source: Source, parts: tuple[Part, ...], hand: JudgesHand | None, progress: Callable[[int], object] | None = None
) -> Iterator[tuple[Truth, Prediction]]:
    """Truth and predictions of the same samples, BATCH at a time; one part is in memory at once. `hand` turns MANO meshes into joints."""
    for part in parts:
        yield from batches(source, part.read(hand), progress)


def batches(source: Source, prediction: Prediction, progress: Callable[[int], object] | None = None) -> Iterator[tuple[Truth, Prediction]]:
    """The same for predictions in memory."""
    order = np.argsort(source.ids)
    place = np.minimum(np.searchsorted(source.ids[order], prediction.sample_id), len(order) - 1)
    row = order[place]
    judged = np.flatnonzero(source.ids[row] == prediction.sample_id)
    for first in range(0, len(judged), BATCH):
        some = judged[first : first + BATCH]
        yield source.truth(row[some]), prediction.take(some)
        if progress:
            progress(len(some))
