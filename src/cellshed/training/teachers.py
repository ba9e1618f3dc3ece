"""Models whose maps another model learns from, beside the labels (knowledge distillation).

Labels that people drew are noisy; the mean of several models' maps is less so, and says how sure
they are. Hinton et al. 2015, Distilling the knowledge in a neural network.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from cellshed.model.folder import ModelCard, load_network, read_card
from cellshed.settings import Config

_ALIKE = ("normalize", "targets")
"""Sections of the settings in which teachers and pupil have to agree: what they see, and say."""


class Teachers:
    """Some trained networks as one: the mean of their maps.

    Args:
        folders: model folders.
        zoom: at which the pupil will see images; a teacher is shown its crops at the teacher's own.
        device: where they compute.
    """

    def __init__(self, folders: Sequence[Path], zoom: float, device: torch.device) -> None:
        self.cards = [read_card(folder) for folder in folders]
        self._nets: list[nn.Module] = [
            load_network(folder)[0].for_inference().to(device) for folder in folders
        ]
        self._zooms = [card.predict.zoom / zoom for card in self.cards]

    @torch.no_grad()
    def __call__(self, image: Tensor) -> dict[str, Tensor]:
        """Return head name -> (N, channels, S, S) float32 of images (N, C, S, S)."""
        size = image.shape[2:]
        found = [
            {name: _resized(maps, size) for name, maps in net(_enlarged(image, zoom)).items()}
            for net, zoom in zip(self._nets, self._zooms, strict=True)
        ]
        shared = set.intersection(*(set(maps) for maps in found))
        return {name: torch.stack([maps[name] for maps in found]).mean(0) for name in shared}


def open_teachers(folders: Sequence[Path], config: Config, device: torch.device) -> Teachers | None:
    """Load the model folders that teach a training, if there are any.

    Raises:
        ValueError: one of them sees images otherwise, or lacks a head.
    """
    for folder in folders:
        _check(read_card(folder), folder, config)
    return Teachers(folders, config.predict.zoom, device) if folders else None


def _enlarged(image: Tensor, zoom: float) -> Tensor:
    """Return images at a scale, their sides rounded to multiples of 32."""
    return _resized(image, [32 * max(1, round(side * zoom / 32)) for side in image.shape[2:]])


def _resized(maps: Tensor, size: Sequence[int]) -> Tensor:
    if maps.shape[2:] == tuple(size):
        return maps.float()
    return functional.interpolate(maps.float(), tuple(size), mode="bilinear", antialias=True)


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
