import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from twohands.checkpoints import load_weights, save_weights
from twohands.detector import (
    FIELDS,
    STRIDE,
    Detector,
    DetectorConfig,
    DetectorNetwork,
    Peaks,
    decode,
    explained,
    overlap,
    pair_people,
    suppress,
)

SMALL = DetectorConfig(input_px=64, hidden=16)
CONFIG = DetectorConfig()


class RedIsLeft(nn.Module):
    """A network that knows: bright red is a left hand, bright green a right one, two cells wide, pointing up."""

    config = SMALL

    def __init__(self) -> None:
        super().__init__()
        self.seen_px: list[int] = []

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        self.seen_px.append(max(image.shape[2:]))
        heat = functional.avg_pool2d(image[:, :2], STRIDE) * 20 - 10
        fields = torch.zeros(*heat.shape[:2], FIELDS, *heat.shape[2:])
        fields[:, :, 2:4] = math.log(2)  # boxes of two cells
        fields[:, :, 5] = -1
        return heat, fields


def maps(rows: int = 8, columns: int = 8) -> tuple[Tensor, Tensor]:
    return torch.full((2, rows, columns), -9.0), torch.zeros(2, FIELDS, rows, columns)


def put(heat: Tensor, fields: Tensor, side: int, cell: tuple[int, int], box: list[float], logit: float = 3.0) -> None:
    """Writes a hand into the maps, as a trained network would."""
    row, column = cell
    low, high = torch.tensor(box[:2]) / STRIDE, torch.tensor(box[2:]) / STRIDE
    heat[side, row, column] = logit
    fields[side, :2, row, column] = (low + high) / 2 - torch.tensor([column + 0.5, row + 0.5])
    fields[side, 2:4, row, column] = (high - low).log()
    fields[side, 4:, row, column] = torch.tensor([0.6, -0.8])


def hands(*boxes: tuple[float, float, float]) -> Tensor:
    """Square boxes from (x, y, side)."""
    return torch.tensor([[x - s / 2, y - s / 2, x + s / 2, y + s / 2] for x, y, s in boxes])


def test_what_the_maps_say_is_what_is_found():
    heat, fields = maps()
    put(heat, fields, 1, (2, 3), [12.0, 4.0, 44.0, 40.0])
    found = decode(heat, fields, CONFIG)
    assert found.side.tolist() == [1]
    torch.testing.assert_close(found.box, torch.tensor([[12.0, 4.0, 44.0, 40.0]]))
    assert found.evidence[0, 0].exp().item() == pytest.approx(torch.tensor(3.0).sigmoid().item())
    assert found.right.item() > 0.99
    torch.testing.assert_close(found.direction, torch.tensor([[0.6, -0.8]]))


def test_clasped_hands_in_one_cell_keep_their_own_boxes():
    heat, fields = maps()
    both = torch.tensor([[8.0, 8.0, 40.0, 40.0], [16.0, 4.0, 36.0, 48.0]])
    for side in (0, 1):
        put(heat, fields, side, (3, 3), both[side].tolist())
    found = decode(heat, fields, CONFIG)
    assert sorted(suppress(found, CONFIG).side.tolist()) == [0, 1]
    torch.testing.assert_close(found.box[found.side.argsort()], both)
    torch.testing.assert_close(found.right, torch.full((2,), 0.5))
    # Each is hot because the other is there, which is no doubt about its side.
    assert explained(found).right[found.side == 1].item() > 0.65
    assert explained(found).right[found.side == 0].item() < 0.35


def test_a_hand_alone_keeps_its_doubt():
    heat, fields = maps()
    put(heat, fields, 1, (2, 3), [12.0, 4.0, 44.0, 40.0], logit=1.0)
    heat[0, 2, 3] = -1.0
    found = decode(heat, fields, CONFIG)
    torch.testing.assert_close(explained(found).right, found.right)


def test_nothing_below_the_threshold_is_found():
    heat, fields = maps()
    assert len(decode(heat, fields, CONFIG).score) == 0


@pytest.mark.parametrize(("classes", "scores", "kept"), [
    ([1, 1], [0.9, 0.8], [0]),  # one hand, found twice
    ([0, 1], [0.9, 0.5], [0]),  # one hand whose side is in little doubt
    ([0, 1], [0.9, 0.8], [0, 1]),  # two hands in one place
])  # fmt: skip
def test_boxes_in_one_place(classes, scores, kept):
    score, boxes = torch.tensor(scores), hands((50, 50, 20), (51, 50, 20))
    peaks = Peaks(
        torch.tensor(classes), boxes, score, (3 * score).log()[:, None].expand(-1, 3), torch.tensor(classes).float(), torch.ones(2, 2)
    )
    torch.testing.assert_close(suppress(peaks, replace(CONFIG, threshold=0.1)).score, score[kept])


def test_cells_that_agree_are_one_hand_and_their_mean():
    heat, fields = maps()
    put(heat, fields, 1, (2, 3), [12.0, 4.0, 44.0, 40.0], logit=0.0)
    put(heat, fields, 1, (3, 4), [14.0, 4.0, 46.0, 40.0], logit=0.0)
    put(heat, fields, 1, (7, 7), [50.0, 50.0, 60.0, 60.0], logit=0.0)
    found = decode(heat, fields, CONFIG)
    assert sorted(found.evidence[:, 0].exp().tolist()) == pytest.approx([0.5, 1.0])
    torch.testing.assert_close(found.box[found.evidence[:, 0].argmax()], torch.tensor([13.0, 4.0, 45.0, 40.0]))


coordinate = st.floats(-100, 100, width=32)
box = st.tuples(coordinate, coordinate, st.floats(1, 50, width=32))


@given(st.lists(box, min_size=1, max_size=4))
def test_overlap_is_symmetric_and_one_with_itself(boxes):
    iou = overlap(hands(*boxes), hands(*boxes))
    torch.testing.assert_close(iou, iou.T)
    torch.testing.assert_close(iou.diagonal(), torch.ones(len(boxes)), atol=1e-3, rtol=0)
    assert iou.min() >= 0
    assert iou.max() <= 1 + 1e-3


@given(st.lists(st.tuples(box, st.integers(0, 1)), max_size=6))
def test_nobody_has_two_hands_of_one_side(found):
    classes = torch.tensor([side for _, side in found], dtype=torch.long)
    boxes = hands(*(b for b, _ in found)).reshape(-1, 4)
    person = pair_people(boxes, classes)
    assert len({*zip(person, classes.tolist(), strict=True)}) == len(found)


@pytest.mark.parametrize(("other", "together"), [((80, 50, 20), True), ((500, 50, 20), False), ((80, 50, 60), False)])
def test_a_pair_is_near_and_of_like_size(other, together):
    person = pair_people(hands((50, 50, 20), other), torch.tensor([0, 1]))
    assert (person[0] == person[1]) == together


@pytest.mark.parametrize(("height", "width"), [(64, 64), (40, 90), (333, 250), (17, 64), (1200, 700)])
def test_hands_are_found_where_they_are_in_photos_of_any_size(height, width):
    cell = max(height, width) / SMALL.input_px * STRIDE  # what one cell covers of the photo
    image = np.zeros((height, width, 3), np.uint8)
    x, y = round(width / 2), round(height / 2)
    half = round(cell)
    image[max(0, y - half) : y + half, x - half : x + half, 1] = 255
    found = Detector(RedIsLeft())(image)  # type: ignore[arg-type]
    centre = (found.box_xyxy_px[0, :2] + found.box_xyxy_px[0, 2:]) / 2
    assert (centre - torch.tensor([float(x), float(y)])).abs().max() <= 1.1 * cell
    assert found.right_probability[0] > 0.9
    torch.testing.assert_close(found.direction[0], torch.tensor([0.0, -1.0]))
    assert len(found.person) == len(found.box_xyxy_px)


def test_a_large_photo_is_looked_at_again():
    network = RedIsLeft()
    found = Detector(network)(np.zeros((200, 300, 3), np.uint8))  # type: ignore[arg-type]
    assert network.seen_px == [64, 128]
    assert (len(found.score), found.person) == (0, ())
    network.seen_px.clear()
    Detector(network)(np.zeros((60, 64, 3), np.uint8))  # type: ignore[arg-type]
    assert network.seen_px == [64]
    network.config = replace(SMALL, looks=3)
    for width, seen_px in ((300, [64, 128, 256]), (192, [64, 128]), (193, [64, 128, 256])):
        network.seen_px.clear()
        Detector(network)(np.zeros((100, width, 3), np.uint8))  # type: ignore[arg-type]
        assert network.seen_px == seen_px
    # A hand that is near: nobody is searched for across the room.
    image = np.zeros((200, 300, 3), np.uint8)
    image[60:120, 60:120, 1] = 255
    network.seen_px.clear()
    Detector(network)(image)  # type: ignore[arg-type]
    assert network.seen_px == [64, 128]


class SeesInTurn(nn.Module):
    """A network that says, look after look, what it was told to: (side, box, logit) of each hand."""

    def __init__(self, *looks: list[tuple[int, list[float], float]], config: DetectorConfig = SMALL) -> None:
        super().__init__()
        self.config, self.looks, self.images = config, list(looks), list[Tensor]()

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        heat, fields = maps()
        for side, box, logit in self.looks[len(self.images)]:
            cell = int((box[1] + box[3]) / 2 / STRIDE), int((box[0] + box[2]) / 2 / STRIDE)
            put(heat, fields, side, cell, box, logit)
        self.images.append(image)
        return heat[None], fields[None]


DOUBTFUL, SURE = -0.4, 3.0
"""Logits that make a hand of three cells .46 and .9 probable."""
PLACE, CLOSER, MEANT = [20.0, 20.0, 44.0, 44.0], [16.0, 16.0, 52.0, 52.0], [20.0, 20.0, 47.0, 47.0]
"""A box in a photo of 64 px, one in the look at the 48 px around it, and what this is in the photo."""


def test_what_may_be_a_hand_is_looked_at_by_itself():
    network = SeesInTurn([(1, PLACE, DOUBTFUL)], [(1, CLOSER, SURE)])
    image = np.zeros((64, 64, 3), np.uint8)
    image[8:56, 8:56] = 255
    found = Detector(network)(image)  # type: ignore[arg-type]
    assert bool((network.images[1] == 1).all()), "the surroundings of the box and nothing else"
    torch.testing.assert_close(found.box_xyxy_px, torch.tensor([MEANT]))
    assert CONFIG.doubtful < float(found.score) < CONFIG.threshold, "it is no more probable than it was"
    assert found.person == (0,)


@pytest.mark.parametrize(
    "closer",
    [[], [(0, CLOSER, SURE)], [(1, CLOSER, DOUBTFUL - 0.5)], [(1, [0.0, 0.0, 16.0, 16.0], SURE)]],
    ids=["none", "other side", "unsure", "elsewhere"],
)
def test_what_a_closer_look_does_not_show_is_no_hand(closer):
    network = SeesInTurn([(1, PLACE, DOUBTFUL)], closer)
    assert len(Detector(network)(np.zeros((64, 64, 3), np.uint8)).score) == 0  # type: ignore[arg-type]
    assert len(network.images) == 2


def test_one_closer_look_is_enough_for_one_place():
    network = SeesInTurn([(0, PLACE, DOUBTFUL), (1, PLACE, DOUBTFUL)], [(0, CLOSER, SURE), (1, CLOSER, SURE)])
    found = Detector(network)(np.zeros((64, 64, 3), np.uint8))  # type: ignore[arg-type]
    assert len(network.images) == 2
    torch.testing.assert_close(found.box_xyxy_px, torch.tensor([MEANT, MEANT]))


def test_at_the_border_a_closer_look_is_black_beyond_it():
    network = SeesInTurn([(1, [40.0, 40.0, 64.0, 64.0], DOUBTFUL)], [])
    Detector(network)(np.full((64, 64, 3), 255, np.uint8))  # type: ignore[arg-type]
    seen = network.images[1]
    assert float(seen[..., :40, :40].min()) == 1
    assert float(seen[..., 56:, :].max()) == float(seen[..., 56:].max()) == 0


@pytest.mark.parametrize(("logit", "config"), [(SURE, SMALL), (DOUBTFUL, replace(SMALL, doubtful=SMALL.threshold)), (-1.5, SMALL)])
def test_hands_that_are_sure_or_hardly_there_are_not_looked_at_more_closely(logit, config):
    network = SeesInTurn([(1, PLACE, logit)], config=config)
    found = Detector(network)(np.zeros((64, 64, 3), np.uint8))  # type: ignore[arg-type]
    assert len(found.score) == (logit == SURE)


def test_a_threshold_below_what_is_doubtful_holds():
    """Who wants every hand gets it, and no closer look takes it away."""
    network = SeesInTurn([(1, PLACE, DOUBTFUL - 0.6)], config=replace(SMALL, threshold=0.2))
    found = Detector(network)(np.zeros((64, 64, 3), np.uint8))  # type: ignore[arg-type]
    assert 0.2 < float(found.score) < SMALL.doubtful
    torch.testing.assert_close(found.box_xyxy_px, torch.tensor([PLACE]))


def test_a_sure_hand_stays_as_it_is_beside_a_doubtful_one():
    network = SeesInTurn([(1, PLACE, SURE), (1, [44.0, 4.0, 60.0, 20.0], DOUBTFUL + 0.3)], [])
    found = Detector(network)(np.zeros((64, 64, 3), np.uint8))  # type: ignore[arg-type]
    torch.testing.assert_close(found.box_xyxy_px, torch.tensor([PLACE]))
    assert len(network.images) == 2


@pytest.mark.parametrize("image", [np.zeros((8, 8), np.uint8), np.zeros((8, 8, 3), np.float32), np.zeros((0, 8, 3), np.uint8)])
def test_what_is_no_photo_is_refused(image):
    with pytest.raises(ValueError, match="uint8 RGB"):
        Detector(RedIsLeft())(image)  # type: ignore[arg-type]


def test_a_detector_survives_its_file(tmp_path):
    torch.manual_seed(0)
    config = replace(SMALL, blocks=2)
    network = DetectorNetwork(config).eval()
    save_weights(tmp_path / "d.safetensors", network, config, {}, half=False)
    loaded = Detector.load(tmp_path / "d.safetensors").network
    image = torch.rand(1, 3, 64, 96)
    with torch.inference_mode():
        for a, b in zip(network(image), loaded(image), strict=True):
            torch.testing.assert_close(a, b)
            assert a.shape[-2:] == (8, 12)


def test_blocks_that_have_not_learnt_change_nothing(tmp_path):
    torch.manual_seed(0)
    bare = DetectorNetwork(SMALL).eval()
    save_weights(tmp_path / "d.safetensors", bare, SMALL, {}, half=False)
    grown = DetectorNetwork(replace(SMALL, blocks=2)).eval()
    load_weights(tmp_path / "d.safetensors", grown, new=("neck",))
    assert len(grown.neck) == 2
    image = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        for a, b in zip(bare(image), grown(image), strict=True):
            torch.testing.assert_close(a, b)
