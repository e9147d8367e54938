import os
import pickle
import shutil
import sys
import types

import numpy as np
import pytest
import smplx
import torch
from scipy import sparse

from twohands.errors import UserError
from twohands.geometry.mesh import is_closed, signed_volume_m3
from twohands.hands.mano import FINGERTIP_TABLES, load_mano
from twohands.hands.mirror import mirror_points, mirror_rotvec
from twohands.hands.parameters import HandParameters
from twohands.joints import MANO16_PARENTS

SIGN = np.array([-1.0, 1.0, 1.0])


def generated_hand() -> dict[str, object]:
    """A random right hand with MANO's fields and MANO's topology: a tube of 48 rings of 16, open at one end."""
    rng = np.random.default_rng(7)
    ring, angle = np.meshgrid(np.arange(48), np.arange(16) * np.pi / 8, indexing="ij")
    tube = np.stack([-0.004 * ring, 0.015 * np.cos(angle), 0.04 * np.sin(angle)], -1).reshape(-1, 3)
    vertex = np.arange(768).reshape(48, 16)
    a, b = vertex[:-1], vertex[1:]
    faces = [np.stack([a, b, np.roll(a, -1, 1)], -1), np.stack([np.roll(a, -1, 1), b, np.roll(b, -1, 1)], -1)]
    cap = [[768, v, u] for u, v in zip(vertex[-1], np.roll(vertex[-1], -1), strict=True)]
    for new in range(769, 778):
        u, v, w = cap.pop(0)
        cap += [[u, v, new], [v, w, new], [w, u, new]]
    weights = rng.dirichlet(np.full(16, 0.1), 778)
    J_regressor = rng.dirichlet(np.ones(778), 16)
    J_regressor[rng.random((16, 778)) < 0.9] = 0
    pca = np.linalg.qr(rng.normal(size=(45, 45)))[0]
    return {
        "v_template": np.concatenate([tube, np.tile([[-0.2, 0.0, 0.0]], (10, 1))]),
        "shapedirs": rng.normal(size=(778, 3, 10)) * 0.003,
        "posedirs": rng.normal(size=(778, 3, 135)) * 0.001,
        "J_regressor": sparse.csc_matrix(J_regressor / J_regressor.sum(1, keepdims=True)),
        "J": np.zeros((16, 3)),
        "weights": weights,
        "kintree_table": np.array([[4294967295, *MANO16_PARENTS[1:]], range(16)], dtype=np.int64),
        "hands_components": pca,
        "hands_mean": rng.normal(size=45) * 0.3,
        "hands_coeffs": rng.normal(size=(5, 45)),
        "f": np.concatenate([*(x.reshape(-1, 3) for x in faces), cap]).astype(np.uint32),
        "bs_style": "lbs",
        "bs_type": "lrotmin",
    }


def mirrored(hand: dict[str, object]) -> dict[str, object]:
    """The left hand of a right one, with the published file's error: the x components of shapedirs keep the right hand's sign."""
    left = dict(hand)
    left["v_template"] = hand["v_template"] * SIGN
    # Mirroring a rotation flips the entries of (R - I) that couple x with y or z.
    entries = np.tile(np.outer(SIGN, SIGN).ravel(), 15)
    left["posedirs"] = hand["posedirs"] * SIGN[:, None] * entries
    left["hands_mean"] = (hand["hands_mean"].reshape(15, 3) * -SIGN).ravel()
    left["hands_components"] = (hand["hands_components"].reshape(45, 15, 3) * -SIGN).reshape(45, 45)
    left["f"] = hand["f"][:, ::-1]
    return left


@pytest.fixture(scope="module")
def hands() -> tuple[dict[str, object], dict[str, object]]:
    right = generated_hand()
    return mirrored(right), right


def write(folder, hands, convert=lambda hand: hand, spell=lambda content: content):
    for name, hand in zip(("MANO_LEFT.pkl", "MANO_RIGHT.pkl"), hands, strict=True):
        (folder / name).write_bytes(spell(pickle.dumps(convert(hand), protocol=2)))
    return folder


@pytest.fixture(scope="module")
def plain_folder(hands, tmp_path_factory):
    return write(tmp_path_factory.mktemp("mano"), hands)


def as_published(monkeypatch):
    """Turns a hand into one whose shapedirs are a chumpy expression, as in the files of MANO's website, without chumpy."""
    ch = types.ModuleType("chumpy.ch")
    reordering = types.ModuleType("chumpy.reordering")
    ch.Ch = type("Ch", (), {"__module__": "chumpy.ch"})
    reordering.Select = type("Select", (ch.Ch,), {"__module__": "chumpy.reordering"})
    for module in (types.ModuleType("chumpy"), ch, reordering):
        monkeypatch.setitem(sys.modules, module.__name__, module)

    def convert(hand):
        longer, select = ch.Ch(), reordering.Select()
        longer.x = np.concatenate([hand["shapedirs"], np.full((778, 3, 10), 9.0)], -1)
        longer._dirty_vars = {"x"}
        index = np.arange(longer.x.size).reshape(longer.x.shape)
        select.a, select.idxs, select.preferred_shape = longer, index[..., :10].ravel(), (778, 3, 10)
        template = ch.Ch()
        template.x = hand["v_template"]
        return hand | {"shapedirs": select, "v_template": template}

    return convert


def as_python_2_spelt_it(content: bytes) -> bytes:
    for new, old in ((b"scipy.sparse._csc\n", b"scipy.sparse.csc\n"), (b"numpy._core.", b"numpy.core.")):
        content = content.replace(b"c" + new, b"c" + old)
    return content


def random_parameters(samples: int) -> HandParameters:
    generator = torch.Generator().manual_seed(4)
    pose, shape, translation = (torch.randn(samples, *size, generator=generator) for size in ((2, 16, 3), (2, 10), (2, 3)))
    return HandParameters(0.5 * pose, shape, translation)


@pytest.mark.parametrize("flat_hand_mean", [True, False])
def test_equals_smplx(plain_folder, hands, flat_hand_mean):
    model = load_mano(plain_folder, flat_hand_mean)
    parameters = random_parameters(4)
    posed = model.pose_hands(parameters)
    for hand, name in enumerate(("MANO_LEFT.pkl", "MANO_RIGHT.pkl")):
        reference = smplx.MANO(str(plain_folder / name), is_rhand=bool(hand), use_pca=False, flat_hand_mean=flat_hand_mean)
        if hand == 0:
            reference.shapedirs[:, 0] *= -1
        expected = reference(
            betas=parameters.shape[:, hand],
            global_orient=parameters.pose[:, hand, 0],
            hand_pose=parameters.pose[:, hand, 1:].flatten(1),
            transl=parameters.translation_m[:, hand],
        )
        torch.testing.assert_close(posed.mesh().vertices_m[:, hand], expected.vertices, atol=1e-5, rtol=0)
        torch.testing.assert_close(posed.joints_m[:, hand], expected.joints, atol=1e-5, rtol=0)


@pytest.mark.parametrize("spell", [bytes, as_python_2_spelt_it])
def test_published_form_reads_as_the_plain_one(plain_folder, hands, tmp_path, monkeypatch, spell):
    with monkeypatch.context() as patch:
        write(tmp_path, hands, as_published(patch), spell)
    published, plain = load_mano(tmp_path).data, load_mano(plain_folder).data
    for field, values in plain.arrays().items():
        np.testing.assert_array_equal(published.arrays()[field], values, err_msg=field)


def test_left_hand_is_the_right_one_mirrored_once_shapedirs_are_repaired(plain_folder):
    given = random_parameters(2)
    pose, shape = given.pose.clone(), given.shape[:, [1, 1]]
    pose[:, 0] = mirror_rotvec(pose[:, 1])
    same = HandParameters(pose, shape, torch.zeros(2, 2, 3))
    for flat_hand_mean in (True, False):
        left, right = load_mano(plain_folder, flat_hand_mean).pose_hands(same).mesh().vertices_m.unbind(1)
        torch.testing.assert_close(mirror_points(left), right, atol=1e-6, rtol=0)
    left, right = load_mano(plain_folder, fix_left_shapedirs=False).pose_hands(same).mesh().vertices_m.unbind(1)
    assert (mirror_points(left) - right).abs().max() > 1e-3


def test_repair_is_not_applied_to_a_repaired_file(hands, plain_folder, tmp_path):
    left, right = hands
    repaired = left | {"shapedirs": left["shapedirs"] * SIGN[:, None]}
    expected, got = load_mano(plain_folder).data, load_mano(write(tmp_path, (repaired, right))).data
    torch.testing.assert_close(got.shapedirs, expected.shapedirs)


def test_wrist_closes(plain_folder):
    model = load_mano(plain_folder)
    vertices = model.closed_vertices(model.data.v_template)
    assert vertices.shape == (2, 779, 3)
    assert model.closed_faces().shape == (2, 1538 + 16, 3)
    for hand in range(2):
        assert not is_closed(model.faces[hand])
        assert is_closed(model.closed_faces()[hand])
        assert signed_volume_m3(vertices[hand], model.closed_faces()[hand]) > 0
    batch = model.pose_hands(random_parameters(3)).mesh().vertices_m
    torch.testing.assert_close(model.closed_vertices(batch)[1], model.closed_vertices(batch[1]))


def test_principal_components(plain_folder, hands):
    model = load_mano(plain_folder)
    coefficients = torch.randn(3, 2, 6, generator=torch.Generator().manual_seed(1))
    pose = model.pca_to_pose(coefficients)
    for hand in range(2):
        expected = coefficients[:, hand].double().numpy() @ hands[hand]["hands_components"][:6]
        np.testing.assert_allclose(pose[:, hand].flatten(1).numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("table", sorted(FINGERTIP_TABLES))
def test_fingertips_are_those_of_the_table(plain_folder, table):
    mesh = load_mano(plain_folder, fingertips=table).pose_hands(random_parameters(1)).mesh()
    for hand, tips in enumerate(FINGERTIP_TABLES[table]):
        assert torch.equal(mesh.keypoints_m[0, hand, 4::4], mesh.vertices_m[0, hand, list(tips)])


def test_unknown_fingertip_table(plain_folder):
    with pytest.raises(UserError, match="'hamer'; choose one of smplx"):
        load_mano(plain_folder, fingertips="hamer")


class Malicious:
    """Pickles as a call."""

    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda marker: (os.system, (f"touch {marker}",)), rf"{os.name}\.system"),
        (lambda marker: (eval, (f"open({str(marker)!r}, 'w')",)), r"__builtin__\.eval"),
        (lambda marker: (shutil.copy, (__file__, str(marker))), r"shutil\.copy"),
        (lambda marker: (np.save, (str(marker), 0)), r"numpy\.save"),
    ],
    ids=["os.system", "eval", "shutil.copy", "numpy.save"],
)
def test_code_is_refused_by_name_and_not_run(hands, tmp_path, call, name):
    marker = tmp_path / "it_ran.npy"
    left, right = hands
    write(tmp_path, (left, right | {"J": Malicious(*call(marker))}))
    with pytest.raises(UserError, match=rf"MANO_RIGHT.pkl names {name},.*nothing was run"):
        load_mano(tmp_path)
    assert not marker.exists()


def test_missing_file_says_where_to_get_it_and_where_to_put_it(tmp_path):
    with pytest.raises(UserError, match=r"MANO_LEFT\.pkl is missing; register at mano\.is\.tue\.mpg\.de") as raised:
        load_mano(tmp_path / "nowhere")
    assert str(tmp_path / "nowhere") in str(raised.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"v_template": np.zeros((6890, 3))}, r"v_template of .* has shape \(6890, 3\) instead of \(778, 3\)"),
        ({"hands_mean": None}, "hands_mean of .* does not hold finite numbers"),
        ({"weights": np.full((778, 16), np.nan)}, "weights of .* does not hold finite numbers"),
        ({"kintree_table": np.zeros((2, 16), np.int64)}, "have parents"),
        ({"f": np.full((1538, 3), 778)}, "faces of .* beyond 0 to 777"),
    ],
    ids=["shape", "none", "nan", "parents", "faces"],
)
def test_wrong_content_is_named(hands, tmp_path, change, message):
    left, right = hands
    with pytest.raises(UserError, match=message):
        load_mano(write(tmp_path, (left, right | change)))


def test_wrong_files_are_named(hands, tmp_path):
    left, right = hands
    del (body := dict(right))["hands_components"]
    with pytest.raises(UserError, match="no 'hands_components', so it is no MANO hand"):
        load_mano(write(tmp_path, (left, body)))
    (tmp_path / "MANO_RIGHT.pkl").write_bytes(pickle.dumps([1, 2], protocol=2))
    with pytest.raises(UserError, match="holds a list"):
        load_mano(tmp_path)
    for damaged in (b"", b"<!DOCTYPE html>", pickle.dumps(right, protocol=2)[:5000]):
        (tmp_path / "MANO_RIGHT.pkl").write_bytes(damaged)
        with pytest.raises(UserError, match=r"MANO_RIGHT\.pkl is not a readable MANO file"):
            load_mano(tmp_path)
