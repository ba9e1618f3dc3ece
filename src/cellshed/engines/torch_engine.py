"""The network in torch itself."""

from collections.abc import Callable
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
    """Return a network as a function of arrays, without gradients, in fp32 or bf16."""
    mixed = torch.autocast(torch.device(device).type, torch.bfloat16, precision == "bf16")

    def forward(batch: NDArray[np.float32]) -> Maps:
        x = torch.from_numpy(batch).to(device, memory_format=torch.channels_last)
        with torch.inference_mode(), mixed:
            outputs = net(x)
        return {name: found.float().cpu().numpy() for name, found in outputs.items()}

    return forward


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
