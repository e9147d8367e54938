"""A contact sheet: many photos with their hands in one picture."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from twohands.view.overlay import PAPER_RGB
from twohands.view.styles import captioned

CELL_PX = 240
LARGEST_SHEET = 400
"""Photos on one sheet; more make a picture that few programs open."""


@dataclass(frozen=True)
class Cell:
    """One photo on a sheet."""

    picture: UInt8[np.ndarray, "h w 3"]
    caption: str

    @staticmethod
    def of(picture: UInt8[np.ndarray, "h w 3"], caption: str, size_px: int = CELL_PX) -> "Cell":
        """Shrunk (never enlarged) to fit a square, so that many can be kept in memory."""
        small = Image.fromarray(picture)
        small.thumbnail((size_px, size_px), Image.Resampling.LANCZOS)
        return Cell(np.asarray(small), caption)


def contact_sheet(cells: list[Cell], columns: int | None = None, size_px: int = CELL_PX) -> UInt8[np.ndarray, "h w 3"]:
    """Cells in rows, in their order. ValueError without any."""
    if not cells:
        raise ValueError("a contact sheet needs at least one photo")
    columns = columns or min(len(cells), max(1, round((1.6 * len(cells)) ** 0.5)))
    gap = 6
    drawn = []
    for cell in cells:
        square = np.full((size_px, size_px, 3), PAPER_RGB, np.uint8)
        height, width = cell.picture.shape[:2]
        top, left = (size_px - height) // 2, (size_px - width) // 2
        square[top : top + height, left : left + width] = cell.picture
        drawn.append(captioned(square, cell.caption, 12))
    blank = np.full_like(drawn[0], 255)
    drawn += [blank] * (-len(drawn) % columns)
    padded = [np.pad(d, ((gap // 2, gap // 2), (gap // 2, gap // 2), (0, 0)), constant_values=255) for d in drawn]
    return np.concatenate([np.concatenate(padded[i : i + columns], 1) for i in range(0, len(padded), columns)])
