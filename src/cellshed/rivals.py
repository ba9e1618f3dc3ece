"""Cells found in several views of an image compete for its pixels: the surest ones win.

A network finds cells best near the size that it was trained on; larger ones fall to pieces and
small ones merge. So an image is shown to it at several scales, cells are found at each, and those
that can't be true together are rivals, as in non-maximum suppression. A cell that other views show
too is surer than one that they don't.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numba import njit
from numpy.typing import NDArray

from cellshed.inference import Maps
from cellshed.metrics.overlap import overlap
from cellshed.scale import keep_present, resize_labels
from cellshed.settings import DecodeSettings
from cellshed.watershed import decode_with_confidence

Labels = NDArray[np.int32]  # (H, W)
Sure = NDArray[np.float32]  # (n,)
Cells = tuple[Labels, Sure]

AGREEMENT = 0.3
"""What a cell gains by the other views' agreement beyond the usual, for each unit of IoU."""
USUAL = 0.75
"""Mean IoU at which agreement changes nothing. So chosen, by val, that thresholds and calibration
found with several views suit one view too, and the other way round."""
LEAST_FREE = 0.7
"""Share of a cell that surer ones must leave to it in one piece; with less it is dropped."""


@dataclass(eq=False)
class View:
    """What the network said of an image at one scale, and the cells that were last found in it."""

    maps: Maps
    """Head name -> (h, w, C)."""
    scale: float = 1.0
    """Of the image's height and width, without `predict.zoom`."""
    _last: tuple[DecodeSettings, Cells] | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the maps."""
        height, width = next(iter(self.maps.values())).shape[:2]
        return height, width

    def cells(self, settings: DecodeSettings) -> Cells:
        """Return what `watershed.decode_with_confidence` finds."""
        last = self._last  # another thread may ask for other settings
        if last is None or last[0] != settings:
            last = self._last = settings, decode_with_confidence(self.maps, settings)
        return last[1]


def certain_cells(view: View, settings: DecodeSettings) -> Cells:
    """Return the cells of a view but for the doubtful.

    Returns:
        int32 (h, w), 0 = background, labels with gaps; and the confidence of each that is left.
    """
    labels, sure = view.cells(_with_doubtful(settings))
    certain = sure >= settings.confidence_threshold
    return np.where(np.append(False, certain)[labels], labels, 0), sure[certain]


def mean_confidence(view: View, settings: DecodeSettings) -> float:
    """Return how sure a view's cells are on average, but for the doubtful; 0 without cells."""
    return _mean_of_certain(view.cells(_with_doubtful(settings)), settings)


def gain_of_second(views: Sequence[View], settings: DecodeSettings) -> float:
    """Return by how much cells of the second view are surer than the first's, on average.

    It is the difference of both views' `mean_confidence`, from what `best_cells` will find in them,
    so that no view is decoded twice.
    """
    first, second = (
        _mean_of_certain(view.cells(_for_view(settings, view, views)), settings)
        for view in views[:2]
    )
    return second - first


def _mean_of_certain(cells: Cells, settings: DecodeSettings) -> float:
    labels, sure = cells
    areas = np.bincount(labels.ravel(), minlength=len(sure) + 1)[1:]
    large = areas >= settings.small_objects_threshold
    certain = sure[large & (sure >= settings.confidence_threshold)]
    return float(certain.mean()) if len(certain) else 0.0


def best_cells(
    views: Sequence[View], settings: DecodeSettings, shape: tuple[int, int] | None = None
) -> Cells:
    """Decode one or several views of an image into one set of cells.

    Args:
        views: of the image at one or several scales; smaller views than the first may have
            smaller cells than `small_objects_threshold`, in proportion.
        settings: as for `watershed.decode`. With several views `confidence_threshold` is held
            against what is returned.
        shape: height and width of the image, to which cells are brought; None: the first view's.

    Returns:
        int32 (H, W), 0 = background, cells 1..n in reading order, and float32 (n,), how sure they
        are, in [0, 1]: with one view `watershed.confidence`; with several that, plus AGREEMENT
        times what the greatest IoU with a cell of each other view, on average, exceeds USUAL by.
    """
    if shape is None:
        shape = views[0].shape
    if len(views) == 1:
        return _fitted(decode_with_confidence(views[0].maps, settings), shape)
    rivals = _all_cells(views, settings, shape)
    sure = np.concatenate(_with_agreement(rivals))
    view = np.repeat(np.arange(len(rivals)), [len(own) for _, own in rivals])
    ids = np.concatenate([np.arange(1, len(own) + 1) for _, own in rivals])
    order = np.argsort(-sure, kind="stable")
    order = order[sure[order] >= settings.confidence_threshold]
    layers = np.stack([labels for labels, _ in rivals])
    labels, winners = _settle(layers, _boxes(layers), view, ids, order, LEAST_FREE)
    return labels, sure[winners]


def cells_of_any(
    views: Sequence[View], settings: DecodeSettings, shape: tuple[int, int]
) -> NDArray[np.bool_]:
    """Tell which pixels (H, W) lie in a cell of any view, however doubtful it is."""
    layers = [labels > 0 for labels, _ in _all_cells(views, settings, shape)]
    anywhere: NDArray[np.bool_] = np.logical_or.reduce(layers)
    return anywhere


def _all_cells(
    views: Sequence[View], settings: DecodeSettings, shape: tuple[int, int]
) -> list[Cells]:
    """Return each view's cells, the doubtful ones too, at a shape."""
    return [_fitted(view.cells(_for_view(settings, view, views)), shape) for view in views]


def _fitted(cells: Cells, shape: tuple[int, int]) -> Cells:
    """Bring cells to a shape; those without a pixel left there are dropped."""
    labels, sure = cells
    if labels.shape == shape:
        return cells
    labels, present = keep_present(resize_labels(labels, shape))
    return labels, sure[present]


def _with_doubtful(settings: DecodeSettings) -> DecodeSettings:
    return settings.model_copy(update={"confidence_threshold": 0.0})


def _for_view(settings: DecodeSettings, view: View, views: Sequence[View]) -> DecodeSettings:
    """Return the settings that a view is decoded with: nothing dropped yet for being doubtful."""
    area = float(np.prod(view.shape) / np.prod(views[0].shape))
    least = round(settings.small_objects_threshold * min(1.0, area))
    return _with_doubtful(settings).model_copy(update={"small_objects_threshold": least})


def _with_agreement(rivals: Sequence[Cells]) -> list[Sure]:
    """Return each view's confidences, raised or lowered by what the other views show."""
    agreement = [np.zeros(len(sure), np.float64) for _, sure in rivals]
    for one, (labels, _) in enumerate(rivals):
        for other in range(one + 1, len(rivals)):
            table = overlap(labels, rivals[other][0])
            best = np.zeros(table.n_true), np.zeros(table.n_pred)
            np.maximum.at(best[0], table.rows, table.iou)
            np.maximum.at(best[1], table.cols, table.iou)
            agreement[one] += best[0]
            agreement[other] += best[1]
    others = len(rivals) - 1
    return [
        np.clip(sure + AGREEMENT * (iou / others - USUAL), 0, 1).astype(np.float32)
        for (_, sure), iou in zip(rivals, agreement, strict=True)
    ]


def _boxes(layers: NDArray[np.int32]) -> NDArray[np.int64]:
    """Return each cell's first and last row and column, (cells, 4), ordered by view, then label."""
    from scipy.ndimage import find_objects

    places = chain.from_iterable(find_objects(labels) for labels in layers)
    boxes = [(y.start, y.stop - 1, x.start, x.stop - 1) for y, x in places]
    return np.array(boxes, np.int64).reshape(-1, 4)


@njit(cache=True, nogil=True)
def _settle(
    layers: NDArray[np.int32],
    boxes: NDArray[np.int64],
    view: NDArray[np.int64],
    ids: NDArray[np.int64],
    order: NDArray[np.int64],
    least_free: float,
) -> tuple[Labels, NDArray[np.int64]]:
    """Give each cell in turn what no cell has yet, if the largest piece of it is large enough.

    Args:
        layers: (views, H, W) labels.
        boxes: (cells, 4) of _boxes.
        view: (cells,) where each cell is.
        ids: (cells,) its label there.
        order: places of the cells, the surest first.
        least_free: share of a cell's pixels.

    Returns:
        Labels (H, W), 1..n in reading order, and the place of each winner, (n,).
    """
    _, height, width = layers.shape
    owner = np.zeros((height, width), np.int32)  # place + 1
    for place in order:
        label, layer = ids[place], layers[view[place]]
        top, bottom, left, right = boxes[place]
        inside = layer[top : bottom + 1, left : right + 1] == label
        taken = owner[top : bottom + 1, left : right + 1]
        piece, size = _largest_piece(inside & (taken == 0))
        if size == 0 or size < least_free * inside.sum():
            continue
        for y in range(piece.shape[0]):
            for x in range(piece.shape[1]):
                if piece[y, x]:
                    taken[y, x] = place + 1
    winners = _number(owner, len(ids))
    return owner, winners


@njit(cache=True, nogil=True)
def _largest_piece(mask: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], int]:
    """Return a mask's largest 8-connected piece (h, w), the first of equal ones, and its size."""
    height, width = mask.shape
    pieces = np.zeros(mask.shape, np.int32)
    waiting = np.empty((mask.sum(), 2), np.int32)
    largest, most, count = 0, 0, 0
    for row in range(height):
        for column in range(width):
            if not mask[row, column] or pieces[row, column]:
                continue
            count += 1
            pieces[row, column] = count
            waiting[0, 0], waiting[0, 1] = row, column
            done, end = 0, 1
            while done < end:
                y, x = waiting[done]
                done += 1
                for ny in range(max(y - 1, 0), min(y + 2, height)):
                    for nx in range(max(x - 1, 0), min(x + 2, width)):
                        if mask[ny, nx] and not pieces[ny, nx]:
                            pieces[ny, nx] = count
                            waiting[end, 0], waiting[end, 1] = ny, nx
                            end += 1
            if end > most:
                largest, most = count, end
    return (pieces == largest) & mask, most


@njit(cache=True, nogil=True)
def _number(owner: Labels, cells: int) -> NDArray[np.int64]:
    """Number in place what owns a pixel 1, 2, ... in reading order; return which is which."""
    height, width = owner.shape
    number = np.zeros(cells + 1, np.int32)
    winners = np.empty(cells, np.int64)
    n = 0
    for y in range(height):
        for x in range(width):
            place = owner[y, x]
            if place == 0:
                continue
            if number[place] == 0:
                winners[n] = place - 1
                n += 1
                number[place] = n
            owner[y, x] = number[place]
    return winners[:n]
