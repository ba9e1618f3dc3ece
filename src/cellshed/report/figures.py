"""Figures, drawn from result files alone, for the page (SVG) or a paper (PNG, SVG, PDF)."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from cellshed.report.drawing import (
    INK,
    MARKERS,
    Figure,
    Interval,
    add_legend,
    bar_places,
    color_of,
    height_of,
    interval_bars,
    label_logarithms,
    new_axes,
    styled,
    write_beside,
)

History: TypeAlias = Sequence[Mapping[str, float]]
Scores: TypeAlias = Mapping[str, Any]
MISTAKES = {
    "missed": "missed",
    "gained": "extra",
    "split": "split",
    "merge": "merged",
    "catastrophe": "mixed up",
}
"""Kind of mistake in scores.json -> its word on the page."""


@styled
def curves(
    histories: Mapping[str, History], columns: Mapping[str, str], title: str, *, log: bool = False
) -> Figure:
    """Draw columns of training histories over the steps.

    Args:
        histories: by the run's name, the rows of history.csv; columns may be missing.
        columns: of history.csv -> their words in the legend. With one run each column has a
            colour, with several each run has one and the columns differ by their line.
        title: of the figure.
        log: logarithmic scale; scores from 0 to 1 otherwise.
    """
    figure, axis = new_axes(title)
    lines = ("-", "--", ":", "-.")
    for k, (name, rows) in enumerate(histories.items()):
        x = "step" if all("step" in row for row in rows) else "epoch"
        axis.set_xlabel("training steps" if x == "step" else "epoch")
        for c, (column, word) in enumerate(columns.items()):
            points = [(row[x], row[column]) for row in rows if column in row]
            if points:
                several = len(histories) > 1
                axis.plot(
                    *zip(*points, strict=True),
                    linestyle=lines[c % 4] if several else "-",
                    marker="o" if len(points) < 3 else None,
                    color=color_of(k if several else c),
                    label=f"{name}, {word}" if several else word,
                )
    if log:
        axis.set_yscale("log")
        label_logarithms(axis.yaxis)
    else:
        axis.set_ylim(0, 1)
    add_legend(figure, axis)
    return figure


@styled
def over_iou(lines: Mapping[str, Scores], score: str, title: str) -> Figure:
    """Draw a score over the IoU threshold, one line each; the line named "all" is black.

    Args:
        lines: by name, scores with "thresholds".
        score: "ap", "f1", "precision" or "recall".
        title: of the figure.
    """
    figure, axis = new_axes(title)
    for k, (name, scores) in enumerate(lines.items()):
        points = [(float(t), at[score]) for t, at in scores["thresholds"].items()]
        points = [point for point in points if point[1] is not None]
        whole = name == "all"
        axis.plot(
            *(zip(*points, strict=True) if points else ([], [])),
            marker=MARKERS[k % len(MARKERS)],
            color=INK if whole else color_of(k - ("all" in lines)),
            linewidth=2.4 if whole else 1.3,
            zorder=4 if whole else 3,
            label=name,
        )
    axis.set(xlabel="IoU threshold", ylim=(0, 1))
    add_legend(figure, axis)
    return figure


@styled
def bars(groups: Mapping[str, Mapping[str, Scores]], title: str) -> Figure:
    """Draw the object F1 at IoU 0.5 by cell type with its 95 % intervals, one colour a group.

    Args:
        groups: by the result's name: by cell type, scores with "intervals".
        title: of the figure.
    """
    series = {
        group: {name: _f1(scores) for name, scores in by_name.items()}
        for group, by_name in groups.items()
    }
    return interval_bars(series, title)


def _f1(scores: Scores) -> Interval:
    low, high = scores.get("intervals", {}).get("f1@0.50") or (None, None)
    return scores["thresholds"]["0.50"]["f1"], low, high


@styled
def mistake_bars(groups: Mapping[str, Scores], title: str) -> Figure:
    """Draw the number of mistakes of each kind for each 100 true cells, one colour a group.

    Args:
        groups: by name, scores with "mistakes" and "n_true".
        title: of the figure.
    """
    figure, axis = new_axes(title, height=height_of(len(MISTAKES), len(groups)) + 0.2)
    for k, y, height, (group, scores) in bar_places(groups):
        for place, kind in enumerate(MISTAKES):
            count = (scores.get("mistakes") or {}).get(kind, 0)
            share = 100 * count / max(scores["n_true"], 1)
            axis.barh(place + y, share, height, color=color_of(k), label=group)
            text = f"{share:.1f}" if share >= 0.05 or not count else "< 0.1"
            write_beside(axis, share, place + y, text)
    axis.set_yticks(range(len(MISTAKES)), list(MISTAKES.values()))
    axis.set(xlabel="for each 100 true cells")
    axis.margins(x=0.12)
    axis.grid(visible=False, axis="y")
    axis.invert_yaxis()
    add_legend(figure, axis, several=len(groups) > 1)
    return figure


@styled
def f1_by_cells(groups: Mapping[str, Sequence[Scores]], title: str) -> Figure:
    """Draw each image's object F1 at IoU 0.5 over its number of true cells, one colour a group.

    Args:
        groups: by name, scores of images. Images without a true cell aren't drawn.
        title: of the figure.
    """
    figure, axis = new_axes(title)
    for k, (name, images) in enumerate(groups.items()):
        shown = [image for image in images if image["n_true"]]
        axis.plot(
            [image["n_true"] for image in shown],
            [image["thresholds"]["0.50"]["f1"] or 0 for image in shown],
            MARKERS[k % len(MARKERS)],
            color=color_of(k),
            alpha=0.75,
            label=name,
        )
    axis.set(xscale="log", xlabel="true cells in the image", ylim=(0, 1))
    label_logarithms(axis.xaxis)
    add_legend(figure, axis, several=len(groups) > 1)
    return figure


@styled
def f1_histogram(groups: Mapping[str, Sequence[Scores]], title: str) -> Figure:
    """Draw how many images have which object F1 at IoU 0.5, in steps of 0.05.

    Args:
        groups: by name, scores of images.
        title: of the figure.
    """
    figure, axis = new_axes(title)
    values = {
        name: [image["thresholds"]["0.50"]["f1"] or 0 for image in images if image["n_true"]]
        for name, images in groups.items()
    }
    edges = [k / 20 for k in range(21)]
    for k, (name, of_group) in enumerate(values.items()):
        style = {"histtype": "stepfilled", "alpha": 0.85} if len(groups) == 1 else {}
        axis.hist(of_group, edges, color=color_of(k), label=name, **({"histtype": "step"} | style))
    axis.set(xlim=(0, 1), xlabel="object F1 at IoU 0.5", ylabel="images")
    axis.yaxis.get_major_locator().set_params(integer=True)
    add_legend(figure, axis, several=len(groups) > 1)
    return figure


@styled
def reliability(groups: Mapping[str, Sequence[Mapping[str, Any]]], title: str) -> Figure:
    """Draw the share of cells that are right over their confidence; on the diagonal it means that.

    Args:
        groups: by name, bins: n, confidence and right (None in both without cells). A dot's area
            is the bin's share of all cells of its group.
        title: of the figure.
    """
    figure, axis = new_axes(title)
    axis.plot([0, 1], [0, 1], linestyle="--", linewidth=1, color=INK)
    for k, (name, bins) in enumerate(groups.items()):
        full = [bin_ for bin_ in bins if bin_["n"]]
        x, y = ([bin_[key] for bin_ in full] for key in ("confidence", "right"))
        whole = sum(bin_["n"] for bin_ in full)
        axis.plot(x, y, color=color_of(k), linewidth=1, label=name)
        axis.scatter(x, y, [4 + 200 * bin_["n"] / whole for bin_ in full], color=color_of(k))
    axis.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence", ylabel="cells that are right")
    add_legend(figure, axis, several=len(groups) > 1)
    return figure
