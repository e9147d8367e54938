"""The perfect teacher: segmentation and depth rasterised from the annotation's own meshes, where an annotation has hand parameters."""

import numpy as np
import torch
from torch import Tensor

from twohands.hands.bundled import load_hand_asset
from twohands.hands.model import HandModel
from twohands.priors.teacher import Lesson, Question, silent_maps
from twohands.render import rasterize
from twohands.schema import PriorMaps

STRIDE = 4
"""Maps have this fraction of the photo's resolution: the networks' prior grids are coarser still."""


class RenderedTeacher:
    """Draws the hands that the annotation says are there. What lies before them it does not know: objects that hide a hand are not cut out."""

    def __init__(self, model: HandModel) -> None:
        """`model` is the hand of the annotations' parameters; parts are known of the bundled hand only."""
        self.model = model
        self.part = load_hand_asset().part.numpy()
        if len(self.part) != model.data.v_template.shape[1]:
            raise ValueError(f"the parts of {model.name!r} are not known; turn the parameters into the bundled hand's first")

    def describe(self) -> dict[str, str]:
        return {"teacher": "rendered", "hand": self.model.name}

    def __call__(self, question: Question) -> Lesson:
        truth = question.truth
        if truth is None or not bool((truth.parameters_valid & truth.hand_valid).any()):
            return Lesson(silent_maps(), torch.zeros(2))
        drawn = truth.parameters_valid & truth.hand_valid
        mesh = self.model.pose_hands(truth.parameters).mesh()
        height, width = question.image.shape[:2]
        vertices, faces, classes, start = [], [], [], 0
        for h in (0, 1):
            if drawn[h]:
                own = self.model.faces[h].numpy()
                vertices.append(mesh.vertices_m[h].numpy())
                faces.append(own + start)
                classes.append(1 + 16 * h + self.part[own[:, 0]])
                start += len(vertices[-1])
        focal, principal = truth.camera.focal_px.numpy() / STRIDE, truth.camera.principal_px.numpy() / STRIDE
        raster = rasterize(np.concatenate(vertices), np.concatenate(faces), focal, principal, height // STRIDE, width // STRIDE)
        seen = raster.face >= 0
        segmentation = np.where(seen, np.concatenate(classes)[raster.face], 0).astype(np.uint8)
        depth = np.where(seen, raster.depth_m, 0.0).astype(np.float32)
        blank = drawn[:, None, None]
        xy = torch.where(blank, truth.camera.project(mesh.keypoints_m), 0.0)
        relative = mesh.keypoints_m - mesh.keypoints_m[:, :1]
        palm = relative[:, 9].norm(dim=-1).clamp_min(1e-3)[:, None]
        maps = PriorMaps(
            xy, drawn[:, None].float().expand(2, 21), _tensor(segmentation), _tensor(depth), relative[..., 2] / palm * drawn[:, None]
        )
        return Lesson(maps, drawn.float(), torch.where(blank, relative, 0.0))


def _tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(array)
