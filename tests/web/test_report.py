"""The report puts what is doubtful first, holds everything it shows, and runs nothing that a file name says."""

import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from scenes import Truth, blank_image, two_hands
from twohands import pipeline
from twohands.cli import main
from twohands.web.report import cases_of


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Three photos: sure hands, an unsure one, none."""
    truth = Truth([two_hands(0.3)])
    monkeypatch.setattr(pipeline, "load", lambda device, prior, mano, align: truth.pipeline())
    folder = tmp_path / "in"
    folder.mkdir()
    out = tmp_path / "run"
    for name, found, presence in (("good", None, {}), ("unsure", None, {(0, 1): 0.55}), ("<b>none & 'x'", [], {})):
        truth.found, truth.presence = found, presence
        Image.fromarray(blank_image()).save(folder / f"{name.replace('/', '')}.png")
        assert main(["photo", str(folder / f"{name}.png"), "--out", str(out)]) == 0
    return out


def test_what_is_doubtful_comes_first(run):
    entries = json.loads((run / "predictions.json").read_text())
    assert [case.name for case in cases_of(entries)] == ["<b>none & 'x'", "unsure", "good"]
    assert cases_of(entries)[2].concerns == ()
    entries["good"]["pairs"][0]["penetration_cm3"] = 9.0
    assert cases_of(entries)[1].name == "good", "overlap is a concern"


def test_the_report_is_one_file_that_needs_nothing(run, capsys):
    assert main(["report", str(run)]) == 0
    assert "3 photos" in capsys.readouterr().out
    text = (run / "report.html").read_text()
    assert "<b>none" not in text, "file names are text, not HTML"
    sources = re.findall(r'(?:src|href)="([^"]*)"', text)
    assert len(sources) == 5, "three overlays, two views from the side"
    assert all(source.startswith("data:image/jpeg;base64,") for source in sources)
    assert "http" not in text
    order = [text.index(word) for word in ("no hands were found", "the right hand is unsure", "nothing to doubt")]
    assert order == sorted(order)
    HTMLParser().feed(text)


def test_a_tidied_run_still_has_a_report(run):
    for path in (*run.glob("*.png"), *run.glob("*.npz")):
        path.unlink()
    assert main(["report", str(run), "--out", str(run / "other.html")]) == 0
    assert "<img" not in (run / "other.html").read_text()


def test_what_is_no_run_is_said(tmp_path, capsys):
    assert main(["report", str(tmp_path)]) == 2
    (tmp_path / "predictions.json").write_text("{}")
    assert main(["report", str(tmp_path)]) == 2
    (tmp_path / "predictions.json").write_text('{"a": {"hands": 3}}')
    assert main(["report", str(tmp_path)]) == 2
    told = capsys.readouterr().err
    for words in ("there is no predictions.json", "holds no photo", "did not write"):
        assert words in told
    assert "Traceback" not in told
    assert np.all([p.name == "predictions.json" for p in tmp_path.iterdir()])
