"""Times every installed engine: the network alone, and an image from its file to its label file.

In fp32, and in bf16 where hardware multiplies it.

Times are the process's own, user and system together, so that other work on the machine counts
little. Weights are random and the image is noise: the network's time doesn't depend on them, the
watershed's has a bench of its own. Give another model with the variable CELLSHED_BENCH_MODEL.
Run it as `python benchmarks/run.py engines`.
"""

import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import torch

from cellshed.config import load_config
from cellshed.engines.registry import ENGINES, choose_engine, choose_precision, open_engine
from cellshed.model import build_model
from cellshed.model.folder import ModelCard, find_model, save_model
from cellshed.predict import load_model
from cellshed.predict_files import predict_files
from timing import best_ms

SHAPE = (520, 704)
PADDED = (544, 704)
BOUNDS = {"torch": 350.0, "onnx": 150.0, "openvino": 150.0}
"""Core-milliseconds from file to label file that were aimed at: torch alone, and the fastest."""


def rows() -> list[dict[str, Any]]:
    """Return two rows per engine that is installed: core-milliseconds."""
    torch.set_num_threads(1)
    found: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as temporary:
        os.environ.setdefault("CELLSHED_CACHE", str(Path(temporary) / "cache"))
        folder = _model(Path(temporary) / "model")
        image = Path(temporary) / "image.tif"
        tifffile.imwrite(image, np.random.default_rng(0).integers(0, 255, SHAPE, np.uint8))
        times = {
            (name, precision): _times(name, precision, folder, image)
            for precision in ("fp32", "bf16")
            for name in ENGINES
            if _usable(name, precision, folder)
        }
    base = times["torch", "fp32"]
    for (name, precision), (network, whole) in times.items():
        how = f"{name} {precision}"
        found.append(_row(f"network, {how}", network, base[0], None))
        found.append(_row(f"file to labels, {how}", whole, base[1], BOUNDS.get(name)))
    return found


def _usable(name: str, precision: str, folder: Path) -> bool:
    if precision == "bf16" and choose_precision("auto", name, "cpu") != "bf16":
        return False
    try:
        return choose_engine(name, folder, "cpu") == name
    except ValueError:
        return False


def _model(folder: Path) -> Path:
    given = os.environ.get("CELLSHED_BENCH_MODEL")
    if given:
        return find_model(given)
    config = load_config("cpu-small", ["model.pretrained=none"])
    card = ModelCard(model=config.model, normalize=config.normalize, decode=config.decode)
    save_model(folder, build_model(config.model, seed=1).state_dict(), card)
    return folder


def _times(name: str, precision: str, folder: Path, image: Path) -> tuple[float, float]:
    """Return core-milliseconds of the network, and from a file to a label file."""
    forward = open_engine(name, folder, "cpu", precision)
    batch = np.zeros((1, 1, *PADDED), np.float32)
    segmenter = load_model(folder, engine=name, device="cpu", precision=precision)
    out = image.parent / f"{name}-{precision}"

    def whole() -> None:
        predict_files([image], out, model=segmenter, save=["labels"], overwrite=True)

    network, from_file = (
        best_ms(call, 7, clock=time.process_time) for call in (lambda: forward(batch), whole)
    )
    return network, from_file


def _row(part: str, ours: float, torch_ms: float, bound: float | None) -> dict[str, Any]:
    return {
        "part": part,
        "size": "520x704",
        "cells": None,
        "ours_ms": ours,
        "plain_ms": torch_ms,
        "plain": "torch fp32",
        "bound_ms": bound,
    }
