"""Small generated trees of the data sets, made once, with predictions that are their truth."""

from pathlib import Path

import numpy as np
import pytest

import dataset_trees
from mano_like import write_mano
from twohands.evaluation.predictions import FORMAT


@pytest.fixture(scope="session")
def mano(tmp_path_factory) -> Path:
    return write_mano(tmp_path_factory.mktemp("mano"))


@pytest.fixture(scope="session")
def interhand(tmp_path_factory, mano) -> tuple[Path, list[dataset_trees.Truth]]:
    """Nine test annotations: pairs, right hands, left hands; the first six are human-annotated."""
    folder = tmp_path_factory.mktemp("interhand")
    truths = dataset_trees.write_interhand26m(folder, mano, "test", 9)
    (folder / "annotations" / "aid_human_annot_test.txt").write_text("".join(f"{t.id}\n" for t in truths[:6]))
    return folder, truths


@pytest.fixture
def write_truth(tmp_path):
    """Writes truths as a predictions file; `change` edits its arrays before."""

    def write(truths, change=None, name="mine.npz") -> Path:
        absent = np.stack([~t.present.numpy() for t in truths])
        arrays = {
            "format": np.array(FORMAT),
            "sample_id": np.array([t.id for t in truths]),
            "predictor": np.array("the truth"),
            "frame": np.array("camera"),
            "joints_m": np.stack([t.keypoints_m.numpy() for t in truths]),
            "vertices_m": np.stack([t.vertices_m.numpy() for t in truths]),
        }
        for field in ("joints_m", "vertices_m"):
            arrays[field][absent] = np.nan
        if change:
            change(arrays)
        np.savez(tmp_path / name, **{key: value for key, value in arrays.items() if value is not None})
        return tmp_path / name

    return write
