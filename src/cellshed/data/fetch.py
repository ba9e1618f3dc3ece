"""Remote files fetched whole: with retries, resumed after a cut, under their name when checked.

While bytes are missing a file is called NAME.part. Beside it, NAME.part.json tells which version
of which remote file it is a part of, so that a later run can go on.
"""

import http.client
import json
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from cellshed.data.remote import ChangedError, DownloadError, Remote, Reply, TransientError
from cellshed.files import write_text

_CHUNK = 1 << 18
_CHECKS = 3
"""Times that a file which is whole but not sound is fetched."""

T = TypeVar("T")


@dataclass(frozen=True)
class Retry:
    """How often, and how long to wait in between: twice as long each time, within limits."""

    tries: int = 6
    """In a row without a new byte."""
    first: float = 1.0
    """Seconds before the second try."""
    longest: float = 60.0
    sleep: Callable[[float], None] = time.sleep

    def wait(self, failures: int, asked: float | None) -> None:
        """Wait after so many failures in a row, or as long as the server asked for."""
        pause = self.first * 2 ** (failures - 1) * random.uniform(0.75, 1.25)
        self.sleep(min(self.longest, max(pause, asked or 0)))


class Meter:
    """Adds up the progress of several transfers and tells it as (bytes done, bytes in all)."""

    def __init__(self, progress: Callable[[int, int], None] | None) -> None:
        self._progress = progress
        self._transfers: dict[str, tuple[int, int]] = {}

    def tell(self, transfer: str, done: int, total: int) -> None:
        """Note how far one transfer is."""
        self._transfers[transfer] = (done, total)
        if self._progress is not None:
            done, total = map(sum, zip(*self._transfers.values(), strict=True))
            self._progress(done, total)


@dataclass(frozen=True)
class Link:
    """Where files come from, and how patiently and visibly."""

    remote: Remote
    retry: Retry = field(default_factory=Retry)
    meter: Meter = field(default_factory=lambda: Meter(None))


def persist(link: Link, attempt: Callable[[], T], gained: Callable[[], int]) -> T:
    """Try until it succeeds, or until `link.retry.tries` tries in a row gained nothing.

    Args:
        link: how often to try, and how long to wait.
        attempt: raises TransientError where another try may succeed.
        gained: bytes that are there for good; more of them than ever is a gain.

    Raises:
        DownloadError: all tries failed.
    """
    failures, most = 0, gained()
    while True:
        try:
            return attempt()
        except TransientError as error:
            failures, most = (1, gained()) if gained() > most else (failures + 1, most)
            if failures >= link.retry.tries:
                raise DownloadError(
                    f"{error}; gave up after {failures} tries: run it again later to go on"
                ) from error
            link.retry.wait(failures, error.wait)


def fetch_checked(link: Link, path: str, target: Path, check: Callable[[Path], T]) -> T:
    """Fetch a file; only when it is whole and has passed the check does it get its name.

    Args:
        link: where from.
        path: of the remote file, below the remote's base.
        target: local file.
        check: takes the file; raises ValueError if it isn't sound.

    Returns:
        What the check returned.

    Raises:
        ValueError: there is no such remote file.
        DownloadError: it could not be fetched, or was never sound.
    """
    part = target.with_name(f"{target.name}.part")

    def attempt() -> T:
        fetch_part(link, path, part)
        try:
            return check(part)
        except ValueError as error:
            discard(part)
            raise TransientError(f"{link.remote.address(path)}: {error}") from error

    few = replace(link, retry=replace(link.retry, tries=min(_CHECKS, link.retry.tries)))
    result = persist(few, attempt, lambda: 0)
    part.replace(target)
    discard(part)
    return result


def discard(part: Path) -> None:
    """Remove a part and what is known about it."""
    part.unlink(missing_ok=True)
    _state_file(part).unlink(missing_ok=True)


def fetch_part(link: Link, path: str, part: Path) -> None:
    """Fetch what is missing of a file, until `part` is as long as the remote file.

    Raises:
        ValueError: there is no such remote file.
        DownloadError: it could not be fetched.
    """
    part.parent.mkdir(parents=True, exist_ok=True)
    most = 0

    def gained() -> int:
        nonlocal most
        most = max(most, length(part))
        return most

    persist(link, lambda: _fetch_rest(link, path, part), gained)


def length(part: Path) -> int:
    """Return how many bytes of a part are here; 0 if there is none."""
    return part.stat().st_size if part.is_file() else 0


def _fetch_rest(link: Link, path: str, part: Path) -> None:
    """Append what is missing; start over where the server or a change of the file demands it."""
    address = link.remote.address(path)
    version, size = _known(part, address)
    here = length(part)
    if here and here == size:
        link.meter.tell(path, here, size)
        return
    try:
        with link.remote.open(path, here, None, version) as reply:
            if reply.start not in (0, here) or (reply.start and reply.size != size):
                raise ChangedError(f"{address}: changed while it was fetched")
            if reply.start == 0:
                discard(part)
            state = {"address": address, "version": reply.version, "size": reply.size}
            write_text(_state_file(part), json.dumps(state))
            _append(link, path, part, reply)
    except ChangedError as error:
        discard(part)
        raise TransientError(str(error)) from error
    if reply.size is not None and length(part) != reply.size:
        raise TransientError(f"{address}: cut off after {length(part)} of {reply.size} bytes")


def _append(link: Link, path: str, part: Path, reply: Reply) -> None:
    """Write the reply's bytes from its start on."""
    with part.open("ab") as file:
        file.truncate(reply.start)
        done = reply.start
        while chunk := read_chunk(reply, link.remote.address(path)):
            file.write(chunk)
            file.flush()  # after a kill, what has arrived is there
            done += len(chunk)
            link.meter.tell(path, done, max(done, reply.size or 0))


def read_chunk(reply: Reply, address: str, most: int = _CHUNK) -> bytes:
    """Read the next bytes of a reply, none at its end; TransientError if the connection drops."""
    try:
        return reply.read(most)
    except (OSError, http.client.HTTPException) as error:
        raise TransientError(f"{address}: connection lost ({type(error).__name__})") from error


def _state_file(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _known(part: Path, address: str) -> tuple[str, int | None]:
    """Return version and size of the remote file; drop a part that isn't known to be of it."""
    try:
        state: dict[str, Any] = json.loads(_state_file(part).read_text(encoding="utf-8"))
        if state["address"] == address and state["size"] is not None:
            return str(state["version"]), int(state["size"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    discard(part)
    return "", None
