"""Times the network, forward and a training step, beside the same network in plain layers.

The plain network has the same weights in torch's own layers, everything at the resolution at which
it is written down, channels first. Both must give the same maps. Run it as
`python benchmarks/run.py network`; one thread, best of a few repeats. It takes some minutes.
"""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cellshed.config import load_config
from cellshed.cores import cpu_multiplies_bf16
from cellshed.model import build_model
from cellshed.model.blocks import upsample
from cellshed.model.dense import DenseConv
from cellshed.model.heads import Head
from cellshed.model.memory import keep_freed_memory
from cellshed.model.panoptic import PanopticNet
from cellshed.settings import Config
from cellshed.training.losses import head_losses, loss_weights
from timing import best_ms

SMALL_SHAPE = (544, 704)  # 520x704, padded to multiples of 32


class PlainHead(nn.Module):
    """A head in the order in which it is described: enlarge first, then convolve."""

    def __init__(self, head: Head) -> None:
        super().__init__()
        self.head = head

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of a pyramid map."""
        head = self.head
        for number, (conv, norm) in enumerate(zip(head.convs, head.norms, strict=True)):
            enlarged = upsample(x) if number else x
            x = norm(F.conv2d(enlarged, conv.weight, conv.bias, padding=1))
        x = head.hidden(upsample(x) if head.doublings else x)
        x = F.relu(self._norm(x))
        return upsample(F.conv2d(x, head.last.weight, head.last.bias), head.stride)

    def _norm(self, x: Tensor) -> Tensor:
        norm = self.head.hidden_norm
        return F.batch_norm(
            x, norm.running_mean, norm.running_var, norm.weight, norm.bias, self.training,
            norm.momentum, norm.eps,
        )  # fmt: skip


def rows() -> list[dict[str, Any]]:
    """Return one row per network and kind of pass: times in ms, ours and plain, and the bound."""
    torch.set_num_threads(1)
    keep_freed_memory()
    off = ["model.pretrained=none"]
    reference = load_config("reference", off)
    small = load_config("cpu-small", off)
    found = [
        _forward("resnet50, reference form", reference, (512, 512), 1000),
        _training("resnet50, reference form", reference, 2, 512, 9500),
        _forward("cpu-small", small, SMALL_SHAPE, None),
        _training("cpu-small", small, 8, 256, None),
    ]
    if cpu_multiplies_bf16():
        names = ("cpu-small", "default")
        found += [_training_in_bf16(name, load_config(name, off), 8, 256) for name in names]
    return found


def plain_version(net: PanopticNet) -> PanopticNet:
    """Return the same network with the same weights in torch's own layers."""
    plain = copy.deepcopy(net).to(memory_format=torch.contiguous_format)
    for layer in plain.modules():
        if isinstance(layer, DenseConv):
            layer.__class__ = nn.Conv2d
    for name, head in plain.heads.items():
        plain.heads[name] = PlainHead(head).train(net.training)
    return plain


def _net(config: Config) -> PanopticNet:
    return build_model(config.model, seed=1).to(memory_format=torch.channels_last)


def _forward(
    part: str, config: Config, shape: tuple[int, int], bound: float | None
) -> dict[str, Any]:
    net = _net(config).eval()
    ours, plain = net.for_inference(), plain_version(net)
    image = torch.randn(1, 1, *shape)
    last = image.contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        for name, found in ours(last).items():
            torch.testing.assert_close(found, plain(image)[name], atol=1e-4, rtol=1e-4)
        times = best_ms(lambda: ours(last), 5), best_ms(lambda: plain(image), 3)
    size = f"1x{shape[0]}x{shape[1]}"
    return _row(f"forward, {part}", size, times, bound)


def _training(
    part: str, config: Config, batch: int, side: int, bound: float | None
) -> dict[str, Any]:
    net = _net(config).train()
    ours = _step(net, config, batch, side, torch.channels_last)
    plain = _step(plain_version(net), config, batch, side, torch.contiguous_format)
    size = f"{batch}x{side}x{side}"
    return _row(f"training step, {part}", size, (best_ms(ours, 3), best_ms(plain, 2)), bound)


def _training_in_bf16(part: str, config: Config, batch: int, side: int) -> dict[str, Any]:
    """Compare our network with itself in fp32."""
    steps = (
        _step(_net(config).train(), config, batch, side, torch.channels_last, dtype)
        for dtype in (torch.bfloat16, None)
    )
    times = tuple(best_ms(step, 3) for step in steps)
    row = _row(f"training step, {part}, bf16", f"{batch}x{side}x{side}", times, None)
    return row | {"plain": "ours, fp32"}


def _step(
    net: nn.Module,
    config: Config,
    batch: int,
    side: int,
    layout: torch.memory_format,
    dtype: torch.dtype | None = None,
) -> Callable[[], None]:
    """Return a function that does one step of training on noise, convolutions in a dtype."""
    image = torch.randn(batch, 1, side, side).contiguous(memory_format=layout)
    classes = torch.randint(0, 3, (batch, side, side))
    targets = {
        "inner_distance": torch.rand(batch, 1, side, side),
        "pixelwise": F.one_hot(classes, 3).permute(0, 3, 1, 2),
    }
    weights = loss_weights(config.model.heads, config.training)
    optimizer = torch.optim.Adam(net.parameters(), 1e-4)

    def step() -> None:
        with torch.autocast("cpu", dtype, enabled=dtype is not None):
            logits = net.logits(image)
        losses = head_losses(logits, targets, config.training)
        optimizer.zero_grad()
        sum(weights[name] * loss for name, loss in losses.items()).backward()
        optimizer.step()

    return step


def _row(part: str, size: str, times: tuple[float, float], bound: float | None) -> dict[str, Any]:
    return {
        "part": part,
        "size": size,
        "cells": None,
        "ours_ms": times[0],
        "plain_ms": times[1],
        "plain": "torch, plain layers",
        "bound_ms": bound,
    }
