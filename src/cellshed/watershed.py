"""Maps to labels: markers at the maxima of one map, from which another is flooded.

The deep watershed is that of Greenwald et al., Nature Biotechnology 40, 555 (2022): maxima of a
map of closeness to the cells' centres become markers, and a watershed floods the interior from
them. Every step gives, pixel for pixel, what scipy and scikit-image give; the loops are compiled
(maxima, flood, smooth, tidy).

Which maps are taken, from whatever heads a model has:

=================  =====================================================================
markers            the maxima of inner_distance, else of outer_distance; else each
                   connected piece of the interior, where that is likelier than not
flooded interior   pixelwise's interior, else pixelwise_separated's, else the foreground,
                   else the square root of outer_distance, else that of inner_distance
=================  =====================================================================

The square root lifts a distance's flanks, so that a threshold meant for probabilities (0.3, which
is 0.09 of the distance) takes in most of the cell.
"""

from collections.abc import Mapping

import numba
import numpy as np
from numpy.typing import ArrayLike, NDArray

from cellshed.flood import watershed
from cellshed.maxima import h_maxima, label_peaks, peak_local_max
from cellshed.regions import connected_components, erode_edges, whole_pixels
from cellshed.scale import keep_present
from cellshed.settings import DecodeSettings
from cellshed.smooth import gaussian
from cellshed.spelling import nearest
from cellshed.tidy import drop_small, fill_holes

Map = NDArray[np.float32]  # (H, W)
Labels = NDArray[np.int32]  # (H, W)
Maps = Mapping[str, ArrayLike]  # target name -> (H, W, C)

MAXIMA_ALGORITHMS = ("h_maxima", "peak_local_max")
DISTANCES = ("outer_distance", "inner_distance")
# number of channels; which of them is the interior, and which the rim towards the background
PROBABILITIES = {
    "pixelwise": (3, 1, 0),
    "pixelwise_separated": (4, 2, 0),
    "foreground": (2, 1, None),
}
LIKELIER_THAN_NOT = 0.5


def deep_watershed(  # noqa: PLR0913 - the public signature, every option by its name
    maxima: ArrayLike,
    interior: ArrayLike,
    *,
    maxima_threshold: float = 0.1,
    interior_threshold: float = 0.3,
    maxima_smooth: float = 0,
    interior_smooth: float = 1,
    radius: int = 2,
    maxima_algorithm: str = "h_maxima",
    exclude_border: bool = False,
    label_erosion: int = 0,
    small_objects_threshold: int = 15,
    fill_holes_threshold: int = 15,
    pixel_expansion: int = 0,
) -> Labels:
    """Find cells: the maxima of one map are markers, from which the other map is flooded.

    Both maps are taken as float32. The partition equals the reference implementation's, but for
    its hole filling, which here fills true holes only (`fill_holes_threshold`).

    Args:
        maxima: (H, W), high at the centres of cells.
        interior: (H, W), high inside of cells.
        maxima_threshold: with h_maxima the prominence, above 0, that a maximum needs over the
            way to any higher one; with peak_local_max the level that it must exceed.
        interior_threshold: pixels of the smoothed interior above it are flooded. Pieces without
            a marker are lost, as are markers outside.
        maxima_smooth: sigma of a Gaussian, in pixels; 0 for none.
        interior_smooth: likewise.
        radius: pixels; h_maxima: of the disk within which pixels are neighbours;
            peak_local_max: half the side of the square in which a maximum is highest.
        maxima_algorithm: h_maxima or peak_local_max.
        exclude_border: with peak_local_max, take no maxima within `radius` of the frame.
        label_erosion: so many times, set the inner boundaries to background.
        small_objects_threshold: cells of fewer pixels are dropped.
        fill_holes_threshold: holes of fewer pixels are filled: 4-connected regions of background
            that a single cell encloses. Background outside of the cell and other cells never are.
        pixel_expansion: grow the interior by a maximum filter of side 2 n + 1 pixels. As after
            label_erosion, confidences fall with it, for they are measured over what is left; so
            does a confidence_threshold then drop more.

    Returns:
        int32 (H, W), 0 = background, cells 1..n in the reading order of their markers.

    Raises:
        ValueError: maps that differ in shape, aren't (H, W) or aren't finite; an option that is
            unknown or out of range.
    """
    top, inside = _checked(maxima, "maxima"), _checked(interior, "interior")
    if top.shape != inside.shape:
        raise ValueError(
            f"maxima {top.shape} and interior {inside.shape} differ: give two maps of one image"
        )
    if maxima_algorithm not in MAXIMA_ALGORITHMS:
        hint = nearest(maxima_algorithm, MAXIMA_ALGORITHMS)
        raise ValueError(f"maxima_algorithm '{maxima_algorithm}' is unknown; {hint}")
    if whole_pixels(radius, "radius") < 1:
        raise ValueError(f"radius = {radius} pixels: give at least 1")
    smoothed = gaussian(top, _sigma(maxima_smooth, "maxima_smooth"))
    if maxima_algorithm == "peak_local_max":
        peaks = peak_local_max(smoothed, maxima_threshold, int(radius), exclude_border)
    elif maxima_threshold > 0:
        peaks = h_maxima(smoothed, maxima_threshold, int(radius))
    else:
        raise ValueError(
            f"maxima_threshold = {maxima_threshold}: h_maxima needs a height above 0, e.g. 0.01"
        )
    markers = np.zeros(peaks.shape, np.int32)
    n = label_peaks(peaks, markers)
    labels = watershed(
        _flooded(inside, interior_smooth, pixel_expansion), markers, interior_threshold
    )
    return _tidied(labels, n, label_erosion, small_objects_threshold, fill_holes_threshold)


def decode(maps: Maps, settings: DecodeSettings) -> Labels:
    """Turn the maps of one image into labels, by the rules at the top of this module.

    Args:
        maps: target name -> (H, W, C) or, for one channel, (H, W): any of inner_distance,
            outer_distance, pixelwise, pixelwise_separated and foreground. Maps of other names
            aren't looked at.
        settings: arguments of `deep_watershed`, and which map the markers come from.

    Returns:
        int32 (H, W), 0 = background, cells 1..n.

    Raises:
        ValueError: none of the maps is of use, the one that the settings name isn't there, or
            what `deep_watershed` refuses.
    """
    if settings.confidence_threshold > 0:
        return decode_with_confidence(maps, settings)[0]
    return _flood(maps, settings)


def decode_with_confidence(
    maps: Maps, settings: DecodeSettings
) -> tuple[Labels, NDArray[np.float32]]:
    """Like `decode`, with the `confidence` of each cell, measured before the doubtful are dropped.

    Returns:
        int32 (H, W), cells 1..n, and float32 (n,).
    """
    labels = _flood(maps, settings)
    sure = confidence(labels, maps, settings)
    kept = sure >= settings.confidence_threshold
    if not kept.all():
        labels[np.concatenate([[False], ~kept])[labels]] = 0
        labels = keep_present(labels)[0]
    return labels, sure[kept]


def _flood(maps: Maps, settings: DecodeSettings) -> Labels:
    """Return the cells of all markers, whatever their confidence."""
    interior = interior_map(maps, settings.edge_weight)
    options = settings.model_dump(exclude={"markers", "edge_weight", "confidence_threshold"})
    name = marker_map(maps, settings)
    if name != "interior":
        return deep_watershed(_distance(maps, name), interior, **options)
    certain = _checked(interior, "interior") > max(LIKELIER_THAN_NOT, settings.interior_threshold)
    markers, n = connected_components(certain.astype(np.uint8))
    flooded = _flooded(interior, settings.interior_smooth, settings.pixel_expansion)
    labels = watershed(flooded, markers, settings.interior_threshold)
    return _tidied(
        labels,
        n,
        settings.label_erosion,
        settings.small_objects_threshold,
        settings.fill_holes_threshold,
    )


def marker_map(maps: Maps, settings: DecodeSettings) -> str:
    """Name the map whose maxima become markers, or "interior" for its connected pieces.

    Raises:
        ValueError: the settings name a map that isn't there.
    """
    if settings.markers == "auto":
        known = ("inner_distance", "outer_distance")
        return next((name for name in known if name in maps), "interior")
    if settings.markers != "interior" and settings.markers not in maps:
        raise ValueError(
            f"decode.markers = {settings.markers}, but the maps are {_names(maps)}:"
            " set decode.markers=auto"
        )
    return settings.markers


def interior_map(maps: Maps, edge_weight: float = 0) -> Map:
    """Return the map that is flooded, float32 (H, W), high inside of cells.

    Args:
        maps: see `decode`.
        edge_weight: share of the edge that is added, where the map has a class for it.

    Raises:
        ValueError: there is no map to take it from, or its shape doesn't suit its name.
    """
    for name, (channels, interior, edge) in PROBABILITIES.items():
        if name in maps:
            probabilities = np.asarray(maps[name], np.float32)
            if probabilities.ndim != 3 or probabilities.shape[2] != channels:
                raise ValueError(f"{name} has shape {probabilities.shape}: give (H, W, {channels})")
            inside = np.ascontiguousarray(probabilities[..., interior])
            if edge is not None and edge_weight:
                inside = inside + np.float32(edge_weight) * probabilities[..., edge]
            return inside
    for name in DISTANCES:
        if name in maps:
            root: Map = np.sqrt(np.maximum(_distance(maps, name), 0))
            return root
    known = ", ".join((*PROBABILITIES, *DISTANCES))
    raise ValueError(f"the maps are {_names(maps)}: cells are found in any of {known}")


def confidence(labels: Labels, maps: Maps, settings: DecodeSettings) -> NDArray[np.float32]:
    """Say how sure each cell is: the geometric mean of three things, each in [0, 1].

    The mean of the interior over the cell; the highest value of the map that its marker came
    from; and the contrast, by how much the interior's mean over the cell exceeds that over the
    pixels of background or other cells that touch it. A cell is as doubtful as the weakest of
    them makes it: a faint patch, one without a centre, or a piece cut off where no border is.

    Args:
        labels: int32 (H, W), 0 = background, cells 1..n.
        maps: the maps that the labels were decoded from.
        settings: likewise.

    Returns:
        float32 (n,) in [0, 1]: label k at index k - 1. A rank, not a calibrated probability.
    """
    interior = np.clip(interior_map(maps, settings.edge_weight), 0, 1)
    name = marker_map(maps, settings)
    maxima = interior if name == "interior" else _distance(maps, name)
    n = int(labels.max(initial=0))
    sums = np.zeros((n + 1, 5), np.float64)
    _measure(labels, interior, maxima, sums)
    area, inside, peak, touching, outside = sums[1:].T
    mean = inside / np.maximum(area, 1)
    contrast = mean - outside / np.maximum(touching, 1)
    product = mean * np.clip(peak, 0, 1) * np.clip(contrast, 0, 1)
    confidences: NDArray[np.float32] = np.cbrt(product).astype(np.float32)
    return confidences


@numba.njit(cache=True, nogil=True)
def _measure(labels: Labels, interior: Map, maxima: Map, sums: NDArray[np.float64]) -> None:
    """Add to each label's row: area, sum of interior, highest maximum, neighbours outside, theirs.

    A neighbour outside counts as often as it touches; theirs is the sum of their interior.
    """
    height, width = labels.shape
    for y in range(height):
        for x in range(width):
            label = labels[y, x]
            if label == 0:
                continue
            row = sums[label]
            row[0] += 1
            row[1] += interior[y, x]
            row[2] = max(row[2], maxima[y, x])
            for dy, dx in ((-1, 0), (0, -1), (0, 1), (1, 0)):
                ny, nx = y + dy, x + dx
                if 0 <= ny < height and 0 <= nx < width and labels[ny, nx] != label:
                    row[3] += 1
                    row[4] += interior[ny, nx]


def _flooded(interior: Map, sigma: float, expansion: int) -> Map:
    """Return the interior as it is flooded: smoothed, then grown."""
    smoothed = gaussian(interior, _sigma(sigma, "interior_smooth"))
    if whole_pixels(expansion, "pixel_expansion") == 0 or smoothed.size == 0:
        return smoothed
    from scipy.ndimage import maximum_filter

    grown: Map = maximum_filter(smoothed, size=2 * int(expansion) + 1)
    return grown


def _tidied(labels: Labels, n: int, erosion: int, least: int, hole: int) -> Labels:
    """Erode, drop small cells and fill holes, in this order; number the cells 1, 2, ..."""
    if whole_pixels(erosion, "label_erosion") > 0:
        labels = erode_edges(labels, erosion)
    drop_small(labels, n, int(least))
    if hole > 1:
        fill_holes(labels, int(hole))
    return labels


def _checked(array: ArrayLike, name: str) -> Map:
    """Return a map as contiguous float32, or say what is wrong with it."""
    shape = np.shape(array)
    if len(shape) != 2:
        raise ValueError(f"{name} has shape {shape}: give one map (H, W), e.g. pixelwise[..., 1]")
    checked: Map = np.require(array, np.float32, ["C", "W"])
    if not np.isfinite(checked).all():
        raise ValueError(
            f"{name} holds NaN or infinity: look for the cause in the image or the network;"
            " numpy.nan_to_num removes them"
        )
    return checked


def _sigma(value: float, name: str) -> float:
    if not 0 <= value < np.inf:
        raise ValueError(f"{name} = {value} pixels: give a number from 0 up")
    return float(value)


def _distance(maps: Maps, name: str) -> Map:
    """Return (H, W) of a map of one channel."""
    distance = np.asarray(maps[name], np.float32)
    if distance.ndim == 3 and distance.shape[2] == 1:
        distance = distance[..., 0]
    if distance.ndim != 2:
        raise ValueError(f"{name} has shape {distance.shape}: give (H, W, 1) or (H, W)")
    return np.require(distance, np.float32, ["C", "W"])


def _names(maps: Maps) -> str:
    return ", ".join(maps) or "none"
