"""A video's files, written while it runs: whatever stops the program, what was done is on disk and readable.

Offline the film is read twice, first for the hands, then for the pictures behind them; between the two everything is settled. Meanwhile the NPZ
is written again and again (`complete` is False in it). Live there is one pass, and every file grows as the hands come."""

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from twohands.errors import UserError
from twohands.export import write_bvh, write_motion, write_skinned_glb
from twohands.export.motion import photo_of_motion
from twohands.geometry.photo import choose_camera
from twohands.hands.model import HandModel
from twohands.pipeline import Pipeline
from twohands.schema import HAND_FILLED, HandMotion
from twohands.video.media import FilmWriter, Frame, Source, read_ahead
from twohands.video.reconstruct import LiveHands, VideoReader, joined_motions
from twohands.view.overlay import draw_overlay

OPACITY, FILLED_OPACITY = 0.85, 0.35


@dataclass(frozen=True)
class VideoOptions:
    """What is wanted of a video."""

    live: bool = False
    refine: bool = True
    overlay: bool = True
    focal_px: float | None = None
    fov_deg: float | None = None
    seconds: float | None = None
    """Stop after so much of the video."""
    save_every_s: float = 30.0
    """Time between two writings of the unfinished NPZ; more if writing takes long."""


@dataclass
class Produced:
    """What came of it."""

    motion: HandMotion | None = None
    files: list[Path] = field(default_factory=list)
    frames: int = 0
    detections: int = 0
    troubles: list[str] = field(default_factory=list)
    interrupted: bool = False


Progress = Callable[[str], object]
"""Called with "hands" or "overlay" after every frame."""


def produce(source: Source, model: Pipeline, out: Path, options: VideoOptions, progress: Progress = lambda stage: None) -> Produced:
    """Reconstructs a video into `out`: NAME.npz, NAME.glb, NAME.person0_left.bvh and so on, NAME.overlay.mp4. An interruption by the user
    (KeyboardInterrupt) ends the reading; what was read is settled and written. UserError if nothing can be read at all."""
    frames = _shortened(source.frames(), options.seconds)
    waiting: list[Frame] = []
    for frame in frames:
        waiting.append(frame)
        if frame.image is not None:
            break
    image = waiting[-1].image if waiting else None
    if image is None:
        raise _nothing(source, waiting)
    height, width = image.shape[:2]
    camera, camera_source = choose_camera(width, height, options.focal_px, options.fov_deg)
    reader = VideoReader(model, camera, camera_source, width, height)
    run = _run_live if options.live or source.live else _run_offline
    return run(source, reader, chain(waiting, frames), out, options, progress)


def _run_offline(
    source: Source, reader: VideoReader, frames: Iterator[Frame], out: Path, options: VideoOptions, progress: Progress
) -> Produced:
    produced, saver = Produced(), _Saver(out / f"{source.name}.npz", options.save_every_s)
    try:
        for frame in read_ahead(frames):
            reader.read(frame)
            progress("hands")
            saver.maybe(lambda: reader.motion(refine=False))
    except KeyboardInterrupt:
        produced.interrupted = True
    motion = reader.motion(options.refine)
    _finish(produced, source, reader, motion, out)
    if options.overlay and not produced.interrupted:
        path = out / f"{source.name}.overlay.mp4"
        produced.files.append(path)
        film: FilmWriter | None = None
        hand_model = reader.pipeline.hand_model
        try:
            for index, frame in enumerate(_shortened(source.frames(), options.seconds)):
                if index == len(motion.time_s):
                    break
                if frame.image is not None and frame.image.shape[:2] == (reader.height_px, reader.width_px):
                    film = _show(film, path, source, motion, index, frame.image, hand_model)
                progress("overlay")
        except KeyboardInterrupt:
            produced.interrupted = True
        finally:
            if film is not None:
                film.close()
    return produced


def _run_live(
    source: Source, reader: VideoReader, frames: Iterator[Frame], out: Path, options: VideoOptions, progress: Progress
) -> Produced:
    produced, saver = Produced(), _Saver(out / f"{source.name}.npz", options.save_every_s)
    hands, parts = LiveHands(reader, options.refine), _Parts()
    reader.keep = hands.config.window
    path = out / f"{source.name}.overlay.mp4"
    film: FilmWriter | None = None
    before: Frame | None = None
    if options.overlay:
        produced.files.append(path)
    try:
        # A last frame without a successor closes the row.
        for frame in chain(frames, [None]):
            part = hands.push(frame) if frame is not None else hands.flush()
            if part is not None:
                parts.add(part)
                drawable = before is not None and before.image is not None and before.image.shape[:2] == (reader.height_px, reader.width_px)
                if options.overlay and drawable and before is not None and before.image is not None:
                    film = _show(film, path, source, part, 0, before.image, reader.pipeline.network_hand)
            if frame is not None:
                progress("hands")
                saver.maybe(parts.motion)
            before = frame
    except KeyboardInterrupt:
        produced.interrupted = True
    finally:
        if film is not None:
            film.close()
    _finish(produced, source, reader, parts.motion() if parts else reader.motion(options.refine), out)
    return produced


def _finish(produced: Produced, source: Source, reader: VideoReader, motion: HandMotion, out: Path) -> None:
    """Everything but the film, and the counts."""
    stem, model = source.name, reader.pipeline.hand_model
    if model.name != motion.hand_model:
        model = reader.pipeline.network_hand
    write_motion(out / f"{stem}.npz", motion)
    produced.files.insert(0, out / f"{stem}.npz")
    stale = [out / f"{stem}.glb", *out.glob(f"{stem}.person*.bvh")]
    for path in stale:
        path.unlink(missing_ok=True)
    if motion.hand_present.any():
        write_skinned_glb(out / f"{stem}.glb", motion, model)
        produced.files[1:1] = [out / f"{stem}.glb", *write_bvh(out, stem, motion, model)]
    produced.motion, produced.frames = motion, len(motion.time_s)
    produced.detections, produced.troubles = reader.tracker.detections, reader.troubles


def _show(
    film: FilmWriter | None, path: Path, source: Source, motion: HandMotion, index: int, image: UInt8[np.ndarray, "height width 3"],
    model: HandModel,
) -> FilmWriter:  # fmt: skip
    """Appends one frame with the hands over it to the film, which is begun with the first."""
    picture = overlay_frame(motion, index, image, model)
    if film is None:
        film = FilmWriter(path, source.frames_per_second, picture.shape[1], picture.shape[0])
    film.write(float(motion.time_s[index]), picture)
    return film


def overlay_frame(
    motion: HandMotion, index: int, image: UInt8[np.ndarray, "height width 3"], model: HandModel
) -> UInt8[np.ndarray, "height width 3"]:
    """The picture with the hands over it; those that were filled in are pale."""
    result = photo_of_motion(motion, index, image, model)
    filled = {n: motion.hand_state[index, n] == HAND_FILLED for n in range(len(motion.person))}
    of = {number: n for n, number in enumerate(motion.person)}
    pale = [replace(p, hand_present=p.hand_present & filled[of[p.person]]) for p in result.people]
    seen = [replace(p, hand_present=p.hand_present & ~filled[of[p.person]]) for p in result.people]
    picture = draw_overlay(replace(result, people=tuple(p for p in seen if bool(p.hand_present.any()))), model, OPACITY)
    pale = [p for p in pale if bool(p.hand_present.any())]
    if pale and picture.shape == image.shape:
        picture = draw_overlay(replace(result, people=tuple(pale), image=picture), model, FILLED_OPACITY)
    return picture


class _Parts:
    """A motion that grows by a frame at a time, for hours if need be: frames are soon put together, since each by itself takes ten times the memory."""

    def __init__(self, together: int = 256) -> None:
        self.together = together
        self._long: list[HandMotion] = []
        self._fresh: list[HandMotion] = []

    def add(self, part: HandMotion) -> None:
        """Takes the next frame."""
        self._fresh.append(part)
        if len(self._fresh) == self.together:
            self._long.append(joined_motions(self._fresh))
            self._fresh = []

    def __len__(self) -> int:
        """How many pieces there are."""
        return len(self._long) + len(self._fresh)

    def motion(self) -> HandMotion:
        """All of it. ValueError before the first frame."""
        return joined_motions([*self._long, *self._fresh])


class _Saver:
    """Writes the unfinished motion now and then, never for more than a thirtieth of the time."""

    def __init__(self, path: Path, every_s: float) -> None:
        self.path, self.every_s = path, every_s
        self.next_s = time.monotonic() + every_s

    def maybe(self, motion: Callable[[], HandMotion]) -> None:
        if time.monotonic() < self.next_s:
            return
        started = time.monotonic()
        with suppress(ValueError):  # live, before the second frame, there is nothing yet
            write_motion(self.path, motion(), complete=False)
        now = time.monotonic()
        self.next_s = now + max(self.every_s, 30 * (now - started))


def _shortened(frames: Iterator[Frame], seconds: float | None) -> Iterator[Frame]:
    for frame in frames:
        if seconds is not None and frame.time_s >= seconds:
            return
        yield frame


def _nothing(source: Source, frames: list[Frame]) -> UserError:
    why = f" ({frames[0].trouble})" if frames else ""
    return UserError(f"no picture of {source.name} can be read{why}; copy the video again, or save it in another format")
