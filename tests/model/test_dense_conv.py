"""DenseConv: the gradients of nn.Conv2d."""

import pytest
import torch
from torch import nn

from cellshed.model.dense import DenseConv, use_dense_convs

CL = torch.channels_last


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (3, 2), (7, 2), (5, 1)])
def test_gradients_are_those_of_a_plain_convolution(kernel: int, stride: int, bias: bool) -> None:
    plain = nn.Conv2d(4, 6, kernel, stride, kernel // 2, bias=bias).to(memory_format=CL)
    holder = nn.Sequential(plain)
    use_dense_convs(holder)
    dense = holder[0]
    assert type(dense) is DenseConv
    x = torch.randn(2, 4, 12, 10).contiguous(memory_format=CL).requires_grad_()
    results = []
    for layer in (plain, dense):
        y = layer(x)
        weights = torch.linspace(-1, 2, y.numel()).view(y.shape)
        results.append([y, *torch.autograd.grad((y * weights).sum(), [x, *plain.parameters()])])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_a_frozen_weight_gets_no_gradient() -> None:
    layer = DenseConv(2, 3, 3, padding=1)
    layer.weight.requires_grad_(False)
    x = torch.randn(1, 2, 4, 4, requires_grad=True)
    layer(x).sum().backward()
    assert layer.weight.grad is None
    assert x.grad is not None


def test_only_plain_dense_convolutions_are_replaced() -> None:
    layers = nn.Sequential(
        nn.Conv2d(4, 4, 1),
        nn.Conv2d(4, 4, 3, groups=4),
        nn.Conv2d(4, 4, 3, dilation=2),
        nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"),
        nn.Conv2d(4, 4, 3),
    )
    before = layers.state_dict()
    use_dense_convs(layers)
    assert [type(layer) is DenseConv for layer in layers] == [False] * 4 + [True]
    assert layers.state_dict().keys() == before.keys()
    assert layers[4].weight is not None
    assert "padding" not in repr(layers[4])
