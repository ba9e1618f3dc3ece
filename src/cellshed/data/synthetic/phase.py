"""What delays the light: thickness, granules and nuclei of cells, and debris. In radians."""

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from cellshed.data.synthetic.morphology import Morphology
from cellshed.data.synthetic.noise import Field, grain, spots, waves
from cellshed.data.synthetic.shapes import Cells


class _Nuclei(NamedTuple):
    centers: NDArray[np.float64]
    """(n, 2) x, y."""
    radii: NDArray[np.float64]
    """(n,) the shorter of each ellipse."""
    distance: Field
    """(H, W) from the nucleus of the pixel's own cell, in its radii."""


def cell_phase(
    rng: np.random.Generator,
    kind: Morphology,
    cells: Cells,
    labels: NDArray[np.int32],
    depth: Field,
) -> Field:
    """Return the phase of all cells.

    Args:
        rng: source of chance.
        kind: their morphology.
        cells: n cells, drawn as `labels`.
        labels: (H, W), k + 1 for cell k, 0 for none.
        depth: (H, W), pixels to the rim.

    Returns:
        float32 (H, W), 0 outside the cells.
    """
    thickness = _thickness(rng, kind, cells, labels, depth)
    nuclei = _nuclei(rng, kind, cells, labels)
    lumps = waves(rng, labels.shape, 6)
    phase = thickness * (1 + 0.2 * lumps * np.minimum(depth / 3, 1))
    phase += _granules(rng, kind, nuclei, labels, depth)
    if kind.nucleus:
        phase += _nucleus_phase(rng, kind, cells, nuclei, labels)
    return np.asarray(phase * (labels > 0), np.float32)


def _spread(values: NDArray[np.floating], labels: NDArray[np.int32]) -> Field:
    """Give each pixel its cell's value."""
    return np.asarray(np.concatenate([[0], values]).astype(np.float32)[labels])


def _thickness(
    rng: np.random.Generator,
    kind: Morphology,
    cells: Cells,
    labels: NDArray[np.int32],
    depth: Field,
) -> Field:
    """A steep rim, then a dome up to the cell's middle."""
    n = len(cells.radii)
    rim = kind.edge_phase * rng.uniform(0.7, 1.3, n)
    dome = kind.dome_phase * rng.uniform(0.5, 1.4, n)
    rim = np.where(cells.rounded, rng.uniform(1.0, 1.4, n), rim)
    dome = np.where(cells.rounded, rng.uniform(1.0, 2.0, n), dome)
    way = np.minimum(depth / np.maximum(_spread(cells.radii, labels), 1), 1)
    steep = 1 - np.exp(-depth / np.float32(1.1))
    return np.asarray(
        _spread(rim, labels) * steep + _spread(dome, labels) * np.sqrt(way * (2 - way))
    )


def _nuclei(
    rng: np.random.Generator, kind: Morphology, cells: Cells, labels: NDArray[np.int32]
) -> _Nuclei:
    n = len(cells.radii)
    radii = cells.radii * (kind.nucleus or 0.3) * rng.uniform(0.85, 1.15, n)
    long = radii * rng.uniform(1.0, 1.35, n)
    centers = cells.centers + rng.normal(0, 0.12, (n, 2)) * cells.radii[:, None]
    # The ellipse as a linear map, one 2x2 matrix a cell.
    cos, sin = np.cos(cells.angles), np.sin(cells.angles)
    to_circle = np.stack([cos / long, sin / long, -sin / radii, cos / radii], 1)
    distance = _distances(labels, centers.astype(np.float32), to_circle.astype(np.float32))
    return _Nuclei(centers, radii, distance)


@njit(cache=True, nogil=True)
def _distances(labels: NDArray[np.int32], centers: Field, to_circle: Field) -> Field:
    """Return (H, W) how far each pixel of a cell lies from its nucleus' centre."""
    distance = np.zeros(labels.shape, np.float32)
    for row in range(labels.shape[0]):
        for column in range(labels.shape[1]):
            own = labels[row, column] - 1
            if own < 0:
                continue
            dx = np.float32(column) - centers[own, 0]
            dy = np.float32(row) - centers[own, 1]
            a, b, c, d = to_circle[own]
            u, v = dx * a + dy * b, dx * c + dy * d
            distance[row, column] = np.sqrt(u * u + v * v)
    return distance


def _granules(
    rng: np.random.Generator,
    kind: Morphology,
    nuclei: _Nuclei,
    labels: NDArray[np.int32],
    depth: Field,
) -> Field:
    """Organelles: small dense grains, a few thin vacuoles; most of them around the nucleus."""
    fine = grain(rng, labels.shape, 0.7, 2.0)
    dense, thin = np.maximum(fine - 0.7, 0), np.maximum(-fine - 1.7, 0)
    texture = 0.5 * dense + 0.15 * fine - 0.2 * thin
    outside = nuclei.distance - 1
    where = np.where(outside > 0, np.exp(-0.35 * np.maximum(outside, 0)), 0.25)
    amount = kind.granules * rng.uniform(0.5, 1.5, len(nuclei.radii))
    return np.asarray(texture * where * _spread(amount, labels) * np.minimum(depth / 2, 1))


def _nucleus_phase(
    rng: np.random.Generator,
    kind: Morphology,
    cells: Cells,
    nuclei: _Nuclei,
    labels: NDArray[np.int32],
) -> Field:
    """The nucleus' envelope and nucleoli; hidden in dividing cells."""
    n = len(cells.radii)
    contrast = min(kind.edge_phase / 0.2, 1)
    seen = np.where(cells.rounded, 0, contrast)
    off = (nuclei.distance - 1) * _spread(nuclei.radii, labels) / np.float32(1.1)
    envelope = 0.1 * np.exp(-off * off) + 0.05 * (nuclei.distance < 1)
    own = np.repeat(np.arange(n), rng.integers(1, 5, n))
    radii = nuclei.radii[own]
    where = nuclei.centers[own] + rng.uniform(-0.55, 0.55, (len(own), 2)) * radii[:, None]
    sigma = np.clip(radii * rng.uniform(0.1, 0.18, len(own)), 0.8, 1.8)
    height = rng.uniform(0.3, 0.6, len(own)) * seen[own]
    nucleoli = spots(labels.shape, np.column_stack([where, sigma, height]))
    return np.asarray(envelope * _spread(seen, labels) + nucleoli)


def debris(rng: np.random.Generator, kind: Morphology, shape: tuple[int, int]) -> Field:
    """Return the phase of what floats between cells: single specks and heaps of fragments."""
    size = np.array([shape[1], shape[0]])
    expected = kind.debris * size.prod() / 1e6 * rng.uniform(0.3, 2)
    specks, heaps = rng.poisson(expected), rng.poisson(0.15 * expected)
    own = np.repeat(np.arange(heaps), rng.integers(3, 9, heaps))
    parts = len(own)
    places = (rng.random((heaps, 2)) * size)[own] + rng.normal(0, 2.6, (parts, 2))
    single = [
        rng.random((specks, 2)) * size,
        rng.uniform(0.5, 1.1, specks),
        rng.uniform(0.3, 1.5, specks) * rng.choice([1, 1, -0.4], specks),
    ]
    heaped = [places, rng.uniform(0.8, 2.0, parts), rng.uniform(0.5, 1.6, parts)]
    return spots(shape, np.vstack([np.column_stack(single), np.column_stack(heaped)]))
