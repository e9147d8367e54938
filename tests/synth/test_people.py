import numpy as np
import pytest
import torch

from twohands.hands.bundled import load_bundled_hand
from twohands.synth import scene as scene_module
from twohands.synth.body import FLEXION, SIDES, load_body
from twohands.synth.outfits import dress
from twohands.synth.people import HIDDEN, IDLE, SINGLE, pose_person
from twohands.synth.photo import take_photo
from twohands.synth.poses import GESTURES, sample_poses
from twohands.synth.scene import SceneKnobs, build_scene
from twohands.synth.skin import Skin

PERSON = SceneKnobs(framing="person", interacting=0.0, no_hand=0.0, occluder=0.0, clutter=(0, 0), others=0.0)


def people(count: int, shares: tuple[dict[str, float], dict[str, float]]) -> list:
    fingers = sample_poses(2, 5)
    found = (
        pose_person(np.random.default_rng([k, 9]), load_body(True), 0.04, fingers, torch.zeros(2, 10), shares) for k in range(3 * count)
    )
    return [p for p in found if p is not None][:count]


def test_hands_hang_on_arms_of_the_right_length():
    hand = load_bundled_hand()
    for person in people(10, (SINGLE, IDLE)):
        assert person.shown == (True, False)
        joints = hand.pose_hands(person.parameters).joints_m[:, 0].numpy()
        for side in (0, 1):
            arm = person.arms[side]
            assert arm is not None
            upper, lower = person.posture.figure.arm_m[side]
            shoulder = person.posture.at[f"upper arm.{SIDES[side]}"]
            assert np.linalg.norm(joints[side] - shoulder) < upper + lower + 0.05
            wrist_bend = np.arccos(np.clip(_fingers(person, side) @ _forearm(person, side), -1, 1))
            assert wrist_bend < max(abs(FLEXION)) + np.radians(40)


def _fingers(person, side: int) -> np.ndarray:
    d = person.keypoints_m[side, 9] - person.keypoints_m[side, 0]
    return d / np.linalg.norm(d)


def _forearm(person, side: int) -> np.ndarray:
    d = person.keypoints_m[side, 0] - person.arms[side].elbow
    return d / np.linalg.norm(d)


def test_hidden_hands_are_behind_the_back():
    for person in people(6, (HIDDEN, HIDDEN)):
        assert person.shown == (False, False)
        assert float(person.keypoints_m[..., 2].mean()) < person.posture.at["pelvis"][2]


def test_a_scene_of_a_person_joins_hands_and_body():
    for seed in range(6):
        scene = build_scene(PERSON, seed)
        body = scene.pieces[0]
        for weld in scene.welds:
            a = scene.pieces[weld.first].vertices_m[weld.first_vertices]
            b = scene.pieces[weld.second].vertices_m[weld.second_vertices]
            lifted = np.linalg.norm(a - b, axis=1)  # cloth may stand off the wrist
            assert lifted.max() < 0.06
        assert body.hand == -1
        assert all(np.isfinite(p.vertices_m).all() for p in scene.pieces)


def test_an_outfit_covers_what_it_says():
    body = load_body()
    rng = np.random.default_rng(3)
    for bare in [0.0] * 12 + [1.0] * 6:
        outfit = dress(rng, body, Skin.draw(rng, 0.0), bare)
        assert outfit.layers.shape == (len(body.vertices_m), 4)
        assert len(outfit.materials) == 5
        belly = (body.arm < 0) & (body.leg < 0) & (np.abs(body.vertices_m[:, 1] - 0.3) < 0.05)
        assert float((outfit.layers[belly, :2].max(1) > 0).mean()) > 0.95
        assert bool((outfit.lift_m >= 0).all())
        assert outfit.faces.max() < len(body.vertices_m)
        if bare:  # a strapless top and shorts: no arm is covered, and no shin but by a skirt's folds
            assert float(outfit.layers[body.arm > 0, 1].max()) < 0
            shins = outfit.layers[(body.leg > 1.0) & (body.leg < 1.4), 0]
            assert bool(((shins < 0) | (shins == 1)).all())
            assert float(np.median(shins)) < 0


def test_gestures_are_plenty_and_poses_are_not_all_alike():
    assert len(GESTURES) > 45
    poses = sample_poses(64, 1)
    assert float((poses[:, None] - poses[None]).abs().sum((2, 3)).add(torch.eye(64) * 9).min()) > 0.05


def test_what_is_out_of_the_picture_is_thinned_out_and_nobody_sees_it(monkeypatch: pytest.MonkeyPatch) -> None:
    knobs = SceneKnobs(size_px=64, interacting=0.0, bodies=1.0, faults="none")
    seeds = range(8)
    largest = [max(len(p.vertices_m) for p in build_scene(knobs, seed).pieces) for seed in seeds]
    thin = {seed: take_photo(knobs, seed) for seed in seeds}
    monkeypatch.setattr(scene_module, "unseen", lambda *_: False)
    whole = [max(len(p.vertices_m) for p in build_scene(knobs, seed).pieces) for seed in seeds]
    thinned = [seed for seed in seeds if largest[seed] < whole[seed]]
    assert thinned
    assert len(thinned) < len(seeds)
    for seed in thinned[:2]:
        fine = take_photo(knobs, seed)
        assert torch.equal(fine.keypoints_camera_m, thin[seed].keypoints_camera_m)
        assert torch.equal(fine.keypoint_visible, thin[seed].keypoint_visible)
        assert float((fine.image.float() - thin[seed].image.float()).abs().mean()) < 1.0
