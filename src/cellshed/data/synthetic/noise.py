"""Smooth noise and spots: the raw material of texture, uneven light and rough outlines."""

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy import ndimage

Field = NDArray[np.float32]


def waves(rng: np.random.Generator, shape: tuple[int, int], size: float) -> Field:
    """Return noise of mean 0 and deviation about 1 whose bumps are about `size` pixels wide."""
    step = size / 2
    grid = rng.standard_normal([math.ceil(n / step) + 5 for n in shape], np.float32)
    # A Gaussian of sigma 1 leaves white noise a deviation of 1 / sqrt(4 pi).
    grid = ndimage.gaussian_filter(grid, 1, mode="wrap") * np.float32(math.sqrt(4 * math.pi))
    field = np.empty(shape, np.float32)
    _interpolate(grid, np.float32(1 / step), field)
    return field


@njit(cache=True, nogil=True)
def _interpolate(grid: Field, pace: np.float32, field: Field) -> None:
    """Read a field off a coarse grid, bilinearly, `pace` grid cells a pixel."""
    one = np.float32(1)
    for row in range(field.shape[0]):
        y = one + pace * np.float32(row)
        i = int(y)
        down = y - np.float32(i)
        for column in range(field.shape[1]):
            x = one + pace * np.float32(column)
            j = int(x)
            right = x - np.float32(j)
            upper = grid[i, j] * (one - right) + grid[i, j + 1] * right
            lower = grid[i + 1, j] * (one - right) + grid[i + 1, j + 1] * right
            field[row, column] = upper * (one - down) + lower * down


def grain(rng: np.random.Generator, shape: tuple[int, int], fine: float, coarse: float) -> Field:
    """Return noise of deviation 1 without detail below `fine` or above `coarse` (sigmas, px)."""
    noise = rng.standard_normal(shape, np.float32)
    band = ndimage.gaussian_filter(noise, fine, truncate=3)
    band -= ndimage.gaussian_filter(band, coarse, truncate=3)
    return np.asarray(band / max(float(band.std()), 1e-6))


def spots(shape: tuple[int, int], each: NDArray[np.float64]) -> Field:
    """Draw Gaussian spots.

    Args:
        shape: height and width.
        each: (n, 4) x, y, sigma, height.

    Returns:
        Their sum, float32 (H, W).
    """
    field = np.zeros(shape, np.float32)
    _stamp(np.ascontiguousarray(each, np.float32), field)
    return field


@njit(cache=True, nogil=True)
def _stamp(each: Field, field: Field) -> None:
    for x, y, sigma, height in each:
        reach = int(3 * sigma) + 1
        scale = np.float32(-0.5) / (sigma * sigma)
        for row in range(max(int(y) - reach, 0), min(int(y) + reach + 2, field.shape[0])):
            for column in range(max(int(x) - reach, 0), min(int(x) + reach + 2, field.shape[1])):
                dx, dy = np.float32(column) - x, np.float32(row) - y
                field[row, column] += height * np.exp((dx * dx + dy * dy) * scale)
