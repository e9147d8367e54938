"""Whether stated probabilities are true: reliability curves, calibration errors, and the two ways to mend them. And precision against recall."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from twohands.errors import from_extra

with from_extra("evaluate", "fitting a scale of confidence"):
    from scipy.optimize import minimize_scalar

SURE = 1e-4
"""Probabilities are kept this far from 0 and 1 where their log odds are taken."""


@dataclass(frozen=True)
class ReliabilityCurve:
    """Statements sorted into bins by what they stated."""

    stated: Float[np.ndarray, "bin"]
    """Mean stated probability of each bin; NaN for an empty one."""
    observed: Float[np.ndarray, "bin"]
    """How often it was true."""
    count: Int[np.ndarray, "bin"]

    @property
    def error(self) -> float:
        """Expected calibration error: mean distance of stated and observed, each statement counting once. NaN without statements."""
        total = self.count.sum()
        gap = np.where(self.count > 0, np.abs(self.stated - self.observed), 0.0)
        return float((gap * self.count).sum() / total) if total else float("nan")


def reliability_curve(stated: Float[np.ndarray, "n"], true: Bool[np.ndarray, "n"], bins: int = 10) -> ReliabilityCurve:
    """Bins of equal width over 0 to 1."""
    if stated.shape != true.shape:
        raise ValueError(f"{stated.shape} statements and {true.shape} outcomes do not go together")
    index = np.clip((stated * bins).astype(int), 0, bins - 1)
    count = np.bincount(index, minlength=bins)
    filled = np.maximum(count, 1)
    mean, share = (np.bincount(index, values, bins) / filled for values in (stated.astype(float), true.astype(float)))
    return ReliabilityCurve(np.where(count > 0, mean, np.nan), np.where(count > 0, share, np.nan), count)


def log_odds(probability: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n"]:
    """Of probabilities that may be 0 or 1."""
    p = np.clip(probability, SURE, 1 - SURE)
    return np.log(p / (1 - p))


@dataclass(frozen=True)
class Scaling:
    """Platt's calibration: log odds times `slope`, plus `shift`. Slope alone is temperature scaling."""

    slope: float
    shift: float

    def __call__(self, stated: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n"]:
        """Calibrated probabilities."""
        return 1 / (1 + np.exp(-(self.slope * log_odds(stated) + self.shift)))


def fit_scaling(stated: Float[np.ndarray, "n"], true: Bool[np.ndarray, "n"]) -> Scaling:
    """By maximum likelihood: for each slope the best shift, for the slope a search. ValueError unless both outcomes occur."""
    if not 0 < true.sum() < len(true):
        raise ValueError("a calibration needs statements that came true and some that did not")
    odds = log_odds(stated)

    def cost(slope: float, shift: float) -> float:
        return float(np.logaddexp(0, -np.where(true, 1, -1) * (slope * odds + shift)).mean())

    def best_shift(slope: float) -> float:
        return float(minimize_scalar(lambda shift: cost(slope, shift), bounds=(-10, 10), method="bounded").x)

    slope = float(minimize_scalar(lambda s: cost(s, best_shift(s)), bounds=(0.02, 5.0), method="bounded").x)
    return Scaling(slope, best_shift(slope))


@dataclass(frozen=True)
class PrecisionRecall:
    """One point a distinct score, from the surest down."""

    score: Float[np.ndarray, "point"]
    precision: Float[np.ndarray, "point"]
    recall: Float[np.ndarray, "point"]

    @property
    def average_precision(self) -> float:
        """Area under the envelope of precision over recall; what is never recalled counts 0."""
        envelope = np.maximum.accumulate(self.precision[::-1])[::-1]
        return float((np.diff(self.recall, prepend=0.0) * envelope).sum())

    def at(self, score: float) -> tuple[float, float]:
        """(precision, recall) of everything with at least this score; (1, 0) if there is nothing."""
        kept = np.flatnonzero(self.score >= score)
        return (float(self.precision[kept[-1]]), float(self.recall[kept[-1]])) if len(kept) else (1.0, 0.0)


def precision_recall(score: Float[np.ndarray, "n"], right: Bool[np.ndarray, "n"], asked_for: int) -> PrecisionRecall:
    """Of detections, `right` those that found one of the `asked_for` hands (each hand once)."""
    if int(right.sum()) > asked_for:
        raise ValueError(f"{int(right.sum())} detections were right, of {asked_for} hands; each hand may be found once")
    order = np.argsort(-score, kind="stable")
    found = np.cumsum(right[order])
    # Equal scores cannot be told apart: they enter together.
    last = np.append(np.diff(score[order]) != 0, True) if len(order) else np.zeros(0, bool)
    number = np.arange(1, len(order) + 1)
    return PrecisionRecall(score[order][last], (found / np.maximum(number, 1))[last], (found / max(asked_for, 1))[last])
