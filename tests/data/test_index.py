"""The index: columns come back, follow their sources, and never half."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from twohands.data.index import MANIFEST, Rows, open_index, read_json_items, read_json_pairs, text
from twohands.errors import UserError


def columns_of(numbers: list[int]) -> dict[str, np.ndarray]:
    rows = Rows({"number": ("i4", ()), "name": ("S8", ()), "pair": ("f4", (2,))}, block=3)
    for n in numbers:
        rows.add({"number": n, "name": f"é{n}", "pair": [n, n / 2]})
    assert len(rows) == len(numbers)
    return rows.columns()


@pytest.fixture
def source(tmp_path) -> Path:
    path = tmp_path / "set" / "annotations.json"
    path.parent.mkdir()
    path.write_text("[]")
    return path


def open_(source: Path, build, version: int = 1):
    return open_index(source.parent, "one", version, [source], build)


def unexpected():
    raise AssertionError("built again")


def test_rows_of_several_blocks_come_back(source):
    first = open_(source, lambda: columns_of([*range(8)]))
    again = open_(source, unexpected)
    for columns in (first, again):
        assert columns["number"].tolist() == [*range(8)]
        assert columns["pair"].tolist() == [[n, n / 2] for n in range(8)]
        assert text(columns["name"][7]) == "é7"


def test_values_that_do_not_fit_are_refused():
    rows = Rows({"name": ("S4", ()), "pair": ("f4", (2,))})
    with pytest.raises(ValueError, match="longer than 4 bytes"):
        rows.add({"name": "longer"})
    with pytest.raises(ValueError, match="reshape"):
        rows.add({"pair": [1, 2, 3]})


def test_made_again_when_a_source_or_the_version_changes(source):
    open_(source, lambda: columns_of([1]))
    assert open_(source, lambda: columns_of([1, 2]), version=2)["number"].tolist() == [1, 2]
    source.write_text("[1]")
    assert open_(source, lambda: columns_of([3]), version=2)["number"].tolist() == [3]
    source.unlink()
    with pytest.raises(UserError, match=r"annotations\.json is not there"):
        open_(source, unexpected)


def test_a_moved_data_set_keeps_its_index(source, tmp_path):
    open_(source, lambda: columns_of([1]))
    source.parent.rename(tmp_path / "elsewhere")
    assert open_(tmp_path / "elsewhere" / source.name, unexpected)["number"].tolist() == [1]


def test_a_build_that_fails_leaves_nothing(source):
    def fails():
        raise UserError("broken")

    with pytest.raises(UserError, match="broken"):
        open_(source, fails)
    assert [p.name for p in source.parent.iterdir()] == [source.name]


def test_a_manifest_that_is_cut_short_is_no_index(source):
    open_(source, lambda: columns_of([1]))
    manifest = source.parent / ".twohands" / "one" / MANIFEST
    assert json.loads(manifest.read_text())["version"] == 1
    manifest.write_text(manifest.read_text()[:20])
    assert open_(source, lambda: columns_of([5]))["number"].tolist() == [5]


def test_a_folder_that_cannot_be_written_gets_its_index_in_the_users_cache(source, tmp_path, monkeypatch):
    monkeypatch.setenv("TWOHANDS_HOME", str(tmp_path / "home"))
    # A file where the folder should be stops even the superuser, whom permissions do not.
    (source.parent / ".twohands").write_text("")
    assert open_(source, lambda: columns_of([4]))["number"].tolist() == [4]
    assert open_(source, unexpected)["number"].tolist() == [4]
    assert len(list((tmp_path / "home").rglob(MANIFEST))) == 1
    monkeypatch.setenv("TWOHANDS_HOME", str(source))
    with pytest.raises(UserError, match="cannot write the index"):
        open_(source, lambda: columns_of([4]))


def test_nothing_in_an_index_is_pickled(source):
    open_(source, lambda: columns_of([1, 2]))
    for path in (source.parent / ".twohands" / "one").glob("*.npy"):
        assert np.load(path, allow_pickle=False).dtype.kind in "ifS"
    assert not [name for name in os.listdir(source.parent / ".twohands") if name.endswith(".part")]


def test_streams_name_the_file_that_is_broken(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('{"images": [{"id": 1.5}, {"id": 2}], "other": {"x": [1]}}')
    assert list(read_json_items(path, "images.item")) == [{"id": 1.5}, {"id": 2}]
    assert dict(read_json_pairs(path))["other"] == {"x": [1]}
    for content in ('{"images": [{"id": 1', "", "<html>", b"\xff\xfe{".decode("latin1")):
        path.write_text(content, encoding="latin1")
        with pytest.raises(UserError, match=r"a\.json is cut short or no JSON"):
            list(read_json_items(path, "images.item"))
    with pytest.raises(UserError, match=r"b\.json is not there"):
        list(read_json_pairs(tmp_path / "b.json"))
