"""`twohands data`: what it says and what it writes."""

import json

import numpy as np
import pytest
from PIL import Image

from dataset_trees import write_hic, write_interhand26m
from mano_like import write_mano
from twohands.cli import main
from twohands.data.loader import DATASETS


@pytest.fixture(scope="module")
def mano(tmp_path_factory):
    return write_mano(tmp_path_factory.mktemp("mano"))


def test_list_names_every_data_set_with_licence_and_layout(capsys):
    assert main(["data", "list"]) == 0
    told = capsys.readouterr().out
    for info in DATASETS.values():
        assert f"{info.name}: {info.title}" in told
        assert info.licence in told
        assert all(f"DIR/{line}" in told for line in info.layout)


def test_check_says_what_is_there_and_draws_it(mano, tmp_path, capsys):
    write_interhand26m(tmp_path, mano, "train", 5)
    out = tmp_path / "out"
    assert main(["data", "check", "interhand26m", str(tmp_path), "--mano", str(mano), "--out", str(out)]) == 0
    captured = capsys.readouterr()
    told = captured.out
    assert "indexing interhand26m train; done once" in captured.err
    assert "train: 5 annotations; the pictures are there (5 looked for)" in told
    assert "val: not there (annotations/val/InterHand2.6M_val_data.json" in told
    assert "get what is missing from https://mks0601.github.io/InterHand2.6M/" in told
    assert "licence: CC BY-NC 4.0" in told
    assert "5 pictures with their annotations are in" in told
    with_meshes = np.asarray(Image.open(out / "interhand26m.png"))
    assert main(["data", "check", "interhand26m", str(tmp_path), "--out", str(out), "--split", "train"]) == 0
    captured = capsys.readouterr()
    told = captured.out
    assert "indexing" not in captured.err
    assert "without --mano DIR there are no meshes" in told
    assert "get what is missing" not in told
    without = np.asarray(Image.open(out / "interhand26m.png"))
    assert with_meshes.shape == without.shape
    assert (with_meshes != without).any()


def test_check_names_what_is_broken_and_what_is_missing(mano, tmp_path, capsys):
    write_interhand26m(tmp_path, mano, "train", 3)
    write_interhand26m(tmp_path, mano, "test", 3)
    path = tmp_path / "annotations/test/InterHand2.6M_test_data.json"
    path.write_text(path.read_text()[:500])
    first = next((tmp_path / "images" / "train").rglob("*.jpg"))
    first.unlink()
    assert main(["data", "check", "interhand26m", str(tmp_path), "--out", str(tmp_path / "out")]) == 0
    told = capsys.readouterr().out
    assert f"test: {path} is cut short or no JSON" in told
    assert f"train: 3 annotations; 1 of 3 pictures looked for are missing, the first {first}" in told
    assert "2 pictures with their annotations" in told


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["hands"], "there is no data set called 'hands'; choose one of interhand26m"),
        (["hic"], "nothing of HIC .* can be drawn"),
        (["hic", "--split", "train"], "hic has no split 'train'; choose one of test"),
    ],
)
def test_what_cannot_be_checked(tmp_path, capsys, arguments, said):
    name, *options = arguments
    assert main(["data", "check", name, str(tmp_path), "--out", str(tmp_path / "out"), *options]) == 2
    assert not (tmp_path / "out").exists()
    import re

    assert re.search(said, capsys.readouterr().err)


def test_check_of_a_folder_that_is_not_there(tmp_path, capsys):
    assert main(["data", "check", "hic", str(tmp_path / "no"), "--out", str(tmp_path)]) == 2
    assert "there is no folder" in capsys.readouterr().err


def test_shards(mano, tmp_path, capsys):
    write_hic(tmp_path / "hic", mano, 3)
    out = tmp_path / "shards"
    assert (
        main(["data", "shards", "hic", str(tmp_path / "hic"), "--out", str(out), "--mano", str(mano), "--size-px", "64", "--limit", "2"])
        == 0
    )
    told = capsys.readouterr()
    assert "2 photos made, 0 of them with parameters of each hand; 0 pictures left out; 1 shards in" in told.out
    assert json.loads((out / "shards.json").read_text())["limit"] == 2
    assert main(["data", "shards", "hic", str(tmp_path / "hic"), "--out", str(out), "--size-px", "64"]) == 2
    told = capsys.readouterr()
    assert "made with another with_mano, limit" in told.err
    assert "without --mano the shards hold joints" in told.err
