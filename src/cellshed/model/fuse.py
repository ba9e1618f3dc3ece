"""The inference form of a network: the same function with fewer passes over memory.

Batch norms are folded into the convolutions before them; with oneDNN, activations and additions
are done by the convolution that they follow.
"""

import copy
import functools
import math
import operator
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from cellshed.model import winograd
from cellshed.model.dense import DenseConv, on_cpu
from cellshed.model.enlarge import EnlargedConv, EnlargedReluLinear

# Activations that oneDNN applies while it convolves: module -> name and arguments there.
ACTIVATIONS: dict[type[nn.Module], tuple[str, list[float]]] = {
    nn.ReLU: ("relu", []),
    nn.ReLU6: ("hardtanh", [0.0, 6.0]),
    nn.SiLU: ("swish", []),
}
# The same ones, as limits of the result.
CLIPS = {nn.ReLU: (0.0, math.inf), nn.ReLU6: (0.0, 6.0), type(None): (-math.inf, math.inf)}

PLAIN = (nn.Conv2d, DenseConv)
"""Kinds of convolution that are all that they say. timm's with TensorFlow's padding isn't."""


class FastConv(nn.Module):
    """A convolution of the inference form, with the addition and activation that follow it.

    On a CPU in one pass, by oneDNN or by Winograd's method; elsewhere in torch's three.

    Args:
        conv: the convolution, batch norm already folded in.
    """

    weight: Tensor
    bias: Tensor | None
    kernel: Tensor | None

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        assert not isinstance(conv.padding, str)
        weight = conv.weight.detach().contiguous(memory_format=torch.channels_last)
        self.register_buffer("weight", weight)
        self.register_buffer("bias", None if conv.bias is None else conv.bias.detach())
        self.stride, self.padding = list(conv.stride), list(conv.padding)
        self.dilation, self.groups = list(conv.dilation), conv.groups
        self.activation: nn.Module | None = None
        quick = winograd.suits(conv)
        self.register_buffer("kernel", winograd.transform_kernel(weight) if quick else None)

    def forward(self, x: Tensor, other: Tensor | None = None) -> Tensor:
        """Return activation(conv(x) + other)."""
        if not on_cpu(x):
            return self._in_steps(x, other)
        if self.kernel is not None and winograd.pixels(x) >= winograd.PIXELS:
            return self._quick(x, other, self.kernel)
        name, scalars = ACTIVATIONS[type(self.activation)] if self.activation else ("none", [])
        geometry = (self.padding, self.stride, self.dilation, self.groups)
        result: Tensor
        if other is None:
            result = torch.ops.mkldnn._convolution_pointwise(
                x, self.weight, self.bias, *geometry, name, scalars, ""
            )
            return result
        relu = type(self.activation) is nn.ReLU  # the one that can follow an addition
        result = torch.ops.mkldnn._convolution_pointwise.binary(
            x,
            other,
            self.weight,
            self.bias,
            *geometry,
            "add",
            1.0,
            "relu" if relu else None,
            [],
            "",
        )
        return self.activation(result) if self.activation and not relu else result

    def _quick(self, x: Tensor, other: Tensor | None, kernel: Tensor) -> Tensor:
        if other is None and type(self.activation) in CLIPS:
            return winograd.convolve(x, kernel, self.bias, CLIPS[type(self.activation)])
        return self._finish(winograd.convolve(x, kernel, self.bias), other)

    def _in_steps(self, x: Tensor, other: Tensor | None) -> Tensor:
        geometry = (self.stride, self.padding, self.dilation, self.groups)
        return self._finish(F.conv2d(x, self.weight, self.bias, *geometry), other)

    def _finish(self, x: Tensor, other: Tensor | None) -> Tensor:
        x = x if other is None else x.add_(other)
        return self.activation(x) if self.activation else x


def fuse(module: nn.Module, method: str, *, exportable: bool = False) -> nn.Module:
    """Return the inference form of a module, in evaluation mode; the module stays as it is.

    Args:
        module: traceable by torch.fx, but for its child "backbone", which is kept as it is if
            it has branches that depend on values.
        method: the method of the module that becomes the result's forward.
        exportable: use torch's common operations only, which other engines know.
    """
    module = copy.deepcopy(module).eval().requires_grad_(False)
    graph = fx.GraphModule(module, _trace(module, method))
    _fold_norms(graph)
    weight = next(module.parameters())
    if exportable:
        for layer in graph.modules():
            if isinstance(layer, (EnlargedConv, EnlargedReluLinear)):
                layer.plain = True
    elif weight.device.type == "cpu" and weight.dtype == torch.float32 and has_onednn():
        _use_fast_convs(graph)
        _join_additions(graph)
        _join_activations(graph)
    graph.delete_all_unused_submodules()
    graph.recompile()
    return graph


@functools.cache
def has_onednn() -> bool:
    """Return whether torch's fused oneDNN convolution is there and right.

    It is not part of torch's documented interface, so it is tried before it is relied on.
    """
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    conv = nn.Conv2d(8, 8, 3, padding=1)
    x = torch.linspace(-1, 1, 8 * 36).view(1, 8, 6, 6)
    fast = FastConv(conv)
    fast.activation = nn.ReLU()
    try:
        with torch.inference_mode():
            return torch.allclose(fast(x, x), F.relu(conv(x) + x), atol=1e-5)
    except (AttributeError, RuntimeError, TypeError):
        return False


class _Tracer(fx.Tracer):
    def __init__(self, method: str, leaf: str = "") -> None:
        super().__init__()
        self.traced_func_name = method
        self.leaf = leaf

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        leaf = isinstance(m, (nn.Conv2d, nn.BatchNorm2d)) or module_qualified_name == self.leaf
        return leaf or super().is_leaf_module(m, module_qualified_name)


def _trace(module: nn.Module, method: str) -> fx.Graph:
    try:
        return _Tracer(method).trace(module)
    except (fx.proxy.TraceError, TypeError, ValueError, RuntimeError, AttributeError):
        return _Tracer(method, leaf="backbone").trace(module)


def _module(graph: fx.GraphModule, node: Any) -> nn.Module | None:
    """Return the module that a node calls, if it calls one."""
    if isinstance(node, fx.Node) and node.op == "call_module":
        return graph.get_submodule(str(node.target))
    return None


def _fold_norms(graph: fx.GraphModule) -> None:
    """Fold each batch norm into the convolution before it."""
    for node in list(graph.graph.nodes):
        norm = _module(graph, node)
        if not isinstance(norm, nn.BatchNorm2d):
            continue
        source = node.args[0]
        conv = _module(graph, source)
        if not isinstance(conv, nn.Conv2d) or len(source.users) > 1:
            continue
        graph.add_submodule(str(source.target), fuse_conv_bn_eval(conv, norm))
        behind = getattr(norm, "act", None)  # timm's norms carry their activation
        if behind is None or isinstance(behind, nn.Identity):
            node.replace_all_uses_with(source)
            graph.graph.erase_node(node)
        else:
            node.target = f"{node.target}_act"
            graph.add_submodule(node.target, behind)


def _use_fast_convs(graph: fx.GraphModule) -> None:
    for node in graph.graph.nodes:
        conv = _module(graph, node)
        if isinstance(conv, nn.Conv2d) and type(conv) in PLAIN and conv.padding_mode == "zeros":
            graph.add_submodule(str(node.target), FastConv(conv))
        elif isinstance(conv, EnlargedConv):
            conv.multiply = FastConv(conv.taps())


def _join_additions(graph: fx.GraphModule) -> None:
    """Let a convolution add what its result is added to."""
    for node in list(graph.graph.nodes):
        if node.target not in (operator.add, operator.iadd, torch.add) or len(node.args) != 2:
            continue
        for conv_node, other in (node.args, node.args[::-1]):
            conv = _module(graph, conv_node)
            if isinstance(conv, FastConv) and len(conv_node.users) == 1:
                with graph.graph.inserting_before(node):
                    joined = graph.graph.call_module(conv_node.target, (conv_node.args[0], other))
                node.replace_all_uses_with(joined)
                graph.graph.erase_node(node)
                graph.graph.erase_node(conv_node)
                break


def _join_activations(graph: fx.GraphModule) -> None:
    """Let a convolution apply the activation behind it."""
    for node in list(graph.graph.nodes):
        act = nn.ReLU() if node.target in (F.relu, torch.relu) else _module(graph, node)
        conv_node = node.args[0] if node.args else None
        conv = _module(graph, conv_node)
        if act is None or type(act) not in ACTIVATIONS or not isinstance(conv, FastConv):
            continue
        if conv.activation is None and conv_node is not None and len(conv_node.users) == 1:
            conv.activation = act
            node.replace_all_uses_with(conv_node)
            graph.graph.erase_node(node)
