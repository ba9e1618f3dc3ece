"""A residual network made for cells: whole 3x3 convolutions, few channels where maps are large.

Residual blocks and their weights' start as He et al. 2016 and 2015. Whole convolutions are what
processors with matrix units, and GPUs, train fastest; the finest level has a block of its own,
because outlines are told there.
"""

from functools import partial

from torch import Tensor, nn

from cellshed.model.blocks import ResidualBlock

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
        norm = partial(nn.BatchNorm2d, eps=epsilon)
        self.stem = nn.Sequential(
            nn.Conv2d(3, WIDTHS[0], 3, stride=2, padding=1, bias=False),
            norm(WIDTHS[0]),
            nn.ReLU(),
        )
        self.stages = nn.ModuleList()
        source = WIDTHS[0]
        for k, (width, count) in enumerate(zip(WIDTHS, BLOCKS, strict=True)):
            if k == levels:
                break
            blocks = [ResidualBlock(source, width, 2 if k else 1, norm)]
            blocks += [ResidualBlock(width, width, 1, norm) for _ in range(count - 1)]
            self.stages.append(nn.Sequential(*blocks))
            source = width
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the maps at stride 2, 4, ... of an image (N, 3, H, W)."""
        x = self.stem(x)
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps
