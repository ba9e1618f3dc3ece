"""Distances to a cell's centre and rim: the targets inner_distance and outer_distance.

The transforms are those of Greenwald et al., Nature Biotechnology 40, 555 (2022), as their
software computes them where the text says something else.
"""

from numbers import Real
from typing import Literal, NamedTuple

import numba
import numpy as np
from numpy.typing import ArrayLike, NDArray

from cellshed.distances import distance_transform
from cellshed.regions import Labels, Pieces, as_labels, erode_edges, pieces

Map = NDArray[np.float32]  # (H, W)


class Measured(NamedTuple):
    """What inner and outer distance have in common."""

    distance: Map
    """Distance to the nearest background pixel, over all cells together. Becomes the result."""
    found: Pieces
    """Connected pieces of the eroded labels."""


def inner_distance(
    labels: ArrayLike,
    *,
    erosion: int = 0,
    alpha: float | Literal["auto"] = "auto",
    beta: float = 1.0,
    power: float = 2,
) -> Map:
    """Return 1 / (1 + beta * alpha * r**power), r being the distance to the cell's centre.

    Each connected piece (8 neighbours) of a label counts as a cell. Its centre is the mean of its
    pixels' positions, weighted by their distance to the nearest background pixel; other cells
    are no background, so that without erosion the centres of touching cells are drawn together.

    Args:
        labels: integer (H, W), 0 = background.
        erosion: how often the boundary pixels of each cell are taken off before.
        alpha: a number, or "auto": one over the square root of the piece's area in pixels.
        beta: a factor, 0 or more.
        power: 2 as in the software of Greenwald et al. 2022; 1 is what their text says.

    Returns:
        float32 (H, W) in 0..1, 0 in the background; r is in pixels.

    Raises:
        ValueError: labels that are no label image, or an argument out of its range.
    """
    return inner_of(measure(as_labels(labels), erosion), alpha, beta, power)


def outer_distance(labels: ArrayLike, *, erosion: int = 0, normalize: bool = True) -> Map:
    """Return the Euclidean distance to the nearest background pixel.

    Other cells are no background: without erosion, touching cells share one ridge.

    Args:
        labels: integer (H, W), 0 = background.
        erosion: how often the boundary pixels of each cell are taken off before.
        normalize: divide by the highest distance in each connected piece (8 neighbours).

    Returns:
        float32 (H, W), 0 in the background; in 0..1 if normalised, else in pixels.

    Raises:
        ValueError: labels that are no label image, or a negative erosion.
    """
    return outer_of(measure(as_labels(labels), erosion), normalize)


def bins(distance: ArrayLike, n: int) -> NDArray[np.int16]:
    """Return the number of the bin, 0..n-1, of each pixel's distance.

    The n bins are of equal width, from the map's lowest value to its highest.

    Args:
        distance: (H, W), such as from inner_distance or outer_distance.
        n: number of bins.

    Raises:
        ValueError: n below 1, or a map without pixels.
    """
    values = np.asarray(distance)
    if n < 1 or not values.size:
        raise ValueError(f"{n} bins of a map {values.shape}: give at least one bin and one pixel")
    edges = np.linspace(float(values.min()) - 1e-7, float(values.max()) + 1e-7, n + 1)
    numbers: NDArray[np.int16] = (np.digitize(values, edges, right=True) - 1).astype(np.int16)
    return numbers


def measure(labels: Labels, erosion: int) -> Measured:
    """Measure labels whose cells' boundary pixels are taken off so many times before."""
    eroded = erode_edges(labels, erosion)
    return Measured(distance_transform(eroded), pieces(eroded))


def inner_of(measured: Measured, alpha: float | str, beta: float, power: float) -> Map:
    """Return inner_distance of measured labels, whose distances are overwritten."""
    if power not in (1, 2):
        raise ValueError(f"power = {power}: give 2 (as the reference's software) or 1 (its text)")
    fixed = -1.0 if alpha == "auto" else _factor("alpha", alpha, " or 'auto'")
    sums = np.zeros((measured.found.n, 4))
    _write_inner(*measured, sums, (fixed, _factor("beta", beta), power == 2))
    return measured.distance


def _factor(name: str, value: float | str, otherwise: str = "") -> float:
    if not isinstance(value, Real) or not 0 <= value < np.inf:
        raise ValueError(f"{name} = {value!r}: give a number from 0 up{otherwise}")
    return float(value)


def outer_of(measured: Measured, normalize: bool) -> Map:
    """Return outer_distance of measured labels, whose distances are overwritten."""
    if normalize:
        _divide_by_maximum(*measured, np.zeros(measured.found.n, np.float32))
    return measured.distance


@numba.njit(cache=True, nogil=True)
def _write_inner(
    distance: Map, found: Pieces, sums: NDArray[np.float64], shape: tuple[float, float, bool]
) -> None:
    """Write the inner distance into each pixel of each piece.

    Args:
        distance: (H, W), the pixels' weights, which become their inner distances.
        found: the pieces.
        sums: (n, 4), zeros: for the sums of weight, weight * row, weight * column, and 1, which
            become the centre's row and column, and beta * alpha.
        shape: alpha (negative: auto), beta, and whether r is squared.
    """
    alpha, beta, squared = shape
    for i in range(len(found.rows)):
        y, cell = found.rows[i], sums[found.piece[i]]
        weight, moment = 0.0, 0.0
        for x in range(found.starts[i], found.stops[i]):
            weight += distance[y, x]
            moment += np.float64(distance[y, x]) * x
        cell[0] += weight
        cell[1] += weight * y
        cell[2] += moment
        cell[3] += found.stops[i] - found.starts[i]
    for piece in range(len(sums)):
        cell = sums[piece]
        cell[1] /= cell[0]
        cell[2] /= cell[0]
        cell[3] = beta * (alpha if alpha >= 0 else 1 / np.sqrt(cell[3]))
    for i in range(len(found.rows)):
        y, cell = found.rows[i], sums[found.piece[i]]
        down, column, factor = (y - cell[1]) ** 2, cell[2], cell[3]
        for x in range(found.starts[i], found.stops[i]):
            square = down + (x - column) ** 2
            distance[y, x] = 1 / (1 + factor * (square if squared else np.sqrt(square)))


@numba.njit(cache=True, nogil=True)
def _divide_by_maximum(distance: Map, found: Pieces, highest: NDArray[np.float32]) -> None:
    """Divide each pixel by the highest of its piece; these, (n,), are given as zeros."""
    for i in range(len(found.rows)):
        y, piece = found.rows[i], found.piece[i]
        for x in range(found.starts[i], found.stops[i]):
            highest[piece] = max(highest[piece], distance[y, x])
    for i in range(len(found.rows)):
        y, piece = found.rows[i], found.piece[i]
        for x in range(found.starts[i], found.stops[i]):
            distance[y, x] /= highest[piece]
