"""How fast the program is on this machine: every stage alone and all together, memory, the synthetic engine, and beside MediaPipe Hands where
it is installed.

Pictures are synthetic, made from seeds, so that everyone measures the same. Each time is the median over repeats, with the least and the
processor time beside it: on a machine that does other things too, the median is what one waits, and the processor time what the work costs."""

import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from importlib import resources
from pathlib import Path
from statistics import median
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image

from twohands import export
from twohands.errors import UserError
from twohands.geometry.camera import Camera
from twohands.people import hand_pair, sides_of_people
from twohands.pipeline import Pipeline, load
from twohands.record import stack
from twohands.regress.crops import view_pairs
from twohands.regress.infer import Stage1
from twohands.schema import PhotoResult, Sample
from twohands.synth.clips import ClipKnobs, make_clip
from twohands.synth.photo import take_photo
from twohands.synth.rate import EngineRate, engine_rate
from twohands.synth.scene import SceneKnobs
from twohands.view.overlay import draw_overlay

Part = Literal["networks", "engine"]
ENGINE_FRAMINGS: tuple[Literal["close", "wide", "person"], ...] = ("close", "wide", "person")
FILM_PX = (1280, 720)
CLIP_FRAMES = 60
"""Of the film's scene, which then runs back and forth until there are as many as wanted."""
COMPARED, COMPARED_PX = 8, 320
"""Further photos of each kind on which the engines are compared, and their size."""
STAGE_1_NETWORK = "stage 1's network, two hands"
TARGETS = {
    "import_s": ("import", 1.5, "s"),
    "cold_photo_s": ("first result of a photo from a cold start", 3.0, "s"),
    "peak_memory_mb": ("peak memory", 1200.0, "MB"),
    "video_fps": ("video with two hands, 720p, without overlay", 15.0, "frames/s"),
    "stage_1_network_ms": ("stage 1's network, two hands, by OpenVINO", 60.0, "ms"),
}
"""Name, limit and unit; video_fps must be at least, the others at most that."""


@dataclass(frozen=True)
class Timing:
    """Of one thing, over repeats."""

    median_ms: float
    least_ms: float
    cpu_ms: float
    """Processor time of this process, the median: what the work costs, whatever else the machine does. More than the wall's where threads
    work together."""
    repeats: int

    @staticmethod
    def of(seconds: list[float], cpu_seconds: list[float]) -> "Timing":
        return Timing(round(1e3 * median(seconds), 2), round(1e3 * min(seconds), 2), round(1e3 * median(cpu_seconds), 2), len(seconds))

    @staticmethod
    def measure(work: Callable[[], object], repeats: int) -> "Timing":
        """One run to warm up, then `repeats` that count."""
        work()
        seconds, cpu = [], []
        for _ in range(repeats):
            wall, own = time.perf_counter(), time.process_time()
            work()
            seconds.append(time.perf_counter() - wall)
            cpu.append(time.process_time() - own)
        return Timing.of(seconds, cpu)


@dataclass(frozen=True)
class Child:
    """A process that has ended."""

    out: str
    wall_s: float
    cpu_s: float
    peak_mb: float
    """0 where the system does not tell."""


@dataclass
class Report:
    """Everything that was measured; JSON as it stands."""

    machine: dict[str, Any] = field(default_factory=dict)
    targets: dict[str, float] = field(default_factory=dict)
    """Under the names of TARGETS."""
    cold: dict[str, float] = field(default_factory=dict)
    photos: dict[str, dict[str, dict[str, Timing]]] = field(default_factory=dict)
    """Engine, then photo, then stage."""
    alone: dict[str, dict[str, Timing]] = field(default_factory=dict)
    """Engine, then part."""
    found: dict[str, dict[str, tuple[int, int]]] = field(default_factory=dict)
    """Engine, then photo: how many hands were found, and how many there are."""
    engines_differ: dict[str, float] = field(default_factory=dict)
    """How far OpenVINO's and PyTorch's results are apart, see `engines_apart`."""
    video: dict[str, float] = field(default_factory=dict)
    mediapipe: dict[str, Any] = field(default_factory=dict)
    engine: dict[str, EngineRate] = field(default_factory=dict)
    """Of the synthetic engine, by framing."""
    engine_start_s: float = 0.0
    """Processor time of `twohands synth` for one image: imports, compiled routines, assets."""

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1) + "\n"


def scenes(size_px: int) -> dict[str, SceneKnobs]:
    """One hand, two hands apart, clasped ones, near enough to fill half the picture."""

    def close(two_hands: float, interacting: float, fill: tuple[float, float]) -> SceneKnobs:
        return SceneKnobs(
            size_px=size_px,
            two_hands=two_hands,
            interacting=interacting,
            held=0.0,
            occluder=0.0,
            upright=1.0,
            fill_close=fill,
            pairs="fresh",
        )

    return {"one hand": close(0.0, 0.0, (0.5, 0.6)), "two hands": close(1.0, 0.0, (0.6, 0.7)), "clasped": close(1.0, 1.0, (0.5, 0.6))}


SEEDS = {"one hand": 0, "two hands": 0, "clasped": 0}
"""Of each kind the first scene, counted from 0, in which hands are found, all of them and no others: one without would time looking in vain. The
report says what was found."""


def bench_photos(size_px: int = 640) -> dict[str, Sample]:
    """A photo of each kind."""
    return {name: take_photo(knobs, SEEDS[name]) for name, knobs in scenes(size_px).items()}


def as_pixels(sample: Sample) -> UInt8[np.ndarray, "h w 3"]:
    return sample.image.permute(1, 2, 0).contiguous().numpy()


def engines_apart(one: Pipeline, other: Pipeline, pictures: Iterable[UInt8[np.ndarray, "h w 3"]]) -> dict[str, float]:
    """How far two pipelines' hands are apart, by the farthest vertex of each hand: median, 95 %, most. Hands are compared where both find the
    same ones, and the pictures in which they do not are counted."""
    apart_mm: list[float] = []
    count, disagreed = 0, 0
    for image in pictures:
        count += 1
        hands = hands_apart_mm(*(model.reconstruct(image) for model in (one, other)))
        disagreed += hands is None
        apart_mm += hands or []
    middle, most_of_them, most = np.quantile(apart_mm, (0.5, 0.95, 1.0)) if apart_mm else (0.0, 0.0, 0.0)
    return {
        "pictures": count,
        "pictures with other hands": disagreed,
        "hands": len(apart_mm),
        "median mm": round(float(middle), 5),
        "95 % mm": round(float(most_of_them), 5),
        "most mm": round(float(most), 5),
    }


def hands_apart_mm(a: PhotoResult, b: PhotoResult) -> list[float] | None:
    """Largest distance of any vertex, for each hand; None if the results have other people or other hands."""
    if len(a.people) != len(b.people):
        return None
    apart: list[float] = []
    for mine, theirs in zip(a.people, b.people, strict=True):
        if not torch.equal(mine.hand_present, theirs.hand_present):
            return None
        apart += (1e3 * (mine.vertices_m - theirs.vertices_m).norm(dim=-1).amax(-1))[mine.hand_present].tolist()
    return apart


def film_frames(frames: int = 300) -> list[UInt8[np.ndarray, "720 1280 3"]]:
    """Two hands that cross, in the middle of a 720p picture."""
    width, height = FILM_PX
    clip = make_clip("crossing", 0, ClipKnobs(size_px=360, frames=min(frames, CLIP_FRAMES)))
    pictures = []
    for image in clip.images.numpy():
        square = np.asarray(Image.fromarray(image).resize((height, height), Image.Resampling.BILINEAR))
        left = (width - height) // 2
        # Beyond its sides the picture goes on as it ends: mirrored, there would be more than two hands.
        pictures.append(np.pad(square, ((0, 0), (left, width - height - left), (0, 0)), mode="edge"))
    turn = [*range(len(pictures)), *range(len(pictures) - 2, 0, -1)]
    return [pictures[turn[k % len(turn)]] for k in range(frames)]


def run_bench(
    repeats: int = 15,
    frames: int = 300,
    video: bool = True,
    mediapipe_python: Path | None = None,
    say: Callable[[str], object] = lambda line: None,
    only: Part | None = None,
    images: int = 200,
) -> Report:
    """Measures everything, or one part; `say` is told what is going on. The networks take some minutes on two cores, the engine (`images`
    scenes of each framing) some seconds."""
    report = Report()
    if only != "networks":
        say("the synthetic engine")
        _engine(report, images)
    if only != "engine":
        _networks(report, repeats, frames, video, mediapipe_python, say)
    report.machine |= _machine()
    return report


def _engine(report: Report, images: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        # The first may have to compile.
        starts = [_child(["-m", "twohands", "synth", "--out", f"{folder}/{k}", "--count", "1"]).cpu_s for k in range(2)]
    report.engine_start_s = round(min(starts), 2)
    report.engine = {framing: engine_rate(SceneKnobs(framing=framing), images) for framing in ENGINE_FRAMINGS}


def _networks(report: Report, repeats: int, frames: int, video: bool, mediapipe_python: Path | None, say: Callable[[str], object]) -> None:
    say("cold starts")
    _cold(report)
    samples = bench_photos()
    photos = {name: as_pixels(sample) for name, sample in samples.items()}
    models: dict[str, Pipeline] = {}
    for engine in ("torch", "openvino") if _has_openvino() else ("torch",):
        say(f"photos by {engine}")
        model = models[engine] = load(engine="openvino" if engine == "openvino" else "torch")
        report.machine["threads of PyTorch"] = torch.get_num_threads()
        report.machine["prior"] = model.prior_source
        report.photos[engine], report.found[engine] = {}, {}
        for name, image in photos.items():
            for _ in range(2):  # the first call of an engine converts
                result = model.reconstruct(image)
            found = sum(int(person.hand_present.sum()) for person in result.people)
            report.found[engine][name] = (found, int(samples[name].hand_valid.sum()))
            rows, cpu = [], []
            for _ in range(repeats):
                own = time.process_time()
                rows.append(model.reconstruct(image).seconds)
                cpu.append(time.process_time() - own)
            # Stages do not tell their processor time, only the whole does.
            whole = {stage: cpu if stage == "total" else [float("nan")] for stage in rows[0]}
            report.photos[engine][name] = {stage: Timing.of([row[stage] for row in rows], whole[stage]) for stage in rows[0]}
        report.alone[engine] = _alone(model, image, result, repeats)  # of the clasped hands, the last photo
        if engine == "openvino" and STAGE_1_NETWORK in report.alone[engine]:
            report.targets["stage_1_network_ms"] = report.alone[engine][STAGE_1_NETWORK].median_ms
    if len(models) == 2:
        say("the engines' results side by side")
        small = (as_pixels(take_photo(knobs, seed)) for knobs in scenes(COMPARED_PX).values() for seed in range(COMPARED))
        report.engines_differ = engines_apart(models["torch"], models["openvino"], itertools.chain(photos.values(), small))
    pictures = film_frames(frames) if video or mediapipe_python else []
    if video:
        say(f"a video of {frames} frames")
        _video(report, pictures)
    if mediapipe_python is not None:
        say("MediaPipe Hands")
        report.mediapipe = _mediapipe(mediapipe_python, photos, pictures[:CLIP_FRAMES], repeats)


def _has_openvino() -> bool:
    from twohands.engines.openvino import openvino_installed

    return openvino_installed()


def _alone(model: Pipeline, image: np.ndarray, result: PhotoResult, repeats: int) -> dict[str, Timing]:
    """Parts by themselves, on one photo with two hands."""
    if not result.people:
        return {}
    person = result.people[0]
    camera: Camera = person.camera
    detection = model.detector(image)
    pairs = [hand_pair(detection, sides) for sides in sides_of_people(detection)[:1]]
    pixels = torch.from_numpy(image).permute(2, 0, 1)
    parameters = person.parameters_before or person.parameters
    batched = parameters.map(lambda t: t[None])
    confidence = person.keypoint_confidence[None]
    parts: dict[str, Callable[[], object]] = {
        "detector": lambda: model.detector(image),
        "stage 1": lambda: model.regressor.infer(pixels, camera, pairs),
        "mesh": lambda: model.hand_model.pose_hands(batched).mesh(),
        "overlay": lambda: draw_overlay(result, model.hand_model),
    }
    stage_1 = model.regressor
    if isinstance(stage_1, Stage1):
        pair = stack(pairs)
        view = view_pairs(camera, pair, stage_1.network.config.crop_px)
        crops = view.crop.resample(pixels, camera)
        parts[STAGE_1_NETWORK] = lambda: stage_1.network(crops, view.geometry, pair.present, None, None)
    refiner = model.refiner
    if refiner is not None:
        parts["stage 2"] = lambda: refiner.refine(model.network_hand, batched, confidence)
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        path = Path(folder) / "file"
        parts |= {
            "NPZ": lambda: export.write_npz(path, result, model.hand_model),
            "GLB": lambda: export.write_glb(path, result, model.hand_model),
            "OBJ": lambda: export.write_obj(path, result, model.hand_model),
        }
        return {name: Timing.measure(work, repeats) for name, work in parts.items()}


def _cold(report: Report) -> None:
    """New processes: importing, and a photo from nothing to its result. The least of three: the first may find the disk cold."""
    code = "import time; t = time.perf_counter(); import twohands; twohands.load; print(time.perf_counter() - t)"
    imports = [_child(["-c", code]) for _ in range(3)]
    # The first result: hands found, before any file is written. The process ends as the command line does, without looking through all that is left.
    first = "import gc, sys, twohands; print(twohands.load().reconstruct(sys.argv[1]).seconds['total']); gc.freeze()"
    with resources.as_file(resources.files("twohands") / "example" / "two_hands.jpg") as example, tempfile.TemporaryDirectory() as folder:
        runs = [_child(["-c", first, str(example)]) for _ in range(3)]
        files = _child(["-m", "twohands", "photo", str(example), "--out", folder])
    report.targets["import_s"] = round(min(float(child.out) for child in imports), 3)
    report.targets["cold_photo_s"] = round(min(child.wall_s for child in runs), 3)
    report.targets["peak_memory_mb"] = round(max(child.peak_mb for child in (*runs, files)), 1)
    report.cold = {
        "import, processor s": round(median(child.cpu_s for child in imports), 3),
        "first result, processor s": round(median(child.cpu_s for child in runs), 3),
        "photo itself in a new process, s": round(min(float(child.out) for child in runs), 3),
        "photo with all files written, s": round(files.wall_s, 3),
        "photo with all files written, processor s": round(files.cpu_s, 3),
        "peak memory, MB": report.targets["peak_memory_mb"],
    }


_LAUNCH = """
import json, os, sys, time
start = time.perf_counter()
_, status, usage = os.wait4(os.posix_spawn(sys.executable, [sys.executable, *sys.argv[2:]], os.environ), 0)
numbers = [time.perf_counter() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss, os.waitstatus_to_exitcode(status)]
with open(sys.argv[1], "w") as file:
    json.dump(numbers, file)
"""


def _child(arguments: list[str]) -> Child:
    """A new interpreter, run to its end. UserError if it fails.

    A small interpreter starts it: on Linux a process inherits the greatest memory of the one that starts it, and ours is large by now."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as told, tempfile.TemporaryDirectory() as folder:
        numbers = Path(folder) / "numbers.json"
        measured = hasattr(os, "wait4")
        launch = ["-I", "-S", "-c", _LAUNCH, str(numbers)] if measured else []
        # Containers often forbid Python to keep what it has compiled; then every start compiles PyTorch anew, which is not what is timed here.
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        command = [sys.executable, *launch, *arguments]
        started = time.perf_counter()
        code = subprocess.run(command, stdout=out, stderr=told, text=True, check=False, env=environment).returncode
        wall, cpu, peak = time.perf_counter() - started, float("nan"), 0.0
        if measured and code == 0:
            wall, cpu, most, code = json.loads(numbers.read_text())
            peak = most / 1e6 if sys.platform == "darwin" else most * 1024 / 1e6
        out.seek(0)
        told.seek(0)
        if code:
            why = told.read().strip().splitlines()[-1:]
            raise UserError(f"`python {' '.join(arguments)[:80]}` failed in a new process: {why}; run it by itself to see why")
        return Child(out.read().strip(), wall, cpu, peak)


def _video(report: Report, pictures: list[np.ndarray]) -> None:
    """A film on disk to NPZ, GLB and BVH, in a new process that also tells its peak memory."""
    from twohands.video.media import FilmWriter

    with tempfile.TemporaryDirectory() as folder:
        film = Path(folder) / "film.mp4"
        with FilmWriter(film, 30.0, *FILM_PX) as writer:
            for k, picture in enumerate(pictures):
                writer.write(k / 30, picture)
        code = (
            "import sys, time, json; from pathlib import Path; import twohands;"
            "from twohands.video.media import open_source; from twohands.video.produce import VideoOptions, produce;"
            "model = twohands.load(engine='auto'); out = Path(sys.argv[2]); out.mkdir();"
            "[model.reconstruct(sys.argv[3]) for _ in range(2)];"
            "t, c = time.perf_counter(), time.process_time(); p = produce(open_source(sys.argv[1]), model, out, VideoOptions(overlay=False));"
            "s, c = time.perf_counter() - t, time.process_time() - c; state = p.motion.hand_state;"
            "print(json.dumps([p.frames, s, c, p.detections, float((state > 0).float().mean(0).max(0).values.min())]))"
        )
        with resources.as_file(resources.files("twohands") / "example" / "two_hands.jpg") as example:
            child = _child(["-c", code, str(film), str(Path(folder) / "out"), str(example)])
    frames, seconds, cpu, detections, found = json.loads(child.out.splitlines()[-1])
    report.targets["video_fps"] = round(frames / seconds, 2)
    report.targets["peak_memory_mb"] = round(max(report.targets["peak_memory_mb"], child.peak_mb), 1)
    report.video = {
        "frames": frames,
        "seconds": round(seconds, 2),
        "ms a frame": round(1e3 * seconds / frames, 1),
        "processor ms a frame": round(1e3 * cpu / frames, 1),
        "detector looked": detections,
        "both hands found, share of frames": round(found, 3),
        "peak memory, MB": round(child.peak_mb, 1),
    }


_MEDIAPIPE = """
import json, sys, time
import numpy as np, mediapipe
out, repeats = {"version": mediapipe.__version__, "photos": {}, "found": {}}, int(sys.argv[2])
stored = np.load(sys.argv[1])
for name in [n for n in stored.files if n != "film"]:
    with mediapipe.solutions.hands.Hands(static_image_mode=True, max_num_hands=2, model_complexity=1) as hands:
        found, times, cpu = hands.process(stored[name]), [], []
        for _ in range(repeats):
            start, own = time.perf_counter(), time.process_time(); hands.process(stored[name])
            times.append(time.perf_counter() - start); cpu.append(time.process_time() - own)
    out["photos"][name], out["found"][name] = [times, cpu], len(found.multi_hand_landmarks or [])
if "film" in stored.files:
    film = stored["film"]
    with mediapipe.solutions.hands.Hands(static_image_mode=False, max_num_hands=2, model_complexity=1) as hands:
        hands.process(film[0]); start, own = time.perf_counter(), time.process_time()
        both = sum(len(hands.process(image).multi_hand_landmarks or []) == 2 for image in film)
        out["film_fps"], out["film_both"] = len(film) / (time.perf_counter() - start), both / len(film)
        out["film_cpu_ms"] = 1e3 * (time.process_time() - own) / len(film)
print("RESULT " + json.dumps(out))
"""


def _mediapipe(python: Path, photos: dict[str, np.ndarray], pictures: list[np.ndarray], repeats: int) -> dict[str, Any]:
    """MediaPipe Hands on the same pictures, by an interpreter of its own environment."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pictures.npz"
        np.savez(path, **photos, **({"film": np.stack(pictures)} if pictures else {}))  # type: ignore[arg-type]
        try:
            done = subprocess.run([str(python), "-c", _MEDIAPIPE, str(path), str(repeats)], capture_output=True, text=True, check=False)
        except OSError as error:
            raise UserError(f"{python} cannot be run ({error.strerror}); give the Python of an environment with mediapipe") from error
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    if not lines:
        raise UserError(f"MediaPipe Hands did not run in {python}: {' '.join(done.stderr.split())[-200:]}; install mediapipe there")
    told = json.loads(lines[-1][7:])
    return told | {"photos": {name: Timing.of(*times) for name, times in told["photos"].items()}}


def _machine() -> dict[str, Any]:
    """What the numbers were measured on, and how busy it was."""
    name = ""
    if Path("/proc/cpuinfo").is_file():
        models = [line for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if line.startswith("model name")]
        name = models[0].partition(":")[2].strip() if models else ""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    return {"processor": name, "cores": os.cpu_count(), "load": round(load, 1)}
