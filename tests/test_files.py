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


def _fill(path: Path) -> None:
    with whole_folder(path) as temporary:
        (temporary / "a").write_text("new")


@pytest.mark.parametrize("target_exists", [True, False])
def test_a_link_to_a_folder_is_followed(tmp_path: Path, target_exists: bool) -> None:
    target = tmp_path / "disk" / "store"
    if target_exists:
        target.mkdir(parents=True)
    (tmp_path / "link").symlink_to(target)
    _fill(tmp_path / "link")
    assert (target / "a").read_text() == (tmp_path / "link" / "a").read_text() == "new"
    assert [p.name for p in target.parent.iterdir()] == ["store"]


def test_an_empty_folder_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    _fill(tmp_path / "store")
    assert [p.name for p in tmp_path.rglob("*")] == ["store", "a"]


def test_the_current_folder_is_refused_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="is the folder you are in: choose"), whole_folder("."):
        pytest.fail("work has begun")
    assert tmp_path.is_dir()


def test_a_mounted_folder_is_refused_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy(_: Path) -> None:
        raise OSError(16, "Device or resource busy")

    (tmp_path / "mount").mkdir()
    monkeypatch.setattr(Path, "rmdir", busy)
    with (
        pytest.raises(ValueError, match=r"can't be replaced \(Device or resource busy\): choose"),
        whole_folder(tmp_path / "mount"),
    ):
        pytest.fail("work has begun")


def test_sha256_is_hashlibs(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"cells")
    assert sha256(tmp_path / "a") == hashlib.sha256(b"cells").hexdigest()
