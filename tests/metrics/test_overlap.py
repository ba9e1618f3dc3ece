import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps

from cellshed.metrics.overlap import overlap

labels = nps.arrays(np.int64, (6, 7), elements=st.sampled_from([0, 0, 1, 2, 5, 1000, 2**40]))


@settings(deadline=None, max_examples=50)
@given(labels, labels)
def test_equals_counting_pair_by_pair(true, pred):
    table = overlap(true, pred)
    assert table.true_ids.tolist() == sorted(set(true[true > 0].tolist()))
    assert table.pred_ids.tolist() == sorted(set(pred[pred > 0].tolist()))
    assert table.true_areas.tolist() == [(true == k).sum() for k in table.true_ids]
    assert table.pred_areas.tolist() == [(pred == k).sum() for k in table.pred_ids]
    found = [
        (table.true_ids[r], table.pred_ids[c], n)
        for r, c, n in zip(table.rows, table.cols, table.pixels, strict=True)
    ]
    expected = [
        (t, p, ((true == t) & (pred == p)).sum())
        for t in table.true_ids
        for p in table.pred_ids
        if ((true == t) & (pred == p)).any()
    ]
    assert found == expected  # also sorted by true, then by predicted id


def test_iou_by_hand():
    true = np.array([[4, 4, 4, 0, 9, 9]])
    pred = np.array([[0, 3, 3, 3, 3, 0]])
    table = overlap(true, pred)
    assert table.pixels.tolist() == [2, 1]
    assert table.unions.tolist() == [5, 5]
    assert table.iou.tolist() == [0.4, 0.2]


def test_many_pairs_outgrow_the_first_table():
    true = np.tile(np.arange(1, 41), (40, 1))  # 40 columns crossed by 40 rows: 1600 pairs
    table = overlap(true, true.T)
    assert len(table.pixels) == 1600
    assert (table.pixels == 1).all()
    assert (table.rows * 40 + table.cols == np.arange(1600)).all()


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.int32, np.uint32, np.int64, np.uint64])
def test_any_integer_type_in_any_memory_order(kind):
    true = np.array([[0, 1, 1], [2, 2, 1]], kind)
    table = overlap(np.asfortranarray(true), true)
    assert table.true_areas.tolist() == table.pixels.tolist() == [3, 2]


def test_labels_without_background_and_empty_images():
    assert overlap(np.full((2, 2), 2**50), np.zeros((2, 2), int)).true_ids.tolist() == [2**50]
    for shape in ((3, 4), (0, 4)):
        table = overlap(np.zeros(shape, int), np.zeros(shape, int))
        assert (table.n_true, table.n_pred, len(table.pixels)) == (0, 0, 0)


@pytest.mark.parametrize(
    ("true", "pred", "message"),
    [
        (np.zeros((2, 3), int), np.zeros((3, 2), int), "true labels are 2x3, predicted ones 3x2"),
        (np.zeros((2, 2)), np.zeros((2, 2), int), "true labels are float64"),
        (np.zeros((2, 2), int), np.zeros((2, 2), bool), "predicted labels are bool"),
        (np.zeros((2, 2), int), np.full((2, 2), -3), "predicted labels hold -3"),
    ],
)
def test_wrong_labels_are_named(true, pred, message):
    with pytest.raises(ValueError, match=message):
        overlap(true, pred)
