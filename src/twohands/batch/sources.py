"""What a corpus is made of: photos, and videos cut into stretches of frames."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from twohands.errors import UserError, from_extra
from twohands.geometry.photo import PHOTO_SUFFIXES
from twohands.manifest import Item

VIDEO_SUFFIXES = (".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".mts", ".wmv", ".flv", ".3gp")
FRAMES_A_STRETCH = 100
"""Long enough that seeking to its start costs little, short enough that a video is shared among workers."""


@dataclass(frozen=True)
class Picture:
    """One photo (`image` None: to be read from `path`), or one frame."""

    path: Path
    frame: int | None
    time_s: float | None
    image: UInt8[np.ndarray, "height width 3"] | None


@dataclass(frozen=True)
class Unit:
    """A photo, or a stretch of a video: the frames with `start` <= presentation time < `end`, in the stream's own ticks."""

    source: str
    """The folder that was named."""
    file: str
    """Path below it, "/" between folders."""
    first_frame: int | None = None
    """None: a photo."""
    start: int | None = None
    """None: from the beginning."""
    end: int | None = None
    """None: to the end."""
    trouble: str | None = None
    """Why the file cannot be done, known since it was listed."""

    def item(self) -> Item:
        """The unit as a manifest keeps it."""
        return (self.source, self.file, self.first_frame, self.start, self.end, self.trouble)

    @property
    def path(self) -> Path:
        return Path(self.source) / self.file

    def pictures(self, every: int = 1) -> Iterator[Picture]:
        """The photo, or every `every`-th frame of the stretch. Whatever PyAV raises on a broken video comes through."""
        if self.first_frame is None:
            yield Picture(self.path, None, None, None)
            return
        yield from _frames(self, every)


def list_units(sources: list[Path], known: set[tuple[str, str]]) -> Iterator[Unit]:
    """The photos and videos of the sources, folders searched with what is below them, in the order of their names. Files in `known`, pairs of
    (source, file), are left out: they were listed before.

    UserError if a source is not there, or nothing is found at all."""
    found = False
    for source in sources:
        if not source.exists():
            raise UserError(f"{source} is not there; give photos, videos, or folders of them")
        folder = source if source.is_dir() else source.parent
        files = sorted(p for p in source.rglob("*") if p.is_file()) if source.is_dir() else [source]
        for path in files:
            suffix = path.suffix.lower()
            if source.is_dir() and (suffix not in (*PHOTO_SUFFIXES, *VIDEO_SUFFIXES) or path.name.startswith(".")):
                continue
            found = True
            key = (str(folder.resolve()), path.relative_to(folder).as_posix())
            if key in known:
                continue
            known.add(key)
            if suffix in VIDEO_SUFFIXES:
                yield from _stretches(*key)
            else:
                yield Unit(*key)
    if not found:
        raise UserError(f"there is no photo or video in {', '.join(map(str, sources))}; give folders that hold some")


def _stretches(source: str, file: str) -> Iterator[Unit]:
    """A video in stretches. Packets are only listed, not decoded: some milliseconds for a minute of video."""
    with from_extra("video", "reading videos"):
        import av

    try:
        with av.open(str(Path(source) / file)) as container:
            if not container.streams.video:
                yield Unit(source, file, 0, trouble=f"{file} has no video stream")
                return
            packets = [p.pts for p in container.demux(container.streams.video[0]) if p.size]
    except (OSError, ValueError) as error:  # PyAV's errors are of these two kinds
        yield Unit(source, file, 0, trouble=f"{file} is no readable video ({error})")
        return
    ticks = sorted(t for t in packets if t is not None)
    if len(ticks) < len(packets) or not ticks:
        yield Unit(source, file, 0)  # a raw stream knows no times, so there is nothing to seek by
        return
    for first in range(0, len(ticks), FRAMES_A_STRETCH):
        after = first + FRAMES_A_STRETCH
        yield Unit(source, file, first, ticks[first] if first else None, ticks[after] if after < len(ticks) else None)


def _frames(unit: Unit, every: int) -> Iterator[Picture]:
    with from_extra("video", "reading videos"):
        import av

    with av.open(str(unit.path)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "NONE"  # one worker, one core
        if unit.start is not None:
            container.seek(unit.start, stream=stream, backward=True)
        assert unit.first_frame is not None
        index = unit.first_frame
        for frame in container.decode(stream):
            if unit.start is not None and (frame.pts is None or frame.pts < unit.start):
                continue
            if unit.end is not None and frame.pts is not None and frame.pts >= unit.end:
                break
            if index % every == 0:
                upright = np.rot90(frame.to_ndarray(format="rgb24"), k=round(frame.rotation / 90) % 4)
                yield Picture(unit.path, index, frame.time, np.ascontiguousarray(upright))
            index += 1
