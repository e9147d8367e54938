"""README.md keeps its word: its commands and its Python run, in order, in one empty folder that holds your.jpg."""

import os
import pkgutil
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "src" / "twohands" / "example" / "two_hands.jpg"


@dataclass(frozen=True)
class Block:
    """A fenced block of README.md and the comment on the line before it."""

    mark: str
    language: str
    code: str


def blocks() -> list[Block]:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return [Block(*(part or "" for part in found)) for found in re.findall(r"(?:<!-- ([^\n]*?) -->\n)?```(\w+)\n(.*?)```", text, re.DOTALL)]


RUNNABLE = [block for block in blocks() if block.mark == "run"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("readme")
    shutil.copy(EXAMPLE, folder / "your.jpg")
    return folder


@pytest.mark.parametrize("block", RUNNABLE, ids=[block.code.split("\n")[0][:40] for block in RUNNABLE])
def test_blocks_run(block, folder):
    command = [sys.executable, "-c", block.code] if block.language == "python" else ["bash", "-euo", "pipefail", "-c", block.code]
    environment = os.environ | {"PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_promised_files_are_there(folder):
    """After the blocks above: pytest keeps the order of a file."""
    names = ("your.overlay.png", "your.glb", "your.npz", "predictions.json")
    if not (folder / "out").is_dir():
        pytest.skip("the blocks that write them were not chosen to run")
    assert [name for name in names if not (folder / "out" / name).is_file()] == []


def test_every_command_runs_or_says_why_not():
    silent = [block.code for block in blocks() if block.mark != "run" and not block.mark.startswith("not run: ")]
    assert [code for code in silent if not all(line.startswith("make ") for line in code.strip().split("\n"))] == []


def test_links_lead_somewhere():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    targets = re.findall(r"\]\(([^)#]+)\)", text)
    assert [target for target in targets if "://" not in target and not (ROOT / target).exists()] == []


@pytest.mark.parametrize("path", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda path: path.name)
def test_nothing_is_left_to_fill_in(path):
    assert re.findall(r"FILL|TODO|TBD", path.read_text(encoding="utf-8")) == []


def test_names_in_the_method_exist():
    text = (ROOT / "docs" / "METHOD.md").read_text(encoding="utf-8")
    names = set(re.findall(r"`([a-z_]+(?:\.\w+)+)`", text))
    missing = []
    for name in sorted(names):
        try:
            pkgutil.resolve_name(f"twohands.{name}")
        except (ImportError, AttributeError):
            missing.append(name)
    assert missing == []
