"""A corpus is done once, whatever happens on the way."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import numpy as np
import pyarrow.dataset as ds
import pytest
import stand_in
from stand_in import StandIn, grey_photos

from twohands.batch.corpus import reconstruct_corpus
from twohands.batch.table import SCHEMA, read_failures
from twohands.errors import UserError
from twohands.manifest import MOST_ATTEMPTS, Attempts, Manifest, ShardReport


def read(out: Path) -> list[dict]:
    return ds.dataset(sorted(map(str, out.glob("*.parquet"))), schema=SCHEMA).to_table().to_pylist()


def reports(sources: list[Path], out: Path, **options) -> list[ShardReport]:
    return [r for r in reconstruct_corpus(sources, out, StandIn().load, {}, **options) if isinstance(r, ShardReport)]


def write_video(path: Path, frames: int, rate: int = 25) -> Path:
    """Frame k is of brightness 2 k + 20, with a key frame every 12 frames."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=rate)
        stream.width, stream.height, stream.gop_size = 64, 48, 12
        for k in range(frames):
            image = np.full((48, 64, 3), 2 * k + 20, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    return path


def test_photos_and_videos_become_one_table(tmp_path, monkeypatch):
    monkeypatch.setattr("twohands.batch.sources.FRAMES_A_STRETCH", 30)
    photos = grey_photos(tmp_path / "in", 5)
    grey_photos(photos / "below", 2)
    (photos / "notes.txt").write_text("no photo")
    (photos / "empty.jpg").touch()
    (photos / "broken.mp4").write_bytes(b"no video")
    write_video(photos / "clip.mp4", 70)
    done = reports([photos], tmp_path / "out", per_shard=3)
    rows = read(tmp_path / "out")
    frames = {row["frame"]: row for row in rows if row["file"] == "clip.mp4"}
    assert sorted(frames) == list(range(70))
    for k, row in frames.items():
        assert row["time_s"] == pytest.approx(k / 25)
        assert row["score"] == pytest.approx((2 * k + 20) / 255, abs=0.02), "stretches begin and end at the right frame"
    stills = sorted(row["file"] for row in rows if row["frame"] is None and row["error"] is None)
    assert stills == [*(f"{k:05d}.png" for k in range(5)), "below/00000.png", "below/00001.png"]
    hand = next(row for row in rows if row["file"] == "00003.png")
    assert (hand["side"], hand["hands_in_picture"], hand["width_px"]) == ("right", 1, 16)
    np.testing.assert_array_equal(hand["keypoints_m"], np.arange(63.0).reshape(21, 3) + 63)
    failed = {Path(file).name: error for file, _, error in read_failures(tmp_path / "out")}
    assert set(failed) == {"empty.jpg", "broken.mp4"}
    assert "empty file" in failed["empty.jpg"]
    assert sum(r.failures for r in done) == 2
    assert sum(r.pictures for r in done) == 79


def test_every_fourth_frame(tmp_path, monkeypatch):
    monkeypatch.setattr("twohands.batch.sources.FRAMES_A_STRETCH", 10)
    video = write_video(tmp_path / "clip.mp4", 26)
    reports([video], tmp_path / "out", every=4)
    assert sorted(row["frame"] for row in read(tmp_path / "out")) == [0, 4, 8, 12, 16, 20, 24]


def test_photos_that_came_later_are_added_and_failures_can_be_retried(tmp_path):
    photos = grey_photos(tmp_path / "in", 4)
    (photos / "late.png").touch()
    reports([photos], tmp_path / "out", per_shard=2)
    before = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "out").glob("*.parquet")}
    grey_photos(tmp_path / "in", 6)
    assert [r.pictures for r in reports([photos], tmp_path / "out", per_shard=2)] == [2]
    assert all((tmp_path / "out" / name).stat().st_mtime_ns == at for name, at in before.items())
    (photos / "00000.png").replace(photos / "late.png")
    assert read_failures(tmp_path / "out")
    reports([photos], tmp_path / "out", per_shard=2, retry_failed=True)
    assert not read_failures(tmp_path / "out")
    assert len(read(tmp_path / "out")) == 7


def test_what_cannot_be_begun_says_why(tmp_path):
    with pytest.raises(UserError, match="is not there"):
        reports([tmp_path / "nowhere"], tmp_path / "out")
    (tmp_path / "bare").mkdir()
    with pytest.raises(UserError, match="no photo or video"):
        reports([tmp_path / "bare"], tmp_path / "out")
    assert not (tmp_path / "out" / "manifest.jsonl").exists()
    photos = grey_photos(tmp_path / "in", 1)
    reports([photos], tmp_path / "out")
    with pytest.raises(UserError, match=r"every 1, now 2"):
        reports([photos], tmp_path / "out", every=2)
    (tmp_path / "out" / "manifest.jsonl").write_text("{")
    with pytest.raises(UserError, match="cannot be read"):
        reports([photos], tmp_path / "out")


def test_two_runs_do_not_share_a_folder(tmp_path):
    with Manifest.open(tmp_path, ".parquet", {}).held(), pytest.raises(UserError, match="another run"):
        reports([grey_photos(tmp_path / "in", 1)], tmp_path)


KILLED = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from stand_in import StandIn
from twohands.batch.corpus import reconstruct_corpus
for report in reconstruct_corpus([Path({photos!r})], Path({out!r}), StandIn(0.02).load, {{}}, per_shard=4):
    pass
"""


def begin(tmp_path: Path) -> subprocess.Popen:
    places = {"tests": str(Path(__file__).parent), "photos": str(tmp_path / "in"), "out": str(tmp_path / "out")}
    return subprocess.Popen([sys.executable, "-c", KILLED.format_map(places)])


def test_killed_twice_and_gone_on_nothing_is_lost_or_double(tmp_path):
    grey_photos(tmp_path / "in", 60)
    out = tmp_path / "out"
    for kill in (1, 2):
        process = begin(tmp_path)
        deadline = time.monotonic() + 60
        while len(list(out.glob("*.parquet"))) < 4 * kill and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    done = len(list(out.glob("*.parquet")))
    assert 8 <= done < 15
    assert sum(r.pictures for r in reports([tmp_path / "in"], out, per_shard=4)) == 60 - 4 * done
    rows = read(out)
    assert sorted(row["file"] for row in rows) == [f"{k:05d}.png" for k in range(60)]
    assert all(row["score"] == pytest.approx((20 + k) / 255, abs=1e-3) for k, row in enumerate(sorted(rows, key=lambda r: r["file"])))
    assert not list(out.glob(".*.part"))
    assert not list((out / "attempts").iterdir())


def test_a_worker_that_dies_is_replaced_and_a_photo_that_kills_every_time_is_left_aside(tmp_path):
    photos = grey_photos(tmp_path / "in", 12)
    out = tmp_path / "out"
    made = reconstruct_corpus([photos], out, StandIn().load, {}, per_shard=4, workers=2)
    manifest = next(made)
    attempts = Attempts.of(out, manifest.shards[1])
    for word in ("start", 0, 1) * MOST_ATTEMPTS:
        attempts.note(word)
    (photos / "00002.fatal").touch()
    assert len({report.process for report in made}) >= 2
    rows = {row["file"]: row["error"] for row in read(out)}
    assert len(rows) == 12
    assert [(file, error) for file, error in rows.items() if error] == [("00005.png", "the process died under it 3 times")]


def test_ray_does_the_same_and_survives_the_death_of_a_worker(tmp_path):
    pytest.importorskip("ray")
    from ray import cloudpickle

    cloudpickle.register_pickle_by_value(stand_in)  # Ray's workers do not know this folder
    photos = grey_photos(tmp_path / "in", 40)
    (photos / "00007.fatal").touch()
    done = reports([photos], tmp_path / "out", engine="ray", workers=2, per_shard=4)
    assert sum(r.pictures for r in done) == 40
    assert not (photos / "00007.fatal").exists()
    assert sorted(row["file"] for row in read(tmp_path / "out")) == [f"{k:05d}.png" for k in range(40)]


def test_attempts_count_only_what_ended_a_process(tmp_path):
    attempts = Attempts(tmp_path / "log")
    assert attempts.counts() == {}
    for word in ("start", 0, 1, 2, "start", 0, 1, "start", 0, 1, 2):
        attempts.note(word)
    assert attempts.counts() == {2: 2, 1: 1}
