"""Labels to the maps that the network learns, and the registry TARGETS of such maps.

The transforms are those of Greenwald et al., Nature Biotechnology 40, 555 (2022), as their
software computes them where the text says something else.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numba
import numpy as np
from numpy.typing import ArrayLike, NDArray

from cellshed.config import (
    InnerDistanceSettings,
    OuterDistanceSettings,
    PixelwiseSettings,
    TargetsSettings,
    nearest,
)
from cellshed.regions import (
    Labels,
    Pieces,
    as_labels,
    boundaries,
    distance_transform,
    erode_edges,
    pieces,
)

Map = NDArray[np.float32]  # (H, W)
Classes = NDArray[np.uint8]  # (H, W, C), one-hot


class Measured(NamedTuple):
    """What inner and outer distance have in common."""

    distance: Map
    """Distance to the nearest background pixel, over all cells together."""
    found: Pieces
    """Connected pieces of the eroded labels."""


@dataclass(frozen=True)
class Target:
    """A map that a head of the network learns, and how."""

    name: str
    channel_names: tuple[str, ...]
    loss: Literal["mse", "cross_entropy"]
    activation: Literal["relu", "softmax"]
    encode: Callable[["Source", TargetsSettings], NDArray[Any]]
    """Computes the map (H, W) or (H, W, C)."""

    @property
    def channels(self) -> int:
        """Number of channels."""
        return len(self.channel_names)


class Source:
    """Labels that several targets are computed from; what they share is measured once."""

    def __init__(self, labels: ArrayLike) -> None:
        self.labels = as_labels(labels)
        self._measured: dict[int, Measured] = {}

    def measured(self, erosion: int) -> Measured:
        """Return distances and pieces of the labels eroded by so many pixels."""
        if erosion not in self._measured:
            self._measured[erosion] = _measure(self.labels, erosion)
        return self._measured[erosion]


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
    settings = (alpha, beta, power)
    return _inner(_measure(as_labels(labels), erosion), *settings)


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
    edge, interior = _edges(as_labels(labels), dilation)
    return _one_hot(edge, interior, ~(edge | interior))


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
    cells = as_labels(labels) != 0
    return _one_hot(~cells, cells)


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
    shape = source.labels.shape
    return {name: TARGETS[name].encode(source, settings).reshape(*shape, -1) for name in names}


def _measure(labels: Labels, erosion: int) -> Measured:
    eroded = erode_edges(labels, erosion)
    return Measured(distance_transform(eroded), pieces(eroded))


def _inner(measured: Measured, alpha: float | str, beta: float, power: float) -> Map:
    if alpha != "auto" and not (isinstance(alpha, (int, float)) and alpha >= 0):
        raise ValueError(f"alpha = {alpha!r}: give a number from 0 up, or 'auto'")
    if not beta >= 0:
        raise ValueError(f"beta = {beta}: give a number from 0 up")
    if power not in (1, 2):
        raise ValueError(f"power = {power}: give 2 (as the reference's software) or 1 (its text)")
    inner = np.zeros_like(measured.distance)
    fixed = -1.0 if alpha == "auto" else float(alpha)
    _write_inner(measured.distance, measured.found, fixed, float(beta), power == 2, inner)
    return inner


def _outer(measured: Measured, normalize: bool) -> Map:
    outer = measured.distance.copy()
    if normalize:
        _divide_by_maximum(measured.found, outer)
    return outer


def _edges(labels: Labels, dilation: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    if dilation < 0:
        raise ValueError(f"dilation of {dilation} pixels: give a whole number from 0 up")
    edge = boundaries(labels)
    background = labels == 0
    interior = ~(edge | background)
    if dilation:
        edge |= background & (distance_transform(background) <= dilation) if edge.any() else False
    return edge, interior


def _one_hot(*classes: NDArray[np.bool_]) -> Classes:
    return np.stack(classes, axis=-1).astype(np.uint8)


@numba.njit(cache=True, nogil=True)
def _write_inner(
    distance: Map, found: Pieces, alpha: float, beta: float, squared: bool, inner: Map
) -> None:
    rows, starts, stops, piece, count = found
    sums = np.zeros((4, count), np.float64)  # weight, weighted row, weighted column, area
    for i in range(len(rows)):
        weight, moment = 0.0, 0.0
        for x in range(starts[i], stops[i]):
            weight += distance[rows[i], x]
            moment += float(distance[rows[i], x]) * x
        sums[0, piece[i]] += weight
        sums[1, piece[i]] += weight * rows[i]
        sums[2, piece[i]] += moment
        sums[3, piece[i]] += stops[i] - starts[i]
    for i in range(len(rows)):
        weight, row, column, area = sums[:, piece[i]]
        factor = beta * (alpha if alpha >= 0 else 1 / np.sqrt(area))
        down = (rows[i] - row / weight) ** 2
        for x in range(starts[i], stops[i]):
            square = down + (x - column / weight) ** 2
            inner[rows[i], x] = 1 / (1 + factor * (square if squared else np.sqrt(square)))


@numba.njit(cache=True, nogil=True)
def _divide_by_maximum(found: Pieces, distance: Map) -> None:
    rows, starts, stops, piece, count = found
    highest = np.zeros(count, np.float32)
    for i in range(len(rows)):
        for x in range(starts[i], stops[i]):
            highest[piece[i]] = max(highest[piece[i]], distance[rows[i], x])
    for i in range(len(rows)):
        for x in range(starts[i], stops[i]):
            distance[rows[i], x] /= highest[piece[i]]


def _encode_inner(source: Source, settings: TargetsSettings) -> Map:
    how: InnerDistanceSettings = settings.inner_distance
    return _inner(source.measured(how.erosion), how.alpha, how.beta, how.power)


def _encode_outer(source: Source, settings: TargetsSettings) -> Map:
    how: OuterDistanceSettings = settings.outer_distance
    return _outer(source.measured(how.erosion), how.normalize)


def _encode_pixelwise(source: Source, settings: TargetsSettings) -> Classes:
    how: PixelwiseSettings = settings.pixelwise
    return pixelwise(source.labels, dilation=how.dilation)


def _encode_foreground(source: Source, settings: TargetsSettings) -> Classes:
    return foreground(source.labels)


TARGETS: dict[str, Target] = {
    target.name: target
    for target in (
        Target("inner_distance", ("inner_distance",), "mse", "relu", _encode_inner),
        Target("outer_distance", ("outer_distance",), "mse", "relu", _encode_outer),
        Target(
            "pixelwise",
            ("edge", "interior", "background"),
            "cross_entropy",
            "softmax",
            _encode_pixelwise,
        ),
        Target(
            "foreground",
            ("background", "foreground"),
            "cross_entropy",
            "softmax",
            _encode_foreground,
        ),
    )
}
"""The targets by name. A new entry is tested by the contract test over this registry."""
