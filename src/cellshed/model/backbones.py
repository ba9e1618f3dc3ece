"""Backbones: from an image of three channels to maps C1..C5 at strides 2 to 32.

To add one: an entry in BACKBONES. Any other name is looked up in timm, which is imported where it
is needed: it takes longer than segmenting several images.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from cellshed.model.blocks import EPSILON
from cellshed.model.featurenet import WIDTH, FeatureNet
from cellshed.model.litenet import LEVELS, STAGES, LiteNet
from cellshed.model.residual import WIDTHS, ResidualNet
from cellshed.spelling import nearest

Build = Callable[[str, Sequence[str], bool], "Backbone"]


class Backbone(nn.Module):
    """What every backbone offers: the channels of its levels, and their maps.

    Attributes:
        channels: channels of each level that was asked for, such as {"C3": 512}.
    """

    channels: dict[str, int]

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Return by level the maps (N, channels, H / stride, W / stride) of x (N, 3, H, W)."""
        raise NotImplementedError

    def adapt(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the weights of a file as this backbone uses them."""
        return dict(state)


@dataclass(frozen=True)
class Entry:
    """How a backbone is built.

    Attributes:
        build: (timm name, levels, hub weights?) -> Backbone.
        timm: its name in timm, or here if timm hasn't got it.
        heavy: too large for quick tests.
    """

    build: Build
    timm: str = ""
    heavy: bool = False


class TimmBackbone(Backbone):
    """Any timm network that can give feature maps."""

    def __init__(
        self, name: str, levels: Sequence[str], pretrained: bool = False, **options: Any
    ) -> None:
        import timm
        from timm.layers import Format

        super().__init__()
        if name.startswith("swin"):
            options["strict_img_size"] = False
        index = _taps(name, options)
        missing = [level for level in levels if level not in index]
        if missing:
            has = ", ".join(level for level in sorted(index) if level != "C0")
            raise ValueError(f"backbone '{name}' has no level {', '.join(missing)}; it has {has}")
        self.levels = sorted(levels)
        taps = tuple(index[level] for level in self.levels)
        self.body = timm.create_model(
            name, features_only=True, pretrained=pretrained, out_indices=taps, **options
        )
        if hasattr(self.body, "blocks"):
            _drop_unused_stages(self.body, self.body.feature_info.module_name()[-1])
        self.channels = dict(zip(self.levels, self.body.feature_info.channels(), strict=True))
        self.channels_last = getattr(self.body, "output_fmt", None) == Format.NHWC

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """See Backbone."""
        maps = self.body(x)
        if self.channels_last:
            maps = [c.permute(0, 3, 1, 2) for c in maps]
        return dict(zip(self.levels, maps, strict=True))


def _taps(name: str, options: Mapping[str, Any]) -> dict[str, int]:
    """Return the number of the last map at each level, after a trial without memory."""
    import timm

    try:
        with torch.device("meta"):
            net = timm.create_model(name, features_only=True, **options).eval()
            net(torch.empty(1, 3, 64, 96))
    except (AssertionError, NotImplementedError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(
            f"backbone '{name}' doesn't give feature maps of images of any size "
            f"({str(error).splitlines()[0]}); choose another, such as resnet50"
        ) from error
    strides = net.feature_info.reduction()
    return {f"C{stride.bit_length() - 1}": i for i, stride in enumerate(strides)}


class LiteBackbone(Backbone):
    """EfficientNet-Lite0, mirrored so that no padding depends on the size.

    TensorFlow, where its weights come from, pads a strided convolution by one more behind than
    before. torch does that with a copy of the whole input. A network whose kernels are turned by
    180 degrees gives on an image turned by 180 degrees the turned maps, and in it the padding is
    torch's own. Cells have no upright, so the turned network serves as well.
    """

    def __init__(self, name: str, levels: Sequence[str], pretrained: bool = False) -> None:
        super().__init__()
        self.levels = sorted(levels)
        self.channels = {level: STAGES[LEVELS[level]][3] for level in self.levels}
        self.body = LiteNet(self.levels[-1], EPSILON)
        if pretrained:
            hub = TimmBackbone(f"tf_{name}", levels, pretrained=True)
            self.body.load_state_dict(self.adapt(hub.body.state_dict()))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """See Backbone."""
        maps = self.body(x)
        return {level: maps[LEVELS[level]] for level in self.levels}

    def adapt(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Turn the kernels of TensorFlow's weights by 180 degrees."""
        return {name: w.flip(2, 3) if w.ndim == 4 else w for name, w in state.items()}


class DenseBackbone(Backbone):
    """A DenseNet tapped where the reference taps it: at the end of each dense block.

    timm's own last tap is behind a batch norm and a ReLU, which the reference doesn't have.
    """

    def __init__(self, name: str, levels: Sequence[str], pretrained: bool = False) -> None:
        import timm

        super().__init__()
        self.levels = sorted(levels)
        body = timm.create_model(name, pretrained=pretrained, num_classes=0)
        taps = {"C1": "norm0"} | {f"C{k + 1}": f"denseblock{k}" for k in range(1, 5)}
        self.taps = {taps[level]: level for level in self.levels}
        last = taps[self.levels[-1]]
        self.features = nn.Sequential()
        for child, layer in body.features.named_children():
            self.features.add_module(child, layer)
            if child == last:
                break
        widths = {info["module"].removeprefix("features."): info for info in body.feature_info}
        widths["denseblock4"] = {"num_chs": body.num_features}
        self.channels = {level: widths[taps[level]]["num_chs"] for level in self.levels}

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """See Backbone."""
        maps = {}
        for name, layer in self.features.named_children():
            x = layer(x)
            if name in self.taps:
                maps[self.taps[name]] = x
        return maps


# Stage of an EfficientNet whose first block halves the resolution of that level.
EXPANDING_STAGES = {"C1": 1, "C2": 2, "C3": 3, "C4": 5}


class _Expansion(nn.Module):
    """The part of an EfficientNet's block up to its widest map, by the block's own names."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.conv_pw, self.bn1 = block.conv_pw, block.bn1


class ExpandedBackbone(Backbone):
    """An EfficientNet tapped where the reference taps it: at the widest maps of each stride.

    C1 to C4 are the expanded maps of the block that is about to halve the resolution, C5 is the
    last 1x1 convolution's. They are 4 to 10 times wider than timm's own taps.
    """

    def __init__(self, name: str, levels: Sequence[str], pretrained: bool = False) -> None:
        import timm

        super().__init__()
        self.levels = sorted(levels)
        body = timm.create_model(name, pretrained=pretrained, num_classes=0)
        self.conv_stem, self.bn1 = body.conv_stem, body.bn1
        last = EXPANDING_STAGES.get(self.levels[-1])
        self.blocks = body.blocks
        if last is not None:  # of the last stage, no more than what is tapped
            ending = nn.Sequential(_Expansion(body.blocks[last][0]))
            self.blocks = nn.Sequential(*body.blocks[:last], ending)
        self.channels = {
            level: body.blocks[EXPANDING_STAGES[level]][0].conv_pw.out_channels
            for level in self.levels
            if level != "C5"
        }
        if last is None:
            self.conv_head, self.bn2 = body.conv_head, body.bn2
            self.channels["C5"] = body.num_features

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """See Backbone."""
        maps: dict[str, Tensor] = {}
        taps = {stage: level for level, stage in EXPANDING_STAGES.items() if level in self.levels}
        x = self.bn1(self.conv_stem(x))
        for stage, blocks in enumerate(self.blocks):
            if stage not in taps:
                x = blocks(x)
                continue
            first = blocks[0]
            expanded = first.bn1(first.conv_pw(x))
            maps[taps[stage]] = expanded
            if len(maps) == len(self.levels):
                return maps
            # The rest of the block. It halves the resolution, so it has no shortcut.
            x = first.bn3(first.conv_pwl(first.se(first.bn2(first.conv_dw(expanded)))))
            for block in list(blocks)[1:]:
                x = block(x)
        maps["C5"] = self.bn2(self.conv_head(x))
        return maps


class OwnBackbone(Backbone):
    """A network of this package that gives one map at each of the strides 2, 4, ... 32."""

    nets: ClassVar[dict[str, tuple[Callable[[int], nn.Module], Sequence[int]]]] = {
        "featurenet": (FeatureNet, (WIDTH,) * 5),
        "residual": (partial(ResidualNet, epsilon=EPSILON), WIDTHS),
    }
    """Builds a network of so many strides, and its channels at each."""

    def __init__(self, name: str, levels: Sequence[str], pretrained: bool = False) -> None:
        super().__init__()
        if pretrained:
            raise ValueError(f"backbone '{name}' has no hub weights: set pretrained to none")
        self.levels = sorted(levels)
        build, widths = self.nets[name]
        self.body = build(int(self.levels[-1][1:]))
        self.channels = {level: widths[int(level[1:]) - 1] for level in self.levels}

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """See Backbone."""
        maps = self.body(x)
        return {level: maps[int(level[1:]) - 1] for level in self.levels}


BACKBONES: dict[str, Entry] = {
    "featurenet": Entry(OwnBackbone, "featurenet"),
    "residual": Entry(OwnBackbone, "residual"),
    "resnet18": Entry(TimmBackbone, "resnet18"),
    "resnet50": Entry(TimmBackbone, "resnet50"),
    "resnet101": Entry(TimmBackbone, "resnet101", heavy=True),
    "densenet121": Entry(DenseBackbone, "densenet121", heavy=True),
    "densenet201": Entry(DenseBackbone, "densenet201", heavy=True),
    "efficientnet_b0": Entry(ExpandedBackbone, "efficientnet_b0"),
    "efficientnet_b7": Entry(ExpandedBackbone, "efficientnet_b7", heavy=True),
    "efficientnet_lite0": Entry(LiteBackbone, "efficientnet_lite0"),
    "mobilenetv2": Entry(TimmBackbone, "mobilenetv2_100"),
    "mobilenetv3_small": Entry(TimmBackbone, "mobilenetv3_small_100"),
}


def build_backbone(name: str, levels: Sequence[str], *, pretrained: bool = False) -> Backbone:
    """Build a backbone up to the coarsest level that is asked for.

    Args:
        name: of BACKBONES, or of timm.
        levels: such as ("C3", "C4", "C5").
        pretrained: fetch timm's weights from the hub.

    Raises:
        ValueError: an unknown name, or levels that the backbone hasn't got.
    """
    if not levels or not set(levels) <= {f"C{k}" for k in range(1, 6)}:
        raise ValueError(f"backbone_levels {', '.join(levels) or '()'}: choose from C1 to C5")
    entry = BACKBONES.get(name)
    if entry is None:
        import timm

        if not timm.is_model(name):
            hint = nearest(name, [*BACKBONES, *timm.list_models()])
            raise ValueError(f"unknown backbone '{name}'; {hint}")
        entry = Entry(TimmBackbone, name)
    return entry.build(entry.timm, levels, pretrained)


def _drop_unused_stages(body: nn.Module, name: str) -> None:
    """Cut what lies behind the last tap, which timm's EfficientNets and MobileNets would run.

    Args:
        body: has its stages in `blocks`.
        name: of the last tap's module, such as "blocks.4".
    """
    stage, blocks = name.removeprefix("blocks."), body.blocks
    if stage.isdigit() and isinstance(blocks, nn.Sequential):
        body.blocks = blocks[: int(stage) + 1]
