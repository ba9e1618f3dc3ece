import numpy as np
import pytest

from cellshed.metrics.intervals import bootstrap, named, paired_difference, resample
from cellshed.metrics.overlap import overlap
from cellshed.metrics.scores import as_scores, count, pool, ratios


def image_counts(found, missed, extra):
    """Counts of an image with so many cells of 4 px, found perfectly, missed, or extra."""
    true, pred = np.zeros((2, 12, 120), np.int32)
    for k in range(found + missed + extra):
        where = np.s_[2:4, 3 * k : 3 * k + 2]
        if k < found + missed:
            true[where] = k + 1
        if k < found or k >= found + missed:
            pred[where] = k + 1
    return count(overlap(true, pred))


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(3)
    return np.array([image_counts(*rng.integers(1, 12, 3)) for _ in range(25)])


def test_draws_are_as_large_as_the_set_and_even():
    drawn = resample(7, resamples=4000, seed=1)
    assert (drawn.sum(axis=1) == 7).all()
    assert drawn.mean(axis=0) == pytest.approx(np.ones(7), abs=0.06)
    assert (drawn == resample(7, resamples=4000, seed=1)).all()
    assert not (drawn == resample(7, resamples=4000, seed=2)).all()


def test_a_draw_pools_the_images_drawn():
    images = np.array([image_counts(3, 1, 0), image_counts(1, 1, 5)])
    weights = np.array([2.0, 1.0])
    repeated = pool([images[0], images[0], images[1]])
    assert weights @ images == pytest.approx(repeated)
    assert (
        float(ratios(weights @ images)["f1"][0]) == as_scores(repeated)["thresholds"]["0.50"]["f1"]
    )


def test_interval_holds_the_pooled_score(images):
    ends = bootstrap(images, seed=0)
    pooled = named(ratios(pool(images)))
    assert set(ends) == set(pooled)
    for name, (low, high) in ends.items():
        assert low <= pooled[name] <= high, name
    assert ends["f1@0.50"][0] < ends["f1@0.50"][1]
    assert ends == bootstrap(images, seed=0)


def test_interval_has_the_width_of_the_plain_bootstrap(images):
    """Against a loop that draws image by image."""
    rng = np.random.default_rng(0)
    recalls = []
    for _ in range(2000):
        total = images[rng.integers(0, len(images), len(images))].sum(axis=0)
        recalls.append(total[2] / total[0])  # hits at 0.50 / true cells
    expected = np.percentile(recalls, (2.5, 97.5))
    assert bootstrap(images)["recall@0.50"] == pytest.approx(tuple(expected), abs=0.01)


def test_equal_images_have_no_width_and_one_image_no_interval():
    one = image_counts(4, 2, 1)
    for name, (low, high) in bootstrap(np.array([one] * 5)).items():
        assert low == pytest.approx(high), name
    assert bootstrap(one[None]) == {}


def test_undefined_scores_have_no_interval():
    extra_only = np.array([image_counts(0, 0, 3), image_counts(0, 0, 1)])
    ends = bootstrap(extra_only)
    assert "seg" not in ends
    assert ends["f1@0.50"] == (0, 0)


def test_paired_difference_is_narrower_than_two_intervals(images):
    better = images.copy()
    better[:, 2:12] += 1  # one more hit, one fewer missed in each image
    better[:, 22:32] -= 1
    found = paired_difference(images, better)["recall@0.50"]
    expected = ratios(pool(better))["recall"][0] - ratios(pool(images))["recall"][0]
    assert found.value == pytest.approx(expected)
    assert 0 < found.low < found.value < found.high
    low, high = bootstrap(images)["recall@0.50"]
    assert found.high - found.low < (high - low) / 2
    same = paired_difference(images, images)
    assert {(d.value, d.low, d.high) for d in same.values()} == {(0, 0, 0)}


def test_paired_difference_wants_the_same_images(images):
    with pytest.raises(ValueError, match="25 and 24 images"):
        paired_difference(images, images[1:])
