"""MANO-shaped files for the readers' tests, made once."""

from pathlib import Path

import pytest

from mano_like import write_mano


@pytest.fixture(scope="session")
def mano(tmp_path_factory) -> Path:
    return write_mano(tmp_path_factory.mktemp("mano"))
