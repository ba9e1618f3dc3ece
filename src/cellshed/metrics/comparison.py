"""How sure a comparison is: intervals over repeated runs, paired tests, and a fitted law."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cellshed.metrics.intervals import LEVELS, RESAMPLES, resample
from cellshed.metrics.overlap import Floats


@dataclass(frozen=True)
class Mean:
    """A mean and its 95 % interval; the ends are None where there is but one value."""

    value: float
    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True)
class Paired:
    """Second less first, its 95 % interval, and the two-sided p of no difference."""

    value: float
    low: float
    high: float
    p: float
    n: int


@dataclass(frozen=True)
class PowerLaw:
    """error = scale * x ** -exponent, fitted as a line through the logarithms."""

    scale: float
    exponent: float
    exponent_low: float
    exponent_high: float
    spread: float
    """Standard deviation of the residuals of ln(error)."""
    centre: float
    """Mean of ln(x)."""
    width: float
    """Sum of the squared distances of ln(x) from its mean."""
    n: int

    def error(self, x: float) -> tuple[float, float, float]:
        """Return the error expected at x, and the 95 % interval of that expectation."""
        middle = np.log(self.scale) - self.exponent * np.log(x)
        leverage = 1 / self.n + (np.log(x) - self.centre) ** 2 / self.width
        half = _t(self.n - 2) * self.spread * np.sqrt(leverage)
        return float(np.exp(middle)), float(np.exp(middle - half)), float(np.exp(middle + half))


def mean_interval(values: Sequence[float]) -> Mean:
    """Return the mean of independent values and its 95 % interval by Student's t.

    Raises:
        ValueError: there are no values.
    """
    array = np.asarray(values, np.float64)
    if not len(array):
        raise ValueError("no values to take the mean of")
    mean = float(array.mean())
    if len(array) < 2:
        return Mean(mean, None, None, len(array))
    half = _t(len(array) - 1) * float(array.std(ddof=1)) / np.sqrt(len(array))
    return Mean(mean, mean - half, mean + half, len(array))


def paired_t(first: Sequence[float], second: Sequence[float]) -> Paired:
    """Compare two things by values that belong together, by Student's paired t-test.

    Args:
        first: one value a seed.
        second: the same for the other, seeds in the same order.

    Raises:
        ValueError: lengths differ, or fewer than two pairs.
    """
    from scipy.stats import t

    if len(first) != len(second) or len(first) < 2:
        raise ValueError(f"{len(first)} and {len(second)} values: give two or more pairs")
    differences = np.asarray(second, np.float64) - np.asarray(first, np.float64)
    found = mean_interval(differences.tolist())
    error = float(differences.std(ddof=1)) / np.sqrt(len(differences))
    if error > 0:
        p = float(2 * t.sf(abs(found.value) / error, len(differences) - 1))
    else:
        p = 1.0 if found.value == 0 else 0.0
    low, high = found.low, found.high
    assert low is not None
    assert high is not None
    return Paired(found.value, low, high, p, found.n)


def paired_f1(
    first: Floats, second: Floats, *, resamples: int = RESAMPLES, seed: int = 0
) -> Paired:
    """Compare the F1 of two results on the same images, by the bootstrap over images.

    Args:
        first: true positives, false positives and false negatives of each image, (images, 3).
        second: the same for the other result, images in the same order.
        resamples: number of draws.
        seed: of the draws.

    Raises:
        ValueError: shapes differ, or fewer than two images.
    """
    if first.shape != second.shape or len(first) < 2:
        raise ValueError(
            f"{len(first)} and {len(second)} images: give the same two or more for both"
        )
    draws = resample(len(first), resamples=resamples, seed=seed)
    differences = f1(draws @ second) - f1(draws @ first)
    low, high = np.percentile(differences, LEVELS)
    tail = min(float(np.mean(differences <= 0)), float(np.mean(differences >= 0)))
    value = float(f1(second.sum(axis=0)) - f1(first.sum(axis=0)))
    # Of so many draws none can show a p below one in their number.
    p = min(1.0, max(2 * tail, 1 / resamples))
    return Paired(value, float(low), float(high), p, len(first))


def f1(counts: Floats) -> Floats:
    """Return 2 TP / (2 TP + FP + FN) of counts (..., 3), 0 where there is nothing to divide by."""
    tp, fp, fn = counts[..., 0], counts[..., 1], counts[..., 2]
    whole = 2 * tp + fp + fn
    share: Floats = np.divide(2 * tp, whole, out=np.zeros_like(whole, float), where=whole > 0)
    return share


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p values corrected for having made several tests (Holm 1979), in the same order."""
    p = np.asarray(p_values, np.float64)
    order = np.argsort(p)
    factors = len(p) - np.arange(len(p))
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(1, np.maximum.accumulate(p[order] * factors))
    return [float(value) for value in corrected]


def fit_power_law(x: Sequence[float], error: Sequence[float]) -> PowerLaw:
    """Fit error = scale * x ** -exponent by least squares on the logarithms.

    Raises:
        ValueError: fewer than three points, fewer than two places, or a value that isn't
            positive.
    """
    points = np.asarray(x, np.float64), np.asarray(error, np.float64)
    if len(points[0]) < 3 or len(set(x)) < 2 or len(points[0]) != len(points[1]):
        raise ValueError(f"{len(points[0])} points: a law needs three, at two or more sizes")
    if min(points[0].min(), points[1].min()) <= 0:
        raise ValueError("a power law needs sizes and errors above 0")
    logs, errors = np.log(points[0]), np.log(points[1])
    centre, n = float(logs.mean()), len(logs)
    width = float(((logs - centre) ** 2).sum())
    slope = float(((logs - centre) * (errors - errors.mean())).sum()) / width
    start = float(errors.mean()) - slope * centre
    residuals = errors - start - slope * logs
    spread = float(np.sqrt((residuals**2).sum() / (n - 2)))
    half = _t(n - 2) * spread / np.sqrt(width)
    return PowerLaw(
        float(np.exp(start)), -slope, -slope - half, -slope + half, spread, centre, width, n
    )


def _t(freedom: int) -> float:
    """Return the 97.5 percentile of Student's t."""
    from scipy.stats import t

    return float(t.ppf(0.975, freedom))
