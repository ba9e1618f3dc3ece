"""Figures of studies, drawn from their tables alone."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from cellshed.metrics.comparison import Mean, PowerLaw
from cellshed.report.drawing import (
    INK,
    MARKERS,
    Figure,
    add_legend,
    color_of,
    interval_bars,
    label_logarithms,
    new_axes,
    styled,
)
from cellshed.report.figures import curves
from cellshed.report.study_law import CELLS, fit_law
from cellshed.report.study_numbers import Choice, costs, decodes, matrix, means, scores, told

if TYPE_CHECKING:
    from pandas import DataFrame

OBJECT_F1 = "object F1 at IoU 0.5"
Drawn = dict[str, Figure]


@styled
def grouped_bars(series: Mapping[str, Mapping[str, Mean]], title: str, xlabel: str) -> Figure:
    """Draw means with their 95 % intervals: a row each, one colour a series.

    Args:
        series: by the word in the legend: by the row's name.
        title: of the figure.
        xlabel: what the means are of.
    """
    intervals = {
        word: {
            name.replace("_", " ").replace("+", " + "): (mean.value, mean.low, mean.high)
            for name, mean in of_series.items()
        }
        for word, of_series in series.items()
    }
    return interval_bars(intervals, title, xlabel)


@styled
def heat_map(
    rows: Sequence[str], columns: Sequence[str], values: Sequence[Sequence[float]],
    title: str, axes: tuple[str, str],
) -> Figure:  # fmt: skip
    """Draw a matrix of scores as colours, each with its number.

    Args:
        rows: names from top to bottom.
        columns: names from left to right.
        values: a row each; NaN is left empty.
        title: of the figure.
        axes: what rows and columns are.
    """
    array = np.array(values, np.float64)
    figure, axis = new_axes(title, height=1.2 + 0.3 * max(len(rows), 3))
    axis.imshow(array, cmap="viridis", aspect="auto")
    low, high = (np.nanmin(array), np.nanmax(array)) if np.isfinite(array).any() else (0, 1)
    for (y, x), number in np.ndenumerate(array):
        if np.isfinite(number):
            ink = "black" if number > (low + high) / 2 else "white"
            axis.text(x, y, f"{number:.2f}", ha="center", va="center", color=ink, fontsize=7)
    turned = 45 if max(map(len, columns), default=0) * len(columns) > 50 else 0
    axis.set_xticks(range(len(columns)), columns, rotation=turned)
    axis.set_yticks(range(len(rows)), rows)
    axis.set(ylabel=axes[0], xlabel=axes[1])
    axis.grid(visible=False)
    return figure


@styled
def size_curve(points: Sequence[tuple[float, float]], law: PowerLaw | None, title: str) -> Figure:
    """Draw scores over annotated cells, and the fitted law up to the next doubling.

    Args:
        points: (cells, score) of each run.
        law: of the error, which is 1 less the score.
        title: of the figure.
    """
    figure, axis = new_axes(title)
    axis.plot(*zip(*points, strict=True), "o", color=color_of(0), label="runs")
    if law is not None:
        cells = [x for x, _ in points]
        x = np.geomspace(min(cells), 2 * max(cells), 60)
        ends = np.array([law.error(value) for value in x])
        axis.plot(x, 1 - ends[:, 0], color=INK, label="power law of the error")
        axis.fill_between(x, 1 - ends[:, 2], 1 - ends[:, 1], color=INK, alpha=0.12, linewidth=0)
    axis.set(xscale="log", xlabel="annotated cells", ylabel=OBJECT_F1, ylim=(0, 1))
    label_logarithms(axis.xaxis)
    add_legend(figure, axis)
    return figure


@styled
def scatter(points: Mapping[str, tuple[float, float]], title: str, axes: tuple[str, str]) -> Figure:
    """Draw named points.

    Args:
        points: by name: x and y.
        title: of the figure.
        axes: words for x and y.
    """
    figure, axis = new_axes(title)
    for k, (name, (x, y)) in enumerate(points.items()):
        axis.plot(x, y, MARKERS[k % len(MARKERS)], color=color_of(k), markersize=7, label=name)
    axis.set(xlabel=axes[0], ylabel=axes[1], ylim=(0, None))
    axis.set_xlim(left=0)
    add_legend(figure, axis)
    return figure


@styled
def best_so_far(values: Sequence[float], title: str) -> Figure:
    """Draw the score of each trial of a search, and the best up to it."""
    figure, axis = new_axes(title)
    numbers = range(1, len(values) + 1)
    axis.plot(numbers, values, "o", color=color_of(0), label="trials")
    axis.step(numbers, np.maximum.accumulate(values), where="post", color=INK, label="best so far")
    axis.set(xlabel="trials", ylabel="object F1 at IoU 0.5 on val", ylim=(0, 1))
    axis.xaxis.get_major_locator().set_params(integer=True)
    add_legend(figure, axis)
    return figure


def _sizes(table: "DataFrame") -> Drawn:
    words = {"with": "all cells", "without": "without small objects"}
    return {
        f"f1-{decode}": grouped_bars(
            {word: means(table, Choice(small=s, decode=decode)) for s, word in words.items()},
            "Object F1" + (", thresholds tuned on val" if decode == "tuned" else ""),
            OBJECT_F1,
        )
        for decode in decodes(table)
    }


def _cell_types(table: "DataFrame") -> Drawn:
    groups, types, rows = matrix(table, told(table))
    own = {
        group: means(table, told(table, cell_type=group))[group]
        for group in groups
        if group in means(table, told(table, cell_type=group))
    }
    return {
        "f1-own-type": grouped_bars({"own": own}, "Trained and tested on one cell type", OBJECT_F1),
        "transfer": heat_map(groups, types, rows, OBJECT_F1, ("trained on", "tested on")),
    }


def _backbones(table: "DataFrame") -> Drawn:
    words = {"f1@0.50": OBJECT_F1, "pixel.f1": "pixel F1", "pixel.iou": "pixel IoU"}
    bars = {word: means(table, told(table, metric)) for metric, word in words.items()}
    times, found = costs(table, "seconds_per_step"), means(table, told(table))
    points = {g: (times[g].value, found[g].value) for g in found if g in times}
    drawn = {
        "scores": grouped_bars(bars, "Scores by backbone", "score"),
        "learning-curves": _learning_curves(table),
    }
    if points:
        words_of_axes = ("seconds for a training step", OBJECT_F1)
        drawn["cost"] = scatter(points, "What a step costs", words_of_axes)
    return drawn


def _learning_curves(table: "DataFrame") -> Figure:
    first = table[(table["seed"] == table["seed"].min()) & table["epoch"].notna()]
    histories = {}
    for group, rows in first.groupby("group", sort=False):
        wide = rows.pivot_table(index="epoch", columns="metric", values="value")
        histories[str(group)] = [
            {"epoch": float(epoch)} | {k: float(v) for k, v in row.items() if v == v}
            for epoch, row in zip(wide.index, wide.to_dict("records"), strict=True)
        ]
    kept = ("epoch", "loss", "val_loss")
    histories = {
        name: [{k: v for k, v in row.items() if k in kept} for row in rows]
        for name, rows in histories.items()
    }
    return curves(histories, {"loss": "training", "val_loss": "validation"}, "Loss", log=True)


def _dataset_size(table: "DataFrame") -> Drawn:
    found = scores(table, told(table))
    cells = table[(table["set"] == "data") & (table["metric"] == CELLS)].set_index("run")["value"]
    points = [
        (float(cells[r]), float(v)) for r, v in zip(found["run"], found["value"], strict=True)
    ]
    return {"size": size_curve(points, fit_law(table), "More annotated cells"), **_sizes(table)}


def _search(table: "DataFrame") -> Drawn:
    rows = table[(table["set"] == "trial") & (table["metric"] == "objective")]
    return {"search": best_so_far(rows["value"].tolist(), "Search")}


FIGURES: dict[str, Callable[["DataFrame"], Drawn]] = {
    "transforms": _sizes,
    "cell-types": _cell_types,
    "backbones": _backbones,
    "dataset-size": _dataset_size,
    "levels": _sizes,
    "search": _search,
}
"""Study -> its figures, by the names of their files."""
