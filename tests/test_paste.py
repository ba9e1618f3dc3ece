"""Cells of one crop in another: what is pasted, what is hidden, what stays."""

import numpy as np
import pytest

from cellshed.data.store import NOT_ANNOTATED
from cellshed.paste import FEATHER, paste_cells


def squares(*corners, size=64, side=10):
    """Labels 1, 2, ... of squares whose upper left corners are given."""
    labels = np.zeros((size, size), np.int32)
    for number, (row, column) in enumerate(corners, start=1):
        labels[row : row + side, column : column + side] = number
    return labels


def shown(labels, ground, cell):
    """An image of two channels: the second is twice the first."""
    grey = np.where(labels > 0, cell, ground).astype(np.float32)
    return np.stack([grey, 2 * grey], axis=-1)


def paste(labels, others, *, seed=0, ground=0.0):
    image, other = shown(labels, 0.0, 1.0), shown(others, ground, ground + 3.0)
    return paste_cells(np.random.default_rng(seed), image, labels, other, others)


def test_a_pasted_cell_has_its_own_pixels_and_a_new_number():
    labels, others = squares((5, 5)), squares((40, 40))
    image, pasted = paste(labels, others)
    np.testing.assert_array_equal(pasted, np.where(others > 0, 2, labels))
    np.testing.assert_allclose(image[others > 0], [[3, 6]] * 100)
    np.testing.assert_allclose(image[labels > 0], [[1, 2]] * 100)


def test_light_of_the_other_crop_is_brought_to_this_one():
    labels, others = squares((5, 5)), squares((40, 40))
    image, _ = paste(labels, others, ground=10.0)
    np.testing.assert_allclose(image, paste(labels, others)[0], atol=1e-5)


def test_a_cells_halo_fades_and_farther_away_nothing_changes():
    others = squares((30, 30))
    other = shown(others, 0.0, 3.0) + np.where(others > 0, 0, 1)[..., None]  # a bright ground
    other[:5] = -50  # the median is the bright ground's, and this is far away
    labels = np.zeros((64, 64), np.int32)
    image, _ = paste_cells(
        np.random.default_rng(0), shown(labels, 0.0, 1.0), labels, other.astype(np.float32), others
    )
    np.testing.assert_allclose(image[: 30 - FEATHER - 1], 0)
    np.testing.assert_allclose(image[34, :30], 0, atol=1e-6)  # ground on ground
    assert image[34, 34, 0] == pytest.approx(2)  # the cell, less the grounds' difference


def test_of_a_cell_that_is_mostly_hidden_nothing_is_known():
    labels = squares((10, 10), (40, 40))
    others = squares((10, 14), (40, 48))  # hides 6 of 10 columns, and 2 of 10
    for seed in range(20):
        _, pasted = paste(labels, others, seed=seed)
        if (pasted > 2).sum() == 200:  # both were chosen
            break
    assert (pasted[10:20, 10:14] == NOT_ANNOTATED).all()
    assert (pasted[40:50, 40:48] == 2).all()


def test_not_annotated_ground_stays_so_but_under_a_pasted_cell():
    labels = np.full((64, 64), NOT_ANNOTATED, np.int32)
    others = squares((40, 40))
    _, pasted = paste(labels, others)
    np.testing.assert_array_equal(pasted, np.where(others > 0, 1, NOT_ANNOTATED))


def test_from_an_empty_crop_nothing_comes():
    labels = squares((5, 5))
    image, pasted = paste(labels, np.zeros_like(labels))
    np.testing.assert_array_equal(pasted, labels)
    np.testing.assert_array_equal(image, shown(labels, 0.0, 1.0))


def test_how_many_cells_come_is_chance_and_at_least_one_does():
    labels, others = np.zeros((64, 64), np.int32), squares((0, 0), (0, 20), (0, 40), (30, 0))
    counts = {len(np.unique(paste(labels, others, seed=seed)[1])) - 1 for seed in range(50)}
    assert counts == {1, 2, 3, 4}


def test_what_is_given_is_not_changed():
    labels, others = squares((10, 10)), squares((12, 12))
    image = shown(labels, 0.0, 1.0)
    before = image.copy(), labels.copy()
    paste_cells(np.random.default_rng(0), image, labels, shown(others, 0.0, 3.0), others)
    np.testing.assert_array_equal(image, before[0])
    np.testing.assert_array_equal(labels, before[1])
