"""Readings, figures and page of a study, from tables made by hand."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from cellshed.report.study_figures import FIGURES
from cellshed.report.study_law import fit_law
from cellshed.report.study_numbers import Choice, comparisons, matrix, means
from cellshed.report.study_page import write_study_page
from cellshed.report.study_readings import readings

COLUMNS = (
    *("study", "run", "group", "seed", "set", "decode", "cell_type", "small"),
    *("image", "epoch", "metric", "value", "low", "high"),
)


def _row(group: str, seed: int, metric: str, value: float, **more: Any) -> dict[str, Any]:
    place = {"run": f"{group}-{seed}", "group": group, "seed": seed, "set": "test", "decode": "set"}
    place |= {"cell_type": "", "small": "with", "metric": metric, "value": value}
    return place | more


def _table(rows: list[dict[str, Any]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=COLUMNS)


def _of_seeds(scores: dict[str, list[float]]) -> pd.DataFrame:
    rows = [
        row
        for group, values in scores.items()
        for seed, value in enumerate(values)
        for row in (
            _row(group, seed, "f1@0.50", value),
            _row(group, seed, "f1@0.50", value + 0.1, small="without"),
            _row(group, seed, "train_images", 20, set="data", decode=None, small=None),
            _row(group, seed, "tp@0.50", 3, image="0/a"),
        )
    ]
    return _table(rows)


def test_seeds_give_the_mean_and_are_compared_in_pairs() -> None:
    table = _of_seeds({"a": [0.2, 0.4, 0.3], "b": [0.3, 0.5, 0.4]})
    assert means(table, Choice())["a"].value == pytest.approx(0.3)
    (pair,) = comparisons(table, Choice())
    assert (pair.first, pair.second, pair.over) == ("a", "b", "seeds")
    assert pair.found.value == pytest.approx(0.1)
    assert pair.found.p < 1e-6


def test_one_seed_is_compared_over_its_images() -> None:
    rows = [
        _row(group, 0, f"{kind}@0.50", value, image=f"0/{k}")
        for group, hits in (("a", 4), ("b", 6))
        for k in range(6)
        for kind, value in (("tp", hits), ("fp", 2 + k), ("fn", 10 - hits))
    ]
    rows += [_row("a", 0, "f1@0.50", 0.4, low=0.3, high=0.5), _row("b", 0, "f1@0.50", 0.6)]
    table = _table(rows)
    found = means(table, Choice())["a"]
    assert (found.value, found.low, found.high) == (0.4, 0.3, 0.5)
    assert means(table, Choice())["b"].low is None
    (pair,) = comparisons(table, Choice())
    assert pair.over == "images"
    # 36 of 36 + (27 + 24) / 2 against 24 of 24 + (27 + 36) / 2
    assert pair.found.value == pytest.approx(36 / (36 + 25.5) - 24 / (24 + 31.5))


def _hits(group: str, seed: int, hits: int, images: int = 6) -> list[dict[str, Any]]:
    """Return the counts of images in each of which so many of ten cells are found."""
    return [
        _row(group, seed, f"{kind}@0.50", value, image=f"0/{k}")
        for k in range(images)
        for kind, value in (("tp", hits), ("fp", 10 - hits), ("fn", 10 - hits))
    ] + [_row(group, seed, "f1@0.50", hits / 10)]


def test_groups_with_one_seed_in_common_are_compared_on_that_alone() -> None:
    table = _table([*_hits("a", 0, 8), *_hits("a", 1, 2), *_hits("b", 0, 8)])
    (pair,) = comparisons(table, Choice())
    assert pair.found.value == 0
    assert pair.p_corrected == 1


def test_many_groups_can_still_be_told_apart() -> None:
    table = _table([row for n in range(20) for row in _hits(f"g{n:02}", 0, 1 + n // 3)])
    pairs = {(pair.first, pair.second): pair.p_corrected for pair in comparisons(table, Choice())}
    assert len(pairs) == 190
    assert pairs["g00", "g19"] < 0.05


def test_readings_name_the_best_and_what_cannot_be_told_apart() -> None:
    first, second = "inner_distance+pixelwise", "outer_distance+pixelwise"
    table = _of_seeds({first: [0.5, 0.52, 0.48], second: [0.3, 0.33, 0.27], "b": [0.6, 0.4, 0.49]})
    said = " ".join(readings(table, "transforms"))
    assert f"Best by object F1 at IoU 0.5 over all test images: {first}, 0.500" in said
    assert f"differs (paired test, corrected p < 0.05) from {second}" in said
    assert "can't be told apart from b" in said
    assert "over 3 seeds" in said
    assert "changes the scores by +0.100" in said


def test_tuned_thresholds_are_what_a_study_speaks_of() -> None:
    first, second = "inner_distance+pixelwise", "pixelwise"
    as_set = _of_seeds({first: [0.2, 0.22, 0.18], second: [0.4, 0.42, 0.38]})
    tuned = _of_seeds({first: [0.5, 0.52, 0.48], second: [0.3, 0.33, 0.27]})
    tuned.loc[tuned["decode"] == "set", "decode"] = "tuned"
    table = pd.concat([as_set, tuned[tuned["decode"] == "tuned"]], ignore_index=True)
    said = " ".join(readings(table, "transforms"))
    assert f"Best by object F1 at IoU 0.5 over all test images: {first}, 0.500" in said
    assert "thresholds tuned on each run's val images" in said
    assert "tuned" not in " ".join(readings(as_set, "transforms"))


@pytest.mark.parametrize(("exponent", "then", "change"), [(0.5, "0.912", "+0.037"),
                                                          (-0.05, "0.247", "-0.026")])  # fmt: skip
def test_the_next_doubling_follows_the_law(exponent: float, then: str, change: str) -> None:
    # 1 - 5 / sqrt(1600) = 0.875, and 1 - 5 / sqrt(3200) = 0.912;
    # 1 - 0.5028 * 1600**0.05 = 0.273, and 1 - 0.5028 * 3200**0.05 = 0.247
    factor = 5 if exponent > 0 else 0.5028
    rows = []
    for cells in (100, 400, 1600):
        rows.append(_row(str(cells), 0, "f1@0.50", 1 - factor * cells**-exponent))
        rows.append(_row(str(cells), 0, "train_cells", cells, set="data", decode=None))
        rows.append(_row(str(cells), 0, "train_images", 20, set="data", decode=None))
        rows.append(_row(str(cells), 0, "tp@0.50", 3, image="0/a"))
    table = _table(rows)
    law = fit_law(table)
    assert law is not None
    assert law.exponent == pytest.approx(exponent)
    said = " ".join(readings(table, "dataset-size"))
    assert f"goes as cells to the power of {-exponent:.3f} [" in said
    assert ("isn't certain that more cells help" in said) == (exponent < 0)
    now = 1 - factor * 1600**-exponent
    assert f"At 1,600 cells the law gives {now:.3f}; twice as many would bring {then}" in said
    assert f"a change of {change}." in said


def test_the_transfer_matrix_has_a_row_for_each_training() -> None:
    rows = [
        _row(group, 0, "f1@0.50", value, cell_type=cell_type)
        for group, cell_type, value in (("a", "a", 0.8), ("a", "b", 0.1), ("b", "b", 0.7))
    ]
    groups, types, scores = matrix(_table(rows), Choice())
    assert (groups, types) == (["a", "b"], ["a", "b"])
    assert scores[0] == [0.8, 0.1]
    assert scores[1][1] == 0.7
    assert scores[1][0] != scores[1][0]


def test_models_of_cell_types_are_told_by_their_own_type_and_not_ranked() -> None:
    rows = [
        _row(group, 0, metric, value, **more)
        for group, scores in (("a", (0.8, 0.1)), ("b", (0.3, 0.7)))
        for metric, value, more in (
            *(("f1@0.50", s, {"cell_type": t}) for s, t in zip(scores, "ab", strict=True)),
            ("f1@0.50", 0.5, {}),
            ("train_images", 20, {"set": "data", "decode": None}),
            ("tp@0.50", 3, {"image": "0/a"}),
        )
    ]
    said = " ".join(readings(_table(rows), "cell-types"))
    assert "on the type it was trained on, object F1 at IoU 0.5: a 0.800 and b 0.700." in said
    assert "on the type trained on 0.750, on other types 0.200." in said
    assert "Best by" not in said


def test_the_page_is_whole_and_drawn_from_the_table_alone(tmp_path: Path) -> None:
    table = _of_seeds({"a<b": [0.5, 0.6], "c": [0.7, 0.8]})
    tree = {"study": "levels", "options": {"preset": "cpu"}, "stores": [], "unfinished": 1}
    write_study_page(table, tree, tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert "1 runs have failed" in page
    assert "a&lt;b" in page
    assert "a<b" not in page
    assert "<svg" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    for name in FIGURES["levels"](table):
        assert (tmp_path / "figures" / f"{name}.png").stat().st_size > 1000
    # what was read back from the file says the same
    table.to_csv(tmp_path / "results.csv", index=False)
    again = pd.read_csv(tmp_path / "results.csv")
    assert readings(again, "levels") == readings(table, "levels")
