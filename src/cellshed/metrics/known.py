"""Ground that nobody annotated is left out of every score."""

import numpy as np
from numpy.typing import NDArray

from cellshed.data.store import NOT_ANNOTATED

Labels = NDArray[np.integer]  # (H, W)


def judged(true: Labels, pred: Labels) -> tuple[Labels, Labels]:
    """Return what of two label images can be compared: background where nobody annotated.

    A predicted cell that lies by more than half on such ground is no mistake and is left out, as
    COCO does with crowds; of others those pixels go.

    Args:
        true: integer labels (H, W), 0 = background, NOT_ANNOTATED where nobody knows.
        pred: integer labels (H, W), 0 = background.

    Returns:
        Both label images; the same arrays, if all ground is annotated.
    """
    if true.min(initial=0) >= 0:
        return true, pred
    unknown = true == NOT_ANNOTATED
    values, places, areas = np.unique(pred, return_inverse=True, return_counts=True)
    places = places.reshape(pred.shape)
    stays = 2 * np.bincount(places[unknown], minlength=len(values)) <= areas
    return np.where(unknown, 0, true), np.where(stays[places] & ~unknown, pred, 0)


def still_there(before: Labels, after: Labels) -> NDArray[np.bool_]:
    """Tell which cells of one label image, by ascending label, another one has too, (n,)."""
    cells = np.unique(before)
    return np.isin(cells[cells != 0], after)
