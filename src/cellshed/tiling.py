"""Large images in overlapping tiles, whose results are blended by weights that sum to one."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Maps = dict[str, NDArray[np.float32]]
Weights = NDArray[np.float32]


@dataclass(frozen=True)
class Window:
    """One tile's part of an axis."""

    start: int
    size: int
    """In pixels; may reach beyond the image, where the image is mirrored."""
    weights: Weights
    """(size,) float32: share of this tile in each pixel; those of all tiles sum to one."""

    def pixels(self, length: int) -> NDArray[np.intp]:
        """Return the (size,) pixels of an axis of this length, mirrored about its ends."""
        period = max(2 * (length - 1), 1)
        positions = np.arange(self.start, self.start + self.size) % period
        return np.minimum(positions, period - positions) if length > 1 else 0 * positions

    def inside(self, length: int) -> int:
        """Return how many of its pixels lie within an axis of this length."""
        return min(self.size, length - self.start)


def predict_tiled(
    function: Callable[[NDArray[Any]], Maps],
    image: NDArray[Any],
    tile: int,
    overlap: int,
    multiple: int = 32,
) -> Maps:
    """Apply a function to an image of any size, tile by tile where it is larger than one.

    An image that fits into a tile is done in one pass. Beyond the image's lower and right border
    lies its mirror image, up to the next multiple. At the inner sides of a tile, a quarter of the
    overlap counts for nothing: if no result depends on pixels further away than that, there is no
    difference between tiles and one pass. In the half between, one tile fades into the next.
    Besides the result, no more than one tile's maps are held.

    Args:
        function: (h, w, C) -> name -> (h, w, channels); h and w are multiples of `multiple`.
        image: (H, W, C), from 1x1 on.
        tile: largest h and w, in pixels; a multiple of `multiple`.
        overlap: pixels that neighbouring tiles share, at least.
        multiple: what the sides of a tile, and the steps between tiles, are multiples of.

    Returns:
        Name -> float32 (H, W, channels).

    Raises:
        ValueError: tile isn't a multiple, or overlap leaves less than one multiple to step on.
    """
    height, width = image.shape[:2]
    rows = windows(height, tile, overlap, multiple)
    columns = windows(width, tile, overlap, multiple)
    if len(rows) == len(columns) == 1:
        found = function(image[np.ix_(rows[0].pixels(height), columns[0].pixels(width))])
        return {k: np.ascontiguousarray(v[:height, :width], np.float32) for k, v in found.items()}
    maps: Maps = {}
    for row in rows:
        for column in columns:
            part = image[np.ix_(row.pixels(height), column.pixels(width))]
            h, w = row.inside(height), column.inside(width)
            weights = np.outer(row.weights[:h], column.weights[:w])[..., None]
            place = (slice(row.start, row.start + h), slice(column.start, column.start + w))
            for name, values in function(part).items():
                if name not in maps:
                    maps[name] = np.zeros((height, width, values.shape[2]), np.float32)
                maps[name][place] += weights * values[:h, :w]
    return maps


def windows(length: int, tile: int, overlap: int, multiple: int = 32) -> tuple[Window, ...]:
    """Cut an axis into evenly spread windows.

    Args:
        length: of the axis, in pixels, at least 1.
        tile: size of a window; if the axis fits into one, that is cut to the next multiple.
        overlap: pixels that neighbours share, at least.
        multiple: of which tile is one, and all starts are.

    Raises:
        ValueError: tile isn't a multiple, or overlap leaves less than one multiple to step on.
    """
    if tile <= 0 or tile % multiple:
        raise ValueError(f"tile {tile}: give a multiple of {multiple}, such as {32 * multiple}")
    if overlap < 0 or tile - overlap < multiple:
        raise ValueError(
            f"overlap {overlap} with tiles of {tile}: give 0 to {tile - multiple}, so that "
            f"tiles are at least {multiple} apart"
        )
    if length <= tile:
        size = -(-length // multiple) * multiple
        return (Window(0, size, np.ones(size, np.float32)),)
    last = -(-(length - tile) // multiple) * multiple
    step = (tile - overlap) // multiple * multiple
    gaps = -(-last // step)
    starts = [k * last // gaps // multiple * multiple for k in range(gaps + 1)]
    weights = _shares(starts, tile)
    return tuple(Window(s, tile, w) for s, w in zip(starts, weights, strict=True))


def _shares(starts: list[int], tile: int) -> Iterator[Weights]:
    """Yield each window's share in its pixels."""
    raw = np.ones((len(starts), tile))
    for k in range(len(starts) - 1):
        overlap = starts[k] + tile - starts[k + 1]
        rising = _rise(overlap)
        raw[k, tile - overlap :] *= 1 - rising
        raw[k + 1, :overlap] *= rising
    total = np.zeros(starts[-1] + tile)
    for start, weights in zip(starts, raw, strict=True):
        total[start : start + tile] += weights
    for start, weights in zip(starts, raw, strict=True):
        yield (weights / total[start : start + tile]).astype(np.float32)


def _rise(overlap: int) -> NDArray[np.float64]:
    """Return (overlap,) weights: 0 in the first quarter, 1 in the last, smooth between."""
    u = np.clip((np.arange(overlap) + 0.5 - overlap / 4) / max(overlap / 2, 1), 0, 1)
    rising: NDArray[np.float64] = u * u * (3 - 2 * u)
    return rising


def reference_tiles(
    length: int, tile: int, stride_ratio: float = 0.75
) -> tuple[list[int], tuple[int, int]]:
    """Return where the reference's tiles start on an axis, and what it pads, for comparison.

    Its step is stride_ratio * tile, rounded up to an even number. The starts count from the
    padded axis; unlike `windows`, as much as a whole step may be padding.

    Returns:
        Starts, and the padding (before, after) in pixels.
    """
    step = min(int(np.ceil(stride_ratio * tile / 2)) * 2, tile)
    count = max(int(np.ceil((length - tile) / step + 1)), 1)
    padding = (count - 1) * step + tile - length
    return [k * step for k in range(count)], (padding - padding // 2, padding // 2)


def reference_window(size: int, left: int, right: int) -> NDArray[np.float64]:
    """Return the reference's blending weights of a tile on one axis, for comparison.

    Each overlapped side is half of a squared spline of twice the overlap's length. The weights
    of two neighbours sum to a little more than one: 1.0001 at an overlap of 64, 1.0005 at 32.

    Args:
        size: of the tile, in pixels.
        left: overlap with the tile before, 0 if there is none.
        right: overlap with the tile after.
    """
    window = np.ones(size)
    window[:left] = _spline(left)
    window[size - right :] = _spline(right)[::-1]
    return window


def _spline(overlap: int) -> NDArray[np.float64]:
    ramp = (2 * np.arange(overlap) + 1) / max(2 * overlap, 1)
    rising = np.where(ramp < 0.5, 2 * ramp**2, 1 - 2 * (1 - ramp) ** 2)
    scaled: NDArray[np.float64] = rising / rising.max(initial=1e-300)
    return scaled
