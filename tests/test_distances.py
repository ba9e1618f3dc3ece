import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt

from cellshed.distances import distance_transform


def sparse_background(height, width, share, seed):
    return np.random.default_rng(seed).random((height, width)) >= share


def disc(size, radius):
    y, x = np.ogrid[:size, :size]
    return (y - size // 2) ** 2 + (x - size // 2) ** 2 < radius**2


@pytest.mark.parametrize("share", [0.5, 0.05, 0.003, 0.0001])
@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (50, 1), (7, 9), (40, 300), (310, 201)])
def test_equals_scipy_at_all_densities_of_the_background(shape, share):
    for seed in range(5):
        inside = sparse_background(*shape, share, seed)
        expected = distance_transform_edt(inside).astype(np.float32)
        assert np.array_equal(distance_transform(inside), expected)


# The method changes where the longest distance of a row passes 96 pixels.
@pytest.mark.parametrize("radius", [3, 94, 95, 96, 97, 98, 140])
def test_discs_of_all_sizes(radius):
    inside = disc(300, radius)
    expected = distance_transform_edt(inside).astype(np.float32)
    assert np.array_equal(distance_transform(inside), expected)


def test_one_background_pixel():
    inside = np.ones((250, 250), int)
    inside[30, 200] = 0
    y, x = np.ogrid[:250, :250]
    expected = np.sqrt((y - 30.0) ** 2 + (x - 200.0) ** 2)
    assert np.array_equal(distance_transform(inside), expected.astype(np.float32))


def test_by_hand():
    inside = np.array([[1, 1, 1, 1], [1, 1, 1, 0], [1, 1, 1, 1]])
    expected = np.sqrt([[10, 5, 2, 1], [9, 4, 1, 0], [10, 5, 2, 1]])
    assert distance_transform(inside) == pytest.approx(expected, abs=1e-6)


def test_without_background_distances_are_those_to_the_pixel_above_the_first():
    y, x = np.ogrid[:5, :7]
    assert distance_transform(np.ones((5, 7))) == pytest.approx(np.hypot(y + 1, x))


@pytest.mark.parametrize("limit", [1, 2, 5, 95, 96, 97, 130])
def test_up_to_a_limit_distances_are_exact_and_above_it_above(limit):
    inside = disc(300, 140)
    exact, limited = distance_transform(inside), distance_transform(inside, limit=limit)
    near = exact <= limit
    assert np.array_equal(limited[near], exact[near])
    assert (limited[~near] > limit).all()


def test_a_limit_holds_without_background_too():
    assert (distance_transform(np.ones((4, 4), bool), limit=2) > 2).all()


def test_takes_any_layout_and_no_pixels():
    inside = sparse_background(40, 30, 0.05, 0)
    expected = distance_transform(inside)
    frozen = inside.copy()
    frozen.flags.writeable = False
    assert np.array_equal(distance_transform(np.asfortranarray(inside)), expected)
    assert np.array_equal(distance_transform(frozen), expected)
    assert distance_transform(np.zeros((0, 5))).shape == (0, 5)
