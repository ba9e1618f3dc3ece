import numpy as np
import pytest
from scipy import ndimage

from cellshed.smooth import gaussian


def test_one_bright_pixel_becomes_the_kernel():
    image = np.zeros((11, 11), np.float32)
    image[5, 5] = 1
    smoothed = gaussian(image, 1)
    assert smoothed.sum() == pytest.approx(1, abs=1e-6)
    assert smoothed[5, 6] / smoothed[5, 5] == pytest.approx(np.exp(-0.5), rel=1e-6)
    assert smoothed[7, 5] / smoothed[5, 5] == pytest.approx(np.exp(-2), rel=1e-6)
    assert smoothed[0, 5] == 0  # beyond four sigmas


def test_the_frame_is_a_mirror():
    assert gaussian(np.full((3, 7), 0.3, np.float32), 5) == pytest.approx(0.3)


def test_without_sigma_nothing_changes():
    image = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert np.array_equal(gaussian(image, 0), image)


@pytest.mark.parametrize("sigma", [0.05, 0.13, 0.3, 0.5, 1, 1.5, 2, 2.7, 6])
def test_equal_to_scipy_to_the_last_bit(sigma):
    for seed in range(20):
        rng = np.random.default_rng(seed)
        scale = 10.0 ** rng.integers(-3, 3)
        image = (scale * rng.standard_normal(rng.integers(1, 40, 2))).astype(np.float32)
        assert np.array_equal(gaussian(image, sigma), ndimage.gaussian_filter(image, sigma))
