"""Fixtures that several test files use."""

import os
from pathlib import Path

import pytest


def _folder(variable: str, what: str) -> Path:
    value = os.environ.get(variable, "")
    if not value:
        pytest.skip(f"{variable} is not set: it names the folder of {what}")
    path = Path(value)
    if not path.is_dir():
        pytest.fail(f"{variable}={value} is not a folder")
    return path


@pytest.fixture(scope="session")
def data() -> Path:
    """Folder of the real image sets, which may not be copied into the repository."""
    return _folder("CELLSHED_DATA", "the real image sets")


@pytest.fixture(scope="session")
def reference() -> Path:
    """Folder of inputs and outputs recorded from the reference implementation."""
    return _folder("CELLSHED_REFERENCE", "the reference's recorded inputs and outputs")
