"""How large cells are: the diameter of the disc that has a cell's area."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cellshed.data.store import Store


def diameters(labels: NDArray[np.integer]) -> NDArray[np.float64]:
    """Return each cell's diameter in pixels, sqrt(4 area / pi), cells of the frame left out.

    Args:
        labels: integer (H, W), 0 = background, -1 = not annotated.
    """
    labels = np.maximum(labels, 0)
    areas = np.bincount(labels.ravel())
    for edge in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
        areas[edge] = 0
    areas[:1] = 0
    whole: NDArray[np.float64] = np.sqrt(4 * areas[areas > 0] / np.pi)
    return whole


def middle_diameter(labels: NDArray[np.integer]) -> float:
    """Return the diameter in pixels of the cell at which half of all cells' area is reached.

    The smallest come first, cells of the frame are left out. So the large ones count, of which a
    model finds few and in pieces when they are too large for it, and debris hardly does.

    Args:
        labels: integer (H, W), 0 = background.

    Returns:
        At least the median; infinity without whole cells.
    """
    return _middle(diameters(labels))


def middle_diameter_of(stores: Sequence[Store]) -> float:
    """Return the same of all whole cells of some stores."""
    return _middle(_all_diameters(stores))


def _middle(found: NDArray[np.float64]) -> float:
    found = np.sort(found)
    if not len(found):
        return float("inf")
    reached = np.cumsum(found**2)
    return float(found[np.searchsorted(reached, reached[-1] / 2)])


def median_diameter(stores: Sequence[Store]) -> float | None:
    """Return the median diameter in pixels of the whole cells of some stores; None without any."""
    joined = _all_diameters(stores)
    return round(float(np.median(joined)), 2) if len(joined) else None


def _all_diameters(stores: Sequence[Store]) -> NDArray[np.float64]:
    found = [diameters(store.labels(i)) for store in stores for i in range(len(store))]
    return np.concatenate(found) if found else np.zeros(0)
