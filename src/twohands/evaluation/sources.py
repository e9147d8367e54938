"""Where truth comes from: samples that can be counted, looked up, judged by and shown to an estimator, whatever data set they are of."""

import abc
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from twohands.errors import UserError
from twohands.evaluation.judged import Truth
from twohands.schema import Sample

M_TO_MM = 1000.0
FIRST_PIXEL = 0.5
"""Its centre in this project's pixels; 0 in the data sets'."""


class Source(abc.ABC):
    """Samples with truth. Cheap to open; each sample is read when it is asked for."""

    ids: np.ndarray
    """Strings, one a sample."""

    @abc.abstractmethod
    def truth(self, rows: ArrayLike) -> Truth:
        """Some rows of it."""

    @abc.abstractmethod
    def sample(self, row: int) -> Sample:
        """The picture, for an estimator; UserError if it is not there."""

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Some(Source):
    """Some samples of another source."""

    whole: Source
    rows: np.ndarray

    @property
    def ids(self) -> np.ndarray:  # type: ignore[override]
        return self.whole.ids[self.rows]

    def truth(self, rows: ArrayLike) -> Truth:
        return self.whole.truth(self.rows[np.asarray(rows)])

    def sample(self, row: int) -> Sample:
        return self.whole.sample(int(self.rows[row]))


def limited(source: Source, limit: int | None) -> Source:
    """At most `limit` samples, evenly spread. UserError unless it is positive."""
    if limit is None or limit >= len(source):
        return source
    if limit < 1:
        raise UserError(f"a limit of {limit} leaves nothing to judge; give a positive number")
    return Some(source, np.linspace(0, len(source) - 1, limit).round().astype(int))
