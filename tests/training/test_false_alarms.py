"""False alarms: found where no hand is, kept beside shards, and shown to stage 1 as what they are."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from twohands.data.shards import ShardSet, write_shard
from twohands.detector import STRIDE, Detector, DetectorConfig, Peaks
from twohands.errors import UserError
from twohands.synth.photo import take_photo
from twohands.synth.scene import SceneKnobs
from twohands.training.detector import true_boxes
from twohands.training.false_alarms import FOLDER, FalseAlarms, find_false_alarms, of_nothing, with_false_alarms
from twohands.training.pairs import AugmentConfig, make_batch


class SeesCorners(torch.nn.Module):
    """Says that there is a left hand of 40 px in each of the picture's four corners, and one more in the middle."""

    def __init__(self) -> None:
        super().__init__()
        self.config = DetectorConfig(input_px=256)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        height, width = (s // STRIDE for s in image.shape[2:])
        heat = torch.full((1, 2, height, width), -9.0)
        for y, x in ((3, 3), (3, -4), (-4, 3), (-4, -4), (height // 2, width // 2)):
            heat[0, 0, y, x] = 3.0
        fields = torch.zeros(1, 2, 6, height, width)
        fields[:, :, 2:4] = float(np.log(40 / STRIDE))
        fields[:, :, 5] = -1.0
        return heat, fields


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    knobs = SceneKnobs(interacting=0.0, two_hands=0.5)
    for k in range(2):
        write_shard(tmp_path / f"{k:05d}.npz", [take_photo(knobs, 6 * k + seed) for seed in range(6)])
    return tmp_path


def ignore(_: int) -> None:
    pass


def test_only_what_lies_on_no_hand_is_one() -> None:
    hand = torch.tensor([[100.0, 100.0, 150.0, 160.0]])
    boxes = torch.tensor(
        [[10.0, 10, 60, 60], [120, 110, 140, 130], [60, 60, 220, 220], [140, 90, 200, 150], [145, 155, 205, 215], [300, 300, 304, 304]]
    )
    peaks = Peaks(
        torch.zeros(6, dtype=torch.long), boxes, torch.full((6,), 0.5), torch.zeros(6, 3), torch.full((6,), 0.5), torch.zeros(6, 2)
    )
    # Away from it; inside it; all around it; over its edge; at its corner only; too small.
    assert of_nothing(peaks, hand).box.tolist() == boxes[[0, 4]].tolist()
    assert of_nothing(peaks, torch.zeros(0, 4)).box.tolist() == boxes[:5].tolist()


def test_they_are_found_once_and_lie_on_no_hand(folder: Path) -> None:
    detector = Detector(SeesCorners())  # type: ignore[arg-type]
    seen: list[int] = []
    total = find_false_alarms(folder, detector, None, seen.append)
    assert total > 12
    assert sum(seen) == 2
    shards = with_false_alarms(ShardSet.read(sorted(folder.glob("*.npz"))), folder)
    valid = shards.arrays["false_valid"]
    assert valid.sum() == total
    assert (np.sort(~valid, 1) == ~valid).all(), "those that are kept come first"
    for index in range(len(shards)):
        boxes = torch.from_numpy(shards.arrays["false_box"][index][valid[index]])
        hands = true_boxes(shards, index)
        centre = (boxes[:, :2] + boxes[:, 2:]) / 2
        for hand in hands:
            assert not ((centre > hand[:2]) & (centre < hand[2:])).all(1).any()
    assert find_false_alarms(folder, detector, None, ignore) == 0, "shards that are done are left as they are"


def test_what_belongs_to_other_shards_is_refused(folder: Path) -> None:
    shards = ShardSet.read(sorted(folder.glob("*.npz")))
    assert with_false_alarms(shards, folder) is shards
    FalseAlarms.none(6).write(folder / FOLDER / "00000.npz")
    with pytest.raises(UserError, match=r"00001\.npz"):
        with_false_alarms(shards, folder)
    FalseAlarms.none(5).write(folder / FOLDER / "00001.npz")
    with pytest.raises(UserError, match="11 images"):
        with_false_alarms(shards, folder)
    with pytest.raises(UserError, match="no shards"):
        find_false_alarms(folder / FOLDER / "none", Detector(SeesCorners()), None, ignore)  # type: ignore[arg-type]


def test_stage_1_is_shown_them_as_no_hand(folder: Path) -> None:
    find_false_alarms(folder, Detector(SeesCorners()), None, ignore)  # type: ignore[arg-type]
    plain = ShardSet.read(sorted(folder.glob("*.npz")))
    shards = with_false_alarms(plain, folder)
    always = AugmentConfig(false_alarm=1.0, empty=0.0, double=0.0, wrong_side=0.0, mirror=0.0, shift=0.0)

    def batch(of: ShardSet):
        return make_batch([(of, i) for i in range(len(of))], 64, 16, np.random.default_rng(0), always)

    with_alarms, without = batch(shards), batch(plain)
    shown = with_alarms.present & (with_alarms.truth.presence == 0)
    assert not (without.present & (without.truth.presence == 0)).any()
    assert torch.equal(shown.any(1), torch.from_numpy(shards.arrays["false_valid"].any(1)))
    alone = without.present.sum(1) == 1
    assert torch.equal(shown[alone], ~without.present[alone] & shown[alone].any(1, keepdim=True)), "in the slot that was free"
    truth = with_alarms.truth
    assert truth.state_valid[shown].all()
    for name in ("xy_valid", "joints_valid"):
        assert not getattr(truth, name)[shown].any()
    for name in ("parameters_valid", "prior_valid", "other_valid"):
        assert not getattr(truth, name)[shown].any()
    assert not truth.relative_valid[shown.any(1)].any()
    geometry = (with_alarms.view.geometry - without.view.geometry).abs().amax(-1)
    assert (geometry[~shown & without.present & with_alarms.present & ~shown.any(1, keepdim=True)] == 0).all()
    none = dataclasses.replace(always, false_alarm=0.0)
    assert torch.equal(
        make_batch([(shards, i) for i in range(len(shards))], 64, 16, np.random.default_rng(0), none).present, without.present
    )
