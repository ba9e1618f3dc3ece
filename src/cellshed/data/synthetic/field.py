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
from cellshed.data.synthetic.shapes import place_cells

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
        density: share of the field that cells cover, roughly, 0 to 1; None draws it from what
            the morphology shows in culture, sparse to crowded.

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
    phase, labels = _specimen(rng, kind, shape, density)
    image = _photograph(rng, phase)
    return image, _numbered(labels)


def _numbered(labels: NDArray[np.int32]) -> NDArray[np.int32]:
    """Number the labels that occur 1, 2, 3 ..."""
    occurs = np.bincount(labels.ravel()) > 0
    occurs[0] = False
    return np.asarray(np.cumsum(occurs, dtype=np.int32) * occurs, np.int32)[labels]


def _specimen(
    rng: np.random.Generator, kind: Morphology, shape: tuple[int, int], density: float | None
) -> tuple[Field, NDArray[np.int32]]:
    """Return the phase and the labels of cells and debris."""
    coverage = rng.uniform(*kind.coverage) if density is None else density
    cells = place_cells(rng, kind, shape, coverage)
    ruffles = [0.4 * waves(rng, shape, 5) + waves(rng, shape, 14) for _ in range(2)]
    warp = np.clip(np.stack(ruffles) * np.float32(kind.roughness), -5, 5)
    labels, depth = paint_cells(cells, warp)
    labels = whole_cells(labels, LEAST)
    phase = cell_phase(rng, kind, cells, labels, depth)
    return phase + debris(rng, kind, shape) * (labels == 0), labels


def _photograph(rng: np.random.Generator, phase: Field) -> NDArray[np.uint8]:
    """Return the picture that a microscope's camera takes."""
    phase = ndimage.gaussian_filter(phase, _BLUR, truncate=3)
    light = phase_contrast(phase, halo=rng.uniform(1.2, 2.0))
    # Microscopes that watch cell cultures take the slow changes of brightness out, in part.
    light -= rng.uniform(0.6, 1.0) * ndimage.gaussian_filter(light, 3.5, truncate=3)
    image = GREY + rng.uniform(42, 62) * light
    image += uneven_light(rng, phase.shape)
    image += rng.uniform(0.8, 1.3) * rng.standard_normal(phase.shape, np.float32)
    return np.asarray(np.clip(np.rint(image), 0, 255), np.uint8)
