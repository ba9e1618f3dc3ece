"""Start weights of a backbone from a file, in whatever names its maker gave them."""

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from cellshed.model.backbones import Backbone

PACKAGE = "package:"
SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")

State = dict[str, Tensor]


def load_backbone_weights(backbone: Backbone, source: str) -> None:
    """Give a backbone the weights of a file.

    Names are taken as they are where they fit, with or without a prefix that all of them have.
    Where they don't, as from another library, the file must hold the same layers in the same
    order: tensor by tensor the last word of the name and the shape must agree. What the file
    has beyond the backbone's last layer, such as a classifier, is left out.

    Args:
        backbone: its body's names are timm's, which are torchvision's for ResNet and DenseNet.
        source: path of a .safetensors or .pth file, or "package:NAME" for the one weights file
            inside an installed package, or "package:NAME/PATH/INSIDE".

    Raises:
        ValueError: no such file, not a weights file, or weights of another network.
    """
    path = find_weights(source)
    state = backbone.adapt(read_weights(path))
    own = getattr(backbone, "body", backbone).state_dict()
    matched = _match_names(own, state) or _match_order(own, state)
    if matched is None:
        raise ValueError(
            f"pretrained '{source}': {_difference(own, state)}; give the weights of the backbone "
            "that the settings name, or pretrained: none"
        )
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(matched[name])


def find_weights(source: str) -> Path:
    """Return the path that a `pretrained` setting means.

    Raises:
        ValueError: nothing there.
    """
    if not source.startswith(PACKAGE):
        path = Path(source)
        if not path.is_file():
            raise ValueError(
                f"pretrained '{source}': no such file; give none, hub, a path, or package:NAME"
            )
        return path
    name, _, inside = source.removeprefix(PACKAGE).partition("/")
    spec = importlib.util.find_spec(name) if name.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise ValueError(
            f"pretrained '{source}': package '{name}' is not installed; install it, or give a path"
        )
    folder = Path(next(iter(spec.submodule_search_locations)))
    found = [folder / inside] if inside else _weight_files(folder)
    if len(found) != 1 or not found[0].is_file():
        files = ", ".join(str(path.relative_to(folder)) for path in _weight_files(folder))
        raise ValueError(
            f"pretrained '{source}': choose one of the package's weights files as "
            f"{PACKAGE}{name}/FILE; it has {files or 'none'}"
        )
    return found[0]


def read_weights(path: Path) -> State:
    """Read named tensors; a file that would run code is refused.

    Raises:
        ValueError: not a weights file.
    """
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (
        SafetensorError,
        UnpicklingError,
        RuntimeError,
        EOFError,
        KeyError,
        ValueError,
    ) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{path}: not a file of plain weights: {reason}") from error
    for key in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping):
        raise ValueError(f"{path}: holds a {type(content).__name__}, not named tensors")
    return {str(name): value for name, value in content.items() if isinstance(value, Tensor)}


def _weight_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix in SUFFIXES)


def _match_names(own: State, state: State) -> State | None:
    """Return the file's tensors by the backbone's names, if a prefix makes the names agree."""
    first = next(iter(own))
    for prefix in (name.removesuffix(first) for name in state if name.endswith(first)):
        matched = {name: state[prefix + name] for name in own if prefix + name in state}
        if _same_shapes(own, matched):
            return matched
    return None


def _match_order(own: State, state: State) -> State | None:
    """Return the file's tensors by the backbone's names, if the layers agree in their order."""
    ours = [name for name in own if not name.endswith("num_batches_tracked")]
    theirs = [name for name in state if not name.endswith("num_batches_tracked")]
    pairs = list(zip(ours, theirs, strict=False))
    if any(a.rpartition(".")[2] != b.rpartition(".")[2] for a, b in pairs):
        return None
    matched = own | {a: state[b] for a, b in pairs}
    return matched if len(pairs) == len(ours) and _same_shapes(own, matched) else None


def _same_shapes(own: State, matched: State) -> bool:
    return own.keys() == matched.keys() and all(
        tensor.shape == matched[name].shape for name, tensor in own.items()
    )


def _difference(own: State, state: State) -> str:
    """Return in words the first difference between a backbone and a file."""
    missing = [name for name in own if name not in state]
    if len(missing) < len(own):
        if missing:
            return f"{len(missing)} tensors are missing, the first is {missing[0]}"
        name = next(name for name in own if own[name].shape != state[name].shape)
        return f"{name} is {tuple(state[name].shape)}, expected {tuple(own[name].shape)}"
    return f"none of its {len(state)} names or shapes fit; the first is {next(iter(state), None)}"
