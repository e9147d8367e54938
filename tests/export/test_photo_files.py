"""What is written reads back as the same hands."""

import json

import numpy as np
import pytest
import trimesh

from scenes import Truth, blank_image, two_hands
from twohands.errors import UserError
from twohands.export import (
    prediction_entry,
    read_npz,
    read_predictions,
    write_glb,
    write_npz,
    write_obj,
    write_predictions,
)
from twohands.palette import HAND_RGB

IN_GLTF = np.array([1.0, -1.0, -1.0])


@pytest.fixture(scope="module")
def result():
    """A pair, and a person with a left hand only."""
    truth = Truth([two_hands(0.07), two_hands(0.2, x_m=0.25, depth_m=0.9)], found=[(0, 0), (0, 1), (1, 0)])
    return truth.pipeline().reconstruct(blank_image())


@pytest.fixture(scope="module")
def nothing():
    return Truth([two_hands(0.2)], found=[]).pipeline().reconstruct(blank_image())


def present_hands(result):
    return [(p, hand) for p in result.people for hand in (0, 1) if p.hand_present[hand]]


def test_glb_gives_the_meshes_back(tmp_path, result, hand):
    write_glb(tmp_path / "a.glb", result, hand)
    scene = trimesh.load(tmp_path / "a.glb", process=False, merge_primitives=False)
    assert sorted(scene.geometry) == ["person0_left", "person0_right", "person1_left"]
    for person, side in present_hands(result):
        mesh = scene.geometry[f"person{person.person}_{('left', 'right')[side]}"]
        assert np.allclose(mesh.vertices * IN_GLTF, person.vertices_m[side], atol=1e-7)
        assert np.array_equal(mesh.faces, hand.faces[side])
        assert tuple(mesh.visual.material.baseColorFactor[:3]) == HAND_RGB[side]
        assert mesh.volume > 0, "faces look outward"
    assert [p.name for p in tmp_path.iterdir()] == ["a.glb"], "nothing is left beside it"


def test_obj_gives_the_meshes_back(tmp_path, result, hand):
    write_obj(tmp_path / "a.obj", result, hand)
    whole = trimesh.load(tmp_path / "a.obj", process=False, maintain_order=True, force="mesh")
    expected = np.concatenate([p.vertices_m[side] for p, side in present_hands(result)])
    assert np.allclose(whole.vertices * IN_GLTF, expected, atol=1e-6)
    assert len(whole.faces) == len(present_hands(result)) * hand.faces.shape[1]


def test_npz_holds_every_number_without_pickle(tmp_path, result, hand):
    write_npz(tmp_path / "a.npz", result, hand)
    with np.load(tmp_path / "a.npz", allow_pickle=False) as file:
        assert all(file[name].dtype != object for name in file.files)
    stored = read_npz(tmp_path / "a.npz")
    for i, person in enumerate(result.people):
        for name in ("hand_present", "score", "vertices_m", "keypoints_m", "keypoints_xy", "keypoint_confidence", "box_xyxy_px"):
            assert np.array_equal(getattr(stored, name)[i], getattr(person, name)), name
        for name in ("pose", "shape", "translation_m"):
            assert np.array_equal(getattr(stored, name)[i], getattr(person.parameters, name)), name
        assert stored.penetration_cm3[i] == pytest.approx(person.penetration_cm3)
        assert stored.refined[i] == person.refined
    assert np.allclose(stored.camera_matrix, result.people[0].camera.matrix())
    assert str(stored.hand_model) == "bundled"
    assert stored.image_size_px.tolist() == [result.width_px, result.height_px]


def test_an_entry_says_what_the_records_say(result, hand):
    entry = json.loads(json.dumps(prediction_entry(result, hand), allow_nan=False))
    assert [(h["person"], h["side"]) for h in entry["hands"]] == [(0, "left"), (0, "right"), (1, "left")]
    for told, (person, side) in zip(entry["hands"], present_hands(result), strict=True):
        assert np.shape(told["kp2d_px"]) == (21, 2)
        assert np.allclose(told["kp2d_px"], person.keypoints_xy[side], atol=0.006)
        assert np.allclose(told["kp3d_mm"], person.keypoints_m[side] * 1000, atol=0.001)
        assert 0 < told["score"] <= 1
    assert entry["penetration_cm3"] == pytest.approx(result.people[0].penetration_cm3, abs=1e-4)
    assert [p["person"] for p in entry["pairs"]] == [0]
    assert entry["pairs"][0]["refined"]
    assert entry["camera"]["source"] == "default"


def test_no_hands_give_an_entry_and_no_mesh(tmp_path, nothing, hand):
    entry = prediction_entry(nothing, hand)
    assert entry["hands"] == []
    assert entry["penetration_cm3"] is None
    for write in (write_glb, write_obj, write_npz):
        with pytest.raises(ValueError, match="no hands"):
            write(tmp_path / "a", nothing, hand)
    assert not list(tmp_path.iterdir())


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "predictions.json"
    write_predictions(path, {"a": {"hands": []}})
    with pytest.raises(TypeError):
        write_predictions(path, {"a": {"hands": [object()]}})
    assert read_predictions(path) == {"a": {"hands": []}}
    assert list(tmp_path.iterdir()) == [path]


def test_foreign_files_are_refused_by_name(tmp_path):
    assert read_predictions(tmp_path / "none.json") == {}
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "list.json").write_text("[]")
    for name in ("broken.json", "list.json"):
        with pytest.raises(UserError, match=name):
            read_predictions(tmp_path / name)
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    (tmp_path / "text.npz").write_text("no")
    for name in ("other.npz", "text.npz", "none.npz"):
        with pytest.raises(UserError, match=name):
            read_npz(tmp_path / name)
