"""The network: backbones, pyramid, heads, and PanopticNet made of them."""

from cellshed.model.backbones import BACKBONES
from cellshed.model.panoptic import PanopticNet, build_model

__all__ = ["BACKBONES", "PanopticNet", "build_model"]
