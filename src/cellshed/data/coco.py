"""COCO instance annotations <-> label images.

Polygons with any number of parts, and compressed and uncompressed run-length masks. Polygons
become masks by pycocotools' own rasteriser, so every pixel is as there.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import compress
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from cellshed.data.coco_file import Annotation, Coco, CocoImage, Polygon, RunLengths, read_coco
from cellshed.data.painting import Mask, Painted, Problem, paint
from cellshed.data.rle import encode_labels
from cellshed.data.store import NOT_ANNOTATED

__all__ = [
    "Annotation",
    "Coco",
    "CocoImage",
    "coco_tree",
    "image_masks",
    "labels_to_annotations",
    "paint_image",
    "read_coco",
]

_TOO_SHORT = "no polygon with 3 points or more"


def paint_image(
    image: CocoImage, shape: tuple[int, int], *, overlap: str = "smaller-on-top"
) -> Painted:
    """Paint an image's annotations into a label image; the ground of crowds is NOT_ANNOTATED.

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
    labels = _without_crowds(painted.labels, image)
    return replace(painted, labels=labels, problems=(*problems, *painted.problems))


def _without_crowds(labels: NDArray[np.int32], image: CocoImage) -> NDArray[np.int32]:
    """Mark ground of crowds, whose cells nobody drew one by one, but for drawn cells."""
    crowds = tuple(replace(a, crowd=False) for a in image.annotations if a.crowd)
    if not crowds:
        return labels
    shape = (labels.shape[0], labels.shape[1])
    masks, _ = image_masks(replace(image, annotations=crowds), shape)
    crowded = paint(masks, shape, "later-on-top").labels > 0
    return np.where(crowded & (labels == 0), np.int32(NOT_ANNOTATED), labels)


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


def image_masks(image: CocoImage, shape: tuple[int, int]) -> tuple[list[Mask], list[Problem]]:
    """Return the mask of each annotation, overlaps and all, and what could not be read.

    Crowds are no single cells and are left out: paint_image takes their ground for not annotated.
    """
    masks: dict[int, bytes] = {}
    reasons: dict[int, str] = {}
    parts: list[Polygon] = []
    owners: list[int] = []
    for index, annotation in enumerate(image.annotations):
        if annotation.crowd:
            reasons[index] = "a crowd, not a single cell; its ground counts as not annotated"
        elif annotation.shape is None:
            reasons[index] = "no segmentation, or not one in COCO's form"
        elif isinstance(annotation.shape, RunLengths):
            masks[index], reasons[index] = _compress(annotation.shape, image, annotation, shape)
        elif not annotation.shape:
            reasons[index] = _TOO_SHORT
        else:
            parts += annotation.shape
            owners += [index] * len(annotation.shape)
    usable = _usable(parts, shape)
    masks |= _rasterise(list(compress(parts, usable)), list(compress(owners, usable)), shape)
    reasons |= _why_unusable(parts, owners, usable)
    problems = [
        Problem(image.annotations[index].id, image.file_name, reason, bool(masks.get(index)))
        for index, reason in sorted(reasons.items())
        if reason
    ]
    drawn = sorted(index for index, counts in masks.items() if counts)
    given = image.annotations
    return [Mask(given[i].id, masks[i], given[i].area) for i in drawn], problems


def _compress(
    runs: RunLengths, image: CocoImage, annotation: Annotation, shape: tuple[int, int]
) -> tuple[bytes, str]:
    """Return a mask's compressed text and no reason, or an empty one and the reason."""
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


def _usable(parts: Sequence[Polygon], shape: tuple[int, int]) -> list[bool]:
    """Tell which polygons have 3 points or more, all of them numbers not far from the image."""
    usable = [part.size >= 6 and part.size % 2 == 0 for part in parts]
    if not any(usable):
        return usable
    chosen = list(compress(parts, usable))
    starts = np.cumsum([0, *(part.size for part in chosen[:-1])])
    farthest = np.maximum.reduceat(np.abs(np.concatenate(chosen)), starts)
    limit = 4 * max(shape) + 1000  # the rasteriser's memory grows with a polygon's perimeter
    near = iter((farthest <= limit).tolist())
    return [whole and next(near) for whole in usable]


def _why_unusable(
    parts: Sequence[Polygon], owners: Sequence[int], usable: Sequence[bool]
) -> dict[int, str]:
    """Return, by owner, why polygons of it are left out."""
    reasons = {}
    n_bad: Counter[int] = Counter()
    for owner, part, fine in zip(owners, parts, usable, strict=True):
        if not fine:
            short = part.size < 6 or part.size % 2
            reasons[owner] = _TOO_SHORT if short else "a polygon's points are no numbers nearby"
            n_bad[owner] += 1
    n_parts = Counter(owners)
    for owner, bad in n_bad.items():
        if bad < n_parts[owner]:
            reasons[owner] = f"{bad} of its {n_parts[owner]} parts left out: {reasons[owner]}"
    return reasons


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
