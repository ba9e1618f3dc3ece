"""Dense convolutions that train faster on a CPU."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from cellshed.model import winograd


class DenseConv(nn.Conv2d):
    """A convolution that trains faster on a CPU; in everything else it is nn.Conv2d.

    3x3 convolutions and their gradients by the input are done by Winograd's method. oneDNN's
    gradient by the weight takes 1.3 to 2.1 times as long from maps that are channels last as
    from maps that are channels first, the copies included; everything else in a network is
    faster channels last.
    """

    def forward(self, x: Tensor) -> Tensor:
        """See nn.Conv2d."""
        if not (on_cpu(x) and torch.is_grad_enabled() and self.weight.requires_grad):
            return super().forward(x)
        quick = winograd.suits(self) and winograd.pixels(x) >= winograd.PIXELS_IN_TRAINING
        result: Tensor = _Conv.apply(x, self.weight, self.bias, self.stride, self.padding, quick)
        return result


def on_cpu(x: Tensor) -> bool:
    """Return whether a map is on a CPU in float32, and stays so."""
    return (
        x.device.type == "cpu" and x.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
    )


def use_dense_convs(module: nn.Module) -> None:
    """Make a module's larger convolutions DenseConvs, with the weights that they have."""
    for parent in list(module.modules()):
        for name, layer in parent.named_children():
            if type(layer) is nn.Conv2d and _is_plain(layer):
                setattr(parent, name, _dense(layer))


def _is_plain(layer: nn.Conv2d) -> bool:
    return (
        layer.groups == 1
        and layer.kernel_size > (1, 1)
        and layer.dilation == (1, 1)
        and layer.padding_mode == "zeros"
        and not isinstance(layer.padding, str)
    )


def _dense(layer: nn.Conv2d) -> DenseConv:
    with torch.device("meta"):
        dense = DenseConv(layer.in_channels, layer.out_channels, 1)
    dense.kernel_size, dense.stride, dense.padding = layer.kernel_size, layer.stride, layer.padding
    dense.weight, dense.bias = layer.weight, layer.bias
    return dense.train(layer.training)


class _Conv(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, *how: Any) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding, ctx.quick = how
        if ctx.quick:
            return winograd.convolve(x, winograd.transform_kernel(weight), bias)
        return F.conv2d(x, weight, bias, ctx.stride, ctx.padding)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        x_needed, weight_needed, bias_needed = ctx.needs_input_grad[:3]
        x_grad = weight_grad = bias_grad = None
        if x_needed and ctx.quick:
            turned = weight.flip(2, 3).transpose(0, 1)
            x_grad = winograd.convolve(grad, winograd.transform_kernel(turned), None)
        elif x_needed:
            x_grad = _gradients(ctx, grad, x, weight, (True, False, False))[0]
        if weight_needed:
            maps = [m.contiguous(memory_format=torch.contiguous_format) for m in (grad, x, weight)]
            weight_grad = _gradients(ctx, maps[0], maps[1], maps[2], (False, True, False))[1]
        if bias_needed:
            bias_grad = grad.sum(dim=(0, 2, 3))
        return x_grad, weight_grad, bias_grad, None, None, None


def _gradients(
    ctx: Any, grad: Tensor, x: Tensor, weight: Tensor, which: tuple[bool, bool, bool]
) -> tuple[Tensor, Tensor, Tensor]:
    result: tuple[Tensor, Tensor, Tensor] = torch.ops.aten.convolution_backward(
        grad, x, weight, None, ctx.stride, ctx.padding, (1, 1), False, (0, 0), 1, which
    )
    return result
