"""Pictures of an image with the outlines of its cells.

All colours can be told apart with the common kinds of colour blindness (after Okabe and Ito),
and none is white or grey, the colours of the image and of the true outlines.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

Image = NDArray[Any]
Labels = NDArray[np.integer[Any]]
Rgb = NDArray[np.uint8]  # (H, W, 3)

CYCLE = np.array(
    [
        (86, 180, 233),  # sky blue
        (255, 176, 0),  # orange
        (0, 200, 140),  # bluish green
        (245, 110, 190),  # pink
        (240, 228, 66),  # yellow
        (240, 90, 20),  # vermillion
        (95, 125, 255),  # blue
    ],
    dtype=np.uint8,
)
WHITE = np.array((255, 255, 255), dtype=np.uint8)
MATCHED, EXTRA, MISSED = CYCLE[0], CYCLE[3], CYCLE[1]
_MARGIN = 12  # pixels of the image shown around the box of a close-up
_SAMPLE = 1 << 20  # pixels from which percentiles are read


def draw(image: Image, labels: Labels, truth: Labels | None = None, boxes: bool = False) -> Rgb:
    """Draw the outline of each cell, touching cells in different colours, on the image.

    Args:
        image: (H, W) or (H, W, C), any numeric dtype; shown by `stretch`.
        labels: integer (H, W), 0 = background; outlines of 1 px inside each cell.
        truth: integer (H, W); its outlines are drawn dotted and white, below the others.
        boxes: also draw each cell's bounding box, half transparent.

    Returns:
        uint8 (H, W, 3).

    Raises:
        ValueError: image and labels differ in height or width.
    """
    canvas = stretch(image)
    for name, array in (("labels", labels), ("truth", truth)):
        _check_shape(name, array, canvas)
    if truth is not None:
        ids = _dense(truth)
        _outline(canvas, ids, _one_colour(ids, WHITE), 1, dotted=True)
    ids = _dense(labels)
    colors = CYCLE[_color_cells(ids, int(ids.max(initial=0)), len(CYCLE))]
    if boxes:
        _draw_boxes(canvas, _bounding_boxes(ids, len(colors)), colors)
    _outline(canvas, ids, colors, 1, dotted=False)
    return canvas


def draw_matches(
    image: Image, labels: Labels, truth: Labels, matched: tuple[Iterable[int], Iterable[int]]
) -> Rgb:
    """Draw outlines by outcome: found cells blue, extra ones pink, missed ones orange.

    Args:
        image: (H, W) or (H, W, C), any numeric dtype.
        labels: integer (H, W), the prediction.
        truth: integer (H, W).
        matched: label numbers of the matched cells, in the prediction and in the truth.

    Returns:
        uint8 (H, W, 3); the outline of a found cell is the predicted one.
    """
    canvas = stretch(image)
    _check_shape("labels", labels, canvas)
    _check_shape("truth", truth, canvas)
    found, true = (np.fromiter(numbers, dtype=np.int64) for numbers in matched)
    missed = _dense(np.where(np.isin(truth, true), 0, truth))
    _outline(canvas, missed, _one_colour(missed, MISSED), 1, dotted=False)
    for number, color in ((True, EXTRA), (False, MATCHED)):
        ids = _dense(np.where(np.isin(labels, found, invert=not number), 0, labels))
        _outline(canvas, ids, _one_colour(ids, color), 1, dotted=False)
    return canvas


def closeup(
    image: Image,
    labels: Labels,
    truth: Labels,
    box: tuple[int, int, int, int],
    *,
    cells: tuple[Iterable[int], Iterable[int]] | None = None,
    scale: int | None = None,
) -> Rgb:
    """Enlarge a part of the image: as it is, with the true and with the predicted outlines.

    Args:
        image: (H, W) or (H, W, C), any numeric dtype; stretched as a whole, not the part.
        labels: integer (H, W), the prediction; solid coloured outlines.
        truth: integer (H, W); white outlines.
        box: y0, x0, y1, x1 of what is to be seen, end exclusive. A margin is shown around it.
        cells: label numbers, in the prediction and in the truth, that the picture is about; the
            others are drawn dimmed. By default those with a pixel in the box.
        scale: enlargement; by default the largest that keeps each panel within 240 px.

    Returns:
        uint8 (h, 3 w + gaps, 3): image, truth, prediction from left to right.

    Raises:
        ValueError: the box is empty or lies outside the image.
    """
    height, width = labels.shape[:2]
    y0, x0, y1, x1 = (int(value) for value in box)
    if not (0 <= y0 < y1 <= height and 0 <= x0 < x1 <= width):
        raise ValueError(f"box {box}: give y0 < y1 <= {height} and x0 < x1 <= {width}")
    if cells is None:
        cells = (np.unique(labels[y0:y1, x0:x1]), np.unique(truth[y0:y1, x0:x1]))
    window = np.s_[max(y0 - _MARGIN, 0) : y1 + _MARGIN, max(x0 - _MARGIN, 0) : x1 + _MARGIN]
    plain = stretch(image)[window]
    factor = scale or max(1, 240 // max(plain.shape[:2]))
    plain = _enlarge(plain, factor)
    gap = np.full((plain.shape[0], 4, 3), 255, dtype=np.uint8)
    panels = [plain]
    for array, bright, color in ((truth, cells[1], WHITE), (labels, cells[0], None)):
        ids = _enlarge(array[window], factor)
        panels += [gap, _outline_bright(plain, ids, list(bright), color, max(1, factor // 2))]
    return np.concatenate(panels, axis=1)


def stretch(image: Image, low: float = 1.0, high: float = 99.0) -> Rgb:
    """Map the low..high percentiles of an image to 0..255.

    Three or four channels are taken as red, green, blue (and alpha, ignored) and share one
    range; of any other number, the mean of the stretched channels is shown as grey. Pixels
    that are not finite are black, a constant image is mid-grey.

    Returns:
        uint8 (H, W, 3).

    Raises:
        ValueError: not an image of two or three dimensions.
    """
    if image.ndim not in (2, 3) or image.size == 0:
        raise ValueError(f"image of shape {image.shape}: give (H, W) or (H, W, C), not empty")
    if image.ndim == 3 and image.shape[2] in (3, 4):
        return np.ascontiguousarray(_to_bytes(image[..., :3], low, high))
    if image.ndim == 3:
        planes = [_to_bytes(image[..., c], low, high) for c in range(image.shape[2])]
        grey = np.mean(planes, axis=0).round().astype(np.uint8)
    else:
        grey = _to_bytes(image, low, high)
    return np.repeat(grey[..., None], 3, axis=2)


def _to_bytes(values: Image, low: float, high: float) -> NDArray[np.uint8]:
    step = max(1, int(np.ceil(np.sqrt(values.size / _SAMPLE))))
    sample = values[::step, ::step].astype(np.float64)
    sample = sample[np.isfinite(sample)]
    if sample.size == 0:
        return np.zeros(values.shape, dtype=np.uint8)
    bottom, top = np.percentile(sample, (low, high))
    if not top > bottom:  # nearly all pixels equal: show what differs, if anything
        bottom, top = sample.min(), sample.max()
    finite = np.isfinite(values)
    if not top > bottom:
        return np.where(finite, 128, 0).astype(np.uint8)
    scaled = (values.astype(np.float32) - np.float32(bottom)) * np.float32(255 / (top - bottom))
    np.clip(scaled, 0, 255, out=scaled)
    scaled[~finite] = 0
    return scaled.astype(np.uint8)


def _check_shape(name: str, labels: Labels | None, canvas: Rgb) -> None:
    if labels is not None and labels.shape != canvas.shape[:2]:
        raise ValueError(
            f"{name} of shape {labels.shape} on an image of {canvas.shape[:2]}: "
            "give both the same height and width"
        )


def _dense(labels: Labels) -> NDArray[np.int32]:
    """Return labels whose numbers don't exceed the pixel count, so that tables stay small."""
    if labels.max(initial=0) > labels.size or labels.min(initial=0) < 0:
        inverse = np.unique(np.append(labels.ravel(), 0), return_inverse=True)[1]
        zero = inverse[-1]
        ids = np.where(inverse == zero, 0, np.where(inverse < zero, inverse + 1, inverse))
        return ids[:-1].reshape(labels.shape).astype(np.int32)
    return labels.astype(np.int32, copy=False)


def _one_colour(ids: NDArray[np.int32], color: NDArray[np.uint8]) -> Rgb:
    return np.tile(color, (int(ids.max(initial=0)) + 1, 1))


def _outline_bright(
    plain: Rgb, ids: Labels, bright: list[int], color: NDArray[np.uint8] | None, width: int
) -> Rgb:
    """Draw outlines; those of cells that aren't among `bright` at less than half strength."""
    canvas = plain.copy()
    faint = plain.copy()
    dense = _dense(ids)
    if color is None:
        colors = CYCLE[_color_cells(dense, int(dense.max(initial=0)), len(CYCLE))]
    else:
        colors = _one_colour(dense, color)
    _outline(canvas, np.where(np.isin(ids, bright), dense, 0), colors, width, dotted=False)
    _outline(faint, np.where(np.isin(ids, bright), 0, dense), colors, width, dotted=False)
    outside = (faint != plain).any(axis=2)
    canvas[outside] = (0.45 * faint[outside] + 0.55 * plain[outside]).astype(np.uint8)
    return canvas


def _enlarge(array: NDArray[Any], factor: int) -> NDArray[Any]:
    return array.repeat(factor, axis=0).repeat(factor, axis=1)


@njit(cache=True, nogil=True)
def _outline(canvas: Any, ids: Any, colors: Any, width: int, dotted: bool) -> None:
    """Paint cell pixels within `width` of another number, across or down. The frame is no edge."""
    rows, columns = ids.shape
    for y in range(rows):
        for x in range(columns):
            k = ids[y, x]
            if k == 0 or (dotted and (y + x) % 4 >= 2):
                continue
            edge = False
            for step in range(1, width + 1):
                edge = (
                    edge
                    or (y >= step and ids[y - step, x] != k)
                    or (y + step < rows and ids[y + step, x] != k)
                    or (x >= step and ids[y, x - step] != k)
                    or (x + step < columns and ids[y, x + step] != k)
                )
            if edge:
                for c in range(3):
                    canvas[y, x, c] = colors[k, c]


@njit(cache=True, nogil=True)
def _color_cells(ids: Any, n: int, n_colors: int) -> Any:
    """Number the colours so that cells less than 3 px apart differ, if that is possible.

    Greedy, in label order: the first colour from k % n_colors on that no neighbour has.
    """
    pairs = _neighbours(ids, n)
    starts = np.zeros(n + 2, dtype=np.int64)
    for i in range(len(pairs)):
        starts[pairs[i, 0] + 1] += 1
    starts = np.cumsum(starts)
    colors = np.full(n + 1, -1, dtype=np.int64)
    taken = np.zeros(n_colors, dtype=np.bool_)
    for k in range(n + 1):
        taken[:] = False
        for i in range(starts[k], starts[k + 1]):
            other = colors[pairs[i, 1]]
            if other >= 0:
                taken[other] = True
        colors[k] = k % n_colors
        for step in range(n_colors):
            if not taken[(k + step) % n_colors]:
                colors[k] = (k + step) % n_colors
                break
    return colors


@njit(cache=True, nogil=True)
def _neighbours(ids: Any, n: int) -> Any:
    """Return (k, other) for each two cells at most 2 px apart, both ways, sorted by k."""
    height, width = ids.shape
    seen = set()
    seen.add(np.int64(-1))
    for y in range(height):
        for x in range(width):
            k = np.int64(ids[y, x])
            if k == 0:
                continue
            for dy, dx in ((0, 1), (0, 2), (1, 0), (2, 0), (1, 1), (1, -1)):
                if y + dy < height and 0 <= x + dx < width:
                    other = np.int64(ids[y + dy, x + dx])
                    if other not in (0, k):
                        seen.add(k * (n + 1) + other)
                        seen.add(other * (n + 1) + k)
    keys = np.sort(np.array(list(seen)))[1:]
    pairs = np.empty((len(keys), 2), dtype=np.int64)
    pairs[:, 0] = keys // (n + 1)
    pairs[:, 1] = keys % (n + 1)
    return pairs


@njit(cache=True, nogil=True)
def _bounding_boxes(ids: Any, n: int) -> Any:
    """Return y0, x0, y1, x1 (end exclusive) of each number below n; y1 = 0 if it's absent."""
    height, width = ids.shape
    boxes = np.zeros((n, 4), dtype=np.int64)
    boxes[:, 0] = height
    boxes[:, 1] = width
    for y in range(height):
        for x in range(width):
            k = ids[y, x]
            boxes[k, 0] = min(boxes[k, 0], y)
            boxes[k, 1] = min(boxes[k, 1], x)
            boxes[k, 2] = max(boxes[k, 2], y + 1)
            boxes[k, 3] = max(boxes[k, 3], x + 1)
    return boxes


@njit(cache=True, nogil=True)
def _draw_boxes(canvas: Any, boxes: Any, colors: Any) -> None:
    """Mix each box's frame half and half with the image, label 0 left out."""
    for k in range(1, len(boxes)):
        y0, x0, y1, x1 = boxes[k]
        for y in range(y0, y1):
            for x in range(x0, x1):
                if y in (y0, y1 - 1) or x in (x0, x1 - 1):
                    for c in range(3):
                        canvas[y, x, c] = (np.int64(canvas[y, x, c]) + colors[k, c]) // 2
