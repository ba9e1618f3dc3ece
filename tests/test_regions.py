import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps
from skimage import measure, segmentation

from cellshed.regions import as_labels, connected_components, erode_edges, pieces

few_labels = nps.arrays(
    np.int32,
    st.tuples(st.integers(1, 12), st.integers(1, 20)),
    elements=st.sampled_from([0, 0, 1, 1, 2, 70000]),
)
examples = settings(deadline=None, max_examples=150)


def test_erosion_by_hand():
    labels = np.array(
        [
            [3, 3, 3, 0, 0, 0],
            [3, 3, 3, 5, 5, 5],
            [3, 3, 3, 5, 5, 5],
            [3, 3, 3, 5, 5, 5],
        ]
    )
    once = np.array(
        [
            [3, 3, 0, 0, 0, 0],
            [3, 3, 0, 0, 0, 0],
            [3, 3, 0, 0, 5, 5],
            [3, 3, 0, 0, 5, 5],
        ]
    )
    assert np.array_equal(erode_edges(labels), once)
    assert np.array_equal(erode_edges(labels, 0), labels)
    assert np.array_equal(erode_edges(labels, 2), erode_edges(once))


def test_the_frame_is_no_boundary():
    assert np.array_equal(erode_edges(np.ones((5, 6), int), 3), np.ones((5, 6)))


@examples
@given(few_labels)
def test_erosion_takes_the_boundaries_of_scikit_image(labels):
    expected = segmentation.find_boundaries(labels, connectivity=1, mode="inner", background=0)
    assert np.array_equal(erode_edges(labels), np.where(expected, 0, labels))


@examples
@given(few_labels)
def test_components_equal_scikit_image(labels):
    for connectivity, rank in ((4, 1), (8, 2)):
        numbered, n = connected_components(labels, connectivity)
        expected = measure.label(labels, connectivity=rank)
        assert n == expected.max()
        assert np.array_equal(numbered, expected)


@pytest.mark.parametrize("width", [7, 8, 9, 63, 64, 65, 200])
def test_components_of_noise_and_winding_shapes(width):
    rng = np.random.default_rng(width)
    comb = np.ones((60, width), int)
    comb[:-1, ::2] = 0  # teeth that meet only in the last row
    for labels in (rng.integers(0, 3, (60, width)), comb, comb[::-1], comb.T, np.eye(width)):
        numbered, n = connected_components(labels.astype(int))
        expected = measure.label(labels.astype(int), connectivity=2)
        assert n == expected.max()
        assert np.array_equal(numbered, expected)


def test_runs_by_hand():
    labels = np.array([[4, 4, 9, 0, 4], [0, 4, 0, 4, 4]])
    found = pieces(labels)
    assert found.rows.tolist() == [0, 0, 0, 1, 1]
    assert found.starts.tolist() == [0, 2, 4, 1, 3]
    assert found.stops.tolist() == [2, 3, 5, 2, 5]
    assert found.piece.tolist() == [0, 1, 2, 0, 2]
    assert found.n == 3


def test_corners_touch_with_8_neighbours_only():
    labels = np.array([[1, 0], [0, 1]])
    assert connected_components(labels, 8)[1] == 1
    assert connected_components(labels, 4)[1] == 2
    with pytest.raises(ValueError, match="connectivity 6: give 4 or 8"):
        pieces(labels, 6)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.array([[0, -3]]), "holds -3: set negative labels to 0"),
        (np.array([[0.0, 1.5]]), "dtype float64: give whole numbers"),
        (np.array([[0.0, 1.0]], np.float32), "dtype float32: give whole numbers"),
        (np.array([[True, False]]), "boolean mask: number its cells first"),
        (np.zeros((2, 3, 1), int), r"shape \(2, 3, 1\): give one label image \(H, W\)"),
        (np.zeros(4, int), r"shape \(4,\): give one label image"),
        (np.array([[2**31]]), "holds 2147483648: renumber it"),
        (np.array([[2**64 - 1]], np.uint64), "renumber it"),
    ],
)
def test_what_is_no_label_image_is_named(labels, message):
    with pytest.raises(ValueError, match=message):
        as_labels(labels)


@pytest.mark.parametrize("times", [-1, 0.5])
def test_impossible_erosion(times):
    with pytest.raises(ValueError, match=f"erosion = {times} pixels: give a whole number"):
        erode_edges(np.ones((2, 2), int), times)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, ">u2", np.uint32, np.int64, np.uint64])
def test_takes_any_integer_and_layout_and_changes_nothing(dtype):
    labels = np.array([[0, 1, 1, 1], [2, 2, 1, 1], [2, 2, 1, 1]], dtype)
    labels.flags.writeable = False
    expected = erode_edges(labels.astype(np.int32))
    for given_labels in (labels, np.asfortranarray(labels), np.repeat(labels, 2, axis=1)[:, ::2]):
        assert np.array_equal(erode_edges(given_labels), expected)
        assert connected_components(given_labels)[1] == 2
        assert np.array_equal(given_labels, labels)


@pytest.mark.parametrize("shape", [(0, 0), (0, 5), (5, 0)])
def test_no_pixels(shape):
    nothing = np.zeros(shape, int)
    assert erode_edges(nothing).shape == shape
    assert connected_components(nothing)[1] == 0
