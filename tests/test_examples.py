"""The examples run as they stand."""

import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mano_like import write_mano
from scenes import Truth, blank_image, two_hands
from twohands import pipeline
from twohands.collision.volume import shared_volume_cm3
from twohands.geometry.rotations import rotvec_to_matrix
from twohands.hands.bundled import load_bundled_hand
from twohands.hands.mano import load_mano
from twohands.hands.model import HandModel
from twohands.hands.parameters import HandParameters
from twohands.refine import refiner
from twohands.refine.refiner import RefineResult

EXAMPLES = Path(__file__).parents[1] / "examples"


def run(name: str):
    return runpy.run_path(str(EXAMPLES / name))["main"]


def test_photo(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(pipeline, "load", lambda: Truth([two_hands(0.07)]).pipeline())
    Image.fromarray(blank_image()).save(tmp_path / "a.png")
    run("01_photo.py")(tmp_path / "a.png", tmp_path / "out")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["hands.glb", "hands.npz", "views.png"]
    assert capsys.readouterr().out.count("wrist at") == 2


def test_collision():
    before, after = run("02_collision.py")()
    assert before > 10
    assert after < 0.1


def test_synthetic(tmp_path):
    run("03_synthetic.py")(tmp_path, count=1)
    assert Image.open(tmp_path / "samples.png").width == 4 * 256


def motion_file(folder):
    """A short result of a video."""
    from twohands.export import motion_of_photo, read_npz, write_motion, write_npz

    truth = Truth([two_hands(0.2)])
    write_npz(folder / "photo.npz", truth.pipeline().reconstruct(blank_image()), truth.model)
    write_motion(folder / "clip.npz", motion_of_photo(read_npz(folder / "photo.npz")))
    return folder / "clip.npz"


def test_blender(tmp_path, capsys):
    assert all(path.is_file() for path in run("04_blender.py")(motion_file(tmp_path), tmp_path / "out"))
    assert capsys.readouterr().out.startswith("blender ")


def test_robot(tmp_path):
    left, right = (run("05_robot.py")(motion_file(tmp_path), side, tmp_path / "a.npz") for side in ("left", "right"))
    assert right["angles_rad"].shape == (1, 15, 3)
    # The hands are mirror images, and so bend alike.
    assert abs(left["angles_rad"] - right["angles_rad"]).max() < 1e-5


def test_signs(tmp_path):
    assert run("06_signs.py")(motion_file(tmp_path), tmp_path / "a.csv") == 1
    assert len((tmp_path / "a.csv").read_text().splitlines()[1].split(",")) == 127


def test_own_camera(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(pipeline, "load", lambda: Truth([two_hands(0.2)]).pipeline())
    Image.fromarray(blank_image()).save(tmp_path / "a.png")
    run("07_intrinsics.py")(tmp_path / "a.png", 80.0, 80.0, 48.0, 32.0)
    assert capsys.readouterr().out.count("(caller)") == 2


HAMER_FOCAL_PX = 5000 / 256 * 640
"""What HaMeR and WiLoR take for a picture of 640 pixels, whatever camera made it."""


def untouched(
    _: object, model: HandModel, parameters: HandParameters, confidence: None, both: torch.Tensor, camera_frame: bool
) -> RefineResult:
    nothing = torch.zeros(len(both))
    return RefineResult(parameters, nothing, nothing, torch.zeros_like(both), torch.zeros(len(both), 2), torch.zeros(len(both), 2))


@pytest.mark.parametrize(("mano", "gap_m"), [("bundled", 0.065), ("mano", 0.11)])
def test_hamer(tmp_path, capsys, monkeypatch, mano, gap_m):
    """Two hands, in one case too near to each other, and a second left hand far away, as the two networks give them: for a left hand the rotations of a
    right one in the mirrored photo, a camera with a focal length of 12,500 pixels. The vertices are made here as both demos make them."""
    folder, model = "bundled", load_bundled_hand()
    if mano == "mano":
        folder = write_mano(tmp_path / "mano")
        model = load_mano(folder, flat_hand_mean=True)
        # Hands that do not penetrate come back as they came; the spheres that find it out take seconds to fit to another hand.
        monkeypatch.setattr(refiner, "refine_pairs", untouched)
    apart = two_hands(gap_m, depth_m=0.5)
    shape = 0.3 * torch.randn(1, 10, generator=torch.Generator().manual_seed(0)).expand(3, 10)
    matrices = rotvec_to_matrix(apart.pose[1].expand(3, 16, 3)).numpy()
    place = torch.stack([*apart.translation_m, apart.translation_m[0] - torch.tensor([0.3, 0.0, -0.1])]).numpy()
    right, real_px = np.array([0, 1, 0]), 640 / (2 * np.tan(np.radians(30)))
    hands = {
        "global_orient": matrices[:, :1], "hand_pose": matrices[:, 1:], "betas": shape.numpy(), "right": right.astype(float),
        "cam_t": place * [1, 1, HAMER_FOCAL_PX / real_px], "focal_px": HAMER_FOCAL_PX, "img_size": np.array([640.0, 480.0]),
    }  # fmt: skip
    np.savez(tmp_path / "hands.npz", **hands)
    found = run("08_hamer.py")(tmp_path / "hands.npz", folder, tmp_path / "out.npz")
    faces = model.closed_faces().numpy()

    def drawn(arrays: dict[str, np.ndarray], cam_t: np.ndarray) -> np.ndarray:
        """A right hand's mesh, mirrored for a left one, then moved."""
        rotation = torch.from_numpy(np.concatenate([arrays["global_orient"], arrays["hand_pose"]], 1)).float()
        shaped = model.with_shape(torch.from_numpy(arrays["betas"]).float()[:, None].expand(3, 2, 10))
        mesh = shaped.with_pose(rotation[:, None].expand(3, 2, 16, 3, 3)).mesh().vertices_m[:, 1].numpy()
        return mesh * np.stack([2 * right - 1, [1] * 3, [1] * 3], -1)[:, None] + cam_t[:, None]

    def volume(vertices: np.ndarray) -> float:
        closed = model.closed_vertices(torch.from_numpy(vertices[:2].astype(np.float32))).double().numpy()
        return shared_volume_cm3(closed[0], faces[0], closed[1], faces[1])

    theirs = drawn(hands, place)
    before = volume(theirs)
    assert (before > 1) == (mano == "bundled")
    assert volume(found["vertices_m"]) < 0.01
    assert f"hands 0 (left) and 1 (right): {before:.2f} -> 0.00 cm3" in capsys.readouterr().out
    moved = np.linalg.norm(found["vertices_m"][:2] - theirs[:2], axis=-1).mean()
    assert moved < (0.03 if before else 1e-5), "the hands are where they were, less what was too near"
    assert np.isnan(found["vertices_m"][2]).all(), "a hand without a partner is handed through"
    np.testing.assert_array_equal(found["hand_pose"][2], hands["hand_pose"][2])
    # What comes out is in the same terms: the demos would draw the refined meshes.
    np.testing.assert_allclose(drawn(found, found["cam_t"])[:2], found["vertices_m"][:2], atol=2e-5)
