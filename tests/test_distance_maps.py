"""Distances within cells: hand-worked values, and a plain version."""

import numpy as np
import pytest
from scipy import ndimage
from skimage import measure

from cellshed.distance_maps import bins, inner_distance, outer_distance
from label_images import IMAGES, assert_close, placed


@pytest.fixture(params=IMAGES.values(), ids=IMAGES)
def labels(request):
    return request.param


# Inner distance


def test_inner_distance_by_hand():
    square = placed((5, 5), slice(1, 4), slice(1, 4))
    side, corner = 1 / (1 + 1 / 3), 1 / (1 + 2 / 3)
    expected = [[corner, side, corner], [side, 1, side], [corner, side, corner]]
    assert inner_distance(square)[1:4, 1:4] == pytest.approx(np.array(expected))
    corner = 1 / (1 + np.sqrt(2) / 3)  # the plain distance instead of its square
    expected = [[corner, side, corner], [side, 1, side], [corner, side, corner]]
    assert inner_distance(square, power=1)[1:4, 1:4] == pytest.approx(np.array(expected))
    assert inner_distance(square, alpha=0.1, beta=2)[2, 1:4] == pytest.approx([1 / 1.2, 1, 1 / 1.2])
    assert inner_distance(square, erosion=1).tolist() == placed((5, 5), 2, 2).tolist()


def test_the_centre_is_weighted_by_the_distance_to_background():
    centre = (0 * 3 + 1 * 2 + 2 * 1) / (3 + 2 + 1)
    expected = [1 / (1 + (x - centre) ** 2) for x in range(3)]
    found = inner_distance([[1, 1, 1, 0]], alpha=1.0)
    assert found[0] == pytest.approx(np.array([*expected, 0]))


def test_touching_cells_draw_each_other_unless_eroded():
    labels = [[0, 1, 1, 1, 2, 2, 2, 0]]
    centre = (1 * 1 + 2 * 2 + 3 * 3) / 6
    value = 1 / (1 + (2 - centre) ** 2 / np.sqrt(3))
    assert inner_distance(labels)[0, [2, 5]] == pytest.approx([value, value])
    assert inner_distance(labels, erosion=1).tolist() == [[0, 0, 1, 0, 0, 1, 0, 0]]


def test_a_label_in_two_pieces_is_two_cells():
    assert inner_distance([[4, 0, 4]]).tolist() == [[1, 0, 1]]
    assert outer_distance([[4, 0, 0, 4, 4, 4, 0]])[0].tolist() == [1, 0, 0, 0.5, 1, 0.5, 0]


def plain_inner_distance(labels, alpha, beta, power):
    cells = measure.label(labels, connectivity=2)
    weights = ndimage.distance_transform_edt(labels != 0)
    expected = np.zeros(labels.shape)
    for region in measure.regionprops(cells, weights):
        centre = np.array(region.centroid_weighted)
        r = np.linalg.norm(region.coords - centre, axis=1)
        a = 1 / np.sqrt(region.area) if alpha == "auto" else alpha
        expected[tuple(region.coords.T)] = 1 / (1 + beta * a * r**power)
    return expected


@pytest.mark.parametrize(("alpha", "beta", "power"), [("auto", 1, 2), (0.1, 0.5, 2), (0.3, 2, 1)])
def test_inner_distance_equals_a_plain_version(labels, alpha, beta, power):
    expected = plain_inner_distance(labels, alpha, beta, power)
    assert_close(inner_distance(labels, alpha=alpha, beta=beta, power=power), expected)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"alpha": "automatic"}, "alpha = 'automatic': give a number from 0 up or 'auto'"),
        ({"alpha": -1}, "alpha = -1"),
        ({"alpha": None}, "alpha = None"),
        ({"beta": float("nan")}, "beta = nan"),
        ({"power": 3}, "power = 3: give 2 .* or 1"),
        ({"erosion": -1}, "erosion = -1 pixels"),
    ],
)
def test_impossible_arguments_are_named(wrong, message):
    with pytest.raises(ValueError, match=message):
        inner_distance([[1]], **wrong)


# Outer distance


def test_outer_distance_by_hand():
    square = placed((5, 5), slice(1, 4), slice(1, 4))
    raw = np.array([[1, 1, 1], [1, 2, 1], [1, 1, 1]])
    assert np.array_equal(outer_distance(square, normalize=False)[1:4, 1:4], raw)
    assert np.array_equal(outer_distance(square)[1:4, 1:4], raw / 2)
    assert outer_distance(square, erosion=1).tolist() == placed((5, 5), 2, 2).tolist()


def test_touching_cells_share_a_ridge_unless_eroded():
    labels = [[0, 1, 1, 1, 2, 2, 2, 0]]
    ridge = np.array([0, 1, 2, 3, 3, 2, 1, 0]) / 3
    assert outer_distance(labels)[0] == pytest.approx(ridge)
    assert outer_distance(labels, erosion=1).tolist() == [[0, 0, 1, 0, 0, 1, 0, 0]]


def test_every_normalised_cell_reaches_1(labels):
    cells, n = measure.label(labels, connectivity=2, return_num=True)
    peaks = ndimage.maximum(outer_distance(labels), cells, np.arange(1, n + 1))
    assert np.array_equal(peaks, np.ones(n))


# Bins


def test_bins_by_hand():
    assert bins([[0, 0.2, 0.6, 1.0]], 2).tolist() == [[0, 0, 1, 1]]
    assert bins([[0, 1.9, 2.1, 10]], 5).tolist() == [[0, 0, 1, 4]]
    assert bins([[5.0, 5.0]], 4).tolist() == [[1, 1]]
    with pytest.raises(ValueError, match="0 bins"):
        bins([[1.0]], 0)
