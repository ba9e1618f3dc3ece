"""What is trained on, and what is held back to choose by."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile

from cellshed.config import load_config
from cellshed.data.prepare import prepare
from cellshed.data.store import Store
from cellshed.training.split import FEW, FEW_CELLS, split_stores


def test_of_few_images_a_part_of_each_is_held_back(tiny_store: Store) -> None:
    one = tiny_store.subset(tiny_store.select("train").records[:1])
    (train_part,), (val_part,) = split_stores([one], load_config("finetune").training)
    height = one.records[0].height
    assert train_part.records[0].height + val_part.records[0].height == height
    both = np.concatenate([train_part.image(0), val_part.image(0)])
    np.testing.assert_array_equal(both, one.image(0))
    both = np.concatenate([train_part.labels(0), val_part.labels(0)])
    np.testing.assert_array_equal(both, one.labels(0))


def test_of_more_images_whole_ones_are_held_back(tiny_store: Store) -> None:
    some = tiny_store.subset(tiny_store.select("train").records[:FEW])
    train_parts, val_parts = split_stores([some], load_config("finetune").training)
    assert (len(train_parts[0]), len(val_parts[0])) == (FEW - 1, 1)
    assert val_parts[0].image(0).shape == some.image(0).shape


def test_no_image_is_in_both_parts(tiny_store: Store) -> None:
    some = tiny_store.subset(replace(r, split="all", well="") for r in tiny_store.records)
    assert len(some) >= FEW
    for seed in range(5):
        settings = load_config("finetune", [f"training.seed={seed}"]).training
        parts = split_stores([some, some.subset(some.records)], settings)
        train, val = ({r.image_hash for s in part for r in s.records} for part in parts)
        assert val
        assert train
        assert not train & val


def test_images_of_a_well_are_held_back_together(tiny_store: Store) -> None:
    first = tiny_store.select("train").records[0]
    records = [replace(first, name=f"{k}", well=f"W{k // 4}", image_hash=f"{k}") for k in range(80)]
    (train_part,), (val_part,) = split_stores(
        [tiny_store.subset(records)], load_config("finetune").training
    )
    assert (len(train_part), len(val_part)) == (72, 8)
    assert not {r.well for r in train_part.records} & {r.well for r in val_part.records}


def _store_of(cells: int, folder: Path) -> Store:
    """An image with so many cells in its lowest quarter, more above, and ground not annotated."""
    labels = np.zeros((64, 64), np.int32)
    labels[:40] = np.arange(64)
    labels[60, : 3 * cells : 3] = 1 + np.arange(cells)
    labels[62] = 255
    for kind, array in (("images", labels), ("labels", labels)):
        (folder / kind).mkdir(parents=True)
        tifffile.imwrite(folder / kind / "one.tif", array.astype(np.uint8))
    return prepare([folder], folder / "store", not_annotated=255)


@pytest.mark.filterwarnings("error")
def test_a_choice_by_few_cells_is_warned_of(tmp_path: Path) -> None:
    settings = load_config("finetune").training
    split_stores([_store_of(FEW_CELLS, tmp_path / "enough")], settings)
    with pytest.warns(UserWarning, match=r"only 9 annotated cells held back.*outline more"):
        split_stores([_store_of(FEW_CELLS - 1, tmp_path / "few")], settings)
