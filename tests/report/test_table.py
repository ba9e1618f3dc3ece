"""Measurements: scikit-image's values, and hand-worked ones."""

import numpy as np
import pytest
from skimage.measure import label, regionprops

from cellshed.report.table import COLUMNS, measure


def _random_labels(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    from scipy.ndimage import gaussian_filter

    return label(gaussian_filter(rng.random((60, 70)), 2) > 0.5, connectivity=1).astype(np.int32)


@pytest.mark.parametrize("seed", range(3))
def test_every_measure_is_scikit_images(seed: int) -> None:
    labels = _random_labels(seed)
    image = np.random.default_rng(seed).integers(0, 255, labels.shape).astype(np.uint8)
    table = measure(labels, image, np.linspace(0, 1, labels.max()))
    for k, region in enumerate(regionprops(labels, image)):
        assert table["label"][k] == region.label
        assert table["area"][k] == region.area
        expected = {
            "centroid_y": region.centroid[0],
            "centroid_x": region.centroid[1],
            "perimeter": region.perimeter,
            "eccentricity": region.eccentricity,
            "mean_intensity": region.intensity_mean,
        }
        for name, value in expected.items():
            assert table[name][k] == pytest.approx(value, abs=1e-6), name
        assert tuple(table[n][k] for n in ("y0", "x0", "y1", "x1")) == region.bbox


def test_a_box_by_hand() -> None:
    labels = np.zeros((5, 6), np.int32)
    labels[1:4, 2:4] = 1
    table = measure(labels, np.full((5, 6, 2), 7.0), np.array([0.5]))
    assert table["area"].tolist() == [6]
    assert (table["centroid_y"][0], table["centroid_x"][0]) == (2.0, 2.5)
    assert table["mean_intensity"].tolist() == [7.0]
    assert table["confidence"].tolist() == [0.5]


def test_touching_cells_are_measured_apart() -> None:
    labels = np.zeros((8, 8), np.int32)
    labels[2:6, 1:4], labels[2:6, 4:7] = 1, 2
    table = measure(labels, labels)
    assert table["perimeter"][0] == table["perimeter"][1] > 0
    assert table["mean_intensity"].tolist() == [1.0, 2.0]


def test_no_cells_no_rows() -> None:
    table = measure(np.zeros((4, 4), np.int32), np.zeros((4, 4)))
    assert tuple(table) == COLUMNS
    assert all(len(column) == 0 for column in table.values())


def test_one_pixel_is_no_ellipse() -> None:
    labels = np.zeros((3, 3), np.int32)
    labels[1, 1] = 1
    table = measure(labels, labels)
    assert (table["eccentricity"][0], table["perimeter"][0]) == (0.0, 0.0)


def test_sizes_must_agree() -> None:
    with pytest.raises(ValueError, match="not of one size"):
        measure(np.zeros((3, 3), np.int32), np.zeros((3, 4)))
