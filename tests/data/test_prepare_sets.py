"""Image sets of every layout become stores, and nothing is dropped in silence."""

import json
import subprocess
import sys
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from cellshed.data.livecell import annotation_file, single_cell_file, size_split_file
from cellshed.data.prepare import prepare
from cellshed.data.readers import READERS, find_reader
from cellshed.data.store import NOT_ANNOTATED, Store, open_store

H, W = 24, 32
SQUARE = [[2, 1, 6, 1, 6, 4, 2, 4]]  # columns 2-5 of rows 1-3
BESIDE = [[10, 10, 20, 10, 20, 20, 10, 20]]


def pixels(seed: int, shape: tuple[int, ...] = (H, W)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def save_image(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, array)


def save_json(path: Path, names: Sequence[str], annotations: Sequence[Any] | None = None) -> None:
    """Write a COCO file: two cells an image, unless told otherwise."""
    images = [{"id": n, "file_name": name, "height": H, "width": W} for n, name in enumerate(names)]
    if annotations is None:
        annotations = [
            {"id": 10 * n + k, "image_id": n, "segmentation": shape}
            for n in range(len(names))
            for k, shape in enumerate((SQUARE, BESIDE))
        ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"images": images, "annotations": annotations}))


def name_of(cell_type: str, number: int) -> str:
    return f"{cell_type}_Phase_C7_1_00d{number:02d}h00m_1.tif"


TRAIN = [name_of("A172" if n % 2 else "BV2", n) for n in range(6)]
VAL = [name_of("A172", 8), name_of("BV2", 9)]
TEST = [name_of("BV2", 10)]


@pytest.fixture
def livecell(tmp_path: Path) -> Path:
    """A set laid out as LIVECell: train and val in cell type folders, test without."""
    root = tmp_path / "livecell"
    for split, names in {"train": TRAIN, "val": VAL, "test": TEST}.items():
        save_json(root / annotation_file(split), names)
        for name in names:
            folder = root / "images" / "livecell_train_val_images" / name.split("_")[0]
            if split == "test":
                folder = root / "images" / "livecell_test_images"
            save_image(folder / name, pixels(int(name.split("d")[1][:2])))
    return root


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """Two pairs in images/ and labels/, one of them in channels-last colour."""
    root = tmp_path / "pairs"
    save_image(root / "images" / "a.tif", pixels(101))
    save_image(root / "images" / "b.tif", pixels(102, (H, W, 3)))
    labels = np.zeros((H, W), np.uint16)
    labels[2:5, 2:5] = 7
    labels[8:9, 8:9] = 300
    for name in "ab":
        save_image(root / "labels" / f"{name}.tif", labels)
    return root


def names(store: Store, split: str) -> list[str]:
    return [record.name for record in store.records if record.split == split]


def test_livecell_becomes_a_store(livecell: Path, tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    store = prepare(livecell, tmp_path / "store", progress=lambda *step: steps.append(step))
    assert steps == [(n, 9) for n in range(1, 10)]
    assert [r.split for r in store.records] == ["train"] * 6 + ["val"] * 2 + ["test"]
    assert names(store, "train") == [name.removesuffix(".tif") for name in TRAIN]
    first = store.records[1]
    assert (first.cell_type, first.well, first.location, first.hours, first.crop) == (
        "A172", "C7", 1, 1.0, 1,
    )  # fmt: skip
    assert (first.height, first.width, first.channels, first.n_cells) == (H, W, 1, 2)
    np.testing.assert_array_equal(store.image(1), pixels(1))
    expected = np.zeros((H, W))
    expected[1:4, 2:6], expected[10:20, 10:20] = 1, 2
    np.testing.assert_array_equal(store.labels(1), expected)
    assert store.manifest["counts"] == {
        "train": {"BV2": {"images": 3, "cells": 6}, "A172": {"images": 3, "cells": 6}},
        "val": {"A172": {"images": 1, "cells": 2}, "BV2": {"images": 1, "cells": 2}},
        "test": {"BV2": {"images": 1, "cells": 2}},
    }
    assert store.manifest["problems"] == []
    assert open_store(tmp_path / "store").records == store.records


def test_choice_of_splits_types_and_subset(livecell: Path, tmp_path: Path) -> None:
    def hours(number: int, **options: Any) -> list[float]:
        return [r.hours for r in prepare(livecell, tmp_path / str(number), **options).records]

    assert hours(1, splits=["test", "val"]) == [8, 9, 10]
    assert hours(2, cell_types=["bv2"]) == [0, 2, 4, 9, 10]
    assert hours(3, splits=["train"], subset=50) == [0, 2, 4]
    assert hours(4, cell_types=["BV2"], subset=50) == [0, 4, 9, 10]


def test_fraction_is_drawn_by_seed(livecell: Path, tmp_path: Path) -> None:
    def train(number: int, seed: int) -> list[str]:
        store = prepare(livecell, tmp_path / str(number), fraction=0.5, seed=seed)
        assert (len(names(store, "val")), len(names(store, "test"))) == (1, 1)
        return names(store, "train")

    draws = {seed: train(seed, seed) for seed in range(4)}
    assert all(len(set(draw)) == 3 for draw in draws.values())
    assert len({tuple(draw) for draw in draws.values()}) > 1
    assert train(99, 2) == draws[2]


def test_same_input_has_the_same_hash(livecell: Path, tmp_path: Path) -> None:
    first = prepare(livecell, tmp_path / "one")
    moved = livecell.rename(tmp_path / "moved-away")
    moved = moved.rename(tmp_path / "elsewhere")
    (tmp_path / "deep").mkdir()
    moved = moved.rename(tmp_path / "deep" / "livecell")
    assert prepare(moved, tmp_path / "two").hash == first.hash
    assert prepare(moved, tmp_path / "three", overlap="later-on-top").hash != first.hash
    path = moved / "images" / "livecell_test_images" / TEST[0]
    changed = pixels(10)
    changed[0, 0] ^= 1
    save_image(path, changed)
    assert prepare(moved, tmp_path / "four").hash != first.hash


def test_every_annotation_left_out_is_in_the_manifest(tmp_path: Path) -> None:
    save_image(tmp_path / "images" / "a.tif", pixels(1))
    shapes = {1: SQUARE, 2: [[1, 1, 2, 2]], 3: SQUARE, 4: [[3, 2, 5, 2, 5, 9, 3, 9]]}
    annotations = [{"id": k, "image_id": 0, "segmentation": s} for k, s in shapes.items()]
    annotations += [{"id": 5, "image_id": 0, "segmentation": SQUARE, "iscrowd": 1}]
    annotations += [{"id": 6, "image_id": 77, "segmentation": SQUARE}]
    save_json(tmp_path / "coco.json", ["a.tif"], annotations)
    store = prepare(tmp_path / "coco.json", tmp_path / "store")
    listed = {p["annotation"]: (p["image"], p["reason"]) for p in store.manifest["problems"]}
    assert listed == {
        2: ("a.tif", "no polygon with 3 points or more"),
        3: ("a.tif", "same mask as annotation 1"),
        5: ("a.tif", "a crowd, not a single cell; its ground counts as not annotated"),
        6: ("", "no image with id 77"),
    }
    assert store.records[0].n_cells == 2
    assert store.manifest["overlapping_pixels"] == {"all": 4}
    areas = np.bincount(store.labels(0).ravel())[1:]
    assert areas.tolist() == [12, 14 - 4]  # the smaller lies on top


def test_coco_file_takes_its_split_from_its_name(tmp_path: Path) -> None:
    for name, split in {
        "instances_val2017.json": "val",
        "train.json": "train",
        "my-test-set.json": "test",
        "contest.json": "all",
    }.items():
        save_image(tmp_path / "a.tif", pixels(1))
        save_json(tmp_path / name, ["a.tif"])
        store = prepare(tmp_path / name, tmp_path / "stores" / name)
        assert [r.split for r in store.records] == [split]


def test_coco_file_takes_its_split_from_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [tmp_path / folder / "_annotations.coco.json" for folder in ("train", "valid", "Test")]
    for number, file in enumerate(files):
        save_json(file, [f"{number}.tif"])
        save_image(file.parent / f"{number}.tif", pixels(number))
    store = prepare(files, tmp_path / "s")
    assert [(r.name, r.split) for r in store.records] == [
        ("0", "train"), ("1", "val"), ("2", "test"),
    ]  # fmt: skip
    monkeypatch.chdir(tmp_path / "valid")
    store = prepare("_annotations.coco.json", tmp_path / "t")
    assert [r.split for r in store.records] == ["val"]


def test_split_in_the_files_name_goes_before_its_folders(tmp_path: Path) -> None:
    for folder in ("train", "my-test"):
        save_json(tmp_path / folder / "val.json", ["a.tif"])
        save_json(tmp_path / folder / "cells.json", ["a.tif"])
        save_image(tmp_path / folder / "a.tif", pixels(1))
        store = prepare(tmp_path / folder / "val.json", tmp_path / "stores" / folder)
        assert [r.split for r in store.records] == ["val"]
    store = prepare(tmp_path / "my-test" / "cells.json", tmp_path / "s")
    assert [r.split for r in store.records] == ["all"]  # the folder only contains the word


@pytest.mark.parametrize("way", ["absolute", "C:\\data\\{}\\a.tif", "../{}/a.tif"])
def test_names_of_images_stay_within_the_store(tmp_path: Path, way: str) -> None:
    work = tmp_path / "work"
    paths = [work / "one" / "a.tif", work / "two" / "a.tif"]
    if way == "absolute":
        listed = [str(path) for path in paths]
    else:
        listed = [way.format(folder) for folder in ("one", "two")]
    if way.startswith("C:"):  # a drive is a folder to systems without drives
        paths += [work / "set" / name.replace("\\", "/") for name in listed]
    for number, path in enumerate(paths):
        save_image(path, pixels(number))
    save_json(work / "set" / "coco.json", listed)
    store = prepare(work / "set" / "coco.json", tmp_path / "s")
    first, second = (record.name for record in store.records)
    assert first == "a"
    assert second.endswith("two-a")
    assert not set(second) & set("/\\:")
    assert not second.startswith(("-", "."))
    assert [record.cell_type for record in store.records] == ["one", "two"]
    assert len(list((tmp_path / "s" / "images").iterdir())) == 2
    assert {path.name for path in work.iterdir()} == {"one", "two", "set"}


def test_one_file_is_never_two_images_of_a_coco_file(tmp_path: Path) -> None:
    """Without the folders that the names tell, a file that both could be is neither."""
    save_image(tmp_path / "a.tif", pixels(1))
    save_image(tmp_path / "b.tif", pixels(2))
    save_json(tmp_path / "c.json", ["one/a.tif", "two/a.tif", "two/b.tif"])
    with pytest.raises(ValueError, match=r"2 of 3 images are missing, first .*one/a\.tif"):
        prepare(tmp_path / "c.json", tmp_path / "s")


def test_images_of_a_coco_file_are_found(tmp_path: Path) -> None:
    (tmp_path / "ann").mkdir()
    save_json(tmp_path / "ann" / "c.json", ["BV2/a.tif", "A172/a.tif"])
    save_image(tmp_path / "pictures" / "BV2" / "a.tif", pixels(1))
    save_image(tmp_path / "pictures" / "A172" / "a.tif", pixels(2))
    store = prepare(tmp_path / "ann" / "c.json", tmp_path / "s", images=tmp_path / "pictures")
    assert [(r.name, r.cell_type) for r in store.records] == [("a", "BV2"), ("A172-a", "A172")]
    np.testing.assert_array_equal(store.image(1), pixels(2))
    with pytest.raises(ValueError, match=r"2 of 2 images are missing, first .*a\.tif"):
        prepare(tmp_path / "ann" / "c.json", tmp_path / "t")


def test_folders_of_images_and_labels(folders: Path, tmp_path: Path) -> None:
    store = prepare(folders, tmp_path / "store")
    assert [(r.name, r.split, r.channels, r.n_cells) for r in store.records] == [
        ("a", "all", 1, 2),
        ("b", "all", 3, 2),
    ]
    labels = store.labels(0)
    assert (labels[3, 3], labels[8, 8], labels.max()) == (1, 2, 2)  # numbered without gaps
    np.testing.assert_array_equal(store.image(1), pixels(102, (H, W, 3)))


def test_hidden_copies_are_left_out(folders: Path, tmp_path: Path) -> None:
    before = prepare(folders, tmp_path / "before")
    save_image(folders / "images" / ".ipynb_checkpoints" / "a-checkpoint.tif", pixels(9))
    save_image(folders / "labels" / ".Trash" / "b.tif", pixels(9))
    hidden = folders.rename(tmp_path / ".cache")  # a hidden folder that is asked for is read
    assert names(prepare(hidden, tmp_path / "after"), "all") == names(before, "all")


@pytest.mark.parametrize("value", [1, 255])
def test_mask_of_all_cells_is_a_problem(tmp_path: Path, value: int) -> None:
    labels = np.zeros((H, W), np.uint8)
    labels[2:6, 2:6] = labels[10:14, 10:14] = value
    labels[20, 3] = labels[21, 4] = value  # joined by a corner: one piece
    save_image(tmp_path / "p" / "images" / "a.tif", pixels(1))
    save_image(tmp_path / "p" / "labels" / "a.tif", labels)
    store = prepare(tmp_path / "p", tmp_path / "s")
    (problem,) = store.manifest["problems"]
    assert (problem["annotation"], problem["image"], problem["painted"]) == (value, "a.tif", True)
    assert "in 3 pieces that are taken for one cell" in problem["reason"]
    np.testing.assert_array_equal(store.labels(0) == 1, labels > 0)


def test_labels_that_are_no_mask_are_no_problem(tmp_path: Path) -> None:
    one, split, touching, none = (np.zeros((H, W), np.uint8) for _ in range(4))
    one[2:6, 2:6] = 255
    split[2:6, 2:6], split[10:14, 10:14], split[20, 20] = 1, 1, 2  # one of two cells in pieces
    touching[:] = 3
    for number, labels in enumerate((one, split, touching, none)):
        save_image(tmp_path / "p" / "images" / f"{number}.tif", pixels(number))
        save_image(tmp_path / "p" / "labels" / f"{number}.tif", labels)
    store = prepare(tmp_path / "p", tmp_path / "s")
    assert store.manifest["problems"] == []
    assert [r.n_cells for r in store.records] == [1, 2, 1, 0]


def test_folders_with_splits_and_types(folders: Path, tmp_path: Path) -> None:
    inner, outer = tmp_path / "inner", tmp_path / "outer"
    for kind in ("images", "labels"):
        one, two = (folders / kind / f"{name}.tif" for name in "ab")
        for target in (outer / "train" / kind / "x.tif", inner / kind / "train" / "T1" / "x.tif"):
            save_image(target, tifffile.imread(one))
        for target in (outer / "test" / kind / "x.tif", inner / kind / "test" / "T2" / "x.tif"):
            save_image(target, tifffile.imread(two))
    for source, types in ((inner, ["T1", "T2"]), (outer, ["", ""])):
        store = prepare(source, tmp_path / f"store-{source.name}")
        assert [r.split for r in store.records] == ["train", "test"]
        assert sorted(r.cell_type for r in store.records) == types
        assert len({r.name for r in store.records}) == 2
    assert len(prepare(outer, tmp_path / "one", splits=["test"])) == 1


def test_shares_of_images_without_a_split_are_dealt_out_by_seed(tmp_path: Path) -> None:
    root = tmp_path / "many"
    for number in range(10):
        save_image(root / "images" / f"{number}.tif", pixels(number))
        save_image(root / "labels" / f"{number}.tif", np.ones((H, W), np.uint16))

    def dealt(seed: int) -> list[list[str]]:
        out = tmp_path / f"store-{seed}-{len(list(tmp_path.iterdir()))}"
        store = prepare(root, out, val_share=0.2, test_share=0.3, seed=seed)
        return [names(store, split) for split in ("train", "val", "test")]

    found = dealt(1)
    assert [len(part) for part in found] == [5, 2, 3]
    assert sorted(chain.from_iterable(found)) == [str(number) for number in range(10)]
    assert dealt(1) == found
    assert dealt(2) != found


def test_of_equal_images_that_are_dealt_out_the_one_in_test_stays(tmp_path: Path) -> None:
    root = tmp_path / "twins"
    for number in range(12):
        save_image(root / "images" / f"{number}.tif", pixels(number // 2))
        save_image(root / "labels" / f"{number}.tif", np.ones((H, W), np.uint16))
    for seed in range(5):
        store = prepare(root, tmp_path / f"{seed}", val_share=0.25, test_share=0.25, seed=seed)
        assert len(names(store, "test")) == 3
        dropped = [twin for twin in store.manifest["same_pixels"] if not twin["kept"]]
        order = ["test", "val", "train"]
        for twin in dropped:
            stays = twin["same_pixels_as"].split("/")[0]
            assert order.index(stays) < order.index(twin["split"])


def test_shares_leave_given_splits_alone(livecell: Path, folders: Path, tmp_path: Path) -> None:
    whole = prepare(livecell, tmp_path / "whole")
    both = prepare([livecell, folders], tmp_path / "both", val_share=0.5)
    for split, more in (("train", 1), ("val", 1), ("test", 0)):
        assert set(names(whole, split)) <= set(names(both, split))
        assert len(names(both, split)) == len(names(whole, split)) + more
    with pytest.raises(ValueError, match="0 images of no split are too few"):
        prepare(livecell, tmp_path / "none", test_share=0.5)


def test_several_sources_make_one_store(livecell: Path, folders: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    for kind in ("images", "labels"):
        save_image(other / kind / "a.tif", tifffile.imread(folders / kind / "a.tif"))
    save_image(other / "images" / "a.tif", pixels(50))
    store = prepare([livecell, folders, other], tmp_path / "store", cell_types=None)
    assert len(store) == 9 + 2 + 1
    by_name = {r.name: r.source for r in store.records}
    assert by_name["a"] == "pairs"
    assert by_name["other-a"] == "other"
    assert [s["path"] for s in store.manifest["sources"]] == list(
        map(str, (livecell, folders, other))
    )
    one_type = prepare([livecell, folders], tmp_path / "one", cell_types=["BV2"])
    assert {r.cell_type for r in one_type.records} == {"BV2"}


def test_image_in_two_splits_stays_out_of_training(livecell: Path, tmp_path: Path) -> None:
    twin = livecell / "images" / "livecell_train_val_images" / "BV2" / TRAIN[0]
    save_image(twin, pixels(10))  # the pixels of the test image
    store = prepare(livecell, tmp_path / "store")
    assert TRAIN[0].removesuffix(".tif") not in names(store, "train")
    assert names(store, "test") == [TEST[0].removesuffix(".tif")]
    (listed,) = store.manifest["same_pixels"]
    assert listed == {
        "image": TRAIN[0],
        "split": "train",
        "same_pixels_as": f"test/{TEST[0].removesuffix('.tif')}",
        "kept": False,
        "annotations": [0, 1],
    }


def test_same_pixels_within_a_split_are_kept_and_listed(folders: Path, tmp_path: Path) -> None:
    save_image(folders / "images" / "b.tif", pixels(101))
    store = prepare(folders, tmp_path / "store")
    assert len(store) == 2
    assert [(d["image"], d["kept"]) for d in store.manifest["same_pixels"]] == [("b.tif", True)]


def test_resized_to_a_square(tmp_path: Path) -> None:
    save_image(tmp_path / "a.tif", np.full((H, W), 90, np.uint8))
    speck = [[30, 22, 31, 22, 31, 23, 30, 23]]
    annotations = [{"id": k, "image_id": 0, "segmentation": s} for k, s in
                   enumerate((SQUARE, speck, BESIDE))]  # fmt: skip
    save_json(tmp_path / "c.json", ["a.tif"], annotations)
    store = prepare(tmp_path / "c.json", tmp_path / "s", size=16)
    assert (store.records[0].height, store.records[0].width) == (16, 16)
    np.testing.assert_array_equal(store.image(0), np.full((16, 16), 90, np.uint8))
    assert store.image(0).dtype == np.uint8
    labels = store.labels(0)
    # Rows shrink by 2/3, columns by 1/2: the cell on 10-19 x 10-19 lies on 7-12 x 5-9.
    rows, columns = np.nonzero(labels == 2)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (7, 12, 5, 9)
    assert [p["annotation"] for p in store.manifest["problems"]] == [1]
    assert store.manifest["problems"][0]["reason"] == "no pixel left at 16x16"
    assert store.records[0].n_cells == labels.max() == 2


def test_resized_image_and_labels_stay_together(tmp_path: Path) -> None:
    image = np.zeros((60, 90), np.uint16)
    image[20:40, 30:75] = 60_000
    save_image(tmp_path / "p" / "images" / "a.tif", image)
    save_image(tmp_path / "p" / "labels" / "a.tif", (image > 0).astype(np.uint8))
    store = prepare(tmp_path / "p", tmp_path / "s", size=30)
    np.testing.assert_array_equal(store.image(0) > 30_000, store.labels(0) > 0)


def test_npz_files_of_the_study(livecell: Path, tmp_path: Path) -> None:
    store = prepare(livecell, tmp_path / "s", size=16, export_npz=True)
    assert sorted(f.name for f in (store.path / "npz").iterdir()) == [
        "test.npz", "train.npz", "val.npz",
    ]  # fmt: skip
    with np.load(store.path / "npz" / "train.npz") as file:
        x, y = file["X"], file["y"]
    assert (x.shape, x.dtype, y.shape, y.dtype) == (
        (6, 16, 16, 1), np.float32, (6, 16, 16, 1), np.int32,
    )  # fmt: skip
    for index in range(6):
        np.testing.assert_array_equal(x[index, ..., 0], store.image(index))
        np.testing.assert_array_equal(y[index, ..., 0], store.labels(index))


def test_npz_needs_one_shape(folders: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="images of split 'all' are of 2 shapes"):
        prepare(folders, tmp_path / "s", export_npz=True)
    assert not (tmp_path / "s").exists()


def test_part_of_a_download_is_enough(livecell: Path, tmp_path: Path) -> None:
    whole = livecell / annotation_file("train")
    twos = [name for name in TRAIN if name.startswith("A172")]
    save_json(livecell / single_cell_file("A172", "train"), twos)
    save_json(livecell / size_split_file(50), TRAIN[::2])
    whole.unlink()
    a172 = prepare(livecell, tmp_path / "1", splits=["train"], cell_types=["A172"])
    assert names(a172, "train") == [name.removesuffix(".tif") for name in twos]
    half = prepare(livecell, tmp_path / "2", splits=["train"], subset=50)
    assert names(half, "train") == [name.removesuffix(".tif") for name in TRAIN[::2]]


def test_missing_images_are_counted_and_named(livecell: Path, tmp_path: Path) -> None:
    (livecell / "images" / "livecell_test_images" / TEST[0]).unlink()
    with pytest.raises(ValueError, match=rf"1 of 9 images are missing, first .*{TEST[0]}; fetch"):
        prepare(livecell, tmp_path / "s")
    assert len(prepare(livecell, tmp_path / "s", splits=["train", "val"])) == 8


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"splits": ["vla"]}, "unknown split 'vla'; did you mean 'val'"),
        ({"splits": ["all"]}, "no images of split 'all'; there are: test, train, val"),
        ({"cell_types": ["A17"]}, "no images of cell type 'A17'; did you mean 'A172'"),
        ({"subset": 3}, "unknown subset 3 %"),
        ({"fraction": 0.0}, "fraction 0.0: give a number above 0"),
        ({"fraction": 5.0}, "fraction 5.0"),
        ({"size": 0}, "size 0"),
        ({"val_share": 0.5, "test_share": 0.5}, "below 1 in sum"),
        ({"overlap": "smaller"}, "unknown overlap rule 'smaller'; did you mean 'smaller-on-top'"),
    ],
)
def test_wrong_options_are_named(
    livecell: Path, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        prepare(livecell, tmp_path / "s", **options)
    assert not (tmp_path / "s").exists()


def test_folder_of_images_is_for_coco_files_alone(folders: Path, tmp_path: Path) -> None:
    save_json(tmp_path / "c.json", ["c.tif"])
    save_image(tmp_path / "pictures" / "c.tif", pixels(1))
    with pytest.raises(ValueError, match=r"images .*gone: no such folder"):
        prepare(tmp_path / "c.json", tmp_path / "s", images=tmp_path / "gone")
    with pytest.raises(ValueError, match=r"images .*pictures: .* COCO file, and none is given"):
        prepare(folders, tmp_path / "s", images=tmp_path / "pictures")
    both = prepare([folders, tmp_path / "c.json"], tmp_path / "s", images=tmp_path / "pictures")
    assert names(both, "all") == ["a", "b", "c"]


def test_one_channel_is_kept_where_told(folders: Path, tmp_path: Path) -> None:
    save_image(folders / "images" / "a.tif", pixels(101, (H, W, 3)))
    store = prepare(folders, tmp_path / "store", channel=2)
    assert [record.channels for record in store.records] == [1, 1]
    for record, (index, seed) in zip(store.records, enumerate((101, 102)), strict=True):
        assert record.name == "ab"[index]
        np.testing.assert_array_equal(store.image(index), pixels(seed, (H, W, 3))[..., 2])


def test_a_channel_that_is_not_there_names_the_image(folders: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"a\.tif: channel 1: the image has 1, counted from 0"):
        prepare(folders, tmp_path / "store", channel=1)
    assert not (tmp_path / "store").exists()


def test_layouts_are_told_apart(livecell: Path, folders: Path, tmp_path: Path) -> None:
    save_json(tmp_path / "x.json", ["a.tif"])
    found = [find_reader(path) for path in (livecell, tmp_path / "x.json", folders)]
    assert found == list(READERS)
    with pytest.raises(ValueError, match=r"no layout that is known: a LIVECell folder .*; a COCO"):
        find_reader(tmp_path)
    with pytest.raises(ValueError, match="gone: no such file or folder"):
        find_reader(tmp_path / "gone")


def test_ground_that_nobody_annotated_stays_so(folders: Path, tmp_path: Path) -> None:
    labels = np.zeros((H, W), np.int16)
    labels[2:6, 2:6], labels[10:, :], labels[:, 20:] = 7, -1, 99
    save_image(folders / "labels" / "a.tif", labels)
    store = prepare(folders, tmp_path / "store", not_annotated=99)
    expected = np.where(labels == 7, 1, np.where(labels == 0, 0, NOT_ANNOTATED))
    place = [record.name for record in store.records].index("a")
    np.testing.assert_array_equal(store.labels(place), expected)
    assert store.records[place].n_cells == 1
    assert store.manifest["not_annotated_pixels"] == {"all": int((expected < 0).sum())}


def test_the_number_of_such_ground_is_for_label_images_alone(
    livecell: Path, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="not annotated 99: it is a number in label images"):
        prepare(livecell, tmp_path / "store", not_annotated=99)
    with pytest.raises(ValueError, match="not annotated 0: 0 is background"):
        prepare(livecell, tmp_path / "store", not_annotated=0)
    with pytest.raises(ValueError, match="margin -1: give the width"):
        prepare(livecell, tmp_path / "store", margin=-1)


def test_a_margin_without_labels_is_not_annotated(folders: Path, tmp_path: Path) -> None:
    labels = np.zeros((H, W), np.uint8)
    labels[1:9, 1:9] = 3
    save_image(folders / "labels" / "a.tif", labels)
    store = prepare(folders, tmp_path / "store", margin=4)
    found = store.labels([record.name for record in store.records].index("a"))
    assert (found[1:9, 1:9] == 1).all()
    assert (found[4:-4, 4:-4] >= 0).all()
    frame = np.ones((H, W), bool)
    frame[4:-4, 4:-4] = False
    assert (found[frame & (labels == 0)] == NOT_ANNOTATED).all()


def test_resizing_keeps_what_is_not_annotated(folders: Path, tmp_path: Path) -> None:
    labels = np.zeros((H, W), np.int16)
    labels[: H // 2, : W // 2], labels[H // 2 :] = 5, -1
    save_image(folders / "labels" / "a.tif", labels)
    store = prepare(folders, tmp_path / "store", size=16)
    found = store.labels([record.name for record in store.records].index("a"))
    expected = np.zeros((16, 16), np.int32)
    expected[:8, :8], expected[8:] = 1, NOT_ANNOTATED
    np.testing.assert_array_equal(found, expected)


def rename_label(folders: Path) -> None:
    (folders / "labels" / "a.tif").rename(folders / "labels" / "z.tif")


def add_label(folders: Path) -> None:
    save_image(folders / "labels" / "z.tif", np.zeros((H, W), np.uint8))


def add_twin(folders: Path) -> None:
    save_image(folders / "images" / "a.tiff", pixels(1))


def shrink_label(folders: Path) -> None:
    save_image(folders / "labels" / "a.tif", np.zeros((H, W - 1), np.uint8))


def cut_image(folders: Path) -> None:
    (folders / "images" / "a.tif").write_bytes(b"II*\x00")


def negative_label(folders: Path) -> None:
    save_image(folders / "labels" / "a.tif", np.full((H, W), -2, np.int16))


def float_label(folders: Path) -> None:
    save_image(folders / "labels" / "a.tif", np.zeros((H, W), np.float32))


def empty_folders(folders: Path) -> None:
    for file in folders.rglob("*.tif"):
        file.unlink()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (rename_label, "1 image without a partner in labels/, first 'a'"),
        (add_label, "1 label image without a partner in images/, first 'z'"),
        (add_twin, "more than one file named 'a'"),
        (shrink_label, r"a\.tif: labels are 24x31, their image is 24x32"),
        (cut_image, r"a\.tif: not a whole image"),
        (negative_label, r"a\.tif: negative labels"),
        (float_label, r"a\.tif: labels of type float32"),
        (empty_folders, "no images in it"),
    ],
)
def test_damaged_folders_are_named(
    folders: Path, tmp_path: Path, damage: Any, message: str
) -> None:
    damage(folders)
    with pytest.raises(ValueError, match=message):
        prepare(folders, tmp_path / "s")
    assert not (tmp_path / "s").exists()
    assert not list(tmp_path.glob(".s*"))


def test_earlier_store_is_not_overwritten(folders: Path, tmp_path: Path) -> None:
    store = prepare(folders, tmp_path / "s")
    with pytest.raises(ValueError, match="exists already"):
        prepare(folders, tmp_path / "s")
    assert open_store(tmp_path / "s").hash == store.hash


def test_killed_prepare_leaves_nothing_that_opens(folders: Path, tmp_path: Path) -> None:
    code = (
        "import os, sys; from cellshed.data.prepare import prepare; "
        "prepare(sys.argv[1], sys.argv[2], progress=lambda done, total: os._exit(9))"
    )
    out = tmp_path / "s"
    run = subprocess.run([sys.executable, "-c", code, str(folders), str(out)], check=False)
    assert run.returncode == 9
    left = [path for path in tmp_path.iterdir() if path != folders]
    assert left  # what was written so far, under another name
    assert not out.exists()
    for path in left:
        with pytest.raises(ValueError, match="no whole store"):
            open_store(path)


@pytest.mark.realdata
@pytest.mark.filterwarnings("ignore:__array__ implementation")  # of pycocotools
def test_real_livecell_files(data: Path, tmp_path: Path) -> None:
    from pycocotools import mask as coco_mask

    store = prepare(data / "livecell-mini", tmp_path / "s")
    assert [len(store.select(split)) for split in ("train", "val", "test")] == [5, 2, 5]
    assert sum(r.n_cells for r in store.records) + len(store.manifest["problems"]) == 2904
    tree = json.loads((data / "livecell-mini" / annotation_file("test")).read_text())
    for entry in tree["images"]:
        masks = [
            coco_mask.decode([coco_mask.merge(coco_mask.frPyObjects(a["segmentation"], 520, 704))])
            for a in tree["annotations"]
            if a["image_id"] == entry["id"]
        ]
        index = [r.name for r in store.records].index(entry["file_name"].removesuffix(".tif"))
        covered = np.concatenate(masks, axis=2).any(axis=2)
        np.testing.assert_array_equal(store.labels(index) > 0, covered)


@pytest.mark.realdata
def test_real_sister_set_is_whole(data: Path, tmp_path: Path) -> None:
    store = prepare(data / "sartorius", tmp_path / "s", splits=["val"])
    assert (len(store), sum(r.n_cells for r in store.records)) == (34, 4138)
    assert store.manifest["overlapping_pixels"] == {"val": 0}
    assert {r.cell_type for r in store.records} == {"astro", "cort", "shsy5y"}


@pytest.mark.realdata
@pytest.mark.parametrize("name", ["t98g", "ctc-dic-c2dh-hela", "ctc-phc-c2dl-psc", "dsb2018"])
def test_real_folders(data: Path, tmp_path: Path, name: str) -> None:
    store = prepare(data / name, tmp_path / "s")
    assert len(store) == len(list((data / name / "images").iterdir()))
    for index, record in enumerate(store.records):
        original = tifffile.imread(data / name / "labels" / f"{record.name}.tif")
        np.testing.assert_array_equal(store.labels(index) > 0, original > 0)
        assert record.n_cells == len(np.unique(original[original > 0]))
