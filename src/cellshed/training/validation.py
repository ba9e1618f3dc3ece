"""Loss and object F1 of a network on whole validation images."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cellshed.data.store import Store
from cellshed.engines.torch_engine import over_arrays
from cellshed.inference import Maps, predict_maps
from cellshed.metrics.scores import score
from cellshed.normalize import as_taken, normalize
from cellshed.pixel_weights import pixel_weights
from cellshed.scale import resize_labels, zoomed
from cellshed.settings import Config
from cellshed.targets import TARGETS, encode_targets
from cellshed.training.losses import head_losses, loss_weights
from cellshed.training.run import Row
from cellshed.watershed import decode

Image = tuple[Store, int]
_SMALLEST_P = 1e-7
"""Probabilities below this count as this in the validation loss, as in the reference."""


def spread(stores: Sequence[Store], at_most: int) -> list[Image]:
    """Return (store, index) of at most so many images, evenly spread; 0: all."""
    images = [(store, i) for store in stores for i in range(len(store))]
    if not at_most or len(images) <= at_most:
        return images
    return [images[i] for i in np.linspace(0, len(images) - 1, at_most).round().astype(int)]


def validate_images(
    forward: Callable[[Tensor], dict[str, Tensor]],
    images: Sequence[Image],
    config: Config,
    device: torch.device | str,
) -> NDArray[np.float64]:
    """Return sums over images: count, loss, then true positives, false positives, negatives.

    Sums, so that several processes can add theirs.
    """
    total = np.zeros(5)
    for store, i in images:
        labels = np.asarray(store.labels(i), dtype=np.int32)
        image = as_taken(store.image(i), config.model.in_channels)
        shown = zoomed(image, config.predict.zoom)
        normalised = normalize(shown, config.normalize)
        maps = predict_maps(over_arrays(forward, device), normalised, config.predict)
        decoded = resize_labels(decode(maps, config.decode), labels.shape)
        counts = score(labels, decoded)["thresholds"]["0.50"]
        found = [counts[name] for name in ("tp", "fp", "fn")]
        total += [1, _loss(maps, resize_labels(labels, shown.shape[:2]), config), *found]
    return total


def to_row(total: NDArray[np.float64]) -> Row:
    """Turn validate_images' sums into the columns of history.csv."""
    count, loss, tp, fp, fn = total
    objects = 2 * tp + fp + fn
    return {
        "val_loss": float(loss / count),
        "val_f1": float(2 * tp / objects) if objects else 0.0,
        "val_precision": float(tp / (tp + fp)) if tp + fp else 0.0,
        "val_recall": float(tp / (tp + fn)) if tp + fn else 0.0,
    }


def _loss(maps: Maps, labels: NDArray[np.int32], config: Config) -> float:
    encoded = encode_targets(np.maximum(labels, 0), config.model.heads, config.targets)
    targets = {
        name: torch.from_numpy(target).permute(2, 0, 1)[None] for name, target in encoded.items()
    }
    logits = {name: _logits(name, maps[name]) for name in targets}
    pixels = torch.from_numpy(pixel_weights(labels, config.training.cell_weights))[None, None]
    losses = head_losses(logits, targets, config.training, pixels)
    weights = loss_weights(config.model.heads, config.training)
    return sum(weights[name] * loss.item() for name, loss in losses.items())


def _logits(name: str, values: NDArray[np.float32]) -> Tensor:
    """Return a map as (1, C, H, W) whose softmax, where it has one, is the map again."""
    tensor = torch.from_numpy(values).permute(2, 0, 1)[None]
    if TARGETS[name].activation == "softmax":
        return tensor.clamp_min(_SMALLEST_P).log()
    return tensor
