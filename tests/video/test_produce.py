"""The whole way of a video to its files; interruptions; refinement without leaps; live."""

import dataclasses

import numpy as np
import pytest
import torch
from films import FPS, Film, painted
from test_track import apart, moving

from twohands import pipeline
from twohands.cli import main
from twohands.errors import UserError
from twohands.export import read_motion
from twohands.geometry.rotations import geodesic_angle_rad, rotvec_to_matrix
from twohands.hands.transfer import keypoint_distance_m
from twohands.schema import HAND_FILLED
from twohands.video.media import FilmWriter, open_source
from twohands.video.produce import VideoOptions, _Parts, overlay_frame, produce
from twohands.video.reconstruct import LiveHands, VideoReader, joined_motions, reconstruct_video
from twohands.video.settle import Readings, in_other_model, shared_shape


@pytest.fixture(scope="module")
def still() -> Film:
    """Hands that tremble, frame by frame, where they are."""
    return Film(moving(apart)[:24], noise=0.03)


@pytest.fixture
def path(tmp_path, still):
    with FilmWriter(tmp_path / "wave.mp4", FPS, 160, 120) as film:
        for k in range(24):
            film.write(k / FPS, painted(k))
    return tmp_path / "wave.mp4"


def jitter(points: torch.Tensor) -> float:
    return float(points.diff(n=2, dim=0).norm(dim=-1).mean())


def test_a_video_becomes_stiller_and_no_worse(still):
    motion = reconstruct_video(still.frames(), still.pipeline(), still.camera, refine=False)
    reader = VideoReader(still.pipeline(), still.camera, "caller", 160, 120)
    raw = Readings.of(list(motion.time_s), [reader.read(f) for f in still.frames()])
    read_m = still.model.pose_hands(raw.parameters).keypoints()[:, 0]
    assert jitter(motion.keypoints_m[:, 0]) < 0.3 * jitter(read_m)
    error, before = ((m - still.keypoints).norm(dim=-1).mean() for m in (motion.keypoints_m[:, 0], read_m))
    assert error < 0.7 * before
    assert float(motion.parameters.shape.std(0).max()) < 1e-6, "one shape for all frames"


def test_live_is_stiller_too_one_frame_late(still):
    live = LiveHands(VideoReader(still.pipeline(), still.camera, "caller", 160, 120), refine=False)
    parts = [live.push(frame) for frame in still.frames()]
    assert parts[0] is None
    assert [float(p.time_s[0]) for p in parts[1:3]] == pytest.approx([0, 1 / FPS])
    motion = joined_motions([p for p in [*parts, live.flush()] if p is not None])
    assert len(motion.time_s) == 24
    truth_jitter = jitter(still.keypoints)
    reader = VideoReader(still.pipeline(), still.camera, "caller", 160, 120)
    raw = Readings.of(list(motion.time_s), [reader.read(f) for f in still.frames()])
    assert truth_jitter < jitter(motion.keypoints_m[4:, 0]) < 0.6 * jitter(still.model.pose_hands(raw.parameters).keypoints()[4:, 0])


def test_the_command_writes_everything(path, still, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(pipeline, "load", lambda device, prior, mano: still.pipeline())
    out = tmp_path / "out"
    assert main(["video", str(path), "--out", str(out)]) == 0
    names = ["wave.glb", "wave.npz", "wave.overlay.mp4", "wave.person0_left.bvh", "wave.person0_right.bvh"]
    assert sorted(p.name for p in out.iterdir()) == names
    motion = read_motion(out / "wave.npz")
    assert len(motion.time_s) == 24
    shown = list(open_source(str(out / "wave.overlay.mp4")).frames())
    assert np.allclose([f.time_s for f in shown], motion.time_s, atol=1e-3)
    colour = shown[12].image[:, :80].reshape(-1, 3).astype(int)
    assert (colour[:, 2] - colour[:, 0] > 60).any(), "a blue left hand is on the left"
    assert "24 frames" in capsys.readouterr().out


def test_hours_of_live_video_do_not_fill_the_memory(still):
    """What is kept of a frame that cannot change any more is its motion, and pieces of that are put together."""
    live = LiveHands(VideoReader(still.pipeline(), still.camera, "caller", 160, 120, keep=5), refine=False)
    parts, apart_too = _Parts(together=4), []
    for k, frame in enumerate(still.frames()):
        part = live.push(frame if k % 7 else dataclasses.replace(frame, image=None, trouble="lost"))
        if part is not None:
            parts.add(part)
            apart_too.append(part)
        assert len(live.reader.readings) == len(live.reader.times_s) <= 5
        assert len(parts) < 4 + k // 4
    whole, plain = parts.motion(), joined_motions(apart_too)
    assert torch.equal(whole.keypoints_m, plain.keypoints_m)
    assert torch.equal(whole.hand_state, plain.hand_state)
    assert [trouble.split(" (")[0] for trouble in live.reader.troubles] == ["frame 0", "frame 7", "frame 14", "frame 21"]
    (person,) = live._people
    live._forget(100.0)
    assert list(live._people) == [person], "who is in the window stays"
    live._window = []
    live._forget(100.0)
    assert not live._people
    assert not live._hands


@pytest.mark.parametrize("live", [False, True])
def test_an_interruption_leaves_what_was_read(path, still, tmp_path, live):
    seen = []

    def stop(stage: str) -> None:
        seen.append(stage)
        if len(seen) == 10:
            raise KeyboardInterrupt

    produced = produce(open_source(str(path)), still.pipeline(), tmp_path, VideoOptions(live=live), stop)
    assert produced.interrupted
    assert 8 <= len(read_motion(tmp_path / "wave.npz").time_s) <= 10
    assert (tmp_path / "wave.glb").is_file()
    if live:
        assert sum(f.image is not None for f in open_source(str(tmp_path / "wave.overlay.mp4")).frames()) >= 7


def test_a_kill_leaves_the_last_saved_state(path, still, tmp_path):
    class Killed(BaseException):
        pass

    def kill(stage: str) -> None:
        if (tmp_path / "wave.npz").is_file():
            raise Killed

    with pytest.raises(Killed):
        produce(open_source(str(path)), still.pipeline(), tmp_path, VideoOptions(save_every_s=0.0), kill)
    assert len(read_motion(tmp_path / "wave.npz").time_s) >= 1
    with np.load(tmp_path / "wave.npz") as file:
        assert not bool(file["complete"])


def test_refinement_comes_and_goes_without_a_leap():
    def closing(t: float):
        gap = 0.02 + 0.16 * abs(2 * t - 1)
        return [[-gap / 2, 0.06, 0.6], [gap / 2, 0.06, 0.6]]

    film = Film(moving(closing))
    plain = reconstruct_video(film.frames(), film.pipeline(), film.camera, refine=False)
    refined = reconstruct_video(film.frames(), film.pipeline(), film.camera)
    change = refined.parameters.translation_m - plain.parameters.translation_m
    assert float(plain.penetration_cm3.max()) > 1
    assert float(change.abs().max()) > 0.015, "stage 2 asks for 2 cm"
    assert float(change[0].abs().max()) == 0
    step = change.diff(dim=0).abs().max()
    assert float(step) < 0.008, "and it comes in several frames"
    assert bool(refined.refined.any())
    deep = plain.penetration_cm3[:, 0] > 0
    assert float(refined.penetration_cm3[deep].mean()) < float(plain.penetration_cm3[deep].mean())


@pytest.mark.parametrize("refine", [True, False])
@pytest.mark.parametrize("live", [True, False])
def test_what_is_filtered_is_what_stage_2_guesses_of_each_reading(refine, live):
    """Of both hands of a person; of one by itself there is nothing to guess."""
    film = Film(moving(apart)[:20], hidden={(k, 0) for k in range(10, 20)}, guessed_m=0.01)
    if live:
        hands = LiveHands(VideoReader(film.pipeline(), film.camera, "caller", 160, 120), refine=refine)
        motion = joined_motions([p for p in [*map(hands.push, film.frames()), hands.flush()] if p is not None])
    else:
        motion = reconstruct_video(film.frames(), film.pipeline(), film.camera, refine=refine)
    lower = (motion.keypoints_m[:, 0, 1] - film.keypoints[:, 1])[:, 0, 1]
    assert float(lower[5]) == pytest.approx(0.01 * refine, abs=0.002)
    assert float(lower[19]) == pytest.approx(0.0, abs=0.002)


def test_filled_hands_are_pale(still):
    film = dataclasses.replace(still, noise=0.0, broken={10})
    motion = reconstruct_video(film.frames(), film.pipeline(), film.camera, refine=False)
    assert int(motion.hand_state[10, 0, 0]) == HAND_FILLED
    image = painted(9)
    strong, pale = (overlay_frame(motion, k, image, film.model).astype(int) for k in (9, 10))
    drawn = np.abs(strong - image).sum(-1) > 60
    assert np.abs(pale - image)[drawn].mean() < 0.6 * np.abs(strong - image)[drawn].mean()


def test_a_person_has_one_shape(still):
    reader = VideoReader(still.pipeline(), still.camera, "caller", 160, 120)
    readings = [reader.read(f) for f in still.frames()]
    for k, frame in enumerate(readings):
        shape = frame[0].parameters.shape + (5.0 if k == 3 else 0.1 * (-1) ** k)
        frame[0] = dataclasses.replace(frame[0], parameters=dataclasses.replace(frame[0].parameters, shape=shape))
    assert shared_shape(Readings.of(list(range(24)), readings)).abs().max() < 0.2, "a median, not a mean"


def test_the_same_motion_in_another_model(still, hand):
    from twohands.hands.model import HandModel

    other = HandModel(dataclasses.replace(hand.data, name="other", v_template=hand.data.v_template * 1.05))
    motion = reconstruct_video(still.frames(), still.pipeline(), still.camera, refine=False)
    moved = in_other_model(motion.parameters, motion.hand_present, hand, other, 32)
    assert float(keypoint_distance_m(moved[:, 0], other, motion.parameters[:, 0], hand).mean()) < 0.003
    assert float(moved.shape.std(0).max()) < 0.01
    turned = geodesic_angle_rad(rotvec_to_matrix(moved.pose[:, 0, :, 0]), rotvec_to_matrix(motion.parameters.pose[:, 0, :, 0]))
    assert float(turned.max()) < 0.1


def test_nothing_to_read_is_said(tmp_path, still):
    (tmp_path / "a.png").write_bytes(b"no")
    with pytest.raises(UserError, match="no picture"):
        produce(open_source(str(tmp_path)), still.pipeline(), tmp_path, VideoOptions())
