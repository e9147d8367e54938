"""A photo of one hand made one of two: what is cut out is the hand, and the new keypoints are where its joints were laid."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from twohands.data.shards import ShardSet
from twohands.geometry.camera import Camera
from twohands.hands.bundled import load_bundled_hand
from twohands.hands.parameters import HandParameters
from twohands.record import stack
from twohands.refine.refiner import shared_volumes_cm3
from twohands.schema import Sample
from twohands.training.doubled import DoublingConfig, doubled, hand_cutout, transplanted


@pytest.fixture(scope="module")
def one_hand(shards: ShardSet) -> Sample:
    """A rendered sample, its other hand forgotten."""
    alone = [shards.sample(i) for i in range(len(shards))]
    sample = next(s for s in alone if bool(s.hand_valid[1]) and float(s.keypoint_visible[1].mean()) > 0.6)
    xy = sample.keypoints_xy.clone()
    xy[0] = 0

    return replace(sample, hand_valid=torch.tensor([False, True]), keypoints_xy=xy)


def drawn_hand(size: int = 128) -> tuple[torch.Tensor, torch.Tensor]:
    """A light hand on a dark ground, and its keypoints: a palm and five straight fingers, upwards."""
    xy = torch.tensor([[64.0, 110.0]])
    for f, x in enumerate((40.0, 52.0, 62.0, 72.0, 82.0)):
        ys = torch.linspace(86 if f == 0 else 74, 60 if f == 0 else 34, 4)
        xy = torch.cat([xy, torch.stack([torch.full((4,), x), ys], 1)])
    grid = torch.stack(torch.meshgrid(torch.arange(size) + 0.5, torch.arange(size) + 0.5, indexing="xy"), -1)
    light = torch.zeros(size, size, dtype=torch.bool)
    for a, b in [(0, 1), (0, 5), (0, 9), (0, 13), (0, 17), *((4 * f + k, 4 * f + k + 1) for f in range(5) for k in (1, 2, 3))]:
        t = (((grid - xy[a]) @ (xy[b] - xy[a])) / (xy[b] - xy[a]).square().sum()).clamp(0, 1)
        light |= (grid - xy[a] - t[..., None] * (xy[b] - xy[a])).norm(dim=-1) < (6 if a == 0 else 4)
    image = torch.where(light, torch.tensor([0.8, 0.6, 0.5])[:, None, None], torch.tensor([0.1, 0.15, 0.2])[:, None, None])
    return image, xy


def test_cutout_is_the_hand_and_not_the_ground() -> None:
    image, xy = drawn_hand()
    whole, alone = hand_cutout(image, xy, arm=0.5)
    light = image[0] > 0.5
    assert ((alone > 0.5) & light).sum() / light.sum() > 0.95
    assert ((alone > 0.5) & ~light).sum() / (alone > 0.5).sum() < 0.1
    assert bool((whole + 1e-6 >= alone).all())


def test_second_hand_is_the_mirror_image_of_the_first(one_hand: Sample) -> None:
    """Up to a similarity with reflection: sides' lengths keep their ratios, and the sense of rotation turns."""
    found = [doubled(one_hand, one_hand, np.random.default_rng(seed), DoublingConfig(offset=(0.0, 0.3))) for seed in range(12)]
    made = [m for m in found if m is not None]
    assert len(made) >= 3
    for m in made:
        assert bool(m.hand_valid.all())
        first, second = (m.keypoints_xy[h] - m.keypoints_xy[h][0] for h in (1, 0))
        torch.testing.assert_close(m.keypoints_xy[1], one_hand.keypoints_xy[1])
        length = second.norm(dim=-1) / first.norm(dim=-1).clamp_min(1e-3)
        torch.testing.assert_close(length[1:], length[1].expand(20), rtol=1e-3, atol=1e-3)

        def sense(v: torch.Tensor) -> torch.Tensor:
            return (v[5, 0] * v[17, 1] - v[5, 1] * v[17, 0]).sign()

        assert sense(first) == -sense(second)
        assert not torch.equal(m.image, one_hand.image)


def test_pixels_of_the_second_hand_lie_at_its_keypoints() -> None:
    image, xy = drawn_hand()
    sample = sample_of(image, xy)
    config = DoublingConfig(offset=(0.5, 0.6), scale=(1.0, 1.0), recoloured=0.0, light=0.0)
    made = next(m for seed in range(30) if (m := doubled(sample, sample, np.random.default_rng(seed), config)) is not None)
    inside = ((made.keypoints_xy[1] > 1) & (made.keypoints_xy[1] < 127)).all(1)
    at = made.keypoints_xy[1][inside].long()
    bright = made.image[0, at[:, 1], at[:, 0]].float() / 255
    assert float((bright > 0.5).float().mean()) > 0.9
    covered = (made.keypoints_xy[0][:, None] - made.keypoints_xy[1]).norm(dim=-1).amin(1) < 1.5
    assert bool((made.keypoint_visible[0][covered] == 0).all())


def test_two_hands_or_none_are_left_alone(one_hand: Sample) -> None:

    for valid in ([False, False], [True, True]):
        other = replace(one_hand, hand_valid=torch.tensor(valid))
        assert doubled(other, one_hand, np.random.default_rng(0)) is None
        assert doubled(one_hand, other, np.random.default_rng(0)) is None


def sample_of(image: torch.Tensor, xy: torch.Tensor) -> Sample:

    both = torch.stack([xy, torch.zeros_like(xy)])
    return Sample(
        image=(image * 255).round().to(torch.uint8),
        camera=Camera.from_fov(image.shape[2], image.shape[1], 60.0),
        hand_valid=torch.tensor([True, False]),
        keypoints_xy=both,
        keypoint_visible=torch.tensor([1.0, 0.0])[:, None].expand(2, 21),
        keypoints_camera_m=torch.zeros(2, 21, 3),
        keypoints_3d_valid=torch.zeros(2, 21, dtype=torch.bool),
        parameters=HandParameters.zeros(),
        parameters_valid=torch.zeros(2, dtype=torch.bool),
        box_xyxy_px=torch.cat([both.amin(1), both.amax(1)], -1),
        priors=None,
        source="drawn",
    )


def test_another_background_changes_nothing_but_the_background() -> None:
    image, xy = drawn_hand()
    sample = sample_of(image, xy)
    background = torch.tensor([0, 255, 0], dtype=torch.uint8)[:, None, None].expand(3, 128, 128)
    made = transplanted(sample, background, np.random.default_rng(1), DoublingConfig(recoloured=0.0, light=0.0, arm_alone=(0.5, 0.5)))
    assert made is not None
    assert torch.equal(made.keypoints_xy, sample.keypoints_xy)
    light = image[0] > 0.5
    same = (made.image.int() - sample.image.int()).abs().amax(0) < 40
    assert float(same[light].float().mean()) > 0.8  # the border is soft
    corner = made.image[:, :20, :20]
    assert bool((corner == background[:, :20, :20]).all())
    assert transplanted(replace(sample, hand_valid=torch.ones(2, dtype=torch.bool)), background, np.random.default_rng(1)) is None


def test_second_hand_in_3d_is_where_its_pixels_are(one_hand: Sample) -> None:
    model = load_bundled_hand()
    found = [doubled(one_hand, one_hand, np.random.default_rng(seed)) for seed in range(20)]
    made = [m for m in found if m is not None]
    assert len(made) >= 4
    for m in made:
        assert bool(m.parameters_valid.all())
        torch.testing.assert_close(model.pose_hands(m.parameters).keypoints(), m.keypoints_camera_m, atol=1e-5, rtol=0)
        size = float((m.keypoints_xy[0].amax(0) - m.keypoints_xy[0].amin(0)).max())
        off = (m.camera.project(m.keypoints_camera_m)[0] - m.keypoints_xy[0]).norm(dim=-1).mean() / size
        assert float(off) < 0.08  # turning a camera is not quite turning a picture
        torch.testing.assert_close(m.parameters.shape[0], m.parameters.shape[1])
        bones = [(m.keypoints_camera_m[h, 1:] - m.keypoints_camera_m[h, :1]).norm(dim=-1) for h in (0, 1)]
        torch.testing.assert_close(bones[0], bones[1], atol=1e-4, rtol=0)


def test_hands_laid_together_do_not_pass_through_each_other(one_hand: Sample) -> None:
    model = load_bundled_hand()
    config = DoublingConfig(offset=(0.0, 0.6))
    found = [doubled(one_hand, one_hand, np.random.default_rng(seed), config) for seed in range(20)]
    as_drawn = [doubled(one_hand, one_hand, np.random.default_rng(seed), replace(config, give_way_m=0.0)) for seed in range(20)]
    assert sum(m is None for m in as_drawn) > sum(m is None for m in found)
    volumes = shared_volumes_cm3(model, stack([m.parameters for m in found if m is not None]))
    assert len(volumes) >= 4
    assert float(volumes.max()) < 3.0  # flesh gives by 2 mm


def test_a_hand_on_the_other_is_nearer(one_hand: Sample) -> None:
    config = DoublingConfig(offset=(0.0, 0.5))
    made = [m for seed in range(20) if (m := doubled(one_hand, one_hand, np.random.default_rng(seed), config)) is not None]
    depth = torch.stack([m.keypoints_camera_m[..., 2].mean(1) for m in made])
    assert bool((depth[:, 0] < depth[:, 1]).all())
    unknown = replace(one_hand, parameters_valid=torch.zeros(2, dtype=torch.bool))
    flat = next(m for seed in range(20) if (m := doubled(unknown, unknown, np.random.default_rng(seed))) is not None)
    assert not bool(flat.parameters_valid.any())
