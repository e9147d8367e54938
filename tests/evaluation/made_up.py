"""Truth and predictions made up for tests, with only what a test cares about said."""

from dataclasses import replace

import numpy as np

from twohands.evaluation.judged import Prediction, Truth

FOCAL_PX, CENTRE_PX, SIZE_PX = 500.0, 256.0, 512.0


def truth_of(joints_mm: np.ndarray, shown: np.ndarray, vertices_mm: np.ndarray | None = None, sequence: list[str] | None = None) -> Truth:
    """Every joint of a shown hand labelled; meshes, if given, of shown hands valid, with the joints as their joints."""
    n = len(joints_mm)
    every = np.repeat(shown[..., None], 21, -1)
    return Truth(
        sample_id=np.array([f"s{k}" for k in range(n)]),
        sequence=np.array(sequence or [f"q{k}" for k in range(n)]),
        interacting=shown.all(1),
        hand_type_valid=np.ones(n, bool),
        shown=shown,
        joints_mm=joints_mm,
        labelled=every.copy(),
        valid_3d=every.copy(),
        vertices_mm=vertices_mm,
        mesh_valid=shown if vertices_mm is not None else np.zeros_like(shown),
        mesh_joints_mm=joints_mm if vertices_mm is not None else None,
        focal_px=np.full((n, 2), FOCAL_PX),
        principal_px=np.full((n, 2), CENTRE_PX),
        image_size_px=np.full((n, 2), SIZE_PX),
        hidden_share=np.full((n, 2), np.nan),
        brightness=np.full(n, np.nan),
    )


def prediction_of(truth: Truth, joints_mm: np.ndarray, vertices_mm: np.ndarray | None = None) -> Prediction:
    """In the camera frame; the relative translation is that of the wrists."""
    return Prediction(
        sample_id=truth.sample_id,
        joints_mm=joints_mm,
        in_camera=np.ones(len(truth), bool),
        vertices_mm=vertices_mm,
        relative_mm=joints_mm[:, 0, 0] - joints_mm[:, 1, 0],
        presence=None,
        box_xyxy_px=None,
        uvd=None,
        wrist_depth_mm=None,
    )


def random_truth(n: int, seed: int = 0, vertices: int = 30) -> Truth:
    """Both hands before the camera; every third sample shows the right one only, every third the left one only."""
    rng = np.random.default_rng(seed)
    centre = np.array([0.0, 0.0, 600.0]) + rng.normal(0, 20, (n, 1, 1, 3))
    joints = centre + rng.normal(0, 40, (n, 2, 21, 3))
    shown = np.ones((n, 2), bool)
    shown[0::3, 0] = shown[1::3, 1] = False
    return truth_of(joints, shown, centre + rng.normal(0, 40, (n, 2, vertices, 3)), [f"q{k // 4}" for k in range(n)])


def random_prediction(truth: Truth, seed: int = 1) -> Prediction:
    """The truth with noise."""
    rng = np.random.default_rng(seed)
    assert truth.vertices_mm is not None
    joints = truth.joints_mm + rng.normal(0, 8, truth.joints_mm.shape)
    return prediction_of(truth, joints, truth.vertices_mm + rng.normal(0, 8, truth.vertices_mm.shape))


def perfect(truth: Truth) -> Prediction:
    """The truth itself."""
    return prediction_of(truth, truth.joints_mm, truth.vertices_mm)


def masked(truth: Truth, **masks: np.ndarray) -> Truth:
    """The same with other masks."""
    return replace(truth, **masks)
