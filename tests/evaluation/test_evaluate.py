"""`twohands evaluate` on small generated trees: known answers, anyone's predictions, and what is refused."""

import json
from dataclasses import replace

import numpy as np
import pytest

import dataset_trees
from twohands.cli import main
from twohands.evaluation import synthetic
from twohands.evaluation.judged import JudgesHand
from twohands.evaluation.protocols import PROTOCOLS
from twohands.hands.mano import load_mano


def evaluate(*arguments: object) -> int:
    return main(["evaluate", *map(str, arguments)])


def numbers(path) -> dict[str, float]:
    return {n["metric"]: n["value"] for n in json.loads(path.read_text())["numbers"]}


def test_the_list_names_every_protocol(capsys):
    assert evaluate("--list") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(PROTOCOLS)
    assert all("root" in line and "scale" in line for line in lines)


def test_the_truth_of_interhand_is_judged_right(interhand, mano, write_truth, tmp_path, capsys):
    folder, truths = interhand
    made = write_truth(truths)
    assert (
        evaluate("--protocol", "ih26m/interwild", "--data", folder, "--predictions", made, "--mano", mano, "--json", tmp_path / "r.json")
        == 0
    )
    printed = capsys.readouterr().out
    assert "6 samples" in printed  # the H list, not all nine
    assert "root wrist; scale none" in printed
    got = numbers(tmp_path / "r.json")
    assert got["MPVPE-all"] == pytest.approx(0.0, abs=2e-3)  # float32 of the file
    # What is left is the joint regressor against the annotated joints (which are the chain's, moved by 4 mm).
    hand = JudgesHand(load_mano(mano, fingertips="interwild"))
    cells: dict[tuple[bool, int, int], list[float]] = {}
    apart = []
    for truth in truths[:6]:
        regressed, annotated = 1000 * hand.joints(truth.vertices_m.double().numpy()), 1000 * dataset_trees.annotated(truth).double().numpy()
        both = bool(truth.present.all())
        for side in np.flatnonzero(truth.present.numpy()):
            errors = np.linalg.norm((regressed[side] - regressed[side, :1]) - (annotated[side] - annotated[side, :1]), axis=-1)
            for joint in range(21):
                cells.setdefault((both, side, joint), []).append(errors[joint])
        if both:
            apart.append(np.linalg.norm((regressed[0, 0] - regressed[1, 0]) - (annotated[0, 0] - annotated[1, 0])))
    assert got["MRRPE"] == pytest.approx(np.mean(apart), abs=2e-3)
    assert got["MPJPE-all"] == pytest.approx(np.mean([np.mean(errors) for errors in cells.values()]), abs=2e-3)


def test_regressed_joints_are_compared_with_regressed_joints(interhand, mano, write_truth, tmp_path):
    folder, truths = interhand
    made = write_truth(truths)
    for name in ("ih26m/intaghand", "ih26m/intaghand-wrist", "ih26m/omnihands"):
        assert evaluate("--protocol", name, "--data", folder, "--predictions", made, "--mano", mano, "--json", tmp_path / "r.json") == 0
        got = numbers(tmp_path / "r.json")
        assert max(value for metric, value in got.items() if value is not None) == pytest.approx(0.0, abs=3e-3), name


def test_mano_parameters_do_instead_of_meshes(interhand, mano, write_truth, tmp_path):
    folder, truths = interhand

    def as_parameters(arrays):
        del arrays["vertices_m"]
        arrays["joints_m"] = None
        for name, field in (("mano_pose", "pose"), ("mano_shape", "shape"), ("mano_translation_m", "translation_m")):
            arrays[name] = np.stack([getattr(t.parameters, field).numpy() for t in truths])

    made = write_truth(truths, as_parameters)
    assert (
        evaluate("--protocol", "plausibility", "--data", folder, "--predictions", made, "--mano", mano, "--json", tmp_path / "r.json") == 0
    )
    got = numbers(tmp_path / "r.json")
    assert got["PenVol"] == pytest.approx(got["truth PenVol"], abs=1e-3)
    assert (
        evaluate("--protocol", "ih26m/intaghand", "--data", folder, "--predictions", made, "--mano", mano, "--json", tmp_path / "r.json")
        == 0
    )
    assert numbers(tmp_path / "r.json")["MPVPE"] == pytest.approx(0.0, abs=3e-3)


def test_joints_without_meshes_or_mano(interhand, write_truth, tmp_path, capsys):
    """Joints in InterHand2.6M's own order, relative to the wrist, with the relative translation beside."""
    folder, truths = interhand
    order = [4, 3, 2, 1, 8, 7, 6, 5, 12, 11, 10, 9, 16, 15, 14, 13, 20, 19, 18, 17, 0]

    def relative(arrays):
        joints = arrays["joints_m"]
        arrays["relative_translation_m"] = joints[:, 0, 0] - joints[:, 1, 0]
        arrays["joints_m"] = (joints - joints[:, :, :1])[:, :, order]
        arrays["joint_order"], arrays["frame"], arrays["vertices_m"] = np.array("INTERHAND21"), np.array("wrist"), None

    made = write_truth(truths, relative)
    assert evaluate("--protocol", "ih26m/internet", "--data", folder, "--predictions", made, "--json", tmp_path / "r.json") == 0
    got = numbers(tmp_path / "r.json")
    assert got["MPJPE-all"] == pytest.approx(0.0, abs=1e-3)
    assert got["MRRPE"] == pytest.approx(0.0, abs=1e-3)
    assert "not measured" in capsys.readouterr().out


def test_the_machine_annotated_part_is_what_the_list_leaves(interhand, write_truth, tmp_path):
    folder, truths = interhand
    made = write_truth(truths)
    for name, count in (("ih26m/internet", 9), ("ih26m/internet-h", 6), ("ih26m/internet-m", 3)):
        assert evaluate("--protocol", name, "--data", folder, "--predictions", made, "--json", tmp_path / "r.json") == 0
        assert json.loads((tmp_path / "r.json").read_text())["samples"] == count


@pytest.mark.parametrize("name", ["hic/interwild", "hic/mcp-scale"])
def test_hic(name, mano, write_truth, tmp_path):
    truths = dataset_trees.write_hic(tmp_path / "hic", mano, 3)
    made = write_truth(truths)
    assert (
        evaluate("--protocol", name, "--data", tmp_path / "hic", "--predictions", made, "--mano", mano, "--json", tmp_path / "r.json") == 0
    )
    assert max(value for value in numbers(tmp_path / "r.json").values() if value is not None) == pytest.approx(0.0, abs=3e-3)


def test_reinterhand(mano, write_truth, tmp_path):
    truths = dataset_trees.write_reinterhand(tmp_path / "rih", mano, 3, pictures=True, capture=dataset_trees.TEST_CAPTURE)
    from twohands.data.loader import open_dataset

    ids = open_dataset("reinterhand", tmp_path / "rih", "test", mano).ids
    by_id = {t.id: t for t in truths}
    made = write_truth([by_id.get(i, replace(truths[k], id=i)) for k, i in enumerate(ids)])
    arguments = ("--data", tmp_path / "rih", "--predictions", made, "--mano", mano, "--json", tmp_path / "r.json")
    assert evaluate("--protocol", "rih/interwild", *arguments) == 0
    got = numbers(tmp_path / "r.json")
    assert got["MPJPE"] == pytest.approx(0.0, abs=3e-3)
    assert got["MPVPE"] == pytest.approx(0.0, abs=3e-3)


def test_freihand_reads_the_challenges_own_format(mano, tmp_path):
    truths = dataset_trees.write_freihand(tmp_path / "fh", mano, "evaluation", 3)
    xyz, verts = ([getattr(t, field)[1].tolist() for t in truths] for field in ("keypoints_m", "vertices_m"))
    (tmp_path / "pred.json").write_text(json.dumps([xyz, verts]))
    arguments = ("--protocol", "freihand", "--data", tmp_path / "fh", "--json", tmp_path / "r.json")
    assert evaluate(*arguments, "--predictions", tmp_path / "pred.json") == 0
    got = numbers(tmp_path / "r.json")
    assert (got["F@5"], got["PA-F@5"]) == (1.0, 1.0)
    assert got["MPJPE"] == pytest.approx(0.0, abs=1e-2)
    # Zeros align to the mean of the truth, wherever they are.
    (tmp_path / "pred.json").write_text(json.dumps([np.zeros((3, 21, 3)).tolist(), np.zeros((3, 778, 3)).tolist()]))
    assert evaluate(*arguments, "--predictions", tmp_path / "pred.json") == 0
    spread = np.mean([np.linalg.norm(np.array(x) - np.mean(x, 0), axis=1).mean() for x in xyz])
    assert numbers(tmp_path / "r.json")["PA-MPJPE"] == pytest.approx(1000 * spread, abs=0.05)
    assert numbers(tmp_path / "r.json")["MPJPE"] == pytest.approx(1000 * np.mean(np.linalg.norm(xyz, axis=-1)), abs=0.05)


def test_ho3d_predictions_are_in_opengl_axes(mano, tmp_path):
    truths = dataset_trees.write_ho3d(tmp_path / "ho", mano, "evaluation", 3, suffix="jpg")
    dataset_trees.write_ho3d_truth(tmp_path / "ho", truths)
    xyz = json.loads((tmp_path / "ho" / "evaluation_xyz.json").read_text())
    verts = json.loads((tmp_path / "ho" / "evaluation_verts.json").read_text())
    from twohands.data.loader import open_dataset

    count = len(open_dataset("ho3d", tmp_path / "ho", "evaluation"))
    (tmp_path / "pred.json").write_text(json.dumps([xyz[:count], verts[:count]]))
    arguments = ("--data", tmp_path / "ho", "--predictions", tmp_path / "pred.json", "--json", tmp_path / "r.json")
    assert evaluate("--protocol", "ho3d-v3", *arguments) == 0
    got = numbers(tmp_path / "r.json")
    assert got["MPJPE"] == pytest.approx(0.0, abs=1e-2)
    assert got["ST-MPJPE"] == pytest.approx(0.0, abs=1e-2)
    assert got["F@5"] == 1.0


# The model itself, and the synthetic benchmark


@pytest.fixture
def few_scenes(monkeypatch):
    """The benchmark cut down to three scenes that need no interacting pairs, which take seconds to make."""
    whole = synthetic.BENCHMARKS["synthetic/two-hand-1000"]
    few = replace(whole, count=3, recipe=lambda index: (synthetic._APART, 77 + index, index % 2 == 0))
    monkeypatch.setitem(synthetic.BENCHMARKS, "synthetic/two-hand-1000", few)


def test_this_model_on_the_synthetic_benchmark(few_scenes, tmp_path, capsys):
    arguments = ("--protocol", "synthetic/two-hand-1000", "--data", tmp_path / "bench", "--out", tmp_path / "out", "--no-refine")
    assert evaluate(*arguments) == 0
    first = capsys.readouterr().out
    assert "OTHER SCENES" in first or "no seal" in first  # three scenes are not the benchmark
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["samples"] == 3
    assert report["numbers"][0]["averaging"]
    for name in ("report.tex", "error_by_joint.png", "error_by_occlusion.png", "pck.png"):
        assert (tmp_path / "out" / name).stat().st_size > 500
    # Again: nothing is rendered and nothing predicted, and the numbers are the same.
    stamp = next((tmp_path / "out" / "predictions").glob("*.npz")).stat().st_mtime_ns
    assert evaluate(*arguments) == 0
    assert capsys.readouterr().out == first
    assert next((tmp_path / "out" / "predictions").glob("*.npz")).stat().st_mtime_ns == stamp
    # Its own predictions are a file like anybody's.
    judged = ("--predictions", tmp_path / "out" / "predictions", "--json", tmp_path / "again.json")
    assert evaluate("--protocol", "synthetic/two-hand-1000", "--data", tmp_path / "bench", *judged) == 0
    assert json.loads((tmp_path / "again.json").read_text())["numbers"] == report["numbers"]


def test_another_runs_predictions_are_not_mixed_in(few_scenes, tmp_path, capsys):
    arguments = ("--protocol", "synthetic/two-hand-1000", "--data", tmp_path / "bench", "--out", tmp_path / "out")
    assert evaluate(*arguments, "--no-refine", "--limit", 1) == 0
    assert evaluate(*arguments, "--limit", 1) == 2
    assert "another run's predictions" in capsys.readouterr().err


def test_this_model_on_a_data_set(interhand, mano, tmp_path):
    """With MANO, by its own detector: whatever it finds, the report says of how many hands."""
    folder, _ = interhand
    arguments = ("--protocol", "ih26m/interwild", "--data", folder, "--mano", mano, "--out", tmp_path / "out")
    assert evaluate(*arguments, "--limit", 2, "--boxes", "detector") == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["samples"] == 2
    assert 0 <= report["hands_missed"] <= report["hands"]
    assert any("--limit" in remark for remark in report["remarks"])


# What is refused


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "no protocol was named"),
        (("--protocol", "ih26m/interwold"), "no protocol is called"),
        (("--protocol", "ih26m/interwild"), "--data DIR"),
        (("--protocol", "synthetic/two-hand-1000"), "--data DIR"),
        (("--protocol", "hic/interwild", "--data", "."), "--mano DIR"),
        (("--protocol", "freihand", "--data", "not/there"), "not/there"),
        (("--protocol", "freihand", "--data", ".", "--predictions", "nobody.npz"), "nobody.npz is not there"),
    ],
)
def test_what_is_missing_is_said(arguments, said, capsys):
    assert evaluate(*arguments) == 2
    assert said in capsys.readouterr().err


def test_samples_without_a_prediction_are_not_passed_over(interhand, write_truth, capsys):
    folder, truths = interhand
    made = write_truth(truths[:5])
    arguments = ("--protocol", "ih26m/internet-h", "--data", folder, "--predictions", made)
    assert evaluate(*arguments) == 2
    assert f"1 of 6 samples have no prediction, the first is '{truths[5].id}'" in capsys.readouterr().err
    assert evaluate(*arguments, "--allow-missing") == 0
    assert "this is no number of the protocol" in capsys.readouterr().out


def test_predictions_of_other_samples_are_refused(interhand, write_truth, capsys):
    folder, truths = interhand
    made = write_truth([replace(t, id=f"image{t.id}") for t in truths])
    assert evaluate("--protocol", "ih26m/internet", "--data", folder, "--predictions", made, "--allow-missing") == 2
    assert "no prediction is of any of the 9 samples" in capsys.readouterr().err
