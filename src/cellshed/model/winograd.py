"""3x3 convolutions with a quarter of the multiplications (Winograd; Lavin & Gray 2016).

A tile of 4x4 results takes 36 products per pair of channels instead of 144: the 6x6 inputs
under it and the kernel are transformed, multiplied, and the product is transformed back. Maps
are float32, channels last. Results agree with the plain sum to about 1e-5 of their size.
"""

from typing import Any

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cellshed.model.threads import each

Array = NDArray[np.float32]

TILE = 4
BLOCK = 64  # channels that are transformed together: 6x6 of them stay in the first cache
STRIP = 128  # tiles that are multiplied together: few enough to stay in the cache

# Below these, transforming costs more than it saves (measured).
CHANNELS = 32
PAIRS = 2048
PIXELS = 64  # with the kernel transformed beforehand
PIXELS_IN_TRAINING = 512

# The kernel's transform, times 24.
_KERNEL = [[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]

_jit: Any = numba.njit(cache=True, nogil=True, fastmath={"contract"})


def suits(conv: nn.Conv2d) -> bool:
    """Return whether a convolution is of the kind that this is for."""
    pairs = conv.in_channels * conv.out_channels
    return (
        (conv.kernel_size, conv.stride, conv.dilation) == ((3, 3), (1, 1), (1, 1))
        and conv.padding == (1, 1)
        and conv.padding_mode == "zeros"
        and conv.groups == 1
        and min(conv.in_channels, conv.out_channels) >= CHANNELS
        and pairs >= PAIRS
    )


def pixels(x: Tensor) -> int:
    """Return the number of pixels of a map (N, C, H, W)."""
    return x.shape[0] * x.shape[2] * x.shape[3]


def transform_kernel(weight: Tensor) -> Tensor:
    """Return (36, C, K) of a convolution's weight (K, C, 3, 3)."""
    g = torch.tensor(_KERNEL, dtype=weight.dtype) / 24
    out, channels = weight.shape[:2]
    return torch.einsum("ia,jb,kcab->ijck", g, g, weight).reshape(36, channels, out)


def convolve(
    x: Tensor, kernel: Tensor, bias: Tensor | None, clip: tuple[float, float] = (-np.inf, np.inf)
) -> Tensor:
    """Return the convolution of x with padding 1, clipped; knows nothing of gradients.

    Args:
        x: (N, C, H, W).
        kernel: (36, C, K), from transform_kernel.
        bias: (K,), or None.
        clip: smallest and largest result; (0, inf) for a ReLU.

    Returns:
        (N, K, H, W).
    """
    n, channels, height, width = x.shape
    source: Array = x.detach().permute(0, 2, 3, 1).contiguous().numpy()
    out: Array = np.empty((n, height, width, kernel.shape[2]), np.float32)
    offset = torch.zeros(kernel.shape[2]) if bias is None else bias.detach()
    bias_clip = offset.numpy(), np.array(clip, np.float32)
    tile_rows, per_row = -(-height // TILE), -(-width // TILE)
    strip = max(1, STRIP // per_row)
    for image in range(n):
        for first in range(0, tile_rows, strip):
            rows = range(first, min(first + strip, tile_rows))
            # One unused tile more: planes that are 2**n bytes apart share the cache's few places.
            tiles = torch.empty(36, len(rows) * per_row + 1, channels)
            tiles[:, -1] = 0
            numbers: Array = tiles.numpy()
            each(_to_tiles, [(source, image, (row, first), numbers) for row in rows])
            product: Array = torch.bmm(tiles, kernel).numpy()
            each(_from_tiles, [(product, bias_clip, (image, row, first), out) for row in rows])
    return torch.from_numpy(out).permute(0, 3, 1, 2)


@_jit
def _to_tiles(x: Array, image: int, row_first: tuple[int, int], out: Array) -> None:
    """Transform the 6x6 surroundings of each tile of a row.

    Args:
        x: (N, H, W, C).
        image: number of the image.
        row_first: the row of tiles, and the first row that `out` has room for.
        out: (36, tiles, C); the tiles of the row are written.
    """
    row, first_row = row_first
    _, height, width, channels = x.shape
    per_row = (width + TILE - 1) // TILE
    patch = np.empty((1, 6, 6, channels), np.float32)
    half = np.empty((6, 6, BLOCK), np.float32)
    for column in range(per_row):
        tile = (row - first_row) * per_row + column
        top, left = row * TILE - 1, column * TILE - 1
        inside = top >= 0 and left >= 0 and top + 6 <= height and left + 6 <= width
        if not inside:
            _copy_patch(x[image], top, left, patch[0])
        for first in range(0, channels, BLOCK):
            part = (first, min(BLOCK, channels - first))
            if inside:
                _transform_rows(x, (image, top, left), part, half)
            else:
                _transform_rows(patch, (0, 0, 0), part, half)
            _transform_columns(half, tile, part, out)


@_jit
def _copy_patch(x: Array, top: int, left: int, patch: Array) -> None:
    """Copy 6x6 pixels, zeros beyond the border."""
    for i in range(6):
        for j in range(6):
            y, z = top + i, left + j
            if 0 <= y < x.shape[0] and 0 <= z < x.shape[1]:
                patch[i, j] = x[y, z]
            else:
                patch[i, j] = 0


@_jit
def _transform_rows(
    x: Array, corner: tuple[int, int, int], part: tuple[int, int], half: Array
) -> None:
    """Transform 6x6 pixels across rows; `part` is the first channel and their number."""
    image, top, left = corner
    first, size = part
    four, five, two = np.float32(4), np.float32(5), np.float32(2)
    for j in range(6):
        z = left + j
        for k in range(size):
            c = first + k
            d1, d2 = x[image, top + 1, z, c], x[image, top + 2, z, c]
            d3, d4 = x[image, top + 3, z, c], x[image, top + 4, z, c]
            even, odd = d4 - four * d2, d3 - four * d1
            near, far = d4 - d2, two * (d3 - d1)
            half[0, j, k] = four * x[image, top, z, c] - five * d2 + d4
            half[1, j, k] = even + odd
            half[2, j, k] = even - odd
            half[3, j, k] = near + far
            half[4, j, k] = near - far
            half[5, j, k] = four * d1 - five * d3 + x[image, top + 5, z, c]


@_jit
def _transform_columns(half: Array, tile: int, part: tuple[int, int], out: Array) -> None:
    first, size = part
    four, five, two = np.float32(4), np.float32(5), np.float32(2)
    for i in range(6):
        for k in range(size):
            c = first + k
            d1, d2, d3, d4 = half[i, 1, k], half[i, 2, k], half[i, 3, k], half[i, 4, k]
            even, odd = d4 - four * d2, d3 - four * d1
            near, far = d4 - d2, two * (d3 - d1)
            out[6 * i, tile, c] = four * half[i, 0, k] - five * d2 + d4
            out[6 * i + 1, tile, c] = even + odd
            out[6 * i + 2, tile, c] = even - odd
            out[6 * i + 3, tile, c] = near + far
            out[6 * i + 4, tile, c] = near - far
            out[6 * i + 5, tile, c] = four * d1 - five * d3 + half[i, 5, k]


@_jit
def _from_tiles(
    product: Array, bias_clip: tuple[Array, Array], where: tuple[int, int, int], out: Array
) -> None:
    """Transform the products of a row of tiles back, add the bias, and clip.

    Args:
        product: (36, tiles, K).
        bias_clip: (K,), and the smallest and largest result.
        where: image, row of tiles, and the row that `product` begins with.
        out: (N, H, W, K); the pixels of the row are written.
    """
    image, row, first_row = where
    _, height, width, channels = out.shape
    per_row = (width + TILE - 1) // TILE
    patch = np.empty((1, TILE, TILE, channels), np.float32)
    half = np.empty((TILE, 6, BLOCK), np.float32)
    for column in range(per_row):
        tile = (row - first_row) * per_row + column
        top, left = row * TILE, column * TILE
        inside = top + TILE <= height and left + TILE <= width
        for first in range(0, channels, BLOCK):
            part = (first, min(BLOCK, channels - first))
            _transform_rows_back(product, tile, part, half)
            if inside:
                _transform_columns_back(half, bias_clip, part, (image, top, left), out)
            else:
                _transform_columns_back(half, bias_clip, part, (0, 0, 0), patch)
        if not inside:
            for i in range(min(TILE, height - top)):
                for j in range(min(TILE, width - left)):
                    out[image, top + i, left + j] = patch[0, i, j]


@_jit
def _transform_rows_back(product: Array, tile: int, part: tuple[int, int], half: Array) -> None:
    first, size = part
    two, four, eight = np.float32(2), np.float32(4), np.float32(8)
    for j in range(6):
        for k in range(size):
            c = first + k
            m1, m2 = product[6 + j, tile, c], product[12 + j, tile, c]
            m3, m4 = product[18 + j, tile, c], product[24 + j, tile, c]
            near, far, near_odd, far_odd = m1 + m2, m3 + m4, m1 - m2, m3 - m4
            half[0, j, k] = product[j, tile, c] + near + far
            half[1, j, k] = near_odd + two * far_odd
            half[2, j, k] = near + four * far
            half[3, j, k] = near_odd + eight * far_odd + product[30 + j, tile, c]


@_jit
def _transform_columns_back(
    half: Array,
    bias_clip: tuple[Array, Array],
    part: tuple[int, int],
    corner: tuple[int, int, int],
    out: Array,
) -> None:
    bias, clip = bias_clip
    low, high = clip[0], clip[1]
    first, size = part
    image, top, left = corner
    two, four, eight = np.float32(2), np.float32(4), np.float32(8)
    for i in range(TILE):
        y = top + i
        for k in range(size):
            c = first + k
            m1, m2, m3, m4 = half[i, 1, k], half[i, 2, k], half[i, 3, k], half[i, 4, k]
            near, far, near_odd, far_odd = m1 + m2, m3 + m4, m1 - m2, m3 - m4
            v0 = half[i, 0, k] + near + far + bias[c]
            v1 = near_odd + two * far_odd + bias[c]
            v2 = near + four * far + bias[c]
            v3 = near_odd + eight * far_odd + half[i, 5, k] + bias[c]
            out[image, y, left, c] = min(max(v0, low), high)
            out[image, y, left + 1, c] = min(max(v1, low), high)
            out[image, y, left + 2, c] = min(max(v2, low), high)
            out[image, y, left + 3, c] = min(max(v3, low), high)
