"""Layers on a doubled map: equal to the plain layers on the map that they never hold."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cellshed.model import enlarge
from cellshed.model.blocks import upsample
from cellshed.model.enlarge import EnlargedBatchNorm, EnlargedConv, EnlargedReluLinear

SIZES = [(1, 1), (1, 2), (2, 1), (3, 5), (33, 8), (70, 3)]  # 33, 70: more rows than one part


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def _map(height: int, width: int, channels: int = 6) -> Tensor:
    generator = torch.Generator().manual_seed(height * 100 + width)
    x = torch.randn(2, channels, height, width, generator=generator)
    return x.contiguous(memory_format=torch.channels_last).requires_grad_()


def _with_gradients(y: Tensor, sources: list[Tensor]) -> list[Tensor]:
    weights = torch.linspace(-1, 2, y.numel()).view(y.shape)
    return [y, *torch.autograd.grad((y * weights).sum(), sources)]


def _same(ours: list[Tensor], plain: list[Tensor]) -> None:
    for a, b in zip(ours, plain, strict=True):
        size = max(1.0, float(b.detach().abs().max()))
        torch.testing.assert_close(a, b, rtol=0, atol=1e-4 * size)


def test_doubling_by_hand() -> None:
    x = torch.tensor([0.0, 4.0]).view(1, 1, 1, 2)
    assert upsample(x).view(2, 4).tolist() == [[0.0, 1.0, 3.0, 4.0]] * 2


@pytest.mark.parametrize("size", SIZES)
def test_convolution_of_a_doubled_map(size: tuple[int, int]) -> None:
    x, layer = _map(*size), EnlargedConv(6, 5, 3, padding=1)
    sources = [x, *layer.parameters()]
    plain = F.conv2d(upsample(x), layer.weight, layer.bias, padding=1)
    _same(_with_gradients(layer(x), sources), _with_gradients(plain, sources))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("channels", [1, 3])
def test_relu_and_matrix_of_a_doubled_map(size: tuple[int, int], channels: int) -> None:
    x, layer = _map(*size), EnlargedReluLinear(6, channels, 1)
    sources = [x, *layer.parameters()]
    plain = F.conv2d(F.relu(upsample(x)), layer.weight, layer.bias)
    _same(_with_gradients(layer(x), sources), _with_gradients(plain, sources))


@pytest.mark.parametrize("size", SIZES)
def test_batch_norm_of_a_doubled_map(size: tuple[int, int]) -> None:
    ours, plain = EnlargedBatchNorm(6, momentum=0.3), nn.BatchNorm2d(6, momentum=0.3)
    for layer in (ours, plain):
        nn.init.constant_(layer.weight, 1.5)
        nn.init.constant_(layer.bias, -0.2)
    x = _map(*size)
    found = _with_gradients(upsample(ours(2 * x + 3)), [x, *ours.parameters()])
    expected = _with_gradients(plain(upsample(2 * x + 3)), [x, *plain.parameters()])
    _same(found, expected)
    for name, buffer in plain.named_buffers():
        torch.testing.assert_close(dict(ours.named_buffers())[name], buffer)


def test_batch_norm_of_far_away_values_keeps_its_digits() -> None:
    x = _map(16, 16).detach() + 1000
    found = EnlargedBatchNorm(6)(x)
    expected = nn.BatchNorm2d(6).double()(upsample(x).double())
    torch.testing.assert_close(upsample(found).double(), expected, rtol=0, atol=1e-2)


def test_batch_norm_in_double_precision() -> None:
    ours, plain = EnlargedBatchNorm(6).double(), nn.BatchNorm2d(6).double()
    x = _map(8, 8).detach().double() + 1000
    torch.testing.assert_close(upsample(ours(x)), plain(upsample(x)), rtol=0, atol=1e-9)
    torch.testing.assert_close(ours.running_var, plain.running_var)


def test_running_statistics_are_used_in_evaluation() -> None:
    ours, x = EnlargedBatchNorm(6).eval(), _map(4, 4)
    ours.running_mean += 1
    torch.testing.assert_close(ours(x), (x - 1) / (1 + ours.eps) ** 0.5)


@pytest.mark.parametrize(
    "layer", [EnlargedConv(6, 5, 3, padding=1), EnlargedReluLinear(6, 2, 1), EnlargedBatchNorm(6)]
)
def test_elsewhere_than_on_a_cpu_plain_layers_do_the_same(
    layer: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = _map(5, 4)
    sources = [x, *layer.parameters()]
    ours = _with_gradients(layer(x), sources)
    monkeypatch.setattr(enlarge, "on_cpu", lambda x: False)
    _same(ours, _with_gradients(layer(x), sources))


def test_in_mixed_precision_the_layers_step_back() -> None:
    x = _map(4, 4)
    with torch.autocast("cpu", torch.bfloat16):
        y = EnlargedReluLinear(6, 2, 1)(EnlargedBatchNorm(6)(EnlargedConv(6, 6, 3, padding=1)(x)))
    y.float().sum().backward()
    assert y.dtype == torch.bfloat16
    assert x.grad is not None
    assert x.grad.isfinite().all()


@pytest.mark.usefixtures("two_threads")
def test_the_number_of_threads_changes_nothing() -> None:
    x, layer = _map(100, 7), EnlargedReluLinear(6, 3, 1)
    sources = [x, *layer.parameters()]
    two = _with_gradients(layer(x), sources)
    torch.set_num_threads(1)
    one = _with_gradients(layer(x), sources)
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
