"""LIVECell's COCO scores: average precision and recall of cells ranked by confidence.

Matching and averaging are those of pycocotools' COCOeval with LIVECell's area ranges and limits.
They are compiled, and look only at pairs that overlap: COCOeval compares each predicted with each
true cell in Python, which takes minutes for an image of 3,000.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from cellshed.data.rle import decode_runs
from cellshed.metrics.intervals import resample
from cellshed.metrics.overlap import Floats, Ints, Overlap, overlap, ranked

THRESHOLDS: Floats = np.linspace(0.5, 0.95, 10)
RECALLS: Floats = np.linspace(0, 1, 101)
AREAS: dict[str, tuple[float, float]] = {
    "": (0, 1e10),
    "s": (0, 324),
    "m": (324, 961),
    "l": (961, 1e10),
}
"""Suffix of a score -> smallest and largest area in pixels, both included, as LIVECell's."""
MAX_CELLS = 2000
"""Predicted cells of an image that count, those of highest confidence first."""
FEWER_CELLS = (100, 500)
NO_CONFIDENCE = 1.0
"""Confidence of every cell of a tool that gives none; AP then hangs on the order of labels."""


@dataclass(frozen=True, eq=False)
class Matches:
    """How the cells of one image match, at each area range and threshold.

    Attributes:
        scores: confidences, falling, (n,), n at most MAX_CELLS.
        matched: whether each predicted cell has a true one, (areas, thresholds, n).
        ignored: whether it is left out, (areas, thresholds, n).
        n_true: true cells that count, (areas,).
    """

    scores: Floats
    matched: NDArray[np.bool_]
    ignored: NDArray[np.bool_]
    n_true: Ints


def match_labels(
    true: NDArray[np.integer], pred: NDArray[np.integer], confidence: Floats | None = None
) -> Matches:
    """Match the cells of two label images, in which nothing overlaps.

    Args:
        true: integer labels (H, W), 0 = background.
        pred: the same for the prediction.
        confidence: of each predicted label, ascending, (n_pred,); None: NO_CONFIDENCE for all.
    """
    return match_table(overlap(true, pred), confidence)


def match_masks(
    masks: Sequence[bytes],
    pred: NDArray[np.integer],
    confidence: Floats | None = None,
    areas: Sequence[float | None] | None = None,
) -> Matches:
    """Match true cells that may overlap each other with a predicted label image.

    Args:
        masks: compressed run-length masks as in COCO files, of the size of `pred`.
        pred: integer labels (H, W), 0 = background.
        confidence: of each predicted label, ascending, (n_pred,); None: NO_CONFIDENCE for all.
        areas: of each true cell, in pixels, as the annotations state them; by default, and where
            None, the pixels of the mask.
    """
    table = overlap_masks(masks, pred)
    true_areas = table.true_areas.astype(np.float64)
    for k, area in enumerate(areas or ()):
        true_areas[k] = true_areas[k] if area is None else area
    return match_table(table, confidence, true_areas)


def match_table(
    table: Overlap, confidence: Floats | None = None, true_areas: Floats | None = None
) -> Matches:
    """Match the cells of an overlap table; arguments as of `match_masks`.

    Raises:
        ValueError: not one confidence for each predicted cell.
    """
    scores = np.full(table.n_pred, NO_CONFIDENCE) if confidence is None else np.array(confidence)
    if len(scores) != table.n_pred:
        raise ValueError(f"{len(scores)} confidences for {table.n_pred} cells: give one each")
    areas = table.true_areas if true_areas is None else true_areas
    order = np.argsort(-scores, kind="stable")[:MAX_CELLS]
    low, high = np.array(list(AREAS.values())).T
    true_ignored = (areas < low[:, None]) | (areas > high[:, None])
    pred_areas = table.pred_areas[order]
    outside = (pred_areas < low[:, None]) | (pred_areas > high[:, None])
    place = np.full(table.n_pred, -1)
    place[order] = np.arange(len(order))
    near = np.flatnonzero((table.iou >= THRESHOLDS[0]) & (place[table.cols] >= 0))
    near = near[np.lexsort((table.rows[near], place[table.cols[near]]))]
    first = np.searchsorted(place[table.cols[near]], np.arange(len(order) + 1))
    matched, ignored = _match(
        first, table.rows[near], table.iou[near], THRESHOLDS, true_ignored, outside
    )
    return Matches(scores[order].astype(np.float64), matched, ignored, (~true_ignored).sum(axis=1))


def overlap_masks(masks: Sequence[bytes], pred: NDArray[np.integer]) -> Overlap:
    """Count the overlaps of true masks, in their order, with a predicted label image."""
    runs = decode_runs(masks, pred.size)
    columns, values = ranked(np.ascontiguousarray(pred.T), "predicted")
    rows, cols, pixels = _count_under_masks(runs.start, runs.stop, runs.first, columns, len(values))
    areas = np.bincount(columns, minlength=len(values))
    areas[0] = 0
    rank = np.cumsum(areas > 0) - 1
    order = np.lexsort((cols, rows))
    return Overlap(
        true_ids=np.arange(len(masks)),
        pred_ids=values[areas > 0],
        true_areas=runs.area,
        pred_areas=areas[areas > 0],
        rows=rows[order],
        cols=rank[cols[order]],
        pixels=pixels[order],
    )


def coco_scores(images: Sequence[Matches]) -> dict[str, float | None]:
    """Return LIVECell's scores of a set of images, cells of all images ranked together.

    Returns:
        AP: precision averaged over 101 recalls and IoU 0.50 to 0.95; AP50, AP75 at one IoU.
        AR: recall averaged over the IoU thresholds.
        APs, APm, APl, ARs, ARm, ARl: of cells below 324, of 324 to 961, and above 961 pixels.
        AFNR: average false negative rate, 1 - AR.
        AP@100, AR@100, AP@500, AR@500: with so many predicted cells of each image at most; all
            others with 2,000.
        None where there are no true cells.
    """
    named: dict[str, float | None] = {}
    for k, suffix in enumerate(AREAS):
        precision, recall = _curves(_rank(images, k, MAX_CELLS))
        named[f"AP{suffix}"], named[f"AR{suffix}"] = _mean(precision), _mean(recall)
        if not suffix:
            named["AP50"], named["AP75"] = _mean(precision[:1]), _mean(precision[5:6])
    for limit in FEWER_CELLS:
        precision, recall = _curves(_rank(images, 0, limit))
        named[f"AP@{limit}"], named[f"AR@{limit}"] = _mean(precision), _mean(recall)
    named["AFNR"] = None if named["AR"] is None else 1 - named["AR"]
    names = ["AP", "AP50", "AP75", "APs", "APm", "APl", "AR", "ARs", "ARm", "ARl", "AFNR"]
    names += [f"{score}@{limit}" for limit in FEWER_CELLS for score in ("AP", "AR")]
    return {name: named[name] for name in names}


def coco_intervals(
    images: Sequence[Matches], *, resamples: int = 200, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """Return the bootstrap's 95 % interval over images of AP, AP50, AP75, AR and AFNR.

    Returns:
        "coco.AP" and so on -> lower and upper end; empty for fewer than two images, or without
        true cells.
    """
    ranking = _rank(images, 0, MAX_CELLS)
    if len(images) < 2 or not ranking.n_true.any():
        return {}
    drawn = []
    for weights in resample(len(images), resamples=resamples, seed=seed):
        precision, recall = _curves(ranking, weights)
        ar = recall.mean()
        drawn.append((precision.mean(), precision[0], precision[5], ar, 1 - ar))
    low, high = np.nanpercentile(drawn, (2.5, 97.5), axis=0)
    names = ("AP", "AP50", "AP75", "AR", "AFNR")
    return {f"coco.{name}": (float(low[k]), float(high[k])) for k, name in enumerate(names)}


@dataclass(frozen=True, eq=False)
class _Ranking:
    """Predicted cells of several images, those of highest confidence first."""

    matched: NDArray[np.bool_]  # (thresholds, n)
    ignored: NDArray[np.bool_]  # (thresholds, n)
    image: Ints  # (n,)
    n_true: Ints  # (images,)


def _rank(images: Sequence[Matches], area: int, limit: int) -> _Ranking:
    image = np.repeat(np.arange(len(images)), [min(limit, len(m.scores)) for m in images])
    order = np.argsort(-_joined([m.scores[:limit] for m in images]), kind="stable")
    return _Ranking(
        matched=_joined([m.matched[area, :, :limit] for m in images])[:, order].astype(bool),
        ignored=_joined([m.ignored[area, :, :limit] for m in images])[:, order].astype(bool),
        image=image[order],
        n_true=np.array([m.n_true[area] for m in images], np.int64),
    )


def _joined(parts: list[NDArray[Any]]) -> NDArray[Any]:
    return np.concatenate(parts, axis=-1)


def _curves(ranking: _Ranking, weights: Floats | None = None) -> tuple[Floats, Floats]:
    """Average precision and highest recall at each threshold; NaN without true cells.

    Args:
        ranking: the cells.
        weights: how often each image counts, (images,).
    """
    if weights is None:
        weights = np.ones(len(ranking.n_true))
    n_true = float(weights @ ranking.n_true)
    if n_true == 0:
        nothing = np.full(len(THRESHOLDS), np.nan)
        return nothing, nothing
    curves: tuple[Floats, Floats] = _average(
        ranking.matched, ranking.ignored, weights[ranking.image], n_true, RECALLS
    )
    return curves


def _mean(values: Floats) -> float | None:
    return None if np.isnan(values).any() else float(values.mean())


@njit(cache=True, nogil=True)
def _count_under_masks(start, stop, first, columns, n_pred):  # type: ignore[no-untyped-def]
    """Pixels that each mask shares with each predicted label, (3, pairs)."""
    shared = np.zeros(n_pred, np.int64)
    under = np.empty(n_pred, np.int64)
    found = []
    for mask in range(first.size - 1):
        n_under = 0
        for run in range(first[mask], first[mask + 1]):
            for pixel in range(start[run], stop[run]):
                label = columns[pixel]
                if label == 0:
                    continue
                if shared[label] == 0:
                    under[n_under] = label
                    n_under += 1
                shared[label] += 1
        for k in range(n_under):
            found.append((mask, under[k], shared[under[k]]))
            shared[under[k]] = 0
    triples = np.zeros((3, len(found)), np.int64)
    for k in range(len(found)):
        triples[0, k], triples[1, k], triples[2, k] = found[k]
    return triples


@njit(cache=True, nogil=True)
def _match(first, rows, iou, thresholds, true_ignored, outside):  # type: ignore[no-untyped-def]
    """Give each predicted cell, best confidence first, the free true cell of greatest IoU.

    A true cell that is ignored is taken only if no other will do, and of equal ones the last;
    predicted cell d overlaps the true cells rows[first[d] : first[d + 1]], ascending.
    """
    n_areas, n_true = true_ignored.shape
    shape = (n_areas, thresholds.size, first.size - 1)
    matched = np.zeros(shape, np.bool_)
    ignored = np.zeros(shape, np.bool_)
    for a in range(n_areas):
        for t in range(thresholds.size):
            taken = np.zeros(n_true, np.bool_)
            for d in range(first.size - 1):
                best = -1
                for want_ignored in (False, True):
                    bar = min(thresholds[t], 1 - 1e-10)
                    for pair in range(first[d], first[d + 1]):
                        g = rows[pair]
                        if taken[g] or true_ignored[a, g] != want_ignored or iou[pair] < bar:
                            continue
                        bar = iou[pair]
                        best = g
                    if best >= 0:
                        break
                matched[a, t, d] = best >= 0
                if best >= 0:
                    taken[best] = True
                    ignored[a, t, d] = true_ignored[a, best]
                else:
                    ignored[a, t, d] = outside[a, d]
    return matched, ignored


@njit(cache=True, nogil=True)
def _average(matched, ignored, weight, n_true, recalls):  # type: ignore[no-untyped-def]
    """Interpolated precision averaged over `recalls`, and the highest recall, per threshold."""
    n_thresholds, n = matched.shape
    averages = np.zeros(n_thresholds)
    highest = np.zeros(n_thresholds)
    precision = np.empty(n)
    recall = np.empty(n)
    for t in range(n_thresholds):
        hits = 0.0
        false = 0.0
        for d in range(n):
            if not ignored[t, d]:
                if matched[t, d]:
                    hits += weight[d]
                else:
                    false += weight[d]
            recall[d] = hits / n_true
            precision[d] = hits / (hits + false + 2.220446049250313e-16)
        for d in range(n - 2, -1, -1):
            precision[d] = max(precision[d], precision[d + 1])
        d = 0
        for level in recalls:
            while d < n and recall[d] < level:
                d += 1
            if d < n:
                averages[t] += precision[d]
        averages[t] /= recalls.size
        if n > 0:
            highest[t] = recall[n - 1]
    return averages, highest
