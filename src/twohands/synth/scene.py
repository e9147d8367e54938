"""Scenes: which hands, whose, where, seen by which camera. A scene is a pure function of (knobs, seed)."""

from dataclasses import dataclass, replace

import numpy as np
import torch

from twohands.geometry.camera import Camera
from twohands.hands.bundled import load_hand_asset
from twohands.hands.model import HandMesh
from twohands.hands.parameters import HandParameters
from twohands.synth.body import BodyAsset, load_body
from twohands.synth.chance import pick
from twohands.synth.company import company_of
from twohands.synth.figures import ExtraHand, Weld, body_piece, hand_piece, meet_colours
from twohands.synth.headwear import head_wear
from twohands.synth.knobs import BLOCK, CLASPED, SceneKnobs
from twohands.synth.people import EGO, HIDDEN, IDLE, SINGLE, Person, pose_pair, pose_person
from twohands.synth.posing import joints_and_tips, mesh
from twohands.synth.skin import Skin
from twohands.synth.things import Piece, clutter, forearm, held, occluder
from twohands.synth.two_hands import drawn_pair, moved, poses_of_block, two_hands, who
from twohands.synth.views import close_view, ego_view, filling_camera, free_turn, hidden_by_trunk, look_at, person_view, unseen

__all__ = ["BLOCK", "CLASPED", "Scene", "SceneKnobs", "build_scene"]

COARSE_VIEW_M = 1.2
"""From this height of the picture on, a thinned-out head looks the same."""


@dataclass(frozen=True)
class Scene:
    """Everything that the shading needs."""

    pieces: tuple[Piece, ...]
    camera: Camera
    parameters: HandParameters
    """In the camera frame; those of absent hands are finite and meaningless."""
    mesh: HandMesh
    present: tuple[bool, bool]
    distance_m: float
    welds: tuple[Weld, ...] = ()
    extra: tuple[ExtraHand, ...] = ()


def build_scene(knobs: SceneKnobs, seed: int, pair: HandParameters | None = None) -> Scene:
    """The scene of a seed; of this pair of hands (in any place and orientation, and then without a body), if one is given."""
    rng = np.random.default_rng([seed, 1])
    for _ in range(60):
        scene = _try(knobs, seed, rng) if pair is None else _free(knobs, seed, rng, pair)
        if scene is not None:
            return scene
    raise RuntimeError(f"no valid scene for seed {seed} in 60 tries; the knobs leave no room: {knobs}")


def _try(knobs: SceneKnobs, seed: int, rng: np.random.Generator) -> Scene | None:
    """One attempt, None if hands came too near the camera or a body could not do what it was asked to."""
    match knobs.framing:
        case "close":
            if rng.random() < knobs.bodies:
                return _with_body(replace(knobs, framing="ego") if rng.random() < 0.25 else knobs, seed, rng, close=True)
            return _free(knobs, seed, rng)
        case "wide":
            if rng.random() < knobs.bodies_wide:
                return _with_body(replace(knobs, framing="ego") if rng.random() < 0.15 else knobs, seed, rng, close=False)
            return _free(knobs, seed, rng)
        case _:
            return _with_body(knobs, seed, rng, close=False)


def _free(knobs: SceneKnobs, seed: int, rng: np.random.Generator, pair: HandParameters | None = None) -> Scene | None:
    """Hands with forearms and no body."""
    present = who(knobs, rng) if pair is None else (True, True)
    skin = Skin.draw(rng, knobs.glove)
    local = two_hands(knobs, seed, rng, present) if pair is None else pair
    points = joints_and_tips(local)
    chosen = [h for h in (0, 1) if present[h]] or [0, 1]
    used = points[chosen].reshape(-1, 3)
    R = free_turn(knobs, rng, used, points, present)
    middle = used.mean(0)
    turned = moved(local, R, -middle @ R.T)
    points = (points - middle) @ R.T
    camera, offset = filling_camera(knobs, rng, points[chosen].reshape(-1, 3), points, present)
    placed = HandParameters(turned.pose, turned.shape, turned.translation_m + offset)
    posed = mesh(placed)
    vertices = posed.vertices_m.numpy()
    if any(present[h] and vertices[h, :, 2].min() < 0.06 for h in (0, 1)):
        return None
    pieces: list[Piece] = []
    welds: list[Weld] = []
    for h in (0, 1):
        if not present[h]:
            continue
        arm = rng.random() < knobs.forearm
        pieces.append(hand_piece(knobs, rng, vertices[h], h, skin, capped=not arm))
        if arm:
            loop = load_hand_asset().wrist_loop.numpy()
            if not (skin.glove is not None and skin.glove_end > 0.5):
                ring = np.arange(len(loop))
                welds.append(Weld(len(pieces) - 1, len(pieces), loop[::-1] if h == 0 else loop, ring))
            pieces.extend(forearm(rng, placed, vertices[h], h, skin, knobs.sleeve, knobs.watch, knobs.hair))
        if rng.random() < knobs.held:
            pieces.append(held(rng, posed.keypoints_m[h].numpy(), placed, h))
    pieces.extend(_before_and_behind(knobs, rng, camera, posed, present, float(offset[2]), skin, 1.05))
    return Scene(tuple(pieces), camera, placed, posed, present, float(offset[2]), tuple(welds))


def _before_and_behind(
    knobs: SceneKnobs,
    rng: np.random.Generator,
    camera: Camera,
    posed: HandMesh,
    present: tuple[bool, bool],
    depth: float,
    skin: Skin,
    near: float,
) -> list[Piece]:
    pieces = []
    if any(present) and rng.random() < knobs.occluder:
        pieces.append(occluder(rng, posed.keypoints_m.numpy()[[h for h in (0, 1) if present[h]]].reshape(-1, 3)))
    if knobs.framing != "close":
        half = knobs.size_px / 2 / float(camera.focal_px[0])
        pieces.extend(clutter(rng, half, depth, skin, int(rng.integers(knobs.clutter[0], knobs.clutter[1] + 1)), near))
    return pieces


def _person(knobs: SceneKnobs, body: BodyAsset, seed: int, rng: np.random.Generator) -> Person | None:
    """What the person of a scene does."""
    ego = knobs.framing == "ego"
    both = rng.random() < knobs.two_hands
    if both and rng.random() < knobs.interacting:
        pair = drawn_pair(knobs, seed, rng)
        return pose_pair(rng, body, knobs.size_noise, pair)
    doing = EGO if ego else SINGLE
    if both:
        shares = (doing, doing)
    else:
        first = bool(rng.random() < 0.5)
        shares = (doing, IDLE) if first else (IDLE, doing)
    pool = poses_of_block(seed // BLOCK, knobs.poses == "simple")
    fingers = pool[rng.integers(len(pool), size=2)].clone()
    if both and rng.random() < 0.4:
        fingers[0] = fingers[1]
    shape = torch.from_numpy(rng.normal(0, knobs.shape_sigma, 10)).float().clamp(-2.5, 2.5)
    return pose_person(rng, body, knobs.size_noise, fingers, shape + torch.from_numpy(rng.normal(0, 0.1, (2, 10))).float(), shares)


def _with_body(knobs: SceneKnobs, seed: int, rng: np.random.Generator, close: bool) -> Scene | None:
    """Hands of a body."""
    skin = Skin.draw(rng, knobs.glove)
    if not close and knobs.framing != "ego" and rng.random() < knobs.no_hand:
        return _without_hands(knobs, seed, rng, skin)
    view = float(np.exp(rng.uniform(*np.log(knobs.view_m))))
    detail = load_body(coarse=True) if knobs.framing == "ego" or (not close and view > COARSE_VIEW_M) else load_body()
    for _ in range(8):
        person = _person(knobs, detail, seed, rng)
        if person is not None:
            break
    else:
        return None
    ego = knobs.framing == "ego"
    local = person.parameters
    shown = [h for h in (0, 1) if person.shown[h]] or [0, 1]
    used = person.keypoints_m[shown].reshape(-1, 3)
    if ego:
        placed_camera = ego_view(knobs, rng, person, used)
    elif close:
        placed_camera = close_view(knobs, rng, person, used)
    else:
        placed_camera = person_view(knobs, rng, person, used, view)
    if placed_camera is None:
        return None
    camera, R, offset = placed_camera
    if close and hidden_by_trunk(person, used, -R.T @ offset):
        return None
    placed = moved(local, torch.from_numpy(R).float(), torch.from_numpy(offset).float())
    posed = mesh(placed)
    vertices = posed.vertices_m.numpy()
    if vertices[shown, :, 2].min() < 0.06 or posed.keypoints_m[..., 2].min() < 0.05:
        return None
    depth = float(vertices[shown, :, 2].mean())
    unseen_head = knobs.finish == "quick" and unseen(person, ("head",), camera, R, offset)
    if detail is load_body() and knobs.finish == "quick" and unseen(person, ("foot.L", "foot.R"), camera, R, offset):
        person = replace(person, posture=person.posture.thinned(unseen_head))
    loop = load_hand_asset().wrist_loop.numpy()
    loops = tuple((vertices[h, loop].astype(np.float64) - offset) @ R for h in (0, 1))
    body = body_piece(knobs, rng, person, skin, loops, R, offset, headless=ego)
    pieces, welds = [body], []
    for h in (0, 1):
        own = hand_piece(knobs, rng, vertices[h], h, skin, capped=False)
        if skin.glove is None:
            meet_colours(person.posture.figure.body, body, own, h, loop)
            welds.append(Weld(len(pieces), 0, loop, person.posture.figure.body.loops[h]))
        pieces.append(own)
        if knobs.held > 0 and rng.random() < (0.9 if person.holds[h] else knobs.held * person.shown[h] * 0.6):
            pieces.append(held(rng, posed.keypoints_m[h].numpy(), placed, h))
    # Generators of their own: without these things a scene is what it was before they existed.
    extra: list[ExtraHand] = []
    if not ego and not unseen_head:
        pieces.extend(head_wear(np.random.default_rng([seed, 6]), person, R, offset, knobs.glasses, knobs.hat))
    if not ego and not close and rng.random() < knobs.others:
        chest = float((R @ person.posture.at["chest"] + offset)[2])
        others = company_of(knobs, rng, np.random.default_rng([seed, 7]), seed, camera, chest)
        extra = others.place(pieces, welds)
    far = float((R @ person.posture.at["pelvis"] + offset)[2]) / depth
    pieces.extend(_before_and_behind(knobs, rng, camera, posed, (0 in shown, 1 in shown), depth, skin, max(1.05, far + 0.05)))
    return Scene(tuple(pieces), camera, placed, posed, (True, True), depth, tuple(welds), tuple(extra))


def _without_hands(knobs: SceneKnobs, seed: int, rng: np.random.Generator, skin: Skin) -> Scene | None:
    """A body whose hands are behind it, or cropped so that none is seen; or no body at all."""
    shape = torch.zeros(2, 10)
    view = float(np.exp(rng.uniform(*np.log(knobs.view_m))))
    person = pose_person(rng, load_body(view > COARSE_VIEW_M), knobs.size_noise, torch.zeros(2, 16, 3), shape, (HIDDEN, HIDDEN))
    if person is None:
        return None
    camera, R, offset = look_at(knobs, rng, _spot(rng, person), True, view)
    pieces = [] if rng.random() < 0.15 else [body_piece(knobs, rng, person, skin, (None, None), R, offset, headless=False)]
    depth = float((R @ person.posture.at["chest"] + offset)[2])
    if pieces:
        pieces.extend(head_wear(np.random.default_rng([seed, 6]), person, R, offset, knobs.glasses, knobs.hat))
    if rng.random() < knobs.others and pieces:
        nobody = np.random.default_rng([seed, 7])
        company_of(replace(knobs, others_hands=0.0), rng, nobody, seed, camera, depth).place(pieces, [])
    half = knobs.size_px / 2 / float(camera.focal_px[0])
    pieces.extend(clutter(rng, half, depth, skin, int(rng.integers(knobs.clutter[0], knobs.clutter[1] + 3)), 0.7))
    parameters = moved(person.parameters, torch.from_numpy(R).float(), torch.from_numpy(offset).float())
    return Scene(tuple(pieces), camera, parameters, mesh(parameters), (False, False), depth)


def _spot(rng: np.random.Generator, person: Person) -> np.ndarray:
    """Something worth a photo that is no hand."""
    names = ("head", "chest", "foot.L", "shin.R", "pelvis")
    return person.posture.at[names[pick(rng, (0.4, 0.3, 0.1, 0.1, 0.1))]] + rng.normal(0, 0.05, 3)
