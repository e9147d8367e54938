"""Frames to hands over time: offline, from all frames together, or live, one frame behind the camera."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from twohands.geometry.camera import Camera
from twohands.geometry.rotations import matrix_to_rotvec, rotvec_to_matrix
from twohands.hands.parameters import HandParameters
from twohands.pipeline import Pipeline
from twohands.schema import HAND_ABSENT, HAND_FILLED, HAND_SEEN, HandMotion
from twohands.video.hand import Reading
from twohands.video.media import Frame
from twohands.video.settle import Readings, SettleConfig, guessed, reading_noise, refit, settle, shared_shape, volumes_cm3
from twohands.video.smooth import LiveHand
from twohands.video.track import Tracker
from twohands.video.track_config import TrackConfig


@dataclass
class VideoReader:
    """The first half of the way: reads the hands of each frame as it comes. `motion` turns all that was read into a motion; it may be asked
    at any time, also in between."""

    pipeline: Pipeline
    camera: Camera
    camera_source: str
    width_px: int
    height_px: int
    track: TrackConfig = field(default_factory=TrackConfig)
    keep: int | None = None
    """So many frames are remembered; all of them by default. Who looks on for hours needs no more than can still change."""
    times_s: list[float] = field(default_factory=list)
    readings: list[list[Reading]] = field(default_factory=list)
    corrected: list[tuple[float, Reading]] = field(default_factory=list)
    """What the last frame has changed in readings of earlier times."""
    troubles: list[str] = field(default_factory=list)
    """What was wrong with which frame."""
    count: int = 0
    """Frames so far."""

    def __post_init__(self) -> None:
        self.tracker = Tracker(self.pipeline, self.camera, self.track)

    def read(self, frame: Frame) -> list[Reading]:
        """The next frame's hands, not smoothed yet. A frame without a picture is a gap, and is noted."""
        image, trouble = frame.image, frame.trouble
        if image is not None and image.shape[:2] != (self.height_px, self.width_px):
            trouble = f"it has {image.shape[1]} x {image.shape[0]} pixels, the first one {self.width_px} x {self.height_px}"
            image = None
        if image is None:
            self.troubles.append(f"frame {self.count} ({frame.time_s:.2f} s): {trouble}")
            self.tracker.skip()
            found = []
        else:
            found = self.tracker.step(image, frame.time_s)
        self.count += 1
        self.times_s.append(frame.time_s)
        self.readings.append(found)
        self.corrected, self.tracker.corrections = self.tracker.corrections, []
        for time_s, better in self.corrected:
            if time_s in self.times_s:
                k = self.times_s.index(time_s)
                self.readings[k] = with_correction(self.readings[k], better)
        if self.keep is not None:
            del self.times_s[: -self.keep], self.readings[: -self.keep]
        return found

    def motion(self, refine: bool = True, config: SettleConfig | None = None) -> HandMotion:
        """Everything read so far, settled."""
        # An interruption may have come between a time and its readings.
        readings = Readings.of(self.times_s[: len(self.readings)], self.readings)
        return settle(
            readings, self.pipeline, self.camera, self.camera_source, self.width_px, self.height_px, refine, config or SettleConfig()
        )


def with_correction(readings: list[Reading], better: Reading) -> list[Reading]:
    """A frame's readings, that of one person replaced, or added."""
    return [*(reading for reading in readings if reading.person != better.person), better]


def reconstruct_video(
    frames: Iterable[Frame | UInt8[np.ndarray, "height width 3"]],
    pipeline: Pipeline,
    camera: Camera,
    camera_source: str = "caller",
    frames_per_second: float = 30.0,
    refine: bool = True,
    progress: Callable[[], object] | None = None,
) -> HandMotion:
    """The hands of everyone in a video, smoothed in both directions. Plain arrays are taken to be evenly spaced. ValueError without a
    picture."""
    reader: VideoReader | None = None
    waiting: list[Frame] = []
    for index, given in enumerate(frames):
        frame = given if isinstance(given, Frame) else Frame(index / frames_per_second, given)
        waiting.append(frame)
        if reader is None and frame.image is not None:
            height, width = frame.image.shape[:2]
            reader = VideoReader(pipeline, camera, camera_source, width, height)
        if reader is not None:
            for known in waiting:
                reader.read(known)
            waiting.clear()
        if progress is not None:
            progress()
    if reader is None:
        raise ValueError("there is no picture in this video; give at least one frame with an image")
    return reader.motion(refine)


@dataclass(frozen=True)
class LiveConfig:
    """How the live mode looks back."""

    window: int = 24
    """Frames kept, in case a later one shows that their readings were wrong: then they are filtered anew."""
    shape_frames: int = 90
    """Readings of a person that decide the shape; then it is fixed."""
    fade_s: float = 0.08
    """Time constant with which a change by stage 2 comes and goes."""
    settle: SettleConfig = field(default_factory=SettleConfig)


@dataclass
class _LivePerson:
    """What is remembered of one person."""

    readings: dict[float, Reading] = field(default_factory=dict)
    """Those that decide the shape, by time."""
    seen_s: float = 0.0
    shape: Tensor | None = None
    turn: Tensor = field(default_factory=lambda: torch.zeros(2, 16, 3))
    shift: Tensor = field(default_factory=lambda: torch.zeros(2, 3))


class LiveHands:
    """Hands as they come. Each answer is one frame old: the frame after it has shown whether it was a slip."""

    def __init__(self, reader: VideoReader, refine: bool = True, config: LiveConfig = LiveConfig()) -> None:
        self.reader, self.refine, self.config = reader, refine, config
        # What has been shown cannot be mended.
        reader.tracker.past.kept_bytes = 0
        self._people: dict[int, _LivePerson] = {}
        self._hands: dict[tuple[int, int], LiveHand] = {}
        """By person and side."""
        self._window: list[tuple[float, list[Reading]]] = []

    def push(self, frame: Frame) -> HandMotion | None:
        """Takes a frame; answers with the motion of one frame, that before it, or None for the first."""
        found = [self._shaped(reading, frame.time_s) for reading in self.reader.read(frame)]
        for then, better in self.reader.corrected:
            self._window = [(t, with_correction(old, self._shaped(better, t)) if t == then else old) for t, old in self._window]
        self._window = [*self._window[1 - self.config.window :], (frame.time_s, found)]
        if self.reader.corrected:
            self._hands = {}
        for time_s, readings in self._window if self.reader.corrected else self._window[-1:]:
            self._filter(time_s, readings)
        self._forget(frame.time_s)
        return self._settled(len(self._window) - 2) if len(self._window) > 1 else None

    def _forget(self, time_s: float) -> None:
        """Lets go of people who will come back as somebody else, if they do."""
        known = {reading.person for _, readings in self._window for reading in readings}
        gone = [n for n, p in self._people.items() if n not in known and time_s - p.seen_s > self.reader.track.remember_s]
        for number in gone:
            del self._people[number]
        self._hands = {key: hand for key, hand in self._hands.items() if key[0] in self._people}

    def flush(self) -> HandMotion | None:
        """The last frame, which no other follows."""
        return self._settled(len(self._window) - 1) if self._window else None

    def _filter(self, time_s: float, readings: list[Reading]) -> None:
        """Takes a frame's readings to the hands' filters."""
        model, read = self.reader.pipeline.network_hand, set()
        for reading in readings:
            noise = reading_noise(Readings.of([0.0], [[reading]]))[0, 0]
            wrist = model.with_shape(reading.parameters.shape).joints_rest_m[:, 0] + reading.parameters.translation_m
            rotation = rotvec_to_matrix(reading.parameters.pose.double()).numpy()
            for side in reading.seen.nonzero()[:, 0].tolist():
                key = (reading.person, side)
                hand = self._hands.setdefault(key, LiveHand(self.config.settle.smooth))
                hand.push(time_s, rotation[side], wrist[side].double().numpy(), noise[side])
                read.add(key)
        for key, hand in self._hands.items():
            if key not in read:
                hand.miss(time_s)

    def _shaped(self, reading: Reading, time_s: float) -> Reading:
        """The reading of this time with its person's shape, as far as that is known by now."""
        person = self._people.setdefault(reading.person, _LivePerson())
        person.seen_s = max(person.seen_s, time_s)
        if not bool(reading.seen.any()):
            person.readings.pop(time_s, None)
            return reading
        if len(person.readings) < self.config.shape_frames or time_s in person.readings:
            person.readings[time_s] = reading
            person.shape = shared_shape(Readings.of(list(person.readings), [[r] for r in person.readings.values()]))
        assert person.shape is not None
        one, pipeline = Readings.of([0.0], [[reading]]), self.reader.pipeline
        parameters = refit(one, person.shape, pipeline.network_hand, 1)
        if self.refine and pipeline.refiner is not None:
            parameters = guessed(one, parameters, pipeline.refiner, pipeline.network_hand, 1)
        return replace(reading, parameters=parameters[0, 0])

    @torch.no_grad()
    def _settled(self, at: int) -> HandMotion:
        """The frame at this place of the window."""
        reader = self.reader
        model = reader.pipeline.network_hand
        readings = Readings.of([t for t, _ in self._window], [r for _, r in self._window])
        now = slice(at, at + 1)
        hands, state = self._filtered(readings, at)
        confidence, score = readings.keypoint_confidence[now], readings.score[now]
        paired = (state != HAND_ABSENT).all(-1)
        before = volumes_cm3(hands, paired, model, reader.camera)
        after, refined = before, torch.zeros_like(paired)
        if self.refine and reader.pipeline.refiner is not None:
            hands, refined = self._refined(hands, before, paired, confidence, readings, at)
            if refined.any():
                after = volumes_cm3(hands, paired, model, reader.camera)
        keypoints = model.pose_hands(hands).keypoints()
        present = (state != HAND_ABSENT)[..., None, None]
        return HandMotion(
            time_s=readings.time_s[now],
            hand_state=state,
            score=torch.where(state == HAND_SEEN, score, torch.where(state == HAND_FILLED, 0.5, 0.0)),
            parameters=hands,
            keypoints_m=torch.where(present, keypoints, 0.0),
            keypoint_confidence=confidence,
            penetration_cm3=after,
            penetration_before_cm3=before,
            refined=refined,
            person=readings.person,
            camera=reader.camera,
            camera_source=reader.camera_source,
            prior_source=reader.pipeline.prior_source,
            hand_model=model.name,
            width_px=reader.width_px,
            height_px=reader.height_px,
        )

    def _filtered(self, readings: Readings, at: int) -> tuple[HandParameters, Tensor]:
        """The hands of this place of the window, and their states."""
        model, time_s = self.reader.pipeline.network_hand, float(readings.time_s[at])
        hands = HandParameters.zeros(1, len(readings.person))
        state = torch.full((1, len(readings.person), 2), HAND_ABSENT, dtype=torch.uint8)
        for (number, side), live in self._hands.items():
            found, person = live.hand(time_s), self._people[number]
            if found is None or number not in readings.person or person.shape is None:
                continue
            n = readings.person.index(number)
            rotation, wrist_m = found
            hands.pose[0, n, side] = matrix_to_rotvec(torch.from_numpy(rotation)).float()
            hands.shape[0, n, side] = person.shape[0]
            hands.translation_m[0, n, side] = torch.from_numpy(wrist_m).float()
            state[0, n, side] = HAND_SEEN if readings.seen[at, n, side] else HAND_FILLED
        rest = model.with_shape(hands.shape).joints_rest_m[..., 0, :]
        hands.translation_m[state != HAND_ABSENT] -= rest[state != HAND_ABSENT]
        return hands, state

    def _refined(
        self, hands: HandParameters, before: Tensor, paired: Tensor, confidence: Tensor, readings: Readings, at: int
    ) -> tuple[HandParameters, Tensor]:
        """Stage 2, whose changes come and go within a few frames."""
        step_s = float(readings.time_s[at] - readings.time_s[max(0, at - 1)]) or 1 / 30
        share = 1 - float(np.exp(-step_s / self.config.fade_s))
        pose, place, moved = hands.pose.clone(), hands.translation_m.clone(), torch.zeros_like(paired)
        refiner = self.reader.pipeline.refiner
        assert refiner is not None
        for n, number in enumerate(readings.person):
            person = self._people[number]
            turn, shift = torch.zeros(2, 16, 3), torch.zeros(2, 3)
            if not bool(paired[0, n]):
                person.turn, person.shift = turn, shift
                continue
            if float(before[0, n]) > 0:
                answer = refiner.projector.refine(self.reader.pipeline.network_hand, hands[:, n], confidence[:, n])
                if bool(answer.refined[0]):
                    cleaner = answer.parameters.to("cpu")
                    turn = matrix_to_rotvec(rotvec_to_matrix(pose[0, n]).mT @ rotvec_to_matrix(cleaner.pose[0]))
                    shift = cleaner.translation_m[0] - place[0, n]
            person.turn = person.turn + share * (turn - person.turn)
            person.shift = person.shift + share * (shift - person.shift)
            pose[0, n] = matrix_to_rotvec(rotvec_to_matrix(pose[0, n]) @ rotvec_to_matrix(person.turn))
            place[0, n] = place[0, n] + person.shift
            moved[0, n] = bool(person.turn.abs().max() > 1e-4) or bool(person.shift.abs().max() > 1e-5)
        return replace(hands, pose=pose, translation_m=place), moved


def joined_motions(parts: list[HandMotion]) -> HandMotion:
    """One motion of consecutive pieces; a person who is missing in a piece is absent there. ValueError without pieces."""
    if not parts:
        raise ValueError("there is no motion to join; push at least two frames")
    people = tuple(dict.fromkeys(number for part in parts for number in part.person))
    frames = sum(len(part.time_s) for part in parts)
    template = parts[0]

    def spread(pick: Callable[[HandMotion], Tensor]) -> Tensor:
        first = pick(template)
        whole = torch.zeros(frames, len(people), *first.shape[2:], dtype=first.dtype)
        start = 0
        for part in parts:
            values = pick(part)
            for n, number in enumerate(part.person):
                whole[start : start + len(values), people.index(number)] = values[:, n]
            start += len(values)
        return whole

    return replace(
        template,
        time_s=torch.cat([part.time_s for part in parts]),
        hand_state=spread(lambda m: m.hand_state),
        score=spread(lambda m: m.score),
        parameters=HandParameters(
            spread(lambda m: m.parameters.pose), spread(lambda m: m.parameters.shape), spread(lambda m: m.parameters.translation_m)
        ),
        keypoints_m=spread(lambda m: m.keypoints_m),
        keypoint_confidence=spread(lambda m: m.keypoint_confidence),
        penetration_cm3=spread(lambda m: m.penetration_cm3),
        penetration_before_cm3=spread(lambda m: m.penetration_before_cm3),
        refined=spread(lambda m: m.refined),
        person=people,
    )
