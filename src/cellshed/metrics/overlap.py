"""How many pixels each true cell shares with each predicted one, counted in one pass."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numba import njit
from numpy.typing import NDArray

from cellshed.metrics.known import judged

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

# Ids up to this many times the number of pixels index arrays directly; larger ones are ranked.
_DIRECT = 2


@dataclass(frozen=True, eq=False)
class Overlap:
    """The overlaps of two label images as a sparse table, sorted by true and then by predicted id.

    Attributes:
        true_ids: labels of the true cells, ascending, (n_true,).
        pred_ids: labels of the predicted cells, ascending, (n_pred,).
        true_areas: pixels of each true cell, (n_true,).
        pred_areas: pixels of each predicted cell, (n_pred,).
        rows: place in `true_ids` of each overlapping pair, (n_pairs,).
        cols: place in `pred_ids` of each overlapping pair, (n_pairs,).
        pixels: pixels that the pair shares, at least 1, (n_pairs,).
    """

    true_ids: Ints
    pred_ids: Ints
    true_areas: Ints
    pred_areas: Ints
    rows: Ints
    cols: Ints
    pixels: Ints

    @property
    def n_true(self) -> int:
        """Number of true cells."""
        return len(self.true_ids)

    @property
    def n_pred(self) -> int:
        """Number of predicted cells."""
        return len(self.pred_ids)

    @cached_property
    def unions(self) -> Ints:
        """Pixels that are in either cell of each pair, (n_pairs,)."""
        union: Ints = self.true_areas[self.rows] + self.pred_areas[self.cols] - self.pixels
        return union

    @cached_property
    def best(self) -> Ints:
        """Place of each overlapped true cell's pair of greatest IoU, the first of equal ones."""
        starts = np.flatnonzero(np.diff(self.rows, prepend=-1))
        if len(starts) == 0:
            return starts
        greatest = np.repeat(
            np.maximum.reduceat(self.iou, starts), np.diff(starts, append=len(self.rows))
        )
        at_greatest = np.flatnonzero(self.iou == greatest)
        first: Ints = at_greatest[np.flatnonzero(np.diff(self.rows[at_greatest], prepend=-1))]
        return first

    @cached_property
    def iou(self) -> Floats:
        """Intersection over union of each pair, in (0, 1], (n_pairs,)."""
        return self.pixels / self.unions


def overlap(true: NDArray[np.integer], pred: NDArray[np.integer]) -> Overlap:
    """Count the overlaps of two label images.

    Args:
        true: integer labels, 0 = background, -1 = not annotated (see `known.judged`); any ids, in
            any order, with gaps.
        pred: the same for the prediction, of equal shape, but without -1.

    Raises:
        ValueError: shapes differ, or labels are not integers, or negative.
    """
    true, pred = np.asarray(true), np.asarray(pred)
    if true.shape != pred.shape:
        raise ValueError(
            f"true labels are {_size(true)}, predicted ones {_size(pred)}: "
            "resize the prediction to the truth with nearest neighbours"
        )
    true, pred = judged(true, pred)
    true_flat, true_values = ranked(true, "true")
    pred_flat, pred_values = ranked(pred, "predicted")
    true_areas, pred_areas, rows, cols, pixels = _count(
        true_flat, pred_flat, len(true_values), len(pred_values)
    )
    true_rank, pred_rank = _rank_of_present(true_areas), _rank_of_present(pred_areas)
    rows, cols = true_rank[rows], pred_rank[cols]
    order = np.argsort(rows * np.int64(len(pred_values)) + cols)
    true_present, pred_present = true_areas > 0, pred_areas > 0
    return Overlap(
        true_ids=true_values[true_present],
        pred_ids=pred_values[pred_present],
        true_areas=true_areas[true_present],
        pred_areas=pred_areas[pred_present],
        rows=rows[order],
        cols=cols[order],
        pixels=pixels[order],
    )


def _size(labels: NDArray[np.integer]) -> str:
    return "x".join(str(side) for side in labels.shape) or "a single number"


def ranked(labels: NDArray[np.integer], whose: str) -> tuple[NDArray[np.int32], Ints]:
    """Return labels as flat int32 without large numbers, and the id that each stands for.

    Args:
        labels: integers from 0, any shape.
        whose: "true" or "predicted", for messages.

    Raises:
        ValueError: labels are not integers, or negative.
    """
    if not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(
            f"{whose} labels are {labels.dtype}: give one integer per cell, 0 for background"
        )
    if labels.size == 0:
        return np.zeros(0, np.int32), np.zeros(1, np.int64)
    low, high = int(labels.min()), int(labels.max())
    if low < 0:
        raise ValueError(f"{whose} labels hold {low}: ids must be positive, 0 is background")
    if high <= _DIRECT * labels.size:
        return labels.astype(np.int32, copy=False).ravel(), np.arange(high + 1, dtype=np.int64)
    values, ranks = np.unique(labels, return_inverse=True)
    if values[0] != 0:
        values, ranks = np.insert(values, 0, 0), ranks + 1
    return ranks.ravel().astype(np.int32), values.astype(np.int64)


def _rank_of_present(areas: Ints) -> Ints:
    rank: Ints = np.cumsum(areas > 0) - 1
    return rank


@njit(cache=True, nogil=True)
def _count(true, pred, n_true, n_pred):  # type: ignore[no-untyped-def]
    """Areas, and pixels of each pair of foreground labels, in order of first appearance.

    A scan takes runs of equal pairs; a chained hash table finds a pair's place.
    """
    true_areas = np.zeros(n_true, np.int64)
    pred_areas = np.zeros(n_pred, np.int64)
    buckets = 16
    while buckets < 2 * (n_true + n_pred):
        buckets *= 2
    first = np.full(buckets, -1, np.int64)
    capacity = n_true + n_pred + 16
    rows = np.empty(capacity, np.int64)
    cols = np.empty(capacity, np.int64)
    pixels = np.empty(capacity, np.int64)
    following = np.empty(capacity, np.int64)
    n_pairs = 0
    start = 0
    for stop in range(1, true.size + 1):
        row, col = true[stop - 1], pred[stop - 1]
        if stop < true.size and true[stop] == row and pred[stop] == col:
            continue
        length = stop - start
        start = stop
        true_areas[row] += length
        pred_areas[col] += length
        if row == 0 or col == 0:
            continue
        bucket = (np.int64(row) * 73856093 ^ np.int64(col) * 19349663) & (buckets - 1)
        pair = first[bucket]
        while pair >= 0 and not (rows[pair] == row and cols[pair] == col):
            pair = following[pair]
        if pair >= 0:
            pixels[pair] += length
            continue
        if n_pairs == capacity:
            capacity *= 2
            rows = _grown(rows, capacity)
            cols = _grown(cols, capacity)
            pixels = _grown(pixels, capacity)
            following = _grown(following, capacity)
        rows[n_pairs] = row
        cols[n_pairs] = col
        pixels[n_pairs] = length
        following[n_pairs] = first[bucket]
        first[bucket] = n_pairs
        n_pairs += 1
    true_areas[0] = 0
    pred_areas[0] = 0
    return true_areas, pred_areas, rows[:n_pairs], cols[:n_pairs], pixels[:n_pairs]


@njit(cache=True, nogil=True)
def _grown(values, capacity):  # type: ignore[no-untyped-def]
    grown = np.empty(capacity, np.int64)
    grown[: values.size] = values
    return grown
