"""The precision of the network's arithmetic in training."""

import torch

from cellshed.engines.torch_engine import multiplies_bf16

MIXED = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}
"""accelerate's word for each precision."""


def choose_precision(wanted: str, device: torch.device) -> str:
    """Return fp32, bf16 or fp16.

    Args:
        wanted: training.precision. auto is bf16 where hardware multiplies it, else fp32: without,
            a CPU takes several times as long for bf16 as for fp32.
        device: where the network is to be trained.
    """
    if wanted != "auto":
        return wanted
    return "bf16" if multiplies_bf16(device) else "fp32"
