"""The teacher's file comes whole, known and with its licence, or not at all."""

import hashlib
import subprocess
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from twohands.errors import UserError
from twohands.priors import install
from twohands.priors.install import LANDMARK, LICENSE_IN_WHEEL, PALM, WheelFile, install_networks, teachers_folder

NETWORK, OTHER = b"a very small network", b"another"


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    path = tmp_path / "mediapipe-0.10.21-cp311-cp311-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(LANDMARK.in_wheel, NETWORK)
        archive.writestr(PALM.in_wheel, OTHER)
        archive.writestr(LICENSE_IN_WHEEL, "the licence's words")
    return path


@pytest.fixture
def known() -> tuple[WheelFile, WheelFile]:
    """Both files as the wheel of these tests holds them."""
    return replace(LANDMARK, sha256=hashlib.sha256(NETWORK).hexdigest()), replace(PALM, sha256=hashlib.sha256(OTHER).hexdigest())


def test_a_known_wheel_gives_the_network_and_its_licence(wheel: Path, known: tuple[WheelFile, WheelFile], tmp_path: Path):
    folder = tmp_path / "new" / "teachers"
    path = install_networks(folder, wheel, known[:1])[0]
    assert path.read_bytes() == NETWORK
    assert "the licence's words" in (folder / LANDMARK.notice).read_text()
    assert {p.name for p in folder.iterdir()} == {LANDMARK.name, LANDMARK.notice}
    wheel.unlink()
    assert install_networks(folder, wheel, known[:1])[0] == path, "what is there and whole needs no wheel"


def test_several_networks_come_out_of_one_wheel(wheel: Path, known: tuple[WheelFile, WheelFile], tmp_path: Path):
    assert [p.read_bytes() for p in install_networks(tmp_path / "teachers", wheel, known)] == [NETWORK, OTHER]


def test_a_damaged_file_is_replaced(wheel: Path, known: tuple[WheelFile, WheelFile], tmp_path: Path):
    folder = tmp_path / "teachers"
    install_networks(folder, wheel, known[:1])[0].write_bytes(NETWORK[:5])
    assert install_networks(folder, wheel, known[:1])[0].read_bytes() == NETWORK


def test_another_network_or_no_wheel_is_refused_and_leaves_nothing(wheel: Path, tmp_path: Path):
    folder = tmp_path / "teachers"
    with pytest.raises(UserError, match="sha256"):
        install_networks(folder, wheel)
    wheel.write_bytes(b"not a zip archive")
    with pytest.raises(UserError, match="is not a mediapipe"):
        install_networks(folder, wheel)
    with pytest.raises(UserError, match="there is no wheel"):
        install_networks(folder, tmp_path / "absent.whl")
    assert not folder.exists()


def test_a_folder_that_cannot_be_written_is_named(wheel: Path, known: tuple[WheelFile, WheelFile], tmp_path: Path):
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(UserError, match="TWOHANDS_HOME"):
        install_networks(tmp_path / "taken", wheel, known[:1])


def test_pip_is_asked_for_a_wheel_platform_by_platform(
    wheel: Path, known: tuple[WheelFile, WheelFile], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    asked: list[list[str]] = []

    def pip(command: list[str], **_: object) -> subprocess.CompletedProcess:
        asked.append(command)
        if len(asked) < 2:
            return subprocess.CompletedProcess(command, 1, "", "ERROR: No matching distribution found")
        scratch = Path(command[command.index("--dest") + 1])
        (scratch / wheel.name).write_bytes(wheel.read_bytes())
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", pip)
    assert install_networks(tmp_path / "teachers", files=known[:1])[0].read_bytes() == NETWORK
    assert len(asked) == 2
    assert all("mediapipe==0.10.21" in command for command in asked)


def test_no_network_and_no_pip_name_the_way_round(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, 1, "", "x\nERROR: no route"))
    with pytest.raises(UserError, match=r"no route.*--wheel"):
        install_networks(tmp_path / "teachers")
    monkeypatch.setattr(install.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(UserError, match="ensurepip"):
        install_networks(tmp_path / "teachers")
    assert not (tmp_path / "teachers").exists()


def test_the_folder_follows_twohands_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TWOHANDS_HOME", str(tmp_path))
    assert teachers_folder() == tmp_path / "teachers"
    monkeypatch.delenv("TWOHANDS_HOME")
    assert teachers_folder().parts[-2:] == ("twohands", "teachers")
