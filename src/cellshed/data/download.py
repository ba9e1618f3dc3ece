"""LIVECell, or the part of it that is asked for, from its public bucket or a mirror of it.

LIVECell is published under CC BY-NC 4.0 (Edlund et al. 2021).
"""

import json
import zipfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PureWindowsPath
from typing import Any

from cellshed.data.fetch import Link, Meter, Retry, fetch_checked, persist
from cellshed.data.livecell import (
    IMAGE_FOLDERS,
    SPLITS,
    annotation_file,
    cell_type_of,
    known_cell_type,
    known_split,
    known_subset,
    single_cell_file,
    size_split_file,
    take_subset,
)
from cellshed.data.remote import open_remote
from cellshed.data.remote_zip import Wanted, fetch_members

BASE_URL = "https://livecell-dataset.s3.eu-central-1.amazonaws.com/LIVECell_dataset_2021"
ARCHIVE = "images.zip"


@dataclass(frozen=True)
class _Part:
    """The part of LIVECell that is asked for."""

    splits: tuple[str, ...]
    cell_types: tuple[str, ...] | None
    subset: int | None


def download(  # noqa: PLR0913  each is one option of the command line
    to: str | Path,
    *,
    splits: Sequence[str] | None = None,
    cell_types: Sequence[str] | None = None,
    subset: int | None = None,
    base_url: str = BASE_URL,
    annotations_only: bool = False,
    progress: Callable[[int, int], None] | None = None,
    retry: Retry | None = None,
) -> None:
    """Fetch LIVECell's annotations and images into a folder that `prepare` reads.

    Only the images that are asked for are read out of the remote archive, unless they are most
    of it. What is in the folder already stays. After a cut or a kill, the same call goes on
    where it stopped; no file has its final name before it is whole and checked.

    Which annotation files are fetched, per split:

    - a subset: LIVECell's file of that training subset. With cell types too, it is that same
      file, and of its images those of the cell types: there is no file of both;
    - else cell types: their single-cell files;
    - else the split's own file.

    If the split's own file is there already, it serves for all of these.

    Args:
        to: folder to fill.
        splits: of train, val, test; None for all, or for train alone if a subset is asked for,
            since subsets are of the training images.
        cell_types: names of LIVECell's cell types; None for all.
        subset: percent of the training images: 2, 4, 5, 25, 50 or 100. Other splits are whole.
        base_url: where images.zip and annotations/ are: http(s)://, file:// or a folder, or an
            address that fsspec knows, such as s3:// (for a public bucket, set FSSPEC_S3_ANON=true
            in the environment).
        annotations_only: leave out the images.
        progress: told the bytes done and those known to be needed so far.
        retry: how often to try again, and how long to wait.

    Raises:
        ValueError: unknown split, cell type or subset; or the files aren't at `base_url`, or
            its archive lacks images that its annotations list.
        OSError: the download failed (DownloadError), or `to` can't be written.
    """
    to = Path(to)
    part = _asked(splits, cell_types, subset)
    link = Link(open_remote(base_url), retry or Retry(), Meter(progress))
    listed = _fetch_annotations(link, to, part)
    wanted = _Images(to, listed)
    if annotations_only or wanted.complete():
        return
    fetch_members(link, ARCHIVE, to / f"{ARCHIVE}.part", wanted.choose)
    wanted.check(link.remote.address(ARCHIVE))


def _asked(
    splits: Sequence[str] | None, cell_types: Sequence[str] | None, subset: int | None
) -> _Part:
    """Check what is asked for, and say it in full."""
    if subset is not None:
        known_subset(subset)
    if splits is None:
        splits = SPLITS if subset is None else ("train",)
    known = {known_split(split) for split in splits}
    types = None if cell_types is None else tuple(dict.fromkeys(map(known_cell_type, cell_types)))
    return _Part(tuple(split for split in SPLITS if split in known), types, subset)


def _annotation_files(to: Path, split: str, part: _Part) -> list[str]:
    """Return the annotation files to use, as paths in the bucket and in `to`.

    Of what the folder may hold, `prepare` takes the same ones.
    """
    if (to / annotation_file(split)).is_file():
        return [annotation_file(split)]
    subset = part.subset if split == "train" else None
    types = sorted(part.cell_types or (), key=str.lower)  # as prepare orders the files
    single = [single_cell_file(name, split) for name in types]
    if single and (subset is None or any((to / path).is_file() for path in single)):
        return single
    return [annotation_file(split) if subset is None else size_split_file(subset)]


def _fetch_annotations(link: Link, to: Path, part: _Part) -> dict[str, list[str]]:
    """Fetch the annotation files that aren't there.

    Returns:
        Of each split the names of the wanted images.
    """
    files = {split: _annotation_files(to, split, part) for split in part.splits}
    found = {path: _present(to / path) for paths in files.values() for path in paths}
    for path in (path for path, names in found.items() if names is None):
        # Of all files first, to know the total, and at once if one isn't to be had.
        size = persist(link, partial(link.remote.size, path), lambda: 0)
        link.meter.tell(path, 0, size or 0)
    listed = {
        path: fetch_checked(link, path, to / path, listed_images) if names is None else names
        for path, names in found.items()
    }
    return {
        split: _selected([name for path in paths for name in listed[path]], split, paths, part)
        for split, paths in files.items()
    }


def _present(path: Path) -> list[str] | None:
    """Return the images that a local file lists; None if it isn't there or isn't sound."""
    try:
        return listed_images(path) if path.is_file() else None
    except ValueError:
        return None


def listed_images(path: Path) -> list[str]:
    """Return the names of the images in a COCO file, without the folders, each once.

    Raises:
        ValueError: it is not a whole COCO instance file.
    """
    try:
        # LIVECell's annotations fill gigabytes as Python objects: each is dropped when parsed.
        tree = json.loads(path.read_bytes(), object_hook=_drop_annotation)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not whole as JSON: {error}") from error
    try:
        names = [_plain_name(image["file_name"]) for image in tree["images"]]
        annotations = tree["annotations"]
    except (KeyError, TypeError) as error:
        raise ValueError("not COCO annotations: no 'images' or no 'annotations'") from error
    if not names or not isinstance(annotations, list | dict):
        raise ValueError("not COCO annotations: lists no images, or no annotations")
    return list(dict.fromkeys(names))


def _plain_name(path: str) -> str:
    """Return a file's name without its folders, whichever way the slashes lean."""
    return PureWindowsPath(path).name


def _drop_annotation(entry: dict[str, Any]) -> dict[str, Any] | None:
    return None if "image_id" in entry else entry


def _selected(names: Sequence[str], split: str, files: list[str], part: _Part) -> list[str]:
    """Return the wanted ones of the listed images: the same that `prepare` will choose."""
    chosen = list(dict.fromkeys(names))
    if part.cell_types is not None:
        types = {name.lower() for name in part.cell_types}
        chosen = [name for name in chosen if cell_type_of(name).lower() in types]
    if split == "train" and part.subset is not None and files != [size_split_file(part.subset)]:
        chosen = list(take_subset(chosen, part.subset))
    return chosen


class _Images:
    """The wanted images, and where they belong."""

    def __init__(self, to: Path, listed: dict[str, list[str]]) -> None:
        self._targets: dict[str, Path] = {}
        self._folders: dict[str, str] = {}
        for split, names in listed.items():
            root = to / IMAGE_FOLDERS[split]
            there = {path.name: path for path in root.rglob("*") if path.is_file()}
            for name in names:
                self._targets[name] = there.get(name, root / cell_type_of(name).strip(".") / name)
                self._folders[name] = root.name
        self._absent: list[str] = []

    def complete(self) -> bool:
        """Tell whether all are there."""
        return all(path.is_file() for path in self._targets.values())

    def choose(self, members: Iterable[zipfile.ZipInfo]) -> Wanted:
        """Return the archive's members that are missing here, or are of another size here."""
        found: dict[str, zipfile.ZipInfo] = {}
        for info in members:
            name = _plain_name(info.filename)
            # If two have the same name, then the one in the folder of its split.
            if name in self._targets and (
                name not in found or self._folders[name] in info.filename
            ):
                found[name] = info
        self._absent = [name for name in self._targets if name not in found]
        pairs = [(info, self._targets[name]) for name, info in found.items()]
        return [
            (info, path)
            for info, path in pairs
            if not path.is_file() or path.stat().st_size != info.file_size
        ]

    def check(self, archive: str) -> None:
        """Raise ValueError if the archive lacks images that the annotations list."""
        if self._absent:
            raise ValueError(
                f"{archive}: {len(self._absent)} of {len(self._targets)} images that the "
                f"annotations list aren't in it, first {self._absent[0]}"
            )
