"""A model folder's network as an ONNX file, made once and kept in the user's cache.

ONNX is what the other engines read. Nothing but torch's common operations is in it; the sizes of
batch and image are left open, heights and widths being multiples of 32.
"""

import hashlib
import os
import warnings
from pathlib import Path

from cellshed.caches import folder_until_exit, user_cache
from cellshed.files import sha256, whole_file
from cellshed.model.folder import WEIGHTS, load_network, read_card

KEPT = 8
"""Networks that stay in the cache, the latest."""
FORM = 1
"""Number of the form of the converted files; another one makes all of them anew."""
OPSET = 17
INPUT = "image"


def onnx_file(folder: Path) -> Path:
    """Return a model folder's network as an ONNX file: its own, or the cache's, or a new one."""
    own = folder / "model.onnx"
    if own.is_file():
        return own
    name = f"{_fingerprint(folder)}.onnx"
    try:
        cached = cache_folder() / name
        if not cached.is_file():
            write_onnx(folder, cached)
            _forget_old()
    except OSError:  # no room, or no right to write there: it serves for this process
        cached = folder_until_exit() / name
        write_onnx(folder, cached)
    return cached


def write_onnx(folder: Path, path: Path) -> None:
    """Write the network of a model folder as ONNX: input `image`, one output per head."""
    import torch

    from cellshed.engines.sequence import MapSequence

    net, card = load_network(folder)
    names = list(card.model.heads)
    form = MapSequence(net.for_inference(exportable=True), names).eval()
    example = torch.zeros(1, card.model.in_channels, 64, 96)
    free = {0: "images", 2: "height", 3: "width"}
    with whole_file(path) as temporary, warnings.catch_warnings():
        # The tracer warns of checks on the size, which needn't be in the file.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            form,
            (example,),
            str(temporary),
            dynamo=False,  # a fortieth of the other exporter's time, the same operations
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=names,
            dynamic_axes=dict.fromkeys((INPUT, *names), free),
        )


def cache_folder() -> Path:
    """Return where converted networks are kept: CELLSHED_CACHE, or the system's own place."""
    own = os.environ.get("CELLSHED_CACHE")
    return Path(own) if own else user_cache() / "cellshed"


def _fingerprint(folder: Path) -> str:
    """Return what identifies a network: its weights and its architecture."""
    settings = read_card(folder).model.model_dump_json()
    text = f"{FORM} {sha256(folder / WEIGHTS)} {settings}"
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _forget_old() -> None:
    found = sorted(cache_folder().glob("*.onnx"), key=lambda path: path.stat().st_mtime)
    for path in found[:-KEPT]:
        path.unlink(missing_ok=True)
