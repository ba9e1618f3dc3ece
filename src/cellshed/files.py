"""Files that are written whole or not at all, and their fingerprints."""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success rename it, on failure delete it."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: str | Path) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; on success rename it, on failure delete it.

    A symbolic link is followed. An empty folder at `path` is removed first, so that what can't
    be replaced is told at once.

    Raises:
        ValueError: `path` exists and is not an empty folder, or one that can't be removed.
    """
    path = Path(path).resolve()
    if path.exists():
        _remove_empty(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent))
    try:
        yield temporary
        temporary.chmod(0o755)
        temporary.replace(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _remove_empty(path: Path) -> None:
    if not path.is_dir() or any(path.iterdir()):
        raise ValueError(f"{path} exists already: remove it, or choose another name")
    remedy = "choose a new name in it"
    if path == Path.cwd():  # relative paths would lead nowhere after it
        raise ValueError(f"{path} is the folder you are in: {remedy}")
    try:
        path.rmdir()
    except OSError as error:  # a mounted folder, or one in use
        raise ValueError(f"{path} can't be replaced ({error.strerror}): {remedy}") from error


def write_text(path: str | Path, text: str) -> None:
    """Write UTF-8 text, whole or not at all."""
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def sha256(path: str | Path) -> str:
    """Return the SHA-256 of a file's bytes as 64 hexadecimal digits."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
