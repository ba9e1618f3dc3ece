"""Classes of pixels as one-hot maps: the targets pixelwise, pixelwise_separated and foreground.

The transforms are those of Greenwald et al., Nature Biotechnology 40, 555 (2022), as their
software computes them where the text says something else.
"""

from collections.abc import Sequence

import numba
import numpy as np
from numpy.typing import ArrayLike, NDArray

from cellshed.distances import distance_transform
from cellshed.regions import Labels, as_labels, erode_edges, whole_pixels

Classes = NDArray[np.uint8]  # (H, W, C), one-hot


def pixelwise(labels: ArrayLike, *, dilation: int = 0) -> Classes:
    """Return the classes edge, interior and background.

    An edge is one pixel wide within each cell, so two where cells touch; the image's frame is none.

    Args:
        labels: integer (H, W), 0 = background.
        dilation: background pixels up to this distance (in pixels, Euclidean) from a cell become
            edge as well.

    Returns:
        uint8 (H, W, 3), one-hot: edge, interior, background.

    Raises:
        ValueError: labels that are no label image, or a negative dilation.
    """
    return _one_hot(_levels(as_labels(labels), dilation), (2, 0, 1))


def pixelwise_separated(labels: ArrayLike, *, dilation: int = 0) -> Classes:
    """Return the classes of `pixelwise`, with edges towards other cells as a class of their own.

    An edge pixel with a 4-neighbour in the background is background_edge, else cell_edge. In the
    reference the two channels are swapped against its own description; here they are as
    described. There, too, a dilated pixel may belong to both; here it is background_edge alone.

    Args:
        labels: integer (H, W), 0 = background.
        dilation: background pixels up to this distance (in pixels, Euclidean) from a cell become
            background_edge as well.

    Returns:
        uint8 (H, W, 4), one-hot: background_edge, cell_edge, interior, background.

    Raises:
        ValueError: labels that are no label image, or a negative dilation.
    """
    checked = as_labels(labels)
    levels = _levels(checked, dilation)
    beside_background = distance_transform(checked, limit=1) <= 1
    levels += 2 * ((levels == 1) & ~beside_background).view(np.uint8)
    return _one_hot(levels, (3, 0, 2, 1))


def foreground(labels: ArrayLike) -> Classes:
    """Return the classes background and foreground.

    Always two channels; the reference gives only one if there is no cell.

    Args:
        labels: integer (H, W), 0 = background.

    Returns:
        uint8 (H, W, 2), one-hot: background, foreground.

    Raises:
        ValueError: labels that are no label image.
    """
    return _one_hot((as_labels(labels) != 0).view(np.uint8), (0, 1))


def _levels(labels: Labels, dilation: int) -> NDArray[np.uint8]:
    """Return 0 in the background, 1 on edges, 2 in the interior."""
    reach = whole_pixels(dilation, "dilation")
    within = distance_transform(labels == 0, limit=reach) <= reach if reach else labels != 0
    interior = erode_edges(labels) != 0
    levels: NDArray[np.uint8] = within.view(np.uint8) + interior.view(np.uint8)
    return levels


def _one_hot(levels: NDArray[np.uint8], channels: Sequence[int]) -> Classes:
    """Return (H, W, C) with 1 in the channel of each pixel's level."""
    classes = np.zeros((*levels.shape, len(channels)), np.uint8)
    _write_ones(levels, np.array(channels), classes)
    return classes


@numba.njit(cache=True, nogil=True)
def _write_ones(levels: NDArray[np.uint8], channels: NDArray[np.intp], classes: Classes) -> None:
    for y in range(levels.shape[0]):
        for x in range(levels.shape[1]):
            classes[y, x, channels[levels[y, x]]] = 1
