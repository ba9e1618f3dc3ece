"""The few layers that the pyramid and the heads are made of."""

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

NormKind = Literal["batch", "frozen", "group"]

EPSILON = 1e-3
GROUP_CHANNELS = 8


def make_norm(kind: NormKind, channels: int) -> nn.Module:
    """Return the norm of a new layer: batch norm (also for "frozen") or group norm."""
    if kind == "group":
        return nn.GroupNorm(math.gcd(channels, max(channels // GROUP_CHANNELS, 1)), channels)
    return nn.BatchNorm2d(channels, eps=EPSILON)


class ResidualBlock(nn.Module):
    """relu(x + norm(conv(relu(norm(conv(x)))))), x by a 1x1 convolution where its shape changes.

    The basic block of He et al. 2016. It begins as its shortcut: the last norm's weight is zero.

    Args:
        source: channels of x.
        width: channels of the result.
        stride: 1, or 2 to halve the size.
        norm: makes a norm for a number of channels.
    """

    def __init__(
        self, source: int, width: int, stride: int, norm: Callable[[int], nn.Module]
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(source, width, 3, stride=stride, padding=1, bias=False)
        self.norm1 = norm(width)
        self.act = nn.ReLU()
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm2 = norm(width)
        self.shortcut = nn.Sequential()
        if stride > 1 or source != width:
            self.shortcut.append(nn.Conv2d(source, width, 1, stride=stride, bias=False))
            self.shortcut.append(norm(width))
        nn.init.zeros_(self.norm2.get_parameter("weight"))

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's map of x."""
        y = self.act(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(y)) + self.shortcut(x))


def conv3x3(source: int, width: int, *, stride: int = 1, depthwise: bool = False) -> nn.Conv2d:
    """Return a 3x3 convolution with bias that keeps the size, or halves it with stride 2."""
    groups = source if depthwise else 1
    return nn.Conv2d(source, width, 3, stride=stride, padding=1, groups=groups)


def conv1x1(source: int, width: int) -> nn.Conv2d:
    """Return a 1x1 convolution with bias."""
    return nn.Conv2d(source, width, 1)


def upsample(x: Tensor, factor: int = 2) -> Tensor:
    """Enlarge (N, C, H, W) bilinearly with half-pixel centres."""
    if factor == 1:
        return x
    return F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)


def init_glorot(module: nn.Module) -> None:
    """Draw all convolutions' weights as Keras does: Glorot uniform, and zero biases."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def location(x: Tensor) -> Tensor:
    """Return the row and the column coordinate of each pixel, each in [0, 1].

    Args:
        x: (N, C, H, W); its dtype and device are taken over.

    Returns:
        (N, 2, H, W): row / (H - 1), then column / (W - 1).
    """
    n, _, height, width = x.shape
    rows = torch.linspace(0, 1, height, dtype=x.dtype, device=x.device)
    columns = torch.linspace(0, 1, width, dtype=x.dtype, device=x.device)
    grid = torch.stack(torch.meshgrid(rows, columns, indexing="ij"))
    return grid.expand(n, 2, height, width)
