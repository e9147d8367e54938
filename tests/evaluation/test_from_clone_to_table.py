"""docs/EVALUATION.md, "From a clone to the table": the commands as they stand there, on a generated tree in the place of the licensed data."""

import json
import re
import shlex
from pathlib import Path

import pytest

import dataset_trees
from twohands.cli import main

DOCUMENT = Path(__file__).parents[2] / "docs" / "EVALUATION.md"


def commands() -> list[list[str]]:
    """The words of each line of the section's block, comments left out."""
    section = DOCUMENT.read_text(encoding="utf-8").split("## From a clone to the table\n")[1].split("\n## ")[0]
    lines = [line.strip() for line in section.splitlines() if line.startswith("    ")]
    return [shlex.split(line, comments=True) for line in lines]


@pytest.fixture(scope="module")
def written(tmp_path_factory, mano) -> dict[str, str]:
    """Where the files lie that the document's paths stand for."""
    folder = tmp_path_factory.mktemp("clone")
    truths = dataset_trees.write_interhand26m(folder / "data", mano, "test", 3)
    (folder / "data" / "aid_human_annot_test.txt").write_text("".join(f"{truth.id}\n" for truth in truths))
    return {"/data/InterHand2.6M": str(folder / "data"), "/data/mano": str(mano), "out": str(folder / "out")}


def test_the_commands_of_the_document_end_in_the_tables(written, capsys):
    first, second, *ours = commands()
    assert first[:2] == ["git", "clone"]
    assert "-e" in second, "installs the clone"
    told = []
    for words in ours:
        assert words[0] == ".venv/bin/twohands"
        placed = [re.sub(r"^(/data/InterHand2.6M|/data/mano|out)(?=/|$)", lambda m: written[m.group(1)], word) for word in words[1:]]
        if placed[:2] == ["data", "check"]:
            placed += ["--out", f"{written['out']}/data"]  # by default below the folder where one stands
        assert main(placed) == 0, " ".join(placed)
        told.append(capsys.readouterr().out)
    check, interwild, intaghand, fits = told
    assert "test: 3 annotations; the pictures are there" in check
    assert interwild.startswith("protocol ih26m/interwild\n")
    assert "MPJPE-SH" in interwild
    assert "root middle MCP; scale" in intaghand
    assert "predictions: the fits of interhand26m" in fits
    for name, protocol in (("interwild", "ih26m/interwild"), ("intaghand", "ih26m/intaghand")):
        folder = Path(written["out"]) / name
        report = json.loads((folder / "report.json").read_text())
        assert (report["protocol"], report["samples"]) == (protocol, 3 if name == "interwild" else 1)
        assert "\\toprule" in (folder / "report.tex").read_text()
        assert {path.name for path in folder.glob("*.png")} <= {"error_by_joint.png", "error_by_occlusion.png", "pck.png"}
