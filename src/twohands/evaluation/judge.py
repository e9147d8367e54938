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
from twohands.evaluation.protocols import Protocol
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
class Tally:
    """Collects errors batch by batch; keeps numbers by sample, no meshes."""

    protocol: Protocol
    values: dict[str, list[np.ndarray]] = field(default_factory=dict)
    joints: list[np.ndarray] = field(default_factory=list)
    interacting: list[np.ndarray] = field(default_factory=list)
    hidden: list[np.ndarray] = field(default_factory=list)
    sequence: list[np.ndarray] = field(default_factory=list)
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
        for name, value in measured.values.items():
            self.values.setdefault(name, []).append(value)
        asked = _asked(chosen.truth)
        found = ~np.isnan(prediction.joints_mm[chosen.rows]).any((-2, -1)) if prediction.uvd is None else np.ones_like(asked)
        self.hands += int(asked.sum())
        self.hands_missed += int((asked & ~found).sum())
        self.joints.append(measured.joint_errors_mm)
        self.interacting.append(chosen.truth.interacting)
        self.hidden.append(chosen.truth.hidden_share)
        self.sequence.append(chosen.truth.sequence)

    def report(self, predictor: str, remarks: tuple[str, ...] = ()) -> Report:
        """All numbers of the protocol that could be measured."""
        protocol = self.protocol
        interacting = np.concatenate(self.interacting) if self.interacting else np.zeros(0, bool)
        names, codes = np.unique(np.concatenate(self.sequence) if self.sequence else np.zeros(0, str), return_inverse=True)
        weights = bootstrap_weights(len(names), DRAWS) if len(names) else np.zeros((DRAWS, 0))
        numbers = []
        for metric in protocol.metrics:
            if metric.name not in self.values:
                continue
            totals = Totals.of(np.concatenate(self.values[metric.name]), interacting, codes, len(names))
            for split in metric.splits:
                low, high = interval(totals, metric.averaging, split, weights)
                numbers.append(
                    Number(
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
                )
        absent = [metric.name for metric in protocol.metrics if metric.name not in self.values]
        if absent:
            remarks = (*remarks, f"not measured, because truth or predictions lack what they need: {', '.join(absent)}")
        curves = _curves(self.joints, interacting, self.hidden, protocol.groups)
        return Report(
            protocol, predictor, tuple(numbers), len(interacting), len(names), self.dropped, self.hands, self.hands_missed, remarks, curves
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


def _curves(joints: list[np.ndarray], interacting: np.ndarray, hidden: list[np.ndarray], groups: tuple[str, str]) -> Curves:
    errors = np.concatenate(joints) if joints else np.zeros((0, 2, 21))
    share = np.concatenate(hidden) if hidden else np.zeros((0, 2))
    by_hand = _mean(errors, 2)
    place = np.digitize(share, HIDDEN_EDGES[1:-1])
    known = ~np.isnan(share) & ~np.isnan(by_hand)
    bins = [by_hand[known & (place == k)] for k in range(len(HIDDEN_EDGES) - 1)]
    pck = {}
    for name, rows in (("all", np.ones(len(errors), bool)), (groups[0], ~interacting), (groups[1], interacting)):
        counted = np.sort(errors[rows][~np.isnan(errors[rows])])
        if len(counted):
            pck[name] = np.searchsorted(counted, CURVE_LIMITS_MM, side="right") / len(counted)
    return Curves(
        joint_names=OPENPOSE21,
        error_by_joint_mm=_mean(errors, 0),
        hidden_edges=HIDDEN_EDGES,
        error_by_hidden_mm=np.array([chosen.mean() if len(chosen) else np.nan for chosen in bins]),
        hands_by_hidden=np.array([len(chosen) for chosen in bins]),
        limits_mm=CURVE_LIMITS_MM,
        pck=pck,
    )


def _mean(values: np.ndarray, axis: int) -> np.ndarray:
    """Mean of what is not NaN; NaN where nothing is."""
    known = ~np.isnan(values)
    count = known.sum(axis)
    return np.where(count > 0, np.where(known, values, 0.0).sum(axis) / np.maximum(count, 1), np.nan)


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
