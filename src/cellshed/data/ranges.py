"""A remote file read in ranges, as if it were local."""

import io
from dataclasses import dataclass

from cellshed.data.fetch import Link, persist, read_chunk
from cellshed.data.remote import ChangedError, TransientError

_TAIL = 1 << 16
"""Bytes at the end to read first: an archive's directory ends there."""
_CHUNK = 1 << 18


class NoRangesError(Exception):
    """The server sends whole files only."""


@dataclass(frozen=True)
class RemoteFile:
    """One version of a remote file that can be read in ranges."""

    link: Link
    path: str
    size: int
    version: str

    def read(self, start: int, stop: int, progress: tuple[int, int] | None = None) -> bytes:
        """Return the bytes from start to before stop, resuming where the connection drops.

        Args:
            start: first byte.
            stop: byte after the last.
            progress: bytes done before and in all, to tell the link's meter.

        Raises:
            ChangedError: the remote file is another one by now.
            NoRangesError: the server stopped to send parts.
            DownloadError: it could not be read.
        """
        data = bytearray()
        address = self.link.remote.address(self.path)

        def rest() -> bytes:
            begin = start + len(data)
            with self.link.remote.open(self.path, begin, stop, self.version) as reply:
                if (reply.version, reply.size) != (self.version, self.size):
                    raise ChangedError(f"{address}: changed while it was read")
                if reply.start != begin:
                    raise NoRangesError
                while missing := stop - start - len(data):
                    chunk = read_chunk(reply, address, min(missing, _CHUNK))
                    if not chunk:
                        raise TransientError(f"{address}: cut off at byte {start + len(data)}")
                    data.extend(chunk)
                    if progress is not None:
                        self.link.meter.tell(self.path, progress[0] + len(data), progress[1])
            return bytes(data)

        return persist(self.link, rest, lambda: len(data)) if stop > start else b""


def probe(link: Link, path: str) -> RemoteFile:
    """Ask for one byte to learn the size and the version of a remote file.

    Raises:
        NoRangesError: the server sends whole files only, or doesn't tell the size.
        ValueError: there is no such file.
        DownloadError: it could not be read.
    """

    def ask() -> RemoteFile:
        with link.remote.open(path, 0, 1) as reply:
            if not reply.ranges or reply.size is None:
                raise NoRangesError
            return RemoteFile(link, path, reply.size, reply.version)

    return persist(link, ask, lambda: 0)


class RangeFile(io.RawIOBase):
    """A remote file that can be read from any place, as zipfile needs it."""

    def __init__(self, file: RemoteFile) -> None:
        self._file = file
        self._at = 0
        self._window, self._window_start = b"", 0
        self.load(max(0, file.size - _TAIL), file.size)

    def load(self, start: int, stop: int, progress: tuple[int, int] | None = None) -> None:
        """Fetch a range; reads within it cause no requests until the next one is loaded."""
        self._window, self._window_start = self._file.read(start, stop, progress), start

    def seekable(self) -> bool:
        """Yes."""
        return True

    def readable(self) -> bool:
        """Yes."""
        return True

    def tell(self) -> int:
        """Return the place of the next read."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to another place."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._file.size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def read(self, size: int = -1) -> bytes:
        """Return so many bytes, fewer only at the end of the file."""
        stop = self._file.size if size < 0 else min(self._at + size, self._file.size)
        if stop <= self._at:
            return b""
        within = self._at - self._window_start
        if within < 0 or stop > self._window_start + len(self._window):
            self.load(self._at, stop)
            within = 0
        data = self._window[within : within + stop - self._at]
        self._at = stop
        return data
