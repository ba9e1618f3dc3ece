import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps
from scipy import ndimage

from cellshed.tidy import drop_small, fill_holes

examples = settings(deadline=None, max_examples=120)
few_labels = nps.arrays(
    np.int32,
    st.tuples(st.integers(1, 10), st.integers(1, 10)),
    elements=st.sampled_from([0, 0, 1, 1, 1, 2]),
)


def filled(rows: list[list[int]], threshold: int) -> list[list[int]]:
    labels = np.array(rows, np.int32)
    fill_holes(labels, threshold)
    return labels.tolist()


def test_holes_below_the_threshold_are_filled():
    ring = [
        [0, 0, 0, 0, 0, 0],
        [0, 5, 5, 5, 5, 0],
        [0, 5, 0, 0, 5, 0],
        [0, 5, 5, 5, 5, 0],
        [0, 0, 0, 0, 0, 0],
    ]
    assert filled(ring, 2) == ring
    assert filled(ring, 3)[2] == [0, 5, 5, 5, 5, 0]
    assert filled(ring, 1000)[0] == [0] * 6


def test_a_diagonal_gap_does_not_open_a_hole_but_a_straight_one_does():
    closed = [[0, 5, 5, 5], [5, 0, 5, 5], [5, 5, 5, 5]]
    assert filled(closed, 5) == [[0, 5, 5, 5], [5, 5, 5, 5], [5, 5, 5, 5]]
    opened = [[5, 0, 5, 5], [5, 0, 5, 5], [5, 5, 5, 5]]
    assert filled(opened, 5) == opened


def test_a_hole_that_touches_the_frame_is_none():
    notch = [[5, 5, 5], [5, 5, 0], [5, 5, 5]]
    assert filled(notch, 50) == notch


def test_a_gap_between_two_cells_is_none():
    gap = [[1, 1, 1, 2, 2], [1, 0, 0, 0, 2], [1, 1, 1, 2, 2]]
    assert filled(gap, 50) == gap


def test_a_cell_within_a_cell_and_the_ring_around_it_stay():
    nested = np.ones((7, 7), np.int32)
    nested[1:6, 1:6] = 0
    nested[3, 3] = 2
    assert filled(nested.tolist(), 1000) == nested.tolist()
    nested[3, 3] = 0
    assert (np.array(filled(nested.tolist(), 26)) == 1).all()


def test_background_at_the_corners_of_a_round_cell_stays():
    y, x = np.mgrid[-12:13, -12:13]
    disc = (y * y + x * x <= 100).astype(np.int32)
    neighbour = (slice(0, 3), slice(0, 3))
    disc[neighbour] = 2
    holed = disc.copy()
    holed[12, 12] = 0
    fill_holes(holed, 50)
    assert np.array_equal(holed, disc)


@examples
@given(few_labels, st.sampled_from([1, 2, 3, 5, 100]))
def test_filling_by_its_definition(labels, threshold):
    expected = labels.copy()
    regions, n = ndimage.label(labels == 0)
    for region in (regions == k for k in range(1, n + 1)):
        around = ndimage.binary_dilation(region) & ~region
        on_frame = region[[0, -1]].any() or region[:, [0, -1]].any()
        if not on_frame and region.sum() < threshold and len(np.unique(labels[around])) == 1:
            expected[region] = labels[around][0]
    fill_holes(labels, threshold)
    assert np.array_equal(labels, expected)


@examples
@given(few_labels, st.integers(0, 6))
def test_small_cells_are_dropped_and_the_others_renumbered_in_order(labels, least):
    areas = np.bincount(labels.ravel(), minlength=4)
    kept = [k for k in (1, 2, 3) if areas[k] >= max(least, 1)]
    expected = np.select([labels == k for k in kept], range(1, len(kept) + 1), 0) if kept else 0
    assert drop_small(labels, 3, least) == len(kept)
    assert np.array_equal(labels, np.broadcast_to(expected, labels.shape))
