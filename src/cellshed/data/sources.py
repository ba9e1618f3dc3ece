"""What a reader of some layout hands to `prepare`, and how a part of it is chosen."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cellshed.config import nearest
from cellshed.data.coco import Duplicate
from cellshed.data.livecell import SPLITS, known_subset, take_subset
from cellshed.data.painting import Painted, Problem


@dataclass(frozen=True)
class Request:
    """Which images of a source are wanted."""

    splits: tuple[str, ...] | None = None
    cell_types: tuple[str, ...] | None = None
    subset: int | None = None
    """Percent of the training images, one of the LIVECell study's."""
    images: Path | None = None
    """Folder of the images, where the source is a COCO file."""

    def __post_init__(self) -> None:
        for split in self.splits or ():
            if split not in (*SPLITS, "all"):
                hint = nearest(split, (*SPLITS, "all"))
                raise ValueError(f"unknown split '{split}'; {hint}")
        if self.subset is not None:
            known_subset(self.subset)

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
    annotation_files: tuple[Path, ...] = ()
    problems: tuple[Problem, ...] = ()
    duplicates: tuple[Duplicate, ...] = field(default=())


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


def check_cell_types(items: Iterable[Item], request: Request, source: Path) -> None:
    """Raise ValueError, with the nearest name, for a wanted cell type that no item has."""
    known = {item.cell_type.lower(): item.cell_type for item in items}
    for name in request.cell_types or ():
        if name.lower() not in known:
            hint = nearest(name, known.values()) if any(known) else "it tells no cell types"
            raise ValueError(f"{source}: no images of cell type '{name}'; {hint}")
