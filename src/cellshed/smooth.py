"""Compiled Gaussian smoothing, equal to scipy's to the last bit."""

import numpy as np
from numba import njit
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

Map = NDArray[np.float32]  # (H, W)
Weights = NDArray[np.float64]  # (n,)

TRUNCATE = 4.0  # the kernel ends at so many sigmas


def gaussian(image: Map, sigma: float) -> Map:
    """Smooth a map with a Gaussian, mirrored at its frame.

    Args:
        image: float32 (H, W).
        sigma: standard deviation in pixels; at 0 the image itself is returned.

    Returns:
        float32 (H, W): what scipy.ndimage.gaussian_filter gives, sums in double precision.
    """
    reach = int(TRUNCATE * sigma + 0.5)
    if reach == 0 or image.size == 0:
        return image
    weights = np.exp(-0.5 / (sigma * sigma) * np.arange(-reach, reach + 1) ** 2)
    weights /= weights.sum()
    smoothed = np.empty_like(image)
    _smooth(image, weights[reach:], smoothed)
    return smoothed


@njit(cache=True, nogil=True)
def _smooth(image: Map, weights: Weights, smoothed: Map) -> None:
    """Smooth down the columns, round to float32, then along the row."""
    height, width = image.shape
    reach = weights.size - 1
    at = np.arange(2 * reach + 1)
    rows = np.empty(2 * reach + 1, np.int64)
    total = np.empty(width, np.float64)
    line = np.empty(width + 2 * reach, np.float64)
    shifted = as_strided(line, (2 * reach + 1, width), (line.itemsize, line.itemsize))
    for y in range(height):
        for k in range(2 * reach + 1):
            rows[k] = _mirrored(y - reach + k, height)
        _add_up(image, rows, weights, total)
        for x in range(width):
            line[reach + x] = np.float32(total[x])
        for k in range(reach):
            line[k] = line[reach + _mirrored(k - reach, width)]
            line[reach + width + k] = line[reach + _mirrored(width + k, width)]
        _add_up(shifted, at, weights, total)
        for x in range(width):
            smoothed[y, x] = total[x]


@njit(cache=True, nogil=True)
def _add_up(
    rows: NDArray[np.floating], at: NDArray[np.int64], weights: Weights, total: Weights
) -> None:
    """Sum the rows `at`, weighted, in scipy's order: the middle one, then pairs from far to near.

    Four pairs a pass, which spares most of the loads and stores of the total.
    """
    reach = weights.size - 1
    middle, w0 = rows[at[reach]], weights[0]
    for x in range(total.size):
        total[x] = middle[x] * w0
    k = reach
    while k >= 4:
        a, b, w1 = rows[at[reach - k]], rows[at[reach + k]], weights[k]
        c, d, w2 = rows[at[reach - k + 1]], rows[at[reach + k - 1]], weights[k - 1]
        e, f, w3 = rows[at[reach - k + 2]], rows[at[reach + k - 2]], weights[k - 2]
        g, h, w4 = rows[at[reach - k + 3]], rows[at[reach + k - 3]], weights[k - 3]
        for x in range(total.size):
            value = total[x] + (np.float64(a[x]) + np.float64(b[x])) * w1
            value += (np.float64(c[x]) + np.float64(d[x])) * w2
            value += (np.float64(e[x]) + np.float64(f[x])) * w3
            total[x] = value + (np.float64(g[x]) + np.float64(h[x])) * w4
        k -= 4
    while k > 0:
        a, b, w1 = rows[at[reach - k]], rows[at[reach + k]], weights[k]
        for x in range(total.size):
            total[x] += (np.float64(a[x]) + np.float64(b[x])) * w1
        k -= 1


@njit(cache=True, nogil=True)
def _mirrored(i: int, n: int) -> int:
    """Bring an index into 0..n-1: d c b a | a b c d | d c b a."""
    i %= 2 * n
    return i if i < n else 2 * n - 1 - i
