"""Training tensors: right, and the same whatever the number of workers or the epochs before."""

import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from cellshed.augment import sample_warp, warp
from cellshed.batches import Crops, loader, steps_per_epoch
from cellshed.config import parse_config
from cellshed.data.store import NOT_ANNOTATED, Record
from cellshed.normalize import normalize, scaling
from cellshed.settings import Config
from cellshed.targets import TARGETS, encode_targets

HEADS = tuple(TARGETS)


class MemoryStore:
    """A store's reading side, in memory."""

    def __init__(self, count=5, shape=(70, 90), cell_type="", channels=1, source=""):
        rng = np.random.default_rng(len(cell_type))
        self.images, self.cells, self.records = [], [], []
        for i in range(count):
            self.images.append(rng.integers(0, 255, (*shape, channels)).astype(np.uint8))
            row, column = np.mgrid[: shape[0], : shape[1]]
            self.cells.append((((row // 12) * 20 + column // 14 + 1) * (row % 12 > 2)).astype("u2"))
            told = f"{cell_type}{i}", "train", cell_type, *shape, channels
            self.records.append(Record(*told, n_cells=1, source=source))

    def __len__(self):
        return len(self.records)

    def image(self, i):
        return self.images[i]

    def labels(self, i):
        return self.cells[i]


def settings(text="", **training) -> Config:
    training = {"crop": 32, "batch_size": 2, "workers": 0} | training
    lines = "".join(f"\n  {key}: {value}" for key, value in training.items())
    return parse_config(f"training:{lines}\nmodel:\n  heads: [{', '.join(HEADS)}]\n{text}")


def batches(stores, config, **options):
    return loader(Crops(stores, config), **options)


def equal(one, other):
    return (
        one["names"] == other["names"]
        and torch.equal(one["image"], other["image"])
        and one["targets"].keys() == other["targets"].keys()
        and all(torch.equal(t, other["targets"][name]) for name, t in one["targets"].items())
    )


def test_a_batch_holds_what_the_network_and_the_losses_take():
    batch = next(iter(batches([MemoryStore()], settings(), epoch=0)))
    assert batch["image"].shape == (2, 1, 32, 32)
    assert batch["image"].dtype == torch.float32
    assert set(batch["targets"]) == set(HEADS)
    for name, target in batch["targets"].items():
        assert target.shape == (2, TARGETS[name].channels, 32, 32)
        if TARGETS[name].loss == "cross_entropy":
            assert (target.sum(dim=1) == 1).all()
    assert len(batch["names"]) == 2


def test_without_augmentation_a_sample_is_a_slice_of_the_normalised_image():
    store = MemoryStore(channels=2)
    still = settings("  in_channels: 2\naugment: {rotation: 0, zoom: [1, 1], flip: false}")
    sample = Crops([store], still).sample(3, epoch=1, number=7)
    whole = normalize(store.images[3], still.normalize)
    offsets = [
        (r, c)
        for r in range(70 - 31)
        for c in range(90 - 31)
        if np.array_equal(whole[r : r + 32, c : c + 32], sample.image)
    ]
    ((row, column),) = offsets
    labels = store.cells[3][row : row + 32, column : column + 32]
    for name, target in encode_targets(labels, HEADS, still.targets).items():
        np.testing.assert_array_equal(sample.targets[name], target)


def test_targets_are_those_of_the_warped_labels():
    store, zoomed = MemoryStore(1), settings("augment: {rotation: 180, zoom: [2, 2]}")
    sample = Crops([store], zoomed).sample(0, epoch=0, number=0)
    rng = np.random.default_rng([zoomed.training.seed, 0, 1])
    how = sample_warp(rng, zoomed.augment, store.cells[0].shape, 32)
    labels = warp(store.images[0], store.cells[0], how, 32)[1]
    assert labels.any()
    for name, target in encode_targets(labels, HEADS, zoomed.targets).items():
        np.testing.assert_array_equal(sample.targets[name], target)


def test_ground_that_nobody_annotated_is_marked_and_has_no_targets():
    store, plain = MemoryStore(2), MemoryStore(2)
    for cells in store.cells:
        cells[:, 40:] = 0
    plain.cells = [cells.astype(np.int32) for cells in store.cells]
    for cells in plain.cells:
        cells[:, 40:] = NOT_ANNOTATED
    for known, whole in zip(
        batches([plain], settings(), epoch=0), batches([store], settings(), epoch=0), strict=True
    ):
        assert whole["pixel_weights"] is None
        assert known["pixel_weights"].dtype == torch.float32
        assert known["pixel_weights"].shape == (2, 1, 32, 32)
        for name, target in known["targets"].items():
            assert torch.equal(target, whole["targets"][name])
    still = Crops([plain], settings("augment: {rotation: 0, zoom: [1, 1], flip: false}"))
    columns = [still.sample(0, 0, n).pixel_weights[:, :, 0].all(axis=0).sum() for n in range(8)]
    assert min(columns) < max(columns) == 32  # crops that end left of column 40 are whole


@pytest.mark.parametrize("workers", [1, 3])
def test_batches_do_not_depend_on_the_number_of_workers(workers):
    alone = list(batches([MemoryStore()], settings(), epoch=2))
    ahead = list(batches([MemoryStore()], settings(workers=workers), epoch=2))
    assert len(alone) == len(ahead) == 3
    assert all(map(equal, alone, ahead))


@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_is_the_same_whatever_went_before_it(workers):
    chosen = settings("augment: {noise: 0.1}", workers=workers, steps_per_epoch=7)
    crops = Crops([MemoryStore()], chosen)
    for earlier in (0, 3):
        next(iter(loader(crops, epoch=earlier)))
    after, alone = list(loader(crops, epoch=4)), list(batches([MemoryStore()], chosen, epoch=4))
    assert len(after) == len(alone) == 7
    assert all(map(equal, after, alone))


def test_processes_share_the_samples_that_one_would_take():
    store = MemoryStore(8)
    alone = list(batches([store], settings(batch_size=4), epoch=0))
    parts = [list(batches([store], settings(), epoch=0, rank=r, world=2)) for r in range(2)]
    assert len(alone) == len(parts[0]) == len(parts[1]) == 2
    for step, whole in enumerate(alone):
        joined = torch.cat([parts[0][step]["image"], parts[1][step]["image"]])
        assert torch.equal(whole["image"], joined)


def test_epochs_seeds_and_samples_differ():
    crops = Crops([MemoryStore()], settings())
    other_seed = Crops([MemoryStore()], settings(seed=1))
    found = [
        crops.sample(0, epoch=0, number=0),
        crops.sample(0, epoch=0, number=1),
        crops.sample(0, epoch=1, number=0),
        other_seed.sample(0, epoch=0, number=0),
    ]
    assert len({sample.image.tobytes() for sample in found}) == 4
    assert crops.order(0, 50) != crops.order(1, 50)
    assert crops.order(0, 50) != other_seed.order(0, 50)


def test_each_image_is_shown_once_before_any_is_shown_again():
    stores = [MemoryStore(4), MemoryStore(3)]
    crops = Crops(stores, settings())
    order = crops.order(epoch=3, length=17)
    for first in (0, 7):
        assert sorted(order[first : first + 7]) == list(range(7))
    assert len(set(order[14:])) == 3
    assert steps_per_epoch(stores, settings().training) == 4
    assert steps_per_epoch(stores, settings().training, world=2) == 2
    assert steps_per_epoch(stores, settings(steps_per_epoch=9).training) == 9


@pytest.mark.parametrize(("balance", "rare"), [(1.0, 1 / 2), (0.5, 1 / (1 + 9**0.5))])
def test_balance_gives_rare_cell_types_more_weight(balance, rare):
    stores = [MemoryStore(1, cell_type="rare"), MemoryStore(9, cell_type="common")]
    order = Crops(stores, settings(balance=balance)).order(epoch=0, length=4000)
    shares = np.bincount(order, minlength=10) / len(order)
    assert shares[0] == pytest.approx(rare, abs=0.03)
    np.testing.assert_allclose(shares[1:], (1 - rare) / 9, atol=0.02)


@pytest.mark.parametrize(("balance", "share"), [(0.0, 3 / 7), (1.0, 3 / 4)])
def test_sources_weigh_as_they_are_told(balance, share):
    stores = [MemoryStore(1, source="mine"), MemoryStore(4, cell_type="x", source="others")]
    weighed = settings(balance=balance, source_weights="{mine: 3}")
    order = Crops(stores, weighed).order(epoch=0, length=4000)
    assert np.mean(np.array(order) == 0) == pytest.approx(share, abs=0.03)


def test_an_image_is_measured_once(monkeypatch):
    measured = []
    monkeypatch.setattr(
        "cellshed.batches.scaling", lambda *told: measured.append(told) or scaling(*told)
    )
    crops = Crops([MemoryStore(2), MemoryStore(1, cell_type="x")], settings())
    for item in (0, 1, 2, 2, 1, 0, 0):
        crops.sample(item, epoch=0, number=item)
    assert len(measured) == 3


def test_an_unknown_source_is_refused():
    with pytest.raises(ValueError, match=r"source_weights: no training image is of 'mime'; did"):
        Crops([MemoryStore(1, source="mine")], settings(source_weights="{mime: 3}"))


def test_cells_are_pasted_into_as_many_crops_as_asked_for():
    def crops(paste):
        chosen = Crops([MemoryStore(1)], settings(f"augment: {{paste: {paste}}}"))
        return [chosen.sample(0, epoch=0, number=n) for n in range(40)]

    assert len(equal_images(crops(0.0), crops(0.0))) == 40
    assert len(equal_images(crops(0.0), crops(1.0))) == 0
    assert 10 < len(equal_images(crops(0.0), crops(0.5))) < 30


def equal_images(some, others):
    return [a for a, b in zip(some, others, strict=True) if np.array_equal(a.image, b.image)]


@pytest.mark.parametrize("method", ["histogram", "percentile", "none"])
def test_each_method_normalises_by_the_whole_image(method):
    store = MemoryStore(1)
    chosen = settings(f"normalize: {{method: {method}, kernel_size: 16}}")
    sample = Crops([store], chosen).sample(0, epoch=0, number=0)
    whole = normalize(store.images[0], chosen.normalize)
    # Interpolated values lie between those of the whole image.
    assert whole.min() <= sample.image.min() < sample.image.max() <= whole.max()
    assert sample.image.std() > whole.std() / 3


@pytest.mark.parametrize("shape", [(1, 1), (5, 200), (32, 32)])
def test_images_smaller_than_the_crop_are_mirrored(shape):
    sample = Crops([MemoryStore(1, shape)], settings()).sample(0, epoch=0, number=0)
    assert sample.image.shape == (32, 32, 1)
    assert np.isfinite(sample.image).all()


@pytest.mark.parametrize("workers", [0, 2])
def test_an_image_that_cannot_be_used_is_named(workers):
    store = MemoryStore(2)
    store.images[1] = np.full((70, 90), np.nan)
    with pytest.raises(ValueError, match="image '1': 6300 pixel values are NaN"):
        list(batches([store], settings(workers=workers), epoch=0))
    with pytest.raises(ValueError, match=r"image '\d': 3 channels.*model.in_channels=3"):
        list(batches([MemoryStore(channels=3)], settings(workers=workers), epoch=0))
    with pytest.raises(ValueError, match="no training images"):
        batches([MemoryStore(0)], settings(), epoch=0)


def test_work_ahead_stops_when_nobody_takes_the_batches():
    class Slow(MemoryStore):
        asked = 0

        def image(self, i):
            Slow.asked += 1
            time.sleep(0.001)
            return super().image(i)

    coming = batches([Slow()], settings(workers=2, steps_per_epoch=500), epoch=0)
    next(coming)
    coming.close()
    assert Slow.asked <= 12  # never more than four batches of two ahead
    before = Slow.asked
    time.sleep(0.05)
    assert Slow.asked == before


def test_records_may_carry_any_name():
    store = MemoryStore(1)
    store.records[0] = replace(store.records[0], name="naïve/cell 7")
    assert next(iter(batches([store], settings(), epoch=0)))["names"] == ["naïve/cell 7"] * 2
