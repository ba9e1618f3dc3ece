"""Weights of pixels: nobody's ground, and cells that count by their diameter."""

import numpy as np

from cellshed.data.store import NOT_ANNOTATED
from cellshed.pixel_weights import LIMITS, MIDDLE_AREA, REACH, pixel_weights


def test_ground_that_nobody_annotated_weighs_nothing() -> None:
    labels = np.array([[0, 3, NOT_ANNOTATED, NOT_ANNOTATED]], np.int32)
    assert pixel_weights(labels, "area").tolist() == [[1, 1, 0, 0]]
    assert (pixel_weights(labels, "diameter") > 0).tolist() == [[True, True, False, False]]


def test_cells_and_the_ground_beside_them_weigh_by_one_over_their_diameter() -> None:
    labels = np.zeros((60, 140), np.int32)
    labels[20:40, 20:45], labels[20:30, 100:120] = 5, 2  # 500 and 200 pixels
    weights = pixel_weights(labels, "diameter")
    assert (weights[labels == 5] == 1).all()
    small = np.float32(np.sqrt(MIDDLE_AREA / 200))
    np.testing.assert_allclose(weights[labels == 2], small)
    np.testing.assert_allclose(weights[20:30, 120 : 120 + REACH], small)
    assert (weights[20:30, 120 + REACH :] == 1).all()


def test_weights_keep_within_their_limits() -> None:
    labels = np.zeros((90, 90), np.int32)
    labels[:60], labels[80, 80] = 1, 2
    weights = pixel_weights(labels, "diameter")
    assert (weights[0, 0], weights[80, 80]) == tuple(map(np.float32, LIMITS))


def test_without_cells_all_ground_weighs_alike() -> None:
    assert (pixel_weights(np.zeros((4, 5), np.int32), "diameter") == 1).all()
