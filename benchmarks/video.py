"""Video against frame by frame, on synthetic clips with exact truth.

    python benchmarks/video.py [--seeds 5] [--frames 60] [--size 320] [--kinds crossing clasping fast leaving] [--prior encoder|teacher]
        [--boxes detector|truth] [--photos FILE ...] [--films FILE|FOLDER ... [--fps 30] [--out DIR]]

The clips (crossing and clasping hands, fast ones with motion blur, one that leaves the picture and comes back) are made from their seeds. Three
ways of reading them are judged: each frame as a photo, the whole video offline, and live. MPJPE (wrist-aligned, no scale) over the frames that all
ways found, over each way's own, and over all with 150 mm for a hand that is missed, acceleration error and jitter (jerk; the truth's own stands
beside it) of the joints in the camera frame, hands found, frames with exchanged hands, changes of the person's number, calls of the detector, and
seconds. With `--boxes truth` a detector that knows the true boxes takes the place of ours, for all ways alike. These are scores on synthetic clips.

`--photos` takes real photos in their place and moves a window over each, up and down, to and fro, nearer and farther, with a sensor's noise: a
real picture whose hands are known to keep their pose. There is no truth; what trembles then is what the program adds. `--films` takes real
films, or folders of their frames; there the hands' own jerk is part of the numbers. With `--out` each way's overlays go there, a picture a frame."""

import argparse
import itertools
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

import twohands
from twohands.evaluation.metrics import mpjpe_mm
from twohands.evaluation.motion import acceleration_error_m_s2, jitter_m_s3, swapped_frames, switches
from twohands.geometry.photo import choose_camera
from twohands.hands.parameters import HandParameters
from twohands.joints import OPENPOSE21_BONES
from twohands.palette import HAND_RGB
from twohands.pipeline import Pipeline
from twohands.schema import Detection, HandMotion
from twohands.synth.clips import KINDS, Clip, ClipKnobs, make_clip
from twohands.video.media import Frame, open_source
from twohands.video.reconstruct import LiveHands, VideoReader, joined_motions


@dataclass
class Answer:
    """What one way says of a clip; axis `hand` is (left, right) of the person who matches best, chosen frame by frame."""

    keypoints_mm: np.ndarray
    keypoints_xy: np.ndarray
    found: np.ndarray
    labels: list[int | None]
    seconds: float
    detections: int


class PerfectDetector:
    """Finds exactly the hands that a clip's frames show, told apart by their pixels."""

    def __init__(self, clip: Clip) -> None:
        self.clip = clip
        self.frame = {image.numpy().tobytes(): k for k, image in enumerate(clip.images)}

    def __call__(self, image: np.ndarray) -> Detection:
        k = self.frame[image.tobytes()]
        xy, there = self.clip.keypoints_xy[k], self.clip.hand_valid[k]
        box = torch.cat([xy.amin(1), xy.amax(1)], -1)
        direction = torch.nn.functional.normalize(xy[:, 9] - xy[:, 0], dim=-1)
        count = int(there.sum())
        return Detection(box[there], torch.ones(count), torch.tensor([0.02, 0.98])[there], direction[there], (0,) * count)


def empty(clip: Clip) -> Answer:
    count = len(clip.time_s)
    nothing = (count, 2, 21)
    return Answer(np.full((*nothing, 3), np.nan), np.full((*nothing, 2), np.nan), np.zeros((count, 2), bool), [None] * count, 0.0, 0)


def take(answer: Answer, frame: int, clip: Clip, people: list[tuple[int, np.ndarray, np.ndarray]]) -> None:
    """Of (number, present, keypoints in m) the person with most of the true hands, nearest to them."""
    true_xy, valid = clip.keypoints_xy[frame].numpy(), clip.hand_valid[frame].numpy()

    def cost(person: tuple[int, np.ndarray, np.ndarray]) -> tuple[int, float]:
        _, present, points = person
        xy = clip.camera.project(torch.from_numpy(np.where(points == 0, 1.0, points)).float()).numpy()
        both = present & valid
        return -int(both.sum()), float(np.linalg.norm(xy - true_xy, axis=-1)[both].sum())

    if people:
        number, present, points = min(people, key=cost)
        answer.found[frame] = present
        answer.labels[frame] = number
        answer.keypoints_mm[frame, present] = points[present] * 1000
        answer.keypoints_xy[frame, present] = clip.camera.project(torch.from_numpy(points[present]).float()).numpy()


def by_frame(model: Pipeline, clip: Clip) -> Answer:
    answer, started = empty(clip), time.perf_counter()
    for k in range(len(clip.time_s)):
        image = clip.images[k].numpy()
        result = model.reconstruct(image, intrinsics=clip.camera.matrix().numpy())
        take(answer, k, clip, [(p.person, p.hand_present.numpy(), p.keypoints_m.numpy()) for p in result.people])
    answer.seconds, answer.detections = time.perf_counter() - started, len(clip.time_s)
    return answer


def frames(clip: Clip) -> list[Frame]:
    return [Frame(float(t), image.numpy()) for t, image in zip(clip.time_s, clip.images, strict=True)]


def of_motion(motion: HandMotion, clip: Clip, seconds: float, detections: int) -> Answer:
    answer = empty(clip)
    answer.seconds, answer.detections = seconds, detections
    for k in range(len(clip.time_s)):
        present = motion.hand_present[k].numpy()
        people = [(motion.person[n], present[n], motion.keypoints_m[k, n].numpy()) for n in range(len(motion.person)) if present[n].any()]
        take(answer, k, clip, people)
    return answer


def offline(model: Pipeline, clip: Clip) -> Answer:
    started = time.perf_counter()
    height, width = clip.images.shape[1:3]
    reader = VideoReader(model, clip.camera, "caller", width, height)
    for frame in frames(clip):
        reader.read(frame)
    motion = reader.motion()
    return of_motion(motion, clip, time.perf_counter() - started, reader.tracker.detections)


def live(model: Pipeline, clip: Clip) -> Answer:
    started = time.perf_counter()
    height, width = clip.images.shape[1:3]
    hands = LiveHands(VideoReader(model, clip.camera, "caller", width, height))
    parts = [hands.push(frame) for frame in frames(clip)] + [hands.flush()]
    motion = joined_motions([part for part in parts if part is not None])
    return of_motion(motion, clip, time.perf_counter() - started, hands.reader.tracker.detections)


WAYS: dict[str, Callable[[Pipeline, Clip], Answer]] = {"by frame": by_frame, "offline": offline, "live": live}


WORST_MM = 150.0
"""Error of a hand that is missed, in the mean over all frames; no hand counts for more."""


def judged(answer: Answer, clip: Clip, everywhere: np.ndarray) -> dict[str, float]:
    """`everywhere`: (frame, hand), annotated and found by every way."""
    true_mm, time_s, valid = clip.keypoints_m.numpy() * 1000, clip.time_s.numpy(), clip.hand_valid.numpy()
    error = mpjpe_mm(answer.keypoints_mm, true_mm)
    found = answer.found & valid
    moving = [(side, found[:, side]) for side in (0, 1)]
    return {
        "mpjpe_mm": float(error[everywhere].mean()) if everywhere.any() else float("nan"),
        "mpjpe_found_mm": float(error[found].mean()) if found.any() else float("nan"),
        "mpjpe_all_mm": float(np.where(found, np.minimum(error, WORST_MM), WORST_MM)[valid].mean()),
        "found": float(found.sum() / valid.sum()),
        "extra": int((answer.found & ~valid).sum()),
        "accel_error_m_s2": float(
            np.nanmean([acceleration_error_m_s2(answer.keypoints_mm[:, s], true_mm[:, s], time_s, v) for s, v in moving])
        ),
        "jitter_m_s3": float(np.nanmean([jitter_m_s3(answer.keypoints_mm[:, s], time_s, v) for s, v in moving])),
        "true_jitter_m_s3": float(np.nanmean([jitter_m_s3(true_mm[:, s], time_s, v) for s, v in moving])),
        "swapped": int(swapped_frames(answer.keypoints_xy, clip.keypoints_xy.numpy(), found).sum()),
        "switches": switches(answer.labels),
        "detections": answer.detections,
        "seconds": answer.seconds,
    }


FRAMES_PER_SECOND = 30.0
WINDOW_PX = (320, 240)
NOISE = 2.0
"""Standard deviation of a sensor's noise, grey levels."""


def swayed(photo: Path, count: int) -> list[np.ndarray]:
    """A window that sways over a photo."""
    image = Image.open(photo).convert("RGB")
    width, height = WINDOW_PX
    noise = np.random.default_rng(0)
    pictures = []
    for k in range(count):
        t = k / FRAMES_PER_SECOND
        share = 0.85 + 0.1 * np.sin(1.7 * t)
        w, h = image.width * share, image.width * share * height / width
        if h > image.height:
            w, h = image.height * share * width / height, image.height * share
        left = (image.width - w) * (0.5 + 0.45 * np.sin(2.3 * t))
        top = (image.height - h) * (0.5 + 0.45 * np.cos(1.9 * t))
        seen = image.resize(WINDOW_PX, Image.Resampling.BICUBIC, (left, top, left + w, top + h))
        pictures.append((np.asarray(seen) + noise.normal(0, NOISE, (height, width, 3))).round().clip(0, 255).astype(np.uint8))
    return pictures


def unknown(images: list[np.ndarray], time_s: np.ndarray) -> Clip:
    """A film of which nothing is known."""
    count, (height, width) = len(images), images[0].shape[:2]
    camera, _ = choose_camera(width, height, None, None, None)
    points = torch.zeros(count, 2, 21, 3)
    nothing = torch.zeros(count, 2, dtype=torch.bool)
    pictures = torch.from_numpy(np.stack(images))
    return Clip(pictures, torch.from_numpy(time_s), camera, HandParameters.zeros(count), points, points[..., :2], nothing)


def film(source: str, frames_per_second: float | None, count: int) -> Clip:
    """The first frames of a film or of a folder of frames."""
    found = [frame for frame in itertools.islice(open_source(source, frames_per_second).frames(), count) if frame.image is not None]
    return unknown([frame.image for frame in found if frame.image is not None], np.array([frame.time_s for frame in found]))


def without_truth(model: Pipeline, name: str, clip: Clip, ways: list[str], out: Path | None) -> None:
    """What each way makes of a real film: jerk of all joints in the camera frame and relative to the wrist, hands and persons."""
    time_s = clip.time_s.numpy()
    answers = {way: WAYS[way](model, clip) for way in ways}
    everywhere = np.logical_and.reduce([answer.found for answer in answers.values()])
    for way, answer in answers.items():

        def jerk(points: np.ndarray, found: np.ndarray) -> float:
            return float(np.nanmean([jitter_m_s3(points[:, side], time_s, found[:, side]) for side in (0, 1)]))

        in_hand = answer.keypoints_mm - answer.keypoints_mm[:, :, :1]
        told = {
            "left": int(answer.found[:, 0].sum()),
            "right": int(answer.found[:, 1].sum()),
            "jitter_m_s3": jerk(answer.keypoints_mm, answer.found),
            "jitter_in_hand_m_s3": jerk(in_hand, answer.found),
            "jitter_same_frames_m_s3": jerk(answer.keypoints_mm, everywhere),
            "switches": switches(answer.labels),
            "detections": answer.detections,
        }
        print(f"{name} {way:9s} " + "  ".join(f"{key} {value:.3g}" for key, value in told.items()), flush=True)
        if out is not None:
            drawn(answer, clip, out / f"{name}_{way.replace(' ', '_')}")


def drawn(answer: Answer, clip: Clip, folder: Path) -> None:
    """Skeletons over the frames."""
    folder.mkdir(parents=True, exist_ok=True)
    for k in range(len(clip.time_s)):
        picture = Image.fromarray(clip.images[k].numpy())
        pen = ImageDraw.Draw(picture)
        for side, colour in enumerate(HAND_RGB):
            if answer.found[k, side]:
                for a, b in OPENPOSE21_BONES:
                    pen.line([*answer.keypoints_xy[k, side, a], *answer.keypoints_xy[k, side, b]], fill=colour, width=2)
        picture.save(folder / f"{k:04d}.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[5])
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--size", type=int, default=320)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS))
    parser.add_argument("--prior", choices=("encoder", "teacher"), default="encoder")
    parser.add_argument("--boxes", choices=("detector", "truth"), default="detector")
    parser.add_argument("--photos", type=Path, nargs="+", default=[])
    parser.add_argument("--films", nargs="+", default=[])
    parser.add_argument("--fps", type=float)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    model = twohands.load(prior=args.prior)
    for photo in args.photos:
        clip = unknown(swayed(photo, args.frames), np.arange(args.frames) / FRAMES_PER_SECOND)
        without_truth(model, photo.stem, clip, args.ways, args.out)
    for source in args.films:
        without_truth(model, Path(source).stem, film(source, args.fps, args.frames), args.ways, args.out)
    if args.photos or args.films:
        return
    rows: list[dict[str, object]] = []
    for seed in args.seeds:
        for kind in args.kinds:
            clip = make_clip(kind, seed, ClipKnobs(size_px=args.size, frames=args.frames))
            judge = model if args.boxes == "detector" else replace(model, detector=PerfectDetector(clip))
            answers = {way: WAYS[way](judge, clip) for way in args.ways}
            everywhere = np.logical_and.reduce([clip.hand_valid.numpy(), *(a.found for a in answers.values())])
            for way, answer in answers.items():
                row = judged(answer, clip, everywhere)
                rows.append({"clip": f"{kind} {seed}", "way": way, **row})
                print(f"{kind:9s} {seed:3d} {way:9s} " + "  ".join(f"{k} {v:.3g}" for k, v in row.items()), flush=True)
    for way in args.ways:
        mine = [row for row in rows if row["way"] == way]
        mean = {key: float(np.nanmean([row[key] for row in mine])) for key in mine[0] if key not in ("clip", "way")}
        print(f"{'mean':13s} {way:9s} " + "  ".join(f"{k} {v:.3g}" for k, v in mean.items()))
        rows.append({"clip": "mean", "way": way, **mean})
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
