"""Times the targets beside plain scipy and scikit-image versions of the same algorithms.

Run as `python benchmarks/bench_targets.py`; one thread, best of several repeats.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree
from skimage.measure import label
from skimage.morphology import disk
from skimage.segmentation import find_boundaries

from cellshed.class_maps import pixelwise
from cellshed.distance_maps import inner_distance, outer_distance
from cellshed.distances import distance_transform
from cellshed.regions import connected_components
from timing import best_ms

SIZE = 512
Array = NDArray[Any]


def rows() -> list[dict[str, Any]]:
    """Return one row per part and number of cells: times in ms, ours and plain, and the bound."""
    return [row for cells in (300, 3000) for row in _rows_for(cells)]


def _rows_for(cells: int) -> list[dict[str, Any]]:
    labels = field(SIZE, cells)
    both = "scipy, scikit-image"
    parts = [
        ("inner distance", 3, both, lambda: inner_distance(labels, erosion=1), plain_inner),
        ("outer distance", 12, both, lambda: outer_distance(labels, erosion=1), plain_outer),
        ("pixelwise", 1.5, both, lambda: pixelwise(labels, dilation=1), plain_pixelwise),
        ("distance transform", None, "scipy", lambda: distance_transform(labels), _plain_distance),
        ("connected pieces", None, "scikit-image", lambda: connected_components(labels), label),
    ]
    return [
        {
            "part": part,
            "size": f"{SIZE}x{SIZE}",
            "cells": cells,
            "ours_ms": best_ms(ours, 40),
            "plain_ms": best_ms(lambda plain=plain: plain(labels), 5),
            "plain": name,
            "bound_ms": bound,
        }
        for part, bound, name, ours, plain in parts
    ]


def scaling() -> list[dict[str, Any]]:
    """Return times of inner_distance over pixels (900 to a cell), and over cells."""
    sizes = [(size, size * size // 900) for size in (256, 512, 1024, 2048, 4096, 8192)]
    counts = [(2048, cells) for cells in (10, 100, 1000, 10_000, 100_000)]
    return [_point(size, cells) for size, cells in sizes + counts]


def _point(size: int, cells: int) -> dict[str, Any]:
    labels = field(size, cells)
    ms = best_ms(lambda: inner_distance(labels, erosion=1), 5)
    return {"part": "inner distance", "pixels": size * size, "cells": cells, "ms": ms}


def field(size: int, cells: int) -> NDArray[np.int32]:
    """Return round, often touching cells at random places, on about 60 % of a square."""
    centres = np.random.default_rng(cells).uniform(0, size, (cells, 2))
    tree, columns = cKDTree(centres), np.arange(size)
    radius = 0.55 * size / np.sqrt(cells)
    labels = np.empty((size, size), np.int32)
    for y in range(size):
        distance, nearest = tree.query(np.stack([np.full(size, y), columns], axis=1))
        labels[y] = np.where(distance < radius, nearest + 1, 0)
    return labels


def plain_inner(labels: Array) -> Array:
    """Return 1 / (1 + r**2 / sqrt(area)) about each eroded cell's weighted centre."""
    eroded = plain_erosion(labels)
    cells, n = label(eroded, return_num=True)
    weights = ndimage.distance_transform_edt(eroded)
    # Index 0 is the background, which has no weight.
    centres = np.array(ndimage.center_of_mass(weights + (cells == 0), cells, np.arange(n + 1)))
    rows, columns = np.ogrid[: labels.shape[0], : labels.shape[1]]
    square = (rows - centres[cells, 0]) ** 2 + (columns - centres[cells, 1]) ** 2
    alpha = 1 / np.sqrt(np.bincount(cells.ravel()))[cells]
    return np.where(cells > 0, 1 / (1 + alpha * square), 0).astype(np.float32)


def plain_outer(labels: Array) -> Array:
    """Return each eroded cell's distance to the background, over its largest."""
    eroded = plain_erosion(labels)
    cells, n = label(eroded, return_num=True)
    distance = ndimage.distance_transform_edt(eroded)
    highest = ndimage.maximum(distance, cells, np.arange(n + 1))
    return (distance / np.maximum(highest, 1)[cells]).astype(np.float32)


def plain_pixelwise(labels: Array) -> Array:
    """Return edge, dilated by a pixel, interior and background."""
    edge = find_boundaries(labels, mode="inner", connectivity=1)
    interior = (labels > 0) & ~edge
    edge = ndimage.binary_dilation(edge, disk(1)) & ~interior
    return np.stack([edge, interior, ~(edge | interior)], axis=2).astype(np.uint8)


def plain_erosion(labels: Array) -> Array:
    """Return labels without their inner boundaries."""
    return np.where(find_boundaries(labels, mode="inner", connectivity=1), 0, labels)


def _plain_distance(labels: Array) -> Array:
    return ndimage.distance_transform_edt(labels)


def check() -> None:
    """Make sure that both versions give the same."""
    labels = field(SIZE, 300)
    assert np.allclose(inner_distance(labels, erosion=1), plain_inner(labels), atol=1e-6)
    assert np.allclose(outer_distance(labels, erosion=1), plain_outer(labels), atol=1e-6)
    assert np.array_equal(pixelwise(labels, dilation=1), plain_pixelwise(labels))
    assert np.array_equal(connected_components(labels)[0], label(labels))


if __name__ == "__main__":
    check()
    for row in rows():
        ratio = row["plain_ms"] / row["ours_ms"]
        bound = f"   at most {row['bound_ms']}" if row["bound_ms"] else ""
        print(
            f"{row['part']:20} {row['size']:8} {row['cells']:5} cells {row['ours_ms']:7.2f} ms   "
            f"{row['plain']}: {row['plain_ms']:7.1f} ms, {ratio:5.1f} x{bound}"
        )
    for point in scaling():
        nanoseconds = 1e6 * point["ms"] / point["pixels"]
        print(
            f"{point['part']:20} {point['pixels']:9} pixels {point['cells']:6} cells"
            f" {point['ms']:8.2f} ms, {nanoseconds:5.1f} ns a pixel"
        )
