"""Compiled search for the maxima of a map, equal to scikit-image's to the last pixel.

h-maxima: the definition compares a map f with the reconstruction by dilation of the lowered map
g = f - h under f; a pixel is kept where f exceeds the reconstruction by h. The reconstruction is
needed at the maxima alone, so two raster scans bound it from below (Vincent, IEEE Transactions on
Image Processing 2, 176 (1993)), which leaves few candidates, and a flood from each of these
settles the rest. Maxima and minima of floats are exact, so the order of the work changes nothing.
"""

from typing import TypeAlias

import numpy as np
from numba import njit
from numpy.typing import NDArray

Map: TypeAlias = NDArray[np.float32]  # (H, W)
Mask: TypeAlias = NDArray[np.uint8]  # (H, W), 0 or 1
Labels: TypeAlias = NDArray[np.int32]  # (H, W)
Row: TypeAlias = NDArray[np.float32]  # (W,)
Indices: TypeAlias = NDArray[np.int64]

# scikit-image lowers f by h and by twice this resolution of float32, relative to |f|.
SLACK = np.float32(2) * np.float32(1e-6)


def h_maxima(image: Map, height: float, radius: int) -> Mask:
    """Find the maxima that stand `height` or more over the way to any higher one.

    Args:
        image: float32 (H, W), finite.
        height: prominence above 0, in units of the map.
        radius: of the disk within which pixels are neighbours, at least 1.

    Returns:
        uint8 (H, W), 1 at the maxima: what scikit-image's h_maxima gives with the footprint
        disk(radius).
    """
    h = np.float32(height)
    peaks = np.zeros(image.shape, np.uint8)
    if image.size and h <= np.ptp(image):
        bound = np.empty_like(image)
        _raise_bound(image, h, bound)
        candidates = np.flatnonzero(image - bound >= h)
        _settle(candidates, h, image, bound, disk_offsets(radius), peaks)
    return peaks


def peak_local_max(image: Map, threshold: float, radius: int, exclude_border: bool) -> Mask:
    """Find single pixels that are highest within a square and above a threshold.

    Args:
        image: float32 (H, W), finite.
        threshold: absolute level that a maximum must exceed.
        radius: half the side of the square; of equal pixels closer than this, one is kept.
        exclude_border: drop maxima within `radius` of the frame.

    Returns:
        uint8 (H, W), 1 at the maxima: what scikit-image's peak_local_max gives with
        min_distance=radius and threshold_abs=threshold.
    """
    peaks = np.zeros(image.shape, np.uint8)
    level = np.float32(threshold)
    if image.size == 1 and not exclude_border:
        peaks[image > level] = 1
    elif image.size and np.ptp(image) > 0:
        _highest_in_square(image, level, radius, radius if exclude_border else 0, peaks)
        if radius > 1:
            at = np.flatnonzero(peaks)
            order = np.argsort(-image.ravel()[at], kind="stable")
            _space_out(at[order], radius, peaks)
    return peaks


def disk_offsets(radius: int) -> Indices:
    """Return the (dy, dx) of a disk's pixels without its centre, nearest first: (n, 2)."""
    dy, dx = np.mgrid[-radius : radius + 1, -radius : radius + 1].reshape(2, -1)
    square = dy * dy + dx * dx
    inside = np.flatnonzero((square > 0) & (square <= radius * radius))
    inside = inside[np.argsort(square[inside], kind="stable")]
    offsets: Indices = np.stack([dy[inside], dx[inside]], axis=1).astype(np.int64)
    return offsets


@njit(cache=True, nogil=True)
def label_peaks(peaks: Mask, labels: Labels) -> int:
    """Number the 8-connected pieces of a sparse mask 1..n in the order of their first pixels.

    Args:
        peaks: uint8 (H, W).
        labels: int32 (H, W), zeros; receives the numbers.

    Returns:
        n
    """
    height, width = peaks.shape
    stack = [0]
    n = 0
    for y in range(height):
        for x in range(width):
            if peaks[y, x] == 0 or labels[y, x] != 0:
                continue
            n += 1
            labels[y, x] = n
            stack.append(y * width + x)
            while len(stack) > 1:
                i = stack.pop()
                cy, cx = i // width, i % width
                for ny in range(max(cy - 1, 0), min(cy + 2, height)):
                    for nx in range(max(cx - 1, 0), min(cx + 2, width)):
                        if peaks[ny, nx] != 0 and labels[ny, nx] == 0:
                            labels[ny, nx] = n
                            stack.append(ny * width + nx)
    return n


@njit(cache=True, nogil=True)
def _raise_bound(f: Map, h: np.float32, bound: Map) -> None:
    """Fill `bound` with the reconstruction as far as one scan down and one up carry it.

    Steps go to the 4 neighbours only, which lie in every disk: a lower bound for all radii.
    """
    height, width = f.shape
    for y in range(height):
        row, line = f[y], bound[y]
        for x in range(width):
            line[x] = (row[x] - h) - SLACK * abs(row[x])
        if y > 0:
            _from_line(line, bound[y - 1], row)
        carry = line[0]
        for x in range(1, width):
            carry = _capped(carry, line[x], row[x])
            line[x] = carry
    for y in range(height - 1, -1, -1):
        row, line = f[y], bound[y]
        if y + 1 < height:
            _from_line(line, bound[y + 1], row)
        carry = line[width - 1]
        for x in range(width - 2, -1, -1):
            carry = _capped(carry, line[x], row[x])
            line[x] = carry


@njit(cache=True, nogil=True, inline="always")
def _from_line(line: Row, other: Row, cap: Row) -> None:
    for x in range(line.size):
        line[x] = _capped(other[x], line[x], cap[x])


@njit(cache=True, nogil=True, inline="always")
def _capped(a: np.float32, b: np.float32, cap: np.float32) -> np.float32:
    """Return min(max(a, b), cap), in the form that becomes two vector instructions."""
    most = a if a > b else b
    return most if most < cap else cap


@njit(cache=True, nogil=True)
def _settle(
    candidates: Indices, h: np.float32, f: Map, bound: Map, offsets: Indices, peaks: Mask
) -> None:
    """Mark the h-maxima: each candidate is confirmed or refuted by a flood."""
    width = f.shape[1]
    seen = np.zeros(f.shape, np.int32)
    queue = np.empty(64, np.int64)
    turn = 0
    for i in candidates:
        y, x = i // width, i % width
        if f[y, x] - bound[y, x] >= h and peaks[y, x] == 0:
            turn += 1
            queue = _flood(y, x, turn, h, f, bound, offsets, seen, queue, peaks)


@njit(cache=True, nogil=True)
def _flood(  # noqa: PLR0913 - compiled: arrays bundled in records would slow it down
    y: int,
    x: int,
    turn: int,
    h: np.float32,
    f: Map,
    bound: Map,
    offsets: Indices,
    seen: Labels,
    queue: Indices,
    peaks: Mask,
) -> Indices:
    """Visit what the pixel (y, x) reaches above the level that would refute it.

    `f[y, x] - level < h` says that a level is that high. A visited pixel whose bound is so high
    refutes the candidate, and then all visited pixels are known to be at least as connected.
    Otherwise the candidate stands, with every visited pixel of its own value.
    """
    height, width = f.shape
    top = f[y, x]
    lowest = top
    queue[0] = y * width + x
    seen[y, x] = turn
    begin, end = 0, 1
    while begin < end:
        cy, cx = queue[begin] // width, queue[begin] % width
        begin += 1
        for k in range(offsets.shape[0]):
            ny, nx = cy + offsets[k, 0], cx + offsets[k, 1]
            if ny < 0 or ny >= height or nx < 0 or nx >= width:
                continue
            if seen[ny, nx] == turn or top - f[ny, nx] >= h:
                continue
            if top - bound[ny, nx] < h:
                _lift(min(lowest, bound[ny, nx]), queue[:end], bound)
                return queue
            lowest = min(lowest, f[ny, nx])
            seen[ny, nx] = turn
            if end == queue.size:
                queue = np.concatenate((queue, np.empty_like(queue)))
            queue[end] = ny * width + nx
            end += 1
    for k in range(end):
        cy, cx = queue[k] // width, queue[k] % width
        if f[cy, cx] == top:
            peaks[cy, cx] = 1
    return queue


@njit(cache=True, nogil=True)
def _lift(level: np.float32, visited: Indices, bound: Map) -> None:
    width = bound.shape[1]
    for i in visited:
        y, x = i // width, i % width
        bound[y, x] = max(bound[y, x], level)


@njit(cache=True, nogil=True)
def _highest_in_square(f: Map, level: np.float32, radius: int, margin: int, peaks: Mask) -> None:
    """Mark pixels above the level that no pixel of the square around them exceeds."""
    height, width = f.shape
    for y in range(margin, height - margin):
        for x in range(margin, width - margin):
            top = f[y, x]
            if top <= level:
                continue
            if (x > 0 and f[y, x - 1] > top) or (x + 1 < width and f[y, x + 1] > top):
                continue
            peaks[y, x] = _is_highest(f, y, x, radius)


@njit(cache=True, nogil=True)
def _is_highest(f: Map, y: int, x: int, radius: int) -> int:
    height, width = f.shape
    top = f[y, x]
    for ny in range(max(y - radius, 0), min(y + radius + 1, height)):
        for nx in range(max(x - radius, 0), min(x + radius + 1, width)):
            if f[ny, nx] > top:
                return 0
    return 1


@njit(cache=True, nogil=True)
def _space_out(order: Indices, radius: int, peaks: Mask) -> None:
    """Of peaks closer than the radius (the larger of |dy|, |dx|) keep the first in the order."""
    height, width = peaks.shape
    for i in order:
        y, x = i // width, i % width
        if peaks[y, x] == 0:
            continue
        for ny in range(max(y - radius + 1, 0), min(y + radius, height)):
            for nx in range(max(x - radius + 1, 0), min(x + radius, width)):
                peaks[ny, nx] = 0
        peaks[y, x] = 1
