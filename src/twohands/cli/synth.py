"""`twohands synth`: pictures with exact truth."""

from pathlib import Path
from typing import Literal

from twohands.cli.app import app
from twohands.cli.console import progress_bar


@app.command
def synth(
    out: Path,
    seed: int = 0,
    count: int = 1000,
    framing: Literal["close", "wide", "person", "ego"] = "close",
    workers: int = 1,
    backgrounds: Path | None = None,
    borders: Path | None = None,
    size_px: int = 256,
) -> None:
    """Render synthetic photos of two hands, with exact 3D truth and prior maps, into shards.

    Args:
        out: Folder for the shards; those that are there already are kept.
        seed: The same seed gives the same photos.
        count: How many photos.
        framing: Hands filling the picture, whole scenes of any kind, people who show or do something, or one's own hands.
        workers: Processes to render with.
        backgrounds: Folder of pictures without hands that serve as backgrounds.
        borders: Folder of photos that may show hands; pieces of their borders serve as backgrounds.
        size_px: Side of the pictures.
    """
    from twohands.errors import UserError
    from twohands.synth.backgrounds import Photos
    from twohands.synth.generate import write_shards
    from twohands.synth.scene import SceneKnobs

    for folder in (backgrounds, borders):
        if folder is not None and not folder.is_dir():
            raise UserError(f"{folder} is no folder; give one of photos for backgrounds, or none")
    if not 32 <= size_px <= 1024:
        raise UserError(f"size-px {size_px} is out of range; give 32 to 1024")
    photos = Photos(backgrounds, borders)
    knobs = SceneKnobs(framing=framing, size_px=size_px)
    with progress_bar(count) as bar:
        paths = write_shards(out, seed, count, knobs, workers=workers, photos=photos, progress=bar.update)
    print(f"{count} photos in {len(paths)} shards in {out}")
