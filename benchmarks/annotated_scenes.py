"""What the benches of detector and confidences are shown: rendered scenes by seed, kept in OUT/scenes, and an exam's photos. No script itself."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from twohands.data.shards import ShardSet
from twohands.evaluation.true_boxes import AnnotatedPicture
from twohands.synth.backgrounds import Photos
from twohands.synth.generate import write_shards
from twohands.synth.scene import SceneKnobs


@dataclass(frozen=True)
class SceneOptions:
    """Where pictures come from and results go."""

    out: tyro.conf.Positional[Path]
    exam: Path | None = None
    """Folder of real photos with an exam.json."""
    backgrounds: Path | None = None
    borders: Path | None = None
    picture: Path | None = None
    """Where the curves are drawn; beside the results by default."""

    def scenes(self, framing: Literal["close", "wide"], seed: int, count: int, everyone: bool = False) -> list[AnnotatedPicture]:
        """Rendered ones; those that are there already are not rendered again. `everyone`: with bystanders' hands."""
        folder = self.out / "scenes" / framing
        write_shards(folder, seed, count, SceneKnobs(framing=framing, pairs="fresh"), 100, photos=Photos(self.backgrounds, self.borders))
        shards = ShardSet.read(sorted(folder.glob("*.npz")))
        return [AnnotatedPicture.of_sample(shards.sample(k), everyone=everyone) for k in range(min(len(shards), count))]
