"""Score each image, then cell types and all images by their summed counts."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cellshed.data.images import pieces_of_only_cell
from cellshed.data.store import NOT_ANNOTATED, Store
from cellshed.evaluation.gallery import Candidate, faded, find_candidates, write_gallery
from cellshed.evaluation.predictions import (
    Confidence,
    Predictions,
    Segmenter,
    open_predictions,
)
from cellshed.evaluation.results import FORMAT, write_results
from cellshed.evaluation.truth import Labels, Sample, at_scale, open_truth
from cellshed.metrics.calibration import as_rows, calibration_error, reliability
from cellshed.metrics.coco import (
    Matches,
    coco_intervals,
    coco_scores,
    match_masks,
    match_table,
)
from cellshed.metrics.intervals import bootstrap
from cellshed.metrics.known import judged, still_there
from cellshed.metrics.mistakes import count_mistakes, link_cells
from cellshed.metrics.overlap import Floats, Overlap, overlap
from cellshed.metrics.scores import COUNT_NAMES, as_scores, count, count_without_small, pool
from cellshed.progress import Progress

SMALL = 100
"""Cells of fewer pixels are left out of the scores without small objects."""


@dataclass(frozen=True, eq=False)
class Scored:
    """What is kept of an image once it is scored."""

    sample: Sample
    shape: tuple[int, int]
    counts: Floats
    counts_without_small: Floats
    mistakes: dict[str, int]
    matches: Matches
    candidates: tuple[Candidate, ...]
    masks: tuple[bool, bool]
    """Whether true and predicted labels look like a mask of all cells."""


def evaluate(  # noqa: PLR0913  each is one option of the command line
    truth: Store | str | Path,
    pred: Segmenter | str | Path,
    out: str | Path,
    *,
    split: str = "test",
    cell_types: Sequence[str] | None = None,
    images: str | Path | None = None,
    scale: float = 1.0,
    small: int = SMALL,
    gallery: int = 4,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Score predicted cells against true ones, and write all numbers and some pictures.

    Args:
        truth: a store or its folder, a COCO file, a folder laid out as LIVECell, or a folder of
            label images (which may stand in `labels/` beside `images/`). Where annotations
            overlap, the smaller cell is on top; COCO's AP alone goes by the whole masks.
        pred: a folder of label images named as the true ones, of any tool, with endings such as
            `_cp_masks` or none, directly or in `labels/`; or a model, whose labels then become
            `OUT/labels`. Confidences for AP come from the model, or from `cells.csv` or
            `coco.json` beside the labels; without any, all cells have the same.
        out: folder for scores.json, scores.csv and gallery/.
        split: of a store or a LIVECell folder; of a store without splits "test" means all.
        cell_types: score only these.
        images: folder of the images, where the truth is a COCO file or label images.
        scale: of a model: images and true cells are enlarged by this factor first, to learn how it
            does on cells of other sizes.
        small: cells of fewer pixels are left out of "without_small".
        gallery: pictures to draw of best and of worst images, and of each kind of mistake.
        progress: called with the number of images done, and of all.

    Returns:
        What scores.json holds: "pooled", "cell_types" and "images", each with the keys of
        `score`, and "mistakes", "coco", "without_small" and "intervals" (95 %, bootstrap over
        images; not of a single image). Where there are confidences, "pooled" also has their
        expected calibration error "confidence_error", and the bins of it, "reliability".

    Raises:
        ValueError: a prediction is missing or of another size, or anything else about the
            input, with the remedy. Results of an earlier run then stay as they are.
    """
    out = Path(out)
    if scale != 1 and isinstance(pred, str | Path):
        raise ValueError(
            f"scale {scale}: {pred} holds labels already; only a model can be given it"
        )
    found = open_truth(truth, split=split, cell_types=cell_types, images=images)
    found = at_scale(found, scale)
    predictions = open_predictions(pred, found, out)
    out.mkdir(parents=True, exist_ok=True)  # what can't be written is told before the work
    scored = []
    for done, sample in enumerate(found.samples, start=1):
        scored.append(_score(sample, predictions, small))
        if progress is not None:
            progress(done, len(found.samples))
    _warn_of_masks(scored, (found.source, predictions.source))
    results: dict[str, Any] = {
        "format": FORMAT,
        "truth": found.source,
        "pred": predictions.source,
        "model": _model_card(pred),
        "split": found.split,
        "scale": scale,
        "small": small,
        "confidence": predictions.confidence,
        **_all_scores(scored, confident=bool(predictions.confidence)),
    }
    results["gallery"] = write_gallery(
        out / "gallery",
        results["images"],
        [item.candidates for item in scored],
        lambda index: _reread(found.samples[index], predictions),
        gallery,
    )
    predictions.keep()
    write_results(out, results)
    return results


def _score(sample: Sample, predictions: Predictions, small: int) -> Scored:
    true, pred, confidence = _read(sample, predictions)
    try:
        table = overlap(true, pred)
    except ValueError as error:
        raise ValueError(f"'{sample.name}': {error}") from error
    linked = link_cells(table)
    return Scored(
        sample,
        (true.shape[0], true.shape[1]),
        count(table),
        count_without_small(table, small),
        count_mistakes(linked),
        _match(sample, pred, confidence, table),
        find_candidates(table, linked),
        (pieces_of_only_cell(true, table.n_true) > 1, pieces_of_only_cell(pred, table.n_pred) > 1),
    )


def _warn_of_masks(scored: Sequence[Scored], sources: tuple[str, str]) -> None:
    for source, look_so in zip(
        sources, zip(*(item.masks for item in scored), strict=True), strict=True
    ):
        if any(look_so):
            warnings.warn(
                f"{source}: the only cell of {sum(look_so)} of {len(look_so)} images is in pieces, "
                f"first of '{scored[look_so.index(True)].sample.name}': if these are masks of all "
                "cells, number them first, e.g. with skimage.measure.label",
                stacklevel=3,
            )


def _read(sample: Sample, predictions: Predictions) -> tuple[Labels, Labels, Confidence | None]:
    """Return true and predicted labels, where somebody annotated, and the confidences."""
    true = sample.read_labels()
    pred, confidence = predictions.read(sample)
    if true.shape != pred.shape:
        raise ValueError(
            f"'{sample.name}': predicted labels are {_size(pred)}, true ones {_size(true)} (height "
            "x width); predict on the image as it is, or resize labels with nearest neighbours"
        )
    true, found = judged(true, pred)
    if confidence is not None:
        confidence = confidence[still_there(pred, found)]
    return true, found, confidence


def _size(labels: Labels) -> str:
    return "x".join(map(str, labels.shape))


def _match(sample: Sample, pred: Labels, confidence: Confidence | None, table: Overlap) -> Matches:
    masks = sample.masks((pred.shape[0], pred.shape[1]))
    if masks is None:
        return match_table(table, confidence)
    return match_masks(masks[0], pred, confidence, masks[1])


def _reread(
    sample: Sample, predictions: Predictions
) -> tuple[np.ndarray[Any, Any] | None, Labels, Labels]:
    """Return image, true and predicted labels once more, for a picture."""
    image = None if sample.read_image is None else np.asarray(sample.read_image())
    labels = np.asarray(sample.read_labels())
    if image is not None:
        image = faded(image, labels == NOT_ANNOTATED)
    return image, *judged(labels, predictions.labels(sample))


def _all_scores(scored: Sequence[Scored], confident: bool) -> dict[str, Any]:
    cell_types = sorted({item.sample.cell_type for item in scored} - {""})
    return {
        "count_names": list(COUNT_NAMES),
        "pooled": _scores_of_set(scored) | (_reliability(scored) if confident else {}),
        "cell_types": {
            name: _scores_of_set([item for item in scored if item.sample.cell_type == name])
            for name in cell_types
        },
        "images": [_scores_of_image(item) for item in scored],
    }


def _reliability(scored: Sequence[Scored]) -> dict[str, Any]:
    """Compare confidences with the share of cells that are right; nothing if they are no shares."""
    confidence = np.concatenate([item.matches.scores for item in scored])
    right = np.concatenate([item.matches.matched[0, 0] for item in scored])
    if not ((confidence >= 0) & (confidence <= 1)).all():
        return {}
    return {
        "confidence_error": calibration_error(confidence, right),
        "reliability": as_rows(reliability(confidence, right)),
    }


def _scores_of_image(item: Scored) -> dict[str, Any]:
    return {
        "name": item.sample.name,
        "cell_type": item.sample.cell_type,
        "height": item.shape[0],
        "width": item.shape[1],
        **as_scores(item.counts),
        "mistakes": item.mistakes,
        "without_small": as_scores(item.counts_without_small, pixel=False),
        "counts": item.counts.tolist(),
    }


def _scores_of_set(items: Sequence[Scored]) -> dict[str, Any]:
    """Scores of the sums over images, and how far they would move with other images."""
    counts = np.array([item.counts for item in items])
    without_small = np.array([item.counts_without_small for item in items])
    matches = [item.matches for item in items]
    names = items[0].mistakes
    intervals = bootstrap(counts) | coco_intervals(matches)
    intervals |= {
        f"without_small.{name}": ends
        for name, ends in bootstrap(without_small).items()
        if not name.startswith("pixel.")
    }
    return {
        "n_images": len(items),
        **as_scores(pool(counts)),
        "mistakes": {name: sum(item.mistakes[name] for item in items) for name in names},
        "coco": coco_scores(matches),
        "without_small": as_scores(pool(without_small), pixel=False),
        "intervals": {name: list(ends) for name, ends in intervals.items()},
    }


def _model_card(pred: Segmenter | str | Path) -> dict[str, Any] | None:
    card = getattr(pred, "card", None)
    return None if card is None else dict(card.model_dump(mode="json"))
