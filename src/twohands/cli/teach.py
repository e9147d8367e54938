"""`twohands teach`: teachers' lessons on photos and training shards, once and for all."""

import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro

from twohands.cli.app import app
from twohands.errors import UserError

if TYPE_CHECKING:
    from twohands.batch.engines import Worker
    from twohands.manifest import Manifest
    from twohands.priors.teacher import Teacher


@dataclass(frozen=True)
class TeacherChoice:
    """Which teacher, with its files."""

    name: Literal["landmark", "mediapipe", "sapiens", "rendered"]
    labels: Path | None
    keypoints: Path | None
    segmentation: Path | None
    depth: Path | None
    latents: bool
    device: str

    def load(self) -> "Teacher":
        import torch

        from twohands.hands.bundled import load_bundled_hand, load_hand_asset

        torch.set_num_threads(1)
        match self.name:
            case "landmark":
                from twohands.checkpoints import bundled_weights
                from twohands.detector import Detector
                from twohands.priors.mediapipe import LandmarkTeacher
                from twohands.priors.sapiens import sha256_of
                from twohands.priors.trust import TrustedLandmarks

                read = LandmarkTeacher.load(keeps_latents=self.latents)
                finder = f"detector {sha256_of(bundled_weights('detector.safetensors'))[:16]}"
                return TrustedLandmarks(read, Detector.load(device=self.device), load_bundled_hand(), load_hand_asset().limits, finder)
            case "mediapipe":
                from twohands.priors.labelled import LabelledTeacher

                if self.labels is None:
                    raise UserError("the teacher mediapipe needs --labels, the file that tools/label_photos.py writes")
                return LabelledTeacher(self.labels)
            case "sapiens":
                from twohands.priors.sapiens import SapiensTeacher

                return SapiensTeacher.load(self.keypoints, self.segmentation, self.depth, self.device)
            case "rendered":
                from twohands.priors.rendered import RenderedTeacher

                return RenderedTeacher(load_bundled_hand())

    def make_worker(self, manifest: "Manifest", folder: Path) -> "Worker":
        from twohands.priors.cache import TeachShard, source_at

        return TeachShard(manifest, source_at(folder), self.load())


@app.command
def teach(
    photos: tyro.conf.Positional[Path],
    out: Path,
    teacher: Literal["landmark", "mediapipe", "sapiens", "rendered"] = "landmark",
    labels: Path | None = None,
    sapiens_keypoints: Path | None = None,
    sapiens_segmentation: Path | None = None,
    sapiens_depth: Path | None = None,
    latents: bool = False,
    per_shard: int = 100,
    engine: Literal["local", "ray"] = "local",
    workers: int = 1,
    address: str | None = None,
    sheet: Path | None = None,
    device: Literal["cpu", "cuda"] = "cpu",
) -> int:
    """Run a teacher over photos, or over training shards, and keep what it says. Run the same command again to go on where it stopped.

    Args:
        photos: Folder of photos, searched with what is below it, or folder of training shards.
        out: Folder for the lessons.
        teacher: landmark is MediaPipe's landmark network on our detector's boxes, believed where it says the same of a hand however it is
            shown. mediapipe takes what tools/label_photos.py wrote. sapiens runs the user's Sapiens files. rendered draws the maps of shards
            whose samples have hand parameters.
        labels: For mediapipe: the labels.
        sapiens_keypoints: TorchScript file of Sapiens pose (308 keypoints). A TorchScript file is a program: give only files you trust.
        sapiens_segmentation: TorchScript file of Sapiens segmentation (28 classes).
        sapiens_depth: TorchScript file of Sapiens depth.
        latents: For landmark: keep the network's own 1,152 features of each hand.
        per_shard: Photos a file; what is redone after a kill.
        engine: local or ray, as in `twohands batch`.
        workers: Processes.
        address: Of a running Ray cluster.
        sheet: PNG with 100 random photos and what was said of them.
        device: Where the teacher runs.
    """
    if per_shard < 1:
        raise UserError(f"--per-shard {per_shard} makes no sense; give 1 or more")
    from tqdm import tqdm

    from twohands.batch.engines import run
    from twohands.priors.cache import Cache, begin_cache, source_at
    from twohands.priors.sheet import draw_sheet

    choice = TeacherChoice(teacher, labels, sapiens_keypoints, sapiens_segmentation, sapiens_depth, latents, device)
    manifest, _ = begin_cache(choice.load(), photos, out, per_shard)
    with manifest.held(), tqdm(total=len(manifest.shards), desc="shards", unit="shard", file=sys.stderr) as bar:
        pending = manifest.pending()
        bar.update(len(manifest.shards) - len(pending))
        for _ in run(engine, partial(choice.make_worker, manifest, photos), pending, workers, address):
            bar.update()
    cache = Cache.read(out)
    hands = (cache.arrays["trust"] > 0).sum(1)
    failed = [(name, error) for name, error in zip(cache.arrays["name"], cache.arrays["error"], strict=True) if error]
    print(f"{len(cache)} photos: {(hands > 0).sum()} with a trusted hand, {(hands == 2).sum()} with both; {hands.sum()} hands in {out}")
    for _, error in failed[:10]:
        print(f"twohands: {error}", file=sys.stderr)
    if failed:
        print(f"twohands: {len(failed)} photos could not be taught", file=sys.stderr)
    if sheet is not None:
        from twohands.manifest import beside

        with beside(sheet) as part:
            draw_sheet(cache, source_at(photos)).save(part, "PNG")
        print(f"look at {sheet}")
    return 2 if failed else 0
