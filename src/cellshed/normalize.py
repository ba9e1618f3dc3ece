"""Intensities as acquired -> what the network sees.

The methods "image", "dataset", "percentile" and "none" are one offset and one factor per channel,
so a crop can be normalised with the statistics of its whole image. "histogram" is not.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from cellshed.config import with_overrides
from cellshed.settings import NormalizeSettings

Image = NDArray[Any]
EPSILON = 1e-7


class Scaling(NamedTuple):
    """A normalisation that is the same for all pixels: (x - offset) * factor."""

    offset: NDArray[np.float64]
    """(C,)"""
    factor: NDArray[np.float64]
    """(C,)"""


def normalize(image: Image, settings: NormalizeSettings) -> NDArray[np.float32]:
    """Return an image as the network sees it.

    Args:
        image: (H, W) or (H, W, C), any numeric dtype.
        settings: method and its arguments; "dataset" needs mean and std (see `fit`).

    Returns:
        float32 (H, W, C). A channel that is constant becomes zero everywhere, except with the
        methods "dataset" and "none".

    Raises:
        ValueError: a pixel is NaN or infinite, the shape isn't that of an image, or the settings
            don't fit the number of channels.
    """
    image = as_channels(image)
    if settings.method == "histogram":
        return preprocess_mesmer(image, kernel_size=settings.kernel_size)
    return apply_scaling(image, scaling(image, settings))


def scaling(image: Image, settings: NormalizeSettings) -> Scaling:
    """Return offset and factor per channel, by which `normalize` would change this image.

    Args:
        image: (H, W) or (H, W, C), the whole image.
        settings: any method but "histogram".

    Raises:
        ValueError: as `normalize`, or the method is "histogram".
    """
    image = as_channels(image)
    check_finite(image)
    match settings.method:
        case "image":
            return _by_moments(image)
        case "percentile":
            return _by_percentiles(image, settings.low, settings.high)
        case "dataset":
            return _by_dataset(image.shape[2], settings)
        case "none":
            return Scaling(np.zeros(image.shape[2]), np.ones(image.shape[2]))
        case _:
            raise ValueError("method histogram changes each pixel by itself: it has no scaling")


def apply_scaling(image: Image, scale: Scaling) -> NDArray[np.float32]:
    """Return (image - offset) * factor, computed in float64, as float32 (H, W, C)."""
    image = as_channels(image)
    out = np.empty(image.shape, np.float32)
    _scale_into(image, scale.offset, scale.factor, out)
    return out


def fit(images: Iterable[Image], settings: NormalizeSettings) -> NormalizeSettings:
    """Return settings with mean and std of a set of images, if the method asks for them.

    Args:
        images: (H, W) or (H, W, C) each, read once, one after another; every pixel counts alike.
        settings: returned as they are unless method is "dataset" and mean or std is empty.

    Raises:
        ValueError: there are no images, or they differ in their number of channels.
    """
    if settings.method != "dataset" or (settings.mean and settings.std):
        return settings
    moments = [_moments(as_channels(image)) for image in images]
    if not moments:
        raise ValueError("normalize.method dataset: no images to find mean and std from")
    channels = sorted({len(mean) for _, mean, _ in moments})
    if len(channels) > 1:
        raise ValueError(f"the images differ in their number of channels: {channels}")
    counts = np.array([count for count, _, _ in moments], float)[:, None]
    means = np.stack([mean for _, mean, _ in moments])
    variances = np.stack([variance for _, _, variance in moments])
    mean = (counts * means).sum(0) / counts.sum()
    variance = (counts * (variances + (means - mean) ** 2)).sum(0) / counts.sum()
    found = {"mean": tuple(mean.tolist()), "std": tuple(np.sqrt(variance).tolist())}
    return with_overrides(settings, found, "normalize")


def preprocess_mesmer(
    image: Image, *, percentile: float = 99.9, kernel_size: int | None = 128
) -> NDArray[np.float32]:
    """Return an image as Mesmer preprocesses it: bright pixels clipped, histogram equalised.

    Args:
        image: (H, W) or (H, W, C), any numeric dtype.
        percentile: of each channel's pixels that aren't zero; brighter ones are set to it.
        kernel_size: as `equalize_histogram`.

    Returns:
        float32 (H, W, C) in [0, 1]. Source: Greenwald et al. 2022, doi 10.1038/s41587-021-01094-0.
    """
    return equalize_histogram(clip_bright(image, percentile), kernel_size)


def clip_bright(image: Image, percentile: float = 99.9) -> Image:
    """Return (H, W, C) with each channel clipped at a percentile of its pixels that aren't zero.

    The dtype stays; for integers the clipping value is rounded down.
    """
    image = as_channels(image)
    check_finite(image)
    out = image.copy()
    for channel in range(image.shape[2]):
        plane = image[..., channel]
        bright = plane[plane != 0]
        if bright.size:
            threshold = np.percentile(bright, percentile).astype(image.dtype)
            out[..., channel] = np.minimum(plane, threshold)
    return out


def equalize_histogram(image: Image, kernel_size: int | None = 128) -> NDArray[np.float32]:
    """Rescale each channel to 0..1, then equalise its histogram locally (CLAHE, 256 bins, 0.01).

    Args:
        image: (H, W) or (H, W, C), any numeric dtype.
        kernel_size: side of the local histograms' tiles in pixels; None: an eighth of each side.

    Returns:
        float32 (H, W, C) in [0, 1]; a constant channel becomes zero everywhere.
    """
    from skimage.exposure import equalize_adapthist

    image = as_channels(image)
    check_finite(image)
    out = np.zeros(image.shape, np.float32)
    for channel in range(image.shape[2]):
        plane = image[..., channel].astype(np.float32)
        low, high = plane.min(), plane.max()
        if high > low:
            plane = (plane - low) / (high - low)
            out[..., channel] = equalize_adapthist(plane, kernel_size=kernel_size)
    return out


def as_taken(image: Image, channels: int) -> Image:
    """Return an image as (H, W, C) for a network that takes so many channels.

    Where it takes one, several equal ones, as of grey saved in colour, are one; others stay.
    """
    image = as_channels(image)
    grey = channels == 1 and image.shape[2] > 1 and (image == image[:, :, :1]).all()
    return np.ascontiguousarray(image[:, :, :1]) if grey else image


def as_channels(image: Image) -> Image:
    """Return (H, W) or (H, W, C) as (H, W, C) in native byte order, if possible without a copy.

    Raises:
        ValueError: another number of axes, a side of zero, or pixels that aren't real numbers.
    """
    image = np.asarray(image)
    if image.ndim not in (2, 3) or 0 in image.shape:
        raise ValueError(
            f"image of shape {image.shape}: expected (H, W) or (H, W, C), none of them 0"
        )
    image = image.astype(image.dtype.newbyteorder("="), copy=False)  # kernels know no other
    if image.dtype == bool or image.dtype == np.float16:
        image = image.astype(np.float32)
    if image.dtype.kind not in "uif":
        raise ValueError(f"image of dtype {image.dtype}: expected integers or floats")
    return image[..., None] if image.ndim == 2 else image


def check_finite(image: Image) -> None:
    """Raise ValueError if a pixel is NaN or infinite."""
    if image.dtype.kind == "f" and not np.isfinite(image).all():
        bad = int(np.count_nonzero(~np.isfinite(image)))
        raise ValueError(
            f"{bad} pixel values are NaN or infinite: replace them first, e.g. by numpy.nan_to_num"
        )


def _moments(image: Image) -> tuple[int, NDArray[np.float64], NDArray[np.float64]]:
    check_finite(image)
    mean = image.mean(axis=(0, 1), dtype=np.float64)
    variance = image.var(axis=(0, 1), dtype=np.float64)
    return image.shape[0] * image.shape[1], mean, variance


def _by_moments(image: Image) -> Scaling:
    _, mean, variance = _moments(image)
    return Scaling(mean, _unless_constant(image, 1 / (np.sqrt(variance) + EPSILON)))


def _by_percentiles(image: Image, low: float, high: float) -> Scaling:
    if low >= high:
        raise ValueError(f"normalize.low {low} must be below normalize.high {high}")
    bounds = np.percentile(image, (low, high), axis=(0, 1)).astype(np.float64)
    # An image that is mostly one value: its percentiles coincide, its extremes don't.
    flat = bounds[0] == bounds[1]
    bounds[:, flat] = np.stack([image.min((0, 1)), image.max((0, 1))])[:, flat]
    return Scaling(bounds[0], _unless_constant(image, 1 / np.maximum(bounds[1] - bounds[0], 1e-30)))


def _by_dataset(channels: int, settings: NormalizeSettings) -> Scaling:
    mean, std = np.array(settings.mean, float), np.array(settings.std, float)
    if not mean.size or not std.size:
        raise ValueError("normalize.method dataset: mean and std are empty; find them by training")
    if not len(mean) == len(std) == channels:
        raise ValueError(
            f"image of {channels} channels, but normalize.mean has {len(mean)} and "
            f"normalize.std {len(std)} numbers: give one per channel"
        )
    return Scaling(mean, 1 / (std + EPSILON))


def _unless_constant(image: Image, factor: NDArray[np.float64]) -> NDArray[np.float64]:
    constant = image.min(axis=(0, 1)) == image.max(axis=(0, 1))
    return np.where(constant, 0.0, factor)


@numba.njit(cache=True, nogil=True)
def _scale_into(
    image: Image,
    offset: NDArray[np.float64],
    factor: NDArray[np.float64],
    out: NDArray[np.float32],
) -> None:
    height, width, channels = image.shape
    for r in range(height):
        for c in range(width):
            for k in range(channels):
                out[r, c, k] = (image[r, c, k] - offset[k]) * factor[k]
