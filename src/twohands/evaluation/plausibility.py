"""Penetration and contact of two hands (the paper's table 5). No public code defines these numbers, so this file does.

PenVol, cm3: cells of a 1 mm lattice whose centre lies in both closed meshes; `exact` is the same volume by mesh boolean. PenDist, cm: the
deepest vertex of either hand within the other, 0 if there is none; `mean` averages over the vertices that are inside. ProxRatio: whether the
surfaces come within 5 mm of one another, or penetrate. MANO's open wrist is closed by a fan first.
"""

import numpy as np
from jaxtyping import Float, Int

from twohands.collision.inside import penetrating_vertices, surface_gap_m
from twohands.collision.volume import shared_volume_cm3, voxel_volume_cm3
from twohands.errors import UserError
from twohands.evaluation.judged import JudgesHand, Prediction, Truth
from twohands.evaluation.two_hand_rules import Measured

LATTICE_MM = 1.0
"""2 mm would be 6 % off on 3 cm3, and more on less; 1 mm is 0.6 % off."""
NEAR_M = 0.005
METRICS = ("PenVol", "PenVol exact", "PenVol penetrating", "PenDist", "PenDist mean", "ProxRatio", "penetrating")


def measure_plausibility(truth: Truth, prediction: Prediction, hand: JudgesHand | None) -> Measured:
    """Every number of the predicted pairs, and under "truth ..." those of the true meshes: fits penetrate too, and that is the floor."""
    if hand is None or prediction.vertices_mm is None:
        raise UserError("plausibility is measured on meshes; give --mano, and predictions with vertices_m or MANO parameters")
    values = pair_values(prediction.vertices_mm, hand, prediction.relative_mm)
    if truth.vertices_mm is not None:
        floor = pair_values(truth.vertices_mm, hand, None)
        values |= {f"truth {name}": value for name, value in floor.items()}
    return Measured(values, np.full((len(truth), 2, 21), np.nan))


def pair_values(
    vertices_mm: Float[np.ndarray, "n hand vert 3"], hand: JudgesHand, relative_mm: Float[np.ndarray, "n 3"] | None
) -> dict[str, Float[np.ndarray, "n 1"]]:
    """NaN for pairs that lack a hand. With `relative_mm` the left hand is first put where it says, seen from the right wrist: a method that
    predicts hands and their relative place apart is judged as it would be drawn."""
    rows = []
    for pair in _placed(vertices_mm, hand, relative_mm):
        sound = bool(np.isfinite(pair).all())
        rows.append(measure_pair(hand.closed(pair * 1e-3), hand.closed_faces) if sound else dict.fromkeys(METRICS, np.nan))
    return {name: np.array([row[name] for row in rows], float).reshape(-1, 1) for name in METRICS}


def _placed(vertices_mm: np.ndarray, hand: JudgesHand, relative_mm: np.ndarray | None) -> np.ndarray:
    if relative_mm is None:
        return vertices_mm
    wrists = hand.joints(vertices_mm)[..., 0, :]
    left = vertices_mm[:, 0] + (relative_mm + wrists[:, 1] - wrists[:, 0])[:, None]
    return np.stack([left, vertices_mm[:, 1]], 1)


def measure_pair(vertices_m: Float[np.ndarray, "hand vert 3"], faces: Int[np.ndarray, "hand face 3"]) -> dict[str, float]:
    """One pair. "PenVol penetrating" is NaN where nothing is shared, so that its mean is over penetrating pairs."""
    exact = shared_volume_cm3(vertices_m[0], faces[0], vertices_m[1], faces[1])
    lattice = voxel_volume_cm3(vertices_m[0], faces[0], vertices_m[1], faces[1], LATTICE_MM) if exact > 0 else 0.0
    depths = np.zeros(0)
    if exact > 0:
        found = penetrating_vertices(vertices_m, faces)
        depths = found.depth_m[found.inside]
    near = exact > 0 or surface_gap_m(vertices_m, faces, 2 * NEAR_M) <= NEAR_M
    return {
        "PenVol": lattice,
        "PenVol exact": exact,
        "PenVol penetrating": lattice if exact > 0 else np.nan,
        "PenDist": 100 * float(depths.max(initial=0.0)),
        "PenDist mean": 100 * float(depths.mean()) if len(depths) else 0.0,
        "ProxRatio": float(near),
        "penetrating": float(exact > 0),
    }
