"""Images without labels, labelled by a model, for the next model to learn from (self-training)."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellshed.data.images import list_images, read_image, write_labels
from cellshed.data.store import NOT_ANNOTATED
from cellshed.distances import distance_transform
from cellshed.normalize import as_channels
from cellshed.predict import Prediction, Segmenter, load_model
from cellshed.rivals import cells_of_any
from cellshed.sources import source_of, told_apart

CAREFUL = (
    "predict.mirrors=4",
    "predict.scales=[1.0, 0.75, 1.3]",
    "decode.confidence_threshold=0.3",
)
"""What the model does with more care than usual."""
DOUBTING = ("predict.mirrors=4", "decode.confidence_threshold=0.4")
"""The same where doubtful ground is told apart: surer cells, at the model's own scales."""

ROUGH = 3.0
"""Ground is no background if its intensities vary so many times as much as on flat ground."""
_SPREAD = 4.0  # pixels within which the variation is measured, as a Gaussian's sigma
_HALO = 6  # pixels around cells that have no part in it: their halo
_RIM = 2  # pixels around cells that stay background all the same
_WIDTH, _AREA = 5, 600  # rough ground is wider than twice the one, and no smaller than the other


def label_images(
    model: str | Path, images: Path, out: Path, *, least: float, doubt: bool = False
) -> Path:
    """Write the images that a model is sure of, with the labels it finds, and return the folder.

    Args:
        model: what load_model takes.
        images: folder of images.
        out: folder to be, with train/images/ and train/labels/; it appears once it is whole.
        least: mean confidence of an image's cells below which the image is left out.
        doubt: mark doubtful ground as not annotated; else all that isn't a cell is background.

    Raises:
        ValueError: no image is left, or two images of a folder have one name.
    """
    segmenter = load_model(model).with_changes(DOUBTING if doubt else CAREFUL)
    find = _find_with_doubt if doubt else Segmenter.predict
    arriving = out.with_name(f".{out.name}.part")
    shutil.rmtree(arriving, ignore_errors=True)
    chosen = arriving / "train"
    for source in told_apart(map(source_of, list_images([images])), {}):
        found = find(segmenter, read_image(source.path))
        if len(found.confidence) and found.confidence.mean() >= least:
            write_labels(chosen / "labels" / f"{source.name}.tif", found.labels)
            (chosen / "images").mkdir(exist_ok=True)
            copy = f"{source.name}{source.path.suffix}"
            shutil.copyfile(source.path, chosen / "images" / copy)
    if not arriving.exists():
        raise ValueError(
            f"{images}: of no image are the cells sure on average by {least}; ask for less"
        )
    arriving.rename(out)
    return out


def _find_with_doubt(segmenter: Segmenter, image: NDArray[Any]) -> Prediction:
    """Find the cells of an image; doubtful ground is NOT_ANNOTATED.

    Doubtful is what only a cell covers that isn't sure enough, and ground that isn't flat.
    """
    views, shape = segmenter.views(image), image.shape[:2]
    found = segmenter.decode(views, shape)
    labels = found.labels
    unsure = (labels == 0) & cells_of_any(views, segmenter.card.decode, shape)
    labels = np.where(unsure, NOT_ANNOTATED, labels)
    labels = np.where(rough_ground(image, labels), NOT_ANNOTATED, labels)
    return replace(found, labels=labels)


def rough_ground(image: NDArray[Any], labels: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Tell where ground that is no cell's isn't flat either: (H, W).

    Clumps that are out of focus, the middle of dense colonies, dead cells. Specks of debris are
    too small to count.

    Args:
        image: (H, W) or (H, W, C); the mean of its channels counts.
        labels: int32 (H, W), 0 = background; -1 is left as it is.
    """
    from scipy.ndimage import binary_opening, gaussian_filter, label

    away = distance_transform(labels <= 0)  # from cells
    ground = (labels == 0) & (away > _HALO)
    if not ground.any():
        return np.zeros(labels.shape, bool)
    values = as_channels(image).mean(axis=2, dtype=np.float64)
    weight = np.maximum(gaussian_filter(ground.astype(np.float64), _SPREAD), 1e-3)

    def around(array: NDArray[np.float64]) -> NDArray[np.float64]:
        mean: NDArray[np.float64] = gaussian_filter(array * ground, _SPREAD) / weight
        return mean

    deviation = np.sqrt(np.maximum(around(values**2) - around(values) ** 2, 0))
    flat = np.percentile(deviation[ground], 20)
    rough = (deviation > ROUGH * flat) & (labels == 0) & (away > _RIM)
    pieces, _ = label(binary_opening(rough, iterations=_WIDTH))
    large = np.append(False, np.bincount(pieces.ravel())[1:] >= _AREA)
    found: NDArray[np.bool_] = large[pieces]
    return found
