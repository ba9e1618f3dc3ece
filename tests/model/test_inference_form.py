"""The inference form: the same maps, whatever the backbone, and nothing that can't be exported."""

import math
import operator

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cellshed.model import backbones, build_model, fuse, winograd
from cellshed.model.backbones import Backbone, Entry
from cellshed.model.fuse import FastConv
from cellshed.model.panoptic import FusedNet, PanopticNet
from cellshed.settings import ModelSettings


def _net(**changes: object) -> PanopticNet:
    tree: dict[str, object] = {"pyramid_width": 16, "head_width": 8, "head_hidden": 8}
    net = build_model(ModelSettings.model_validate(tree | changes), seed=1)
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm2d):  # statistics that folding must get right
            nn.init.normal_(layer.running_mean, 0, 0.1)
            nn.init.uniform_(layer.running_var, 0.5, 1.5)
    return net.eval()


def _agree(net: PanopticNet, fused: FusedNet) -> None:
    image = torch.randn(2, 1, 64, 96, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        plain, found = net(image), fused(image)
    assert found.keys() == plain.keys()
    for name in plain:
        # Untrained networks with odd statistics give large maps, whose rounding grows with them.
        size = max(1.0, float(plain[name].abs().max()))
        torch.testing.assert_close(found[name], plain[name], atol=3e-4 * size, rtol=0)


@pytest.mark.parametrize(
    "backbone", ["resnet18", "efficientnet_b0", "mobilenetv2", "test_convnext", "test_nfnet"]
)
@pytest.mark.parametrize("exportable", [False, True])
def test_backbones_of_other_designs(backbone: str, exportable: bool) -> None:
    net = _net(backbone=backbone)
    _agree(net, net.for_inference(exportable=exportable))


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["densenet121", "resnet50", "swin_tiny_patch4_window7_224"])
def test_heavy_backbones_of_other_designs(backbone: str) -> None:
    net = _net(backbone=backbone)
    _agree(net, net.for_inference())


@pytest.mark.parametrize("exportable", [False, True])
@pytest.mark.parametrize(
    "changes",
    [
        {"head_relu": True, "fusion": "sum", "head_stride": 2, "head_finish": "shuffle"},
        {"head_relu": True, "fusion": "sum", "norm": "group", "separable": True},
        {"norm": "frozen", "head_stride": 8, "location": False},
        {"backbone": "residual", "fusion": "cascade", "head_relu": True, "head_stride": 2},
        {"backbone_levels": ("C1", "C2", "C3"), "head_stride": 2, "head_relu": True},
    ],
)
def test_other_pyramids_and_heads(changes: dict[str, object], exportable: bool) -> None:
    levels = [level.replace("C", "P") for level in changes.get("backbone_levels", ("C3", "C4"))]  # type: ignore[attr-defined]
    tree = {"backbone": "featurenet", "backbone_levels": ("C3", "C4"), "pyramid_levels": levels}
    net = _net(**(tree | changes))
    _agree(net, net.for_inference(exportable=exportable))


def test_no_batch_norm_is_left() -> None:
    fused = _net(backbone="resnet18").for_inference()
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in fused.modules())


def test_the_network_stays_as_it_is() -> None:
    net = _net(backbone="resnet18").train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    net.for_inference()
    assert net.training
    assert all(p.requires_grad for p in net.parameters())
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_an_exportable_network_has_torch_operations_only() -> None:
    fused = _net(backbone="resnet18").for_inference(exportable=True)
    program = torch.export.export(fused, (torch.randn(1, 1, 64, 64),), strict=False)
    called = {node.target for node in program.graph.nodes if node.op == "call_function"}
    called.discard(operator.getitem)
    assert {getattr(target, "namespace", "other") for target in called} == {"aten"}


class _Branching(Backbone):
    """A backbone that torch.fx can't trace."""

    def __init__(self, name: str, levels: tuple[str, ...], pretrained: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 8, stride=8)
        self.channels = {"C3": 4}

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        y = self.conv(x)
        return {"C3": y if y.sum() > 0 else -y}


def test_a_backbone_with_branches_is_kept_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(backbones.BACKBONES, "branching", Entry(_Branching))
    net = _net(backbone="branching", backbone_levels=("C3",))
    _agree(net, net.for_inference())


def test_without_onednn_folding_is_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuse, "has_onednn", lambda: False)
    net = _net(backbone="resnet18")
    fused = net.for_inference()
    assert not any(isinstance(layer, FastConv) for layer in fused.modules())
    _agree(net, fused)


@pytest.mark.parametrize("act", [None, nn.ReLU(), nn.ReLU6(), nn.SiLU()])
@pytest.mark.parametrize("adds", [False, True])
@pytest.mark.parametrize(("channels", "kernel"), [(64, 3), (8, 3), (8, 1)])
def test_a_fast_convolution_adds_and_activates(
    act: nn.Module | None, adds: bool, channels: int, kernel: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    conv = nn.Conv2d(channels, channels, kernel, padding=kernel // 2)
    fast = FastConv(conv)
    fast.activation = act
    x = torch.randn(1, channels, 10, 9).contiguous(memory_format=torch.channels_last)
    other = 4 * torch.randn_like(x) if adds else None
    with torch.inference_mode():
        plain = conv(x) + (other if other is not None else 0)
        plain = act(plain) if act else plain
        torch.testing.assert_close(fast(x, other), plain, atol=1e-4, rtol=1e-4)
        monkeypatch.setattr(fuse, "on_cpu", lambda x: False)
        torch.testing.assert_close(fast(x, other), plain, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("size", [(1, 1), (3, 4), (4, 8), (9, 14), (33, 5)])
@pytest.mark.parametrize(("channels", "out"), [(2, 3), (64, 64), (70, 130)])
def test_winograd_is_the_convolution(size: tuple[int, int], channels: int, out: int) -> None:
    x = torch.randn(2, channels, *size)
    conv = nn.Conv2d(channels, out, 3, padding=1)
    kernel = winograd.transform_kernel(conv.weight.detach())
    with torch.inference_mode():
        found = winograd.convolve(x, kernel, conv.bias, (0, math.inf))
        torch.testing.assert_close(found, F.relu(conv(x)), atol=1e-4, rtol=1e-4)


def test_winograd_of_a_constant_by_hand() -> None:
    # A kernel of ones on ones counts the neighbours that are inside.
    kernel = winograd.transform_kernel(torch.ones(1, 1, 3, 3))
    found = winograd.convolve(torch.ones(1, 1, 5, 6), kernel, torch.tensor([0.5]))
    edge, middle = [4.5, 6.5, 6.5, 6.5, 6.5, 4.5], [6.5, 9.5, 9.5, 9.5, 9.5, 6.5]
    expected = torch.tensor([edge, middle, middle, middle, edge])
    torch.testing.assert_close(found[0, 0], expected)


def test_winograd_is_for_dense_3x3_convolutions_of_some_width() -> None:
    def suits(*shape: int, **options: object) -> bool:
        return winograd.suits(nn.Conv2d(*shape, **({"padding": 1} | options)))  # type: ignore[arg-type]

    assert suits(64, 64, 3)
    assert not suits(64, 64, 3, stride=2)
    assert not suits(64, 64, 3, groups=64)
    assert not suits(64, 64, 3, dilation=2, padding=2)
    assert not suits(64, 64, 3, padding_mode="reflect")
    assert not suits(64, 64, 1, padding=0)
    assert not suits(16, 512, 3)
