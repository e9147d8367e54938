"""What commands share: words and bars on the terminal, folders, and photos that were named."""

import sys
from pathlib import Path
from typing import Any

from twohands.errors import UserError

OWN_PICTURES = (".overlay.png", ".turntable.png", ".sheet.png")
"""Ends of the names of pictures that this program writes: no photos."""


def photos_of(given: list[Path]) -> list[Path]:
    """The photos named, folders replaced by what is in them. UserError if two would write the same files, or a folder holds none."""
    from twohands.geometry.photo import PHOTO_SUFFIXES

    paths: dict[Path, Path] = {}
    for path in given:
        inside = [path]
        if path.is_dir():
            # Pictures of an earlier run into the same folder are no photos.
            inside = sorted(p for p in path.iterdir() if p.suffix.lower() in PHOTO_SUFFIXES and not p.name.endswith(OWN_PICTURES))
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


def make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make the folder {folder} ({error.strerror}); choose another one") from error


def progress_over(paths: list[Path]) -> Any:
    """A bar on stderr where there is more than one photo."""
    from tqdm import tqdm

    return tqdm(paths, desc="photos", unit="photo", file=sys.stderr, disable=len(paths) < 2)


def progress_bar(total: int | None) -> Any:
    from tqdm import tqdm

    return tqdm(total=total, desc="photos", unit="photo", file=sys.stderr)


def say(line: str, stream: Any = None) -> None:
    """Prints without tearing the progress bar."""
    from tqdm import tqdm

    tqdm.write(line, file=stream or sys.stdout)
