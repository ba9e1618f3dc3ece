"""Files are whole or not there."""

import hashlib
from pathlib import Path

import pytest

from cellshed.files import sha256, whole_file, whole_folder, write_text


def test_a_finished_file_has_its_name_and_leaves_nothing_else(tmp_path: Path) -> None:
    write_text(tmp_path / "deep" / "a.txt", "é")
    assert (tmp_path / "deep" / "a.txt").read_text("utf-8") == "é"
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["a.txt"]


def _interrupted_file(path: Path) -> None:
    with whole_file(path) as temporary:
        temporary.write_text("new")
        raise RuntimeError("cut off")


def _interrupted_folder(path: Path) -> None:
    with whole_folder(path) as temporary:
        (temporary / "a").write_text("new")
        raise RuntimeError("cut off")


def test_an_interrupted_file_leaves_the_earlier_one(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError, match="cut off"):
        _interrupted_file(path)
    assert path.read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


def test_an_interrupted_folder_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="cut off"):
        _interrupted_folder(tmp_path / "store")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_content_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "mine").write_text("x")
    with pytest.raises(ValueError, match="exists already"), whole_folder(tmp_path / "store"):
        pass
    assert (tmp_path / "store" / "mine").read_text() == "x"


def test_sha256_is_hashlibs(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"cells")
    assert sha256(tmp_path / "a") == hashlib.sha256(b"cells").hexdigest()
