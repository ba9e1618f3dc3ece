"""A store gives back what was put in, and opens only when it is whole."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest

from cellshed.data.store import (
    Record,
    Store,
    array_hash,
    manifest_of,
    open_store,
    save_arrays,
    write_manifest,
)

IMAGES: dict[str, np.ndarray] = {
    "a": np.arange(35, dtype=np.uint16).reshape(5, 7),
    "b": np.arange(72, dtype=np.float32).reshape(4, 6, 3),
    "c": np.arange(12, dtype=np.uint8).reshape(3, 4),
}
SPLITS = {"a": "train", "b": "train", "c": "test"}
TYPES = {"a": "A172", "b": "BV2", "c": "A172"}


def labels_of(name: str) -> np.ndarray:
    labels = np.zeros(IMAGES[name].shape[:2], np.int32)
    labels[1:3, 1:4] = 70_000 if name == "b" else 2
    return labels


def record(name: str) -> Record:
    image = IMAGES[name]
    channels = 1 if image.ndim == 2 else image.shape[2]
    height, width = image.shape[:2]
    return Record(name, SPLITS[name], TYPES[name], height, width, channels, 1)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    folder = tmp_path / "store"
    folder.mkdir()
    for name, image in IMAGES.items():
        save_arrays(folder, name, image, labels_of(name))
    manifest = manifest_of(map(record, IMAGES), {"sources": [{"path": "x"}]})
    write_manifest(folder / "manifest.json", manifest)
    return folder


def test_arrays_come_back(path: Path) -> None:
    store = open_store(path)
    assert [r.name for r in store.records] == ["a", "b", "c"]
    for index, (name, image) in enumerate(IMAGES.items()):
        np.testing.assert_array_equal(store.image(index), image)
        assert store.image(index).dtype == image.dtype
        np.testing.assert_array_equal(store.labels(index), labels_of(name))
    assert store.labels(0).dtype == np.uint16
    assert store.labels(1).dtype == np.int32
    with pytest.raises(ValueError, match="read-only"):
        store.image(0)[0, 0] = 1


@pytest.mark.parametrize(
    ("top", "left", "height", "width"), [(0, 0, 9, 9), (1, 2, 2, 3), (2, 3, 1, 9)]
)
def test_crop_is_that_part_of_the_whole(
    path: Path, top: int, left: int, height: int, width: int
) -> None:
    store = open_store(path)
    for index in range(3):
        image, labels = store.crop(index, top, left, height, width)
        part = np.s_[top : top + height, left : left + width]
        np.testing.assert_array_equal(image, store.image(index)[part])
        np.testing.assert_array_equal(labels, store.labels(index)[part])
        image[...] = 0  # a copy: the store stays as it is
    np.testing.assert_array_equal(store.image(0), IMAGES["a"])


def test_crop_outside_the_image_is_named(path: Path) -> None:
    store = open_store(path)
    for top, left in ((5, 0), (0, 7), (-1, 0)):
        with pytest.raises(ValueError, match=f"crop at row {top}, column {left}: image a is 5x7"):
            store.crop(0, top, left, 2, 2)


def test_select_by_split_and_cell_type(path: Path) -> None:
    store = open_store(path)
    train = store.select("train")
    assert [r.name for r in train.records] == ["a", "b"]
    assert [r.name for r in train.select(cell_types=["BV2"]).records] == ["b"]
    np.testing.assert_array_equal(store.select("test").image(0), IMAGES["c"])
    assert len(store) == 3
    assert train.hash == store.hash


@pytest.mark.parametrize(
    ("split", "cell_types", "message"),
    [
        ("tset", None, "no split 'tset' in it; did you mean 'test'"),
        ("val", None, "no split 'val'"),
        (None, ["a127"], "no cell type 'a127' in it; did you mean 'A172'"),
        ("test", ["BV2"], "no cell type 'BV2'"),
    ],
)
def test_unknown_choice_offers_the_nearest(
    path: Path, split: str | None, cell_types: list[str] | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        open_store(path).select(split, cell_types)


def test_store_travels_to_other_processes(path: Path) -> None:
    store = open_store(path)
    store.crop(0, 0, 0, 2, 2)
    other: Store = pickle.loads(pickle.dumps(store))
    np.testing.assert_array_equal(other.image(1), IMAGES["b"])
    assert other.records == store.records


def test_many_images_need_no_open_files(path: Path) -> None:
    store = open_store(path)
    for _ in range(3):
        for index in range(3):
            store.crop(index, 0, 0, 2, 2)
    fds = Path("/proc/self/fd")
    if fds.is_dir():
        targets = [fd.resolve() for fd in fds.iterdir()]
        assert not [target for target in targets if path in target.parents]


def test_hash_covers_content_but_no_place() -> None:
    records = [record("a")]
    here = manifest_of(records, {"overlap": "x", "sources": ["/here"]})["hash"]
    there = manifest_of(records, {"sources": ["/there"], "overlap": "x"})["hash"]
    assert here == there
    assert len(here) == 64
    assert manifest_of(records, {"overlap": "y", "sources": []})["hash"] != here
    assert manifest_of([record("b")], {"overlap": "x", "sources": []})["hash"] != here


def test_array_hash_tells_type_shape_and_values_apart() -> None:
    zeros = np.zeros((2, 3), np.uint8)
    others = [zeros.reshape(3, 2), zeros.astype(np.int8), zeros + np.uint8(1)]
    assert len({array_hash(a) for a in [zeros, *others]}) == 4
    assert array_hash(np.ones((4, 4))[::2, ::2]) == array_hash(np.ones((2, 2)))


def break_json(path: Path) -> None:
    (path / "manifest.json").write_text('{"format": 1, "rec')


def drop_manifest(path: Path) -> None:
    (path / "manifest.json").unlink()


def drop_array(path: Path) -> None:
    (path / "labels" / "b.npy").unlink()


def newer_format(path: Path) -> None:
    manifest = json.loads((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(json.dumps({**manifest, "format": 99}))


def strip_record(path: Path) -> None:
    manifest = json.loads((path / "manifest.json").read_text())
    del manifest["records"][0]["split"]
    (path / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (break_json, "damaged; prepare the store again"),
        (drop_manifest, "no whole store .*'cellshed prepare'"),
        (drop_array, "1 files of its labels are missing, first b.npy; prepare"),
        (newer_format, "format 99, this version reads 1"),
        (strip_record, "damaged"),
    ],
)
def test_store_that_is_not_whole_does_not_open(path: Path, damage: object, message: str) -> None:
    assert callable(damage)
    damage(path)
    with pytest.raises(ValueError, match=message):
        open_store(path)


def test_cut_off_array_is_named(path: Path) -> None:
    file = path / "images" / "a.npy"
    file.write_bytes(file.read_bytes()[:-3])
    store = open_store(path)
    with pytest.raises(ValueError, match=r"a\.npy: damaged or missing; prepare the store again"):
        store.crop(0, 0, 0, 2, 2)


def test_no_folder_is_no_store(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="gone: no such folder"):
        open_store(tmp_path / "gone")
