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


def motion_file(folder):
    """A short result of a video."""
    from twohands.export import motion_of_photo, read_npz, write_motion, write_npz

    truth = Truth([two_hands(0.2)])
    write_npz(folder / "photo.npz", truth.pipeline().reconstruct(blank_image()), truth.model)
    write_motion(folder / "clip.npz", motion_of_photo(read_npz(folder / "photo.npz")))
    return folder / "clip.npz"


def test_blender(tmp_path, capsys):
    assert all(path.is_file() for path in run("04_blender.py")(motion_file(tmp_path), tmp_path / "out"))
    assert capsys.readouterr().out.startswith("blender ")


def test_robot(tmp_path):
    left, right = (run("05_robot.py")(motion_file(tmp_path), side, tmp_path / "a.npz") for side in ("left", "right"))
    assert right["angles_rad"].shape == (1, 15, 3)
    # The hands are mirror images, and so bend alike.
    assert abs(left["angles_rad"] - right["angles_rad"]).max() < 1e-5


def test_signs(tmp_path):
    assert run("06_signs.py")(motion_file(tmp_path), tmp_path / "a.csv") == 1
    assert len((tmp_path / "a.csv").read_text().splitlines()[1].split(",")) == 127


def test_own_camera(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(pipeline, "load", lambda: Truth([two_hands(0.2)]).pipeline())
    Image.fromarray(blank_image()).save(tmp_path / "a.png")
    run("07_intrinsics.py")(tmp_path / "a.png", 80.0, 80.0, 48.0, 32.0)
    assert capsys.readouterr().out.count("(caller)") == 2
