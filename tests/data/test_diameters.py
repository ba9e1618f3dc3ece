"""How large cells are: diameters of whole cells, and the one that stands for an image."""

import numpy as np
import pytest

from cellshed.data.diameters import diameters, middle_diameter


def squares(*sides: int) -> np.ndarray:
    """Return labels with squares of these sides in a row, none at the frame."""
    labels = np.zeros((max(sides) + 2, sum(sides) + len(sides) + 1), np.int32)
    left = 1
    for k, side in enumerate(sides, 1):
        labels[1 : side + 1, left : left + side] = k
        left += side + 1
    return labels


def diameter(side: int) -> float:
    return float(np.sqrt(4 * side**2 / np.pi))


def test_diameters_are_those_of_discs_and_leave_cells_of_the_frame() -> None:
    labels = squares(2, 5, 3)
    np.testing.assert_allclose(diameters(labels), [diameter(2), diameter(5), diameter(3)])
    np.testing.assert_allclose(diameters(labels[:, 2:]), [diameter(5), diameter(3)])


def test_ground_that_nobody_annotated_has_no_diameter() -> None:
    labels = squares(2, 5, 3)
    unknown = np.where(labels == 0, -1, labels)
    np.testing.assert_array_equal(diameters(unknown), diameters(labels))


def test_half_of_the_area_is_reached_at_the_middle_diameter() -> None:
    assert middle_diameter(squares(4, 4, 4)) == pytest.approx(diameter(4))
    # Areas 1, 1, 1, 4, 4, 9: 11 of 20 are reached at the second 4.
    assert middle_diameter(squares(1, 2, 3, 1, 2, 1)) == pytest.approx(diameter(2))


def test_fragments_hardly_move_the_middle_diameter() -> None:
    assert middle_diameter(squares(*[2] * 20, 12, 12)) == pytest.approx(diameter(12))


def test_without_whole_cells_it_is_infinite() -> None:
    assert middle_diameter(np.zeros((4, 4), np.int32)) == float("inf")
    assert middle_diameter(np.ones((4, 4), np.int32)) == float("inf")
