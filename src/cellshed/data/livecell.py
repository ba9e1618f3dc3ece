"""LIVECell: the names of its files, splits, cell types and subsets, and where they lie.

The layout is that of the public bucket, also used by data sets that imitate it:
`images/livecell_{train_val,test}_images/[CellType/]*.tif` and
`annotations/LIVECell/livecell_coco_{train,val,test}.json`.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from cellshed.spelling import nearest

SPLITS = ("train", "val", "test")
CELL_TYPES = ("A172", "BT474", "BV2", "Huh7", "MCF7", "SHSY5Y", "SkBr3", "SKOV3")
SUBSETS = {2: 50, 4: 25, 5: 20, 25: 4, 50: 2, 100: 1}
"""Percent of the training images -> n: the subset is every n-th image."""
IMAGE_FOLDERS = {
    "train": "images/livecell_train_val_images",
    "val": "images/livecell_train_val_images",
    "test": "images/livecell_test_images",
}
_SIZE_SPLITS = {2: "0_train2", 4: "1_train4", 5: "2_train5", 25: "3_train25", 50: "4_train50"}
_NAME = re.compile(
    r"(?P<cell_type>[A-Za-z0-9-]+)_Phase_(?P<well>[A-Z]+\d+)_(?P<location>\d+)"
    r"_(?P<days>\d+)d(?P<hours>\d+)h(?P<minutes>\d+)m_(?P<crop>\d+)"
)

T = TypeVar("T")


@dataclass(frozen=True)
class ImageName:
    """What LIVECell tells in a file name."""

    cell_type: str
    well: str
    """Row and column of the 96-well plate, such as C7."""
    location: int
    """Position of the microscope in the well, 1 or 2."""
    hours: float
    """Time since the first image."""
    crop: int
    """Which quarter of the acquired image, 1 to 4."""


def parse_name(name: str) -> ImageName | None:
    """Read a file name such as `A172_Phase_C7_1_02d16h00m_2.tif`; None if it is no such name."""
    match = _NAME.fullmatch(Path(name).stem)
    if match is None:
        return None
    part = match.groupdict()
    hours = 24 * int(part["days"]) + int(part["hours"]) + int(part["minutes"]) / 60
    return ImageName(
        part["cell_type"], part["well"], int(part["location"]), hours, int(part["crop"])
    )


def cell_type_of(name: str) -> str:
    """Return the cell type in a file name: the part before `_Phase_`, or before the first `_`."""
    parsed = parse_name(name)
    if parsed is not None:
        return parsed.cell_type
    first, underscore, _ = Path(name).stem.partition("_")
    return first if underscore else ""


def annotation_file(split: str) -> str:
    """Return the path of a split's annotations within the bucket."""
    return f"annotations/LIVECell/livecell_coco_{known_split(split)}.json"


def single_cell_file(cell_type: str, split: str) -> str:
    """Return the path of one cell type's annotations within the bucket."""
    folder = known_cell_type(cell_type).lower()
    return f"annotations/LIVECell_single_cells/{folder}/{known_split(split)}.json"


def size_split_file(percent: int) -> str:
    """Return the path of a training subset's annotations within the bucket."""
    if known_subset(percent) == 1:
        return annotation_file("train")
    return f"annotations/LIVECell_dataset_size_split/{_SIZE_SPLITS[percent]}percent.json"


def known_split(split: str) -> str:
    """Return a split's name; ValueError with the nearest name if there is no such split."""
    if split not in SPLITS:
        raise ValueError(f"unknown split '{split}'; {nearest(split, SPLITS)}")
    return split


def known_cell_type(cell_type: str, known: Iterable[str] = CELL_TYPES) -> str:
    """Return a cell type as it is spelt in `known`, upper or lower case as may be.

    Raises:
        ValueError: there is no such cell type; the nearest is offered.
    """
    spelling = {name.lower(): name for name in known}
    if cell_type.lower() not in spelling:
        hint = nearest(cell_type, spelling.values())
        raise ValueError(f"unknown cell type '{cell_type}'; {hint}")
    return spelling[cell_type.lower()]


def known_subset(percent: int) -> int:
    """Return n of the subset that is every n-th image; ValueError for an unknown percentage."""
    if percent not in SUBSETS:
        sizes = ", ".join(map(str, SUBSETS))
        raise ValueError(f"unknown subset {percent} %: choose one of {sizes}")
    return SUBSETS[percent]


def take_subset(images: Sequence[T], percent: int) -> Sequence[T]:
    """Return every n-th image, in the order of the annotation file, starting with the first.

    Source: section 2 of the LIVECell-Mesmer study; n = 50, 25, 20, 4, 2, 1 for 2 to 100 %.
    """
    return images[:: known_subset(percent)]


def is_livecell(folder: Path) -> bool:
    """Tell whether a folder holds annotations as LIVECell lays them out."""
    annotations = folder / "annotations"
    return annotations.is_dir() and any(annotations.glob("LIVECell*"))


def find_annotations(
    folder: Path, split: str, cell_types: Sequence[str] | None, subset: int | None
) -> list[Path]:
    """Return the files that hold a split's annotations, of those that were downloaded.

    The file of the whole split comes first; else those of the single cell types, if some are
    asked for; else that of the training subset asked for, or the largest; else those of all
    cell types.

    Returns:
        One file, or one per cell type; none if the split is not there.
    """
    whole = folder / annotation_file(split)
    if whole.is_file():
        return [whole]
    files = sorted((folder / "annotations" / "LIVECell_single_cells").glob(f"*/{split}.json"))
    wanted = {name.lower() for name in cell_types or ()}
    single = [file for file in files if file.parent.name.lower() in wanted]
    if single:
        return single
    sizes = SUBSETS if subset is None else (subset,)
    parts = [folder / size_split_file(percent) for percent in sizes]
    there = [part for part in parts if split == "train" and part.is_file()]
    return there[-1:] or files


def livecell_splits(folder: Path) -> list[str]:
    """Return the splits whose annotations are there, whole or in part."""
    return [split for split in SPLITS if find_annotations(folder, split, None, None)]


def index_images(folder: Path, split: str) -> dict[str, Path]:
    """Return path by file name of all images that a split may use, with or without subfolders."""
    root = folder / IMAGE_FOLDERS[split]
    if not root.is_dir():
        root = folder / "images"
    return {path.name: path for path in sorted(root.rglob("*")) if path.is_file()}
