"""The free hand that ships with the package (CC0; see `assets/README.md`), stored as a right hand and mirrored exactly for the left."""

from dataclasses import dataclass
from functools import cache
from importlib import resources

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from twohands.errors import UserError
from twohands.hands.limits import JointLimits
from twohands.hands.mirror import mirror_points
from twohands.hands.model import HandModel, HandModelData
from twohands.joints import MANO16_PARENTS, OPENPOSE21
from twohands.record import Record

ANNOTATED = (
    ("wrist", "middle1", 0.066),
    ("thumb1", "thumb2", 0.25),
    *((f"{finger}4", f"{finger}3", 0.1) for finger in ("thumb", "index", "middle", "ring", "pinky")),
)
"""Where annotators put a keypoint: so much of the way from the joint that the hand turns about, or the end of a finger, to another one. The joints are
anatomy's: the wrist between the forearm and the carpals, the thumb's base on the carpals. Whoever marks keypoints on pictures puts both farther towards
the fingers, and fingertips before the finger's end, and networks that learnt from them do so on this hand's own pictures (`tools/measure_keypoints.py`;
docs/CONVENTIONS.md)."""
_FLOATS = ("v_template", "shapedirs", "J_regressor", "weights", "vt")
_INDICES = ("faces", "tip_vertices", "ft", "part", "wrist_loop")
_AXES = ("flex_axis", "spread_axis", "twist_axis")


@dataclass(frozen=True)
class HandAsset(Record):
    """What `assets/hand.npz` holds, all of it about the right hand, in metres."""

    v_template: Float[Tensor, "vert 3"]
    faces: Int[Tensor, "face 3"]
    """Watertight: the wrist is capped."""
    shapedirs: Float[Tensor, "vert 3 10"]
    J_regressor: Float[Tensor, "16 vert"]
    weights: Float[Tensor, "vert 16"]
    tip_vertices: Int[Tensor, "5"]
    vt: Float[Tensor, "texel 2"]
    """Texture coordinates; seams make them more than the vertices."""
    ft: Int[Tensor, "face 3"]
    """For each face, its corners' rows of `vt`."""
    part: Int[Tensor, "vert"]
    """The MANO16 joint that moves a vertex most."""
    wrist_loop: Int[Tensor, "loop"]
    """The rim of the forearm stump, in order."""
    limits: JointLimits


@cache
def load_hand_asset() -> HandAsset:
    """Reads the packaged file once. UserError if the installation lacks it or has a damaged one."""
    path = resources.files("twohands.hands") / "assets" / "hand.npz"
    if not path.is_file():
        raise UserError("the package lacks hands/assets/hand.npz; reinstall twohands, or build the file with tools/build_hand.py")
    with path.open("rb") as file, np.load(file) as stored:
        arrays = {name: torch.from_numpy(stored[name]) for name in stored.files if stored[name].dtype.kind in "fiu"}
    if missing := [name for name in (*_FLOATS, *_INDICES, "parents", *_AXES, "limits_rad") if name not in arrays]:
        raise UserError(f"hands/assets/hand.npz lacks {missing}; reinstall twohands, or rebuild the file with tools/build_hand.py")
    if tuple(arrays["parents"].tolist()) != MANO16_PARENTS:
        raise UserError(f"hands/assets/hand.npz has other joints than MANO16: parents {arrays['parents'].tolist()}; reinstall twohands")
    axes = torch.stack([arrays[name] for name in _AXES], 1)
    floats = {name: arrays[name].float() for name in _FLOATS}
    indices = {name: arrays[name].long() for name in _INDICES}
    return HandAsset(**floats, **indices, limits=JointLimits.from_axes(axes, arrays["limits_rad"]))


@cache
def load_bundled_hand() -> HandModel:
    """Both hands of the bundled model, float32 on the CPU. The left hand is the right one mirrored, x -> -x, with its faces turned."""
    asset = load_hand_asset()
    return HandModel(
        HandModelData(
            name="bundled",
            v_template=torch.stack([mirror_points(asset.v_template), asset.v_template]),
            shapedirs=torch.stack([mirror_points(asset.shapedirs.transpose(1, 2)).transpose(1, 2), asset.shapedirs]),
            posedirs=None,
            J_regressor=asset.J_regressor.expand(2, -1, -1),
            weights=asset.weights.expand(2, -1, -1),
            faces=torch.stack([asset.faces.flip(1), asset.faces]),
            tip_vertices=asset.tip_vertices.expand(2, -1),
            hands_mean=torch.zeros(2, 45),
            keypoint_mix=_keypoint_mix(),
        )
    )


def _keypoint_mix() -> Float[Tensor, "21 21"]:
    mix = torch.eye(21)
    for name, towards, share in ANNOTATED:
        row = OPENPOSE21.index(name)
        mix[row, row] -= share
        mix[row, OPENPOSE21.index(towards)] += share
    return mix


def bundled_uv() -> tuple[Float[Tensor, "texel 2"], Int[Tensor, "hand face 3"]]:
    """Texture coordinates, and for each face of each hand its rows of them (turned as the left hand's faces are)."""
    asset = load_hand_asset()
    return asset.vt, torch.stack([asset.ft.flip(1), asset.ft])
