"""`twohands data list | check | shards`: the data sets that researchers bring."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from twohands.cli.app import data
from twohands.cli.console import make_folder, progress_bar, say
from twohands.errors import UserError

if TYPE_CHECKING:
    from twohands.data.dataset import Dataset, DatasetInfo
    from twohands.view.contact_sheet import Panel

SAMPLES = 16
LOOKED_FOR = 1000
"""So many pictures, evenly spread over a split, are looked for on disk."""


@data.command(name="list")
def list_() -> None:
    """Say which data sets can be read, where to get them, under which licence, and what belongs where."""
    from twohands.data.loader import DATASETS

    for info in DATASETS.values():
        print(f"{info.name}: {info.title}")
        print(f"  splits   {', '.join(info.splits)}")
        print(f"  licence  {info.licence}")
        print(f"  from     {info.where}")
        for k, line in enumerate(info.layout):
            print(f"  {'layout' if k == 0 else '':8} DIR/{line}")
        print()


@data.command
def check(
    name: tyro.conf.Positional[str],
    folder: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DIR")],
    mano: Path | None = None,
    out: Path = Path("out/data"),
    split: str | None = None,
) -> int:
    """Say what of a data set is there and what is missing, and draw 16 of its pictures with joints and meshes over them.

    Writes NAME.png into `out`. The first call makes an index of the annotations, which takes minutes for millions of them.

    Args:
        name: Name of the data set (`twohands data list`).
        folder: The folder that the data set's own archives were unpacked into.
        mano: Folder with MANO_LEFT.pkl and MANO_RIGHT.pkl, without which there are no meshes.
        out: Folder for the contact sheet.
        split: Look at this split only.
    """
    from twohands.view.contact_sheet import contact_sheet
    from twohands.view.overlay import write_picture

    info = _info(name)
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}; give the one that holds {info.title}")
    if split is not None and split not in info.splits:
        raise UserError(f"{name} has no split {split!r}; choose one of {', '.join(info.splits)}")
    print(f"{info.title} in {folder}")
    usable: list[Dataset] = []
    gaps = False
    for one in info.splits if split is None else (split,):
        dataset, complete = _check_split(info, folder, one, mano)
        usable += [dataset] if dataset is not None else []
        gaps |= not complete
    if gaps or not usable:
        print(f"  get what is missing from {info.where}")
        for line in info.layout:
            print(f"  it belongs at {folder}/{line}")
    print(f"  licence: {info.licence}")
    if info.mano is not None and mano is None:
        print("  without --mano DIR there are no meshes and no MANO parameters; MANO is to be had from mano.is.tue.mpg.de")
    panels = _panels(usable)
    if not panels:
        raise UserError(f"nothing of {info.title} in {folder} can be drawn; see above for what is missing")
    make_folder(out)
    path = out / f"{name}.png"
    write_picture(path, contact_sheet(panels, usable[0].mano))
    print(f"  {len(panels)} pictures with their annotations are in {path}")
    return 0


@data.command
def shards(
    name: tyro.conf.Positional[str],
    folder: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DIR")],
    out: Path,
    split: str | None = None,
    mano: Path | None = None,
    limit: int | None = None,
    size_px: int = 256,
    seed: int = 0,
    workers: int = 1,
) -> None:
    """Turn a data set's pictures into shards of hand-centred photos that `twohands train` reads.

    MANO fits become parameters of the bundled hand. Run the same command again to go on where it stopped.

    Args:
        name: Name of the data set (`twohands data list`).
        folder: The folder that the data set's own archives were unpacked into.
        out: Folder for the shards.
        split: Which split; the data set's first by default.
        mano: Folder with MANO_LEFT.pkl and MANO_RIGHT.pkl, without which the shards hold joints but no hand parameters.
        limit: At most so many pictures, chosen by the seed.
        size_px: Side of the square photos.
        seed: Fixes choice and order.
        workers: Processes to work with.
    """
    from twohands.training.photo_shards import ShardRequest, write_photo_shards

    info = _info(name)
    request = ShardRequest(name, folder, split or info.splits[0], mano, limit, size_px, seed)
    if mano is None and info.mano is not None:
        say("twohands: without --mano the shards hold joints but no hand parameters", sys.stderr)
    with progress_bar(limit) as bar:
        report = write_photo_shards(request, out, workers, bar.update)
    made = f"{report.samples} photos made, {report.with_parameters} of them with parameters of each hand"
    print(f"{made}; {report.left_out} pictures left out; {report.shards} shards in {out}")
    if report.missing:
        say(f"twohands: {len(report.missing)} pictures could not be read; the first: {report.missing[0]}", sys.stderr)


def _info(name: str) -> "DatasetInfo":
    from twohands.data.loader import DATASETS

    if name not in DATASETS:
        raise UserError(f"there is no data set called {name!r}; choose one of {', '.join(DATASETS)}")
    return DATASETS[name]


def _check_split(info: "DatasetInfo", folder: Path, split: str, mano: Path | None) -> "tuple[Dataset | None, bool]":
    """Prints what is there of a split; the data set if it can be read, and whether nothing is missing."""
    from twohands.data.loader import open_dataset

    files = [line.replace("{split}", split) for line in info.layout]
    files = [line for line in files if "{" not in line]
    absent = [line for line in files if not (folder / line).exists()]
    if files and len(absent) == len(files):
        print(f"  {split}: not there ({', '.join(absent)})")
        return None, False
    try:
        dataset = open_dataset(info.name, folder, split, mano)
    except UserError as error:
        print(f"  {split}: {str(error).split('; `twohands data check`')[0]}")
        return None, False
    spread = _spread(len(dataset), LOOKED_FOR)
    paths = [dataset.annotation(i).image_path for i in spread]
    lost = [path for path in paths if not path.is_file()]
    pictures = (
        "their pictures are there" if not lost else f"{len(lost)} of {len(paths)} pictures looked for are missing, the first {lost[0]}"
    )
    print(f"  {split}: {len(dataset)} annotations; {pictures}{_optional(absent)}")
    return dataset, not lost


def _optional(absent: list[str]) -> str:
    """Files that the reader could do without."""
    return f"; without {', '.join(absent)}" if absent else ""


def _panels(datasets: "list[Dataset]") -> "list[Panel]":
    """Up to SAMPLES pictures with a hand in them, spread over the splits that can be read."""
    from twohands.view.contact_sheet import Panel

    panels: list[Panel] = []
    for k, dataset in enumerate(datasets):
        wanted = SAMPLES // len(datasets) + (k < SAMPLES % len(datasets))
        # More are tried than wanted, since some have no hand or no picture.
        for index in _spread(len(dataset), 4 * wanted):
            annotation = dataset.annotation(index)
            if wanted == 0 or not annotation.image_path.is_file():
                continue
            sample = dataset[index]
            if not bool(sample.hand_valid.any()):
                continue
            vertices, there = dataset.vertices(index)
            ahead = there & (vertices[..., 2] > 0).all(1)
            panels.append(Panel(sample, vertices, ahead, f"{dataset.split} {annotation.id}"))
            wanted -= 1
    return panels


def _spread(count: int, wanted: int) -> list[int]:
    """Indices evenly spread, in an order whose beginning is spread too."""
    import numpy as np

    indices = np.unique(np.linspace(0, count - 1, min(count, wanted)).round().astype(int))
    return np.random.default_rng(0).permutation(indices).tolist()
