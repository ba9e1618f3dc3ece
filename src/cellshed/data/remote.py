"""Files at an address, read from any byte on: over HTTP(S), in a folder, or by fsspec."""

import http.client
import io
import re
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from cellshed import __version__

_TIMEOUT = 60.0
"""Seconds without a byte after which a connection counts as dropped."""
_BUSY = {408, 425, 429, 500, 502, 503, 504}


class DownloadError(OSError):
    """A download that failed for good; running it again goes on where it stopped."""


class TransientError(Exception):
    """A failure after which another try may succeed."""

    def __init__(self, message: str, wait: float | None = None) -> None:
        super().__init__(message)
        self.wait = wait
        """Seconds to wait, where the server said so."""


class ChangedError(Exception):
    """The file is no longer the one that a part was read of."""


@dataclass(frozen=True)
class Reply:
    """A remote file, opened."""

    start: int
    """Where its bytes begin; 0 instead of what was asked for: no such ranges."""
    size: int | None
    """Of the whole file."""
    version: str
    """Changes when the file does; empty if the server tells none."""
    ranges: bool
    """Whether parts of the file can be asked for."""
    read: Callable[[int], bytes]
    """Return the next bytes, so many at most, as they come; none at the end."""


class Remote(Protocol):
    """Where files come from."""

    def address(self, path: str) -> str:
        """Return a file's full address, for messages."""
        ...

    def size(self, path: str) -> int | None:
        """Return a file's size in bytes; None if it isn't told."""
        ...

    def open(
        self, path: str, start: int = 0, stop: int | None = None, version: str = ""
    ) -> AbstractContextManager[Reply]:
        """Open a file from byte `start` to before `stop`, if it still has that version.

        Raises:
            ValueError: there is no such file.
            TransientError: another try may succeed.
            ChangedError: the file has no such bytes any more.
            DownloadError: anything else.
        """
        ...


def open_remote(base_url: str) -> Remote:
    """Return the remote for an address: http(s)://, file://, a folder, or any of fsspec's.

    Raises:
        ValueError: a package is missing for that kind of address, or fsspec knows no such kind.
    """
    base_url = base_url.rstrip("/")
    scheme = urlsplit(base_url).scheme if "://" in base_url else ""
    if scheme in ("http", "https"):
        return _Http(base_url)
    if scheme == "file":
        return _Folder(Path(urllib.request.url2pathname(urlsplit(base_url).path)))
    return _Fsspec(base_url) if scheme else _Folder(Path(base_url))


class _Http:
    def __init__(self, base: str) -> None:
        self._base = base

    def address(self, path: str) -> str:
        return f"{self._base}/{path}"

    def size(self, path: str) -> int | None:
        try:
            with self._request(path, {}, "HEAD") as response:
                length = response.headers.get("Content-Length", "")
                return int(length) if length.isdigit() else None
        except DownloadError:
            return None  # a server that knows no HEAD

    @contextmanager
    def open(
        self, path: str, start: int = 0, stop: int | None = None, version: str = ""
    ) -> Iterator[Reply]:
        headers = {}
        if start or stop is not None:
            headers["Range"] = f"bytes={start}-{'' if stop is None else stop - 1}"
            if version:
                headers["If-Range"] = version
        with self._request(path, headers) as response:
            yield _http_reply(response)

    def _request(self, path: str, headers: dict[str, str], method: str = "GET") -> Any:
        url = self.address(path)
        headers = {"User-Agent": f"cellshed/{__version__}", **headers}
        request = urllib.request.Request(url, headers=headers, method=method)
        try:
            return urllib.request.urlopen(request, timeout=_TIMEOUT)
        except urllib.error.HTTPError as error:
            with error:
                raise _http_error(url, error) from None
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            if isinstance(reason, ssl.SSLCertVerificationError):
                raise DownloadError(f"{url}: {reason}") from error
            raise TransientError(f"{url}: {reason or type(reason).__name__}") from error


def _http_error(url: str, error: urllib.error.HTTPError) -> Exception:
    status = f"{error.code} {error.reason}".strip()
    if error.code in _BUSY:
        wait = error.headers.get("Retry-After", "")
        return TransientError(f"{url}: {status}", float(wait) if wait.isdigit() else None)
    if error.code == 416:
        return ChangedError(f"{url}: {status}")
    if error.code in (403, 404, 410):
        return ValueError(f"{url}: not to be had there ({status}): check --base-url")
    return DownloadError(f"{url}: {status}")


def _http_reply(response: http.client.HTTPResponse) -> Reply:
    headers = response.headers
    etag = headers.get("ETag", "")
    # If-Range takes no weak tags.
    version = headers.get("Last-Modified", "") if etag.startswith("W/") or not etag else etag
    span = re.match(r"bytes (\d+)-\d+/(\d+|\*)", headers.get("Content-Range", ""))
    if response.status == 206 and span:
        size = int(span[2]) if span[2].isdigit() else None
        return Reply(int(span[1]), size, version, True, response.read1)
    length = headers.get("Content-Length", "")
    size = int(length) if length.isdigit() else None
    return Reply(0, size, version, False, response.read1)


class _Folder:
    def __init__(self, root: Path) -> None:
        self._root = root

    def address(self, path: str) -> str:
        return str(self._root / path)

    def size(self, path: str) -> int | None:
        return self._existing(path).stat().st_size

    @contextmanager
    def open(
        self, path: str, start: int = 0, stop: int | None = None, version: str = ""
    ) -> Iterator[Reply]:
        file = self._existing(path)
        status = file.stat()
        now = f"{status.st_mtime_ns}-{status.st_size}"
        with file.open("rb") as body:
            begin = body.seek(0 if version not in ("", now) else start)
            yield Reply(begin, status.st_size, now, True, body.read)

    def _existing(self, path: str) -> Path:
        file = self._root / path
        if not file.is_file():
            raise ValueError(f"{file}: no such file: check --base-url")
        return file


class _Fsspec:
    def __init__(self, base: str) -> None:
        try:
            import fsspec

            self._files, self._root = fsspec.core.url_to_fs(base)
        except ImportError as error:
            raise ValueError(
                f"{base}: needs packages that aren't installed ({error.name or error}): "
                "pip install 'cellshed[s3]'"
            ) from error
        self._base = base

    def address(self, path: str) -> str:
        return f"{self._base}/{path}"

    def size(self, path: str) -> int | None:
        return int(self._info(path)["size"])

    @contextmanager
    def open(
        self, path: str, start: int = 0, stop: int | None = None, version: str = ""
    ) -> Iterator[Reply]:
        info = self._info(path)
        size = int(info["size"])
        now = f"{info.get('ETag') or info.get('LastModified') or info.get('created', '')}-{size}"
        begin = 0 if version not in ("", now) else start
        if stop is not None and begin == start:
            # A part is asked for by its bounds: no read-ahead.
            span = self._call(path, "cat_file", begin, stop)
            yield Reply(begin, size, now, True, io.BytesIO(span).read)
            return
        with self._call(path, "open", "rb") as body:
            body.seek(begin)
            yield Reply(begin, size, now, True, body.read)

    def _info(self, path: str) -> dict[str, Any]:
        return dict(self._call(path, "info"))

    def _call(self, path: str, method: str, *arguments: Any) -> Any:
        try:
            return getattr(self._files, method)(f"{self._root}/{path}", *arguments)
        except (FileNotFoundError, PermissionError) as error:
            raise ValueError(f"{self.address(path)}: not there: check --base-url") from error
        except OSError as error:
            raise TransientError(f"{self.address(path)}: {error}") from error
        except Exception as error:  # each file system has errors of its own
            raise DownloadError(f"{self.address(path)}: {error}") from error
