"""Where truth comes from: samples that can be counted, looked up, judged by and shown to an estimator, whatever data set they are of; and the data
sets as the protocols look at them, where a reader's annotations become rows of truth."""

import abc
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike

from twohands.data.dataset import Annotation, Dataset
from twohands.data.interhand26m import read_id_list
from twohands.data.loader import open_dataset
from twohands.errors import UserError
from twohands.evaluation.judged import JudgesHand, Truth
from twohands.evaluation.occlusion import crop_brightness, hidden_by_other_hand
from twohands.evaluation.protocols import Protocol
from twohands.hands.mano import load_mano
from twohands.joints import OPENPOSE21, order_index
from twohands.record import stack
from twohands.schema import Sample

M_TO_MM = 1000.0
FIRST_PIXEL = 0.5
"""Its centre in this project's pixels; 0 in the data sets'."""


class Source(abc.ABC):
    """Samples with truth. Cheap to open; each sample is read when it is asked for."""

    ids: np.ndarray
    """Strings, one a sample."""

    @abc.abstractmethod
    def truth(self, rows: ArrayLike) -> Truth:
        """Some rows of it."""

    @abc.abstractmethod
    def sample(self, row: int) -> Sample:
        """The picture, for an estimator; UserError if it is not there."""

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Some(Source):
    """Some samples of another source."""

    whole: Source
    rows: np.ndarray

    @property
    def ids(self) -> np.ndarray:  # type: ignore[override]
        return self.whole.ids[self.rows]

    def truth(self, rows: ArrayLike) -> Truth:
        return self.whole.truth(self.rows[np.asarray(rows)])

    def sample(self, row: int) -> Sample:
        return self.whole.sample(int(self.rows[row]))


def limited(source: Source, limit: int | None) -> Source:
    """At most `limit` samples, evenly spread. UserError unless it is positive."""
    if limit is None or limit >= len(source):
        return source
    if limit < 1:
        raise UserError(f"a limit of {limit} leaves nothing to judge; give a positive number")
    return Some(source, np.linspace(0, len(source) - 1, limit).round().astype(int))


@dataclass(frozen=True)
class DatasetSource(Source):
    """A data set's split, as a protocol looks at it."""

    dataset: Dataset
    protocol: Protocol
    hand: JudgesHand | None
    """MANO with the protocol's fingertips; None: joints only."""
    rows: np.ndarray
    """Those of the data set that are on the protocol's list."""

    @property
    def ids(self) -> np.ndarray:  # type: ignore[override]
        return self.dataset.ids[self.rows]

    def sample(self, row: int) -> Sample:
        return self.dataset[int(self.rows[row])]

    def truth(self, rows: ArrayLike) -> Truth:
        indices = [int(self.rows[row]) for row in np.atleast_1d(np.asarray(rows))]
        annotations = [self.dataset.annotation(index) for index in indices]
        meshes = self._meshes(indices, annotations)
        return Truth.join([self._row(*given) for given in zip(indices, annotations, *meshes, strict=True)])

    def _meshes(self, indices: list[int], annotations: list[Annotation]) -> tuple[np.ndarray, np.ndarray]:
        """True meshes and which there are, for each sample. Those of MANO fits are posed all at once: that is what takes the time."""
        if self.dataset.mano is not None and self.protocol.data in ("interhand26m", "reinterhand"):
            fits = stack([annotation.parameters for annotation in annotations])
            vertices = self.dataset.mano.pose_hands(fits).mesh().vertices_m
            return vertices.double().numpy(), torch.stack([annotation.parameters_valid for annotation in annotations]).numpy()
        read = [self.dataset.vertices(index) for index in indices]
        return torch.stack([v for v, _ in read]).double().numpy(), torch.stack([valid for _, valid in read]).numpy()

    def _row(self, index: int, annotation: Annotation, vertices_m: np.ndarray, mesh_valid: np.ndarray) -> Truth:
        """One sample, with a leading axis of one."""
        order = list(order_index(annotation.joint_names, OPENPOSE21))
        joints_m = annotation.joints_m[:, order].double().numpy()
        vertices_m = np.where(mesh_valid[:, None, None], vertices_m, np.nan)
        with_meshes = self.hand is not None or self.protocol.data in ("freihand", "ho3d")
        hidden = np.full(2, np.nan)
        if self.hand is not None and mesh_valid.all():
            mesh_joints_m = self.hand.joints(vertices_m)
            hidden = hidden_by_other_hand(vertices_m, self.hand.model.faces.numpy(), mesh_joints_m)
        shown = {"left": (True, False), "right": (False, True), "interacting": (True, True), "none": (False, False)}[annotation.hand_type]
        row = {
            "sample_id": np.array(annotation.id),
            "sequence": np.array(annotation.sequence),
            "interacting": np.array(annotation.hand_type == "interacting"),
            "hand_type_valid": np.array(annotation.hand_type_valid),
            "shown": np.array(shown),
            "joints_mm": joints_m * M_TO_MM,
            "labelled": annotation.joints_in_image[:, order].numpy(),
            "valid_3d": annotation.joints_3d_valid[:, order].numpy(),
            "vertices_mm": vertices_m * M_TO_MM,
            "mesh_valid": mesh_valid if with_meshes else np.zeros(2, bool),
            "focal_px": annotation.camera.focal_px.double().numpy(),
            "principal_px": annotation.camera.principal_px.double().numpy() - FIRST_PIXEL,
            "image_size_px": np.array([annotation.width_px, annotation.height_px], float),
            "hidden_share": hidden,
            "brightness": np.array(self._brightness(annotation, index, vertices_m)),
        }
        batch = {name: value[None] for name, value in row.items()}
        joints = None if self.hand is None else self.hand.joints(batch["vertices_mm"])
        vertices = batch.pop("vertices_mm")
        return Truth(vertices_mm=vertices if with_meshes else None, mesh_joints_mm=joints, **batch)

    def _brightness(self, annotation: Annotation, index: int, vertices_m: np.ndarray) -> float:
        """Of the crop around both meshes; NaN where the protocol does not ask, or the picture is not there."""
        asked = self.protocol.needs_brightness and annotation.hand_type == "interacting" and np.isfinite(vertices_m).all()
        if not asked or not annotation.image_path.is_file():
            return float("nan")
        points = torch.from_numpy(vertices_m.reshape(-1, 3)).to(annotation.camera.focal_px.dtype)
        return crop_brightness(self.dataset.image(index), annotation.camera.project(points).numpy())


def open_dataset_source(protocol: Protocol, folder: Path, mano: Path | None) -> DatasetSource:
    """The samples of a protocol in a data set's folder. UserError if something that the protocol needs is not there."""
    if protocol.needs_mano and mano is None:
        raise UserError(
            f"the truth of {protocol.name} is made with MANO; give --mano DIR with MANO_LEFT.pkl and MANO_RIGHT.pkl (mano.is.tue.mpg.de)"
        )
    hand = None if mano is None else JudgesHand(load_mano(mano, fingertips=protocol.fingertips))
    dataset = open_dataset(protocol.data, folder, protocol.split, mano=mano)
    rows = np.arange(len(dataset))
    if protocol.id_list != "H+M":
        listed = np.isin(dataset.ids, np.array(read_id_list(folder, protocol.split)))
        rows = np.flatnonzero(listed if protocol.id_list == "H" else ~listed)
    if not len(rows):
        raise UserError(f"{folder} has no sample of {protocol.name} ({protocol.subset}); `twohands data check` says what is missing")
    return DatasetSource(dataset, protocol, hand, rows)
