"""Images brought to the scale that a model was trained on, and labels brought back from it."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellshed.data.diameters import middle_diameter
from cellshed.settings import PredictSettings

FOR_ALL = {"scales_by_size": (), "surer_when_smaller": 0.0}
"""What predict has where its scales stand for cells of all sizes."""


def resize_image(image: NDArray[Any], shape: tuple[int, int]) -> NDArray[np.float32]:
    """Resize an image, linear, averaging over what becomes one pixel.

    Args:
        image: (H, W) or (H, W, C), any numeric dtype; intensities keep their range.
        shape: new height and width.

    Returns:
        float32 (h, w) or (h, w, C).
    """
    from PIL import Image

    values = np.asarray(image, np.float32)
    if values.ndim == 2:
        plane = Image.fromarray(np.ascontiguousarray(values))
        return np.asarray(plane.resize((shape[1], shape[0]), Image.Resampling.BILINEAR))
    planes = [resize_image(values[:, :, c], shape) for c in range(values.shape[2])]
    return np.stack(planes, axis=2)


def scaled_shape(shape: tuple[int, ...], factor: float) -> tuple[int, int]:
    """Return height and width times a factor, at least one pixel each."""
    height, width = (max(1, round(factor * side)) for side in shape[:2])
    return height, width


def zoomed(image: NDArray[Any], zoom: float) -> NDArray[Any]:
    """Return an image (H, W) or (H, W, C) enlarged by a factor; itself, if that changes nothing."""
    shape = scaled_shape(image.shape, zoom)
    return image if shape == image.shape[:2] else resize_image(image, shape)


def scales_for(labels: NDArray[np.int32], settings: PredictSettings) -> tuple[float, ...]:
    """Return the scales at which an image is looked at, by how large its cells are.

    Args:
        labels: int32 (H, W), 0 = background, the cells that a first look found.
        settings: scales_by_size and scales matter.

    Returns:
        The scales of the first pair whose diameter is no less than the cells'; settings.scales if
        they are larger than all, or if there are none.
    """
    return scales_for_size(middle_diameter(labels), settings)


def scales_for_size(size: float, settings: PredictSettings) -> tuple[float, ...]:
    """Return the same for cells of a diameter in pixels."""
    suited = (scales for diameter, scales in settings.scales_by_size if size <= diameter)
    return next(suited, settings.scales)


def smaller_scales(scales: tuple[float, ...]) -> tuple[float, ...]:
    """Return what follows where the second of some scales suits an image better than the first."""
    return scales[1], scales[1] * 2 / 3


def resize_labels(labels: NDArray[np.int32], shape: tuple[int, int]) -> NDArray[np.int32]:
    """Resize labels by nearest neighbours; themselves, if they have the shape.

    Args:
        labels: int32 (H, W), 0 = background.
        shape: new height and width.
    """
    if labels.shape == shape:
        return labels
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(np.intp)
        for new, old in zip(shape, labels.shape, strict=True)
    )
    return labels[np.ix_(rows, columns)]


def keep_present(labels: NDArray[np.int32]) -> tuple[NDArray[np.int32], NDArray[np.intp]]:
    """Number the labels that are there 1, 2, ... in their order.

    Args:
        labels: int32 (H, W), 0 = background.

    Returns:
        The labels, and for each its former number less 1, ascending.
    """
    present = np.flatnonzero(np.bincount(labels.ravel())[1:])
    table = np.zeros(int(labels.max(initial=0)) + 1, np.int32)
    table[present + 1] = np.arange(1, len(present) + 1)
    return table[labels], present
