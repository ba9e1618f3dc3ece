"""Fixtures that several test files use."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from cellshed.data.store import Store


def _folder(variable: str, what: str) -> Path:
    value = os.environ.get(variable, "")
    if not value:
        pytest.skip(f"{variable} is not set: it names the folder of {what}")
    path = Path(value)
    if not path.is_dir():
        pytest.fail(f"{variable}={value} is not a folder")
    return path


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep networks that are converted for other engines out of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CELLSHED_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def data() -> Path:
    """Folder of the real image sets, which may not be copied into the repository."""
    return _folder("CELLSHED_DATA", "the real image sets")


@pytest.fixture(scope="session")
def reference() -> Path:
    """Folder of inputs and outputs recorded from the reference implementation."""
    return _folder("CELLSHED_REFERENCE", "the reference's recorded inputs and outputs")


@pytest.fixture(scope="session")
def tiny_livecell(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A drawn folder laid out as LIVECell: 9 images of 128x160, all three splits."""
    from cellshed.data.synthetic import write_synthetic

    folder = tmp_path_factory.mktemp("drawn") / "livecell"
    write_synthetic(folder, images=9, seed=3, shape=(128, 160))
    return folder


@pytest.fixture(scope="session")
def tiny_store(tiny_livecell: Path, tmp_path_factory: pytest.TempPathFactory) -> "Store":
    """A store of the drawn images."""
    from cellshed.data.prepare import prepare

    return prepare(tiny_livecell, tmp_path_factory.mktemp("prepared") / "store")


@pytest.fixture(scope="session")
def tiny_model(tiny_store: "Store", tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder of the debug settings, trained for two epochs: it runs, it can't segment."""
    from cellshed.config import load_config
    from cellshed.training.loop import train

    config = load_config("debug", ["training.device=cpu"])
    return train(config, tiny_store, tmp_path_factory.mktemp("trained") / "run")
