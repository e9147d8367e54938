"""Gets the light teacher's file out of the MediaPipe wheel (Apache-2.0) without installing MediaPipe, and says where teachers live."""

import hashlib
import importlib.util
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from twohands.errors import UserError

MEDIAPIPE_VERSION = "0.10.21"
LANDMARK_FILE = "hand_landmark_full.tflite"
LANDMARK_SHA256 = "11c272b891e1a99ab034208e23937a8008388cf11ed2a9d776ed3d01d0ba00e3"
NOTICE_FILE = "hand_landmark_full.NOTICE.txt"
FILE_IN_WHEEL = f"mediapipe/modules/hand_landmark/{LANDMARK_FILE}"
LICENSE_IN_WHEEL = f"mediapipe-{MEDIAPIPE_VERSION}.dist-info/LICENSE"

# The network inside is the same in each, so any of these wheels will do on any machine.
WHEEL_PLATFORMS = ("manylinux_2_28_x86_64", "macosx_11_0_universal2", "win_amd64")

NOTICE = f"""{LANDMARK_FILE} is the hand landmark network of MediaPipe {MEDIAPIPE_VERSION}, copyright The MediaPipe Authors, unchanged,
as found in that version's Python wheel at {FILE_IN_WHEEL}.
sha256 {LANDMARK_SHA256}
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


def install_landmark_teacher(folder: Path | None = None, wheel: Path | None = None) -> Path:
    """Puts `hand_landmark_full.tflite` and its licence notice into `folder` (default: teachers_folder()); returns the file's path.

    `wheel` is a mediapipe 0.10.21 wheel already at hand; without it pip fetches one from wherever this machine's pip looks. A file
    that is already there and whole is left alone. UserError if no wheel can be had or its network is not the known one; nothing is
    then written."""
    folder = teachers_folder() if folder is None else folder
    target = folder / LANDMARK_FILE
    notice = folder / NOTICE_FILE
    if target.is_file() and notice.is_file() and hashlib.sha256(target.read_bytes()).hexdigest() == LANDMARK_SHA256:
        return target
    if wheel is not None:
        network, licence = _read_wheel(wheel)
    else:
        with tempfile.TemporaryDirectory() as scratch:
            network, licence = _read_wheel(_download_wheel(Path(scratch)))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # The notice first: the network never lies there without its licence.
        _write_whole(notice, NOTICE.encode() + licence)
        _write_whole(target, network)
    except OSError as error:
        raise UserError(f"cannot write into {folder} ({error.strerror}); set TWOHANDS_HOME to a folder you may write to") from error
    return target


def _read_wheel(wheel: Path) -> tuple[bytes, bytes]:
    """The network and the licence text of a wheel, the network checked against its known hash."""
    remedy = f"give the mediapipe {MEDIAPIPE_VERSION} wheel, or none to let pip fetch it"
    if not wheel.is_file():
        raise UserError(f"there is no wheel at {wheel}; {remedy}")
    try:
        with zipfile.ZipFile(wheel) as archive:
            network, licence = archive.read(FILE_IN_WHEEL), archive.read(LICENSE_IN_WHEEL)
    except (zipfile.BadZipFile, KeyError) as error:
        raise UserError(f"{wheel.name} is not a mediapipe {MEDIAPIPE_VERSION} wheel ({error}); {remedy}") from error
    found = hashlib.sha256(network).hexdigest()
    if found != LANDMARK_SHA256:
        raise UserError(f"{FILE_IN_WHEEL} in {wheel.name} has sha256 {found}, not the known {LANDMARK_SHA256}; {remedy}")
    return network, licence


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
