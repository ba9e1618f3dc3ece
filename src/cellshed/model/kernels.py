"""Compiled loops for maps that are enlarged by two, without the enlarged map in memory.

All arrays are float32, channels last. Enlarging is bilinear with half-pixel centres: in each
direction, fine pixel 2i is 0.25 of coarse pixel i - 1 and 0.75 of i, fine pixel 2i + 1 is 0.75
of i and 0.25 of i + 1; beyond the border the last pixel is repeated. Every kernel works on some
rows of one image, so that threads can share the work and the sums don't depend on their number.
"""

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

# Sums may be reordered, so that dot products use vector registers; the order is fixed.
_jit: Any = numba.njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})


@_jit
def _sources(fine: int, size: int) -> tuple[int, int, np.float32, np.float32]:
    """Return the two coarse pixels of a fine one, and their weights."""
    coarse = fine // 2
    if fine % 2 == 0:
        return max(coarse - 1, 0), coarse, np.float32(0.25), np.float32(0.75)
    return coarse, min(coarse + 1, size - 1), np.float32(0.75), np.float32(0.25)


@_jit
def _mix(a: Array, b: Array, wa: np.float32, wb: np.float32, out: Array) -> None:
    """Write wa * a + wb * b; flat arrays."""
    for k in range(out.size):
        out[k] = wa * a[k] + wb * b[k]


@_jit
def _add(a: Array, weight: np.float32, out: Array) -> None:
    for k in range(out.size):
        out[k] += weight * a[k]


@_jit
def _taps_of(fine: int, size: int, index: NDArray[np.intp], weight: Array) -> None:
    """Write where a fine pixel of a 3x3 convolution comes from, in one direction.

    Tap t sees fine pixel fine + t - 1, which is a mixture of coarse pixels index[2t] and
    index[2t + 1]; both weights are 0 where the tap is outside the map.
    """
    for t in range(3):
        seen = fine + t - 1
        inside = 0 <= seen < 2 * size
        i, j, wi, wj = _sources(seen if inside else fine, size)
        index[2 * t], index[2 * t + 1] = i, j
        weight[2 * t] = wi if inside else np.float32(0)
        weight[2 * t + 1] = wj if inside else np.float32(0)


@_jit
def _mix_six(x: tuple[Array, Array, Array, Array, Array, Array], w: Array, out: Array) -> None:
    a, b, c, d, e, f = x
    for k in range(out.size):
        out[k] = (
            (w[0] * a[k] + w[1] * b[k]) + (w[2] * c[k] + w[3] * d[k]) + (w[4] * e[k] + w[5] * f[k])
        )


@_jit
def sum_taps(taps: Array, bias: Array, rows: tuple[int, int], out: Array) -> None:
    """Enlarge the nine taps of a 3x3 convolution, shift each by its offset, and sum them.

    Args:
        taps: (h, w, 3, 3K), what each tap of the kernel makes of the coarse map.
        bias: (K,).
        rows: first fine row to write, and the one behind the last.
        out: (2h, 2w, K).
    """
    height, width = taps.shape[:2]
    channels = bias.size
    line = np.empty((width, 3, channels), np.float32)
    flat_line = line.reshape(width, 3 * channels)
    r, wr = np.empty(6, np.intp), np.empty(6, np.float32)
    s, ws = np.empty(6, np.intp), np.empty(6, np.float32)
    for row in range(rows[0], rows[1]):
        _taps_of(row, height, r, wr)
        for x in range(width):
            above, here = (taps[r[0], x, 0], taps[r[1], x, 0]), (taps[r[2], x, 1], taps[r[3], x, 1])
            below = (taps[r[4], x, 2], taps[r[5], x, 2])
            _mix_six(above + here + below, wr, flat_line[x])
        for column in range(2 * width):
            _taps_of(column, width, s, ws)
            left, here = (line[s[0], 0], line[s[1], 0]), (line[s[2], 1], line[s[3], 1])
            right = (line[s[4], 2], line[s[5], 2])
            target = out[row, column]
            _mix_six(left + here + right, ws, target)
            for k in range(channels):
                target[k] += bias[k]


@_jit
def _users_of(coarse: int, tap: int, size: int, index: NDArray[np.intp], weight: Array) -> None:
    """Write which fine pixels of a 3x3 convolution a coarse pixel goes into by one tap."""
    for u in range(4):
        seen = 2 * coarse - 1 + u
        fine = seen - tap + 1
        share = np.float32(0.75 if u in (1, 2) else 0.25)
        if (coarse == 0 and u == 1) or (coarse == size - 1 and u == 2):
            share = np.float32(1)  # the border is repeated
        inside = 0 <= seen < 2 * size and 0 <= fine < 2 * size
        index[u] = fine if inside else 2 * coarse
        weight[u] = share if inside else np.float32(0)


@_jit
def _mix_four(a: Array, b: Array, c: Array, d: Array, w: Array, out: Array) -> None:
    for k in range(out.size):
        out[k] = (w[0] * a[k] + w[1] * b[k]) + (w[2] * c[k] + w[3] * d[k])


@_jit
def sum_taps_backward(grad: Array, rows: tuple[int, int], out: Array) -> None:
    """Write for each tap's coarse map its share of the gradient; the adjoint of sum_taps.

    Args:
        grad: (2h, 2w, K), gradient of sum_taps' result.
        rows: first coarse row to write, and the one behind the last.
        out: (h, w, 3, 3K).
    """
    height, width = out.shape[:2]
    channels = grad.shape[2]
    ring = np.empty((8, width, 3, channels), np.float32)  # fine rows, gathered by column
    flat_ring = ring.reshape(8, width, 3 * channels)
    index, weight = np.empty(4, np.intp), np.empty(4, np.float32)
    done = max(2 * rows[0] - 2, 0)
    for coarse in range(rows[0], rows[1]):
        while done < min(2 * coarse + 4, 2 * height):
            line = grad[done]
            for x in range(width):
                for tap in range(3):
                    _users_of(x, tap, width, index, weight)
                    a, b, c, d = line[index[0]], line[index[1]], line[index[2]], line[index[3]]
                    _mix_four(a, b, c, d, weight, ring[done % 8, x, tap])
            done += 1
        for tap in range(3):
            _users_of(coarse, tap, height, index, weight)
            i = index % 8
            for x in range(width):
                a, b, c = flat_ring[i[0], x], flat_ring[i[1], x], flat_ring[i[2], x]
                _mix_four(a, b, c, flat_ring[i[3], x], weight, out[coarse, x, tap])


@_jit
def relu_linear(x: Array, weight: Array, bias: Array, rows: tuple[int, int], out: Array) -> None:
    """Enlarge a map, apply ReLU, and multiply each pixel's channels by a matrix.

    Args:
        x: (h, w, C).
        weight: (K, C).
        bias: (K,).
        rows: first fine row to write, and the one behind the last.
        out: (2h, 2w, K).
    """
    height, width, channels = x.shape
    line = np.empty((width, channels), np.float32)
    pixel = np.empty(channels, np.float32)
    for row in range(rows[0], rows[1]):
        i, j, wi, wj = _sources(row, height)
        _mix(x[i].ravel(), x[j].ravel(), wi, wj, line.ravel())
        for column in range(2 * width):
            i, j, wi, wj = _sources(column, width)
            a, b = line[i], line[j]
            for c in range(channels):
                pixel[c] = max(wi * a[c] + wj * b[c], np.float32(0))
            for k in range(weight.shape[0]):
                total = bias[k]
                w = weight[k]
                for c in range(channels):
                    total += w[c] * pixel[c]
                out[row, column, k] = total


@_jit
def relu_linear_backward(
    x: Array, weight: Array, grad: Array, rows: tuple[int, int], x_grad: Array, w_grad: Array
) -> None:
    """Write the gradients of relu_linear by its map and its matrix.

    Args:
        x: (h, w, C).
        weight: (K, C).
        grad: (2h, 2w, K), gradient of the result.
        rows: first coarse row to write, and the one behind the last.
        x_grad: (h, w, C), zero in those rows.
        w_grad: (K, C), zero; receives the share of those rows.
    """
    height, width, channels = x.shape
    first, last = rows
    line = np.empty((width, channels), np.float32)
    line_grad = np.empty((width, channels), np.float32)
    value, value_grad = np.empty(channels, np.float32), np.empty(channels, np.float32)
    for row in range(max(2 * first - 1, 0), min(2 * last + 1, 2 * height)):
        r, s, wr, ws = _sources(row, height)
        _mix(x[r].ravel(), x[s].ravel(), wr, ws, line.ravel())
        line_grad[:] = 0
        for column in range(2 * width):
            i, j, wi, wj = _sources(column, width)
            d = grad[row, column]
            _mix(line[i], line[j], wi, wj, value)
            value_grad[:] = 0
            for k in range(d.size):
                _add(weight[k], d[k], value_grad)
            _relu_backward(value, value_grad, wi, wj, line_grad[i], line_grad[j])
            if 2 * first <= row < 2 * last:
                for k in range(d.size):
                    _add(value, d[k], w_grad[k])
        for coarse, factor in ((r, wr), (s, ws)):
            if first <= coarse < last:
                _add(line_grad.ravel(), factor, x_grad[coarse].ravel())


@_jit
def _relu_backward(
    value: Array, grad: Array, wi: np.float32, wj: np.float32, out_i: Array, out_j: Array
) -> None:
    """Give both sources of a pixel their share where its value is positive; apply the ReLU."""
    for c in range(value.size):
        d = grad[c] if value[c] > 0 else np.float32(0)
        out_i[c] += wi * d
        out_j[c] += wj * d
        value[c] = max(value[c], np.float32(0))


@_jit
def squares(x: Array, mean: Array, rows: tuple[int, int], total: NDArray[np.float64]) -> None:
    """Add up, per channel, the squares of the enlarged map's deviations from the mean.

    The sum is a quadratic form of the coarse map: the product of each pixel with its 3x3
    neighbourhood weighted by (3/8, 5/4, 3/8) in each direction.

    Args:
        x: (h, w, C).
        mean: (C,).
        rows: first coarse row to sum, and the one behind the last.
        total: (C,), is added to.
    """
    _, width, channels = x.shape
    line = np.empty((width, channels), np.float32)
    sums = np.empty(channels, np.float32)
    for row in range(rows[0], rows[1]):
        _smooth_rows(x, mean, row, line)
        sums[:] = 0
        for column in range(width):
            left, right = line[max(column - 1, 0)], line[min(column + 1, width - 1)]
            here, value = line[column], x[row, column]
            for c in range(channels):
                near = np.float32(0.375) * (left[c] + right[c]) + np.float32(1.25) * here[c]
                sums[c] += (value[c] - mean[c]) * near
        for c in range(channels):
            total[c] += sums[c]


@_jit
def squares_backward(
    x: Array, mean: Array, factor: Array, rows: tuple[int, int], out: Array
) -> None:
    """Write factor times the neighbourhood sums of `squares`: half its gradient.

    Args:
        x: (h, w, C).
        mean: (C,).
        factor: (C,).
        rows: first row to write, and the one behind the last.
        out: (h, w, C).
    """
    _, width, channels = x.shape
    line = np.empty((width, channels), np.float32)
    for row in range(rows[0], rows[1]):
        _smooth_rows(x, mean, row, line)
        for column in range(width):
            left, right = line[max(column - 1, 0)], line[min(column + 1, width - 1)]
            here, target = line[column], out[row, column]
            for c in range(channels):
                near = np.float32(0.375) * (left[c] + right[c]) + np.float32(1.25) * here[c]
                target[c] = factor[c] * near


@_jit
def _smooth_rows(x: Array, mean: Array, row: int, line: Array) -> None:
    """Write one row of x - mean, smoothed across rows by (3/8, 5/4, 3/8)."""
    above, here, below = x[max(row - 1, 0)], x[row], x[min(row + 1, x.shape[0] - 1)]
    for column in range(x.shape[1]):
        a, b, c, out = above[column], here[column], below[column], line[column]
        for k in range(mean.size):
            out[k] = np.float32(0.375) * (a[k] + c[k]) + np.float32(1.25) * b[k] - 2 * mean[k]
