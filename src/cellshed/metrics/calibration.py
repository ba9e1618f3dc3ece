"""What a confidence means: the share of cells of that confidence that are right.

A cell is right if it shares more than half of its union with a true cell (IoU above 0.5), as in
the object scores.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellshed.metrics.overlap import Floats, overlap
from cellshed.settings import CalibrationSettings

HIT = 0.5
_LEAST = 1e-6
"""Confidences are taken as at least this, and at most 1 less this."""
_LEAST_SLOPE = 1e-3
"""A slope of 0 would make cells of different confidence equal."""
_PRIOR = 1e-3
"""Weight of the wish for a map that changes nothing, which also settles it for very few cells."""


@dataclass(frozen=True)
class Bin:
    """Cells whose confidences lie in [low, high), the last bin with its end."""

    low: float
    high: float
    n: int
    confidence: float
    """Their mean confidence; NaN without cells."""
    right: float
    """The share of them that are right; NaN without cells."""


def hits(true: NDArray[np.integer], pred: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Tell which predicted cells are right, (n_pred,), in ascending order of their labels.

    Args:
        true: integer labels (H, W), 0 = background.
        pred: the same for the prediction.
    """
    table = overlap(true, pred)
    found = np.zeros(table.n_pred, bool)
    found[table.cols[table.iou > HIT]] = True
    return found


def reliability(confidence: Floats, right: NDArray[np.bool_], *, bins: int = 10) -> list[Bin]:
    """Sort cells into bins of equal width by their confidence, as a reliability diagram does.

    Args:
        confidence: in [0, 1], (n,).
        right: whether each cell is right, (n,).
        bins: how many.

    Raises:
        ValueError: lengths differ, or a confidence isn't in [0, 1].
    """
    confidence, right = _checked(confidence, right)
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    n = np.bincount(place, minlength=bins)
    with np.errstate(invalid="ignore"):
        means = np.bincount(place, confidence, bins) / n
        shares = np.bincount(place, right, bins) / n
    return [
        Bin(k / bins, (k + 1) / bins, int(n[k]), float(means[k]), float(shares[k]))
        for k in range(bins)
    ]


def calibration_error(confidence: Floats, right: NDArray[np.bool_], *, bins: int = 10) -> float:
    """Return the expected calibration error, in [0, 1]; 0 without cells.

    The mean over cells of how far the mean confidence of their bin is from the share of it that
    is right (Naeini et al. 2015).
    """
    full = [bin_ for bin_ in reliability(confidence, right, bins=bins) if bin_.n]
    gaps = sum(bin_.n * abs(bin_.confidence - bin_.right) for bin_ in full)
    return gaps / max(sum(bin_.n for bin_ in full), 1)


def calibrate(confidence: NDArray[Any], settings: CalibrationSettings) -> NDArray[np.float32]:
    """Map raw confidences to the probability that the cell is right; their order stays.

    Args:
        confidence: raw, in [0, 1], (n,).
        settings: the map; see `CalibrationSettings`.
    """
    rising, falling = _logarithms(np.asarray(confidence, np.float64))
    logit = settings.rise * rising + settings.fall * falling + settings.offset
    probability: NDArray[np.float32] = (1 / (1 + np.exp(-logit))).astype(np.float32)
    return probability


def fit_calibration(confidence: Floats, right: NDArray[np.bool_]) -> CalibrationSettings:
    """Fit the map from raw confidence to probability: beta calibration (Kull et al. 2017).

    Least logarithmic loss, with both slopes above 0, so that a more confident cell stays so.

    Args:
        confidence: raw, in [0, 1], (n,).
        right: whether each cell is right, (n,).

    Raises:
        ValueError: no cells.
    """
    from scipy.optimize import minimize

    confidence, right = _checked(confidence, right)
    if not len(confidence):
        raise ValueError("no predicted cells to calibrate confidences on: tune the decoder first")
    features = np.stack([*_logarithms(confidence), np.ones(len(confidence))])
    sign = np.where(right, 1.0, -1.0)
    start = np.array([1.0, 1.0, 0.0])

    def loss(weights: Floats) -> tuple[float, Floats]:
        margin = sign * (weights @ features)
        wrong = sign / (1 + np.exp(np.clip(margin, -500, 500)))
        drift = weights - start
        value = np.logaddexp(0, -margin).mean() + _PRIOR / 2 * (drift @ drift)
        return float(value), -(features * wrong).mean(axis=1) + _PRIOR * drift

    bounds = [(_LEAST_SLOPE, None), (_LEAST_SLOPE, None), (None, None)]
    found = minimize(loss, start, jac=True, bounds=bounds, method="L-BFGS-B").x
    rise, fall, offset = (round(float(value), 6) for value in found)
    fitted = CalibrationSettings(rise=rise, fall=fall, offset=offset)
    calibrated = calibrate(confidence, fitted).astype(np.float64)
    return fitted.model_copy(
        update={
            "cells": len(confidence),
            "error_before": round(calibration_error(confidence, right), 4),
            "error_after": round(calibration_error(calibrated, right), 4),
        }
    )


def as_rows(bins: Sequence[Bin]) -> list[dict[str, float | int | None]]:
    """Return bins for a JSON file; NaN becomes None."""
    return [{k: None if v != v else v for k, v in asdict(bin_).items()} for bin_ in bins]


def _logarithms(confidence: Floats) -> tuple[Floats, Floats]:
    """Return the logarithm of p, and that of 1 / (1 - p); both rise with p."""
    inside = np.clip(confidence, _LEAST, 1 - _LEAST)
    return np.log(inside), -np.log1p(-inside)


def _checked(confidence: Floats, right: NDArray[np.bool_]) -> tuple[Floats, NDArray[np.bool_]]:
    confidence, right = np.asarray(confidence, np.float64), np.asarray(right, bool)
    if confidence.shape != right.shape:
        raise ValueError(f"{confidence.shape} confidences for {right.shape} cells: give one each")
    if not ((confidence >= 0) & (confidence <= 1)).all():
        raise ValueError("a confidence isn't in [0, 1]")
    return confidence, right
