"""Image sets of any known layout -> one store."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellshed.data.images import one_channel, read_image
from cellshed.data.livecell import parse_name
from cellshed.data.npz import export_npz as write_npz
from cellshed.data.painting import OVERLAP_RULES, Painted, Problem
from cellshed.data.readers import READERS, find_reader
from cellshed.data.reshape import leave_margin, to_square
from cellshed.data.shares import deal
from cellshed.data.sources import Found, Item, Request, check_offer
from cellshed.data.store import (
    MANIFEST,
    NOT_ANNOTATED,
    Record,
    Store,
    array_hash,
    manifest_of,
    open_store,
    save_arrays,
    write_manifest,
)
from cellshed.files import sha256, whole_folder
from cellshed.progress import Progress
from cellshed.spelling import nearest

_PRIORITY = ("test", "val", "train", "all")
"""An image that is in two splits stays in the first of these."""
_ORDER = ("train", "val", "test", "all")


@dataclass(frozen=True)
class _Options:
    splits: tuple[str, ...] | None
    cell_types: tuple[str, ...] | None
    subset: int | None
    fraction: float
    seed: int
    size: int | None
    overlap: str
    margin: int
    not_annotated: int | None
    val_share: float = 0.0
    test_share: float = 0.0
    channel: int | None = None

    def __post_init__(self) -> None:
        if not 0 < self.fraction <= 1:
            raise ValueError(f"fraction {self.fraction}: give a number above 0, at most 1")
        if self.size is not None and self.size < 1:
            raise ValueError(f"size {self.size}: give the side of the square in pixels")
        if self.margin < 0:
            raise ValueError(f"margin {self.margin}: give the width of a frame in pixels, or 0")
        if self.not_annotated == 0:
            raise ValueError("not annotated 0: 0 is background; give a label that is no cell's")
        shares = self.val_share, self.test_share
        if min(shares) < 0 or sum(shares) >= 1:
            raise ValueError(f"val and test shares {shares}: give numbers from 0, below 1 in sum")
        if self.overlap not in OVERLAP_RULES:
            hint = nearest(self.overlap, OVERLAP_RULES)
            raise ValueError(f"unknown overlap rule '{self.overlap}'; {hint}")


@dataclass
class _Build:
    """A store while it is being written."""

    folder: Path
    options: _Options
    several: bool
    """More than one source: images of one name are told apart by it."""
    records: list[tuple[int, Record]] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    duplicates: list[dict[str, Any]] = field(default_factory=list)
    overlapping: Counter[str] = field(default_factory=Counter)
    not_annotated: Counter[str] = field(default_factory=Counter)
    by_pixels: dict[str, Record] = field(default_factory=dict)
    names: set[str] = field(default_factory=set)


def prepare(  # noqa: PLR0913  each is one option of the command line
    source: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    splits: Sequence[str] | None = None,
    cell_types: Sequence[str] | None = None,
    subset: int | None = None,
    fraction: float = 1.0,
    seed: int = 0,
    size: int | None = None,
    overlap: str = "smaller-on-top",
    margin: int = 0,
    not_annotated: int | None = None,
    val_share: float = 0.0,
    test_share: float = 0.0,
    channel: int | None = None,
    export_npz: bool = False,
    images: str | Path | None = None,
    progress: Progress | None = None,
) -> Store:
    """Read image sets, paint their labels, and write them as one store.

    Args:
        source: a LIVECell folder, a COCO file, a folder with images/ and labels/, or several
            of them that become one store.
        out: folder of the store; must not exist, or be empty.
        splits: train, val, test or all; None takes what is there.
        cell_types: None takes all.
        subset: percent of the training images (2, 4, 5, 25, 50, 100), as every n-th of them.
        fraction: share of the images of each split, drawn at random; in (0, 1].
        seed: of that draw, and of the two shares.
        size: side in pixels of the square that images and labels are resized to; None keeps
            them as they are.
        overlap: smaller-on-top, later-on-top, or drop-covered.
        margin: width in pixels of a frame within which ground without a label is not annotated.
        not_annotated: number in label images of ground that nobody annotated, beside -1.
        val_share: share of the images of no split ("all") that become val.
        test_share: likewise test. With either, the others become train.
        channel: the one channel of the images to keep, counted from 0; None keeps all.
        export_npz: also write `npz/SPLIT.npz` with X (N, H, W, C) float32 and y (N, H, W, 1)
            int32 into the store.
        images: folder of the images of a COCO file.
        progress: called with the number of images done, and of all.

    Returns:
        The store, opened. Its manifest counts images, cells and overlapping pixels, and lists
        every annotation that was not painted, and why.

    Raises:
        ValueError: anything about the source or an option, with its name and the remedy.
    """
    options = _Options(
        _sorted(splits),
        _sorted(cell_types),
        subset,
        fraction,
        seed,
        size,
        overlap,
        margin,
        not_annotated,
        val_share,
        test_share,
        channel,
    )
    request = Request(
        options.splits,
        options.cell_types,
        subset,
        None if images is None else Path(images),
        not_annotated,
    )
    sources = [Path(source)] if isinstance(source, str | Path) else [Path(s) for s in source]
    names = [path.resolve().name for path in sources]
    found = _read(sources, request)
    check_offer(found, request)
    chosen = _draw([(name, f.items) for name, f in zip(names, found, strict=True)], options)
    chosen = _hold_out(chosen, options)
    with whole_folder(out) as folder:
        build = _Build(folder, options, several=len(sources) > 1)
        _add_all(build, chosen, progress)
        manifest = _finish(build, sources, found)
        if export_npz:
            write_npz(folder, [Record(**entry) for entry in manifest["records"]])
        write_manifest(folder / MANIFEST, manifest)
    return open_store(out)


def _read(sources: Sequence[Path], request: Request) -> list[Found]:
    """Return what the sources' readers find in them."""
    layouts = [find_reader(path) for path in sources]
    if request.images is not None and "coco" not in layouts:
        raise ValueError(
            f"images {request.images}: they are of a COCO file, and none is given; leave it out"
        )
    if request.not_annotated is not None and "folders" not in layouts:
        raise ValueError(
            f"not annotated {request.not_annotated}: it is a number in label images, and no folder "
            "of them is given; leave it out"
        )
    return [READERS[name].read(path, request) for name, path in zip(layouts, sources, strict=True)]


def _sorted(names: Sequence[str] | None) -> tuple[str, ...] | None:
    return None if names is None else tuple(sorted(set(names)))


def _draw(
    sources: Iterable[tuple[str, Sequence[Item]]], options: _Options
) -> list[tuple[str, Item]]:
    """Return the items of all sources, or the random fraction of each split."""
    items = [(name, item) for name, items in sources for item in items]
    chosen = []
    for number, split in enumerate(_PRIORITY):
        of_split = [pair for pair in items if pair[1].split == split]
        if of_split and options.fraction < 1:
            count = max(1, round(options.fraction * len(of_split)))
            random = np.random.default_rng([options.seed, number])
            kept = np.sort(random.permutation(len(of_split))[:count])
            of_split = [of_split[index] for index in kept]
        chosen += of_split
    if not chosen:
        raise ValueError("no images are left of these splits, cell types and subset")
    return chosen


def _hold_out(chosen: list[tuple[str, Item]], options: _Options) -> list[tuple[str, Item]]:
    """Return the items; with shares, those of no split are dealt out to test, val and train."""
    if not (options.val_share or options.test_share):
        return chosen
    free = [(source, item) for source, item in chosen if item.split == "all"]
    splits = iter(
        deal(
            [(source, *_well(item)) for source, item in free],
            val=options.val_share,
            test=options.test_share,
            seed=[options.seed, len(_PRIORITY)],
        )
    )
    dealt = [
        (source, replace(item, split=next(splits)) if item.split == "all" else item)
        for source, item in chosen
    ]
    return sorted(dealt, key=lambda pair: _PRIORITY.index(pair[1].split))


def _well(item: Item) -> tuple[str, ...]:
    """Return cell type and well of an image, or its whole path where its name tells none."""
    parsed = parse_name(item.path.name)
    return (item.cell_type, parsed.well) if parsed else ("", str(item.path))


def _add_all(build: _Build, chosen: Sequence[tuple[str, Item]], progress: Progress | None) -> None:
    for number, (source, item) in enumerate(chosen):
        _add(build, number, source, item)
        if progress is not None:
            progress(number + 1, len(chosen))


def _add(build: _Build, number: int, source: str, item: Item) -> None:
    """Read, paint and write one image, unless another split has it already."""
    image = _read_image(item.path, build.options.channel)
    painted = item.paint(image.shape[:2], build.options.overlap)
    if build.options.size is not None:
        image, painted = to_square(image, painted, build.options.size, item.path.name)
    painted = leave_margin(painted, build.options.margin)
    record = _record(build, source, item, image, painted)
    twin = build.by_pixels.setdefault(record.image_hash, record)
    if twin is not record:
        kept = twin.split == record.split
        build.duplicates.append(
            {
                "image": item.path.name,
                "split": item.split,
                "same_pixels_as": f"{twin.split}/{twin.name}",
                "kept": kept,
                "annotations": list(painted.ids),
            }
        )
        if not kept:
            return
    build.names.add(record.name)
    build.records.append((number, record))
    build.problems += painted.problems
    build.overlapping[item.split] += painted.overlapping_pixels
    build.not_annotated[item.split] += int((painted.labels == NOT_ANNOTATED).sum())
    save_arrays(build.folder, record.name, image, painted.labels)


def _read_image(path: Path, channel: int | None) -> NDArray[Any]:
    image = read_image(path)
    if channel is None:
        return image
    try:
        return one_channel(image, channel)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _record(
    build: _Build, source: str, item: Item, image: NDArray[Any], painted: Painted
) -> Record:
    further = [f"{source}-{name}" for name in item.names] if build.several else item.names
    candidates = [item.names[0], *further]
    name = next((name for name in candidates if name not in build.names), None)
    if name is None:
        raise ValueError(
            f"{item.path}: another image is named {item.names[0]} too; rename one of them, or "
            "prepare them into two stores"
        )
    parsed = parse_name(item.path.name)
    details = {k: v for k, v in asdict(parsed).items() if k != "cell_type"} if parsed else {}
    return Record(
        name=name,
        split=item.split,
        cell_type=item.cell_type,
        height=image.shape[0],
        width=image.shape[1],
        channels=1 if image.ndim == 2 else image.shape[2],
        n_cells=len(painted.ids),
        source=source,
        **details,
        image_hash=array_hash(image),
        labels_hash=array_hash(painted.labels),
    )


def _finish(build: _Build, sources: Sequence[Path], found: Sequence[Found]) -> dict[str, Any]:
    """Return the manifest, records in the order train, val, test, then of their sources."""
    build.records.sort(key=lambda pair: (_ORDER.index(pair[1].split), pair[0]))
    records = [record for _, record in build.records]
    problems = [*(p for f in found for p in f.problems), *build.problems]
    listed = [asdict(duplicate) for f in found for duplicate in f.duplicates]
    content = {
        "options": asdict(build.options),
        "counts": _counts(records),
        "overlapping_pixels": dict(sorted(build.overlapping.items())),
        "not_annotated_pixels": dict(sorted(build.not_annotated.items())),
        "problems": [asdict(problem) for problem in problems],
        "listed_twice": listed,
        "same_pixels": build.duplicates,
        "sources": [
            {
                "path": str(path),
                "files": {file.name: sha256(file) for file in f.annotation_files},
            }
            for path, f in zip(sources, found, strict=True)
        ],
    }
    return manifest_of(records, content)


def _counts(records: Iterable[Record]) -> dict[str, dict[str, dict[str, int]]]:
    """Return images and cells by split and cell type."""
    counts: dict[str, dict[str, dict[str, int]]] = {}
    for record in records:
        types = counts.setdefault(record.split, {})
        entry = types.setdefault(record.cell_type, {"images": 0, "cells": 0})
        entry["images"] += 1
        entry["cells"] += record.n_cells
    return counts
