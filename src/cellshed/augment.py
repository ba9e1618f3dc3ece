"""Crop, rotation, zoom and flip of an image and its labels in one pass.

Targets are computed from the warped labels afterwards, so that distances are right at any zoom.
"""

from dataclasses import dataclass, replace
from functools import cache
from math import exp, log
from typing import Any, Literal

import numba
import numpy as np
from numpy.typing import NDArray

from cellshed.normalize import Scaling, as_channels
from cellshed.settings import AugmentSettings

Array = NDArray[Any]
Row = tuple[float, float, float]

BEND_SPACING = 40
"""Pixels of a crop between the places whose displacements are drawn."""
_STRAIGHT = np.empty((2, 0, 0), np.float32)


@dataclass(frozen=True)
class Warp:
    """Where each pixel of the result comes from."""

    matrix: tuple[Row, Row]
    """Result's (row, column, 1) -> source's (row, column); whole numbers are pixel centres."""
    fill: Literal["reflect", "nearest"] = "reflect"
    """What lies outside of the source. reflect: its mirror image about the outermost pixels, so
    that image and labels go on alike. nearest: its outermost pixels, smeared outwards."""
    bend: NDArray[np.float32] | None = None
    """(2, S, S): how far aside each pixel looks, along the result's rows and columns, in its
    pixels; None: nowhere."""


@dataclass(frozen=True)
class Pose:
    """How a crop lies on its source."""

    rotation: float = 0.0
    """Degrees; the source is turned anticlockwise as seen with row 0 on top."""
    zoom: tuple[float, float] = (1.0, 1.0)
    """Magnification along the crop's rows and columns."""
    flip: tuple[bool, bool] = (False, False)
    """Whether the crop's rows (upside down), and columns (left to right), are reversed."""

    def axes(self) -> NDArray[np.float64]:
        """Return the (2, 2) matrix of the result's steps in the source."""
        turned = np.deg2rad(self.rotation)
        rotation = np.array([[np.cos(turned), np.sin(turned)], [-np.sin(turned), np.cos(turned)]])
        # Quarter turns exactly, so that they move pixels onto pixels.
        rotation = np.where(np.abs(rotation) < 1e-15, 0.0, rotation)
        signs = np.where(self.flip, -1.0, 1.0)
        return rotation @ np.diag(signs / np.array(self.zoom))


def place(pose: Pose, centre: tuple[float, float], size: int) -> Warp:
    """Return the warp that puts a point of the source into the middle of a crop.

    Args:
        pose: how the crop lies.
        centre: (row, column) of the source. If the crop moves pixels onto pixels (zoom 1 and
            quarter turns), it is shifted by less than a pixel so that none is interpolated.
        size: side of the crop in pixels.
    """
    axes = pose.axes()
    corner = np.array(centre) - axes @ np.full(2, (size - 1) / 2)
    if np.array_equal(axes, np.round(axes)):
        corner = np.floor(corner + 1e-9)
    (a, b), (c, d) = axes.tolist()
    row, column = corner.tolist()
    return Warp(((a, b, row), (c, d, column)))


def sample_warp(
    rng: np.random.Generator, settings: AugmentSettings, shape: tuple[int, int], size: int
) -> Warp:
    """Draw a crop at random.

    The crop's place is drawn evenly from those where the whole crop, as it is turned and zoomed,
    lies within the source; along an axis where there is none, its centre is the source's.

    Args:
        rng: source of chance; a fixed number of draws is taken from it, more if it is to bend.
        settings: ranges of rotation, zoom, stretch and flips, and how far it bends.
        shape: (height, width) of the source.
        size: side of the crop in pixels.
    """
    pose = sample_pose(rng, settings)
    reach = np.abs(pose.axes()).sum(axis=1) * (size - 1) / 2
    last = np.array(shape) - 1.0
    low = np.minimum(reach, last / 2)
    row, column = low + rng.random(2) * _steps(pose, last - 2 * low)
    how = place(pose, (row, column), size)
    return replace(how, bend=_sample_bend(rng, settings.bend, size)) if settings.bend else how


def sample_pose(rng: np.random.Generator, settings: AugmentSettings) -> Pose:
    """Draw rotation, zoom, stretch and flips."""
    turn, zoom, stretch, *flips = rng.random(5).tolist()
    low, high = (log(bound) for bound in settings.zoom)
    centre = low + zoom * (high - low)
    half_ratio = (stretch - 0.5) * -log(1 - settings.stretch)
    return Pose(
        rotation=(2 * turn - 1) * settings.rotation,
        zoom=(exp(centre + half_ratio), exp(centre - half_ratio)),
        flip=(settings.flip and flips[0] < 0.5, settings.flip and flips[1] < 0.5),
    )


def reference_warp(
    shape: tuple[int, int],
    *,
    theta: float = 0.0,
    shift: tuple[float, float] = (0.0, 0.0),
    shear: float = 0.0,
    zoom: tuple[float, float] = (1.0, 1.0),
    flip: tuple[bool, bool] = (False, False),
) -> Warp:
    """Return the warp of the reference's generator, for comparison with it.

    It is rotation, shift, shear and zoom about (H / 2 + 0.5, W / 2 + 0.5), one pixel beside the
    middle; its zoom multiplies coordinates, so that less than 1 magnifies; the flips come last.
    It is applied to a crop that was cut before, hence the smeared borders of turned crops.

    Args:
        shape: (height, width) of the image, and of the result.
        theta: rotation in degrees.
        shift: in pixels, along rows and columns.
        shear: in degrees.
        zoom: factor of the coordinates along rows and columns.
        flip: (vertical, horizontal): reverse the rows, the columns.
    """
    turned, sheared = np.deg2rad(theta), np.deg2rad(shear)
    rotation = np.array([[np.cos(turned), -np.sin(turned)], [np.sin(turned), np.cos(turned)]])
    shearing = np.array([[1, -np.sin(sheared)], [0, np.cos(sheared)]])
    axes = rotation @ shearing @ np.diag(zoom)
    middle = np.array(shape) / 2 + 0.5
    corner = rotation @ np.array(shift) + middle - axes @ middle
    for axis in range(2):
        if flip[axis]:
            corner += axes[:, axis] * (shape[axis] - 1)
            axes[:, axis] *= -1
    (a, b), (c, d) = axes.tolist()
    row, column = corner.tolist()
    return Warp(((a, b, row), (c, d, column)), fill="nearest")


def warp(
    image: Array, labels: Array, how: Warp, size: int, scale: Scaling | None = None
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Return a square crop of an image and its labels, warped together.

    Args:
        image: (H, W) or (H, W, C), any numeric dtype; interpolated bilinearly.
        labels: integer (H, W); the nearest pixel's label is taken. A label may fall into pieces.
        how: where each pixel comes from.
        size: side S of the result in pixels.
        scale: normalisation to apply on the way, from the whole image (see normalize.scaling).

    Returns:
        float32 (S, S, C) and int32 (S, S).

    Raises:
        ValueError: image and labels differ in height or width.
    """
    image = as_channels(image)
    labels = np.asarray(labels)
    if image.shape[:2] != labels.shape:
        raise ValueError(f"image is {image.shape[:2]} but its labels are {labels.shape}")
    channels = image.shape[2]
    scale = scale or Scaling(np.zeros(channels), np.ones(channels))
    warped: tuple[NDArray[np.float32], NDArray[np.int32]] = _warp_both(
        _of_few_dtypes(image, np.float64, (np.uint8, np.uint16, np.float32, np.float64)),
        _of_few_dtypes(labels, np.int32, (np.uint16, np.int32)),
        (np.array(how.matrix), _STRAIGHT if how.bend is None else how.bend, how.fill == "reflect"),
        size,
        np.stack(scale),
    )
    return warped


def _sample_bend(rng: np.random.Generator, largest: float, size: int) -> NDArray[np.float32]:
    """Draw smooth displacements (2, size, size) from values on a grid of BEND_SPACING pixels."""
    between = _splines(size)
    deviation = rng.random() * largest
    drawn = rng.normal(scale=deviation, size=(2, between.shape[1], between.shape[1]))
    aside: NDArray[np.float32] = (between @ drawn @ between.T).astype(np.float32)
    return aside


@cache
def _splines(size: int) -> NDArray[np.float64]:
    """Return (size, n): the cubic splines through n places evenly spread over the pixels."""
    from scipy.ndimage import zoom

    n = -(-size // BEND_SPACING) + 1
    splines: NDArray[np.float64] = zoom(np.eye(n), (size / n, 1), order=3)
    return splines


def _steps(pose: Pose, room: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the room for the crop's centre; crops that keep the pixel grid have whole steps."""
    axes = pose.axes()
    return room + 1 if np.array_equal(axes, np.round(axes)) else room


def _of_few_dtypes(array: Array, default: type, kept: tuple[type, ...]) -> Array:
    """Convert rare dtypes, for each one would be another compilation of the kernel."""
    return array if array.dtype in [np.dtype(kind) for kind in kept] else array.astype(default)


@numba.njit(cache=True, nogil=True)
def _inside(x: float, n: int, reflect: bool) -> float:
    """Bring a coordinate into 0 .. n - 1."""
    if 0 <= x <= n - 1:
        return x
    if not reflect or n == 1:
        return min(max(x, 0.0), n - 1.0)
    period = 2.0 * (n - 1)
    x = abs(x) % period
    return min(x, period - x)


@numba.njit(cache=True, nogil=True)
def _warp_both(
    image: Array,
    labels: Array,
    how: tuple[NDArray[np.float64], NDArray[np.float32], bool],
    size: int,
    scale: NDArray[np.float64],
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    matrix, bend, reflect = how
    height, width, channels = image.shape
    warped_image = np.empty((size, size, channels), np.float32)
    warped_labels = np.empty((size, size), np.int32)
    # Indices without a sign: numba then leaves out the case of counting from the end.
    one, last_row, last_column = np.uint32(1), np.uint32(height - 1), np.uint32(width - 1)
    for i in range(size):
        for j in range(size):
            row, column = np.float64(i), np.float64(j)
            if bend.size:
                row, column = row + bend[0, i, j], column + bend[1, i, j]
            y = matrix[0, 0] * row + matrix[0, 1] * column + matrix[0, 2]
            x = matrix[1, 0] * row + matrix[1, 1] * column + matrix[1, 2]
            if not (0 <= y <= height - 1 and 0 <= x <= width - 1):
                y, x = _inside(y, height, reflect), _inside(x, width, reflect)
            warped_labels[i, j] = labels[np.uint32(y + 0.5), np.uint32(x + 0.5)]
            top, left = np.uint32(y), np.uint32(x)
            bottom, right = min(top + one, last_row), min(left + one, last_column)
            down, along = y - top, x - left
            for k in range(channels):
                upper = (1 - along) * image[top, left, k] + along * image[top, right, k]
                lower = (1 - along) * image[bottom, left, k] + along * image[bottom, right, k]
                value = (1 - down) * upper + down * lower
                warped_image[i, j, k] = (value - scale[0, k]) * scale[1, k]
    return warped_image, warped_labels
