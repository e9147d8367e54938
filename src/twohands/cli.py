"""The command line. Each command is a function whose docstring is its help; what is heavy is imported inside it."""

import sys
import time
from importlib import metadata, resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro

from twohands.errors import UserError

if TYPE_CHECKING:
    from twohands.pipeline import Pipeline
    from twohands.schema import PhotoResult

app = tyro.extras.SubcommandApp()
teachers = tyro.extras.SubcommandApp()
app.command(teachers, name="teachers")
train = tyro.extras.SubcommandApp()
app.command(train, name="train")

SECONDS_BETWEEN_SAVES = 5.0


def main(arguments: list[str] | None = None) -> int:
    """Runs a command line; returns the exit code: 0 done, 2 the user can mend it."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments == ["--version"]:
        print(f"twohands {metadata.version('twohands')}")
        return 0
    try:
        code = app.cli(prog="twohands", description=_DESCRIPTION, args=arguments)
    except UserError as error:
        print(f"twohands: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("twohands: interrupted; what was finished is on disk", file=sys.stderr)
        return 130
    return code or 0


_DESCRIPTION = "Two interacting hands in 3D from one photo."


@app.command
def photo(
    photos: tyro.conf.Positional[list[Path]],
    out: Path,
    focal_px: float | None = None,
    fov_deg: float | None = None,
    refine: bool = True,
    mano: Path | None = None,
    device: Literal["cpu", "cuda"] = "cpu",
    prior: Literal["auto", "encoder", "teacher"] = "auto",
) -> int:
    """Reconstruct both hands of photos.

    For each photo NAME.overlay.png, NAME.glb and NAME.npz in the folder `out`, and an entry NAME in its predictions.json, which keeps the
    entries of earlier runs.

    Args:
        photos: Photos, or folders of photos.
        out: Folder for the results.
        focal_px: Focal length in pixels of the photo, if you know it.
        fov_deg: Field of view over the longer side of the photo in degrees, if you know that instead. Without either, EXIF tells, or 60
            degrees are assumed.
        refine: Let stage 2 pull apart hands that pass through one another.
        mano: Folder with MANO_LEFT.pkl and MANO_RIGHT.pkl; the hands are then given as MANO's.
        device: Where the networks run.
        prior: Where the 2D prior comes from: the alignment encoder, the light teacher, or the teacher if it is installed.
    """
    if focal_px is not None and fov_deg is not None:
        raise UserError("--focal-px and --fov-deg were given together; give one of them")
    paths = _photos_of(photos)
    _make_folder(out)

    from twohands import export, pipeline

    predictions_path = out / "predictions.json"
    predictions = export.read_predictions(predictions_path)
    model = pipeline.load(device=device, prior=prior, mano=mano)
    _say_prior(model, prior)
    failed: list[str] = []
    without_hands = 0
    saved_at = time.monotonic()
    try:
        for path in _progress(paths):
            try:
                result = model.reconstruct(path, focal_px=focal_px, fov_deg=fov_deg, refine=refine)
            except UserError as error:
                predictions.pop(path.stem, None)
                failed.append(str(error))
                _say(f"twohands: {error}", sys.stderr)
                continue
            _write_result(out, path.stem, result, model)
            predictions[path.stem] = export.prediction_entry(result, model.hand_model) | {"file": path.name}
            without_hands += not result.people
            _say(_summary(path, out, result))
            if time.monotonic() - saved_at > SECONDS_BETWEEN_SAVES:
                _save(predictions_path, predictions)
                saved_at = time.monotonic()
    finally:
        _save(predictions_path, predictions)
    if len(paths) > 1:
        done = f"{len(paths) - len(failed)} of {len(paths)} photos done, {without_hands} of them without hands; results in {out}"
        _say(done)
    if failed and len(paths) > 1:
        _say(f"twohands: {len(failed)} of {len(paths)} photos could not be used:", sys.stderr)
        for message in failed:
            _say(f"  {message}", sys.stderr)
    return 2 if failed else 0


@app.command
def demo(out: Path = Path("out/demo"), device: Literal["cpu", "cuda"] = "cpu") -> int:
    """Reconstruct the bundled example photo, which this project rendered itself: two clasped hands.

    Args:
        out: Folder for the results.
        device: Where the networks run.
    """
    from twohands import pipeline
    from twohands.view import overlay

    _make_folder(out)
    model = pipeline.load(device=device)
    _say_prior(model, "auto")
    with resources.as_file(resources.files("twohands") / "example" / "two_hands.jpg") as example:
        result = model.reconstruct(example)
    _write_result(out, "two_hands", result, model)
    overlay.write_picture(out / "two_hands.views.png", overlay.side_by_side(result, model.hand_model))
    print(_summary(Path("two_hands.jpg"), out, result))
    print(f"look at {out / 'two_hands.views.png'}; open {out / 'two_hands.glb'} in any 3D viewer")
    return 0


@app.command
def synth(
    out: Path,
    seed: int = 0,
    count: int = 1000,
    framing: Literal["close", "wide"] = "close",
    workers: int = 1,
    backgrounds: Path | None = None,
) -> None:
    """Render synthetic photos of two hands, with exact 3D truth and prior maps, into shards.

    Args:
        out: Folder for the shards; those that are there already are kept.
        seed: The same seed gives the same photos.
        count: How many photos.
        framing: Hands filling the picture, or whole scenes.
        workers: Processes to render with.
        backgrounds: Folder of photos whose borders serve as backgrounds now and then.
    """
    from twohands.synth.generate import write_shards
    from twohands.synth.scene import SceneKnobs

    with _bar(count) as bar:
        paths = write_shards(out, seed, count, SceneKnobs(framing=framing), workers=workers, photos=backgrounds, progress=bar.update)
    print(f"{count} photos in {len(paths)} shards in {out}")


@teachers.command
def install(folder: Path | None = None, wheel: Path | None = None) -> None:
    """Fetch the light keypoint teacher (MediaPipe's hand landmark network, Apache-2.0) out of its Python wheel.

    Args:
        folder: Where to put it, if not in the user's data folder. Photos look for it in the data folder, or in teachers/ of $TWOHANDS_HOME.
        wheel: A mediapipe wheel that is already here; without it pip fetches one.
    """
    from twohands.priors.install import install_landmark_teacher

    print(f"the light teacher is at {install_landmark_teacher(folder, wheel)}")


def _photos_of(given: list[Path]) -> list[Path]:
    """The photos named, folders replaced by what is in them. UserError if two would write the same files, or a folder holds none."""
    from twohands.geometry.photo import PHOTO_SUFFIXES

    paths: dict[Path, Path] = {}
    for path in given:
        inside = [path]
        if path.is_dir():
            # Overlays of an earlier run into the same folder are no photos.
            inside = sorted(p for p in path.iterdir() if p.suffix.lower() in PHOTO_SUFFIXES and not p.name.endswith(".overlay.png"))
            if not inside:
                raise UserError(f"there are no photos in {path}; give photos, or a folder that holds some")
        for p in inside:
            paths.setdefault(p.resolve(), p)
    by_stem: dict[str, Path] = {}
    for p in paths.values():
        # Case is folded, since some file systems do not tell a.png from A.png.
        if (other := by_stem.setdefault(p.stem.casefold(), p)) is not p:
            raise UserError(f"{other} and {p} would both write {p.stem}.glb; rename one, or run them into different folders")
    if not paths:
        raise UserError("no photo was given; name at least one")
    return list(paths.values())


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make the folder {folder} ({error.strerror}); choose another one") from error


def _write_result(out: Path, stem: str, result: "PhotoResult", model: "Pipeline") -> None:
    """Overlay, GLB and NPZ; without hands only the overlay, and no files of an earlier run stay behind."""
    from twohands import export
    from twohands.view import overlay

    try:
        overlay.write_picture(out / f"{stem}.overlay.png", overlay.draw_overlay(result, model.hand_model))
        if result.people:
            export.write_glb(out / f"{stem}.glb", result, model.hand_model)
            export.write_npz(out / f"{stem}.npz", result, model.hand_model)
        else:
            for suffix in ("glb", "npz"):
                (out / f"{stem}.{suffix}").unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"cannot write the results of {stem} into {out} ({error.strerror}); make room or choose another folder") from error


def _save(path: Path, predictions: dict[str, dict[str, Any]]) -> None:
    from twohands.export import write_predictions

    try:
        write_predictions(path, predictions)
    except OSError as error:
        raise UserError(f"cannot write {path} ({error.strerror}); make room or choose another folder") from error


def _say_prior(model: "Pipeline", asked: str) -> None:
    if asked == "auto" and model.prior_source == "encoder":
        _say("twohands: the light teacher is not installed (`twohands teachers install`); going on with the alignment encoder", sys.stderr)


def _summary(path: Path, out: Path, result: "PhotoResult") -> str:
    """One line about one photo."""
    seconds = f"{result.seconds['total']:.2f} s"
    if not result.people:
        return f"{path.name}: no hands found ({seconds})"
    parts = []
    for person in result.people:
        sides = [f"{side} {person.score[hand]:.2f}" for hand, side in enumerate(("left", "right")) if person.hand_present[hand]]
        shared = ""
        if len(sides) == 2:
            was = f", {person.penetration_before_cm3:.2f} before refinement" if person.refined else ""
            shared = f" (sharing {person.penetration_cm3:.2f} cm3{was})"
        parts.append(" + ".join(sides) + shared)
    first = result.people[0]
    view = f"focal length {float(first.camera.focal_px[0]):.0f} px from {_CAMERA_SOURCES[first.camera_source]}"
    return f"{path.name}: {'; '.join(parts)}; {view}; prior from the {result.prior_source}; {seconds} -> {out / path.stem}.*"


_CAMERA_SOURCES = {"caller": "you", "exif": "EXIF", "default": "a default field of view of 60 degrees"}


def _progress(paths: list[Path]) -> Any:
    """A bar on stderr where there is more than one photo."""
    from tqdm import tqdm

    return tqdm(paths, desc="photos", unit="photo", file=sys.stderr, disable=len(paths) < 2)


def _bar(total: int) -> Any:
    from tqdm import tqdm

    return tqdm(total=total, desc="photos", unit="photo", file=sys.stderr)


def _say(line: str, stream: Any = None) -> None:
    """Prints without tearing the progress bar."""
    from tqdm import tqdm

    tqdm.write(line, file=stream or sys.stdout)


# ---------------------------------------------------------------------------------------------------------------------------------
# Training. One command per network: `twohands train detector | regressor | refiner`.
# ---------------------------------------------------------------------------------------------------------------------------------


@train.command
def regressor(
    shards: list[Path],
    mixture: list[float],
    out: Path,
    experiment: Literal["small", "small-sharp", "paper"] = "small",
    start_from: Path | None = None,
    steps: int | None = None,
    seed: int = 0,
    devices: int = 1,
) -> None:
    """Train stage 1 (align). Run the same command again to go on where it stopped.

    Args:
        shards: Folders of shards (`twohands synth`, tools/make_real_shards.py).
        mixture: One weight per folder: how often its images are drawn.
        out: Run folder: config.json, log.jsonl, last.ckpt and, at the end, regressor.safetensors.
        experiment: small and, from its weights, small-sharp make the network that ships; paper has the paper's two ResNet-50.
        start_from: Weights to begin with; a run that has a checkpoint goes on from that instead.
        steps: Length of the run; the experiment's own by default.
        seed: Fixes data order and initial weights.
        devices: Processes (or GPUs) that train together.
    """
    from twohands.training.experiments import regressor_experiment
    from twohands.training.regressor import train_regressor

    print(train_regressor(regressor_experiment(experiment, out, tuple(shards), tuple(mixture), steps, seed, devices, start_from)))


@train.command
def detector(shards: list[Path], mixture: list[float], out: Path, steps: int | None = None, seed: int = 0, devices: int = 1) -> None:
    """Train the hand detector. Run the same command again to go on where it stopped.

    Args:
        shards: Folders of shards (`twohands synth`, tools/make_detector_shards.py).
        mixture: One weight per folder: how often its images are drawn.
        out: Run folder: config.json, log.jsonl, last.ckpt and, at the end, detector.safetensors.
        steps: Length of the run; the experiment's own by default.
        seed: Fixes data order and initial weights.
        devices: Processes (or GPUs) that train together.
    """
    from twohands.training.detector import train_detector
    from twohands.training.experiments import detector_experiment

    print(train_detector(detector_experiment(out, tuple(shards), tuple(mixture), steps, seed, devices)))


@train.command
def refiner(
    out: Path, bank: Path | None = None, pairs: int = 8000, minutes: float | None = None, steps: int = 10_000, seed: int = 0
) -> None:
    """Train stage 2 (refine). Run the same command again to go on where it stopped.

    Args:
        out: Run folder: last.ckpt and, at the end, refiner.safetensors.
        bank: NPZ of clean interacting pairs; made in `out` if it is not given and not there yet.
        pairs: How many pairs that bank holds.
        minutes: Ends the run after so much processor time, if that comes before `steps`.
        steps: Length of the run.
        seed: Fixes the pairs, the noise and the initial weights.
    """
    from twohands.hands.bundled import load_bundled_hand
    from twohands.training.experiments import REFINER, REFINER_BATCH
    from twohands.training.refiner import build_bank, train_refiner

    bank = bank or out / "bank.npz"
    if not bank.is_file():
        build_bank(bank, load_bundled_hand(), pairs, seed)
    print(train_refiner(out, bank, minutes, steps, REFINER_BATCH, seed, (out / "last.ckpt").is_file(), REFINER))
