"""Caches: compiled functions find a place even where nothing of the user's can be written."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numba
import pytest

import cellshed
from cellshed.caches import NUMBA, folder_until_exit, keep_compiled, user_cache

PACKAGE = Path(cellshed.__file__).parent


@pytest.fixture
def closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A place where nobody can make folders, root neither; the user's cache lies there."""
    place = tmp_path / "closed"
    place.write_text("a file, where a folder is wanted")
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(place / "cache"))
    monkeypatch.setenv("LOCALAPPDATA", str(place / "cache"))
    monkeypatch.setenv("HOME", str(place))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.setenv(NUMBA, "")
    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    return place


def test_nothing_changes_where_the_code_s_folder_can_be_written(
    closed: Path, tmp_path: Path
) -> None:
    keep_compiled(tmp_path)
    assert not os.environ[NUMBA]


def test_nothing_changes_where_the_user_s_cache_can_be_written(
    closed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "not" / "yet"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "not" / "yet"))
    monkeypatch.setenv("HOME", str(tmp_path))
    keep_compiled(closed)
    assert not os.environ[NUMBA]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["closed", "temporary"]


def test_a_folder_that_the_user_names_stays(closed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NUMBA, "mine")
    keep_compiled(closed)
    assert os.environ[NUMBA] == "mine"


def test_a_folder_without_the_right_to_write_is_closed(
    closed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    keep_compiled(tmp_path)
    assert Path(os.environ[NUMBA]).parent == tmp_path / "temporary"


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="a folder of one's own is found by the user")
def test_the_next_process_finds_the_folder_again(
    closed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep_compiled(closed)
    first = Path(os.environ[NUMBA])
    assert first.parent == tmp_path / "temporary"
    assert first.stat().st_mode & 0o077 == 0
    assert str(first) == numba.config.CACHE_DIR  # numba is imported here, and has read its settings
    monkeypatch.setenv(NUMBA, "")
    keep_compiled(closed)
    assert os.environ[NUMBA] == str(first)
    # Anybody could have put code into it.
    first.chmod(0o777)
    monkeypatch.setenv(NUMBA, "")
    keep_compiled(closed)
    assert os.environ[NUMBA] != str(first)


def test_nothing_stops_where_nothing_at_all_can_be_written(
    closed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(closed))
    keep_compiled(closed)
    assert not os.environ[NUMBA]


@pytest.mark.skipif(sys.platform == "win32", reason="its user cache has a variable of its own")
def test_a_user_without_a_home_has_no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", nowhere)
    with pytest.raises(OSError, match="no home folder"):
        user_cache()


def test_compiled_functions_work_where_neither_place_can_be_written(
    closed: Path, tmp_path: Path
) -> None:
    code = tmp_path / "code" / "cellshed"
    code.mkdir(parents=True)
    for file in PACKAGE.rglob("*.py"):
        target = code / file.relative_to(PACKAGE)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, target)
        (target.parent / "__pycache__").touch()  # a file, so that no folder can be made
    environment = os.environ | {
        "PYTHONPATH": str(tmp_path / "code"),
        "TMPDIR": str(tmp_path / "temporary"),
    }
    command = (
        "import numpy, cellshed.regions;"
        f"assert cellshed.__file__.startswith({str(tmp_path)!r});"
        "print(cellshed.regions.connected_components(numpy.eye(3, dtype=int)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", command], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "temporary").rglob("*.nbi"))


def test_a_folder_for_this_process_goes_with_it(tmp_path: Path) -> None:
    command = (
        "from cellshed.caches import folder_until_exit;"
        "folder = folder_until_exit(); (folder / 'file').touch(); print(folder)"
    )
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True)
    assert done.stdout.strip()
    assert not Path(done.stdout.strip()).exists()
    assert folder_until_exit().is_dir()
