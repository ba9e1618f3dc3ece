"""Layers on a bilinearly doubled map that never hold the doubled map.

Each gives what the plain layers give, and is several times faster on a CPU, where passes over
full-resolution maps cost more than arithmetic. They rest on two facts: a map that is the same
for every pixel, such as a 1x1 convolution or a batch norm, commutes with enlarging; and a 3x3
convolution is nine shifted 1x1 convolutions. Elsewhere than on a CPU in float32 they fall back
to the plain layers.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from cellshed.model import kernels
from cellshed.model.blocks import upsample
from cellshed.model.dense import on_cpu
from cellshed.model.threads import each

Rows = tuple[int, int]

ROWS = 32
"""Rows that one call of a kernel works on, whatever the number of threads."""


class EnlargedConv(nn.Conv2d):
    """A 3x3 convolution of a doubled map, at about a quarter of its multiplications."""

    plain = False
    """Use torch's own layers, for a network that is to be exported."""
    multiply: nn.Module | None = None
    """The taps' convolution, where something faster than torch's does it."""

    def forward(self, x: Tensor) -> Tensor:
        """Return conv(upsample(x)): (N, K, 2h, 2w) of (N, C, h, w)."""
        if self.plain or not on_cpu(x):
            return super().forward(upsample(x))
        taps = self.multiply(x) if self.multiply else F.conv2d(x, self._tap_weights())
        result: Tensor = _SumTaps.apply(taps, self.bias)
        return result

    def taps(self) -> nn.Conv2d:
        """Return the 1x1 convolution that gives what each tap of the kernel makes of a map."""
        conv = nn.Conv2d(self.in_channels, 9 * self.out_channels, 1, bias=False)
        conv.weight = nn.Parameter(self._tap_weights())
        return conv.requires_grad_(self.weight.requires_grad)

    def _tap_weights(self) -> Tensor:
        return self.weight.permute(2, 3, 0, 1).reshape(-1, self.in_channels, 1, 1)


class EnlargedReluLinear(nn.Conv2d):
    """A 1x1 convolution of the ReLU of a doubled map."""

    plain = False

    def forward(self, x: Tensor) -> Tensor:
        """Return conv(relu(upsample(x))): (N, K, 2h, 2w) of (N, C, h, w)."""
        if self.plain or not on_cpu(x):
            return super().forward(F.relu(upsample(x)))
        result: Tensor = _ReluLinear.apply(x, self.weight[:, :, 0, 0], self.bias)
        return result


class EnlargedBatchNorm(nn.BatchNorm2d):
    """The batch norm of a doubled map, applied before the map is doubled.

    upsample(norm(x)) is what a batch norm makes of upsample(x): it is the doubled map's
    statistics that are taken.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalised map, of the size of x (N, C, h, w)."""
        if not self.training:
            return super().forward(x)
        mean, variance = _Moments.apply(x) if on_cpu(x) else _moments(x.to(self.weight.dtype))
        self._follow(mean.detach(), variance.detach(), 4 * x[:, 0].numel())
        scale = self.weight * torch.rsqrt(variance + self.eps)
        shift = self.bias - mean * scale
        result: Tensor = x * scale[:, None, None] + shift[:, None, None]
        return result.to(x.dtype)

    def _follow(self, mean: Tensor, variance: Tensor, count: int) -> None:
        """Update the running statistics as torch does, with the unbiased variance."""
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.momentum is not None
        assert self.num_batches_tracked is not None
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance * (count / (count - 1)), self.momentum)
        self.num_batches_tracked += 1


class _SumTaps(torch.autograd.Function):
    """(N, 9K, h, w) taps and (K,) bias -> (N, K, 2h, 2w)."""

    @staticmethod
    def forward(ctx: Any, taps: Tensor, bias: Tensor) -> Tensor:
        n, _, height, width = taps.shape
        source = _array(taps).reshape(n, height, width, 3, -1)
        out = np.empty((n, 2 * height, 2 * width, bias.numel()), np.float32)
        b = bias.detach().numpy()
        each(lambda i, rows: kernels.sum_taps(source[i], b, rows, out[i]), _parts(n, 2 * height))
        return _tensor(out)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        n, channels, height, width = grad.shape
        source = _array(grad)
        out = np.empty((n, height // 2, width // 2, 3, 3 * channels), np.float32)
        each(
            lambda i, rows: kernels.sum_taps_backward(source[i], rows, out[i]),
            _parts(n, height // 2),
        )
        return _tensor(out.reshape(n, height // 2, width // 2, -1)), grad.sum(dim=(0, 2, 3))


class _ReluLinear(torch.autograd.Function):
    """(N, C, h, w), (K, C) and (K,) -> (N, K, 2h, 2w)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        n, _, height, width = x.shape
        source, w, b = _array(x), weight.detach().contiguous().numpy(), bias.detach().numpy()
        out = np.empty((n, 2 * height, 2 * width, len(w)), np.float32)
        each(
            lambda i, rows: kernels.relu_linear(source[i], w, b, rows, out[i]),
            _parts(n, 2 * height),
        )
        return _tensor(out)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        n, _, height, _ = x.shape
        source, w, g = _array(x), weight.detach().contiguous().numpy(), _array(grad)
        x_grad = np.zeros_like(source)
        parts = -(-height // ROWS)
        w_grad = np.zeros((n, parts, *w.shape), np.float32)

        def part(i: int, rows: Rows) -> None:
            share = w_grad[i, rows[0] // ROWS]
            kernels.relu_linear_backward(source[i], w, g[i], rows, x_grad[i], share)

        each(part, _parts(n, height))
        return _tensor(x_grad), torch.from_numpy(w_grad.sum(axis=(0, 1))), grad.sum(dim=(0, 2, 3))


class _Moments(torch.autograd.Function):
    """(N, C, h, w) -> mean and variance (C,) of the doubled map."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        n, channels, height, width = x.shape
        mean = x.detach().mean(dim=(0, 2, 3))  # enlarging keeps the mean
        source, m = _array(x), mean.numpy()
        sums = np.zeros((n, -(-height // ROWS), channels))
        each(
            lambda i, rows: kernels.squares(source[i], m, rows, sums[i, rows[0] // ROWS]),
            _parts(n, height),
        )
        variance = sums.sum(axis=(0, 1)) / (4 * n * height * width)
        ctx.save_for_backward(x, mean)
        return mean, torch.from_numpy(variance.astype(np.float32))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, mean_grad: Tensor, variance_grad: Tensor) -> Tensor:
        x, mean = ctx.saved_tensors
        n, _, height, width = x.shape
        count = n * height * width
        source, m = _array(x), mean.numpy()
        factor = (variance_grad / (2 * count)).numpy()
        out = np.empty_like(source)
        each(
            lambda i, rows: kernels.squares_backward(source[i], m, factor, rows, out[i]),
            _parts(n, height),
        )
        return _tensor(out).add_((mean_grad / count)[:, None, None])


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Like _Moments, in torch's operations."""
    mean = x.mean(dim=(0, 2, 3))
    centred = x - mean[:, None, None]
    line = torch.tensor([0.375, 1.25, 0.375], dtype=x.dtype, device=x.device)
    kernel = (line[:, None] * line).expand(x.shape[1], 1, 3, 3)
    near = F.conv2d(F.pad(centred, (1, 1, 1, 1), "replicate"), kernel, groups=x.shape[1])
    return mean, (centred * near).mean(dim=(0, 2, 3)) / 4


def _array(x: Tensor) -> NDArray[np.float32]:
    """Return (N, H, W, C), without a copy if the tensor is channels last in memory."""
    array: NDArray[np.float32] = x.detach().permute(0, 2, 3, 1).contiguous().numpy()
    return array


def _tensor(x: NDArray[np.float32]) -> Tensor:
    """Return (N, C, H, W), channels last in memory."""
    tensor: Tensor = torch.from_numpy(x).permute(0, 3, 1, 2)
    return tensor


def _parts(images: int, height: int) -> list[tuple[int, Rows]]:
    """Return each image's number with each stretch of its rows."""
    rows = [(first, min(first + ROWS, height)) for first in range(0, height, ROWS)]
    return [(i, r) for i in range(images) for r in rows]
