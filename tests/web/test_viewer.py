"""The viewer of stored results: what it opens, and what a real browser then shows."""

import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from browser import chromium, console_errors, screenshot
from PIL import Image

from scenes import HEIGHT, WIDTH, Truth, blank_image, two_hands
from twohands.errors import UserError
from twohands.export import motion_of_photo, read_npz, write_motion, write_npz
from twohands.web.stored import open_result


def photo_result(path, refine: bool = True):
    truth = Truth([two_hands(0.07)], refined_gap_m=0.25)
    result = truth.pipeline().reconstruct(blank_image(), refine=refine)
    write_npz(path, result, truth.model)
    return path


def film_result(path, photo, frames: int = 5):
    """The photo's hands moving to the right, one centimetre a frame."""
    still = motion_of_photo(read_npz(photo))
    steps = torch.arange(frames)[:, None, None, None] * torch.tensor([0.01, 0.0, 0.0])

    def repeated(t: torch.Tensor) -> torch.Tensor:
        return t.expand(frames, *t.shape[1:]).clone() if t.ndim > 1 else t  # all but the camera

    camera = still.camera
    moved = replace(still.map(repeated), camera=camera, time_s=torch.arange(frames, dtype=torch.float64) / 10)
    parameters = replace(moved.parameters, translation_m=moved.parameters.translation_m + steps)
    write_motion(path, replace(moved, parameters=parameters, keypoints_m=moved.keypoints_m + steps[..., None, :]))
    return path


def test_a_photos_result_has_its_picture_and_both_states(tmp_path, hand):
    stored = open_result(photo_result(tmp_path / "a.npz"))
    assert stored.picture(0).shape == (HEIGHT, WIDTH, 3)
    result = Truth([two_hands(0.07)], refined_gap_m=0.25).pipeline().reconstruct(blank_image())
    torch.testing.assert_close(stored.vertices_m(0)[0], result.people[0].vertices_m)
    before = hand.pose_hands(two_hands(0.07)).mesh().vertices_m
    torch.testing.assert_close(stored.vertices_m(0, before=True)[0], before)


def test_what_was_not_refined_has_no_before(tmp_path):
    stored = open_result(photo_result(tmp_path / "a.npz", refine=False))
    assert stored.before is None
    torch.testing.assert_close(stored.vertices_m(0, before=True), stored.vertices_m(0))


def test_a_films_result_moves_and_finds_its_pictures(tmp_path):
    photo = photo_result(tmp_path / "a.npz")
    folder = tmp_path / "film"
    folder.mkdir()
    for k in range(5):
        Image.fromarray(np.full((HEIGHT, WIDTH, 3), 40 * k, np.uint8)).save(folder / f"{k}.png")
    stored = open_result(film_result(tmp_path / "b.npz", photo), folder)
    shift = stored.vertices_m(4) - stored.vertices_m(0)
    torch.testing.assert_close(shift, torch.tensor([0.04, 0, 0]).expand_as(shift), atol=1e-5, rtol=0)
    # The folder is taken for thirty frames a second, the result says ten: the nearest in time belongs to each.
    assert stored.picture_of == (0, 3, 4, 4, 4)
    assert abs(int(stored.picture(1)[0, 0, 0]) - 120) < 4


def test_what_is_no_result_is_said(tmp_path):
    (tmp_path / "x.npz").write_bytes(b"no")
    np.savez(tmp_path / "y.npz", a=np.zeros(1))
    photo = photo_result(tmp_path / "a.npz")
    for path, film, words in [
        (tmp_path / "x.npz", None, "no readable NPZ"),
        (tmp_path / "y.npz", None, "not written by this program"),
        (tmp_path / "z.npz", None, "not there"),
        (tmp_path, None, "no result"),
        (photo, tmp_path / "film.mp4", "leave --film out"),
        (film_result(tmp_path / "b.npz", photo), tmp_path / "film.mp4", "not there"),
    ]:
        with pytest.raises(UserError, match=words):
            open_result(path, film)


@pytest.fixture(scope="module")
def viewer(tmp_path_factory):
    pytest.importorskip("viser", reason="the view extra is not installed")
    from twohands.web.viewer import open_viewer

    folder = tmp_path_factory.mktemp("viewer")
    running = open_viewer(open_result(film_result(folder / "b.npz", photo_result(folder / "a.npz"))), port=0)
    yield running
    running.server.stop()


def test_a_taken_port_is_said(viewer):
    from twohands.web.viewer import open_viewer

    with pytest.raises(UserError, match="--port"):
        open_viewer(viewer.stored, port=viewer.server.get_port())


def test_the_browser_shows_hands_that_move_and_toggles_that_work(viewer):
    def scene(picture: np.ndarray) -> np.ndarray:
        """Without the panel, and viser's word about software rendering."""
        return picture[190:, :700].astype(int)

    def coloured(picture: np.ndarray) -> tuple[int, int]:
        difference = scene(picture)[..., 2] - scene(picture)[..., 0]
        return int((difference > 60).sum()), int((difference < -60).sum())

    def until(true, seconds: float = 40.0) -> np.ndarray:
        end = time.monotonic() + seconds
        while True:
            picture = screenshot(page)
            if true(picture):
                return picture
            assert time.monotonic() < end, "the browser does not show it"
            time.sleep(0.3)

    with chromium() as page:
        page.get(f"http://127.0.0.1:{viewer.server.get_port()}/")
        until(lambda p: min(coloured(p)) > 300)
        time.sleep(1.0)  # the meshes arrive one after the other
        first = screenshot(page)
        assert "person 0" in page.execute_script("return document.body.textContent")
        assert "Frame" in page.execute_script("return document.body.textContent")

        def centre(picture: np.ndarray) -> float:
            difference = scene(picture)[..., 2] - scene(picture)[..., 0]
            return float(np.nonzero(np.abs(difference) > 60)[1].mean())

        viewer.timeline.value = 4
        viewer.show_frame(4)
        until(lambda p: abs(centre(p) - centre(first)) > 5)
        (client,) = viewer.server.get_clients().values()
        client.camera.position = (0.5, -0.1, 0.3)
        client.camera.look_at = (0.0, 0.0, 0.6)
        turned = until(lambda p: (np.abs(p.astype(int) - first).max(-1) > 30).mean() > 0.02)
        viewer.shown.heat = True
        viewer.show_frame(4)
        until(lambda p: (np.abs(p.astype(int) - turned).max(-1) > 30).mean() > 0.005)
        viewer.shown.mesh = viewer.shown.heat = False
        viewer.show_frame(4)
        until(lambda p: max(coloured(p)) < 200)
        assert console_errors(page) == []
