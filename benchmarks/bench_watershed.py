"""Times maps to labels beside scikit-image, and how the cost grows with pixels and cells.

Run as `python benchmarks/bench_watershed.py [--scaling]`; processor time,
best of several repeats.
"""

import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy import ndimage
from skimage.feature import peak_local_max
from skimage.measure import label, regionprops
from skimage.morphology import disk, h_maxima, remove_small_holes, remove_small_objects
from skimage.segmentation import relabel_sequential, watershed

from cellshed import flood, maxima
from cellshed.settings import DecodeSettings
from cellshed.smooth import gaussian
from cellshed.watershed import confidence, deep_watershed
from timing import best_ms

SHAPE = (520, 704)
BOUNDS = {300: 30.0, 3000: 45.0}  # ms, deep watershed as a whole
SIDES = (256, 512, 1024, 2048, 4096, 8192)
COUNTS = (10, 100, 1_000, 10_000, 100_000)
LEAST_AREA = 40  # pixels a cell, at the densest
MEASURABLE = 4096  # side above which freed memory goes back to the system at once
Map = NDArray[np.float32]
Labels = NDArray[np.int32]


def rows() -> list[dict[str, Any]]:
    """Return one row per part and number of cells: times in ms, ours and plain, and the bound."""
    return [row for cells in BOUNDS for row in _rows_for(cells)]


def _rows_for(cells: int) -> list[dict[str, Any]]:
    top, inside = drawn_maps(SHAPE, cells)
    smoothed = gaussian(inside, 1)
    peaks = maxima.h_maxima(top, 0.1, 2)
    markers = np.zeros(SHAPE, np.int32)
    maxima.label_peaks(peaks, markers)
    labels = deep_watershed(top, inside)
    maps = {"inner_distance": top[..., None], "foreground": np.stack([1 - inside, inside], -1)}
    settings = DecodeSettings()
    return [
        _row("deep watershed", cells, lambda: deep_watershed(top, inside),
             lambda: plain_deep_watershed(top, inside), BOUNDS[cells]),
        _row("deep watershed, radius 10", cells, lambda: deep_watershed(top, inside, radius=10),
             lambda: plain_deep_watershed(top, inside, radius=10)),
        _row("deep watershed, peak_local_max", cells,
             lambda: deep_watershed(top, inside, maxima_algorithm="peak_local_max"),
             lambda: plain_deep_watershed(top, inside, algorithm="peak_local_max")),
        _row("Gaussian, sigma 1", cells, lambda: gaussian(inside, 1),
             lambda: ndimage.gaussian_filter(inside, 1)),
        _row("h-maxima, radius 2", cells, lambda: maxima.h_maxima(top, 0.1, 2),
             lambda: h_maxima(top, 0.1, footprint=disk(2))),
        _row("flooding", cells, lambda: flood.watershed(smoothed, markers, 0.3),
             lambda: watershed(-smoothed, markers, mask=smoothed > 0.3)),
        _row("confidence", cells, lambda: confidence(labels, maps, settings), None),
    ]  # fmt: skip


def _row(
    part: str,
    cells: int,
    ours: Callable[[], Any],
    plain: Callable[[], Any] | None,
    bound: float | None = None,
) -> dict[str, Any]:
    return {
        "part": part,
        "size": f"{SHAPE[0]}x{SHAPE[1]}",
        "cells": cells,
        "ours_ms": best_ms(ours, 25),
        "plain_ms": best_ms(plain, 2) if plain else None,
        "plain": "scikit-image, scipy" if plain else "",
        "bound_ms": bound,
    }


def plain_deep_watershed(
    top: Map, inside: Map, *, radius: int = 2, algorithm: str = "h_maxima"
) -> Labels:
    """Return what deep_watershed does by default, with scipy and scikit-image."""
    smoothed = ndimage.gaussian_filter(inside, 1)
    if algorithm == "h_maxima":
        peaks = h_maxima(top, 0.1, footprint=disk(radius)) > 0
    else:
        peaks = np.zeros(top.shape, bool)
        at = peak_local_max(top, min_distance=radius, threshold_abs=0.1, exclude_border=False)
        peaks[tuple(at.T)] = True
    markers = label(peaks, connectivity=2)
    labels = watershed(-smoothed, markers, mask=smoothed > 0.3)
    labels = remove_small_objects(labels, max_size=14)
    for region in regionprops(labels):
        if region.euler_number < 1:
            crop = labels[region.slice]
            filled = remove_small_holes(np.pad(region.image, 1), max_size=14)[1:-1, 1:-1]
            crop[filled & (crop == 0)] = region.label
    return relabel_sequential(labels)[0].astype(np.int32)


def scaling(sides: Iterable[int] = SIDES) -> list[dict[str, Any]]:
    """Time deep_watershed on square maps of each side with 10 to 100,000 cells.

    Returns:
        rows of pixels, cells, ms, and memory: the most that was in use beyond the two maps, in
        multiples of one of them; None for small maps, and where the system doesn't tell.
    """
    found = []
    for side in sides:
        for cells in COUNTS:
            if cells * LEAST_AREA <= side * side:
                top, inside = drawn_maps((side, side), cells)
                ms, memory = _measured(top, inside, 3 if side < MEASURABLE else 1)
                shown = memory / top.nbytes if memory and side >= MEASURABLE else None
                found.append({"pixels": side * side, "cells": cells, "ms": ms, "memory": shown})
    return found


def _measured(top: Map, inside: Map, repeats: int) -> tuple[float, int | None]:
    """Return the shortest time of several runs, and by how much they raise the memory in use."""
    deep_watershed(top[:64, :64], inside[:64, :64])  # compiles
    try:
        Path("/proc/self/clear_refs").write_text("5")  # sets the peak back to what is in use
        before = _status("VmRSS")
        ms = best_ms(lambda: deep_watershed(top, inside), repeats, warm_up=False)
        return ms, _status("VmHWM") - before
    except OSError:  # only Linux tells
        return best_ms(lambda: deep_watershed(top, inside), repeats, warm_up=False), None


def _status(name: str) -> int:
    text = Path("/proc/self/status").read_text()
    found = re.search(rf"{name}:\s+(\d+) kB", text)
    if found is None:
        raise OSError(f"/proc/self/status has no {name}")
    return 1024 * int(found[1])


def drawn_maps(shape: tuple[int, int], cells: int, noise: float = 0.02) -> tuple[Map, Map]:
    """Return maxima and interior as of a network: round cells, most of them touching, and noise."""
    height, width = shape
    rng = np.random.default_rng(cells)
    rows = max(1, round(np.sqrt(cells * height / width)))
    columns = max(1, round(cells / rows))
    shift = rng.uniform(-0.25, 0.25, (2, rows, columns))
    radius = np.sqrt(0.6 / np.pi * height * width / cells) * rng.uniform(0.7, 1.2, (rows, columns))
    unevenness = gaussian(rng.standard_normal(shape, np.float32), 2)
    unevenness *= np.float32(noise) / unevenness.std()
    unevenness += np.float32(noise / 4) * rng.standard_normal(shape, np.float32)
    top, inside = np.empty(shape, np.float32), np.empty(shape, np.float32)
    _draw(shift, radius, unevenness, top, inside)
    return top, inside


@njit(cache=True)
def _draw(shift, radius, unevenness, top, inside):  # type: ignore[no-untyped-def]
    height, width = top.shape
    rows, columns = radius.shape
    for y in range(height):
        for x in range(width):
            row, column = y * rows // height, x * columns // width
            least, size = np.inf, 1.0
            for i in range(max(row - 1, 0), min(row + 2, rows)):
                for j in range(max(column - 1, 0), min(column + 2, columns)):
                    dy = y - (i + 0.5 + shift[0, i, j]) * height / rows
                    dx = x - (j + 0.5 + shift[1, i, j]) * width / columns
                    distance = np.sqrt(dy * dy + dx * dx) / radius[i, j]
                    if distance < least:
                        least, size = distance, radius[i, j]
            steepness = min(max((least - 1) * size / 0.7, -30), 30)
            inside[y, x] = min(max(1 / (1 + np.exp(steepness)) + unevenness[y, x], 0), 1)
            peak = 1 / (1 + least * least * size / 1.77) if least < 1 else 0.0
            top[y, x] = max(peak + unevenness[y, x], 0)


def main() -> None:
    """Print both tables."""
    for row in rows():
        plain = f"{row['plain_ms']:8.1f}" if row["plain_ms"] else " " * 8
        print(f"{row['part']:32} {row['cells']:5} cells {row['ours_ms']:7.2f} ms {plain} ms plain")
    for row in scaling(SIDES if "--scaling" in sys.argv else SIDES[:4]):
        memory = f"{row['memory']:.1f}" if row["memory"] else "-"
        print(
            f"{row['pixels']:9} pixels {row['cells']:6} cells {row['ms']:9.1f} ms, memory {memory}"
        )


if __name__ == "__main__":
    main()
