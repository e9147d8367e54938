"""How fast the engine is: processor time of a finished image, from nothing to its place in a shard. Every scene is rendered once, as a data set is."""

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from twohands.data.shards import ShardWriter
from twohands.synth.generate import SEED_STRIDE
from twohands.synth.photo import annotated, photographed
from twohands.synth.scene import SceneKnobs

RUN = 900
"""Scenes have the seeds of this run: no training set has it."""
WARM = 100
"""Scenes before those that count, in which compiled routines are loaded and the block's finger poses drawn: what a run does once."""


@dataclass(frozen=True)
class EngineRate:
    """Processor time a finished image, in milliseconds, and how large it is."""

    images: int
    scene_ms: float
    """Who is where, light, shading, background and the camera."""
    annotation_ms: float
    encoding_ms: float
    """JPEG, and the numbers as arrays."""
    writing_ms: float
    shard_bytes: float
    """On disk, an image."""

    @property
    def total_ms(self) -> float:
        return self.scene_ms + self.annotation_ms + self.encoding_ms + self.writing_ms

    @property
    def images_per_s(self) -> float:
        """Of one core."""
        return 1000 / self.total_ms


def engine_rate(knobs: SceneKnobs, images: int, warm: int = WARM) -> EngineRate:
    """Renders `images` scenes once each into a shard that is thrown away, after `warm` others that do not count."""
    first = RUN * SEED_STRIDE
    for seed in range(first, first + warm):
        annotated(photographed(knobs, seed))
    shard, spent = ShardWriter(), [0.0, 0.0, 0.0]
    for seed in range(first + warm, first + warm + images):
        clock = [time.process_time()]
        photograph = photographed(knobs, seed)
        clock.append(time.process_time())
        sample = annotated(photograph)
        clock.append(time.process_time())
        shard.add(sample, seed)
        clock.append(time.process_time())
        spent = [total + clock[k + 1] - clock[k] for k, total in enumerate(spent)]
    with tempfile.TemporaryDirectory() as folder:
        started = time.process_time()
        shard.write(Path(folder) / "00000.npz")
        spent.append(time.process_time() - started)
        size = (Path(folder) / "00000.npz").stat().st_size
    scene, annotation, encoding, writing = (1000 * s / images for s in spent)
    return EngineRate(images, scene, annotation, encoding, writing, size / images)
