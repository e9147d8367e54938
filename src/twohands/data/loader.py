"""The data sets by name."""

from pathlib import Path

from twohands.data import coco_wholebody, freihand, hic, ho3d, interhand26m, reinterhand
from twohands.data.dataset import Dataset, DatasetInfo
from twohands.errors import UserError

DATASETS: dict[str, DatasetInfo] = {info.name: info for info in (
    interhand26m.INFO, reinterhand.INFO, hic.INFO, freihand.INFO, ho3d.INFO, coco_wholebody.INFO,
)}  # fmt: skip


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
            return interhand26m.InterHand26M(folder, split, mano)
        case "reinterhand":
            return reinterhand.ReInterHand(folder, split, mano)
        case "hic":
            return hic.Hic(folder, split, mano)
        case "freihand":
            return freihand.FreiHand(folder, split, mano)
        case "ho3d":
            return ho3d.Ho3d(folder, split, mano)
        case "coco_wholebody":
            return coco_wholebody.CocoWholeBody(folder, split, mano)
        case _:
            raise AssertionError(f"{name} has no reader")
