"""How long a study will take: a few steps of each network, timed on this machine."""

import time
from collections.abc import Iterable, Sequence

import torch

from cellshed.batches import steps_per_epoch
from cellshed.data.store import Store
from cellshed.engines.torch_engine import find_device
from cellshed.model.panoptic import PanopticNet, build_model
from cellshed.settings import Config
from cellshed.studies.plan import Run, choose
from cellshed.training.precision import choose_precision
from cellshed.training.split import of_splits, split_stores
from cellshed.training.validation import Image, spread

_LONG = 20.0
"""Seconds after which one step is enough to go by."""
_DECODING = 0.3
"""Seconds that decoding and scoring of an image take, besides the network; a rule of thumb."""


def estimate(
    runs: Sequence[Run], base: Config, stores: Sequence[Store], *, threads: int
) -> list[float]:
    """Return the seconds that each run should take, on this machine with so many threads.

    Each different network takes one or two training steps on noise and segments one crop.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        measured: dict[str, tuple[float, float]] = {}
        found = []
        for run in runs:
            config = run.config(base)
            key = f"{config.model} {config.training.batch_size} {config.training.crop}"
            key += f" {config.training.device} {config.training.precision}"
            if key not in measured:
                measured[key] = _probe(config)
            found.append(_seconds(config, choose(stores, run), *measured[key]))
        return found
    finally:
        torch.set_num_threads(before)


def _seconds(config: Config, parts: list[Store], step: float, pixel: float) -> float:
    train, val = split_stores(parts, config.training)
    training, predict = config.training, config.predict
    steps = steps_per_epoch(train, training) * training.epochs
    validations = -(-training.epochs // training.val_every)  # the end is always one
    look = pixel * predict.zoom**2 * predict.mirrors
    # Validation looks once. What scales_by_size or surer_when_smaller add, the images alone tell.
    looks = look * sum(scale**2 for scale in set(predict.scales))
    seconds = steps * step + validations * _judging(spread(val, training.val_images), look)
    seconds += _judging(spread(of_splits(parts, "test"), 0), looks)
    limit = 60 * training.max_minutes
    return min(seconds, limit) if limit else seconds


def _judging(images: Sequence[Image], pixel: float) -> float:
    """Return the seconds that it takes to segment and score images, at so many for a pixel."""
    sizes = (store.records[i].height * store.records[i].width for store, i in images)
    return sum(size * pixel + _DECODING for size in sizes)


def _probe(config: Config) -> tuple[float, float]:
    """Return the seconds of a training step, and of segmenting a pixel, on the run's device."""
    device = find_device(config.training.device)
    precision = choose_precision(config.training.precision, device)
    net = build_model(config.model.model_copy(update={"pretrained": "none"})).train().to(device)
    side = config.training.crop
    noise = torch.randn(config.training.batch_size, config.model.in_channels, side, side)
    noise = noise.to(device, memory_format=torch.channels_last)
    step = _time_step(net, noise, precision)
    if step < _LONG:  # the first one also fetched memory
        step = min(step, _time_step(net, noise, precision))
    net.eval()
    began = time.perf_counter()
    with torch.inference_mode():
        _wait_for(net(noise[:1]).values())
    return step, (time.perf_counter() - began) / side**2


def _time_step(net: PanopticNet, noise: torch.Tensor, precision: str) -> float:
    dtype = torch.float16 if precision == "fp16" else torch.bfloat16
    began = time.perf_counter()
    with torch.autocast(noise.device.type, dtype, enabled=precision != "fp32"):
        outputs = net.logits(noise)
    loss = torch.stack([output.float().square().mean() for output in outputs.values()]).sum()
    torch.autograd.backward(loss)
    _wait_for(parameter.grad for parameter in net.parameters())
    return time.perf_counter() - began


def _wait_for(tensors: Iterable[torch.Tensor | None]) -> None:
    """Ask for a number of each, which is there once a GPU has come so far."""
    for tensor in tensors:
        if tensor is not None:
            tensor.flatten()[0].item()
