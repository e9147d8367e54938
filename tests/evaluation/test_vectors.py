"""The test vectors of the protocols, digit for digit (docs/EVALUATION.md lists them). They need no data set; the ninth has one if it is there."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from made_up import perfect, prediction_of, random_prediction, random_truth, truth_of

import dataset_trees
from twohands.cli import main
from twohands.data.loader import open_dataset
from twohands.evaluation import metrics
from twohands.evaluation.averaging import Averaging, Totals
from twohands.evaluation.judge import judge
from twohands.evaluation.plausibility import measure_pair
from twohands.evaluation.protocols import PROTOCOLS
from twohands.hands.mirror import mirror_parameters, mirror_points
from twohands.hands.parameters import HandParameters


def totals(values: np.ndarray, interacting: list[bool]) -> Totals:
    return Totals.of(values, np.array(interacting), np.zeros(len(values), int), 1).whole()


def toy_errors() -> tuple[np.ndarray, list[bool]]:
    """Three right hands and a left hand with error 4 on each joint, one pair with error 10 on all 42."""
    values = np.full((5, 2, 21), np.nan)
    values[:3, 1], values[3, 0], values[4] = 4.0, 4.0, 10.0
    return values.reshape(5, 42), [False, False, False, False, True]


@pytest.mark.parametrize(("rule", "expected"), [("cells", 7.0), ("pooled cells", 6.25), ("entries", 6.0)])
def test_1_three_ways_to_average_joints(rule: Averaging, expected: float):
    values, interacting = toy_errors()
    assert totals(values, interacting).average(rule, "all") == pytest.approx(expected, abs=1e-12)
    assert totals(values, interacting).average(rule, "SH") == 4.0
    assert totals(values, interacting).average(rule, "IH") == 10.0


@pytest.mark.parametrize(("name", "expected"), [("ih26m/interwild", 7.0), ("ih26m/internet", 6.25), ("ih26m/mmpose", 6.0)])
def test_1_by_the_whole_protocol(name: str, expected: float):
    """The wrist is one of the 21 and always right, so what comes out is 20 / 21 of the toy's numbers."""
    shown = np.array([[0, 1], [0, 1], [0, 1], [1, 0], [1, 1]], bool)
    joints = np.random.default_rng(0).normal(0, 40, (5, 2, 21, 3)) + np.array([0, 0, 600])
    truth = truth_of(joints, shown)
    errors = np.array([4.0, 4.0, 4.0, 4.0, 10.0])
    moved = joints.copy()
    moved[:, :, 1:, 0] += errors[:, None, None]
    report = judge(PROTOCOLS[name], [(truth, prediction_of(truth, moved))], "toy")
    assert report.value("MPJPE-all") == pytest.approx(expected * 20 / 21, abs=1e-9)


def test_2_vertices_are_pooled_and_a_pair_counts_twice():
    values = np.array([[np.nan, 4.0], [np.nan, 4.0], [4.0, np.nan], [10.0, 12.0]])
    assert totals(values, [False, False, False, True]).average("entries", "all") == pytest.approx(6.8, abs=1e-12)


def test_2_by_the_whole_protocol():
    shown = np.array([[0, 1], [0, 1], [1, 0], [1, 1]], bool)
    joints = np.random.default_rng(0).normal(0, 40, (4, 2, 21, 3)) + np.array([0, 0, 600])
    vertices = np.random.default_rng(1).normal(0, 40, (4, 2, 9, 3)) + np.array([0, 0, 600])
    truth = truth_of(joints, shown, vertices)
    errors = np.array([[0.0, 4.0], [0.0, 4.0], [4.0, 0.0], [10.0, 12.0]])
    report = judge(
        PROTOCOLS["ih26m/interwild"], [(truth, prediction_of(truth, joints, vertices + errors[..., None, None] * [0, 1, 0]))], "toy"
    )
    assert report.value("MPVPE-all") == pytest.approx(6.8, abs=1e-9)
    assert report.value("MPVPE-SH") == pytest.approx(4.0, abs=1e-9)
    assert report.value("MPVPE-IH") == pytest.approx(11.0, abs=1e-9)


@pytest.mark.parametrize(("error_mm", "area"), [(0.0, 1.0), (5.0, 0.904040), (10.0, 0.803030), (60.0, 0.0)])
def test_3_area_under_the_curve_of_a_constant_error(error_mm: float, area: float):
    limits = np.linspace(0, 50, 100)
    assert metrics.auc(np.full(10, error_mm), limits) == pytest.approx(area, abs=5e-7)
    assert metrics.area_of_each(np.array([error_mm]), limits) == pytest.approx(area, abs=5e-7)
    truth = random_truth(4)
    truth = truth_of(truth.joints_mm, np.ones((4, 2), bool))
    prediction = prediction_of(truth, truth.joints_mm + np.array([0.0, 0.0, error_mm]))
    assert judge(PROTOCOLS["freihand"], [(truth, prediction)], "toy").value("AUC joints") == pytest.approx(area, abs=5e-7)


def test_3_the_mean_of_areas_is_the_area():
    errors = np.concatenate([np.random.default_rng(0).gamma(2.0, 10.0, 500), np.linspace(0, 50, 100), [0.0, 50.0, 50.1]])
    limits = np.linspace(0, 50, 100)
    assert metrics.area_of_each(errors, limits).mean() == pytest.approx(metrics.auc(errors, limits), abs=1e-12)


def test_4_a_mirrored_hand_aligns_by_freihands_rule_and_by_no_rotation():
    points = np.random.default_rng(0).normal(size=(21, 3))
    mirrored = points * [-1.0, 1.0, 1.0]
    aligned = metrics.freihand_aligned(mirrored, points)
    assert 2e-9 < np.linalg.norm(aligned - points, axis=1).mean() < 8e-9
    # The linear map that did it turns space inside out.
    linear = np.linalg.lstsq(mirrored - mirrored.mean(0), aligned - aligned.mean(0), rcond=None)[0]
    assert np.linalg.det(linear) == pytest.approx(-1.0, abs=1e-6)
    assert metrics.pa_mpjpe_mm(mirrored, points) > 0.1


def test_4_an_empty_prediction_aligns_to_the_mean():
    points = np.random.default_rng(0).normal(size=(21, 3))
    assert np.array_equal(metrics.freihand_aligned(np.zeros((21, 3)), points), np.tile(points.mean(0), (21, 1)))


def test_5_points_at_the_limit_do_not_match():
    true = np.array([[0.0, 0.0, 0.0], [10.0, 0.0, 0.0]])
    at = true + np.array([0.0, 0.25, 0.0])
    assert metrics.f_score(at, true, 0.25) == 0.0
    assert metrics.f_score(at, true, 0.5) == 1.0
    # One of two matches each way: P = R = 1/2.
    half = np.array([[0.0, 0.25, 0.0], [10.0, 0.5, 0.0]])
    assert metrics.f_score(half, true, 0.5) == 0.5


def test_6_two_balls():
    ball = trimesh.creation.icosphere(5, 0.02)
    vertices, faces = np.array(ball.vertices), np.array(ball.faces)
    pair = measure_pair(np.stack([vertices, vertices + np.array([0.03, 0.0, 0.0])]), np.stack([faces, faces]))
    assert np.pi * (4 * 2 + 3) * (2 * 2 - 3) ** 2 / 12 == pytest.approx(2.8798, abs=5e-5)
    assert pair["PenVol"] == pytest.approx(2.864, abs=6e-4)
    assert pair["PenVol exact"] == pytest.approx(2.8798, rel=2e-3)
    assert pair["PenDist"] == pytest.approx(1.0, rel=1e-2)  # 2 + 2 - 3 cm
    assert (pair["ProxRatio"], pair["penetrating"]) == (1.0, 1.0)


@pytest.mark.parametrize(("gap_mm", "near"), [(4.9, 1.0), (5.1, 0.0)])
def test_6_balls_that_do_not_touch(gap_mm: float, near: float):
    ball = trimesh.creation.icosphere(4, 0.02)
    vertices, faces = np.array(ball.vertices), np.array(ball.faces)
    pair = measure_pair(np.stack([vertices, vertices + np.array([0.04 + gap_mm * 1e-3, 0.0, 0.0])]), np.stack([faces, faces]))
    assert (pair["PenVol"], pair["PenDist"], pair["PenDist mean"], pair["ProxRatio"]) == (0.0, 0.0, 0.0, near)
    assert np.isnan(pair["PenVol penetrating"])


def test_7_mirroring_twice_changes_nothing_and_left_is_mirrored_right(hand, generator):
    parameters = HandParameters(
        0.4 * torch.randn(3, 2, 16, 3, generator=generator),
        torch.randn(3, 2, 10, generator=generator),
        0.1 * torch.randn(3, 2, 3, generator=generator),
    )
    again = mirror_parameters(mirror_parameters(parameters))
    for name in ("pose", "shape", "translation_m"):
        assert torch.equal(getattr(again, name), getattr(parameters, name))
    mirrored = hand.pose_hands(mirror_parameters(parameters)).mesh().vertices_m
    expected = mirror_points(hand.pose_hands(parameters).mesh().vertices_m).flip(1)
    assert (mirrored - expected).abs().max() < 1e-6


@pytest.mark.parametrize("name", ["ih26m/interwild", "ih26m/intaghand", "ih26m/omnihands", "hic/interwild", "rih/interwild"])
def test_7_a_mirrored_world_has_the_same_score(name: str):
    truth = random_truth(9)
    prediction = random_prediction(truth)
    flip = np.array([-1.0, 1.0, 1.0])

    def mirrored(points: np.ndarray) -> np.ndarray:
        return points[:, ::-1] * flip

    other_truth = truth_of(mirrored(truth.joints_mm), truth.shown[:, ::-1], mirrored(truth.vertices_mm), list(truth.sequence))
    other = prediction_of(other_truth, mirrored(prediction.joints_mm), mirrored(prediction.vertices_mm))
    one = judge(PROTOCOLS[name], [(truth, prediction)], "one")
    two = judge(PROTOCOLS[name], [(other_truth, other)], "other")
    for a, b in zip(one.numbers, two.numbers, strict=True):
        # RRVE puts the right wrist at the origin and all of the relative error on the left hand: it is not symmetric, by definition.
        if not any(word in a.metric for word in ("left", "right", "RRVE")):
            assert a.value == pytest.approx(b.value, abs=1e-9), a.metric


def test_8_interhands_joints_lie_in_the_annotations_box(interhand):
    """x = R (X - c): what is projected so fills the `bbox` of the same annotation, and what R X + c gives is nowhere near."""
    folder, _ = interhand
    base = folder / "annotations" / "test" / "InterHand2.6M_test"
    told = json.loads(base.with_name(f"{base.name}_data.json").read_text())
    cameras, moments = (json.loads(base.with_name(f"{base.name}_{kind}.json").read_text()) for kind in ("camera", "joint_3d"))
    pictures = {image["id"]: image for image in told["images"]}
    dataset = open_dataset("interhand26m", folder, "test")
    for index, annotation in enumerate(told["annotations"]):
        read = dataset.annotation(index)
        picture = pictures[annotation["image_id"]]
        valid = read.joints_3d_valid.numpy()
        points = read.joints_m.double().numpy()[valid]
        focal, principal = read.camera.focal_px.numpy(), read.camera.principal_px.numpy() - 0.5
        xy = points[:, :2] / points[:, 2:] * focal + principal
        assert np.concatenate([xy.min(0), np.ptp(xy, axis=0)]) == pytest.approx(annotation["bbox"], abs=2e-3)
        camera = {key: np.array(cameras[str(picture["capture"])][key][picture["camera"]]) for key in ("campos", "camrot")}
        world = np.array(moments[str(picture["capture"])][str(picture["frame_idx"])]["world_coord"]).reshape(2, 21, 3)[::-1][valid]
        assert (world - camera["campos"]) @ camera["camrot"].T / 1000 == pytest.approx(points, abs=2e-6)
        assert np.abs(world @ camera["camrot"].T + camera["campos"] - 1000 * points).max() > 100


def test_8_reinterhands_translation_is_added_after_the_turn(mano, tmp_path):
    """x = R X + t in millimetres, row by row; R (X - t) is nowhere near."""
    dataset_trees.write_reinterhand(tmp_path, mano, 2, pictures=False)
    base = tmp_path / dataset_trees.TRAIN_CAPTURE
    cameras = json.loads((base / "Mugsy_cameras" / "cam_params.json").read_text())
    dataset = open_dataset("reinterhand", tmp_path, "train")
    for index in range(2):
        read = dataset.annotation(index)
        R, t = (np.array(cameras[read.camera_id][key]) for key in ("R", "t"))
        for hand, side in enumerate(("left", "right")):
            world = np.array(json.loads((base / "orig_fits" / side / "Keypoints" / f"keypoint-{read.frame:06d}.json").read_text()))
            valid = read.joints_3d_valid[hand].numpy()
            points = read.joints_m[hand].double().numpy()
            for joint in np.flatnonzero(valid):
                assert (R @ world[joint] + t) / 1000 == pytest.approx(points[joint], abs=2e-6)
            assert np.abs((world - t) @ R.T - 1000 * points)[valid].max() > 100


ZERO_CM = {"freihand": (70.79, 4.73, 70.84, 5.07), "ho3d-v2": (56.87, 5.19, 57.12, 5.47)}
"""What all-zero predictions score by the organisers' scripts: MPJPE, PA-MPJPE, MPVPE, PA-MPVPE."""


@pytest.mark.parametrize("name", sorted(ZERO_CM))
def test_9_zeros(name: str, mano, tmp_path):
    """With the organisers' truth (its folder named by TWOHANDS_FREIHAND or TWOHANDS_HO3D_V2) the published numbers; without it generated files in
    the same formats and the two formulas: how far the truth is from the camera, and how far it spreads about its mean."""
    variable = f"TWOHANDS_{name.replace('-', '_').upper()}"
    real = os.environ.get(variable)
    folder = Path(real) if real else tmp_path / "tree"
    if not real and name == "freihand":
        truths = dataset_trees.write_freihand(folder, mano, "evaluation", 3, pictures=False)
    elif not real:
        truths = dataset_trees.write_ho3d(folder, mano, "evaluation", 3, pictures=False)
        dataset_trees.write_ho3d_truth(folder, truths)
    count = len(open_dataset(PROTOCOLS[name].data, folder, "evaluation"))
    zeros = [[[[0.0] * 3] * points] * count for points in (21, 778)]
    (tmp_path / "pred.json").write_text(json.dumps(zeros))
    arguments = ["--data", str(folder), "--predictions", str(tmp_path / "pred.json"), "--json", str(tmp_path / "r.json")]
    assert main(["evaluate", "--protocol", name, *arguments]) == 0
    numbers = {n["metric"]: n["value"] for n in json.loads((tmp_path / "r.json").read_text())["numbers"]}
    found = [numbers[metric] / 10 for metric in ("MPJPE", "PA-MPJPE", "MPVPE", "PA-MPVPE")]
    if real:
        assert found == pytest.approx(ZERO_CM[name], abs=0.005)
        return
    expected = []
    for field in ("keypoints_m", "vertices_m"):
        points = np.stack([getattr(truth, field)[1].double().numpy() for truth in truths])
        expected += [np.linalg.norm(points, axis=-1).mean(), np.linalg.norm(points - points.mean(1, keepdims=True), axis=-1).mean()]
    assert found == pytest.approx(100 * np.array(expected), abs=1e-4)


@pytest.mark.parametrize("name", [name for name, protocol in PROTOCOLS.items() if name != "plausibility"])
def test_the_truth_itself_is_without_error(name: str):
    truth = random_truth(9)
    if PROTOCOLS[name].groups == ("right", "-"):
        truth = truth_of(truth.joints_mm, np.ones((9, 2), bool), truth.vertices_mm)
    report = judge(PROTOCOLS[name], [(truth, perfect(truth))], "truth")
    assert report.hands_missed == 0
    for number in report.numbers:
        if number.unit == "mm" and number.entries:
            assert number.value == pytest.approx(0.0, abs=1e-4), number.metric  # FreiHAND adds 1e-8 to each norm
        if "AUC" in number.metric or "F@" in number.metric:
            assert number.value == pytest.approx(1.0, abs=0.0051), number.metric  # and so misses the limit 0
