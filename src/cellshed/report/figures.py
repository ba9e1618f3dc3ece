"""Figures, drawn from result files alone, as SVG text."""

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's colours, which colour-blind readers can tell apart."""

History = Sequence[Mapping[str, float]]
Scores = Mapping[str, Any]


def learning_curves(histories: Mapping[str, History]) -> str:
    """Draw loss and validation F1 over steps, one colour a run.

    Args:
        histories: by the run's name, the rows of history.csv.
    """
    figure, (left, right) = _axes(2)
    for color, (name, rows) in zip(_cycle(len(histories)), histories.items(), strict=True):
        for column, style in (("loss", "-"), ("val_loss", ":")):
            points = [(r["step"], r[column]) for r in rows if column in r]
            if points:
                left.plot(*zip(*points, strict=True), style, color=color, label=f"{name} {column}")
        points = [(r["step"], r["val_f1"]) for r in rows if "val_f1" in r]
        if points:
            right.plot(*zip(*points, strict=True), "-o", color=color, markersize=3, label=name)
    left.set(xlabel="steps", ylabel="loss", yscale="log")
    right.set(xlabel="steps", ylabel="object F1 at IoU 0.5, validation", ylim=(0, 1))
    return _svg(figure, (left, right))


def over_iou(results: Mapping[str, Scores], score: str) -> str:
    """Draw a score over the IoU threshold, one line each.

    Args:
        results: by name, scores with "thresholds".
        score: ap or f1.
    """
    figure, (axis,) = _axes(1)
    for color, (name, scores) in zip(_cycle(len(results)), results.items(), strict=True):
        points = [(float(t), at[score]) for t, at in scores["thresholds"].items()]
        points = [(t, value) for t, value in points if value is not None]
        if points:
            axis.plot(*zip(*points, strict=True), "-o", color=color, markersize=3, label=name)
    names = {"ap": "AP = TP / (TP + FP + FN)", "f1": "object F1"}
    axis.set(xlabel="IoU threshold", ylabel=names[score], ylim=(0, 1))
    return _svg(figure, (axis,))


def bars(results: Mapping[str, Mapping[str, Scores]], score: str = "f1@0.50") -> str:
    """Draw a score by cell type with its 95 % intervals, one colour a result.

    Args:
        results: by the result's name: by cell type, scores with "intervals".
        score: such as f1@0.50.
    """
    figure, (axis,) = _axes(1)
    types = sorted({kind for scores in results.values() for kind in scores})
    width = 0.8 / max(len(results), 1)
    name, threshold = score.split("@")
    for k, (color, (label, scores)) in enumerate(
        zip(_cycle(len(results)), results.items(), strict=True)
    ):
        for place, kind in enumerate(types):
            if kind not in scores:
                continue
            value = scores[kind]["thresholds"][threshold][name] or 0.0
            low, high = scores[kind]["intervals"].get(score, (value, value))
            at = place + (k - (len(results) - 1) / 2) * width
            axis.bar(at, value, width * 0.9, color=color, label=label if place == 0 else None)
            axis.plot([at, at], [low, high], color="black", linewidth=1)
    axis.set(ylabel="object F1 at IoU " + threshold.rstrip("0"), ylim=(0, 1))
    axis.set_xticks(range(len(types)), types)
    return _svg(figure, (axis,) if len(results) > 1 else ())


def f1_by_cells(images: Sequence[Scores]) -> str:
    """Draw each image's F1 over its number of true cells, one colour a cell type."""
    figure, (axis,) = _axes(1)
    types = sorted({image["cell_type"] for image in images})
    for color, kind in zip(_cycle(len(types)), types, strict=True):
        of_kind = [image for image in images if image["cell_type"] == kind]
        values = [image["thresholds"]["0.50"]["f1"] or 0.0 for image in of_kind]
        axis.scatter(
            [max(image["n_true"], 1) for image in of_kind],
            *(values, 18),
            color=color,
            alpha=0.7,
            label=kind or "images",
        )
    axis.set(xlabel="true cells in the image", xscale="log", ylabel="object F1 at IoU 0.5")
    axis.set_ylim(0, 1)
    return _svg(figure, (axis,))


def _cycle(count: int) -> list[str]:
    return [COLORS[k % len(COLORS)] for k in range(count)]


def _axes(count: int) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.6 * count, 3.1), layout="constrained")
    axes = figure.subplots(1, count, squeeze=False)[0]
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(alpha=0.25)
        axis.set_axisbelow(True)
    return figure, axes


def _svg(figure: Any, with_legend: Sequence[Any]) -> str:
    """Return the figure as an SVG element without a fixed size, text kept as text."""
    from matplotlib import rc_context

    for axis in with_legend:
        if axis.get_legend_handles_labels()[1]:
            axis.legend(fontsize=7, frameon=False)
    text = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "cellshed"}):
        figure.savefig(text, format="svg", metadata={"Date": None}, transparent=True)
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :]
    return re.sub(
        r'(<svg[^>]*?) width="[^"]*"',
        r"\1",
        re.sub(r' height="[^"]*pt"', "", svg, count=1),
        count=1,
    )
