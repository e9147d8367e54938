"""Batches for stage 1: the truth in them must be the truth of what the crops show."""

from types import SimpleNamespace

import numpy as np
import torch

from twohands.data.shards import ShardSet
from twohands.geometry.camera import Camera
from twohands.hands.bundled import load_bundled_hand
from twohands.hands.mirror import mirror_points
from twohands.regress.crops import view_pairs
from twohands.regress.losses import predicted_joints_m
from twohands.schema import HandPair
from twohands.training.pairs import AugmentConfig, PairBatch, PairBatches, _clasped_boxes, _others_keypoints, _smeared, _worn, make_batch


def batch_of(shards: ShardSet, augment: AugmentConfig | None, seed: int = 0) -> PairBatch:
    return make_batch([(shards, i) for i in range(len(shards))], 96, 16, np.random.default_rng(seed), augment)


def test_batch_is_a_function_of_seed_rank_and_step(shards: ShardSet) -> None:
    stream = PairBatches([shards], [1.0], 4, 32, 16, seed=3)
    resumed = PairBatches([shards], [1.0], 4, 32, 16, seed=3, start_step=6)
    seventh = [batch for batch, _ in zip(stream, range(7), strict=False)][6]
    again = next(iter(resumed))
    torch.testing.assert_close(seventh.crops, again.crops, rtol=0, atol=0)
    torch.testing.assert_close(seventh.truth.joints_xy, again.truth.joints_xy, rtol=0, atol=0, equal_nan=True)
    assert seventh.crops.shape[-1] == 32
    assert not torch.equal(stream.make(6).crops, PairBatches([shards], [1.0], 4, 32, 16, seed=3, rank=1).make(6).crops)


def test_parameters_and_joints_agree(shards: ShardSet) -> None:
    """Forward kinematics of the crop-frame parameters gives the crop-frame joints, mirrored left hands included."""
    truth = batch_of(shards, AugmentConfig()).truth
    usable = truth.parameters_valid & truth.joints_valid.all(-1)
    rotation = torch.where(usable[..., None, None, None], truth.rotation, torch.eye(3))
    joints = predicted_joints_m(load_bundled_hand(), SimpleNamespace(rotation=rotation, shape=truth.shape))  # type: ignore[arg-type]
    assert usable.sum() >= 8
    torch.testing.assert_close(joints[usable], truth.joints_m[usable], atol=2e-6, rtol=0)


def test_2d_truth_is_the_projection_of_the_3d_truth(shards: ShardSet) -> None:
    batch = make_batch([(shards, i) for i in range(len(shards))], 96, 16, np.random.default_rng(1), AugmentConfig(mirror=0.0))
    crop, truth = batch.view.crop, batch.truth
    points = torch.stack([torch.from_numpy(shards.arrays["keypoints_camera_m"][i]) for i in range(len(shards))])
    xy = crop.project(points) / crop.size_px - 0.5
    valid = truth.xy_valid
    torch.testing.assert_close(xy[valid], truth.joints_xy[valid], atol=2e-3, rtol=0)


def test_fingers_point_up_without_augmentation(shards: ShardSet) -> None:
    truth = batch_of(shards, None).truth
    up = truth.joints_xy[:, :, 9] - truth.joints_xy[:, :, 0]
    shown = truth.xy_valid.all(-1)
    assert (up[shown][:, 0].abs() < 0.02).all()
    assert (up[shown][:, 1] < 0).all()


def test_own_parts_lie_under_the_joints(shards: ShardSet) -> None:
    batch = batch_of(shards, None)
    grid = batch.priors.parts.shape[-1]
    parts = batch.priors.parts.unflatten(0, (-1, 2))
    share = []
    for i in range(len(shards)):
        seen = torch.from_numpy(shards.arrays["keypoint_visible"][i]).bool()
        for h in (0, 1):
            for k in torch.nonzero(seen[h] & batch.truth.xy_valid[i, h])[:, 0]:
                u, v = ((batch.truth.joints_xy[i, h, k] + 0.5) * grid).long().clamp(0, grid - 1).tolist()
                share.append(1 <= int(parts[i, h, v, u]) <= 16)
    assert np.mean(share) > 0.85


def test_mirroring_swaps_hands_and_keeps_relations(shards: ShardSet) -> None:
    """A mirrored scene: hands change places, the vector between the wrists is that of the mirrored world."""
    plain = make_batch([(shards, i) for i in range(len(shards))], 96, 16, np.random.default_rng(2), AugmentConfig(mirror=0.0))
    mirrored = make_batch([(shards, i) for i in range(len(shards))], 96, 16, np.random.default_rng(2), AugmentConfig(mirror=1.0))
    torch.testing.assert_close(mirrored.crops, plain.crops.flip(1))
    torch.testing.assert_close(mirrored.truth.joints_xy, plain.truth.joints_xy.flip(1), equal_nan=True)
    # left' - right' = M right - M left
    torch.testing.assert_close(mirrored.truth.relative_m, -mirror_points(plain.truth.relative_m))
    torch.testing.assert_close(mirrored.view.geometry[..., 0], -plain.view.geometry.flip(1)[..., 0])


def test_wrong_side_and_empty_slots_are_marked(shards: ShardSet) -> None:
    augment = AugmentConfig(wrong_side=1.0, empty=0.0, mirror=0.0)
    batch = batch_of(shards, augment)
    single = torch.from_numpy(shards.arrays["hand_valid"]).sum(1) == 1
    assert single.any()
    truth = batch.truth
    shown = batch.present[single]
    assert (shown.sum(1) == 1).all()
    assert (truth.side_correct[single][shown] == 0).all()
    assert not truth.parameters_valid[single].any()
    empty = batch_of(shards, AugmentConfig(wrong_side=0.0, double=0.0, empty=1.0, mirror=0.0))
    assert empty.present[single].all()
    assert (empty.truth.presence[single].sum(1) == 1).all()
    double = batch_of(shards, AugmentConfig(wrong_side=0.0, double=1.0, mirror=0.0))
    assert double.present[single].all()
    assert (double.truth.presence[single] == 1).all(), "there is a hand in both crops"
    assert (double.truth.side_correct[single].sum(1) == 1).all(), "but one of the sides is wrong"
    assert (double.truth.parameters_valid[single].sum(1) == 1).all()
    assert not double.truth.relative_valid[single].any()


def test_boxes_of_clasped_hands_are_no_longer_told_apart() -> None:
    low = torch.tensor([[[10.0, 10.0], [30.0, 20.0]], [[10.0, 10.0], [90.0, 90.0]]])
    high = low + torch.tensor([50.0, 40.0])
    direction = torch.tensor([[[0.0, -1.0], [1.0, 0.0]]]).expand(2, 2, 2)
    both = torch.tensor([True, True])
    rng = np.random.default_rng(0)
    plain = _clasped_boxes(low, high, direction, both, rng, AugmentConfig(union=0.0, same_box=0.0))
    torch.testing.assert_close(plain[0], (low + high) / 2)
    torch.testing.assert_close(plain[2], direction)
    centre, side, _ = _clasped_boxes(low, high, direction, both, rng, AugmentConfig(union=1.0, same_box=0.0))
    torch.testing.assert_close(centre[0], torch.tensor([[45.0, 35.0], [45.0, 35.0]]))
    assert ((side[0] >= 0.7 * 70) & (side[0] <= 70)).all()
    torch.testing.assert_close(centre[1], plain[0][1], msg="hands apart keep their boxes")
    centre, side, along = _clasped_boxes(low, high, direction, both, rng, AugmentConfig(union=0.0, same_box=1.0))
    assert torch.equal(centre[0, 0], centre[0, 1])
    assert torch.equal(along[0, 0], along[0, 1])
    assert any(torch.equal(centre[0, 0], plain[0][0, hand]) for hand in (0, 1))
    single = _clasped_boxes(low, high, direction, ~both, rng, AugmentConfig(union=1.0))
    torch.testing.assert_close(single[0], plain[0])


def test_a_teacher_reads_the_hand_that_is_there_in_its_second_box_too(shards: ShardSet) -> None:
    single = torch.from_numpy(shards.arrays["hand_valid"]).sum(1) == 1
    whole = single & torch.from_numpy(shards.arrays["keypoints_3d_valid"]).bool().all(-1).any(-1)
    a = AugmentConfig(wrong_side=0, double=1, mirror=0, light_prior=1, full_prior=0, shift=0, turn_deg=0, wild_turn=0, zoom=(1, 1))
    batch = batch_of(shards, a)
    taught = batch.priors.map(lambda t: t.unflatten(0, (len(shards), 2)))
    in_frame = batch.truth.xy_valid.all(-1).any(-1)
    assert (whole & in_frame).any()
    for i in (whole & in_frame).nonzero().flatten().tolist():
        assert taught.has_keypoints[i].all()
        # Both crops are of the same box, one of them mirrored: so are the keypoints.
        left, right = taught.keypoints[i, :, :, :2]
        assert float((left * torch.tensor([-1.0, 1.0]) - right).norm(dim=-1).median()) < 0.1


def test_of_two_hands_in_a_crop_the_teacher_sometimes_reads_the_other() -> None:
    both = torch.ones(1, 2, dtype=torch.bool)
    base = torch.rand(21, 2, generator=torch.Generator().manual_seed(1)) * 40 + 80
    xy = torch.stack([base, base + torch.tensor([8.0, 0.0])])[None]
    camera = Camera.from_fov(200, 200, 60.0).map(lambda t: t[None])
    scene = {"camera": camera, "keypoints_xy": xy, "hand_valid": both}
    box = torch.cat([xy.amin(2), xy.amax(2)], -1)
    view = view_pairs(camera, HandPair(box, torch.tensor([0.0, -1.0]).expand(1, 2, 2), both), 64)
    truth = SimpleNamespace(joints_valid=torch.ones(1, 2, 21, dtype=torch.bool))
    said, there = _others_keypoints(scene, view, torch.zeros(1, 2, 21), truth)  # type: ignore[arg-type]
    assert there.all()
    back = view.crop.crop_to_image(camera.map(lambda t: t[:, None]), (said[..., :2] + 0.5) * 64)
    torch.testing.assert_close(back, xy.flip(1), atol=1e-2, rtol=1e-4)


def test_worn_pictures_are_still_pictures_of_the_same() -> None:
    fine = torch.rand(4, 2, 3, 64, 64, generator=torch.Generator().manual_seed(5))
    worn = _worn(fine, np.random.default_rng(2), AugmentConfig(worn=1.0))
    assert worn.shape == fine.shape
    assert bool(worn.isfinite().all())
    torch.testing.assert_close(_worn(fine, np.random.default_rng(2), AugmentConfig(worn=0.0)), fine)
    still = torch.linspace(0, 1, 64)[None, None, :, None].expand(2, 3, 64, 64)
    torch.testing.assert_close(_smeared(still, 9.0, 0.0), still)  # along its stripes nothing moves
    across = _smeared(still.mT.contiguous(), 9.0, 0.0)
    torch.testing.assert_close(across[..., 10:-10], still.mT[..., 10:-10], atol=1e-5, rtol=0)  # a ramp's mean is its middle
