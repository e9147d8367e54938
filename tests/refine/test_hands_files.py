import json
from pathlib import Path

import numpy as np
import pytest
import torch
from pairs import crossing_hands

from mano_like import write_mano
from twohands.cli import main
from twohands.errors import UserError
from twohands.hands.mano import load_mano
from twohands.hands.model import HandModel
from twohands.hands.parameters import HandParameters
from twohands.refine.files import read_hands
from twohands.refine.refiner import RefineConfig, shared_volumes_cm3


@pytest.fixture
def hands() -> HandParameters:
    return crossing_hands(2, 0, gap_m=0.022)


def mano_arrays(hands: HandParameters) -> dict[str, np.ndarray]:
    pose = hands.pose.flatten(2).numpy()
    return {
        "global_orient": pose[..., :3], "hand_pose": pose[..., 3:], "betas": hands.shape.numpy(), "transl": hands.translation_m.numpy(),
        "hand_model": np.array("bundled"),
    }  # fmt: skip


def as_json(hands: HandParameters) -> dict:
    arrays = mano_arrays(hands)
    names = ("global_orient", "hand_pose", "betas", "transl")
    pairs = [{side: {n: arrays[n][i, h].tolist() for n in names} for h, side in enumerate(("left", "right"))} for i in range(2)]
    return {"hand_model": "bundled", "pairs": pairs}


def volumes(hand: HandModel, file: Path) -> torch.Tensor:
    return shared_volumes_cm3(hand, read_hands(file).parameters)


def test_parameters_of_another_estimator_come_back_as_they_came_and_free(hand: HandModel, hands: HandParameters, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **mano_arrays(hands))
    (tmp_path / "a.json").write_text(json.dumps(as_json(hands)))
    before = shared_volumes_cm3(hand, hands)
    for name in ("a.npz", "a.json"):
        assert main(["refine", str(tmp_path / name)]) == 0
        out = tmp_path / name.replace("a.", "a.refined.")
        assert float(volumes(hand, out).max()) <= 0.001
        assert bool((before > 1).all())
    with np.load(tmp_path / "a.refined.npz") as stored:
        np.testing.assert_allclose(stored["volume_before_cm3"], before, rtol=1e-3)
        assert stored["volume_after_cm3"].max() <= 0.001
        assert stored["hand_pose"].shape == (2, 2, 45)
        assert stored["resolved"].all()
    told = json.loads((tmp_path / "a.refined.json").read_text())
    assert told["pairs"][1]["resolved"]
    assert told["pairs"][1]["volume_before_cm3"] == pytest.approx(float(before[1]), rel=1e-3)
    assert len(told["pairs"][0]["left"]["hand_pose"]) == 45


def test_one_pair_without_an_axis_for_pairs(hand: HandModel, hands: HandParameters, tmp_path: Path) -> None:
    flat = {k: v for k, v in mano_arrays(hands).items() if k != "hand_model"}
    np.savez(tmp_path / "one.npz", hand_model=np.array("bundled"), **{k: v[0] for k, v in flat.items()})
    assert main(["refine", str(tmp_path / "one.npz"), "--out", str(tmp_path / "b.npz")]) == 0
    with np.load(tmp_path / "b.npz") as stored:
        assert stored["global_orient"].shape == (2, 3)
        assert stored["volume_after_cm3"].shape == ()


def test_a_pair_with_one_hand_is_handed_through(hands: HandParameters, tmp_path: Path, capsys) -> None:
    content = as_json(hands)
    del content["pairs"][1]["left"]
    (tmp_path / "a.json").write_text(json.dumps(content))
    assert main(["refine", str(tmp_path / "a.json")]) == 0
    assert "pair 1: one hand only" in capsys.readouterr().out
    told = json.loads((tmp_path / "a.refined.json").read_text())
    assert told["pairs"][1]["right"] == content["pairs"][1]["right"]


def broken(hands: HandParameters, field: str, value: float) -> dict[str, np.ndarray]:
    arrays = mano_arrays(hands)
    arrays[field] = arrays[field].copy()
    arrays[field][1, 0, 0] = value
    return arrays


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("hand_pose", np.nan, "NaN"),
        ("transl", np.inf, "infinite"),
        ("betas", 40.0, "shape of the left hand of pair 1"),
        ("transl", 400.0, "metres, not millimetres"),
        ("global_orient", 90.0, "radians, not degrees"),
    ],
)
def test_numbers_that_are_no_hands_are_named(hands, tmp_path, capsys, field, value, words) -> None:
    np.savez(tmp_path / "a.npz", **broken(hands, field, value))
    assert main(["refine", str(tmp_path / "a.npz")]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "a.refined.npz").exists()


def test_files_that_hold_no_hands_are_refused(hands: HandParameters, tmp_path: Path) -> None:
    arrays = mano_arrays(hands)
    bad = {
        "missing.npz": None,
        "text.npz": b"no zip",
        "text.json": b"{",
        "empty.json": b"[]",
        "nothing.json": b'{"left": 3}',
        "other.txt": b"",
    }
    for name, content in bad.items():
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=name):
            read_hands(tmp_path / name)
    for name, changed in (("flat", {"hand_pose": arrays["hand_pose"][:, 0]}), ("pca", {"hand_pose": arrays["hand_pose"][..., :15]})):
        np.savez(tmp_path / f"{name}.npz", **(arrays | changed))
        with pytest.raises(UserError, match="shape"):
            read_hands(tmp_path / f"{name}.npz")
    np.savez(tmp_path / "lacks.npz", betas=arrays["betas"])
    with pytest.raises(UserError, match="global_orient"):
        read_hands(tmp_path / "lacks.npz")


def test_pickles_are_not_read(hands: HandParameters, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **mano_arrays(hands) | {"betas": np.array([{"a": 1}], dtype=object)})
    with pytest.raises(UserError, match="plain arrays"):
        read_hands(tmp_path / "a.npz")


def test_mano_parameters_need_mano(hands: HandParameters, tmp_path: Path, capsys) -> None:
    arrays = mano_arrays(hands)
    del arrays["hand_model"]
    np.savez(tmp_path / "a.npz", **arrays)
    assert main(["refine", str(tmp_path / "a.npz")]) == 2
    assert "--mano" in capsys.readouterr().err


def test_files_of_an_estimator_that_speaks_mano_come_back_free(tmp_path: Path, tmp_path_factory, capsys) -> None:
    """The whole way with a hand of MANO's form: its own mean pose, open wrists, spheres that are fitted to it."""
    folder = write_mano(tmp_path_factory.mktemp("mano"))
    model = load_mano(folder, flat_hand_mean=False)
    hands = crossing_hands(2, 1, gap_m=0.03)
    hands = HandParameters(hands.pose, 0.3 * torch.randn(2, 2, 10, generator=torch.Generator().manual_seed(0)), hands.translation_m)
    before = shared_volumes_cm3(model, hands)
    assert bool((before > 0.1).all())
    (tmp_path / "theirs.json").write_text(json.dumps(as_json(hands) | {"hand_model": "mano"}))
    assert main(["refine", str(tmp_path / "theirs.json"), "--mano", str(folder)]) == 0
    found = read_hands(tmp_path / "theirs.refined.json")
    assert found.hand_model == "mano"
    assert float(shared_volumes_cm3(model, found.parameters).max()) <= 0.001
    moved_m = (model.pose_hands(found.parameters).keypoints() - model.pose_hands(hands).keypoints()).norm(dim=-1).mean((1, 2))
    assert bool((moved_m <= RefineConfig().farthest_move_m).all())
    told = json.loads((tmp_path / "theirs.refined.json").read_text())["pairs"]
    assert [pair["volume_before_cm3"] for pair in told] == pytest.approx(before.tolist(), rel=1e-2)
    assert all(pair["resolved"] and pair["refined"] for pair in told)
    assert "2 of 2 pairs share no volume" in capsys.readouterr().out
