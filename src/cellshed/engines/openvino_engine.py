"""The network in OpenVINO."""

from pathlib import Path

import numpy as np
import openvino
from numpy.typing import NDArray

from cellshed.engines.conversion import onnx_file
from cellshed.engines.threads import threads
from cellshed.inference import Forward, Maps
from cellshed.model.folder import read_card


def open_model(folder: Path, device: str, precision: str) -> Forward:
    """Return the network of a model folder, or of an exported one."""
    own = folder / "model.xml"
    path = own if own.is_file() else onnx_file(folder)
    settings = {
        "INFERENCE_NUM_THREADS": threads(),
        # On some processors it would take 16 bits by itself.
        "INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16"}[precision],
        "PERFORMANCE_HINT": "LATENCY",
    }
    compiled = openvino.Core().compile_model(str(path), "CPU", settings)
    names = read_card(folder).model.heads  # an output may have other names too

    def forward(batch: NDArray[np.float32]) -> Maps:
        # Copies: the engine writes the next image's maps into the same memory.
        found = [np.array(values) for values in compiled(batch).values()]
        return dict(zip(names, found, strict=True))

    return forward


def write_ir(onnx: Path, path: Path) -> None:
    """Write an ONNX network in OpenVINO's own form, path and the .bin beside it, in float32."""
    openvino.save_model(openvino.convert_model(onnx), path, compress_to_fp16=False)
