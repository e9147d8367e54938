"""Scenes: which hands, whose, where, in what light, seen by which camera. A scene is a pure function of (knobs, seed)."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from twohands.geometry.camera import Camera
from twohands.geometry.rotations import axis_rotation, matrix_to_rotvec, random_rotation, rotvec_to_matrix
from twohands.hands.bundled import load_bundled_hand, load_hand_asset
from twohands.hands.mirror import mirror_rotvec
from twohands.hands.model import HandMesh, HandModel
from twohands.hands.parameters import HandParameters
from twohands.synth.poses import sample_poses
from twohands.synth.skin import Skin, noise

BLOCK = 2000
"""Scenes whose seeds share a block of this size draw from one pool of interacting pairs."""
POOL = 128


@dataclass(frozen=True)
class SceneKnobs:
    """Every range of the engine. Shares are probabilities."""

    framing: Literal["close", "wide"] = "close"
    """close: the hands fill the picture (stage 1); wide: hands somewhere in a larger scene (detector)."""
    size_px: int = 256
    """Side of the picture: a crop of 96 to 128 px from it loses nothing."""
    two_hands: float = 0.6
    """Two hands of one person; the rest shows one."""
    interacting: float = 0.55
    """Of the two-hand scenes: hands in contact or nearly so, from the interaction sampler."""
    no_hand: float = 0.08
    """Wide scenes without any hand: the detector must learn to find nothing."""
    fill_close: tuple[float, float] = (0.4, 0.95)
    """Extent of the hands' keypoints over the picture's side; near 1 the border cuts fingers off."""
    fill_wide: tuple[float, float] = (0.06, 0.45)
    """The same for one hand in a wide scene: 15 to 115 px of 256."""
    fov_deg: tuple[float, float] = (18.0, 75.0)
    """Tele to wide angle over the picture's side, log-uniform."""
    upright: float = 0.5
    """Hands whose fingers point up, more or less; the rest is turned by anything."""
    forearm: float = 0.88
    """Hands are seldom seen without one."""
    sleeve: float = 0.45
    """Of the forearms."""
    held: float = 0.2
    """A cylinder, box or ball in the hand."""
    occluder: float = 0.2
    """A thing in front of the hands."""
    glove: float = 0.03
    shape_sigma: float = 1.0
    """Spread of the shape coefficients."""
    distractors: tuple[int, int] = (1, 6)
    """Heads, trunks, limbs and boxes behind the hands of a wide scene."""


@dataclass(frozen=True)
class Piece:
    """A mesh of the scene in the camera frame."""

    vertices_m: Float[np.ndarray, "vert 3"]
    faces: Int[np.ndarray, "face 3"]
    colour: Float[np.ndarray, "vert 3"]
    specular: float
    gloss: float
    hand: int
    """0 left hand, 1 right hand, -1 anything else."""


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


def build_scene(knobs: SceneKnobs, seed: int, pair: HandParameters | None = None) -> Scene:
    """The scene of a seed; of this pair of hands (in any place and orientation), if one is given."""
    rng = np.random.default_rng([seed, 1])
    hand = load_bundled_hand()
    for _ in range(50):
        scene = _try(knobs, seed, rng, hand, pair)
        if scene is not None:
            return scene
    raise RuntimeError(f"no valid scene for seed {seed} in 50 tries; the knobs leave no room: {knobs}")


def _try(knobs: SceneKnobs, seed: int, rng: np.random.Generator, hand: HandModel, pair: HandParameters | None) -> Scene | None:
    present = _who(knobs, rng) if pair is None else (True, True)
    skin = Skin.draw(rng, knobs.glove)
    local = _pair(knobs, seed, rng, hand, present) if pair is None else pair
    points = hand.pose_hands(local).keypoints()
    used = points[[h for h in (0, 1) if present[h]] or [0, 1]].reshape(-1, 3)
    R = _view(knobs, rng, used, points, present)
    turned = _moved(hand, local, R, -used.mean(0) @ R.T)
    points = hand.pose_hands(turned).keypoints()
    used = points[[h for h in (0, 1) if present[h]] or [0, 1]].reshape(-1, 3)
    camera, offset = _camera(knobs, rng, used, points, present)
    placed = HandParameters(turned.pose, turned.shape, turned.translation_m + offset)
    mesh = hand.pose_hands(placed).mesh()
    vertices = mesh.vertices_m.numpy()
    if any(present[h] and vertices[h, :, 2].min() < 0.06 for h in (0, 1)):
        return None
    pieces: list[Piece] = []
    colour = skin.hand_colour()
    faces = hand.faces.numpy()
    for h in (0, 1):
        if not present[h]:
            continue
        pieces.append(Piece(vertices[h].astype(np.float32), faces[h].astype(np.int32), colour, skin.specular, skin.gloss, h))
        if rng.random() < knobs.forearm:
            pieces.extend(forearm(knobs, rng, hand, placed, vertices[h], h, skin))
        if rng.random() < knobs.held:
            pieces.append(_held(rng, mesh.keypoints_m[h].numpy(), placed, h))
    if any(present) and rng.random() < knobs.occluder:
        pieces.append(_occluder(rng, mesh.keypoints_m.numpy()[[h for h in (0, 1) if present[h]]].reshape(-1, 3)))
    if knobs.framing == "wide":
        pieces.extend(_distractors(knobs, rng, camera, float(offset[2]), skin))
    return Scene(tuple(pieces), camera, placed, mesh, present, float(offset[2]))


def _who(knobs: SceneKnobs, rng: np.random.Generator) -> tuple[bool, bool]:
    if knobs.framing == "wide" and rng.random() < knobs.no_hand:
        return (False, False)
    if rng.random() < knobs.two_hands:
        return (True, True)
    left = bool(rng.random() < 0.5)
    return (left, not left)


@lru_cache(maxsize=2)
def _pool(block: int) -> HandParameters:
    """Interacting pairs shared by a block of scenes; each is shown from many sides with many skins."""
    from twohands.synth.interactions import sample_interactions

    return sample_interactions(load_bundled_hand(), POOL, 7_000_000 + block)


def _pair(knobs: SceneKnobs, seed: int, rng: np.random.Generator, hand: HandModel, present: tuple[bool, bool]) -> HandParameters:
    """Both hands in a common frame, around the origin."""
    if all(present) and rng.random() < knobs.interacting:
        pool = _pool(seed // BLOCK)
        pair = pool[int(rng.integers(pool.shape.shape[0]))]
        if rng.random() < 0.3:  # almost touching: drawn apart a little
            gap = torch.from_numpy(rng.normal(0, 0.012, 3)).float()
            pair = HandParameters(pair.pose, pair.shape, pair.translation_m + torch.stack([gap, -gap]))
        return pair
    pose = torch.zeros(2, 16, 3)
    fingers = sample_poses(2, int(rng.integers(2**31)))
    pose[1] = fingers[1]
    pose[0] = mirror_rotvec(fingers[0])
    shape = torch.from_numpy(rng.normal(0, knobs.shape_sigma, 10)).float().clamp(-2.5, 2.5)
    shape = shape + torch.from_numpy(rng.normal(0, 0.1, (2, 10))).float()
    R = random_rotation((2,), torch.Generator().manual_seed(int(rng.integers(2**31))))
    if rng.random() < 0.6:  # both hands do something alike: one is about the mirror image of the other
        mirror = torch.diag(torch.tensor([-1.0, 1, 1]))
        wobble = rotvec_to_matrix(torch.from_numpy(rng.normal(0, 0.5, 3)).float())
        R = torch.stack([wobble @ mirror @ R[1] @ mirror, R[1]])
    pose[:, 0] = matrix_to_rotvec(R)
    parameters = HandParameters(pose, shape, torch.zeros(2, 3))
    points = hand.pose_hands(parameters).keypoints()
    direction = rng.normal(0, 1, 3) * np.array([1.0, 0.6, 0.6])
    direction = torch.from_numpy(direction / np.linalg.norm(direction)).float()
    apart = rng.uniform(0.03, 0.28) if knobs.framing == "close" else rng.uniform(0.05, 0.7)
    centre = points.mean(1)
    for _ in range(40):
        shift = torch.stack([direction * apart / 2 - centre[0], -direction * apart / 2 - centre[1]])
        gap = torch.cdist(points[0] + shift[0], points[1] + shift[1]).min()
        if gap > 0.022:
            break
        apart += 0.012
    return HandParameters(pose, shape, shift)


def _view(knobs: SceneKnobs, rng: np.random.Generator, used: Tensor, points: Tensor, present: tuple[bool, bool]) -> Tensor:
    """Rotation of the scene before the camera."""
    R = random_rotation((), torch.Generator().manual_seed(int(rng.integers(2**31))))
    if rng.random() < knobs.upright:
        h = 1 if present[1] else 0
        finger = R @ (points[h, 9] - points[h, 0])
        angle = torch.atan2(finger[0], -finger[1]) + float(rng.normal(0, 0.6))
        R = axis_rotation(2, -angle) @ R
    return R


def _moved(hand: HandModel, p: HandParameters, R: Tensor, t: Tensor) -> HandParameters:
    """The same hands after x -> R x + t. Hands turn about their wrist, so the translation has to make up for it."""
    pose = p.pose.clone()
    pose[:, 0] = matrix_to_rotvec(R @ rotvec_to_matrix(p.pose[:, 0]))
    wrist = hand.with_shape(p.shape).joints_rest_m[:, 0]
    return HandParameters(pose, p.shape, (wrist + p.translation_m) @ R.T + t - wrist)


def _camera(knobs: SceneKnobs, rng: np.random.Generator, used: Tensor, points: Tensor, present: tuple[bool, bool]) -> tuple[Camera, Tensor]:
    """Intrinsics, and the offset that puts the scene's origin before the camera so that the hands fill what they should."""
    fov = float(np.exp(rng.uniform(*np.log(knobs.fov_deg))))
    size = knobs.size_px
    focal = size / 2 / np.tan(np.radians(fov) / 2)
    if knobs.framing == "close":
        extent = float((used.amax(0) - used.amin(0))[:2].max())
        fill = rng.uniform(*knobs.fill_close)
        place = rng.uniform(-0.5, 0.5, 2) * (1.05 - fill) * size + rng.normal(0, 0.03, 2) * size
    else:
        h = 1 if present[1] else 0
        extent = float((points[h].amax(0) - points[h].amin(0))[:2].max())
        fill = float(np.exp(rng.uniform(*np.log(knobs.fill_wide))))
        place = rng.uniform(-0.42, 0.42, 2) * size
    depth = max(extent * focal / (fill * size), 0.16)
    if knobs.framing == "wide":
        both = float((used.amax(0) - used.amin(0))[:2].max()) * focal / depth
        place = place * max(0.1, 1 - both / size)
    offset = torch.tensor([place[0] / focal * depth, place[1] / focal * depth, depth], dtype=torch.float32)
    offset = offset - torch.cat([((used.amax(0) + used.amin(0)) / 2)[:2], torch.zeros(1)])
    return Camera(torch.full((2,), focal, dtype=torch.float32), torch.full((2,), size / 2)), offset


def _tube(path: np.ndarray, rings: np.ndarray, colour: np.ndarray, specular: float, gloss: float) -> Piece:
    """A tube of rings (k, n, 3), closed at its far end."""
    k, n = rings.shape[:2]
    a = np.arange(k * n).reshape(k, n)
    b = np.roll(a, -1, 1)
    quads = np.stack([a[:-1], b[:-1], b[1:], a[1:]], -1).reshape(-1, 4)
    faces = np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])
    cap = np.stack([a[-1], b[-1], np.full(n, k * n)], 1)
    vertices = np.concatenate([rings.reshape(-1, 3), path[-1:]])
    return Piece(
        vertices.astype(np.float32),
        np.concatenate([faces, cap]).astype(np.int32),
        np.resize(colour, (len(vertices), 3)),
        specular,
        gloss,
        -1,
    )


def forearm(
    knobs: SceneKnobs, rng: np.random.Generator, hand: HandModel, p: HandParameters, vertices: np.ndarray, h: int, skin: Skin
) -> list[Piece]:
    """A tube that goes on behind the wrist, bent at it, bare or in a sleeve; sometimes a watch or bangle."""
    loop = vertices[load_hand_asset().wrist_loop.numpy()]
    if h == 0:
        loop = loop[::-1]
    centre = loop.mean(0)
    R = rotvec_to_matrix(p.pose[h, 0]).numpy()
    back = R @ np.array([1.0 if h == 1 else -1.0, 0, 0])
    bend = R @ np.array([0, rng.normal(0, 0.4), rng.normal(0, 0.22)])
    arm = back + bend
    arm /= np.linalg.norm(arm)
    length = rng.uniform(0.12, 0.26)
    shares = np.array([0, 0.06, 0.14, 0.3, 0.55, 0.8, 1.0])
    mix = np.clip(shares / 0.25, 0, 1)[:, None]
    steps = (1 - mix) * back + mix * arm
    steps /= np.linalg.norm(steps, axis=1, keepdims=True)
    path = centre + np.concatenate([np.zeros((1, 3)), np.cumsum(np.diff(shares)[:, None] * length * steps[1:], 0)])
    offset = loop - centre
    grow = 1 + np.clip(shares * length / 0.26, 0, 1) * rng.uniform(0.25, 0.6)
    rings = np.stack([path[k] + (offset - np.outer(offset @ steps[k], steps[k]) * mix[k]) * grow[k] for k in range(len(shares))])
    bare = np.clip(skin.base * (1 + 0.04 * noise(rings.reshape(-1, 3), 80, rng))[:, None], 0, 1)
    pieces = [_tube(path, rings, np.concatenate([bare, bare[-1:]]), skin.specular, skin.gloss)]
    if rng.random() < knobs.sleeve:
        start = rng.uniform(0.02, 0.6)
        along = start + (1 - start) * np.linspace(0, 1, 6)
        at = np.stack([np.stack([np.interp(along, shares, rings[:, i, c]) for c in range(3)], 1) for i in range(rings.shape[1])], 1)
        middle = np.stack([np.interp(along, shares, path[:, c]) for c in range(3)], 1)
        loose = rng.uniform(1.12, 1.5)
        cloth = middle[:, None] + (at - middle[:, None]) * loose * (1 + 0.03 * rng.normal(size=(6, 1, 1)))
        tone = _cloth(rng)
        folds = np.clip(tone * (1 + 0.12 * noise(cloth.reshape(-1, 3), 60, rng))[:, None], 0, 1)
        pieces.append(_tube(middle, cloth, np.concatenate([folds, folds[-1:]]), 0.02, 8))
    elif rng.random() < 0.12:
        along = np.array([0.1, 0.12, 0.12 + rng.uniform(0.03, 0.12)])
        at = np.stack([np.stack([np.interp(along, shares, rings[:, i, c]) for c in range(3)], 1) for i in range(rings.shape[1])], 1)
        middle = np.stack([np.interp(along, shares, path[:, c]) for c in range(3)], 1)
        band = middle[:, None] + (at - middle[:, None]) * np.array([1.0, 1.08, 1.08])[:, None, None]
        pieces.append(_tube(middle, band, np.tile(_cloth(rng), (band.shape[0] * band.shape[1] + 1, 1)), 0.3, 30))
    return pieces


def _cloth(rng: np.random.Generator) -> np.ndarray:
    colour = rng.random(3) ** 1.5 if rng.random() < 0.7 else np.repeat(rng.random() ** 2, 3)
    return np.clip(colour, 0.01, 1)


def _solid(kind: str) -> tuple[np.ndarray, np.ndarray]:
    """A unit cylinder, ball or box around the origin, its axis along z, faces outward."""
    n, m = (18, 9)
    angle = np.linspace(0, 2 * np.pi, n, endpoint=False)
    if kind == "box":
        angle = np.pi / 4 + np.arange(4) * np.pi / 2
        n = 4
    z = np.linspace(-1, 1, m)
    radius = np.sqrt(np.clip(1 - z**2, 0, 1)) if kind == "ball" else np.ones(m)
    rings = np.stack([np.stack([np.cos(angle) * r, np.sin(angle) * r, np.full(n, h)], 1) for r, h in zip(radius, z, strict=True)])
    a = np.arange(m * n).reshape(m, n)
    b = np.roll(a, -1, 1)
    quads = np.stack([a[:-1], b[:-1], b[1:], a[1:]], -1).reshape(-1, 4)
    vertices = np.concatenate([rings.reshape(-1, 3), [[0, 0, -1], [0, 0, 1]]])
    bottom = np.stack([b[0], a[0], np.full(n, m * n)], 1)
    top = np.stack([a[-1], b[-1], np.full(n, m * n + 1)], 1)
    return vertices, np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]], bottom, top])


def _thing(rng: np.random.Generator, kind: str, scale: np.ndarray, R: np.ndarray, centre: np.ndarray, colour: np.ndarray) -> Piece:
    vertices, faces = _solid(kind)
    placed = (vertices * scale) @ R.T + centre
    spots = np.clip(colour * (1 + rng.uniform(0, 0.3) * noise(vertices, rng.uniform(1, 6), rng))[:, None], 0, 1)
    return Piece(placed.astype(np.float32), faces.astype(np.int32), spots, float(rng.gamma(1, 0.1)), float(rng.uniform(5, 60)), -1)


def _turn(rng: np.random.Generator) -> np.ndarray:
    return random_rotation((), torch.Generator().manual_seed(int(rng.integers(2**31)))).numpy()


def _held(rng: np.random.Generator, points: np.ndarray, p: HandParameters, h: int) -> Piece:
    """A thing on the palm's side, as if held."""
    R = rotvec_to_matrix(p.pose[h, 0]).numpy()
    radius = rng.uniform(0.008, 0.034)
    kind = ("cylinder", "ball", "box")[rng.choice(3, p=[0.6, 0.2, 0.2])]
    half = radius if kind == "ball" else rng.uniform(0.03, 0.12)
    knuckles = (points[5] + points[9] + points[13]) / 3
    centre = knuckles * 0.85 + points[0] * 0.15 + R @ np.array([0, -1.0, 0]) * (radius + 0.009) + rng.normal(0, 0.006, 3)
    across = R @ np.array([0, 0, 1.0]) + rng.normal(0, 0.25, 3)
    frame = np.linalg.qr(np.stack([across, rng.normal(size=3), rng.normal(size=3)], 1))[0][:, [1, 2, 0]]
    return _thing(rng, kind, np.array([radius, radius, half]), frame * np.sign(np.linalg.det(frame)), centre, _cloth(rng))


def _occluder(rng: np.random.Generator, points: np.ndarray) -> Piece:
    """Something between the camera and the hands."""
    target = points[rng.integers(len(points))]
    centre = target * rng.uniform(0.6, 0.93)
    size = np.ptp(points, axis=0).max() * centre[2] / target[2]
    scale = size * rng.uniform(0.04, 0.3, 3) * np.array([1, 1, rng.uniform(1, 4)])
    return _thing(rng, ("cylinder", "ball", "box")[rng.integers(3)], scale, _turn(rng), centre + rng.normal(0, 0.1, 3) * size, _cloth(rng))


def _distractors(knobs: SceneKnobs, rng: np.random.Generator, camera: Camera, depth: float, skin: Skin) -> list[Piece]:
    """Heads with hair and eyes, trunks, bare or clothed limbs, boxes: what is not a hand, some of it in the same skin."""
    found: list[Piece] = []
    focal, size = float(camera.focal_px[0]), knobs.size_px
    for _ in range(rng.integers(*knobs.distractors)):
        z = depth * rng.uniform(1.05, 1.9)
        centre = np.array([*(rng.uniform(-0.55, 0.55, 2) * size / focal * z), z])
        kind = rng.choice(4, p=[0.3, 0.25, 0.3, 0.15])
        tone = skin.base if rng.random() < 0.7 else Skin.draw(rng, 0).base
        if kind == 0:
            found.extend(_head(rng, centre, tone))
        elif kind == 1:
            found.append(_thing(rng, "ball", np.array([0.2, 0.13, 0.33]) * rng.uniform(0.8, 1.2), _lying(rng), centre, _cloth(rng)))
        elif kind == 2:
            radius = rng.uniform(0.02, 0.06)
            colour = tone if rng.random() < 0.6 else _cloth(rng)
            found.append(
                _thing(rng, "cylinder", np.array([radius, radius * rng.uniform(0.7, 1), rng.uniform(0.1, 0.3)]), _turn(rng), centre, colour)
            )
        else:
            found.append(_thing(rng, "box", rng.uniform(0.02, 0.25, 3), _turn(rng), centre, _cloth(rng)))
    return found


def _lying(rng: np.random.Generator) -> np.ndarray:
    """A frame whose z axis is about the picture's vertical."""
    R = rotvec_to_matrix(torch.from_numpy(np.array([np.pi / 2, 0, 0]) + rng.normal(0, 0.15, 3)).float()).numpy()
    return np.asarray(R)


def _head(rng: np.random.Generator, centre: np.ndarray, tone: np.ndarray) -> list[Piece]:
    """An egg of skin with hair on top and dark eyes, a neck below."""
    vertices, faces = _solid("ball")
    yaw = rng.normal(0, 0.6)
    R = np.array([[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]])
    up = vertices[:, 2]
    local = np.stack([vertices[:, 0] * 0.075, -up * 0.115, vertices[:, 1] * 0.09], 1)
    colour = np.tile(tone, (len(vertices), 1))
    hair = np.repeat(rng.uniform(0.01, 0.5), 3) * np.array([1, rng.uniform(0.6, 1), rng.uniform(0.4, 1)])
    is_hair = (up > rng.uniform(0.4, 0.75)) | ((vertices[:, 1] > 0.2) & (up > rng.uniform(-0.9, 0.2)))
    colour[is_hair] = hair
    eyes = (np.abs(np.abs(vertices[:, 0]) - 0.35) < 0.15) & (np.abs(up - 0.15) < 0.14) & (vertices[:, 1] < -0.5)
    colour[eyes] *= 0.35
    colour[(np.abs(vertices[:, 0]) < 0.35) & (np.abs(up + 0.45) < 0.14) & (vertices[:, 1] < -0.4)] *= np.array([0.9, 0.55, 0.55])
    head = Piece((local @ R.T + centre).astype(np.float32), faces[:, ::-1].astype(np.int32).copy(), colour, 0.05, 15, -1)
    neck = _thing(rng, "cylinder", np.array([0.045, 0.045, 0.06]), _lying(rng), centre + np.array([0, 0.14, 0.01]), tone)
    return [head, neck]
