"""Compiled clean-up of labels: drop small cells, fill small holes."""

import numpy as np
from numba import njit
from numpy.typing import NDArray

Labels = NDArray[np.int32]  # (H, W)
Mask = NDArray[np.uint8]  # (H, W)

UNKNOWN, HERE, OPEN = 0, 1, 2  # a background pixel's place: not seen, in this region, in no hole


@njit(cache=True, nogil=True)
def drop_small(labels: Labels, n: int, least: int) -> int:
    """Drop labels of fewer than `least` pixels and renumber the others 1.. in their order.

    Args:
        labels: int32 (H, W) of labels up to n; changed in place.
        n: the highest label there can be.
        least: the smallest area kept, in pixels; labels without pixels are never numbered.

    Returns:
        The number of labels kept.
    """
    areas = np.zeros(n + 1, np.int64)
    for y in range(labels.shape[0]):
        for x in range(labels.shape[1]):
            areas[labels[y, x]] += 1
    numbers = np.zeros(n + 1, np.int32)
    kept = 0
    for label in range(1, n + 1):
        if areas[label] >= max(least, 1):
            kept += 1
            numbers[label] = kept
    for y in range(labels.shape[0]):
        for x in range(labels.shape[1]):
            labels[y, x] = numbers[labels[y, x]]
    return kept


@njit(cache=True, nogil=True)
def fill_holes(labels: Labels, threshold: int) -> None:
    """Give small holes to the cells that enclose them.

    A hole is a 4-connected region of background that doesn't touch the frame of the image and
    all of whose 4-neighbours belong to one cell. A region that touches two cells is none, and
    neither background around a cell nor another cell inside it is ever changed.

    Args:
        labels: int32 (H, W), 0 = background; changed in place.
        threshold: holes of fewer pixels are filled.
    """
    height, width = labels.shape
    place = np.zeros((height, width), np.uint8)
    room = min(max(threshold, 1), labels.size)
    region = np.empty((room, 2), np.int32)
    for y in range(1, height - 1):
        above, row = labels[y - 1], labels[y]
        for x in range(1, width - 1):
            # The first pixel of a hole has its cell above it and to its left.
            if row[x] == 0 and row[x - 1] != 0 and row[x - 1] == above[x] and place[y, x] != OPEN:
                _fill(y, x, labels, place, region, threshold)


@njit(cache=True, nogil=True)
def _fill(y: int, x: int, labels: Labels, place: Mask, region: Labels, threshold: int) -> None:
    """Fill the region of a background pixel if it's a hole, else note that its pixels are open.

    Each pixel is noted once and a search ends at a noted one, so all searches together take time
    in proportion to the image, whatever the threshold.
    """
    cell = labels[y, x - 1]
    size = _collect(y, x, cell, labels, place, region, threshold)
    is_hole = size >= 0
    for k in range(abs(size)):
        if is_hole:
            labels[region[k, 0], region[k, 1]] = cell
        else:
            place[region[k, 0], region[k, 1]] = OPEN


@njit(cache=True, nogil=True)
def _collect(  # noqa: PLR0913 - compiled: arrays bundled in records would slow it down
    y: int, x: int, cell: int, labels: Labels, place: Mask, region: Labels, threshold: int
) -> int:
    """Write the pixels of a region to `region`; return their number, negative if it's no hole."""
    height, width = labels.shape
    region[0] = y, x
    place[y, x] = HERE
    begin, end = 0, 1
    while begin < end:
        cy, cx = region[begin]
        begin += 1
        if end >= threshold or cy in (0, height - 1) or cx in (0, width - 1):
            return -end
        for dy, dx in ((-1, 0), (0, -1), (0, 1), (1, 0)):
            ny, nx = cy + dy, cx + dx
            if labels[ny, nx] == 0:
                if place[ny, nx] == OPEN or end == region.shape[0]:
                    return -end
                if place[ny, nx] == UNKNOWN:
                    place[ny, nx] = HERE
                    region[end] = ny, nx
                    end += 1
            elif labels[ny, nx] != cell:
                return -end
    return end
