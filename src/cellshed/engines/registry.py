"""Which engines there are, which one to take, and the network in it.

To add one: a module with `open_model`, and an entry in ENGINES. No engine is imported before it
is used; with another engine than torch, and its file made already, torch isn't either.
"""

import sys
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import cast

from cellshed.cores import cpu_multiplies_bf16
from cellshed.files import sha256
from cellshed.inference import Forward
from cellshed.model.folder import WEIGHTS
from cellshed.spelling import nearest

ON_CPU = ("auto", "cpu")
PRECISIONS = ("fp32", "bf16", "auto")


@dataclass(frozen=True)
class Engine:
    """One way to compute a network's maps."""

    module: str
    """Has open_model(folder, device, precision) -> Forward."""
    packages: tuple[str, ...]
    """What it imports."""
    files: tuple[str, ...]
    """Files in a model folder, the first that is there, that hold the network for it."""
    bf16: bool
    """Whether it computes in bf16 too."""


# On a CPU, the soonest at the labels of a few images first. Torch is a little faster per image, but
# takes seconds more to start, and twice the memory.
ENGINES: dict[str, Engine] = {
    "onnx": Engine("onnx_engine", ("onnxruntime",), ("model.onnx", WEIGHTS), False),
    "openvino": Engine(
        "openvino_engine", ("openvino",), ("model.xml", "model.onnx", WEIGHTS), True
    ),
    "torch": Engine("torch_engine", ("torch",), (WEIGHTS,), True),
}
CONVERTER = "onnx"
"""Package that turns weights into what other engines than torch read."""


def open_engine(name: str, folder: Path, device: str = "auto", precision: str = "fp32") -> Forward:
    """Return the network of a model folder in an engine.

    Args:
        name: of the engine, or auto: torch where there is a GPU, else the fastest installed.
        folder: a model folder, or what `cellshed export` wrote.
        device: auto, cpu, cuda or mps; engines other than torch have the CPU alone.
        precision: fp32 or bf16.

    Raises:
        ValueError: unknown engine or device, not installed, not of that precision, or the folder
            has no network for it.
    """
    name = choose_engine(name, folder, device, precision)
    module = import_module(f"cellshed.engines.{ENGINES[name].module}")
    return cast("Forward", module.open_model(folder, device, precision))


def choose_engine(name: str, folder: Path, device: str = "auto", precision: str = "fp32") -> str:
    """Return the name of the engine that `open_engine` takes, after checking that it can work."""
    if name == "auto":
        return _fastest(folder, device, precision)
    if name not in ENGINES:
        raise ValueError(f"--engine: unknown engine '{name}'; {nearest(name, ('auto', *ENGINES))}")
    lacking = _lacking(name, folder)
    if lacking:
        raise ValueError(
            f"engine '{name}': {', '.join(lacking)} not installed: pip install {' '.join(lacking)}"
        )
    if not network_file(name, folder):
        wanted = " or ".join(ENGINES[name].files)
        raise ValueError(f"{folder}: engine '{name}' needs {wanted}, which isn't there")
    if name != "torch" and device not in ON_CPU:
        raise ValueError(f"engine '{name}' computes on the CPU: use --engine torch for '{device}'")
    if not _suits(name, precision):
        able = " or ".join(other for other in ENGINES if _suits(other, precision))
        raise ValueError(f"engine '{name}' doesn't compute in {precision}: use --engine {able}")
    return name


def choose_precision(wanted: str, engine: str, folder: Path, device: str = "auto") -> str:
    """Return fp32 or bf16.

    Args:
        wanted: fp32, bf16, or auto: bf16 where an engine computes in it that can read the network,
            on hardware that multiplies it; else fp32.
        engine: its name, or auto.
        folder: a model folder, or what `cellshed export` wrote.
        device: auto, cpu, cuda or mps.

    Raises:
        ValueError: unknown precision.
    """
    if wanted not in PRECISIONS:
        raise ValueError(
            f"--precision: unknown precision '{wanted}'; {nearest(wanted, PRECISIONS)}"
        )
    if wanted != "auto":
        return wanted
    able = _usable(folder, device, "bf16") if engine == "auto" else [engine]
    if not able or not ENGINES.get(able[0], ENGINES["torch"]).bf16:
        return "fp32"
    return "bf16" if _multiplies_bf16(device if able[0] == "torch" else "cpu") else "fp32"


def network_file(name: str, folder: Path) -> str:
    """Return the name of the file of a folder that an engine reads, or "" if there is none."""
    return next((file for file in ENGINES[name].files if (folder / file).is_file()), "")


def network_hash(folder: Path) -> str:
    """Return the SHA-256 of the file that holds a folder's weights."""
    files = (WEIGHTS, "model.onnx", "model.bin")
    return sha256(next(folder / file for file in files if (folder / file).is_file()))


def _fastest(folder: Path, device: str, precision: str) -> str:
    return next(iter(_usable(folder, device, precision)), "torch")


def _usable(folder: Path, device: str, precision: str) -> list[str]:
    """Return the engines that can compute a folder's network, the fastest first."""
    wanted = [n for n in ENGINES if _suits(n, precision)] if _on_cpu(device) else ["torch"]
    return [n for n in wanted if network_file(n, folder) and not _lacking(n, folder)]


def _suits(name: str, precision: str) -> bool:
    return precision == "fp32" or ENGINES[name].bf16


def _on_cpu(device: str) -> bool:
    return device == "cpu" or (device == "auto" and not _has_gpu())


def _multiplies_bf16(device: str) -> bool:
    if _on_cpu(device):
        return cpu_multiplies_bf16()
    from cellshed.engines.torch_engine import find_device, multiplies_bf16

    return multiplies_bf16(find_device(device))


def _lacking(name: str, folder: Path) -> list[str]:
    """Return the packages that aren't there and that an engine needs for this folder."""
    convert = name != "torch" and network_file(name, folder) == WEIGHTS
    packages = (*ENGINES[name].packages, CONVERTER) if convert else ENGINES[name].packages
    return [package for package in packages if not is_there(package)]


def is_there(*packages: str) -> bool:
    """Return whether packages are installed, without importing them."""
    return all(find_spec(package) is not None for package in packages)


def _has_gpu() -> bool:
    """Return whether torch has a GPU; on machines that can't have one, without importing torch."""
    traces = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg", "C:/Windows/System32/nvcuda.dll")
    if sys.platform != "darwin" and not any(Path(trace).exists() for trace in traces):
        return False
    from cellshed.engines.torch_engine import find_device

    return find_device("auto").type != "cpu"
