"""Readers of the layouts that `prepare` understands; each finds itself by what is there."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from cellshed.data.coco import paint_image
from cellshed.data.coco_file import Coco, CocoImage, read_coco
from cellshed.data.coco_images import cell_type, image_finder, names, path_in_file
from cellshed.data.folders import is_folders, read_folders
from cellshed.data.livecell import (
    SPLITS,
    cell_type_of,
    find_annotations,
    index_images,
    is_livecell,
    livecell_splits,
    parse_name,
    size_split_file,
)
from cellshed.data.painting import Painted
from cellshed.data.sources import Found, Item, Request, choose


@dataclass(frozen=True)
class Reader:
    """A layout of image sets."""

    layout: str
    """How it looks, for messages."""
    detects: Callable[[Path], bool]
    read: Callable[[Path, Request], Found]


def read_livecell(source: Path, request: Request) -> Found:
    """Find the images of a LIVECell download, or of a set that is laid out like it.

    Raises:
        ValueError: images are missing.
    """
    parts = []
    for split in SPLITS:
        files = find_annotations(source, split, request.cell_types, request.subset)
        if not files or not request.wants(split):
            continue
        is_subset = files == [source / size_split_file(request.subset or 100)]
        cocos = [read_coco(file) for file in files]
        places = index_images(source, split)
        items = [
            _livecell_item(image, split, places, source) for coco in cocos for image in coco.images
        ]
        parts.append(_found(cocos, items, choose(items, request, subset=not is_subset)))
    return _joined(parts, source, livecell_splits(source))


def read_coco_file(source: Path, request: Request) -> Found:
    """Find the images of one COCO file: in the folder given, beside it, or in `images/` there.

    The split is the one that the file's name contains (train, val or test), else the one that
    its folder is named after, else "all".

    Raises:
        ValueError: images are missing.
    """
    split = _split_of(source)
    parts = []
    if request.wants(split):
        coco = read_coco(source)
        roots = [request.images] if request.images else [source.parent, source.parent / "images"]
        find = image_finder(coco.images, roots)
        items = [
            _item(image, find(image) or roots[0] / path_in_file(image), split, cell_type(image))
            for image in coco.images
        ]
        parts.append(_found([coco], items, choose(items, request)))
    return _joined(parts, source, {split})


READERS: dict[str, Reader] = {
    "livecell": Reader("a LIVECell folder (images/, annotations/LIVECell*)", is_livecell,
                       read_livecell),
    "coco": Reader("a COCO file (.json)", lambda path: path.suffix.lower() == ".json",
                   read_coco_file),
    "folders": Reader("a folder with images/ and labels/", is_folders, read_folders),
}  # fmt: skip


def find_reader(source: Path) -> str:
    """Return the name of the reader that knows a source's layout.

    Raises:
        ValueError: there is nothing, or nothing that a reader knows.
    """
    if not source.exists():
        raise ValueError(f"{source}: no such file or folder")
    for name, reader in READERS.items():
        if reader.detects(source):
            return name
    layouts = "; ".join(reader.layout for reader in READERS.values())
    raise ValueError(f"{source}: no layout that is known: {layouts}")


def _livecell_item(image: CocoImage, split: str, places: dict[str, Path], source: Path) -> Item:
    name = path_in_file(image).name
    path = places.get(name, source / "images" / name)
    folder = path.parent.name
    in_folder = parse_name(name) is None and not re.match(r"images$|livecell_.*_images$", folder)
    return _item(image, path, split, folder if in_folder else cell_type_of(name))


def _item(image: CocoImage, path: Path, split: str, cell_type: str) -> Item:
    bare, full = names(image)
    return Item(path, split, cell_type, (bare, full, f"{split}-{bare}"), partial(_paint, image))


def _paint(image: CocoImage, shape: tuple[int, int], overlap: str) -> Painted:
    return paint_image(image, shape, overlap=overlap)


def _found(cocos: Sequence[Coco], items: Sequence[Item], chosen: Sequence[Item]) -> Found:
    return Found(
        tuple(chosen),
        splits=frozenset(item.split for item in items),
        cell_types=frozenset(item.cell_type for item in items),
        annotation_files=tuple(coco.path for coco in cocos),
        problems=tuple(problem for coco in cocos for problem in coco.problems),
        duplicates=tuple(duplicate for coco in cocos for duplicate in coco.duplicates),
    )


def _joined(parts: Sequence[Found], source: Path, splits: Iterable[str]) -> Found:
    items = tuple(item for part in parts for item in part.items)
    missing = [item.path for item in items if not item.path.is_file()]
    if missing:
        raise ValueError(
            f"{source}: {len(missing)} of {len(items)} images are missing, first {missing[0]}; "
            "fetch them, or choose what is there by split, cell type or subset"
        )
    return Found(
        items,
        splits=frozenset(splits),
        cell_types=frozenset[str]().union(*(part.cell_types for part in parts)),
        annotation_files=tuple(file for part in parts for file in part.annotation_files),
        problems=tuple(problem for part in parts for problem in part.problems),
        duplicates=tuple(duplicate for part in parts for duplicate in part.duplicates),
    )


_SPLIT_WORDS = {
    "train": "train", "training": "train", "test": "test",
    "val": "val", "valid": "val", "validation": "val",
}  # fmt: skip


def _split_of(source: Path) -> str:
    """Return the split that a file's name contains, or else that its folder's name is."""
    words = [*re.split(r"[^a-z]+", source.stem.lower()), source.absolute().parent.name.lower()]
    return next((_SPLIT_WORDS[word] for word in words if word in _SPLIT_WORDS), "all")
