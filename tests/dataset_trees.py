"""Small trees of every data set, in its own layout and formats, of scenes whose truth is known: what `write_*` returns is what a reader must say.

The truth is made in the camera frame, with the model that the data set's own code would use, and carried into the files' frames, units and orders
from there."""

import json
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import trimesh
from PIL import Image
from torch import Tensor

from scenes import two_hands
from twohands.data.dataset import DatasetInfo
from twohands.geometry.camera import Camera
from twohands.geometry.rotations import random_rotation
from twohands.hands.mano import load_mano
from twohands.hands.model import HandModel
from twohands.hands.parameters import HandParameters
from twohands.hands.rigid import move_hands
from twohands.joints import OPENPOSE21
from twohands.render import rasterize

WIDTH, HEIGHT = 160, 120
FOCAL_PX, PRINCIPAL_PX = (190.0, 188.0), (81.5, 58.5)
"""As files have it: the centre of the first pixel is 0."""
ANNOTATION_OFFSET_M = 0.004
"""Annotated joints are so far in x from those of the fit, so that one cannot be taken for the other."""
SKIN = ((90, 130, 220), (230, 150, 90))


@dataclass(frozen=True)
class Truth:
    """Two hands in the camera frame, metres; axis `hand` is (left, right)."""

    parameters: HandParameters
    """Relative to the flat hand."""
    vertices_m: Tensor
    keypoints_m: Tensor
    """OPENPOSE21 of the mesh, with the data set's own fingertips."""
    present: Tensor
    id: str


def model_of(info: DatasetInfo, mano: Path) -> HandModel:
    """MANO as the data set's code uses it, for poses relative to the flat hand."""
    assert info.mano is not None
    return load_mano(mano, True, info.mano.fingertips, info.mano.fix_left_shapedirs)


def scene(model: HandModel, seed: int, present: tuple[bool, bool] = (True, True), id_: str = "") -> Truth:
    """Two hands side by side, half a metre away, every number of theirs random."""
    generator = torch.Generator().manual_seed(seed)

    def noise(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    hands = two_hands(0.11, depth_m=0.5)
    pose = hands.pose + torch.cat([0.25 * noise(2, 1, 3), 0.12 * noise(2, 15, 3)], 1)
    parameters = HandParameters(pose, 0.5 * noise(2, 10), hands.translation_m + 0.02 * noise(2, 3))
    mesh = model.pose_hands(parameters).mesh()
    return Truth(parameters, mesh.vertices_m, mesh.keypoints_m, torch.tensor(present), id_)


def picture(
    truth: Truth, model: HandModel, size: tuple[int, int] = (WIDTH, HEIGHT), focal: Any = FOCAL_PX, principal: Any = PRINCIPAL_PX
) -> Image.Image:
    """The meshes, shaded by depth, before noise."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(60, 90, (size[1], size[0], 3)).astype(np.uint8)
    hands = [h for h in (0, 1) if truth.present[h]]
    if hands:
        vertices = np.concatenate([truth.vertices_m[h].numpy() for h in hands])
        faces = np.concatenate([model.faces[h].numpy() + 778 * k for k, h in enumerate(hands)]).astype(np.int32)
        centre = np.asarray(principal, np.float32) + np.float32(0.5)
        raster = rasterize(vertices, faces, np.asarray(focal, np.float32), centre, size[1], size[0])
        seen = raster.face >= 0
        side = np.repeat(hands, len(model.faces[0]))[raster.face[seen]]
        depth = raster.depth_m[seen]
        shade = 1 - 0.6 * (depth - depth.min()) / max(float(np.ptp(depth)), 1e-6)
        pixels[seen] = (np.array(SKIN)[side] * shade[:, None]).astype(np.uint8)
    return Image.fromarray(pixels)


def stored_fit(model: HandModel, truth: Truth, R: Tensor, t_m: Tensor, flat_hand_mean: bool) -> HandParameters:
    """What a file says of the fit: in the frame where x_camera = R x + t, the mean pose taken off unless the data set stores flat poses."""
    moved = move_hands(model, truth.parameters, R.T, -R.T @ t_m)
    pose = moved.pose.clone()
    if not flat_hand_mean:
        pose[:, 1:] -= model.data.hands_mean.unflatten(-1, (15, 3))
    return HandParameters(pose, moved.shape, moved.translation_m)


def fit_entry(stored: HandParameters, hand: int) -> dict[str, Any]:
    return {
        "pose": stored.pose[hand].flatten().tolist(), "shape": stored.shape[hand].tolist(), "trans": stored.translation_m[hand].tolist(),
    }  # fmt: skip


def to_order(keypoints: Tensor, order: tuple[str, ...]) -> Tensor:
    """OPENPOSE21 in another order; joints that it lacks are 0."""
    rows = [keypoints[..., OPENPOSE21.index(name), :] if name in OPENPOSE21 else torch.zeros_like(keypoints[..., 0, :]) for name in order]
    return torch.stack(rows, -2)


def rig(seed: int) -> tuple[Tensor, Tensor]:
    """(R, t in metres) of a camera somewhere in a room: x_camera = R x + t."""
    generator = torch.Generator().manual_seed(1000 + seed)
    return random_rotation((), generator), torch.randn(3, generator=generator)


def write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def save(image: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def annotated(truth: Truth) -> Tensor:
    """The joints that annotators gave, OPENPOSE21, in the camera frame."""
    return truth.keypoints_m + torch.tensor([ANNOTATION_OFFSET_M, 0.0, 0.0])


def _box(points_m: Tensor) -> list[float]:
    """Left, top, width and height of what the camera sees of points, in the files' pixels."""
    xy = points_m[..., :2] / points_m[..., 2:] * torch.tensor(FOCAL_PX) + torch.tensor(PRINCIPAL_PX)
    low, high = xy.flatten(0, -2).amin(0), xy.flatten(0, -2).amax(0)
    return [*low.tolist(), *(high - low).tolist()]


def write_interhand26m(
    folder: Path, mano: Path, split: str = "train", count: int = 4, pictures: bool = True, empty: bool = False
) -> list[Truth]:
    """Pairs, right hands and left hands in turn, each seen by one of two cameras of its capture; `empty` adds an annotation without a joint."""
    from twohands.data.interhand26m import INFO
    from twohands.joints import INTERHAND21

    model = model_of(INFO, mano)
    cameras: dict[str, Any] = {}
    joints: dict[str, Any] = {}
    fits: dict[str, Any] = {}
    images, annotations, truths = [], [], []
    for i in range(count + empty):
        capture, name, frame = i % 2, f"4000{i % 3:02d}", 100 + 3 * i
        hand_type = ("interacting", "right", "left")[i % 3]
        present = (hand_type != "right", hand_type != "left")
        truth = scene(model, i, present, str(9000 + i))
        R, t_m = rig(10 * capture + i % 3)
        camera = cameras.setdefault(str(capture), {key: {} for key in ("campos", "camrot", "focal", "princpt")})
        camera["campos"][name] = (-R.T @ t_m * 1000).tolist()
        camera["camrot"][name] = R.tolist()
        camera["focal"][name], camera["princpt"][name] = list(FOCAL_PX), list(PRINCIPAL_PX)
        world_mm = (to_order(annotated(truth), INTERHAND21) - t_m) @ R * 1000
        valid = torch.tensor(present)[:, None].expand(2, 21) & (not (empty and i == count))
        # Right hand first; what is not annotated is 1, as in the files.
        world_mm = torch.where(valid[..., None], world_mm, 1.0).flip(0).reshape(42, 3)
        flat_valid = valid.flip(0).reshape(42, 1).int().tolist()
        joints.setdefault(str(capture), {})[str(frame)] = {
            "world_coord": world_mm.tolist(), "joint_valid": flat_valid, "hand_type": hand_type, "hand_type_valid": True,
        }  # fmt: skip
        stored = stored_fit(model, truth, R, t_m, flat_hand_mean=False)
        if not (empty and i == count):
            fits.setdefault(str(capture), {})[str(frame)] = {
                side: fit_entry(stored, hand) if present[hand] else None for hand, side in enumerate(("left", "right"))
            }
        file = f"Capture{capture}/ROM0{i % 2}_Hands/cam{name}/image{frame:05d}.jpg"
        images.append({
            "id": 500 + i, "file_name": file, "width": WIDTH, "height": HEIGHT, "capture": capture, "subject": 1, "seq_name": f"ROM0{i % 2}_Hands",
            "camera": name, "frame_idx": frame,
        })  # fmt: skip
        annotations.append({
            "id": 9000 + i, "image_id": 500 + i, "bbox": _box(annotated(truth)[truth.present]), "joint_valid": flat_valid, "hand_type": hand_type,
            "hand_type_valid": 1 - (i == 1),
        })  # fmt: skip
        if pictures:
            save(picture(truth, model), folder / "images" / split / file)
        truths.append(truth)
    base = folder / "annotations" / split
    # Pictures are listed backwards, as nothing says that they come in the order of their annotations.
    write_json(base / f"InterHand2.6M_{split}_data.json", {"images": images[::-1], "annotations": annotations})
    write_json(base / f"InterHand2.6M_{split}_camera.json", cameras)
    write_json(base / f"InterHand2.6M_{split}_joint_3d.json", joints)
    write_json(base / f"InterHand2.6M_{split}_MANO_NeuralAnnot.json", fits)
    return truths


TRAIN_CAPTURE = "m--20210701--1058--0000000--pilot--relightablehandsy--participant0--two-hands"
TEST_CAPTURE = "m--20221215--0949--RNS217--pilot--ProjectGoliathScript--Hands--two-hands"
DISTORTION = (0.05, -0.02, 0.004, -0.001)


def write_reinterhand(folder: Path, mano: Path, count: int = 2, pictures: bool = True, capture: str = TRAIN_CAPTURE) -> list[Truth]:
    """`count` frames of one capture, each seen by one of two cameras of the rig and by the head."""
    from twohands.data.reinterhand import INFO
    from twohands.joints import REINTERHAND24

    model = model_of(INFO, mano)
    base = folder / capture
    cameras, inside, truths = {}, {}, []
    for i in range(count):
        frame, name = 12 + 6 * i, f"4002{i % 2:02d}"
        truth = scene(model, 40 + i, id_=f"{capture}/{name}/{frame:06d}")
        R, t_m = rig(50 + i % 2)
        cameras[name] = {"R": R.tolist(), "t": (t_m * 1000).tolist(), "focal": list(FOCAL_PX), "princpt": list(PRINCIPAL_PX)}
        world_mm = (to_order(annotated(truth), REINTERHAND24) - t_m) @ R * 1000
        stored = stored_fit(model, truth, R, t_m, flat_hand_mean=False)
        for hand, side in enumerate(("left", "right")):
            write_json(base / "orig_fits" / side / "Keypoints" / f"keypoint-{frame:06d}.json", world_mm[hand].tolist())
            write_json(base / "mano_fits" / "params" / f"{frame}_{side}.json", fit_entry(stored, hand))
        image = picture(truth, model) if pictures else Image.new("RGB", (WIDTH, HEIGHT))
        save(image, base / "Mugsy_cameras" / "envmap_per_frame" / "images" / name / f"{frame:06d}.png")
        ego = base / "Ego_cameras" / "envmap_per_frame"
        save(image, ego / "images" / f"{frame:06d}.png")
        write_json(ego / "cam_params" / f"{frame:06d}.json", cameras[name] | {"D": list(DISTORTION)})
        inside[f"{frame:06d}"] = 1.0
        truths.append(truth)
    write_json(base / "Mugsy_cameras" / "cam_params.json", cameras)
    write_json(base / "Ego_cameras" / "envmap_per_frame" / "truncation_ratio.json", inside)
    return truths


def write_hic(folder: Path, mano: Path, count: int = 3, pictures: bool = True) -> list[Truth]:
    """Pairs, right hands and left hands in turn."""
    from twohands.data.hic import FOCAL_PX as FOCAL
    from twohands.data.hic import INFO
    from twohands.data.hic import PRINCIPAL_PX as PRINCIPAL

    model = model_of(INFO, mano)
    images, annotations, truths = [], [], []
    for i in range(count):
        hand_type = ("interacting", "right", "left")[i % 3]
        present = (hand_type != "right", hand_type != "left")
        truth = scene(model, 80 + i, present, str(i))
        paths: dict[str, str | None] = {}
        for hand, side in enumerate(("left", "right")):
            paths[side] = f"IJCV16___Results_MANO/01/{side[0].upper()}_{i:05d}.ply" if present[hand] else None
            if present[hand]:
                mesh = trimesh.Trimesh(truth.vertices_m[hand].numpy(), model.faces[hand].numpy(), process=False)
                path = folder / str(paths[side])
                path.parent.mkdir(parents=True, exist_ok=True)
                mesh.export(path, encoding="ascii" if i % 2 else "binary")
        file = f"01/rgb/{i:05d}.png"
        images.append({"id": 70 + i, "file_name": file, "width": 640, "height": 480})
        annotations.append({
            "id": i, "image_id": 70 + i, "hand_type": hand_type, "right_mano_path": paths["right"], "left_mano_path": paths["left"],
        })  # fmt: skip
        if pictures:
            save(picture(truth, model, (640, 480), FOCAL, PRINCIPAL), folder / file)
        truths.append(truth)
    write_json(folder / "HIC.json", {"images": images, "annotations": annotations})
    return truths


def _intrinsics(focal: Any = FOCAL_PX, principal: Any = PRINCIPAL_PX) -> list[list[float]]:
    return [[focal[0], 0.0, principal[0]], [0.0, focal[1], principal[1]], [0.0, 0.0, 1.0]]


FREIHAND_FOCAL, FREIHAND_PRINCIPAL = (300.0, 298.0), (60.0, 112.0)


def write_freihand(folder: Path, mano: Path, split: str = "training", count: int = 2, pictures: bool = True) -> list[Truth]:
    """`count` annotations; in training four pictures each. Global rotations are of another frame than the meshes, as in some copies."""
    from twohands.data.freihand import INFO, SIZE_PX

    model = model_of(INFO, mano)
    stored: dict[str, list[Any]] = {key: [] for key in ("K", "xyz", "verts", "mano", "scale")}
    truths = []
    for i in range(count):
        truth = scene(model, 120 + i, (False, True), f"{i:08d}")
        pose = truth.parameters.pose[1].clone()
        pose[1:] -= model.data.hands_mean[1].unflatten(-1, (15, 3))
        pose[0] = torch.tensor([0.3, -0.2, 0.1])
        stored["K"].append(_intrinsics(FREIHAND_FOCAL, FREIHAND_PRINCIPAL))
        stored["xyz"].append(truth.keypoints_m[1].tolist())
        stored["verts"].append(truth.vertices_m[1].tolist())
        stored["mano"].append([[*pose.flatten().tolist(), *truth.parameters.shape[1].tolist(), 1.0, 2.0, 300.0]])
        stored["scale"].append(float((truth.keypoints_m[1, 9] - truth.keypoints_m[1, 10]).norm()))
        if pictures:
            image = picture(truth, model, (SIZE_PX, SIZE_PX), FREIHAND_FOCAL, FREIHAND_PRINCIPAL)
            for variant in range(4 if split == "training" else 1):
                save(image, folder / split / "rgb" / f"{i + variant * count:08d}.jpg")
        truths.append(truth)
    for key, values in stored.items():
        write_json(folder / f"{split}_{key}.json", values)
    return truths


HO3D_FOCAL, HO3D_PRINCIPAL = (614.6, 614.1), (320.3, 241.6)


def write_ho3d(
    folder: Path, mano: Path, split: str = "train", count: int = 2, suffix: str = "png", pictures: bool = True, protocol: int = 2
) -> list[Truth]:
    """`count` annotated frames and one whose annotation is empty; the evaluation split tells the wrist only."""
    from twohands.data.ho3d import INFO
    from twohands.joints import HO3D21

    model = model_of(INFO, mano)
    half_turn = torch.diag(torch.tensor([1.0, -1.0, -1.0]))
    names, truths = [], []
    for i in range(count + 1):
        sequence, frame = f"ABF1{i % 2}", f"{7 * i:04d}"
        meta_path = folder / split / sequence / "meta" / f"{frame}.pkl"
        meta_path.parent.mkdir(parents=True, exist_ok=True)
        names.append(f"{sequence}/{frame}")
        if i == count:
            meta: dict[str, Any] = {
                "handJoints3D": None,
                "handPose": None,
                "handTrans": None,
                "handBeta": None,
                "camMat": None,
                "objName": "can",
            }
            meta_path.write_bytes(pickle.dumps(meta, protocol=protocol))
            continue
        truth = scene(model, 160 + i, (False, True), f"{sequence}/{frame}")
        joints = to_order(truth.keypoints_m[1], HO3D21) @ half_turn
        stored = stored_fit(model, truth, half_turn, torch.zeros(3), flat_hand_mean=True)
        meta = {"camMat": np.array(_intrinsics(HO3D_FOCAL, HO3D_PRINCIPAL)), "objName": "can", "objLabel": np.int64(3)}
        if split == "train":
            meta |= {
                "handJoints3D": joints.numpy(), "handPose": stored.pose[1].flatten().numpy(), "handTrans": stored.translation_m[1].numpy(),
                "handBeta": stored.shape[1].numpy(),
            }  # fmt: skip
        else:
            meta |= {"handJoints3D": joints[0].numpy(), "handBoundingBox": [0, 0, 10, 10]}
        meta_path.write_bytes(pickle.dumps(meta, protocol=protocol))
        if pictures:
            save(picture(truth, model, (640, 480), HO3D_FOCAL, HO3D_PRINCIPAL), folder / split / sequence / "rgb" / f"{frame}.{suffix}")
        truths.append(truth)
    (folder / f"{split}.txt").write_text("\n".join(names) + "\n")
    return truths


def write_ho3d_truth(folder: Path, truths: list[Truth]) -> None:
    """The truth of the evaluation split as its authors published it later, one entry for each line of evaluation.txt."""
    from twohands.joints import HO3D21

    half_turn = torch.diag(torch.tensor([1.0, -1.0, -1.0]))
    xyz = [(to_order(t.keypoints_m[1], HO3D21) @ half_turn).tolist() for t in truths]
    verts = [(t.vertices_m[1] @ half_turn).tolist() for t in truths]
    write_json(folder / "evaluation_xyz.json", [*xyz, xyz[-1]])
    write_json(folder / "evaluation_verts.json", [*verts, verts[-1]])


COCO_SIZE = (200, 150)


def write_coco_wholebody(folder: Path, mano: Path, split: str = "train", count: int = 3, pictures: bool = True) -> list[Truth]:
    """People with both hands, the right one, the left one labelled, in turn; then a crowd, one without keypoints and one without hands. The fits'
    cameras are not the one that a reader assumes."""
    from twohands.data.coco_wholebody import INFO

    model = model_of(INFO, mano)
    images, annotations, truths = [], [], []
    fits: dict[str, Any] = {}
    focal, principal = (200.0, 200.0), (99.5, 74.5)
    for i in range(count):
        present = (i % 3 != 1, i % 3 != 2)
        truth = scene(model, 200 + i, present, str(33 + i))
        file = f"{i:012d}.jpg"
        images.append({"id": i, "file_name": file, "width": COCO_SIZE[0], "height": COCO_SIZE[1], "coco_url": "x"})
        xy = Camera(torch.tensor(focal), torch.tensor(principal)).project(truth.keypoints_m)
        stored = stored_fit(model, truth, torch.eye(3), torch.zeros(3), flat_hand_mean=False)
        person: dict[str, Any] = {
            "id": 33 + i,
            "image_id": i,
            "iscrowd": 0,
            "num_keypoints": 9,
            "keypoints": [0] * 51,
            "bbox": [0, 0, 99, 99],
        }
        for hand, side in enumerate(("left", "right")):
            labelled = torch.cat([xy[hand], torch.full((21, 1), 1.5)], -1) if present[hand] else torch.zeros(21, 3)
            person |= {
                f"{side}hand_valid": present[hand],
                f"{side}hand_kpts": labelled.flatten().tolist(),
                f"{side}hand_box": [1.0, 2.0, 3.0, 4.0],
            }
        annotations.append(person)
        fits[str(33 + i)] = {
            side: {"mano_param": fit_entry(stored, hand), "cam_param": {"focal": list(focal), "princpt": list(principal)}}
            if present[hand]
            else None
            for hand, side in enumerate(("left", "right"))
        }
        if pictures:
            save(picture(truth, model, COCO_SIZE, focal, principal), folder / f"{split}2017" / file)
        truths.append(truth)
    whole = annotations[0]
    annotations += [
        whole | {"id": 90, "iscrowd": 1}, whole | {"id": 91, "num_keypoints": 0}, whole | {"id": 92, "lefthand_valid": False, "righthand_valid": False},
    ]  # fmt: skip
    write_json(folder / "annotations" / f"coco_wholebody_{split}_v1.0.json", {"annotations": annotations, "images": images})
    write_json(folder / "annotations" / f"MSCOCO_{split}_MANO_NeuralAnnot.json", fits)
    return truths


WRITERS: dict[str, Callable[[Path, Path], list[Truth]]] = {
    "interhand26m": write_interhand26m, "reinterhand": write_reinterhand, "hic": write_hic, "freihand": write_freihand, "ho3d": write_ho3d,
    "coco_wholebody": write_coco_wholebody,
}  # fmt: skip
"""Each writes the first split of its data set with pictures."""
