"""How the errors of samples become one number, and how sure that number is.

Published tables average in different orders, and the order alone moves a score by a millimetre. A metric's values are an array (sample, cell):
a cell is a joint of a hand, a hand, or the whole sample. Samples fall into two groups, SH (one hand is annotated) and IH (both). Every rule
here needs only sums and counts by group and cell, so that a bootstrap over sequences is a weighted sum of the sequences' sums.
"""

from dataclasses import dataclass
from typing import Literal, assert_never

import numpy as np
from jaxtyping import Float, Int

Averaging = Literal["cells", "pooled cells", "entries", "hands"]
Split = Literal["all", "SH", "IH"]

AVERAGING_WORDS: dict[Averaging, str] = {
    "cells": "mean over samples for each joint, then over joints; all = mean over the joints of {0} and of {1}, that is ({0} + {1}) / 2",
    "pooled cells": "mean over samples for each joint, then over joints; all = {0} and {1} samples of a joint pooled first",
    "entries": "mean over all entries alike; all = {0} and {1} entries pooled",
    "hands": "mean over everything of each hand, then (left + right) / 2",
}
"""With places for the names of the two groups."""
_SINGLE, _INTERACTING = 0, 1


@dataclass(frozen=True)
class Totals:
    """Sums and counts of a metric's values. Leading axes: sequences, or draws of a bootstrap."""

    total: Float[np.ndarray, "*batch group cell"]
    count: Float[np.ndarray, "*batch group cell"]

    @staticmethod
    def of(values: Float[np.ndarray, "n cell"], interacting: np.ndarray, sequence: Int[np.ndarray, "n"], sequences: int) -> "Totals":
        """Totals of each sequence (numbered from 0). NaN is not counted."""
        row = sequence * 2 + interacting.astype(np.int64)
        total, count = np.zeros((sequences * 2, values.shape[1])), np.zeros((sequences * 2, values.shape[1]))
        for cell, column in enumerate(values.T):
            counted = ~np.isnan(column)
            total[:, cell] = np.bincount(row[counted], column[counted], sequences * 2)
            count[:, cell] = np.bincount(row[counted], minlength=sequences * 2)
        return Totals(total.reshape(sequences, 2, -1), count.reshape(sequences, 2, -1))

    def drawn(self, weights: Float[np.ndarray, "draw sequence"]) -> "Totals":
        """Each sequence counted as often as a draw says."""
        shape = self.total.shape[1:]
        flat = [(weights @ part.reshape(len(part), -1)).reshape(-1, *shape) for part in (self.total, self.count)]
        return Totals(*flat)

    def whole(self) -> "Totals":
        """All sequences together."""
        return Totals(self.total.sum(0), self.count.sum(0))

    def average(self, rule: Averaging, split: Split) -> Float[np.ndarray, "*batch"]:
        """The number of a table. Cells without any entry are left out; NaN if there is no entry at all."""
        groups = {"all": [_SINGLE, _INTERACTING], "SH": [_SINGLE], "IH": [_INTERACTING]}[split]
        total, count = self.total[..., groups, :], self.count[..., groups, :]
        match rule:
            case "cells":
                return _mean(_ratio(total, count), 2)
            case "pooled cells":
                return _mean(_ratio(total.sum(-2), count.sum(-2)), 1)
            case "entries":
                return _ratio(total.sum((-2, -1)), count.sum((-2, -1)))
            case "hands":
                by_hand = [part.reshape(*part.shape[:-1], 2, -1).sum((-3, -1)) for part in (total, count)]
                return _mean(_ratio(*by_hand), 1)
            case _:
                assert_never(rule)

    def entries(self, split: Split) -> int:
        """How many values went into `average`."""
        groups = {"all": [_SINGLE, _INTERACTING], "SH": [_SINGLE], "IH": [_INTERACTING]}[split]
        return int(self.count[..., groups, :].sum())


def bootstrap_weights(sequences: int, draws: int, seed: int = 0) -> Float[np.ndarray, "draw sequence"]:
    """How often each sequence is drawn, with replacement, as many as there are."""
    generator = np.random.default_rng(seed)
    return generator.multinomial(sequences, np.full(sequences, 1 / sequences), size=draws).astype(float)


def interval(
    totals: Totals, rule: Averaging, split: Split, weights: Float[np.ndarray, "draw sequence"], level: float = 0.95
) -> tuple[float, float]:
    """Percentile interval of the average over bootstrap draws of whole sequences: frames of one recording are no independent samples. NaN with
    fewer than two sequences."""
    if len(totals.total) < 2:
        return float("nan"), float("nan")
    averages = totals.drawn(weights).average(rule, split)
    averages = averages[~np.isnan(averages)]
    if not len(averages):
        return float("nan"), float("nan")
    low, high = np.quantile(averages, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _ratio(total: np.ndarray, count: np.ndarray) -> np.ndarray:
    return np.where(count > 0, total / np.where(count > 0, count, 1.0), np.nan)


def _mean(values: np.ndarray, axes: int) -> np.ndarray:
    """Mean over the last axes of what is not NaN."""
    flat = values.reshape(*values.shape[: values.ndim - axes], -1)
    known = ~np.isnan(flat)
    return _ratio(np.where(known, flat, 0.0).sum(-1), known.sum(-1))
