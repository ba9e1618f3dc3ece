"""Models whose maps another model learns from, beside the labels (knowledge distillation).

Labels that people drew are noisy; the mean of several models' maps is less so, and says how sure
they are. Hinton et al. 2015, Distilling the knowledge in a neural network.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from cellshed.config import Config
from cellshed.model.folder import ModelCard, find_model, load_network, read_card

_ALIKE = ("normalize", "targets")
"""Sections of the settings in which teachers and pupil have to agree: what they see, and say."""


class Teachers:
    """Some trained networks as one: the mean of their maps.

    Args:
        folders: model folders.
        device: where they compute.
    """

    def __init__(self, folders: Sequence[Path], device: torch.device) -> None:
        self.cards = [read_card(folder) for folder in folders]
        self._nets: list[nn.Module] = [
            load_network(folder)[0].for_inference().to(device) for folder in folders
        ]

    @torch.no_grad()
    def __call__(self, image: Tensor) -> dict[str, Tensor]:
        """Return head name -> (N, channels, S, S) float32 of images (N, C, S, S)."""
        found = [net(image) for net in self._nets]
        shared = set.intersection(*(set(maps) for maps in found))
        return {name: torch.stack([m[name].float() for m in found]).mean(0) for name in shared}


def open_teachers(
    models: Sequence[str | Path], config: Config, device: torch.device
) -> Teachers | None:
    """Load the models that teach a training, if there are any.

    Raises:
        ValueError: one of them sees images otherwise, or lacks a head.
    """
    folders = [find_model(model) for model in models]
    for folder in folders:
        _check(read_card(folder), folder, config)
    return Teachers(folders, device) if folders else None


def _check(card: ModelCard, folder: Path, config: Config) -> None:
    """Refuse a teacher that would say something about other images, or other things."""
    for section in _ALIKE:
        if getattr(card, section) != getattr(config, section):
            raise ValueError(
                f"teacher {folder}: its settings of {section} aren't those of this training; "
                "train both alike"
            )
    if card.model.in_channels != config.model.in_channels:
        raise ValueError(
            f"teacher {folder}: it takes {card.model.in_channels} channels, this training "
            f"{config.model.in_channels}"
        )
    lacking = [head for head in config.model.heads if head not in card.model.heads]
    if lacking:
        raise ValueError(f"teacher {folder}: it has no head {', '.join(lacking)}")
