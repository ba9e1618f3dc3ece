"""The model folder: model.safetensors and model.yaml, which say all that prediction needs.

Some model folders ship inside the package and are known by their names. Cards are read without
torch, which takes seconds to import.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml
from pydantic import Field
from safetensors import SafetensorError

import cellshed
from cellshed.config import to_yaml, validate
from cellshed.files import whole_file, write_text
from cellshed.settings import (
    CalibrationSettings,
    DecodeSettings,
    ModelSettings,
    NormalizeSettings,
    PredictSettings,
    Settings,
    TargetsSettings,
)
from cellshed.spelling import nearest

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from cellshed.model.panoptic import PanopticNet

WEIGHTS = "model.safetensors"
CARD = "model.yaml"
SHIPPED = Path(cellshed.__file__).parent / "shipped"
"""Folder of the models inside the package, one folder each."""
DEFAULT = "phase"
"""Name of the shipped model that is taken where none is named."""


class ModelCard(Settings):
    """What model.yaml holds."""

    format: Literal[1] = 1
    cellshed: str = cellshed.__version__
    """Version of the program that wrote it."""
    name: str = ""
    summary: str = ""
    """What it is good for, in one sentence."""
    licence: str = ""
    """Licence of the training data, which the weights inherit or may inherit."""
    model: ModelSettings
    normalize: NormalizeSettings
    targets: TargetsSettings = TargetsSettings()
    decode: DecodeSettings = DecodeSettings()
    calibration: CalibrationSettings | None = None
    """What confidences mean; None: they are ranks alone. Fitted by tune, with `decode`."""
    predict: PredictSettings = PredictSettings()
    data: dict[str, Any] = Field(default_factory=dict)
    """Fingerprints and counts of the stores it was trained on."""
    recipe: dict[str, Any] = Field(default_factory=dict)
    """How to make it again: commit, settings file and its fingerprint."""
    scores: dict[str, Any] = Field(default_factory=dict)
    """Scores on the validation images, by name; of a shipped model also those of test sets."""


def save_model(
    folder: str | Path, weights: dict[str, Tensor], card: ModelCard, *, half: bool = False
) -> None:
    """Write a model folder; the card last, so that a folder with a card is complete.

    Args:
        folder: to write.
        weights: by name.
        card: what model.yaml says.
        half: write kernels, tensors of two or more axes, in half precision, which they are read
            from as float32. Biases and the norms' statistics, small and wide in range, are kept.
    """
    from safetensors.torch import save_file

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {k: v.detach().cpu().contiguous() for k, v in weights.items()}
    if half:
        tensors = {k: v.half() if _is_kernel(v) else v for k, v in tensors.items()}
    origin = {k: v for k, v in card.recipe.items() if isinstance(v, str)}
    with whole_file(folder / WEIGHTS) as temporary:
        save_file(tensors, temporary, metadata=origin or None)
        temporary.chmod(0o644)  # safetensors lets nobody but the owner read
    write_card(folder, card)


def write_card(folder: str | Path, card: ModelCard) -> None:
    """Write model.yaml alone, as tuning the decoder does."""
    write_text(Path(folder) / CARD, to_yaml(card))


def shipped_models() -> dict[str, Path]:
    """Return the models inside the package: name -> folder."""
    return {card.parent.name: card.parent for card in sorted(SHIPPED.glob(f"*/{CARD}"))}


def is_shipped(folder: str | Path) -> bool:
    """Tell whether a model folder belongs to the package, where nothing may be rewritten."""
    return SHIPPED.resolve() in Path(folder).resolve().parents


def find_model(name: str | Path | None = None) -> Path:
    """Return a model's folder.

    Args:
        name: a model folder; a run folder, for its best model; else the name of a shipped model.
            None: the shipped model `phase`, whatever folders there are.

    Raises:
        ValueError: there is no such model; the nearest name is offered.
    """
    known = shipped_models()
    if name is None:
        if DEFAULT not in known:
            raise ValueError(
                "--model is missing, and this installation has no model of its own: give a model "
                "folder, or a run folder of cellshed train"
            )
        return known[DEFAULT]
    path = Path(name)
    for folder in (path, path / "best"):
        if (folder / CARD).is_file():
            return folder
    if str(name) in known:
        return known[str(name)]
    if path.exists():
        reason = f"no {CARD} in it"
    else:
        reason = "no such folder"
        if known:
            reason += f", and no shipped model of that name ({nearest(str(name), known)})"
    raise ValueError(
        f"model '{name}': {reason}; give a model folder, or a run folder of cellshed train"
    )


def describe_shipped() -> list[str]:
    """Return a few lines on each model of the package: size, licence, what for, scores."""
    lines = []
    for name, folder in shipped_models().items():
        card = read_card(folder)
        size = (folder / WEIGHTS).stat().st_size / 1e6
        lines += [f"{name}: {card.summary or 'no summary'}", f"  {size:.1f} MB, in {folder}"]
        lines.append(f"  licence of the training data: {card.licence or 'not stated'}")
        tests: dict[str, Any] = card.scores.get("test", {})
        for of_set, scores in tests.items():
            low, high = scores["interval"]
            lines.append(
                f"  {of_set}: object F1 at IoU 0.5: {scores['f1']:.2f} [{low:.2f}, {high:.2f}]"
            )
    return lines or ["no model ships with this installation; make models DATA=... makes them"]


def read_card(folder: str | Path) -> ModelCard:
    """Read model.yaml.

    Raises:
        ValueError: it isn't one, with the reason.
    """
    path = Path(folder) / CARD
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not a model card: {str(error).splitlines()[0]}") from error
    if not isinstance(tree, dict):
        raise ValueError(f"{path}: not a model card: expected keys such as 'model:'")
    return validate(ModelCard, tree, str(path))


def read_weights(folder: str | Path) -> dict[str, Tensor]:
    """Read the weights as float32. Runs no code from the file, whatever it is.

    Raises:
        ValueError: the file is missing or isn't safetensors.
    """
    from safetensors.torch import load_file

    path = Path(folder) / WEIGHTS
    try:
        tensors = load_file(path)
    except FileNotFoundError as error:
        raise ValueError(f"{path}: missing; the model folder isn't complete") from error
    except SafetensorError as error:
        raise ValueError(
            f"{path}: not a safetensors file ({error}); other formats can run code when they are "
            "loaded and are refused"
        ) from error
    return {k: v.float() if v.is_floating_point() else v for k, v in tensors.items()}


def load_weights(net: PanopticNet, folder: str | Path, *, partly: bool = False) -> list[str]:
    """Put a model folder's weights into a network of the same architecture.

    Args:
        net: the network.
        folder: model folder.
        partly: heads and pyramid layers that the folder lacks, or has in another shape, keep the
            weights they have; the backbone must be the same.

    Returns:
        Those that kept theirs, such as "heads.inner_distance" and "pyramid.laterals.c2".

    Raises:
        ValueError: names or shapes differ.
    """
    weights, own = read_weights(folder), net.state_dict()
    anew: set[str] = set()
    if partly:
        taken = _same_parts(weights, own)
        anew = _parts(own) - taken
        weights = {k: v for k, v in weights.items() if _part(k) in {None, *taken}}
        weights |= {k: v for k, v in own.items() if _part(k) in anew}
    for name in own.keys() | weights.keys():
        found = weights[name].shape if name in weights else None
        wanted = own[name].shape if name in own else None
        if found != wanted:
            raise ValueError(
                f"{Path(folder) / WEIGHTS}: '{name}' has shape {_shape(found)}, the network needs "
                f"{_shape(wanted)}: the weights belong to other model settings"
            )
    net.load_state_dict(weights)
    return sorted(anew)


_PARTS = re.compile(r"heads\.\w+|pyramid\.\w+\.[cp]\d")
"""A head, or a layer of one pyramid level, in the names of its weights."""


def _part(name: str) -> str | None:
    """Return the part that a weight belongs to, None for the backbone."""
    found = _PARTS.match(name)
    return found[0] if found else None


def _parts(names: Iterable[str]) -> set[str]:
    return {part for name in names if (part := _part(name)) is not None}


def _same_parts(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> set[str]:
    """Return the parts that both have with the same names and shapes."""
    different = {
        _part(name)
        for name in first.keys() | second.keys()
        if name not in first or name not in second or first[name].shape != second[name].shape
    }
    return (_parts(first) & _parts(second)) - different


def load_network(folder: str | Path) -> tuple[PanopticNet, ModelCard]:
    """Build the network of a model folder and load its weights, ready for inference."""
    import torch

    from cellshed.model.panoptic import build_model

    card = read_card(folder)
    settings = card.model.model_copy(update={"pretrained": "none"})
    with torch.device("cpu"):
        net = build_model(settings)
    load_weights(net, folder)
    return net.eval(), card


def _is_kernel(tensor: Tensor) -> bool:
    return tensor.is_floating_point() and tensor.ndim > 1


def _shape(shape: torch.Size | None) -> str:
    return "none" if shape is None else str(tuple(shape))
