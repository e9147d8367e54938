import dataclasses

import numpy as np
import pytest
import torch

from twohands.cli import main
from twohands.data.shards import ShardSet
from twohands.detector import FIELDS, Detector, DetectorConfig, DetectorNetwork, decode, overlap
from twohands.training.detector import DetectorBatch, DetectorBatches, DetectorTraining, calibrated, detector_loss, measured, train_detector
from twohands.training.fit import FitConfig

TINY = DetectorConfig(hidden=16)


def training(folder, out, steps=2, **changes) -> DetectorTraining:
    fit = FitConfig(out, steps, warmup_steps=1, checkpoint_steps=1, precision="32-true", accelerator="cpu")
    return DetectorTraining(fit, (folder,), (1.0,), TINY, batch=3, sizes=(96,), validation=2, **changes)


def truth(*rows: tuple[int, list[float], tuple[float, float]]) -> DetectorBatch:
    """One picture of 128 px with hands (side, box, direction)."""
    side, box, direction = zip(*rows, strict=True)
    count = len(rows)
    return DetectorBatch(
        torch.zeros(1, 3, 128, 128), torch.tensor(box).view(1, count, 4), torch.tensor(direction).view(1, count, 2),
        torch.tensor(side).view(1, count), torch.ones(1, count, dtype=torch.bool),
    )  # fmt: skip


def test_the_minimum_of_the_loss_decodes_to_the_truth():
    """Three hands, two of them clasped with one centre."""
    batch = truth(
        (0, [20.0, 20.0, 60.0, 60.0], (0.0, -1.0)), (1, [10.0, 30.0, 70.0, 50.0], (1.0, 0.0)), (1, [90.0, 80.0, 120.0, 120.0], (-0.6, 0.8))
    )
    heat = torch.full((1, 2, 16, 16), -4.0).requires_grad_()
    fields = torch.full((1, 2, FIELDS, 16, 16), 0.1).requires_grad_()
    optimizer = torch.optim.Adam([heat, fields], 0.1)
    for _ in range(150):
        optimizer.zero_grad()
        detector_loss(heat, fields, batch)[0].backward()
        optimizer.step()
    found = decode(heat[0].detach(), fields[0].detach(), DetectorConfig())
    assert sorted(found.side.tolist()) == [0, 1, 1]
    iou = overlap(batch.box[0], found.box) * (batch.side[0][:, None] == found.side)
    best = iou.max(1)
    assert best.values.min() > 0.9
    torch.testing.assert_close(found.direction[best.indices], batch.direction[0], atol=0.05, rtol=0)


def test_a_picture_without_hands_teaches_too():
    batch = dataclasses.replace(truth((0, [20.0, 20.0, 60.0, 60.0], (0.0, -1.0))), valid=torch.zeros(1, 1, dtype=torch.bool))
    heat = torch.zeros(1, 2, 16, 16, requires_grad=True)
    loss, _ = detector_loss(heat, torch.zeros(1, 2, FIELDS, 16, 16), batch)
    loss.backward()
    assert heat.grad is not None
    assert bool((heat.grad > 0).all())


def test_a_batch_is_a_function_of_seed_and_step(shards, shard_folder, tmp_path):
    make = [DetectorBatches([shards], training(shard_folder, tmp_path)).make(step) for step in (5, 5, 6)]
    assert torch.equal(make[0].image, make[1].image)
    assert torch.equal(make[0].box, make[1].box)
    assert not torch.equal(make[0].image, make[2].image)


def test_labels_move_with_the_pixels(shards, shard_folder, tmp_path):
    """Every photo is black but for its hands' boxes: where a hand is said to be it is bright, whatever was turned, scaled, mirrored or put into
    a mosaic."""
    painted = Painted(shards.arrays, shards.images, shards.source)
    batches = DetectorBatches([painted], training(shard_folder, tmp_path, mosaic=0.5, scale=(0.6, 1.2)))
    right, count = 0, 0
    for step in range(8):
        batch = batches.make(step)
        for i, k in batch.valid.nonzero().tolist():
            box = batch.box[i, k]
            middle = ((box[:2] + box[2:]) / 2).long()
            if (box[2:] - box[:2]).min() < 10:
                continue
            count += 1
            right += int(batch.image[i, :2, middle[1], middle[0]].amax() > 0.25)
    assert count > 10
    assert right / count > 0.9  # a box of a neighbour may lie on top


class Painted(ShardSet):
    def decode(self, index: int) -> np.ndarray:
        image = np.zeros((256, 256, 3), np.uint8)
        for h in np.flatnonzero(self.arrays["hand_valid"][index]):
            xy = self.arrays["keypoints_xy"][index][h].clip(0, 256).astype(int)
            (x0, y0), (x1, y1) = xy.min(0), xy.max(0)
            image[y0:y1, x0:x1, h] = 255
        return image


def test_training_writes_a_detector_and_goes_on(shard_folder, tmp_path):
    first = train_detector(training(shard_folder, tmp_path, 1))
    before = Detector.load(first).network.state_dict()
    after = Detector.load(train_detector(training(shard_folder, tmp_path, 3))).network.state_dict()
    assert any(not torch.equal(before[name], after[name]) for name in before)
    assert Detector.load(first)(np.zeros((50, 70, 3), np.uint8)).box_xyxy_px.shape[1] == 4


def test_confidence_is_fitted_to_what_was_right(shards):
    """A network whose hot cells are hands: after the fit a confidence of more than one half is right more often than not."""

    class Fair(torch.nn.Module):
        """Sees a hand of random heat where one is, and one of little heat where none is."""

        def __init__(self) -> None:
            super().__init__()
            self.index = 0

        def forward(self, image):
            rows, columns = image.shape[2] // 8, image.shape[3] // 8
            heat, fields = torch.full((1, 2, rows, columns), -9.0), torch.zeros(1, FIELDS * 2, rows, columns).unflatten(1, (2, FIELDS))
            for h in np.flatnonzero(shards.arrays["hand_valid"][self.index]):
                xy = torch.from_numpy(shards.arrays["keypoints_xy"][self.index][h]) / 8
                low, high = xy.amin(0), xy.amax(0)
                column, row = ((low + high) / 2).long().clamp_min(0).tolist()
                if row < rows and column < columns:
                    heat[0, h, row, column] = 2.0
                    fields[0, h, :2, row, column] = (low + high) / 2 - torch.tensor([column + 0.5, row + 0.5])
                    fields[0, h, 2:4, row, column] = (high - low).log()
            heat[0, 0, 0, 0] = -1.0  # a faint box of one cell in the corner
            self.index += 1
            return heat, fields

    fitted = calibrated(Fair(), [(shards, i) for i in range(len(shards))], DetectorConfig(confidence=(0.0, 0.0, 0.0, 0.0)))
    network = Fair()
    right = []
    for i in range(len(shards)):
        heat, fields = network(torch.zeros(1, 3, *shards.decode(i).shape[:2]))
        peaks = decode(heat[0], fields[0], fitted)
        sure = peaks.score > 0.5
        right += (peaks.box[sure][:, :2].amax(1) > 1).tolist()
    assert np.mean(right) > 0.9
    assert calibrated(Fair(), [], DetectorConfig()).confidence == DetectorConfig().confidence


def test_statistics_are_measured_anew(shard_folder, shards, tmp_path):
    network = DetectorNetwork(TINY)
    norm = network.head[0][1]
    norm.running_var.fill_(torch.inf)
    batches = DetectorBatches([shards], training(shard_folder, tmp_path), 0, 0)
    measured(network, batches, 2)
    assert not any(m.training for m in network.modules())
    seen: list[torch.Tensor] = []
    norm.register_forward_hook(lambda _, given, __: seen.append(given[0]))
    with torch.no_grad():
        for step in range(2):
            network(batches.make(step).image)
    expected = torch.stack([x.var((0, 2, 3)) for x in seen]).mean(0)
    torch.testing.assert_close(norm.running_var, expected, rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize(("option", "value"), [("--learning-rate", "0"), ("--slow-share", "-0.5"), ("--learning-rate", "nan")])
def test_a_rate_that_is_none_is_refused(tmp_path, capsys, option, value):
    asked = ["train", "detector", "--shards", str(tmp_path), "--mixture", "1", "--out", str(tmp_path / "run"), option, value]
    assert main(asked) == 2
    assert f"{option} must be above 0, got {float(value)}" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
