"""`twohands bench`: how fast this machine is."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from twohands.cli.app import app
from twohands.errors import UserError, from_extra

if TYPE_CHECKING:
    from twohands.bench import Report


@app.command
def bench(
    json: Path | None = None,
    repeats: int = 15,
    frames: int = 300,
    video: bool = True,
    mediapipe_python: Path | None = None,
    only: Literal["networks", "engine"] | None = None,
    images: int = 200,
) -> int:
    """Time every stage, alone and together, on synthetic pictures, and the engine that makes them; takes some minutes.

    Args:
        json: Write all numbers to this file as well.
        repeats: How often each thing is timed.
        frames: Length of the video.
        video: Time a video too.
        mediapipe_python: The Python of an environment with mediapipe, to time MediaPipe Hands on the same pictures in the same run.
        only: Time the networks alone (photos, video, cold starts), or the synthetic engine alone, which takes some seconds.
        images: How many pictures of each framing the engine makes.
    """
    with from_extra("synth,video", "the bench"):  # said before minutes have gone by
        import av  # noqa: F401
    from twohands.bench import run_bench

    if repeats < 1 or frames < 2:
        raise UserError(f"repeats ({repeats}) must be at least 1 and frames ({frames}) at least 2")
    if images < 1:
        raise UserError(f"images ({images}) must be at least 1")
    report = run_bench(repeats, frames, video, mediapipe_python, lambda line: print(f"twohands: {line} ...", file=sys.stderr), only, images)
    print("\n".join(lines_of(report)))
    if json is not None:
        from twohands.export.files import beside

        try:
            with beside(json) as part:
                part.write_text(report.to_json(), encoding="utf-8")
        except OSError as error:
            raise UserError(f"cannot write {json} ({error.strerror}); choose another place") from error
    return 0


def lines_of(report: "Report") -> list[str]:
    """The report as text: targets first, then times in milliseconds: median (least, processor time)."""
    from twohands.bench import TARGETS

    machine = ", ".join(f"{name} {value}" for name, value in report.machine.items())
    lines = [f"machine: {machine}"]
    if report.engine:
        lines += ["", "synthetic engine, processor ms a finished image of 256 px, scenes rendered once each"]
        lines += [
            f"  {name:10s} scene {r.scene_ms:.2f}, annotation {r.annotation_ms:.2f}, encoding {r.encoding_ms:.2f}, writing {r.writing_ms:.2f}: "
            f"{r.total_ms:.2f}, {r.images_per_s:.0f} images/s of a core; {r.shard_bytes / 1000:.1f} kB an image"
            for name, r in report.engine.items()
        ]
        lines += [f"  start      {report.engine_start_s:.2f} s of processor time, once a process"]
    lines += ["", "targets"] if report.targets else []
    for key, (name, limit, unit) in TARGETS.items():
        if key in report.targets:
            value = report.targets[key]
            met = value >= limit if key == "video_fps" else value <= limit
            sign = ">=" if key == "video_fps" else "<="
            lines.append(f"  {name}: {value:g} {unit} (target {sign} {limit:g}: {'met' if met else 'not met'})")
    if report.cold:
        lines += ["", "cold start", *(f"  {name}: {value:g}" for name, value in report.cold.items())]
    for engine, photos in report.photos.items():
        lines += ["", f"photos by {engine}: median (least) ms, and the processor time of all"]
        for name, stages in photos.items():
            times = ", ".join(f"{stage} {t.median_ms:.0f} ({t.least_ms:.0f})" for stage, t in stages.items())
            found, there = report.found[engine][name]
            lines.append(f"  {name:10s} {found} of {there} hands; {times}; processor {stages['total'].cpu_ms:.0f}")
        parts = report.alone.get(engine, {})
        lines += [f"  {part:10s} alone {t.median_ms:.1f} ({t.least_ms:.1f}); processor {t.cpu_ms:.1f}" for part, t in parts.items()]
    if report.engines_differ:
        lines += ["", "OpenVINO's results beside PyTorch's, by each hand's farthest vertex (allowed 0.5 mm)"]
        lines += [f"  {name}: {value:g}" for name, value in report.engines_differ.items()]
    if report.video:
        lines += [
            "",
            "video of two hands, 720p, decoding included, no overlay",
            *(f"  {name}: {value:g}" for name, value in report.video.items()),
        ]
    if report.mediapipe:
        told = report.mediapipe
        lines += ["", f"MediaPipe Hands {told['version']} on the same pictures: median (least, processor) ms, hands found"]
        lines += [
            f"  {name:10s} {t.median_ms:.0f} ({t.least_ms:.0f}, {t.cpu_ms:.0f}), {told['found'][name]}"
            for name, t in told["photos"].items()
        ]
        if "film_fps" in told:
            share = f"both hands in {100 * told['film_both']:.0f} % of the frames"
            lines.append(f"  video: {told['film_fps']:.1f} frames/s ({told['film_cpu_ms']:.0f} processor ms a frame), {share}")
    return lines
