"""The network in ONNX Runtime."""

from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from cellshed.engines.conversion import INPUT, onnx_file
from cellshed.engines.threads import threads
from cellshed.inference import Forward, Maps


def open_model(folder: Path, device: str, precision: str) -> Forward:
    """Return the network of a model folder, or of an exported one."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads()
    options.log_severity_level = 3  # errors
    session = onnxruntime.InferenceSession(
        str(onnx_file(folder)), options, providers=["CPUExecutionProvider"]
    )
    names = [output.name for output in session.get_outputs()]

    def forward(batch: NDArray[np.float32]) -> Maps:
        try:
            found = session.run(names, {INPUT: batch})
        except Exception as error:  # its own kinds; the other engines raise RuntimeError
            raise RuntimeError(str(error)) from error
        return dict(zip(names, found, strict=True))

    return forward
