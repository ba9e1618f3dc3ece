"""The exact Euclidean distance transform, as compiled loops.

All work is done row by row, in functions of their own, so that it becomes SIMD code.
"""

from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import ArrayLike, NDArray

Steps = NDArray[np.uint16]  # (W,)

_FAR = 32767
"""Distance along a column in which there is no background."""
_NEAR = 96
"""Rows in which all distances are shorter are searched this far to each side. Where they are
longer, a convex hull is faster."""


class Workspace(NamedTuple):
    """Arrays that are allocated outside of the compiled loops, which compile faster without."""

    above: NDArray[np.uint16]
    """(H, W): distance to the last background above."""
    steps: Steps
    """The same for the current row, upwards or downwards."""
    least: Steps
    """Distance within the column, then squared distance."""
    padded: Steps
    """Squared distances within the columns, with _NEAR + 1 pixels to either side."""
    hull: NDArray[np.int64]
    """(2, W)."""
    squares: NDArray[np.int32]
    """(W,): squared distances that are too high for uint16."""


def distance_transform(inside: ArrayLike, *, limit: int | None = None) -> NDArray[np.float32]:
    """Return each pixel's exact Euclidean distance to the nearest pixel that is 0.

    If no pixel is 0, distances are those to the pixel above the first one, as scipy's are.
    The method is that of two passes: along columns, then along rows (Meijster, Roerdink and
    Hesselink 2000; Felzenszwalb and Huttenlocher 2012).

    Args:
        inside: (H, W), bool or integer.
        limit: whole number; distances above it may come out as any number above it, but sooner.

    Returns:
        float32 (H, W), in pixels; right up to 32767.
    """
    array = np.asarray(inside)
    mask = np.require(array if array.dtype == bool else array != 0, None, ["C", "W"])
    if limit is None and mask.all():
        rows, columns = np.ogrid[1 : mask.shape[0] + 1, : mask.shape[1]]
        return np.hypot(rows, columns).astype(np.float32)
    cap = np.uint16(_FAR if limit is None else min(limit + 1, _FAR))
    distances = np.empty(mask.shape, np.float32)
    if mask.size:
        _measure(mask, cap, _workspace(*mask.shape), distances)
    return distances


def _workspace(height: int, width: int) -> "Workspace":
    return Workspace(
        above=np.empty((height, width), np.uint16),
        steps=np.empty(width, np.uint16),
        least=np.empty(width, np.uint16),
        padded=np.full(width + 2 * _NEAR + 2, (_NEAR + 1) ** 2, np.uint16),
        hull=np.empty((2, width), np.int64),
        squares=np.empty(width, np.int32),
    )


@numba.njit(cache=True, nogil=True)
def _measure(
    inside: NDArray[np.bool_], cap: np.uint16, work: Workspace, distances: NDArray[np.float32]
) -> None:
    height, width = inside.shape
    above, steps, least, padded, hull, squares = work
    steps[:] = cap
    for y in range(height):
        _step(inside[y], steps, cap, above[y])
    steps[:] = cap
    reach = np.inf
    for up in range(height):
        y = height - 1 - up
        _step(inside[y], steps, cap, least)
        # Distances of neighbouring rows differ by at most 1.
        if reach + 1 > _NEAR:
            reach = np.sqrt(_search_far(least, above[y], hull, squares))
            _take_roots(squares, distances[y])
        else:
            highest = _square_least(above[y], least, padded[_NEAR + 1 : _NEAR + 1 + width])
            reach = np.sqrt(_search_near(padded, least, highest))
            _take_roots(least, distances[y])


@numba.njit(cache=True, nogil=True)
def _step(inside: NDArray[np.bool_], steps: Steps, cap: np.uint16, copy: Steps) -> None:
    """Go on by one row: from distances to the last background in each column to the next."""
    for x in range(len(steps)):
        step = min(np.uint16(steps[x] + np.uint16(1)), cap)
        step = step if inside[x] else np.uint16(0)
        steps[x] = step
        copy[x] = step


@numba.njit(cache=True, nogil=True)
def _square_least(above: Steps, least: Steps, squares: Steps) -> np.uint16:
    """Write twice the square of the shorter way, up or down; return the highest."""
    highest = np.uint16(0)
    for x in range(len(squares)):
        step = min(min(least[x], above[x]), np.uint16(_NEAR + 1))
        square = np.uint16(step * step)
        squares[x] = square
        least[x] = square
        highest = max(highest, square)
    return highest


@numba.njit(cache=True, nogil=True)
def _search_near(padded: Steps, nearest: Steps, highest: np.uint16) -> np.uint16:
    """Lower squared distances to those of columns up to _NEAR pixels away; return the highest."""
    width = len(nearest)
    middle = _NEAR + 1
    k = 1
    while k * k < highest:
        left, right = padded[middle - k :], padded[middle + k :]
        highest = _lower(nearest, left[:width], right[:width], np.uint16(k * k))
        k += 1
    return highest


@numba.njit(cache=True, nogil=True)
def _lower(
    nearest: Steps,
    left: Steps,
    right: Steps,
    square: np.uint16,
) -> np.uint16:
    highest = np.uint16(0)
    for x in range(len(nearest)):
        value = min(nearest[x], np.uint16(min(left[x], right[x]) + square))
        nearest[x] = value
        highest = max(highest, value)
    return highest


@numba.njit(cache=True, nogil=True)
def _take_roots(squares: NDArray[np.integer], roots: NDArray[np.float32]) -> None:
    for x in range(len(roots)):
        roots[x] = np.sqrt(np.float32(squares[x]))


@numba.njit(cache=True, nogil=True)
def _search_far(
    below: Steps, above: Steps, hull: NDArray[np.int64], nearest: NDArray[np.int32]
) -> int:
    """Write squared distances to the nearest of all columns; return the highest.

    (x - q)**2 + s(q) is x**2 + (q**2 + s(q)) - 2*x*q: the least over q lies on the lower convex
    hull of the points (q, q**2 + s(q)), where its slope passes 2*x.
    """
    at, height = hull
    n = _find_hull(below, above, at, height)
    last_at, last_height = at[0], height[0]
    k = 1
    highest = 0
    for x in range(len(nearest)):
        while k < n and height[k] - last_height <= 2 * x * (at[k] - last_at):
            last_at, last_height = at[k], height[k]
            k += 1
        square = last_height + x * (x - 2 * last_at)
        nearest[x] = square
        highest = max(highest, square)
    return highest


@numba.njit(cache=True, nogil=True)
def _find_hull(below: Steps, above: Steps, at: NDArray[np.int64], height: NDArray[np.int64]) -> int:
    """Write the points of the lower convex hull; return their number."""
    step = np.int64(min(below[0], above[0]))
    at[0], height[0] = 0, step * step
    last_at, last_height = at[0], height[0]
    # Slope of the last edge: rise / run.
    rise, run = -1, 0
    n = 1
    for x in range(1, len(below)):
        step = np.int64(min(below[x], above[x]))
        new = step * step + x * x
        while n > 1 and rise * (x - last_at) >= (new - last_height) * run:
            n -= 1
            last_at, last_height = at[n - 1], height[n - 1]
            if n > 1:
                rise, run = last_height - height[n - 2], last_at - at[n - 2]
        rise, run = new - last_height, x - last_at
        last_at, last_height = x, new
        at[n], height[n] = x, new
        n += 1
    return n
