"""Figures and page of a study, from its table alone."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cellshed
from cellshed.files import write_text
from cellshed.metrics.comparison import Mean
from cellshed.report.drawing import save
from cellshed.report.html import page
from cellshed.report.markup import Child, Html, join, number, table, tag
from cellshed.report.score_sections import OBJECT_F1, SCORES, figure_row
from cellshed.report.study_figures import FIGURES
from cellshed.report.study_numbers import Choice, comparisons, costs, decodes, means, told
from cellshed.report.study_readings import readings

if TYPE_CHECKING:
    from pandas import DataFrame

Tree = Mapping[str, Any]

_COSTS = {
    "seconds_training": "training, minutes",
    "seconds_scoring": "scoring, minutes",
    "seconds_per_step": "a step, ms",
    "steps": "steps",
    "best_epoch": "best epoch",
    "parameters": "parameters, millions",
}
_FACTORS = {
    "seconds_training": 1 / 60,
    "seconds_scoring": 1 / 60,
    "seconds_per_step": 1000.0,
    "parameters": 1e-6,
}


def write_study_page(results: "DataFrame", study: Tree, out: Path) -> None:
    """Write figures/*.png and *.svg and report.html into a study's folder.

    Args:
        results: the study's table.
        study: what study.json holds, and "unfinished": the number of runs not in the table.
        out: the folder.
    """
    name = study["study"]
    drawn = FIGURES[name](results)
    for title, figure in drawn.items():
        for kind in ("png", "svg"):
            save(figure, out / "figures" / f"{title}.{kind}")
    found = [tag("ul", [tag("li", sentence) for sentence in readings(results, name)])]
    if study.get("unfinished"):
        left = f"{study['unfinished']} runs have failed or aren't finished, and aren't in here."
        found.insert(0, tag("p", left, class_="note"))
    sections: dict[str, Child] = {
        "What was found": found,
        "Figures": figure_row(list(drawn.values())),
        "Scores": _score_tables(results),
        "Comparisons": _comparisons(results),
        "What it cost": _cost_table(results),
        "Origin": _origin(study),
    }
    write_text(out / "report.html", page(f"study {name}", sections))


def _score_tables(results: "DataFrame") -> Html:
    parts: list[Child] = []
    for decode in decodes(results):
        if decode == "tuned":
            parts.append(tag("h3", "With thresholds tuned on the validation images of each run"))
        for small, words in (("with", "All cells"), ("without", "Without small objects")):
            found = {
                word: means(results, Choice(metric, small, decode))
                for word, metric in SCORES.items()
            }
            found = {word: by_group for word, by_group in found.items() if by_group}
            groups = list(dict.fromkeys(g for by_group in found.values() for g in by_group))
            rows = [[g, *(_mean(by_group.get(g)) for by_group in found.values())] for g in groups]
            parts += [tag("h3", words), table(["", *found], rows)]
    return join(parts)


def _comparisons(results: "DataFrame") -> Html:
    pairs = comparisons(results, told(results))
    if not pairs:
        return tag("p", "There are no two groups with images or seeds in common.", class_="note")
    note = (
        f"{OBJECT_F1}: second less first, with the 95 % interval; p of no difference, as it is and "
        "corrected for the number of pairs (Holm)."
    )
    rows: list[list[Child]] = [
        [
            f"{pair.second} less {pair.first}",
            number(pair.found.value, (pair.found.low, pair.found.high)),
            f"{pair.found.p:.2g}",
            f"{pair.p_corrected:.2g}",
            f"{pair.found.n} {pair.over}",
        ]
        for pair in pairs
    ]
    head = ["", "difference", "p", "p, corrected", "paired over"]
    return join([tag("p", note, class_="note"), table(head, rows, "tall")])


def _cost_table(results: "DataFrame") -> Html:
    found = {word: (costs(results, name), _FACTORS.get(name, 1.0)) for name, word in _COSTS.items()}
    cells = {f"{split} {what}": costs(results, f"{split}_{what}", "data")
             for split in ("train", "test") for what in ("images", "cells")}  # fmt: skip
    groups = [str(group) for group in results["group"].unique()]
    rows: list[list[Child]] = [
        [
            group,
            *(f"{by[group].value:,.0f}" if group in by else "\u2013" for by in cells.values()),
            *(
                f"{by[group].value * factor:,.4g}" if group in by else "\u2013"
                for by, factor in found.values()
            ),
        ]
        for group in groups
    ]
    spent = results[results["metric"].isin(["seconds_training", "seconds_scoring"])]["value"].sum()
    total = tag("p", f"All runs together: {spent / 3600:,.2f} hours of process time.")
    return join([total, table(["mean of a run", *cells, *found], rows)])


def _origin(study: Tree) -> Html:
    options = study.get("options") or {}
    rows: list[list[Child]] = [
        [name, ", ".join(map(str, value)) if isinstance(value, list) else str(value)]
        for name, value in options.items()
        if value not in (None, "", [], False)
    ]
    rows += [["store", f"{s['path']}, {s['hash'][:12]}"] for s in study.get("stores") or []]
    rows.append(["this page", f"cellshed {cellshed.__version__}"])
    settings = json.dumps(study.get("config") or {}, indent=1)
    details = tag("details", tag("summary", "Settings of all runs"), tag("pre", settings))
    return join([table(["", ""], rows, "plain"), details])


def _mean(mean: Mean | None) -> Html:
    if mean is None:
        return number(None)
    ends = None if mean.low is None or mean.high is None else (mean.low, mean.high)
    return number(mean.value, ends)
