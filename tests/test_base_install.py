"""What the base install does without any extra: its commands run, and each of the others says which extra it needs."""

import ast
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from twohands.errors import UserError, from_extra

ROOT = Path(__file__).parents[1]
EXTRAS = (
    "scipy",
    "igl",
    "lightning",
    "av",
    "viser",
    "pyarrow",
    "ray",
    "matplotlib",
    "onnx",
    "onnxruntime",
    "openvino",
    "ai_edge_litert",
    "roma",
)
NPZ = "demo/two_hands.npz"
WORKS = (
    "demo --out demo",
    f"refine {NPZ}",
    f"export {NPZ} --to glb,bvh,npz,json,csv,obj,ply,mesh-glb --out exported",
    "photo photo.jpg --out photos --style touch --no-refine",
    "report photos",
    "evaluate --list",
    "data list",
)
NEEDS = {
    "synth --out shards --count 1": "synth",
    "evaluate --protocol synthetic/two-hand-1000 --data data --out judged": "synth",
    "data shards freihand photos --out shards": "synth",
    "video clip.mp4 --out film": "video",
    f"view {NPZ}": "view",
    "bench": "synth,video",
    "batch photos --out corpus": "batch",
    "onnx --out onnx": "onnx",
    "train regressor --shards a --mixture 1 --out run": "train",
    "train detector --shards a --mixture 1 --out run": "train",
    "train refiner --out run": "train",
    "train paper --data data --out run": "train",
}
# None in sys.modules makes an import fail, as if the package were not there.
RUN = """
import contextlib, io, json, sys
sys.modules.update(dict.fromkeys(json.loads(sys.argv[1])))
from twohands.cli import main
for command in json.loads(sys.argv[2]):
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        code = main(command.split())
    print(json.dumps([command, code, said.getvalue()]), file=sys.__stdout__)
"""


@pytest.fixture(scope="module")
def outcome(tmp_path_factory) -> dict[str, tuple[int, str]]:
    """Exit code and messages of every command, in one new interpreter that finds none of the extras' packages."""
    folder = tmp_path_factory.mktemp("base")
    shutil.copy(ROOT / "src" / "twohands" / "example" / "two_hands.jpg", folder / "photo.jpg")
    (folder / "clip.mp4").write_bytes(b"a film")
    (folder / "photos").mkdir()
    arguments = [json.dumps(EXTRAS), json.dumps([*WORKS, *NEEDS])]
    done = subprocess.run([sys.executable, "-c", RUN, *arguments], cwd=folder, stdout=subprocess.PIPE, text=True, check=True)
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('["')]
    found = {command: (code, said) for command, code, said in lines}
    found["files"] = (0, " ".join(sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))))
    return found


@pytest.mark.parametrize("command", WORKS)
def test_base_commands_need_no_extra(outcome, command):
    code, said = outcome[command]
    assert code == 0, said
    # Libraries that miss a package fall back on something slower, and say so in a traceback.
    assert "Traceback" not in said
    assert "falling back" not in said


def test_base_commands_leave_their_files(outcome):
    files = outcome["files"][1].split()
    assert {"demo/two_hands.glb", "demo/two_hands.refined.npz", "photos/photo.overlay.png", "photos/report.html"} <= set(files)
    assert {Path(file).suffix for file in files if file.startswith("exported/")} == {
        ".glb",
        ".bvh",
        ".npz",
        ".json",
        ".csv",
        ".obj",
        ".ply",
    }


@pytest.mark.parametrize(("command", "extra"), NEEDS.items())
def test_other_commands_name_their_extra(outcome, command, extra):
    code, said = outcome[command]
    assert code == 2
    (line,) = [line for line in said.splitlines() if line.startswith("twohands: ")]
    assert f"pip install 'twohands[{extra}]'" in line


def test_scipy_is_imported_only_where_its_absence_is_named():
    """Such as within functions that no command above reaches: the fit of spheres to MANO, its sparse matrices."""
    bare = []
    for path in sorted((ROOT / "src" / "twohands").rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        guarded = [block for block in ast.walk(tree) if isinstance(block, ast.With) and "from_extra" in ast.dump(block.items[0])]
        named = {id(node) for block in guarded for node in ast.walk(block)}
        for node in ast.walk(tree):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            modules += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if {"scipy", "igl"} & {module.partition(".")[0] for module in modules} and id(node) not in named:
                bare.append(f"{path.name}:{node.lineno}")
    assert bare == []


def test_what_is_no_failed_import_passes_through():
    with pytest.raises(KeyError), from_extra("view", "the viewer"):
        raise KeyError("another mistake")
    with (
        pytest.raises(UserError, match=r"the viewer needs the extra 'view' .*; run pip install 'twohands\[view\]'"),
        from_extra("view", "the viewer"),
    ):
        import twohands.no_such_module  # noqa: F401


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
@pytest.mark.parametrize("has_packages", [True, False])
def test_make_takes_from_the_environment_what_python_never_opens(tmp_path, has_packages):
    shutil.copy(ROOT / "Makefile", tmp_path)
    for name in ("pyproject.toml", "constraints.txt", ".venv/bin/python"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    packages = tmp_path / ".venv" / "lib" / "python3.11" / "site-packages"
    kept = {
        "torch/bin/torch_shm_manager",
        "torch/lib/libtorch.so",
        "torch/testing/a.py",
        "numba/core/a.py",
        "numpy/testing/a.py",
        "other/tests/a.py",
    }
    taken = {"torch/test/cpp/a", "torch/include/ATen/a.h", "torch/bin/protoc", "numba/tests/a.py", "numpy/lib/tests/data/a"}
    for name in kept | taken if has_packages else ():
        (packages / name).parent.mkdir(parents=True, exist_ok=True)
        (packages / name).touch()
    subprocess.run(["make", ".venv/installed-demo"], cwd=tmp_path, check=True, capture_output=True)
    left = {str(path.relative_to(packages)) for path in packages.rglob("*") if path.is_file()}
    assert left == (kept if has_packages else set())
    assert (tmp_path / ".venv" / "installed-demo").is_file()
