"""How much each pixel counts in the losses."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cellshed.data.store import NOT_ANNOTATED

MIDDLE_AREA = 500.0
"""Pixels of a cell whose pixels weigh 1."""
LIMITS = (0.6, 2.0)
"""Of a cell's pixels, however large or small it is."""
REACH = 8
"""Pixels from a cell to which the ground weighs as the cell does: it makes the outline."""


def pixel_weights(
    labels: NDArray[np.int32], cells: Literal["area", "diameter"]
) -> NDArray[np.float32]:
    """Return each pixel's weight, 0 where nobody annotated.

    Args:
        labels: (H, W), 0 = background, NOT_ANNOTATED where nobody knows.
        cells: what a cell counts by. area: all pixels weigh 1. diameter: pixels of a cell, and
            the ground nearest to it, weigh by one over its diameter, within LIMITS.

    Returns:
        float32 (H, W).
    """
    weights: NDArray[np.float32] = (labels != NOT_ANNOTATED).astype(np.float32)
    if cells == "diameter":
        weights *= _by_diameter(np.maximum(labels, 0))
    return weights


def _by_diameter(labels: NDArray[np.int32]) -> NDArray[np.float32]:
    from scipy.ndimage import distance_transform_edt

    areas = np.bincount(labels.ravel())
    if len(areas) == 1:
        return np.ones(labels.shape, np.float32)
    own = np.clip(np.sqrt(MIDDLE_AREA / np.maximum(areas, 1)), *LIMITS).astype(np.float32)
    own[0] = 1
    away, (rows, columns) = distance_transform_edt(labels == 0, return_indices=True)
    weights: NDArray[np.float32] = np.where(away <= REACH, own[labels[rows, columns]], 1)
    return weights
