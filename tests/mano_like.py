"""Files of MANO's form and topology whose hand has the skeleton of the bundled one: a mitten drawn out into five fingertips."""

import pickle
from pathlib import Path

import numpy as np
import torch
from scipy import sparse
from scipy.optimize import nnls

from twohands.hands.bundled import load_bundled_hand
from twohands.hands.mano import FINGERTIP_TABLES
from twohands.hands.parameters import HandParameters
from twohands.joints import MANO16_PARENTS

SIGN = np.array([-1.0, 1.0, 1.0])


def write_mano(folder: Path) -> Path:
    """MANO_LEFT.pkl and MANO_RIGHT.pkl; the left hand's shape directions have the published file's wrong sign."""
    right = _right_hand()
    left = dict(right)
    left["v_template"] = right["v_template"] * SIGN
    left["posedirs"] = right["posedirs"] * SIGN[:, None] * np.tile(np.outer(SIGN, SIGN).ravel(), 15)
    left["hands_mean"] = (right["hands_mean"].reshape(15, 3) * -SIGN).ravel()
    left["hands_components"] = (right["hands_components"].reshape(45, 15, 3) * -SIGN).reshape(45, 45)
    left["f"] = right["f"][:, ::-1]
    folder.mkdir(parents=True, exist_ok=True)
    for name, hand in (("MANO_LEFT.pkl", left), ("MANO_RIGHT.pkl", right)):
        (folder / name).write_bytes(pickle.dumps(hand, protocol=2))
    return folder


def _right_hand() -> dict[str, object]:
    rng = np.random.default_rng(3)
    rest = load_bundled_hand().pose_hands(HandParameters.zeros()).mesh()
    keypoints = rest.keypoints_m[1].double().numpy()
    joints = load_bundled_hand().with_shape(torch.zeros(2, 10)).joints_rest_m[1].double().numpy()
    ring, angle = np.meshgrid(np.arange(48) / 47, np.arange(16) * np.pi / 8, indexing="ij")
    along = keypoints[0] + ring[..., None] * (keypoints[[12, 16]].mean(0) - keypoints[0]) + 0.012 * np.array([1.0, 0, 0])
    bulge = np.sin(np.pi * (0.15 + 0.8 * ring))
    tube = along + np.stack([0 * ring, 0.013 * bulge * np.cos(angle), 0.045 * bulge * np.sin(angle)], -1)
    vertices = np.concatenate([tube.reshape(-1, 3), np.tile(tube[-1].mean(0), (10, 1))])
    for table in FINGERTIP_TABLES.values():
        for finger, vertex in enumerate(table[1]):
            vertices[vertex] = keypoints[4 + 4 * finger] + 0.002 * rng.normal(size=3)
    regressor = np.zeros((16, 778))
    for j, joint in enumerate(joints):
        # Weights that add up to one and meet the joint, the last row made heavy.
        regressor[j] = nnls(np.concatenate([vertices.T, 10 * np.ones((1, 778))]), np.append(joint, 10.0), maxiter=20000)[0]
    middles = np.stack([(joints[j] + joints[p]) / 2 if p >= 0 else joints[j] for j, p in enumerate(MANO16_PARENTS)])
    near = np.exp(-((np.linalg.norm(vertices[:, None] - middles, axis=-1) / 0.02) ** 2)) + 1e-6
    index = np.arange(768).reshape(48, 16)
    a, b = index[:-1], index[1:]
    faces = [np.stack([a, b, np.roll(a, -1, 1)], -1), np.stack([np.roll(a, -1, 1), b, np.roll(b, -1, 1)], -1)]
    cap = [[768, v, u] for u, v in zip(index[-1], np.roll(index[-1], -1), strict=True)]
    for new in range(769, 778):
        u, v, w = cap.pop(0)
        cap += [[u, v, new], [v, w, new], [w, u, new]]
    smooth = np.stack([vertices[:, 0], vertices[:, 1], vertices[:, 2], vertices[:, 0] ** 2 / 0.1, vertices[:, 2] ** 2 / 0.05], -1)
    shapedirs = np.einsum("vk,kcs->vcs", smooth, rng.normal(size=(5, 3, 10)) * 0.02)
    return {
        "v_template": vertices,
        "shapedirs": shapedirs,
        "posedirs": rng.normal(size=(778, 3, 135)) * 1e-4,
        "J_regressor": sparse.csc_matrix(regressor),
        "J": joints,
        "weights": near / near.sum(1, keepdims=True),
        "kintree_table": np.array([[4294967295, *MANO16_PARENTS[1:]], range(16)], dtype=np.int64),
        "hands_components": np.linalg.qr(rng.normal(size=(45, 45)))[0],
        "hands_mean": rng.normal(size=45) * 0.15,
        "f": np.concatenate([*(x.reshape(-1, 3) for x in faces), cap]).astype(np.uint32),
        "bs_style": "lbs",
        "bs_type": "lrotmin",
    }
