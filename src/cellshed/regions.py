"""Compiled loops over label images: edges and connected pieces.

Nothing here loops over the labels: the cost is that of the pixels, however many cells there are.
Every function takes integer labels (H, W) with 0 for background, and leaves them unchanged.
Only as_labels looks whether they are such; what a user gives goes through it first.
"""

from typing import Any, NamedTuple

import numba
import numpy as np
from numpy.typing import ArrayLike, NDArray

Labels = NDArray[np.int32]  # (H, W)
Row = NDArray[np.int32]  # (W,)
Indices = NDArray[np.int32]  # (n,)


class Pieces(NamedTuple):
    """The connected pieces of a label image, as runs: stretches of one label within a row.

    Runs are in reading order; pieces are numbered from 0 in the order of their first runs.
    """

    rows: Indices
    starts: Indices
    """First column of each run."""
    stops: Indices
    """Column behind the last of each run."""
    piece: Indices
    """Number of the piece that each run belongs to."""
    n: int
    """Number of pieces."""


def as_labels(labels: ArrayLike, name: str = "labels") -> Labels:
    """Return a label image as contiguous int32, or say what is wrong with it.

    Floats are refused even where they are whole numbers, for they are mostly maps or images
    given by mistake; so are boolean masks, in which all cells would be one.

    Args:
        labels: integer (H, W), 0 = background.
        name: what the error calls it.

    Raises:
        ValueError: not (H, W), not of integers, or a label below 0 or above 2**31 - 1.
    """
    array = np.asarray(labels)
    if array.ndim != 2:
        raise ValueError(f"{name} has shape {array.shape}: give one label image (H, W)")
    if array.dtype == bool:
        raise ValueError(
            f"{name} is a boolean mask: number its cells first, e.g. with skimage.measure.label"
        )
    if not np.issubdtype(array.dtype, np.integer):
        raise ValueError(
            f"{name} has dtype {array.dtype}: give whole numbers, 0 = background, of an integer"
            " dtype, e.g. labels.astype(np.int32)"
        )
    lowest, highest = np.iinfo(array.dtype).min, np.iinfo(np.int32).max
    if lowest < 0 and (lowest := array.min(initial=0)) < 0:
        raise ValueError(f"{name} holds {lowest}: set negative labels to 0, background")
    if np.iinfo(array.dtype).max > highest and (top := array.max(initial=0)) > highest:
        raise ValueError(
            f"{name} holds {top}: renumber it from 1, e.g. with"
            " skimage.segmentation.relabel_sequential"
        )
    return _as_int32(array)


def whole_pixels(value: int, name: str) -> int:
    """Return a number of pixels, or raise a ValueError if it is negative or no whole number."""
    if value < 0 or value != int(value):
        raise ValueError(f"{name} = {value} pixels: give a whole number from 0 up")
    return int(value)


def erode_edges(labels: ArrayLike, times: int = 1) -> Labels:
    """Return labels without their inner boundaries, so many times over.

    An inner boundary is a labelled pixel of which a 4-neighbour has another value. The frame of
    the image is none.

    Args:
        labels: integer (H, W), 0 = background.
        times: how many pixels are taken off each edge of each cell.

    Returns:
        int32 (H, W); with 0 times it may be the array that was given.

    Raises:
        ValueError: times is negative, or no whole number.
    """
    eroded = _as_int32(labels)
    for _ in range(whole_pixels(times, "erosion")):
        eroded = _eroded(eroded)
    return eroded


def pieces(labels: ArrayLike, connectivity: int = 8) -> Pieces:
    """Return the connected pieces of equal label.

    Args:
        labels: integer (H, W), 0 = background. A label may consist of several pieces.
        connectivity: 8 (corners touch) or 4.

    Raises:
        ValueError: another connectivity.
    """
    if connectivity not in (4, 8):
        raise ValueError(f"connectivity {connectivity}: give 4 or 8")
    image = _as_int32(labels)
    if not image.size:
        image = image.reshape(0, 0)  # no rows: the loops below take a row's first pixel
    height, width = image.shape
    runs = np.empty((3, _count_runs(image) + 1), np.int32)
    first = np.zeros(height + 1, np.int32)
    changes = np.zeros((width // 8 + 1) * 8, np.uint8)
    changes[width] = 1
    work = changes, changes.view(np.uint64), np.zeros(width + 8, np.int32)
    _find_runs(image, work, runs, first)
    piece = np.arange(first[-1], dtype=np.int32)
    n = _join(image, runs, first, piece, 1 if connectivity == 8 else 0)
    rows, starts, stops = runs[:, :-1]
    return Pieces(rows, starts, stops, piece, n)


def connected_components(labels: ArrayLike, connectivity: int = 8) -> tuple[Labels, int]:
    """Return the connected pieces of equal label, numbered from 1, and their number.

    Args:
        labels: integer (H, W), 0 = background. A label in two pieces becomes two.
        connectivity: 8 (corners touch) or 4.
    """
    found = pieces(labels, connectivity)
    numbered = np.zeros(np.shape(labels), np.int32)
    _paint(found, np.arange(1, found.n + 1, dtype=np.int32), numbered)
    return numbered, found.n


def _as_int32(labels: ArrayLike) -> Labels:
    # Writable too, because numba would compile everything once more for read-only arrays.
    return np.require(labels, np.int32, ["C", "W"])


def _eroded(labels: Labels) -> Labels:
    eroded = np.empty_like(labels)
    if labels.size:
        _erode(labels, eroded)
    return eroded


@numba.njit(cache=True, nogil=True)
def _erode(labels: Labels, eroded: Labels) -> None:
    height, width = labels.shape
    for y in range(height):
        row, new = labels[y], eroded[y]
        above, below = labels[max(y - 1, 0)], labels[min(y + 1, height - 1)]
        _erode_row(row[1:-1], (above[1:-1], below[1:-1], row[:-2], row[2:]), new[1:-1])
        for x, beside in ((0, min(1, width - 1)), (width - 1, max(width - 2, 0))):
            label = row[x]
            same = (above[x] == label) & (below[x] == label) & (row[beside] == label)
            new[x] = label if same else np.int32(0)


# What follows is written row by row, in functions of their own, so that it becomes SIMD code.


@numba.njit(cache=True, nogil=True)
def _erode_row(row: Row, neighbours: tuple[Row, Row, Row, Row], new: Row) -> None:
    above, below, left, right = neighbours
    for x in range(len(row)):
        label = row[x]
        same = (above[x] == label) & (below[x] == label) & (left[x] == label) & (right[x] == label)
        new[x] = label if same else np.int32(0)


@numba.njit(cache=True, nogil=True)
def _count_runs(labels: Labels) -> int:
    count = 0
    for y in range(labels.shape[0]):
        row = labels[y]
        count += _count_starts(row[:-1], row[1:])
        if len(row) and row[0]:
            count += 1
    return count


@numba.njit(cache=True, nogil=True)
def _count_starts(left: Row, right: Row) -> int:
    count = np.int32(0)
    for x in range(len(right)):
        count += np.int32((right[x] != left[x]) & (right[x] != 0))
    return int(count)


@numba.njit(cache=True, nogil=True)
def _find_runs(
    labels: Labels, work: tuple[Any, Any, Indices], runs: NDArray[np.int32], first: Indices
) -> None:
    """Write row, start and stop of each run, and the number of each row's first run.

    Args:
        labels: (H, W).
        work: changes[x], uint8: pixel x differs from the one before; the same, seen as uint64,
            for most groups of eight are all 0; and where the changes are, int32.
        runs: (3, one more than the number of runs).
        first: (H + 1,).
    """
    height, width = labels.shape
    changes, eights, at = work
    n = 0
    for y in range(height):
        first[y] = n
        row = labels[y]
        _mark_changes(row[:-1], row[1:], changes[1:width])
        # No branches, which would be mispredicted: write always, go on if it is one.
        k = 1
        for i in range(len(eights)):
            if eights[i]:
                for x in range(8 * i, 8 * i + 8):
                    at[k] = x
                    k += changes[x]
        for j in range(k - 1):
            runs[0, n], runs[1, n], runs[2, n] = y, at[j], at[j + 1]
            n += row[at[j]] != 0
    first[height] = n


@numba.njit(cache=True, nogil=True)
def _mark_changes(left: Row, right: Row, changes: NDArray[np.uint8]) -> None:
    for x in range(len(changes)):
        changes[x] = np.uint8(left[x] != right[x])


@numba.njit(cache=True, nogil=True)
def _join(
    labels: Labels, runs: NDArray[np.int32], first: Indices, parent: Indices, reach: int
) -> int:
    """Turn the numbers of the runs into those of their pieces; return the number of pieces."""
    _, starts, stops = runs
    for y in range(1, labels.shape[0]):
        j = first[y - 1]
        for i in range(first[y], first[y + 1]):
            while j < first[y] and stops[j] + reach <= starts[i]:
                j += 1
            k = j
            while k < first[y] and starts[k] < stops[i] + reach:
                if labels[y, starts[i]] == labels[y - 1, starts[k]]:
                    _unite(parent, i, k)
                k += 1
    count = 0
    for i in range(len(parent)):
        if parent[i] == i:
            parent[i] = count
            count += 1
        else:
            # A parent stands before its child, so it holds its piece's number already.
            parent[i] = parent[parent[i]]
    return count


@numba.njit(cache=True, nogil=True)
def _unite(parent: Indices, i: int, k: int) -> None:
    i, k = _root(parent, i), _root(parent, k)
    parent[max(i, k)] = min(i, k)


@numba.njit(cache=True, nogil=True)
def _root(parent: Indices, i: int) -> int:
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = parent[i]
    return i


@numba.njit(cache=True, nogil=True)
def _paint(found: Pieces, values: NDArray[Any], image: NDArray[Any]) -> None:
    """Write into each pixel the value of its piece."""
    for i in range(len(found.rows)):
        value = values[found.piece[i]]
        for x in range(found.starts[i], found.stops[i]):
            image[found.rows[i], x] = value
