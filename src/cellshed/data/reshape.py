"""What becomes of an image and its painted labels on the way into a store."""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellshed.data.painting import Painted, Problem
from cellshed.data.store import NOT_ANNOTATED


def to_square(
    image: NDArray[Any], painted: Painted, size: int, name: str
) -> tuple[NDArray[Any], Painted]:
    """Resize an image, bilinear with anti-aliasing, and its labels, nearest, to a square.

    Args:
        image: (H, W) or (H, W, C).
        painted: its labels.
        size: new side in pixels.
        name: the image's, for the problems.

    Returns:
        Both at (size, size); cells without a pixel left are among the problems.
    """
    from skimage.transform import resize

    shape = (size, size, *image.shape[2:])
    resized = resize(image, shape, order=1, anti_aliasing=True, preserve_range=True)
    if image.dtype.kind in "ui":
        resized = np.rint(resized)
    rows, columns = (
        ((np.arange(size) + 0.5) * side / size).astype(np.intp) for side in image.shape[:2]
    )
    taken = painted.labels[np.ix_(rows, columns)]
    cells = np.maximum(taken, 0)
    visible = np.bincount(cells.reshape(-1), minlength=len(painted.ids) + 1)[1:] > 0
    table = np.zeros(len(painted.ids) + 1, np.int32)
    table[1:][visible] = np.arange(1, visible.sum() + 1)
    labels = np.where(taken == NOT_ANNOTATED, taken, table[cells])
    lost = [
        Problem(painted.ids[index], name, f"no pixel left at {size}x{size}")
        for index in np.flatnonzero(~visible).tolist()
    ]
    ids = tuple(painted.ids[index] for index in np.flatnonzero(visible).tolist())
    return resized.astype(image.dtype), Painted(
        labels, ids, (*painted.problems, *lost), painted.overlapping_pixels
    )


def leave_margin(painted: Painted, margin: int) -> Painted:
    """Return the labels with ground near the frame not annotated, where no cell is.

    Args:
        painted: labels of an image.
        margin: width of the frame in pixels; 0 changes nothing.
    """
    if not margin:
        return painted
    labels = painted.labels
    frame = np.ones(labels.shape, bool)
    frame[margin:-margin, margin:-margin] = False
    return replace(painted, labels=np.where(frame & (labels == 0), NOT_ANNOTATED, labels))
