"""Validation looks at annotated ground alone."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cellshed.config import parse_config
from cellshed.data.images import write_labels
from cellshed.data.prepare import prepare
from cellshed.training.validation import to_row, validate_images


def test_what_the_network_says_of_unknown_ground_changes_nothing(tmp_path: Path) -> None:
    labels = np.zeros((64, 64), np.int32)
    labels[10:30, 5:25], labels[:, 32:] = 1, -1
    write_labels(tmp_path / "set/labels/a.tif", labels)
    write_labels(tmp_path / "set/images/a.tif", np.arange(64 * 64).reshape(64, 64) % 251)
    store = prepare(tmp_path / "set", tmp_path / "store")
    config = parse_config("model: {heads: [inner_distance, pixelwise]}")

    def network(right: float) -> dict[str, float]:
        def forward(image: Tensor) -> dict[str, Tensor]:
            seen = torch.full((len(image), 1, *image.shape[2:]), 0.1)
            seen[:, :, 10:30, 5:25] = 0.9
            seen[..., 32:] = right
            background = torch.cat([seen / 9, seen, 1 - seen - seen / 9], 1)
            return {"inner_distance": seen, "pixelwise": background}

        return to_row(validate_images(forward, [(store, 0)], config, "cpu"))

    some, other = network(0.3), network(0.7)
    assert some == other
    assert some["val_loss"] > 0
