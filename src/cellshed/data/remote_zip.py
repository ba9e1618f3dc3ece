"""Some members of a remote zip archive, without the rest of it where that saves much."""

import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cellshed.data.fetch import Link, discard, fetch_part, length, persist
from cellshed.data.ranges import NoRangesError, RangeFile, probe
from cellshed.data.remote import ChangedError, DownloadError, TransientError
from cellshed.files import whole_file

Wanted = Sequence[tuple[zipfile.ZipInfo, Path]]
"""Members of an archive and the files to write them to."""
Choose = Callable[[list[zipfile.ZipInfo]], Wanted]
"""Picks, of all members, those that are wanted and not there yet."""

_GAP = 1 << 17
"""Bytes between two members that are worth fetching to save a request."""
_PIECE = 1 << 25
"""Largest range to ask for at once, in bytes; it is held in memory."""
_MOST = 0.8
"""If the ranges make up more than this share of the archive, all of it is fetched."""
_TRIES = 3
"""For an archive that is damaged or changes."""


def fetch_members(link: Link, path: str, copy: Path, choose: Choose) -> None:
    """Fetch members of a remote zip archive; each file is written whole, its CRC-32 checked.

    Asks for the members' byte ranges. Where these are most of the archive, or the server sends
    whole files only, the archive is fetched to `copy`, resuming what is there, and unpacked.

    Args:
        link: where from.
        path: of the archive, below the remote's base.
        copy: local file for the archive, if all of it is fetched; removed when it's unpacked.
        choose: which members; asked again after a failure.

    Raises:
        ValueError: there is no such archive, or `choose` raised it.
        DownloadError: the archive could not be fetched, or is damaged.
    """
    address = link.remote.address(path)

    def attempt() -> None:
        try:
            if not _by_ranges(link, path, copy, choose):
                _by_copy(link, path, copy, choose)
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise TransientError(f"{address}: not a whole zip archive: {error}") from error
        except ChangedError as error:
            raise TransientError(str(error)) from error
        except (NotImplementedError, RuntimeError) as error:
            raise DownloadError(f"{address}: can't be unpacked: {error}") from error

    few = replace(link, retry=replace(link.retry, tries=min(_TRIES, link.retry.tries)))
    persist(few, attempt, lambda: 0)


def _by_ranges(link: Link, path: str, copy: Path, choose: Choose) -> bool:
    """Fetch the ranges of the wanted members; False if the whole archive is the better way."""
    try:
        file = probe(link, path)
        source = RangeFile(file)
        with zipfile.ZipFile(source) as archive:
            wanted = choose(archive.infolist())
            pieces = _plan(archive, wanted)
            total = sum(piece.stop - piece.start for piece in pieces)
            if total > _MOST * (file.size - length(copy)):
                return False
            done = 0
            for piece in pieces:
                source.load(piece.start, piece.stop, (done, total))
                done += piece.stop - piece.start
                _unpack(archive, piece.wanted)
    except NoRangesError:
        return False
    return True


def _by_copy(link: Link, path: str, copy: Path, choose: Choose) -> None:
    fetch_part(link, path, copy)
    try:
        with zipfile.ZipFile(copy) as archive:
            _unpack(archive, choose(archive.infolist()))
    except (zipfile.BadZipFile, zlib.error, EOFError):
        discard(copy)
        raise
    discard(copy)


def _unpack(archive: zipfile.ZipFile, wanted: Wanted) -> None:
    for info, target in wanted:
        data = archive.read(info)
        with whole_file(target) as temporary:
            temporary.write_bytes(data)


@dataclass(frozen=True)
class _Piece:
    """A range of an archive and the wanted members that lie in it."""

    start: int
    stop: int
    wanted: Wanted


def _plan(archive: zipfile.ZipFile, wanted: Wanted) -> list[_Piece]:
    """Return the ranges that hold the wanted members, neighbours joined."""
    # A member ends where the next begins: the archive's directory doesn't tell the length of
    # the header before a member's data.
    starts = sorted({info.header_offset for info in archive.infolist()})
    ends = dict(zip(starts, [*starts[1:], archive.start_dir], strict=True))
    pieces: list[_Piece] = []
    for info, target in sorted(wanted, key=lambda pair: pair[0].header_offset):
        start, stop = info.header_offset, ends[info.header_offset]
        last = pieces[-1] if pieces else None
        if last and start - last.stop <= _GAP and stop - last.start <= _PIECE:
            pieces[-1] = _Piece(last.start, stop, (*last.wanted, (info, target)))
        else:
            pieces.append(_Piece(start, stop, ((info, target),)))
    return pieces
