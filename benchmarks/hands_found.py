"""How many hands of rendered scenes the whole product finds, in its own detector's boxes and without stage 2:

    twohands synth --out SCENES --seed 5304 --framing clasped --pairs fresh --size-px 320 --count 300
    python benchmarks/hands_found.py SCENES

A hand is found if one of its side has a mean keypoint error below .3 of its size; a picture is exactly right if both hands of its person are found and
nothing else is. Bystanders' hands may be found, and need not be."""

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from torch import Tensor
from tqdm import tqdm

import twohands
from twohands.data.shards import ShardSet
from twohands.errors import UserError
from twohands.schema import PhotoResult, Sample

FOUND_ERROR = 0.3
"""Mean keypoint error, in sizes of the hand, below which it is found."""


@dataclass(frozen=True)
class Options:
    """What is looked at."""

    scenes: tyro.conf.Positional[Path]
    """Folder of shards, as `twohands synth` writes them."""
    count: int | None = None
    """Only so many."""


@dataclass
class Score:
    """Sums over pictures."""

    pictures: int = 0
    exact: int = 0
    hands: int = 0
    found: int = 0
    false: int = 0

    def add(self, sample: Sample, result: PhotoResult) -> None:
        """Counts a picture. Surest hands choose first."""
        own = [(side, sample.keypoints_xy[side]) for side in (0, 1) if sample.hand_valid[side]]
        extra = sample.extra
        others = [] if extra is None else [(int(extra.side[k]), extra.keypoints_xy[k]) for k in extra.valid.nonzero()[:, 0].tolist()]
        left = [*own, *others]
        got = [(float(p.score[side]), side, p.keypoints_xy[side]) for p in result.people for side in (0, 1) if p.hand_present[side]]
        false = 0
        for _, side, xy in sorted(got, key=lambda hand: -hand[0]):
            errors = [relative_error(xy, true_xy) if side == true_side else np.inf for true_side, true_xy in left]
            if min(errors, default=np.inf) < FOUND_ERROR:
                del left[int(np.argmin(errors))]
            else:
                false += 1
        missed = sum(any(hand is other for other in left) for hand in own)
        self.pictures, self.hands, self.false = self.pictures + 1, self.hands + len(own), self.false + false
        self.found, self.exact = self.found + len(own) - missed, self.exact + (missed == 0 and false == 0)

    def __str__(self) -> str:
        recall = self.found / max(self.hands, 1)
        return f"exactly right {self.exact} of {self.pictures}; hands found {self.found} of {self.hands} ({recall:.3f}); false hands {self.false}"


def relative_error(xy: Tensor, true_xy: Tensor) -> float:
    """Mean distance of the keypoints over the true hand's longer side, at least a pixel."""
    return float((xy - true_xy).norm(dim=-1).mean() / (true_xy.amax(0) - true_xy.amin(0)).max().clamp_min(1.0))


def main(options: Options) -> None:
    """Looks at every picture and prints the sums."""
    files = sorted(options.scenes.glob("*.npz"))
    if not files:
        raise UserError(f"{options.scenes} holds no shards; make some with twohands synth --out {options.scenes}")
    shards, pipeline, score = ShardSet.read(files), twohands.load(), Score()
    with torch.inference_mode():
        for k in tqdm(range(min(len(shards), options.count or len(shards))), unit="picture"):
            sample = shards.sample(k)
            image = sample.image.permute(1, 2, 0).contiguous().numpy()
            score.add(sample, pipeline.reconstruct(image, intrinsics=sample.camera.matrix().numpy(), refine=False))
    print(score)


if __name__ == "__main__":
    try:
        main(tyro.cli(Options))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
