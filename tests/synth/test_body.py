import numpy as np
import pytest

from twohands.hands.bundled import load_hand_asset
from twohands.render import smooth_normals
from twohands.synth.body import OUT, SIDES, Figure, cross, hand_frame, load_body, reach, rotation, skin, stand


@pytest.fixture(scope="module")
def figure() -> Figure:
    return Figure.of(load_body(), np.zeros(14), 1.0)


def test_the_wrists_rims_are_those_of_the_bundled_hand(figure: Figure):
    asset = load_hand_asset()
    rim = asset.v_template[asset.wrist_loop].numpy()
    for side in (0, 1):
        own = (figure.vertices_m[figure.body.loops[side]] - figure.joint(f"wrist.{SIDES[side]}")) @ figure.hand_frame(side)
        mirrored = rim * np.array([-1.0 if side == 0 else 1.0, 1, 1])
        a, b = own - own.mean(0), mirrored - mirrored.mean(0)
        a, b = a / np.linalg.norm(a), b / np.linalg.norm(b)
        assert float((a * b).sum()) > 0.97  # the same ring of skin in the same order


def test_a_figure_at_rest_is_its_template(figure: Figure):
    posture = stand(figure, {})
    rest = skin(posture, (None, None), (None, None), figure.vertices_m)
    np.testing.assert_allclose(rest, figure.vertices_m, atol=2e-3)  # weights are kept in eight bits


def test_the_coarse_body_has_the_fine_ones_outline():
    fine, coarse = load_body(), load_body(coarse=True)
    assert len(coarse.vertices_m) < 0.62 * len(fine.vertices_m)
    for axis in range(3):
        assert np.ptp(coarse.vertices_m[:, axis]) == pytest.approx(np.ptp(fine.vertices_m[:, axis]), abs=0.03)
    np.testing.assert_allclose(coarse.vertices_m[coarse.loops], fine.vertices_m[fine.loops])


@pytest.mark.parametrize("side", [0, 1])
def test_an_arm_keeps_its_lengths_and_ends_where_it_should(figure: Figure, side: int):
    posture = stand(figure, {})
    shoulder = posture.at[f"upper arm.{SIDES[side]}"]
    place = shoulder + np.array([0.1 * OUT[side], -0.1, 0.35])
    arm = reach(posture, side, place, hand_frame(side, np.array([0, 1.0, 0]), np.array([0, 0, 1.0])), 0.4)
    assert arm is not None
    upper, lower = figure.arm_m[side]
    assert np.linalg.norm(arm.elbow - shoulder) == pytest.approx(upper, rel=1e-3)
    assert np.linalg.norm(place - arm.elbow) == pytest.approx(lower, rel=1e-3)
    np.testing.assert_allclose(arm.R_hand @ arm.R_hand.T, np.eye(3), atol=1e-9)
    assert np.linalg.det(arm.R_hand) == pytest.approx(1)
    arms = (arm, None) if side == 0 else (None, arm)
    vertices = skin(posture, arms, (None, None), figure.vertices_m)
    assert np.linalg.norm(vertices[figure.body.loops[side]].mean(0) - place) < 0.02


def test_the_right_arm_does_what_the_left_does_in_a_mirror(figure: Figure):
    posture = stand(figure, {})
    mirror = np.array([-1.0, 1, 1])
    place = posture.at["upper arm.L"] + np.array([0.05, 0.05, 0.33])
    R = hand_frame(0, np.array([0.2, 1.0, 0.3]), np.array([0.3, 0, 1.0]))
    left = reach(posture, 0, place, R, 0.4)
    right = reach(posture, 1, place * mirror, np.diag(mirror) @ R @ np.diag(mirror), 0.4)
    assert left is not None
    assert right is not None
    np.testing.assert_allclose(right.elbow, left.elbow * mirror, atol=1e-3)
    assert right.cost == pytest.approx(left.cost, abs=2e-2)


def test_what_is_out_of_reach_has_no_arm(figure: Figure):
    posture = stand(figure, {})
    assert reach(posture, 1, posture.at["upper arm.R"] + np.array([0, 0, 2.0]), np.eye(3), 0.4) is None


def test_the_skin_meets_a_hands_rim_exactly(figure: Figure):
    posture = stand(figure, {})
    place = posture.at["upper arm.R"] + np.array([-0.1, -0.1, 0.3])
    arm = reach(posture, 1, place, hand_frame(1, np.array([0, 1.0, 0]), np.array([1.0, 0, 0])), 0.4)
    assert arm is not None
    rim = place + 0.03 * (np.random.default_rng(0).random((20, 3)) - 0.5)
    vertices = skin(posture, (None, arm), (None, rim), figure.vertices_m)
    np.testing.assert_allclose(vertices[figure.body.loops[1]], rim, atol=1e-5)


def test_rotation_and_cross_are_what_they_say():
    v = np.array([0.3, -0.8, 1.1])
    R = rotation(v)
    np.testing.assert_allclose(R @ v, v, atol=1e-12)
    assert np.arccos((np.trace(R) - 1) / 2) == pytest.approx(np.linalg.norm(v))
    np.testing.assert_allclose(cross(v, R[0]), np.cross(v, R[0]))


def test_faces_look_outwards():
    body = load_body()
    trunk = (body.arm < 0) & (body.leg < 0) & (np.abs(body.vertices_m[:, 1] - 0.3) < 0.1)
    trunk[np.unique(np.concatenate([body.hair_faces, body.skirt_faces]))] = False
    normals = smooth_normals(body.vertices_m, body.faces)
    outwards = body.vertices_m[trunk] * np.array([1, 0, 1.0])
    assert float(((normals[trunk] * outwards).sum(1) > 0).mean()) > 0.95
