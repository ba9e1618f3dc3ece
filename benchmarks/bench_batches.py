"""Times what feeds the network: crop, warp, targets and whole batches, beside plain versions.

Run as `python benchmarks/bench_batches.py`; one thread, best of several repeats.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree
from skimage.measure import label, regionprops
from skimage.segmentation import find_boundaries

from cellshed.augment import Warp, sample_warp, warp
from cellshed.batches import Crops, collate
from cellshed.config import parse_config
from cellshed.data.store import Record
from cellshed.normalize import normalize, scaling
from cellshed.settings import AugmentSettings, Config, NormalizeSettings
from cellshed.targets import encode_targets
from timing import best_ms

SHAPE = (520, 704)
SIZE = 512
Array = NDArray[Any]
Maps = dict[str, Array]


@dataclass
class MemoryStore:
    """One image and its labels, read as from a store."""

    pixels: Array
    cells: Array
    count: int

    @property
    def records(self) -> tuple[Record, ...]:
        """The one record."""
        return (Record("bench", "train", "", *SHAPE, channels=1, n_cells=self.count),)

    def __len__(self) -> int:
        return 1

    def image(self, _: int) -> Array:
        """Return the image."""
        return self.pixels

    def labels(self, _: int) -> Array:
        """Return the labels."""
        return self.cells


def rows() -> list[dict[str, Any]]:
    """Return one row per part and number of cells: times in ms, ours and plain, and the bound."""
    return [row for cells in (300, 3000) for row in _rows_for(cells)]


def _rows_for(cells: int) -> list[dict[str, Any]]:
    store = field(cells)
    config = parse_config("training: {workers: 0}")
    how = sample_warp(np.random.default_rng(1), AugmentSettings(), SHAPE, SIZE)
    image, labels = store.pixels, store.cells
    heads = ["inner_distance", "outer_distance", "pixelwise", "foreground"]

    def ours_crop() -> Maps:
        crop, warped = warp(image, labels, how, SIZE, scaling(image, config.normalize))
        return encode_targets(warped, heads, config.targets) | {"image": crop}

    def plain_crop() -> Maps:
        crop, warped = plain_warp(image, labels, how)
        return plain_targets(warped, heads) | {"image": plain_normalize(crop)}

    return [
        _row("normalise an image", cells, lambda: normalize(image, NormalizeSettings()),
             lambda: plain_normalize(image), "numpy", None),
        _row("crop and warp", cells, lambda: warp(image, labels, how, SIZE),
             lambda: plain_warp(image, labels, how), "scipy.ndimage", None),
        _row("crop, warp, four targets", cells, ours_crop, plain_crop,
             "scipy.ndimage, scikit-image", 20),
        _row("batch of 2, two targets", cells, _our_batch(store, config),
             lambda: plain_batch(store, config), "scipy.ndimage, scikit-image", 40),
    ]  # fmt: skip


def _row(
    part: str,
    cells: int,
    ours: Callable[[], Any],
    plain: Callable[[], Any],
    name: str,
    bound: float | None,
) -> dict[str, Any]:
    return {
        "part": part,
        "size": f"{SIZE}x{SIZE}" if "an image" not in part else f"{SHAPE[0]}x{SHAPE[1]}",
        "cells": cells,
        "ours_ms": best_ms(ours, 15),
        "plain_ms": best_ms(plain, 2),
        "plain": name,
        "bound_ms": bound,
    }


def field(cells: int) -> MemoryStore:
    """Return round, often touching cells at random places, and an image of noise."""
    rng = np.random.default_rng(cells)
    centres = rng.uniform((0, 0), SHAPE, (cells, 2))
    distance, nearest = cKDTree(centres).query(np.indices(SHAPE).reshape(2, -1).T)
    radius = 0.6 * np.sqrt(SHAPE[0] * SHAPE[1] / cells)
    labels = np.where(distance < radius, nearest + 1, 0).reshape(SHAPE).astype(np.uint16)
    return MemoryStore(rng.integers(0, 255, SHAPE).astype(np.uint8), labels, cells)


def _our_batch(store: MemoryStore, config: Config) -> Callable[[], Any]:
    crops = Crops([store], config)  # type: ignore[list-item]
    return lambda: collate([crops.sample(0, 0, number) for number in range(2)])


def plain_batch(store: MemoryStore, config: Config) -> Maps:
    """Return a batch of two augmented crops, by scipy and scikit-image."""
    samples = []
    for number in range(2):
        rng = np.random.default_rng(number)
        how = sample_warp(rng, config.augment, SHAPE, SIZE)
        crop, labels = plain_warp(store.pixels, store.cells, how)
        samples.append(plain_targets(labels, config.model.heads) | {"image": plain_normalize(crop)})
    return {name: np.stack([sample[name] for sample in samples]) for name in samples[0]}


def plain_normalize(image: Array) -> Array:
    """Return (x - mean) / std."""
    return ((image - image.mean()) / (image.std() + 1e-7)).astype(np.float32)


def plain_warp(image: Array, labels: Array, how: Warp) -> tuple[Array, Array]:
    """Return the crop by scipy.ndimage.affine_transform."""
    matrix = np.array(how.matrix)
    arguments = {"offset": matrix[:, 2], "output_shape": (SIZE, SIZE), "mode": "mirror"}
    floats = image.astype(np.float32)
    return (
        ndimage.affine_transform(floats, matrix[:, :2], order=1, **arguments),
        ndimage.affine_transform(labels, matrix[:, :2], order=0, **arguments),
    )


def plain_targets(labels: Array, names: Any) -> Maps:
    """Return the four targets by scipy and scikit-image, as one would first write them."""
    edge = find_boundaries(labels, mode="inner", connectivity=1)
    found: Maps = {}
    if "pixelwise" in names:
        wide = ndimage.binary_dilation(edge, ndimage.generate_binary_structure(2, 1))
        interior = (labels > 0) & ~edge
        wide &= ~interior
        found["pixelwise"] = np.stack([wide, interior, ~(wide | interior)], -1).astype(np.uint8)
    if "foreground" in names:
        found["foreground"] = np.stack([labels == 0, labels > 0], -1).astype(np.uint8)
    if "inner_distance" in names:
        found["inner_distance"] = plain_inner(np.where(edge, 0, labels))
    if "outer_distance" in names:
        found["outer_distance"] = plain_outer(np.where(edge, 0, labels))
    return found


def plain_inner(eroded: Array) -> Array:
    """Return 1 / (1 + r**2 / sqrt(area)) about each cell's weighted centre."""
    inner = np.zeros(eroded.shape, np.float32)
    for cell in regionprops(label(eroded), ndimage.distance_transform_edt(eroded)):
        square = ((cell.coords - np.array(cell.centroid_weighted)) ** 2).sum(1)
        inner[tuple(cell.coords.T)] = 1 / (1 + square / np.sqrt(cell.area))
    return inner


def plain_outer(eroded: Array) -> Array:
    """Return each cell's distance to the background, over its largest."""
    outer = ndimage.distance_transform_edt(eroded).astype(np.float32)
    for cell in regionprops(label(eroded), outer):
        outer[tuple(cell.coords.T)] /= cell.intensity_max
    return outer


if __name__ == "__main__":
    for row in rows():
        ratio = row["plain_ms"] / row["ours_ms"]
        bound = f"   at most {row['bound_ms']}" if row["bound_ms"] else ""
        print(
            f"{row['part']:26} {row['size']:8} {row['cells']:5} cells {row['ours_ms']:8.2f} ms   "
            f"{row['plain']}: {row['plain_ms']:8.1f} ms, {ratio:5.1f} x{bound}"
        )
