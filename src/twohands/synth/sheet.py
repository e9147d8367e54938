"""A contact sheet of interacting pairs, to be looked at."""

import numpy as np
import torch
from jaxtyping import UInt8

from twohands.geometry.camera import Camera
from twohands.geometry.rotations import axis_rotation, rotvec_to_matrix
from twohands.hands.model import HandModel
from twohands.hands.parameters import HandParameters
from twohands.palette import HAND_RGB
from twohands.render import rasterize, smooth_normals

_BACKGROUND = 0.12


def contact_sheet(model: HandModel, parameters: HandParameters, columns: int = 8, size_px: int = 160) -> UInt8[np.ndarray, "h w 3"]:
    """One cell a pair (batch axis first), left hands blue, right ones orange, each pair from the side from which both are seen best."""
    cells = [draw_pair(model, parameters[i], size_px) for i in range(parameters.shape.shape[0])]
    cells += [np.zeros_like(cells[0])] * (-len(cells) % columns)
    rows = [np.concatenate(cells[i : i + columns], 1) for i in range(0, len(cells), columns)]
    return np.concatenate(rows)


def draw_pair(model: HandModel, parameters: HandParameters, size_px: int = 160) -> UInt8[np.ndarray, "size size 3"]:
    """Both hands, filling the picture."""
    vertices = model.pose_hands(parameters).mesh().vertices_m
    joints = model.pose_hands(parameters).joints_m
    # The two directions of greatest spread span the picture; the hands' mean pointing direction is up.
    points = joints.reshape(-1, 3)
    centre = points.mean(0)
    _, _, axes = torch.linalg.svd(points - centre)
    ahead = -(rotvec_to_matrix(parameters.pose[:, 0])[..., 0] * torch.tensor([[-1.0], [1.0]])).sum(0)
    view = axes[2] if float(torch.linalg.det(axes)) > 0 else -axes[2]
    up = ahead - (ahead @ view) * view
    up = up / up.norm().clamp_min(1e-6)
    R = axis_rotation(0, torch.tensor(0.25)) @ torch.stack([torch.linalg.cross(-up, view), -up, view])
    turned = (vertices - centre) @ R.T
    extent = float(turned.abs().amax())
    place = turned + torch.tensor([0.0, 0.0, 10 * extent])
    camera = Camera(torch.full((2,), size_px * 4.4), torch.full((2,), size_px / 2))
    flat = place.reshape(-1, 3).numpy().astype(np.float32)
    faces = np.concatenate([model.faces[0].numpy(), model.faces[1].numpy() + vertices.shape[1]])
    raster = rasterize(flat, faces, camera.focal_px.numpy(), camera.principal_px.numpy(), size_px, size_px)
    normals = smooth_normals(flat, faces)
    seen = raster.face >= 0
    corners = faces[raster.face[seen]]
    normal = (normals[corners] * raster.barycentric[seen][..., None]).sum(1)
    light = np.array([-0.4, -0.6, -0.7]) / np.linalg.norm([0.4, 0.6, 0.7])
    shade = 0.3 + 0.7 * np.clip(normal @ light, 0, 1)
    colour = np.array(HAND_RGB, float)[(corners[:, 0] >= vertices.shape[1]).astype(int)] / 255
    picture = np.full((size_px, size_px, 3), _BACKGROUND)
    picture[seen] = colour * shade[:, None]
    return (picture * 255).clip(0, 255).astype(np.uint8)
