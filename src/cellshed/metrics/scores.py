"""Object and pixel scores of label images: counts that add up, and ratios of their sums.

Every score is a ratio of counts that can be summed over images, so the score of a set of images is
the ratio of its sums (pooled, or micro-averaged), never a mean of ratios.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellshed.metrics.overlap import Floats, Ints, Overlap, overlap

PERCENT = np.arange(50, 100, 5)
THRESHOLDS = tuple(f"{percent / 100:.2f}" for percent in PERCENT)

_AT_EACH = len(THRESHOLDS)
_TP = slice(2, 2 + _AT_EACH)
_FP = slice(_TP.stop, _TP.stop + _AT_EACH)
_FN = slice(_FP.stop, _FP.stop + _AT_EACH)
_IOU_SUM, _AJI_SHARED, _AJI_UNION, _SEG_SUM, _PIXEL_TP, _PIXEL_TRUE, _PIXEL_PRED = range(
    _FN.stop, _FN.stop + 7
)
COUNT_NAMES = (
    "n_true",
    "n_pred",
    *(f"{name}@{threshold}" for name in ("tp", "fp", "fn") for threshold in THRESHOLDS),
    "iou_sum",
    "aji_shared",
    "aji_union",
    "seg_sum",
    "pixel_tp",
    "pixel_true",
    "pixel_pred",
)
N_COUNTS = len(COUNT_NAMES)


def score(true: NDArray[np.integer], pred: NDArray[np.integer]) -> dict[str, Any]:
    """Compare predicted with true cells at IoU 0.50 to 0.95, and their pixels.

    A predicted cell is a hit (tp) of a true one if their IoU is greater than the threshold. From
    0.5 up a cell has at most one such partner, so no assignment is needed; at exactly the threshold
    it is no hit, because at 0.5 two partners could then tie.

    Args:
        true: integer labels (H, W), 0 = background, -1 = ground that nobody annotated, which is
            left out of both; any ids, with gaps.
        pred: the same for the prediction, without -1.

    Returns:
        n_true, n_pred: numbers of cells.
        thresholds: by "0.50", "0.55", ... "0.95": tp, fp, fn; precision = tp / (tp + fp);
            recall = tp / (tp + fn); f1 = 2 tp / (2 tp + fp + fn); ap = tp / (tp + fp + fn).
        mean_ap: mean of ap over the thresholds (also called mSA, or the DSB 2018 score).
        pq: panoptic quality at 0.5, sum of the hits' IoU / (tp + fp / 2 + fn / 2)
            (Kirillov et al. 2019).
        aji: aggregated Jaccard index (Kumar et al. 2017): each true cell with the predicted cell
            of greatest IoU, which may serve several; shared pixels / (pixels of the unions + pixels
            of predicted cells that serve none).
        seg: the Cell Tracking Challenge's SEG: mean over true cells of the IoU with the predicted
            cell that covers more than half of it, 0 where there is none (Maska et al. 2014).
        pixel: iou, f1 (the same as Dice), precision and recall of foreground against background.

        Where there is nothing to divide by: precision, recall and f1 of cells and the precision of
        pixels are 0; everything else is None.

    Raises:
        ValueError: shapes differ, or labels are not integers, or below what they may be.
    """
    return as_scores(count(overlap(true, pred)))


def count(table: Overlap) -> Floats:
    """Return the counts of one image, (N_COUNTS,), from which `as_scores` makes its scores."""
    every_true = np.ones(table.n_true, bool)
    every_pred = np.ones(table.n_pred, bool)
    counts = _count_objects(table, every_true, every_pred)
    counts[_PIXEL_TP] = table.pixels.sum()
    counts[_PIXEL_TRUE] = table.true_areas.sum()
    counts[_PIXEL_PRED] = table.pred_areas.sum()
    return counts


def count_without_small(table: Overlap, area: int) -> Floats:
    """Return the counts of one image, (N_COUNTS,), when cells of fewer than `area` pixels go.

    The rule is that of COCO's area ranges: a true cell below `area` is neither found nor missed. A
    predicted cell of any size that hits a remaining true cell is a hit; one that hits a removed
    cell is left out; one that hits nothing is false if it has at least `area` pixels, else left
    out. So a cell that is measured a little too small or too large at the edge of the range
    counts neither as missed nor as false. `n_pred` counts predicted cells of at least `area`
    pixels. Pixel counts stay zero: pixels don't belong to the cells of one size alone.
    """
    return _count_objects(table, table.true_areas >= area, table.pred_areas >= area)


def pool(counts: Iterable[Floats]) -> Floats:
    """Return the sum of the counts of several images, (N_COUNTS,)."""
    total: Floats = np.reshape(list(counts), (-1, N_COUNTS)).sum(axis=0)
    return total


def ratios(counts: Floats) -> dict[str, Floats]:
    """Return all ratios of counts (..., N_COUNTS), NaN where there is nothing to divide by.

    Returns:
        precision, recall, f1 and ap, each (..., 10), one per threshold; mean_ap, pq, aji, seg,
        pixel_iou, pixel_f1, pixel_precision and pixel_recall, each (...).
    """
    tp, fp, fn = counts[..., _TP], counts[..., _FP], counts[..., _FN]
    shared = counts[..., _PIXEL_TP]
    both = counts[..., _PIXEL_TRUE] + counts[..., _PIXEL_PRED]
    ap = _divide(tp, tp + fp + fn)
    return {
        "precision": _divide(tp, tp + fp),
        "recall": _divide(tp, tp + fn),
        "f1": _divide(2 * tp, 2 * tp + fp + fn),
        "ap": ap,
        "mean_ap": ap.mean(axis=-1),
        "pq": _divide(counts[..., _IOU_SUM], (tp + (fp + fn) / 2)[..., 0]),
        "aji": _divide(counts[..., _AJI_SHARED], counts[..., _AJI_UNION]),
        "seg": _divide(counts[..., _SEG_SUM], counts[..., 0]),
        "pixel_iou": _divide(shared, both - shared),
        "pixel_f1": _divide(2 * shared, both),
        "pixel_precision": _divide(shared, counts[..., _PIXEL_PRED]),
        "pixel_recall": _divide(shared, counts[..., _PIXEL_TRUE]),
    }


def as_scores(counts: Floats, *, pixel: bool = True) -> dict[str, Any]:
    """Make the dict of `score` from counts (N_COUNTS,) of one image or summed over several.

    Args:
        counts: from `count` or `pool`.
        pixel: whether to give the pixel scores.
    """
    share = ratios(counts)
    objects = ("precision", "recall", "f1", "ap")
    thresholds = {
        threshold: {
            "tp": int(counts[_TP][k]),
            "fp": int(counts[_FP][k]),
            "fn": int(counts[_FN][k]),
            **{name: _number(share[name][k], 0.0 if name != "ap" else None) for name in objects},
        }
        for k, threshold in enumerate(THRESHOLDS)
    }
    scores: dict[str, Any] = {
        "n_true": int(counts[0]),
        "n_pred": int(counts[1]),
        "thresholds": thresholds,
        **{name: _number(share[name]) for name in ("mean_ap", "pq", "aji", "seg")},
    }
    if pixel:
        scores["pixel"] = {
            "iou": _number(share["pixel_iou"]),
            "f1": _number(share["pixel_f1"]),
            "precision": _number(share["pixel_precision"], 0.0),
            "recall": _number(share["pixel_recall"]),
        }
    return scores


def _count_objects(
    table: Overlap, true_kept: NDArray[np.bool_], pred_kept: NDArray[np.bool_]
) -> Floats:
    counts = np.zeros(N_COUNTS)
    counts[0], counts[1] = true_kept.sum(), pred_kept.sum()
    # Whole numbers, so that an IoU of exactly 0.55 is never taken for greater.
    above = np.searchsorted(PERCENT, -(-100 * table.pixels // table.unions))  # thresholds below IoU
    hits = above > 0
    of_kept = true_kept[table.rows]
    tp = _at_least(above[hits & of_kept])
    counts[_TP] = tp
    counts[_FN] = counts[0] - tp
    hits_a_kept_pred = hits & pred_kept[table.cols]
    counts[_FP] = counts[1] - _at_least(above[hits_a_kept_pred])
    counts[_IOU_SUM] = table.iou[hits & of_kept].sum()
    left_out = ~pred_kept
    left_out[table.cols[hits & ~of_kept]] = True
    counts[_AJI_SHARED], counts[_AJI_UNION] = _aji(table, true_kept, left_out)
    covering = of_kept & (2 * table.pixels > table.true_areas[table.rows])
    counts[_SEG_SUM] = table.iou[covering].sum()
    return counts


def _at_least(above: Ints) -> Ints:
    """Of pairs that pass so many thresholds each: how many pass the first, the second, ..."""
    passing = np.bincount(above, minlength=_AT_EACH + 1)[::-1].cumsum()[::-1]
    return passing[1:]


def _aji(
    table: Overlap, true_kept: NDArray[np.bool_], left_out: NDArray[np.bool_]
) -> tuple[int, int]:
    """Shared pixels, and pixels of the unions and of predicted cells without a partner."""
    best = table.best[true_kept[table.rows[table.best]]]
    alone = true_kept.copy()
    alone[table.rows[best]] = False
    unused = ~left_out
    unused[table.cols[best]] = False
    union = table.unions[best].sum() + table.true_areas[alone].sum()
    return int(table.pixels[best].sum()), int(union + table.pred_areas[unused].sum())


def _divide(part: Floats, whole: Floats) -> Floats:
    share: Floats = np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=whole > 0)
    return share


def _number(value: Floats, undefined: float | None = None) -> float | None:
    return undefined if np.isnan(value) else float(value)
