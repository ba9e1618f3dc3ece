"""The network: backbones, pyramid, heads, and PanopticNet made of them.

The names are loaded when first used, so that a model card can be read without torch.
"""

from importlib import import_module
from typing import Any

_HOME = {"BACKBONES": "backbones", "PanopticNet": "panoptic", "build_model": "panoptic"}

__all__ = ["BACKBONES", "PanopticNet", "build_model"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'cellshed.model' has no attribute '{name}'")
    return getattr(import_module(f"cellshed.model.{_HOME[name]}"), name)
