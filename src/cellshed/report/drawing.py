"""What all figures share: the style, the axes, bars in rows, legends, and how they are written.

Lines and text are drawn in one ink, which the page replaces by its own text colour, so that
figures suit light and dark pages alike.
"""

import io
import re
from collections.abc import Callable, Iterator, Mapping
from functools import wraps
from pathlib import Path
from textwrap import fill
from typing import Any, ParamSpec, TypeAlias

from cellshed.files import whole_file

Figure: TypeAlias = Any  # matplotlib.figure.Figure, which is imported when the first is drawn
Interval: TypeAlias = tuple[float | None, float | None, float | None]
"""A value and the ends of its 95 % interval."""
P = ParamSpec("P")

INK = "#1b2a34"
COLORS = ("#0083cc", "#e07b00", "#00a078", "#cf72ad", "#b59f00", "#d5450f", "#7d86ff", "#8a6d5a")
"""After Okabe and Ito, whom colour-blind readers thank; shades that show on white and on black."""
MARKERS = "osD^vP*X"

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


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Let a function draw in the common style, whatever the user's matplotlibrc says."""

    @wraps(draw)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> Figure:
        from matplotlib import rc_context

        with rc_context():
            _set_style()
            return draw(*args, **kwargs)

    return drawn


def new_axes(title: str, height: float = 2.9) -> tuple[Figure, Any]:
    """Return a new figure with one axes, and the axes; height in inches."""
    from matplotlib.figure import Figure as New

    figure = New(figsize=(4.6, height), layout="constrained")
    axis = figure.subplots()
    axis.set_title(title)
    return figure, axis


def bar_places(groups: Mapping[str, Any]) -> Iterator[tuple[int, float, float, tuple[str, Any]]]:
    """Yield each group's number, the place and height of its bars within a row, and the group."""
    height = 0.8 / max(len(groups), 1)
    for k, item in enumerate(groups.items()):
        yield k, (k - (len(groups) - 1) / 2) * height, height * 0.92, item


def height_of(rows: int, groups: int) -> float:
    """Return the height in inches of a figure with rows of bars."""
    return 0.7 + max(rows, 3) * (0.12 + 0.15 * groups) + (0.25 if groups > 1 else 0)


_NAME = 26
"""Letters in a line of a row's name; longer names are broken, so that the bars keep their room."""


def interval_bars(
    series: Mapping[str, Mapping[str, Interval]], title: str, xlabel: str = ""
) -> Figure:
    """Draw scores from 0 to 1 with their intervals: a row each, one colour a series.

    Args:
        series: by the word in the legend: by the row's name: value, and the ends of its interval;
            None where there is none.
        title: of the figure.
        xlabel: what the scores are.
    """
    names = list(dict.fromkeys(name for of_series in series.values() for name in of_series))
    figure, axis = new_axes(title, height=height_of(len(names), len(series)))
    for k, y, height, (word, of_series) in bar_places(series):
        for place, name in enumerate(names):
            if name not in of_series:
                continue
            value, low, high = of_series[name]
            axis.barh(place + y, value or 0, height, color=color_of(k), label=word)
            end = value or 0
            if low is not None and high is not None:
                # Of few repetitions an interval can reach to where no score is.
                ends = max(low, 0.0), min(high, 1.0)
                axis.plot(ends, [place + y] * 2, color=INK, linewidth=1.2, zorder=4)
                end = max(end, ends[1])
            write_beside(axis, end, place + y, "none" if value is None else f"{value:.2f}")
    axis.set_yticks(range(len(names)), [fill(name, _NAME) for name in names])
    axis.set(xlim=(0, 1.08), xticks=[0, 0.25, 0.5, 0.75, 1], xlabel=xlabel)
    axis.grid(visible=False, axis="y")
    axis.invert_yaxis()
    add_legend(figure, axis, several=len(series) > 1)
    return figure


def write_beside(axis: Any, x: float, y: float, text: str) -> None:
    """Write a value at the right of a bar's end."""
    axis.annotate(text, (x, y), xytext=(4, 0), textcoords="offset points", va="center", fontsize=7)


def label_logarithms(axis: Any) -> None:
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


def color_of(k: int) -> str:
    """Return the colour of the group with this number."""
    return COLORS[k % len(COLORS)]


def add_legend(figure: Figure, axis: Any, *, several: bool = True) -> None:
    """Put the legend below the axes, each name once; none if there is nothing to tell apart."""
    handles, labels = axis.get_legend_handles_labels()
    once = dict(zip(labels, handles, strict=True))
    if several and once:
        longest = max(map(len, once))
        columns = max(1, min(len(once), 4, 60 // (longest + 6)))
        figure.legend(once.values(), once.keys(), loc="outside lower center", ncols=columns)


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
