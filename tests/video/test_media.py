"""Films, folders and cameras: times, rotation, uneven rates, damage, and what cannot be opened."""

import struct
import threading

import numpy as np
import pytest
from PIL import Image

from twohands.errors import UserError
from twohands.video.media import FilmWriter, Frame, open_source, read_ahead


def picture(shade: int, width: int = 96, height: int = 64) -> np.ndarray:
    image = np.full((height, width, 3), 60, np.uint8)
    image[:20, :30] = (shade % 250, 250 - shade % 250, 128)
    return image


def film(path, times_s, width: int = 96, height: int = 64):
    with FilmWriter(path, 25.0, width, height) as writer:
        for k, time_s in enumerate(times_s):
            writer.write(time_s, picture(10 * k, width, height))
    return path


def test_a_film_gives_its_pictures_back_with_their_times(tmp_path):
    times = [0, 0.04, 0.08, 0.2, 0.24, 0.5]
    source = open_source(str(film(tmp_path / "a.mp4", times)))
    frames = list(source.frames())
    assert np.allclose([f.time_s for f in frames], times, atol=1e-3)
    for k, frame in enumerate(frames):
        assert np.abs(frame.image[4:16, 4:26].mean((0, 1)) - picture(10 * k)[5, 5]).max() < 12
    assert source.name == "a"
    assert len(list(source.frames())) == 6, "a film can be read again"


def test_odd_sizes_are_padded(tmp_path):
    (frame,) = open_source(str(film(tmp_path / "a.mp4", [0], 95, 63))).frames()
    assert frame.image.shape == (64, 96, 3)


@pytest.mark.parametrize(("matrix", "turns"), [((0, 1, -1, 0), 3), ((-1, 0, 0, -1), 2), ((0, -1, 1, 0), 1)])
def test_rotation_flags_are_obeyed(tmp_path, matrix, turns):
    path = film(tmp_path / "a.mp4", [0, 0.04])
    content = bytearray(path.read_bytes())
    # The matrix of a track's header: a, b, u, c, d, v, x, y, w; here for a quarter turn clockwise and so on.
    at = content.index(b"tkhd") + 4 + 40
    a, b, c, d = matrix
    content[at : at + 36] = struct.pack(">9i", a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)
    path.write_bytes(content)
    frame = next(iter(open_source(str(path)).frames()))
    expected = np.rot90(picture(0), turns)
    assert frame.image.shape == expected.shape
    assert np.abs(frame.image.astype(int) - expected).mean() < 8


def test_damage_is_reported_and_the_rest_is_read(tmp_path):
    path = film(tmp_path / "a.mp4", np.arange(60) / 25)
    content = bytearray(path.read_bytes())
    second = content.index(b"mdat", content.index(b"mdat") + 4)
    content[second + 20 : second + 400] = bytes(380)
    path.write_bytes(content)
    frames = list(open_source(str(path)).frames())
    assert sum(f.image is not None for f in frames) >= 25
    assert np.all(np.diff([f.time_s for f in frames]) > 0)
    assert all(f.trouble for f in frames if f.image is None)


def test_a_film_that_was_cut_off_is_read_as_far_as_it_goes(tmp_path):
    path = film(tmp_path / "a.mp4", np.arange(100) / 25)
    content = path.read_bytes()
    path.write_bytes(content[: content.rindex(b"mdat") + 40])  # a second is a fragment; the last one is cut off
    assert 70 <= sum(f.image is not None for f in open_source(str(path)).frames()) < 100


def test_a_folder_is_a_film_of_its_photos(tmp_path):
    for k in range(3):
        Image.fromarray(picture(80 * k)).save(tmp_path / f"{k}.png")
    (tmp_path / "1.png").write_bytes(b"broken")
    frames = list(open_source(str(tmp_path), 10.0).frames())
    assert [f.time_s for f in frames] == pytest.approx([0, 0.1, 0.2])
    assert [f.image is None for f in frames] == [False, True, False]
    assert "1.png" in frames[1].trouble


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("none.mp4", None, "not there"),
        ("empty.mp4", b"", "empty"),
        ("text.mp4", b"hello" * 100, "cannot be opened"),
        ("/dev/video97", None, "no camera"),
    ],
)
def test_what_is_no_film_is_refused_by_name(tmp_path, name, content, says):
    path = name if name.startswith("/dev") else str(tmp_path / name)
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=says):
        list(open_source(path).frames())


def test_an_empty_folder_and_a_nonsensical_rate(tmp_path):
    with pytest.raises(UserError, match="no photos"):
        open_source(str(tmp_path))
    with pytest.raises(UserError, match="frames per second"):
        open_source(str(tmp_path), 0.0)


def test_reading_ahead_changes_nothing_and_stops_when_it_is_told():
    def frames(end: Exception | None, taken: list[int]):
        for k in range(20):
            taken.append(k)
            yield Frame(float(k), None)
        if end is not None:
            raise end

    assert [f.time_s for f in read_ahead(frames(None, []))] == [float(k) for k in range(20)]
    read = []
    with pytest.raises(UserError, match="broke"):
        read += [frame.time_s for frame in read_ahead(frames(UserError("it broke"), []))]
    taken: list[int] = []
    few = read_ahead(frames(None, taken), 2)
    next(few)
    few.close()
    assert len(taken) <= 5, "a reader who leaves leaves the rest unread"
    assert not any(thread.name == "frames" for thread in threading.enumerate())
