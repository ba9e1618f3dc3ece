"""EfficientNet-Lite0 (Tan & Le 2019; Liu 2020: no squeeze-and-excitation, ReLU6).

Names and order of the weights are timm's. It stands here by itself because importing timm takes
longer than segmenting several images, and this is the backbone of the models that ship.
"""

import math

from torch import Tensor, nn

STEM = 32
STAGES = (  # expansion, kernel size, stride, channels, number of blocks
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)
LEVELS = {"C1": 0, "C2": 1, "C3": 2, "C4": 4, "C5": 6}
"""The last stage at each stride, whose map is that level's."""


class LiteNet(nn.Module):
    """EfficientNet-Lite0 without its classifier.

    Args:
        last: the coarsest level that is wanted; what lies behind it is left out.
        epsilon: of the batch norms.
    """

    def __init__(self, last: str = "C5", epsilon: float = 1e-5) -> None:
        super().__init__()
        self.conv_stem = nn.Conv2d(3, STEM, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(STEM, eps=epsilon)
        self.act = nn.ReLU6()
        self.blocks = nn.Sequential()
        source = STEM
        for expansion, kernel, stride, channels, repeats in STAGES[: LEVELS[last] + 1]:
            stage = nn.Sequential()
            for k in range(repeats):
                shape = (expansion, kernel, 1 if k else stride)
                stage.append(_Block(source, channels, shape, epsilon))
                source = channels
            self.blocks.append(stage)
        _init(self)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the maps of all stages of an image (N, 3, H, W)."""
        x = self.act(self.bn1(self.conv_stem(x)))
        maps = []
        for stage in self.blocks:
            x = stage(x)
            maps.append(x)
        return maps


class _Block(nn.Module):
    """1x1 convolution to more channels, one per channel, and 1x1 back to few (Sandler 2018).

    Without an expansion the first is missing, and timm has other names for the rest.
    """

    def __init__(
        self, source: int, channels: int, shape: tuple[int, int, int], epsilon: float
    ) -> None:
        super().__init__()
        expansion, kernel, stride = shape
        wide = source * expansion
        self.shortcut = stride == 1 and source == channels
        depthwise = nn.Conv2d(
            wide, wide, kernel, stride, padding=kernel // 2, groups=wide, bias=False
        )
        if expansion > 1:
            names: tuple[str, ...] = ("conv_pw", "bn1", "conv_dw", "bn2", "conv_pwl", "bn3")
            self.add_module("conv_pw", nn.Conv2d(source, wide, 1, bias=False))
            self.add_module("bn1", nn.BatchNorm2d(wide, eps=epsilon))
        else:
            names = ("conv_dw", "bn1", "conv_pw", "bn2")
        for name, layer in zip(
            names[-4:],
            (
                depthwise,
                nn.BatchNorm2d(wide, eps=epsilon),
                nn.Conv2d(wide, channels, 1, bias=False),
                nn.BatchNorm2d(channels, eps=epsilon),
            ),
            strict=True,
        ):
            self.add_module(name, layer)
        self.names = names
        self.act = nn.ReLU6()

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's map of x."""
        y = x
        for k, name in enumerate(self.names):
            y = getattr(self, name)(y)
            if k % 2 and k < len(self.names) - 1:
                y = self.act(y)
        return x + y if self.shortcut else y


def _init(module: nn.Module) -> None:
    """Draw the weights as EfficientNet does: normal, by the number of results of a pixel."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            height, width = layer.kernel_size
            fan_out = height * width * layer.out_channels // layer.groups
            nn.init.normal_(layer.weight, 0, math.sqrt(2 / fan_out))
