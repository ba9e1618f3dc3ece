"""Compiled loops over label images: edges, connected pieces, distances, renumbering.

Nothing here loops over the labels: the cost is that of the pixels, however many cells there are.
Every function takes integer labels (H, W) with 0 for background, and leaves them unchanged.
"""

from typing import Any, NamedTuple

import numba
import numpy as np
from numpy.typing import ArrayLike, NDArray

Labels = NDArray[np.int32]  # (H, W)
Indices = NDArray[np.int32]  # (n,)

_FAR = 32767
"""Distance along a column in which there is no background; its square fits into int32."""
_NEAR = 32
"""Rows are searched this many pixels to each side before the lower envelope takes over."""


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
    count: int
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
    if array.size and array.dtype not in (np.uint8, np.uint16):
        if array.min() < 0:
            raise ValueError(f"{name} holds {array.min()}: set negative labels to 0, background")
        if array.max() > np.iinfo(np.int32).max:
            raise ValueError(
                f"{name} holds {array.max()}: renumber it from 1, e.g. with"
                " skimage.segmentation.relabel_sequential"
            )
    return np.ascontiguousarray(array, dtype=np.int32)


def boundaries(labels: ArrayLike) -> NDArray[np.bool_]:
    """Return the inner boundaries: labelled pixels of which a 4-neighbour has another value.

    The frame of the image is no boundary.

    Returns:
        bool (H, W).
    """
    checked = as_labels(labels)
    return (checked != 0) & (_eroded(checked) == 0)


def erode_edges(labels: ArrayLike, times: int = 1) -> Labels:
    """Return labels without their inner boundaries, so many times over.

    Args:
        labels: integer (H, W), 0 = background.
        times: how often every pixel of `boundaries` is set to 0; pixels taken from each cell.

    Raises:
        ValueError: times is negative, or no whole number.
    """
    if times < 0 or times != int(times):
        raise ValueError(f"erosion of {times} pixels: give a whole number from 0 up")
    eroded = as_labels(labels)
    for _ in range(int(times)):
        eroded = _eroded(eroded)
    return eroded


def distance_transform(inside: ArrayLike) -> NDArray[np.float32]:
    """Return each pixel's exact Euclidean distance to the nearest pixel that is 0.

    If no pixel is 0, distances are those to the pixel above the first one, as scipy's are.
    The method is that of two passes (columns, then rows): Meijster, Roerdink and Hesselink 2000,
    with Felzenszwalb and Huttenlocher's lower envelope (2012) where distances are long.

    Args:
        inside: (H, W), bool or integer; neither side above 32767 pixels.

    Returns:
        float32 (H, W), in pixels.
    """
    mask = np.ascontiguousarray(np.asarray(inside) != 0)
    return _distances(mask)


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
    checked = as_labels(labels)
    runs = np.empty((3, _count_runs(checked)), np.int32)
    first = _find_runs(checked, runs)
    piece, count = _join(checked, runs, first, 1 if connectivity == 8 else 0)
    return Pieces(runs[0], runs[1], runs[2], piece, count)


def connected_components(labels: ArrayLike, connectivity: int = 8) -> tuple[Labels, int]:
    """Return the connected pieces of equal label, numbered from 1, and their number.

    Args:
        labels: integer (H, W), 0 = background. A label in two pieces becomes two.
        connectivity: 8 (corners touch) or 4.
    """
    checked = as_labels(labels)
    found = pieces(checked, connectivity)
    numbered = np.zeros(checked.shape, np.int32)
    _paint(found, np.arange(1, found.count + 1, dtype=np.int32), numbered)
    return numbered, found.count


def relabel_sequential(labels: ArrayLike) -> tuple[Labels, int]:
    """Return labels renumbered 1..n in the order of their old numbers, and n."""
    checked = as_labels(labels)
    highest = int(checked.max(initial=0))
    if highest > 4 * checked.size + 1024:
        values, inverse = np.unique(checked, return_inverse=True)
        numbers = inverse.reshape(checked.shape) + int(values[0] != 0)
        return numbers.astype(np.int32), int(numbers.max())
    present = np.zeros(highest + 1, np.int32)
    present[checked.ravel()] = 1
    present[0] = 0
    new = np.cumsum(present, dtype=np.int32) * present
    return new[checked], int(present.sum())


def areas(labels: ArrayLike) -> NDArray[np.int64]:
    """Return the number of pixels of each label: label k's at index k; background's at 0."""
    return np.bincount(as_labels(labels).ravel(), minlength=1)


def _eroded(labels: Labels) -> Labels:
    eroded = np.empty_like(labels)
    _erode(labels, eroded)
    return eroded


@numba.njit(cache=True, nogil=True)
def _erode(labels: Labels, eroded: Labels) -> None:
    height, width = labels.shape
    for y in range(height):
        row, new = labels[y], eroded[y]
        above, below = labels[max(y - 1, 0)], labels[min(y + 1, height - 1)]
        for x in range(width):
            same = (row[x] == above[x]) & (row[x] == below[x])
            new[x] = row[x] if same else 0
        # Slices, not x - 1, which numba would check for wrapping around.
        left, right, inner, outer = row[:-1], row[1:], new[1:], new[:-1]
        for x in range(width - 1):
            inner[x] = inner[x] if left[x] == right[x] else 0
        for x in range(width - 1):
            outer[x] = outer[x] if left[x] == right[x] else 0


@numba.njit(cache=True, nogil=True)
def _distances(mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    height, width = mask.shape
    distance = np.empty((height, width), np.float32)
    above = np.empty((height, width), np.uint16)
    if not _measure_down(mask, above):
        for y in range(height):
            for x in range(width):
                distance[y, x] = np.sqrt((y + 1.0) ** 2 + float(x) ** 2)
        return distance
    below = np.full(width, _FAR, np.int32)
    column = np.empty(width, np.int32)
    nearest = np.empty(width, np.int32)
    for y in range(height - 1, -1, -1):
        for x in range(width):
            down = min(np.int32(below[x] + 1), np.int32(_FAR)) if mask[y, x] else np.int32(0)
            below[x] = down
            step = min(down, np.int32(above[y, x]))
            column[x] = step * step
        _nearest_in_row(column, nearest)
        for x in range(width):
            distance[y, x] = np.sqrt(np.float32(nearest[x]))
    return distance


@numba.njit(cache=True, nogil=True)
def _measure_down(mask: NDArray[np.bool_], above: NDArray[np.uint16]) -> bool:
    """Write the distance to the nearest background above; return if there is any background."""
    height, width = mask.shape
    some = False
    last = np.full(width, _FAR, np.uint16)
    for y in range(height):
        row, new = mask[y], above[y]
        for x in range(width):
            step = min(np.uint16(last[x] + 1), np.uint16(_FAR)) if row[x] else np.uint16(0)
            last[x] = step
            new[x] = step
            some |= not row[x]
    return some


@numba.njit(cache=True, nogil=True)
def _nearest_in_row(column: Indices, nearest: Indices) -> None:
    """Write min over x' of (x - x')**2 + column[x']."""
    width = len(column)
    highest = np.int32(0)
    for x in range(width):
        nearest[x] = column[x]
        highest = max(highest, column[x])
    k = 1
    while k * k < highest and k <= min(_NEAR, width - 1):
        square = np.int32(k * k)
        to_right, to_left = nearest[k:], nearest[: width - k]
        from_left, from_right = column[: width - k], column[k:]
        for x in range(width - k):
            to_right[x] = min(to_right[x], from_left[x] + square)
        for x in range(width - k):
            to_left[x] = min(to_left[x], from_right[x] + square)
        highest = np.int32(0)
        for x in range(width):
            highest = max(highest, nearest[x])
        k += 1
    if k * k < highest and k < width:
        _envelope(column, nearest)


@numba.njit(cache=True, nogil=True)
def _envelope(column: Indices, nearest: Indices) -> None:
    """Write the same by the lower envelope of the parabolas, whatever the distances are."""
    width = len(column)
    at = np.empty(width, np.int32)
    since = np.empty(width + 1, np.float64)
    n = 0
    at[0], since[0] = 0, -np.inf
    for x in range(1, width):
        meet = _meeting(column, at[n], x)
        while n > 0 and meet <= since[n]:
            n -= 1
            meet = _meeting(column, at[n], x)
        n += 1
        at[n], since[n] = x, meet
    since[n + 1] = np.inf
    k = 0
    for x in range(width):
        while since[k + 1] < x:
            k += 1
        nearest[x] = (x - at[k]) ** 2 + column[at[k]]


@numba.njit(cache=True, nogil=True, inline="always")
def _meeting(column: Indices, p: int, q: int) -> float:
    """Return where the parabolas of two columns cross."""
    return ((q - p) * (q + p) + float(column[q]) - float(column[p])) / (2.0 * (q - p))


@numba.njit(cache=True, nogil=True)
def _count_runs(labels: Labels) -> int:
    count = 0
    for y in range(labels.shape[0]):
        row = labels[y]
        left, right = row[:-1], row[1:]
        for x in range(1):
            count += row[x] != 0
        for x in range(len(left)):
            count += (right[x] != left[x]) & (right[x] != 0)
    return count


@numba.njit(cache=True, nogil=True)
def _find_runs(labels: Labels, runs: NDArray[np.int32]) -> NDArray[np.int64]:
    """Write row, start and stop of each run; return the number of each row's first run."""
    height, width = labels.shape
    first = np.empty(height + 1, np.int64)
    n = 0
    for y in range(height):
        first[y] = n
        row = labels[y]
        x = 0
        while x < width:
            label = row[x]
            start = x
            x += 1
            while x < width and row[x] == label:
                x += 1
            if label:
                runs[0, n], runs[1, n], runs[2, n] = y, start, x
                n += 1
    first[height] = n
    return first


@numba.njit(cache=True, nogil=True)
def _join(
    labels: Labels, runs: NDArray[np.int32], first: NDArray[np.int64], reach: int
) -> tuple[Indices, int]:
    """Return the number of the piece of each run, and the number of pieces."""
    rows, starts, stops = runs
    parent = np.arange(len(rows)).astype(np.int32)
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
    for i in range(len(rows)):
        if parent[i] == i:
            parent[i] = count
            count += 1
        else:
            # A parent stands before its child, so it holds its piece's number already.
            parent[i] = parent[parent[i]]
    return parent, count


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
