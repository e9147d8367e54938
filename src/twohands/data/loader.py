"""The data sets by name."""

from pathlib import Path

from twohands.data import interhand26m
from twohands.data.dataset import Dataset, DatasetInfo
from twohands.data.interhand26m import InterHand26M
from twohands.errors import UserError

DATASETS: dict[str, DatasetInfo] = {info.name: info for info in (interhand26m.INFO,)}


def open_dataset(name: str, folder: Path, split: str, mano: Path | None = None) -> Dataset:
    """The annotated pictures of one split of a data set. `mano` is the folder with MANO's files; without it there are no MANO parameters.

    UserError naming what is wrong: no such data set or split, a file missing or broken."""
    if name not in DATASETS:
        raise UserError(f"there is no data set called {name!r}; choose one of {', '.join(DATASETS)}")
    info = DATASETS[name]
    if split not in info.splits:
        raise UserError(f"{name} has no split {split!r}; choose one of {', '.join(info.splits)}")
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}; give the one that holds {info.layout[0].split('/')[0]}/ of {info.title}")
    match name:
        case "interhand26m":
            return InterHand26M(folder, split, mano)
        case _:
            raise AssertionError(f"{name} has no reader")
