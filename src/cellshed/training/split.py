"""Which images are trained on and which are held back to choose by."""

import hashlib
import json
import warnings
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from cellshed.data.shares import deal
from cellshed.data.store import Store
from cellshed.data.window import Window
from cellshed.settings import TrainingSettings
from cellshed.spelling import counted

FEW = 5
"""With fewer images to train on and none to choose by, a part of each is held back instead."""
_HELD_ROWS = 0.25
FEW_CELLS = 10
"""A choice by fewer cells is chance: fine-tuned on 16 cells, of which it held a quarter back, a
model got worse (docs/finetune.md)."""


def split_stores(
    stores: Sequence[Store], settings: TrainingSettings
) -> tuple[list[Store], list[Store]]:
    """Return the training and the validation part of some stores, empty parts left out.

    Training takes the records of split "train" and those without one ("all"); validation those
    of split "val". Where no store has any, a seeded share of the training images is held back, and
    images of the same pixels leave the training; of fewer than FEW images, the lowest quarter of
    each, with a warning if that has fewer than FEW_CELLS cells. Images of split "test" are never
    touched.

    Raises:
        ValueError: nothing is left to train on or to choose by.
    """
    train = of_splits(stores, "train", "all")
    val = of_splits(stores, "val")
    if not train:
        raise ValueError("no training images in the store: prepare split 'train' too")
    if not val:
        train, val = _hold_back(train, settings)
    return train, val


def _hold_back(
    stores: Sequence[Store], settings: TrainingSettings
) -> tuple[list[Store], list[Store]]:
    count = sum(len(s) for s in stores)
    if count < FEW:
        held: list[Store] = [Window(store, 1 - _HELD_ROWS, 1) for store in stores]
        _warn_of_few(sum(_cells(band) for band in held))
        return [Window(store, 0, 1 - _HELD_ROWS) for store in stores], held
    kin = [(k, *record.together) for k, store in enumerate(stores) for record in store.records]
    seed = [settings.seed, len(set(kin))]
    splits = iter(deal(kin, val=settings.val_fraction, test=0.0, seed=seed))
    dealt = [s.subset(replace(r, split=next(splits)) for r in s.records) for s in stores]
    held = of_splits(dealt, "val")
    return _without(of_splits(dealt, "train"), held), held


def _without(stores: Sequence[Store], others: Sequence[Store]) -> list[Store]:
    """Return the stores without images whose pixels are those of others' images."""
    there = {record.image_hash for store in others for record in store.records} - {""}
    parts = [s.subset(r for r in s.records if r.image_hash not in there) for s in stores]
    return [part for part in parts if len(part)]


def _cells(store: Store) -> int:
    """Count the cells of a store's images, those cut by an edge too."""
    ids = (np.unique(store.labels(i)) for i in range(len(store)))
    return sum(int((found > 0).sum()) for found in ids)


def _warn_of_few(cells: int) -> None:
    if cells < FEW_CELLS:
        warnings.warn(
            f"only {counted(cells, 'annotated cell')} held back to choose by, too few to tell a "
            "better model from a worse one: outline more cells, all of an image if you can",
            stacklevel=2,
        )


def of_splits(stores: Sequence[Store], *splits: str) -> list[Store]:
    """Return the stores with only the images of some splits, empty ones left out."""
    parts = [store.subset(r for r in store.records if r.split in splits) for store in stores]
    return [part for part in parts if len(part)]


def digest(*stores: Store) -> str:
    """Return a hash that tells the images of some stores, with their labels, from any others."""
    told = [[store.hash, *(record.name for record in store.records)] for store in stores]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


def described(stores: Sequence[Store]) -> list[dict[str, str | int]]:
    """Return what a model card says of the images of some stores."""
    return [
        {"hash": s.hash, "images": len(s), "cells": sum(r.n_cells for r in s.records)}
        for s in stores
    ]
