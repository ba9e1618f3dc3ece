"""What a reader of some layout hands to `prepare`, and how a part of it is chosen."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cellshed.data.coco_file import Duplicate
from cellshed.data.livecell import SPLITS, known_subset, take_subset
from cellshed.data.painting import Painted, Problem
from cellshed.spelling import nearest


@dataclass(frozen=True)
class Request:
    """Which images of a source are wanted."""

    splits: tuple[str, ...] | None = None
    cell_types: tuple[str, ...] | None = None
    subset: int | None = None
    """Percent of the training images, one of the LIVECell study's."""
    images: Path | None = None
    """Folder of the images, where the source is a COCO file."""
    not_annotated: int | None = None
    """Number in label images of ground that nobody annotated, beside -1."""

    def __post_init__(self) -> None:
        for split in self.splits or ():
            if split not in (*SPLITS, "all"):
                hint = nearest(split, (*SPLITS, "all"))
                raise ValueError(f"unknown split '{split}'; {hint}")
        if self.subset is not None:
            known_subset(self.subset)
        if self.images is not None and not self.images.is_dir():
            raise ValueError(f"images {self.images}: no such folder")

    def wants(self, split: str) -> bool:
        """Tell whether a split is wanted."""
        return self.splits is None or split in self.splits


@dataclass(frozen=True)
class Item:
    """One image of a source and the way to its labels; nothing is read yet."""

    path: Path
    split: str
    cell_type: str
    names: tuple[str, ...]
    """Names for it, the shortest first; the next is taken where another image has the name."""
    paint: Callable[[tuple[int, int], str], Painted]
    """(height, width) of the image and overlap rule -> its labels."""


@dataclass(frozen=True)
class Found:
    """What a reader found in a source."""

    items: tuple[Item, ...]
    splits: frozenset[str]
    """All splits that the source has, wanted or not."""
    cell_types: frozenset[str]
    """All cell types among the wanted splits."""
    annotation_files: tuple[Path, ...] = ()
    problems: tuple[Problem, ...] = ()
    duplicates: tuple[Duplicate, ...] = ()


def choose(items: Sequence[Item], request: Request, *, subset: bool = True) -> list[Item]:
    """Return the wanted cell types, then, of training images, every n-th of the subset.

    Args:
        items: of one split.
        request: what is wanted.
        subset: False where the source is the subset already.
    """
    chosen = list(items)
    if request.cell_types is not None:
        wanted = {name.lower() for name in request.cell_types}
        chosen = [item for item in chosen if item.cell_type.lower() in wanted]
    if subset and request.subset is not None and chosen and chosen[0].split in ("train", "all"):
        chosen = list(take_subset(chosen, request.subset))
    return chosen


def check_offer(found: Sequence[Found], request: Request) -> None:
    """Raise ValueError, with the nearest name, for a split or cell type that no source has."""
    splits = frozenset[str]().union(*(f.splits for f in found))
    for split in request.splits or ():
        if split not in splits:
            raise ValueError(f"no images of split '{split}'; there are: {_listed(splits)}")
    known = {name.lower(): name for f in found for name in f.cell_types if name}
    for name in request.cell_types or ():
        if name.lower() not in known:
            hint = nearest(name, known.values()) if known else "the source tells no cell types"
            raise ValueError(f"no images of cell type '{name}'; {hint}")


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"
