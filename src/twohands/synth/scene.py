"""Scenes: which hands, whose, where, seen by which camera. A scene is a pure function of (knobs, seed)."""

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

import numba
import numpy as np
import torch
from torch import Tensor

from twohands.geometry.camera import Camera
from twohands.hands.bundled import load_bundled_hand, load_hand_asset
from twohands.hands.mirror import mirror_rotvec
from twohands.hands.model import HandMesh, HandModel
from twohands.hands.parameters import HandParameters
from twohands.synth.body import BodyAsset, cross, length, load_body, rotation
from twohands.synth.body import skin as skin_body
from twohands.synth.chance import pick, sign
from twohands.synth.headwear import head_wear
from twohands.synth.outfits import dress
from twohands.synth.pairs import fresh_pairs, shipped_pairs
from twohands.synth.people import EGO, HIDDEN, IDLE, SINGLE, Person, meets_body, pose_pair, pose_person
from twohands.synth.poses import sample_poses
from twohands.synth.posing import joints_at_rest, keypoints, mesh, random_turn, to_matrix, to_rotvec
from twohands.synth.skin import Skin, masks
from twohands.synth.things import Piece, clutter, forearm, held, occluder

BLOCK = 2000
"""Scenes whose seeds share a block of this size draw from one pool of finger poses and, if they are new, of interacting pairs."""
COARSE_VIEW_M = 1.2
"""From this height of the picture on, a thinned-out head looks the same."""
POSE_POOL = 1024
"""Finger poses of a block of scenes, drawn at once: one by one they cost more than the picture."""


@dataclass(frozen=True)
class SceneKnobs:
    """Every range of the engine. Shares are probabilities."""

    framing: Literal["close", "wide", "person", "ego"] = "close"
    """close: the hands fill the picture (stage 1); wide: hands somewhere in a larger scene (detector); person: somebody 1 to 3 m away who
    shows or does something with the hands; ego: one's own hands before one's eyes."""
    size_px: int = 256
    """Side of the picture: a crop of 96 to 128 px from it loses nothing."""
    two_hands: float = 0.6
    """Two hands of one person do something; in the rest one does, and the other is absent, hangs or is behind the back."""
    interacting: float = 0.55
    """Of the two-hand scenes: hands in contact or nearly so, from the interaction sampler."""
    bodies: float = 0.5
    """Of the close scenes: hands that belong to a whole body. Networks take faces and shirts for hands unless they have seen them."""
    bodies_wide: float = 0.8
    """The same of wide scenes."""
    no_hand: float = 0.12
    """Wide and person scenes without any hand: faces, feet, elbows and hands behind backs, so that the detector learns to find nothing."""
    others: float = 0.4
    """Of the person scenes: one or two more people, half of whom the border cuts off."""
    fill_close: tuple[float, float] = (0.4, 0.95)
    """Extent of the hands' keypoints over the picture's side; near 1 the border cuts fingers off."""
    fill_wide: tuple[float, float] = (0.06, 0.45)
    """The same for one hand in a wide scene without a body: 15 to 115 px of 256."""
    view_m: tuple[float, float] = (0.42, 2.3)
    """Height of what a person scene shows, log-uniform: from a bust to a standing person; a hand of 18 cm is then 110 to 20 px of 256."""
    fov_deg: tuple[float, float] = (18.0, 75.0)
    """Tele to wide angle over the picture's side, log-uniform."""
    fov_ego_deg: tuple[float, float] = (50.0, 100.0)
    """Head cameras are wide."""
    frontal: float = 0.75
    """Of the person scenes: the body turned to the camera within about 35 degrees; the rest from any side."""
    upright: float = 0.5
    """Hands whose fingers point up, more or less; the rest is turned by anything."""
    forearm: float = 0.88
    """Hands without a body are seldom seen without one."""
    sleeve: float = 0.45
    """Of those forearms."""
    bare: float = 0.2
    """Of the bodies: strapless tops and shorts. Bare arms, shoulders and legs are what a network takes for hands, until it has seen them."""
    held: float = 0.2
    """A cylinder, box, ball, pen, phone or cup in the hand."""
    occluder: float = 0.15
    """A thing in front of the hands."""
    glove: float = 0.03
    ring: float = 0.12
    watch: float = 0.15
    tattoo: float = 0.05
    scar: float = 0.07
    """Of the hands: an old cut or burn. Lines on the skin that are no crease."""
    hair: float = 0.4
    """Of the people: hairs to be seen on the backs of hands and fingers and on forearms, as most men and some women have them; at 256 px dark
    strokes, further away a darker skin."""
    glasses: float = 0.28
    """Of the heads that are seen: a quarter to a half of grown people wear some, a third of these dark here."""
    hat: float = 0.18
    """Of the heads that are seen: caps, hats with brims, woollen ones, helmets; brims and rims are long thin things near faces, as fingers are."""
    others_hands: float = 0.6
    """Of the other people: those who do something with their hands, which are annotated as extra hands; a photo often shows several pairs."""
    shape_sigma: float = 1.0
    """Spread of the hands' shape coefficients."""
    size_noise: float = 0.04
    """Spread (log) of a body's size given its hands'."""
    clutter: tuple[int, int] = (0, 4)
    """Limbs, boxes, balls and poles behind the hands of a scene other than close."""
    pasted: float = 0.18
    """Pictures with a flat patch before everything, over the hands too."""
    poses: Literal["varied", "simple"] = "varied"
    """Fingers of hands that do not come from the interaction sampler; simple: flat, spread, relaxed and fist alone. This and the four below exist to
    measure what a family of variety is worth: the rest of a seed's scene stays as it is."""
    light: Literal["varied", "plain"] = "varied"
    """plain: always the same overcast sky and lamp."""
    lit_from_behind: float = 0.5
    """Scenes lit by what is seen behind them: by the environment map it was taken from, or by a guess from the picture's own light and colours.
    Hands that are lit as their room is are what photos show; the other half keeps networks from relying on it."""
    faults: Literal["varied", "none"] = "varied"
    """Of the camera. none: well exposed, sharp, without noise, motion and JPEG."""
    background: Literal["varied", "plain"] = "varied"
    """plain: a wall of one colour; photos are then not looked at."""
    pairs: Literal["shipped", "fresh"] = "shipped"
    """Interacting pairs. shipped: from some 2,000 that come with the package and their mirror images; they cost nothing and are the same on every
    machine. fresh: from 128 that the sampler makes for each block of 2,000 scenes (2.6 ms a scene), so that no other block shows them: for scenes to
    measure with, as the sealed benchmarks are."""
    finish: Literal["quick", "thorough"] = "quick"
    """quick: surfaces are shaded once a pixel inside and thrice over at borders, and noise is cut from a stock. thorough: everything is shaded
    2.25 times a pixel and noise is new, as the sealed benchmarks were rendered. It changes pixels alone, and most of them by little."""


CLASPED = SceneKnobs(framing="close", two_hands=0.96, interacting=1.0)
"""Hands that touch or hold each other: rare by the usual odds, and what a network finds hardest."""


@dataclass(frozen=True)
class Weld:
    """Vertices of two pieces that are one: they share their normals."""

    first: int
    second: int
    first_vertices: np.ndarray
    second_vertices: np.ndarray


@dataclass(frozen=True)
class ExtraHand:
    """A hand of somebody else."""

    side: int
    """0 left, 1 right."""
    keypoints_m: np.ndarray
    """(21, 3) in the camera frame."""
    piece: int
    """Which of the scene's pieces it is."""


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
    hand = load_bundled_hand()
    for _ in range(60):
        scene = _try(knobs, seed, rng, hand) if pair is None else _free(knobs, seed, rng, hand, pair)
        if scene is not None:
            return scene
    raise RuntimeError(f"no valid scene for seed {seed} in 60 tries; the knobs leave no room: {knobs}")


def _try(knobs: SceneKnobs, seed: int, rng: np.random.Generator, hand: HandModel) -> Scene | None:
    """One attempt, None if hands came too near the camera or a body could not do what it was asked to."""
    match knobs.framing:
        case "close":
            if rng.random() < knobs.bodies:
                return _with_body(replace(knobs, framing="ego") if rng.random() < 0.25 else knobs, seed, rng, hand, close=True)
            return _free(knobs, seed, rng, hand)
        case "wide":
            if rng.random() < knobs.bodies_wide:
                return _with_body(replace(knobs, framing="ego") if rng.random() < 0.15 else knobs, seed, rng, hand, close=False)
            return _free(knobs, seed, rng, hand)
        case _:
            return _with_body(knobs, seed, rng, hand, close=False)


def _free(knobs: SceneKnobs, seed: int, rng: np.random.Generator, hand: HandModel, pair: HandParameters | None = None) -> Scene | None:
    """Hands with forearms and no body."""
    present = _who(knobs, rng) if pair is None else (True, True)
    skin = Skin.draw(rng, knobs.glove)
    local = _pair(knobs, seed, rng, present) if pair is None else pair
    points = keypoints(local)
    chosen = [h for h in (0, 1) if present[h]] or [0, 1]
    used = points[chosen].reshape(-1, 3)
    R = _view(knobs, rng, used, points, present)
    turned = _moved(local, R, -used.mean(0) @ R.T)
    points = (points - used.mean(0)) @ R.T
    camera, offset = _camera(knobs, rng, points[chosen].reshape(-1, 3), points, present)
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
        pieces.append(hand_piece(knobs, rng, hand, vertices[h], h, skin, capped=not arm))
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


def hand_piece(
    knobs: SceneKnobs, rng: np.random.Generator, hand: HandModel, vertices: np.ndarray, h: int, skin: Skin, capped: bool
) -> Piece:
    layers, materials = skin.hand_surface(rng, knobs.ring, knobs.tattoo, knobs.scar, h, knobs.hair)
    # Where the hand goes on, the wrist's lid would darken the seam.
    return Piece(
        vertices.astype(np.float32), _hand_faces(h, capped), skin.hand_colour, h, materials, masks().rest_m.astype(np.float32), layers
    )


@lru_cache(maxsize=4)
def _hand_faces(h: int, capped: bool) -> np.ndarray:
    """A hand's faces; unless it is capped, without those that close the wrist (round the middle of the rim)."""
    loop = set(load_hand_asset().wrist_loop.tolist())
    faces = load_bundled_hand().faces[h].tolist()
    counts = np.bincount([v for f in faces if len(loop & set(f)) == 2 for v in f if v not in loop])
    return np.array([f for f in faces if capped or int(counts.argmax()) not in f], np.int32)


def _person(knobs: SceneKnobs, body: BodyAsset, seed: int, rng: np.random.Generator) -> Person | None:
    """What the person of a scene does."""
    ego = knobs.framing == "ego"
    both = rng.random() < knobs.two_hands
    if both and rng.random() < knobs.interacting:
        pair = _drawn_pair(knobs, seed, rng)
        return pose_pair(rng, body, knobs.size_noise, pair)
    doing = EGO if ego else SINGLE
    if both:
        shares = (doing, doing)
    else:
        first = bool(rng.random() < 0.5)
        shares = (doing, IDLE) if first else (IDLE, doing)
    pool = _poses(seed // BLOCK, knobs.poses == "simple")
    fingers = pool[rng.integers(len(pool), size=2)].clone()
    if both and rng.random() < 0.4:
        fingers[0] = fingers[1]
    shape = torch.from_numpy(rng.normal(0, knobs.shape_sigma, 10)).float().clamp(-2.5, 2.5)
    return pose_person(rng, body, knobs.size_noise, fingers, shape + torch.from_numpy(rng.normal(0, 0.1, (2, 10))).float(), shares)


def _with_body(knobs: SceneKnobs, seed: int, rng: np.random.Generator, hand: HandModel, close: bool) -> Scene | None:
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
        placed_camera = _ego_view(knobs, rng, person, used)
    elif close:
        placed_camera = _close_view(knobs, rng, person, used)
    else:
        placed_camera = _person_view(knobs, rng, person, used, view)
    if placed_camera is None:
        return None
    camera, R, offset = placed_camera
    placed = _moved(local, torch.from_numpy(R).float(), torch.from_numpy(offset).float())
    posed = mesh(placed)
    vertices = posed.vertices_m.numpy()
    if vertices[shown, :, 2].min() < 0.06 or posed.keypoints_m[..., 2].min() < 0.05:
        return None
    if close and _hidden_by_trunk(person, used, -R.T @ offset):
        return None
    depth = float(vertices[shown, :, 2].mean())
    unseen_head = knobs.finish == "quick" and _unseen(person, ("head",), camera, R, offset)
    if detail is load_body() and knobs.finish == "quick" and _unseen(person, ("foot.L", "foot.R"), camera, R, offset):
        person = replace(person, posture=person.posture.thinned(unseen_head))
    loop = load_hand_asset().wrist_loop.numpy()
    loops = tuple((vertices[h, loop].astype(np.float64) - offset) @ R for h in (0, 1))
    body = _body_piece(knobs, rng, person, skin, loops, R, offset, headless=ego)
    pieces, welds = [body], []
    for h in (0, 1):
        own = hand_piece(knobs, rng, hand, vertices[h], h, skin, capped=False)
        if skin.glove is None:
            _meet_colours(person.posture.figure.body, body, own, h, loop)
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
        others = _others(knobs, rng, np.random.default_rng([seed, 7]), seed, camera, chest)
        extra = others.place(pieces, welds)
    far = float((R @ person.posture.at["pelvis"] + offset)[2]) / depth
    pieces.extend(_before_and_behind(knobs, rng, camera, posed, (0 in shown, 1 in shown), depth, skin, max(1.05, far + 0.05)))
    return Scene(tuple(pieces), camera, placed, posed, (True, True), depth, tuple(welds), tuple(extra))


NEAR_BONE_M = 0.3
"""Of a body of 1.70 m: nothing of a head, hat and all, or of a foot is further from its joint."""


def _unseen(person: Person, bones: tuple[str, ...], camera: Camera, R: np.ndarray, offset: np.ndarray) -> bool:
    """Whether all of these bones lie beyond the picture's borders, by more than what hangs on them."""
    slope = float(camera.principal_px[0] / camera.focal_px[0])
    room = NEAR_BONE_M * person.posture.figure.size * math.sqrt(1 + slope * slope)
    places = [R @ person.posture.at[bone] + offset for bone in bones]
    return all(max(abs(x), abs(y)) - slope * z > room for x, y, z in places)


def _body_piece(
    knobs: SceneKnobs,
    rng: np.random.Generator,
    person: Person,
    skin: Skin,
    loops: tuple[np.ndarray | None, np.ndarray | None],
    R: np.ndarray,
    offset: np.ndarray,
    headless: bool,
) -> Piece:
    figure = person.posture.figure
    body = figure.body
    outfit = dress(rng, body, skin, knobs.bare, knobs.hair)
    rest = figure.vertices_m + body.normals * (outfit.lift_m * np.float32(figure.size))[:, None]
    vertices = skin_body(person.posture, person.arms, loops, rest) @ R.T.astype(np.float32) + offset.astype(np.float32)
    faces, closed = outfit.faces, len(body.faces) + len(body.eye_faces)
    if headless:
        above = body.vertices_m[:, 1] > 0.56
        faces = faces[~above[faces].any(1)]
    if headless or loops[0] is None:  # one looks into the neck, or into the arms
        closed = 0
    return Piece(vertices, faces, outfit.colour, -1, outfit.materials, body.vertices_m, outfit.layers, closed)


def _meet_colours(asset: BodyAsset, body: Piece, hand_piece: Piece, h: int, loop: np.ndarray) -> None:
    """The forearm's skin takes the colour of the hand's rim near it."""
    near, follows, share = asset.stump[h]
    rim = hand_piece.colour[loop]
    body.colour[near] += share * (rim[follows] - body.colour[near])


def _without_hands(knobs: SceneKnobs, seed: int, rng: np.random.Generator, skin: Skin) -> Scene | None:
    """A body whose hands are behind it, or cropped so that none is seen; or no body at all."""
    shape = torch.zeros(2, 10)
    view = float(np.exp(rng.uniform(*np.log(knobs.view_m))))
    person = pose_person(rng, load_body(view > COARSE_VIEW_M), knobs.size_noise, torch.zeros(2, 16, 3), shape, (HIDDEN, HIDDEN))
    if person is None:
        return None
    camera, R, offset = _look_at(knobs, rng, _spot(rng, person), True, view)
    pieces = [] if rng.random() < 0.15 else [_body_piece(knobs, rng, person, skin, (None, None), R, offset, headless=False)]
    depth = float((R @ person.posture.at["chest"] + offset)[2])
    if pieces:
        pieces.extend(head_wear(np.random.default_rng([seed, 6]), person, R, offset, knobs.glasses, knobs.hat))
    if rng.random() < knobs.others and pieces:
        nobody = np.random.default_rng([seed, 7])
        _others(replace(knobs, others_hands=0.0), rng, nobody, seed, camera, depth).place(pieces, [])
    half = knobs.size_px / 2 / float(camera.focal_px[0])
    pieces.extend(clutter(rng, half, depth, skin, int(rng.integers(knobs.clutter[0], knobs.clutter[1] + 3)), 0.7))
    parameters = _moved(person.parameters, torch.from_numpy(R).float(), torch.from_numpy(offset).float())
    return Scene(tuple(pieces), camera, parameters, mesh(parameters), (False, False), depth)


def _spot(rng: np.random.Generator, person: Person) -> np.ndarray:
    """Something worth a photo that is no hand."""
    names = ("head", "chest", "foot.L", "shin.R", "pelvis")
    return person.posture.at[names[pick(rng, (0.4, 0.3, 0.1, 0.1, 0.1))]] + rng.normal(0, 0.05, 3)


@dataclass
class _Company:
    """Other people: their pieces, where those are welded, and their hands; numbers of pieces count from their own first one."""

    pieces: list[Piece]
    welds: list[Weld]
    hands: list[ExtraHand]

    def place(self, pieces: list[Piece], welds: list[Weld]) -> list[ExtraHand]:
        """Adds them to a scene's lists; their hands with the numbers that their pieces have there."""
        first = len(pieces)
        pieces.extend(self.pieces)
        welds.extend(replace(w, first=w.first + first, second=w.second + first) for w in self.welds)
        return [replace(hand, piece=hand.piece + first) for hand in self.hands]


def _others(knobs: SceneKnobs, rng: np.random.Generator, extra: np.random.Generator, seed: int, camera: Camera, depth: float) -> _Company:
    """More people, some with their hands behind them, some who do something with them (these are drawn by `extra`)."""
    company = _Company([], [], [])
    for _ in range(int(rng.integers(1, 3))):
        shape = torch.from_numpy(rng.normal(0, 0.7, (1, 10))).float().expand(2, 10)
        busy = extra.random() < knobs.others_hands
        if busy:
            pool = _poses(seed // BLOCK, knobs.poses == "simple")
            shares = ((SINGLE, SINGLE), (SINGLE, IDLE), (IDLE, SINGLE))[int(extra.integers(3))]
            person = pose_person(extra, load_body(coarse=True), 0.06, pool[extra.integers(len(pool), size=2)].clone(), shape, shares)
        else:
            person = pose_person(rng, load_body(coarse=True), 0.06, torch.zeros(2, 16, 3), shape, (HIDDEN, HIDDEN))
        if person is None:
            continue
        yaw = rotation(np.array([0, rng.normal(0, 0.45), 0]))
        z = depth * rng.uniform(0.95, 1.8)
        reach = knobs.size_px / 2 / float(camera.focal_px[0]) * z
        x = sign(rng) * (rng.uniform(0.35, 1.1) * reach + 0.15)
        turned = np.diag([1.0, -1, -1]) @ yaw
        place = np.array([x, rng.normal(0, 0.15), z]) - turned @ person.posture.at["chest"]
        skin = Skin.draw(rng, 0)
        if busy:
            _add_hands(replace(knobs, bare=0), extra, person, skin, turned, place, company)
        else:
            company.pieces.append(_body_piece(replace(knobs, bare=0), rng, person, skin, (None, None), turned, place, headless=False))
        company.pieces.extend(head_wear(extra, person, turned, place, knobs.glasses, knobs.hat))
    return company


def _add_hands(
    knobs: SceneKnobs, rng: np.random.Generator, person: Person, skin: Skin, R: np.ndarray, offset: np.ndarray, company: _Company
) -> None:
    """One of the other people with both hands. Their pieces are no hands of the scene's pair: maps show things there."""
    hand = load_bundled_hand()
    posed = mesh(_moved(person.parameters, torch.from_numpy(R).float(), torch.from_numpy(offset).float()))
    vertices = posed.vertices_m.numpy()
    loop = load_hand_asset().wrist_loop.numpy()
    loops = tuple((vertices[h, loop].astype(np.float64) - offset) @ R for h in (0, 1))
    body, first = _body_piece(knobs, rng, person, skin, loops, R, offset, headless=False), len(company.pieces)
    company.pieces.append(body)
    for h in (0, 1):
        own = hand_piece(knobs, rng, hand, vertices[h], h, skin, capped=False)
        _meet_colours(person.posture.figure.body, body, own, h, loop)
        company.welds.append(Weld(len(company.pieces), first, loop, person.posture.figure.body.loops[h]))
        company.hands.append(ExtraHand(h, posed.keypoints_m[h].numpy(), len(company.pieces)))
        company.pieces.append(replace(own, hand=-1))


def _hidden_by_trunk(person: Person, used: np.ndarray, eye: np.ndarray) -> bool:
    """Whether the trunk or the head stands between the camera and the middle of the hands."""
    return meets_body(person.posture, eye + _ON_THE_WAY * (used.mean(0) - eye))


_ON_THE_WAY = np.linspace(0.3, 0.97, 24)[:, None]


Placed = tuple[Camera, np.ndarray, np.ndarray]
"""A camera, and the rotation and shift from the body's frame into the camera's."""


def _facing(rng: np.random.Generator, frontal: bool) -> np.ndarray:
    """Rotation from the body's frame to that of a camera before it."""
    yaw = rng.normal(0, 0.35) if frontal else rng.uniform(-np.pi, np.pi)
    pitch, roll = rng.normal(0.05, 0.2), rng.normal(0, 0.07) if rng.random() < 0.85 else rng.normal(0, 0.6)
    return rotation(np.array([0, 0, roll])) @ rotation(np.array([pitch, 0, 0])) @ np.diag([1.0, -1, -1]) @ rotation(np.array([0, yaw, 0]))


def _look_at(knobs: SceneKnobs, rng: np.random.Generator, target: np.ndarray, frontal: bool, view: float) -> Placed:
    R = _facing(rng, frontal)
    fov = float(np.exp(rng.uniform(*np.log(knobs.fov_deg))))
    size = knobs.size_px
    focal = size / 2 / np.tan(np.radians(fov) / 2)
    depth = max(view * focal / size, 0.45)
    offset = np.array([0, 0, depth]) - R @ target
    return Camera(torch.full((2,), focal, dtype=torch.float32), torch.full((2,), size / 2)), R, offset


def _person_view(knobs: SceneKnobs, rng: np.random.Generator, person: Person, used: np.ndarray, view: float) -> Placed | None:
    """Looks at a mean of head, chest and hands; the middle of the hands that do something is in the picture."""
    odds = rng.dirichlet([0.6, 0.6, 1.0])
    target = odds[0] * person.posture.at["head"] + odds[1] * person.posture.at["chest"] + odds[2] * used.mean(0)
    target = target + rng.normal(0, 0.06 + 0.03 * view, 3)
    camera, R, offset = _look_at(knobs, rng, target, rng.random() < knobs.frontal, view)
    centre = R @ used.mean(0) + offset
    xy = float(camera.focal_px[0]) * centre[:2] / max(centre[2], 0.05) / knobs.size_px
    return (camera, R, offset) if np.abs(xy).max() < 0.48 and centre[2] > 0.2 else None


def _close_view(knobs: SceneKnobs, rng: np.random.Generator, person: Person, used: np.ndarray) -> Placed | None:
    """From any side that a person is photographed from; the hands fill the picture."""
    R = _facing(rng, rng.random() < knobs.frontal)
    if rng.random() < 0.25:
        R = rotation(np.array([rng.normal(0, 0.7), 0, 0])) @ R
    points = torch.from_numpy(used @ R.T).float()
    camera, offset = _camera(replace(knobs, framing="close"), rng, points, points.reshape(-1, 21, 3), (True, True))
    return camera, R, offset.numpy().astype(np.float64)


def _ego_view(knobs: SceneKnobs, rng: np.random.Generator, person: Person, used: np.ndarray) -> Placed | None:
    """From between the eyes, or from a camera on the forehead or chest, down to the hands."""
    s = person.posture.figure.size
    eye = person.posture.at["head"] + s * (
        person.posture.R["chest"] @ np.array([rng.normal(0, 0.02), rng.uniform(0.0, 0.14), rng.uniform(0.1, 0.15)])
    )
    if rng.random() < 0.15:
        eye = person.posture.at["chest"] + s * np.array([0, 0.1, 0.16])
    aim = used.mean(0) + rng.normal(0, 0.08, 3) - eye
    forward = aim / np.linalg.norm(aim)
    right = cross(forward, np.array([0, 1.0, 0]))
    norm = length(right)
    if norm < 0.1:
        return None
    right /= norm
    R = np.stack([right, cross(forward, right), forward])
    R = rotation(rng.normal(0, [0.06, 0.06, 0.12])) @ R
    fov = rng.uniform(*knobs.fov_ego_deg)
    focal = knobs.size_px / 2 / np.tan(np.radians(fov) / 2)
    return Camera(torch.full((2,), focal, dtype=torch.float32), torch.full((2,), knobs.size_px / 2)), R, -R @ eye


def _who(knobs: SceneKnobs, rng: np.random.Generator) -> tuple[bool, bool]:
    if knobs.framing == "wide" and rng.random() < knobs.no_hand:
        return (False, False)
    if rng.random() < knobs.two_hands:
        return (True, True)
    left = bool(rng.random() < 0.5)
    return (left, not left)


@lru_cache(maxsize=2)
def _poses(block: int, simple: bool = False) -> Tensor:
    """Finger poses of right hands, shared by a block of scenes."""
    return sample_poses(POSE_POOL, 3_000_000 + block, simple)


def _drawn_pair(knobs: SceneKnobs, seed: int, rng: np.random.Generator) -> HandParameters:
    """An interacting pair; three in ten drawn apart a little."""
    pool = shipped_pairs() if knobs.pairs == "shipped" else fresh_pairs(seed // BLOCK)
    pair = pool[int(rng.integers(pool.shape.shape[0]))]
    if rng.random() < 0.3:
        gap = torch.from_numpy(rng.normal(0, 0.012, 3)).float()
        pair = HandParameters(pair.pose, pair.shape, pair.translation_m + torch.stack([gap, -gap]))
    return pair


def _pair(knobs: SceneKnobs, seed: int, rng: np.random.Generator, present: tuple[bool, bool]) -> HandParameters:
    """Both hands in a common frame, around the origin."""
    if all(present) and rng.random() < knobs.interacting:
        return _drawn_pair(knobs, seed, rng)
    pose = torch.zeros(2, 16, 3)
    pool = _poses(seed // BLOCK, knobs.poses == "simple")
    fingers = pool[rng.integers(len(pool), size=2)]
    pose[1] = fingers[1]
    pose[0] = mirror_rotvec(fingers[0])
    shape = torch.from_numpy(rng.normal(0, knobs.shape_sigma, 10)).float().clamp(-2.5, 2.5)
    shape = shape + torch.from_numpy(rng.normal(0, 0.1, (2, 10))).float()
    R = random_turn(rng, 2)
    if rng.random() < 0.6:  # both hands do something alike: one is about the mirror image of the other
        mirror = torch.diag(torch.tensor([-1.0, 1, 1]))
        wobble = to_matrix(torch.from_numpy(rng.normal(0, 0.5, 3)).float())
        R = torch.stack([wobble @ mirror @ R[1] @ mirror, R[1]])
    pose[:, 0] = to_rotvec(R)
    parameters = HandParameters(pose, shape, torch.zeros(2, 3))
    points = keypoints(parameters).numpy()
    direction = rng.normal(0, 1, 3) * np.array([1.0, 0.6, 0.6])
    direction = (direction / np.linalg.norm(direction)).astype(np.float32)
    apart = rng.uniform(0.03, 0.28) if knobs.framing == "close" else rng.uniform(0.05, 0.7)
    centre = points.mean(1)
    way = direction * np.float32(_far_enough(points - centre[:, None], direction, apart) / 2)
    return HandParameters(pose, shape, torch.from_numpy(np.stack([way, -way]) - centre))


@numba.njit(cache=True)
def _far_enough(points, direction, apart):
    """The distance between two hands' middles along a direction, `apart` or, if keypoints would come too near each other, more."""
    for _ in range(39):
        least = np.inf
        for i in range(points.shape[1]):
            for j in range(points.shape[1]):
                total = 0.0
                for c in range(3):
                    total += (points[0, i, c] - points[1, j, c] + apart * direction[c]) ** 2
                least = min(least, total)
        if np.sqrt(least) > 0.022:
            break
        apart += 0.012
    return apart


def _view(knobs: SceneKnobs, rng: np.random.Generator, used: Tensor, points: Tensor, present: tuple[bool, bool]) -> Tensor:
    """Rotation of the scene before the camera."""
    R = random_turn(rng)[0]
    if rng.random() < knobs.upright:
        h = 1 if present[1] else 0
        finger = R @ (points[h, 9] - points[h, 0])
        angle = torch.atan2(finger[0], -finger[1]) + float(rng.normal(0, 0.6))
        R = to_matrix(torch.tensor([0.0, 0.0, -float(angle)])) @ R
    return R


def _moved(p: HandParameters, R: Tensor, t: Tensor) -> HandParameters:
    """The same hands after x -> R x + t. Hands turn about their wrist, so the translation has to make up for it."""
    pose, R_here = p.pose.clone(), R.numpy()
    pose.numpy()[:, 0] = to_rotvec(torch.from_numpy(R_here @ to_matrix(p.pose[:, 0]).numpy())).numpy()
    wrist = joints_at_rest(p.shape).numpy()[:, 0]
    place = (wrist + p.translation_m.numpy()) @ R_here.T + t.numpy() - wrist
    return HandParameters(pose, p.shape, torch.from_numpy(place))


def _camera(knobs: SceneKnobs, rng: np.random.Generator, used: Tensor, points: Tensor, present: tuple[bool, bool]) -> tuple[Camera, Tensor]:
    """Intrinsics, and the offset that puts the scene's origin before the camera so that the hands fill what they should."""
    fov = float(np.exp(rng.uniform(*np.log(knobs.fov_deg))))
    size = knobs.size_px
    focal = size / 2 / np.tan(np.radians(fov) / 2)
    low, high = used.numpy().min(0), used.numpy().max(0)
    if knobs.framing == "close":
        extent = float((high - low)[:2].max())
        fill = rng.uniform(*knobs.fill_close)
        place = rng.uniform(-0.5, 0.5, 2) * (1.05 - fill) * size + rng.normal(0, 0.03, 2) * size
    else:
        h = 1 if present[1] else 0
        own = points[h].numpy()
        extent = float((own.max(0) - own.min(0))[:2].max())
        fill = float(np.exp(rng.uniform(*np.log(knobs.fill_wide))))
        place = rng.uniform(-0.42, 0.42, 2) * size
    depth = max(extent * focal / (fill * size), 0.16)
    if knobs.framing == "wide":
        both = float((high - low)[:2].max()) * focal / depth
        place = place * max(0.1, 1 - both / size)
    offset = np.array([place[0] / focal * depth, place[1] / focal * depth, depth], np.float32)
    offset[:2] -= ((high + low) / 2)[:2]
    return Camera(torch.full((2,), focal, dtype=torch.float32), torch.full((2,), size / 2)), torch.from_numpy(offset)
