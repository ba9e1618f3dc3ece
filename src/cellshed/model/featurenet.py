"""DeepCell's own small backbone: five blocks of two convolutions and a pooling."""

from torch import Tensor, nn

from cellshed.model.blocks import EPSILON, conv3x3, init_glorot

WIDTH = 32


class FeatureNet(nn.Module):
    """Five times [3x3 convolution, batch norm, ReLU] x 2 and 2x2 max pooling, 32 channels wide.

    Args:
        levels: how many of the blocks to build, 1 to 5; block k ends at stride 2**k.
    """

    def __init__(self, levels: int = 5) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(_block(3 if k == 0 else WIDTH) for k in range(levels))
        init_glorot(self)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the maps at stride 2, 4, ... of an image (N, 3, H, W)."""
        maps = []
        for block in self.blocks:
            x = block(x)
            maps.append(x)
        return maps


def _block(source: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (source, WIDTH):
        layers += [conv3x3(channels, WIDTH), nn.BatchNorm2d(WIDTH, eps=EPSILON), nn.ReLU()]
    return nn.Sequential(*layers, nn.MaxPool2d(2))
