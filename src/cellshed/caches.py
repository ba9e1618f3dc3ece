"""Where what is made once is kept: the user's cache, and a place for compiled functions."""

import os
import sys
from contextlib import suppress
from pathlib import Path

NUMBA = "NUMBA_CACHE_DIR"


def user_cache() -> Path:
    """Return the system's own place for the caches of this user's programs.

    Raises:
        OSError: the user has no home folder.
    """
    variable, *inside = {
        "win32": ("LOCALAPPDATA", "AppData", "Local"),
        "darwin": ("", "Library", "Caches"),
    }.get(sys.platform, ("XDG_CACHE_HOME", ".cache"))
    told = os.environ.get(variable)
    if told:
        return Path(told)
    try:
        return Path.home().joinpath(*inside)
    except RuntimeError as error:
        raise OSError("no home folder") from error


def keep_compiled(package: Path) -> None:
    """See to it that numba can keep compiled functions, without which it refuses to start.

    It keeps them beside the code, else in the user's cache. Where neither can be written, as in a
    container under another user, they go to a folder for temporary files.

    Args:
        package: folder of the code.
    """
    if os.environ.get(NUMBA) or _is_writable(package / "__pycache__") or _is_user_cache_writable():
        return
    with suppress(OSError):  # nothing can be written at all: numba says so
        folder = str(_own_folder())
        os.environ[NUMBA] = folder
        if "numba" in sys.modules:  # which has read its settings already
            sys.modules["numba"].config.CACHE_DIR = folder


def folder_until_exit() -> Path:
    """Make a temporary folder that goes when this process ends."""
    import atexit
    import shutil
    import tempfile

    folder = Path(tempfile.mkdtemp(prefix="cellshed-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _is_user_cache_writable() -> bool:
    try:
        return _is_writable(user_cache() / "numba")
    except OSError:
        return False


def _is_writable(folder: Path) -> bool:
    """Tell whether files can be written into a folder, or it can be made."""
    while not os.path.lexists(folder):
        folder = folder.parent
    return folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)


def _own_folder() -> Path:
    """Return a temporary folder that later processes find again, if nobody else can write to it.

    What is in it is run; in a place that all users share, another one could have made it first.
    """
    import stat
    import tempfile

    if not hasattr(os, "getuid"):  # Windows
        return folder_until_exit()
    folder = Path(tempfile.gettempdir()) / f"cellshed-{os.getuid()}"
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    state = folder.lstat()
    if stat.S_ISDIR(state.st_mode) and state.st_uid == os.getuid() and not state.st_mode & 0o077:
        return folder
    return folder_until_exit()
