import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps

import cellshed as cs
from cellshed.metrics.overlap import overlap
from cellshed.metrics.scores import (
    N_COUNTS,
    THRESHOLDS,
    as_scores,
    count,
    count_without_small,
    pool,
)

small_labels = nps.arrays(np.int32, (5, 9), elements=st.integers(0, 4))


def row(*runs):
    """A label image of one row: pairs of label and length."""
    return np.repeat([label for label, _ in runs], [n for _, n in runs])[None].astype(np.int32)


def test_by_hand():
    # True: 10 px, 10 px, 4 px. Predicted: 8 of the first; 6 of the second and 4 beside it; 5 alone.
    true = row((1, 10), (0, 2), (2, 10), (0, 4), (3, 4), (0, 10))
    pred = row((7, 8), (0, 8), (9, 10), (0, 4), (0, 5), (4, 5))
    scores = cs.score(true, pred)
    assert (scores["n_true"], scores["n_pred"]) == (3, 3)
    # IoU 8 / 10 and 6 / 14
    at = scores["thresholds"]
    for name in ("0.50", "0.75"):
        assert at[name] == pytest.approx(
            {"tp": 1, "fp": 2, "fn": 2, "precision": 1 / 3, "recall": 1 / 3, "f1": 1 / 3,
             "ap": 1 / 5}
        )  # fmt: skip
    assert at["0.80"]["tp"] == 0  # exactly at the threshold is no hit
    assert scores["mean_ap"] == pytest.approx(6 / 10 / 5)
    assert scores["pq"] == pytest.approx(0.8 / 3)
    # AJI: (8 + 6) shared; unions 10 + 14, the third true cell 4, the spare predicted cell 5
    assert scores["aji"] == pytest.approx(14 / 33)
    # SEG: both are covered by more than half
    assert scores["seg"] == pytest.approx((8 / 10 + 6 / 14 + 0) / 3)
    assert scores["pixel"] == pytest.approx(
        {"iou": 14 / 33, "f1": 28 / 47, "precision": 14 / 23, "recall": 14 / 24}
    )


def test_seg_wants_more_than_half_of_the_true_cell():
    true = row((1, 10))
    assert cs.score(true, row((1, 5), (2, 5)))["seg"] == 0
    assert cs.score(true, row((1, 6), (2, 4)))["seg"] == pytest.approx(0.6)
    # one predicted cell may cover several true ones
    assert cs.score(row((1, 5), (2, 5)), row((1, 10)))["seg"] == pytest.approx(0.5)


def test_seg_of_a_match_that_is_no_hit_counts_too():
    """The reference averages over hits alone, and tests the wrong label's share."""
    true, pred = row((1, 4), (0, 6), (2, 4)), row((5, 10), (6, 4))
    assert cs.score(true, pred)["seg"] == pytest.approx((4 / 10 + 1) / 2)


def test_a_predicted_cell_may_serve_two_true_ones_in_aji():
    true, pred = row((1, 4), (2, 4)), row((5, 8))
    assert cs.score(true, pred)["aji"] == pytest.approx(8 / 16)


def test_perfect_prediction_scores_one_whatever_the_numbers():
    true = np.kron(np.arange(1, 10).reshape(3, 3), np.ones((3, 3), int))
    scores = cs.score(true, 70000 - 5 * true)
    assert {scores[name] for name in ("mean_ap", "pq", "aji", "seg")} == {1.0}
    assert set(scores["pixel"].values()) == {1.0}
    assert list(scores["thresholds"]) == list(THRESHOLDS)
    assert all(at["f1"] == 1 for at in scores["thresholds"].values())


def test_iou_of_half_is_no_hit_at_half():
    """Else a cell cut in two equal halves would have two hits."""
    scores = cs.score(row((1, 10)), row((1, 5), (2, 5)))
    assert scores["thresholds"]["0.50"]["tp"] == 0


def test_nothing_to_divide_by():
    nothing, cell = row((0, 8)), row((0, 4), (1, 4))
    blank = cs.score(nothing, nothing)
    assert blank["thresholds"]["0.50"] == {
        "tp": 0, "fp": 0, "fn": 0, "precision": 0, "recall": 0, "f1": 0, "ap": None
    }  # fmt: skip
    assert [blank[name] for name in ("mean_ap", "pq", "aji", "seg")] == [None] * 4
    assert blank["pixel"] == {"iou": None, "f1": None, "precision": 0, "recall": None}
    missed, extra = cs.score(cell, nothing), cs.score(nothing, cell)
    assert [missed[name] for name in ("mean_ap", "pq", "aji", "seg")] == [0] * 4
    assert [extra[name] for name in ("mean_ap", "pq", "aji", "seg")] == [0, 0, 0, None]
    assert (missed["pixel"]["recall"], extra["pixel"]["recall"]) == (0, None)
    json.dumps([blank, missed, extra], allow_nan=False)


@settings(deadline=None, max_examples=50)
@given(small_labels, small_labels)
def test_invariants(true, pred):
    scores = cs.score(true, pred)
    hits = [at["tp"] for at in scores["thresholds"].values()]
    assert hits == sorted(hits, reverse=True)
    for at in scores["thresholds"].values():
        assert at["tp"] + at["fn"] == scores["n_true"]
        assert at["tp"] + at["fp"] == scores["n_pred"]
    numbers = np.array([0, 900, 17, 3, 2**33])  # other numbers, another order: the same cells
    counts = count(overlap(true, pred))
    assert count(overlap(numbers[true], pred)) == pytest.approx(counts)
    assert count(overlap(true[::-1], pred[::-1])) == pytest.approx(counts)
    other = cs.score(pred, true)
    assert [at["tp"] for at in other["thresholds"].values()] == hits
    assert other["pq"] == pytest.approx(scores["pq"])


@settings(deadline=None, max_examples=50)
@given(small_labels, small_labels, small_labels, small_labels)
def test_pooled_is_the_score_of_the_images_side_by_side(true, pred, true2, pred2):
    shift = lambda labels: np.where(labels > 0, labels + 10, 0)  # noqa: E731
    both = overlap(np.hstack([true, shift(true2)]), np.hstack([pred, shift(pred2)]))
    parts = pool(count(overlap(t, p)) for t, p in ((true, pred), (true2, pred2)))
    assert parts == pytest.approx(count(both))


def test_pool_of_nothing():
    assert pool([]).tolist() == [0] * N_COUNTS


def without_small(true, pred, area):
    return as_scores(count_without_small(overlap(true, pred), area), pixel=False)


def test_small_cells_go_on_both_sides():
    true = row((1, 10), (0, 2), (2, 3), (0, 2), (3, 3), (0, 20))
    pred = row((1, 10), (0, 2), (2, 3), (0, 8), (4, 2), (0, 3), (5, 12))
    scores = without_small(true, pred, 5)
    at = scores["thresholds"]["0.50"]
    assert (scores["n_true"], scores["n_pred"]) == (1, 2)
    assert (at["tp"], at["fp"], at["fn"]) == (1, 1, 0)  # only the extra cell of 12 px is false
    assert "pixel" not in scores


def test_small_true_cell_found_a_little_too_large_is_not_false():
    true, pred = row((1, 4), (0, 6)), row((1, 5), (0, 5))
    at = without_small(true, pred, 5)["thresholds"]
    assert (at["0.75"]["tp"], at["0.75"]["fp"], at["0.75"]["fn"]) == (0, 0, 0)
    assert at["0.80"]["fp"] == 1  # no hit of the small cell any more: an extra cell of 5 px


def test_true_cell_found_a_little_too_small_is_found():
    true, pred = row((1, 5), (0, 5)), row((1, 4), (0, 6))
    at = without_small(true, pred, 5)["thresholds"]
    assert (at["0.75"]["tp"], at["0.75"]["fp"], at["0.75"]["fn"]) == (1, 0, 0)
    assert (at["0.80"]["tp"], at["0.80"]["fp"], at["0.80"]["fn"]) == (0, 0, 1)


def test_large_cell_over_several_small_ones_is_false():
    at = without_small(row((1, 3), (2, 3), (3, 3)), row((1, 9)), 5)["thresholds"]["0.50"]
    assert (at["tp"], at["fp"], at["fn"]) == (0, 1, 0)


@settings(deadline=None, max_examples=50)
@given(small_labels, small_labels)
def test_area_zero_drops_nothing(true, pred):
    table = overlap(true, pred)
    assert count_without_small(table, 0)[:-3] == pytest.approx(count(table)[:-3])  # but pixels


@pytest.mark.realdata
def test_records_of_the_reference(reference):
    records = json.loads((reference / "metrics.json").read_text())
    pairs = np.load(reference / "metrics.npz")
    for key, record in records.items():
        name, *options = key.split("|")
        if f"{name}/true" not in pairs:
            continue
        true, pred = pairs[f"{name}/true"], pairs[f"{name}/pred"]
        scores = cs.score(true, pred)
        ours = scores["pixel"]
        theirs = record["pixel"]
        for mine, name_there in (("iou", "jaccard"), ("f1", "f1"), ("precision", "precision"),
                                 ("recall", "recall")):  # fmt: skip
            if theirs[name_there] != "nan":
                assert ours[mine] == pytest.approx(theirs[name_there], abs=1e-12), key
        if "c1=0.4" in options and "force=False" in options:
            at = scores["thresholds"]["0.60"]
            hits = len(record["_correct_pairs"])
            assert at["tp"] == hits
            assert at["precision"] == pytest.approx(hits / max(record["n_pred"], 1))
            assert at["recall"] == pytest.approx(hits / max(record["n_true"], 1))
            if record["_n_correct_that_are_catastrophes"] == 0:
                assert at["f1"] == pytest.approx(record["f1"])
        if f"{name}/iou" in pairs:
            table = overlap(true, pred)
            iou = np.zeros((table.n_true, table.n_pred))
            iou[table.rows, table.cols] = table.iou
            np.testing.assert_allclose(iou, pairs[f"{name}/iou"], atol=1e-6)
