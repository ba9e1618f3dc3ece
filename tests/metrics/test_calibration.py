"""Calibration: bins and errors worked out by hand, and a map that keeps the order."""

import numpy as np
import pytest

from cellshed.metrics.calibration import (
    as_rows,
    calibrate,
    calibration_error,
    fit_calibration,
    hits,
    reliability,
)
from cellshed.settings import CalibrationSettings


def test_bins_hold_the_means_and_the_shares() -> None:
    confidence = np.array([0.1, 0.3, 0.5, 0.9, 1.0])
    right = np.array([False, True, True, True, False])
    low, high = reliability(confidence, right, bins=2)
    assert (low.low, low.high, low.n, low.confidence, low.right) == (0.0, 0.5, 2, 0.2, 0.5)
    assert (high.n, high.confidence) == (3, pytest.approx(0.8))
    assert high.right == pytest.approx(2 / 3)


def test_the_error_weighs_each_bin_by_its_cells() -> None:
    confidence = np.array([0.1, 0.3, 0.5, 0.9, 1.0])
    right = np.array([False, True, True, True, False])
    expected = (2 * (0.5 - 0.2) + 3 * (0.8 - 2 / 3)) / 5
    assert calibration_error(confidence, right, bins=2) == pytest.approx(expected)
    assert calibration_error(np.zeros(0), np.zeros(0, bool)) == 0.0


def test_empty_bins_become_none_in_files() -> None:
    rows = as_rows(reliability(np.array([0.9]), np.array([True]), bins=2))
    assert rows[0] == {"low": 0.0, "high": 0.5, "n": 0, "confidence": None, "right": None}
    assert rows[1]["right"] == 1.0


def test_slopes_of_one_change_nothing() -> None:
    confidence = np.array([0.01, 0.2, 0.5, 0.99])
    same = calibrate(confidence, CalibrationSettings())
    np.testing.assert_allclose(same, confidence, rtol=1e-5)
    shifted = calibrate(np.array([0.5]), CalibrationSettings(offset=float(np.log(3))))
    assert shifted[0] == pytest.approx(0.75)


def test_the_order_of_confidences_stays() -> None:
    raw = np.linspace(0, 1, 200)
    for right in (raw > 2, raw < 2, raw > 0.5, raw < 0.5):  # none, all, the upper, the lower half
        calibrated = calibrate(raw, fit_calibration(raw, right))
        assert (np.diff(calibrated) >= 0).all()
        assert (np.diff(calibrated)[5:-5] > 0).any()
        assert ((calibrated >= 0) & (calibrated <= 1)).all()


def test_a_known_distortion_is_taken_back() -> None:
    rng = np.random.default_rng(0)
    true = rng.uniform(0.02, 0.98, 20_000)
    right = rng.random(true.size) < true
    raw = np.sqrt(true) * 0.9  # far too sure of the doubtful, never sure of the certain
    fitted = fit_calibration(raw, right)
    assert fitted.error_before > 0.1
    assert fitted.error_after < 0.03
    assert np.abs(calibrate(raw, fitted) - true).mean() < 0.03
    assert fitted.cells == 20_000


def test_hits_are_cells_that_share_more_than_half_of_their_union() -> None:
    true = np.zeros((4, 12), np.int32)
    true[:, :4], true[:, 6:10] = 1, 2
    pred = np.zeros_like(true)
    pred[:, 1:4] = 3  # 12 of 16 pixels
    pred[:, 6:8] = 5  # 8 of 16: not more than half
    pred[:, 11] = 7
    assert hits(true, pred).tolist() == [True, False, False]


def test_what_is_no_confidence_is_refused() -> None:
    with pytest.raises(ValueError, match="one each"):
        reliability(np.array([0.5]), np.array([True, False]))
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        reliability(np.array([1.5]), np.array([True]))
    with pytest.raises(ValueError, match="no predicted cells"):
        fit_calibration(np.zeros(0), np.zeros(0, bool))
