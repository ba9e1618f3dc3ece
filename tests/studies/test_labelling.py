"""Labels that a model makes for the next one: cells it is sure of, and ground it isn't."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from scipy.ndimage import binary_dilation

from cellshed.data.images import read_labels
from cellshed.data.store import NOT_ANNOTATED
from cellshed.data.synthetic import synthetic_field
from cellshed.predict import load_model
from cellshed.studies.labelling import DOUBTING, label_images, rough_ground


@pytest.fixture
def scene() -> tuple[np.ndarray, np.ndarray]:
    """Flat ground with one cell and its halo, a rough patch, and specks."""
    rng = np.random.default_rng(0)
    image = rng.normal(100, 1, (160, 200))
    labels = np.zeros(image.shape, np.int32)
    labels[30:60, 30:60] = 1
    image[labels > 0] += rng.normal(0, 20, 900)
    image[binary_dilation(labels > 0, iterations=4) & (labels == 0)] += 30  # its halo
    image[90:140, 100:160] += rng.normal(0, 12, (50, 60))
    image[20:23, 150:153] += 40
    return image, labels


def test_rough_ground_is_told_from_flat_ground_cells_halos_and_specks(scene) -> None:
    image, labels = scene
    rough = rough_ground(image, labels)
    assert rough[97:133, 107:153].all()
    assert not rough[:80].any()
    assert not rough[:, :85].any()
    assert not rough[160 - 8 :].any()


def test_rough_ground_is_neither_cell_nor_marked_twice(scene) -> None:
    image, labels = scene
    labels[100:120, 110:130] = 2
    labels[122:130, 110:130] = NOT_ANNOTATED
    rough = rough_ground(image, labels)
    assert rough.any()
    assert not rough[labels != 0].any()
    assert (rough == rough_ground(np.stack([image, image], axis=2), labels)).all()


def test_without_ground_nothing_is_rough() -> None:
    assert not rough_ground(np.zeros((20, 20)), np.ones((20, 20), np.int32)).any()


def test_doubtful_ground_is_not_annotated_and_cells_stay(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    image = synthetic_field(3, "round", (192, 256))[0].astype(np.float64)
    flat = np.full((192, 96), np.median(image)) + rng.normal(0, 1, (192, 96))
    flat[60:130, 20:80] += rng.normal(0, 25, (70, 60))
    image = np.clip(np.hstack([image, flat]), 0, 255).astype(np.uint8)
    (tmp_path / "images").mkdir()
    tifffile.imwrite(tmp_path / "images/a.tif", image)

    found = load_model("phase").with_changes(DOUBTING).segment(image)
    for doubt in (True, False):
        label_images("phase", tmp_path / "images", tmp_path / str(doubt), least=0.1, doubt=doubt)
    doubtful = read_labels(tmp_path / "True/train/labels/a.tif")
    plain = read_labels(tmp_path / "False/train/labels/a.tif")
    assert plain.min() == 0
    np.testing.assert_array_equal(np.maximum(doubtful, 0), found)
    unknown = doubtful == NOT_ANNOTATED
    patch = (unknown | (doubtful > 0))[72:118, 256 + 32 : 256 + 68]
    assert patch.mean() > 0.9  # what the network says of noise is the model's own affair
    assert unknown.mean() < 0.3


def test_images_of_one_name_in_several_folders_are_all_labelled(tmp_path: Path) -> None:
    for folder, seed in (("A1", 3), ("B1", 4)):
        (tmp_path / "images" / folder).mkdir(parents=True)
        image = synthetic_field(seed, "round", (128, 160))[0]
        tifffile.imwrite(tmp_path / "images" / folder / "img.tif", image)
    label_images("phase", tmp_path / "images", tmp_path / "out", least=0.1)
    labels = {path.stem: read_labels(path) for path in tmp_path.glob("out/train/labels/*.tif")}
    assert labels.keys() == {"A1-img", "B1-img"}
    assert (labels["A1-img"] != labels["B1-img"]).any()
    assert {path.stem for path in tmp_path.glob("out/train/images/*.tif")} == labels.keys()
