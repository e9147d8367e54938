"""`twohands synth`: pictures with exact truth."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from twohands.cli.app import app
from twohands.cli.console import progress_bar

if TYPE_CHECKING:
    from twohands.synth.scene import SceneKnobs


@app.command
def synth(
    out: Path,
    seed: int = 0,
    count: int = 1000,
    framing: Literal["close", "clasped", "wide", "person", "ego"] = "close",
    workers: int = 1,
    backgrounds: Path | None = None,
    borders: Path | None = None,
    size_px: int = 256,
    pairs: Literal["shipped", "fresh"] = "shipped",
    share: tuple[tuple[str, float], ...] = (),
    glb: bool = False,
) -> None:
    """Render synthetic photos of two hands, with exact 3D truth and prior maps, into shards.

    Args:
        out: Folder for the shards; those that are there already are kept.
        seed: The same seed gives the same photos.
        count: How many photos.
        framing: Hands filling the picture (clasped: two that interact), whole scenes of any kind, people who show or do something, or one's own hands.
        workers: Processes to render with.
        backgrounds: Folder of pictures without hands that serve as backgrounds.
        borders: Folder of photos that may show hands; pieces of their borders serve as backgrounds.
        size_px: Side of the pictures.
        pairs: Interacting pairs of hands: those that come with the package, or new ones for every 2,000 scenes (five seconds each time).
        share: How often something is to be seen, such as `--share held .8 --share glove .1`; the shares are those of `SceneKnobs`.
        glb: Write the scenes as GLB files to look at instead of rendering them.
    """
    from twohands.errors import UserError
    from twohands.synth.backgrounds import Photos
    from twohands.synth.generate import write_shards
    from twohands.synth.knobs import with_shares
    from twohands.synth.scene import CLASPED, SceneKnobs

    for folder in (backgrounds, borders):
        if folder is not None and not folder.is_dir():
            raise UserError(f"{folder} is no folder; give one of photos for backgrounds, or none")
    if not 32 <= size_px <= 1024:
        raise UserError(f"size-px {size_px} is out of range; give 32 to 1024")
    photos = Photos(backgrounds, borders)
    knobs = CLASPED if framing == "clasped" else SceneKnobs(framing=framing)
    knobs = with_shares(replace(knobs, size_px=size_px, pairs=pairs), share)
    if glb:
        _write_scenes(out, seed, count, knobs)
        return
    with progress_bar(count) as bar:
        paths = write_shards(out, seed, count, knobs, workers=workers, photos=photos, progress=bar.update)
    print(f"{count} photos in {len(paths)} shards in {out}")


def _write_scenes(out: Path, seed: int, count: int, knobs: "SceneKnobs") -> None:
    from twohands.errors import UserError
    from twohands.synth.generate import SEED_STRIDE
    from twohands.synth.glb import write_glb
    from twohands.synth.scene import build_scene

    if count < 1:
        raise UserError(f"count ({count}) must be at least 1")
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file; give a folder for the scenes")
    out.mkdir(parents=True, exist_ok=True)
    with progress_bar(count) as bar:
        for k in range(seed * SEED_STRIDE, seed * SEED_STRIDE + count):
            write_glb(build_scene(knobs, k), out / f"{k}.glb")
            bar.update(1)
    print(f"{count} scenes in {out}")
