"""COCO instance annotations <-> label images.

Reads polygons with any number of parts, and compressed and uncompressed run-length masks.
Polygons become masks by pycocotools' own rasteriser, so every pixel is as there.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from cellshed.data.painting import Mask, Painted, Problem, paint
from cellshed.data.rle import encode_labels

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
    """Annotations that belong to none of the images."""


def read_coco(path: str | Path) -> Coco:
    """Read a COCO instance file.

    An image that is listed twice keeps the annotations of the entry that has more of them (the
    first of equals): joining both would draw each cell twice.

    Raises:
        ValueError: not a whole JSON file, or not a COCO instance file, or no images in it.
    """
    path = Path(path)
    tree = _load_json(path)
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
    return Coco(path, tuple(images), tuple(duplicates), tuple(problems + more))


def paint_image(
    image: CocoImage, shape: tuple[int, int], *, overlap: str = "smaller-on-top"
) -> Painted:
    """Paint an image's annotations into a label image.

    Args:
        image: one image of a COCO file.
        shape: height and width of the image itself.
        overlap: smaller-on-top, later-on-top or drop-covered.

    Raises:
        ValueError: the image, or a run-length mask, is of another size; unknown overlap rule.
    """
    listed = (image.height or shape[0], image.width or shape[1])
    if listed != shape:
        raise ValueError(
            f"image {image.file_name} is {shape[0]}x{shape[1]}, its annotations are for "
            f"{listed[0]}x{listed[1]} (height x width): take the image they were made on"
        )
    masks, problems = image_masks(image, shape)
    painted = paint(masks, shape, overlap, image.file_name)
    return replace(painted, problems=(*problems, *painted.problems))


def labels_to_annotations(
    labels: NDArray[np.integer],
    image_id: int | str,
    scores: Sequence[float] | NDArray[np.floating] | None = None,
    first_id: int = 1,
) -> list[dict[str, Any]]:
    """Return a label image as COCO annotations with compressed run-length masks.

    Args:
        labels: (H, W), 0 = background.
        image_id: id of the image in the COCO file.
        scores: one per label that occurs, in ascending order of the labels.
        first_id: id of the first annotation; the others follow.

    Raises:
        ValueError: as many scores are needed as there are labels.
    """
    encoded = encode_labels(labels)
    if scores is not None and len(scores) != len(encoded.values):
        raise ValueError(f"{len(scores)} scores for {len(encoded.values)} labels: give one each")
    size = list(labels.shape)
    annotations: list[dict[str, Any]] = [
        {
            "id": first_id + index,
            "image_id": image_id,
            "category_id": 1,
            "segmentation": {"size": size, "counts": counts},
            "area": area,
            "bbox": box,
            "iscrowd": 0,
        }
        for index, (counts, area, box) in enumerate(
            zip(encoded.counts, encoded.areas.tolist(), encoded.boxes.tolist(), strict=True)
        )
    ]
    if scores is not None:
        for annotation, score in zip(annotations, scores, strict=True):
            annotation["score"] = round(float(score), 4)
    return annotations


def coco_tree(images: Iterable[Mapping[str, Any]], annotations: Iterable[Any]) -> dict[str, Any]:
    """Return a COCO file's tree with the one category "cell".

    Args:
        images: with the keys id, file_name, height and width.
        annotations: such as labels_to_annotations returns.
    """
    return {
        "info": {"description": "written by cellshed"},
        "images": list(images),
        "annotations": list(annotations),
        "categories": [{"id": 1, "name": "cell", "supercategory": "cell"}],
    }


def _load_json(path: Path) -> Any:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not readable as text: {error}") from error
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
    area = entry.get("area")
    return Annotation(
        entry.get("id", "?"),
        entry["image_id"],
        shape,
        bool(entry.get("iscrowd")),
        float(area) if isinstance(area, int | float) else None,
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


def image_masks(image: CocoImage, shape: tuple[int, int]) -> tuple[list[Mask], list[Problem]]:
    """Return the mask of each annotation, overlaps and all, and what could not be read.

    Crowds are no single cells and are left out.
    """
    problems: list[Problem] = []
    masks: dict[int, bytes] = {}
    parts: list[Polygon] = []
    owners: list[int] = []
    for index, annotation in enumerate(image.annotations):
        reason = ""
        if annotation.crowd:
            reason = "a crowd, not a single cell"
        elif annotation.shape is None:
            reason = "no segmentation, or not one in COCO's form"
        elif isinstance(annotation.shape, RunLengths):
            masks[index], reason = _compress(annotation.shape, image, annotation, shape)
        else:
            usable, reason = _usable_parts(annotation.shape, shape)
            parts += usable
            owners += [index] * len(usable)
        if reason:
            painted = bool(owners) and owners[-1] == index
            problems.append(Problem(annotation.id, image.file_name, reason, painted))
    masks |= _rasterise(parts, owners, shape)
    order = sorted(index for index, counts in masks.items() if counts)
    return [Mask(image.annotations[index].id, masks[index]) for index in order], problems


def _compress(
    runs: RunLengths, image: CocoImage, annotation: Annotation, shape: tuple[int, int]
) -> tuple[bytes, str]:
    """Return a mask's compressed text, or an empty one and the reason."""
    if runs.size != shape:
        raise ValueError(
            f"annotation {annotation.id} of image {image.file_name} is a mask of "
            f"{runs.size[0]}x{runs.size[1]}, the image is {shape[0]}x{shape[1]} (height x width)"
        )
    if isinstance(runs.counts, bytes):
        return runs.counts, "" if runs.counts else "its run-length mask is empty"
    if runs.counts.size == 0 or runs.counts.min() < 0 or runs.counts.sum() > shape[0] * shape[1]:
        return b"", "its run lengths do not fit the image"
    entry = {"size": list(shape), "counts": runs.counts.tolist()}
    return coco_mask.frPyObjects(entry, *shape)["counts"], ""


def _usable_parts(polygons: Sequence[Polygon], shape: tuple[int, int]) -> tuple[list[Polygon], str]:
    """Return the parts that can be drawn, and what is wrong with the others."""
    far = 4 * max(shape) + 1000  # the rasteriser's memory grows with a polygon's perimeter
    usable = []
    reasons = []
    for polygon in polygons:
        if polygon.size < 6 or polygon.size % 2:
            reasons.append("no polygon with 3 points or more")
        elif not np.abs(polygon).max() <= far:
            reasons.append("a polygon's points are not numbers near the image")
        else:
            usable.append(polygon)
    if not polygons:
        return [], "no polygon with 3 points or more"
    if usable and reasons:
        return usable, f"{len(reasons)} of {len(polygons)} parts left out: {reasons[0]}"
    return usable, reasons[0] if reasons else ""


def _rasterise(
    parts: list[Polygon], owners: Sequence[int], shape: tuple[int, int]
) -> dict[int, bytes]:
    """Return the compressed mask of each owner: the union of its parts."""
    if not parts:
        return {}
    pieces: dict[int, list[dict[str, Any]]] = {}
    for owner, piece in zip(owners, coco_mask.frPyObjects(parts, *shape), strict=True):
        pieces.setdefault(owner, []).append(piece)
    return {
        owner: (own[0] if len(own) == 1 else coco_mask.merge(own))["counts"]
        for owner, own in pieces.items()
    }
