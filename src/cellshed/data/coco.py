"""COCO instance annotations <-> label images.

Polygons with any number of parts, and compressed and uncompressed run-length masks. Polygons
become masks by pycocotools' own rasteriser, so every pixel is as there.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from cellshed.data.coco_file import Annotation, Coco, CocoImage, Polygon, RunLengths, read_coco
from cellshed.data.painting import Mask, Painted, Problem, paint
from cellshed.data.rle import encode_labels

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
