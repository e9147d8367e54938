"""The bench measures what it says; its pictures are the same for everyone."""

import json
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from scenes import Truth, blank_image, two_hands
from twohands import bench
from twohands.bench import Report, Timing, bench_photos, film_frames
from twohands.cli.bench import lines_of
from twohands.errors import UserError
from twohands.synth.rate import engine_rate
from twohands.synth.scene import SceneKnobs


def test_timing_warms_up_and_tells_waiting_from_work():
    calls = []

    def work() -> None:
        calls.append(1)
        time.sleep(0.02)

    timing = Timing.measure(work, 3)
    assert (len(calls), timing.repeats) == (4, 3)
    assert timing.median_ms >= timing.least_ms >= 20
    assert timing.cpu_ms < 15, "sleeping is no work"


def test_a_child_does_not_inherit_its_parents_memory():
    held = bytearray(300_000_000)
    child = bench._child(["-c", "print(1)"])
    assert len(held) > 1e6 * child.peak_mb


def test_a_child_keeps_what_it_has_compiled(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    assert bench._child(["-c", "import sys; print(sys.dont_write_bytecode)"]).out == "False"


def test_a_child_process_tells_its_cost():
    child = bench._child(["-c", "x = bytearray(60_000_000); print(sum(range(300_000)))"])
    assert child.out == str(sum(range(300_000)))
    assert child.wall_s > 0
    assert child.peak_mb == 0 or child.peak_mb > 60
    with pytest.raises(UserError, match="division by zero"):
        bench._child(["-c", "1 / 0"])


def test_engines_are_compared_by_each_hands_farthest_vertex():
    pipeline = Truth([two_hands(0.2)]).pipeline()
    result = pipeline.reconstruct(blank_image())
    (person,) = result.people
    moved = person.vertices_m.clone()
    moved[1, 7, 0] += 0.0004
    apart = bench.hands_apart_mm(result, replace(result, people=(replace(person, vertices_m=moved),)))
    assert apart == pytest.approx([0.0, 0.4], abs=1e-3)
    assert bench.hands_apart_mm(result, replace(result, people=())) is None
    nobody = Truth([]).pipeline()
    told = bench.engines_apart(pipeline, pipeline, [blank_image()] * 2)
    assert told == {"pictures": 2, "pictures with other hands": 0, "hands": 4, "median mm": 0.0, "95 % mm": 0.0, "most mm": 0.0}
    assert bench.engines_apart(pipeline, nobody, [blank_image()])["pictures with other hands"] == 1


def test_parts_alone_and_report_in_words():
    pipeline = Truth([two_hands(0.07)]).pipeline()
    result = pipeline.reconstruct(blank_image())
    report = Report(targets={"import_s": 1.0, "video_fps": 9.0}, video={"frames": 4})
    report.alone["torch"] = bench._alone(pipeline, blank_image(), result, 1)
    assert {"detector", "stage 1", "stage 2", "mesh", "NPZ", "GLB", "OBJ", "overlay"} == set(report.alone["torch"])
    report.found["torch"] = {"two hands": (1, 2)}
    report.photos["torch"] = {"two hands": {"total": Timing(12.0, 10.0, 11.0, 3)}}
    text = "\n".join(lines_of(report))
    assert "import: 1 s (target <= 1.5: met)" in text
    assert "9 frames/s (target >= 15: not met)" in text
    assert "1 of 2 hands; total 12 (10); processor 11" in text
    assert json.loads(report.to_json())["photos"]["torch"]["two hands"]["total"]["least_ms"] == 10.0


def test_pictures_are_made_from_seeds():
    photos = bench_photos(96)
    assert {name: int(sample.hand_valid.sum()) for name, sample in photos.items()} == {"one hand": 1, "two hands": 2, "clasped": 2}
    assert all(p.shape == (96, 96, 3) and p.dtype == np.uint8 for p in map(bench.as_pixels, photos.values()))
    assert torch.equal(bench_photos(96)["clasped"].image, photos["clasped"].image)
    frames = film_frames(3)
    assert [f.shape for f in frames] == [(720, 1280, 3)] * 3


def test_a_python_without_mediapipe_is_said(tmp_path):
    with pytest.raises(UserError, match="cannot be run"):
        bench._mediapipe(tmp_path / "python", {}, [], 1)


def test_the_engine_is_timed_from_nothing_to_the_shard():
    rate = engine_rate(SceneKnobs(size_px=64, interacting=0.0), 3, warm=1)
    assert rate.images == 3
    assert min(rate.scene_ms, rate.annotation_ms, rate.encoding_ms, rate.writing_ms) > 0
    assert rate.scene_ms > rate.annotation_ms
    assert rate.images_per_s == pytest.approx(1000 / rate.total_ms)
    assert 1000 < rate.shard_bytes < 30_000
    words = "\n".join(lines_of(Report(engine={"close": replace(rate, scene_ms=7.0, annotation_ms=0.5, encoding_ms=0.3, writing_ms=0.2)})))
    assert "scene 7.00, annotation 0.50, encoding 0.30, writing 0.20: 8.00, 125 images/s of a core" in words
    assert "targets" not in words
