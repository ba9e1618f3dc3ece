"""cellshed: finds every single cell in a microscope image.

The public names are loaded when first used, so that `import cellshed` imports no torch.
"""

from importlib import import_module
from pathlib import Path
from typing import Any

from cellshed.caches import keep_compiled

__version__ = "0.1.0"

keep_compiled(Path(__file__).parent)  # before anything imports numba

_HOME = {
    "inner_distance": "distance_maps",
    "outer_distance": "distance_maps",
    "pixelwise": "class_maps",
    "foreground": "class_maps",
    "deep_watershed": "watershed",
    "score": "metrics.scores",
    "mistakes": "metrics.mistakes",
    "open_store": "data.store",
    "load_config": "config",
    "build_model": "model.panoptic",
    "train": "training.loop",
    "load_model": "predict",
    "segment": "predict",
    "evaluate": "evaluation.run",
}

__all__ = ["__version__", *_HOME]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'cellshed' has no attribute '{name}'")
    return getattr(import_module(f"cellshed.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
