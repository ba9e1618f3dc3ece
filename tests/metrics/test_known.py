"""Ground that nobody annotated: cells on it are neither right nor wrong."""

import numpy as np
import pytest

from cellshed.data.store import NOT_ANNOTATED
from cellshed.metrics.calibration import hits
from cellshed.metrics.known import judged, still_there
from cellshed.metrics.scores import score


def test_cells_on_unknown_ground_are_left_out_and_others_lose_what_lies_there() -> None:
    true = np.array([[1, 1, 0, NOT_ANNOTATED, NOT_ANNOTATED, NOT_ANNOTATED]])
    pred = np.array([[4, 4, 7, 7, 9, 9]])
    known = judged(true, pred)
    assert known[0].tolist() == [[1, 1, 0, 0, 0, 0]]
    assert known[1].tolist() == [[4, 4, 7, 0, 0, 0]]  # half of 7 is known, none of 9
    assert still_there(pred, known[1]).tolist() == [True, True, False]
    assert hits(true, pred).tolist() == [True, False]


def test_where_all_is_annotated_nothing_changes() -> None:
    true, pred = np.array([[0, 2]], np.uint16), np.array([[3, 3]])
    assert judged(true, pred)[0] is true
    assert judged(true, pred)[1] is pred


def test_scores_are_those_of_the_annotated_part() -> None:
    rng = np.random.default_rng(0)
    true = np.kron(rng.integers(0, 9, (6, 8)), np.ones((5, 5), int))
    pred = np.kron(rng.integers(0, 9, (6, 8)), np.ones((5, 5), int)) + 10 * (true > 4)
    # No predicted cell is on both sides.
    true[:, 20:], pred[:, 20:] = NOT_ANNOTATED, pred[:, 20:] + 100
    whole, part = score(true, pred), score(true[:, :20], pred[:, :20])
    assert whole == part
    assert part["n_pred"] > 3


def test_other_negative_labels_are_refused() -> None:
    with pytest.raises(ValueError, match="true labels hold -3"):
        score(np.array([[-3, 1]]), np.array([[1, 1]]))
    with pytest.raises(ValueError, match="predicted labels hold -1"):
        score(np.array([[0, 1]]), np.array([[-1, 1]]))
