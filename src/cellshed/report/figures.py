"""Figures, drawn from result files alone, for the page (SVG) or a paper (PNG, SVG, PDF).

Lines and text are drawn in one ink, which the page replaces by its own text colour, so that
figures suit light and dark pages alike.
"""

import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeAlias

from cellshed.files import whole_file

History: TypeAlias = Sequence[Mapping[str, float]]
Scores: TypeAlias = Mapping[str, Any]
Figure: TypeAlias = Any  # matplotlib.figure.Figure, which is imported when the first is drawn
P = ParamSpec("P")

INK = "#1b2a34"
COLORS = ("#0083cc", "#e07b00", "#00a078", "#cf72ad", "#b59f00", "#d5450f", "#7d86ff", "#8a6d5a")
"""After Okabe and Ito, whom colour-blind readers thank; shades that show on white and on black."""
MARKERS = "osD^vP*X"
MISTAKES = {
    "missed": "missed",
    "gained": "extra",
    "split": "split",
    "merge": "merged",
    "catastrophe": "mixed up",
}
"""Kind of mistake in scores.json -> its word on the page."""

_STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "cellshed",
    "font.family": "sans-serif",
    "font.size": 8,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.alpha": 0.15,
    "lines.linewidth": 1.5,
    "lines.markersize": 3.5,
    "legend.frameon": False,
    "legend.fontsize": 7.5,
} | dict.fromkeys(
    ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color", "grid.color"),
    INK,
)


def _styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Let a function draw in the common style, whatever the user's matplotlibrc says."""

    @wraps(draw)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> Figure:
        from matplotlib import rc_context

        with rc_context():
            _set_style()
            return draw(*args, **kwargs)

    return drawn


@_styled
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
    figure, axis = _axes(title)
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
                    color=_color(k if several else c),
                    label=f"{name}, {word}" if several else word,
                )
    if log:
        axis.set_yscale("log")
        _label_logarithms(axis.yaxis)
    else:
        axis.set_ylim(0, 1)
    _legend(figure, axis)
    return figure


@_styled
def over_iou(lines: Mapping[str, Scores], score: str, title: str) -> Figure:
    """Draw a score over the IoU threshold, one line each; the line named "all" is black.

    Args:
        lines: by name, scores with "thresholds".
        score: "ap", "f1", "precision" or "recall".
        title: of the figure.
    """
    figure, axis = _axes(title)
    for k, (name, scores) in enumerate(lines.items()):
        points = [(float(t), at[score]) for t, at in scores["thresholds"].items()]
        points = [point for point in points if point[1] is not None]
        whole = name == "all"
        axis.plot(
            *(zip(*points, strict=True) if points else ([], [])),
            marker=MARKERS[k % len(MARKERS)],
            color=INK if whole else _color(k - ("all" in lines)),
            linewidth=2.4 if whole else 1.3,
            zorder=4 if whole else 3,
            label=name,
        )
    axis.set(xlabel="IoU threshold", ylim=(0, 1))
    _legend(figure, axis)
    return figure


@_styled
def bars(groups: Mapping[str, Mapping[str, Scores]], title: str) -> Figure:
    """Draw the object F1 at IoU 0.5 by cell type with its 95 % intervals, one colour a group.

    Args:
        groups: by the result's name: by cell type, scores with "intervals".
        title: of the figure.
    """
    names = list(dict.fromkeys(name for scores in groups.values() for name in scores))
    figure, axis = _axes(title, height=_height(len(names), len(groups)))
    for k, y, height, (group, scores) in _bar_places(groups):
        for place, name in enumerate(names):
            if name not in scores:
                continue
            value = scores[name]["thresholds"]["0.50"]["f1"]
            ends = scores[name].get("intervals", {}).get("f1@0.50")
            axis.barh(place + y, value or 0, height, color=_color(k), label=group)
            if ends:
                axis.plot(ends, [place + y] * 2, color=INK, linewidth=1.2, zorder=4)
            text = "none" if value is None else f"{value:.2f}"
            _beside(axis, max(value or 0, ends[1] if ends else 0), place + y, text)
    axis.set_yticks(range(len(names)), names)
    axis.set(xlim=(0, 1.08), xticks=[0, 0.25, 0.5, 0.75, 1])
    axis.grid(visible=False, axis="y")
    axis.invert_yaxis()
    _legend(figure, axis, several=len(groups) > 1)
    return figure


@_styled
def mistake_bars(groups: Mapping[str, Scores], title: str) -> Figure:
    """Draw the number of mistakes of each kind for each 100 true cells, one colour a group.

    Args:
        groups: by name, scores with "mistakes" and "n_true".
        title: of the figure.
    """
    figure, axis = _axes(title, height=_height(len(MISTAKES), len(groups)) + 0.2)
    for k, y, height, (group, scores) in _bar_places(groups):
        for place, kind in enumerate(MISTAKES):
            count = (scores.get("mistakes") or {}).get(kind, 0)
            share = 100 * count / max(scores["n_true"], 1)
            axis.barh(place + y, share, height, color=_color(k), label=group)
            text = f"{share:.1f}" if share >= 0.05 or not count else "< 0.1"
            _beside(axis, share, place + y, text)
    axis.set_yticks(range(len(MISTAKES)), list(MISTAKES.values()))
    axis.set(xlabel="for each 100 true cells")
    axis.margins(x=0.12)
    axis.grid(visible=False, axis="y")
    axis.invert_yaxis()
    _legend(figure, axis, several=len(groups) > 1)
    return figure


@_styled
def f1_by_cells(groups: Mapping[str, Sequence[Scores]], title: str) -> Figure:
    """Draw each image's object F1 at IoU 0.5 over its number of true cells, one colour a group.

    Args:
        groups: by name, scores of images. Images without a true cell aren't drawn.
        title: of the figure.
    """
    figure, axis = _axes(title)
    for k, (name, images) in enumerate(groups.items()):
        shown = [image for image in images if image["n_true"]]
        axis.plot(
            [image["n_true"] for image in shown],
            [image["thresholds"]["0.50"]["f1"] or 0 for image in shown],
            MARKERS[k % len(MARKERS)],
            color=_color(k),
            alpha=0.75,
            label=name,
        )
    axis.set(xscale="log", xlabel="true cells in the image", ylim=(0, 1))
    _label_logarithms(axis.xaxis)
    _legend(figure, axis, several=len(groups) > 1)
    return figure


@_styled
def f1_histogram(groups: Mapping[str, Sequence[Scores]], title: str) -> Figure:
    """Draw how many images have which object F1 at IoU 0.5, in steps of 0.05.

    Args:
        groups: by name, scores of images.
        title: of the figure.
    """
    figure, axis = _axes(title)
    values = {
        name: [image["thresholds"]["0.50"]["f1"] or 0 for image in images if image["n_true"]]
        for name, images in groups.items()
    }
    edges = [k / 20 for k in range(21)]
    for k, (name, of_group) in enumerate(values.items()):
        style = {"histtype": "stepfilled", "alpha": 0.85} if len(groups) == 1 else {}
        axis.hist(of_group, edges, color=_color(k), label=name, **({"histtype": "step"} | style))
    axis.set(xlim=(0, 1), xlabel="object F1 at IoU 0.5", ylabel="images")
    axis.yaxis.get_major_locator().set_params(integer=True)
    _legend(figure, axis, several=len(groups) > 1)
    return figure


@_styled
def reliability(groups: Mapping[str, Sequence[Mapping[str, Any]]], title: str) -> Figure:
    """Draw the share of cells that are right over their confidence; on the diagonal it means that.

    Args:
        groups: by name, bins: n, confidence and right (None in both without cells). A dot's area
            is the bin's share of all cells of its group.
        title: of the figure.
    """
    figure, axis = _axes(title)
    axis.plot([0, 1], [0, 1], linestyle="--", linewidth=1, color=INK)
    for k, (name, bins) in enumerate(groups.items()):
        full = [bin_ for bin_ in bins if bin_["n"]]
        x, y = ([bin_[key] for bin_ in full] for key in ("confidence", "right"))
        whole = sum(bin_["n"] for bin_ in full)
        axis.plot(x, y, color=_color(k), linewidth=1, label=name)
        axis.scatter(x, y, [4 + 200 * bin_["n"] / whole for bin_ in full], color=_color(k))
    axis.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence", ylabel="cells that are right")
    _legend(figure, axis, several=len(groups) > 1)
    return figure


def to_svg(figure: Figure, description: str) -> str:
    """Return a figure as an SVG element for a page: text as text, colours of the page.

    Args:
        figure: of one of the functions above.
        description: for readers who don't see it.
    """
    from html import escape

    text = io.StringIO()
    _save(figure, text, "svg")
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :].strip()
    svg = re.sub(r"\s*<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    used = set(re.findall(r"#([\w-]+)", svg))
    svg = re.sub(r' id="([\w-]+)"', lambda m: m[0] if m[1] in used else "", svg)
    svg = re.sub(r"font: ([\d.]+px|(?:bold|700) [\d.]+px) [^;\"]*", r"font: \1 sans-serif", svg)
    opening = svg[: svg.index(">") + 1]
    size = re.search(r'viewBox="[^"]*"', opening)
    assert size is not None
    label = escape(description)
    return (
        f'<svg xmlns:xlink="http://www.w3.org/1999/xlink" {size[0]} role="img" '
        f'aria-label="{label}">' + svg[len(opening) :].replace(INK, "currentColor")
    )


def save(figure: Figure, path: str | Path) -> None:
    """Write a figure as .svg, .png (300 dpi) or .pdf, whole or not at all."""
    kind = Path(path).suffix.lower().lstrip(".")
    if kind not in ("svg", "png", "pdf"):
        raise ValueError(f"{path}: figures are written as .svg, .png or .pdf")
    with whole_file(path) as temporary:
        _save(figure, temporary, kind)


def _save(figure: Figure, file: Any, kind: str) -> None:
    from matplotlib import rc_context

    metadata = {"png": None, "svg": {"Date": None}, "pdf": {"CreationDate": None}}[kind]
    with rc_context():
        _set_style()
        figure.savefig(file, format=kind, metadata=metadata, transparent=kind == "svg", dpi=300)


def _set_style() -> None:
    from matplotlib import rcdefaults, rcParams

    rcdefaults()
    rcParams.update(_STYLE)


def _axes(title: str, height: float = 2.9) -> tuple[Figure, Any]:
    from matplotlib.figure import Figure as New

    figure = New(figsize=(4.6, height), layout="constrained")
    axis = figure.subplots()
    axis.set_title(title)
    return figure, axis


def _bar_places(groups: Mapping[str, Any]) -> Iterator[tuple[int, float, float, tuple[str, Any]]]:
    """Yield each group's number, the place and height of its bars within a row, and the group."""
    height = 0.8 / max(len(groups), 1)
    for k, item in enumerate(groups.items()):
        yield k, (k - (len(groups) - 1) / 2) * height, height * 0.92, item


def _height(rows: int, groups: int) -> float:
    """Return the height in inches of a figure with rows of bars."""
    return 0.7 + max(rows, 3) * (0.12 + 0.15 * groups) + (0.25 if groups > 1 else 0)


def _beside(axis: Any, x: float, y: float, text: str) -> None:
    axis.annotate(text, (x, y), xytext=(4, 0), textcoords="offset points", va="center", fontsize=7)


def _label_logarithms(axis: Any) -> None:
    """Write numbers out, also at 2 and 5 if an axis spans less than three powers of ten.

    Args:
        axis: x axis or y axis of an axes.
    """

    def text(value: float, _: int) -> str:
        low, high = axis.get_view_interval()
        leading = f"{value:.0e}"[0]
        return f"{value:,.7g}" if leading in ("1" if high > 1000 * low else "125") else ""

    axis.set_major_formatter(text)
    axis.set_minor_formatter(text)


def _color(k: int) -> str:
    return COLORS[k % len(COLORS)]


def _legend(figure: Figure, axis: Any, *, several: bool = True) -> None:
    """Put the legend below the axes, each name once; none if there is nothing to tell apart."""
    handles, labels = axis.get_legend_handles_labels()
    once = dict(zip(labels, handles, strict=True))
    if several and once:
        longest = max(map(len, once))
        columns = max(1, min(len(once), 4, 60 // (longest + 6)))
        figure.legend(once.values(), once.keys(), loc="outside lower center", ncols=columns)
