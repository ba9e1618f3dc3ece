"""Labels to the maps that the network learns, and the registry TARGETS of such maps.

The transforms are those of Greenwald et al., Nature Biotechnology 40, 555 (2022), as their
software computes them where the text says something else.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, Literal, NamedTuple

import numba
import numpy as np
from numpy.typing import ArrayLike, NDArray

from cellshed.distances import distance_transform
from cellshed.regions import Labels, Pieces, as_labels, erode_edges, pieces, whole_pixels
from cellshed.settings import TargetsSettings
from cellshed.spelling import nearest

Map = NDArray[np.float32]  # (H, W)
Classes = NDArray[np.uint8]  # (H, W, C), one-hot


class Measured(NamedTuple):
    """What inner and outer distance have in common."""

    distance: Map
    """Distance to the nearest background pixel, over all cells together. Becomes the result."""
    found: Pieces
    """Connected pieces of the eroded labels."""


class Source:
    """A label image that several targets are computed from; what they share is measured once."""

    def __init__(self, labels: ArrayLike) -> None:
        self.labels = as_labels(labels)
        self._measured: dict[int, Measured] = {}

    def measured(self, erosion: int) -> Measured:
        """Return distances and pieces of the labels eroded by so many pixels."""
        if erosion not in self._measured:
            self._measured[erosion] = _measure(self.labels, erosion)
        distance, found = self._measured[erosion]
        return Measured(distance.copy(), found)


@dataclass(frozen=True)
class Target:
    """A map that a head of the network learns, and how."""

    name: str
    """Also the name of its settings in TargetsSettings."""
    channel_names: tuple[str, ...]
    loss: Literal["mse", "cross_entropy"]
    activation: Literal["relu", "softmax"]
    compute: Callable[[Source, TargetsSettings], NDArray[Any]]
    """Returns the map, (H, W) or (H, W, C)."""

    @property
    def channels(self) -> int:
        """Number of channels."""
        return len(self.channel_names)

    def encode(self, labels: ArrayLike | Source, settings: TargetsSettings) -> NDArray[Any]:
        """Return the map (H, W, C) of a label image."""
        source = labels if isinstance(labels, Source) else Source(labels)
        return self.compute(source, settings).reshape(*source.labels.shape, self.channels)


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
    return _inner(_measure(as_labels(labels), erosion), alpha, beta, power)


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
    return _outer(_measure(as_labels(labels), erosion), normalize)


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


def encode_targets(
    labels: ArrayLike, names: Iterable[str], settings: TargetsSettings
) -> dict[str, NDArray[Any]]:
    """Return the named targets of a label image; what they share is computed once.

    Args:
        labels: integer (H, W), 0 = background.
        names: of TARGETS.
        settings: arguments of each target.

    Returns:
        For each name its map (H, W, C): float32 if its loss is mse, else uint8 and one-hot.

    Raises:
        ValueError: an unknown name, or labels that are no label image.
    """
    names = tuple(names)
    for name in names:
        if name not in TARGETS:
            raise ValueError(f"unknown target '{name}'; {nearest(name, TARGETS)}")
    source = Source(labels)
    return {name: TARGETS[name].encode(source, settings) for name in names}


def _measure(labels: Labels, erosion: int) -> Measured:
    eroded = erode_edges(labels, erosion)
    return Measured(distance_transform(eroded), pieces(eroded))


def _inner(measured: Measured, alpha: float | str, beta: float, power: float) -> Map:
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


def _outer(measured: Measured, normalize: bool) -> Map:
    if normalize:
        _divide_by_maximum(*measured, np.zeros(measured.found.n, np.float32))
    return measured.distance


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


def _compute_inner(source: Source, settings: TargetsSettings) -> Map:
    how = settings.inner_distance
    return _inner(source.measured(how.erosion), how.alpha, how.beta, how.power)


def _compute_outer(source: Source, settings: TargetsSettings) -> Map:
    how = settings.outer_distance
    return _outer(source.measured(how.erosion), how.normalize)


_ALL = (
    Target("inner_distance", ("inner_distance",), "mse", "relu", _compute_inner),
    Target("outer_distance", ("outer_distance",), "mse", "relu", _compute_outer),
    Target(
        "pixelwise",
        ("edge", "interior", "background"),
        "cross_entropy",
        "softmax",
        lambda source, settings: pixelwise(source.labels, **settings.pixelwise.model_dump()),
    ),
    Target(
        "pixelwise_separated",
        ("background_edge", "cell_edge", "interior", "background"),
        "cross_entropy",
        "softmax",
        lambda source, settings: pixelwise_separated(
            source.labels, **settings.pixelwise_separated.model_dump()
        ),
    ),
    Target(
        "foreground",
        ("background", "foreground"),
        "cross_entropy",
        "softmax",
        lambda source, settings: foreground(source.labels),
    ),
)

TARGETS: dict[str, Target] = {target.name: target for target in _ALL}
"""The targets by name. The contract test goes through all of them, new ones included."""
