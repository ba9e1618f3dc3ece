"""The feature pyramid: from the backbone's maps C1..C5 to the one map that the heads see."""

from collections.abc import Mapping, Sequence
from functools import partial

from torch import Tensor, nn
from torch.nn import functional as F

from cellshed.model.blocks import ResidualBlock, conv1x1, conv3x3, init_glorot, make_norm, upsample
from cellshed.settings import ModelSettings


class Pyramid(nn.Module):
    """A feature pyramid (Lin et al. 2017) whose result is one map at its finest stride.

    Each backbone map passes a lateral 1x1 convolution; from coarse to fine, each is added to
    the bilinear enlargement of the coarser one. A 3x3 convolution of a merged map is a P-level.
    With fusion "finest" the finest P-level is the result, as in the reference, whose other
    P-levels reach no output. With "sum" every P-level gets a norm and a ReLU, and all are summed
    from coarse to fine, as in panoptic feature pyramids (Kirillov et al. 2019). With "cascade"
    the finest P-level is the result, and every P-level gets a norm and a ReLU before the next
    finer one is made of it, as in a U-Net (Ronneberger et al. 2015); and pyramid_blocks residual
    blocks, which begin as the identity.

    Args:
        channels: channels of each backbone map, by level "C1".."C5".
        settings: of the model; those that begin with pyramid_, fusion, separable and norm.
            pyramid_levels matters with fusion "sum" alone.
    """

    def __init__(self, channels: Mapping[str, int], settings: ModelSettings) -> None:
        super().__init__()
        width = settings.pyramid_width
        self.source_levels = sorted(channels, reverse=True)  # coarse to fine
        self.finest = min(int(level[1:]) for level in channels)
        self.width = width
        self.fusion = settings.fusion
        self.levels = _levels_to_build(channels, settings.pyramid_levels, self.fusion)
        self.laterals = nn.ModuleDict(
            {level.lower(): conv1x1(channels[level], width) for level in self.source_levels}
        )
        self.outputs = nn.ModuleDict()
        for level in self.levels:
            if level == 6:
                self.outputs["p6"] = conv3x3(channels["C5"], width, stride=2)
            elif level == 7:
                self.outputs["p7"] = conv3x3(width, width, stride=2)
            else:
                self.outputs[f"p{level}"] = conv3x3(width, width, depthwise=settings.separable)
        norms = [] if self.fusion == "finest" else self.levels
        self.norms = nn.ModuleDict(
            {f"p{level}": make_norm(settings.norm, width) for level in norms}
        )
        cascade = self.levels if self.fusion == "cascade" else ()
        self.blocks = nn.ModuleDict({f"p{level}": _blocks(width, settings) for level in cascade})
        init_glorot(self)

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        """Return (N, width, H / s, W / s), s the finest stride, from the maps by level."""
        maps = self.pyramid(features)
        if self.fusion != "sum":
            return maps[f"p{self.finest}"]
        total = None
        for level in self.levels:  # coarse to fine
            p = F.relu(self.norms[f"p{level}"](maps[f"p{level}"]))
            total = p if total is None else p + _fit(upsample(total), p)
        assert total is not None
        return total

    def pyramid(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the P-levels that are built, by name "p3"..., before any norm.

        In a cascade: behind their norm and ReLU.
        """
        maps = self._coarsest_levels(features)
        merged = None
        for level in self.source_levels:
            lateral = self.laterals[level.lower()](features[level])
            merged = lateral if merged is None else lateral + upsample(merged)
            name = f"p{level[1:]}"
            if name in self.outputs:
                maps[name] = self.outputs[name](merged)
            if self.fusion == "cascade":
                merged = F.relu(self.norms[name](maps[name]))
                merged = maps[name] = self.blocks[name](merged)
        return maps

    def _coarsest_levels(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        maps = {}
        if "p6" in self.outputs:
            maps["p6"] = self.outputs["p6"](features["C5"])
        if "p7" in self.outputs:
            maps["p7"] = self.outputs["p7"](F.relu(maps["p6"]))
        return maps


def _levels_to_build(channels: Mapping[str, int], levels: Sequence[str], fusion: str) -> list[int]:
    """Return the numbers of the P-levels, coarse to fine."""
    finest = min(int(level[1:]) for level in channels)
    if fusion == "finest":
        return [finest]
    if fusion == "cascade":
        return sorted((int(level[1:]) for level in channels), reverse=True)
    numbers = sorted({int(level[1:]) for level in levels}, reverse=True)
    known = {int(level[1:]) for level in channels} | ({6, 7} if "C5" in channels else set())
    for number in numbers:
        if number not in known or (number == 7 and 6 not in numbers):
            source = {6: "C5", 7: "C5 and P6"}.get(number, f"C{number}")
            raise ValueError(f"pyramid level P{number} needs {source}: add it or drop P{number}")
    if finest not in numbers:
        raise ValueError(
            f"pyramid_levels lack P{finest}, the finest of the backbone_levels: add P{finest}, "
            f"or drop C{finest}"
        )
    return numbers


def _blocks(width: int, settings: ModelSettings) -> nn.Sequential:
    norm = partial(make_norm, settings.norm)
    blocks = (ResidualBlock(width, width, 1, norm) for _ in range(settings.pyramid_blocks))
    return nn.Sequential(*blocks)


def _fit(x: Tensor, like: Tensor) -> Tensor:
    """Cut the row or column that enlarging an odd size leaves over."""
    return x[..., : like.shape[-2], : like.shape[-1]]
