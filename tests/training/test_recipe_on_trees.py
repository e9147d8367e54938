"""The paper's recipe from the data sets' own files to the weights of both stages: the commands of docs/TRAINING.md on small generated trees."""

import json
from pathlib import Path

from dataset_trees import WRITERS
from mano_like import write_mano
from twohands.cli import main
from twohands.refine.refiner import Refiner
from twohands.training.recipe import MIXTURE


def test_readers_shards_lessons_and_both_stages(tmp_path: Path, capsys) -> None:
    mano = write_mano(tmp_path / "mano")
    for name in MIXTURE:
        WRITERS[name](tmp_path / "trees" / name, mano)
        data = tmp_path / "data" / name
        files = ["data", "shards", name, str(tmp_path / "trees" / name), "--mano", str(mano), "--out", str(data), "--size-px", "64"]
        assert main(files) == 0
        told = capsys.readouterr().out
        made = int(told.split(" photos made")[0])
        assert made > 1
        assert f"{made} of them with parameters of each hand" in told, f"stage 1 learns parameters from every photo of {name}"
        assert main(["teach", str(data), "--teacher", "rendered", "--out", str(tmp_path / "lessons" / name)]) == 0
        assert f"{made} photos: {made} with a trusted hand" in capsys.readouterr().out
    train = ["train", "paper", "--data", str(tmp_path / "data"), "--rehearsal", "--accelerator", "cpu", "--steps", "2", "--validation", "1"]
    assert main([*train, "--lessons", str(tmp_path / "lessons"), "--out", str(tmp_path / "stage1")]) == 0
    experiment = json.loads((tmp_path / "stage1" / "config.json").read_text())["experiment"]
    assert [Path(folder).name for folder in experiment["shards"]] == list(MIXTURE)
    assert (tmp_path / "stage1" / "regressor.safetensors").is_file()
    assert main([*train, "--stage", "2", "--out", str(tmp_path / "stage2")]) == 0
    assert "4 pairs of hands in" in capsys.readouterr().err, "two of InterHand2.6M and both of Re:InterHand show pairs"
    Refiner.load(tmp_path / "stage2" / "refiner.safetensors")
    assert json.loads((tmp_path / "stage2" / "config.json").read_text())["experiment"]["training"]["parts"] == 4
