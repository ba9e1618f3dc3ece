"""Statistics of repeated runs, against values worked by hand or from tables."""

import numpy as np
import pytest

from cellshed.metrics.comparison import (
    f1,
    fit_power_law,
    holm,
    mean_interval,
    paired_f1,
    paired_t,
)


def test_the_interval_of_a_mean_is_students() -> None:
    # mean 3, standard deviation sqrt(2.5), t of 4 degrees of freedom 2.7764
    found = mean_interval([1, 2, 3, 4, 5])
    half = 2.776445 * np.sqrt(2.5 / 5)
    assert found.value == 3
    assert found.low == pytest.approx(3 - half, abs=1e-5)
    assert found.high == pytest.approx(3 + half, abs=1e-5)


def test_one_value_has_no_interval_and_none_is_refused() -> None:
    assert mean_interval([0.4]).low is None
    with pytest.raises(ValueError, match="no values"):
        mean_interval([])


def test_pairs_are_compared_by_their_differences() -> None:
    # differences 1, 2, 3: mean 2, deviation 1, t = 2 sqrt(3) = 3.4641 at 2 degrees of freedom,
    # for which p = 1 - t / sqrt(t^2 + 2)
    found = paired_t([10, 20, 30], [11, 22, 33])
    t = 2 * np.sqrt(3)
    assert found.value == 2
    assert found.p == pytest.approx(1 - t / np.sqrt(t**2 + 2))
    assert found.low == pytest.approx(2 - 4.302653 / np.sqrt(3), abs=1e-5)


def test_equal_pairs_do_not_differ_and_a_constant_difference_does() -> None:
    assert paired_t([1, 2], [1, 2]).p == 1
    assert paired_t([1, 2], [2, 3]).p == 0
    with pytest.raises(ValueError, match="two or more pairs"):
        paired_t([1], [2])


def test_f1_of_counts() -> None:
    assert f1(np.array([[2, 1, 3], [0, 0, 0]])).tolist() == [0.5, 0.0]


def test_two_results_on_the_same_images() -> None:
    rng = np.random.default_rng(0)
    found = rng.integers(5, 20, 30)
    worse = np.stack([found, np.full(30, 10), 30 - found], axis=1).astype(float)
    better = np.stack([found + 5, np.full(30, 5), 25 - found], axis=1).astype(float)
    same = paired_f1(worse, worse)
    assert (same.value, same.low, same.high, same.p) == (0, 0, 0, 1)
    gain = paired_f1(worse, better)
    assert gain.value == pytest.approx(f1(better.sum(0)) - f1(worse.sum(0)))
    assert 0 < gain.low <= gain.value <= gain.high
    assert gain.p == pytest.approx(1 / 2000)
    assert paired_f1(better, worse).value == -gain.value


def test_holm_multiplies_the_smallest_by_all_and_never_falls() -> None:
    # 0.01 * 3; then max(0.03 * 2, 0.03); then max(0.04 * 1, 0.06)
    assert holm([0.03, 0.01, 0.04]) == pytest.approx([0.06, 0.03, 0.06])
    assert holm([0.9, 0.8]) == [1, 1]
    assert holm([]) == []


def test_an_exact_law_is_found_again() -> None:
    x = [100, 200, 400, 800]
    law = fit_power_law(x, [2 * value**-0.25 for value in x])
    assert law.scale == pytest.approx(2)
    assert law.exponent == pytest.approx(0.25)
    assert law.exponent_low == pytest.approx(0.25)
    assert law.error(1600) == pytest.approx([2 * 1600**-0.25] * 3)


def test_the_interval_of_a_law_is_that_of_a_line_through_logarithms() -> None:
    # ln x = 0, 1, 2; ln error = 0, 0, -1: slope -0.5, residuals 1/6 * (-1, 2, -1)
    law = fit_power_law(np.exp([0, 1, 2]).tolist(), np.exp([0, 0, -1]).tolist())
    assert law.exponent == pytest.approx(0.5)
    assert law.spread == pytest.approx(np.sqrt(1 / 6))
    # t of 1 degree of freedom is 12.7062; the squared distances of ln x add up to 2
    assert law.exponent_high - 0.5 == pytest.approx(12.7062 * np.sqrt(1 / 6 / 2), rel=1e-4)


@pytest.mark.parametrize(
    ("x", "error"), [([1, 2], [0.5, 0.4]), ([3, 3, 3], [0.1, 0.2, 0.3]), ([1, 2, 3], [0.5, 0, 0.1])]
)
def test_no_law_of_too_little(x: list[float], error: list[float]) -> None:
    with pytest.raises(ValueError, match="law"):
        fit_power_law(x, error)
