"""COCO instance files, read into compact records.

Each image gets its annotations as they stand there; what can't be drawn shows in painting.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellshed.data.painting import Problem

Polygon = NDArray[np.float64]
"""x, y, x, y, ..."""


@dataclass(frozen=True)
class RunLengths:
    """A run-length mask as it stands in the file."""

    size: tuple[int, int]
    """Height and width."""
    counts: bytes | NDArray[np.int64]


@dataclass(frozen=True)
class Annotation:
    """One cell of a COCO file."""

    id: int | str
    image_id: int | str
    shape: tuple[Polygon, ...] | RunLengths | None
    crowd: bool
    area: float | None = None
    """As the file states it; COCO's area ranges go by it."""
    category: int | str | None = None


@dataclass(frozen=True)
class CocoImage:
    """One image of a COCO file, with its annotations in the order of the file."""

    id: int | str
    file_name: str
    height: int | None
    width: int | None
    annotations: tuple[Annotation, ...] = ()


@dataclass(frozen=True)
class Duplicate:
    """An image that is listed more than once; the annotations of `kept` alone are used."""

    image: str
    kept: int | str
    dropped: int | str


@dataclass(frozen=True)
class Coco:
    """A COCO file, each image once."""

    path: Path
    images: tuple[CocoImage, ...]
    duplicates: tuple[Duplicate, ...] = ()
    problems: tuple[Problem, ...] = ()
    """Annotations that belong to none of the images, and categories that are taken for one."""


def read_coco(path: str | Path) -> Coco:
    """Read a COCO instance file.

    An image that is listed twice keeps the annotations of the entry that has more of them (the
    first of equals): joining both would draw each cell twice.

    Raises:
        ValueError: not a whole JSON file, or not a COCO instance file, or no images in it.
    """
    path = Path(path)
    return parse_coco(_read_text(path), path)


def parse_coco(text: str, path: Path) -> Coco:
    """Like read_coco, from the text of the file named."""
    tree = _load_json(text, path)
    if not isinstance(tree, dict) or not isinstance(tree.get("images"), list):
        raise ValueError(f"{path}: no list 'images' in it; expected COCO instance annotations")
    if not tree["images"]:
        raise ValueError(f"{path}: its list of images is empty")
    listed = tree.get("annotations")
    if isinstance(listed, dict):  # some of LIVECell's files number the annotations by keys
        listed = list(listed.values())
    if not isinstance(listed, list):
        raise ValueError(f"{path}: no list 'annotations' in it; expected COCO annotations")
    images = [_parse_image(path, number, entry) for number, entry in enumerate(tree["images"])]
    images, problems = _assign(_unique_ids(path, images), listed)
    images, duplicates, more = _drop_duplicates(images)
    problems += [*more, *_merged_categories(images, tree.get("categories"))]
    return Coco(path, tuple(images), tuple(duplicates), tuple(problems))


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not readable as text: {error}") from error


def _load_json(text: str, path: Path) -> Any:
    try:
        return json.loads(text, object_hook=_compact)
    except (json.JSONDecodeError, RecursionError) as error:
        where = f"line {error.lineno}" if isinstance(error, json.JSONDecodeError) else "nested"
        raise ValueError(
            f"{path}: not whole as JSON ({where}); fetch or write the file again"
        ) from error


def _compact(entry: dict[str, Any]) -> Any:
    """Turn an annotation into arrays as soon as it is parsed: LIVECell's lists fill gigabytes."""
    if "image_id" not in entry:
        return entry
    shape = _parse_shape(entry.get("segmentation"))
    area, category = entry.get("area"), entry.get("category_id")
    return Annotation(
        entry.get("id", "?"),
        entry["image_id"],
        shape,
        bool(entry.get("iscrowd")),
        float(area) if isinstance(area, int | float) else None,
        category if isinstance(category, int | str) else None,
    )


def _parse_shape(segmentation: Any) -> tuple[Polygon, ...] | RunLengths | None:
    if isinstance(segmentation, dict):
        return _parse_runs(segmentation)
    if not isinstance(segmentation, list):
        return None
    if segmentation and isinstance(segmentation[0], int | float):
        segmentation = [segmentation]  # a single part, not in a list of parts
    return tuple(_parse_polygon(part) for part in segmentation)


def _parse_polygon(part: Any) -> Polygon:
    try:
        return np.array(part, np.float64).reshape(-1)
    except (TypeError, ValueError):
        return np.empty(0)


def _parse_runs(entry: Mapping[str, Any]) -> RunLengths | None:
    try:
        height, width = map(int, entry["size"])
        counts = entry["counts"]
        if isinstance(counts, str):
            return RunLengths((height, width), counts.encode("ascii"))
        return RunLengths((height, width), np.array(counts, np.int64).reshape(-1))
    except (KeyError, TypeError, ValueError, OverflowError):
        return None


def _parse_image(path: Path, number: int, entry: Any) -> CocoImage:
    if not isinstance(entry, dict) or "id" not in entry or not entry.get("file_name"):
        raise ValueError(f"{path}: entry {number} of 'images' has no 'id' or no 'file_name'")
    return CocoImage(entry["id"], str(entry["file_name"]), entry.get("height"), entry.get("width"))


def _unique_ids(path: Path, images: Sequence[CocoImage]) -> list[CocoImage]:
    unique: dict[int | str, CocoImage] = {}
    for image in images:
        other = unique.setdefault(image.id, image)
        if other.file_name != image.file_name:
            raise ValueError(
                f"{path}: images {other.file_name} and {image.file_name} have the same id "
                f"{image.id}, so their annotations can't be told apart; give each its own"
            )
    return list(unique.values())


def _assign(
    images: Sequence[CocoImage], annotations: Sequence[Any]
) -> tuple[list[CocoImage], list[Problem]]:
    """Give each image its annotations; list those of no image."""
    owned: dict[int | str, list[Annotation]] = {image.id: [] for image in images}
    problems = []
    for number, annotation in enumerate(annotations):
        if not isinstance(annotation, Annotation):
            problems.append(Problem(f"entry {number}", "", "no 'image_id'"))
        elif annotation.image_id not in owned:
            reason = f"no image with id {annotation.image_id}"
            problems.append(Problem(annotation.id, "", reason))
        else:
            owned[annotation.image_id].append(annotation)
    return [replace(image, annotations=tuple(owned[image.id])) for image in images], problems


def _drop_duplicates(
    images: Sequence[CocoImage],
) -> tuple[list[CocoImage], list[Duplicate], list[Problem]]:
    kept: dict[str, CocoImage] = {}
    for image in images:
        other = kept.setdefault(image.file_name, image)
        if len(image.annotations) > len(other.annotations):
            kept[image.file_name] = image
    duplicates = []
    problems = []
    for image in images:
        best = kept[image.file_name]
        if image is not best:
            duplicates.append(Duplicate(image.file_name, best.id, image.id))
            reason = f"its image is listed twice; annotations of image id {best.id} are used"
            problems += [Problem(item.id, image.file_name, reason) for item in image.annotations]
    return list(kept.values()), duplicates, problems


def _merged_categories(images: Sequence[CocoImage], categories: Any) -> list[Problem]:
    """Return a problem where annotations are of several categories: all are painted as cells."""
    counts = Counter(a.category for image in images for a in image.annotations if not a.crowd)
    if len(counts) <= 1:
        return []
    entries = categories if isinstance(categories, list) else []
    names = {str(e.get("id")): e.get("name") for e in entries if isinstance(e, dict)}
    listed = ", ".join(f"{names.get(str(key)) or key} ({n})" for key, n in counts.most_common(5))
    reason = (
        f"annotations of {len(counts)} categories are all painted as cells: {listed}; keep one "
        "of them in the file if they are parts of each other, such as a cell and its nucleus"
    )
    return [Problem("category_id", "", reason, painted=True)]
