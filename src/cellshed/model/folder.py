"""The model folder: model.safetensors and model.yaml, which say all that prediction needs."""

from pathlib import Path
from typing import Any, Literal

import torch
import yaml
from pydantic import Field
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

import cellshed
from cellshed.config import (
    DecodeSettings,
    ModelSettings,
    NormalizeSettings,
    PredictSettings,
    Settings,
    TargetsSettings,
    to_yaml,
    validate,
)
from cellshed.files import whole_file, write_text
from cellshed.model.panoptic import PanopticNet, build_model

WEIGHTS = "model.safetensors"
CARD = "model.yaml"


class ModelCard(Settings):
    """What model.yaml holds."""

    format: Literal[1] = 1
    cellshed: str = cellshed.__version__
    """Version of the program that wrote it."""
    name: str = ""
    licence: str = ""
    """Licence of the training data, which the weights inherit or may inherit."""
    model: ModelSettings
    normalize: NormalizeSettings
    targets: TargetsSettings = TargetsSettings()
    decode: DecodeSettings = DecodeSettings()
    predict: PredictSettings = PredictSettings()
    data: dict[str, Any] = Field(default_factory=dict)
    """Fingerprints and counts of the stores it was trained on."""
    scores: dict[str, Any] = Field(default_factory=dict)
    """Scores on the validation images, by name."""


def save_model(folder: str | Path, weights: dict[str, Tensor], card: ModelCard) -> None:
    """Write a model folder; the card last, so that a folder with a card is complete."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {k: v.detach().cpu().contiguous() for k, v in weights.items()}
    with whole_file(folder / WEIGHTS) as temporary:
        save_file(tensors, temporary)
    write_card(folder, card)


def write_card(folder: str | Path, card: ModelCard) -> None:
    """Write model.yaml alone, as tuning the decoder does."""
    write_text(Path(folder) / CARD, to_yaml(card))


def find_model(name: str | Path) -> Path:
    """Return the model folder of a path: itself, or the best model of a run folder.

    Raises:
        ValueError: it is neither.
    """
    path = Path(name)
    for folder in (path, path / "best"):
        if (folder / CARD).is_file():
            return folder
    raise ValueError(
        f"model '{name}': no {CARD} in it; give a model folder, or a run folder of cellshed train"
    )


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


def load_weights(net: PanopticNet, folder: str | Path) -> None:
    """Put a model folder's weights into a network of the same architecture.

    Raises:
        ValueError: names or shapes differ.
    """
    weights = read_weights(folder)
    own = net.state_dict()
    for name in own.keys() | weights.keys():
        found = weights[name].shape if name in weights else None
        wanted = own[name].shape if name in own else None
        if found != wanted:
            raise ValueError(
                f"{Path(folder) / WEIGHTS}: '{name}' has shape {_shape(found)}, the network needs "
                f"{_shape(wanted)}: the weights belong to other model settings"
            )
    net.load_state_dict(weights)


def load_network(folder: str | Path) -> tuple[PanopticNet, ModelCard]:
    """Build the network of a model folder and load its weights, ready for inference."""
    card = read_card(folder)
    settings = card.model.model_copy(update={"pretrained": "none"})
    with torch.device("cpu"):
        net = build_model(settings)
    load_weights(net, folder)
    return net.eval(), card


def _shape(shape: torch.Size | None) -> str:
    return "none" if shape is None else str(tuple(shape))
