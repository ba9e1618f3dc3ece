"""The network in torch itself."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cellshed.cores import cpu_multiplies_bf16
from cellshed.inference import Forward, Maps
from cellshed.model.folder import load_network
from cellshed.model.memory import keep_freed_memory


def open_model(folder: Path, device: str, precision: str) -> Forward:
    """Return the network of a model folder in its inference form.

    Raises:
        ValueError: the machine has no such device.
    """
    where = find_device(device)
    keep_freed_memory()
    net, _ = load_network(folder)
    return over_arrays(net.for_inference().to(where), where, precision)


def over_arrays(
    net: Callable[[Tensor], dict[str, Tensor]],
    device: torch.device | str = "cpu",
    precision: str = "fp32",
) -> Forward:
    """Return a network as a function of arrays, without gradients, in fp32 or bf16.

    fp32 is that on all devices: not TF32, which keeps ten bits of each factor.
    """
    mixed = torch.autocast(torch.device(device).type, torch.bfloat16, precision == "bf16")

    def forward(batch: NDArray[np.float32]) -> Maps:
        x = torch.from_numpy(batch).to(device, memory_format=torch.channels_last)
        with torch.inference_mode(), mixed, _without_tf32():
            outputs = net(x)
        return {name: found.float().cpu().numpy() for name, found in outputs.items()}

    return forward


@contextmanager
def _without_tf32() -> Iterator[None]:
    """Keep NVIDIA's convolutions from rounding factors to TF32, as torch has them by default."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def find_device(name: str) -> torch.device:
    """Return a device by name; auto is cuda, else mps, else cpu.

    Raises:
        ValueError: the machine has no such device.
    """
    there = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        return torch.device(next(kind for kind, found in there.items() if found))
    if name not in there:
        raise ValueError(f"device '{name}': known are auto, {', '.join(there)}")
    if not there[name]:
        raise ValueError(f"device '{name}': this machine has none that torch can use")
    return torch.device(name)


def multiplies_bf16(device: torch.device) -> bool:
    """Return whether a device has hardware for products of bf16."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        return cpu_multiplies_bf16()
    return False
