"""Images as a model sees them, with their true labels: what a decoder is tuned on."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellshed.data.store import Store
from cellshed.predict import Segmenter
from cellshed.rivals import View

Image = tuple[Sequence[View], NDArray[Any]]
"""An image as seen at each of the model's scales, and its true labels."""

TURNS = ((0, 1), (2, 1), (1, 1), (3, 1), (0, -1), (2, -1), (1, -1), (3, -1))
"""Quarter turns, and the step along columns after them, of an image and its seven copies."""


def views_of(segmenter: Segmenter, stores: Sequence[Store], turns: int = 1) -> list[list[Image]]:
    """Return, for each store, the views of its images, with their labels.

    Args:
        segmenter: the model.
        stores: with labelled images.
        turns: in how many of its eight turned and mirrored copies, itself the first, each image
            is seen. A model says something else of each, as it would of another such image.

    Raises:
        ValueError: turns isn't 1 to 8.
    """
    if not 1 <= turns <= len(TURNS):
        raise ValueError(f"turns {turns}: an image has 1 to {len(TURNS)}, itself the first")
    return [
        [_seen(segmenter, store, i, turn) for i in range(len(store)) for turn in TURNS[:turns]]
        for store in stores
    ]


def _seen(segmenter: Segmenter, store: Store, index: int, turn: tuple[int, int]) -> Image:
    labels = np.asarray(store.labels(index), dtype=np.int32)
    return segmenter.views(_turned(store.image(index), turn)), _turned(labels, turn)


def _turned(array: NDArray[Any], turn: tuple[int, int]) -> NDArray[Any]:
    """Return an array (H, W) or (H, W, C) turned by quarters, then mirrored where told."""
    quarters, step = turn
    return np.ascontiguousarray(np.rot90(array, quarters)[:, ::step])
