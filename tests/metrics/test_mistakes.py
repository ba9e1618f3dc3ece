import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps

import cellshed as cs
from cellshed.metrics.mistakes import COUNTS, KINDS, Mistake, link_cells, list_mistakes
from cellshed.metrics.overlap import overlap

small_labels = nps.arrays(np.int32, (6, 8), elements=st.integers(0, 5))


def row(*runs):
    """A label image of one row: pairs of label and length."""
    return np.repeat([label for label, _ in runs], [n for _, n in runs])[None].astype(np.int32)


def counts(**given):
    return dict.fromkeys(COUNTS, 0) | given


def listed(true, pred, **options):
    table = overlap(true, pred)
    return list_mistakes(table, link_cells(table, **options))


def test_correct_missed_and_gained():
    true = row((1, 10), (0, 5), (2, 8), (0, 5), (0, 4))
    pred = row((3, 9), (0, 1), (0, 5), (0, 8), (0, 5), (8, 4))
    assert cs.mistakes(true, pred) == counts(n_true=2, n_pred=2, correct=1, missed=1, gained=1)
    assert listed(true, pred) == [Mistake("missed", (2,), ()), Mistake("gained", (), (8,))]


def test_split():
    true, pred = row((4, 12)), row((1, 4), (2, 4), (3, 4))
    assert cs.mistakes(true, pred) == counts(n_true=1, n_pred=3, split=1, gained_det_from_split=2)
    assert listed(true, pred) == [Mistake("split", (4,), (1, 2, 3))]


def test_merge():
    true, pred = row((1, 4), (2, 4), (3, 4)), row((4, 12))
    assert cs.mistakes(true, pred) == counts(n_true=3, n_pred=1, merge=1, missed_det_from_merge=2)
    assert listed(true, pred) == [Mistake("merge", (1, 2, 3), (4,))]


def test_catastrophe_is_not_a_correct_cell():
    """In the reference each catastrophe adds one to the correct cells."""
    true = row((1, 10), (2, 10))
    pred = row((0, 5), (1, 10), (2, 5))  # 1-1 and 2-1: 5 / 15; 2-2: 5 / 10
    assert cs.mistakes(true, pred) == counts(
        n_true=2, n_pred=2, catastrophe=1, true_det_in_catastrophe=2, pred_det_in_catastrophe=2
    )
    assert listed(true, pred) == [Mistake("catastrophe", (1, 2), (1, 2))]


def test_a_pair_without_other_links_is_missed_and_gained():
    true, pred = row((1, 10), (0, 5)), row((0, 5), (1, 10))  # IoU 1 / 3
    assert cs.mistakes(true, pred) == counts(n_true=1, n_pred=1, missed=1, gained=1)
    assert listed(true, pred) == [Mistake("missed", (1,), ()), Mistake("gained", (), (1,))]


def test_links_begin_at_the_cutoff():
    true = row((0, 8), (1, 12), (0, 8))
    pred = row((0, 2), (1, 9), (0, 6), (2, 9), (0, 2))  # 3 of 9 px in the true cell: IoU 1 / 6
    assert cs.mistakes(true, pred, link=0.16)["split"] == 1
    assert cs.mistakes(true, pred, link=0.17) == counts(n_true=1, n_pred=2, missed=1, gained=2)


def test_a_small_part_is_linked_however_small_its_iou():
    true, pred = row((1, 100)), row((0, 45), (1, 2), (2, 53))  # IoU 0.02 and 0.53
    assert cs.mistakes(true, pred)["split"] == 1


def test_a_correct_cell_keeps_its_fragments_from_a_split_unless_forced():
    true, pred = row((1, 10)), row((1, 7), (2, 3))
    assert cs.mistakes(true, pred) == counts(n_true=1, n_pred=2, correct=1, gained=1)
    assert cs.mistakes(true, pred, force_links=True) == counts(
        n_true=1, n_pred=2, split=1, gained_det_from_split=1
    )
    assert cs.mistakes(pred, true, force_links=True) == counts(
        n_true=2, n_pred=1, merge=1, missed_det_from_merge=1
    )


def test_below_half_the_best_assignment_is_taken():
    # True 1 shares 6 with both predicted cells, true 2 only with the first.
    true = np.zeros((4, 12), np.int32)
    pred = np.zeros_like(true)
    true[:2], true[2:, :6] = 1, 2
    pred[0], pred[2:, :6], pred[1] = 1, 1, 2
    table = overlap(true, pred)
    assert table.iou.tolist() == [12 / 36, 12 / 24, 12 / 24]
    hits = link_cells(table, iou=0.3).hits
    pairs = {(int(table.rows[k]), int(table.cols[k])) for k in hits}
    assert pairs == {(0, 1), (1, 0)}


def test_half_of_a_cell_is_a_hit_once_at_half():
    assert cs.mistakes(row((1, 10)), row((1, 5), (2, 5)), iou=0.5) == counts(
        n_true=1, n_pred=2, correct=1, gained=1
    )


def test_at_the_threshold_rounding_decides_as_in_the_reference():
    three_fifths, seven_tenths = (
        (row((1, 5)), row((1, 3), (0, 2))),
        (row((1, 10)), row((1, 7), (0, 3))),
    )
    assert cs.mistakes(*three_fifths, iou=0.6)["correct"] == 0
    assert cs.mistakes(*seven_tenths, iou=0.7)["correct"] == 1


def test_empty_images():
    nothing, cell = row((0, 9)), row((2, 9))
    assert cs.mistakes(nothing, nothing) == counts()
    assert cs.mistakes(cell, nothing) == counts(n_true=1, missed=1)
    assert cs.mistakes(nothing, cell) == counts(n_pred=1, gained=1)


@pytest.mark.parametrize("cutoffs", [(0.6, 0), (0.6, 0.7), (1.2, 0.1)])
def test_cutoffs_out_of_range_are_named(cutoffs):
    with pytest.raises(ValueError, match=f"iou={cutoffs[0]}, link={cutoffs[1]}"):
        cs.mistakes(row((1, 3)), row((1, 3)), iou=cutoffs[0], link=cutoffs[1])


@settings(deadline=None, max_examples=50)
@given(small_labels, small_labels, st.sampled_from([0.35, 0.5, 0.6, 0.75]), st.booleans())
def test_every_cell_is_in_exactly_one_place(true, pred, iou, force):
    table = overlap(true, pred)
    linked = link_cells(table, iou=iou, force=force)
    found = cs.mistakes(true, pred, iou=iou, force_links=force)
    kinds = list_mistakes(table, linked)
    hit_true = table.true_ids[table.rows[linked.hits]].tolist()
    hit_pred = table.pred_ids[table.cols[linked.hits]].tolist()
    assert sorted(hit_true + [k for m in kinds for k in m.true]) == table.true_ids.tolist()
    assert sorted(hit_pred + [k for m in kinds for k in m.pred]) == table.pred_ids.tolist()
    assert found["n_true"] == (
        found["correct"] + found["missed"] + found["split"] + found["merge"]
        + found["missed_det_from_merge"] + found["true_det_in_catastrophe"]
    )  # fmt: skip
    assert found["n_pred"] == (
        found["correct"] + found["gained"] + found["merge"] + found["split"]
        + found["gained_det_from_split"] + found["pred_det_in_catastrophe"]
    )  # fmt: skip
    for kind in ("missed", "gained", "split", "merge", "catastrophe"):
        assert found[kind] == sum(m.kind == kind for m in kinds)


@settings(deadline=None, max_examples=50)
@given(small_labels, small_labels)
def test_swapping_truth_and_prediction_swaps_the_kinds(true, pred):
    one, other = cs.mistakes(true, pred), cs.mistakes(pred, true)
    for a, b in (("missed", "gained"), ("split", "merge"), ("correct", "correct"),
                 ("catastrophe", "catastrophe")):  # fmt: skip
        assert one[a] == other[b]


@settings(deadline=None, max_examples=50)
@given(small_labels, small_labels)
def test_correct_cells_are_the_hits_of_score(true, pred):
    hits = cs.score(true, pred)["thresholds"]["0.60"]["tp"]
    assert cs.mistakes(true, pred)["correct"] == hits


def cells_of_mistakes(table, linked):
    """For each kind, the cells of each mistake, numbered 1.. by their labels' order."""
    found = {kind: [] for kind in KINDS}
    for mistake in list_mistakes(table, linked):
        true = np.searchsorted(table.true_ids, mistake.true) + 1
        pred = np.searchsorted(table.pred_ids, mistake.pred) + 1
        found[mistake.kind].append((true.tolist(), pred.tolist()))
    return {kind: sorted(cells) for kind, cells in found.items()}


def recorded_cells(record):
    groups = {"split": "_splits", "merge": "_merges", "catastrophe": "_catastrophes"}
    found = {
        kind: sorted((sorted(true), sorted(pred)) for true, pred in record[name])
        for kind, name in groups.items()
    }
    found["missed"] = sorted(([k], []) for k in record["_missed"])
    found["gained"] = sorted(([], [k]) for k in record["_gained"])
    return found


@pytest.mark.realdata
def test_every_record_of_the_reference(reference):
    records = json.loads((reference / "metrics.json").read_text())
    pairs = np.load(reference / "metrics.npz")
    same_name = {name: name for name in COUNTS} | {
        "correct": "correct_detections",
        "missed": "missed_detections",
        "gained": "gained_detections",
    }
    checked = 0
    for key, record in records.items():
        name, *options = key.split("|")
        if f"{name}/true" not in pairs:
            continue
        option = dict(part.split("=") for part in options)
        true, pred = pairs[f"{name}/true"], pairs[f"{name}/pred"]
        iou, link = 1 - float(option["c1"]), float(option["c2"])
        ours = cs.mistakes(true, pred, iou=iou, link=link, force_links=option["force"] == "True")
        theirs = {mine: record[there] for mine, there in same_name.items()}
        theirs["correct"] -= record["_n_correct_that_are_catastrophes"]
        assert ours == theirs, key
        assert ours["correct"] == len(record["_correct_pairs"])
        table = overlap(true, pred)
        linked = link_cells(table, iou=iou, link=link, force=option["force"] == "True")
        assert cells_of_mistakes(table, linked) == recorded_cells(record), key
        checked += 1
    assert checked > 50
