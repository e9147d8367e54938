"""Pictures in, pictures out: films, folders of photos, cameras, and the overlay's film. The sole importer of PyAV.

A picture that cannot be decoded is no end: it comes as a frame without an image, at the time at which it should have been.
"""

import heapq
import os
import queue
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from jaxtyping import UInt8

from twohands.errors import UserError, from_extra
from twohands.geometry.photo import PHOTO_SUFFIXES, Photo, read_photo

if TYPE_CHECKING:
    import av

TIME_BASE = Fraction(1, 90_000)
"""Of the film written: fine enough for any camera's time stamps."""
CAMERA = re.compile(r"webcam(?::(?P<number>\d+))?|(?P<device>/dev/video\d+)")
_CAMERA_FORMAT = {"linux": "v4l2", "darwin": "avfoundation", "win32": "dshow"}


@dataclass(frozen=True)
class Frame:
    """One picture of a video."""

    time_s: float
    """Since the first frame."""
    image: UInt8[np.ndarray, "height width 3"] | None
    """Upright RGB; None if it could not be decoded."""
    trouble: str = ""
    """Why not."""


class Source(Protocol):
    """Where pictures come from. `frames` can be called again, but for a camera's."""

    @property
    def name(self) -> str: ...
    @property
    def frames_per_second(self) -> float:
        """On average; a guess where the container does not say."""
        ...

    @property
    def count(self) -> int | None:
        """How many pictures there are, about; None if nobody knows."""
        ...

    @property
    def live(self) -> bool: ...
    def frames(self) -> Iterator[Frame]: ...


def open_source(source: str, frames_per_second: float | None = None) -> Source:
    """A film, a folder of photos (`frames_per_second`, 30 by default, says when they were taken), or a camera: "webcam", "webcam:1",
    "/dev/video2". UserError if it is none of these or cannot be opened."""
    if frames_per_second is not None and not 0 < frames_per_second <= 1000:
        raise UserError(f"{frames_per_second} frames per second are no rate; give a number between 0 and 1000")
    if found := CAMERA.fullmatch(source):
        return CameraSource.open(found["device"] or "", int(found["number"] or 0), frames_per_second)
    path = Path(source)
    if path.is_dir():
        return FolderSource.open(path, frames_per_second or 30.0)
    if not path.is_file():
        raise UserError(f'{source} is not there; give a video file, a folder of photos, or "webcam"')
    if path.stat().st_size == 0:
        raise UserError(f"{path} is an empty file; copy the video again")
    return FilmSource.open(path)


@dataclass(frozen=True)
class FolderSource:
    """The photos of a folder in the order of their names."""

    name: str
    paths: tuple[Path, ...]
    frames_per_second: float
    live: bool = False

    @staticmethod
    def open(folder: Path, frames_per_second: float) -> "FolderSource":
        paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in PHOTO_SUFFIXES and not p.name.endswith(".overlay.png"))
        if not paths:
            raise UserError(f"there are no photos in {folder}; give a folder of pictures, or a video file")
        return FolderSource(folder.resolve().name, tuple(paths), frames_per_second)

    @property
    def count(self) -> int:
        return len(self.paths)

    def frames(self) -> Iterator[Frame]:
        for index, path in enumerate(self.paths):
            try:
                photo: Photo = read_photo(path)
            except UserError as error:
                yield Frame(index / self.frames_per_second, None, str(error))
            else:
                yield Frame(index / self.frames_per_second, photo.image)


@dataclass(frozen=True)
class FilmSource:
    """A video file."""

    name: str
    path: Path
    frames_per_second: float
    count: int | None
    live: bool = False

    @staticmethod
    def open(path: Path) -> "FilmSource":
        with _opened(str(path), str(path)) as container:
            stream = container.streams.video[0]
            rate = float(stream.average_rate or stream.guessed_rate or 30)
            count = stream.frames or None
            if count is None and container.duration:
                count = round(container.duration / 1e6 * rate)
        return FilmSource(path.stem, path, rate, count)

    def frames(self) -> Iterator[Frame]:
        with _opened(str(self.path), str(self.path)) as container:
            yield from _decoded(container, self.frames_per_second)


@dataclass(frozen=True)
class CameraSource:
    """A camera of this computer. It runs until it is stopped."""

    name: str
    device: str
    format: str
    frames_per_second: float
    count: int | None = None
    live: bool = True

    @staticmethod
    def open(device: str, number: int, frames_per_second: float | None) -> "CameraSource":
        kind = _CAMERA_FORMAT.get(sys.platform)
        if kind is None:
            raise UserError(f"cameras cannot be opened on {sys.platform}; record a video file and give that")
        if not device:
            device = {"v4l2": f"/dev/video{number}", "avfoundation": f"{number}:none", "dshow": "video=Integrated Camera"}[kind]
        source = CameraSource(f"webcam{number}", device, kind, frames_per_second or 30.0)
        if kind == "v4l2" and not Path(device).exists():
            raise UserError(f"there is no camera at {device}; plug one in, or give its number as webcam:N")
        with _opened(device, f"the camera {device}", kind):
            pass  # so that a camera that is busy or forbidden is told before networks are loaded
        return source

    def frames(self) -> Iterator[Frame]:
        with _opened(self.device, f"the camera {self.device}", self.format) as container:
            yield from _decoded(container, self.frames_per_second)


def read_ahead(frames: Iterator[Frame], count: int = 3) -> Iterator[Frame]:
    """The same frames, read by a thread of their own while the last ones are worked on; at most `count` wait."""
    waiting: queue.Queue[Frame | BaseException | None] = queue.Queue(count)
    unwanted = threading.Event()

    def put(item: Frame | BaseException | None) -> bool:
        while not unwanted.is_set():
            with suppress(queue.Full):
                waiting.put(item, timeout=0.1)
                return True
        return False

    def read() -> None:
        end: BaseException | None = None
        try:
            for frame in frames:
                if not put(frame):
                    return
        except BaseException as error:
            end = error  # it is the reader's who asked
        put(end)

    thread = threading.Thread(target=read, name="frames", daemon=True)
    thread.start()
    try:
        while isinstance(item := waiting.get(), Frame):
            yield item
        if item is not None:
            raise item
    finally:
        unwanted.set()
        thread.join()


@contextmanager
def _opened(where: str, what: str, format_name: str | None = None) -> Iterator[Any]:
    """A PyAV container with a video stream."""
    av = _pyav()
    try:
        container = av.open(where, format=format_name)
    except (av.error.FFmpegError, OSError) as error:
        cure = "check that no other program uses it" if format_name else "give a video file such as MP4, MOV, MKV or WebM"
        raise UserError(f"{what} cannot be opened as video ({_reason(error)}); {cure}") from error
    with container:
        if not container.streams.video:
            raise UserError(f"{what} holds no pictures, only sound or text; give a video file")
        yield container


def _decoded(container: Any, rate: float) -> Iterator[Frame]:
    """The frames of a container, upright, in the order of time. What cannot be decoded takes its turn as an empty frame."""
    av = _pyav()
    stream = container.streams.video[0]
    stream.thread_type = "AUTO"
    broken: list[tuple[float, str]] = []
    first: float | None = None
    last = -1.0
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets)
        except StopIteration:
            break
        except (av.error.FFmpegError, OSError) as error:
            if first is not None:
                yield Frame(last + 1 / rate, None, f"the file breaks off ({_reason(error)})")
            break
        at = None if packet.pts is None else float(packet.pts * packet.time_base)
        try:
            pictures = packet.decode()
        except av.error.FFmpegError as error:
            if at is not None:
                heapq.heappush(broken, (at, _reason(error)))
            continue
        for picture in pictures:
            time_s = picture.time if picture.time is not None else last + 1 / rate + (first or 0.0)
            first = time_s if first is None else first
            while broken and broken[0][0] < time_s:
                then, why = heapq.heappop(broken)
                if then - first > last:
                    last = then - first
                    yield Frame(last, None, f"it cannot be decoded ({why})")
            # Time that stands still or runs back (edited files, some cameras) would break what divides by it.
            last = time_s - first if time_s - first > last else last + 0.25 / rate
            if picture.is_corrupt:
                yield Frame(last, None, "it is damaged")
            else:
                yield Frame(last, _upright(picture))
    for then, why in sorted(broken):
        if first is not None and then - first > last:
            last = then - first
            yield Frame(last, None, f"it cannot be decoded ({why})")
    if first is None:
        raise UserError(f"no picture of {container.name} can be decoded; copy the video again, or save it in another format")


def _upright(picture: "av.VideoFrame") -> UInt8[np.ndarray, "height width 3"]:
    """RGB, turned as the container's display matrix asks for."""
    quarter_turns = round(picture.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(picture.to_ndarray(format="rgb24"), quarter_turns))


class FilmWriter:
    """An H.264 film whose pictures keep their times. It grows in fragments: what was written stays readable if the program is killed."""

    def __init__(self, path: Path, frames_per_second: float, width_px: int, height_px: int) -> None:
        av = _pyav()
        self.path = path
        # 4:2:0 colour needs even sides.
        self.size = (width_px + width_px % 2, height_px + height_px % 2)
        self._container = av.open(str(path), "w", format="mp4", options={"movflags": "frag_keyframe+empty_moov+default_base_moof"})
        rate = Fraction(frames_per_second).limit_denominator(1001)
        self._stream = self._container.add_stream("libx264", rate=rate, options={"crf": "20", "preset": "veryfast"})
        self._stream.width, self._stream.height = self.size
        self._stream.pix_fmt = "yuv420p"
        self._stream.gop_size = max(1, round(frames_per_second))  # a fragment a second
        self._stream.codec_context.time_base = TIME_BASE
        self._stream.codec_context.thread_count = 1
        self._last = -1

    def write(self, time_s: float, picture: UInt8[np.ndarray, "height width 3"]) -> None:
        """Appends a picture; times ascend."""
        av = _pyav()
        wide, high = self.size
        padded = np.pad(picture, ((0, high - picture.shape[0]), (0, wide - picture.shape[1]), (0, 0)), mode="edge")
        frame = av.VideoFrame.from_ndarray(padded, format="rgb24")
        frame.pts = self._last = max(round(time_s / TIME_BASE), self._last + 1)
        frame.time_base = TIME_BASE
        for packet in self._stream.encode(frame):
            self._container.mux(packet)

    def close(self) -> None:
        """Writes what the encoder still holds."""
        if self._container is not None:
            for packet in self._stream.encode(None):
                self._container.mux(packet)
            self._container.close()
            self._container = None

    def __enter__(self) -> "FilmWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _pyav() -> Any:
    """PyAV, which only videos need. UserError if it is missing."""
    with from_extra("video", "reading and writing videos"):
        import av
    return av


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno) if error.errno > 0 else str(error)
    return str(error).strip().split("\n")[0] or type(error).__name__
