"""Classes of pixels: hand-worked values, and what must be true of any labels."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps
from scipy import ndimage
from skimage import morphology, segmentation

from cellshed.class_maps import foreground, pixelwise, pixelwise_separated
from label_images import IMAGES

few_labels = nps.arrays(
    np.int32,
    st.tuples(st.integers(2, 11), st.integers(2, 14)),
    elements=st.sampled_from([0, 0, 1, 1, 1, 2, 2, 9]),
)
examples = settings(deadline=None, max_examples=100)


@pytest.fixture(params=IMAGES.values(), ids=IMAGES)
def labels(request):
    return request.param


def test_pixelwise_by_hand():
    labels = [
        [1, 1, 1, 0, 0, 0],
        [1, 1, 1, 2, 2, 0],
        [1, 1, 1, 2, 2, 0],
    ]
    edge, interior, background = 0, 1, 2
    expected = [
        [interior, interior, edge, background, background, background],
        [interior, interior, edge, edge, edge, background],
        [interior, interior, edge, edge, edge, background],
    ]
    assert pixelwise(labels).argmax(axis=2).tolist() == expected
    dilated = pixelwise(labels, dilation=1).argmax(axis=2)
    expected[0][3:5] = [edge, edge]
    expected[1][5] = expected[2][5] = edge
    assert dilated.tolist() == expected


@pytest.mark.parametrize("dilation", [0, 1, 2, 3, 5])
def test_dilation_is_by_a_disc(labels, dilation):
    edge = segmentation.find_boundaries(labels, connectivity=1, mode="inner", background=0)
    interior = (labels > 0) & ~edge
    edge = ndimage.binary_dilation(edge, morphology.disk(dilation)) & ~interior
    expected = np.stack([edge, interior, ~(edge | interior)], axis=2)
    assert np.array_equal(pixelwise(labels, dilation=dilation), expected)


def test_separated_edges_by_hand():
    labels = [[0, 0, 1, 1, 2, 2, 0]]
    background_edge, cell_edge, background = 0, 1, 3
    classes = [background_edge, cell_edge, cell_edge, background_edge]
    expected = [[background, background, *classes, background]]
    assert pixelwise_separated(labels).argmax(axis=2).tolist() == expected
    expected = [[background, background_edge, *classes, background_edge]]
    assert pixelwise_separated(labels, dilation=1).argmax(axis=2).tolist() == expected


@examples
@given(few_labels, st.integers(0, 3))
def test_separated_edges_are_the_edges(labels, dilation):
    together = pixelwise(labels, dilation=dilation)
    separated = pixelwise_separated(labels, dilation=dilation)
    background_edge, cell_edge, *others = np.moveaxis(separated, 2, 0)
    assert np.array_equal(background_edge + cell_edge, together[..., 0])
    assert np.array_equal(others, np.moveaxis(together[..., 1:], 2, 0))
    beside_background = ndimage.binary_dilation(labels == 0)
    assert not (cell_edge & beside_background).any()
    assert (background_edge <= beside_background | (labels == 0)).all()


def test_foreground_always_has_two_channels():
    assert foreground([[0, 5]]).tolist() == [[[1, 0], [0, 1]]]
    assert foreground([[0, 0]]).tolist() == [[[1, 0], [1, 0]]]
    assert foreground([[3]]).tolist() == [[[0, 1]]]


def test_impossible_dilation_is_named():
    with pytest.raises(ValueError, match="dilation = -2 pixels: give a whole number"):
        pixelwise([[1]], dilation=-2)
