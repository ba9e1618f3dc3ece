"""Measurements of each cell: one row a cell, all lengths in pixels."""

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

Columns = dict[str, NDArray[Any]]

COLUMNS = (
    *("label", "area", "centroid_y", "centroid_x", "y0", "x0", "y1", "x1"),
    *("perimeter", "eccentricity", "mean_intensity", "confidence"),
)
"""Columns of the table. The box runs from (y0, x0) to (y1, x1), the last two not in it."""

# Length that a border pixel stands for, by 1 + 2 * neighbours + 10 * diagonal neighbours on the
# border (Benkrid and Crookes 2000, as in scikit-image's perimeter).
_LENGTHS = np.zeros(50)
_LENGTHS[[5, 7, 15, 17, 25, 27]] = 1
_LENGTHS[[21, 33]] = np.sqrt(2)
_LENGTHS[[13, 23]] = (1 + np.sqrt(2)) / 2


def measure(
    labels: NDArray[np.integer],
    image: NDArray[Any],
    confidence: NDArray[np.floating] | None = None,
) -> Columns:
    """Measure every cell of an image.

    Args:
        labels: (H, W), 0 = background, cells 1..n without gaps.
        image: (H, W) or (H, W, C), whose mean over the channels is taken.
        confidence: (n,) in [0, 1]; NaN in the table where it isn't given.

    Returns:
        By the names in COLUMNS: arrays (n,). Perimeter and eccentricity are scikit-image's.

    Raises:
        ValueError: shapes don't agree.
    """
    if image.shape[:2] != labels.shape:
        raise ValueError(f"image {image.shape} and labels {labels.shape}: not of one size")
    labels = np.ascontiguousarray(labels, dtype=np.int32)
    grey = image if image.ndim == 2 else image.mean(axis=2)
    n = int(labels.max(initial=0))
    sums, boxes = _sums(labels, np.ascontiguousarray(grey, dtype=np.float64), n)
    area = sums[1:, 0]
    safe = np.maximum(area, 1)
    centre_y, centre_x = sums[1:, 1] / safe, sums[1:, 2] / safe
    spread = _spread(labels, np.stack([centre_y, centre_x], axis=1), n)[1:] / safe[:, None]
    unknown = np.full(n, np.nan) if confidence is None else np.asarray(confidence)
    values = (
        *(np.arange(1, n + 1), area.astype(np.int64), centre_y, centre_x, *boxes[1:].T),
        *(_perimeters(labels, _LENGTHS, n)[1:], _eccentricity(spread), sums[1:, 3] / safe, unknown),
    )
    return dict(zip(COLUMNS, values, strict=True))


def _eccentricity(spread: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return that of ellipses with the variances yy, xx and the covariance yx in columns."""
    yy, xx, yx = spread.T
    mean, root = (yy + xx) / 2, np.hypot((yy - xx) / 2, yx)
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = np.where(mean + root > 0, (mean - root) / (mean + root), 1.0)
    eccentricity: NDArray[np.float64] = np.sqrt(np.clip(1 - ratio, 0, 1))
    return eccentricity


@njit(cache=True, nogil=True)
def _sums(labels, grey, n):  # type: ignore[no-untyped-def]
    """Return area and the sums of y, x and intensity (n + 1, 4), and boxes (n + 1, 4)."""
    height, width = labels.shape
    sums = np.zeros((n + 1, 4))
    boxes = np.zeros((n + 1, 4), np.int64)
    boxes[:, 0], boxes[:, 1] = height, width
    for y in range(height):
        for x in range(width):
            k = labels[y, x]
            if k:
                sums[k, 0] += 1
                sums[k, 1] += y
                sums[k, 2] += x
                sums[k, 3] += grey[y, x]
                boxes[k, 0] = min(boxes[k, 0], y)
                boxes[k, 1] = min(boxes[k, 1], x)
                boxes[k, 2] = max(boxes[k, 2], y + 1)
                boxes[k, 3] = max(boxes[k, 3], x + 1)
    return sums, boxes


@njit(cache=True, nogil=True)
def _spread(labels, centres, n):  # type: ignore[no-untyped-def]
    """Return the sums of dy**2, dx**2 and dy * dx about each cell's centre, (n + 1, 3)."""
    sums = np.zeros((n + 1, 3))
    for y in range(labels.shape[0]):
        for x in range(labels.shape[1]):
            k = labels[y, x]
            if k:
                dy, dx = y - centres[k - 1, 0], x - centres[k - 1, 1]
                sums[k, 0] += dy * dy
                sums[k, 1] += dx * dx
                sums[k, 2] += dy * dx
    return sums


@njit(cache=True, nogil=True)
def _perimeters(labels, lengths, n):  # type: ignore[no-untyped-def]
    """Return the length of each cell's inner border, (n + 1,)."""
    height, width = labels.shape
    framed = np.zeros((height + 2, width + 2), labels.dtype)
    framed[1:-1, 1:-1] = labels
    border = np.zeros_like(framed)
    for y in range(1, height + 1):
        for x in range(1, width + 1):
            k = framed[y, x]
            beside = (framed[y - 1, x], framed[y + 1, x], framed[y, x - 1], framed[y, x + 1])
            if beside != (k, k, k, k):
                border[y, x] = k
    total = np.zeros(n + 1)
    for y in range(1, height + 1):
        for x in range(1, width + 1):
            k = border[y, x]
            if k:
                near = border[y - 1 : y + 2, x - 1 : x + 2] == k
                sides = int(near[0, 1]) + near[1, 0] + near[1, 2] + near[2, 1]
                total[k] += lengths[1 + 2 * sides + 10 * (near.sum() - 1 - sides)]
    return total
