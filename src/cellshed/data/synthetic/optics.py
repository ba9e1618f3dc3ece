"""Phase maps -> what a phase-contrast microscope shows of them."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cellshed.data.synthetic.noise import waves

Image = NDArray[np.float32]


def phase_contrast(phase: Image, *, halo: float = 3.5, ring: float = 0.6) -> Image:
    """Form the image of a transparent specimen in positive phase contrast.

    The wave behind the specimen is exp(i phase). The objective's ring holds back a part of the
    light that wasn't diffracted and shifts it by a quarter wave (Zernike 1942). Because the ring
    has a width, light diffracted by small angles passes it too: modelled as a Gaussian blur of
    the wave. That gives the bright halo around a cell, the shade-off within a flat one, and the
    bright middle of a thick one.

    Args:
        phase: float32 (H, W), radians; 0 where there is no specimen.
        halo: width of the halo, in pixels.
        ring: amplitude that the ring lets through, 0 to 1.

    Returns:
        float32 (H, W), intensity relative to the empty field, 0 for none.
    """
    real, imaginary = np.cos(phase) - 1, np.sin(phase)
    real_low = ndimage.gaussian_filter(real, halo, truncate=3)
    imaginary_low = ndimage.gaussian_filter(imaginary, halo, truncate=3)
    # The undiffracted light of the empty field, 1, is shifted to -i * ring.
    a = real - real_low + ring * imaginary_low
    b = imaginary - imaginary_low - ring * (1 + real_low)
    return np.asarray((a * a + b * b) / ring**2 - 1, np.float32)


def uneven_light(rng: np.random.Generator, shape: tuple[int, int]) -> Image:
    """Return what the lamp adds, in grey levels: vignette, tilt and faint streaks, (H, W)."""
    y, x = (np.linspace(-1, 1, n, dtype=np.float32) for n in shape)
    off_y, off_x = rng.uniform(-0.4, 0.4, 2)
    darkening = rng.uniform(0, 6)
    tilt_y, tilt_x = rng.normal(0, 1.5, 2)
    across = -darkening * (x - off_x) ** 2 + tilt_x * x
    down = -darkening * (y - off_y) ** 2 + tilt_y * y
    light = across[None] + down[:, None]
    return np.asarray(light - light.mean() + 0.4 * waves(rng, shape, 9), np.float32)
