"""From batches of truth and predictions to a report: every number of a protocol with its interval, and what pictures of it need.

The judge is handed truth and predictions and knows neither data sets nor networks."""

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float

from twohands.evaluation.averaging import AVERAGING_WORDS, Averaging, Split, Totals, bootstrap_weights, interval
from twohands.evaluation.judged import JudgesHand, Prediction, Truth
from twohands.evaluation.protocols import Metric, Protocol
from twohands.joints import OPENPOSE21

DRAWS = 1000
"""Of the bootstrap."""
CURVE_LIMITS_MM = np.linspace(0.0, 50.0, 101)
HIDDEN_EDGES = np.linspace(0.0, 1.0, 6)


@dataclass(frozen=True)
class Number:
    """One number, and everything that it means."""

    protocol: str
    metric: str
    """Name with its split: MPJPE-SH."""
    value: float
    """NaN if nothing was counted."""
    low: float
    """95 % interval by bootstrap over sequences; NaN with fewer than two."""
    high: float
    unit: str
    entries: int
    """Values that were averaged."""
    subset: str
    joints: str
    root: str
    scale: str
    averaging: str
    source: str


@dataclass(frozen=True)
class Curves:
    """What the pictures show; all of the protocol's own joint error."""

    joint_names: tuple[str, ...]
    error_by_joint_mm: Float[np.ndarray, "hand 21"]
    hidden_edges: Float[np.ndarray, "edge"]
    """Bins of the share of a hand that is hidden."""
    error_by_hidden_mm: Float[np.ndarray, "bin"]
    hands_by_hidden: np.ndarray
    limits_mm: Float[np.ndarray, "limit"]
    pck: dict[str, Float[np.ndarray, "limit"]]
    """Group -> share of joints with an error of at most the limit."""


@dataclass(frozen=True)
class Report:
    """The whole judgement."""

    protocol: Protocol
    predictor: str
    """Who predicted."""
    numbers: tuple[Number, ...]
    samples: int
    sequences: int
    dropped: dict[str, int]
    hands: int
    """Hands that the samples show."""
    hands_missed: int
    """Of them, hands that were not predicted: no mean holds them."""
    remarks: tuple[str, ...]
    curves: Curves

    def value(self, metric: str) -> float:
        """A number by its name; KeyError if the protocol has none of that name."""
        return {number.metric: number.value for number in self.numbers}[metric]

    def to_json(self) -> dict[str, Any]:
        """Plain values for a file, NaN as null."""
        curves = {f.name: getattr(self.curves, f.name) for f in dataclasses.fields(self.curves)}
        plain = {
            "protocol": self.protocol.name,
            "rule": self.protocol.rule,
            "predictor": self.predictor,
            "samples": self.samples,
            "sequences": self.sequences,
            "dropped": self.dropped,
            "hands": self.hands,
            "hands_missed": self.hands_missed,
            "remarks": self.remarks,
            "bootstrap": {"over": "sequences", "draws": DRAWS, "level": 0.95},
            "numbers": [dataclasses.asdict(number) for number in self.numbers],
            "curves": curves,
        }
        return {key: _plain(value) for key, value in plain.items()}


@dataclass
class _CurveSums:
    """What the curves need of the joint errors so far."""

    by_joint: np.ndarray = field(default_factory=lambda: np.zeros((2, 2, 21)))
    """Sum and count."""
    by_hidden: np.ndarray = field(default_factory=lambda: np.zeros((2, len(HIDDEN_EDGES) - 1)))
    """Sum and count of hands' mean errors in each bin."""
    by_limit: np.ndarray = field(default_factory=lambda: np.zeros((2, len(CURVE_LIMITS_MM) + 1)))
    """For each group, errors up to each limit and beyond the one before; the last entry holds those beyond all."""

    def add(self, errors_mm: np.ndarray, interacting: np.ndarray, hidden_share: np.ndarray) -> None:
        known = ~np.isnan(errors_mm)
        self.by_joint += np.stack([np.where(known, errors_mm, 0.0).sum(0), known.sum(0)])
        by_hand = _ratio(np.where(known, errors_mm, 0.0).sum(2), known.sum(2))
        placed = ~np.isnan(hidden_share) & ~np.isnan(by_hand)
        place = np.digitize(hidden_share[placed], HIDDEN_EDGES[1:-1])
        bins = self.by_hidden.shape[1]
        self.by_hidden += np.stack([np.bincount(place, by_hand[placed], bins), np.bincount(place, minlength=bins)])
        for group in (0, 1):
            rows = interacting == bool(group)
            below = np.searchsorted(CURVE_LIMITS_MM, errors_mm[rows][known[rows]], side="left")
            self.by_limit[group] += np.bincount(below, minlength=self.by_limit.shape[1])

    def curves(self, groups: tuple[str, str]) -> Curves:
        pck = {}
        for name, counts in (("all", self.by_limit.sum(0)), *zip(groups, self.by_limit, strict=True)):
            if counts.sum():
                pck[name] = np.cumsum(counts)[:-1] / counts.sum()
        return Curves(
            joint_names=OPENPOSE21,
            error_by_joint_mm=_ratio(*self.by_joint),
            hidden_edges=HIDDEN_EDGES,
            error_by_hidden_mm=_ratio(*self.by_hidden),
            hands_by_hidden=self.by_hidden[1].astype(int),
            limits_mm=CURVE_LIMITS_MM,
            pck=pck,
        )


@dataclass
class Tally:
    """Adds up errors batch by batch: sums by sequence and nothing by sample, so that a test set of any size fits."""

    protocol: Protocol
    parts: dict[str, list[tuple[np.ndarray, Totals]]] = field(default_factory=dict)
    """Metric -> for each batch, the names of its sequences and their totals."""
    curve_sums: _CurveSums = field(default_factory=_CurveSums)
    sequences: set[str] = field(default_factory=set)
    samples: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    hands: int = 0
    hands_missed: int = 0

    def add(self, truth: Truth, prediction: Prediction, hand: JudgesHand | None) -> None:
        """Judges a batch; the rows of both are the same samples (ValueError if not)."""
        if not np.array_equal(truth.sample_id, prediction.sample_id):
            raise ValueError("truth and predictions of a batch are of different samples; line them up by sample_id first")
        chosen = self.protocol.select(truth)
        for reason, count in chosen.dropped.items():
            self.dropped[reason] = self.dropped.get(reason, 0) + count
        if not len(chosen.truth):
            return
        measured = self.protocol.measure(chosen.truth, prediction.take(chosen.rows), hand)
        names, codes = np.unique(chosen.truth.sequence, return_inverse=True)
        for metric, values in measured.values.items():
            totals = Totals.of(values, chosen.truth.interacting, codes, len(names))
            self.parts.setdefault(metric, []).append((names, totals))
        asked = _asked(chosen.truth)
        found = ~np.isnan(prediction.joints_mm[chosen.rows]).any((-2, -1)) if prediction.uvd is None else np.ones_like(asked)
        self.hands += int(asked.sum())
        self.hands_missed += int((asked & ~found).sum())
        self.samples += len(chosen.truth)
        self.sequences |= set(names.tolist())
        self.curve_sums.add(measured.joint_errors_mm, chosen.truth.interacting, chosen.truth.hidden_share)

    def report(self, predictor: str, remarks: tuple[str, ...] = ()) -> Report:
        """All numbers of the protocol that could be measured."""
        protocol = self.protocol
        names = np.array(sorted(self.sequences))
        weights = bootstrap_weights(len(names), DRAWS) if len(names) else np.zeros((DRAWS, 0))
        numbers: list[Number] = []
        for metric in protocol.metrics:
            if metric.name in self.parts:
                totals = _joined(self.parts[metric.name], names)
                numbers += [_number(protocol, metric, split, totals, weights) for split in metric.splits]
        absent = [metric.name for metric in protocol.metrics if metric.name not in self.parts]
        if absent:
            remarks = (*remarks, f"not measured, because truth or predictions lack what they need: {', '.join(absent)}")
        return Report(
            protocol=protocol,
            predictor=predictor,
            numbers=tuple(numbers),
            samples=self.samples,
            sequences=len(names),
            dropped=self.dropped,
            hands=self.hands,
            hands_missed=self.hands_missed,
            remarks=remarks,
            curves=self.curve_sums.curves(protocol.groups),
        )


def _joined(parts: list[tuple[np.ndarray, Totals]], names: np.ndarray) -> Totals:
    """Totals of all sequences from those of batches."""
    shape = (len(names), *parts[0][1].total.shape[1:])
    total, count = np.zeros(shape), np.zeros(shape)
    for some, totals in parts:
        rows = np.searchsorted(names, some)
        total[rows] += totals.total
        count[rows] += totals.count
    return Totals(total, count)


def _number(protocol: Protocol, metric: Metric, split: Split, totals: Totals, weights: np.ndarray) -> Number:
    low, high = interval(totals, metric.averaging, split, weights)
    return Number(
        protocol=protocol.name,
        metric=metric_name(metric.name, split, metric.splits, protocol.groups),
        value=float(totals.whole().average(metric.averaging, split)),
        low=low,
        high=high,
        unit=metric.unit,
        entries=totals.entries(split),
        subset=protocol.subset + (f"; {metric.subset}" if metric.subset else ""),
        joints=protocol.joints,
        root=metric.root or protocol.root,
        scale=metric.scale or protocol.scale,
        averaging=averaging_words(metric.averaging, metric.splits, protocol.groups),
        source=protocol.source,
    )


def judge(
    protocol: Protocol,
    batches: Iterable[tuple[Truth, Prediction]],
    predictor: str,
    hand: JudgesHand | None = None,
    remarks: tuple[str, ...] = (),
) -> Report:
    """The report of all batches. `hand`: the hand model of the meshes, where a protocol closes or regresses them."""
    tally = Tally(protocol)
    for truth, prediction in batches:
        tally.add(truth, prediction, hand)
    return tally.report(predictor, remarks)


def metric_name(name: str, split: Split, splits: tuple[Split, ...], groups: tuple[str, str]) -> str:
    """MPJPE-all, MPJPE-SH, MPJPE-IH; without a suffix where there is only one."""
    if len(splits) == 1:
        return name
    return f"{name}-{ {'all': 'all', 'SH': groups[0], 'IH': groups[1]}[split] }"


def averaging_words(rule: Averaging, splits: tuple[Split, ...], groups: tuple[str, str]) -> str:
    """The rule in words; where nothing is split by group, without what it says of "all", unless that is how the groups were weighed."""
    words = AVERAGING_WORDS[rule].format(*groups)
    return words if len(splits) > 1 or (rule == "cells" and groups == ("SH", "IH")) else words.split("; all")[0]


def _asked(truth: Truth) -> np.ndarray:
    """Hands that the samples show and that anything is known of."""
    return truth.shown & (truth.labelled.any(-1) | truth.mesh_valid | truth.valid_3d.any(-1))


def _ratio(total: np.ndarray, count: np.ndarray) -> np.ndarray:
    """NaN where nothing is."""
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _plain(value: Any) -> Any:
    """Arrays and NaN as JSON has them."""
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value
