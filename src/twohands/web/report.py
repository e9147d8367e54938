"""A run's report: one HTML file that needs nothing else, the photos that most likely went wrong first."""

import base64
import html
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from twohands import export
from twohands.errors import UserError
from twohands.export.files import beside
from twohands.export.motion import photo_of_motion
from twohands.view.overlay import draw_view
from twohands.view.styles import read_thumbnail
from twohands.web.stored import open_result

UNSURE = 0.5
"""A hand or keypoints of less confidence are a concern."""
OVERLAP_CM3 = 0.05
"""Shared volume that one sees."""
THUMBNAIL_PX = 360
PICTURED = 200
"""Photos with pictures in one report; the others are in its table only."""

_STYLE = """
:root{color-scheme:light dark;--ink:#1b1f24;--paper:#f6f6f3;--line:#cfd3d7;--card:#fff}
@media(prefers-color-scheme:dark){:root{--ink:#e8eaed;--paper:#14171a;--line:#3a4046;--card:#1d2125}}
body{margin:0 auto;max-width:70rem;padding:1rem;font:16px/1.45 system-ui,sans-serif;color:var(--ink);background:var(--paper)}
h1{font-size:1.5rem;margin:.2rem 0}h2{font-size:1.15rem;margin:1.6rem 0 .4rem}
.facts{display:flex;flex-wrap:wrap;gap:.5rem}.facts div{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:.4rem .8rem}
.facts b{display:block;font-size:1.25rem}
article{display:flex;flex-wrap:wrap;gap:.8rem;background:var(--card);border:1px solid var(--line);border-radius:8px;padding:.6rem;margin:.6rem 0}
article img{max-width:100%;border-radius:4px;align-self:flex-start}article div{flex:1;min-width:14rem}h3{margin:0;font-size:1rem;overflow-wrap:anywhere}
ul{margin:.3rem 0;padding-left:1.1rem}.good{opacity:.75}table{border-collapse:collapse;width:100%;font-size:.9rem}
th,td{text-align:left;border-bottom:1px solid var(--line);padding:.2rem .5rem .2rem 0;overflow-wrap:anywhere}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}
"""


@dataclass(frozen=True)
class Case:
    """One photo of a run."""

    name: str
    file: str
    entry: dict[str, Any]
    concerns: tuple[tuple[float, str], ...]
    """Weight and words, heaviest first."""

    @property
    def weight(self) -> float:
        return sum(weight for weight, _ in self.concerns)


def concerns_of(entry: dict[str, Any]) -> tuple[tuple[float, str], ...]:
    """What about a photo's entry of predictions.json makes one doubt it."""
    found: list[tuple[float, str]] = []
    hands = entry["hands"]
    if not hands:
        found.append((3.0, "no hands were found"))
    for hand in hands:
        side = f"the {hand['side']} hand" + (f" of person {hand['person']}" if hand["person"] else "")
        if hand["score"] < UNSURE:
            found.append((2 * (UNSURE - hand["score"]) / UNSURE, f"{side} is unsure: confidence {hand['score']:.2f}"))
        sure = sum(hand["keypoint_confidence"]) / max(1, len(hand["keypoint_confidence"]))
        if sure < UNSURE:
            found.append((1.5 * (UNSURE - sure) / UNSURE, f"{side}'s keypoints are unsure: {sure:.2f} on average"))
        low, high = hand["box_xyxy_px"][:2], hand["box_xyxy_px"][2:]
        if min(low) < 0 or high[0] > entry["width_px"] or high[1] > entry["height_px"]:
            found.append((0.3, f"{side} leaves the picture"))
    for pair in entry.get("pairs", []):
        shared, before = pair["penetration_cm3"], pair["penetration_before_cm3"]
        if shared > OVERLAP_CM3:
            found.append((1.0 + min(shared, 10.0) / 5, f"the hands pass through one another by {shared:.2f} cm³"))
        elif before > 5:
            found.append((0.5, f"stage 2 had to undo {before:.1f} cm³ of overlap"))
    return tuple(sorted(found, key=lambda c: -c[0]))


def cases_of(entries: dict[str, dict[str, Any]]) -> list[Case]:
    """The photos of a run, those of most concern first. UserError if an entry is not ours."""
    try:
        cases = [Case(name, str(entry.get("file", name)), entry, concerns_of(entry)) for name, entry in entries.items()]
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"predictions.json holds an entry that `twohands photo` did not write ({error!r}); make the run again") from error
    return sorted(cases, key=lambda c: (-c.weight, c.name))


def write_report(folder: Path, path: Path, pictured: int = PICTURED) -> int:
    """The report of the run in `folder` (what `twohands photo` wrote there) as an HTML file; returns how many photos it is about. UserError if there
    is no run."""
    if not (folder / "predictions.json").is_file():
        raise UserError(f"there is no predictions.json in {folder}; give the folder that `twohands photo --out` wrote into")
    cases = cases_of(export.read_predictions(folder / "predictions.json"))
    if not cases:
        raise UserError(f"{folder / 'predictions.json'} holds no photo; run `twohands photo` into {folder} first")
    content = _page(folder, cases, pictured)
    with beside(path) as part:
        part.write_text(content, encoding="utf-8")
    return len(cases)


def _page(folder: Path, cases: list[Case], pictured: int) -> str:
    hands = [hand for case in cases for hand in case.entry["hands"]]
    pairs = [pair for case in cases for pair in case.entry.get("pairs", [])]
    seconds = sorted(case.entry.get("seconds", {}).get("total", 0.0) for case in cases)
    facts = [
        (str(len(cases)), "photos"),
        (str(len(hands)), "hands"),
        (str(sum(1 for case in cases if case.concerns)), "photos of concern"),
        (str(sum(1 for case in cases if not case.entry["hands"])), "without hands"),
        (f"{sum(p['penetration_cm3'] for p in pairs) / len(pairs):.3f} cm³" if pairs else "-", f"shared on average by {len(pairs)} pairs"),
        (f"{1000 * seconds[len(seconds) // 2]:.0f} ms", "a photo (median)"),
    ]
    parts = [
        f"<!doctype html><html lang=en><head><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>twohands: {html.escape(folder.name)}</title><style>{_STYLE}</style></head><body>",
        f"<h1>{html.escape(folder.name)}</h1><div class=facts>",
        *(f"<div><b>{html.escape(value)}</b>{html.escape(words)}</div>" for value, words in facts),
        "</div><h2>Worst first</h2>",
        "<p>Ranked by what the program itself doubts, not by truth: confidences, and what the hands still share.</p>",
        *(_article(folder, case) for case in cases[:pictured]),
    ]
    if len(cases) > pictured:
        parts.append(f"<p>{len(cases) - pictured} more photos, all of less concern, are in the table.</p>")
    parts += ["<h2>All photos</h2>", _table(cases), "</body></html>\n"]
    return "\n".join(parts)


def _article(folder: Path, case: Case) -> str:
    words = "".join(f"<li>{html.escape(text)}</li>" for _, text in case.concerns) or "<li class=good>nothing to doubt</li>"
    sides = ", ".join(f"{hand['side']} {hand['score']:.2f}" for hand in case.entry["hands"]) or "no hands"
    pictures = [_overlay(folder, case), _turned(folder, case)]
    shown = "".join(f'<img src="{source}" alt="{html.escape(alt)}">' for source, alt in pictures if source)
    return f"<article>{shown}<div><h3>{html.escape(case.file)}</h3><p>{html.escape(sides)}</p><ul>{words}</ul></div></article>"


def _overlay(folder: Path, case: Case) -> tuple[str, str]:
    try:
        picture = read_thumbnail(folder / f"{case.name}.overlay.png", THUMBNAIL_PX)
    except OSError:
        return "", ""  # the run may have been tidied up: its numbers are still worth a report
    return _jpeg(picture), f"{case.file} with the hands over it"


def _turned(folder: Path, case: Case) -> tuple[str, str]:
    """The hands seen from the side, from their NPZ, if it is still there."""
    path = folder / f"{case.name}.npz"
    if not case.entry["hands"] or not path.is_file() or case.entry.get("hand_model") == "mano":
        return "", ""
    stored = open_result(path)
    blank = np.zeros((stored.motion.height_px, stored.motion.width_px, 3), np.uint8)
    result = photo_of_motion(stored.motion, 0, blank, stored.model)
    return _jpeg(draw_view(result, stored.model, 220)), "the hands from the side"


def _table(cases: list[Case]) -> str:
    titles = ("Hands", "Least confidence", "Shared, cm³", "Before", "ms")
    head = "<tr><th>Photo</th>" + "".join(f"<th class=n>{title}</th>" for title in titles) + "</tr>"
    rows = []
    for case in cases:
        scores = [hand["score"] for hand in case.entry["hands"]]
        pairs = case.entry.get("pairs", [])
        cells = [
            str(len(scores)),
            f"{min(scores):.2f}" if scores else "-",
            f"{sum(p['penetration_cm3'] for p in pairs):.2f}" if pairs else "-",
            f"{sum(p['penetration_before_cm3'] for p in pairs):.2f}" if pairs else "-",
            f"{1000 * case.entry.get('seconds', {}).get('total', 0.0):.0f}",
        ]
        rows.append(f"<tr><td>{html.escape(case.file)}</td>{''.join(f'<td class=n>{c}</td>' for c in cells)}</tr>")
    return f"<table><thead>{head}</thead><tbody>{''.join(rows)}</tbody></table>"


def _jpeg(picture: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=78)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
