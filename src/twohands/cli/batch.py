"""`twohands batch`: a whole corpus."""

import sys
from pathlib import Path
from typing import Literal

import tyro

from twohands.cli.app import app
from twohands.errors import UserError


@app.command
def batch(
    sources: tyro.conf.Positional[list[Path]],
    out: Path,
    engine: Literal["local", "ray"] = "local",
    workers: int = 1,
    per_shard: int = 50,
    every: int = 1,
    retry_failed: bool = False,
    address: str | None = None,
    focal_px: float | None = None,
    fov_deg: float | None = None,
    refine: bool = True,
    mano: Path | None = None,
    prior: Literal["auto", "encoder", "teacher"] = "auto",
    device: Literal["cpu", "cuda"] = "cpu",
) -> int:
    """Reconstruct the hands of a whole corpus of photos and videos into Parquet files. Run the same command again to go on where it stopped.

    The folder `out` gets manifest.jsonl, one Parquet file a shard, and failures.txt.

    Args:
        sources: Photos, videos, and folders, which are searched with all that is below them.
        out: Folder for the results.
        engine: local does the work in processes of this machine; ray does it with Ray Data, on a cluster if there is one.
        workers: Processes. Each holds the networks once and uses one core (or a share of the GPU).
        per_shard: Photos (or stretches of 100 frames) a Parquet file; what is redone after a kill.
        every: Of videos, take every so many-th frame.
        retry_failed: Do the shards that hold failures anew.
        address: Of a running Ray cluster, or auto; it must see the sources and `out` under the same paths.
        focal_px: Focal length in pixels, if it is known and the same everywhere.
        fov_deg: Field of view over the longer side in degrees, if that is known instead. Without either, EXIF tells, or 60 degrees are assumed.
        refine: Let stage 2 pull apart hands that pass through one another.
        mano: Folder with MANO_LEFT.pkl and MANO_RIGHT.pkl; the hands are then given as MANO's.
        prior: Where the 2D prior comes from: the alignment encoder, the light teacher, or (auto) what is better on real photos, the encoder.
        device: Where the networks run.
    """
    if focal_px is not None and fov_deg is not None:
        raise UserError("--focal-px and --fov-deg were given together; give one of them")
    for name, value in (("--workers", workers), ("--per-shard", per_shard), ("--every", every)):
        if value < 1:
            raise UserError(f"{name} {value} makes no sense; give 1 or more")
    from dataclasses import asdict
    from time import perf_counter

    from tqdm import tqdm

    from twohands.batch.corpus import Reconstruction, reconstruct_corpus
    from twohands.batch.table import read_failures
    from twohands.manifest import Manifest, beside

    how = Reconstruction(focal_px, fov_deg, refine, None if mano is None else str(mano.resolve()), prior, device)
    settings = {name: value for name, value in asdict(how).items() if name != "device"}
    start = perf_counter()
    pictures = hands = 0
    bar: tqdm = tqdm(desc="shards", unit="shard", file=sys.stderr)
    with bar:
        for news in reconstruct_corpus(sources, out, how.load, settings, engine, workers, per_shard, every, retry_failed, address):
            if isinstance(news, Manifest):
                bar.reset(len(news.shards))
                bar.update(len(news.shards) - len(news.pending()))
                continue
            pictures, hands = pictures + news.pictures, hands + news.hands
            bar.update()
    seconds = perf_counter() - start
    failed = read_failures(out)
    with beside(out / "failures.txt") as part:
        part.write_text("".join(f"{file}{'' if frame is None else f' frame {frame}'}: {error}\n" for file, frame, error in failed))
    print(f"{pictures} pictures, {hands} hands in {seconds:.0f} s ({pictures / max(seconds, 1e-9):.1f} pictures/s); results in {out}")
    if failed:
        print(f"twohands: {len(failed)} pictures could not be done, see {out / 'failures.txt'}", file=sys.stderr)
    return 2 if failed else 0
