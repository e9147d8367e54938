"""Gets the light teacher's file out of the MediaPipe wheel (Apache-2.0) without installing MediaPipe, and says where teachers live."""

import hashlib
import importlib.util
import os
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from twohands.errors import UserError

MEDIAPIPE_VERSION = "0.10.21"


@dataclass(frozen=True)
class WheelFile:
    """One network of the wheel."""

    name: str
    what: str
    in_wheel: str
    sha256: str

    @property
    def notice(self) -> str:
        """Name of the licence notice that lies beside it."""
        return f"{self.name.removesuffix('.tflite')}.NOTICE.txt"


LANDMARK_FILE = "hand_landmark_full.tflite"
LANDMARK = WheelFile(
    LANDMARK_FILE,
    "hand landmark network",
    f"mediapipe/modules/hand_landmark/{LANDMARK_FILE}",
    "11c272b891e1a99ab034208e23937a8008388cf11ed2a9d776ed3d01d0ba00e3",
)
"""The light teacher; stage 1's trunk begins with its numbers too."""
PALM = WheelFile(
    "palm_detection_full.tflite",
    "palm detection network",
    "mediapipe/modules/palm_detection/palm_detection_full.tflite",
    "1b14e9422c6ad006cde6581a46c8b90dd573c07ab7f3934b5589e7cea3f89a54",
)
"""The detector's trunk begins with its numbers; needed for training only."""
LICENSE_IN_WHEEL = f"mediapipe-{MEDIAPIPE_VERSION}.dist-info/LICENSE"

# The network inside is the same in each, so any of these wheels will do on any machine.
WHEEL_PLATFORMS = ("manylinux_2_28_x86_64", "macosx_11_0_universal2", "win_amd64")

NOTICE = """{file.name} is the {file.what} of MediaPipe {version}, copyright The MediaPipe Authors, unchanged,
as found in that version's Python wheel at {file.in_wheel}.
sha256 {file.sha256}
It is licensed under the Apache License, Version 2.0, which follows.

"""


def teachers_folder() -> Path:
    """Where teachers' files live: `teachers` in $TWOHANDS_HOME if that is set, else in this platform's folder for user data."""
    home = os.environ.get("TWOHANDS_HOME")
    if home:
        return Path(home).expanduser() / "teachers"
    if sys.platform == "win32":
        data = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        data = Path.home() / "Library" / "Application Support"
    else:
        data = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    return data / "twohands" / "teachers"


def install_networks(folder: Path | None = None, wheel: Path | None = None, files: tuple[WheelFile, ...] = (LANDMARK,)) -> list[Path]:
    """Puts networks and their licence notices into `folder` (default: teachers_folder()); returns their paths.

    `wheel` is a mediapipe 0.10.21 wheel already at hand; without it pip fetches one from wherever this machine's pip looks. Files that
    are already there and whole are left alone. UserError if no wheel can be had or a network is not the known one; nothing is
    then written."""
    folder = teachers_folder() if folder is None else folder
    missing = [file for file in files if not _is_whole(folder, file)]
    if missing:
        if wheel is not None:
            networks, licence = _read_wheel(wheel, missing)
        else:
            with tempfile.TemporaryDirectory() as scratch:
                networks, licence = _read_wheel(_download_wheel(Path(scratch)), missing)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for file, network in zip(missing, networks, strict=True):
                # The notice first: the network never lies there without its licence.
                _write_whole(folder / file.notice, NOTICE.format(file=file, version=MEDIAPIPE_VERSION).encode() + licence)
                _write_whole(folder / file.name, network)
        except OSError as error:
            raise UserError(f"cannot write into {folder} ({error.strerror}); set TWOHANDS_HOME to a folder you may write to") from error
    return [folder / file.name for file in files]


def _is_whole(folder: Path, file: WheelFile) -> bool:
    path = folder / file.name
    return path.is_file() and (folder / file.notice).is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == file.sha256


def _read_wheel(wheel: Path, files: list[WheelFile]) -> tuple[list[bytes], bytes]:
    """The networks and the licence text of a wheel, each network checked against its known hash."""
    remedy = f"give the mediapipe {MEDIAPIPE_VERSION} wheel, or none to let pip fetch it"
    if not wheel.is_file():
        raise UserError(f"there is no wheel at {wheel}; {remedy}")
    try:
        with zipfile.ZipFile(wheel) as archive:
            networks, licence = [archive.read(file.in_wheel) for file in files], archive.read(LICENSE_IN_WHEEL)
    except (zipfile.BadZipFile, KeyError) as error:
        raise UserError(f"{wheel.name} is not a mediapipe {MEDIAPIPE_VERSION} wheel ({error}); {remedy}") from error
    for file, network in zip(files, networks, strict=True):
        found = hashlib.sha256(network).hexdigest()
        if found != file.sha256:
            raise UserError(f"{file.in_wheel} in {wheel.name} has sha256 {found}, not the known {file.sha256}; {remedy}")
    return networks, licence


def _download_wheel(scratch: Path) -> Path:
    """Has pip fetch the wheel into `scratch`, for the first platform for which it finds one."""
    by_hand = f"get the mediapipe {MEDIAPIPE_VERSION} wheel by other means and run `twohands teachers install --wheel PATH`"
    if importlib.util.find_spec("pip") is None:
        raise UserError(f"this Python has no pip to fetch mediapipe {MEDIAPIPE_VERSION} with; run `python -m ensurepip`, or {by_hand}")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--retries=1", "--no-deps"]
    # Python 3.11 whatever this one is: the wheel is unpacked, not installed.
    command += ["--only-binary=:all:", "--python-version=3.11", "--implementation=cp"]
    complaint = ""
    for platform in WHEEL_PLATFORMS:
        wanted = [f"--platform={platform}", f"mediapipe=={MEDIAPIPE_VERSION}"]
        done = subprocess.run([*command, "--dest", str(scratch), *wanted], capture_output=True, text=True, check=False)
        wheels = sorted(scratch.glob("mediapipe-*.whl"))
        if done.returncode == 0 and wheels:
            return wheels[0]
        complaint = done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"pip ended with {done.returncode}"
    raise UserError(f"pip could not fetch mediapipe {MEDIAPIPE_VERSION} ({complaint}); check the network, or {by_hand}")


def _write_whole(path: Path, content: bytes) -> None:
    """Writes beside and renames, so that a reader or an interruption never meets half a file."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    beside = Path(name)
    try:
        with os.fdopen(handle, "wb") as out:
            out.write(content)
        beside.chmod(0o644)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
