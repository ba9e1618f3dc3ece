import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps
from scipy import ndimage
from skimage import segmentation

from cellshed import flood
from cellshed.flood import watershed

examples = settings(deadline=None, max_examples=100)


@st.composite
def floods(draw):
    """Return a map of few levels, so that ties abound, and markers of one or several pixels."""
    shape = draw(st.tuples(st.integers(1, 12), st.integers(1, 12)))
    levels = draw(st.sampled_from([[1.0], [0.0, 1.0], [-0.5, -0.0, 0.0, 0.5, 1.0]]))
    interior = draw(nps.arrays(np.float32, shape, elements=st.sampled_from(levels)))
    markers = draw(nps.arrays(np.int32, shape, elements=st.sampled_from([0] * 9 + [1, 2, 3])))
    return interior, markers, draw(st.sampled_from([-1.0, 0.0, 0.4]))


def plain(interior, markers, threshold):
    return segmentation.watershed(-interior, markers, mask=interior > threshold)


def test_a_valley_goes_to_its_higher_side_and_cells_stop_at_the_threshold():
    row = np.array([[0.2, 0.6, 0.9, 0.8, 0.5, 0.7, 1.0, 0.6, 0.3]], np.float32)
    markers = np.array([[0, 0, 1, 0, 0, 0, 2, 0, 0]], np.int32)
    assert watershed(row, markers, 0.3).tolist() == [[0, 1, 1, 1, 1, 2, 2, 2, 0]]
    assert watershed(row, markers, 0.55).tolist() == [[0, 1, 1, 1, 0, 2, 2, 2, 0]]


def test_a_marker_outside_the_mask_and_a_piece_without_a_marker_are_lost():
    row = np.array([[0.2, 0.1, 0.9, 0.8, 0.0, 0.7, 0.7]], np.float32)
    markers = np.array([[3, 0, 0, 2, 0, 0, 0]], np.int32)
    assert watershed(row, markers, 0.3).tolist() == [[0, 0, 2, 2, 0, 0, 0]]


def test_corners_do_not_connect():
    interior = np.eye(3, dtype=np.float32)
    markers = np.zeros((3, 3), np.int32)
    markers[1, 1] = 4
    assert np.array_equal(watershed(interior, markers, 0.5), markers)


def test_a_plateau_is_shared_by_distance():
    markers = np.zeros((1, 10), np.int32)
    markers[0, [0, 7]] = 1, 2
    expected = [[1, 1, 1, 1, 2, 2, 2, 2, 2, 2]]
    assert watershed(np.ones((1, 10), np.float32), markers, 0).tolist() == expected


def test_a_hill_without_a_marker_goes_to_who_reaches_its_saddle_first():
    row = np.array([[0.9, 0.6, 1.0, 1.0, 0.5, 0.8]], np.float32)
    markers = np.array([[1, 0, 0, 0, 0, 2]], np.int32)
    assert watershed(row, markers, 0).tolist() == [[1, 1, 1, 1, 2, 2]]


@examples
@given(floods())
def test_equal_to_scikit_image_on_plateaus_and_ties(case):
    assert np.array_equal(watershed(*case), plain(*case))


@examples
@given(floods())
def test_the_heap_alone_is_scikit_images(case):
    interior, markers, threshold = case
    flooded = flood._flood_by_heap(interior, markers, interior > threshold)
    assert np.array_equal(flooded, plain(*case))


@pytest.mark.parametrize("batch", [1, 50, 1 << 16])
@pytest.mark.parametrize("levels", [0, 5, 60])
def test_equal_to_scikit_image_whatever_is_done_at_a_time(monkeypatch, batch, levels):
    monkeypatch.setattr(flood, "BATCH", batch)
    for seed in range(25):
        rng = np.random.default_rng(seed)
        interior = ndimage.gaussian_filter(rng.random(rng.integers(5, 50, 2)), seed % 3)
        if levels:
            interior = np.round(interior * levels) / levels
        interior = interior.astype(np.float32)
        sparse = rng.random(interior.shape) < 0.04
        markers = ndimage.label(sparse)[0].astype(np.int32)
        threshold = float(np.quantile(interior, 0.4))
        case = interior, markers, threshold
        assert np.array_equal(watershed(*case), plain(*case))


def test_the_sweep_gives_up_only_where_the_order_of_markers_decides(monkeypatch):
    calls = []
    by_heap = flood._flood_by_heap
    monkeypatch.setattr(flood, "_flood_by_heap", lambda *a: calls.append(1) or by_heap(*a))
    row = np.ones((1, 6), np.float32)
    markers = np.zeros((1, 6), np.int32)
    markers[0, [0, 5]] = 1, 2
    assert watershed(row, markers, 0).tolist() == [[1, 1, 1, 2, 2, 2]]
    assert not calls  # the fronts meet between two pixels
    markers[0] = 0
    markers[0, [0, 4]] = 1, 2
    assert np.array_equal(watershed(row, markers, 0), plain(row, markers, 0))
    assert calls  # both reach the pixel in the middle at once
    calls.clear()
    row[0, 0] = 2
    assert watershed(row, markers, 0).tolist() == [[1, 1, 1, 2, 2, 2]]
    assert not calls  # the markers differ in value, so it's known who comes first


def test_labels_do_not_depend_on_layout_or_names():
    rng = np.random.default_rng(3)
    interior = ndimage.gaussian_filter(rng.random((40, 50)), 1).astype(np.float32)
    markers = np.zeros((40, 50), np.int32)
    markers[rng.integers(0, 40, 12), rng.integers(0, 50, 12)] = np.arange(1, 13)
    names = np.concatenate([[0], 7 + rng.permutation(12)]).astype(np.int32)
    flooded = watershed(interior, markers, 0.45)
    assert np.array_equal(watershed(interior, names[markers], 0.45), names[flooded])
    flipped = watershed(interior[::-1].copy(), markers[::-1].copy(), 0.45)
    assert np.array_equal(flipped[::-1], flooded)  # no two values are equal


def test_empty_maps():
    for shape in ((0, 0), (0, 5), (5, 0)):
        empty = np.zeros(shape, np.float32)
        assert watershed(empty, np.zeros(shape, np.int32), 0.1).shape == shape
