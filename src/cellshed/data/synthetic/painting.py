"""Cells as shapes -> labels and depths on the pixel grid."""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from cellshed.data.synthetic.shapes import Cells

_FAR = np.float32(-1e6)
_ON_TOP = np.float32(1e3)
_ZERO, _ONE, _HALF = np.float32(0), np.float32(1), np.float32(0.5)


def paint_cells(
    cells: Cells, warp: NDArray[np.float32]
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Decide for each pixel whose it is and how far inside that cell it lies.

    Where cells meet, a pixel goes to the cell that it lies deeper in; dividing cells come first.

    Args:
        cells: n cells.
        warp: (2, H, W), by how many pixels x and y are moved, which roughens the outlines.

    Returns:
        labels, int32 (H, W): k + 1 for cell k, 0 where there is none; and the depth,
        float32 (H, W): pixels to the cell's rim, or to its neighbour where two cells touch.
    """
    labels = np.zeros(warp.shape[1:], np.int32)
    height = np.full(labels.shape, _FAR, np.float32)
    depth = np.zeros(labels.shape, np.float32)
    lift = np.where(cells.rounded, _ON_TOP, _ZERO)
    for k, (start, stop) in enumerate(zip(cells.starts[:-1], cells.starts[1:], strict=True)):
        _paint(k + 1, cells.bones[start:stop], lift[k], warp, labels, height, depth)
    return labels, depth


@njit(cache=True, nogil=True)
def _paint(  # noqa: PLR0913 - compiled, takes no records
    label: int,
    bones: NDArray[np.float32],
    lift: np.float32,
    warp: NDArray[np.float32],
    labels: NDArray[np.int32],
    heights: NDArray[np.float32],
    depth: NDArray[np.float32],
) -> None:
    """Paint one cell over those before it, where it is higher."""
    boxes = _boxes(bones, labels.shape)
    top, left = boxes[:, 0].min(), boxes[:, 2].min()
    inside = np.full((boxes[:, 1].max() - top, boxes[:, 3].max() - left), _FAR, np.float32)
    for k in range(len(bones)):
        _add_bone(bones[k], boxes[k], top, left, warp, inside)
    for i in range(inside.shape[0]):
        for j in range(inside.shape[1]):
            own, row, column = inside[i, j], top + i, left + j
            if own <= 0:
                continue
            gap = (own + lift - heights[row, column]) * _HALF
            if gap > 0:
                labels[row, column] = label
                heights[row, column] = own + lift
                depth[row, column] = min(own, gap)
            else:
                depth[row, column] = min(depth[row, column], -gap)


@njit(cache=True, nogil=True)
def _boxes(bones: NDArray[np.float32], shape: tuple[int, int]) -> NDArray[np.int64]:
    """Return (m, 4) the rows and columns that each bone can reach: top, bottom, left, right."""
    boxes = np.zeros((len(bones), 4), np.int64)
    for k, bone in enumerate(bones):
        # The web raises a depth by a quarter of its reach at most; the warp stays within 6 px.
        margin = max(bone[2], bone[5]) + bone[6] * np.float32(0.25) + np.float32(6)
        for axis, size in ((1, shape[0]), (0, shape[1])):
            low = min(bone[axis], bone[axis + 3]) - margin
            high = max(bone[axis], bone[axis + 3]) + margin
            at = 2 * (1 - axis)
            boxes[k, at] = min(max(int(low), 0), size)
            boxes[k, at + 1] = min(max(int(high) + 1, 0), size)
    return boxes


@njit(cache=True, nogil=True)
def _add_bone(
    bone: NDArray[np.float32],
    box: NDArray[np.int64],
    top: int,
    left: int,
    warp: NDArray[np.float32],
    inside: NDArray[np.float32],
) -> None:
    """Melt a bone into the depths of its cell: `inside` begins at row top, column left."""
    x0, y0, r0, x1, y1, r1, web = bone
    dx, dy = x1 - x0, y1 - y0
    scale = _ONE / max(dx * dx + dy * dy, np.float32(1e-6))
    quarter = np.float32(0.25) / web
    for row in range(box[0], box[1]):
        for column in range(box[2], box[3]):
            px = np.float32(column) + warp[0, row, column] - x0
            py = np.float32(row) + warp[1, row, column] - y0
            t = min(max((px * dx + py * dy) * scale, _ZERO), _ONE)
            ex, ey = px - t * dx, py - t * dy
            new = r0 + t * (r1 - r0) - np.sqrt(ex * ex + ey * ey)
            old = inside[row - top, column - left]
            near = max(web - abs(new - old), _ZERO)
            inside[row - top, column - left] = max(new, old) + near * near * quarter
