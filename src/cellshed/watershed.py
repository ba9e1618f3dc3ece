"""Maps to labels: markers at the maxima of one map, flooding of another (the deep watershed).

The method is that of Greenwald et al., Nature Biotechnology 40, 555 (2022): maxima of a map of
distances to the cells' centres are markers, from which a watershed floods the interior.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cellshed.config import DecodeSettings, nearest

Map = NDArray[np.float32]  # (H, W)
Labels = NDArray[np.int32]  # (H, W)

MAXIMA_ALGORITHMS = ("h_maxima", "peak_local_max")
MARKER_MAPS = ("inner_distance", "outer_distance")
CERTAIN = 0.5  # a connected interior is a marker where it is likelier than everything else


def deep_watershed(  # noqa: PLR0913 - the fixed public signature
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
    """Find cells: maxima of one map are markers, from which the other map is flooded."""
    from scipy.ndimage import gaussian_filter, grey_dilation
    from skimage.feature import peak_local_max
    from skimage.measure import label
    from skimage.morphology import disk, h_maxima
    from skimage.segmentation import relabel_sequential, watershed

    top = gaussian_filter(_map(maxima, "maxima"), maxima_smooth)
    inside = gaussian_filter(_map(interior, "interior"), interior_smooth)
    if top.shape != inside.shape:
        raise ValueError(f"maxima {top.shape} and interior {inside.shape}: give maps of one shape")
    if pixel_expansion:
        inside = grey_dilation(inside, size=2 * pixel_expansion + 1)
    if maxima_algorithm == "h_maxima":
        peaks = h_maxima(top, maxima_threshold, footprint=disk(radius)) > 0
    elif maxima_algorithm == "peak_local_max":
        at = peak_local_max(
            top,
            min_distance=radius,
            threshold_abs=maxima_threshold,
            exclude_border=exclude_border,
        )
        peaks = np.zeros(top.shape, bool)
        peaks[tuple(at.T)] = True
    else:
        hint = nearest(maxima_algorithm, MAXIMA_ALGORITHMS)
        raise ValueError(f"maxima_algorithm '{maxima_algorithm}' is unknown; {hint}")
    markers = label(peaks, connectivity=2)
    labels = watershed(-inside, markers, mask=inside > interior_threshold)
    if label_erosion:
        from skimage.segmentation import find_boundaries

        for _ in range(label_erosion):
            labels[find_boundaries(labels, mode="inner", connectivity=1, background=0)] = 0
    areas = np.bincount(labels.ravel())
    labels = np.where(areas >= small_objects_threshold, np.arange(len(areas)), 0)[labels]
    result: Labels = relabel_sequential(labels)[0].astype(np.int32)
    return _fill_holes(result, fill_holes_threshold)


def _fill_holes(labels: Labels, threshold: int) -> Labels:
    from scipy.ndimage import label

    holes, n = label(labels == 0)
    areas = np.bincount(holes.ravel(), minlength=n + 1)
    low = np.full(n + 1, np.iinfo(np.int32).max, np.int32)
    high = np.zeros(n + 1, np.int32)
    for axis in (0, 1):
        for step in (1, -1):
            at = np.roll(labels, step, axis)
            use = at > 0
            np.minimum.at(low, holes[use], at[use])
            np.maximum.at(high, holes[use], at[use])
    inner = (areas < threshold) & (low == high)
    inner[0] = False
    for edge in (holes[0], holes[-1], holes[:, 0], holes[:, -1]):
        inner[edge] = False
    return np.where(inner[holes], high[holes], labels).astype(np.int32)


def decode(maps: Mapping[str, ArrayLike], settings: DecodeSettings) -> Labels:
    """Turn a model's maps into labels, with whatever maps there are."""
    from skimage.measure import label

    interior = interior_map(maps)
    name = marker_map(maps, settings)
    options = _watershed_options(settings)
    if name != "interior":
        return deep_watershed(_first(maps[name]), interior, **options)
    certain = interior > max(CERTAIN, settings.interior_threshold)
    options |= {"maxima_algorithm": "h_maxima", "maxima_threshold": 0.5, "maxima_smooth": 0}
    options |= {"radius": 1}
    peaks = label(certain, connectivity=1) > 0
    return deep_watershed(peaks.astype(np.float32), interior, **options)


def _watershed_options(settings: DecodeSettings) -> dict[str, Any]:
    return settings.model_dump(exclude={"markers"})


def marker_map(maps: Mapping[str, Any], settings: DecodeSettings) -> str:
    """Name the map whose maxima become markers."""
    if settings.markers == "auto":
        return next((name for name in MARKER_MAPS if name in maps), "interior")
    if settings.markers != "interior" and settings.markers not in maps:
        have = ", ".join(maps) or "none"
        raise ValueError(
            f"decode.markers = {settings.markers}, but the maps are: {have}; set decode.markers=auto"
        )
    return settings.markers


def interior_map(maps: Mapping[str, ArrayLike]) -> Map:
    """Return the map that is flooded."""
    for name in ("pixelwise", "foreground"):
        if name in maps:
            return np.ascontiguousarray(np.asarray(maps[name], np.float32)[..., 1])
    for name in ("outer_distance", "inner_distance"):
        if name in maps:
            distance: Map = np.sqrt(np.maximum(_first(maps[name]), 0))
            return distance
    raise ValueError(
        f"maps {sorted(maps)}: need at least one of pixelwise, foreground, outer_distance,"
        " inner_distance"
    )


def confidence(
    labels: Labels, maps: Mapping[str, ArrayLike], settings: DecodeSettings
) -> NDArray[np.float32]:
    """Return how sure each cell is, in [0, 1]: label k at index k - 1."""
    n = int(labels.max(initial=0))
    index = labels.ravel()
    area = np.maximum(np.bincount(index, minlength=n + 1), 1)
    mean = np.bincount(index, interior_map(maps).ravel(), n + 1) / area
    return np.clip(mean[1:], 0, 1).astype(np.float32)


def _first(array: ArrayLike) -> Map:
    """Return (H, W) of a map (H, W, 1)."""
    array = np.asarray(array, np.float32)
    return np.ascontiguousarray(array[..., 0] if array.ndim == 3 else array)


def _map(array: ArrayLike, name: str) -> Map:
    checked: Map = np.ascontiguousarray(array, np.float32)
    if checked.ndim != 2:
        raise ValueError(f"{name} {checked.shape}: give one map (H, W)")
    if not np.isfinite(checked).all():
        raise ValueError(f"{name} holds NaN or infinity: mend the network's output first")
    return checked
