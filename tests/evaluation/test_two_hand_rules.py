"""The corner cases of the published codes: what counts, and what would be corrupted without a gate."""

from dataclasses import replace

import numpy as np
import pytest
from made_up import CENTRE_PX, FOCAL_PX, SIZE_PX, masked, perfect, prediction_of, random_prediction, random_truth, truth_of

from twohands.evaluation import metrics
from twohands.evaluation.judge import judge
from twohands.evaluation.judged import Truth
from twohands.evaluation.protocols import PROTOCOLS
from twohands.evaluation.two_hand_rules import (
    interwild_boxes_px,
    measure_internet,
    measure_interwild,
    measure_meshes,
    select_all,
    select_interwild,
    select_pairs,
    select_with_mesh,
)
from twohands.joints import MIDDLE_MCP

LEFT, RIGHT = 0, 1


def pairs(n: int = 6) -> Truth:
    """Both hands everywhere."""
    truth = random_truth(n)
    return truth_of(truth.joints_mm, np.ones((n, 2), bool), truth.vertices_mm)


def test_a_hand_without_its_wrist_does_not_count():
    truth = pairs(3)
    labelled = truth.labelled.copy()
    labelled[0, LEFT, 0] = False
    labelled[1, :, 0] = False
    chosen = select_interwild(masked(truth, labelled=labelled))
    assert chosen.rows.tolist() == [0, 2]
    assert chosen.dropped["no joint with its wrist"] == 1
    assert not chosen.truth.labelled[0, LEFT].any()
    assert chosen.truth.labelled[0, RIGHT].all()
    assert len(select_all(masked(truth, labelled=labelled)).truth) == 3  # InterNet keeps every annotation


def test_a_sample_without_any_3d_is_dropped():
    truth = pairs(2)
    valid = truth.valid_3d.copy()
    valid[1, :, 0] = False
    assert select_interwild(masked(truth, valid_3d=valid)).rows.tolist() == [0]


def test_joints_without_3d_lie_at_the_dummy_place():
    truth = pairs(1)
    valid = truth.valid_3d.copy()
    valid[0, RIGHT, 5] = False
    chosen = select_interwild(masked(truth, valid_3d=valid)).truth
    assert chosen.joints_mm[0, RIGHT, 5].tolist() == [1.0, 1.0, 1.0]
    measured = measure_interwild(chosen, perfect(truth), root=0)
    expected = np.linalg.norm((truth.joints_mm[0, RIGHT, 5] - truth.joints_mm[0, RIGHT, 0]) - (1.0 - truth.joints_mm[0, RIGHT, 0]))
    assert measured.joint_errors_mm[0, RIGHT, 5] == pytest.approx(expected)  # as that code compares it


def test_another_root_is_gated_by_its_own_validity():
    """Without the gate every joint of the hand would be measured from (1, 1, 1) mm, half a metre away."""
    truth = pairs(2)
    valid = truth.valid_3d.copy()
    valid[0, LEFT, MIDDLE_MCP] = False
    labelled = truth.labelled & valid  # what is not in 3D is not labelled either; the wrist is
    chosen = select_interwild(masked(truth, valid_3d=valid, labelled=labelled)).truth
    measured = measure_interwild(chosen, perfect(truth), root=MIDDLE_MCP)
    assert np.isnan(measured.joint_errors_mm[0, LEFT]).all()
    assert np.nanmax(measured.joint_errors_mm) == pytest.approx(0.0, abs=1e-9)
    by_wrist = measure_interwild(chosen, perfect(truth), root=0)
    assert np.isnan(by_wrist.joint_errors_mm[0, LEFT]).sum() == 1


def test_boxes_are_grown_and_clipped_as_interwild_does():
    joints = np.zeros((1, 2, 21, 3)) + np.array([0.0, 0.0, 500.0])
    joints[0, RIGHT, 1] += [100.0, 50.0, 0.0]  # 100 x 50 px, from the centre
    joints[0, LEFT, 1] += [-300.0, -40.0, 0.0]  # 300 px to the left: over the border
    box = interwild_boxes_px(truth_of(joints, np.ones((1, 2), bool)))[0]
    assert box[RIGHT].tolist() == [CENTRE_PX - 10, CENTRE_PX - 5, CENTRE_PX - 10 + 119, CENTRE_PX - 5 + 59]
    # x from 256 - 330 clipped to 0; the far side is counted from there, as that code does.
    assert box[LEFT].tolist() == [0.0, CENTRE_PX - 44, 359.0, CENTRE_PX - 44 + 47]


def test_a_hand_beyond_the_border_is_gone_with_its_mesh():
    truth = pairs(2)
    joints = truth.joints_mm.copy()
    joints[0, LEFT] += [9000.0, 0.0, 0.0]
    joints[1] += [9000.0, 0.0, 0.0]
    chosen = select_interwild(masked(truth, joints_mm=joints))
    assert chosen.rows.tolist() == [0]
    assert chosen.dropped["no hand inside the picture"] == 1
    assert chosen.truth.mesh_valid.tolist() == [[False, True]]
    assert not chosen.truth.valid_3d[0, LEFT].any()


def test_a_hand_of_one_point_has_a_void_box():
    truth = pairs(1)
    labelled = np.zeros_like(truth.labelled)
    labelled[..., 0] = True
    assert np.isnan(interwild_boxes_px(masked(truth, labelled=labelled))).all()
    assert FOCAL_PX
    assert SIZE_PX


def test_mrrpe_counts_where_both_wrists_are_labelled():
    truth = pairs(3)
    labelled = truth.labelled.copy()
    labelled[1, LEFT] = False
    chosen = select_interwild(masked(truth, labelled=labelled)).truth
    error = measure_interwild(chosen, random_prediction(truth), root=0).values["MRRPE"][:, 0]
    assert np.isnan(error).tolist() == [False, True, False]


def test_internet_asks_for_an_interacting_hand_type_too():
    truth = replace(pairs(2), interacting=np.array([True, False]))
    chosen = select_all(truth).truth
    assert np.isnan(measure_internet(chosen, random_prediction(truth)).values["MRRPE"][:, 0]).tolist() == [False, True]
    assert not np.isnan(measure_interwild(chosen, random_prediction(truth), root=0).values["MRRPE"]).any()


def test_one_pair_is_one_entry_a_hand_for_vertices_and_only_the_named_hand_counts_alone():
    truth = random_truth(3)  # right only, left only, both
    assert (~np.isnan(measure_interwild(truth, random_prediction(truth), root=0).values["MPVPE"])).tolist() == truth.shown.tolist()


def test_rrve_by_hand():
    """Right hand right, left hand right but for its place: half of the vertices are off by the relative error."""
    truth = pairs(1)
    prediction = replace(perfect(truth), relative_mm=perfect(truth).relative_mm + np.array([[3.0, 4.0, 12.0]]))
    assert measure_interwild(truth, prediction, root=0).values["RRVE"] == pytest.approx(13.0 / 2)


def test_box_iou():
    a = np.array([[0.0, 0, 10, 10]] * 4)
    b = np.array([[0.0, 0, 10, 10], [5, 0, 15, 10], [10, 0, 20, 10], [0, 0, 0, 0]])
    assert metrics.box_iou(a, b) == pytest.approx([1.0, 1 / 3, 0.0, 0.0])


def test_25d_predictions_are_back_projected():
    truth = pairs(4)
    points = truth.joints_mm
    xy = FOCAL_PX * points[..., :2] / points[..., 2:] + CENTRE_PX
    depth = points[..., 2] - points[..., :1, 2]
    nothing = np.full_like(points, np.nan)
    prediction = replace(
        prediction_of(truth, nothing),
        uvd=np.concatenate([xy, depth[..., None]], -1),
        relative_mm=points[:, LEFT, 0] - points[:, RIGHT, 0],
    )
    measured = measure_internet(select_all(truth).truth, prediction)
    assert np.abs(measured.values["MPJPE"]).max() < 1e-9
    assert np.abs(measured.values["MRRPE"]).max() < 1e-9
    # A wrong absolute depth scales the hand: 1 % farther, 1 % larger.
    farther = replace(prediction, wrist_depth_mm=points[..., 0, 2] * 1.01)
    assert 0 < measure_internet(select_all(truth).truth, farther).values["MPJPE"].mean() < 2.0


def test_handedness_needs_both_answers():
    shown = np.array([[1, 1], [0, 1], [0, 1], [1, 0]], bool)
    assert metrics.handedness_right(np.array([[0.9, 0.6], [0.4, 0.6], [0.6, 0.6], [0.6, 0.5]]), shown).tolist() == [True, True, False, True]
    truth = truth_of(random_truth(4).joints_mm, shown)
    truth = replace(truth, hand_type_valid=np.array([True, True, True, False]))
    prediction = replace(perfect(truth), presence=np.array([[0.9, 0.6], [0.4, 0.6], [0.6, 0.6], [0.0, 0.0]]))
    assert judge(PROTOCOLS["ih26m/internet"], [(truth, prediction)], "x").value("handedness") == pytest.approx(200 / 3)


def test_intaghand_takes_sure_pairs_with_both_fits_that_are_not_black():
    truth = pairs(6)
    truth = replace(
        truth,
        interacting=np.array([True, False, True, True, True, True]),
        hand_type_valid=np.array([True, True, False, True, True, True]),
        mesh_valid=np.array([[1, 1], [1, 1], [1, 1], [0, 1], [1, 1], [1, 1]], bool),
        brightness=np.array([100.0, 100, 100, 100, 9.99, np.nan]),
    )
    chosen = select_pairs(truth)
    assert chosen.rows.tolist() == [0, 5]
    assert list(chosen.dropped.values()) == [1, 1, 1, 1]


@pytest.mark.parametrize("root", [0, MIDDLE_MCP])
def test_scaled_hands_are_right_with_the_true_bone(root: int):
    truth = pairs(3)
    scaled = prediction_of(truth, truth.joints_mm * 1.3, truth.vertices_mm * 1.3)
    measured = measure_meshes(truth, scaled, root, "bone")
    assert measured.values["MPJPE"].max() == pytest.approx(0.0, abs=1e-9)
    assert measured.values["MPVPE"].max() == pytest.approx(0.0, abs=1e-9)
    assert measure_meshes(truth, scaled, root, "none").values["MPJPE"].mean() > 1


def test_the_scale_is_of_the_hand_and_mrrpe_is_unscaled():
    truth = pairs(3)
    joints = truth.joints_mm * np.array([1.3, 0.8])[:, None, None]
    measured = measure_meshes(truth, prediction_of(truth, joints, truth.vertices_mm), MIDDLE_MCP, "bone", (MIDDLE_MCP, 0))
    assert measured.values["MPJPE"].max() == pytest.approx(0.0, abs=1e-9)
    expected = np.linalg.norm((joints[:, 0, 9] - joints[:, 1, 9]) - (truth.joints_mm[:, 0, 9] - truth.joints_mm[:, 1, 9]), axis=-1)
    assert measured.values["MRRPE@mcp3"][:, 0] == pytest.approx(expected)
    expected = np.linalg.norm((joints[:, 0, 0] - joints[:, 1, 0]) - (truth.joints_mm[:, 0, 0] - truth.joints_mm[:, 1, 0]), axis=-1)
    assert measured.values["MRRPE"][:, 0] == pytest.approx(expected)


def test_a_bone_shorter_than_a_centimetre_counts_as_one_for_omnihands():
    predicted, true = np.zeros((21, 3)), np.zeros((21, 3))
    predicted[MIDDLE_MCP, 0], true[MIDDLE_MCP, 0] = 4.0, 80.0
    assert metrics.bone_scaled(predicted, true) == pytest.approx(20.0)
    assert metrics.bone_scaled(predicted, true, shortest=10.0) == pytest.approx(8.0)
    assert np.isnan(metrics.bone_scaled(0 * predicted, true))


def test_intaghand_averages_left_and_right():
    truth = pairs(4)
    joints = truth.joints_mm.copy()
    joints[:, LEFT, 5] += [21.0, 0, 0]  # mean 1 over the 21 joints
    joints[:, RIGHT, 5] += [63.0, 0, 0]
    report = judge(PROTOCOLS["ih26m/intaghand"], [(truth, prediction_of(truth, joints, truth.vertices_mm))], "x")
    values = [report.value(name) for name in ("MPJPE left", "MPJPE right", "MPJPE")]
    assert values == pytest.approx([1.0, 3.0, 2.0])


def test_hic_guards_mrrpe_against_a_missing_mesh_and_says_so():
    truth = pairs(3)
    truth = replace(truth, mesh_valid=np.array([[1, 1], [0, 1], [0, 0]], bool))
    chosen = select_with_mesh(truth)
    assert chosen.rows.tolist() == [0, 1]
    assert chosen.dropped == {"no mesh": 1, "interacting with one mesh only (left out of MRRPE)": 1}
    measured = measure_meshes(chosen.truth, random_prediction(truth).take(chosen.rows), 0, "none", (0,), by_hand=True)
    assert np.isnan(measured.values["MRRPE"][:, 0]).tolist() == [False, True]
    assert measured.values["MPJPE"].shape == (2, 2)


def test_parts_of_an_error_keep_their_bounds():
    """sqrt(XY^2 + Z^2) <= total <= XY + Z holds for means (convexity), as it does for the paper's rows."""
    truth = random_truth(12)
    report = judge(PROTOCOLS["ih26m/interwild"], [(truth, random_prediction(truth))], "x")
    for kind in ("J", "V"):
        total, xy, z = report.value(f"MP{kind}PE-all"), report.value(f"MP{kind}PE-XY"), report.value(f"MP{kind}PE-Z")
        assert np.hypot(xy, z) <= total <= xy + z


def test_hands_that_were_not_found_are_counted_and_in_no_mean():
    truth = pairs(4)
    joints, vertices = truth.joints_mm + 0.0, truth.vertices_mm + 0.0
    joints[2, LEFT], vertices[2, LEFT] = np.nan, np.nan
    report = judge(PROTOCOLS["ih26m/interwild"], [(truth, prediction_of(truth, joints, vertices))], "x")
    assert (report.hands, report.hands_missed) == (8, 1)
    assert {n.metric: n.entries for n in report.numbers}["MPVPE-IH"] == 7
    assert report.value("MRRPE") == pytest.approx(0.0, abs=1e-9)
