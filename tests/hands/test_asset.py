"""The bundled hand is what its README says: closed, well posed, of human size. Read without the package, as any other program would."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import trimesh

import twohands.joints as joint_names  # for the path of the package and the name of the joints

ASSETS = Path(joint_names.__file__).parent / "hands/assets"
Asset = dict[str, np.ndarray]
FIRST_JOINT = {"thumb": 13, "index": 1, "middle": 4, "ring": 10, "little": 7}  # in the order of tip_vertices


@pytest.fixture(scope="module")
def hand() -> Asset:
    with np.load(ASSETS / "hand.npz", allow_pickle=False) as file:
        return dict(file)


def shaped(hand: Asset, shape: np.ndarray) -> np.ndarray:
    return hand["v_template"] + hand["shapedirs"] @ shape


def segments_mm(hand: Asset, vertices: np.ndarray) -> dict[str, np.ndarray]:
    """Finger -> lengths of wrist to first joint, the two segments after it, and last joint to tip."""
    joints = hand["J_regressor"] @ vertices
    chains = {
        finger: np.stack([joints[0], *joints[first : first + 3], vertices[tip]])
        for (finger, first), tip in zip(FIRST_JOINT.items(), hand["tip_vertices"], strict=True)
    }
    return {finger: 1e3 * np.linalg.norm(np.diff(chain, axis=0), axis=1) for finger, chain in chains.items()}


def winding_number(points: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """1 inside, 0 outside: solid angles of all triangles over 4 pi (Van Oosterom and Strackee 1983)."""
    a, b, c = np.moveaxis(triangles[None] - points[:, None, None], 2, 0)
    la, lb, lc = (np.linalg.norm(x, axis=-1) for x in (a, b, c))
    dot = lambda x, y: (x * y).sum(-1)  # noqa: E731 the formula stays legible
    numerator = dot(a, np.cross(b, c))
    denominator = la * lb * lc + dot(a, b) * lc + dot(b, c) * la + dot(c, a) * lb
    return np.arctan2(numerator, denominator).sum(1) / (2 * np.pi)


def intersecting_pairs(vertices: np.ndarray, faces: np.ndarray) -> int:
    """Number of pairs of triangles without a common vertex of which an edge of one pierces the other."""
    corners = vertices[faces].astype(float)
    low, high = corners.min(1), corners.max(1)
    order = np.argsort(low[:, 0])
    pairs = []
    for position, i in enumerate(order):
        until = np.searchsorted(low[order, 0], high[i, 0], side="right")
        others = order[position + 1 : until]
        others = others[((low[others] <= high[i]) & (high[others] >= low[i])).all(1)]
        others = others[~np.isin(faces[others], faces[i]).any(1)]
        pairs += [(i, j) for j in others]
    if not pairs:
        return 0
    first, second = np.array(pairs).T
    hit = np.zeros(len(first), bool)
    for one, other in ((first, second), (second, first)):
        a, b, c = np.moveaxis(corners[other], 1, 0)
        for k in range(3):
            start, edge = corners[one][:, k], corners[one][:, (k + 1) % 3] - corners[one][:, k]
            normal = np.cross(b - a, c - a)
            along = np.einsum("ij,ij->i", edge, normal)
            where = np.einsum("ij,ij->i", a - start, normal) / np.where(along == 0, np.inf, along)
            point = start + where[:, None] * edge
            inside = [np.einsum("ij,ij->i", np.cross(q - p, point - p), normal) > 0 for p, q in ((a, b), (b, c), (c, a))]
            hit |= (along != 0) & (where > 0) & (where < 1) & np.logical_and.reduce(inside)
    return int(hit.sum())


def test_bytes_are_those_the_readme_names():
    assert hashlib.sha256((ASSETS / "hand.npz").read_bytes()).hexdigest() in (ASSETS / "README.md").read_text()


def test_fields_have_the_stated_shapes(hand: Asset):
    vertices, faces, uvs = len(hand["v_template"]), len(hand["faces"]), len(hand["vt"])
    shapes = {
        "v_template": (vertices, 3),
        "faces": (faces, 3),
        "shapedirs": (vertices, 3, 10),
        "J_regressor": (16, vertices),
        "weights": (vertices, 16),
        "parents": (16,),
        "tip_vertices": (5,),
        "vt": (uvs, 2),
        "ft": (faces, 3),
        "part": (vertices,),
        "wrist_loop": (20,),
        "flex_axis": (16, 3),
        "spread_axis": (16, 3),
        "twist_axis": (16, 3),
        "limits_rad": (16, 3, 2),
    }
    assert {name: array.shape for name, array in hand.items()} == shapes
    assert {array.dtype.str for array in hand.values()} == {"<f4", "<i4", "|i1"}
    assert hand["ft"].max() == uvs - 1


def test_mesh_is_one_closed_outward_body(hand: Asset):
    mesh = trimesh.Trimesh(hand["v_template"], hand["faces"], process=False)
    assert mesh.is_watertight
    assert mesh.is_winding_consistent
    assert mesh.euler_number == 2
    assert 200 < mesh.volume * 1e6 < 400  # cm3, negative were it inside out


@pytest.mark.parametrize("sigma", [0.0, -2.0, 2.0])
def test_no_shape_passes_through_itself(hand: Asset, sigma: float):
    for shape in np.eye(10)[: 1 if sigma == 0 else 10]:
        assert intersecting_pairs(shaped(hand, sigma * shape), hand["faces"]) == 0


def test_the_intersection_test_sees_a_fold(hand: Asset):
    vertices = hand["v_template"].copy()
    vertices[hand["tip_vertices"][1], 1] -= 0.05  # pulls a fingertip out through the pad below it
    assert intersecting_pairs(vertices, hand["faces"]) > 0


def test_weights_and_regressor_are_means(hand: Asset):
    for rows in (hand["weights"], hand["J_regressor"]):
        assert rows.min() >= 0
        np.testing.assert_allclose(rows.sum(1), 1, atol=1e-6)
    assert (hand["weights"] > 0).sum(1).max() <= 4
    np.testing.assert_array_equal(hand["part"], hand["weights"].argmax(1))


def test_wrist_is_the_origin_of_every_shape(hand: Asset):
    for shape in (np.zeros(10), *np.random.default_rng(0).normal(size=(5, 10))):
        np.testing.assert_allclose(hand["J_regressor"][0] @ shaped(hand, shape), 0, atol=1e-6)


def test_joints_lie_within_the_flesh(hand: Asset):
    for shape in (np.zeros(10), *np.random.default_rng(1).normal(size=(3, 10))):
        vertices = shaped(hand, shape)
        np.testing.assert_allclose(winding_number(hand["J_regressor"] @ vertices, vertices[hand["faces"]]), 1, atol=1e-4)


def test_frame_is_fingers_back_thumb(hand: Asset):
    joints = hand["J_regressor"] @ hand["v_template"]
    np.testing.assert_allclose(joints[4] / np.linalg.norm(joints[4]), [-1, 0, 0], atol=0.01)  # middle knuckle
    assert joints[13, 2] > 0.01  # base of the thumb
    assert hand["v_template"][:, 1].min() < joints[:, 1].min()


def test_segments_are_those_of_people(hand: Asset):
    lengths = segments_mm(hand, hand["v_template"])
    wanted = {
        "thumb": [26, 45, 32, 27],
        "index": [87, 40, 24, 24],
        "middle": [84, 46, 28, 23],
        "ring": [82, 42, 27, 23],
        "little": [82, 29, 19, 19],
    }
    for finger, length in lengths.items():
        np.testing.assert_allclose(length, wanted[finger], atol=2, err_msg=finger)
    # As in the radiographs of Buryanov and Kotiuk 2010.
    assert lengths["middle"][1:].sum() > lengths["ring"][1:].sum() > lengths["index"][1:].sum() > lengths["little"][1:].sum()


def test_the_palm_is_as_broad_as_peoples(hand: Asset):
    joints, skin = 1e3 * hand["J_regressor"] @ hand["v_template"], 1e3 * hand["v_template"]
    knuckles = joints[[FIRST_JOINT[finger] for finger in ("index", "middle", "ring", "little")]]
    pitch = np.linalg.norm(np.diff(knuckles, axis=0), axis=1)
    np.testing.assert_allclose(pitch, [22, 21, 20], atol=1)
    assert np.linalg.norm(knuckles[0] - knuckles[3]) == pytest.approx(61, abs=1)
    # Hand breadth as anthropometry has it, between the skin beside the outer knuckles: .43 to .46 of the length.
    beside = [
        skin[(np.abs(skin[:, 0] - knuckle[0]) < 6) & (hand["weights"][:, 13:].sum(1) < 0.5)] for knuckle in (knuckles[0], knuckles[3])
    ]
    radial, ulnar = beside[0][beside[0][:, 2].argmax()], beside[1][beside[1][:, 2].argmin()]
    length = np.linalg.norm(skin[hand["tip_vertices"][2]])
    assert 0.43 < np.linalg.norm((radial - ulnar)[[0, 2]]) / length < 0.46


def test_shapes_spread_as_stated(hand: Asset):
    rng = np.random.default_rng(2)
    samples = [segments_mm(hand, shaped(hand, shape)) for shape in rng.normal(size=(200, 10))]
    length = np.array([sample["middle"].sum() for sample in samples])
    assert 9.5 < length.std() < 12.5
    for finger in FIRST_JOINT:
        phalanges = np.stack([sample[finger][1:] for sample in samples])
        palm = np.stack([sample["middle"][0] for sample in samples])
        sigma = phalanges.std(0)
        assert (sigma > 1.2).all(), finger
        assert (sigma < 4).all(), finger
        assert (np.log(phalanges / palm[:, None]).std(0) > 0.03).all(), finger  # not mere size


def test_components_are_ordered_and_independent(hand: Asset):
    directions = hand["shapedirs"].reshape(-1, 10).astype(float)
    gram = directions.T @ directions
    assert (np.diff(np.diag(gram)) < 0).all()
    sigma = np.sqrt(np.diag(gram))
    np.testing.assert_allclose(gram / np.outer(sigma, sigma), np.eye(10), atol=1e-4)


def test_axes_are_orthonormal_and_flexion_goes_to_the_palm(hand: Asset):
    axes = np.stack([hand["flex_axis"], hand["spread_axis"], hand["twist_axis"]], 1)
    np.testing.assert_allclose(axes @ axes.transpose(0, 2, 1), np.tile(np.eye(3), (16, 1, 1)), atol=1e-5)
    fingers = slice(1, 13)
    closing = np.cross(hand["flex_axis"], hand["twist_axis"])[fingers]
    opening = np.cross(hand["spread_axis"], hand["twist_axis"])[fingers]
    assert (closing[:, 1] < -0.99).all()
    assert (opening[:, 2] > 0.9).all()
    across = np.cross(hand["flex_axis"], hand["twist_axis"])[13:]
    assert (across[:, 2] < 0).all(), "the thumb bends away from its own side"


def test_limits_are_ordered_and_hold_the_rest_pose(hand: Asset):
    low, high = np.moveaxis(hand["limits_rad"], -1, 0)
    assert (low < 0).all()
    assert (high > 0).all()
    np.testing.assert_allclose(hand["limits_rad"][0], np.tile([-np.pi, np.pi], (3, 1)), atol=1e-6)
    assert (high[1:, 0] > high[1:, 1]).all(), "every joint but the wrist bends more than it spreads"


def test_parents_come_first(hand: Asset):
    assert hand["parents"][0] == -1
    assert (hand["parents"][1:] < np.arange(1, 16)).all()


def test_wrist_loop_surrounds_the_cap(hand: Asset):
    cap = len(hand["v_template"]) - 1
    rim = hand["faces"][(hand["faces"] == cap).any(1)]
    assert set(rim.ravel()) == {cap, *hand["wrist_loop"].tolist()}
    assert (hand["v_template"][hand["wrist_loop"], 0] > 0.02).all()
