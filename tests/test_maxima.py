import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps
from scipy import ndimage
from skimage import feature, measure, morphology

from cellshed.maxima import disk_offsets, h_maxima, label_peaks, peak_local_max

few_levels = nps.arrays(
    np.float32,
    st.tuples(st.integers(1, 14), st.integers(1, 14)),
    elements=st.sampled_from([0.0, 0.1, 0.2, 0.25, 0.3, 0.4, 1.0]),
)
examples = settings(deadline=None, max_examples=80)


def bumpy(kind: str, seed: int) -> np.ndarray:
    """Return maps with few levels, near-ties within the tolerance, slopes, or large values."""
    rng = np.random.default_rng(seed)
    shape = rng.integers(2, 36, 2)
    noise = rng.random(shape)
    image = {
        "noise": noise,
        "smooth": 3 * ndimage.gaussian_filter(noise, 1.5),
        "near ties": np.round(noise, 1) + 1e-7 * rng.integers(-3, 4, shape),
        "steps": ndimage.gaussian_filter(np.round(noise), 1.0) - 0.3,
        "large": 1000 * (noise - 0.5),
        "tiny": 1e-8 * noise + np.round(noise),
    }[kind]
    return image.astype(np.float32)


def test_a_peak_counts_by_its_prominence_not_its_height():
    row = np.array([[0.0, 0.5, 0.0, 0.9, 0.5, 0.55, 0.5]], np.float32)
    assert h_maxima(row, 0.1, 1).tolist() == [[0, 1, 0, 1, 0, 0, 0]]
    assert h_maxima(row, 0.04, 1).tolist() == [[0, 1, 0, 1, 0, 1, 0]]
    assert h_maxima(row, 0.6, 1).tolist() == [[0, 0, 0, 1, 0, 0, 0]]
    assert h_maxima(row, 0.95, 1).sum() == 0  # more than the map's range


def test_neighbours_are_those_within_the_disk():
    row = np.array([[0.9, 0.0, 0.5, 0.0, 0.0, 0.5]], np.float32)
    assert h_maxima(row, 0.1, 1).tolist() == [[1, 0, 1, 0, 0, 1]]
    assert h_maxima(row, 0.1, 2).tolist() == [[1, 0, 0, 0, 0, 1]]
    assert h_maxima(row, 0.1, 3).tolist() == [[1, 0, 0, 0, 0, 0]]


def test_a_plateau_is_a_maximum_as_a_whole_and_a_constant_map_has_none():
    image = np.zeros((5, 6), np.float32)
    image[1:3, 2:5] = 0.5
    assert np.array_equal(h_maxima(image, 0.2, 2), image > 0)
    assert h_maxima(np.full((4, 4), 0.7, np.float32), 0.1, 2).sum() == 0


@examples
@given(few_levels, st.sampled_from([0.05, 0.1, 0.2]), st.integers(1, 4))
def test_h_maxima_equal_scikit_image_on_plateaus(image, height, radius):
    expected = morphology.h_maxima(image, height, footprint=morphology.disk(radius))
    assert np.array_equal(h_maxima(image, height, radius), expected)


@pytest.mark.parametrize("kind", ["noise", "smooth", "near ties", "steps", "large", "tiny"])
@pytest.mark.parametrize("radius", [1, 2, 5])
def test_h_maxima_equal_scikit_image(kind, radius):
    for seed in range(12):
        image = bumpy(kind, seed)
        for height in (1e-6, 0.075, 0.3):
            expected = morphology.h_maxima(image, height, footprint=morphology.disk(radius))
            assert np.array_equal(h_maxima(image, height, radius), expected)


@pytest.mark.filterwarnings("ignore")
@examples
@given(few_levels, st.sampled_from([0.0, 0.1, 0.25]), st.integers(1, 5), st.booleans())
def test_peak_local_max_equals_scikit_image_on_plateaus(image, threshold, radius, border):
    at = feature.peak_local_max(
        image, min_distance=radius, threshold_abs=threshold, exclude_border=border
    )
    expected = np.zeros(image.shape)
    expected[tuple(at.T)] = 1
    assert np.array_equal(peak_local_max(image, threshold, radius, border), expected)


@pytest.mark.parametrize("kind", ["noise", "smooth", "near ties"])
def test_peak_local_max_equals_scikit_image(kind):
    for seed in range(20):
        image, radius = bumpy(kind, seed), 1 + seed % 6
        at = feature.peak_local_max(
            image, min_distance=radius, threshold_abs=0.3, exclude_border=seed % 2 == 1
        )
        expected = np.zeros(image.shape)
        expected[tuple(at.T)] = 1
        assert np.array_equal(peak_local_max(image, 0.3, radius, seed % 2 == 1), expected)


def test_disks_are_scikit_images():
    for radius in range(1, 12):
        disk = np.zeros((2 * radius + 1, 2 * radius + 1), int)
        disk[tuple((disk_offsets(radius) + radius).T)] = 1
        disk[radius, radius] = 1
        assert np.array_equal(disk, morphology.disk(radius))


@examples
@given(nps.arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9)),
                  elements=st.integers(0, 1)))  # fmt: skip
def test_peaks_are_numbered_in_reading_order(mask):
    labels = np.zeros(mask.shape, np.int32)
    n = label_peaks(mask, labels)
    expected, count = measure.label(mask, connectivity=2, return_num=True)
    assert n == count
    assert np.array_equal(labels, expected)
