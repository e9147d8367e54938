"""The command line from arguments to files, with networks that know the truth."""

import gc
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import trimesh
from PIL import Image

from scenes import HEIGHT, WIDTH, Truth, blank_image, two_hands
from twohands import pipeline
from twohands.cli import main
from twohands.export import read_npz


@pytest.fixture
def truth(monkeypatch) -> Truth:
    """What `twohands.load` gives in these tests."""
    known = Truth([two_hands(0.07)])
    monkeypatch.setattr(pipeline, "load", lambda device, prior, mano, align: known.pipeline())
    return known


@pytest.fixture
def photo(tmp_path) -> Path:
    path = tmp_path / "in" / "a.png"
    path.parent.mkdir()
    Image.fromarray(blank_image()).save(path)
    return path


def predictions(out: Path) -> dict:
    return json.loads((out / "predictions.json").read_text())


def test_a_photo_gives_every_file(tmp_path, truth, photo, capsys):
    out = tmp_path / "new" / "out"
    assert main(["photo", str(photo), "--out", str(out)]) == 0
    assert sorted(p.name for p in out.iterdir()) == ["a.glb", "a.npz", "a.overlay.png", "predictions.json"]
    overlay = np.asarray(Image.open(out / "a.overlay.png"))
    assert overlay.shape == (HEIGHT, WIDTH, 3)
    assert (overlay != blank_image()).any()
    assert len(trimesh.load(out / "a.glb").geometry) == 2
    assert read_npz(out / "a.npz").hand_present.all()
    entry = predictions(out)["a"]
    assert [h["side"] for h in entry["hands"]] == ["left", "right"]
    assert entry["pairs"][0]["refined"]
    told = capsys.readouterr()
    assert "a.png: left 0." in told.out
    assert "default field of view" in told.out


def test_options_reach_the_pipeline(tmp_path, truth, photo):
    assert main(["photo", str(photo), "--out", str(tmp_path), "--focal-px", "111", "--no-refine", "--prior", "encoder"]) == 0
    entry = predictions(tmp_path)["a"]
    assert entry["camera"] == {"K": [[111, 0, WIDTH / 2], [0, 111, HEIGHT / 2], [0, 0, 1]], "source": "caller"}
    assert not entry["pairs"][0]["refined"]
    assert truth.refinements == 0


def test_every_kind_of_picture_goes_through(tmp_path, truth):
    folder = tmp_path / "in"
    folder.mkdir()
    base = Image.fromarray(blank_image())
    for mode in ("L", "RGBA", "P"):
        base.convert(mode).save(folder / f"{mode}.png")
    base.convert("CMYK").save(folder / "CMYK.jpg")
    Image.fromarray(np.full((HEIGHT, WIDTH), 40000, np.uint16)).save(folder / "sixteen.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    base.transpose(Image.Transpose.ROTATE_90).save(folder / "turned.jpg", exif=exif)
    assert main(["photo", str(folder), "--out", str(tmp_path / "out")]) == 0
    entries = predictions(tmp_path / "out")
    assert sorted(entries) == ["CMYK", "L", "P", "RGBA", "sixteen", "turned"]
    assert all(len(e["hands"]) == 2 and (e["width_px"], e["height_px"]) == (WIDTH, HEIGHT) for e in entries.values())


def test_one_bad_photo_among_many_is_reported_and_the_rest_done(tmp_path, truth, photo, capsys):
    (photo.parent / "b.jpg").write_bytes(b"")
    (photo.parent / "c.jpg").write_bytes(b"not an image at all")
    Image.fromarray(blank_image()).save(photo.parent / "d.png")
    out = tmp_path / "out"
    assert main(["photo", str(photo.parent), str(tmp_path / "missing.jpg"), "--out", str(out)]) == 2
    assert sorted(predictions(out)) == ["a", "d"]
    told = capsys.readouterr()
    assert "2 of 5 photos done" in told.out
    for name in ("b.jpg", "c.jpg", "missing.jpg"):
        assert name in told.err
    assert "Traceback" not in told.err


def test_no_hands_is_a_message_and_an_entry(tmp_path, truth, photo, capsys):
    main(["photo", str(photo), "--out", str(tmp_path)])
    truth.found = []
    assert main(["photo", str(photo), "--out", str(tmp_path)]) == 0
    assert "no hands found" in capsys.readouterr().out
    assert predictions(tmp_path)["a"]["hands"] == []
    assert predictions(tmp_path)["a"]["penetration_cm3"] is None
    assert not (tmp_path / "a.glb").exists(), "files of the earlier run do not stay"
    assert np.array_equal(np.asarray(Image.open(tmp_path / "a.overlay.png")), blank_image())


def test_predictions_keep_earlier_entries_but_not_those_that_fail_now(tmp_path, truth, photo):
    out = tmp_path / "out"
    out.mkdir()
    (out / "predictions.json").write_text(json.dumps({"old": {"hands": []}, "a": {"hands": []}}))
    photo.write_bytes(b"")
    assert main(["photo", str(photo), "--out", str(out)]) == 2
    assert predictions(out) == {"old": {"hands": []}}


def test_two_photos_of_one_stem_are_refused_before_anything_is_done(tmp_path, truth, photo, capsys):
    Image.fromarray(blank_image()).save(photo.parent / "A.jpg")
    assert main(["photo", str(photo.parent), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert "a.png" in error
    assert "A.jpg" in error
    assert not (tmp_path / "out").exists()


def test_naming_a_photo_twice_does_it_once(tmp_path, truth, photo):
    assert main(["photo", str(photo), str(photo.parent), "--out", str(photo.parent)]) == 0
    assert main(["photo", str(photo.parent), "--out", str(photo.parent)]) == 0, "overlays of the first run are no photos"
    assert sorted(predictions(photo.parent)) == ["a"]


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--focal-px", "100", "--fov-deg", "50"], "together"),
        (["--fov-deg", "200"], "200"),
        (["--focal-px", "-1"], "-1"),
    ],
)
def test_what_the_user_can_mend_is_one_line_and_exit_code_2(tmp_path, truth, photo, capsys, arguments, word):
    assert main(["photo", str(photo), "--out", str(tmp_path / "out"), *arguments]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("twohands: ")
    assert word in lines[0]


def test_folders_that_cannot_be_used(tmp_path, truth, photo, capsys):
    (tmp_path / "empty").mkdir()
    assert main(["photo", str(tmp_path / "empty"), "--out", str(tmp_path)]) == 2
    assert "no photos" in capsys.readouterr().err
    assert main(["photo", "--out", str(tmp_path)]) == 2
    assert "no photo was given" in capsys.readouterr().err
    assert main(["photo", str(photo), "--out", str(photo)]) == 2
    assert "cannot make the folder" in capsys.readouterr().err
    (tmp_path / "predictions.json").write_text("{")
    assert main(["photo", str(photo), "--out", str(tmp_path)]) == 2
    assert (tmp_path / "predictions.json").read_text() == "{", "what is not ours is not overwritten"


def test_a_full_disk_is_a_message(tmp_path, truth, photo, monkeypatch, capsys):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    assert main(["photo", str(photo), "--out", str(tmp_path / "out")]) == 2
    told = capsys.readouterr().err
    assert "No space left" in told
    assert "Traceback" not in told
    assert not list((tmp_path / "out").iterdir()), "nothing half written stays"


def test_an_interruption_leaves_what_is_done(tmp_path, truth, photo, monkeypatch, capsys):
    Image.fromarray(blank_image()).save(photo.parent / "b.png")
    answer = truth.infer

    def second_time(image, camera, pairs, seen=None, looks=None):
        if truth.asked and seen is None:  # a new question, so the second photo's
            raise KeyboardInterrupt
        return answer(image, camera, pairs, seen, looks)

    monkeypatch.setattr(truth, "infer", second_time)
    assert main(["photo", str(photo.parent), "--out", str(tmp_path / "out")]) == 130
    assert sorted(predictions(tmp_path / "out")) == ["a"]


def test_argument_errors_exit_with_2(capsys):
    for arguments in (["photo", "a.png"], ["photo", "a.png", "--out", "x", "--device", "abacus"], ["dance"]):
        with pytest.raises(SystemExit) as stopped:
            main(arguments)
        assert stopped.value.code == 2
    capsys.readouterr()


def test_version_and_help_are_quick_and_need_no_torch():
    code = "import sys\nfrom twohands.cli import main\nassert main(['--version']) == 0\nassert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("twohands 0.")
    done = subprocess.run([sys.executable, "-m", "twohands", "photo", "--help"], capture_output=True, text=True, check=True)
    for option in ("--out", "--focal-px", "--fov-deg", "--no-refine", "--mano", "--device", "--prior"):
        assert option in done.stdout


def test_output_that_nobody_reads_is_no_error() -> None:
    """`twohands --help | head -1`"""
    program = subprocess.Popen([sys.executable, "-m", "twohands", "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert program.stdout is not None
    program.stdout.close()
    assert program.stderr is not None
    assert (program.stderr.read(), program.wait()) == (b"", 141)
    program.stderr.close()


def test_styles_sheet_and_turntable(tmp_path, truth, photo):
    Image.fromarray(blank_image()).save(photo.parent / "b.png")
    out = tmp_path / "out"
    assert main(["photo", str(photo.parent), "--out", str(out), "--style", "skeleton", "--sheet", "--turntable", "png"]) == 0
    assert {"a.overlay.png", "a.turntable.png", "b.turntable.png", "all.sheet.png"} <= {p.name for p in out.iterdir()}
    plain = tmp_path / "plain"
    assert main(["photo", str(photo), "--out", str(plain)]) == 0
    assert (np.asarray(Image.open(out / "a.overlay.png")) != np.asarray(Image.open(plain / "a.overlay.png"))).any()
    assert main(["photo", str(out), "--out", str(plain)]) == 2, "pictures that this program wrote are no photos"


def test_the_program_does_not_collect_on_its_way_out(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    frozen: list[int] = []
    monkeypatch.setattr(gc, "freeze", lambda: frozen.append(1))
    assert main(["--version"]) == 0
    assert not frozen  # who calls it as a function goes on
    monkeypatch.setattr(sys, "argv", ["twohands", "--version"])
    assert main() == 0
    assert len(frozen) == 1
    assert capsys.readouterr().out.count("twohands ") == 2
