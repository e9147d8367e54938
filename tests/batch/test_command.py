"""`twohands batch` and `twohands teach` from arguments to files."""

import numpy as np
import pyarrow.dataset as ds
from PIL import Image

from scenes import Truth, blank_image, two_hands
from twohands import pipeline
from twohands.cli import main
from twohands.priors.cache import Cache


def test_batch_writes_every_hand_and_lists_what_failed(tmp_path, monkeypatch, capsys):
    known = Truth([two_hands(0.07)])
    monkeypatch.setattr(pipeline, "load", lambda device, prior, mano: known.pipeline())
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a.png", "b.png"):
        Image.fromarray(blank_image()).save(folder / name)
    (folder / "c.jpg").touch()
    arguments = ["batch", str(folder), "--out", str(tmp_path / "out"), "--prior", "encoder", "--fov-deg", "50"]
    assert main(arguments) == 2
    rows = ds.dataset(sorted(map(str, (tmp_path / "out").glob("*.parquet")))).to_table().to_pylist()
    assert sorted((r["file"], r["side"]) for r in rows if r["error"] is None) == [
        (n, s) for n in ("a.png", "b.png") for s in ("left", "right")
    ]
    left = next(r for r in rows if r["side"] == "left")
    assert (left["camera_source"], left["person"], left["refined"]) == ("caller", 0, True)
    assert left["penetration_cm3"] < left["penetration_before_cm3"]
    np.testing.assert_allclose(np.array(left["keypoints_xy"])[:, 0].min(), left["box_xyxy_px"][0], rtol=1e-5)
    assert "c.jpg" in (tmp_path / "out" / "failures.txt").read_text()
    assert "3 pictures, 4 hands" in capsys.readouterr().out
    (folder / "c.jpg").unlink()
    Image.fromarray(blank_image()).save(folder / "c.jpg")
    assert main([*arguments, "--retry-failed"]) == 0
    assert main(["batch", str(folder), "--out", str(tmp_path / "out"), "--prior", "encoder"]) == 2
    assert "begun with other settings" in capsys.readouterr().err
    assert main([*arguments, "--workers", "0"]) == 2


def test_teach_keeps_labels_and_draws_them(tmp_path, capsys):
    folder = tmp_path / "in"
    folder.mkdir()
    Image.fromarray(blank_image()).save(folder / "a.png")
    points = np.random.default_rng(0).uniform(10, 60, (1, 21, 2)).astype(np.float32)
    arrays = {"file_name": np.array(["a.png"]), "photo": np.zeros(1, int), "side": np.ones(1, np.int8), "keypoints_px": points}
    np.savez(tmp_path / "labels.npz", keypoints_world_m=np.ones((1, 21, 3), np.float32), trust=np.full(1, 0.9, np.float32), **arrays)
    arguments = ["teach", str(folder), "--out", str(tmp_path / "out"), "--teacher", "mediapipe"]
    assert main(arguments) == 2
    assert "--labels" in capsys.readouterr().err
    assert main([*arguments, "--labels", str(tmp_path / "labels.npz"), "--sheet", str(tmp_path / "sheet.png")]) == 0
    assert "1 photos: 1 with a trusted hand" in capsys.readouterr().out
    np.testing.assert_array_equal(Cache.read(tmp_path / "out").lesson("a.png").maps.keypoints_xy[1], points[0])
    assert np.asarray(Image.open(tmp_path / "sheet.png")).any()
    assert main(["teach", str(folder), "--out", str(tmp_path / "o"), "--teacher", "sapiens"]) == 2
    assert "sapiens" in capsys.readouterr().err
