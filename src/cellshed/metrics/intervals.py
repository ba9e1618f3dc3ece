"""How far a score would move with other images: the bootstrap over images.

Images are drawn with replacement, as many as there are, their counts are summed, and the scores
taken of the sums; the 2.5 and 97.5 percentiles of many such draws are the interval. Cells of one
image are alike, so resampling cells would give intervals far too narrow. With few images
(below about 20) these intervals, too, are on the narrow side.
"""

from dataclasses import dataclass

import numpy as np

from cellshed.metrics.overlap import Floats
from cellshed.metrics.scores import THRESHOLDS, ratios

LEVELS = (2.5, 97.5)
RESAMPLES = 2000


@dataclass(frozen=True)
class Difference:
    """Second minus first score of the same images, and its 95 % interval."""

    value: float
    low: float
    high: float


def resample(n: int, *, resamples: int = RESAMPLES, seed: int = 0) -> Floats:
    """Return how often each of n images is drawn, (resamples, n), by a seed."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(n, np.full(n, 1 / n), size=resamples).astype(np.float64)


def bootstrap(
    counts: Floats, *, resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """Return the 95 % interval of each pooled score.

    Args:
        counts: of each image, from `scores.count`, (images, N_COUNTS).
        resamples: number of draws.
        seed: of the draws.

    Returns:
        By name, "f1@0.50", "precision@0.50", "recall@0.50" and "ap@0.50" and so on for each
        threshold, "mean_ap", "pq", "aji", "seg", "pixel.iou", "pixel.f1", ...: lower and upper
        end. Empty for fewer than two images; a score that no draw defines is left out.
    """
    if len(counts) < 2:
        return {}
    drawn = _draw(counts, resamples, seed)
    return {name: _ends(values) for name, values in drawn.items() if not np.isnan(values).all()}


def paired_difference(
    first: Floats, second: Floats, *, resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, Difference]:
    """Compare two results on the same images: score of the second less that of the first.

    Both are drawn alike, so that what makes an image hard for both cancels out.

    Args:
        first: counts of each image, (images, N_COUNTS).
        second: the same for the other result, images in the same order.
        resamples: number of draws.
        seed: of the draws.

    Raises:
        ValueError: not the same number of images, or fewer than two.
    """
    if first.shape != second.shape or len(first) < 2:
        raise ValueError(
            f"{len(first)} and {len(second)} images: give the same two or more for both"
        )
    there, here = (named(ratios(counts.sum(axis=0))) for counts in (first, second))
    before, after = (_draw(counts, resamples, seed) for counts in (first, second))
    return {
        name: Difference(float(here[name] - there[name]), *_ends(after[name] - before[name]))
        for name in there
        if not (np.isnan(here[name]) or np.isnan(there[name]))
    }


def named(scores: dict[str, Floats]) -> dict[str, Floats]:
    """Give each score of `ratios` one name: "f1@0.50", "mean_ap", "pixel.iou"."""
    flat: dict[str, Floats] = {}
    for name, values in scores.items():
        if name in ("precision", "recall", "f1", "ap"):
            flat |= {f"{name}@{at}": values[..., k] for k, at in enumerate(THRESHOLDS)}
        else:
            flat[name.replace("pixel_", "pixel.")] = values
    return flat


def _draw(counts: Floats, resamples: int, seed: int) -> dict[str, Floats]:
    """Pooled scores of each draw, (resamples,) each."""
    return named(ratios(resample(len(counts), resamples=resamples, seed=seed) @ counts))


def _ends(values: Floats) -> tuple[float, float]:
    low, high = np.nanpercentile(values, LEVELS)
    return float(low), float(high)
