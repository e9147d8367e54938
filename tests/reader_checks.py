"""What every reader's tests ask: that it says the truth of a generated tree, and that it names what is broken."""

import shutil
from pathlib import Path

import pytest
import torch

from dataset_trees import Truth
from twohands.data.dataset import Dataset
from twohands.data.loader import open_dataset
from twohands.errors import UserError
from twohands.joints import OPENPOSE21, order_index


def check_annotations(dataset: Dataset, truths: list[Truth], joints_m: list[torch.Tensor], focal_px: tuple, principal_px: tuple) -> None:
    """Ids in order, cameras, 3D joints (`joints_m`, OPENPOSE21), meshes, and 2D joints that are the projections of the 3D ones."""
    assert len(dataset) == len(truths)
    assert dataset.ids.tolist() == [truth.id for truth in truths]
    for index, (truth, expected) in enumerate(zip(truths, joints_m, strict=True)):
        a = dataset.annotation(index)
        assert a.id == truth.id
        assert a.camera.focal_px.tolist() == pytest.approx(focal_px)
        assert a.camera.principal_px.tolist() == pytest.approx([x + 0.5 for x in principal_px]), "first pixel's centre at 0.5"
        order = list(order_index(a.joint_names))
        present = truth.present[:, None]
        assert torch.equal(a.joints_3d_valid[:, order], present.expand(2, 21))
        torch.testing.assert_close(a.joints_m[:, order], torch.where(present[..., None], expected, 0.0), atol=2e-6, rtol=0)
        # Written out, so that nothing of the project's own camera is trusted here.
        u = focal_px[0] * expected[..., 0] / expected[..., 2] + principal_px[0] + 0.5
        v = focal_px[1] * expected[..., 1] / expected[..., 2] + principal_px[1] + 0.5
        xy = torch.where(present[..., None], torch.stack([u, v], -1), 0.0)
        torch.testing.assert_close(a.joints_xy[:, order], xy, atol=2e-3, rtol=0)
        vertices, there = dataset.vertices(index)
        assert torch.equal(there, truth.present)
        assert torch.equal(a.fit_available, truth.present)
        torch.testing.assert_close(vertices, torch.where(present[..., None], truth.vertices_m, 0.0), atol=2e-6, rtol=0)


def check_parameters(dataset: Dataset, truths: list[Truth], atol: float = 2e-6) -> None:
    """MANO parameters, relative to the flat hand, in the camera frame: those that the scene was made with."""
    for index, truth in enumerate(truths):
        a = dataset.annotation(index)
        assert torch.equal(a.parameters_valid, truth.present)
        for name in ("pose", "shape", "translation_m"):
            got, expected = getattr(a.parameters, name), getattr(truth.parameters, name)
            mask = truth.present.view(2, *[1] * (got.ndim - 1))
            torch.testing.assert_close(got, torch.where(mask, expected, 0.0), atol=atol, rtol=0)


def check_sample(dataset: Dataset, index: int, truth: Truth) -> None:
    """The Sample of a tree's picture: keypoints of the hands that are there, on the hands that were drawn."""
    sample = dataset[index]
    assert torch.equal(sample.hand_valid, truth.present)
    assert sample.source.startswith(dataset.info.name + "/")
    for hand in (0, 1):
        if not truth.present[hand]:
            assert not sample.keypoints_xy[hand].any()
            assert not sample.keypoint_visible[hand].any()
            continue
        xy = sample.keypoints_xy[hand]
        assert torch.equal(sample.box_xyxy_px[hand], torch.cat([xy.amin(0), xy.amax(0)]))
        # The drawn left hand is orange or red in no channel: blue leads there, red on the right one.
        column, row = (xy[OPENPOSE21.index("middle1")].round().long()).tolist()
        red, _, blue = sample.image[:, row, column].int().tolist()
        assert (blue > red) == (hand == 0), f"hand {hand} is not where its middle knuckle should be"


def broken(tree: Path, tmp_path: Path) -> Path:
    """A copy of a tree, to be broken."""
    return Path(shutil.copytree(tree, tmp_path / "copy", ignore=shutil.ignore_patterns(".twohands")))


def check_refusal(name: str, folder: Path, split: str, said: str) -> None:
    """Opening a broken tree gives one UserError that names what is broken, and leaves no index behind."""
    with pytest.raises(UserError, match=said):
        open_dataset(name, folder, split)
    assert not list(folder.glob(".twohands/*"))


def check_cut_short(name: str, tree: Path, split: str, file: str, tmp_path: Path) -> None:
    """A truncated JSON file is named."""
    folder = broken(tree, tmp_path)
    path = folder / file
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    check_refusal(name, folder, split, f"{path.name} is cut short or no JSON")


def check_picture_missing(name: str, tree: Path, split: str, tmp_path: Path) -> None:
    """A missing picture is named when it is asked for, and everything but its pixels is still there."""
    folder = broken(tree, tmp_path)
    dataset = open_dataset(name, folder, split)
    path = dataset.annotation(0).image_path
    path.unlink()
    with pytest.raises(UserError, match=f"{path.name} is not there"):
        dataset[0]
    assert dataset.annotation(0).image_path == path
