"""Labels of whole cells, and the polygons that paint back to the very same labels."""

import numpy as np
from numba import njit
from numpy.typing import NDArray

Labels = NDArray[np.int32]
Outline = NDArray[np.int32]
"""(m, 2) x, y of the corners, clockwise as seen on screen; pixel (0, 0) spans 0..1."""


def whole_cells(labels: Labels, least: int) -> Labels:
    """Keep of each label its largest 4-connected piece, and fill what it encloses.

    Args:
        labels: (H, W), 0 = background.
        least: smaller pieces than this are left out, in pixels.

    Returns:
        int32 (H, W) with the same numbers, some of them gone.
    """
    from skimage.measure import label

    pieces = label(labels, connectivity=1)
    sizes = np.bincount(pieces.ravel())
    owner = np.zeros(len(sizes), np.int32)
    owner[pieces.ravel()] = labels.ravel()
    order = np.lexsort((-sizes, owner))
    keep = np.zeros(len(sizes), bool)
    keep[order] = np.diff(owner[order], prepend=-1) != 0
    keep &= (owner > 0) & (sizes >= least)
    whole: Labels = np.where(keep, owner, 0).astype(np.int32)[pieces]
    found, corners = _trace(np.pad(whole, 1), int(whole.max()))
    each = np.split(corners, found[:-1, 1])
    holes = found[:, 2] - np.bincount(whole.ravel())[found[:, 0]]
    # The outermost last: a cell may lie in a hole of one that lies in a hole.
    for k in sorted(np.flatnonzero(holes), key=lambda k: found[k, 2]):
        _fill(whole, each[k], found[k, 0])
    return whole


def outlines(labels: Labels) -> list[Outline]:
    """Trace each label's outer boundary along the edges of its pixels.

    Args:
        labels: (H, W), 0 = background, each label one 4-connected piece.

    Returns:
        One outline per label that occurs, in ascending order.
    """
    found, corners = _trace(np.pad(labels, 1), int(labels.max(initial=0)))
    each = np.split(corners, found[:-1, 1])
    return [each[k] for k in np.argsort(found[:, 0])]


@njit(cache=True, nogil=True)
def _trace(padded: Labels, highest: int) -> tuple[NDArray[np.int64], Outline]:
    """Walk around every label of an image that has a frame of one pixel.

    Returns:
        (n, 3) label, end of its corners, and pixels enclosed; n labels as they occur, row by
        row. Then the corners of all, one after another.
    """
    seen = np.zeros(highest + 1, np.bool_)
    found = np.zeros((highest, 3), np.int64)
    corners = np.zeros((1024, 2), np.int32)
    n = end = 0
    for row in range(padded.shape[0] - 2):
        for column in range(padded.shape[1] - 2):
            label = padded[row + 1, column + 1]
            if label == 0 or seen[label]:
                continue
            seen[label] = True
            corners, end, enclosed = _walk(padded, row, column, corners, end)
            found[n, 0], found[n, 1], found[n, 2] = label, end, enclosed
            n += 1
    return found[:n], corners[:end]


@njit(cache=True, nogil=True)
def _walk(
    padded: Labels, row: int, column: int, corners: Outline, end: int
) -> tuple[Outline, int, int]:
    """Follow one label's edge, it on the right hand, from its topmost leftmost corner."""
    label = padded[row + 1, column + 1]
    x, y, dx, dy, enclosed = column, row, 1, 0, 0
    while True:
        if end == len(corners):
            corners = np.concatenate((corners, np.zeros_like(corners)))
        corners[end, 0], corners[end, 1] = x, y
        end += 1
        turn = 0
        while turn == 0:
            x, y = x + dx, y + dy
            enclosed -= dx * y
            # Of the two pixels ahead, that to the right and that to the left.
            right = padded[y + (dx + dy + 1) // 2, x + (dx - dy + 1) // 2]
            left = padded[y + (dy - dx + 1) // 2, x + (dx + dy + 1) // 2]
            turn = 1 if right != label else (-1 if left == label else 0)
        dx, dy = -dy * turn, dx * turn
        if x == column and y == row and dx == 1:
            return corners, end, enclosed


@njit(cache=True, nogil=True)
def _fill(labels: Labels, outline: Outline, value: int) -> None:
    """Paint all pixels within an outline: below an odd number of its horizontal edges."""
    left, top = outline[:, 0].min(), outline[:, 1].min()
    width, height = outline[:, 0].max() - left, outline[:, 1].max() - top
    crossed = np.zeros((height + 1, width), np.bool_)
    for k in range(len(outline)):
        x0, y0 = outline[k]
        x1, y1 = outline[(k + 1) % len(outline)]
        if y0 == y1:
            for x in range(min(x0, x1), max(x0, x1)):
                crossed[y0 - top, x - left] ^= True
    for column in range(width):
        within = False
        for row in range(height):
            within ^= crossed[row, column]
            if within:
                labels[top + row, left + column] = value
