"""`twohands photo` and `twohands demo`: the main job."""

import sys
import time
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro

from twohands.cli.app import app
from twohands.cli.console import make_folder, photos_of, progress_over, say
from twohands.errors import UserError

if TYPE_CHECKING:
    import numpy as np

    from twohands.pipeline import Pipeline
    from twohands.schema import PhotoResult
    from twohands.view.sheet import Cell
    from twohands.view.styles import Style

SECONDS_BETWEEN_SAVES = 5.0
_CAMERA_SOURCES = {"caller": "you", "exif": "EXIF", "default": "a default field of view of 60 degrees"}


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
    style: Literal["mesh", "wire", "skeleton", "depth", "touch", "side-by-side"] = "mesh",
    sheet: bool = False,
    turntable: Literal["none", "png", "gif"] = "none",
    align: bool = True,
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
        prior: Where the 2D prior comes from: the alignment encoder, the light teacher, or (auto) what is better on real photos, the encoder.
        style: What NAME.overlay.png shows: meshes, their visible edges, bones and keypoints, depth from bright to dark, where
            the hands touch and where they overlap, or photo, meshes, skeletons and a view from the side in a row.
        sheet: All photos in one picture as well, all.sheet.png (in several, if there are more than 400).
        turntable: NAME.turntable.png with four views of the hands, or NAME.turntable.gif with them turning.
        align: Pull the hands to the 2D joints that stage 1 sees in the photo, inside joint limits.
    """
    if focal_px is not None and fov_deg is not None:
        raise UserError("--focal-px and --fov-deg were given together; give one of them")
    paths = photos_of(photos)
    make_folder(out)

    from twohands import export, pipeline
    from twohands.view.sheet import Cell

    predictions_path = out / "predictions.json"
    predictions = export.read_predictions(predictions_path)
    model = pipeline.load(device=device, prior=prior, mano=mano, align=align)
    failed: list[str] = []
    without_hands = 0
    saved_at = time.monotonic()
    cells: list[Cell] = []
    try:
        for path in progress_over(paths):
            try:
                result = model.reconstruct(path, focal_px=focal_px, fov_deg=fov_deg, refine=refine)
            except UserError as error:
                predictions.pop(path.stem, None)
                failed.append(str(error))
                say(f"twohands: {error}", sys.stderr)
                continue
            picture = write_result(out, path.stem, result, model, style, turntable)
            if sheet:
                cells.append(Cell.of(picture, path.name))
            predictions[path.stem] = export.prediction_entry(result, model.hand_model) | {"file": path.name}
            without_hands += not result.people
            say(summary(path, out, result))
            if time.monotonic() - saved_at > SECONDS_BETWEEN_SAVES:
                _save(predictions_path, predictions)
                saved_at = time.monotonic()
    finally:
        _save(predictions_path, predictions)
        _write_sheets(out, cells)
    if len(paths) > 1:
        done = f"{len(paths) - len(failed)} of {len(paths)} photos done, {without_hands} of them without hands; results in {out}"
        say(done)
    if failed and len(paths) > 1:
        say(f"twohands: {len(failed)} of {len(paths)} photos could not be used:", sys.stderr)
        for message in failed:
            say(f"  {message}", sys.stderr)
    return 2 if failed else 0


@app.command
def demo(out: Path = Path("out/demo"), device: Literal["cpu", "cuda"] = "cpu", page: bool = False) -> int:
    """Reconstruct the bundled example photo, which this project rendered itself: two hands that touch.

    Args:
        out: Folder for the results.
        device: Where the networks run.
        page: Open a page for photos of your own instead, as `twohands serve` does.
    """
    if page:
        from twohands.cli.web import serve

        return serve(device=device)
    from twohands import pipeline
    from twohands.view import overlay

    make_folder(out)
    model = pipeline.load(device=device)
    with resources.as_file(resources.files("twohands") / "example" / "two_hands.jpg") as example:
        result = model.reconstruct(example)
    write_result(out, "two_hands", result, model)
    overlay.write_picture(out / "two_hands.views.png", overlay.side_by_side(result, model.hand_model))
    print(summary(Path("two_hands.jpg"), out, result))
    print(f"look at {out / 'two_hands.views.png'}; open {out / 'two_hands.glb'} in any 3D viewer")
    return 0


def write_result(
    out: Path,
    stem: str,
    result: "PhotoResult",
    model: "Pipeline",
    style: "Style" = "mesh",
    turntable: Literal["none", "png", "gif"] = "none",
) -> "np.ndarray":
    """Overlay, GLB, NPZ and what else was asked for; without hands only the overlay, and no files of an earlier run stay behind. Returns the
    overlay."""
    from twohands import export
    from twohands.view import overlay, styles
    from twohands.view import turntable as turning

    try:
        picture = styles.draw_style(result, model.hand_model, style)
        overlay.write_picture(out / f"{stem}.overlay.png", picture)
        if result.people:
            export.write_glb(out / f"{stem}.glb", result, model.hand_model)
            export.write_npz(out / f"{stem}.npz", result, model.hand_model)
            match turntable:
                case "png":
                    overlay.write_picture(out / f"{stem}.turntable.png", turning.four_views(result, model.hand_model))
                case "gif":
                    turning.write_turntable(out / f"{stem}.turntable.gif", result, model.hand_model)
        else:
            for suffix in ("glb", "npz", "turntable.png", "turntable.gif"):
                (out / f"{stem}.{suffix}").unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"cannot write the results of {stem} into {out} ({error.strerror}); make room or choose another folder") from error
    return picture


def _write_sheets(out: Path, cells: "list[Cell]") -> None:
    from twohands.view.overlay import write_picture
    from twohands.view.sheet import LARGEST_SHEET, contact_sheet

    starts = range(0, len(cells), LARGEST_SHEET)
    for number, first in enumerate(starts, 1):
        name = "all.sheet.png" if len(starts) == 1 else f"all.{number}.sheet.png"
        try:
            write_picture(out / name, contact_sheet(cells[first : first + LARGEST_SHEET]))
        except OSError as error:
            raise UserError(f"cannot write {out / name} ({error.strerror}); make room or choose another folder") from error


def _save(path: Path, predictions: dict[str, dict[str, Any]]) -> None:
    from twohands.export import write_predictions

    try:
        write_predictions(path, predictions)
    except OSError as error:
        raise UserError(f"cannot write {path} ({error.strerror}); make room or choose another folder") from error


def summary(path: Path, out: Path, result: "PhotoResult") -> str:
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
