"""Intensities of a crop changed at random, as other microscopes and lamps would show it.

All are told in the crop's own mean and standard deviation, so that they mean the same whatever
the normalisation.
"""

from math import cos, exp, log, pi, sin

import numpy as np
from numpy.typing import NDArray

from cellshed.settings import AugmentSettings

Image = NDArray[np.float32]

DEFOCUS = 2.5
"""Gaussian sigma, in pixels, of what lies out of focus."""
STEEPNESS = np.float32(5)
"""How fast focus is lost across a crop: from a tenth to nine tenths in under half of it."""


def vary_intensity(rng: np.random.Generator, settings: AugmentSettings, image: Image) -> Image:
    """Return a normalised image with its intensities changed at random.

    In this order: gamma, relief, shade and defocus, each if asked for; blur; contrast and
    brightness; noise.

    Args:
        rng: source of chance. Four draws are taken, one for gamma, two each for relief and shade,
            three for defocus if they are asked for, and one per value for noise.
        settings: how far each goes.
        image: (S, S, C) float32, normalised; not changed.
    """
    blur, contrast, brightness, noise = rng.random(4).tolist()
    if settings.gamma:
        image = _bend(image, exp(_either_way(rng) * -log(1 - settings.gamma)))
    if settings.relief:
        share = max(0.0, _either_way(rng)) * settings.relief
        image = _light_from_aside(image, share, _angle(rng))
    if settings.shade:
        image = _darken_one_side(image, rng.random() * settings.shade, _angle(rng))
    if settings.defocus:
        image = _defocus_one_side(image, rng.random() * settings.defocus, _angle(rng), rng.random())
    if settings.blur:
        image = _smooth(image, blur * settings.blur)
    if settings.contrast or settings.brightness:
        factor = exp((2 * contrast - 1) * -log(1 - settings.contrast))
        shift = (2 * brightness - 1) * settings.brightness
        mean, std = image.mean((0, 1)), image.std((0, 1))
        image = (image - mean) * np.float32(factor) + (mean + np.float32(shift) * std)
    if settings.noise:
        grains = rng.standard_normal(image.shape, dtype=np.float32)
        image = image + grains * np.float32(noise * settings.noise)
    return image


def _either_way(rng: np.random.Generator) -> float:
    return 2 * rng.random() - 1


def _angle(rng: np.random.Generator) -> float:
    return 2 * pi * rng.random()


def _smooth(image: Image, sigma: float) -> Image:
    from scipy.ndimage import gaussian_filter

    smoothed: Image = gaussian_filter(image, (sigma, sigma, 0), mode="reflect")
    return smoothed


def _bend(image: Image, gamma: float) -> Image:
    """Raise intensities, from 0 at the darkest to 1 at the brightest pixel, to a power."""
    low, high = image.min((0, 1)), image.max((0, 1))
    bent = ((image - low) / np.maximum(high - low, 1e-6)) ** np.float32(gamma)
    return _with_spread_of(image, bent)


def _light_from_aside(image: Image, share: float, angle: float) -> Image:
    """Replace a share of the image by its slope in one direction, as oblique light or DIC shows."""
    rows, columns = (np.gradient(_smooth(image, 1.0), axis=axis) for axis in (0, 1))
    slope = _with_spread_of(image, rows * sin(angle) + columns * cos(angle))
    return _with_spread_of(image, (1 - share) * image + share * slope)


def _darken_one_side(image: Image, strength: float, angle: float) -> Image:
    """Add a ramp from -strength to strength standard deviations across the image."""
    spread = np.float32(strength) * image.std((0, 1))
    shaded: Image = image + _ramp(image.shape[0], angle) * spread
    return shaded


def _defocus_one_side(image: Image, share: float, angle: float, middle: float) -> Image:
    """Take a share of the detail from one side, as where a dish is tilted or the cells lie deeper.

    Args:
        image: (S, S, C).
        share: how much of what a Gaussian of DEFOCUS pixels removes is taken.
        angle: direction of that side.
        middle: in 0..1; where across the image half of the share is taken.
    """
    beyond = _ramp(image.shape[0], angle) + np.float32(1 - 2 * middle)
    lost = np.float32(share) / (1 + np.exp(-STEEPNESS * beyond))
    blurred: Image = image + lost * (_smooth(image, DEFOCUS) - image)
    return blurred


def _ramp(size: int, angle: float) -> Image:
    """Return (S, S, 1) rising in one direction, from -1 at the farthest pixel to 1."""
    ramp = np.linspace(-1, 1, size, dtype=np.float32)
    across = ramp[:, None] * sin(angle) + ramp * cos(angle)
    steep: Image = (across / np.abs(across).max())[:, :, None].astype(np.float32)
    return steep


def _with_spread_of(image: Image, changed: NDArray[np.floating]) -> Image:
    """Give a changed image the mean and the standard deviation of the original, by channel."""
    centred = changed - changed.mean((0, 1))
    spread = image.std((0, 1)) / np.maximum(centred.std((0, 1)), 1e-6)
    restored: Image = (centred * spread + image.mean((0, 1))).astype(np.float32)
    return restored
