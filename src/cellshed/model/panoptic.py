"""PanopticNet: an image in, one map per target out."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cellshed.model.backbones import Backbone, build_backbone
from cellshed.model.blocks import conv1x1, init_glorot, location
from cellshed.model.dense import use_dense_convs
from cellshed.model.fuse import fuse
from cellshed.model.heads import Head
from cellshed.model.pyramid import Pyramid
from cellshed.model.weights import load_backbone_weights
from cellshed.settings import ModelSettings
from cellshed.spelling import nearest
from cellshed.targets import TARGETS

STRIDE = 32


class Network(nn.Module):
    """What is common to the trainable and the inference form: image in, maps out."""

    settings: ModelSettings

    def core(self, x: Tensor) -> dict[str, Tensor]:
        """Return logits by target name of an input that has its location channels."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Return each target's map: probabilities, or distances of at least zero.

        Args:
            x: (N, in_channels, H, W), normalised; H and W multiples of 32.

        Returns:
            By target name (N, channels, H, W).

        Raises:
            ValueError: wrong size or number of channels.
        """
        return {
            name: _activate(logits, TARGETS[name].activation)
            for name, logits in self.logits(x).items()
        }

    def logits(self, x: Tensor) -> dict[str, Tensor]:
        """Like forward, before the softmax or ReLU."""
        self._check(x)
        if self.settings.location:
            x = torch.cat([x, location(x)], dim=1)
        return self.core(x.contiguous(memory_format=torch.channels_last))

    def _check(self, x: Tensor) -> None:
        channels = self.settings.in_channels
        if x.ndim != 4 or x.shape[1] != channels:
            raise ValueError(
                f"input of shape {tuple(x.shape)}: the network takes (N, {channels}, H, W)"
            )
        height, width = x.shape[-2:]
        if height % STRIDE or width % STRIDE or not (height and width):
            up = [-(-max(side, 1) // STRIDE) * STRIDE for side in (height, width)]
            raise ValueError(
                f"input of {height}x{width} pixels: both must be multiples of {STRIDE}; "
                f"pad it to {up[0]}x{up[1]}"
            )


class PanopticNet(Network):
    """Backbone, feature pyramid and one semantic head per target (Mesmer, Greenwald 2022).

    Args:
        settings: what it is made of.
        backbone: takes images of three channels.
        pyramid: takes the backbone's maps.
        heads: by target name; take the pyramid's map.
    """

    def __init__(
        self,
        settings: ModelSettings,
        backbone: Backbone,
        pyramid: Pyramid,
        heads: Mapping[str, Head],
    ) -> None:
        super().__init__()
        self.settings = settings
        self.conv_channels = conv1x1(settings.in_channels + 2 * settings.location, 3)
        init_glorot(self.conv_channels)
        self.backbone = backbone
        self.pyramid = pyramid
        self.heads = nn.ModuleDict(heads)

    def core(self, x: Tensor) -> dict[str, Tensor]:
        """See Network."""
        shared = self.pyramid(self.backbone(self.conv_channels(x)))
        return {name: head(shared) for name, head in self.heads.items()}

    def train(self, mode: bool = True) -> "PanopticNet":
        """Like nn.Module.train, but statistics that are to be held stay held."""
        super().train(mode)
        if self.settings.norm == "frozen":
            _hold_statistics(self)
        elif self.settings.norm == "group":
            _hold_statistics(self.backbone)
        return self

    def for_inference(self, *, exportable: bool = False) -> "FusedNet":
        """Return a faster network with the same outputs to 1e-4, which can't be trained.

        Args:
            exportable: use torch's common operations only, for ONNX or OpenVINO.
        """
        return FusedNet(self.settings, fuse(self, "core", exportable=exportable))


class FusedNet(Network):
    """The inference form of a PanopticNet.

    Args:
        settings: of the network.
        fused: its core in inference form.
    """

    def __init__(self, settings: ModelSettings, fused: nn.Module) -> None:
        super().__init__()
        self.settings = settings
        self.fused = fused

    def core(self, x: Tensor) -> dict[str, Tensor]:
        """See Network."""
        maps: dict[str, Tensor] = self.fused(x)
        return maps


def build_model(settings: ModelSettings, *, seed: int | None = None) -> PanopticNet:
    """Build a network with its start weights.

    Args:
        settings: the model section of the settings.
        seed: of the random weights; None takes torch's global state.

    Raises:
        ValueError: unknown backbone, level or head, named with the remedy.
    """
    if seed is None:
        return _build(settings)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _build(settings)


def _build(settings: ModelSettings) -> PanopticNet:
    for name in settings.heads:
        if name not in TARGETS:
            raise ValueError(f"unknown head '{name}'; {nearest(name, TARGETS)}")
    hub = settings.pretrained == "hub"
    backbone = build_backbone(settings.backbone, settings.backbone_levels, pretrained=hub)
    pyramid = Pyramid(backbone.channels, settings)
    heads = {
        name: Head(pyramid.width, TARGETS[name].channels, pyramid.finest, settings)
        for name in settings.heads
    }
    model = PanopticNet(settings, backbone, pyramid, heads)
    if settings.pretrained not in ("none", "hub"):
        load_backbone_weights(backbone, settings.pretrained)
    if settings.pretrained != "none":
        _show_image_to_all_channels(model)
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = settings.norm_momentum
        if isinstance(layer, nn.ReLU6):
            layer.inplace = False  # in place, its backward pass needs a copy of the input
    use_dense_convs(model)
    return model.to(memory_format=torch.channels_last)


def _activate(logits: Tensor, activation: str) -> Tensor:
    return logits.softmax(dim=1) if activation == "softmax" else F.relu(logits)


def _show_image_to_all_channels(model: PanopticNet) -> None:
    """Start with three like channels, as of a grey photograph, for weights from photographs."""
    nn.init.zeros_(model.conv_channels.weight)
    image_channels = model.settings.in_channels
    nn.init.constant_(model.conv_channels.weight[:, :image_channels], 1 / image_channels)


def _hold_statistics(module: nn.Module) -> None:
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.eval()
