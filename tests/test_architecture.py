"""The promises of the code base as a whole: what no file may do, who may import whom, what ships."""

import ast
import re
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "twohands"
MODULES = sorted(PACKAGE.rglob("*.py"))
SCRIPTS = sorted(path for folder in ("tools", "benchmarks", "examples") for path in (ROOT / folder).rglob("*.py"))
SPEAKS = set((PACKAGE / "cli").glob("*.py"))  # prints for its user; scripts do too
MIB = 1024**2

IO_CALLS = {"open", "load", "read_text", "read_bytes", "write_text", "write_bytes", "mkdir", "makedirs", "savez", "urlopen", "run", "Popen"}


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def dotted(node: ast.AST) -> str:
    """`a.b.c` of an attribute chain, with "" for what is no plain name."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def at_import(tree: ast.AST) -> Iterator[ast.AST]:
    """The nodes that run when the module is imported: all but the bodies of functions and what only a script runs."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and "__name__" in ast.dump(node.test):
            continue
        yield node
        yield from at_import(node)


def offences(path: Path) -> Iterator[str]:
    """What the file does that no file here may do, one line each."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        where = f"{name_of(path)}:{getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.Attribute) and dotted(node) == "sys.path":
            yield f"{where} touches sys.path; install the package instead"
        if isinstance(node, ast.Subscript) and dotted(node.value) == "os.environ" and not isinstance(node.ctx, ast.Load):
            yield f"{where} writes os.environ; pass a setting instead"
        if isinstance(node, ast.ImportFrom) and any(alias.name == "*" for alias in node.names):
            yield f"{where} imports *; name what is needed"
        if isinstance(node, ast.FunctionDef) and node.args.kwarg is not None and path in MODULES:
            yield f"{where} swallows **{node.args.kwarg.arg}; name the parameters"
        if isinstance(node, ast.Call):
            called = dotted(node.func)
            if called in ("os.environ.update", "os.environ.setdefault", "os.environ.pop", "os.putenv", "os.unsetenv"):
                yield f"{where} writes os.environ; pass a setting instead"
            words = {word.arg: getattr(word.value, "value", None) for word in node.keywords}
            if called in ("pickle.load", "pickle.loads") or (called == "torch.load" and words.get("weights_only") is not True):
                yield f"{where} unpickles; a pickle can run any code"
            if words.get("allow_pickle", False) is not False:
                yield f"{where} allows pickles in arrays; a pickle can run any code"
            if called.endswith(".cuda"):
                yield f"{where} calls .cuda(); use .to(device)"
            if called == "print" and path in MODULES and path not in SPEAKS:
                yield f"{where} prints; only the command line speaks"
    for node in at_import(tree):
        if isinstance(node, ast.Call) and dotted(node.func).rpartition(".")[2] in IO_CALLS:
            yield f"{name_of(path)}:{node.lineno} reads or writes when it is imported; do it in a function"


def test_no_file_does_what_none_may():
    assert [line for path in (*MODULES, *SCRIPTS) for line in offences(path)] == []


@pytest.mark.parametrize(
    "line",
    [
        "import sys; sys.path.append('x')",
        "import os; os.environ['A'] = 'b'",
        "import os; os.environ.setdefault('A', 'b')",
        "from os import *",
        "def f(**kwargs): pass",
        "import pickle; f = lambda x: pickle.load(x)",
        "import torch; f = lambda x: torch.load(x)",
        "import numpy as np; f = lambda x: np.load(x, allow_pickle=True)",
        "f = lambda x: x.cuda()",
        "print('hello')",
        "text = open('x').read()",
        "class A:\n    data = np.load('x')",
    ],
)
def test_the_check_sees_what_it_looks_for(line, tmp_path, monkeypatch):
    path = tmp_path / "module.py"
    path.write_text(line)
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    monkeypatch.setitem(globals(), "MODULES", [path])
    assert list(offences(path))


def test_no_file_is_named_after_nothing():
    vague = {"utils.py", "util.py", "misc.py", "common.py", "helpers.py", "helper.py"}
    assert [name_of(path) for path in (*MODULES, *SCRIPTS) if path.name in vague] == []


def test_every_module_says_what_it_is():
    assert [name_of(path) for path in (*MODULES, *SCRIPTS) if not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))] == []


def test_no_file_knows_the_machine_it_was_written_on():
    # Put together here, so that this file does not find itself.
    machine = re.compile(r"(?<![\w.$}~])/(?:" + "|".join(("work", "home", "root", "tmp", "opt", "mnt", "Users")) + r")/\w")
    texts = [
        path
        for folder in ("src", "tests", "tools", "benchmarks", "examples", "docs", ".ci")
        for path in sorted((ROOT / folder).rglob("*"))
        if path.suffix in ("", ".py", ".md", ".txt", ".toml", ".json") and path.is_file() and ".egg-info" not in str(path)
    ]
    texts += [ROOT / name for name in ("README.md", "Makefile", "pyproject.toml", "constraints.txt")]
    found = [f"{name_of(path)}: {match.group()}" for path in texts for match in machine.finditer(path.read_text(encoding="utf-8"))]
    assert found == []


def test_the_installed_version_is_the_one_in_pyproject():
    written = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)
    assert written is not None
    assert metadata.version("twohands") == written.group(1)


def test_imports_keep_to_the_layers(monkeypatch, capsys):
    lint_imports = pytest.importorskip("importlinter.cli", reason="import-linter is not installed").lint_imports
    monkeypatch.chdir(ROOT)  # it reads pyproject.toml where it stands
    code = lint_imports(no_cache=True)
    assert code == 0, capsys.readouterr().out


def test_importing_the_package_is_quick_and_draws_in_no_trainer():
    """A fresh interpreter, since this one has imported everything by now."""
    import subprocess
    import sys

    heavy = ["lightning", "smplx", "ai_edge_litert", "mediapipe", "matplotlib"]
    code = f"import sys, twohands; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


def test_weights_are_small_and_each_has_its_card():
    weights = sorted((PACKAGE / "weights").glob("*.safetensors"))
    assert [name_of(path) for path in weights if path.stat().st_size > 16 * MIB] == []
    assert sum(path.stat().st_size for path in weights) <= 60 * 1000**2
    assert [name_of(path) for path in weights if not path.with_suffix(".md").is_file()] == []


def test_nothing_large_ships():
    shipped = [path for path in PACKAGE.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert [name_of(path) for path in shipped if path.stat().st_size > 16 * MIB] == []
