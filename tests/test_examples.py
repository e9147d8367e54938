"""The examples run as they stand."""

import runpy
from pathlib import Path

from PIL import Image

from scenes import Truth, blank_image, two_hands
from twohands import pipeline

EXAMPLES = Path(__file__).parents[1] / "examples"


def run(name: str):
    return runpy.run_path(str(EXAMPLES / name))["main"]


def test_photo(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(pipeline, "load", lambda: Truth([two_hands(0.02)]).pipeline())
    Image.fromarray(blank_image()).save(tmp_path / "a.png")
    run("01_photo.py")(tmp_path / "a.png", tmp_path / "out")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["hands.glb", "hands.npz", "views.png"]
    assert capsys.readouterr().out.count("wrist at") == 2


def test_collision():
    before, after = run("02_collision.py")()
    assert before > 10
    assert after < 0.1


def test_synthetic(tmp_path):
    run("03_synthetic.py")(tmp_path, count=1)
    assert Image.open(tmp_path / "samples.png").width == 4 * 256
