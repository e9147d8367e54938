"""Triangle meshes: normals, volume, and whether and how they close. Faces are counter-clockwise seen from outside."""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional


def face_normals(
    vertices_m: Float[Tensor, "*batch vert 3"], faces: Int[Tensor, "face 3"], unit: bool = True
) -> Float[Tensor, "*batch face 3"]:
    """Outward normals; with `unit=False` their length is twice the face's area."""
    a, b, c = (vertices_m[..., faces[:, k], :] for k in range(3))
    normals = torch.linalg.cross(b - a, c - a)
    return functional.normalize(normals, dim=-1, eps=1e-20) if unit else normals


def vertex_normals(vertices_m: Float[Tensor, "*batch vert 3"], faces: Int[Tensor, "face 3"]) -> Float[Tensor, "*batch vert 3"]:
    """Unit normals of vertices: the area-weighted mean of their faces' normals; zero for a vertex without faces."""
    normals = face_normals(vertices_m, faces, unit=False)
    total = torch.zeros_like(vertices_m)
    for k in range(3):
        total = total.index_add(-2, faces[:, k], normals)
    return functional.normalize(total, dim=-1, eps=1e-20)


def signed_volume_m3(vertices_m: Float[Tensor, "*batch vert 3"], faces: Int[Tensor, "face 3"]) -> Float[Tensor, "*batch"]:
    """Enclosed volume of a closed mesh (divergence theorem), negative if its faces look inwards."""
    # Coordinates relative to the mean: far from the origin the tetrahedra would cancel and single precision would run out.
    vertices_m = vertices_m - vertices_m.mean(-2, keepdim=True)
    a, b, c = (vertices_m[..., faces[:, k], :] for k in range(3))
    return (a * torch.linalg.cross(b, c)).sum((-2, -1)) / 6


def edges(faces: Int[Tensor, "face 3"]) -> Int[Tensor, "edge 2"]:
    """Each undirected edge once, lower vertex first, sorted."""
    directed = torch.cat([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    return directed.sort(1).values.unique(dim=0)


def is_closed(faces: Int[Tensor, "face 3"]) -> bool:
    """Watertight and consistently wound: each directed edge occurs once, and once in the other direction."""
    directed = {(a, b) for face in faces.tolist() for a, b in zip(face, face[1:] + face[:1], strict=True)}
    return len(directed) == 3 * len(faces) and all((b, a) in directed for a, b in directed)


def boundary_loop(faces: Int[Tensor, "face 3"]) -> Int[Tensor, "loop"]:
    """The rim of a mesh with one hole, in the direction in which its faces run. ValueError if there is no hole, or more than one."""
    directed = {(a, b) for face in faces.tolist() for a, b in zip(face, face[1:] + face[:1], strict=True)}
    following = {a: b for a, b in directed if (b, a) not in directed}
    if not following:
        raise ValueError("the mesh is closed and has no rim; check is_closed first")
    loop = [min(following)]
    while (vertex := following.get(loop[-1], loop[0])) != loop[0]:
        loop.append(vertex)
        if len(loop) > len(following):
            break
    if len(loop) != len(following):
        raise ValueError(f"the mesh has more than one hole: of {len(following)} rim edges one has {len(loop)}; close the others first")
    return torch.tensor(loop, dtype=faces.dtype, device=faces.device)


def close_mesh(
    vertices_m: Float[np.ndarray, "vert 3"], faces: Int[np.ndarray, "face 3"]
) -> tuple[Float[np.ndarray, "closed_vert 3"], Int[np.ndarray, "closed_face 3"]]:
    """Closes the one hole of a mesh by a fan around the centre of its rim, which becomes the last vertex; a closed mesh stays as it is."""
    triangles = torch.as_tensor(np.ascontiguousarray(faces), dtype=torch.int64)
    if is_closed(triangles):
        return vertices_m, faces
    loop = boundary_loop(triangles).numpy()
    fan = np.stack([np.roll(loop, -1), loop, np.full_like(loop, len(vertices_m))], 1)
    return np.concatenate([vertices_m, vertices_m[loop].mean(0, keepdims=True)]), np.concatenate([faces, fan.astype(faces.dtype)])
