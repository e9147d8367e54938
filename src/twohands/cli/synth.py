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

    with progress_bar(count) as bar:
        paths = write_shards(out, seed, count, SceneKnobs(framing=framing), workers=workers, photos=backgrounds, progress=bar.update)
    print(f"{count} photos in {len(paths)} shards in {out}")
