"""Compiled clean-up of labels: drop small cells, fill small holes."""

import numpy as np
from numba import njit
from numpy.typing import NDArray

Labels = NDArray[np.int32]  # (H, W)
Mask = NDArray[np.uint8]  # (H * W,)

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
    place = np.zeros(labels.size, np.uint8)
    region = np.empty(min(max(threshold, 1), labels.size), np.int64)
    flat = labels.ravel()
    for y in range(1, height - 1):
        above, row = labels[y - 1], labels[y]
        for x in range(1, width - 1):
            # The first pixel of a hole has its cell above it and to its left.
            corner = row[x] == 0 and row[x - 1] != 0 and row[x - 1] == above[x]
            if corner and place[y * width + x] != OPEN:
                _fill(y * width + x, flat, width, place, region)


@njit(cache=True, nogil=True)
def _fill(
    start: int, labels: NDArray[np.int32], width: int, place: Mask, region: NDArray[np.int64]
) -> None:
    """Fill the region of a background pixel if it's a hole, else note that its pixels are open.

    Each pixel is noted once and a search ends at a noted one, so all searches together take time
    in proportion to the image, whatever the threshold.
    """
    cell = labels[start - 1]
    size = _collect(start, labels, width, place, region)
    for k in range(abs(size)):
        if size > 0:
            labels[region[k]] = cell
        else:
            place[region[k]] = OPEN


@njit(cache=True, nogil=True)
def _collect(
    start: int, labels: NDArray[np.int32], width: int, place: Mask, region: NDArray[np.int64]
) -> int:
    """Write the pixels of a region to `region`; return their number, negative if it's no hole.

    Holes have fewer pixels than there is room for.
    """
    cell = labels[start - 1]
    region[0] = start
    place[start] = HERE
    begin, end = 0, 1
    while begin < end:
        i = region[begin]
        x = i % width
        begin += 1
        on_frame = i < width or i >= labels.size - width or x == 0 or x == width - 1
        if on_frame or end == region.size:
            return -end
        for step in (-width, -1, 1, width):
            j = i + step
            if labels[j] == 0:
                if place[j] == OPEN or end == region.size:
                    return -end
                if place[j] == UNKNOWN:
                    place[j] = HERE
                    region[end] = j
                    end += 1
            elif labels[j] != cell:
                return -end
    return end
