"""Folders of `images/` and `labels/` whose files have the same names."""

from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cellshed.data.images import (
    LABEL_SUFFIXES,
    is_image,
    joined,
    pieces_of_only_cell,
    read_labels,
    stem,
    visible_files,
)
from cellshed.data.livecell import SPLITS, parse_name
from cellshed.data.painting import Painted, Problem
from cellshed.data.sources import Found, Item, Request, choose
from cellshed.data.store import NOT_ANNOTATED
from cellshed.spelling import counted


def is_folders(source: Path) -> bool:
    """Tell whether a folder holds `images/` and `labels/`, or train, val and test with these."""
    return any(_is_pair(folder) for folder in (source, *(source / split for split in SPLITS)))


def read_folders(source: Path, request: Request) -> Found:
    """Find the pairs of images and labels in a folder.

    Splits are subfolders train, val and test, above or below `images/` and `labels/`; else all
    images are of the split "all". A further subfolder names the cell type.

    Raises:
        ValueError: an image without labels or the other way round; two files of one name.
    """
    items = []
    if _is_pair(source):
        items += _pair(source, "all", request.not_annotated)
    for split in SPLITS:
        if _is_pair(source / split):
            items += _pair(source / split, split, request.not_annotated)
    if not items:
        raise ValueError(f"{source}: no images in it")
    chosen = []
    for split in filter(request.wants, (*SPLITS, "all")):
        chosen += choose([item for item in items if item.split == split], request)
    wanted = [item for item in items if request.wants(item.split)]
    return Found(
        tuple(chosen),
        splits=frozenset(item.split for item in items),
        cell_types=frozenset(item.cell_type for item in wanted),
    )


def _is_pair(folder: Path) -> bool:
    return (folder / "images").is_dir() and (folder / "labels").is_dir()


def _pair(folder: Path, split: str, not_annotated: int | None) -> list[Item]:
    images = _by_name(folder / "images", filter(is_image, visible_files(folder / "images")))
    labels = _by_name(folder / "labels", filter(_is_labels, visible_files(folder / "labels")))
    for kind, other, missing in (
        ("image", "labels", sorted(set(images) - set(labels))),
        ("label image", "images", sorted(set(labels) - set(images))),
    ):
        if missing:
            raise ValueError(
                f"{folder}: {counted(len(missing), kind)} without a partner in {other}/, first "
                f"'{missing[0]}'; both need the same name"
            )
    return [
        _item(images[name], labels[name], name, split, not_annotated) for name in sorted(images)
    ]


def _by_name(root: Path, files: Iterable[Path]) -> dict[str, Path]:
    """Return path by name; a name is the path below root without suffix."""
    named = [((file.parent / stem(file)).relative_to(root).as_posix(), file) for file in files]
    twice = [name for name, times in Counter(name for name, _ in named).items() if times > 1]
    if twice:
        raise ValueError(f"{root}: more than one file named '{twice[0]}'; keep one of them")
    return dict(named)


def _is_labels(path: Path) -> bool:
    return path.suffix.lower() in LABEL_SUFFIXES


def _item(image: Path, labels: Path, name: str, split: str, not_annotated: int | None) -> Item:
    *folders, last = name.split("/")
    if folders and folders[0] in SPLITS and split == "all":
        split, *folders = folders
    parsed = parse_name(last)
    cell_type = parsed.cell_type if parsed else "".join(folders[:1])
    names = (last, joined(folders, last), joined([split, *folders], last))
    return Item(image, split, cell_type, names, partial(_read_painted, labels, not_annotated))


def _read_painted(
    path: Path, not_annotated: int | None, shape: tuple[int, int], overlap: str
) -> Painted:
    """Read a label image and number its cells from 1 without gaps; nothing overlaps in it."""
    labels = read_labels(path)
    unknown = (labels == NOT_ANNOTATED) | (labels == not_annotated)
    if labels.shape != shape:
        raise ValueError(
            f"{path}: labels are {labels.shape[0]}x{labels.shape[1]}, their image is "
            f"{shape[0]}x{shape[1]} (height x width)"
        )
    values, numbered = np.unique(np.where(unknown, 0, labels), return_inverse=True)
    with_background = int(values[0] == 0)
    from_one = (numbered.reshape(shape) + 1 - with_background).astype(np.int32)
    from_one[unknown] = NOT_ANNOTATED
    ids = tuple(values[with_background:].tolist())
    return Painted(from_one, ids, _mask_problem(path, from_one, ids))


def _mask_problem(path: Path, labels: NDArray[np.int32], ids: Sequence[int]) -> tuple[Problem, ...]:
    """Return a problem where the only cell is in pieces, as in a mask of all cells."""
    pieces = pieces_of_only_cell(labels, len(ids))
    if pieces <= 1:
        return ()
    reason = (
        f"the only number in its file, in {pieces} pieces that are taken for one cell; if it is a "
        "mask of all cells, number them first, e.g. with skimage.measure.label"
    )
    return (Problem(ids[0], path.name, reason, painted=True),)
