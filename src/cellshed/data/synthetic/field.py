"""One field of cells with its labels."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cellshed.data.synthetic.morphology import Morphology, known_morphology
from cellshed.data.synthetic.noise import Field, waves
from cellshed.data.synthetic.optics import phase_contrast, uneven_light
from cellshed.data.synthetic.outlines import whole_cells
from cellshed.data.synthetic.painting import paint_cells
from cellshed.data.synthetic.phase import cell_phase, debris
from cellshed.data.synthetic.shapes import place_cells, without_processes

GREY = 128
"""Of the empty field."""
LEAST = 12
"""Pixels; smaller pieces of a cell, mostly cut off by the frame, are not drawn."""
_BLUR = 0.5


def synthetic_field(
    seed: int | tuple[int, ...] | np.random.Generator,
    morphology: str,
    shape: tuple[int, int] = (520, 704),
    density: float | None = None,
) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """Draw a field of cells as phase contrast shows it, with its exact labels.

    Args:
        seed: the same seed gives the same field.
        morphology: a name of `MORPHOLOGIES`.
        shape: height and width in pixels, 32 or more.
        density: share of the field that cells and their processes cover, roughly, 0 to 1; None
            draws it from what the morphology shows in culture, sparse to crowded.

    Returns:
        image, uint8 (H, W), and labels, int32 (H, W), 0 = background, 1..n. Each cell is one
        4-connected piece without holes. Debris is drawn and has no label.

    Raises:
        ValueError: unknown morphology, a field too small, or a density out of range.
    """
    kind = known_morphology(morphology)
    if min(shape) < 32:
        raise ValueError(f"shape {shape[0]}x{shape[1]}: a field needs 32x32 pixels or more")
    if density is not None and not 0 <= density <= 1:
        raise ValueError(f"density {density}: give a share of the field, 0 to 1")
    rng = np.random.default_rng(seed)
    phase, glow, labels = _specimen(rng, kind, shape, density)
    image = _photograph(rng, phase, glow)
    return image, _numbered(labels)


def _numbered(labels: NDArray[np.int32]) -> NDArray[np.int32]:
    """Number the labels that occur 1, 2, 3 ..."""
    occurs = np.bincount(labels.ravel()) > 0
    occurs[0] = False
    return np.asarray(np.cumsum(occurs, dtype=np.int32) * occurs, np.int32)[labels]


def _specimen(
    rng: np.random.Generator, kind: Morphology, shape: tuple[int, int], density: float | None
) -> tuple[Field, Field, NDArray[np.int32]]:
    """Return phase and glow of cells and debris, and the cells' labels."""
    coverage = rng.uniform(*kind.coverage) if density is None else density
    cells = place_cells(rng, kind, shape, coverage)
    ruffles = [0.4 * waves(rng, shape, 5) + waves(rng, shape, 14) for _ in range(2)]
    warp = np.clip(np.stack(ruffles) * np.float32(kind.roughness), -5, 5)
    labels, depth = paint_cells(cells, warp)
    labels = whole_cells(labels, LEAST)
    phase = cell_phase(rng, kind, cells, labels, depth)
    phase += debris(rng, kind, shape) * (labels == 0)
    glow = _glow(rng, kind, labels, depth)
    if kind.bare:
        bodies, _ = paint_cells(without_processes(cells), warp)
        labels = whole_cells(np.where(bodies == labels, labels, 0), LEAST)
    return phase, glow, labels


def _glow(
    rng: np.random.Generator, kind: Morphology, labels: NDArray[np.int32], depth: Field
) -> Field:
    """Return the grey levels that cells gain, (H, W): each its own, fading towards its rim."""
    if not kind.glow[1]:
        return np.zeros(labels.shape, np.float32)
    own = rng.uniform(*kind.glow) * rng.uniform(0.6, 1.3, int(labels.max()) + 1)
    own[0] = 0
    full = rng.uniform(1.0, 2.5)  # pixels from the rim to the cell's own grey
    inside = own.astype(np.float32)[labels] * np.minimum(depth / np.float32(full), 1)
    glow: Field = ndimage.gaussian_filter(inside, rng.uniform(0.5, 1.2))
    return glow


def _photograph(rng: np.random.Generator, phase: Field, glow: Field) -> NDArray[np.uint8]:
    """Return the picture that a microscope's camera takes."""
    phase = ndimage.gaussian_filter(phase, _BLUR, truncate=3)
    light = phase_contrast(phase, halo=rng.uniform(1.2, 2.0))
    # Microscopes that watch cell cultures take the slow changes of brightness out, in part.
    light -= rng.uniform(0.6, 1.0) * ndimage.gaussian_filter(light, 3.5, truncate=3)
    image = GREY + glow + rng.uniform(42, 62) * light
    image += uneven_light(rng, phase.shape)
    image += rng.uniform(0.8, 1.3) * rng.standard_normal(phase.shape, np.float32)
    return np.asarray(np.clip(np.rint(image), 0, 255), np.uint8)
