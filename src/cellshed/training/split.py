"""Which images are trained on and which are held back to choose by."""

from collections.abc import Sequence

import numpy as np

from cellshed.config import TrainingSettings
from cellshed.data.store import Store


def split_stores(
    stores: Sequence[Store], settings: TrainingSettings
) -> tuple[list[Store], list[Store]]:
    """Return the training and the validation part of some stores, empty parts left out.

    Training takes the records of split "train" and those without one ("all"); validation those
    of split "val". Where no store has any, a seeded share of the training images is held back.
    Images of split "test" are never touched.

    Raises:
        ValueError: nothing is left to train on or to choose by.
    """
    train = _of(stores, "train", "all")
    val = _of(stores, "val")
    if not train:
        raise ValueError("no training images in the store: prepare split 'train' too")
    if not val:
        train, val = _hold_back(train, settings)
    return train, val


def _hold_back(
    stores: Sequence[Store], settings: TrainingSettings
) -> tuple[list[Store], list[Store]]:
    count = sum(len(s) for s in stores)
    if count < 2:
        raise ValueError(
            f"{count} training image and no split 'val': at least two images are needed, "
            "one of them to choose the best model by"
        )
    held = max(1, round(settings.val_fraction * count))
    order = np.random.default_rng([settings.seed, count]).permutation(count)
    chosen = set(order[:held].tolist())
    train, val, first = [], [], 0
    for store in stores:
        numbered = list(enumerate(store.records, first))
        val.append(store.subset(record for n, record in numbered if n in chosen))
        train.append(store.subset(record for n, record in numbered if n not in chosen))
        first += len(store)
    return [s for s in train if len(s)], [s for s in val if len(s)]


def _of(stores: Sequence[Store], *splits: str) -> list[Store]:
    parts = [store.subset(r for r in store.records if r.split in splits) for store in stores]
    return [part for part in parts if len(part)]
