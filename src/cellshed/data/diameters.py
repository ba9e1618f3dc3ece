"""How large cells are: the diameter of the disc that has a cell's area."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cellshed.data.store import Store


def diameters(labels: NDArray[np.integer]) -> NDArray[np.float64]:
    """Return each cell's diameter in pixels, sqrt(4 area / pi), cells of the frame left out.

    Args:
        labels: integer (H, W), 0 = background.
    """
    areas = np.bincount(labels.ravel())
    for edge in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
        areas[edge] = 0
    areas[:1] = 0
    whole: NDArray[np.float64] = np.sqrt(4 * areas[areas > 0] / np.pi)
    return whole


def median_diameter(stores: Sequence[Store]) -> float | None:
    """Return the median diameter in pixels of the whole cells of some stores; None without any."""
    found = [diameters(store.labels(i)) for store in stores for i in range(len(store))]
    joined = np.concatenate(found) if found else np.zeros(0)
    return round(float(np.median(joined)), 2) if len(joined) else None
