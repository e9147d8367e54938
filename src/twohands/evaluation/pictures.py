"""Pictures of a report: error by joint, error against occlusion, and the curve of right joints. Needs matplotlib (extra `evaluate`)."""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np

from twohands.evaluation.judge import Report
from twohands.joints import FINGERS
from twohands.palette import LEFT_RGB, RIGHT_RGB

LEFT, RIGHT, DARK = (tuple(channel / 255 for channel in colour) for colour in (LEFT_RGB, RIGHT_RGB, (70, 70, 70)))
GROUP_COLOURS = (DARK, (0.15, 0.55, 0.35), (0.60, 0.25, 0.55))


def matplotlib_installed() -> bool:
    return importlib.util.find_spec("matplotlib") is not None


def draw(report: Report, folder: Path) -> list[Path]:
    """Writes the pictures that there is something to show for; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    curves = report.curves
    drawn = []
    if np.isfinite(curves.error_by_joint_mm).any():
        drawn.append(_save(_by_joint(report), folder / "error_by_joint.png"))
    if curves.hands_by_hidden.sum():
        drawn.append(_save(_by_hidden(report), folder / "error_by_occlusion.png"))
    if curves.pck:
        drawn.append(_save(_pck(report), folder / "pck.png"))
    return drawn


def _by_joint(report: Report) -> Any:
    figure, axes = _figure(report, "Error by joint", width=9.0)
    error = report.curves.error_by_joint_mm
    place = np.array([0.0] + [1.6 + 4.6 * f + k for f in range(5) for k in range(4)])
    for hand, (side, colour) in enumerate((("left", LEFT), ("right", RIGHT))):
        if np.isfinite(error[hand]).any():
            axes.bar(place + (hand - 0.5) * 0.42, np.nan_to_num(error[hand]), 0.42, color=colour, label=f"{side} hand", zorder=2)
    axes.set_xticks(place, ["wrist", *(name[-1] for name in report.curves.joint_names[1:])])
    for f, finger in enumerate(FINGERS):
        axes.text(1.6 + 4.6 * f + 1.5, -0.12, "little" if finger == "pinky" else finger, transform=axes.get_xaxis_transform(), ha="center")
    axes.set_ylabel("mean joint error, mm")
    axes.legend(frameon=False)
    return figure


def _by_hidden(report: Report) -> Any:
    figure, axes = _figure(report, "Error against occlusion")
    curves = report.curves
    edges = 100 * curves.hidden_edges
    axes.bar(edges[:-1], np.nan_to_num(curves.error_by_hidden_mm), np.diff(edges), align="edge", color=LEFT, edgecolor="white", zorder=2)
    for left, width, error, count in zip(edges[:-1], np.diff(edges), curves.error_by_hidden_mm, curves.hands_by_hidden, strict=True):
        height = 0.0 if np.isnan(error) else error
        axes.annotate(
            f"{count:,} hands", (left + width / 2, height), (0, 3), textcoords="offset points", ha="center", fontsize=8, color=DARK
        )
    axes.set_xticks(edges)
    seen = "out of sight" if report.protocol.data == "synthetic" else "hidden by the other hand"
    axes.set_xlabel(f"joints of the hand that are {seen}, %")
    axes.set_ylabel("mean joint error of the hand, mm")
    axes.margins(y=0.12)
    return figure


def _pck(report: Report) -> Any:
    figure, axes = _figure(report, "Share of right joints")
    for (name, share), colour in zip(report.curves.pck.items(), GROUP_COLOURS, strict=False):
        axes.plot(report.curves.limits_mm, 100 * share, color=colour, label=name, linewidth=1.8)
    axes.set_xlim(0, report.curves.limits_mm[-1])
    axes.set_ylim(0, 100)
    axes.set_xlabel("error of at most, mm")
    axes.set_ylabel("joints, %")
    axes.legend(frameon=False, loc="lower right")
    return figure


def _figure(report: Report, title: str, width: float = 6.4) -> tuple[Any, Any]:
    """One picture that says what it is of."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, 4.0), layout="constrained")
    axes = figure.add_subplot()
    protocol = report.protocol
    figure.suptitle(f"{title}, {protocol.name}", fontsize=11, x=0.01, ha="left")
    axes.set_title(f"{report.predictor}; root {protocol.root}, scale {protocol.scale}", fontsize=7.5, loc="left", color=DARK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="0.9", zorder=0)
    return figure, axes


def _save(figure: Any, path: Path) -> Path:
    figure.savefig(path, dpi=130)
    return path
