"""Times the scores of one image beside plain scikit-image and scipy versions, and other packages.

Run as `python benchmarks/bench_metrics.py`; processor time, best of several repeats. The comparison
with stardist needs that package; it is left out where it isn't installed.
"""

import contextlib
import importlib
import io
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree
from skimage.metrics import contingency_table

from cellshed.metrics.coco import AREAS, coco_scores, match_labels
from cellshed.metrics.mistakes import count_mistakes, link_cells
from cellshed.metrics.overlap import overlap
from cellshed.metrics.scores import PERCENT, as_scores, count, count_without_small
from timing import best_ms

SHAPE = (520, 704)
BOUNDS = {300: 8, 3000: 20}
Labels = NDArray[np.int32]


def rows() -> list[dict[str, Any]]:
    """Return one row per part and number of cells: times in ms, ours and plain, and the bound."""
    return [row for cells in BOUNDS for row in _rows_for(cells)]


def _rows_for(cells: int) -> list[dict[str, Any]]:
    true, pred = pair(cells)
    found = [
        _row("all scores and mistakes", cells, lambda: our_scores(true, pred),
             lambda: plain_scores(true, pred), "scikit-image, scipy", BOUNDS[cells]),
        _row("overlap table", cells, lambda: overlap(true, pred),
             lambda: contingency_table(true, pred), "scikit-image", None),
    ]  # fmt: skip
    with contextlib.suppress(ImportError):
        matching = importlib.import_module("stardist.matching").matching_dataset
        thresholds = tuple(PERCENT / 100)
        found.append(
            _row("scores at ten thresholds", cells, lambda: as_scores(count(overlap(true, pred))),
                 lambda: matching([true], [pred], thresholds, parallel=False, show_progress=False),
                 "stardist", None)
        )  # fmt: skip
    if cells == min(BOUNDS):  # pycocotools takes minutes for more
        found.append(
            _row("COCO AP and AR", cells, lambda: coco_scores([match_labels(true, pred)]),
                 lambda: plain_coco(true, pred), "pycocotools", None)
        )  # fmt: skip
    return found


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
        "size": f"{SHAPE[0]}x{SHAPE[1]}",
        "cells": cells,
        "ours_ms": best_ms(ours, 30, clock=time.process_time),
        "plain_ms": best_ms(plain, 2, clock=time.process_time),
        "plain": name,
        "bound_ms": bound,
    }


def pair(cells: int) -> tuple[Labels, Labels]:
    """Return round cells at random places, and the same with some moved, lost, split and merged."""
    rng = np.random.default_rng(cells)
    centres = rng.uniform((0, 0), SHAPE, (cells, 2))
    radius = 0.6 * np.sqrt(SHAPE[0] * SHAPE[1] / cells)
    true = draw(centres, radius)
    moved = centres + rng.normal(0, radius / 4, centres.shape)
    halves = moved[rng.random(cells) < 0.1] + radius / 2
    pred = draw(np.concatenate([moved[rng.random(cells) < 0.9], halves]), radius)
    merged = np.arange(pred.max() + 1)
    merged[rng.permutation(merged)[: cells // 20]] = 1
    return true, merged[pred].astype(np.int32)


def draw(centres: NDArray[np.float64], radius: float) -> Labels:
    """Return labels of discs, each pixel with the nearest centre."""
    distance, nearest = cKDTree(centres).query(np.indices(SHAPE).reshape(2, -1).T)
    return np.where(distance < radius, nearest + 1, 0).reshape(SHAPE).astype(np.int32)


def our_scores(true: Labels, pred: Labels) -> Any:
    """Return everything that evaluation reports of one image."""
    table = overlap(true, pred)
    return (
        as_scores(count(table)),
        as_scores(count_without_small(table, 100), pixel=False),
        count_mistakes(link_cells(table)),
    )


def plain_scores(true: Labels, pred: Labels) -> Any:
    """Return the same, but for the scores without small cells, from a dense IoU matrix."""
    shared = contingency_table(true, pred).toarray()
    true_ids, pred_ids = np.unique(true)[1:], np.unique(pred)[1:]
    shared = shared[np.ix_(true_ids, pred_ids)]
    true_areas, pred_areas = (
        np.bincount(true.ravel())[true_ids],
        np.bincount(pred.ravel())[pred_ids],
    )
    union = true_areas[:, None] + pred_areas - shared
    iou = shared / union
    hits = {}
    for threshold in PERCENT / 100:
        rows, cols = linear_sum_assignment(-(iou * (iou > threshold)))
        hits[threshold] = int((iou[rows, cols] > threshold).sum())
    best = iou.argmax(axis=1)
    there = iou.max(axis=1) > 0
    unused = np.setdiff1d(np.arange(len(pred_ids)), best[there])
    every = np.arange(len(true_ids))
    aji = shared[every, best][there].sum() / (
        np.where(there, union[every, best], true_areas).sum() + pred_areas[unused].sum()
    )
    seg = np.where(shared > true_areas[:, None] / 2, iou, 0).sum() / len(true_ids)
    pixel = ((true > 0) & (pred > 0)).sum() / ((true > 0) | (pred > 0)).sum()
    return (
        hits,
        iou[iou > 0.5].sum(),
        aji,
        seg,
        pixel,
        plain_mistakes(iou, shared, true_areas, pred_areas),
    )


def plain_mistakes(iou: Any, shared: Any, true_areas: Any, pred_areas: Any) -> dict[str, int]:
    """Return the mistakes by an assignment and the components of what is left."""
    inside = (shared > true_areas[:, None] / 2) | (shared > pred_areas / 2)
    iou = np.where((iou > 0) & (iou <= 0.4) & inside, 0.1, iou)
    rows, cols = linear_sum_assignment(-iou * (iou > 0.6))
    correct = iou[rows, cols] > 0.6
    iou[rows[correct]] = 0
    iou[:, cols[correct]] = 0
    n_true, n_pred = iou.shape
    linked = np.nonzero(iou >= 0.1)
    graph = coo_array((np.ones(len(linked[0])), (linked[0], linked[1] + n_true)),
                      shape=(n_true + n_pred,) * 2)  # fmt: skip
    _, group = connected_components(graph, directed=False)
    of_true = np.bincount(group[:n_true], minlength=group.max() + 1)
    of_pred = np.bincount(group[n_true:], minlength=group.max() + 1)
    return {
        "correct": int(correct.sum()),
        "split": int(((of_true == 1) & (of_pred > 1)).sum()),
        "merge": int(((of_true > 1) & (of_pred == 1)).sum()),
        "catastrophe": int(((of_true > 1) & (of_pred > 1)).sum()),
    }


def plain_coco(true: Labels, pred: Labels) -> Any:
    """Return the results of pycocotools' COCOeval, given masks that are encoded already."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    from cellshed.data.coco import coco_tree, labels_to_annotations

    image = {"id": 1, "file_name": "a", "height": SHAPE[0], "width": SHAPE[1]}
    cells = labels_to_annotations(pred, 1, np.ones(len(np.unique(pred)) - 1))
    for cell in cells:
        del cell["bbox"]  # else COCOeval takes the box's area for the cell's
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = coco_tree([image], labels_to_annotations(true, 1))
        coco.createIndex()
        run = COCOeval(coco, coco.loadRes(cells), "segm")
        run.params.maxDets = [100, 500, 2000]
        run.params.areaRng = [list(pair) for pair in AREAS.values()]
        run.params.areaRngLbl = ["all", "small", "medium", "large"]
        run.evaluate()
        run.accumulate()
    return run.eval


if __name__ == "__main__":
    for row in rows():
        ratio = row["plain_ms"] / row["ours_ms"]
        bound = f"   at most {row['bound_ms']}" if row["bound_ms"] else ""
        print(
            f"{row['part']:26} {row['size']:8} {row['cells']:5} cells {row['ours_ms']:8.2f} ms   "
            f"{row['plain']}: {row['plain_ms']:8.1f} ms, {ratio:5.1f} x{bound}"
        )
