"""Intensities are changed as far as the settings say, and nothing else is."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from cellshed.intensity import vary_intensity
from cellshed.settings import AugmentSettings


def rng(seed=0):
    return np.random.default_rng(seed)


def texture(seed=0, size=64):
    """A smooth random image of two channels, mean 5 and standard deviation 2."""
    image = gaussian_filter(rng(seed).normal(size=(size, size, 2)), (3, 3, 0))
    image = (image - image.mean((0, 1))) / image.std((0, 1))
    return (2 * image + 5).astype(np.float32)


def halves(image):
    """Upper, lower, left and right half."""
    middle = len(image) // 2
    return image[:middle], image[middle:], image[:, :middle], image[:, middle:]


def test_settings_of_zero_change_nothing():
    image = rng().normal(size=(16, 16, 1)).astype(np.float32)
    np.testing.assert_array_equal(vary_intensity(rng(), AugmentSettings(), image), image)


def test_brightness_shifts_by_deviations_and_contrast_stretches_about_the_mean():
    image = rng().normal(5, 2, (64, 64, 2)).astype(np.float32)
    mean, std = image.mean((0, 1)), image.std((0, 1))
    shifts, factors = [], []
    for seed in range(200):
        bright = vary_intensity(rng(seed), AugmentSettings(brightness=0.5), image)
        np.testing.assert_allclose(bright.std((0, 1)), std, rtol=1e-4)
        shifts.append((bright.mean((0, 1)) - mean) / std)
        strong = vary_intensity(rng(seed), AugmentSettings(contrast=0.2), image)
        np.testing.assert_allclose(strong.mean((0, 1)), mean, rtol=1e-4)
        factors.append(strong.std((0, 1)) / std)
    assert np.min(shifts) == pytest.approx(-0.5, abs=0.02)
    assert np.max(shifts) == pytest.approx(0.5, abs=0.02)
    assert np.min(factors) == pytest.approx(0.8, abs=0.01)
    assert np.max(factors) == pytest.approx(1.25, abs=0.01)


def test_noise_and_blur_do_what_they_say_and_leave_the_input():
    image = rng().normal(size=(128, 128, 1)).astype(np.float32)
    before = image.copy()
    grains = [vary_intensity(rng(i), AugmentSettings(noise=0.3), image) - image for i in range(60)]
    deviations = [grain.std() for grain in grains]
    assert 0.25 < max(deviations) < 0.31
    assert min(deviations) < 0.03
    blurred = [vary_intensity(rng(i), AugmentSettings(blur=2), image).std() for i in range(30)]
    assert min(blurred) < 0.2  # white noise, sigma 2: 1 / (2 * sqrt(pi) * 2) = 0.14
    assert max(blurred) > 0.9
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize("change", [{"gamma": 0.4}, {"relief": 1.0}])
def test_gamma_and_relief_keep_mean_and_spread_and_leave_the_input(change):
    image, before = texture(), texture()
    changed = [vary_intensity(rng(seed), AugmentSettings(**change), image) for seed in range(40)]
    for one in changed:
        assert one.dtype == np.float32
        np.testing.assert_allclose(one.mean((0, 1)), image.mean((0, 1)), atol=1e-3)
        np.testing.assert_allclose(one.std((0, 1)), image.std((0, 1)), rtol=1e-3)
    assert max(np.abs(one - image).max() for one in changed) > 0.5
    np.testing.assert_array_equal(image, before)


def test_gamma_bends_either_way_and_keeps_the_order_of_pixels():
    image = texture()
    middle = np.median(image)
    order = np.argsort(image[..., 0], axis=None)
    medians = []
    for seed in range(60):
        bent = vary_intensity(rng(seed), AugmentSettings(gamma=0.4), image)
        assert (np.diff(bent[..., 0].ravel()[order]) >= 0).all()
        medians.append(np.median(bent) - middle)
    assert min(medians) < -0.05
    assert max(medians) > 0.05


def test_gamma_of_a_known_image():
    """Exponents e: 0, 1/2, 1 become 0, 2**-e, 1, whatever mean and spread they had."""
    image = np.zeros((2, 3, 1), np.float32)
    image[:, 1], image[:, 2] = 5, 10
    found = []
    for seed in range(80):
        bent = vary_intensity(rng(seed), AugmentSettings(gamma=0.5), image)[0, :, 0]
        found.append(-np.log2((bent[1] - bent[0]) / (bent[2] - bent[0])))
    assert 0.5 - 1e-4 <= min(found) < 0.55
    assert 1.85 < max(found) <= 2 + 1e-4


def test_relief_lights_a_hill_from_one_side_in_half_of_the_crops():
    row, column = np.mgrid[-32:32, -32:32] + 0.5
    hill = np.exp(-(row**2 + column**2) / 200)[:, :, None].astype(np.float32)
    kept, sides = 0, []
    for seed in range(80):
        lit = vary_intensity(rng(seed), AugmentSettings(relief=1.0), hill)
        if np.allclose(lit, hill, atol=1e-4):
            kept += 1
            continue
        odd = (lit - lit[::-1, ::-1])[..., 0] / 2  # what a hill doesn't have
        sides.append(np.arctan2((odd * row).sum(), (odd * column).sum()))
    assert 25 <= kept <= 55
    assert min(sides) < -2  # from everywhere
    assert max(sides) > 2


def test_shade_adds_a_ramp_of_at_most_so_many_deviations():
    image = texture()
    heights = []
    for seed in range(60):
        ramp = vary_intensity(rng(seed), AugmentSettings(shade=0.5), image) - image
        assert np.abs(np.diff(ramp, n=2, axis=0)).max() < 1e-4  # straight
        assert np.abs(np.diff(ramp, n=2, axis=1)).max() < 1e-4
        np.testing.assert_allclose(ramp.mean((0, 1)), 0, atol=1e-4)
        heights.append((np.abs(ramp).max((0, 1)) / image.std((0, 1))).max())
    assert 0.45 < max(heights) <= 0.5 + 1e-3
    assert min(heights) < 0.05


@pytest.mark.parametrize("change", [{"gamma": 0.4}, {"relief": 1.0}, {"shade": 0.5}])
def test_an_image_without_any_contrast_stays_so(change):
    image = np.full((16, 16, 1), 3, np.float32)
    changed = vary_intensity(rng(2), AugmentSettings(**change), image)
    np.testing.assert_allclose(changed, image, atol=1e-5)


def test_defocus_takes_detail_from_one_side_and_leaves_the_other():
    noise = rng().normal(size=(96, 96, 1)).astype(np.float32)
    before = noise.copy()
    lost, contrast = [], []
    for seed in range(60):
        soft = vary_intensity(rng(seed), AugmentSettings(defocus=0.8), noise)
        assert soft.dtype == np.float32
        kept = [half.std() for half in halves(soft)]
        lost.append(1 - min(kept))
        contrast.append(max(kept) - min(kept))
    assert 0.6 < max(lost) <= 0.8
    assert min(lost) < 0.1
    assert max(contrast) > 0.3
    np.testing.assert_array_equal(noise, before)


def test_defocus_leaves_what_is_smooth():
    row, column = np.mgrid[:64, :64] / 63
    slope = (row + column)[:, :, None].astype(np.float32)
    for seed in range(10):
        soft = vary_intensity(rng(seed), AugmentSettings(defocus=1.0), slope)
        np.testing.assert_allclose(soft[12:-12, 12:-12], slope[12:-12, 12:-12], atol=0.01)


def test_defocus_comes_from_every_side():
    noise = rng().normal(size=(96, 96, 1)).astype(np.float32)
    softest = set()
    for seed in range(60):
        soft = vary_intensity(rng(seed), AugmentSettings(defocus=1.0), noise)
        softest.add(int(np.argmin([half.std() for half in halves(soft)])))
    assert softest == {0, 1, 2, 3}
