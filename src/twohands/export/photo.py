"""Hands of a photo that leave the program: GLB, OBJ and PLY for other tools, NPZ with every number, and the entry of predictions.json.

Meshes for other tools are in glTF's axes (x right, y up, z towards the viewer), metres: the camera frame with y and z negated. NPZ and JSON
keep the camera frame (OpenCV axes)."""

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, fields
from importlib import metadata
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
import trimesh
from jaxtyping import Float, Int, UInt8
from PIL import Image
from trimesh.visual.material import PBRMaterial

from twohands.errors import UserError
from twohands.export.files import FORMAT_VERSION, GLTF_FROM_CAMERA, SIDES, beside, rounded
from twohands.geometry.mesh import vertex_normals
from twohands.hands.model import HandModel
from twohands.palette import HAND_RGB
from twohands.schema import PhotoResult, TwoHands


@dataclass(frozen=True)
class NpzResult:
    """What an NPZ holds. n people; axis `hand` is (left, right); an absent hand's numbers are zero. OpenCV camera frame, metres,
    radians."""

    format_version: np.ndarray
    """1."""
    twohands_version: np.ndarray
    hand_model: np.ndarray
    """Name of the hand model: "bundled" or "mano"."""
    image_size_px: Int[np.ndarray, "2"]
    """Width, height."""
    camera_matrix: Float[np.ndarray, "3 3"]
    """K of the photo; pixel centres at half-integers."""
    camera_source: np.ndarray
    """"caller", "exif" or "default"."""
    prior_source: np.ndarray
    """"encoder" or "teacher"."""
    person: Int[np.ndarray, "n"]
    hand_present: np.ndarray
    """(n, hand) bool."""
    score: Float[np.ndarray, "n hand"]
    pose: Float[np.ndarray, "n hand 16 3"]
    """Rotation vectors of the MANO16 joints relative to their parents; joint 0 is the hand's orientation in the camera frame."""
    shape: Float[np.ndarray, "n hand 10"]
    translation_m: Float[np.ndarray, "n hand 3"]
    """The wrist lies at J0(shape) + translation."""
    vertices_m: Float[np.ndarray, "n hand vert 3"]
    faces: Int[np.ndarray, "hand face 3"]
    keypoints_m: Float[np.ndarray, "n hand 21 3"]
    """OPENPOSE21: wrist, then thumb, index, middle, ring, little finger from base to tip."""
    keypoints_xy: Float[np.ndarray, "n hand 21 2"]
    """In pixels of the photo."""
    keypoint_confidence: Float[np.ndarray, "n hand 21"]
    box_xyxy_px: Float[np.ndarray, "n hand 4"]
    penetration_cm3: Float[np.ndarray, "n"]
    penetration_before_cm3: Float[np.ndarray, "n"]
    refined: np.ndarray
    """(n,) bool: stage 2 ran and its result was taken."""
    pose_before: Float[np.ndarray, "n hand 16 3"] | None = None
    """The hands before stage 2, which are those above where it changed nothing. None in files of version 0.1."""
    shape_before: Float[np.ndarray, "n hand 10"] | None = None
    translation_before_m: Float[np.ndarray, "n hand 3"] | None = None
    photo_jpeg: UInt8[np.ndarray, "byte"] | None = None
    """The photo, at most PHOTO_PX on its longer side, as the bytes of a JPEG: for viewers. None in files of version 0.1."""


_OPTIONAL = ("pose_before", "shape_before", "translation_before_m", "photo_jpeg")
PHOTO_PX = 960


def write_npz(path: Path, result: PhotoResult, model: HandModel) -> None:
    """Every number of a result, compressed, under the names of NpzResult. ValueError if there are no hands."""
    people = _people(result)
    each = ("hand_present", "score", "vertices_m", "keypoints_m", "keypoints_xy", "keypoint_confidence", "box_xyxy_px")
    stored = NpzResult(
        format_version=np.array(FORMAT_VERSION),
        twohands_version=np.array(metadata.version("twohands")),
        hand_model=np.array(model.name),
        image_size_px=np.array([result.width_px, result.height_px]),
        camera_matrix=people[0].camera.matrix().numpy(),
        camera_source=np.array(people[0].camera_source),
        prior_source=np.array(result.prior_source),
        person=np.array([p.person for p in people]),
        pose=np.stack([p.parameters.pose.numpy() for p in people]),
        shape=np.stack([p.parameters.shape.numpy() for p in people]),
        translation_m=np.stack([p.parameters.translation_m.numpy() for p in people]),
        faces=model.faces.numpy().astype(np.int32),
        penetration_cm3=np.array([p.penetration_cm3 for p in people], np.float32),
        penetration_before_cm3=np.array([p.penetration_before_cm3 for p in people], np.float32),
        refined=np.array([p.refined for p in people]),
        pose_before=np.stack([(p.parameters_before or p.parameters).pose.numpy() for p in people]),
        shape_before=np.stack([(p.parameters_before or p.parameters).shape.numpy() for p in people]),
        translation_before_m=np.stack([(p.parameters_before or p.parameters).translation_m.numpy() for p in people]),
        photo_jpeg=np.frombuffer(jpeg(result.image, PHOTO_PX), np.uint8),
        **{name: np.stack([getattr(p, name).numpy() for p in people]) for name in each},
    )
    with beside(path) as part, part.open("wb") as file:
        np.savez_compressed(file, **{f.name: getattr(stored, f.name) for f in fields(stored)})


def read_npz(path: Path) -> NpzResult:
    """What `write_npz` wrote. UserError if the file is missing, broken, not ours or from a newer version."""
    arrays = read_arrays(path)
    if missing := [f.name for f in fields(NpzResult) if f.name not in arrays and f.name not in _OPTIONAL]:
        raise UserError(f"{path} lacks {missing[:3]}; make it again with `twohands photo`")
    return NpzResult(**{f.name: arrays[f.name] for f in fields(NpzResult) if f.name in arrays})


def jpeg(image: UInt8[np.ndarray, "height width 3"], longer_side_px: int, quality: int = 85) -> bytes:
    """A picture as a JPEG file, shrunk if it is larger."""
    small = Image.fromarray(image)
    small.thumbnail((longer_side_px, longer_side_px), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.save(buffer, format="JPEG", quality=quality)
    return buffer.getvalue()


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an NPZ file that this program wrote. UserError if it did not, or if a newer version did."""
    try:
        with np.load(path) as file:
            arrays = {name: file[name] for name in file.files}
    except FileNotFoundError as error:
        raise UserError(f"{path} is not there; give an NPZ file that `twohands photo` or `twohands video` wrote") from error
    except (OSError, ValueError, EOFError, BadZipFile) as error:
        raise UserError(f"{path} is no readable NPZ file ({error}); make it again with `twohands photo` or `twohands video`") from error
    if "format_version" not in arrays or int(arrays["format_version"]) > FORMAT_VERSION:
        raise UserError(f"{path} was not written by this program or by a newer version of it; make it again")
    return arrays


def write_glb(path: Path, result: PhotoResult, model: HandModel) -> None:
    """All hands as coloured meshes in one binary glTF scene, a node each: person0_left, person0_right, ... ValueError without hands."""
    scene = trimesh.Scene(metadata={"hand_model": model.name, "camera_source": _people(result)[0].camera_source})
    for name, hand, vertices, faces in _meshes(result, model):
        colour = [*HAND_RGB[hand], 255]
        # Double-sided for MANO's sake, whose wrist is open.
        material = PBRMaterial(name=SIDES[hand], baseColorFactor=colour, metallicFactor=0.0, roughnessFactor=0.6, doubleSided=True)
        # Without them trimesh would compute normals itself, which it does vertex by vertex where scipy is not installed, and warns.
        normals = vertex_normals(torch.from_numpy(vertices), torch.from_numpy(faces)).numpy()
        visual = trimesh.visual.TextureVisuals(material=material)
        mesh = trimesh.Trimesh(vertices, faces, vertex_normals=normals, process=False, visual=visual)
        scene.add_geometry(mesh, node_name=name, geom_name=name)
    content = scene.export(file_type="glb", include_normals=True)
    with beside(path) as part:
        part.write_bytes(content)


def write_obj(path: Path, result: PhotoResult, model: HandModel) -> None:
    """All hands in one Wavefront OBJ, one object each, with a colour after every vertex. ValueError without hands."""
    _people(result)
    lines = ["# twohands: metres, x right, y up, z towards the viewer"]
    offset = 1
    for name, hand, vertices, faces in _meshes(result, model):
        colour = " ".join(f"{c / 255:.4f}" for c in HAND_RGB[hand])
        lines.append(f"o {name}")
        lines += [f"v {x:.7f} {y:.7f} {z:.7f} {colour}" for x, y, z in vertices.tolist()]
        lines += [f"f {a} {b} {c}" for a, b, c in (faces + offset).tolist()]
        offset += len(vertices)
    with beside(path) as part:
        part.write_text("\n".join(lines) + "\n", encoding="ascii")


def write_ply(path: Path, result: PhotoResult, model: HandModel) -> None:
    """All hands as one binary PLY with coloured vertices. ValueError without hands."""
    _people(result)
    meshes = []
    for _, hand, vertices, faces in _meshes(result, model):
        colours = np.tile(np.array([*HAND_RGB[hand], 255], np.uint8), (len(vertices), 1))
        meshes.append(trimesh.Trimesh(vertices, faces, vertex_colors=colours, process=False))
    content = trimesh.util.concatenate(meshes).export(file_obj=None, file_type="ply")
    with beside(path) as part:
        part.write_bytes(content)


def prediction_entry(result: PhotoResult, model: HandModel) -> dict[str, Any]:
    """A photo's entry of predictions.json: pixels, millimetres in the camera frame, radians, seconds.

    `hands` lists every hand found, those of one person under the same `person`; `pairs` says of each person with two hands how much they
    share; `penetration_cm3` is the sum of that, null where there is no pair. `camera` is null where nothing was found."""
    hands = [_hand_entry(person, hand) for person in result.people for hand in (0, 1) if person.hand_present[hand]]
    pairs = [
        {
            "person": person.person,
            "penetration_cm3": round(person.penetration_cm3, 4),
            "penetration_before_cm3": round(person.penetration_before_cm3, 4),
            "refined": person.refined,
        }
        for person in result.people
        if bool(person.hand_present.all())
    ]
    camera = None
    if result.people:
        first = result.people[0]
        camera = {"K": rounded(first.camera.matrix().numpy(), 3), "source": first.camera_source}
    return {
        "hands": hands,
        "penetration_cm3": round(sum(p.penetration_cm3 for p in result.people), 4) if pairs else None,
        "pairs": pairs,
        "width_px": result.width_px,
        "height_px": result.height_px,
        "camera": camera,
        "hand_model": model.name,
        "prior_source": result.prior_source,
        "seconds": {stage: round(seconds, 4) for stage, seconds in result.seconds.items()},
        "twohands_version": metadata.version("twohands"),
    }


def write_predictions(path: Path, entries: dict[str, dict[str, Any]]) -> None:
    """predictions.json: photo's stem -> entry."""
    with beside(path) as part:
        part.write_text(json.dumps(entries, indent=1) + "\n", encoding="utf-8")


def read_predictions(path: Path) -> dict[str, dict[str, Any]]:
    """The entries of a predictions.json, none if there is no such file. UserError if it holds anything else."""
    if not path.exists():
        return {}
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}); move it away or choose another folder") from error
    if not isinstance(entries, dict):
        raise UserError(f"{path} is not a table of photos; move it away or choose another folder")
    return entries


def _people(result: PhotoResult) -> tuple[TwoHands, ...]:
    if not result.people:
        raise ValueError("there are no hands in this result; look at `result.people` before writing it")
    return result.people


def _meshes(result: PhotoResult, model: HandModel) -> Iterator[tuple[str, int, Float[np.ndarray, "vert 3"], Int[np.ndarray, "face 3"]]]:
    """Name, hand index, vertices in glTF's axes and faces of every hand that is there."""
    for person in result.people:
        for hand, side in enumerate(SIDES):
            if person.hand_present[hand]:
                vertices = person.vertices_m[hand].numpy() * np.array(GLTF_FROM_CAMERA, np.float32)
                yield f"person{person.person}_{side}", hand, vertices, model.faces[hand].numpy()


def _hand_entry(person: TwoHands, hand: int) -> dict[str, Any]:
    return {
        "side": SIDES[hand],
        "score": round(float(person.score[hand]), 4),
        "person": person.person,
        "kp2d_px": rounded(person.keypoints_xy[hand].numpy(), 2),
        "kp3d_mm": rounded(person.keypoints_m[hand].numpy() * 1000, 3),
        "keypoint_confidence": rounded(person.keypoint_confidence[hand].numpy(), 3),
        "box_xyxy_px": rounded(person.box_xyxy_px[hand].numpy(), 2),
        "pose_rad": rounded(person.parameters.pose[hand].numpy(), 5),
        "shape": rounded(person.parameters.shape[hand].numpy(), 4),
        "translation_mm": rounded(person.parameters.translation_m[hand].numpy() * 1000, 3),
    }
