"""A residual network made for cells: whole 3x3 convolutions, few channels where maps are large.

Basic blocks as in He et al. 2016. Whole convolutions are what processors with matrix units, and
GPUs, train fastest; the finest level has a block of its own, because outlines are told there.
"""

from torch import Tensor, nn
from torch.nn import functional as F

WIDTHS = (32, 96, 160, 256, 256)
"""Channels at strides 2, 4, 8, 16 and 32."""
BLOCKS = (1, 2, 2, 2, 1)


class ResidualNet(nn.Module):
    """Residual blocks at strides 2 to 32.

    Args:
        levels: how many strides, 1 to 5.
        epsilon: of the batch norms.
    """

    def __init__(self, levels: int = 5, epsilon: float = 1e-5) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, WIDTHS[0], 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(WIDTHS[0], eps=epsilon),
            nn.ReLU(),
        )
        self.stages = nn.ModuleList()
        source = WIDTHS[0]
        for k, (width, count) in enumerate(zip(WIDTHS, BLOCKS, strict=True)):
            if k == levels:
                break
            blocks = [_Block(source, width, 2 if k else 1, epsilon)]
            blocks += [_Block(width, width, 1, epsilon) for _ in range(count - 1)]
            self.stages.append(nn.Sequential(*blocks))
            source = width
        _init(self)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the maps at stride 2, 4, ... of an image (N, 3, H, W)."""
        x = self.stem(x)
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps


class _Block(nn.Module):
    """relu(x + norm(conv(relu(norm(conv(x)))))), x by a 1x1 convolution where its shape changes."""

    def __init__(self, source: int, width: int, stride: int, epsilon: float) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(source, width, 3, stride=stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(width, eps=epsilon)
        self.act = nn.ReLU()
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(width, eps=epsilon)
        self.shortcut = nn.Sequential()
        if stride > 1 or source != width:
            self.shortcut.append(nn.Conv2d(source, width, 1, stride=stride, bias=False))
            self.shortcut.append(nn.BatchNorm2d(width, eps=epsilon))

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's map of x."""
        y = self.act(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(y)) + self.shortcut(x))


def _init(module: nn.Module) -> None:
    """Draw the weights as He et al. 2015; each block begins as its shortcut."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    for layer in module.modules():
        if isinstance(layer, _Block):
            nn.init.zeros_(layer.norm2.weight)
