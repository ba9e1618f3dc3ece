"""Cells of one crop pasted into another: new neighbours, with borders that are known.

Simple copy-paste (Ghiasi et al., CVPR 2021), for crops of one image, whose light and cells are
alike: a few annotated images then show many more arrangements of the same cells.
"""

import numpy as np
from numpy.typing import NDArray

from cellshed.data.store import NOT_ANNOTATED
from cellshed.distances import distance_transform

Image = NDArray[np.float32]  # (S, S, C)
Labels = NDArray[np.int32]  # (S, S)

FEATHER = 4
"""Pixels outside of a pasted cell over which it gives way to what was there: its halo."""
LEAST_LEFT = 0.7
"""Share of a cell that must be seen still; of one with less nobody could tell the outline."""


def paste_cells(
    rng: np.random.Generator, image: Image, labels: Labels, other: Image, others: Labels
) -> tuple[Image, Labels]:
    """Return a crop with some cells of another one in it, at the same places.

    Args:
        rng: source of chance; how many cells, and which.
        image: float32 (S, S, C); not changed.
        labels: int32 (S, S), 0 = background, -1 = not annotated; not changed.
        other: crop that cells are taken from, (S, S, C).
        others: its labels.

    Returns:
        The crop, and its labels: pasted cells have new numbers; of cells that they hide for the
        most part, what is left is not annotated.
    """
    ids = np.unique(others[others > 0])
    if not ids.size:
        return image, labels
    chosen = rng.choice(ids, rng.integers(1, ids.size + 1), replace=False)
    pasted = np.isin(others, chosen)
    away = distance_transform(~pasted, limit=FEATHER + 1)
    share = np.maximum(np.float32(0), 1 - away / np.float32(FEATHER + 1))[:, :, None]
    level = _ground(image, labels) - _ground(other, others)
    mixed: Image = image + share * (other + level - image)
    return mixed, _covered(labels, np.where(pasted, others, 0))


def _ground(image: Image, labels: Labels) -> NDArray[np.float32]:
    """Return the median background by channel, of all pixels where there is none."""
    ground = image[labels == 0]
    median: NDArray[np.float32] = np.median(
        ground if len(ground) else image.reshape(-1, image.shape[2]), axis=0
    ).astype(np.float32)
    return median


def _covered(labels: Labels, over: Labels) -> Labels:
    """Lay labels over others, by numbers above theirs."""
    highest = int(labels.max(initial=0))
    known = np.maximum(labels, 0)
    before = np.bincount(known.ravel(), minlength=highest + 1)
    after = np.bincount(known[over == 0], minlength=highest + 1)
    hidden = after < LEAST_LEFT * before
    hidden[0] = False
    left = np.where(hidden[known], NOT_ANNOTATED, labels)
    return np.where(over > 0, over + highest, left).astype(np.int32)
