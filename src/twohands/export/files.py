"""What all writers share: sides, axes, rounding, and files that are never seen half written."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

SIDES = ("left", "right")
GLTF_FROM_CAMERA = (1.0, -1.0, -1.0)
"""Multiplies x, y, z of the OpenCV camera frame to give glTF's axes; its own inverse."""
FORMAT_VERSION = 1


@contextmanager
def beside(path: Path) -> Iterator[Path]:
    """A place beside `path` to write to; it takes the name of `path` once all is written, and vanishes if that fails."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def rounded(array: np.ndarray, digits: int) -> Any:
    """As lists, for JSON."""
    return np.round(array.astype(np.float64), digits).tolist()
