"""A report as text for the terminal, as LaTeX for a paper, and as JSON for programs."""

import json
import math
import os
from pathlib import Path

from twohands.evaluation.judge import Number, Report

RULE_COLUMNS = ("subset", "joints", "root", "scale", "averaging", "source")
"""What a number means; printed once for all numbers that share it."""


def as_text(report: Report) -> str:
    """The table, and under it the meaning of every number."""
    notes = _Notes()
    rows = [("metric", "value", "95 % interval", "unit", "n", "rule")]
    rows += [(n.metric, _value(n), _interval(n), n.unit or "-", f"{n.entries:,}", notes.mark(n)) for n in report.numbers]
    widths = [max(len(row[k]) for row in rows) for k in range(6)]
    lines = [f"protocol {report.protocol.name}", f"predictions: {report.predictor}", *_counts(report), ""]
    for row in rows:
        left, middle, right = row[0].ljust(widths[0]), [cell.rjust(w) for cell, w in zip(row[1:3], widths[1:3], strict=True)], row[3:]
        lines.append("  ".join([left, *middle, right[0].ljust(widths[3]), right[1].rjust(widths[4]), right[2]]))
    lines += ["", "Rules. 95 % intervals: bootstrap over sequences, 1,000 draws. n: values averaged.", f"samples: {report.protocol.subset}"]
    lines += [f"joints: {report.protocol.joints}; source: {report.protocol.source}"]
    lines += [f"[{mark}] {words}" for words, mark in notes.known.items()]
    lines += [f"note: {remark}" for remark in report.remarks]
    return "\n".join(lines)


def as_latex(report: Report) -> str:
    """A tabular of the numbers, with the rule in the caption; needs booktabs."""
    notes = _Notes()
    body = [
        f"{_tex(n.metric)} & {_value(n)} & {_interval(n).replace('..', '--')} & {_tex(n.unit or '-')} & {notes.mark(n)} \\\\"
        for n in report.numbers
    ]
    rules = " ".join(f"[{mark}] {_tex(words)}." for words, mark in notes.known.items())
    caption = (
        f"Protocol \\texttt{{{_tex(report.protocol.name)}}}, {_tex(report.predictor)}. {_tex('. '.join(_counts(report)))}. "
        f"Samples: {_tex(report.protocol.subset)}. Joints: {_tex(report.protocol.joints)}. Rule: {_tex(report.protocol.source)}. "
        f"Intervals: 95\\,\\% bootstrap over sequences. {rules} {_tex(' '.join(report.remarks))}"
    )
    return "\n".join(
        [
            "\\begin{table}",
            "\\centering",
            "\\begin{tabular}{lrrll}",
            "\\toprule",
            "metric & value & 95\\,\\% & unit & rule \\\\",
            "\\midrule",
            *body,
            "\\bottomrule",
            "\\end{tabular}",
            f"\\caption{{{caption.strip()}}}",
            "\\end{table}",
            "",
        ]
    )


def write_json(path: Path, report: Report) -> None:
    """Every number with its meaning; the file appears whole or not at all."""
    write_whole(path, json.dumps(report.to_json(), indent=1) + "\n")


def write_whole(path: Path, text: str) -> None:
    """Writes beside, then renames."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".part")
    beside.write_text(text, encoding="utf-8")
    os.replace(beside, path)


class _Notes:
    """Numbers the distinct rules in the order in which they are first met."""

    def __init__(self) -> None:
        self.known: dict[str, str] = {}

    def mark(self, number: Number) -> str:
        extra = number.subset.partition("; ")[2]
        words = f"root {number.root}; scale {number.scale}; {number.averaging}" + (f"; only {extra}" if extra else "")
        return self.known.setdefault(words, str(len(self.known) + 1))


def _counts(report: Report) -> list[str]:
    lines = [
        f"{report.samples:,} samples of {report.sequences:,} sequences; {report.hands_missed:,} of {report.hands:,} hands not predicted"
    ]
    left_out = [f"{count:,} {reason}" for reason, count in report.dropped.items() if count]
    return lines + ([f"left out: {', '.join(left_out)}"] if left_out else [])


def _digits(number: Number) -> int:
    return 2 if number.unit in ("mm", "%") else 3


def _value(number: Number) -> str:
    return "-" if math.isnan(number.value) else f"{number.value:.{_digits(number)}f}"


def _interval(number: Number) -> str:
    if math.isnan(number.low):
        return "-"
    return f"{number.low:.{_digits(number)}f}..{number.high:.{_digits(number)}f}"


def _tex(text: str) -> str:
    for plain, escaped in (("\\", r"\textbackslash "), ("%", r"\%"), ("_", r"\_"), ("&", r"\&"), ("#", r"\#"), ("<", "$<$"), (">", "$>$")):
        text = text.replace(plain, escaped)
    return text
